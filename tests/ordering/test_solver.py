"""The solver against brute force, an exact solver of another library, and its own promises."""

from __future__ import annotations

import functools
import graphlib
import itertools
import os
import subprocess
import sys
import time
from pathlib import Path

import hypothesis.strategies as st
import igraph
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from ncp_jax import checks
from ncp_jax.ordering import order, solver

IO_OPTIMA = {"N-t59d11xx": 147354, "N-be75eec": 236464, "N-tiw56r54": 102948, "N-usa79": 1813986}


def lolib(name: str) -> np.ndarray:
    """A matrix of LOLIB, which lies beside the mirror."""
    mirror = os.environ["NCP_JAX_MIRROR"]
    words = (Path(mirror).parent / "lolib" / "io" / name).read_text().split()
    n = int(words[0])
    return np.array(words[1 : 1 + n * n], float).reshape(n, n)


@functools.cache
def permutations(n: int) -> np.ndarray:
    return np.array(list(itertools.permutations(range(n))))


def brute_force(weights: np.ndarray) -> float:
    """The largest weight of any order."""
    orders = permutations(len(weights))
    total = np.zeros(len(orders))
    for a, b in itertools.combinations(range(len(weights)), 2):
        total += weights[orders[:, a], orders[:, b]]
    return float(total.max())


def forward(weights: np.ndarray, sequence: np.ndarray) -> float:
    return float(np.triu(weights[np.ix_(sequence, sequence)], 1).sum())


def random_weights(kind: str, n: int, rng: np.random.Generator) -> np.ndarray:
    weights = rng.random((n, n))
    if kind == "integers":
        return rng.integers(0, 6, (n, n)).astype(float)
    if kind == "sparse":
        return weights * (rng.random((n, n)) < 0.4)
    if kind == "zeros and ones":
        return (weights < 0.5).astype(float)
    if kind == "shares":
        return np.triu(weights, 1) + np.tril(1 - weights.T, -1)
    return weights


def tournament(n: int, seed: int = 0, noise: float = 1.0) -> np.ndarray:
    """Shares ``w + w.T = 1`` of a noisy ranking."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=n)
    upper = np.triu(1 / (1 + np.exp(-(score[:, None] - score + noise * rng.normal(size=(n, n))))), 1)
    return upper + np.tril(1 - upper.T, -1)


@pytest.mark.parametrize("largest_by_subsets", [solver.LARGEST, 2], ids=["subsets", "branch and cut"])
@pytest.mark.parametrize("kind", ["integers", "reals", "sparse", "zeros and ones", "shares"])
def test_brute_force_agrees(kind: str, largest_by_subsets: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solver, "LARGEST", largest_by_subsets)
    rng = np.random.default_rng(1)
    for n in [1, 2, 3, 4, 5, 6, 7] * 6 + [8] * 4:
        weights = random_weights(kind, n, rng)
        found = order(weights, time_limit=2, seed=n)
        assert found.status == "optimal"
        assert found.weight == pytest.approx(brute_force(weights), rel=1e-12)
        assert found.weight == pytest.approx(forward(weights, found.order), rel=1e-12)
        assert found.weight <= found.upper_bound
        assert found.gap <= (0 if kind in ("integers", "zeros and ones") else 1e-10)


@pytest.mark.parametrize("exact", [True, False], ids=["dual ascent", "cycle packing"])
@pytest.mark.parametrize("kind", ["integers", "reals", "sparse", "shares"])
def test_bounds_hold_where_nothing_is_proven(kind: str, exact: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The large ones' methods on small matrices, where brute force knows the truth."""
    for name, value in (("LARGEST", 2), ("EXACT", 2), ("DUAL", 400 if exact else 2)):
        monkeypatch.setattr(solver, name, value)
    rng = np.random.default_rng(2)
    closed = 0
    for trial in range(40):
        weights = random_weights(kind, int(rng.integers(3, 8)), rng)
        best = brute_force(weights)
        for time_limit in (0, 0.01):
            found = order(weights, time_limit=time_limit, seed=trial)
            assert found.upper_bound >= best * (1 - 1e-12)
            assert forward(weights, found.order) == pytest.approx(found.weight, rel=1e-12)
            assert found.weight <= best * (1 + 1e-12)
        closed += found.upper_bound <= best * (1 + 1e-6)
    assert closed > 20, "bounds from triangles are tight for most of these"


@pytest.mark.parametrize("name", IO_OPTIMA)
def test_the_known_optima_of_lolib_are_proven(mirror: Path, name: str) -> None:
    found = order(lolib(name), time_limit=20)
    assert (found.status, found.method) == ("optimal", "exact")
    assert found.weight == found.upper_bound == IO_OPTIMA[name]


