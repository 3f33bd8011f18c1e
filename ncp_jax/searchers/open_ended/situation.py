"""What an open-ended session's choice depends on, and codes that it may still ask for."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import jax
import numpy as np

from ncp_jax.searchers.open_ended import surrogate as gp
from ncp_jax.searchers.open_ended.observations import Observations
from ncp_jax.spaces import Space
from ncp_jax.types import Bool, Int, Key

if TYPE_CHECKING:
    from ncp_jax.searchers.open_ended.config import OpenConfig

LISTED = 4096  # a space of at most so many codes is looked at as a whole
TRIES = 64  # rounds of draws before a space counts as exhausted
PORTION = 512  # codes drawn at once


class Choice(NamedTuple):
    """A code to train, and why: "spread out", "explore", "exploit", "policy", "edit" or "random"."""

    code: np.ndarray
    why: str


@dataclasses.dataclass(frozen=True)
class Situation:
    """All that a choice depends on.

    Attributes:
      space: the space.
      config: configuration of the session.
      observations: what was measured.
      pending: codes that are being trained.
      asked: number of codes asked for before.
      sources: processes of other tasks, or None.
    """

    space: Space
    config: OpenConfig
    observations: Observations
    pending: list[np.ndarray]
    asked: int
    sources: gp.Model | None

    def key(self, number: int) -> jax.Array:
        """Returns the key of the code with this number."""
        return jax.random.fold_in(jax.random.key(self.config.seed), number)

    def new(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Returns True for each code that is neither measured nor pending."""
        return np.array([code.tobytes() not in self._taken for code in codes], bool)

    @functools.cached_property
    def _taken(self) -> set[bytes]:
        return {code.tobytes() for code in [*self.observations.codes, *self.pending]}


def seed_of(key: Key) -> int:
    """Returns a seed of NumPy's generators."""
    return int(jax.random.bits(key))


def fresh(now: Situation, key: Key) -> Iterator[Int[np.ndarray, "k d"]]:
    """Yields portions of new codes within the limits on costs; none once they seem to be exhausted."""
    goals = now.observations.goals
    if now.space.size <= LISTED:
        codes = now.space.all_codes()
        portions = iter([codes[np.random.default_rng(seed_of(key)).permutation(len(codes))]])
    else:
        portions = (np.asarray(now.space.sample(key, PORTION, first=i * PORTION)) for i in range(TRIES))
    for codes in portions:
        codes = goals.brought_within(codes, key)
        codes = codes[goals.allowed(codes)]
        codes = codes[now.new(codes)]
        if len(codes):
            different = {code.tobytes(): code for code in codes}
            yield np.array(list(different.values()), np.int32)


def drawn(now: Situation, key: Key, why: str) -> Choice | None:
    """Returns a random code; None once the space seems to be exhausted."""
    codes = next(fresh(now, key), None)
    return None if codes is None else Choice(codes[0], why)
