"""Searchers of learning curves: they train many architectures for some epochs, and the better ones longer.

In a study their budget is that of the other searchers: a query pays for as many epochs as a whole training has, of
whatever trainings. ``search_on_curves`` runs them and counts the epochs.
"""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, NoReturn

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import EpochGuard, QueryGuard
from ncp_jax.searchers.base import HostSearcher, choice, register, searcher_class
from ncp_jax.searchers.rungs import halve, promote, rung_epochs
from ncp_jax.spaces import get_space
from ncp_jax.types import Float, Int

if TYPE_CHECKING:
    from ncp_jax.searchers.arch_graph.sources import SourceTasks


@searcher_class
class CurveSearcher(HostSearcher):
    """A searcher that pays for epochs instead of whole trainings; it needs a table with learning curves.

    A run returns, of the architectures that it trained longest, the one with the best last value.
    """

    runs_per_call: ClassVar[int] = 1

    def check(self, epochs: int) -> None:
        """Raises a UsageError if the settings do not fit trainings of so many epochs."""

    @abc.abstractmethod
    def spend(self, guard: EpochGuard, seed: int, *, predict: bool = False) -> Float[np.ndarray, " n"] | None:
        """Makes one run; the result is what the guard has recorded.

        Args:
          guard: trains architectures further, up to the budget.
          seed: the seed of the run.
          predict: whether predictions are wanted.

        Returns:
          The predicted final values of all architectures, higher is better, where they are wanted and there are some.
        """

    def run(self, guard: QueryGuard, seeds: Sequence[int], sources: SourceTasks | None = None) -> NoReturn:
        """Refuses a table without learning curves.

        Raises:
          UsageError: always.
        """
        del guard, seeds, sources
        raise checks.UsageError(
            expected=f"learning curves for {self.name}",
            got="final values alone",
            remedy="name it in the grid of a study, on tables with learning curves",
        )


@register
class Halving(CurveSearcher):
    """Successive halving: one bracket, with as many architectures as the budget allows.

    All are trained for ``least`` epochs. The best 1 / ``factor`` of them go on until ``factor`` times as many epochs,
    and so forth, until at least one is trained to the end. Source: Jamieson & Talwalkar, AISTATS 2016, arXiv
    1502.07943, algorithm "Successive Halving"; there the number of architectures is given, here it follows from the
    budget.

    Attributes:
      factor: the share 1 / factor of those begun goes on at each rung.
      least: epochs of the first rung.
    """

    name: ClassVar[str] = "halving"

    factor: int = choice(3, "one in so many goes on", least=2)
    least: int = choice(1, "epochs of the first rung")

    def check(self, epochs: int) -> None:
        """Raises a UsageError if the first rung is beyond the end."""
        rung_epochs(self.least, self.factor, epochs)

    def spend(self, guard: EpochGuard, seed: int, *, predict: bool = False) -> None:
        """Makes one run; the seed decides which architectures are begun."""
        del predict
        rungs = rung_epochs(self.least, self.factor, guard.epochs)
        halve(guard.train, random_order(guard, seed), rungs, budget=guard.budget, factor=self.factor, finish=True)


@register
class Asha(CurveSearcher):
    """Asynchronous successive halving with one worker: ASHA.

    Whenever an architecture is among the best 1 / ``factor`` of its rung, it is trained until the next one; else a new
    one is begun. Source: Li et al., MLSys 2020, arXiv 1810.05934, algorithm 2. With ``begin`` "predicted", the
    architecture with the largest expected improvement is begun instead of a random one (``partial_curves.Starts``).

    Attributes:
      factor: the share 1 / factor of each rung is trained further.
      least: epochs of the first rung.
      begin: whether "random" or "predicted" architectures are begun.
    """

    name: ClassVar[str] = "asha"

    factor: int = choice(3, "one in so many goes on", least=2)
    least: int = choice(1, "epochs of the first rung")
    begin: str = choice("random", "which architectures are begun", options=("random", "predicted"))

    def check(self, epochs: int) -> None:
        """Raises a UsageError if the first rung is beyond the end."""
        rung_epochs(self.least, self.factor, epochs)

    def spend(self, guard: EpochGuard, seed: int, *, predict: bool = False) -> Float[np.ndarray, " n"] | None:
        """Makes one run; the seed decides which architectures are begun, and between equal predictions."""
        from ncp_jax.searchers.partial_curves import Starts

        rungs, starts = rung_epochs(self.least, self.factor, guard.epochs), None
        if self.begin == "predicted":
            starts = Starts(guard.space, network_codes(guard), guard.epochs)
        order = random_order(guard, seed)
        promote(guard.train, order, rungs, budget=guard.budget, factor=self.factor, starts=starts)
        return starts.expected() if predict and starts else None


def random_order(guard: EpochGuard, seed: int) -> Int[np.ndarray, " n"]:
    """Returns the rows in random order: that of the table helps no searcher."""
    return np.random.default_rng(seed).permutation(len(guard.codes))


def network_codes(guard: EpochGuard) -> Int[np.ndarray, "n d"]:
    """Returns the canonical codes: isomorphic architectures have one."""
    return np.asarray(get_space(guard.space).canonical(jnp.asarray(guard.codes)))
