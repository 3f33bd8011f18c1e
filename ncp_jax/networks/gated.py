"""Defines a small network around the TransNAS micro cell whose operations are chosen by one-hot gates.

A code changes only an array in the program: architectures are therefore an axis of ``vmap``, and thousands train in one
call. The network is made for 8 x 8 images: a stem (2x2 convolution, stride 2), the cell on 4 x 4 pixels, the mean of
2 x 2 pixels and a 1x1 convolution, the cell on 2 x 2 pixels, and a linear head. Only the stem, that mean and the cells'
3x3 convolutions combine neighbouring pixels, so that the choice of the cell matters. As in TransNAS-Bench-101 (Duan et
al., CVPR 2021, section 3), each edge is nothing, the identity, or ReLU, a convolution (1x1 or 3x3) and BatchNorm; here
BatchNorm has no scale and shift.

Images are so small that a convolution is one matrix product with the matrix from all pixels to all pixels, most of
whose blocks are zero or shared: one large product replaces many small ones, and all else runs over whole rows. A 1x1
convolution is a 3x3 one with its outer taps masked, so that one product serves both.
"""

from __future__ import annotations

import dataclasses
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.cells import EDGES
from ncp_jax.spaces.costs.digits import CHANNELS, SIDE
from ncp_jax.spaces.transnas_micro import OPS
from ncp_jax.types import Array, Float, Int, Key

MOMENTUM = 0.1  # weight of the new batch in the running statistics
EPSILON = 1e-5
NONE, SKIP, CONV1, CONV3 = range(len(OPS))
_CENTRE = np.eye(9, dtype=np.float32)[4]
# Edges grouped by the node they leave; each group is one matrix product.
_LEAVING = tuple(tuple(e for e, (source, _) in enumerate(EDGES) if source == node) for node in range(3))

Weights: TypeAlias = dict[str, Array]
Statistics: TypeAlias = dict[str, tuple[Array, Array]]  # running mean and variance


