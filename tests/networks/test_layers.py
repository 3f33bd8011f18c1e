"""Layers against loops over pixels."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ncp_jax.networks.cells import Cell, FactorizedReduction
from ncp_jax.networks.layers import BatchNorm, Convolution, Linear, Parameters, average_pool, enlarge, resize

PIXELS = np.random.default_rng(0).normal(size=(2, 5, 6, 3)).astype(np.float32)


def parameters() -> Parameters:
    return Parameters(jax.random.key(0))


def convolved(x: np.ndarray, kernel: np.ndarray, stride: int) -> np.ndarray:
    """A convolution with symmetric zeros around the image, pixel by pixel."""
    pad = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    n, h, w, _ = x.shape
    out = np.zeros((n, -(-h // stride), -(-w // stride), kernel.shape[-1]))
    for i, j in itertools.product(*map(range, out.shape[1:3])):
        window = padded[:, i * stride : i * stride + kernel.shape[0], j * stride : j * stride + kernel.shape[1]]
        out[:, i, j] = np.einsum("nijc,ijcd->nd", window, kernel)
    return out


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (1, 2), (3, 1), (3, 2)])
def test_convolution(kernel: int, stride: int) -> None:
    layer = Convolution(3, 4, kernel, stride=stride, bias=True, parameters=parameters())
    layer.bias[...] = jnp.arange(4.0)
    expected = convolved(PIXELS, np.asarray(layer.kernel[...]), stride) + np.arange(4)
    np.testing.assert_allclose(layer(PIXELS), expected, atol=1e-5)


def test_a_transposed_convolution_is_the_adjoint_of_one_with_stride_2() -> None:
    # For all x, y: <convolve(x), y> = <x, transposed(y)>, with the kernel turned and its channels exchanged.
    layer = Convolution(4, 3, 3, stride=2, transposed=True, parameters=parameters())
    turned = np.asarray(layer.kernel[...])[::-1, ::-1].swapaxes(2, 3)
    x = np.random.default_rng(1).normal(size=(1, 10, 12, 3)).astype(np.float32)
    y = np.random.default_rng(2).normal(size=(1, 5, 6, 4)).astype(np.float32)
    grown = np.asarray(layer(y))
    assert grown.shape == x.shape
    assert (convolved(x, turned, 2) * y).sum() == pytest.approx((x * grown).sum(), rel=1e-4)


def test_linear_and_its_weights() -> None:
    layer = Linear(3, 4000, parameters=parameters())
    weights = np.asarray(layer.kernel[...])
    np.testing.assert_allclose(layer(PIXELS), PIXELS @ weights, atol=1e-5)
    assert weights.std() == pytest.approx(1 / 3, rel=0.03)


def test_weights_of_convolutions_have_the_stated_variance_and_keys_of_their_own() -> None:
    source = parameters()
    first, second = (np.asarray(Convolution(64, 128, 3, parameters=source).kernel[...]) for _ in range(2))
    assert first.std() == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.03)
    assert abs(np.corrcoef(first.ravel(), second.ravel())[0, 1]) < 0.02
    assert len(np.unique(first)) > 0.99 * first.size, "blocks of one parameter repeat"


def test_batch_norm_in_training_and_evaluation() -> None:
    layer = BatchNorm(3, parameters=parameters())
    layer.scale[...], layer.bias[...] = jnp.array([1.0, 2.0, 3.0]), jnp.array([0.0, 1.0, -1.0])
    x = 3 * PIXELS + 1
    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
    expected = (x - mean) / np.sqrt(var + 1e-5) * [1, 2, 3] + [0, 1, -1]
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)
    np.testing.assert_allclose(layer.mean[...], 0.1 * mean, rtol=1e-4)
    np.testing.assert_allclose(layer.var[...], 0.9 + 0.1 * var, rtol=1e-4)
    layer.eval()
    running = (x - 0.1 * mean) / np.sqrt(0.9 + 0.1 * var + 1e-5) * [1, 2, 3] + [0, 1, -1]
    np.testing.assert_allclose(layer(x), running, atol=1e-4)
    np.testing.assert_allclose(layer.mean[...], 0.1 * mean, rtol=1e-4)


def test_average_pool_leaves_out_what_is_beyond_the_border() -> None:
    pooled = np.asarray(average_pool(PIXELS, window=3, stride=1))
    for i, j in itertools.product(range(5), range(6)):
        window = PIXELS[:, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
        np.testing.assert_allclose(pooled[:, i, j], window.mean((1, 2)), atol=1e-5)
    halved = average_pool(PIXELS[:, :4], window=2, stride=2)
    np.testing.assert_allclose(halved, PIXELS[:, :4].reshape(2, 2, 2, 3, 2, 3).mean((2, 4)), atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(10, 12), (3, 2), (7, 6), (5, 6)])
def test_resize_interpolates_between_pixel_centres(height: int, width: int) -> None:
    def positions(new: int, old: int) -> np.ndarray:
        return np.clip((np.arange(new) + 0.5) * old / new - 0.5, 0, old - 1)

    rows, columns = positions(height, 5), positions(width, 6)
    up, left = np.floor(rows).astype(int), np.floor(columns).astype(int)
    down, right = np.minimum(up + 1, 4), np.minimum(left + 1, 5)
    a, b = (rows - up)[:, None, None], (columns - left)[:, None]
    top = (1 - b) * PIXELS[:, up][:, :, left] + b * PIXELS[:, up][:, :, right]
    bottom = (1 - b) * PIXELS[:, down][:, :, left] + b * PIXELS[:, down][:, :, right]
    np.testing.assert_allclose(resize(PIXELS, height, width), (1 - a) * top + a * bottom, atol=1e-5)


def test_enlarge_repeats_pixels() -> None:
    np.testing.assert_array_equal(enlarge(PIXELS, 2), np.kron(PIXELS, np.ones((1, 2, 2, 1))))


def test_factorized_reduction_reads_even_pixels_and_the_odd_ones_next_to_them() -> None:
    layer = FactorizedReduction(3, 4, stride=2, parameters=parameters())
    layer.eval()
    positive = np.maximum(PIXELS, 0)
    shifted = np.pad(positive, ((0, 0), (0, 1), (0, 1), (0, 0)))[:, 1::2, 1::2]
    halves = [np.asarray(half.kernel[0, 0]) for half in layer.halves]
    expected = np.concatenate([positive[:, ::2, ::2] @ halves[0], shifted @ halves[1]], axis=-1)
    np.testing.assert_allclose(layer(PIXELS), expected / np.sqrt(1 + 1e-5), atol=1e-5)


@pytest.mark.parametrize(
    ("ops", "factor"),
    [
        ("111111", 4),  # 1 + 1 + (1 + 1): three paths of length 1 and 2, one of length 3
        ("100110", 2),
        ("000000", 0),
        ("111000", 0),
        ("010001", 1),
        ("101001", 1),
    ],
)
def test_a_cell_of_skips_counts_paths(ops: str, factor: int) -> None:
    cell = Cell([("none", "skip_connect")[int(op)] for op in ops], 3, 3, parameters=parameters())
    np.testing.assert_allclose(cell(PIXELS), factor * PIXELS, atol=1e-5)


def test_a_cell_that_halves_does_so_on_the_edges_from_its_input_only() -> None:
    cell = Cell(["nor_conv_3x3", "none", "skip_connect", "none", "nor_conv_1x1", "skip_connect"], 3, 8, stride=2,
                parameters=parameters())  # fmt: skip
    assert cell(PIXELS).shape == (2, 3, 3, 8)
    shapes = {tuple(leaf.shape) for leaf in jax.tree.leaves(nnx.state(cell, nnx.Param)) if leaf.ndim == 4}
    assert shapes == {(3, 3, 3, 8), (1, 1, 8, 8)}
    nothing = Cell(["none"] * 6, 3, 8, stride=2, parameters=parameters())
    np.testing.assert_array_equal(nothing(PIXELS), np.zeros((2, 3, 3, 8)))
