"""Makes the summary and the figures of experiments/controllable.py from its records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure
from width_control.asked import Asked
from width_control.measures import PARTS, hypervolume_share, rank_correlation, uniformity
from width_control.methods import HYPERNETWORK, METHODS, NORMS, STATIC

Results = Mapping[tuple[int, str], Mapping[str, Any]]
# Colour and line of each method; what lacks a part of the training is dotted.
STYLES = {
    "controllable": (ORANGE, "-"),
    "shared_width": (BLUE, "-"),
    "fixed_decoders": (GREEN, "-"),
    "no_ci_kd": ("#aa3377", ":"),
    "no_in_place": (GREY, ":"),
    HYPERNETWORK: ("#66ccee", "--"),
}
COMPARED = (*METHODS, HYPERNETWORK)


def controllability(results: Results, asked: Asked, seeds: int) -> dict[str, Any]:
    """Returns each part of each method at each budget, and their means over the budgets, with intervals over seeds."""
    values: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    for method in (*COMPARED, *NORMS):
        for part in PARTS:
            values[part][method] = np.zeros((seeds, len(asked.budgets)))
    for seed in range(seeds):
        compared = [results[seed, method] for method in COMPARED]
        # All methods of a seed share the box, so that their volumes compare. The ablation of normalisation does not
        # change it.
        reference = np.min([run["ratios"] for run in compared], axis=(0, 1))
        every = [p for run in compared for rays in run["points"] if rays is not None for p in rays]
        best = np.max([*every, *(r for run in compared for r in run["ratios"])], axis=0)
        for method in (*COMPARED, *NORMS):
            run = results[seed, method]
            for place, points in enumerate(run["points"]):
                if points is None:  # the method reaches nothing at this budget
                    continue
                found = np.asarray(points)
                measured = (
                    hypervolume_share(found, reference, best),
                    uniformity(found, asked.rays),
                    rank_correlation(found, asked.rays),
                )
                for part, value in zip(PARTS, measured, strict=True):
                    values[part][method][seed, place] = value
    least = {part: 0.0 if part == "hypervolume" else -1.0 for part in PARTS}
    parts = {
        part: {
            method: {"all": mean_interval(found.mean(axis=1), least=least[part], most=1)}
            | {f"{int(b)}": mean_interval(found[:, i], least=least[part], most=1) for i, b in enumerate(asked.budgets)}
            for method, found in by_method.items()
        }
        for part, by_method in values.items()
    }
    volumes = values["hypervolume"]
    gains = {
        method: mean_interval(_gain(volumes["controllable"].mean(axis=1), volumes[method].mean(axis=1)))
        for method in (*COMPARED[1:], *NORMS)
    }
    return {
        "controllability": {method: parts["hypervolume"][method]["all"] for method in (*COMPARED, *NORMS)},
        "parts": parts,
        "gain_percent": gains,
    }


def _gain(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    # A method that reaches nothing counts as a thousandth of the box.
    return 100 * (one / np.maximum(other, 1e-3) - 1)


def static_gaps(
    results: Results, ratios: Sequence[float], numbers: Sequence[int], tasks: Sequence[str], seeds: int
) -> dict[str, dict[str, Any]]:
    """Returns by how many percent the metric of the controllable model differs from a static one of the same widths."""
    found: dict[str, dict[str, Any]] = {}
    for place, task in enumerate(tasks):
        found[task] = {}
        for number in numbers:
            gaps = []
            for seed in range(seeds):
                slim = results[seed, "controllable"]["ratios"][number][place]
                static = results[seed, f"{STATIC}{number}"]["test"][place]
                gaps.append(100 * (slim - static) / max(abs(static), 1e-9))
            found[task][f"{ratios[number]:g}"] = mean_interval(gaps)
    return found


def searches(results: Results, seeds: int) -> dict[str, Any]:
    """Returns, for each way to choose widths, the share of questions within 1 % of the oracle, over seeds."""
    runs = [results[seed, "controllable"]["searches"] for seed in range(seeds)]
    ways = ("published_rule", "predictors", "audited")
    table = {
        way: {key: mean_interval([run[way][key] for run in runs]) for key in runs[0][way] if key != "above_budget"}
        | {"above_budget": sum(run[way]["above_budget"] for run in runs)}
        for way in ways
    }
    return table | {"query": {key: max(run["query"][key] for run in runs) for key in runs[0]["query"]}}


def volume_figure(summary: Mapping[str, Any], asked: Asked, path: Path) -> Path:
    """Draws the hypervolume of each method against the budget, with intervals."""
    figure, axes = new_axes()
    budgets = [f"{int(budget)}" for budget in asked.budgets]
    for place, method in enumerate(COMPARED):
        rows = [summary["parts"]["hypervolume"][method][budget] for budget in budgets]
        means = [row["mean"] for row in rows]
        ends = [[row["mean"] - row["low"] for row in rows], [row["high"] - row["mean"] for row in rows]]
        colour, line = STYLES[method]
        # Beside each other: intervals on one spot would hide each other.
        beside = [budget * 1.02 ** (place - len(COMPARED) // 2) for budget in asked.budgets]
        axes.errorbar(beside, means, ends, label=method, color=colour, linestyle=line, capsize=2)
    axes.set_xscale("log")
    axes.set_xlabel("budget [multiply-adds]")
    axes.set_ylabel("hypervolume of reachable test metrics")
    axes.legend(frameon=False)
    return save_figure(figure, path)
