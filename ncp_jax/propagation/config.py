"""Configures an inversion: the settings of the gradient loop and of its execution."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from ncp_jax import checks
from ncp_jax.console import short_repr
from ncp_jax.pytrees import register_dataclass
from ncp_jax.spaces.codes import ISOMORPHISM
from ncp_jax.types import Int

if TYPE_CHECKING:
    from ncp_jax.propagation.region import TrustRegion
    from ncp_jax.spaces import CostModel

STRATEGIES = ("continuous", "winner-takes-all")
FOLLOW = ("member", "mean", "bound")
DISCRETENESS = ("none", "straight-through", "annealed")
PRECISIONS = ("float32", "tf32", "bfloat16")
KERNELS = ("auto", "xla", "pallas")
# Settings that JSON cannot hold, as errors call them.
UNWRITTEN = {"transform": "a transform", "region": "a region", "measured": "measured codes", "costs": "a cost model"}


# Marks settings that shape the compiled program. The others are numbers, which a vmap may sweep.
STATIC = {"static": True}
# Bounds as a hashable tuple of (position or pattern, lowest, highest): static settings must be hashable.
BoundsItems = tuple[tuple[Any, int | None, int | None], ...]


class Transform(Protocol):
    """An optax gradient transformation."""

    init: Any
    update: Any


@register_dataclass
@dataclasses.dataclass(frozen=True)
class PropagationConfig:
    """Settings of the gradient loop. Numeric settings may be arrays, so that a vmap can sweep them.

    ``PropagationConfig.authors()`` returns the authors' settings. The default differs from them in the step size and,
    for ensembles, in ``follow``: this project's networks are flatter, and 70 steps of size 3 stop half-way
    (docs/search.md). docs/inversion.md measures the options against exploiting a predictor's errors.

    Attributes:
      steps: number of iterations.
      learning_rate: step size on the code, in standard units. Unused with a ``transform``, which has its own.
      delta: distance that each iteration asks a metric of weight 1 to move, in standard units.
      strategy: "continuous" moves all positions; "winner-takes-all" moves only the one with the largest gradient.
      ceiling_weight: weight of the push on a metric above its ceiling or below its floor.
      follow: the gradient that a code follows. "member": code i follows network i modulo the ensemble's size, which
        costs as much as one network and adds variety. "mean": every code follows the ensemble's mean. "bound": every
        code follows the ensemble's lower confidence bound, and is ranked by it: mean - ``confidence`` x spread of a
        metric to raise, mean + ``confidence`` x spread of a metric to lower. "member" and "mean" rank by the mean.
      confidence: number of spreads between mean and bound, >= 0. Used where ``follow`` is "bound".
      exact_costs: whether codes follow the exact relaxed costs of a space with a cost model instead of predicted costs.
        It is refused where neither the objective nor a limit has such a cost. This raises the best scores by about 0.01
        standard deviations, takes a fifth more time, and adds some seconds of compilation (docs/search.md). Ranking,
        limits and reports use exact costs either way.
      precision: precision of the matrix products in the loop: "float32", "tf32" or "bfloat16". Codes, sums and ranking
        stay in float32. Predictors other than FoldedMLP see it as JAX's default matmul precision.
      transform: optax transformation that turns gradients into updates, with a separate state for each code. None for
        the authors' step, which has no state.
      region: trust region around the data (see ``TrustRegion.around``), or None.
      discreteness: point at which the gradient is taken. "none": the relaxed code; "straight-through": the nearest
        legal code; "annealed": a point between the two that moves from the first to the second over the iterations.
      bounds: narrower limits on positions, ``{"stage1.num_blocks": (1, 2), "*.num_channels[*]": (8, 64)}``, as
        ``spaces.Bounds`` reads them. Starts, moving codes and results stay inside.
      restarts: number of times that a code restarts elsewhere because another code has reached the same architecture.
        Results then depend on the other codes.
      polish: number of best codes to improve by single edits until no edit helps; with several preferences, of codes
        on the front.
      preferences: number of weightings of the objective's metrics among which the codes are divided: 1 for the
        objective's own; more for a Pareto front between its metrics (see ``Found.pareto``). A code takes its weights
        along, so thousands of weightings are one call that takes as long as one search. The objective's own weights
        still set the scores.
      same_network: rule by which two codes are the same network, of which one is kept: one of the ``same_networks`` of
        the space.
      costs: cost model whose numbers limits, objectives and results mean, for example
        ``cost_model(space, task, of="task")``; None for that of the predictor's metrics. The costs that the predictor
        has learned are then not used.
      measured: ``[j, d]`` codes that are ranked beside those reached, for example the rows of a table; those outside
        bounds or limit are left out. None for none.
    """

    steps: int = dataclasses.field(default=70, metadata=STATIC)
    learning_rate: float = 10.0
    delta: float = 0.1
    strategy: str = dataclasses.field(default="continuous", metadata=STATIC)
    ceiling_weight: float = 1.0
    follow: str = dataclasses.field(default="member", metadata=STATIC)
    confidence: float = 1.0
    exact_costs: bool = dataclasses.field(default=False, metadata=STATIC)
    precision: str = dataclasses.field(default="float32", metadata=STATIC)
    transform: Transform | None = dataclasses.field(default=None, metadata=STATIC)
    region: TrustRegion | None = None
    discreteness: str = dataclasses.field(default="none", metadata=STATIC)
    bounds: BoundsItems | Mapping[Any, Any] = dataclasses.field(default=(), metadata=STATIC)
    restarts: int = dataclasses.field(default=0, metadata=STATIC)
    polish: int = dataclasses.field(default=0, metadata=STATIC)
    preferences: int = dataclasses.field(default=1, metadata=STATIC)
    same_network: str = dataclasses.field(default=ISOMORPHISM, metadata=STATIC)
    costs: CostModel | None = dataclasses.field(default=None, metadata=STATIC)
    measured: Int[np.ndarray, "j d"] | None = None

    __repr__ = short_repr

    def __post_init__(self) -> None:
        choices = {"strategy": STRATEGIES, "follow": FOLLOW, "precision": PRECISIONS, "discreteness": DISCRETENESS}
        for name, options in choices.items():
            object.__setattr__(self, name, checks.choose(name, getattr(self, name), options))
        for name, example in (("steps", 70), ("restarts", 1), ("polish", 8)):
            value = checks.integer(name, getattr(self, name), least=0, remedy=f"try {name}={example}")
            object.__setattr__(self, name, value)
        value = checks.integer("preferences", self.preferences, least=1, remedy="try preferences=256")
        object.__setattr__(self, "preferences", value)
        for name in ("learning_rate", "delta", "ceiling_weight", "confidence"):
            value = getattr(self, name)
            if isinstance(value, (int, float)):  # inside jit and vmap the numbers are arrays
                checks.positive(name, value, zero=name in ("ceiling_weight", "confidence"))
        if isinstance(self.bounds, Mapping):
            pairs = [(key, *_pair(key, value)) for key, value in self.bounds.items()]
            object.__setattr__(self, "bounds", tuple(pairs))
        elif not isinstance(self.bounds, tuple):
            raise checks.UsageError(
                expected="bounds as a mapping of position to (lowest, highest)",
                got=repr(self.bounds),
                remedy='try {"last_channel": (8, 64)}',
            )
        if self.transform is not None and not (hasattr(self.transform, "init") and hasattr(self.transform, "update")):
            raise checks.UsageError(
                expected="an optax transformation", got=repr(self.transform), remedy="try transform=optax.adam(0.1)"
            )

    @property
    def bounds_map(self) -> dict[Any, tuple[int | None, int | None]]:
        """Bounds as a mapping of position or pattern to (lowest, highest)."""
        return {key: (low, high) for key, low, high in self.bounds}

    @classmethod
    def authors(cls, **changes: Any) -> PropagationConfig:
        """Returns the recipe of Ding et al. (ICLR 2022, released code), with ``changes`` to its settings."""
        return dataclasses.replace(cls(learning_rate=3.0, follow="mean"), **changes)

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as JSON-ready values, for ``from_json`` to read.

        Raises:
          UsageError: there is a transform, a region, measured codes or a cost model; these are functions and
            data, not settings.
        """
        for name, what in UNWRITTEN.items():
            if getattr(self, name) is not None:
                raise checks.UsageError(
                    expected="settings that JSON can hold",
                    got=what,
                    remedy=f"record how the {what.removeprefix('a ')} came about instead",
                )
        settings = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        settings["bounds"] = {key: list(pair) for key, pair in self.bounds_map.items()}
        return {name: value for name, value in settings.items() if name not in UNWRITTEN}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> PropagationConfig:
        """Reads the settings that ``to_json`` wrote.

        Raises:
          UsageError: a field is not a setting.
        """
        known = [f.name for f in dataclasses.fields(cls)]
        settings = {checks.choose("setting", name, known): value for name, value in fields.items()}
        # JSON turns position numbers, which are keys here, into text.
        limits = {int(key) if str(key).isdecimal() else key: v for key, v in settings.pop("bounds", {}).items()}
        return cls(bounds=limits, **settings)


