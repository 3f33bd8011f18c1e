"""What the options against exploited predictors bring: each inverts the same predictors, and the truth judges.

A predictor learns from a few rows of a published table and is inverted with each variant of the settings, from the same
starts. Where the table holds every architecture of its space, what was measured is the truth; elsewhere it is what an
ensemble predicts that learned from rows that no proposer has seen.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.benchmarks import Table, join, list_tables, load_table
from ncp_jax.benchmarks.registry import FAMILIES, load_tasks
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, PropagationConfig, TrustRegion, propagate
from ncp_jax.propagation.objective import default_objective
from ncp_jax.spaces import get_space
from ncp_jax.training import ENSEMBLE, Recipe, fit
from ncp_jax.types import Int
from proposals.scoring import TOP, Court, Judge, in_standard_units, judged_truth, measured_truth

PLAIN, ENUMERATION = "plain", "enumeration"
# How many rows the proposers of each benchmark learn from.
ROWS: Mapping[str, tuple[int, ...]] = {
    "nas-bench-201": (50, 100, 300),
    "transnas-micro": (50, 100, 300),
    "transnas-macro": (50, 100, 300),
    "nas-bench-mr": (100, 400),
    "digits": (50, 100, 300),
}
# The default recipe's networks take four times as long to invert.
SMALL = dataclasses.replace(ENSEMBLE, name="ensemble-small", widths=(64, 64))
# What is averaged for each variant and compared with the plain ascent, see ``summarise``.
MEASURES = ("best", "top", "best_of_top", "best_percentile", "top_percentile", "optimism", "distinct")
_LABELS = {
    "best": "true score of the first proposal [standard deviations]",
    "top": f"mean true score of the first {TOP} [standard deviations]",
    "best_of_top": f"best true score among the first {TOP} [standard deviations]",
    "optimism": f"predicted minus true score of the first {TOP} [standard deviations]",
}

Outcome = Mapping[str, Any]
Unit = tuple[str, int, int]  # a proposer: task, seed, rows


@dataclasses.dataclass(frozen=True)
class Variant:
    """One way to set an inversion.

    Attributes:
      settings: of ``PropagationConfig``, by name.
      trust: weight of a trust region around the rows that the proposer learned from; 0 for none.
    """

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trust: float = 0.0

    def config(self, steps: int, codes: Int[np.ndarray, "r d"], predictor: Predictor) -> PropagationConfig:
        """The settings for a predictor that learned from ``codes``."""
        region = None
        if self.trust:
            region = TrustRegion.around(codes, get_space(predictor.space), predictor.scale, weight=self.trust)
        return PropagationConfig(**{"steps": steps, "region": region} | dict(self.settings))


VARIANTS: Mapping[str, Variant] = {
    PLAIN: Variant(),
    "mean": Variant({"follow": "mean"}),
    "bound-1": Variant({"follow": "bound", "confidence": 1.0}),
    "bound-2": Variant({"follow": "bound", "confidence": 2.0}),
    "trust-0.3": Variant(trust=0.3),
    "trust-1": Variant(trust=1.0),
    "bound-1+trust-1": Variant({"follow": "bound", "confidence": 1.0}, trust=1.0),
    "straight-through": Variant({"discreteness": "straight-through"}),
    "annealed": Variant({"discreteness": "annealed"}),
    "restarts": Variant({"restarts": 2}),
    "polish": Variant({"polish": 8}),
}


@dataclasses.dataclass(frozen=True)
class Effort:
    """How much goes into each proposer and each of its inversions.

    Attributes:
      recipe: of the proposer's networks.
      members: networks in its ensemble.
      codes: starts of each inversion.
      steps: iterations of each inversion.
    """

    recipe: Recipe = SMALL
    members: int = 4
    codes: int = 1024
    steps: int = 70


def benchmark_table(benchmark: str) -> Table:
    """All tasks of a benchmark in ``ROWS`` as one table.

    Raises:
      UsageError: an unknown benchmark.
      FileNotFoundError: its files are not here.
    """
    checks.choose("benchmark", benchmark, ROWS)
    spaces = [space for space, family in FAMILIES.items() if family == benchmark]
    joint = benchmark in list_tables()
    return load_table(benchmark) if joint else join(load_tasks(spaces[0]), name=benchmark)


def exploit_table(
    table: Table,
    task: str,
    *,
    rows: int,
    seed: int,
    effort: Effort | None = None,
    variants: Mapping[str, Variant] = VARIANTS,
    judge: Judge | None = None,
) -> list[dict[str, Any]]:
    """Fits a proposer to a few random rows and judges what each variant of its inversion proposes.

    The objective is the task's main metric; where the table has FLOPs, they go down at half the weight. All scores are
    in standard deviations of the table's columns, higher is better, 0 is the table's mean.

    Args:
      table: all that was measured; without a judge every architecture of the space.
      task: whose main metric counts.
      rows: how many rows the proposer learns from; of one seed the smaller sets are parts of the larger ones.
      seed: of rows, networks and starts.
      effort: sizes; the defaults of ``Effort`` without it.
      variants: the ways to invert, by name.
      judge: stands for the truth where the table holds a part of the space.

    Returns:
      JSON-ready, an outcome for each variant: what ``Court.verdict`` says, "distinct" (architectures found), "scored",
      "seconds" (of search, without compilation), "known" (true score of the best row that the proposer learned from),
      and which one it is: "benchmark", "task", "rows", "seed", "variant". Without a judge one more outcome,
      "enumeration": the proposer ranks all architectures of the table, and nothing is inverted.

    Raises:
      UsageError: an unknown task, too few rows to draw from, a table without some architecture and no judge.
    """
    effort = effort or Effort()
    standard = in_standard_units(table, task)
    chosen = _draw(table, task, rows, seed, judge)
    small = standard.select(chosen)
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(task.encode()))
    fit_key, start_key = (jax.random.fold_in(key, side) for side in (11, 13))
    proposer = fit(small, recipe=effort.recipe, members=effort.members, key=fit_key)
    goal = default_objective(proposer.metrics, limited=False)
    court = Court.make(standard, goal, measured_truth(standard) if judge is None else judged_truth(judge, table, task))
    found: dict[str, Found] = {}
    for name, variant in variants.items():
        config = variant.config(effort.steps, np.asarray(small.codes), proposer)
        found[name] = propagate(proposer, goal, codes=effort.codes, key=start_key, config=config)
    if judge is None:
        nowhere = PropagationConfig(steps=0)
        found[ENUMERATION] = propagate(proposer, goal, start=np.asarray(table.codes), config=nowhere)
    cell = {"benchmark": table.space, "task": task, "rows": rows, "seed": seed, "known": court.known(chosen)}
    return [
        cell
        | {"variant": name, "distinct": len(f), "scored": f.scored, "seconds": f.timing["search"]}
        | court.verdict(f)
        for name, f in found.items()
    ]


def _draw(table: Table, task: str, rows: int, seed: int, judge: Judge | None) -> Int[np.ndarray, " k"]:
    """The rows that a proposer learns from."""
    pool = np.arange(len(table)) if judge is None else np.flatnonzero(~judge.rows)
    if not 2 <= rows <= len(pool):
        raise checks.UsageError(expected=f"2 to {len(pool)} rows to learn from", got=str(rows), remedy="try 100")
    return np.random.default_rng([seed, zlib.crc32(task.encode())]).permutation(pool)[:rows]


def summarise(outcome: Outcome, first: int = TOP) -> dict[str, float]:
    """Returns an outcome of ``exploit_table`` as one number a measure.

    "best" is the true score of the first proposal, "top" the mean over the first ``first`` and "best_of_top" the best
    of these, which whoever trains them all would end with; "best_percentile" and "top_percentile" say how much of the
    table is better than the first, and than the mean one, in %; "optimism" is the mean of predicted minus true score.
    """
    true, predicted, percentile = (np.asarray(outcome[n][:first]) for n in ("true", "predicted", "percentile"))
    return {
        "best": float(true[0]),
        "top": float(true.mean()),
        "best_of_top": float(true.max()),
        "best_percentile": float(percentile[0]),
        "top_percentile": float(percentile.mean()),
        "optimism": float((predicted - true).mean()),
        "distinct": float(outcome["distinct"]),
    }


def options_overview(outcomes: Iterable[Outcome]) -> dict[str, Any]:
    """Averages outcomes, and their differences from the plain ascent of the same proposer.

    Where one of the two found fewer than ``TOP`` architectures, the difference is that of as many proposals of both,
    but for "best_of_top", where finding fewer is a fault of its own.

    Args:
      outcomes: those of ``exploit_table``, of any benchmarks, numbers of rows, tasks and seeds.

    Returns:
      benchmark → number of rows as text, or "all" → "known" (mean true score of the best row that the proposers learned
      from) and "variants": variant → "mean" (measure → mean), "difference" (measure → interval of variant minus plain),
      "seconds" (median) and "pairs" (how many proposers). The intervals' unit is a task with a seed; for "all" it is
      the mean over the numbers of rows.

    Raises:
      UsageError: a proposer without a plain ascent.
    """
    cells: dict[str, dict[str, dict[Unit, Outcome]]] = {}
    for outcome in outcomes:
        unit = (outcome["task"], outcome["seed"], outcome["rows"])
        cells.setdefault(outcome["benchmark"], {}).setdefault(outcome["variant"], {})[unit] = outcome
    overview: dict[str, Any] = {}
    for benchmark, variants in cells.items():
        sizes = sorted({unit[2] for units in variants.values() for unit in units})
        overview[benchmark] = {str(rows): _compare(variants, benchmark, (rows,)) for rows in sizes}
        overview[benchmark]["all"] = _compare(variants, benchmark, sizes)
    return overview


def _compare(variants: Mapping[str, Mapping[Unit, Outcome]], benchmark: str, sizes: Sequence[int]) -> dict[str, Any]:
    plain = variants.get(PLAIN, {})
    compared: dict[str, Any] = {}
    for name, by_unit in variants.items():
        units = [unit for unit in by_unit if unit[2] in sizes]
        if lacking := [unit for unit in units if unit not in plain]:
            raise checks.UsageError(
                expected=f"a plain ascent of every proposer of {benchmark}",
                got=f"none of {lacking[0]}",
                remedy=f"add {PLAIN!r} to the variants",
            )
        if not units:
            continue
        means = [summarise(by_unit[unit]) for unit in units]
        compared[name] = {
            "mean": {measure: float(np.mean([m[measure] for m in means])) for measure in MEASURES},
            "difference": _differences({unit: (by_unit[unit], plain[unit]) for unit in units}),
            "seconds": float(np.median([by_unit[unit]["seconds"] for unit in units])),
            "pairs": len(units),
        }
    known = [outcome["known"] for unit, outcome in plain.items() if unit[2] in sizes]
    return {"known": float(np.mean(known)), "variants": compared}


def _differences(pairs: Mapping[Unit, tuple[Outcome, Outcome]]) -> dict[str, dict[str, float]]:
    """The interval of each measure's difference within the pairs."""
    grouped: dict[tuple[str, int], list[dict[str, float]]] = {}
    for (task, seed, _), (one, other) in pairs.items():
        shared = min(len(one["true"]), len(other["true"]))
        sides = [summarise(o, shared) | {"best_of_top": max(o["true"])} for o in (one, other)]
        grouped.setdefault((task, seed), []).append({m: sides[0][m] - sides[1][m] for m in MEASURES})
    return {m: mean_interval([float(np.mean([d[m] for d in group])) for group in grouped.values()]) for m in MEASURES}


