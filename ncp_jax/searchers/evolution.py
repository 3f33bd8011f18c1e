"""Regularised evolution: a tournament picks a parent, its mutant joins the population, the oldest member leaves."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from ncp_jax import checks
from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import below, words
from ncp_jax.types import Array, Float, Int, Key


class Population(NamedTuple):
    """The last members of a population, in a ring.

    Attributes:
      rows: int32 [capacity].
      values: float32 [capacity].
      born: int32 [], members so far; the next goes to ``born % population``.
    """

    rows: Int[Array, " c"]
    values: Float[Array, " c"]
    born: Int[Array, ""]


@register
class Evolution(ArraySearcher):
    """Regularised (ageing) evolution: E. Real et al., AAAI 2019 (arXiv 1802.01548), algorithm 1.

    The first ``population`` members are drawn uniformly. Then ``tournament`` members are drawn with replacement, the
    best of them (of equals, the one drawn first) has a child: a neighbour drawn uniformly. A member asked for again
    joins again, whether that costs a query or not.

    Attributes:
      population: members that are alive.
      tournament: members that compete to be parent.
      capacity: slots for members, at least ``population``; changes nothing in the results.
      rivals: slots for competitors, at least ``tournament``; likewise.
    """

    name: ClassVar[str] = "evolution"

    population: int | Array = number(30, "members alive", least=1, most=100_000, whole=True)
    tournament: int | Array = number(10, "members that compete to be parent", least=1, most=10_000, whole=True)
    capacity: int = dataclasses.field(default=0, metadata={"static": True})
    rivals: int = dataclasses.field(default=0, metadata={"static": True})

    @property
    def batch(self) -> int:
        """Architectures asked for at once."""
        return 1

    @classmethod
    def together(cls, group: list[Evolution]) -> list[Evolution]:
        """Shares the largest population's slots."""
        most, rivals = max(int(e.population) for e in group), max(int(e.tournament) for e in group)
        return [Evolution(e.population, e.tournament, capacity=most, rivals=rivals) for e in group]

    def start(self, candidates: Candidates, budget: int, key: Key) -> Population:
        """An empty population.

        Raises:
          UsageError: no slots for it, which ``together`` provides.
        """
        del candidates, budget, key
        slots = self.capacity
        if not slots or not self.rivals:
            raise checks.UsageError(
                expected="slots for members and competitors",
                got=f"{slots} and {self.rivals}",
                remedy="search with Evolution.together([...])",
            )
        return Population(jnp.zeros(slots, jnp.int32), jnp.zeros(slots, jnp.float32), jnp.zeros((), jnp.int32))

    def ask(
        self, candidates: Candidates, state: Population, history: History, key: Key
    ) -> tuple[Int[Array, " k"], Population]:
        """A random architecture while the population fills, then a mutant."""
        del history
        bits = words(key, 1 + self.rivals)
        drawn = below(bits[1:], self.population)
        fitness = jnp.where(jnp.arange(self.rivals) < self.tournament, state.values[drawn], -jnp.inf)
        parent = state.rows[drawn[jnp.argmax(fitness)]]
        child = candidates.neighbours[parent, below(bits[0], candidates.degree[parent])]
        stranger = below(bits[0], len(candidates))
        return jnp.where(state.born < self.population, stranger, child)[None], state

    def tell(
        self, candidates: Candidates, state: Population, rows: Int[Array, " k"], values: Float[Array, " k"]
    ) -> Population:
        """The answer joins, the oldest leaves."""
        del candidates
        slot = state.born % self.population
        return Population(state.rows.at[slot].set(rows[0]), state.values.at[slot].set(values[0]), state.born + 1)
