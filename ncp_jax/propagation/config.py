"""Settings of an inversion: how the codes move, and where and in which portions it runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import jax

from ncp_jax import checks

if TYPE_CHECKING:
    from ncp_jax.propagation.region import TrustRegion

STRATEGIES = ("continuous", "winner-takes-all")
FOLLOW = ("member", "mean", "bound")
DISCRETENESS = ("none", "straight-through", "annealed")
PRECISIONS = ("float32", "tf32", "bfloat16")
KERNELS = ("auto", "xla", "pallas")


STATIC = {"static": True}  # settings that shape the compiled program; the others are numbers, which a vmap may sweep
# Bounds as a hashable tuple: (position or pattern, lowest, highest).
BoundsItems = tuple[tuple[Any, int | None, int | None], ...]


class Transform(Protocol):
    """An optax gradient transformation."""

    init: Any
    update: Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class PropagationConfig:
    """Settings of the gradient loop. The numbers may be arrays, for a vmap over them.

    ``PropagationConfig.authors()`` has the authors' settings. The default differs in the step size alone, and in
    ``follow`` for ensembles: this project's networks are flatter, and 70 steps of 3 stop half-way (docs/search.md).
    What the options against exploited predictors bring is measured in docs/inversion.md.

    Attributes:
      steps: iterations.
      learning_rate: step size on the code, in standard units. A ``transform`` has its own instead.
      delta: how far, in standard units, each iteration asks a metric of weight 1 to move.
      strategy: "continuous" moves all positions, "winner-takes-all" only the one with the largest gradient.
      ceiling_weight: weight of the push down on a metric above its ceiling.
      follow: whose gradient a code follows. "member": code i that of network i modulo the ensemble's size, which costs
        what one network costs and brings variety; "mean": all follow the ensemble's mean; "bound": all follow, and
        are ranked by, the ensemble's lower confidence bound, mean - ``confidence`` x spread of what is to rise (mean +
        ``confidence`` x spread of what is to fall). With "member" and "mean" the ensemble's mean ranks.
      confidence: spreads between mean and bound, >= 0; used where ``follow`` is "bound".
      exact_costs: follow the exact relaxed costs of the space, where it has a cost model, instead of their prediction.
        Best scores gain about 0.01 standard deviations for a fifth more time and some seconds of compilation
        (docs/search.md). Ranking, limits and reports are exact either way.
      precision: of the matrix products in the loop: "float32", "tf32" or "bfloat16" (codes and sums stay in float32;
        ranking is in float32). Other predictors than FoldedMLP see it as JAX's default matmul precision.
      transform: an optax transformation that makes updates of gradients, in place of the plain step; each code has a
        state of its own. None for the authors' step, which needs no state.
      region: a trust region around the data, None for none (see ``TrustRegion.around``).
      discreteness: where the gradient is taken. "none": at the relaxed code; "straight-through": at the legal code
        nearest to it; "annealed": between the two, from the one to the other over the iterations.
      bounds: narrower limits on positions, ``{"stage1.num_blocks": (1, 2), "*.num_channels[*]": (8, 64)}``, as
        ``spaces.Bounds`` reads them. Starts, codes and what is found stay inside.
      restarts: how many times codes whose architecture another one has reached already begin anew elsewhere. Where they
        begin, and so what they find, then depends on the other codes.
      polish: of how many of the best codes all single edits are tried in the end, until none is better.
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

    def __post_init__(self) -> None:
        choices = {"strategy": STRATEGIES, "follow": FOLLOW, "precision": PRECISIONS, "discreteness": DISCRETENESS}
        for name, options in choices.items():
            object.__setattr__(self, name, checks.choose(name, getattr(self, name), options))
        for name, example in (("steps", 70), ("restarts", 1), ("polish", 8)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 0:
                raise checks.UsageError(
                    expected=f"{name} to be an integer >= 0", got=repr(value), remedy=f"try {name}={example}"
                )
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
        """The bounds as a mapping of position or pattern to (lowest, highest)."""
        return {key: (low, high) for key, low, high in self.bounds}

    @classmethod
    def authors(cls, **changes: Any) -> PropagationConfig:
        """The recipe of Ding et al. (ICLR 2022, released code), with some settings changed."""
        return dataclasses.replace(cls(learning_rate=3.0, follow="mean"), **changes)

    def to_json(self) -> dict[str, Any]:
        """The settings as JSON-ready values; ``from_json`` reads them back.

        Raises:
          UsageError: a transform or a region, which are functions and data, not settings.
        """
        for name in ("transform", "region"):
            if getattr(self, name) is not None:
                raise checks.UsageError(
                    expected="settings that JSON can hold",
                    got=f"a {name}",
                    remedy=f"record how the {name} is made instead",
                )
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        plain["bounds"] = {key: list(pair) for key, pair in self.bounds_map.items()}
        return {name: value for name, value in plain.items() if name not in ("transform", "region")}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> PropagationConfig:
        """The settings that ``to_json`` wrote; UsageError for a field that is none."""
        known = [f.name for f in dataclasses.fields(cls)]
        settings = {checks.choose("setting", name, known): value for name, value in fields.items()}
        # JSON writes the numbers of positions as text.
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
    """Where an inversion runs and in which portions. None of it changes what is found.

    Attributes:
      devices: how many of this process's devices share the codes; all of them without it.
      platform: "cpu", "gpu" or "tpu"; JAX's default without it.
      memory_mb: MB (1e6 bytes) of a device's memory that may be used at once; without it half of what is free on an
        accelerator, a few hundred MB on a CPU, where more brings nothing.
      kernel: "xla", "pallas" (one fused kernel, for folded networks on GPU and TPU), or "auto": the faster of the two,
        timed once on the device.
      keep: how many of the best architectures are kept. The memory of a search grows with this number and not with
        that of the codes.
      progress: called with (codes done, codes in all) of this process after each portion.
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
        for name in ("devices", "keep"):
            value = getattr(self, name)
            if (value is not None or name == "keep") and (not isinstance(value, int) or value < 1):
                raise checks.UsageError(
                    expected=f"{name} to be an integer >= 1", got=repr(value), remedy=f"try {name}=1"
                )
