"""Policy gradient: the policy is a distribution over the candidates, and its steps make good ones more probable."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import Table
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers import Candidates, Reinforce, make, search
from ncp_jax.searchers.reinforce import Letters, _draw, _tree, _uniform, chance, scores_among
from ncp_jax.searchers.run import run_keys
from ncp_jax.spaces import get_space

SMALL = {"width": 8, "draws": 4}


@pytest.fixture(scope="module")
def policy(candidates: Candidates) -> Any:
    """A policy that is far from uniform."""
    weights = make(Reinforce, SMALL).policy(candidates, jax.random.fold_in(jax.random.key(0), 1))
    return jax.tree.map(lambda leaf: 8 * leaf, weights)


def written(candidates: Candidates) -> Letters:
    """Every candidate as a controller writes it, by brute force over the codes."""
    codes = np.asarray(candidates.codes)
    values = [np.array(some) for some in get_space(candidates.space).values]
    most = max(map(len, values))
    beginnings = {tuple(code[:k]) for code in codes.tolist() for k in range(codes.shape[1] + 1)}
    legal = np.zeros((*codes.shape, most), bool)
    for row, code in enumerate(codes.tolist()):
        for place, some in enumerate(values):
            legal[row, place, : len(some)] = [(*code[:place], int(value)) in beginnings for value in some]
    places = np.stack([np.searchsorted(some, codes[:, i]) for i, some in enumerate(values)], axis=1)
    return Letters(jnp.asarray(places, jnp.int32), jnp.asarray(legal), jnp.zeros(len(codes)))


def test_the_policy_is_a_distribution_over_the_candidates(candidates: Candidates, policy: Any) -> None:
    every = written(candidates)
    chances, entropies = jax.vmap(lambda one: chance(policy, one))(every)
    probability = np.exp(np.asarray(chances, float))
    assert probability.sum() == pytest.approx(1, abs=1e-5)
    assert probability.max() > 3 * probability.min()
    # The chain rule: the entropy of the whole is the mean of the entropies of the letters.
    assert (probability * np.asarray(entropies)).sum() == pytest.approx(
        -(probability * np.log(probability)).sum(), 1e-4
    )
    # Draws have these probabilities, and their rows are the codes that were written.
    bits = jax.random.bits(jax.random.key(1), (20_000, *every.legal.shape[1:]))
    noise, tree = -jnp.log(-jnp.log(_uniform(bits))), _tree(candidates)
    rows, drawn = jax.jit(jax.vmap(lambda one: _draw(policy, tree, one)))(noise)
    np.testing.assert_array_equal(drawn.places, every.places[rows])
    np.testing.assert_array_equal(drawn.legal, every.legal[rows])
    np.testing.assert_allclose(drawn.chances, chances[rows], rtol=1e-4)
    expected = len(rows) * probability
    squares = (np.bincount(rows, minlength=len(expected)) - expected) ** 2 / expected
    assert squares.sum() < len(expected) + 5 * np.sqrt(2 * len(expected))


def test_noise_is_finite_for_every_word() -> None:
    bits = jnp.array([0, 255, 256, 2**31, 2**32 - 256, 2**32 - 1], jnp.uint32)
    uniform = np.asarray(_uniform(bits))
    assert (uniform.min() > 0) & (uniform.max() < 1)
    assert (np.diff(uniform) >= 0).all()
    assert np.isfinite(-jnp.log(-jnp.log(uniform))).all()


def test_letters_go_on_to_a_candidate_in_a_part_of_a_space(small: Table) -> None:
    """Every third code: many beginnings leave one letter only."""
    part = Candidates.of(small.select(np.arange(len(small)) % 3 == 1))
    tree, every = _tree(part), written(part)
    node = jnp.zeros(len(part), jnp.int32)
    for place in range(every.places.shape[1]):
        below = tree.below[place, node]
        np.testing.assert_array_equal(below >= 0, every.legal[:, place])
        node = jnp.take_along_axis(below, every.places[:, place, None], axis=1)[:, 0]
    np.testing.assert_array_equal(tree.rows[node], np.arange(len(part)))


def test_scores_are_those_of_ranks_among_what_was_paid_for(small: Table) -> None:
    history = QueryView.of(small, budget=6).open().history
    history = history._replace(values=jnp.array([3.0, 1.0, 2.0, 2.0, -jnp.inf, -jnp.inf]), count=jnp.asarray(4))
    found = scores_among(jnp.array([3.0, 2.0, 1.0]), history.values, history.count)
    np.testing.assert_allclose(found, [1.15035, 0.0, -1.15035], atol=1e-4)  # the quantiles of 7/8, 1/2 and 1/8


def test_a_policy_learns_and_is_returned(small: Table, candidates: Candidates) -> None:
    view, searcher = QueryView.of(small, budget=40), make(Reinforce, {**SMALL, "rate": 0.05})
    several = jax.tree.map(lambda leaf: np.array([leaf, 0 * leaf]), searcher)
    several = dataclasses.replace(several, entropy=np.full(2, 0.1))
    found = search(several, jnp.array([3, 3]), candidates, view, keep_state=True)
    assert found.state is not None
    learned, kept = (jax.tree.map(lambda leaf, i=i: leaf[i], found.state.policy) for i in (0, 1))
    first = searcher.policy(candidates, run_keys(3)[0])
    jax.tree.map(np.testing.assert_array_equal, kept, first)  # with a rate of 0
    values = np.asarray(view.values)
    chances = [
        np.exp(np.asarray(jax.vmap(lambda one, p=p: chance(p, one)[0])(written(candidates)))) for p in (learned, first)
    ]
    assert chances[0] @ values > chances[1] @ values + 0.1
