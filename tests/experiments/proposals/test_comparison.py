"""Comparisons of proposals with the table's best: records, win rates, the figure."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from proposals.comparison import Baseline, Comparison, win_rates
from proposals.figure import margin_figure


def comparison(margin: float | None, *, limit: float | None = None) -> Comparison:
    baseline = None
    if margin is not None:
        baseline = Baseline(
            proposal_predicted=70.0 + margin,
            code=[1, 2],
            gflops=0.5,
            measured=69.0,
            predicted=70.0,
            margin=margin,
            margin_std=margin / 2,
            margin_measured=margin + 1,
        )
    return Comparison(limit, 0.6, [3, 4], "3_4", 71.0, baseline)


@pytest.mark.parametrize("margin", [2.0, -1.0, None])
def test_records_are_read_back(margin: float | None) -> None:
    found = comparison(margin, limit=1.5)
    record = json.loads(json.dumps(found.to_json()))
    assert Comparison.from_json(record) == found
    assert record["beats"] == (None if margin is None else margin > 0)
    compared = {"judge_predicts", "rival", "rival_gflops", "rival_measured", "rival_judged", "margin", "margin_std"}
    assert (compared <= set(record)) == (margin is not None)


def test_win_rates() -> None:
    found = win_rates(
        {"seg": [(0, comparison(2.0)), (1, comparison(-1.0)), (1, comparison(None))], "video": [(0, comparison(None))]}
    )
    assert (found["win_rate"], found["contests"], set(found["tasks"])) == (0.5, 2, {"seg"})
    seg = found["tasks"]["seg"]
    assert [seg[name]["mean"] for name in ("margin", "margin_std", "margin_measured")] == [0.5, 0.25, 1.5]
    assert win_rates({"seg": [(0, comparison(None))]}) == {"win_rate": None, "contests": 0, "tasks": {}}


@pytest.mark.parametrize("limits", [(None, 1.0), (None,), (2.0,), ()])
def test_margins(tmp_path: Path, limits: tuple[float | None, ...]) -> None:
    comparisons = {"seg": [comparison(0.5, limit=limit) for limit in limits], "video": [comparison(None)]}
    path = margin_figure(comparisons, tmp_path / "margins.png")
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
