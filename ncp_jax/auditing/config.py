"""Holds the settings of an audit, and the check that a table has enough rows for them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.conformal import needed_scores

if TYPE_CHECKING:
    from ncp_jax.benchmarks import Table


@dataclasses.dataclass(frozen=True)
class AuditConfig:
    """Settings of an audit.

    Attributes:
      level: share of true values that the intervals shall contain, in (0, 1).
      folds: number of folds; every model is fitted without one of them.
      steps: gradient steps of each network.
    """

    level: float = 0.9
    folds: int = 5
    steps: int = 600

    def __post_init__(self) -> None:
        if not isinstance(self.level, int | float) or not 0 < self.level < 1:
            raise checks.UsageError(expected="a level between 0 and 1", got=repr(self.level), remedy="try level=0.9")
        checks.integer("folds", self.folds, least=2, remedy="try folds=5")
        checks.integer("steps", self.steps, least=1, remedy="try steps=600")

    @property
    def fewest(self) -> int:
        """Number of different architectures below which a table cannot be split into folds that calibrate."""
        return max(2 * needed_scores(self.level), 4 * self.folds)

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as a JSON-ready dictionary."""
        return dataclasses.asdict(self)


def check_rows(table: Table, config: AuditConfig | None = None) -> None:
    """Raises UsageError for a table with too few architectures to split."""
    config = config or AuditConfig()
    rows = len(np.unique(np.asarray(table.codes), axis=0))
    if rows < config.fewest:
        raise checks.UsageError(
            expected=f"at least {config.fewest} measured architectures to split at a level of {config.level:g}",
            got=f"{rows} in {table.name}",
            remedy="measure more, or audit in Python with a lower level",
        )
