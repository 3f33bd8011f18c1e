"""Measures plain matrix products on the same device: at the shapes of the inversion, and at the device's best shape."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from latency.clock import calls_for, timed
from ncp_jax.predictors.products import product
from ncp_jax.propagation import PropagationConfig
from ncp_jax.propagation.engine import cpu_options
from ncp_jax.propagation.gradients import Invertible
from ncp_jax.types import Array, Float

Layers = Sequence[tuple[int, int]]
SQUARES = (1024, 2048, 4096)


def layers_of(predictor: Invertible) -> list[tuple[int, int]]:
    """Returns (inputs, outputs) of the layers that inversion multiplies by, for one member of a folded predictor.

    The last layer is left out: the objective is a fixed combination of the outputs, so its cotangent, and with it that
    of the last hidden layer's activations, is the same for every code and step.
    """
    return [(int(w.shape[1]), int(w.shape[2])) for w in predictor.params["w"][:-1]]


def flops_per_code_step(predictor: Invertible, config: PropagationConfig) -> int:
    """Returns the floating-point operations of the matrix products that one step of one code needs.

    A layer costs 2·inputs·outputs forward and as much backward, a multiply-add counting as two. The products needed
    are those of ``layers_of``, of one member where each code follows its own and of all where it follows the ensemble.
    Activations, clipping and anything else that the engine computes are not counted.

    Args:
      predictor: folded predictor, restricted to the metrics of the objective.
      config: settings of the inversion; ``follow`` says whether a code follows one member or all.
    """
    members = int(jax.tree.leaves(predictor.params)[0].shape[0])
    followed = 1 if config.follow == "member" else members
    return 4 * followed * sum(i * o for i, o in layers_of(predictor))


class Products:
    """Plain matrix products, compiled on construction and timed on request.

    The products of a layer are a chain forward and back, ``[rows, inputs] x [inputs, outputs] x [outputs, inputs]``,
    repeated in one compiled loop, so that neither dispatch is timed nor can the compiler leave products out.

    Args:
      layers: shapes of the layers, see ``layers_of``.
      codes: rows of the full shapes; None where these are too large to be held.
      tile: rows of the tile shapes, and number of independent chains that run side by side.
      precision: precision of the products, see ``predictors.products.product``.
      squares: sizes of square products in ascending order; those after one that took a quarter second are left out.
      least: minimum seconds of a timed loop: long enough for interruptions by the system to hit it as often as they
        hit an inversion.
    """

    def __init__(
        self,
        layers: Layers,
        *,
        codes: int | None,
        tile: tuple[int, int],
        precision: str,
        squares: Sequence[int] = SQUARES,
        least: float = 0.25,
    ) -> None:
        make = functools.partial(_Chain, precision=precision, least=least)
        self._groups: dict[str, list[_Chain]] = {}
        if codes is not None:
            self._groups["full"] = [make(codes, 1, layer) for layer in layers]
        self._groups["tile"] = [make(*tile, layer) for layer in layers]
        for size in squares:
            chain = make(size, 1, (size, size))
            self._groups[f"square {size}"] = [chain]
            if chain.seconds > 0.25:
                break

    def rates(self) -> dict[str, float]:
        """Times all products; returns operations per second of "full", "tile" (all layers together), "square SIZE"."""
        return {
            name: sum(c.flops for c in chains) / sum(c.time() for c in chains) for name, chains in self._groups.items()
        }


class _Chain:
    """The two products of a layer, or a square product, in a loop; compiled in the fastest of several ways."""

    def __init__(self, rows: int, lanes: int, layer: tuple[int, int], *, precision: str, least: float) -> None:
        inputs, outputs = layer
        matrix = reflection(inputs, outputs)
        # A square matrix maps rows to rows of the same length: one product is a loop already.
        matrices = (matrix,) if rows == inputs == outputs else (matrix, np.ascontiguousarray(matrix.T))
        start = np.random.default_rng(0).standard_normal((rows, inputs), np.float32)
        self.flops = 2 * rows * inputs * outputs * lanes * len(matrices)
        found = []
        for (kind, multiply), options in itertools.product(_multiplications(precision), _compilers()):
            arrays = ((jnp.asarray(start, kind),) * lanes, tuple(jnp.asarray(m, kind) for m in matrices))
            loop = jax.jit(functools.partial(_repeat, multiply), compiler_options=options)
            run = functools.partial(_finish, loop.lower(*arrays, 1).compile(), *arrays)
            calls = calls_for(least, run)
            found.append((min(timed(run, calls) for _ in range(2)), calls, run))
        self.seconds, self._calls, self._run = min(found, key=lambda candidate: candidate[0])

    def time(self) -> float:
        """Returns the seconds of one iteration of the loop."""
        return timed(self._run, self._calls)


Multiply = Callable[[Array, Array], Array]


def _multiplications(precision: str) -> list[tuple[str, Multiply]]:
    """Returns product functions of a precision, each with the dtype of the arrays between two products."""
    functions: list[tuple[str, Multiply]] = [("float32", functools.partial(product, precision=precision))]
    if precision == "bfloat16":
        # Half the memory to read and write: where memory is the limit, this is the faster plain product.
        functions.append(("bfloat16", jnp.matmul))
    return functions


def _compilers() -> list[dict[str, Any] | None]:
    """Returns compiler options to try: XLA's defaults and, on CPU, those of the engine, which use another library."""
    engine = cpu_options() if jax.default_backend() == "cpu" else ()
    return [None, dict(engine)] if engine else [None]


def reflection(inputs: int, outputs: int) -> Float[np.ndarray, "i o"]:
    """Returns a dense matrix with orthonormal rows or columns: repeated products neither vanish nor overflow."""
    size = max(inputs, outputs)
    v = np.random.default_rng(1).standard_normal(size)
    whole = np.eye(size, dtype=np.float32) - np.outer(2 * v / (v @ v), v).astype(np.float32)
    return np.ascontiguousarray(whole[:inputs, :outputs])


def _repeat(multiply: Multiply, lanes: tuple[Array, ...], matrices: tuple[Array, ...], times: int) -> tuple[Array, ...]:
    def turn(_: int, lanes: tuple[Array, ...]) -> tuple[Array, ...]:
        return tuple(functools.reduce(multiply, matrices, x) for x in lanes)

    return jax.lax.fori_loop(0, times, turn, lanes)


def _finish(compiled: Any, lanes: tuple[Array, ...], matrices: tuple[Array, ...], times: int) -> None:
    jax.block_until_ready(compiled(lanes, matrices, times))