@pytest.mark.parametrize("seed", range(4))
def test_an_exact_feedback_arc_set_of_another_library_weighs_the_same(seed: int) -> None:
    rng = np.random.default_rng(seed)
    weights = rng.integers(1, 20, (18, 18)) * (rng.random((18, 18)) < 0.25)
    np.fill_diagonal(weights, 0)
    sources, targets = np.nonzero(weights)
    graph = igraph.Graph(n=18, edges=list(zip(sources.tolist(), targets.tolist(), strict=True)), directed=True)
    edge_weights = weights[sources, targets]
    left_out = graph.feedback_arc_set(weights=edge_weights.tolist(), method="ip")
    found = order(weights)
    assert found.status == "optimal"
    assert found.dropped_weights.sum() == edge_weights[left_out].sum()
    assert found.weight == edge_weights.sum() - edge_weights[left_out].sum()


MATRICES = st.integers(1, 14).flatmap(
    lambda n: hnp.arrays(np.float64, (n, n), elements=st.sampled_from([0.0, 0.25, 1.0, 1.5, 7.0]))
)


@settings(deadline=None, max_examples=60)
@given(MATRICES, st.randoms(use_true_random=False))
def test_what_holds_for_any_matrix(weights: np.ndarray, random: object) -> None:
    n = len(weights)
    found = order(weights, time_limit=2)
    assert sorted(found.order.tolist()) == list(range(n))
    assert found.weight == pytest.approx(forward(weights, found.order))
    assert found.status == "optimal"
    kept = weights.copy()
    kept[found.dropped[:, 0], found.dropped[:, 1]] = 0
    np.fill_diagonal(kept, 0)
    graph = {j: set(np.nonzero(kept[:, j])[0].tolist()) for j in range(n)}
    assert len(list(graphlib.TopologicalSorter(graph).static_order())) == n
    assert kept.sum() == pytest.approx(found.weight)
    # The other way round everything is reversed; other names for the elements change nothing.
    assert order(weights.T, time_limit=2).weight == pytest.approx(found.weight)
    names = list(range(n))
    random.shuffle(names)  # type: ignore[attr-defined]
    assert order(weights[np.ix_(names, names)], time_limit=2).weight == pytest.approx(found.weight)


@pytest.mark.parametrize("n", [60, 200, 900])
def test_same_seed_same_order_whatever_the_threads(n: int) -> None:
    """All three searches; the time is the clock's at least, so that the budget of work ends them."""
    weights = tournament(n, noise=3.0)
    budget = 0.2
    runs = [run_to_the_work_limit(weights, budget, workers) for workers in (1, 2, 3)]
    for other in runs[1:]:
        assert np.array_equal(runs[0].order, other.order)
        assert (runs[0].weight, runs[0].upper_bound) == (other.weight, other.upper_bound)
    assert {run.status for run in runs} <= {"work limit", "optimal"}


