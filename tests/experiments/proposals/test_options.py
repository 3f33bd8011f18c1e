"""Comparison of the options: what is inverted, how it is scored, and the arithmetic of the differences."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.scoring import TOP, Evaluator
from proposals import options
from proposals.options import BASELINE, VARIANTS, Effort, Outcome, Variant

from ncp_jax import MetricSpec, Predictor, Table, checks, get_space
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.predictors import Standardisation
from ncp_jax.spaces import Space

SPACE = get_space("transnas-micro")
CODES = np.asarray(SPACE.all_codes())


@pytest.fixture(scope="module")
def table() -> Table:
    """Every architecture of TransNAS micro; a loss, lower better, of which no two are alike."""
    loss = np.random.default_rng(0).permutation(len(CODES)).astype(float)
    metric = MetricSpec("loss", task="t", direction="minimize")
    return Table.from_arrays("whole", space=SPACE, codes=CODES, values=loss[:, None], metrics=[metric])


def linear_in(space: Space, *metrics: MetricSpec) -> Predictor:
    """Three linear networks with random weights."""
    f, m = space.features, len(metrics)
    weights = jax.random.normal(jax.random.key(0), (3, f, m))
    scale = Standardisation(jnp.zeros(f), jnp.ones(f), jnp.zeros(m), jnp.ones(m))
    return Predictor(weights, scale, product, metrics, space.name)


def product(w: jax.Array, x: jax.Array) -> jax.Array:
    return x @ w


@pytest.fixture(scope="module")
def linear() -> Predictor:
    return linear_in(SPACE, MetricSpec("quality", unit="std"))


@pytest.fixture
def training_tables(linear: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """Tables that proposers are trained on; every proposer is the linear networks."""
    tables: list[Table] = []

    def fit(table: Table, **_: Any) -> Predictor:
        tables.append(table)
        return linear

    monkeypatch.setattr(options, "fit", fit)
    return tables


def test_proposals_of_known_networks(table: Table, linear: Predictor, training_tables: list[Table]) -> None:
    effort = Effort(members=3, codes=64, steps=3)
    variants = {name: VARIANTS[name] for name in (BASELINE, "trust-1")}
    outcomes = options.compare_variants(table, "t", rows=50, seed=0, effort=effort, variants=variants)
    assert [o.variant for o in outcomes] == [BASELINE, "trust-1", "enumeration"]
    assert {(o.benchmark, o.task, o.rows, o.seed) for o in outcomes} == {("transnas-micro", "t", 50, 0)}
    loss = np.asarray(table.values, np.float64)[:, 0]
    quality = (loss.mean() - loss) / loss.std()
    of_score = {round(float(score), 4): row for row, score in enumerate(quality)}
    weights = np.asarray(linear.params).mean(axis=0)[:, 0]
    predicted = np.asarray(SPACE.encode(jnp.asarray(CODES))) @ weights
    for outcome in outcomes:
        rows = [of_score[round(score, 4)] for score in outcome.true]
        np.testing.assert_allclose(outcome.predicted, predicted[rows], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(outcome.percentile, [100 * np.mean(loss < loss[row]) for row in rows], atol=1e-6)
        assert (np.diff(outcome.predicted) <= 1e-5).all()
        assert outcome.known == pytest.approx(np.asarray(training_tables[0].values).max(), abs=1e-4)
    # Without an ascent: the best-ranked of all, one for each network that several codes denote.
    canonical = np.asarray(SPACE.canonical(jnp.asarray(CODES)))
    best: dict[bytes, float] = {}
    for code, value in zip(canonical, predicted, strict=True):
        best[code.tobytes()] = max(best.get(code.tobytes(), -np.inf), float(value))
    np.testing.assert_allclose(outcomes[-1].predicted, sorted(best.values(), reverse=True)[:TOP], atol=1e-3)
    assert outcomes[-1].distinct == len(best)


def test_rows_that_proposers_are_trained_on(table: Table, training_tables: list[Table]) -> None:
    evaluator = Evaluator(None, np.arange(len(table)) % 2 == 0)  # type: ignore[arg-type]
    codes = {}
    for rows in (20, 50):
        codes[rows] = CODES[options._training_rows(table, "t", rows, 0, evaluator)]
        assert (np.asarray(table.rows(jnp.asarray(codes[rows]))) % 2 == 1).all()
    np.testing.assert_array_equal(codes[50][:20], codes[20])
    others = [options._training_rows(table, *of, None).tolist() for of in (("t", 20, 1), ("u", 20, 0), ("t", 20, 0))]
    assert len(set(map(tuple, others))) == 3
    options.compare_variants(table, "t", rows=20, seed=1, effort=Effort(codes=1, steps=0), variants={})
    np.testing.assert_array_equal(training_tables[-1].codes, CODES[others[0]])
    loss = np.asarray(table.values)[:, 0]
    expected = (loss.mean() - loss[others[0]]) / loss.std()
    np.testing.assert_allclose(np.asarray(training_tables[-1].values)[:, 0], expected, atol=1e-4)
    with pytest.raises(checks.UsageError, match="2 to 2048 rows to train on"):
        options._training_rows(table, "t", 2049, 0, evaluator)


def test_a_part_of_a_space_needs_an_evaluator(tiny_table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(table: Table, **_: Any) -> Predictor:
        return linear_in(get_space(table.space), *table.metrics)

    monkeypatch.setattr(options, "fit", fit)
    effort, plain = Effort(codes=8, steps=1), {BASELINE: VARIANTS[BASELINE]}
    with pytest.raises(checks.UsageError, match="give an evaluator"):
        options.compare_variants(tiny_table, "a", rows=100, seed=0, effort=effort, variants=plain)
    monkeypatch.setattr(options, "predicted_scores", lambda *_: lambda codes: codes[:, 0] / 100.0)
    evaluator = Evaluator(None, np.arange(200) < 100)  # type: ignore[arg-type]
    (only,) = options.compare_variants(
        tiny_table, "a", rows=100, seed=0, effort=effort, variants=plain, evaluator=evaluator
    )
    assert (only.variant, only.benchmark) == (BASELINE, "nas-bench-mr")
    assert 1 <= len(only.true) == len(only.predicted) == only.distinct <= 8


def test_every_variant_is_a_setting_of_its_own(linear: Predictor) -> None:
    configs = {name: variant.config(70, CODES[:30], linear) for name, variant in VARIANTS.items()}
    region = configs["trust-0.3"].region
    assert region is not None
    np.testing.assert_array_equal(np.unique(region.rows, axis=0), np.unique(SPACE.encode(CODES[:30]), axis=0))
    assert (region.weight, configs[BASELINE].region) == (0.3, None)
    settings = {
        name: dataclasses.replace(config, region=None).to_json() | {"trust": VARIANTS[name].trust}
        for name, config in configs.items()
    }
    assert len({repr(of_one) for of_one in settings.values()}) == len(VARIANTS)
    assert {of_one["steps"] for of_one in settings.values()} == {70}
    assert Variant({"steps": 3}).config(70, CODES[:30], linear).steps == 3


def outcome(variant: str, true: list[float], *, predicted: float = 0.0, seed: int = 0, rows: int = 50) -> Outcome:
    return Outcome(
        *("b", "t", rows, seed, float(rows), variant),
        distinct=len(true),
        scored=9,
        seconds=0.5,
        true=true,
        predicted=[predicted] * len(true),
        percentile=[10 - value for value in true],
    )


def test_measures_of_an_outcome() -> None:
    whole = outcome("plain", [2.0, 5.0, -1.0], predicted=3.0).measures()
    expected = {"best": 2.0, "top": 2.0, "best_of_top": 5.0, "best_percentile": 8.0, "top_percentile": 8.0}
    assert whole == expected | {"optimism": 1.0, "distinct": 3.0}
    assert outcome("plain", [2.0, 5.0, -1.0]).measures(2)["top"] == 3.5
    assert set(whole) == set(options.MEASURES)


def test_differences_within_pairs() -> None:
    gains = np.random.default_rng(0).normal(size=(8, 2))
    outcomes = []
    for seed, row in enumerate(gains):
        for rows, gain in zip((50, 100), row, strict=True):
            outcomes += [
                outcome("plain", [1.0 + seed, 0.0, 3.0 + seed], seed=seed, rows=rows),
                # One proposal fewer: the third one of the plain ascent has no counterpart.
                outcome("x", [1.0 + seed + gain, gain], seed=seed, rows=rows, predicted=1.0),
            ]
    summary = options.summarise_options(outcomes)["b"]
    assert list(summary) == ["50", "100", "all"]
    assert [summary[rows].known for rows in summary] == [50.0, 100.0, 75.0]
    x = summary["100"].variants["x"]
    assert (x.pairs, x.seconds) == (8, 0.5)
    assert x.mean["best"] == pytest.approx(np.mean(1.0 + np.arange(8) + gains[:, 1]))
    difference = x.difference
    for measure in ("best", "top"):
        assert difference[measure]["mean"] == pytest.approx(gains[:, 1].mean())
    assert difference["best_of_top"]["mean"] == pytest.approx(
        np.mean(np.maximum(1 + np.arange(8), 0) + gains[:, 1] - 3 - np.arange(8))
    )
    assert difference["optimism"]["mean"] == pytest.approx(1 - gains[:, 1].mean())
    assert difference["distinct"]["mean"] == -1
    both = summary["all"].variants["x"]
    assert (both.pairs, both.difference["top"]["n"]) == (16, 8)
    assert both.difference["top"]["mean"] == pytest.approx(gains.mean())
    plain = mean_interval(gains.mean(axis=1))
    assert (both.difference["top"]["low"], both.difference["top"]["high"]) == pytest.approx(
        (plain["low"], plain["high"])
    )
    assert summary["all"].variants[BASELINE].difference["top"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 8}


def test_a_difference_needs_a_plain_ascent() -> None:
    with pytest.raises(checks.UsageError, match="plain ascent of every proposer"):
        options.summarise_options([outcome(BASELINE, [1.0]), outcome("x", [1.0], seed=1)])


def test_the_figure(tmp_path: Path) -> None:
    outcomes = [
        outcome(name, [seed + gain], seed=seed) for name, gain in ((BASELINE, 0), ("x", 1)) for seed in range(3)
    ]
    outcomes += [dataclasses.replace(o, benchmark="c", variant=o.variant.replace("x", "y")) for o in outcomes]
    path = options.options_figure(options.summarise_options(outcomes), tmp_path / "options.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(checks.UsageError, match="measure"):
        options.options_figure({}, path, measure="worst")
