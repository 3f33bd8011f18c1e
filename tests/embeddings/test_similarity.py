from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.distance import cosine
from scipy.stats import kendalltau, spearmanr

from ncp_jax.benchmarks import join, list_tables, load_table
from ncp_jax.checks import DataError, UsageError
from ncp_jax.embeddings import agreement, choose_anchors, fingerprint, rank_correlations, similarity

RNG = np.random.default_rng(0)
VALUES = RNG.normal(size=(5, 30))


@pytest.mark.parametrize("scale", [1.0, 1e-30])
def test_cosines_equal_scipy_whatever_the_scale(scale: float) -> None:
    found = similarity(VALUES * scale)
    expected = [[1 - cosine(a, b) for b in VALUES] for a in VALUES]
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_task2vec_similarity_equals_the_paper_s_formula() -> None:
    fisher = RNG.uniform(0.01, 1, (4, 8))
    expected = [[1 - cosine(a / (a + b), b / (a + b)) for b in fisher] for a in fisher]
    np.testing.assert_allclose(similarity(fisher, kind="task2vec"), expected, atol=1e-12)


def test_task2vec_similarity_leaves_out_what_both_lack() -> None:
    fisher = np.array([[0.0, 1.0, 2.0], [0.0, 3.0, 1.0]])
    np.testing.assert_allclose(similarity(fisher, kind="task2vec"), similarity(fisher[:, 1:], kind="task2vec"))


@pytest.mark.parametrize("kind", ["cosine", "task2vec"])
def test_a_task_of_which_nothing_is_known_resembles_none(kind: str) -> None:
    found = similarity(np.array([[0.0, 0.0], [1.0, 2.0], [0.0, 0.0]]), kind=kind)
    np.testing.assert_array_equal(found, np.eye(3))


@settings(max_examples=50, deadline=None)
@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(0, 2.0**60, width=32)), st.sampled_from(["cosine", "task2vec"])
)
def test_similarities_are_symmetric_and_at_most_one(embeddings: np.ndarray, kind: str) -> None:
    found = similarity(embeddings, kind=kind)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1)
    assert found.min() >= 0
    assert found.max() <= 1 + 1e-12


@pytest.mark.parametrize(("kind", "oracle"), [("kendall", kendalltau), ("spearman", spearmanr)])
def test_rank_correlations_equal_scipy_with_ties(kind: str, oracle: Any) -> None:
    values = np.round(VALUES)
    expected = [[oracle(a, b).statistic for b in values] for a in values]
    np.testing.assert_allclose(rank_correlations(values, kind=kind), expected, atol=1e-12)


@pytest.mark.parametrize("kind", ["kendall", "spearman"])
def test_a_task_without_an_order_correlates_with_none(kind: str) -> None:
    values = np.array([[1.0, 2.0, 3.0], [5.0, 5.0, 5.0], [3.0, 2.0, 1.0]])
    expected = [[1, 0, -1], [0, 1, 0], [-1, 0, 1]]
    np.testing.assert_allclose(rank_correlations(values, kind=kind), expected, atol=1e-12)


def test_agreement_is_spearman_of_the_pairs() -> None:
    first, second = similarity(VALUES), rank_correlations(RNG.normal(size=(5, 30)))
    upper = np.triu_indices(5, 1)
    assert agreement(first, second) == pytest.approx(spearmanr(first[upper], second[upper]).statistic, abs=1e-12)
    assert agreement(first, first**3) == pytest.approx(1)
    assert agreement(first, -first) == pytest.approx(-1)
    assert agreement(np.eye(3), second[:3, :3]) == 0


def test_fingerprints_of_all_architectures_give_spearman_correlations() -> None:
    np.testing.assert_allclose(similarity(fingerprint(VALUES)), rank_correlations(VALUES, kind="spearman"), atol=1e-6)


@pytest.mark.usefixtures("mirror")
def test_fingerprints_of_50_architectures_know_which_tasks_of_transnas_are_alike() -> None:
    table = join([load_table(name) for name in list_tables() if name.startswith("transnas-micro/")])
    values = np.stack([table.oriented(metric.name) for metric in table.metrics])
    truth = rank_correlations(values, kind="spearman")
    rows = choose_anchors(table.codes, 50, key=jax.random.key(0))
    found = similarity(fingerprint(values[:, rows]))
    assert agreement(found, truth) > 0.8
    shuffled = np.random.default_rng(0).permuted(values[:, rows], axis=1)
    assert agreement(similarity(fingerprint(shuffled)), truth) < 0.5


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda: similarity([1.0, 2.0]),
            UsageError,
            r"expected embeddings to be numbers, one row per task, got float64 \[2",
        ),
        (lambda: similarity(np.zeros((0, 3))), UsageError, r"got float64 \[0, 3\]; stack the tasks' vectors"),
        (lambda: similarity([[True]]), UsageError, "got bool"),
        (
            lambda: similarity([[1.0], [np.nan]]),
            DataError,
            "expected finite embeddings, got NaN or infinity; leave out",
        ),
        (
            lambda: similarity(VALUES, kind="cosin"),
            UsageError,
            "expected a known similarity, got 'cosin'; did you mean",
        ),
        (lambda: similarity(VALUES, kind="task2vec"), UsageError, "expected Fisher information, >= 0, got a negative"),
        (
            lambda: rank_correlations([[1.0], [2.0]]),
            UsageError,
            "expected values of at least two architectures, got one",
        ),
        (lambda: rank_correlations([[1, np.inf]]), DataError, "expected finite values"),
        (lambda: rank_correlations(VALUES, kind="pearson"), UsageError, "expected a known rank correlation"),
        (lambda: agreement(np.eye(2), np.eye(2)), UsageError, r"of t >= 3 tasks, got \[2, 2\] and \[2, 2\]"),
        (lambda: agreement(np.eye(3), np.eye(4)), UsageError, r"got \[3, 3\] and \[4, 4\]"),
        (lambda: agreement(VALUES, VALUES), UsageError, r"got \[5, 30\] and \[5, 30\]"),
    ],
)
def test_wrong_calls(call: Any, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
