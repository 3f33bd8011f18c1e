"""Draws what a search found against the measured table."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks import Table
from ncp_jax.commands.measured import column_of
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, number_ticks, save_figure
from ncp_jax.metrics import MetricSpec, find_metric
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Front, Objective
from ncp_jax.propagation.constraint import HEADS, UNIT_NAMES
from ncp_jax.propagation.found import COST_HEADS
from ncp_jax.spaces import CostModel, cost_model_for, get_space
from ncp_jax.spaces.costs.model import SCALE
from ncp_jax.types import Float

SPREAD = "spread over the ensemble"


@dataclasses.dataclass(frozen=True, eq=False)
class _Axis:
    """One metric of the figure.

    Attributes:
      name: name of the metric or cost; ``SPREAD`` for the spread of the first sought metric.
      metric: specification of a predicted metric; None for a known cost and for the spread.
      label: text at the axis, with the unit and the direction.
      found, starts: ``[k]`` and ``[n]`` values of what was found and of the starts.
      measured: ``[r]`` values of the table's rows; None without them.
    """

    name: str
    metric: MetricSpec | None
    label: str
    found: Float[np.ndarray, " k"]
    starts: Float[np.ndarray, " n"]
    measured: Float[np.ndarray, " r"] | None

    @property
    def scale(self) -> str:
        """The scale of the axis: costs and metrics of many orders of magnitude are logarithmic."""
        if self.name in HEADS and self.metric is None:
            return "log"
        stored = None if self.metric is None else self.metric.stored
        return {"log": "log", "asinh": "symlog"}.get("" if stored is None else stored.form, "linear")

    @property
    def many_orders(self) -> bool:
        """Whether the axis has a metric of many orders of magnitude, whose ticks are powers of ten."""
        return self.metric is not None and self.scale != "linear"


def search_figure(
    path: Path,
    *,
    found: Found,
    predictor: Predictor,
    objective: Objective,
    table: Table | None,
    title: str,
    costs: CostModel | None = None,
    front: Front | None = None,
) -> Path:
    """Draws two metrics of a search: the measured table, the starts, what was found, the limits.

    The vertical axis is the first metric of the objective, the horizontal one the second. An objective of one metric
    is drawn against GFLOPs or, where they are not known, against the ensemble's spread.

    Args:
      path: PNG file to write.
      found: architectures that the search returned, best first.
      predictor: ensemble whose predictions are drawn.
      objective: what was sought.
      table: measured table; None where it is not on this machine.
      title: line above the figure.
      costs: cost model whose numbers the costs are; by default that of the predictor's metrics.
      front: Pareto front to draw.
    """
    model = costs or cost_model_for(predictor.space, predictor.metrics)
    signs = {**dict.fromkeys(objective.maximize, 1.0), **dict.fromkeys(objective.minimize, -1.0)}
    first, *others = signs
    second = others[0] if others else "flops" if model is not None and model.has_flops else SPREAD
    signs.setdefault(second, -1.0)
    y, x = (_axis(name, signs[name], found, predictor, table, model, first) for name in (first, second))
    # Fixed margins leave room for numbers of nine characters, and for two lines below, where a cost's label says what
    # is counted. Numbers of many orders of magnitude may be longer.
    below = 0.55 + 0.17 * x.label.count("\n")
    figure, axes = new_axes(margins=None if y.many_orders else (0.95, below, 0.2, 0.3))
    if x.measured is not None and y.measured is not None:
        axes.scatter(x.measured, y.measured, s=5, c=GREY, lw=0, label="table (measured)")
    axes.scatter(x.starts, y.starts, s=5, c=BLUE, lw=0, alpha=0.5, label="start (predicted)")
    axes.scatter(x.found, y.found, s=12, marker="^", c=ORANGE, lw=0, alpha=0.7, label="found (predicted)")
    axes.scatter([x.found[0]], [y.found[0]], s=90, marker="*", c=GREEN, zorder=4, label="best by the objective")
    if front is not None:
        _draw_front(axes, front, x, y)
    for axis, draw in ((x, axes.axvline), (y, axes.axhline)):
        _draw_limits(draw, axis, found)
    for axis, set_scale, set_label in ((x, axes.set_xscale, axes.set_xlabel), (y, axes.set_yscale, axes.set_ylabel)):
        stored = None if axis.metric is None else axis.metric.stored
        set_scale(axis.scale, **({"linthresh": stored.scale} if axis.scale == "symlog" and stored else {}))
        set_label(axis.label)
    for axis, drawn in ((x, axes.xaxis), (y, axes.yaxis)):
        if axis.scale == "log" and not axis.many_orders:
            number_ticks(drawn)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8, markerscale=1.6)
    return save_figure(figure, path)


def _axis(
    name: str, sign: float, found: Found, predictor: Predictor, table: Table | None, model: CostModel | None, first: str
) -> _Axis:
    better = "higher is better" if sign > 0 else "lower is better"
    space = get_space(found.space)
    known = {} if model is None else model.units
    cost = name.lower() if name.lower() in found.costs and name.lower() in known else None
    codes = None if table is None else np.asarray(table.codes)
    if cost is not None and model is not None:
        unit = COST_HEADS.get(cost, f"{cost} [{model.units[cost]}]" if model.units[cost] else cost)
        counted = f"\nof {model.counted}" if model.counted else ""
        label = f"{unit} ({better}){counted}"
        measured = None if codes is None else model.in_units(codes)[cost]
        return _Axis(cost, None, label, found.costs[cost], model.in_units(found.starts)[cost], measured)
    metric = predictor.metrics[find_metric(predictor.metrics, first if name == SPREAD else name)]
    place = predictor.metrics.index(metric)
    mean, spread = (np.asarray(a)[:, place] for a in predictor(space.encode(jnp.asarray(found.starts))))
    column = find_metric(found.metrics, metric.name)
    unit = f" [{metric.unit}]" if metric.unit else ""
    if name == SPREAD:
        return _Axis(SPREAD, None, f"{SPREAD}{unit}", found.spread[:, column], spread, None)
    measured = None if table is None else column_of(table, {})(metric.name)
    return _Axis(metric.name, metric, f"{metric.name}{unit} ({better})", found.mean[:, column], mean, measured)


def _draw_front(axes: Any, front: Front, x: _Axis, y: _Axis) -> None:
    """Draws the front as a line; with more than two metrics, as points, since it is no line then."""
    across, up = (front.values[:, [n.lower() for n in front.metrics].index(axis.name.lower())] for axis in (x, y))
    order = np.argsort(across)
    line = "-" if len(front.metrics) == 2 else ""
    axes.plot(across[order], up[order], line, marker="o", ms=3, lw=1.2, c=GREEN, zorder=3, label="Pareto front")


def _draw_limits(draw: Any, axis: _Axis, found: Found) -> None:
    """Draws each limit on the metric of an axis as a line across."""
    for limit in found.limits:
        cost = UNIT_NAMES.get(limit.metric, limit.metric)
        if limit.exact and axis.metric is None and cost == axis.name:
            scale = {"flops": SCALE["GMAC"], "params": SCALE["M"]}.get(cost, 1.0)
            value = limit.value if limit.metric in UNIT_NAMES else limit.value / scale
        elif not limit.exact and axis.metric is not None and limit.metric == axis.name:
            value = limit.value
        else:
            continue
        sure = "" if limit.exact or limit.confidence is None else f", {100 * limit.confidence:g} % sure"
        draw(value, c="black", lw=1, ls="--", label=f"limit: {limit.metric} {limit.relation} {limit.value:.6g}{sure}")
