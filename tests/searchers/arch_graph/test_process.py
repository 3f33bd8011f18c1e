"""Arch-Graph's Gaussian process, against closed forms in NumPy."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import ndtri

from ncp_jax import MetricSpec, Table, checks, get_space
from ncp_jax.analysis.ranks import best_ranks, kendall_tau
from ncp_jax.benchmarks import QueryGuard
from ncp_jax.searchers import Candidates
from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.searchers.arch_graph import ProcessConfig, ProcessSearch, process, process_model
from ncp_jax.searchers.arch_graph.search import final_order
from ncp_jax.searchers.arch_graph.source_choice import source_weights, weighted

SIZE = 96


@pytest.fixture(scope="module")
def candidates(codes: np.ndarray) -> Candidates:
    return Candidates.of_space("transnas-micro", codes[:SIZE])


@pytest.fixture(scope="module")
def evidence() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, SIZE, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def searched(candidates: Candidates, evidence: np.ndarray) -> ProcessSearch:
    return ProcessSearch(candidates, evidence, ProcessConfig(members=3000))


ROWS = np.array([[7, 40, 89, 3, 55, 20, 81, 14, -1, -1]], np.int32)
PAID = np.array([[0.3, 2.0, -1.0, 0.7, 0.7, 9.0, 4.0, -8.0, np.nan, np.nan]], np.float32)


def in_order(expected: np.ndarray) -> np.ndarray:
    """What was expected of the measured ones, in the order of ``PAID``; the two values of 0.7 share a place."""
    low = np.sort(expected)
    return np.array([low[2], low[5], low[1], low[3:5].mean(), low[3:5].mean(), low[7], low[6], low[0]])


def closed_form(searched: ProcessSearch, *, final: bool = False) -> tuple[gp.Kernel, np.ndarray, np.ndarray]:
    """Fitted kernel, posterior mean and covariance of all candidates, in float64: for a question, or in the end."""
    structure, evidence, blocks = searched._features
    rows, own = ROWS[0][:8], evidence[0]
    # Normal scores, worked out by hand: the two values of 0.7 share the ranks 4 and 5.
    z = ndtri((np.array([3, 6, 2, 4.5, 4.5, 8, 7, 1]) - 0.5) / 8)
    weights = source_weights(own, own[rows], jnp.asarray(z, jnp.float32), jnp.ones(8, bool))
    features = np.concatenate([structure, weighted(own, weights), np.ones((SIZE, 1))], axis=1)
    one = jax.tree.map(lambda leaf: leaf[0], searched._runs(searched._start((0,)), ROWS, PAID, (0,)))
    data, fitted = process_model.data_of(structure, evidence, one), jax.jit(process_model.fitted, static_argnums=3)
    np.testing.assert_allclose(data.features, features, atol=1e-6)
    np.testing.assert_allclose(data.scores[:8], in_order(features[rows, -2]), atol=1e-6)

    def posterior(z: np.ndarray, start: gp.Kernel) -> tuple[gp.Kernel, np.ndarray, np.ndarray]:
        padded = jnp.asarray(np.append(z, [0, 0]), jnp.float32)
        kernel = fitted(data._replace(scores=padded), start, one.centre, blocks).kernel
        prior = np.asarray(gp.covariance(kernel, gp.geometry(features, features, blocks)), float)
        noisy = prior[np.ix_(rows, rows)] + np.exp(float(kernel.noise)) * np.eye(8)
        gain = np.linalg.solve(noisy, prior[rows]).T
        return kernel, gain @ z, prior - gain @ prior[rows]

    asked = posterior(in_order(features[rows, -2]), one.kernel)
    if not final:
        return asked
    kernel, mean, _ = asked
    return posterior(in_order(((mean - mean.mean()) / mean.std())[rows]), kernel)


def test_questions_are_the_highest_optimistic_means_one_by_one(searched: ProcessSearch) -> None:
    kernel, mean, covariance = closed_form(searched)
    ties = searched._ties((0,))
    asked = np.asarray(searched._advance(searched._start((0,)), ROWS, PAID, ties, (0,), batch=5)[1])[0]
    networks = np.asarray(searched.candidates.classes)
    taken, wanted = set(np.flatnonzero(np.isin(networks, networks[ROWS[0][:8]])).tolist()), []
    for _ in range(5):
        score = mean + np.sqrt(np.maximum(np.diag(covariance), 0))
        score[list(taken)] = -np.inf
        row = int(np.argmax(score))
        wanted.append(row)
        taken |= set(np.flatnonzero(networks == networks[row]).tolist())
        column = covariance[row] / np.sqrt(covariance[row, row] + np.exp(float(kernel.noise)))
        covariance = covariance - np.outer(column, column)
    assert asked.tolist() == wanted


def test_relations_are_those_of_the_posterior(searched: ProcessSearch) -> None:
    """Members have the posterior's mean and a share of its deviations; the slope is that of two measurements' noise."""
    kernel, mean, covariance = closed_form(searched, final=True)
    found = searched._concluded(searched._start((0,)), ROWS, PAID, searched._ties((0,)), (0,))
    np.testing.assert_allclose(found.scores[0], mean, atol=2e-3)
    slope = 0.35 * 1.702 / np.sqrt(2 * max(np.exp(float(kernel.noise)), 0.01))
    draws = np.asarray(found.utilities[0]) / slope
    np.testing.assert_allclose(draws.mean(axis=0), mean, atol=2e-3)
    # The smooth part is a sum of finitely many cosines.
    np.testing.assert_allclose(np.cov(draws.T) / 0.25**2, covariance, atol=0.15 * covariance.max())
    # The measured have the places that the model gives to all of them, by their values.
    assert found.measured.shape == (1, 8)
    assert found.measured[0][3] == pytest.approx(found.measured[0][4])
    np.testing.assert_array_equal(np.argsort(-found.measured[0], kind="stable"), [5, 6, 1, 3, 4, 0, 2, 7])


def test_the_best_alone_are_placed_at_the_top_of_all(candidates: Candidates) -> None:
    """Where a search measured the best, their noise does not become the order of all candidates."""
    rng = np.random.default_rng(3)
    truth = rng.normal(size=SIZE).astype(np.float32)
    evidence = (truth + 0.1 * rng.normal(size=SIZE)).astype(np.float32)
    top = np.argsort(-truth)[:12].astype(np.int32)
    measured = truth[top] + 0.2 * rng.normal(size=12).astype(np.float32)
    search = ProcessSearch(candidates, evidence[None, :, None])
    found = search._concluded(search._start((0,)), top[None], measured[None], search._ties((0,)), (0,))
    assert kendall_tau(found.scores, truth)[0] > 0.9
    # Normal scores of the twelve are as many below as above 0, which is the mean of all.
    assert (found.scores[0][top] > np.quantile(found.scores[0], 0.7)).all()


def table_of(values: np.ndarray, codes: np.ndarray) -> Table:
    spec = MetricSpec("accuracy", direction="maximize")
    column = np.asarray(values)[:, None]
    return Table.from_arrays("t", space="transnas-micro", codes=codes, values=column, metrics=[spec])


def test_batches_and_slots_grow_with_what_is_paid_for(candidates: Candidates) -> None:
    plain = ProcessSearch(candidates)
    sizes = [plain._batch(done) for done in (1, 24, 49, 50, 99, 100, 400)]
    assert sizes == [1, 1, 1, 2, 2, 4, 16]
    assert ProcessSearch(candidates, config=ProcessConfig(batch=3))._batch(400) == 3
    assert [process._slots(done, 500) for done in (1, 64, 65, 129, 300)] == [64, 64, 128, 256, 500]
    assert process._slots(3, 23) == 23


def test_many_measurements_take_several_shapes_and_end_at_the_budget(
    candidates: Candidates, codes: np.ndarray, quality: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "SLOTS", 8)
    monkeypatch.setattr(process, "SHARE", 6)
    monkeypatch.setattr(process_model, "FITTED", 10)
    guard = QueryGuard(table_of(quality[0, :SIZE], codes[:SIZE]), "accuracy", budget=24, runs=2)
    told: list[int] = []
    found = ProcessSearch(candidates, seed=4).run(guard, (0, 1), lambda done, budget: told.append(done))
    assert told == [3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16, 18, 20, 22, 24]
    assert all(len(set(run)) == 24 for run in found.asked.tolist())
    order, answer = final_order(found, 1, time_limit=0.1)  # nothing below asks for a proof
    measured = [row for row in order.tolist() if row in set(found.asked[1].tolist())]
    assert measured == sorted(measured, key=lambda row: -quality[0, row])
    assert answer.upper_bound >= answer.weight


def test_a_batch_beyond_the_budget_is_one_of_the_budget(
    candidates: Candidates, codes: np.ndarray, quality: np.ndarray
) -> None:
    """As large as it is given, the program's memory would be that of a billion times the candidates."""
    guard = QueryGuard(table_of(quality[0, :SIZE], codes[:SIZE]), "accuracy", budget=9)
    found = ProcessSearch(candidates, config=ProcessConfig(batch=10**9)).run(guard, (0,))
    assert len(set(found.asked[0].tolist())) == 9


