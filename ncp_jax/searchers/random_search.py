"""Random search: architectures drawn uniformly."""

from __future__ import annotations

from typing import ClassVar

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, State, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import draw_rows
from ncp_jax.types import Array, Int, Key

DRAWN = 8  # architectures per proposal: drawing them one at a time would take eight times the passes of the loop


@register
class RandomSearch(ArraySearcher):
    """Random search: independent uniform draws, without replacement where repeats are free, else with replacement."""

    name: ClassVar[str] = "random"

    @property
    def batch(self) -> int:
        """Number of architectures asked for at once."""
        return DRAWN

    def start(self, candidates: Candidates, budget: int, key: Key) -> State:
        """Returns an empty state."""
        del candidates, budget, key
        return ()

    def ask(self, candidates: Candidates, state: State, history: History, key: Key) -> tuple[Int[Array, " k"], State]:
        """Draws the next architectures."""
        del history
        return draw_rows(key, DRAWN, len(candidates)), state
