"""Random search: architectures drawn uniformly."""

from __future__ import annotations

from typing import ClassVar

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, State, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import draw_rows
from ncp_jax.types import Array, Int, Key

DRAWN = 8  # architectures a question; one at a time takes as many passes through the loop


@register
class RandomSearch(ArraySearcher):
    """Independent uniform draws: without replacement where repeats are free, with it where they are counted."""

    name: ClassVar[str] = "random"

    @property
    def batch(self) -> int:
        """Architectures asked for at once."""
        return DRAWN

    def start(self, candidates: Candidates, budget: int, key: Key) -> State:
        """Nothing to remember."""
        del candidates, budget, key
        return ()

    def ask(self, candidates: Candidates, state: State, history: History, key: Key) -> tuple[Int[Array, " k"], State]:
        """Draws a few architectures."""
        del history
        return draw_rows(key, DRAWN, len(candidates)), state
