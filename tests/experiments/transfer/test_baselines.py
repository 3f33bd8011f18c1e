"""The baselines against closed forms, and what every method must keep to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from transfer import baselines

from ncp_jax import MetricSpec, Table, checks, get_space
from ncp_jax.analysis.ranks import best_ranks, expected_random_rank, kendall_tau
from ncp_jax.benchmarks.guard import QueryGuard
from ncp_jax.searchers.arch_graph import SearchHistory

N = 1024
SPACE = get_space("nas-bench-201")
CODES = np.asarray(SPACE.all_codes())[:: SPACE.size // N][:N].astype(np.int32)
ONE_HOT = (CODES[:, :, None] == np.arange(5)).reshape(N, -1).astype(np.float32)
RNG = np.random.default_rng(0)
EASY = (ONE_HOT @ RNG.normal(size=30) + 0.1 * RNG.normal(size=N)).astype(np.float32)
SOURCES = np.stack([EASY + RNG.normal(size=N), np.exp(EASY + RNG.normal(size=N))], axis=1)
METHODS: dict[str, Callable[..., SearchHistory]] = {
    "random": baselines.random_search,
    "mean rank": lambda guard, seed: baselines.mean_rank(guard, SOURCES[: len(guard.codes)]),
    "gaussian process": lambda guard, seed: baselines.gaussian_process(guard, ONE_HOT[: len(guard.codes)], seed=seed),
}


def guard_of(values: np.ndarray = EASY, *, budget: int = 23, runs: int = 4, direction: str = "maximize") -> QueryGuard:
    spec = MetricSpec("accuracy", direction=direction)
    n = len(values)
    return QueryGuard(
        Table.from_arrays("t", space=SPACE, codes=CODES[:n], values=np.asarray(values)[:, None], metrics=[spec]),
        "accuracy",
        budget=budget,
        runs=runs,
    )


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_the_budget_is_spent_to_the_last_and_no_row_twice(method) -> None:
    guard = guard_of(budget=23)  # 10 first, then 5, 5 and 3
    found = method(guard, seed=1)
    assert guard.remaining.tolist() == [0] * 4
    assert (found.asked.shape, found.paid.shape, found.scores.shape) == ((4, 23), (4, 23), (4, N))
    assert (found.asked.dtype, found.paid.dtype, found.scores.dtype) == (np.int32, np.float32, np.float32)
    assert all(len(set(run)) == 23 for run in found.asked)
    np.testing.assert_array_equal(found.paid, EASY[found.asked])
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_run_depends_on_its_seed_and_number_alone(method) -> None:
    found, again, fewer = (method(guard_of(runs=runs), seed=3) for runs in (4, 4, 2))
    np.testing.assert_array_equal(found.asked, again.asked)
    np.testing.assert_array_equal(found.scores, again.scores)
    np.testing.assert_array_equal(found.asked[:2], fewer.asked)
    np.testing.assert_allclose(found.scores[:2], fewer.scores, atol=1e-4)


@pytest.mark.parametrize("name", ["random", "gaussian process"])
def test_seeds_and_runs_differ(name: str) -> None:
    one, two = (METHODS[name](guard_of(), seed=seed).asked for seed in (0, 1))
    assert len({tuple(run) for run in np.concatenate([one, two])}) == 8


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_lower_is_better_is_the_negated_table(method) -> None:
    up, down = method(guard_of(), seed=0), method(guard_of(-EASY, direction="minimize"), seed=0)
    np.testing.assert_array_equal(up.asked, down.asked)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
@pytest.mark.parametrize(("n", "budget"), [(12, 12), (12, 4), (2, 2), (2, 1)])
def test_small_tables_and_budgets(method, n: int, budget: int) -> None:
    found = method(guard_of(EASY[:n], budget=budget, runs=3), seed=0)
    assert all(len(set(run)) == budget for run in found.asked)
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_metric_that_is_the_same_everywhere(method) -> None:
    found = method(guard_of(np.full(N, 7.0, np.float32)), seed=0)
    assert all(len(set(run)) == 23 for run in found.asked)
    assert np.isfinite(found.scores).all()


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_a_used_guard_is_refused(method) -> None:
    guard = guard_of()
    guard.query(np.array([[-1], [-1], [0], [-1]]))
    with pytest.raises(
        checks.UsageError, match=r"expected a guard that nobody has asked, got .* make a new QueryGuard"
    ):
        method(guard, seed=0)


def test_random_search_finds_what_chance_would() -> None:
    runs, k = 2000, 15
    found = baselines.random_search(guard_of(budget=k, runs=runs), seed=0)
    ranks = best_ranks(found.asked, EASY)
    for j in (1, 5, k):
        expected = expected_random_rank(N, j)
        assert abs(ranks[:, j - 1].mean() - expected) < 4 * ranks[:, j - 1].std() / runs**0.5
    assert np.bincount(found.asked.ravel(), minlength=N).max() < 70  # uniform: 29 times each, 5.4 up or down


def test_random_search_believes_what_it_paid_for() -> None:
    found = baselines.random_search(guard_of(budget=9), seed=0)
    shorter = baselines.random_search(guard_of(budget=5), seed=0)
    np.testing.assert_array_equal(found.asked[:, :5], shorter.asked)
    for run in range(4):
        other = np.setdiff1d(np.arange(N), found.asked[run])
        np.testing.assert_array_equal(found.scores[run, found.asked[run]], found.paid[run])
        np.testing.assert_allclose(found.scores[run, other], found.paid[run].mean(), rtol=1e-6)


def test_mean_rank_asks_the_best_on_average_first() -> None:
    sources = np.array([[1.0, 4.0], [3.0, 9.0], [2.0, 1.0], [0.0, 0.0]])  # ranks 3 2, 1 1, 2 3, 4 4
    found = baselines.mean_rank(guard_of(EASY[:4], budget=4, runs=2), sources)
    assert found.asked.tolist() == [[1, 0, 2, 3]] * 2  # rows 0 and 2 tie: the lower first
    np.testing.assert_allclose(found.scores[1], [-0.5, -0.125, -0.5, -0.875])


def test_mean_rank_takes_the_measured_tasks_only() -> None:
    missing = np.nan
    sources = np.array([[1.0, missing], [3.0, missing], [2.0, 5.0], [missing, 7.0], [missing, missing]])
    found = baselines.mean_rank(guard_of(EASY[:5], budget=5, runs=1), sources)
    np.testing.assert_allclose(found.scores[0], [-5 / 6, -1 / 6, -(3 / 6 + 3 / 4) / 2, -1 / 4, -0.5], rtol=1e-6)
    assert found.asked[0].tolist() == [1, 3, 4, 2, 0]


@pytest.mark.parametrize(
    "sources",
    [np.zeros((3, 1)), np.zeros((4, 0)), np.zeros(4), np.full((4, 1), np.inf), np.full((4, 1), np.nan)],
)
def test_mean_rank_refuses(sources: np.ndarray) -> None:
    with pytest.raises(checks.UsageError, match=r"expected finite source values \[4, s >= 1\], got"):
        baselines.mean_rank(guard_of(EASY[:4], budget=2), sources)


def test_gaussian_process_beats_chance_and_knows_the_order() -> None:
    found = baselines.gaussian_process(guard_of(budget=35), ONE_HOT, seed=0)
    assert best_ranks(found.asked, EASY)[:, -1].mean() < 3 < expected_random_rank(N, 35) / 5
    assert kendall_tau(found.scores, EASY).min() > 0.5


def test_features_that_never_vary_or_change_unit_change_nothing() -> None:
    plain = baselines.gaussian_process(guard_of(), ONE_HOT, seed=0)
    scaled = baselines.gaussian_process(guard_of(), 1000 * ONE_HOT + 5, seed=0)
    np.testing.assert_array_equal(plain.asked, scaled.asked)
    same = baselines.gaussian_process(guard_of(), np.full((N, 2), 0.1), seed=0)
    assert np.ptp(same.scores, axis=1).max() < 1e-6


def test_start_rows_come_first_and_are_cut() -> None:
    start = np.arange(12).reshape(4, 3)
    found = baselines.gaussian_process(guard_of(), ONE_HOT, seed=0, start=start)
    np.testing.assert_array_equal(found.asked[:, :3], start)
    cut = baselines.gaussian_process(guard_of(budget=2), ONE_HOT, seed=0, start=start)
    np.testing.assert_array_equal(cut.asked, start[:, :2])
    random = baselines.random_search(guard_of(), seed=5)
    found = baselines.gaussian_process(guard_of(), ONE_HOT, seed=5)
    np.testing.assert_array_equal(found.asked[:, :10], random.asked[:, :10])


def test_rounds_tasks_and_seeds_share_one_program() -> None:
    baselines.gaussian_process(guard_of(), ONE_HOT, seed=0)
    compiled = baselines._advance._cache_size()
    baselines.gaussian_process(guard_of(-EASY), 2 * ONE_HOT, seed=1)
    assert baselines._advance._cache_size() == compiled


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"features": ONE_HOT[:5]}, r"expected finite features \[1024, f >= 1\]"),
        ({"features": np.full((N, 1), np.nan)}, r"expected finite features"),
        ({"blocks": (3, 4)}, r"expected blocks of at least 1 feature, 30 in all, got \(3, 4\)"),
        ({"blocks": (30, 0)}, r"expected blocks of at least 1 feature"),
        ({"batch": 0}, r"expected batch to be an integer >= 1, got 0"),
        ({"seed": -1}, r"expected seed to be an integer >= 0, got -1"),
        ({"start": np.zeros((4, 2), int)}, r"expected start rows \[4, k >= 1\] in 0..1023, none twice"),
        ({"start": np.zeros((3, 1), int)}, r"expected start rows"),
        ({"start": np.full((4, 1), N)}, r"expected start rows"),
        ({"start": np.zeros((4, 0), int)}, r"expected start rows"),
        ({"start": np.zeros((4, 1))}, r"expected start rows"),
    ],
)
def test_gaussian_process_refuses(arguments: dict, text: str) -> None:
    guard = guard_of()
    with pytest.raises(checks.UsageError, match=text):
        baselines.gaussian_process(guard, **({"features": ONE_HOT, "seed": 0} | arguments))
    assert guard.remaining.tolist() == [23] * 4
