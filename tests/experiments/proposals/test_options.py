"""The ablation of the options: what is inverted, what is judged, and the arithmetic of the comparison."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from proposals import options as exploitation
from proposals import scoring as truth
from proposals.options import PLAIN, VARIANTS, Effort, Variant
from scipy.stats import bootstrap

from ncp_jax import MetricSpec, Predictor, Table, checks, get_space
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
def told(linear: Predictor, monkeypatch: pytest.MonkeyPatch) -> list[Table]:
    """What proposers learn from; they are all the linear networks."""
    tables: list[Table] = []

    def fit(table: Table, **_: Any) -> Predictor:
        tables.append(table)
        return linear

    monkeypatch.setattr(exploitation, "fit", fit)
    return tables


def test_proposals_of_known_networks(table: Table, linear: Predictor, told: list[Table]) -> None:
    effort = Effort(members=3, codes=64, steps=3)
    variants = {name: VARIANTS[name] for name in (PLAIN, "trust-1")}
    outcomes = exploitation.exploit_table(table, "t", rows=50, seed=0, effort=effort, variants=variants)
    assert [o["variant"] for o in outcomes] == [PLAIN, "trust-1", "enumeration"]
    assert {(o["benchmark"], o["task"], o["rows"], o["seed"]) for o in outcomes} == {("transnas-micro", "t", 50, 0)}
    loss = np.asarray(table.values, np.float64)[:, 0]
    quality = (loss.mean() - loss) / loss.std()
    of_score = {round(float(score), 4): row for row, score in enumerate(quality)}
    weights = np.asarray(linear.params).mean(axis=0)[:, 0]
    predicted = np.asarray(SPACE.encode(jnp.asarray(CODES))) @ weights
    for outcome in outcomes:
        rows = [of_score[round(score, 4)] for score in outcome["true"]]
        np.testing.assert_allclose(outcome["predicted"], predicted[rows], rtol=1e-3, atol=1e-3)
        np.testing.assert_allclose(outcome["percentile"], [100 * np.mean(loss < loss[row]) for row in rows], atol=1e-6)
        assert (np.diff(outcome["predicted"]) <= 1e-5).all()
        assert outcome["known"] == pytest.approx(np.asarray(told[0].values).max(), abs=1e-4)
    # Without an ascent: the best-ranked of all, one for each network that several codes denote.
    canonical = np.asarray(SPACE.canonical(jnp.asarray(CODES)))
    best: dict[bytes, float] = {}
    for code, value in zip(canonical, predicted, strict=True):
        best[code.tobytes()] = max(best.get(code.tobytes(), -np.inf), float(value))
    np.testing.assert_allclose(outcomes[-1]["predicted"], sorted(best.values(), reverse=True)[: truth.TOP], atol=1e-3)
    assert outcomes[-1]["distinct"] == len(best)


def test_what_proposers_learn_from(table: Table, told: list[Table]) -> None:
    judge = truth.Judge(None, np.arange(len(table)) % 2 == 0)  # type: ignore[arg-type]
    codes = {}
    for rows in (20, 50):
        codes[rows] = CODES[exploitation._draw(table, "t", rows, 0, judge)]
        assert (np.asarray(table.rows(jnp.asarray(codes[rows]))) % 2 == 1).all()
    np.testing.assert_array_equal(codes[50][:20], codes[20])
    others = [exploitation._draw(table, *of, None).tolist() for of in (("t", 20, 1), ("u", 20, 0), ("t", 20, 0))]
    assert len(set(map(tuple, others))) == 3
    exploitation.exploit_table(table, "t", rows=20, seed=1, effort=Effort(codes=1, steps=0), variants={})
    np.testing.assert_array_equal(told[-1].codes, CODES[others[0]])
    loss = np.asarray(table.values)[:, 0]
    expected = (loss.mean() - loss[others[0]]) / loss.std()
    np.testing.assert_allclose(np.asarray(told[-1].values)[:, 0], expected, atol=1e-4)
    with pytest.raises(checks.UsageError, match="2 to 2048 rows to learn from"):
        exploitation._draw(table, "t", 2049, 0, judge)


def test_a_part_of_a_space_needs_a_judge(tiny_table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(table: Table, **_: Any) -> Predictor:
        return linear_in(get_space(table.space), *table.metrics)

    monkeypatch.setattr(exploitation, "fit", fit)
    effort, plain = Effort(codes=8, steps=1), {PLAIN: VARIANTS[PLAIN]}
    with pytest.raises(checks.UsageError, match="give a judge"):
        exploitation.exploit_table(tiny_table, "a", rows=100, seed=0, effort=effort, variants=plain)
    monkeypatch.setattr(exploitation, "judged_truth", lambda *_: lambda codes: codes[:, 0] / 100.0)
    judge = truth.Judge(None, np.arange(200) < 100)  # type: ignore[arg-type]
    (only,) = exploitation.exploit_table(tiny_table, "a", rows=100, seed=0, effort=effort, variants=plain, judge=judge)
    assert (only["variant"], only["benchmark"]) == (PLAIN, "nas-bench-mr")
    assert 1 <= len(only["true"]) == len(only["predicted"]) == only["distinct"] <= 8


def test_every_variant_is_a_setting_of_its_own(linear: Predictor) -> None:
    configs = {name: variant.config(70, CODES[:30], linear) for name, variant in VARIANTS.items()}
    region = configs["trust-0.3"].region
    assert region is not None
    np.testing.assert_array_equal(np.unique(region.points, axis=0), np.unique(SPACE.encode(CODES[:30]), axis=0))
    assert (region.weight, configs[PLAIN].region) == (0.3, None)
    settings = {
        name: dataclasses.replace(config, region=None).to_json() | {"trust": VARIANTS[name].trust}
        for name, config in configs.items()
    }
    assert len({repr(of_one) for of_one in settings.values()}) == len(VARIANTS)
    assert {of_one["steps"] for of_one in settings.values()} == {70}
    assert Variant({"steps": 3}).config(70, CODES[:30], linear).steps == 3


def outcome(variant: str, true: list[float], *, predicted: float = 0.0, seed: int = 0, rows: int = 50) -> dict:
    cell = {"benchmark": "b", "task": "t", "rows": rows, "seed": seed, "variant": variant, "known": float(rows)}
    lists = {"true": true, "predicted": [predicted] * len(true), "percentile": [10 - value for value in true]}
    return cell | lists | {"distinct": len(true), "scored": 9, "seconds": 0.5}


def test_an_outcome_in_numbers() -> None:
    whole = exploitation.summarise(outcome("plain", [2.0, 5.0, -1.0], predicted=3.0))
    expected = {"best": 2.0, "top": 2.0, "best_of_top": 5.0, "best_percentile": 8.0, "top_percentile": 8.0}
    assert whole == expected | {"optimism": 1.0, "distinct": 3.0}
    assert exploitation.summarise(outcome("plain", [2.0, 5.0, -1.0]), 2)["top"] == 3.5
    assert set(whole) == set(exploitation.MEASURES)


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
    overview = exploitation.options_overview(outcomes)["b"]
    assert list(overview) == ["50", "100", "all"]
    assert [overview[rows]["known"] for rows in overview] == [50.0, 100.0, 75.0]
    x = overview["100"]["variants"]["x"]
    assert (x["pairs"], x["seconds"]) == (8, 0.5)
    assert x["mean"]["best"] == pytest.approx(np.mean(1.0 + np.arange(8) + gains[:, 1]))
    difference = x["difference"]
    for measure in ("best", "top"):
        assert difference[measure]["mean"] == pytest.approx(gains[:, 1].mean())
    assert difference["best_of_top"]["mean"] == pytest.approx(
        np.mean(np.maximum(1 + np.arange(8), 0) + gains[:, 1] - 3 - np.arange(8))
    )
    assert difference["optimism"]["mean"] == pytest.approx(1 - gains[:, 1].mean())
    assert difference["distinct"]["mean"] == -1
    both = overview["all"]["variants"]["x"]
    assert (both["pairs"], both["difference"]["top"]["n"]) == (16, 8)
    assert both["difference"]["top"]["mean"] == pytest.approx(gains.mean())
    ends = bootstrap(
        (gains.mean(axis=1),), np.mean, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert both["difference"]["top"]["low"] == pytest.approx(ends.low, abs=0.03)
    assert both["difference"]["top"]["high"] == pytest.approx(ends.high, abs=0.03)
    assert overview["all"]["variants"][PLAIN]["difference"]["top"] == {"mean": 0.0, "low": 0.0, "high": 0.0, "n": 8}


def test_a_difference_needs_a_plain_ascent() -> None:
    with pytest.raises(checks.UsageError, match="plain ascent of every proposer"):
        exploitation.options_overview([outcome(PLAIN, [1.0]), outcome("x", [1.0], seed=1)])


def test_the_figure(tmp_path: Path) -> None:
    outcomes = [outcome(name, [seed + gain], seed=seed) for name, gain in ((PLAIN, 0), ("x", 1)) for seed in range(3)]
    outcomes += [o | {"benchmark": "c", "variant": o["variant"].replace("x", "y")} for o in outcomes]
    path = exploitation.options_figure(exploitation.options_overview(outcomes), tmp_path / "options.png")
    assert path.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(checks.UsageError, match="measure"):
        exploitation.options_figure({}, path, measure="worst")
