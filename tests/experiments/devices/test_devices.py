"""Latencies of a new device: the process against a closed form, the choices, a smoke run on the real files."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from devices.limits import choose_within, summarise_choices
from devices.measured import normal_scores
from devices.methods import spearman
from devices.process import Settings, choose_spread, pairs_of, predict
from scipy.stats import spearmanr

RNG = np.random.default_rng(0)


def blocks(n: int = 60) -> tuple[np.ndarray, ...]:
    return RNG.normal(size=(n, 3)), RNG.normal(size=(n, 2))


def test_the_covariance_is_the_formula() -> None:
    features = blocks()
    settings = Settings.draw(2, sources=True)
    a, b = np.arange(4), np.arange(10, 15)
    found = settings.covariance(3, pairs_of(features, a, b))
    for i, p in enumerate(a):
        for j, q in enumerate(b):
            total = 0.0
            for block, x in enumerate(features):
                square = np.mean((x[p] - x[q]) ** 2)
                total += settings.linear[3, block] * np.mean(x[p] * x[q])
                total += settings.smooth[3, block] * np.exp(-0.5 * square / settings.length[3, block] ** 2)
            assert found[i, j] == pytest.approx(total)


def test_predictions_follow_a_line_and_know_their_spread() -> None:
    features = blocks(400)
    truth = np.exp(1 + 0.3 * features[0][:, 0] - 0.2 * features[1][:, 1])
    rows = np.arange(12)
    found = predict(features, rows, truth[rows], sources=True)
    assert spearman(found.mean, truth) > 0.95
    assert np.abs(found.mean[rows] - np.log(truth[rows])).max() < 0.1
    assert found.spread[rows].max() < np.median(found.spread)
    # Units do not matter: seconds are milliseconds with another mean.
    other = predict(features, rows, truth[rows] / 1000, sources=True)
    np.testing.assert_allclose(other.mean + np.log(1000), found.mean, atol=1e-8)


def test_chosen_architectures_differ_and_spread() -> None:
    features = blocks(300)
    allowed = np.arange(0, 300, 2)
    rows = choose_spread(features, allowed, 10, np.random.default_rng(1), sources=True)
    assert len(set(rows.tolist())) == 10
    assert set(rows.tolist()) <= set(allowed.tolist())
    far = np.mean([np.abs(x[rows]).mean() for x in features])
    assert far > 1.2 * np.mean([np.abs(x).mean() for x in features])
    np.testing.assert_array_equal(rows, choose_spread(features, allowed, 10, np.random.default_rng(1), sources=True))


def test_scores_and_correlations() -> None:
    values = np.array([3.0, 1.0, 1.0, 9.0])
    scores = normal_scores(values)
    assert scores[1] == scores[2] < scores[0] < scores[3]
    np.testing.assert_allclose(normal_scores(10 * values + 5), scores)
    assert spearman(values, -values) == pytest.approx(-1)
    assert spearman(values, np.ones(4)) == 0.0
    noisy = values + RNG.normal(size=4)
    assert spearman(values, noisy) == pytest.approx(spearmanr(values, noisy).statistic)


def test_choices_within_a_limit() -> None:
    milliseconds, accuracy = np.array([1.0, 2.0, 3.0, 4.0, 0.001]), np.array([50.0, 60.0, 70.0, 80.0, 99.0])
    whole = np.array([True] * 4 + [False])
    exact = choose_within(np.log(milliseconds), milliseconds, accuracy, whole)
    assert [choice.latency for choice in exact] == [1.0, 2.0, 3.0]
    assert [choice.loss for choice in exact] == [0.0, 0.0, 0.0]
    # All predicted a quarter too fast: the choice is over the limit.
    fast = choose_within(np.log(0.7 * milliseconds), milliseconds, accuracy, whole)
    assert [choice.latency for choice in fast] == [2.0, 3.0, 4.0]
    found = summarise_choices([*exact, *fast])
    assert (found.choices, found.none, found.kept) == (6, 0, 0.5)
    assert found.loss == pytest.approx(-5.0)
    slow = choose_within(np.log(100 * milliseconds), milliseconds, accuracy, whole)
    assert summarise_choices(slow).to_json() == {
        **{"choices": 3, "none": 3},
        **{"kept": None, "excess_percent": None, "loss": None},
    }


@pytest.mark.usefixtures("spaces_stay")
def test_a_smoke_run(mirror: Path, complete: Callable[..., tuple[str, str]], tmp_path: Path) -> None:
    few = ("--family", "fbnet-latency", "--targets", "fpga", "--sources", "fpga", "raspi4")  # quicker than cells
    out, _ = complete("device_latency.py", *few, "--smoke", "--out", tmp_path / "out")
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["schema"] == "device_latency/1"
    methods = summary["spearman"]["fpga"]
    assert {"transfer", "transfer_cautious", "gp", "ridge", "best_source", "transfer_random"} <= set(methods)
    for row in methods.values():
        assert -1 <= row["low"] <= row["mean"] <= row["high"] <= 1
    assert methods["transfer"]["mean"] > 0.8
    assert summary["broken"] == {"fpga": 0, "raspi4": 0}
    assert summary["limits"] == {"fpga": {}}
    assert "transfer" in out
    assert (tmp_path / "out" / "spearman.png").read_bytes().startswith(b"\x89PNG")