def test_what_comes_next(candidates: Candidates, evidence: np.ndarray, quality: np.ndarray) -> None:
    plain, none = ProcessSearch(candidates), np.empty(0, np.int32)
    opening, model = plain.next(none, none.astype(np.float32), 50)
    assert (len(opening), model) == (3, None)
    rest, model = plain.next(opening[:2], quality[0, opening[:2]], 50)
    np.testing.assert_array_equal(rest, opening[2:])
    wanted, model = plain.next(opening, quality[0, opening], 50)
    assert model is not None
    assert len(wanted) == 4
    assert not set(wanted.tolist()) & set(opening.tolist())
    assert len(plain.next(opening, quality[0, opening], 0)[0]) == 0
    led = ProcessSearch(candidates, evidence, ProcessConfig(batch=2))
    worth = evidence[0].mean(axis=-1)
    assert led.next(none, none.astype(np.float32), 50)[0].tolist() == np.argsort(-worth)[:2].tolist()
    assert led.next(opening[:1], quality[0, opening[:1]], 50)[1] is not None
    every = np.arange(SIZE, dtype=np.int32)
    wanted, model = plain.next(every, quality[0, :SIZE], 7)
    assert len(wanted) == 0
    assert model is not None


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"first": 0}, "first"),
        ({"batch": -1}, "batch"),
        ({"members": 0}, "members"),
        ({"optimism": -0.1}, "optimism"),
        ({"trust": 1.0}, "0.5 <= trust < 1"),
    ],
)
def test_configurations_check_themselves(change: dict, text: str) -> None:
    with pytest.raises(checks.UsageError, match=text):
        ProcessConfig(**change)


