"""Local search: moves to a better neighbour until there is none, then restarts."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, choice, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import below, random_bits
from ncp_jax.types import Array, Float, Int, Key


class Climb(NamedTuple):
    """State of a climb.

    Attributes:
      here: int32 [], row of the architecture whose neighbours are examined; -1 before a climb.
      value: float32 [], its value.
      order: int32 [k], indices into its list of neighbours; the first ``left`` are not examined yet.
      left: int32 [], number of neighbours that are not examined yet.
      best: int32 [], row of the best neighbour examined.
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

    A climb starts at an architecture drawn uniformly and examines its neighbours in random order. With ``move`` "first"
    it moves to the first neighbour that is better; with "best" it examines all of them and moves to the best one if
    that is better. If no neighbour is better, a new climb starts.

    Attributes:
      move: "first" or "best".
    """

    name: ClassVar[str] = "local-search"

    move: str = choice("first", "which better neighbour is next", options=("first", "best"))

    @property
    def batch(self) -> int:
        """Number of architectures asked for at once."""
        return 1

    def start(self, candidates: Candidates, budget: int, key: Key) -> Climb:
        """Returns the state before the first climb."""
        del budget, key
        none, low = jnp.full((), -1, jnp.int32), jnp.full((), -jnp.inf, jnp.float32)
        order = jnp.arange(candidates.neighbours.shape[1], dtype=jnp.int32)
        return Climb(none, low, order, jnp.zeros((), jnp.int32), none, low)

    def ask(self, candidates: Candidates, state: Climb, history: History, key: Key) -> tuple[Int[Array, " k"], Climb]:
        """Returns a neighbour that is not examined yet, or the start of a new climb."""
        del history
        anew = state.here < 0
        drawn = below(random_bits(key, 1)[0], jnp.where(anew, len(candidates), state.left))
        # One step of a Fisher-Yates shuffle: the last unexamined neighbour takes the place of the one drawn.
        last = jnp.maximum(state.left - 1, 0)
        place = jnp.where(anew, last, drawn)
        row = jnp.where(anew, drawn, candidates.neighbours[state.here, state.order[place]])
        order = state.order.at[place].set(state.order[last])
        return row[None], state._replace(order=order, left=last)

    def tell(self, candidates: Candidates, state: Climb, rows: Int[Array, " k"], values: Float[Array, " k"]) -> Climb:
        """Moves to a better neighbour, continues with the next one, or ends the climb."""
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
