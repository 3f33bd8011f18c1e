"""experiments/inversion_options.py: a smoke run, its files, its continuation, its refusals."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Smoke

SCRIPT = "inversion_options.py"
OPTIONS = ("--smoke",)
pytestmark = pytest.mark.usefixtures("mirror")


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    assert "options_top.png" in {path.name for path in smoke.folder.glob("*.png")}
    summary = smoke.summary()
    options = summary["options"]["transnas-macro"]
    assert set(options) == {"30", "all"}
    variants = options["all"]["variants"]
    assert set(variants) == {"plain", "bound-1", "polish", "enumeration"}
    assert variants["plain"]["difference"]["top"]["mean"] == 0.0
    assert f"transnas-macro, polish: true score {variants['polish']['difference']['top']['mean']:+.3f}" in smoke.out


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("proposals.options.compare_variants") == first


def test_other_settings_are_another_run(smoke: Smoke, run: Callable[..., tuple[int, str, str]]) -> None:
    status, _, err = run("--smoke", "--resume", "--steps", 3, "--out", smoke.folder)
    assert status == 2
    assert "steps: 70 there, 3 now" in err


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--smoke", "--tasks", "jigsau"), "expected a known task, got 'jigsau'; did you mean: jigsaw"),
        (("--benchmarks", "nas-bench-101"), "expected a known benchmark, got 'nas-bench-101'"),
    ],
)
def test_wrong_options(refused: Callable[..., str], options: tuple[str, ...], expected: str) -> None:
    assert expected in refused(*options)