@dataclasses.dataclass(frozen=True)
class Shape:
    """The sizes that all architectures of a task share.

    Attributes:
      outputs: number of outputs of the head.
      channels: channels of the first and of the second cell.
      bottleneck: width of a linear layer before the head, 0 for none.
      pooled: whether the input of the head is the mean over pixels; otherwise it is every pixel.
    """

    outputs: int
    channels: tuple[int, int] = CHANNELS
    bottleneck: int = 0
    pooled: bool = True

    def __post_init__(self) -> None:
        legal = self.outputs >= 1 and len(self.channels) == 2 and min(self.channels) >= 1 and self.bottleneck >= 0
        if not legal:
            raise checks.UsageError(
                expected="outputs >= 1, two numbers of channels >= 1 and bottleneck >= 0",
                got=str(self),
                remedy="see Shape",
            )

    @property
    def values(self) -> int:
        """Number of inputs of the head (of the bottleneck, where there is one)."""
        return self.channels[1] * (1 if self.pooled else (SIDE // 4) ** 2)


def gates_of(codes: Int[Array, "*n 6"]) -> Float[Array, "*n 6 4"]:
    """Returns the one-hot gates of TransNAS micro codes."""
    return jax.nn.one_hot(codes, len(OPS))


def _taps(side: int, kernel: int, stride: int, padding: int) -> Float[np.ndarray, "p q taps"]:
    """Returns which tap of a kernel leads from pixel p to output q, as a one-hot on the last axis."""
    out = (side + 2 * padding - kernel) // stride + 1
    taps = np.zeros((side * side, out * out, kernel * kernel), np.float32)
    for q, (row, column) in enumerate(np.ndindex(out, out)):
        for tap, (down, right) in enumerate(np.ndindex(kernel, kernel)):
            y, x = row * stride + down - padding, column * stride + right - padding
            if 0 <= y < side and 0 <= x < side:
                taps[y * side + x, q, tap] = 1
    return taps


_STEM = _taps(SIDE, 2, 2, 0)
_CELLS = (_taps(SIDE // 2, 3, 1, 1), _taps(SIDE // 4, 3, 1, 1))
_DOWN = _taps(SIDE // 2, 2, 2, 0).sum(axis=-1, keepdims=True) / 4  # mean over 2 x 2 pixels, then a 1x1 convolution


def _matrix(taps: Float[np.ndarray, "p q 9"], kernels: Float[Array, "e 9 i o"]) -> Float[Array, "p*i e*q*o"]:
    """Returns convolutions as one matrix over flattened images."""
    pixels, outputs, _ = taps.shape
    edges, _, inputs, channels = kernels.shape
    return jnp.einsum("pqt,etio->pieqo", taps, kernels).reshape(pixels * inputs, edges * outputs * channels)


def init(key: Key, gates: Float[Array, "6 4"], shape: Shape) -> tuple[Weights, Statistics]:
    """Returns fresh weights and statistics of one architecture.

    Kernels are normal with variance 2 / fan-in of the operation that is chosen (He et al., ICCV 2015, section 2.2),
    that of the bottleneck has variance 1 / fan-in. The head is zero, so the first outputs are zero.
    """
    keys = jax.random.split(key, 5)
    first, second = shape.channels
    taps = gates[:, CONV1] + 9 * gates[:, CONV3]
    fan = jnp.where(taps > 0, taps, 1)[:, None, None, None]

    def normal(key: Key, *size: int, fan: Array | float) -> Array:
        return jax.random.normal(key, size) * jnp.sqrt(1 / fan)

    weights = {
        "stem": normal(keys[0], 1, 4, 1, first, fan=4),
        "cell0": normal(keys[1], 6, 9, first, first, fan=fan * first / 2),
        "down": normal(keys[2], 1, 1, first, second, fan=first / 2),
        "cell1": normal(keys[3], 6, 9, second, second, fan=fan * second / 2),
    }
    inputs = shape.values
    if shape.bottleneck:
        weights["bottleneck"] = normal(keys[4], inputs, shape.bottleneck, fan=inputs)
        weights["bottleneck_bias"] = jnp.zeros(shape.bottleneck)
        inputs = shape.bottleneck
    weights["head"] = jnp.zeros((inputs, shape.outputs))
    weights["head_bias"] = jnp.zeros(shape.outputs)
    sizes = {"stem": (1, first), "cell0": (6, first), "down": (1, second), "cell1": (6, second)}
    return weights, {name: (jnp.zeros(size), jnp.ones(size)) for name, size in sizes.items()}


def _normalise(
    h: Float[Array, "b e*p*c"], running: tuple[Array, Array], pixels: int, *, train: bool
) -> tuple[Array, Array, tuple[Array, Array]]:
    """Returns BatchNorm as a factor and a shift of each column, and the new statistics.

    Sums go over the batch first, along contiguous rows.
    """
    edges, channels = running[0].shape
    if train:
        count = h.shape[0] * pixels
        mean = h.sum(axis=0).reshape(edges, pixels, channels).sum(axis=1) / count
        square = (h * h).sum(axis=0).reshape(edges, pixels, channels).sum(axis=1) / count
        variance = jnp.maximum(square - mean * mean, 0)
        running = tuple(
            (1 - MOMENTUM) * old + MOMENTUM * new for old, new in zip(running, (mean, variance), strict=True)
        )  # type: ignore[assignment]
    else:
        mean, variance = running
    factor = jax.lax.rsqrt(variance + EPSILON)

    def wide(v: Array) -> Array:
        return jnp.broadcast_to(v[:, None, :], (edges, pixels, channels)).reshape(-1)

    return wide(factor), wide(-mean * factor), running


def _cell(
    kernels: Array, running: tuple[Array, Array], gates: Array, x: Array, taps: np.ndarray, *, train: bool
) -> tuple[Array, tuple[Array, Array]]:
    """Applies the cell to flattened images [b, pixels * channels]."""
    pixels = taps.shape[0]
    mask = gates[:, CONV3, None] + gates[:, CONV1, None] * _CENTRE
    kernels = kernels * mask[:, :, None, None]
    convolved, skipped = gates[:, CONV1] + gates[:, CONV3], gates[:, SKIP]
    nodes: list[Array | float] = [x, 0.0, 0.0, 0.0]
    mean, variance = running
    for source, edges in enumerate(_LEAVING):
        here, leaving = jnp.asarray(nodes[source]), np.array(edges)
        h = jax.nn.relu(here) @ _matrix(taps, kernels[leaving])
        factor, shift, (m, v) = _normalise(h, (running[0][leaving], running[1][leaving]), pixels, train=train)
        mean, variance = mean.at[leaving].set(m), variance.at[leaving].set(v)
        on = jnp.repeat(convolved[leaving], here.shape[-1])
        h = h * (factor * on) + shift * on
        for part, edge in zip(jnp.split(h, len(edges), axis=-1), edges, strict=True):
            target = EDGES[edge][1]
            nodes[target] = nodes[target] + part + skipped[edge] * here
    return jnp.asarray(nodes[3]), (mean, variance)


def apply(
    weights: Weights,
    statistics: Statistics,
    gates: Float[Array, "6 4"],
    images: Float[Array, "b 64"],
    *,
    shape: Shape,
    train: bool,
) -> tuple[Float[Array, "b outputs"], Statistics]:
    """Returns the outputs of one architecture and, in training, the new statistics.

    Args:
      weights: weights from ``init``.
      statistics: running means and variances; used where ``train`` is False.
      gates: one-hot rows, the operation of each edge.
      images: rows of 8 x 8 pixels.
      shape: sizes with which the weights were made.
      train: whether BatchNorm uses the statistics of the batch.
    """

    def single(name: str, x: Array, taps: np.ndarray) -> Array:
        h = x @ _matrix(taps, weights[name])
        factor, shift, new[name] = _normalise(h, statistics[name], taps.shape[1], train=train)
        return h * factor + shift

    new: Statistics = {}
    h = single("stem", images, _STEM)
    h, new["cell0"] = _cell(weights["cell0"], statistics["cell0"], gates, h, _CELLS[0], train=train)
    h = single("down", jax.nn.relu(h), _DOWN)
    h, new["cell1"] = _cell(weights["cell1"], statistics["cell1"], gates, h, _CELLS[1], train=train)
    h = jax.nn.relu(h)
    if shape.pooled:
        h = h.reshape(len(h), -1, shape.channels[1]).mean(axis=1)
    if "bottleneck" in weights:
        h = h @ weights["bottleneck"] + weights["bottleneck_bias"]
    return h @ weights["head"] + weights["head_bias"], new
