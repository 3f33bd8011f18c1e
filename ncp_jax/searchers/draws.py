"""Random integers from a key at little cost: for searchers that draw a few at each of a million questions."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.types import Array, Int, Key

STRIDE = np.uint32(0x9E3779B9)  # 2**32 over the golden ratio, odd: multiples of it are spread evenly


def run_keys(seed: int | Int[Array, ""]) -> tuple[Key, Key]:
    """Two keys of a run: one for its start, and a stream for its questions."""
    key = jax.random.key(seed, impl="threefry2x32")
    return jax.random.fold_in(key, 0), jax.random.fold_in(key, 1)


def question_key(stream: Key, step: int | Int[Array, ""]) -> Key:
    """The key of a run's step-th question: what ``fold_in`` would do, by the hash of ``words``.

    Args:
      stream: a key of the run that Threefry has made (``fold_in``): its words look random already.
      step: below 2**31.
    """
    both = _hashed(stream, 2, jnp.asarray(step, jnp.uint32) * np.uint32(2))
    # Without the barrier XLA hashes anew wherever the words are used, for each pair of rows in a question for instance.
    one, other = jax.lax.optimization_barrier((both[0], both[1]))
    return jax.random.wrap_key_data(jnp.stack([one, other]), impl="threefry2x32")


def words(key: Key, k: int) -> Int[Array, " k"]:
    """Stretches the two words of a key to k uniform ones; the key is used up.

    ``jax.random.bits`` runs Threefry once more for every word, which for a search takes longer than all the rest of it.
    The key of a question looks random already: here its first word starts a Weyl sequence, which is hashed, mixed with
    its second word and hashed again (much as SplitMix does: Steele et al., OOPSLA 2014).

    Args:
      key: a key whose words look random, of ``question_key`` or ``jax.random.fold_in``.
      k: how many words.

    Returns:
      uint32 [k].
    """
    return _hashed(key, k, np.uint32(1))


def below(bits: Int[Array, " *k"], n: int | Int[Array, " *k"]) -> Int[Array, " *k"]:
    """Uniform integers in 0..n-1 from uniform words: the upper half of the product (Lemire, 2019; no division).

    Args:
      bits: uint32 [...].
      n: integers below 2**31, of a shape that broadcasts; where 0, the result is 0.

    Returns:
      int32 [...]; some integers come up more often than others, by at most a share n / 2**32.
    """
    bits, most = jnp.broadcast_arrays(bits, jnp.asarray(n, jnp.uint32))
    # By halves, as fast: XLA's own (lax.mulhi) cannot be compiled for several devices (shard_map, jax 0.10.2).
    low, high, few, many = bits & 0xFFFF, bits >> 16, most & 0xFFFF, most >> 16
    middle = high * few + ((low * few) >> 16)
    return (high * many + (middle >> 16) + ((low * many + (middle & 0xFFFF)) >> 16)).astype(jnp.int32)


def draw_rows(key: Key, k: int, n: int) -> Int[Array, " k"]:
    """Draws k uniform rows of n, int32; the key is used up."""
    return below(words(key, k), n)


def _hashed(key: Key, k: int, first: Int[Array, ""] | np.uint32) -> Int[Array, " k"]:
    """Words number first … first + k - 1 of a key's sequence."""
    one, other = jax.random.key_data(key)
    return _mix(_mix(one + STRIDE * (first + jnp.arange(k, dtype=jnp.uint32))) ^ other)


def _mix(x: Int[Array, " k"]) -> Int[Array, " k"]:
    """A bijection of uint32 that spreads every bit over all (shift-xor and odd multipliers, by C. Wellons)."""
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * np.uint32(0x846CA68B)
    return x ^ (x >> 16)
