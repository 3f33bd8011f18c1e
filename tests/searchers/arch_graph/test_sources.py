"""What other tasks say about a target: alignment of tables, samples of them, scores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from ncp_jax import MetricSpec, Table, checks, get_space
from ncp_jax.searchers.arch_graph.samples import measured_scores, sampled_values
from ncp_jax.searchers.arch_graph.search import ArchGraphConfig
from ncp_jax.searchers.arch_graph.sources import (
    Sources,
    full_sources,
    learn_sources,
    read_source_budget,
    source_values,
)
from ncp_jax.training.relations import RelationInputs

MISSING = np.nan


def test_values_are_those_of_the_targets_architectures(make_table: Callable[..., Table]) -> None:
    target = make_table(np.arange(5.0), "t")
    shuffled = make_table(np.array([1.0, 3.0, 9.0]), "s", rows=np.array([4, 0, 77]))
    found = source_values(target, [shuffled, make_table(-np.arange(5.0), "u")])
    np.testing.assert_array_equal(found, [[3, MISSING, MISSING, MISSING, 1], [0, -1, -2, -3, -4]])
    assert source_values(target, []).shape == (0, 5)


def test_lower_is_better_is_turned_round(make_table: Callable[..., Table], codes: np.ndarray) -> None:
    target = make_table(np.arange(3.0), "t")
    losses, spec = np.array([[1.0], [2.0], [0.5]]), MetricSpec("loss", direction="minimize")
    source = Table.from_arrays("s", space="transnas-micro", codes=codes[:3], values=losses, metrics=[spec])
    np.testing.assert_array_equal(source_values(target, [source]), [[-1, -2, -0.5]])


def test_the_target_is_no_source(make_table: Callable[..., Table]) -> None:
    target = make_table(np.arange(5.0), "t")
    copy = make_table(np.array([4.0, 2.0, 0.0, 8.0]), "a part in another order", rows=np.array([4, 2, 0, 99]))
    for same in (target, make_table(np.arange(5.0), "another name"), copy):
        with pytest.raises(checks.UsageError, match=rf"expected sources other than the target, got {same.name}; leave"):
            source_values(target, [make_table(np.ones(5) * 3 + np.arange(5), "s"), same])


def test_two_tables_may_have_one_name(make_table: Callable[..., Table]) -> None:
    """As CSV files of one name in two folders do."""
    found = source_values(make_table(np.arange(5.0), "results"), [make_table(5 - np.arange(5.0), "results")])
    np.testing.assert_array_equal(found, [[5, 4, 3, 2, 1]])


def test_sources_of_other_architectures(make_table: Callable[..., Table]) -> None:
    target = make_table(np.arange(5.0), "t")
    with pytest.raises(checks.DataError, match=r"expected architectures of t in s, got none that both have; choose"):
        source_values(target, [make_table(np.arange(3.0), "s", rows=np.array([50, 51, 52]))])
    space = get_space("nas-bench-201")
    elsewhere = Table.from_arrays(
        "s", space=space, codes=space.all_codes()[:3], values=np.arange(3.0)[:, None], metrics=[MetricSpec("acc")]
    )
    with pytest.raises(
        checks.UsageError, match=r"expected sources in transnas-micro, got s in nas-bench-201; relations"
    ):
        source_values(target, [elsewhere])


def test_learned_sources(relation_inputs: RelationInputs, quality: np.ndarray, quick: ArchGraphConfig) -> None:
    rows, sampled = sampled_values(quality[1:], 24, runs=range(4), seed=0)
    found = learn_sources(relation_inputs, rows, sampled, seed=0, numbers=range(4), recipe=quick.recipe)
    evidence = np.asarray(found.evidence)
    assert evidence.shape == (4, len(quality[0]), 2)
    np.testing.assert_allclose(evidence.mean(axis=1), 0, atol=1e-4)
    np.testing.assert_allclose(evidence.std(axis=1), 1, atol=1e-3)
    taus = [stats.kendalltau(evidence[r, :, s], quality[1 + s]).statistic for r in range(4) for s in range(2)]
    assert min(taus) > 0.3
    assert found.encoder is not None
    assert len({tuple(run) for run in evidence[..., 0].tolist()}) == 4


def test_whole_sources_are_measured_and_learned(
    relation_inputs: RelationInputs, quality: np.ndarray, quick: ArchGraphConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores first, then what is learned of the same sources; nothing is learned of less than two architectures."""
    seen = []

    def learn(inputs: RelationInputs, rows: np.ndarray, values: np.ndarray, **_: object) -> Sources:
        seen.append((rows, values))
        return Sources(np.ones((len(rows), quality.shape[1], values.shape[-1]), np.float32))

    monkeypatch.setattr("ncp_jax.searchers.arch_graph.sources.learn_sources", learn)
    known = quality[1:].copy()
    known[0, 100:] = MISSING
    found = np.asarray(full_sources(relation_inputs, known, seed=0, recipe=quick.recipe).evidence)
    assert found.shape == (1, quality.shape[1], 4)
    np.testing.assert_array_equal(found[0, :, :2], measured_scores(known))
    np.testing.assert_array_equal(found[0, :, 2:], 1)
    ((rows, sampled),) = seen
    assert rows[0].max() < 100
    assert np.isfinite(sampled).all()
    known[0, 1:] = MISSING
    found = full_sources(relation_inputs, known, seed=0, recipe=quick.recipe)
    assert (found.evidence.shape[-1], found.encoder, len(seen)) == (2, None, 1)


def test_reading_a_source_budget() -> None:
    assert read_source_budget("All") is None
    assert read_source_budget("50") == 50


@pytest.mark.parametrize("text", ["1", "0", "-5", "2.5", "", "some"])
def test_what_is_no_source_budget(text: str) -> None:
    with pytest.raises(checks.UsageError, match=r"expected --source-budget all or a number from 2, got"):
        read_source_budget(text)
