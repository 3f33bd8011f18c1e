"""Defines ``Encoder``: what a shared encoder has to do, whatever it is made of."""

from __future__ import annotations

import abc
import dataclasses
import itertools
from collections.abc import Callable
from typing import Any

from flax import nnx

from ncp_jax import checks
from ncp_jax.controllable.blocks import Mask
from ncp_jax.controllable.layers import Statistics
from ncp_jax.controllable.settings import SizeOptions
from ncp_jax.networks.layers import Parameters
from ncp_jax.spaces import Space
from ncp_jax.spaces.costs.layers import Counts, halved
from ncp_jax.types import Array, Float


@dataclasses.dataclass(frozen=True)
class EncoderPlan:
    """The stages of an encoder; each has a width of its own and returns features.

    Attributes:
      names: names of the stages.
      channels: channels of each stage at full width.
      strides: by which each stage reduces height and width of what it is computed from.
      sources: number of the stage that each is computed from, -1 for the image; where there are several, one whose side
        tells its own.
      read: numbers of the stages whose features decoders read, from fine to coarse.
      steps: by which the sides shrink from each stage that is read to the next, one number less.
    """

    names: tuple[str, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...]
    sources: tuple[int, ...]
    read: tuple[int, ...]
    steps: tuple[int, ...]

    def sides(self, side: int) -> tuple[int, ...]:
        """Returns height and width in pixels behind each stage, for square images of a side."""
        found: list[int] = []
        for source, stride in zip(self.sources, self.strides, strict=True):
            found.append(halved(side if source < 0 else found[source], stride))
        return tuple(found)


class Encoder(abc.ABC):
    """A kind of shared encoder. It holds no weights: they are in modules, the parts, that its functions make and run.

    Attributes:
      name: name of the family.
      text: the text that names this encoder.
      templates: names of the files in ``templates`` that have its classes in PyTorch, in the order in which an exported
        file has them. They define ``Encoder(widths)``, whose weights have the names of the parts.
    """

    name: str
    text: str
    templates: tuple[str, ...]

    @property
    def details(self) -> dict[str, Any]:
        """What these classes read of the architecture besides the sizes of the model, JSON-ready."""
        return {}

    @abc.abstractmethod
    def plan(self, side: int, channels: tuple[int, ...], strides: tuple[int, ...]) -> EncoderPlan:
        """Returns the stages for images of a side; channels and strides are a user's choice, () for the defaults.

        The channels and strides of a plan give the same plan again.

        Raises:
          UsageError: channels or strides that do not fit the encoder, or a side that does not fit the strides.
        """

    @abc.abstractmethod
    def parts(self, plan: EncoderPlan, colours: int, sizes: SizeOptions, parameters: Parameters) -> list[nnx.Module]:
        """Returns the modules of an encoder at full width, in the order in which they run."""

    @abc.abstractmethod
    def features(
        self, parts: Any, images: Float[Array, "n h w c"], masks: list[Mask], statistics: Statistics
    ) -> list[Array]:
        """Returns the features of each stage.

        Args:
          parts: the modules, whole or sliced.
          images: the images.
          masks: a mask of active channels for each stage, or None for each.
          statistics: statistics of BatchNorm.
        """

    @abc.abstractmethod
    def sliced(self, parts: Any, colours: int, widths: list[int]) -> list[nnx.Module]:
        """Returns the modules of the first channels alone, for a width of each stage."""

    @abc.abstractmethod
    def count(self, plan: EncoderPlan, colours: int, widths: list[Any], side: int) -> Counts:
        """Returns parameters and multiply-adds for one image of a side, polynomials of the widths."""


class ChainEncoder(Encoder):
    """An encoder whose parts are its stages, each computed from the one before."""

    def features(
        self, parts: Any, images: Float[Array, "n h w c"], masks: list[Mask], statistics: Statistics
    ) -> list[Array]:
        """Returns the features of each stage; see ``Encoder``."""
        found, x = [], images
        for stage, mask in zip(parts, masks, strict=True):
            x = stage(x, mask, statistics)
            found.append(x)
        return found

    def sliced(self, parts: Any, colours: int, widths: list[int]) -> list[nnx.Module]:
        """Returns the stages of the first channels alone; see ``Encoder``."""
        inputs = [colours, *widths[:-1]]
        return [stage.sliced(before, after) for stage, before, after in zip(parts, inputs, widths, strict=True)]

    def count(self, plan: EncoderPlan, colours: int, widths: list[Any], side: int) -> Counts:
        """Returns the sum of the stages' counts; see ``Encoder``."""
        total, channels, sides = Counts(), [colours, *widths], (side, *plan.sides(side))
        for place, (before, after) in enumerate(itertools.pairwise(channels)):
            total += self.count_stage(plan, place, before, after, sides[place : place + 2])
        return total

    @abc.abstractmethod
    def count_stage(self, plan: EncoderPlan, place: int, inputs: Any, outputs: Any, sides: tuple[int, ...]) -> Counts:
        """Returns the counts of the ``place``-th stage; ``sides`` are those before and behind it."""


def no_architecture(name: str, architecture: str) -> None:
    """Raises UsageError if there is an architecture for a family that has none."""
    if architecture:
        raise checks.UsageError(
            expected=f"the encoder {name} without an architecture", got=repr(architecture), remedy=f"write {name}"
        )


def read_code(space: Space, architecture: str) -> tuple[list[int], str]:
    """Returns the code of an architecture of a space, and the text that names its encoder.

    Raises:
      UsageError: no architecture, or one that is not in the space.
    """
    if not architecture:
        raise checks.UsageError(
            expected=f"an architecture of {space.name}", got="none", remedy=f"try {space.name}:{space.example}"
        )
    code = space.from_string(architecture)
    return code.tolist(), f"{space.name}:{space.to_string(code)}"


def whole(name: str, given: tuple[int, ...], default: int, derive: Callable[[int], tuple[int, ...]]) -> tuple[int, ...]:
    """Returns the numbers of all stages, which follow from that of the stem.

    Args:
      name: "channels" or "strides", for the error text.
      given: nothing, the number of the stem, or all of them.
      default: the number of the stem where nothing is given.
      derive: function from the number of the stem to those of all stages.

    Raises:
      UsageError: other numbers than those that follow.
    """
    stem = checks.integer(name, given[0], least=1, remedy="see ModelConfig") if given else default
    found = derive(stem)
    if given not in ((), (stem,), found):
        raise checks.UsageError(
            expected=f"the {name} of the stem alone, from which those of the other stages follow",
            got=str(given),
            remedy=f"try ({stem},)",
        )
    return found


def stem_strides(stride: int) -> tuple[int, int]:
    """Returns the strides of the two convolutions of a stem.

    Raises:
      UsageError: a stride that they cannot have together.
    """
    if stride not in (1, 2, 4):
        raise checks.UsageError(expected="a stride of the stem of 1, 2 or 4", got=str(stride), remedy="choose one")
    return min(stride, 2), max(stride // 2, 1)


def fits(text: str, side: int, stride: int) -> None:
    """Raises UsageError if an image has fewer pixels on a side than an encoder makes one of."""
    if side < stride:
        raise checks.UsageError(
            expected=f"images of {stride} x {stride} pixels or more for the encoder {text}",
            got=f"{side} x {side}",
            remedy="take larger images, a smaller stride of the stem or an architecture that halves them less often",
        )
