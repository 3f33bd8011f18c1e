"""Costs that the code alone determines: parameters and multiply-adds, in closed form.

NAS-Bench-MR counts them for the network with its classification head, 50 classes and one image of 3 x 128 x 128:
``params`` are weights, biases and the scale and shift of BatchNorm; ``flops`` are the multiply-adds of convolutions,
their bias additions, and two operations for each number that a BatchNorm returns. A convolution followed by BatchNorm
therefore costs (parameters x output pixels) flops, and so does the classifier: ``flops`` is ``params`` weighted by
area, and both are polynomials in the code. The same polynomial, evaluated at real numbers, is the relaxed cost: linear
in each count, quadratic in the channels, equal to the exact cost at codes.

Source of the architecture: Ding et al., ICLR 2022, arXiv 2103.13253, and the authors' network definition.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR, STAGES
from ncp_jax.types import Array, Float

CLASSES = 50
SIDES = (32, 16, 8, 4)  # pixels a side of branch 0..3, for an image of 128; the stem halves it twice
STEM_SIDE = 64
_STARTS = ((2, 1), (5, 2), (10, 3), (17, 4))  # where each stage begins in the code, and its branches
_UNIT = {"GMAC": 1e9, "M": 1e6}


@dataclasses.dataclass(frozen=True)
class CostModel:
    """Costs of the codes of one space. Lower is better, all of them.

    Attributes:
      name: the space's name.
      units: for each cost, the unit of ``relaxed`` ("flops": "GMAC", "params": "M").
      exact: codes [..., d] -> {cost: int64 [...]}, plain counts (not in ``units``), on the host, codes checked.
      relaxed: relaxed codes [..., f] -> {cost: float [...]} in ``units``; pure, differentiable, jit-able. Codes may be
        given where a space's relaxed form is the code itself.
    """

    name: str
    units: Mapping[str, str] = dataclasses.field(hash=False)
    exact: Callable[[Any], dict[str, np.ndarray]] = dataclasses.field(repr=False)
    relaxed: Callable[[Any], dict[str, Array]] = dataclasses.field(repr=False)

    def in_units(self, codes: Any) -> dict[str, Float[np.ndarray, "*batch"]]:
        """Exact costs of codes [..., d] as float64 in ``units`` (billions of multiply-adds, millions of parameters)."""
        return {cost: count / _UNIT[self.units[cost]] for cost, count in self.exact(codes).items()}


def _convolution(kernel: int, inputs: Any, outputs: Any) -> Any:
    """Parameters of a convolution without bias and the BatchNorm behind it."""
    return kernel * kernel * inputs * outputs + 2 * outputs


def _fusion(inputs: Sequence[Any], outputs: Sequence[Any]) -> list[Any]:
    """Parameters of the layers that start a module, by the side of their output.

    Each branch receives its own resolution (3x3), the next finer one (3x3, stride 2) and the next coarser one (1x1, run
    at the coarse resolution, then enlarged). Where a stage adds a branch, it grows from the coarsest fused one (3x3,
    stride 2).

    Args:
      inputs: channels of the branches before.
      outputs: channels of the branches after, as many or more.

    Returns:
      Parameters at ``SIDES[0]``, ``SIDES[1]``, ... (as many as there are outputs).
    """
    params: list[Any] = [0] * len(outputs)
    for target in range(len(inputs)):
        params[target] = params[target] + _convolution(3, inputs[target], outputs[target])
        if target > 0:
            params[target] = params[target] + _convolution(3, inputs[target - 1], outputs[target])
        if target + 1 < len(inputs):
            params[target + 1] = params[target + 1] + _convolution(1, inputs[target + 1], outputs[target])
    for target in range(len(inputs), len(outputs)):
        params[target] = params[target] + _convolution(3, outputs[target - 1], outputs[target])
    return params


def _params_by_side(code: Sequence[Any]) -> list[tuple[int, Any]]:
    """All parameters of a NAS-Bench-MR network with the side of the output they make.

    Args:
      code: the 27 numbers, each an integer, an array of any kind, or a tracer; only sums and products are taken.
    """
    sides = [(STEM_SIDE, _convolution(3, 3, code[0])), (SIDES[0], _convolution(3, code[0], code[1]))]
    channels, start = [code[1]], 2
    for stage in STAGES:
        blocks = code[start]
        convs = code[start + 1 : start + 1 + stage]
        before, channels = channels, list(code[start + 1 + stage : start + 1 + 2 * stage])
        start += 1 + 2 * stage
        first, later = _fusion(before, channels), _fusion(channels, channels)
        for branch, width in enumerate(channels):
            residual = 2 * _convolution(3, width, width)
            modules = first[branch] + (blocks - 1) * later[branch] + blocks * convs[branch] * residual
            sides.append((SIDES[branch], modules))
    sides.append((SIDES[-1], _convolution(1, sum(channels), code[start])))
    sides.append((1, CLASSES * code[start] + CLASSES))
    return sides


def exact_cost(codes: Any) -> dict[str, np.ndarray]:
    """Exact costs of NAS-Bench-MR codes, on the host.

    Args:
      codes: legal codes [..., 27].

    Returns:
      ``{"flops": multiply-adds, "params": parameters}``, int64 [...].

    Raises:
      UsageError: a code is not legal.
    """
    rows = NAS_BENCH_MR.check(codes)
    sides = _params_by_side(list(np.ascontiguousarray(rows.T, dtype=np.int64)))
    shape = np.shape(codes)[:-1]
    return {
        "flops": sum(side * side * params for side, params in sides).reshape(shape),
        "params": sum(params for _, params in sides).reshape(shape),
    }


def relaxed_cost(relaxed: Float[Array, "*batch 27"]) -> dict[str, Float[Array, "*batch"]]:
    """Costs of relaxed NAS-Bench-MR codes (or of codes); differentiable and jit-able.

    Args:
      relaxed: codes in raw units [..., 27]. Nothing is rounded or clipped: outside the box the polynomial goes on.

    Returns:
      ``{"flops": GMACs, "params": millions}`` [...], in the floating type given (float32 for integers); at legal codes
      equal to ``exact_cost`` to the precision of that type.
    """
    relaxed = jnp.asarray(relaxed)
    if relaxed.ndim == 0 or relaxed.shape[-1] != NAS_BENCH_MR.features:
        expected = f"codes of {NAS_BENCH_MR.name} [..., {NAS_BENCH_MR.features}]"
        raise checks.UsageError(checks.message(expected, f"shape {relaxed.shape}", "give all positions of each code"))
    if not jnp.issubdtype(relaxed.dtype, jnp.floating):
        relaxed = relaxed.astype(jnp.float32)
    return {cost: _relaxed_total(relaxed, place) for place, cost in enumerate(("flops", "params"))}


@functools.partial(jax.custom_vjp, nondiff_argnums=(1,))
def _relaxed_total(relaxed: Float[Array, "*batch 27"], cost: int) -> Float[Array, "*batch"]:
    """One cost in its unit. Value and gradient share almost all of their work, so the forward pass makes both."""
    return _total_and_slope(relaxed, cost)[0]


def _total_and_slope(relaxed: Array, cost: int) -> tuple[Array, Array]:
    form = _quadratic_form()
    pick = form.pick.astype(relaxed.dtype)
    multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    read = multiply(relaxed, pick) + form.offset.astype(relaxed.dtype)
    vector, factors, blocks, convs, widths = jnp.split(read, np.cumsum(form.parts)[:-1], axis=-1)
    # [..., factor, i]: the vector through all (symmetric) matrices.
    through = multiply(vector, form.matrices[cost].astype(relaxed.dtype)).reshape(*factors.shape, vector.shape[-1])
    mixed = (through * factors[..., None]).sum(axis=-2)
    each = (through * vector[..., None, :]).sum(axis=-1)
    square, linear = form.square[cost].astype(relaxed.dtype), form.linear[cost].astype(relaxed.dtype)
    layer = widths * (widths * square + linear)
    repeats = blocks * convs
    total = (mixed * vector).sum(axis=-1) + (repeats * layer).sum(axis=-1)
    slopes = [2 * mixed, each, convs * layer, blocks * layer, repeats * (2 * widths * square + linear)]
    return total, multiply(jnp.concatenate(slopes, axis=-1), pick.T)


def _relaxed_backward(cost: int, slope: Array, g: Array) -> tuple[Array]:
    del cost
    return (g[..., None] * slope,)


_relaxed_total.defvjp(_total_and_slope, _relaxed_backward)


@dataclasses.dataclass(frozen=True)
class _QuadraticForm:
    """The cost polynomial as matrices, so that it is a few small products and not hundreds of scalar operations.

    With v = (1, channels) and factors g = (1, blocks of each stage), each cost is
    ``sum_j g_j v' Q_j v + sum_b blocks_b convs_b (square_b width_b^2 + linear_b width_b)`` over the branches b.

    Attributes:
      pick: [27, p] reads (v, g, blocks_b, convs_b, width_b) from a code, with ``offset`` [p] for the ones.
      parts: the lengths of those five.
      matrices: [2, i, j * i'] all Q_j (symmetric) of each cost side by side, in their units.
      square: [2, b] and linear: [2, b], the coefficients of the residual blocks.
    """

    pick: np.ndarray
    offset: np.ndarray
    parts: tuple[int, ...]
    matrices: np.ndarray
    square: np.ndarray
    linear: np.ndarray


@functools.cache
def _quadratic_form() -> _QuadraticForm:
    """Reads the coefficients off ``_params_by_side``: it is a polynomial, so differences at 0, 1 and 2 give them."""
    branches = [(start, start + 1 + k, start + 1 + stage + k) for start, stage in _STARTS for k in range(stage)]
    convs = [c for _, c, _ in branches]
    starts = [start for start, _ in _STARTS]
    channels = [place for place in range(27) if place not in convs and place not in starts]

    def evaluate(counts: dict[int, int], *moved: int) -> np.ndarray:
        code = [0] * 27
        for place, value in counts.items():
            code[place] = value
        for place in moved:
            code[place] += 1
        sides = _params_by_side(code)
        return np.array([sum(s * s * n for s, n in sides) * 1e-9, sum(n for _, n in sides) * 1e-6])

    def quadratic(value: Callable[..., np.ndarray]) -> np.ndarray:
        size = len(channels) + 1
        q, zero = np.zeros((2, size, size)), value()
        q[:, 0, 0] = zero
        for i, a in enumerate(channels, 1):
            q[:, i, i] = (value(a, a) - 2 * value(a) + zero) / 2
            q[:, 0, i] = value(a) - zero - q[:, i, i]
            for j, b in enumerate(channels[: i - 1], 1):
                q[:, j, i] = value(a, b) - value(a) - value(b) + zero
        return (q + q.transpose(0, 2, 1)) / 2

    base = functools.partial(evaluate, {})
    forms = [quadratic(base)]
    forms += [quadratic(lambda *m, s=s: evaluate({s: 1}, *m) - evaluate({}, *m)) for s in starts]
    square, linear = np.zeros((2, len(branches))), np.zeros((2, len(branches)))
    for k, (start, conv, width) in enumerate(branches):
        one, two = (evaluate({start: 1, conv: 1}, *[width] * n) - evaluate({start: 1}, *[width] * n) for n in (1, 2))
        square[:, k], linear[:, k] = (two - 2 * one) / 2, (4 * one - two) / 2
    columns = [None, *channels, None, *starts, *(s for s, _, _ in branches), *convs, *(w for _, _, w in branches)]
    pick, offset = np.zeros((27, len(columns))), np.zeros(len(columns))
    for column, place in enumerate(columns):
        if place is None:
            offset[column] = 1
        else:
            pick[place, column] = 1
    parts = (len(channels) + 1, len(starts) + 1, *[len(branches)] * 3)
    size = len(channels) + 1
    matrices = np.stack(forms, axis=1).transpose(0, 3, 1, 2).reshape(2, size, -1)
    return _QuadraticForm(pick, offset, parts, matrices, square, linear)


_COSTS = {
    NAS_BENCH_MR.name: CostModel(
        name=NAS_BENCH_MR.name,
        units=MappingProxyType({"flops": "GMAC", "params": "M"}),
        exact=exact_cost,
        relaxed=relaxed_cost,
    ),
}


def cost_model(space: Space) -> CostModel | None:
    """The cost model of a space, None where there is none."""
    return _COSTS.get(space.name)
