"""Defines ``ModelConfig``: the sizes of a controllable model, the widths that it can take, and their counts."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

from ncp_jax import checks
from ncp_jax.controllable.layers import NORMS
from ncp_jax.controllable.settings import SizeOptions
from ncp_jax.controllable.tasks import Target
from ncp_jax.spaces.costs.layers import Counts, halved

COSTS = {"flops": "GMAC", "params": "M"}


@dataclasses.dataclass(frozen=True)
class ModelConfig(SizeOptions):
    """Sizes of a controllable model, a shared encoder and one decoder for each task; also those of ``SizeOptions``.

    Attributes:
      side: height and width of the images in pixels.
      colours: channels of the images.
      targets: what each task predicts, one decoder each.
      channels: channels of each encoder stage at full width.
      strides: 1 or 2 for each stage, by which it reduces height and width; by default 1, then 2 for all others.
      ratios: the widths that a stage or decoder can take, as shares of its channels, the last of them 1.
    """

    side: int
    colours: int
    targets: tuple[Target, ...]
    channels: tuple[int, ...] = (8, 16, 24)
    strides: tuple[int, ...] = ()
    ratios: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        for name in ("channels", "strides", "ratios", "targets"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not self.strides:
            object.__setattr__(self, "strides", (1, *[2] * (len(self.channels) - 1)))
        for name in ("side", "colours", "decoder", "multiple"):
            checks.integer(name, getattr(self, name), least=1, remedy="see ModelConfig")
        for channels in self.channels:
            checks.integer("channels", channels, least=1, remedy="see ModelConfig")
        checks.choose("normalisation", self.norm, NORMS)
        names = [target.name for target in self.targets]
        if not names or len(set(map(str.lower, names))) < len(names):
            raise checks.UsageError(
                expected="one task or more, of different names", got=", ".join(names) or "none", remedy="rename them"
            )
        if not self.channels or len(self.channels) != len(self.strides) or not {*self.strides} <= {1, 2}:
            raise checks.UsageError(
                expected="as many strides, each 1 or 2, as encoder stages",
                got=f"{len(self.channels)} stages with strides {self.strides}",
                remedy="give one for each stage",
            )
        rising = all(low < high for low, high in itertools.pairwise(self.ratios))
        if len(self.ratios) < 2 or not rising or self.ratios[0] <= 0 or self.ratios[-1] != 1:
            raise checks.UsageError(
                expected="two or more rising ratios above 0, the last of them 1",
                got=str(self.ratios),
                remedy="try (0.25, 0.5, 0.75, 1.0)",
            )
        for channels in (*self.channels, self.decoder):
            values = self._values(channels)
            if channels % self.multiple or len({*values}) < len(values):
                raise checks.UsageError(
                    expected=f"channels that are a multiple of {self.multiple} and differ at each ratio",
                    got=f"{channels} channels, {values} at the ratios",
                    remedy="give more channels, a smaller multiple or fewer ratios",
                )

    def _values(self, channels: int) -> tuple[int, ...]:
        # A ratio such as 0.1 * 3 must not be rounded up for its last digit.
        units = [math.ceil(ratio * channels / self.multiple - 1e-9) for ratio in self.ratios]
        return tuple(self.multiple * unit for unit in units)

    @property
    def stages(self) -> int:
        """Number of encoder stages."""
        return len(self.channels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the positions of a width configuration: the encoder's stages, then the decoders."""
        return (*(f"encoder[{i + 1}]" for i in range(self.stages)), *(f"decoder.{t.name}" for t in self.targets))

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """The widths that each position can take, rising."""
        return tuple(self._values(c) for c in (*self.channels, *[self.decoder] * len(self.targets)))

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width in pixels behind each stage."""
        sides, side = [], self.side
        for stride in self.strides:
            side = halved(side, stride)
            sides.append(side)
        return tuple(sides)

    @property
    def digest(self) -> str:
        """SHA-256 of the config, hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns the fields; ``from_json`` takes them back."""
        fields = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ModelConfig:
        """Returns the config of ``to_json``."""
        return cls(**{**content, "targets": tuple(Target(**target) for target in content["targets"])})


def count(config: ModelConfig, widths: Any) -> Counts:
    """Returns parameters and multiply-adds of a sub-network for one image.

    Parameters are weights, biases, and scale and shift of normalisations. FLOPs are multiply-adds of convolutions
    (padded pixels included) and of linear layers; a transposed convolution counts by the pixels that it reads. They are
    polynomials of the widths, so the function also takes real widths, and has a gradient.

    Args:
      config: the model.
      widths: width of each position: numbers, or arrays of one shape (NumPy or JAX).
    """
    total = Counts()
    inputs: Any = config.colours
    encoder, decoders = list(widths[: config.stages]), list(widths[config.stages :])
    for width, side in zip(encoder, config.sides, strict=True):
        total += _normed(3, inputs, width, side) + _normed(3, width, width, side) + _normed(3, width, width, side)
        inputs = width
    for target, width in zip(config.targets, decoders, strict=True):
        total += _decoder(config, target, encoder, width)
    return total


def _decoder(config: ModelConfig, target: Target, encoder: list[Any], width: Any) -> Counts:
    last = config.sides[-1]
    if target.kind == "classes":
        dense = width * target.outputs
        return _normed(3, encoder[-1], width, last) + Counts(dense + target.outputs, dense)
    total = _normed(1, encoder[-1], width, last)
    for place in range(config.stages - 2, -1, -1):
        # A stage of stride 2 is undone by a transposed convolution, which reads the smaller image.
        total += _normed(3, width, width, config.sides[place + 1]) + _convolution(
            1, encoder[place], width, config.sides[place]
        )
    return total + _convolution(3, width, target.outputs, config.sides[0]) + Counts(target.outputs, 0)


def _convolution(kernel: int, inputs: Any, outputs: Any, side: int) -> Counts:
    weights = kernel * kernel * inputs * outputs
    return Counts(weights, weights * side * side)


def _normed(kernel: int, inputs: Any, outputs: Any, side: int) -> Counts:
    return _convolution(kernel, inputs, outputs, side) + Counts(2 * outputs, 0)
