"""Exact costs of a complete table's architectures, and limits on them."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.latency import load_readings
from ncp_jax.propagation.limit import RELATIONS, Limit
from ncp_jax.searchers import Candidates
from ncp_jax.spaces import CostModel, cost_model_for, get_space
from ncp_jax.types import Array, Bool, Float

LIMITED = {"flops": "gflops", "params": "params_m", "latency": "latency"}  # cost → its name in limits, in its own unit
LATENCY = "nas-bench-201-latency"


@dataclasses.dataclass(frozen=True)
class Budget:
    """Limits that hold together.

    Attributes:
      label: the cost of a single limit, or all limits as text.
      quantile: share of the architectures within the limit; None for limits given as numbers.
      limits: the limits.
      within: [n] True for the architectures that satisfy all of them.
    """

    label: str
    quantile: float | None
    limits: tuple[Limit, ...]
    within: Bool[np.ndarray, " n"]

    @property
    def name(self) -> str:
        """Name in records: the label, with the quantile if there is one."""
        return self.label if self.quantile is None else f"{self.label} {self.quantile:g}"


@dataclasses.dataclass(frozen=True, eq=False)
class Limited:
    """A table whose costs are known, and the budgets under which it is searched.

    Attributes:
      table: the table.
      model: its cost model.
      costs: cost → costs of all architectures, in the model's units.
      budgets: the budgets.
    """

    table: Table
    model: CostModel
    costs: dict[str, Float[np.ndarray, " n"]]
    budgets: list[Budget]

    @functools.cached_property
    def candidates(self) -> Candidates:
        """The architectures, as searchers know them."""
        return Candidates.of(self.table)


def exact_costs(table: Table, device: str) -> tuple[CostModel, dict[str, Float[np.ndarray, " n"]]]:
    """Returns the cost model of a table's networks, and the costs of its architectures in the model's units.

    Args:
      table: a complete table of a space with known costs.
      device: device whose measured latencies are a third cost; "" for none.

    Raises:
      UsageError: costs that are not known, or readings that are not whole.
    """
    space = get_space(table.space)
    model = cost_model_for(space, table.metrics)
    if model is None:
        raise checks.UsageError(
            expected="a table whose costs are known",
            got=table.name,
            remedy="take nas-bench-201, micro, macro or digits",
        )
    if device:
        model = with_latency(model, device)
    return model, model.in_units(np.asarray(table.codes))


def with_latency(model: CostModel, device: str) -> CostModel:
    """Returns a cost model of NAS-Bench-201 with the measured latencies of a device as one more cost.

    The exact latency of a code is its reading. Between codes the latency is linear in the shares of the operations, by
    least squares over all readings: it only steers codes.

    Raises:
      UsageError: an unknown device, or one with broken readings.
    """
    readings = load_readings(f"{LATENCY}/{device}")
    if readings.broken.any():
        raise checks.UsageError(
            expected="a device whose readings are all whole",
            got=f"{device} with {int(readings.broken.sum())} broken ones",
            remedy="try eyeriss, fpga or gold_6226",
        )
    space = get_space(readings.space)
    milliseconds = np.full((len(space.values[0]),) * space.length, np.nan)
    milliseconds[tuple(np.asarray(readings.codes).T)] = readings.milliseconds
    inputs = np.asarray(space.encode(jnp.asarray(readings.codes)))
    slope = jnp.asarray(np.linalg.lstsq(inputs, readings.milliseconds, rcond=None)[0], jnp.float32)

    def exact(codes: Any) -> dict[str, np.ndarray]:
        return model.exact(codes) | {"latency": milliseconds[tuple(np.moveaxis(np.asarray(codes), -1, 0))]}

    def relaxed(codes: Float[Array, "*batch f"]) -> dict[str, Array]:
        return {**model.relaxed(codes), "latency": codes @ slope}

    units = MappingProxyType({**model.units, "latency": "ms"})
    counted = f"{model.counted}; latency as measured on {device}"
    return dataclasses.replace(model, units=units, exact=exact, relaxed=relaxed, counted=counted)


def quantile_budgets(costs: Mapping[str, Float[np.ndarray, " n"]], quantiles: Sequence[float]) -> list[Budget]:
    """Returns a limit on each cost at each quantile of the architectures' costs.

    A limit that allows the same architectures as an earlier one is left out: in NAS-Bench-201 cells have the same order
    by FLOPs and by parameters.
    """
    found: list[Budget] = []
    for cost, values in costs.items():
        for quantile in quantiles:
            limit = float(np.quantile(values, quantile, method="lower"))
            within = values <= limit
            if not any((within == other.within).all() for other in found):
                found.append(Budget(cost, quantile, (Limit(LIMITED[cost], "<=", limit),), within))
    return found


def given_budget(costs: Mapping[str, Float[np.ndarray, " n"]], texts: Sequence[str], least: int) -> Budget:
    """Returns the budget of limits given as texts.

    Args:
      costs: costs of the architectures.
      texts: limits such as "gflops<=0.1", in the units of the costs.
      least: number of architectures that a search needs.

    Raises:
      UsageError: an unknown cost, a text that is no limit, or limits that too few architectures satisfy.
    """
    limits = tuple(Limit.parse(text) for text in texts)
    names = {LIMITED[cost]: cost for cost in costs}
    kept = [RELATIONS[x.relation](costs[names[checks.choose("cost", x.metric, names)]], x.value) for x in limits]
    within = functools.reduce(np.logical_and, kept)
    if within.sum() < least:
        raise checks.UsageError(
            expected=f"limits that at least {least} architectures satisfy, as many as there are queries",
            got=f"{', '.join(map(str, limits))}, which {int(within.sum())} satisfy",
            remedy="widen them" if within.any() else "they contradict each other or the space: widen them",
        )
    return Budget(", ".join(map(str, limits)), None, limits, within)
