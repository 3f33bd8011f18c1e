"""What the neural ensemble adds to what every searcher keeps to (test_run)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

from ncp_jax import Table, UsageError
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers import Candidates, NeuralEnsemble, Runs, make_searcher
from ncp_jax.searchers.neural import ACQUISITIONS
from ncp_jax.searchers.run import search_compiled

Run = Callable[..., Runs]


def tiny(**settings: object) -> NeuralEnsemble:
    settings = {"first": 4, "least": 2, "most": 3, "members": 2, "width": 8} | settings
    return make_searcher("neural-ensemble", **settings)


@pytest.mark.parametrize("acquisition", ACQUISITIONS)
def test_it_finds_the_best_of_a_sum_over_positions(acquisition: str, run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=30)
    worth = np.random.default_rng(0).normal(size=(6, 4))[np.arange(6), np.asarray(small.codes)].sum(axis=1)
    view = dataclasses.replace(view, values=jnp.asarray(worth, jnp.float32))
    runs = run(tiny(acquisition=acquisition, members=5, width=32, noise=0.1), range(10), view)
    chance = 1 - (1 - 1 / len(small)) ** 30  # of random search, about 0.12
    assert (runs.values.max(axis=1) == worth.astype(np.float32).max()).mean() > 4 * chance


@pytest.mark.parametrize("constant", [True, False])
def test_ties_and_constant_values(constant: bool, run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=20)
    view = dataclasses.replace(view, values=jnp.zeros_like(view.values) if constant else jnp.sign(view.values))
    for acquisition in ACQUISITIONS:
        runs = run(tiny(acquisition=acquisition), [0, 1], view)
        assert (runs.count == 20).all()
        assert all(len(set(line)) == 20 for line in runs.rows.tolist())


def test_the_whole_table_is_asked_for_once(run: Run, small: Table) -> None:
    runs = run(tiny(), [0, 1], QueryView.of(small, budget=len(small)))
    assert (np.sort(runs.rows, axis=1) == np.arange(len(small))).all()
    assert (runs.asks == len(small)).all()


def test_a_budget_below_the_first_ones(run: Run, small: Table) -> None:
    runs = run(tiny(first=10), [0], QueryView.of(small, budget=1))
    assert runs.count.tolist() == [1]


def test_scores_of_each_acquisition() -> None:
    said = jnp.array([[0.0, 1.0, 3.0], [2.0, 1.0, 0.0]])
    best = jnp.float32(2.0)
    np.testing.assert_array_equal(tiny(most=3)._scores(said, best), said[jnp.array([0, 1, 0])])
    mean, spread = np.array([1, 1, 1.5]), np.array([1, 1e-6, 1.5])
    bound = tiny(acquisition="ucb", optimism=2.0)._scores(said, best)
    np.testing.assert_allclose(bound, np.tile(mean + 2 * spread, (3, 1)), rtol=1e-6)
    gain = tiny(acquisition="expected-improvement")._scores(said, best)[0]
    gap = (mean - 2) / spread
    np.testing.assert_allclose(np.exp(gain)[::2], (spread * (gap * norm.cdf(gap) + norm.pdf(gap)))[::2], rtol=1e-4)
    assert gain[1] < min(gain[0], gain[2])


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="acquisition"):
        tiny(acquisition="greedy")
    with pytest.raises(UsageError, match="noise"):
        tiny(noise=0.0)


def test_memory_grows_with_table_members_and_budget(candidates: Candidates) -> None:
    least = tiny().memory(candidates, 20)
    assert least > 0
    assert tiny(members=4).memory(candidates, 20) > least
    assert tiny().memory(candidates, 200) > least


def test_a_second_call_compiles_nothing(run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=20)
    run(tiny(), [1, 2], view)
    compiled = search_compiled._cache_size()
    run(tiny(noise=1.0, least=1), [3, 4], view)
    assert search_compiled._cache_size() == compiled
