"""Guards learning curves from a search method: shows the epochs that a run has paid for, up to a budget of epochs."""

from __future__ import annotations

from typing import NoReturn

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.guard import BudgetExceeded
from ncp_jax.types import Float, Int


class EpochGuard:
    """The learning curves of one column, for one run of a search method. Runs on the host.

    A run pays for each epoch of each training once: to train an architecture further costs the further epochs alone.
    It sees the values after the epochs that it has paid for, and nothing else. As with ``QueryGuard``, this prevents
    accidents, not fraud.

    Args:
      curves: float [n, e], values after epochs 1..e, oriented so that higher is better; not finite where a training
        failed.
      codes: int [n, d], the architectures.
      space: name of the space of the codes.
      budget: maximum number of epochs of all trainings together, at least 1.

    Raises:
      UsageError: a budget below 1.
    """

    __slots__ = ("__budget", "__codes", "__curves", "__reached", "__space", "__spent", "__steps")

    def __init__(
        self, curves: Float[np.ndarray, "n e"], *, codes: Int[np.ndarray, "n d"], space: str, budget: int
    ) -> None:
        self.__budget = checks.integer("budget", budget, least=1, remedy="it is in epochs")
        self.__curves, self.__space = curves, space
        self.__codes = np.array(codes, np.int32)
        self.__codes.flags.writeable = False
        self.__reached: dict[int, int] = {}
        self.__steps: list[tuple[int, int]] = []
        self.__spent = 0

    @property
    def space(self) -> str:
        """Name of the space of the codes."""
        return self.__space

    @property
    def codes(self) -> Int[np.ndarray, "n d"]:
        """int32 [n, d], the candidates, read-only. ``train`` takes their row numbers."""
        return self.__codes

    @property
    def epochs(self) -> int:
        """Epochs of a whole training, e."""
        return self.__curves.shape[1]

    @property
    def budget(self) -> int:
        """Maximum number of epochs of all trainings together."""
        return self.__budget

    @property
    def remaining(self) -> int:
        """Epochs that can still be paid for."""
        return self.__budget - self.__spent

    @property
    def steps(self) -> list[tuple[int, int]]:
        """(row, epochs) of each call that paid for something: the epochs that the row was trained for then. A copy."""
        return list(self.__steps)

    def train(self, row: int, epochs: int) -> Float[np.ndarray, " p"]:
        """Trains an architecture until an epoch, and returns its curve until then.

        Args:
          row: row of ``codes``.
          epochs: 1..e. Those that were paid for before cost nothing.

        Returns:
          float64 [epochs], values after epochs 1..epochs, higher is better; -inf where the training failed.

        Raises:
          BudgetExceeded: the further epochs do not fit into the budget. No value was revealed and nothing counted.
          UsageError: a row or a number of epochs that is not there.
        """
        row = checks.integer("row", row, least=0, most=len(self.__codes) - 1, remedy="it is a row of guard.codes")
        whole = f"a whole training has {self.epochs}"
        epochs = checks.integer("epochs", epochs, least=1, most=self.epochs, remedy=whole)
        price = epochs - self.__reached.get(row, 0)
        if price > self.remaining:
            raise BudgetExceeded(
                expected=f"at most {self.remaining} more epochs (budget {self.__budget})",
                got=str(price),
                remedy="see remaining; nothing was counted",
            )
        if price > 0:
            self.__reached[row] = epochs
            self.__spent += price
            self.__steps.append((row, epochs))
        curve = np.array(self.__curves[row, :epochs], np.float64)
        return np.where(np.isfinite(curve), curve, -np.inf)

    def __repr__(self) -> str:
        return f"EpochGuard({self.__space!r}, {len(self.__codes)} rows, paid {self.__spent} of {self.__budget} epochs)"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        """Refuses to be pickled or copied, which would reveal the values.

        Raises:
          UsageError: always.
        """
        raise checks.UsageError(
            expected="a guard to stay where it was made",
            got="a request to pickle or copy it",
            remedy="make it anew from its curves",
        )
