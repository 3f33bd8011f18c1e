"""Makes the cost model of a described space from the functions that its description names."""

from __future__ import annotations

import functools
import importlib
import operator
import os
import sys
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.spaces.costs.model import SCALE, CostModel
from ncp_jax.spaces.described import DescribedSpace
from ncp_jax.spaces.description import CostFunction
from ncp_jax.types import Array, Float


@functools.lru_cache(maxsize=64)
def own_costs(space: DescribedSpace) -> CostModel | None:
    """Returns the costs that functions of a description know, None where it names none.

    The relaxed costs are those of the nearest codes, without a gradient: nothing is known of the functions.

    Raises:
      UsageError: a function that cannot be imported.
    """
    costs = space.description.costs
    if not costs:
        return None
    functions = {cost.name: _function(cost) for cost in costs}
    units = {cost.name: cost.unit for cost in costs}

    def in_units(codes: np.ndarray) -> dict[str, Float[np.ndarray, " n"]]:
        values = space.position_values(codes)
        return {name: _checked(space, name, functions[name](dict(values)), len(codes)) for name in functions}

    def exact(codes: Any) -> dict[str, np.ndarray]:
        rows, shape = space.check(codes), np.shape(codes)[:-1]
        found = in_units(rows) if len(rows) else {name: np.zeros(0) for name in functions}
        counted = {name: value * SCALE[units[name]] for name, value in found.items() if units[name] in SCALE}
        found |= {name: np.rint(value).astype(np.int64) for name, value in counted.items()}
        return {name: value.reshape(shape) for name, value in found.items()}

    @jax.custom_jvp
    def relaxed(codes: Float[Array, "*batch f"]) -> dict[str, Float[Array, "*batch"]]:
        rows = space.project(codes)
        kind = jax.ShapeDtypeStruct(rows.shape[:-1], np.float32)

        def called(some: Any) -> dict[str, np.ndarray]:
            flat = np.asarray(some).reshape(-1, space.length)
            return {name: v.reshape(some.shape[:-1]).astype(np.float32) for name, v in in_units(flat).items()}

        return jax.pure_callback(called, dict.fromkeys(functions, kind), rows, vmap_method="broadcast_all")

    @relaxed.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        values = relaxed(*primals)
        return values, jax.tree.map(jnp.zeros_like, values)

    return CostModel(space.name, MappingProxyType(units), exact, relaxed)


def _function(cost: CostFunction) -> Callable[[dict[str, Any]], Any]:
    if not isinstance(cost.function, str):
        return cost.function
    module, _, name = cost.function.partition(":")
    sys.path.append(os.getcwd())  # where ``python -m`` looks, too
    try:
        found = operator.attrgetter(name)(importlib.import_module(module))
    except (ImportError, AttributeError) as error:
        raise checks.UsageError(
            expected=f"the function {cost.function} of the cost {cost.name}",
            got=str(error),
            remedy="install its package, or run from the folder of its module",
        ) from error
    finally:
        sys.path.remove(os.getcwd())
    if not callable(found):
        raise checks.UsageError(
            expected=f"a function at {cost.function}, of the cost {cost.name}",
            got=repr(found)[:80],
            remedy="correct it",
        )
    return found


def _checked(space: DescribedSpace, name: str, found: Any, n: int) -> Float[np.ndarray, " n"]:
    """Returns what a cost function returned as float64 [n]; DataError unless these are n finite numbers."""
    try:
        values = np.asarray(found, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.full(0, np.nan)
    good = values.shape == (n,) and bool(np.isfinite(values).all())
    if not good:
        what = f"shape {np.shape(found)}" if values.shape != (n,) else f"{values[~np.isfinite(values)][0]}"
        raise checks.DataError(
            expected=f"{n} finite numbers from the cost {name} of {space.name}", got=what, remedy="correct its function"
        )
    return values
