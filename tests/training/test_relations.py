"""Fitting relation predictors: labels against SciPy, runs that do not touch each other, what is learned."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from scipy import stats

from ncp_jax import checks, get_space
from ncp_jax.training import relations
from ncp_jax.training.relations import (
    Fits,
    RelationInputs,
    RelationRecipe,
    fit_relations,
    preferences,
    relation_utilities,
)

N, RUNS, SLOTS, SHORT = 128, 3, 24, 16
SPACE = get_space("transnas-micro")
CODES = np.asarray(SPACE.all_codes())[np.random.default_rng(0).permutation(SPACE.size)[:N]]
VALUES = ((CODES == 3).sum(axis=1) + 0.5 * (CODES == 1).sum(axis=1) + 0.01 * CODES[:, 0]).astype(np.float32)
SEEDS = np.array([[0, 0], [0, 1], [7, 2]])
RECIPE = RelationRecipe(width=8, members=2, steps=60, learning_rate=1e-2)


def test_preferences() -> None:
    scores = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    p = np.asarray(preferences(scores, 0.7))
    np.testing.assert_allclose(p + p.swapaxes(1, 2), 1, atol=1e-6)
    assert p[2, 1, 4] == pytest.approx(stats.norm.cdf((scores[2, 1] - scores[2, 4]) / 0.7), abs=1e-5)


@pytest.fixture(scope="module")
def inputs() -> RelationInputs:
    return RelationInputs.of(SPACE, CODES)


@pytest.fixture(scope="module")
def rows() -> np.ndarray:
    """Three runs, the last with empty slots in its middle and at its end."""
    found = np.stack([np.random.default_rng(i).permutation(N)[:SLOTS] for i in range(RUNS)]).astype(np.int32)
    found[2, SHORT // 2 : SLOTS - SHORT // 2] = -1
    return found


def values_of(rows: np.ndarray) -> np.ndarray:
    return np.where(rows >= 0, VALUES[rows], np.nan)[..., None]


@pytest.fixture(scope="module")
def fits(inputs: RelationInputs, rows: np.ndarray) -> Fits:
    return fit_relations(inputs, rows, values_of(rows), seeds=SEEDS, recipe=RECIPE)


@pytest.fixture(scope="module")
def untrained(inputs: RelationInputs, rows: np.ndarray, fits: Fits) -> Fits:
    """Starts from the trained encoder of another run, one variant each, with a step that does nothing."""
    recipe = dataclasses.replace(RECIPE, steps=1, learning_rate=1e-12)
    evidence = np.zeros((2, N, 2), np.float32)
    encoder = jax.tree.map(lambda leaf: leaf[:2], fits.params["encoder"])
    which = np.array([1, 0, 1])
    values = values_of(rows)
    return fit_relations(
        inputs, rows, values, seeds=SEEDS, recipe=recipe, evidence=evidence, which=which, encoder=encoder
    )


def taus(fits: Fits, rows: np.ndarray) -> list[float]:
    """Kendall tau of each run on the candidates that it did not see."""
    mean = np.asarray(fits.utilities).mean(axis=1)[..., 0]
    unseen = [np.setdiff1d(np.arange(N), r) for r in rows]
    return [stats.kendalltau(u[rest], VALUES[rest]).statistic for u, rest in zip(mean, unseen, strict=True)]


def test_an_easy_order_is_learned(fits: Fits, untrained: Fits, rows: np.ndarray) -> None:
    assert fits.utilities.shape == (RUNS, 2, N, 1)
    found, chance = taus(fits, rows), taus(untrained, rows)
    assert min(found) > 0.45
    assert np.mean(found) > np.mean(chance) + 0.2


def test_utilities_are_centred_on_the_scores_of_what_was_measured(fits: Fits, rows: np.ndarray) -> None:
    for run, utilities in zip(rows, np.asarray(fits.utilities), strict=True):
        scores = stats.norm.ppf((stats.rankdata(VALUES[run[run >= 0]]) - 0.5) / (run >= 0).sum())
        np.testing.assert_allclose(utilities[:, run[run >= 0], 0].mean(axis=1), scores.mean(), atol=1e-4)


def test_a_fitted_ensemble_tells_the_utilities_of_any_candidates(inputs: RelationInputs, fits: Fits) -> None:
    some = np.arange(5, 25)
    params = jax.tree.map(lambda leaf: leaf[1], fits.params)
    few = RelationInputs(inputs.nodes[some], inputs.live[some], inputs.links, inputs.attributes[some])
    found = np.asarray(relation_utilities(params, few, np.zeros((20, 0), np.float32), recipe=RECIPE))
    shift = np.asarray(fits.utilities[1])[:, some] - found
    np.testing.assert_allclose(shift, np.broadcast_to(shift[:, :1], shift.shape), atol=1e-5)


def test_a_run_alone_and_without_padding_is_the_same(inputs: RelationInputs, rows: np.ndarray, fits: Fits) -> None:
    """Neither other runs nor empty slots reach a run's result."""
    short = rows[2:, rows[2] >= 0]
    assert short.shape == (1, SHORT)
    alone = fit_relations(inputs, short, values_of(short), seeds=SEEDS[2:], recipe=RECIPE)
    np.testing.assert_allclose(alone.utilities[0], fits.utilities[2], atol=2e-3)


