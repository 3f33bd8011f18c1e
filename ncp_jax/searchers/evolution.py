"""Regularised evolution: the best of a few random members has a mutant, and the oldest member is removed."""

from __future__ import annotations

import dataclasses
from typing import ClassVar, NamedTuple

import jax.numpy as jnp

from ncp_jax import checks
from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import ArraySearcher, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import below, random_bits
from ncp_jax.types import Array, Float, Int, Key


class Population(NamedTuple):
    """The latest members of a population, in a ring buffer.

    Attributes:
      rows: int32 [capacity], the members' rows.
      values: float32 [capacity], their values.
      born: int32 [], number of members so far; the next one takes the slot ``born % population``.
    """

    rows: Int[Array, " c"]
    values: Float[Array, " c"]
    born: Int[Array, ""]


@register
class Evolution(ArraySearcher):
    """Regularised (ageing) evolution: E. Real et al., AAAI 2019 (arXiv 1802.01548), algorithm 1.

    The first ``population`` members are drawn uniformly. Then, at each step, ``tournament`` members are drawn with
    replacement. The best of them (among equals, the one drawn first) has a child: one of its neighbours, drawn
    uniformly. An architecture that is asked for again joins again, whether that costs a query or not.

    Attributes:
      population: number of members alive.
      tournament: number of members that compete to be parent.
      capacity: number of slots for members, at least ``population``. Results do not depend on it.
      competitors: number of slots for competing members, at least ``tournament``. Results do not depend on it.
    """

    name: ClassVar[str] = "evolution"

    population: int | Array = number(30, "members alive", least=1, most=100_000, whole=True)
    tournament: int | Array = number(10, "members that compete to be parent", least=1, most=10_000, whole=True)
    capacity: int = dataclasses.field(default=0, metadata={"static": True})
    competitors: int = dataclasses.field(default=0, metadata={"static": True})

    @property
    def batch(self) -> int:
        """Number of architectures asked for at once."""
        return 1

    @classmethod
    def together(cls, group: list[Evolution]) -> list[Evolution]:
        """Returns the searchers with the slots of the largest population and tournament."""
        most, competitors = max(int(e.population) for e in group), max(int(e.tournament) for e in group)
        return [dataclasses.replace(e, capacity=most, competitors=competitors) for e in group]

    def start(self, candidates: Candidates, budget: int, key: Key) -> Population:
        """Returns an empty population.

        Raises:
          UsageError: the searcher has no slots for it; ``together`` makes them.
        """
        del candidates, budget, key
        slots = self.capacity
        if not slots or not self.competitors:
            raise checks.UsageError(
                expected="slots for members and competitors",
                got=f"{slots} and {self.competitors}",
                remedy="search with Evolution.together([...])",
            )
        return Population(jnp.zeros(slots, jnp.int32), jnp.zeros(slots, jnp.float32), jnp.zeros((), jnp.int32))

    def ask(
        self, candidates: Candidates, state: Population, history: History, key: Key
    ) -> tuple[Int[Array, " k"], Population]:
        """Returns a random architecture while the population fills, then a mutant."""
        del history
        bits = random_bits(key, 1 + self.competitors)
        drawn = below(bits[1:], self.population)
        fitness = jnp.where(jnp.arange(self.competitors) < self.tournament, state.values[drawn], -jnp.inf)
        parent = state.rows[drawn[jnp.argmax(fitness)]]
        child = candidates.neighbours[parent, below(bits[0], candidates.degree[parent])]
        random_row = below(bits[0], len(candidates))
        return jnp.where(state.born < self.population, random_row, child)[None], state

    def tell(
        self, candidates: Candidates, state: Population, rows: Int[Array, " k"], values: Float[Array, " k"]
    ) -> Population:
        """Replaces the oldest member by the answer."""
        del candidates
        slot = state.born % self.population
        return Population(state.rows.at[slot].set(rows[0]), state.values.at[slot].set(values[0]), state.born + 1)
