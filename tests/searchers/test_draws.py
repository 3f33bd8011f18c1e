"""Cheap random integers against what is expected of good ones."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from ncp_jax.searchers.draws import below, draw_rows, random_bits, run_keys, step_key

RUNS, STEPS = 200, 100


def draw(seed: int, step: int) -> jax.Array:
    return random_bits(step_key(run_keys(seed)[1], step), 11)


DRAWN = np.asarray(jax.jit(jax.vmap(jax.vmap(draw, (None, 0)), (0, None)))(jnp.arange(RUNS), jnp.arange(STEPS)))


def chi_square(counts: np.ndarray) -> float:
    return float(stats.chisquare(counts.ravel()).pvalue)


def test_every_word_is_uniform_in_its_high_and_its_low_bits() -> None:
    assert DRAWN.shape == (RUNS, STEPS, 11)
    assert DRAWN.dtype == np.uint32
    for place in range(11):
        for shift in (0, 12, 24):
            counts = np.bincount((DRAWN[..., place].ravel() >> shift) & 255, minlength=256)
            assert 1e-4 < chi_square(counts) < 1 - 1e-4


def test_every_bit_is_a_fair_coin_and_no_two_of_a_question_agree_too_often() -> None:
    bits = ((DRAWN[..., None] >> np.arange(32, dtype=np.uint32)) & 1).reshape(RUNS * STEPS, -1).astype(np.float64)
    n = len(bits)
    assert np.abs(bits.mean(axis=0) - 0.5).max() < 5 * 0.5 / np.sqrt(n)
    together = (2 * bits - 1).T @ (2 * bits - 1) / n
    assert np.abs(together - np.eye(together.shape[0])).max() < 6 / np.sqrt(n)  # 62 thousand pairs


PAIRS = {
    "next question": (DRAWN[:, :-1, 0], DRAWN[:, 1:, 0]),
    "next run": (DRAWN[:-1, :, 0], DRAWN[1:, :, 0]),
    "next place": (DRAWN[..., 3], DRAWN[..., 4]),
}


@pytest.mark.parametrize(("one", "other"), PAIRS.values(), ids=PAIRS)
def test_neighbouring_words_are_independent(one: np.ndarray, other: np.ndarray) -> None:
    both = 16 * (one.ravel() >> 28) + (other.ravel() >> 28)
    assert 1e-4 < chi_square(np.bincount(both, minlength=256)) < 1 - 1e-4


@pytest.mark.parametrize("n", [1, 2, 7, 15625, 2**31 - 1])
def test_below_is_the_upper_half_of_the_product(n: int) -> None:
    bits = np.concatenate([DRAWN[0, 0], np.array([0, 2**32 - 1], np.uint32)])
    found = np.asarray(below(jnp.asarray(bits), n))
    assert found.tolist() == [(int(word) * n) >> 32 for word in bits]
    assert found.dtype == np.int32


def test_below_takes_a_limit_a_word_and_none_of_nothing() -> None:
    found = below(jnp.full(3, 2**32 - 1, jnp.uint32), jnp.array([0, 1, 5]))
    assert found.tolist() == [0, 0, 4]


def test_rows_are_uniform_and_no_question_has_those_of_another() -> None:
    stream = run_keys(3)[1]
    rows = np.asarray(jax.vmap(lambda step: draw_rows(step_key(stream, step), 8, 243))(jnp.arange(5000)))
    assert 1e-4 < chi_square(np.bincount(rows.ravel(), minlength=243)) < 1 - 1e-4
    assert len({tuple(line) for line in rows.tolist()}) == len(rows)


def test_keys_serve_other_draws_too() -> None:
    normal = jax.vmap(lambda step: jax.random.normal(step_key(run_keys(5)[1], step)))(jnp.arange(2000))
    assert stats.kstest(np.asarray(normal), "norm").pvalue > 1e-3


def test_a_run_has_a_start_and_a_stream_of_its_own() -> None:
    keys = [np.asarray(jax.random.key_data(key)).tolist() for seed in range(50) for key in run_keys(seed)]
    assert len({tuple(key) for key in keys}) == 100
