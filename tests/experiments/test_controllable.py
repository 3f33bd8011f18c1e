"""experiments/controllable.py: a smoke run, its files, and its measures by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from width_control.measures import hypervolume_share, rank_correlation, uniformity

SCRIPT = "controllable.py"


@pytest.mark.usefixtures("spaces_stay")
def test_a_smoke_run(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    status, printed, err = run("--smoke", "--seeds", 2, "--out", tmp_path)
    assert status == 0, err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "controllable/1")
    methods = {"controllable", "shared_width", "fixed_decoders", "no_ci_kd", "no_in_place"}
    assert set(summary["controllability"]) == methods
    assert set(summary["parts"]) == {"hypervolume", "uniformity", "rank_correlation"}
    assert set(summary["static_gap"]) == {"class", "rotation", "edges", "autoencoder"}
    for interval in (*summary["controllability"].values(), summary["static_gap"]["class"]["1"]):
        assert interval["low"] <= interval["mean"] <= interval["high"]
    assert all(summary["searches"][way]["above_budget"] == 0 for way in ("published_rule", "predictors", "audited"))
    assert summary["searches"]["audited"]["within"]["mean"] >= 0.95
    assert (tmp_path / "controllability.png").exists()
    assert "within 1 % of the oracle" in printed
    # All is on record: the second call only reads.
    status, again, err = run("--smoke", "--seeds", 2, "--out", tmp_path, "--resume")
    assert (status, again) == (0, printed), err


def test_the_measures() -> None:
    points = np.array([[60.0, 20.0], [20.0, 60.0]])
    # Two boxes of 0.5 x 0.25 and 0.25 x 0.5 above the reference, which overlap in 0.25 x 0.25.
    found = hypervolume_share(points, np.array([10.0, 10.0]), np.array([110.0, 50.0]))
    assert found == pytest.approx(0.5 * 0.25 + 0.1 * 1.0 - 0.1 * 0.25)
    rays = np.array([[0.5, 0.5]])
    assert uniformity(np.array([[30.0, 30.0]]), rays) == pytest.approx(1)
    shares = np.array([0.8, 0.2])
    expected = 1 - float((shares * np.log(2 * shares)).sum())
    assert uniformity(np.array([[20.0, 80.0]]), rays) == pytest.approx(expected)
    steps = np.linspace(0.1, 0.9, 5)
    assert rank_correlation(np.stack([steps, -steps], 1), np.stack([steps, 1 - steps], 1)) == pytest.approx(1)
    assert rank_correlation(np.ones((5, 2)), np.stack([steps, 1 - steps], 1)) == 0
