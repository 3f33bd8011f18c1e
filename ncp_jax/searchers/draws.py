"""Draws random integers from a key at little cost, for searchers that draw a few at each of a million steps."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.types import Array, Int, Key

STRIDE = np.uint32(0x9E3779B9)  # 2**32 over the golden ratio, made odd: its multiples are spread evenly


def run_keys(seed: int | Int[Array, ""]) -> tuple[Key, Key]:
    """Returns two keys of a run: one for its start, and a stream from which the keys of its steps are made."""
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)


def step_key(stream: Key, step: int | Int[Array, ""]) -> Key:
    """Returns the key of a step of a run: like ``fold_in``, but with the cheaper hash of ``random_bits``.

    Args:
      stream: a key of the run that was made by Threefry (``fold_in``), so that its words already look random.
      step: number of the step, below 2**31.
    """
    both = _hashed(stream, 2, jnp.asarray(step, jnp.uint32) * np.uint32(2))
    # Without the barrier XLA repeats the hash wherever the words are used, for example for each pair of proposed rows.
    one, other = jax.lax.optimization_barrier((both[0], both[1]))
    return jax.random.wrap_key_data(jnp.stack([one, other]), impl="threefry2x32")


def random_bits(key: Key, k: int) -> Int[Array, " k"]:
    """Draws k uniform 32-bit words; the key is consumed.

    ``jax.random.bits`` runs Threefry for every word, which would take longer than the rest of a search. The key of a
    step already looks random. Here its first word starts a Weyl sequence, which is hashed, mixed with its second word
    and hashed again, similar to SplitMix (Steele et al., OOPSLA 2014).

    Args:
      key: a key whose words look random, from ``step_key`` or ``jax.random.fold_in``.
      k: number of words.

    Returns:
      uint32 [k].
    """
    return _hashed(key, k, np.uint32(1))


def below(bits: Int[Array, " *k"], n: int | Int[Array, " *k"]) -> Int[Array, " *k"]:
    """Maps uniform words to uniform integers in 0..n-1: the upper half of the product (Lemire, 2019; no division).

    Args:
      bits: uint32 [...].
      n: integers below 2**31, of a shape that broadcasts; where n is 0, the result is 0.

    Returns:
      int32 [...]; the probabilities of the integers differ by at most a share of n / 2**32.
    """
    bits, most = jnp.broadcast_arrays(bits, jnp.asarray(n, jnp.uint32))
    # The product is computed by halves, which is as fast: lax.mulhi cannot be compiled under shard_map (jax 0.10.2).
    low, high, few, many = bits & 0xFFFF, bits >> 16, most & 0xFFFF, most >> 16
    middle = high * few + ((low * few) >> 16)
    return (high * many + (middle >> 16) + ((low * many + (middle & 0xFFFF)) >> 16)).astype(jnp.int32)


def draw_rows(key: Key, k: int, n: int) -> Int[Array, " k"]:
    """Draws k uniform rows in 0..n-1, int32 [k]; the key is consumed."""
    return below(random_bits(key, k), n)


def _hashed(key: Key, k: int, first: Int[Array, ""] | np.uint32) -> Int[Array, " k"]:
    """Words first … first + k - 1 of a key's sequence."""
    one, other = jax.random.key_data(key)
    return mix(mix(one + STRIDE * (first + jnp.arange(k, dtype=jnp.uint32))) ^ other)


def mix(x: Int[Array, "*k"]) -> Int[Array, "*k"]:
    """A bijection of uint32 that spreads every bit over all others (shift-xor and odd multipliers, by C. Wellons).

    Works on arrays of JAX and of NumPy.
    """
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
