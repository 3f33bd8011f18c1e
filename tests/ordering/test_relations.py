"""Relations against loops over pairs, reliability against cases by hand and samples whose calibration is known."""

from __future__ import annotations

import io
import json
import math

import hypothesis.strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from transfer.figures import reliability_figure

from ncp_jax.checks import DataError, UsageError
from ncp_jax.ordering import borda, order, relation_matrix, reliability, trusted_weights
from ncp_jax.ordering.relations import _block


def by_pairs(utilities):
    members, n = np.shape(utilities)
    result = np.empty((n, n))
    for a in range(n):
        for b in range(n):
            odds = [1 / (1 + math.exp(min(float(u[b]) - float(u[a]), 700.0))) for u in utilities]
            result[a, b] = sum(odds) / members
    return result


def normal(m, n, scale=2.0):
    return np.random.default_rng(n).normal(scale=scale, size=(m, n))


@pytest.mark.parametrize(("m", "n"), [(1, 1), (1, 2), (3, 17), (8, 40)])
def test_relations_against_pairs(m, n):
    utilities = normal(m, n)
    found = relation_matrix(utilities)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_pairs(utilities), atol=1e-6)


@pytest.mark.parametrize("tile", [1, 7, 16, 32, 33, 1000])
def test_tiles_do_not_matter(tile):
    utilities = normal(3, 33)
    found = relation_matrix(utilities, tile=tile)
    np.testing.assert_allclose(found, by_pairs(utilities), atol=1e-6)
    assert (found + found.T == 1).all()


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (2, 13), elements=st.floats(-60, 60, width=32)), st.sampled_from([4, 16]))
def test_both_directions_sum_to_one(utilities, tile):
    found = relation_matrix(utilities, tile=tile)
    assert (found + found.T == np.float32(1)).all()
    assert (found.diagonal() == 0.5).all()
    np.testing.assert_allclose(found, by_pairs(utilities), atol=1e-6)


@pytest.mark.parametrize("scale", [1e4, 1e30, 1e38])
def test_wide_utilities_saturate(scale):
    found = relation_matrix(scale * np.array([[1.0, -1.0, 1.0, 0.5]]))
    np.testing.assert_array_equal(found, [[0.5, 1, 0.5, 1], [0, 0.5, 0, 0], [0.5, 1, 0.5, 1], [0, 1, 0, 0.5]])


def test_utilities_beyond_float32_saturate():
    np.testing.assert_array_equal(relation_matrix([[-1e300, 1.7e308]]), [[0.5, 0], [1, 0.5]])


def test_wide_utilities_keep_their_close_calls():
    utilities = np.array([[-1000.0, 500.0, 500.5, 1000.0, 1001.0]])
    np.testing.assert_allclose(relation_matrix(utilities), by_pairs(utilities), atol=1e-6)


def test_an_offset_costs_no_digits():
    utilities = normal(2, 9)
    far = utilities + np.array([[1e9], [-1e9]])
    np.testing.assert_allclose(relation_matrix(far), relation_matrix(utilities), atol=1e-6)


def test_one_program_serves_all_tiles():
    _block.clear_cache()
    relation_matrix(normal(2, 50), tile=16)
    relation_matrix(normal(2, 61), tile=16)
    assert _block._cache_size() == 1


def test_any_array_will_do():
    expected = relation_matrix([[0.0, 1.0, 3.0]])
    np.testing.assert_array_equal(relation_matrix(jnp.array([[0.0, 1.0, 3.0]])), expected)
    np.testing.assert_array_equal(relation_matrix(np.array([[0, 1, 3]])), expected)


@pytest.mark.parametrize(
    ("utilities", "error", "why"),
    [
        ([1.0, 2.0], UsageError, r"utilities \[m, n\].*got shape \(2,\)"),
        (np.zeros((3, 0)), UsageError, r"got shape \(3, 0\)"),
        (np.zeros((0, 3)), UsageError, r"got shape \(0, 3\)"),
        ([["a", "b"]], UsageError, "utilities of real numbers, got type"),
        ([[1.0, 2.0], [1.0]], UsageError, "utilities to be an array"),
        ([[1.0, 2.0], [0.0, np.nan]], DataError, "got nan for architecture 1 of member 1"),
        ([[np.inf, 2.0]], DataError, "got inf for architecture 0 of member 0"),
    ],
)
def test_bad_utilities(utilities, error, why):
    with pytest.raises(error, match=why):
        relation_matrix(utilities)