@pytest.fixture(scope="module")
def asked(candidates: Candidates, codes: np.ndarray, quality: np.ndarray) -> Callable[..., np.ndarray]:
    """Rows that eight runs with some evidence ask for, [8, 24]."""

    def run(evidence: np.ndarray | None) -> np.ndarray:
        guard = QueryGuard(table_of(quality[0, :SIZE], codes[:SIZE]), "accuracy", budget=24, runs=8)
        return np.asarray(ProcessSearch(candidates, evidence).run(guard, range(8)).asked)

    return run


@pytest.fixture(scope="module")
def without(asked: Callable[..., np.ndarray]) -> np.ndarray:
    return asked(None)


NOISE = np.random.default_rng(3).normal(size=(8, SIZE, 2)).astype(np.float32)


def test_sources_of_noise_cost_little(
    asked: Callable[..., np.ndarray], without: np.ndarray, quality: np.ndarray
) -> None:
    """Also where they are not left out; the experiment measures it on whole benchmarks."""
    misled, free = (best_ranks(rows, quality[0, :SIZE])[:, -1].mean() for rows in (asked(NOISE), without))
    assert misled < free + 1.5


def test_a_run_whose_sources_say_nothing_is_one_without_sources(
    asked: Callable[..., np.ndarray], without: np.ndarray, candidates: Candidates
) -> None:
    """Also beside runs whose sources say something, which begin with what is best on them."""
    evidence = NOISE.copy()
    evidence[::2] = 0
    found = asked(evidence)
    np.testing.assert_array_equal(found[::2], without[::2])
    np.testing.assert_array_equal(found[1::2, 0], evidence[1::2].mean(axis=-1).argmax(axis=1))
    silent = ProcessSearch(candidates, evidence[:1])
    opening, model = silent.next(np.empty(0, np.int32), np.empty(0, np.float32), 50)
    assert (opening.tolist(), model) == (without[0, :3].tolist(), None)


@pytest.mark.parametrize("sources", [False, True])
def test_a_network_is_asked_for_again_only_after_all_others(sources: bool) -> None:
    """Of NAS-Bench-201's codes, three codes each of twelve networks; first from an empty run, then in batches."""
    space = get_space("nas-bench-201")
    every = np.asarray(space.all_codes())
    networks = np.asarray(space.networks(jnp.asarray(every)))
    several = np.unique(networks, return_counts=True)
    chosen = several[0][several[1] >= 3][:12]
    rows = np.concatenate([np.flatnonzero(networks == network)[:3] for network in chosen])
    values = np.random.default_rng(1).normal(size=len(rows))
    spec = MetricSpec("accuracy", direction="maximize")
    table = Table.from_arrays("t", space=space, codes=every[rows], values=values[:, None], metrics=[spec])
    evidence = np.random.default_rng(2).normal(size=(1, 12, 2)).astype(np.float32).repeat(3, axis=1)
    search = ProcessSearch(Candidates.of(table), evidence if sources else None, ProcessConfig(batch=2))
    guard = QueryGuard(table, "accuracy", budget=16, runs=3)
    asked = networks[rows][search.run(guard, range(3)).asked]
    assert all(len(set(run[:12].tolist())) == 12 for run in asked)
    opening, _ = search.next(np.empty(0, np.int32), np.empty(0, np.float32), 12)
    assert len(set(networks[rows][opening].tolist())) == 2
    more, _ = search.next(opening, values[opening].astype(np.float32), 14)
    assert not set(networks[rows][more].tolist()) & set(networks[rows][opening].tolist())
