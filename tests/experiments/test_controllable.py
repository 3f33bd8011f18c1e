"""experiments/controllable.py: a smoke run, its files, and its measures by hand."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from width_control import hypernetwork
from width_control.measures import hypervolume_share, rank_correlation, uniformity
from width_control.summary import preference_falls, targets

from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.controllable import pack_params
from ncp_jax.controllable.tasks import Target

SCRIPT = "controllable.py"


@pytest.mark.usefixtures("spaces_stay")
def test_a_smoke_run(tmp_path: Path, run: Callable[..., tuple[int, str, str]]) -> None:
    status, printed, err = run("--smoke", "--seeds", 2, "--out", tmp_path)
    assert status == 0, err
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "controllable/1")
    methods = {"controllable", "shared_width", "fixed_decoders", "no_ci_kd", "no_in_place", "hypernetwork"}
    assert set(summary["controllability"]) == methods | {"norm_batch"}
    assert set(summary["norms"]) == {"group", "batch"}
    assert set(summary["parts"]) == {"hypervolume", "uniformity", "rank_correlation"}
    assert set(summary["static_gap"]) == {"class", "rotation", "edges", "autoencoder"}
    for interval in (*summary["controllability"].values(), summary["static_gap"]["class"]["1"]):
        assert interval["low"] <= interval["mean"] <= interval["high"]
    assert all(summary["searches"][way]["above_budget"] == 0 for way in ("published_rule", "predictors", "audited"))
    assert summary["searches"]["audited"]["within"]["mean"] >= 0.95
    assert (tmp_path / "controllability.png").exists()
    page = (tmp_path / "report.html").read_text()
    for target in summary["targets"]:
        assert f"{'reached' if target['reached'] else 'missed'}: {target['target']}" in printed
        assert f"<td>{target['target']}</td>" in page
    assert "within 1 % of the oracle" in printed
    # All is on record: the second call only reads.
    status, again, err = run("--smoke", "--seeds", 2, "--out", tmp_path, "--resume")
    assert (status, again) == (0, printed), err


def test_targets_are_compared_with_the_means() -> None:
    def row(mean: float) -> dict[str, float]:
        return {"mean": mean, "low": mean - 50, "high": mean + 50}

    content = {
        "gain_percent": {"shared_width": row(33.4)},
        "static_gap": {"class": {"0.25": row(-2.1), "1": row(-1.9)}},
        "preference": {
            "class": {"test": {"fall": row(1.1), "noise": 1.0}},
            "edges": {"test": {"fall": row(-0.1), "noise": 1.0}},
        },
        "searches": {"audited": {"within": row(0.96)}},
    }
    found = {target["target"]: target["reached"] for target in targets(content)}
    assert list(found.values()) == [False, False, True, False, True, True]
    assert "class at 25 % width at most 2 % below a static model" in found


def test_falls_are_between_a_preference_and_a_higher_one() -> None:
    """Two seeds, two budgets, two tasks, three preferences."""
    runs = {
        (0, "controllable"): [[[1.0, 5.0, 2.0], [3.0, 4.0, 4.0]], [[1.0, 1.0, 1.0], [2.0, 3.0, 4.0]]],
        (1, "controllable"): [[[1.0, 3.0, 2.0], [3.0, 4.0, 5.0]], [[1.0, 1.0, 1.0], [2.0, 3.0, 4.0]]],
    }
    results = {cell: {"paths": {"validation": paths, "test": paths}} for cell, paths in runs.items()}
    found = preference_falls(results, ["one", "two"], 2)
    assert found["one"]["test"]["fall"]["mean"] == pytest.approx(2)  # 5 to 2 and 3 to 2
    assert found["one"]["validation"]["noise"] == pytest.approx(np.sqrt(2 / 6))
    assert found["two"]["test"]["fall"]["mean"] == pytest.approx(-0.5)


def test_the_hypernetwork_changes_normalisations_alone() -> None:
    model = ModelConfig(6, 1, (Target("kind", "classes", 3),), channels=(4,), decoder=4, ratios=(0.5, 1.0))
    weights = hypernetwork.start(model, seed=0)
    ray, share = np.array([1.0]), np.float32(0.5)
    before = pack_params(hypernetwork.made_weights(weights, ray, share))
    for name, array in pack_params(weights["model"]).items():
        np.testing.assert_array_equal(before[name], array)
    weights["second"] = weights["second"] + np.arange(weights["second"].shape[1], dtype=np.float32)
    after = pack_params(hypernetwork.made_weights(weights, ray, share))
    changed = {name for name, array in before.items() if (array != after[name]).any()}
    assert changed == {name for name in after if ".norm." in name}
    other = pack_params(hypernetwork.made_weights(weights, ray, np.float32(1)))
    assert all((other[name] != after[name]).any() for name in changed)


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
