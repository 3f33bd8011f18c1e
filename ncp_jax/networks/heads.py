"""Defines the heads that turn an encoder's features into the output of a task.

Every head is called with features and the shape of the network's input, which holds the number of tiles or frames and
the size of outputs that have a value for each pixel.

Sources: the network definitions of NAS-Bench-MR's authors, and those of TransNAS-Bench-101 in NASLib.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import jax.numpy as jnp
from flax import nnx

from ncp_jax.networks.layers import (
    BatchNorm,
    ConvBatchNorm,
    Convolution,
    Linear,
    Parameters,
    global_average,
    leaky_relu,
    relu,
    resize,
    tanh,
)
from ncp_jax.spaces.costs.heads import decoder_layers
from ncp_jax.spaces.costs.multi_resolution import detection_outputs
from ncp_jax.types import Array, Float


class _Concatenation(nnx.Module):
    """Branches resized to one resolution, concatenated, and a 1x1 convolution with BatchNorm and ReLU."""

    def __init__(self, inputs: Sequence[int], channels: int, *, to: int, parameters: Parameters) -> None:
        self.layer = ConvBatchNorm(sum(inputs), channels, 1, relu="after", parameters=parameters)
        self.to = to

    def __call__(self, branches: list[Array]) -> Float[Array, "n i j c"]:
        height, width = branches[self.to].shape[1:3]
        return self.layer(jnp.concatenate([resize(b, height, width) for b in branches], axis=-1))


class BranchClassifier(nnx.Module):
    """NAS-Bench-MR, images and videos: logits from all branches at the coarsest resolution, averaged over pixels.

    Each frame of a video goes through the network; the features of the frames are averaged before the classifier.
    """

    def __init__(self, inputs: Sequence[int], channels: int, classes: int, *, parameters: Parameters) -> None:
        self.join = _Concatenation(inputs, channels, to=-1, parameters=parameters)
        self.classifier = Convolution(channels, classes, 1, bias=True, parameters=parameters)

    def __call__(self, branches: list[Array], shape: tuple[int, ...]) -> Float[Array, "n classes"]:
        """Returns logits [n, classes]."""
        features = global_average(self.join(branches))
        frames = features.reshape(shape[0], -1, features.shape[-1]).mean(axis=1)
        return self.classifier(frames[:, None, None, :])[:, 0, 0, :]


class BranchSegmenter(nnx.Module):
    """NAS-Bench-MR, segmentation: logits from all branches at the finest resolution, enlarged to the image's size."""

    def __init__(self, inputs: Sequence[int], channels: int, classes: int, *, parameters: Parameters) -> None:
        self.join = _Concatenation(inputs, channels, to=0, parameters=parameters)
        self.classifier = Convolution(channels, classes, 1, bias=True, parameters=parameters)

    def __call__(self, branches: list[Array], shape: tuple[int, ...]) -> Float[Array, "n h w classes"]:
        """Returns logits [n, height, width, classes]."""
        return resize(self.classifier(self.join(branches)), shape[-3], shape[-2])


class BranchDetector(nnx.Module):
    """NAS-Bench-MR, boxes in a pseudo-image: scores and boxes of anchors from all branches at the finest resolution.

    This project's own, after the anchors of PointPillars (Lang et al., CVPR 2019, arXiv 1812.05784): the benchmark's
    authors have published no detection head. See ``detection_outputs`` for the numbers of an anchor.
    """

    def __init__(self, inputs: Sequence[int], channels: int, classes: int, *, parameters: Parameters) -> None:
        self.join = _Concatenation(inputs, channels, to=0, parameters=parameters)
        self.classifier = Convolution(channels, detection_outputs(classes), 1, bias=True, parameters=parameters)

    def __call__(self, branches: list[Array], shape: tuple[int, ...]) -> Float[Array, "n i j outputs"]:
        """Returns a quarter of each side: [n, height / 4, width / 4, 2 * classes * (classes + 9)], rounded up."""
        return self.classifier(self.join(branches))


class Classifier(nnx.Module):
    """Features averaged over pixels, concatenated over tiles, then a linear layer.

    Also the head of regression tasks (room layout), where the outputs are the numbers themselves.
    """

    def __init__(
        self, inputs: int, outputs: int, *, pieces: int = 1, norm: bool = False, parameters: Parameters
    ) -> None:
        self.norm = ActivatedNorm(inputs, parameters=parameters) if norm else nnx.data(None)
        self.linear = Linear(pieces * inputs, outputs, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"], shape: tuple[int, ...]) -> Float[Array, "m outputs"]:
        """Returns [m, outputs] for m examples; each has the number of tiles that the linear layer was made for."""
        features = global_average(x if self.norm is None else self.norm(x))
        return self.linear(features.reshape(shape[0], -1))


class ActivatedNorm(nnx.Module):
    """BatchNorm and ReLU."""

    def __init__(self, channels: int, *, parameters: Parameters) -> None:
        self.norm = BatchNorm(channels, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        """Returns an array of the same shape."""
        return relu(self.norm(x))


class DecoderLayer(nnx.Module):
    """A 3x3 convolution with bias, BatchNorm and leaky ReLU; with ``double`` it doubles both sides."""

    def __init__(self, inputs: int, outputs: int, *, double: bool = False, parameters: Parameters) -> None:
        stride = 2 if double else 1
        self.convolution = Convolution(
            inputs, outputs, 3, stride=stride, bias=True, transposed=double, parameters=parameters
        )
        self.norm = BatchNorm(outputs, parameters=parameters)

    def __call__(self, x: Float[Array, "n h w c"]) -> Float[Array, "n i j d"]:
        """Returns [n, h, w, outputs], or twice h and w."""
        return leaky_relu(self.norm(self.convolution(x)))


class Decoder(nnx.Module):
    """TransNAS, outputs for each pixel: layers that double the sides ``doublings`` times, and a last convolution.

    Args:
      inputs: channels of the encoder's output.
      outputs: channels of the output.
      doublings: number of times that the encoder halves the sides, 3 to 6.
      generates: whether the output is an image (13 layers, then tanh); otherwise it is logits (7 layers).
      parameters: source of the weights.
    """

    def __init__(self, inputs: int, outputs: int, doublings: int, *, generates: bool, parameters: Parameters) -> None:
        layers = decoder_layers("generator" if generates else "segmentation", doublings)
        widths = [inputs, *(width for width, _ in layers)]
        self.layers = nnx.List(
            DecoderLayer(before, after, double=double, parameters=parameters)
            for (before, after), (_, double) in zip(itertools.pairwise(widths), layers, strict=True)
        )
        self.last = Convolution(widths[-1], outputs, 3, bias=True, parameters=parameters)
        self.generates = generates

    def __call__(self, x: Float[Array, "n h w c"], shape: tuple[int, ...]) -> Float[Array, "n i j outputs"]:
        """Returns [n, height, width, outputs]."""
        for layer in self.layers:
            x = layer(x)
        y = self.last(x)
        return tanh(y) if self.generates else y