def _pair(key: Any, value: Any) -> tuple[Any, Any]:
    if not isinstance(value, tuple | list) or len(value) != 2:
        raise checks.UsageError(
            expected=f"(lowest, highest) as the bounds of {key!r}",
            got=repr(value),
            remedy='try {"last_channel": (8, 64)}',
        )
    return value[0], value[1]


@dataclasses.dataclass(frozen=True)
class Execution:
    """Settings of where an inversion runs and how its work is divided. None of them changes the results.

    Attributes:
      devices: number of this process's devices that share the codes, or None for all of them.
      platform: "cpu", "gpu" or "tpu", or None for JAX's default.
      memory_mb: memory of one device that may be used at once, in MB (1e6 bytes). None for half of the free memory of
        an accelerator, or for 400 MB on a CPU, where more does not help.
      kernel: "xla", "pallas" (one fused kernel, for folded networks on GPU and TPU), or "auto" for the faster of the
        two, timed once on the device.
      keep: maximum number of architectures kept, the best ones. The memory of a search grows with this number and not
        with the number of codes.
      progress: callback after each portion, called with (codes done, all codes) of this process.
    """

    devices: int | None = None
    platform: str | None = None
    memory_mb: float | None = None
    kernel: str = "auto"
    keep: int = 65536
    progress: Callable[[int, int], None] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "kernel", checks.choose("kernel", self.kernel, KERNELS))
        if self.platform is not None:
            object.__setattr__(self, "platform", checks.choose("platform", self.platform, ("cpu", "gpu", "tpu")))
        if self.memory_mb is not None:
            checks.positive("memory_mb", self.memory_mb)
        object.__setattr__(self, "keep", checks.integer("keep", self.keep, least=1, remedy="try keep=1"))
        if self.devices is not None:
            devices = checks.integer("devices", self.devices, least=1, remedy="try devices=1")
            object.__setattr__(self, "devices", devices)
