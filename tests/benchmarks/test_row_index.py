from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.benchmarks.row_index import build_index

LETTERS = st.integers(0, 2) | st.integers(0, 2**31 - 1)
CODE = st.tuples(LETTERS, LETTERS, LETTERS)
# Few sizes, so that few programs are compiled.
CODES = st.sampled_from([1, 3, 17]).flatmap(lambda n: st.lists(CODE, min_size=n, max_size=n, unique=True))
look_up = jax.jit(lambda index, codes, wanted: index.rows(codes, wanted))
one_by_one = jax.jit(lambda index, codes, wanted: jax.vmap(lambda code: index.rows(codes, code))(wanted))


def dictionary_rows(codes: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The oracle: a Python dictionary."""
    rows = {tuple(code): row for row, code in enumerate(codes.tolist())}
    return np.array([rows.get(tuple(code), -1) for code in wanted.tolist()])


@settings(max_examples=100, deadline=None)
@given(present=CODES, others=st.lists(CODE, min_size=15, max_size=15))
def test_agrees_with_a_dictionary(present: list[tuple[int, ...]], others: list[tuple[int, ...]]) -> None:
    codes = np.array(present, np.int32)
    wanted = np.concatenate([np.resize(codes, (17, 3)), np.array(others, np.int32)])
    found = look_up(build_index(codes), codes, wanted)
    np.testing.assert_array_equal(found, dictionary_rows(codes, wanted))
    assert found.dtype == jnp.int32


@pytest.mark.parametrize("seed", range(12))
def test_jit_and_vmap_agree_with_a_dictionary(seed: int) -> None:
    random = np.random.default_rng(seed)
    codes = np.unique(random.integers(0, 5, (400, 6), dtype=np.int32), axis=0)[:300]
    codes = random.permutation(codes)
    wanted = random.integers(0, 5, (64, 6), dtype=np.int32)
    wanted[::2] = codes[:32]
    index, stored = build_index(codes), jnp.asarray(codes)
    expected = dictionary_rows(codes, wanted)
    np.testing.assert_array_equal(look_up(index, stored, wanted), expected)
    np.testing.assert_array_equal(one_by_one(index, stored, wanted), expected)
    np.testing.assert_array_equal(index.rows(stored, jnp.asarray(wanted.reshape(8, 8, 6))), expected.reshape(8, 8))


SIZES = [(1, 1, 2), (2, 3, 2), (15625, 6, 5), (4096, 6, 4), (50000, 27, 4)]


@pytest.mark.parametrize(("count", "length", "letters"), SIZES)
def test_buckets_are_narrow(count: int, length: int, letters: int) -> None:
    if letters**length < 10**6:
        codes = np.stack(np.unravel_index(np.arange(count), (letters,) * length), axis=-1).astype(np.int32)
    else:
        codes = np.unique(np.random.default_rng(0).integers(0, letters, (count, length), dtype=np.int32), axis=0)
    index = build_index(codes)
    assert index.buckets.shape[1] <= 6
    assert index.buckets.shape[0] <= 16 * len(codes)
    rows = np.asarray(index.buckets)
    np.testing.assert_array_equal(np.sort(rows[rows >= 0]), np.arange(len(codes)))
    np.testing.assert_array_equal(index.rows(jnp.asarray(codes), jnp.asarray(codes)), np.arange(len(codes)))


def test_the_same_codes_give_the_same_index() -> None:
    codes = np.arange(300, dtype=np.int32).reshape(100, 3)
    one, two = build_index(codes), build_index(codes.copy())
    np.testing.assert_array_equal(one.buckets, two.buckets)
    np.testing.assert_array_equal(one.multipliers, two.multipliers)


def test_no_second_compilation_for_codes_of_the_same_shape() -> None:
    traces = []

    @jax.jit
    def traced(index, codes, wanted):
        traces.append(1)
        return index.rows(codes, wanted)

    for shift in (0, 1000):
        codes = np.full((1, 3), shift, np.int32)
        assert int(traced(build_index(codes), codes, codes[0])) == 0
        assert int(traced(build_index(codes), codes, codes[0] + 1)) == -1
    assert len(traces) == 1
