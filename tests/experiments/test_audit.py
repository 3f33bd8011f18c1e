"""experiments/audit.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Smoke

SCRIPT = "audit.py"
OPTIONS = ("--smoke", "--tasks", "class")


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    summary, records = smoke.summary(), smoke.records()
    assert {path.name for path in smoke.folder.glob("*.png")} == {"coverage.png"}
    assert {"coverage", "proposals", "seconds"} <= set(summary)
    assert set(summary["coverage"]) == {"random", "searched, digits"}
    for record in records[:2]:
        name = ", ".join(str(record["cell"][key]) for key in ("kind", "table") if key in record["cell"])
        counts, written = record["results"]["tasks"]["class"], summary["coverage"][name]["class"]
        assert written["coverage"]["mean"] == counts["covered"] / counts["rows"]
        assert written["top_coverage"]["mean"] == counts["top_covered"] / counts["top_rows"]
        assert written["rows"] == counts["rows"]
    proposals = records[2]["results"]["tasks"]["class"]["metric"]
    said = summary["proposals"]["class"]["metric"]
    assert said["proposals"] == len(proposals) == 10
    assert said["proposer"] == pytest.approx(sum(row["proposer"] for row in proposals) / 10)
    assert 0 <= said["proposer_inside"] <= 1


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("ncp_jax.audit") == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--kinds", "rando"), "did you mean: random"),
        (("--labels", "20"), "--labels to be an integer 40 or more"),
        (("--repeats", "0"), "--repeats to be an integer 1 or more"),
        (("--labels", "4000"), "half of digits is 2048 architectures"),
        (("--complete", "micr"), "did you mean: micro, macro"),
        (("--tasks", "segg"), "segg"),
    ],
)
def test_bad_input(refused: Callable[..., str], options: tuple[str, ...], expected: str) -> None:
    assert expected in refused("--smoke", *options)
