"""Searchers that begin with another task's architectures, population or predictor."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transfer.searchers import TransferredPopulation, TransferredPredictor

from ncp_jax import load_table
from ncp_jax.benchmarks.view import History, QueryView
from ncp_jax.searchers import Candidates
from ncp_jax.searchers.ensemble import TrainingSet, draw_networks, predict_members


@pytest.fixture(scope="module")
def data() -> TrainingSet:
    x = jax.random.normal(jax.random.key(0), (12, 5))
    return TrainingSet(x, jnp.zeros(12), jnp.arange(12) < 9)


@pytest.fixture(scope="module")
def searcher() -> TransferredPredictor:
    source = jax.vmap(lambda key: draw_networks(key, 2, 5, 4, 1))(jax.random.split(jax.random.key(1), 3))
    return TransferredPredictor(members=2, width=4, best=3, trust=2.0, source=source, favourites=jnp.array([7, 8, 9]))


def test_the_weights_of_the_sources_are_those_of_a_ridge_regression(
    data: TrainingSet, searcher: TransferredPredictor
) -> None:
    predicted = np.stack(
        [predict_members(jax.tree.map(lambda leaf, i=i: leaf[i], searcher.source), data.x) for i in range(3)]
    )
    seen = predicted.mean(axis=1, dtype=float)[:, :9]
    centred = seen - seen.mean(axis=1, keepdims=True)
    targets = np.append(0.9 * centred[0] - 0.5 * centred[2], [7.0, 7.0, 7.0])  # the last three are padding
    x = np.concatenate([centred.T, np.sqrt(2) * np.eye(3)])
    weights = np.linalg.lstsq(x, np.append(targets[:9], np.sqrt(2) * np.full(3, 1 / 3)), rcond=None)[0]
    told = data._replace(y=jnp.asarray(targets, jnp.float32))
    np.testing.assert_allclose(searcher.weights(told), weights, atol=1e-4)
    np.testing.assert_allclose(searcher.weights(data._replace(used=jnp.zeros(12, bool))), 1 / 3, rtol=1e-5)
    # The anchors predict the weighted sum of what the sources' networks predict.
    anchors = searcher.anchors(jax.random.key(2), told)
    np.testing.assert_allclose(predict_members(anchors, data.x), np.einsum("s,smn->mn", weights, predicted), atol=1e-4)


def test_climbs_start_at_favourites_until_there_are_labels(searcher: TransferredPredictor) -> None:
    history = QueryView.of(load_table("digits/class"), budget=4).open().history
    assert searcher.known(history).tolist() == [7, 8, 9]
    history = history._replace(rows=jnp.array([5, 6, -1, -1]), values=jnp.array([0.1, 0.2, -jnp.inf, -jnp.inf]))
    assert searcher.known(history).tolist() == [6, 5, 9]


def test_a_population_of_another_task_comes_first() -> None:
    table = load_table("digits/class")
    candidates = Candidates.of(table)
    given = jnp.array([11, 12, 13, 14])
    (searcher,) = TransferredPopulation.together([TransferredPopulation(population=4, tournament=2, first=given)])
    assert isinstance(searcher, TransferredPopulation)
    history: History = QueryView.of(table, budget=6).open().history
    state, asked = searcher.start(candidates, 6, jax.random.key(0)), []
    for place in range(5):
        key = jax.random.fold_in(jax.random.key(1), place)
        rows, state = searcher.ask(candidates, state, history, key)
        state = searcher.tell(candidates, state, rows, jnp.ones(1))
        asked.append(int(rows[0]))
    assert asked[:4] == given.tolist()
    assert asked[4] in np.asarray(candidates.neighbours)[np.asarray(given)]