def options_figure(overview: Mapping[str, Any], path: Path, *, measure: str = "top") -> Path:
    """Draws what each variant brings against the plain ascent: a row a variant, a colour a benchmark, 95% intervals."""
    checks.choose("measure", measure, MEASURES)
    names = list(dict.fromkeys(name for by_rows in overview.values() for name in by_rows["all"]["variants"]))
    names.remove(PLAIN)
    figure, axes = new_axes(width=7.5, height=1.2 + 0.5 * len(names))
    colours = (BLUE, ORANGE, GREEN, "black", GREY)
    for i, (benchmark, by_rows) in enumerate(overview.items()):
        variants = by_rows["all"]["variants"]
        rows = [row for row, name in enumerate(names) if name in variants]
        drawn = [variants[names[row]]["difference"][measure] for row in rows]
        mean, low, high = (np.array([interval[end] for interval in drawn]) for end in ("mean", "low", "high"))
        at = np.array(rows) + (i - (len(overview) - 1) / 2) * 0.15
        style: dict[str, Any] = {"color": colours[i % len(colours)], "label": benchmark, "markersize": 3.5}
        axes.errorbar(mean, at, xerr=[mean - low, high - mean], fmt="o", linewidth=1.2, **style)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"{_LABELS.get(measure, measure)}, minus that of the plain ascent")
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)
