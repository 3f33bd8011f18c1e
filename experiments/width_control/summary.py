"""Makes the summary and the figures of experiments/controllable.py from its records alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_panels, number_ticks, save_figure
from width_control.asked import Asked
from width_control.measures import PARTS, hypervolume_share, rank_correlation, uniformity
from width_control.methods import HYPERNETWORK, METHODS, NORM, NORMS, STATIC

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
GAIN = 33.5  # percent by which Aich et al. report more controllability than earlier methods, on NYUD-v2
NEAR_STATIC = 2.0  # percent of a metric by which a sub-network may be below a static model


def controllability(results: Results, asked: Asked, seeds: int) -> dict[str, Any]:
    """Returns each part of each method at each budget, and their means over the budgets, with intervals over seeds."""
    values: dict[str, dict[str, np.ndarray]] = {part: {} for part in PARTS}
    methods = [method for method in (*COMPARED, *NORMS) if (0, method) in results]
    for method in methods:
        for part in PARTS:
            values[part][method] = np.zeros((seeds, len(asked.budgets)))
    for seed in range(seeds):
        compared = [results[seed, method] for method in COMPARED]
        # All methods of a seed share the box, so that their volumes compare. The ablation of normalisation does not
        # change it.
        reference = np.min([run["ratios"] for run in compared], axis=(0, 1))
        every = [p for run in compared for rays in run["points"] if rays is not None for p in rays]
        best = np.max([*every, *(r for run in compared for r in run["ratios"])], axis=0)
        for method in methods:
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
        for method in methods[1:]
    }
    return {
        "controllability": {method: parts["hypervolume"][method]["all"] for method in methods},
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


def preference_falls(results: Results, tasks: Sequence[str], seeds: int) -> dict[str, dict[str, Any]]:
    """Returns how far a task's metric falls where its preference is higher, beside the noise between seeds.

    ``fall`` is at the budget and between the two preferences where it is largest in the mean over seeds, in percent
    points; negative where the metric always rises. ``noise`` is the standard deviation of the metric between seeds, the
    root of its mean square over budgets and preferences.
    """
    found: dict[str, dict[str, Any]] = {task: {} for task in tasks}
    for split in ("validation", "test"):
        paths = np.array([results[seed, "controllable"]["paths"][split] for seed in range(seeds)])  # [s, b, t, steps]
        lower, higher = np.triu_indices(paths.shape[-1], 1)
        noise = np.sqrt(paths.var(axis=0, ddof=1 if seeds > 1 else 0).mean(axis=(0, 2)))
        for place, task in enumerate(tasks):
            falls = (paths[:, :, place, lower] - paths[:, :, place, higher]).reshape(seeds, -1)
            worst = falls[:, falls.mean(axis=0).argmax()]
            found[task][split] = {"fall": mean_interval(worst), "noise": float(noise[place])}
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


def norms(results: Results, model: ModelConfig, seeds: int) -> dict[str, dict[str, Any]]:
    """Returns the mean of all tasks' test metrics by normalisation and ratio of all widths."""
    runs = {model.norm: "controllable"} | {name.removeprefix(NORM): name for name in NORMS if (0, name) in results}
    found: dict[str, dict[str, Any]] = {}
    for norm, method in runs.items():
        values = np.array([results[seed, method]["ratios"] for seed in range(seeds)]).mean(axis=-1)
        found[norm] = {f"{r:g}": mean_interval(values[:, place]) for place, r in enumerate(model.ratios)}
    return found


def targets(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns the targets of the experiment, what was measured of each, and whether its mean reaches it."""
    gain = content["gain_percent"]["shared_width"]
    within = content["searches"]["audited"]["within"]
    found = [(f"controllability {GAIN} % above shared_width", gain, gain["mean"] >= GAIN)]
    for task, gaps in content["static_gap"].items():
        for ratio, gap in gaps.items():
            words = f"{task} at {100 * float(ratio):g} % width at most {NEAR_STATIC:g} % below a static model"
            found.append((words, gap, gap["mean"] >= -NEAR_STATIC))
    for task, by_split in content["preference"].items():
        fall, noise = by_split["test"]["fall"], by_split["test"]["noise"]
        words = f"a higher preference for {task} lowers its metric by no more than the noise between seeds, {noise:.2f}"
        found.append((words, fall, fall["mean"] <= noise))
    found.append(("95 % of the questions within 1 % of the oracle", within, within["mean"] >= 0.95))
    return [{"target": words, "measured": value, "reached": bool(reached)} for words, value, reached in found]


def draw_figure(summary: Mapping[str, Any], asked: Asked, path: Path) -> Path:
    """Draws the hypervolume of each method against the budget, and the gaps to static models, with intervals."""
    figure, (axes, gaps) = new_panels(2, width=6.8, height=2.9)
    budgets = [f"{int(budget)}" for budget in asked.budgets]
    for place, method in enumerate(COMPARED):
        rows = [summary["parts"]["hypervolume"][method][budget] for budget in budgets]
        colour, line = STYLES[method]
        # Beside each other: intervals on one spot would hide each other.
        beside = [budget * 1.02 ** (place - len(COMPARED) // 2) for budget in asked.budgets]
        _draw(axes, beside, rows, label=method, color=colour, linestyle=line)
    axes.set_xscale("log")
    number_ticks(axes.xaxis)
    axes.set_xlabel("budget [multiply-adds]")
    axes.set_ylabel("hypervolume")
    axes.legend(frameon=False, fontsize=6)
    for place, ((task, by_ratio), (colour, line)) in enumerate(
        zip(summary["static_gap"].items(), STYLES.values(), strict=False)
    ):
        beside = [100 * float(ratio) + place - len(summary["static_gap"]) / 2 for ratio in by_ratio]
        _draw(gaps, beside, list(by_ratio.values()), label=task, color=colour, linestyle=line)
    gaps.axhline(-NEAR_STATIC, color=GREY, linewidth=0.8)
    gaps.set_xlabel("width [% of all channels]")
    gaps.set_ylabel("difference from static [%]")
    gaps.legend(frameon=False, fontsize=6)
    return save_figure(figure, path)


def _draw(axes: Any, places: Sequence[float], rows: Sequence[Mapping[str, float]], **style: Any) -> None:
    means = [row["mean"] for row in rows]
    ends = [[row["mean"] - row["low"] for row in rows], [row["high"] - row["mean"] for row in rows]]
    axes.errorbar(places, means, ends, capsize=2, **style)
