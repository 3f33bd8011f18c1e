"""Specifies metrics: task, split, epoch, unit and direction of a column of numbers, and how float32 stores them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ncp_jax import checks
from ncp_jax.types import Direction

ON_TEST = "searched on test values"  # what results of such a search say

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax.types import Float

FORMS = ("linear", "log", "asinh")
LARGEST = 1.7e308  # no restored value is beyond it, however far a prediction extrapolates


@dataclasses.dataclass(frozen=True)
class StoredUnit:
    """The unit in which float32 arrays hold a metric that they cannot hold in its own unit.

    The map rises, so the order of architectures stays. ``benchmarks.stored_units`` chooses it.

    Attributes:
      form: "linear" stores ``x = (value - offset) / scale``; "log" stores ``log(x)`` of positive x; "asinh" stores
        ``asinh(x)``, which is linear near the offset and a logarithm far from it, in both directions.
      offset: value that is stored as 0, in the metric's own unit.
      scale: > 0, in the metric's own unit.
    """

    form: str
    offset: float
    scale: float

    def __post_init__(self) -> None:
        checks.choose("form of a stored unit", self.form, FORMS)
        checks.positive("scale of a stored unit", self.scale)

    def store(self, values: Any) -> Any:
        """Converts values, a NumPy or JAX array, from the metric's own unit to the stored one."""
        shifted, functions = values - self.offset, values.__array_namespace__()
        if self.form == "log":
            # Costs of architectures that the table lacks may be 0.
            tiny = 5e-324 if shifted.dtype == "float64" else 1.2e-38
            return functions.log(functions.maximum(shifted, tiny)) - math.log(self.scale)
        return shifted / self.scale if self.form == "linear" else functions.asinh(shifted / self.scale)

    def restore(self, stored: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
        """Converts stored values to the metric's own unit, in float64. The results are finite if the values are."""
        import numpy as np

        with np.errstate(over="ignore"):
            wide = np.asarray(stored, np.float64)
            if self.form == "log":
                shifted = np.exp(wide + math.log(self.scale))
            else:
                shifted = self.scale * (wide if self.form == "linear" else np.sinh(wide))
            return np.clip(shifted + self.offset, -LARGEST, LARGEST)

    def restore_spread(
        self, stored: Float[np.ndarray, "*n"], spread: Float[np.ndarray, "*n"]
    ) -> Float[np.ndarray, "*n"]:
        """Converts a spread around stored values: half the distance between the values one spread above and below."""
        import numpy as np

        if self.form == "linear":
            return np.asarray(spread, np.float64) * self.scale
        return self.restore(stored + spread) / 2 - self.restore(stored - spread) / 2


@dataclasses.dataclass(frozen=True)
class MetricSpec:
    """The specification of one metric.

    Attributes:
      name: name of the column, unique in its table ("mIoU", "seg/mIoU").
      task: task of the measurement ("seg"), or "" for a metric of no task; of a cost, the task whose network is
        counted, where the column says so.
      split: data split ("train", "validation", "test"), or "" for costs.
      epoch: training epoch of the value ("final", "best"), or "" for costs.
      unit: unit of the values ("%", "GMAC", "M").
      direction: "maximize" or "minimize". It is part of the data and never inferred from a sign or a name.
      kind: "quality" for metrics measured by training, "cost" for those that the architecture alone determines.
      stored: unit in which float32 arrays hold the metric; None for its own unit, which is nearly always enough.
      seed: seed of the training ("777"), "mean" for the mean over the seeds of an architecture, or "" where the data
        does not say.
    """

    name: str
    task: str = ""
    split: str = ""
    epoch: str = ""
    unit: str = ""
    direction: Direction = "maximize"
    kind: str = "quality"
    stored: StoredUnit | None = None
    seed: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.stored, Mapping):  # read from JSON
            object.__setattr__(self, "stored", StoredUnit(**self.stored))
        checks.choose("direction", self.direction, ("maximize", "minimize"))
        checks.choose("metric kind", self.kind, ("quality", "cost"))

    @property
    def sign(self) -> float:
        """+1 if higher is better, -1 if lower is better."""
        return 1.0 if self.direction == "maximize" else -1.0

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary, for ``MetricSpec(**fields)``."""
        fields = dataclasses.asdict(self)
        # Without fields that say nothing: hashes of tables and studies were made before they existed.
        silent = [name for name in ("stored", "seed") if not fields[name]]
        return {name: value for name, value in fields.items() if name not in silent}


def to_own_units(
    metrics: Sequence[MetricSpec], mean: Float[np.ndarray, "*n m"], spread: Float[np.ndarray, "*n m"]
) -> tuple[Float[np.ndarray, "*n m"], Float[np.ndarray, "*n m"]]:
    """Converts stored means and spreads of metrics to their own units: to float64, or not at all if all are already."""
    import numpy as np

    if not any(metric.stored for metric in metrics):
        return mean, spread
    own, own_spread = np.array(mean, np.float64), np.array(spread, np.float64)
    for column, unit in enumerate(metric.stored for metric in metrics):
        if unit is not None:
            own[..., column] = unit.restore(mean[..., column])
            own_spread[..., column] = unit.restore_spread(mean[..., column], spread[..., column])
    return own, own_spread


def check_split(metric: MetricSpec, *, on_test: bool) -> None:
    """Checks that a column may be searched, or learned for a search.

    Args:
      metric: the column.
      on_test: whether columns of the test split are allowed.

    Raises:
      UsageError: it is of the test split, and that is not allowed.
    """
    if metric.split == "test" and not on_test:
        raise checks.UsageError(
            expected="a training or validation column to search on",
            got=f"{metric.name} of the test split",
            remedy="search on another column, and evaluate on this one; or allow it with --on-test (on_test=True)",
        )


def find_metric(metrics: tuple[MetricSpec, ...], name: str) -> int:
    """Returns the position of the metric called ``name``; UsageError with the nearest names if there is none."""
    names = [m.name for m in metrics]
    return names.index(checks.choose("metric", name, names))


def main_metric(metrics: tuple[MetricSpec, ...]) -> MetricSpec:
    """Returns the main metric, which is the first quality metric; UsageError if all metrics are costs."""
    for metric in metrics:
        if metric.kind == "quality":
            return metric
    raise checks.UsageError(
        expected="a quality metric",
        got="cost metrics alone",
        remedy="name the column to raise or lower with --maximize or --minimize",
    )
