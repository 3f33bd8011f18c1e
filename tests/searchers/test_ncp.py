"""Climbs, projections and the search by them, on small tables: complete, partial, with ties."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import MetricSpec, Table, get_space
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers import Candidates, NCPSearch, Runs, ensemble, inputs, make_searcher, ncp, search
from ncp_jax.searchers.ensemble_search import Learned
from ncp_jax.searchers.inputs import network_features
from ncp_jax.searchers.run import search_compiled

Run = Callable[..., Runs]
SPACES = ("transnas-micro", "transnas-macro", "nas-bench-mr")
# As in a search, whole programs: to compile each operation on its own takes several times longer.
draw_networks = jax.jit(ensemble.draw_networks, static_argnums=(1, 2, 3, 4))
predict, input_units = jax.jit(ensemble.predict), jax.jit(inputs.input_units)
network_inputs = jax.jit(inputs.network_inputs, static_argnums=0)
climb, nearest_rows = jax.jit(ncp.climb, static_argnames="steps"), jax.jit(ncp.nearest_rows)


def tiny(**settings: object) -> NCPSearch:
    few = {"first": 4, "least": 2, "most": 3, "members": 2, "width": 8, "steps": 3, "best": 3, "strangers": 1}
    return make_searcher("ncp", **(few | {"polish": 2} | settings))


@functools.cache
def some(name: str, n: int = 60) -> Candidates:
    space = get_space(name)
    return Candidates.of_space(space, np.unique(np.asarray(space.sample(jax.random.key(0), n)), axis=0))


def network(candidates: Candidates) -> tuple:
    features = network_features(candidates)
    return tuple(jnp.asarray(np.asarray(w)[0]) for w in draw_networks(jax.random.key(1), 1, features, 16, 1))


@pytest.mark.parametrize("name", SPACES)
def test_small_steps_climb(name: str) -> None:
    candidates = some(name)
    starts = np.asarray(candidates.relaxed)[:20]
    x, what = 0.6 * starts[:10] + 0.4 * starts[10:], network(candidates)
    units = input_units(candidates)
    way = climb(candidates, units, what, x, rate=0.01, steps=5).reshape(5, 10, -1)

    def said(x: jax.Array) -> np.ndarray:
        return np.asarray(predict(what, network_inputs(name, x, units)))

    heights = np.stack([said(x), *(said(step) for step in way)])
    assert (heights[-1] > heights[0]).all()
    assert (np.diff(heights.mean(axis=1)) > 0).all()


@pytest.mark.parametrize("rate", [0.3, 100.0])
@pytest.mark.parametrize("name", SPACES)
def test_climbs_stay_inside(name: str, rate: float) -> None:
    candidates, space = some(name), get_space(name)
    units, starts = input_units(candidates), candidates.relaxed[:10]
    way = np.asarray(climb(candidates, units, network(candidates), starts, rate=rate, steps=6))
    assert way.shape == (60, space.features)
    assert np.isfinite(way).all()
    assert (way >= space.lower - 1e-5).all()
    assert (way <= space.upper + 1e-5).all()
    if name != "nas-bench-mr":
        np.testing.assert_allclose(way.reshape(60, space.length, -1).sum(axis=-1), 1, atol=1e-4)


def test_steps_have_the_length_of_the_rate() -> None:
    candidates = some("nas-bench-mr")
    space = get_space("nas-bench-mr")
    middle = jnp.asarray((space.lower + space.upper) / 2)[None]
    units = input_units(candidates)
    moved = climb(candidates, units, network(candidates), middle, rate=0.25, steps=1) - middle
    assert float(jnp.linalg.norm(moved / candidates.relaxed.std(axis=0))) == pytest.approx(0.25, rel=1e-3)


def ties_of(candidates: Candidates) -> jax.Array:
    return jax.random.uniform(jax.random.key(9), (len(candidates),))


@pytest.mark.parametrize("name", ["transnas-micro", "transnas-macro"])
def test_rows_of_a_complete_space_are_those_of_the_projected_codes(name: str) -> None:
    space = get_space(name)
    order = np.random.default_rng(0).permutation(space.size)
    candidates = Candidates.of_space(space, space.all_codes()[order])
    x = np.random.default_rng(1).uniform(size=(50, space.features)).astype(np.float32)
    np.testing.assert_array_equal(
        candidates.codes[nearest_rows(candidates, jnp.asarray(x), ties_of(candidates))], space.project(x)
    )


@pytest.mark.parametrize("name", SPACES)
def test_rows_of_a_part_are_the_nearest(name: str) -> None:
    candidates, space = some(name), get_space(name)
    own = nearest_rows(candidates, candidates.relaxed, ties_of(candidates))
    np.testing.assert_array_equal(own, np.arange(len(candidates)))
    wanted = np.asarray(space.encode(space.sample(jax.random.key(5), 30)), np.float64)
    relaxed = np.asarray(candidates.relaxed, np.float64)
    spread = relaxed.std(axis=0)
    scale = np.where(spread > 0, 1 / np.maximum(spread, 1e-9), 0)
    far = (((wanted[:, None] - relaxed) * scale) ** 2).sum(axis=-1)
    found = np.asarray(nearest_rows(candidates, jnp.asarray(wanted, jnp.float32), ties_of(candidates)))
    np.testing.assert_allclose(far[np.arange(30), found], far.min(axis=1), rtol=1e-4)


def test_what_is_reached_comes_before_what_is_near(candidates: Candidates) -> None:
    what = network(candidates)
    units = input_units(candidates)
    everything, starts = network_inputs(candidates.space, candidates.relaxed, units), jnp.array([3, 50])
    learned = Learned(everything, units, data=None, networks=None)
    scores = np.asarray(jax.jit(tiny()._reached)(candidates, learned, what, starts, ties_of(candidates)))
    said = np.asarray(predict(what, everything))
    reached = scores > -500
    assert {3, 50} <= set(np.flatnonzero(reached).tolist())
    assert 2 < reached.sum() < len(candidates)
    np.testing.assert_allclose(scores[reached], said[reached], rtol=1e-4, atol=1e-5)
    # The neighbours of the best that was reached are among it: the single edits that polish.
    begin = candidates.relaxed[starts]
    climbed = climb(candidates, units, what, begin, rate=1.0, steps=3)
    climbed = nearest_rows(candidates, climbed, ties_of(candidates))
    seen = np.unique([3, 50, *np.asarray(climbed).tolist()])
    top = seen[said[seen].argmax()]
    near = np.asarray(candidates.neighbours)[top, : int(candidates.degree[top])]
    assert reached[near].all()


def test_it_finds_the_best_of_a_sum_over_positions(run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=30)
    worth = np.random.default_rng(0).normal(size=(6, 4))[np.arange(6), np.asarray(small.codes)].sum(axis=1)
    view = dataclasses.replace(view, values=jnp.asarray(worth, jnp.float32))
    runs = run(tiny(members=5, width=32, noise=0.1), range(10), view)
    chance = 1 - (1 - 1 / len(small)) ** 30  # of random search, about 0.12
    assert (runs.values.max(axis=1) == worth.astype(np.float32).max()).mean() > 4 * chance


def mr_like() -> Table:
    space = get_space("nas-bench-mr")
    codes = np.unique(np.asarray(space.sample(jax.random.key(2), 40)), axis=0)
    return Table.from_arrays(
        "part", space=space, codes=codes, values=codes.sum(axis=1, keepdims=True) * 1.0, metrics=[MetricSpec("acc")]
    )


def test_a_part_of_a_space_is_asked_for_once_to_the_end() -> None:
    table = mr_like()
    view = QueryView.of(table, budget=len(table))
    searchers = jax.tree.map(lambda leaf: np.asarray([leaf] * 2), tiny())
    runs = search(searchers, np.arange(2, dtype=np.int32), Candidates.of(table), view)
    assert (np.sort(np.asarray(runs.rows), axis=1) == np.arange(len(table))).all()
    # The best of a smooth function comes early.
    assert (np.asarray(runs.values).argmax(axis=1) < len(table) / 2).all()


def test_the_whole_table_is_asked_for_once(run: Run, small: Table) -> None:
    runs = run(tiny(), [0, 1], QueryView.of(small, budget=len(small)))
    assert (np.sort(runs.rows, axis=1) == np.arange(len(small))).all()
    assert (runs.asks == len(small)).all()


@pytest.mark.parametrize("constant", [True, False])
def test_ties_and_constant_values(constant: bool, run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=20)
    view = dataclasses.replace(view, values=jnp.zeros_like(view.values) if constant else jnp.sign(view.values))
    runs = run(tiny(), [0, 1], view)
    assert (runs.count == 20).all()
    assert all(len(set(line)) == 20 for line in runs.rows.tolist())


def test_a_budget_below_the_first_ones_and_the_starts(run: Run, small: Table) -> None:
    assert run(tiny(first=10, best=50), [0], QueryView.of(small, budget=2)).count.tolist() == [2]


def test_memory_counts_the_look_up_of_a_part(candidates: Candidates) -> None:
    assert tiny().memory(candidates, 200) > tiny().memory(candidates, 20) > 0
    assert tiny(steps=30).memory(candidates, 20) > tiny().memory(candidates, 20)


def test_a_second_call_compiles_nothing(run: Run, small: Table) -> None:
    view = QueryView.of(small, budget=20)
    run(tiny(), [1, 2], view)
    compiled = search_compiled._cache_size()
    run(tiny(rate=0.3, noise=1.0), [3, 4], view)
    assert search_compiled._cache_size() == compiled
