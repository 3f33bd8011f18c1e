"""Pairs of tasks and the statistics of transfer, against hand-made numbers and brute force."""

from __future__ import annotations

import numpy as np
import pytest
from transfer.gains import chosen_sources, foresight, gains, levels, similarities
from transfer.pairs import Found, Tasks

from ncp_jax import Table, checks

NAMES = ("a", "b", "c")


def found(*ranks: int) -> Found:
    """One run for each rank, which the tenth query reaches; the first has rank 500."""
    return Found([[1, 10]] * len(ranks), [[500, rank] for rank in ranks])


def test_the_best_so_far_is_that_of_brute_force() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(20, size=40).astype(float)
    rows = rng.integers(40, size=(5, 12))
    rows[1, 9:] = -1
    runs = Found.of(rows, values)
    for mark in (1, 5, 12):
        paid = [line[:mark][line[:mark] >= 0] for line in rows]
        expected = [1 + int((values > values[some].max()).sum()) for some in paid]
        assert runs.best(mark).tolist() == expected
    np.testing.assert_array_equal(runs.best(np.array([1, 12])), np.stack([runs.best(1), runs.best(12)], axis=1))
    joined = Found.joined([runs.to_json(), runs.to_json()])
    assert joined.ranks == runs.ranks * 2


@pytest.mark.parametrize(
    ("targets", "sources", "expected"),
    [
        ((), (), {"a": ("b", "c", "all"), "b": ("a", "c", "all"), "c": ("a", "b", "all")}),
        (("B",), (), {"b": ("a", "c", "all")}),
        ((), ("a",), {"b": ("a",), "c": ("a",)}),
        (("c",), ("a", "b"), {"c": ("a", "b", "all")}),
    ],
)
def test_sources_and_targets(tables: list[Table], targets: tuple, sources: tuple, expected: dict) -> None:
    named = [table_named(table, f"x/{name}") for table, name in zip(tables, NAMES, strict=True)]
    tasks = Tasks.choose(named, targets, sources)
    assert {target: tasks.cases(target) for target in tasks.targets} == expected


def table_named(table: Table, name: str) -> Table:
    import dataclasses

    return dataclasses.replace(table, name=name)


def test_refusals(tables: list[Table]) -> None:
    named = [table_named(table, f"x/{name}") for table, name in zip(tables, NAMES, strict=True)]
    with pytest.raises(checks.UsageError, match="expected sources other than the targets, got a; leave it out"):
        Tasks.choose(named, ("a", "b"), ("a",))
    with pytest.raises(checks.UsageError, match="a source and a target"):
        Tasks.choose(named[:1], (), ())
    with pytest.raises(checks.UsageError, match="a source and a target"):
        Tasks.choose(named, (), NAMES)


def test_gains_count_what_is_certain() -> None:
    """Six seeds: the smallest p-value of a signed-rank test is 1/32, Holm doubles it for two pairs."""
    scratch = {"b": {"none": found(*[100] * 10)}, "c": {"none": found(*[10] * 10)}}
    scheme = {
        "b": {"a": found(*[10] * 10), "all": found(*[1] * 10)},
        "c": {"a": found(*[100] * 9, 10), "all": found(*[10] * 10)},
    }
    at = gains(scheme, scratch, [1, 10])
    assert (at["1"]["one"]["better"], at["1"]["one"]["worse"]) == (0, 0)
    one = at["10"]["one"]
    assert {k: one[k] for k in ("better", "worse", "positive", "negative")} == {
        "better": 1,
        "worse": 1,
        "positive": 1,
        "negative": 1,
    }
    helped, hurt = one["pairs"]
    assert (helped["source"], helped["target"], helped["gain"]["mean"]) == ("a", "b", pytest.approx(1))
    assert hurt["gain"]["mean"] == pytest.approx(-0.9)
    assert (helped["p"], hurt["p"]) == (pytest.approx(2 / 2**10), pytest.approx(2 / 2**9))
    assert (helped["p_holm"], hurt["p_holm"]) == (pytest.approx(2 * helped["p"]), pytest.approx(hurt["p"]))
    assert at["10"]["all"]["gain"]["mean"] == pytest.approx(1)
    level = levels(scheme, 1000, [10])
    assert level["one"]["10"]["percentile"]["mean"] == pytest.approx((10 * 10 + 9 * 100 + 10) / 20 / 10)
    assert level["all"]["10"]["rank"]["mean"] == pytest.approx(5.5)


def test_similarity_that_tells_the_gain() -> None:
    names = ("a", "b", "c", "d")
    rng = np.random.default_rng(1)
    matrix = rng.random((4, 4))
    scratch = {t: {"none": found(100, 100)} for t in names}
    scheme = {
        t: {s: found(*[int(100 * 10 ** -matrix[i, j])] * 2) for i, s in enumerate(names) if s != t}
        for j, t in enumerate(names)
    }
    measures = {"right": matrix, "wrong": -matrix, "flat": np.ones((4, 4))}
    told = foresight(gains(scheme, scratch, [10])["10"]["one"], names, measures)
    assert told["right"]["spearman"] == pytest.approx(1, abs=0.02)
    assert told["right"]["p"] == pytest.approx(1 / 24)
    assert told["wrong"]["p"] == 1
    assert told["flat"] == {"spearman": 0.0, "p": 1.0}
    picked = chosen_sources(scheme, scratch, names, measures, 10)
    assert picked["right"]["mean"] == picked["best"]["mean"] > picked["mean of all"]["mean"] > picked["worst"]["mean"]
    assert picked["wrong"]["mean"] == picked["worst"]["mean"]


def test_similarities_of_a_task_to_itself(tables: list[Table]) -> None:
    named = [table_named(table, f"x/{name}") for table, name in zip(tables, NAMES, strict=True)]
    for matrix in similarities(Tasks.choose(named, (), ())).values():
        assert matrix.shape == (3, 3)
        np.testing.assert_allclose(np.diag(matrix), 1, rtol=1e-6)
