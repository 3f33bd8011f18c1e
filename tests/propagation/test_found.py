"""Putting portions together: whatever the portions, the result is that of all codes at once."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation.found import Found, first_of_each, in_batches, merge
from ncp_jax.spaces import get_space

SPACE = get_space("transnas-micro")
ALL = SPACE.all_codes()
CANONICAL = np.asarray(SPACE.canonical(jnp.asarray(ALL)))
# Codes of few networks, so that isomorphs meet often; their numbers are the codes' own, ties among the scores included.
SIZES = np.unique(CANONICAL, axis=0, return_inverse=True, return_counts=True)
FEW = np.flatnonzero(np.isin(SIZES[1].ravel(), np.argsort(-SIZES[2])[:8]))[:300]
SCORES = np.random.default_rng(0).integers(0, 12, len(ALL)) / 4


def scored(rows: list[int] | np.ndarray) -> Found:
    """What scoring some codes would give: all arrays are functions of the code."""
    rows = np.asarray(rows, int)
    values = np.stack([SCORES[rows], rows], axis=1).astype(np.float32)
    costs = {"flops": rows / 7}
    nothing = np.zeros((0, 6), np.int32)
    metrics = (MetricSpec("acc"), MetricSpec("flops"))
    return Found(ALL[rows], values, -values, SCORES[rows], costs, nothing, metrics, SPACE.name, {}, len(rows))


def brute_force(rows: list[int], keep: int) -> list[int]:
    """Rows in order of score, then code; of each network the first."""
    kept: list[int] = []
    networks = set()
    for row in sorted(set(rows), key=lambda row: (-SCORES[row], ALL[row].tolist())):
        if CANONICAL[row].tobytes() not in networks:
            networks.add(CANONICAL[row].tobytes())
            kept.append(row)
    return kept[:keep]


def assert_same(got: Found, wanted: Found) -> None:
    for name in ("codes", "mean", "spread", "score"):
        np.testing.assert_array_equal(getattr(got, name), getattr(wanted, name))
    np.testing.assert_array_equal(got.costs["flops"], wanted.costs["flops"])


def test_other_rules_merge_other_codes() -> None:
    space = get_space("nas-bench-201")
    codes = space.all_codes()[::97]
    score = np.random.default_rng(0).random(len(codes))
    values = score[:, None].astype(np.float32)
    for rule in space.same_networks:
        found = Found(codes, values, values, score, {}, codes[:0], (MetricSpec("acc"),), space.name, {}, 1, rule)
        merged = merge([found], len(codes))
        networks = space.networks(codes, rule)
        best = [int(np.flatnonzero(networks == n)[score[networks == n].argmax()]) for n in set(networks.tolist())]
        np.testing.assert_array_equal(merged.score, np.sort(score[best])[::-1])
        assert merged.to_json()["same_network"] == rule


rows = st.lists(st.sampled_from(FEW.tolist()), min_size=1, max_size=40)


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(1, 12))
def test_the_best_code_of_each_network_in_order(some: list[int], keep: int) -> None:
    got = merge([scored(some)], keep)
    assert_same(got, scored(brute_force(some, keep)))
    assert got.scored == len(some)


@settings(max_examples=40, deadline=None)
@given(rows, st.integers(1, 12), st.data())
def test_portions_in_any_order_give_the_same(some: list[int], keep: int, data: st.DataObject) -> None:
    owner = data.draw(st.lists(st.integers(0, 3), min_size=len(some), max_size=len(some)))
    portions = [scored([row for row, p in zip(some, owner, strict=True) if p == number]) for number in range(4)]
    portions = [portions[i] for i in data.draw(st.permutations(range(4)))]
    wanted = scored(brute_force(some, keep))
    together = merge(portions, keep)
    assert_same(together, wanted)
    best = merge(portions[:1], keep)
    for portion in portions[1:]:
        best = merge([best, portion], keep)
    assert_same(best, wanted)
    assert together.scored == best.scored == len(some)


def test_equal_scores_are_in_the_order_of_the_codes() -> None:
    some = np.random.default_rng(1).permutation(len(ALL))[:500]
    got = merge([scored(some)], 10**6)
    for one, two in zip(range(len(got) - 1), range(1, len(got)), strict=True):
        assert (-got.score[one], got.codes[one].tolist()) < (-got.score[two], got.codes[two].tolist())


@pytest.mark.parametrize("wide", [1, 300])
def test_codes_are_ordered_as_numbers(wide: int) -> None:
    # The bytes of small-endian numbers would put 256 before 1.
    codes = np.random.default_rng(0).integers(0, 4, (60, 3)).astype(np.int32) * wide
    wanted: dict[tuple[int, ...], int] = {}
    for i, code in enumerate(codes.tolist()):
        wanted.setdefault(tuple(code), i)
    np.testing.assert_array_equal(first_of_each(codes), [wanted[code] for code in sorted(wanted)])


def test_nothing_put_together_is_nothing() -> None:
    nothing = scored([])
    assert len(merge([nothing], 5)) == len(merge([nothing, nothing], 5)) == 0
    assert_same(merge([nothing, scored([7])], 5), scored([7]))


@pytest.mark.parametrize("n", [1, 7, 8, 9, 24])
def test_calls_have_one_shape_and_join_to_the_whole(n: int) -> None:
    shapes, codes = [], np.arange(2 * n).reshape(n, 2)

    def function(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        shapes.append(rows.shape)
        return rows * 3, rows.sum(axis=1)

    tripled, sums = in_batches(function, codes, rows=8)
    np.testing.assert_array_equal(tripled, codes * 3)
    np.testing.assert_array_equal(sums, codes.sum(axis=1))
    assert set(shapes) == {(8, 2)}
    assert len(shapes) == -(-n // 8)


def test_one_array_is_a_result_too() -> None:
    (first,) = in_batches(lambda rows: rows[:, 0], np.arange(10).reshape(5, 2), rows=2)
    np.testing.assert_array_equal(first, [0, 2, 4, 6, 8])