def run_to_the_work_limit(weights: np.ndarray, budget: float, workers: int):
    """Runs with a nominal speed so low that the clock cannot come first."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "RATE", solver.RATE * budget / 60)
        return order(weights, time_limit=60, seed=3, workers=workers)


@pytest.mark.parametrize("n", [20, 150, 900])
def test_any_integer_is_a_seed(n: int) -> None:
    weights = tournament(n)
    for seed in (2**58, 2**64 - 1, 10**30):
        assert sorted(order(weights, time_limit=0.05, seed=seed).order.tolist()) == list(range(n))


def test_another_seed_searches_elsewhere() -> None:
    weights = tournament(150, noise=5.0)
    first, second = (order(weights, time_limit=0.05, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.order, second.order)


@pytest.mark.parametrize("n", [1, 5, 60, 200, 900])
def test_no_time_at_all_still_gives_an_order_and_a_bound(n: int) -> None:
    weights = tournament(n)
    runs = [order(weights, time_limit=0) for _ in range(2)]
    assert np.array_equal(runs[0].order, runs[1].order)
    assert sorted(runs[0].order.tolist()) == list(range(n))
    assert forward(weights, runs[0].order) == pytest.approx(runs[0].weight)
    assert runs[0].weight <= runs[0].upper_bound <= np.maximum(weights, weights.T)[np.triu_indices(n, 1)].sum() + 1e-9
    assert runs[0].weight >= 0.9 * runs[0].upper_bound


def test_long_orders_are_improved_in_windows() -> None:
    weights = tournament(1500, noise=2.0)
    start, later = order(weights, time_limit=0), order(weights, time_limit=3)
    assert later.weight > start.weight
    assert later.upper_bound >= later.weight
    assert later.method == "cycle packing"


def test_the_clock_ends_a_search() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "RATE", solver.RATE * 1e6)
        for n in (90, 200, 900):
            found = order(tournament(n, noise=8.0), time_limit=0.1)
            assert found.status == "time limit"
            assert found.upper_bound >= found.weight


def test_the_first_descent_keeps_the_limit_too_and_tells_how_far_it_is() -> None:
    weights, seen = tournament(900, noise=8.0), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "_FINISH", 1.0)  # no time is left for anything
        found = order(weights, time_limit=5.0, progress=lambda *done: seen.append(done))
    assert found.status == "time limit"
    assert sorted(found.order.tolist()) == list(range(900))
    assert order(weights, time_limit=0).weight > found.weight
    assert found.upper_bound >= found.weight
    with solver._told(lambda *done: seen.append(done), time.monotonic() - 7, 9.5):
        time.sleep(1.2)
    assert (8, 10) in seen


def test_without_the_clock_the_budget_is_work_alone() -> None:
    weights = tournament(200, noise=8.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(solver, "_FINISH", 1.0)  # the clock would end the search at once
        runs = [order(weights, time_limit=0.1, clocked=False, workers=workers) for workers in (1, 2)]
    assert {run.status for run in runs} == {"work limit"}
    assert np.array_equal(runs[0].order, runs[1].order)
    assert runs[0].weight > order(weights, time_limit=0).weight


@pytest.mark.parametrize("weights", [np.zeros((6, 6)), np.full((6, 6), 2.5), np.array([[0.0, 3], [3, 0]])])
def test_without_preferences_the_order_is_that_of_the_indices(weights: np.ndarray) -> None:
    found = order(weights)
    assert found.order.tolist() == list(range(len(weights)))
    assert (found.status, found.gap) == ("optimal", 0)
    assert found.weight == np.triu(weights, 1).sum()


def test_one_element() -> None:
    found = order([[5.0]])
    assert found.order.tolist() == [0]
    assert (found.weight, found.upper_bound, found.gap, found.status) == (0, 0, 0, "optimal")
    assert found.dropped.shape == (0, 2)
    assert found.cycles.components == 1


def test_the_diagonal_is_ignored_even_where_it_is_no_weight() -> None:
    weights = tournament(5)
    spoilt = weights.copy()
    np.fill_diagonal(spoilt, [np.nan, -1, np.inf, 7, -np.inf])
    clean, other = order(weights), order(spoilt)
    assert np.array_equal(clean.order, other.order)
    assert clean.weight == other.weight
    assert clean.cycles == other.cycles


@pytest.mark.parametrize(
    "convert", [np.float32, np.int64, np.uint8, jnp.asarray, scipy.sparse.csr_array, np.ndarray.tolist]
)
def test_kinds_of_matrices(convert) -> None:
    weights = np.random.default_rng(0).integers(0, 100, (20, 20)).astype(float)
    given = (
        weights.astype(convert) if isinstance(convert, type) and issubclass(convert, np.generic) else convert(weights)
    )
    assert order(given).weight == order(weights).weight


def test_booleans_are_ones() -> None:
    assert order(np.array([[False, True], [False, False]])).weight == 1


def test_a_mask_drops_edges() -> None:
    weights = tournament(20)
    mask = np.maximum(weights, weights.T) >= 0.7
    for flags in (mask, scipy.sparse.csr_array(mask), jnp.asarray(mask)):
        found = order(weights, mask=flags)
        assert found.weight == order(np.where(mask, weights, 0)).weight
    assert mask[found.dropped[:, 0], found.dropped[:, 1]].all()


def test_tiny_and_huge_weights_keep_their_order() -> None:
    chain = np.zeros((3, 3))
    chain[2, 1], chain[1, 0] = 1e-300, 1.0
    assert order(chain).order.tolist() == [2, 1, 0]
    assert order(chain * 1e300).order.tolist() == [2, 1, 0]
    subnormal = np.zeros((2, 2))
    subnormal[1, 0] = 5e-324
    assert order(subnormal).order.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        (np.zeros((2, 3)), "square matrix of weights, at least 1 × 1, got 2×3"),
        (np.zeros((0, 0)), "got 0×0"),
        (np.zeros(4), "got 4"),
        (3.0, "got a single value"),
        (np.zeros((2, 2, 2)), "got 2×2×2"),
        ([[0, 1], [-1, 0]], r"finite weights >= 0, got -1.0 at row 1, column 0"),
        ([[0, np.nan], [1, 0]], "got nan at row 0, column 1"),
        ([[0, np.inf], [1, 0]], "got inf at row 0, column 1"),
        ([[0, 1e308, 1e308], [1e308, 0, 1], [1, 1, 0]], "sum is finite"),
        ([["a", "b"], ["c", "d"]], "real numbers"),
        (np.zeros((2, 2), complex), "real numbers"),
        ([[0, 1], [1]], "rows of one length"),
    ],
)
def test_what_is_no_weight_matrix(weights: object, text: str) -> None:
    with pytest.raises(checks.UsageError, match=text):
        order(weights)


def test_wrong_arguments() -> None:
    weights = np.zeros((2, 2))
    for time_limit in (-1, float("nan"), float("inf")):
        with pytest.raises(checks.UsageError, match="time_limit to be a number >= 0"):
            order(weights, time_limit=time_limit)
    with pytest.raises(checks.UsageError, match="workers to be an integer 1 or more, got 0; leave it out"):
        order(weights, workers=0)
    with pytest.raises(checks.UsageError, match="seed to be an integer 0 or more, got"):
        order(weights, seed=-1)
    with pytest.raises(checks.UsageError, match=r"mask of the weights' shape \(2, 2\), got \(3, 3\)"):
        order(weights, mask=np.ones((3, 3)))


def test_importing_the_room_compiles_nothing() -> None:
    script = "import sys, ncp_jax.ordering; print(sorted({'numba', 'highspy', 'scipy'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
