"""NCP with labels of a target: its targets, starts, and what it makes of networks of other tasks."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from transfer.inversion import ExponentialNCP, GivenStarts, SourcesAndDifference, weighted_sum
from transfer.pairs import Tasks
from transfer.source_networks import SourceNetworks

from ncp_jax import load_table
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.predictors.targets import exponential_scores
from ncp_jax.searchers import Candidates, NCPSearch
from ncp_jax.searchers.ensemble import Network, TrainingSet, draw_networks, predict, predict_members
from ncp_jax.searchers.inputs import input_units, network_inputs

MEMBERS, UNITS, SOURCES = 2, 4, 3


def networks(number: int) -> Network:
    """Random networks of each source."""
    keys = jax.random.split(jax.random.key(number), SOURCES)
    return jax.vmap(lambda key: draw_networks(key, MEMBERS, 5, UNITS, 1))(keys)


def told_by(source: Network, x: Any) -> np.ndarray:
    return np.stack([predict_members(jax.tree.map(lambda leaf, i=i: leaf[i], source), x) for i in range(SOURCES)], 1)


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    x = jax.random.normal(jax.random.key(0), (12, 5))
    return TrainingSet(x, jax.random.normal(jax.random.key(1), (12,)), jnp.arange(12) < 9)


@pytest.fixture(scope="module")
def method() -> SourcesAndDifference:
    return SourcesAndDifference(members=MEMBERS, width=UNITS, spread=0.8, share=0.6, noise=0.3, source=networks(2))


def test_targets_are_exponential_scores_and_climbs_start_where_they_are_told() -> None:
    history = QueryView.of(load_table("digits/class"), budget=4).open().history
    history = history._replace(
        rows=jnp.array([5, 6, 8, -1]), values=jnp.array([0.1, 0.3, 0.2, -jnp.inf]), count=jnp.int32(3)
    )
    inputs = jnp.arange(20.0)[:, None]
    data = ExponentialNCP().training_data(history, inputs)
    np.testing.assert_allclose(data.y, exponential_scores(history.values, jnp.arange(4) < 3))
    assert data.x[:3, 0].tolist() == [5, 6, 8]
    assert GivenStarts(given=jnp.array([1, 2])).known(history).tolist() == [1, 2]


def test_a_weighted_sum_of_networks_is_one_network(data: TrainingSet) -> None:
    source, own = networks(2), draw_networks(jax.random.key(3), MEMBERS, 5, UNITS, 1)
    weights = np.array([[0.5, -1.0, 2.0], [0.0, 0.3, 0.1]], np.float32)
    wanted = np.einsum("ms,msb->mb", weights, told_by(source, data.x)) + 0.7 * predict_members(own, data.x)
    found = weighted_sum(source, jnp.asarray(weights), own, 0.7)
    np.testing.assert_allclose(predict_members(found, data.x), wanted, atol=1e-4)


def test_the_weights_solve_the_least_squares_problem_of_weights_and_difference(
    data: TrainingSet, method: SourcesAndDifference
) -> None:
    told = told_by(method.source, data.x)[0]
    own = jax.tree.map(lambda leaf: leaf[0], draw_networks(jax.random.key(3), MEMBERS, 5, UNITS, 1))
    drawn = np.array([0.2, -0.4, 1.0])
    flat, back = ravel_pytree(own)
    slopes = np.asarray(jax.jacfwd(lambda p: predict(back(p), data.x))(flat), float)[:9]
    # Unknowns in units of their priors: changes of the weights, changes of the network.
    design = np.concatenate([0.8 * told.T[:9], 0.6 * slopes], axis=1) / 0.3
    wrong = (np.asarray(data.y) - drawn @ told - 0.6 * np.asarray(predict(own, data.x)))[:9] / 0.3
    size = design.shape[1]
    solved = np.linalg.lstsq(
        np.concatenate([design, np.eye(size)]), np.concatenate([wrong, np.zeros(size)]), rcond=None
    )[0]
    found = method._weights(jnp.asarray(drawn, jnp.float32), jnp.asarray(told), own, data.y, data)
    np.testing.assert_allclose(found, drawn + 0.8 * solved[:3], atol=1e-3)


def test_many_labels_do_not_need_the_memory_of_a_jacobian() -> None:
    """Twenty runs with 500 labels and 64 units asked for 26 GB, as all derivatives of a member took 64 MB."""
    method, inputs, labels = SourcesAndDifference(members=1, width=64, depth=1), 50, 500
    own = jax.eval_shape(lambda: jax.tree.map(lambda leaf: leaf[0], draw_networks(jax.random.key(0), 1, inputs, 64, 1)))
    shape = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.float32)
    data = TrainingSet(shape((labels, inputs)), shape((labels,)), jax.ShapeDtypeStruct((labels,), bool))
    solve = jax.jit(method._weights).lower(shape((6,)), shape((6, labels)), own, shape((labels,)), data).compile()
    assert solve.memory_analysis().temp_size_in_bytes < 16 * 4 * labels**2


def test_padding_changes_nothing(data: TrainingSet, method: SourcesAndDifference) -> None:
    # The noise of a label depends on the number of slots, so both sets have as many.
    other = data._replace(x=data.x.at[9:].add(3.0), y=data.y.at[9:].set(99.0))
    keys = jax.random.key(5), jax.random.key(6)
    for a, b in zip(method.trained(*keys, data), method.trained(*keys, other), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_a_source_that_agrees_is_used_and_one_that_does_not_is_not(method: SourcesAndDifference, sign: int) -> None:
    """The first source says all about the labels, right or upside down, the others nothing."""
    x = jax.random.normal(jax.random.key(0), (60, 5))
    source = networks(2)
    told = told_by(source, x).mean(axis=0)
    y = jnp.asarray(2 * sign * told[0] / told[0].std())
    few = TrainingSet(x[:40], y[:40], jnp.ones(40, bool))
    fitted = method.trained(jax.random.key(5), jax.random.key(6), few)
    # Trained without any source, by the same method.
    nothing = dataclasses.replace(method, source=(source[0], 0 * source[1]))
    alone = nothing.trained(jax.random.key(5), jax.random.key(6), few)
    wrong = [float(jnp.mean((predict_members(one, x[40:]).mean(axis=0) - y[40:]) ** 2)) for one in (fitted, alone)]
    assert wrong[0] < 0.5 * wrong[1]


def test_networks_of_complete_sources_are_the_same_in_all_runs() -> None:
    tables = [load_table(f"digits/{name}").select(np.arange(0, 4096, 16)) for name in ("class", "rotation", "edges")]
    tasks = Tasks.choose(tables, (), ())
    method = NCPSearch(members=2, width=8, sweeps=2)
    complete = SourceNetworks(tasks).of(method, "class", "all", (3, 4))
    assert complete[0].shape[:3] == (2, 2, 2)  # runs, sources, members
    np.testing.assert_array_equal(complete[1][0], complete[1][1])
    some = SourceNetworks(tasks, 20).of(method, "class", "rotation", (3, 4))
    assert some[0].shape[:3] == (2, 1, 2)
    assert np.abs(some[1][0] - some[1][1]).max() > 0.01
    # They have learned their own table, the second one that of "edges".
    candidates = Candidates.of(tables[0])
    inputs = network_inputs(candidates.space, candidates.relaxed, input_units(candidates))
    for place, name in enumerate(("rotation", "edges")):
        told = predict_members(jax.tree.map(lambda leaf, i=place: jnp.asarray(leaf[0, i]), complete), inputs)
        scores = exponential_scores(jnp.asarray(tasks.values([name])[0]), jnp.ones(len(inputs), bool))
        assert np.corrcoef(told.mean(axis=0), scores)[0, 1] > 0.7
