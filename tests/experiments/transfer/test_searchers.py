"""Searchers that begin with another task's architectures, population or predictor."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transfer.searchers import TransferredPopulation, TransferredPredictor, TransferredStarts

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
    source = draw_networks(jax.random.key(1), 2, 5, 4, 1)
    return TransferredPredictor(members=2, width=4, best=3, trust=2.0, source=source, favourites=jnp.array([7, 8, 9]))


def test_how_much_of_the_source_is_kept(data: TrainingSet, searcher: TransferredPredictor) -> None:
    predicted = np.asarray(predict_members(searcher.source, data.x).mean(axis=0), float)[:9]
    centred = predicted - predicted.mean()
    for share, expected in ((1.0, 1.0), (0.4, None), (-1.0, None), (3.0, 1.0)):
        targets = jnp.zeros(12).at[:9].set(share * centred)
        squares = (centred**2).sum()
        slope = np.clip((share * squares + 2.0) / (squares + 2.0), 0, 1)
        found = searcher.slope(data._replace(y=targets))
        np.testing.assert_allclose(found, slope if expected is None else expected, atol=1e-5)
        # Anchors predict so much of what the source's networks predict.
        anchors = searcher.anchors(jax.random.key(2), data._replace(y=targets))
        flat = [network[-1].at[:, -1].set(0.0) for network in (anchors, searcher.source)]
        np.testing.assert_allclose(flat[0], float(found) * flat[1], atol=1e-6)
    nothing = data._replace(used=jnp.zeros(12, bool))
    assert searcher.slope(nothing) == 1.0


def test_climbs_start_at_favourites_until_there_are_labels(searcher: TransferredPredictor) -> None:
    history = QueryView.of(load_table("digits/class"), budget=4).open().history
    assert searcher.known(history).tolist() == [7, 8, 9]
    history = history._replace(rows=jnp.array([5, 6, -1, -1]), values=jnp.array([0.1, 0.2, -jnp.inf, -jnp.inf]))
    assert searcher.known(history).tolist() == [6, 5, 9]
    assert TransferredStarts(given=jnp.array([1, 2])).known(history).tolist() == [1, 2]


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
