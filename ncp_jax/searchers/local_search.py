"""Local search: go to a better neighbour until there is none, then begin anew."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, choice, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import below, words
from ncp_jax.types import Array, Float, Int, Key


class Climb(NamedTuple):
    """Where a climb stands.

    Attributes:
      here: int32 [], the architecture whose neighbours are looked at; -1 before a climb.
      value: float32 [], its value.
      order: int32 [k], places in its list of neighbours; the first ``left`` are those not looked at yet.
      left: int32 [].
      best: int32 [], the best of those looked at, and
      best_value: float32 [], its value.
    """

    here: Int[Array, ""]
    value: Float[Array, ""]
    order: Int[Array, " k"]
    left: Int[Array, ""]
    best: Int[Array, ""]
    best_value: Float[Array, ""]


@register
class LocalSearch(ArraySearcher):
    """Hill climbing with restarts: C. White et al., UAI 2021 (arXiv 2005.02960).

    Begins at an architecture drawn uniformly, and looks at its neighbours in random order. With ``move`` "best" all of
    them are looked at, and the best is next if it is better; with "first" the first better one is. Where none is
    better, a new climb begins at random.

    Attributes:
      move: "first" or "best".
    """

    name: ClassVar[str] = "local-search"

    move: str = choice("first", "which better neighbour is next", options=("first", "best"))

    @property
    def batch(self) -> int:
        """Architectures asked for at once."""
        return 1

    def start(self, candidates: Candidates, budget: int, key: Key) -> Climb:
        """Before the first climb."""
        del budget, key
        none, low = jnp.full((), -1, jnp.int32), jnp.full((), -jnp.inf, jnp.float32)
        order = jnp.arange(candidates.neighbours.shape[1], dtype=jnp.int32)
        return Climb(none, low, order, jnp.zeros((), jnp.int32), none, low)

    def ask(self, candidates: Candidates, state: Climb, history: History, key: Key) -> tuple[Int[Array, " k"], Climb]:
        """A neighbour not looked at yet, or where a new climb begins."""
        del history
        anew = state.here < 0
        drawn = below(words(key, 1)[0], jnp.where(anew, len(candidates), state.left))
        # Shuffled only as far as it is looked at: the last one fills the gap.
        last = jnp.maximum(state.left - 1, 0)
        place = jnp.where(anew, last, drawn)
        row = jnp.where(anew, drawn, candidates.neighbours[state.here, state.order[place]])
        order = state.order.at[place].set(state.order[last])
        return row[None], state._replace(order=order, left=last)

    def tell(self, candidates: Candidates, state: Climb, rows: Int[Array, " k"], values: Float[Array, " k"]) -> Climb:
        """Moves on, goes on looking, or ends the climb."""
        row, value = rows[0], values[0]
        better = value > state.best_value
        best, best_value = jnp.where(better, row, state.best), jnp.where(better, value, state.best_value)
        looked = state.left == 0
        improved = best_value > state.value
        move = improved & (looked if self.move == "best" else True)
        over = looked & ~improved
        low = jnp.full((), -jnp.inf, jnp.float32)
        return Climb(
            here=jnp.where(over, -1, jnp.where(move, best, state.here)),
            value=jnp.where(over, low, jnp.where(move, best_value, state.value)),
            order=jnp.where(move, jnp.arange(len(state.order), dtype=jnp.int32), state.order),
            left=jnp.where(move, candidates.degree[best], state.left),
            best=best,
            best_value=jnp.where(over, low, best_value),
        )
