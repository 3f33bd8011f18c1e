"""Defines ``ModelConfig``: the sizes of a controllable model, and the widths that it can take."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from typing import Any

from ncp_jax import checks
from ncp_jax.controllable.encoders import EncoderPlan, find_encoder
from ncp_jax.controllable.jigsaw import MOST
from ncp_jax.controllable.layers import NORMS
from ncp_jax.controllable.settings import RESIDUAL, SizeOptions
from ncp_jax.controllable.tasks import Target

COSTS = {"flops": "GMAC", "params": "M"}


@dataclasses.dataclass(frozen=True)
class ModelConfig(SizeOptions):
    """Sizes of a controllable model, a shared encoder and one decoder for each task; also those of ``SizeOptions``.

    Attributes:
      side: height and width of the images in pixels.
      colours: channels of the images.
      targets: what each task predicts, one decoder each.
      channels: channels of each encoder stage at full width; by default 8, 16 and 24 for the residual encoder. Encoders
        with an architecture also take those of the stem alone, if at all.
      strides: by which each stage reduces height and width; by default 1, then 2 for the residual encoder. Encoders
        with an architecture also take that of the stem alone, by default 1.
      ratios: the widths that a stage or decoder can take, as shares of its channels, the last of them 1.
    """

    side: int
    colours: int
    targets: tuple[Target, ...]
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    ratios: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)

    def __post_init__(self) -> None:
        for name in ("channels", "strides", "ratios", "targets"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        for name in ("side", "colours", "decoder", "multiple"):
            checks.integer(name, getattr(self, name), least=1, remedy="see ModelConfig")
        encoder = find_encoder(self.encoder)
        plan = encoder.plan(self.side, self.channels, self.strides)
        for name, value in (("encoder", encoder.text), ("channels", plan.channels), ("strides", plan.strides)):
            object.__setattr__(self, name, value)
        checks.choose("normalisation", self.norm, NORMS)
        names = [target.name for target in self.targets]
        if not names or len(set(map(str.lower, names))) < len(names):
            raise checks.UsageError(
                expected="one task or more, of different names", got=", ".join(names) or "none", remedy="rename them"
            )
        self._check_jigsaws()
        if self.encoder != RESIDUAL:
            self._check_groups(self.side, "images")
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

    def _check_jigsaws(self) -> None:
        jigsaws = [target for target in self.targets if target.grid]
        if len(jigsaws) == len(self.targets):
            raise checks.UsageError(
                expected="a task of another kind beside jigsaws", got="none", remedy="add one that sees whole images"
            )
        for target in jigsaws:
            most = MOST[target.grid]
            if self.side % target.grid or target.outputs > most:
                raise checks.UsageError(
                    expected=f"at most {most} classes of {target.name}, and a side that is a multiple of {target.grid}",
                    got=f"{target.outputs} classes, images of {self.side} x {self.side}",
                    remedy="crop the images, or take fewer permutations",
                )
            # The encoder runs on the tiles, which have to fit its strides too.
            find_encoder(self.encoder).plan(self.side // target.grid, self.channels, self.strides)
            self._check_groups(self.side // target.grid, f"the tiles of {target.name}")

    def _check_groups(self, side: int, seen: str) -> None:
        # Two normalised numbers are 1 and -1, whatever they were: nothing is learned through them.
        if self.norm == "group" and self.multiple <= 2 and min(self.plan.sides(side)) == 1:
            raise checks.UsageError(
                expected=f"the coarsest features of {seen} to have more than one pixel, or groups of more channels",
                got=f"one pixel of {side} x {side}, and groups of {self.multiple}, which lose nearly all of it",
                remedy="choose the normalisation layer, a larger multiple or a smaller stride",
            )

    def _values(self, channels: int) -> tuple[int, ...]:
        # A ratio such as 0.1 * 3 must not be rounded up for its last digit.
        units = [math.ceil(ratio * channels / self.multiple - 1e-9) for ratio in self.ratios]
        return tuple(self.multiple * unit for unit in units)

    @functools.cached_property
    def plan(self) -> EncoderPlan:
        """The stages of the encoder."""
        return find_encoder(self.encoder).plan(self.side, self.channels, self.strides)

    @property
    def stages(self) -> int:
        """Number of encoder stages."""
        return len(self.channels)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the positions of a width configuration: the encoder's stages, then the decoders."""
        return (*self.plan.names, *(f"decoder.{t.name}" for t in self.targets))

    @property
    def widths(self) -> tuple[tuple[int, ...], ...]:
        """The widths that each position can take, rising."""
        return tuple(self._values(c) for c in (*self.channels, *[self.decoder] * len(self.targets)))

    @property
    def sides(self) -> tuple[int, ...]:
        """Height and width in pixels behind each stage."""
        return self.plan.sides(self.side)

    @property
    def digest(self) -> str:
        """SHA-256 of the config, hexadecimal."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, the encoder unless it is the residual one; ``from_json`` takes them back."""
        fields = dataclasses.asdict(self)
        if self.encoder == RESIDUAL:
            del fields["encoder"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in fields.items()}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ModelConfig:
        """Returns the config of ``to_json``."""
        return cls(**{**content, "targets": tuple(Target(**target) for target in content["targets"])})
