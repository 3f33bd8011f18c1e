"""Defines ``Network``: an encoder in named stages and a head for the task; images are NHWC."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ncp_jax import checks
from ncp_jax.types import Array

CHANNELS = 3


@dataclasses.dataclass(frozen=True)
class Form:
    """What a network is for, and which images it takes.

    Attributes:
      space: name of the code's space.
      code: the code.
      task: task that the head is for.
      stride: side of the image, in pixels, for one pixel of the encoder's coarsest features.
      whole: whether the sides of images must be multiples of the stride.
      pieces: what the second axis of the input counts ("tiles", "frames"), "" where there is none.
      count: required number of pieces, 0 for any number.
      outputs: number of classes, or of channels or numbers of the output.
      side: side of the images that the benchmark uses, pixels.
      channels: channels of the images.
      fixed: whether images must have that side.
    """

    space: str
    code: tuple[int, ...]
    task: str
    stride: int
    whole: bool
    pieces: str
    count: int
    outputs: int
    side: int
    channels: int = CHANNELS
    fixed: bool = False

    def shape(self, batch: int = 1, side: int | None = None) -> tuple[int, ...]:
        """Returns the shape of ``batch`` inputs: square images (or tiles, or videos of one frame) with that side.

        Raises:
          UsageError: the side is below one pixel. ``check`` also compares it with the stride.
        """
        side = self.side if side is None else side
        if side < 1:
            raise checks.UsageError(
                expected="a side of at least 1 pixel", got=str(side), remedy=f"the benchmark uses {self.side}"
            )
        return (batch, *((self.count or 1,) if self.pieces else ()), side, side, self.channels)

    def check(self, shape: tuple[int, ...]) -> None:
        """Raises UsageError unless the network takes inputs of that shape."""
        axes = ["n", *([str(self.count or self.pieces)] if self.pieces else []), "height", "width", str(self.channels)]
        name = f"{self.space} for {self.task}"
        fits = len(shape) == len(axes) and shape[-1] == self.channels and min(shape) > 0
        if not fits or (self.count and shape[1] != self.count):
            raise checks.UsageError(
                expected=f"images [{', '.join(axes)}] for the network of {name}",
                got=f"shape {list(shape)}",
                remedy="channels are the last axis",
            )
        sides = shape[-3:-1]
        if self.fixed and sides != (self.side, self.side):
            raise checks.UsageError(
                expected=f"images of {self.side} x {self.side} pixels for this network of {name}",
                got=f"{sides[0]} x {sides[1]}",
                remedy="its last layers count on that size",
            )
        if min(sides) < self.stride:
            raise checks.UsageError(
                expected=f"images of at least {self.stride} x {self.stride} pixels for this network of {name}",
                got=f"{sides[0]} x {sides[1]}",
                remedy=f"its strides make one pixel of {self.stride} x {self.stride}; the benchmark uses {self.side}",
            )
        if self.whole and any(side % self.stride for side in sides):
            raise checks.UsageError(
                expected=f"sides that are multiples of {self.stride} for this network of {name}",
                got=f"{sides[0]} x {sides[1]}",
                remedy=f"crop or pad the images; the benchmark uses {self.side}",
            )


class Network(nnx.Module):
    """The network of one code with the head of one task; see ``build``.

    Attributes:
      form: what the network is for, and which images it takes.
      names: names of the encoder's stages, in order.
      stages: stages by name; each maps features [n, h, w, c] (or a list of them, finest first) to features.
      head: module that maps the features of the last stage to the output.
    """

    def __init__(self, form: Form, stages: Mapping[str, nnx.Module], head: nnx.Module) -> None:
        self.form = form
        self.names = tuple(stages)
        self.stages = nnx.Dict(stages)
        self.head = head

    def __call__(self, images: Array) -> Array:
        """Runs the network.

        Args:
          images: floating, [n, height, width, 3] (one channel for digits); [n, 9, height, width, 3] for the tiles of a
            jigsaw, [n, frames, height, width, 3] for video. Everything is computed in float32.

        Returns:
          Logits [n, classes], numbers [n, outputs], or logits or channels for each pixel [n, height, width, outputs].

        Raises:
          UsageError: images of another shape or kind, or too small for the network's strides; the network is abstract.
        """
        images = jnp.asarray(images)
        self.form.check(images.shape)
        if not jnp.issubdtype(images.dtype, jnp.floating):
            raise checks.UsageError(
                expected="images of floating numbers",
                got=str(images.dtype),
                remedy="divide pixels by 255 and subtract their mean",
            )
        if any(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in jax.tree.leaves(nnx.state(self.head, nnx.Param))):
            raise checks.UsageError(
                expected="a network with values to run",
                got="an abstract one",
                remedy="build it without abstract=True; counting runs nothing",
            )
        images = images.astype(jnp.float32)
        features: Any = images.reshape(-1, *images.shape[-3:])
        for name in self.names:
            with jax.named_scope(name):
                features = self.stages[name](features)
        with jax.named_scope("head"):
            return self.head(features, images.shape)
