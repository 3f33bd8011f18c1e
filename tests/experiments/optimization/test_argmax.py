"""Inversion against exhaustive search: the bookkeeping, on predictors whose argmax is known by other means."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import tables as harness_tables
from optimization import argmax
from optimization.argmax import (
    ArgmaxBenchmark,
    ArgmaxConfig,
    ExhaustiveScores,
    Variant,
    invert_once,
    objectives,
    run_variants,
)
from optimization.argmax_summary import (
    Attempt,
    argmax_figure,
    argmax_lines,
    from_columns,
    to_columns,
    variant_rates,
)
from scipy.stats import binomtest

from ncp_jax import MetricSpec, Table, get_space
from ncp_jax.analysis.intervals import wilson_interval
from ncp_jax.predictors import FoldedMLP, Predictor, Standardisation
from ncp_jax.propagation import Objective, PropagationConfig
from ncp_jax.records.journal import Records
from ncp_jax.training import get_recipe

METRICS = (
    MetricSpec("a/top1", task="a"),
    MetricSpec("a/top5", task="a"),
    MetricSpec("b/loss", task="b", direction="minimize"),
)


def predictor(space: str, *, small: float = 1.0, seed: int = 0) -> Predictor:
    """Two random networks; with a ``small`` first layer they are almost linear."""
    rng, f = np.random.default_rng(seed), get_space(space).features
    sizes = (f, 6, len(METRICS))
    w = [rng.normal(size=(2, i, o)) for i, o in itertools.pairwise(sizes)]
    b = [rng.normal(size=(2, o)) for o in sizes[1:]]
    w, b = [w[0] * small, w[1] / small], [b[0] * small, b[1]]
    w, b = (tuple(jnp.asarray(a, jnp.float32) for a in arrays) for arrays in (w, b))
    scale = Standardisation(jnp.full(f, 0.2), jnp.full(f, 0.4), jnp.full(3, 2.0), jnp.full(3, 0.5))
    return Predictor({"w": w, "b": b}, scale, FoldedMLP(), METRICS, space)


def test_objectives_know_directions() -> None:
    found = objectives(METRICS)
    assert found == [
        Objective(maximize={"a/top1": 1.0}),
        Objective(minimize={"b/loss": 1.0}),
        Objective(maximize={"a/top1": 0.5}, minimize={"b/loss": 0.5}),
        Objective(maximize={"a/top1": 0.5}, minimize={"b/loss": 0.5}),
        Objective(maximize={"a/top1": 0.5}, minimize={"b/loss": 0.5}),
        Objective(maximize={"a/top1": 1.0, "b/loss": 0.5}),
        Objective(maximize={}, minimize={"b/loss": 1.0, "a/top1": 0.5}),
    ]
    seven = [MetricSpec(f"{task}/x", task=task) for task in "abcdefg"]
    assert [len(goal.names) for goal in objectives(seven)] == [1] * 7 + [7]
    assert len(objectives(seven, 3)) == 3


@pytest.mark.parametrize("space", ["transnas-micro", "transnas-macro"])
def test_the_whole_space_in_the_order_of_its_index(space: str) -> None:
    network = predictor(space)
    whole = ExhaustiveScores.of(network)
    codes = whole.space.all_codes()
    np.testing.assert_array_equal(whole.index(codes[[5, 3, 99]]), [5, 3, 99])
    mean, spread = network(whole.space.encode(jnp.asarray(codes[[5, 3, 99]])))
    np.testing.assert_allclose(whole.mean[[5, 3, 99]], (mean - 2.0) / 0.5, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(whole.spread[[5, 3, 99]], spread / 0.5, rtol=1e-4, atol=1e-5)
    canonical = np.asarray(whole.space.canonical(jnp.asarray(codes)))
    np.testing.assert_array_equal(codes[whole.network], canonical)


def test_the_argmax_of_a_linear_predictor_is_found() -> None:
    network = predictor("transnas-micro", small=1e-3)
    variant = Variant("x", 8, PropagationConfig(steps=60, learning_rate=100.0, follow="mean"), polish=True)
    goal = Objective(maximize={"a/top1": 1.0}, minimize={"b/loss": 0.5})
    row = invert_once(network, ExhaustiveScores.of(network), goal, variant, share=0.1, key=jax.random.key(0))
    assert row.hit
    assert row.gap == pytest.approx(0, abs=1e-6)
    assert row.code_steps == 8 * 60
    assert row.scored <= 409
    assert row.seconds > 0


def test_a_miss_has_its_gap() -> None:
    network = predictor("transnas-macro")
    whole, goal = ExhaustiveScores.of(network), Objective(maximize={"a/top1": 1.0})
    variant = Variant("starts alone", 3, PropagationConfig(steps=0))
    row = invert_once(network, whole, goal, variant, share=0.1, key=jax.random.key(1))
    starts = np.asarray(whole.space.sample(jax.random.key(1), 3))
    scores = whole.mean[:, 0]
    best = scores[whole.index(starts)].max()
    assert not row.hit
    assert row.gap == pytest.approx(scores.max() - best, rel=1e-4)
    assert (row.scored, row.until, row.code_steps) == (3, 3, 0)


def test_isomorphs_of_an_argmax_are_hits() -> None:
    network = predictor("nas-bench-201")
    whole, goal = ExhaustiveScores.of(network), Objective(maximize={"a/top1": 1.0})
    variant = Variant("starts alone", 1, PropagationConfig(steps=0))
    start = int(whole.index(np.asarray(whole.space.sample(jax.random.key(0), 1)))[0])
    mean = whole.mean.copy()
    one = (start + 1) % whole.space.size
    mean[one, 0] = 100.0
    far = dataclasses.replace(whole, mean=mean)
    network_of = whole.network.copy()
    assert not invert_once(network, far, goal, variant, share=0.1, key=jax.random.key(0)).hit
    network_of[one] = network_of[start]
    same = dataclasses.replace(far, network=network_of)
    assert invert_once(network, same, goal, variant, share=0.1, key=jax.random.key(0)).hit


def test_a_search_by_the_bound_is_scored_by_the_bound() -> None:
    network = predictor("transnas-macro")
    whole, goal = ExhaustiveScores.of(network), Objective(minimize={"b/loss": 1.0})
    config = PropagationConfig(steps=10, follow="bound", confidence=2.0)
    row = invert_once(network, whole, goal, Variant("x", 8, config, True), share=1.0, key=jax.random.key(0))
    bound = -whole.mean[:, 2] - 2.0 * whole.spread[:, 2]
    assert row.gap <= bound.max() - np.sort(bound)[-50]


def test_no_more_is_scored_than_the_share() -> None:
    network = predictor("transnas-macro")
    variant = ArgmaxConfig(codes=16, steps=3).chosen
    attempts = run_variants(network, [variant], share=0.05, seed=0)[variant.name]
    assert len(attempts) == 7
    assert max(a.scored for a in attempts) <= 162
    assert min(a.scored for a in attempts) > 16
    assert all(a.until <= a.scored for a in attempts)
    assert from_columns(json.loads(json.dumps(to_columns(attempts)))) == attempts


def test_wilson_against_scipy() -> None:
    for hits, n in ((0, 5), (3, 7), (199, 200), (200, 200)):
        low, high = binomtest(hits, n).proportion_ci(method="wilson")
        assert wilson_interval(hits, n) == pytest.approx((low, high), abs=1e-6)


def attempts(hits: list[bool], scored: list[int]) -> list[Attempt]:
    return [
        Attempt(hit, 0.0 if hit else 0.1 * (i + 1), n, n // 2, 40, 0.5)
        for i, (hit, n) in enumerate(zip(hits, scored, strict=True))
    ]


def test_summary(tmp_path: Path) -> None:
    both = {"x": attempts([True, False], [10, 20]), "y": attempts([True, True], [1, 1])}
    rows = variant_rates([both, {"x": attempts([True, True], [30, 40])}], size=400)
    assert (rows["x"].pairs, rows["x"].hits, rows["x"].rate) == (4, 3, 0.75)
    assert rows["x"].scored == {"mean": 25.0, "largest": 40, "share": 0.1}
    assert rows["x"].gap_of_misses == {"mean": pytest.approx(0.2), "largest": pytest.approx(0.2)}
    assert rows["y"].gap_of_misses is None
    assert rows["y"].pairs == 2
    assert rows["x"].until == pytest.approx((5 + 15 + 20) / 3)
    json.dumps([row.to_json() for row in rows.values()], allow_nan=False)
    lines = argmax_lines({"micro": rows})
    assert lines[0].startswith("micro          x ")
    assert (
        "3/4 = 75.0% [30.1%, 95.4%], misses by 0.200 (at most 0.200); scored 25, at most 40 (10.0%), 13 until"
        in lines[0]
    )
    assert "misses" not in lines[1]
    path = argmax_figure({"micro": rows, "macro": rows}, tmp_path / "argmax.png")
    assert path.read_bytes().startswith(b"\x89PNG")


def test_a_benchmark_resumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, codes: np.ndarray, quality: np.ndarray
) -> None:
    tables = [
        Table.from_arrays(
            name, space="transnas-micro", codes=codes, values=values[:, None], metrics=[MetricSpec("acc", task=name)]
        )
        for name, values in zip("abc", quality, strict=True)
    ]
    monkeypatch.setattr(harness_tables, "load_tasks", lambda space: tables)
    recipe = dataclasses.replace(get_recipe("ensemble"), widths=(4,), epochs=2, min_steps=0)
    config = ArgmaxConfig(codes=8, steps=2, members=2, rows=50)
    benchmark = ArgmaxBenchmark(("micro",), config, recipe, pairs=9, ablation=0)
    calls: list[tuple[int, int]] = []
    records = Records(tmp_path, benchmark.to_json())
    summary = benchmark.run(records, lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    (row,) = summary["micro"].values()
    assert row.pairs == 16
    assert row.scored["share"] <= 0.19
    monkeypatch.setattr(argmax, "train", lambda *_: pytest.fail("trained again"))
    again = benchmark.run(Records(tmp_path, benchmark.to_json(), resume=True))
    assert again == summary


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"expected a known enumerable space, got 'nas-bench-mr'"):
        ArgmaxBenchmark(("nas-bench-mr",), ArgmaxConfig(), get_recipe("ensemble"))
    with pytest.raises(ValueError, match=r"expected pairs to be an integer 1 or more, got 0; try 200"):
        ArgmaxBenchmark(("micro",), ArgmaxConfig(), get_recipe("ensemble"), pairs=0)
    for share in (0.0, 1.5):
        with pytest.raises(ValueError, match=rf"expected a share in \(0, 1\], got {share}"):
            ArgmaxConfig(share=share)
    with pytest.raises(ValueError, match=r"expected codes to be an integer 1 or more, got 0; give another codes"):
        ArgmaxConfig(codes=0)


def test_names_of_variants_are_unique() -> None:
    config = ArgmaxConfig()
    names = [variant.name for variant in (config.chosen, *config.ablation())]
    assert len(set(names)) == len(names)