def test_same_seeds_same_result_and_no_new_program(inputs: RelationInputs, rows: np.ndarray, fits: Fits) -> None:
    shape = relations._Shape(*inputs.nodes.shape[1:], inputs.attributes.shape[1], 0, 1)
    program = relations._program(RECIPE, shape)
    compiled = program._cache_size()
    again = fit_relations(inputs, rows, values_of(rows), seeds=SEEDS, recipe=dataclasses.replace(RECIPE))
    np.testing.assert_array_equal(again.utilities, fits.utilities)
    seeds = np.add(SEEDS, [[0, 0], [0, 0], [1, 0]])
    other = fit_relations(inputs, rows, 5 - 2 * values_of(rows), seeds=seeds, recipe=RECIPE)
    assert not np.allclose(other.utilities, fits.utilities, atol=0.1)
    stretched = fit_relations(inputs, rows, np.exp(values_of(rows)), seeds=seeds, recipe=RECIPE)
    np.testing.assert_array_equal(stretched.utilities[:2], fits.utilities[:2])
    assert not np.array_equal(stretched.utilities[2], fits.utilities[2])
    assert program._cache_size() == compiled


def test_an_encoder_to_start_from(fits: Fits, untrained: Fits) -> None:
    """Each run starts with the encoder of its variant, the rest with weights of its own."""
    given_leaves, found_leaves = (jax.tree.leaves(f.params["encoder"]) for f in (fits, untrained))
    for given_leaf, found in zip(given_leaves, found_leaves, strict=True):
        np.testing.assert_allclose(found, np.asarray(given_leaf)[[1, 0, 1]], atol=1e-6)
    trust = untrained.params["trust"]
    np.testing.assert_allclose(jax.tree.leaves(trust)[0], np.full((RUNS, 2, 2, 1), 0.5), atol=1e-6)


def test_inputs_are_in_standard_units(inputs: RelationInputs) -> None:
    attributes = np.asarray(inputs.attributes)
    np.testing.assert_allclose(attributes.mean(axis=0), 0, atol=1e-5)
    deviations = attributes.std(axis=0)
    assert np.all((np.abs(deviations - 1) < 1e-4) | (deviations == 0))
    same = RelationInputs.of(SPACE, np.repeat(CODES[:1], 3, axis=0))
    assert not np.asarray(same.attributes).any()


@pytest.mark.parametrize(
    ("rows", "values", "text"),
    [
        ([[3, -1]], [[[1.0], [2.0]]], r"expected two measured architectures or more, got 1; query more"),
        ([[3, 4]], [[[1.0], [np.nan]]], r"expected two measured architectures or more, got 1"),
        ([[3, 4]], [[[1.0, 1.0], [2.0, np.nan]]], r"expected two measured architectures or more, got 1"),
        ([[3, N]], [[[1.0], [2.0]]], r"expected rows \[r, b\] below n and values \[r, b, t\], got"),
        ([[3, 4, 5]], [[[1.0], [2.0]]], r"expected rows .* got \[1, 3\] and \[1, 2, 1\]"),
    ],
)
def test_what_cannot_be_fitted(inputs: RelationInputs, rows: list, values: list, text: str) -> None:
    with pytest.raises(checks.UsageError, match=text):
        fit_relations(inputs, np.array(rows), np.array(values), seeds=SEEDS[:1], recipe=RECIPE)


@pytest.mark.parametrize(
    "change", [{"encoder": "grap"}, {"members": 0}, {"noise": 0.0}, {"steps": -1}, {"weight_decay": -0.1}]
)
def test_recipes_check_themselves(change: dict) -> None:
    with pytest.raises(checks.UsageError, match=r"expected .*got"):
        RelationRecipe(**change)
