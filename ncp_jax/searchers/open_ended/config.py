"""The settings of an open-ended session."""

from __future__ import annotations

import dataclasses

from ncp_jax import checks
from ncp_jax.propagation.limit import Limit

OPEN_SEARCHERS = (
    "ncp",
    "bayesian",
    "neural-ensemble",
    "arch-graph",
    "reinforce",
    "evolution",
    "local-search",
    "random",
)


@dataclasses.dataclass(frozen=True)
class OpenConfig:
    """What an open-ended session searches, and how.

    Attributes:
      space: name of the space.
      maximize: metrics to maximise.
      minimize: metrics to minimise.
      limits: limits on metrics or known costs, as text: "latency_ms<=20".
      confidence: probability with which a code that is asked for satisfies a limit on a metric.
      searcher: one of ``OPEN_SEARCHERS``.
      initial: number of architectures that are spread over the space before a model is used.
      seed: random seed.
    """

    space: str
    maximize: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    limits: tuple[str, ...] = ()
    confidence: float = 0.5
    searcher: str = "ncp"
    initial: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("maximize", "minimize", "limits"):
            given = getattr(self, name)
            given = (given,) if isinstance(given, str | Limit) else tuple(given)
            object.__setattr__(self, name, tuple(map(_written, given)) if name == "limits" else given)
        checks.choose("searcher", self.searcher, OPEN_SEARCHERS)
        checks.integer("initial", self.initial, least=1, remedy="try 10")
        checks.integer("seed", self.seed, least=0, most=2**32 - 1, remedy="try 0")
        if not (isinstance(self.confidence, int | float) and 0 < self.confidence < 1):
            raise checks.UsageError(
                expected="a confidence above 0 and below 1", got=repr(self.confidence), remedy="try 0.5"
            )


def _written(limit: str | Limit) -> str:
    """Returns a limit as text that reads as the same limit."""
    read = Limit.parse(limit) if isinstance(limit, str) else limit
    return f"{read.metric}{read.relation}{float(read.value)!r}"