@pytest.mark.parametrize("tile", [0, -3, 2.5, True])
def test_bad_tiles(tile):
    with pytest.raises(UsageError, match="tile to be an integer 1 or more"):
        relation_matrix([[1.0, 2.0]], tile=tile)


def test_trusted_weights_by_hand():
    probability = np.array([[0.9, 0.6, 0.55], [0.4, 0.5, 1.0], [0.45, 0.0, 0.5]])
    np.testing.assert_allclose(trusted_weights(probability), [[0, 0.2, 0], [0, 0, 1], [0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(trusted_weights(probability, 0.5), [[0, 0.2, 0.1], [0, 0, 1], [0, 0, 0]], atol=1e-6)
    assert trusted_weights(probability).dtype == np.float32


def test_even_odds_have_no_weight():
    assert not trusted_weights(np.full((4, 4), 0.5), 0.5).any()


@given(hnp.arrays(np.float32, (2, 9), elements=st.floats(-5, 5, width=32)), st.floats(0.5, 0.99))
@settings(max_examples=40, deadline=None)
def test_trusted_weights_by_definition(utilities, threshold):
    probability = relation_matrix(utilities)
    found = trusted_weights(probability, threshold)
    for a in range(9):
        for b in range(9):
            kept = a != b and probability[a, b] >= np.float32(threshold) and probability[a, b] > 0.5
            assert found[a, b] == pytest.approx(2 * float(probability[a, b]) - 1 if kept else 0.0, abs=1e-6)
    assert not ((found > 0) & (found.T > 0)).any(), "at most one direction of a pair is kept"


def test_the_order_of_one_member_is_that_of_its_utilities():
    utilities = normal(1, 12)
    weights = trusted_weights(relation_matrix(utilities), 0.5)
    np.testing.assert_array_equal(order(weights).order, np.argsort(-utilities[0]))


@pytest.mark.parametrize("threshold", [0.49, 1.0, -1, math.nan, "0.6", None, True])
def test_bad_thresholds(threshold):
    with pytest.raises(UsageError, match=r"threshold to be a number in \[0.5, 1\)"):
        trusted_weights(np.full((2, 2), 0.5), threshold)


@pytest.mark.parametrize("function", [trusted_weights, borda])
@pytest.mark.parametrize(
    ("probability", "error", "why"),
    [
        (np.zeros((0, 0)), UsageError, r"at least 1 x 1, got shape \(0, 0\)"),
        (np.zeros((2, 3)), UsageError, r"got shape \(2, 3\)"),
        (np.zeros(4), UsageError, r"got shape \(4,\)"),
        ([[0.5, np.nan], [0.5, 0.5]], DataError, r"got nan at \[0, 1\]"),
        ([[0.5, 0.5], [-0.1, 0.5]], DataError, r"probabilities in 0..1, got -0.1 at \[1, 0\]"),
        ([[0.5, 1.5], [0.5, 0.5]], DataError, r"got 1.5 at \[0, 1\]"),
    ],
)
def test_bad_probabilities(function, probability, error, why):
    with pytest.raises(error, match=why):
        function(probability)


def test_borda_by_hand():
    probability = [[0.7, 0.6, 0.8], [0.4, 0.5, 1.0], [0.2, 0.0, 0.5]]
    np.testing.assert_allclose(borda(probability), [0.7, 0.7, 0.1], rtol=1e-6)
    np.testing.assert_array_equal(borda([[0.5]]), [0.5])


def test_borda_scores_average_to_one_half():
    scores = borda(relation_matrix(normal(4, 60)))
    assert scores.mean() == pytest.approx(0.5, abs=1e-6)
    alone = normal(1, 60)
    np.testing.assert_array_equal(np.argsort(borda(relation_matrix(alone))), np.argsort(alone[0]))


def test_reliability_by_hand():
    found = reliability([0.1, 0.3, 0.5, 0.9, 1.0], [0, 1, 0.5, 1, 0], bins=4)
    np.testing.assert_allclose(found.confidence, [0.1, 0.3, 0.5, 0.95])
    np.testing.assert_allclose(found.frequency, [0, 1, 0.5, 0.5])
    np.testing.assert_array_equal(found.counts, [1, 1, 1, 2])
    assert found.error == pytest.approx((0.1 + 0.7 + 0 + 2 * 0.45) / 5)
    assert found.brier == pytest.approx((0.01 + 0.49 + 0 + 0.01 + 1) / 5)


def test_empty_bins_are_nan_and_none_in_json():
    found = reliability(np.array([0.05, 0.95], np.float32), np.array([False, True]))
    np.testing.assert_array_equal(found.counts, [1, *[0] * 8, 1])
    assert np.isnan(found.confidence[1:-1]).all()
    assert np.isnan(found.frequency[1:-1]).all()
    assert found.error == pytest.approx(0.05)
    read = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert read["confidence"] == [pytest.approx(0.05), *[None] * 8, pytest.approx(0.95)]
    assert read["frequency"] == [0, *[None] * 8, 1]
    assert read["counts"] == found.counts.tolist()
    assert (read["error"], read["brier"]) == (found.error, found.brier)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_the_edges_of_bins_belong_to_the_upper_one(kind):
    found = reliability(np.arange(11).astype(kind) / kind(10), np.ones(11))
    np.testing.assert_array_equal(found.counts, [1] * 9 + [2])


def sampled(sharpness):
    """Probabilities whose log odds are ``sharpness`` times those that the outcomes are drawn from."""
    rng = np.random.default_rng(0)
    true = rng.uniform(0.02, 0.98, size=40_000)
    told = 1 / (1 + (1 / true - 1) ** sharpness)
    outcome = (rng.uniform(size=true.size) < true).astype(float)
    return true, told, outcome


def test_calibrated_predictions_have_no_error():
    _, told, outcome = sampled(1.0)
    found = reliability(told, outcome)
    assert found.error < 0.012, "a bin of 4000 strays by 0.008"
    np.testing.assert_allclose(found.frequency, found.confidence, atol=0.035)


@pytest.mark.parametrize("sharpness", [0.3, 3.0])
def test_the_error_of_miscalibrated_predictions_is_how_far_they_are_off(sharpness):
    true, told, outcome = sampled(sharpness)
    found = reliability(told, outcome)
    assert found.error == pytest.approx(np.abs(told - true).mean(), abs=0.015)
    assert found.brier == pytest.approx((true * (1 - true) + (told - true) ** 2).mean(), abs=0.005)
    top = np.flatnonzero(found.counts)[-1]
    over = found.confidence[top] - found.frequency[top]
    assert (over > 0) == (sharpness > 1), "too sharp is too sure at the top"


@pytest.mark.parametrize(
    ("probability", "outcome", "error", "why"),
    [
        ([], [], UsageError, "k >= 1 pairs"),
        ([0.5], [1, 0], UsageError, r"shapes \(1,\) and \(2,\)"),
        ([[0.5]], [[1]], UsageError, r"shapes \(1, 1\)"),
        ([0.5, np.nan], [1, 0], DataError, r"got nan at \[1\]"),
        ([0.5, 1.2], [1, 0], DataError, r"got 1.2 at \[1\]"),
        ([0.5, 0.2], [1, 0.7], DataError, r"outcomes 0 \(worse\), 0.5 \(tie\) or 1 \(better\), got 0.7 at 1"),
        ([0.5, 0.2], [np.nan, 1], DataError, "got nan at 0"),
    ],
)
def test_bad_outcomes(probability, outcome, error, why):
    with pytest.raises(error, match=why):
        reliability(probability, outcome)


@pytest.mark.parametrize("bins", [0, 2.5, True])
def test_bad_bins(bins):
    with pytest.raises(UsageError, match="bins to be an integer 1 or more"):
        reliability([0.5], [1], bins=bins)


def test_the_figure_draws_each_curve(tmp_path):
    from matplotlib.image import imread

    curves = {f"{sharpness}": reliability(*sampled(sharpness)[1:]) for sharpness in (0.3, 1.0, 3.0)}
    pictures = []
    for count in (1, 3):
        path = reliability_figure(dict(list(curves.items())[:count]), tmp_path / "new" / f"{count}.png")
        pictures.append(imread(io.BytesIO(path.read_bytes())))
        assert min(pictures[-1].shape[:2]) > 300
    assert (pictures[0] != pictures[1]).mean() > 0.005
    with pytest.raises(UsageError, match="at least one reliability curve"):
        reliability_figure({}, tmp_path / "none.png")


def test_reliability_survives_json() -> None:
    found = reliability(np.array([0.05, 0.95]), np.array([0.0, 1.0]), bins=4)
    again = type(found).from_json(found.to_json())
    np.testing.assert_array_equal(again.confidence, found.confidence)
    np.testing.assert_array_equal(again.counts, found.counts)
    assert (again.error, again.brier) == (found.error, found.brier)
