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
import math
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
    form = _products()[cost]
    weights = form.weights.astype(relaxed.dtype)
    multiply = functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST)
    read = multiply(relaxed, weights) + form.offsets.astype(relaxed.dtype)
    total, slopes, at = jnp.zeros(relaxed.shape[:-1], relaxed.dtype), [], 0
    for factors, terms in form.groups:
        parts = [read[..., at + i * terms : at + (i + 1) * terms] for i in range(factors)]
        at += factors * terms
        others = [math.prod(parts[:i] + parts[i + 1 :], start=1.0) for i in range(factors)]
        total = total + (parts[0] * others[0]).sum(axis=-1)
        slopes += others
    return total, multiply(jnp.concatenate(slopes, axis=-1), weights.T)


def _relaxed_backward(cost: int, slope: Array, g: Array) -> tuple[Array]:
    del cost
    return (g[..., None] * slope,)


_relaxed_total.defvjp(_total_and_slope, _relaxed_backward)


@dataclasses.dataclass(frozen=True)
class _Products:
    """The cost polynomial as a sum of products of affine forms of the code: two small matrix products and no more.

    With v = (1, channels), a cost is the sum of ``g_s v' Q_s v`` over the factors g = (1, blocks of each stage) and of
    ``blocks_b convs_b width_b (square_b width_b + linear_b)`` over the branches b.

    Attributes:
      weights: [27, p] and offsets: [p], the affine forms, in the order of ``groups``: all first factors, all second ….
      groups: (factors, terms): so many products of so many forms.
    """

    weights: np.ndarray
    offsets: np.ndarray
    groups: tuple[tuple[int, int], ...]


def _evaluate(counts: Mapping[int, int], *moved: int) -> np.ndarray:
    """Both costs, in their units, of the code that is 0 but for ``counts`` and for 1 added at each place moved."""
    code = [0] * 27
    for place, value in counts.items():
        code[place] = value
    for place in moved:
        code[place] += 1
    sides = _params_by_side(code)
    return np.array([sum(s * s * n for s, n in sides) * 1e-9, sum(n for _, n in sides) * 1e-6])


def _quadratic(channels: Sequence[int], value: Callable[..., np.ndarray]) -> np.ndarray:
    """[2, i, i] upper triangular Q of both costs with ``v' Q v`` equal to ``value``, a quadratic in the channels."""
    size = len(channels) + 1
    q, zero = np.zeros((2, size, size)), value()
    q[:, 0, 0] = zero
    for i, a in enumerate(channels, 1):
        q[:, i, i] = (value(a, a) - 2 * value(a) + zero) / 2
        q[:, 0, i] = value(a) - zero - q[:, i, i]
        for j, b in enumerate(channels[: i - 1], 1):
            q[:, j, i] = value(a, b) - value(a) - value(b) + zero
    return q


@functools.cache
def _products() -> tuple[_Products, _Products]:
    """Reads the coefficients off ``_params_by_side``: it is a polynomial, so differences at 0, 1 and 2 give them."""
    branches = [(start, start + 1 + k, start + 1 + stage + k) for start, stage in _STARTS for k in range(stage)]
    starts, convs = [start for start, _ in _STARTS], [conv for _, conv, _ in branches]
    channels = [place for place in range(27) if place not in starts and place not in convs]
    # The code with a 1 in front, so that an affine form is a vector: row 0 of an identity is the constant 1.
    one = np.eye(28)
    vector = one[[0, *(1 + c for c in channels)]]
    forms = [(one[0], _quadratic(channels, functools.partial(_evaluate, {})))]
    for s in starts:
        change = functools.partial(lambda s, *moved: _evaluate({s: 1}, *moved) - _evaluate({}, *moved), s)
        forms.append((one[1 + s], _quadratic(channels, change)))
    found = []
    for cost in range(2):
        # Rows of Q that are zero are products that vanish.
        fusions = [
            (factor, vector[i], q[cost, i] @ vector)
            for factor, q in forms
            for i in range(len(vector))
            if q[cost, i].any()
        ]
        residuals = []
        for start, conv, width in branches:
            first, second = (
                (_evaluate({start: 1, conv: 1}, *[width] * n) - _evaluate({start: 1}, *[width] * n))[cost]
                for n in (1, 2)
            )
            inner = (second - 2 * first) / 2 * one[1 + width] + (4 * first - second) / 2 * one[0]
            residuals.append((one[1 + start], one[1 + conv], one[1 + width], inner))
        # [factor, term, 28] each; side by side in one matrix.
        stacks = [np.array(terms).transpose(1, 0, 2) for terms in (fusions, residuals)]
        columns = np.concatenate([stack.reshape(-1, 28) for stack in stacks]).T
        found.append(_Products(columns[1:], columns[0], tuple(stack.shape[:2] for stack in stacks)))
    return found[0], found[1]


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
