"""Draws what a search found against the measured table."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks import Table
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective
from ncp_jax.spaces import cost_model_for, get_space


def search_figure(
    path: Path, *, found: Found, predictor: Predictor, objective: Objective, table: Table | None, title: str
) -> Path:
    """Draws the sought metric against GFLOPs: the measured table, the starts, what was found.

    Where the space has no GFLOPs, the horizontal axis is the ensemble's spread.

    Args:
      path: PNG file to write.
      found: architectures that the search returned, best first.
      predictor: ensemble whose predictions are drawn.
      objective: its first metric is the vertical axis.
      table: measured table; None where it is not on this machine.
      title: line above the figure.
    """
    sought = predictor.metric(objective.names[0])
    column = [m.name for m in found.metrics].index(sought.name)
    space = get_space(found.space)
    start_mean, start_spread = (np.asarray(a)[:, column] for a in predictor(space.encode(jnp.asarray(found.starts))))
    model = cost_model_for(space, predictor.metrics)
    figure, axes = new_axes()
    if model is not None and model.has_flops:
        if table is not None and sought.name in [m.name for m in table.metrics]:
            x = model.in_units(np.asarray(table.codes))["flops"]
            axes.scatter(x, table.measured(sought.name), s=5, c=GREY, lw=0, label="table (measured)")
        axes.scatter(
            model.in_units(found.starts)["flops"], start_mean, s=5, c=BLUE, lw=0, alpha=0.5, label="start (predicted)"
        )
        x, best_x = found.costs["flops"], found.costs["flops"][0]
        axes.set_xscale("log")
        axes.set_xlabel("GFLOPs (multiply-adds / 1e9)")
    else:
        axes.scatter(start_spread, start_mean, s=5, c=BLUE, lw=0, alpha=0.5, label="start (predicted)")
        x, best_x = found.spread[:, column], found.spread[0, column]
        axes.set_xlabel("spread over the ensemble" + (f" [{sought.unit}]" if sought.unit else ""))
    axes.scatter(x, found.mean[:, column], s=12, marker="^", c=ORANGE, lw=0, alpha=0.7, label="found (predicted)")
    axes.scatter([best_x], [found.mean[0, column]], s=90, marker="*", c=GREEN, zorder=3, label="best by the objective")
    axes.set_ylabel(f"{sought.name} [{sought.unit}]" if sought.unit else sought.name)
    if sought.stored is not None and sought.stored.form == "log":
        axes.set_yscale("log")
    elif sought.stored is not None and sought.stored.form == "asinh":
        axes.set_yscale("symlog", linthresh=sought.stored.scale)
    axes.set_title(title, fontsize=10)
    axes.legend(frameon=False, fontsize=8, markerscale=1.6)
    return save_figure(figure, path)
