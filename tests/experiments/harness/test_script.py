"""Options that every experiment has."""

from __future__ import annotations

import dataclasses

from harness.script import ExperimentConfig


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    names: tuple[str, ...] = ()
    sizes: tuple[int, ...] = (1, 2)


def test_names_have_spaces_or_commas_between_them() -> None:
    config = Config(names=("a,b", "c"))
    assert config.names == ("a", "b", "c")
    assert config.settings()["names"] == ["a", "b", "c"]
    assert config.sizes == (1, 2)
    assert Config().names == ()
