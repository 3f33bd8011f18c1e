from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

import ncp_jax


@pytest.mark.parametrize("name", ncp_jax.__all__)
def test_every_public_name_resolves(name: str) -> None:
    value = getattr(ncp_jax, name)
    assert value is getattr(ncp_jax, name)
    if name != "SPACES":
        assert value.__name__ == name
        assert value.__doc__


def test_the_names_are_those_that_the_lazy_table_knows() -> None:
    assert sorted(ncp_jax.__all__) == sorted(ncp_jax._MODULE)
    assert set(ncp_jax.__all__) <= set(dir(ncp_jax))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ncp_jax' has no attribute 'propagat'"):
        _ = ncp_jax.propagat


def test_the_version_is_that_of_the_distribution() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert ncp_jax.__version__ == project["version"]
