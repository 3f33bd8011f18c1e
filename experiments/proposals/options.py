"""Compares options of the inversion: each inverts the same predictors, and their proposals are scored independently.

A predictor is trained on a few rows of a published table and inverted with each variant of the settings, from the same
starts. Where the table holds every architecture of its space, proposals are scored by their measured values; elsewhere
by an evaluator, an ensemble trained on rows that no proposer has seen.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from harness.scoring import TOP, Evaluator, ProposalScorer, in_standard_units, measured_scores, predicted_scores
from harness.tables import all_tasks

from ncp_jax import checks
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.benchmarks import Table
from ncp_jax.drawing import BLUE, GREEN, GREY, ORANGE, new_axes, save_figure
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, PropagationConfig, TrustRegion, propagate
from ncp_jax.propagation.objective import default_objective
from ncp_jax.spaces import get_space
from ncp_jax.training import ENSEMBLE, Recipe, fit
from ncp_jax.types import Int

# Names of two variants: gradient ascent with default settings, and the ranking of the whole table without inversion.
BASELINE, ENUMERATION = "plain", "enumeration"
# Numbers of rows that the proposers of each benchmark are trained on.
ROWS: Mapping[str, tuple[int, ...]] = {
    "nas-bench-201": (50, 100, 300),
    "transnas-micro": (50, 100, 300),
    "transnas-macro": (50, 100, 300),
    "nas-bench-mr": (100, 400),
    "digits": (50, 100, 300),
}
# The default recipe's networks take four times as long to invert.
SMALL = dataclasses.replace(ENSEMBLE, name="ensemble-small", widths=(64, 64))
# Measures that are averaged for each variant and compared with the baseline, see ``Outcome.measures``.
MEASURES = ("best", "top", "best_of_top", "best_percentile", "top_percentile", "optimism", "distinct")
_LABELS = {
    "best": "true score of the first proposal [standard deviations]",
    "top": f"mean true score of the first {TOP} [standard deviations]",
    "best_of_top": f"best true score among the first {TOP} [standard deviations]",
    "optimism": f"predicted minus true score of the first {TOP} [standard deviations]",
}

Unit = tuple[str, int, int]  # task, seed and number of rows of one proposer


@dataclasses.dataclass(frozen=True)
class Variant:
    """Settings of an inversion.

    Attributes:
      settings: fields of ``PropagationConfig`` by name.
      trust: weight of a trust region around the rows that the proposer was trained on; 0 for none.
    """

    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    trust: float = 0.0

    def config(self, steps: int, codes: Int[np.ndarray, "r d"], predictor: Predictor) -> PropagationConfig:
        """Returns the settings for a predictor that was trained on ``codes``."""
        region = None
        if self.trust:
            region = TrustRegion.around(codes, get_space(predictor.space), predictor.scale, weight=self.trust)
        return PropagationConfig(**{"steps": steps, "region": region} | dict(self.settings))


VARIANTS: Mapping[str, Variant] = {
    BASELINE: Variant(),
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
    """Sizes of a proposer and of its inversions.

    Attributes:
      recipe: training recipe of the proposer's networks.
      members: number of networks in its ensemble.
      codes: starts of each inversion.
      steps: iterations of each inversion.
      on_test: whether proposers may learn test values.
    """

    recipe: Recipe = SMALL
    members: int = 4
    codes: int = 1024
    steps: int = 70
    on_test: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one variant of the inversion proposed, with scores in standard deviations of the table (higher is better).

    Attributes:
      benchmark: name of the benchmark.
      task: task of the table.
      rows: number of rows that the proposer was trained on.
      seed: random seed of rows, networks and starts.
      known: true score of the best row that the proposer was trained on.
      variant: name of the variant.
      distinct: number of distinct architectures found.
      scored: number of codes that the search scored.
      seconds: wall time of the search, without compilation.
      true: true scores of the first ``TOP`` proposals, the proposer's best first.
      predicted: the proposer's scores of the same.
      percentile: percentage of the table that is better than each.
    """

    benchmark: str
    task: str
    rows: int
    seed: int
    known: float
    variant: str
    distinct: int
    scored: int
    seconds: float
    true: list[float]
    predicted: list[float]
    percentile: list[float]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as records hold them."""
        return dataclasses.asdict(self)

    def measures(self, first: int = TOP) -> dict[str, float]:
        """Returns the outcome as one number per measure, over the first proposals alone.

        "best" is the true score of the first proposal, "top" the mean over the first ``first``, and "best_of_top" the
        best of these, which one has after training them all. "best_percentile" and "top_percentile" are percentages of
        the table that are better than the first proposal, and on average. "optimism" is the mean of predicted minus
        true score.
        """
        true, predicted, percentile = (np.asarray(v[:first]) for v in (self.true, self.predicted, self.percentile))
        return {
            "best": float(true[0]),
            "top": float(true.mean()),
            "best_of_top": float(true.max()),
            "best_percentile": float(percentile[0]),
            "top_percentile": float(percentile.mean()),
            "optimism": float((predicted - true).mean()),
            "distinct": float(self.distinct),
        }


@dataclasses.dataclass(frozen=True)
class VariantSummary:
    """Averages of one variant over proposers.

    Attributes:
      mean: mean of each measure.
      difference: interval of each measure's difference from the baseline of the same proposer.
      seconds: median wall time of the search.
      pairs: number of proposers.
    """

    mean: dict[str, float]
    difference: dict[str, dict[str, float]]
    seconds: float
    pairs: int


@dataclasses.dataclass(frozen=True)
class BenchmarkSummary:
    """Averages of all variants on one benchmark.

    Attributes:
      known: mean true score of the best row that the proposers were trained on.
      variants: averages by variant.
    """

    known: float
    variants: dict[str, VariantSummary]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as summary.json holds them."""
        return dataclasses.asdict(self)


# Summaries by benchmark, then by number of rows as text, or "all".
OptionsSummary = Mapping[str, Mapping[str, BenchmarkSummary]]


def benchmark_table(benchmark: str) -> Table:
    """Returns all tasks of a benchmark in ``ROWS`` as one table.

    Raises:
      UsageError: an unknown benchmark.
      FileNotFoundError: its files are not on this machine.
    """
    return all_tasks(checks.choose("benchmark", benchmark, ROWS))


def compare_variants(
    table: Table,
    task: str,
    *,
    rows: int,
    seed: int,
    effort: Effort | None = None,
    variants: Mapping[str, Variant] = VARIANTS,
    evaluator: Evaluator | None = None,
) -> list[Outcome]:
    """Trains a proposer on a few random rows and scores what each variant of its inversion proposes.

    The objective is the task's main metric; where the table has FLOPs, they go down at half the weight.

    Args:
      table: all measured architectures; without an evaluator, every architecture of the space.
      task: task whose main metric counts.
      rows: number of rows that the proposer is trained on; for one seed, smaller sets are parts of larger ones.
      seed: random seed of rows, networks and starts.
      effort: sizes; the defaults of ``Effort`` if None.
      variants: settings of the inversions, by name.
      evaluator: scores the proposals where the table holds only a part of the space.

    Returns:
      One outcome per variant. Without an evaluator there is one more, "enumeration": the proposer ranks all
      architectures of the table, and nothing is inverted.

    Raises:
      UsageError: an unknown task, too few rows to draw from, or an incomplete table without an evaluator.
    """
    effort = effort or Effort()
    standard = in_standard_units(table, task)
    chosen = _training_rows(table, task, rows, seed, evaluator)
    training_table = standard.select(chosen)
    key = jax.random.fold_in(jax.random.key(seed), zlib.crc32(task.encode()))
    fit_key, start_key = (jax.random.fold_in(key, side) for side in (11, 13))
    proposer = fit(training_table, recipe=effort.recipe, members=effort.members, key=fit_key, on_test=effort.on_test)

    goal = default_objective(proposer.metrics, limited=False)
    quality = measured_scores(standard) if evaluator is None else predicted_scores(evaluator, table, task)
    scorer = ProposalScorer.create(standard, goal, quality)

    found: dict[str, Found] = {}
    for name, variant in variants.items():
        config = variant.config(effort.steps, np.asarray(training_table.codes), proposer)
        found[name] = propagate(proposer, goal, codes=effort.codes, key=start_key, config=config)
    if evaluator is None:
        # No steps: the codes of the table are ranked as they are.
        found[ENUMERATION] = propagate(proposer, goal, start=np.asarray(table.codes), config=PropagationConfig(steps=0))
    known = scorer.score_of_best(chosen)
    return [
        Outcome(
            *(table.space, task, rows, seed, known, name),
            distinct=len(proposals),
            scored=proposals.scored,
            seconds=proposals.timing["search"],
            **vars(scorer.score_proposals(proposals)),
        )
        for name, proposals in found.items()
    ]


def _training_rows(table: Table, task: str, rows: int, seed: int, evaluator: Evaluator | None) -> Int[np.ndarray, " k"]:
    """Draws the rows that a proposer is trained on, from those that the evaluator has not seen."""
    pool = np.arange(len(table)) if evaluator is None else np.flatnonzero(~evaluator.rows)
    if not 2 <= rows <= len(pool):
        raise checks.UsageError(expected=f"2 to {len(pool)} rows to train on", got=str(rows), remedy="try 100")
    return np.random.default_rng([seed, zlib.crc32(task.encode())]).permutation(pool)[:rows]


def summarise_options(outcomes: Iterable[Outcome]) -> dict[str, dict[str, BenchmarkSummary]]:
    """Averages outcomes, and their differences from the baseline of the same proposer.

    Where one of the two found fewer than ``TOP`` architectures, both are cut to the shorter list before they are
    compared. "best_of_top" is not cut, because finding fewer architectures is a fault of its own.

    Args:
      outcomes: outcomes of any benchmarks, numbers of rows, tasks and seeds.

    Returns:
      Summaries by benchmark, then by number of rows as text, or "all". An interval's values are tasks with seeds, of
      which those of one seed count together; for "all" they are means over the numbers of rows.

    Raises:
      UsageError: a proposer without a baseline.
    """
    cells: dict[str, dict[str, dict[Unit, Outcome]]] = {}
    for outcome in outcomes:
        unit = (outcome.task, outcome.seed, outcome.rows)
        cells.setdefault(outcome.benchmark, {}).setdefault(outcome.variant, {})[unit] = outcome
    summary: dict[str, dict[str, BenchmarkSummary]] = {}
    for benchmark, variants in cells.items():
        sizes = sorted({unit[2] for units in variants.values() for unit in units})
        summary[benchmark] = {str(rows): _summarise_benchmark(variants, benchmark, (rows,)) for rows in sizes}
        summary[benchmark]["all"] = _summarise_benchmark(variants, benchmark, sizes)
    return summary


def _summarise_benchmark(
    variants: Mapping[str, Mapping[Unit, Outcome]], benchmark: str, sizes: Sequence[int]
) -> BenchmarkSummary:
    baseline = variants.get(BASELINE, {})
    compared: dict[str, VariantSummary] = {}
    for name, by_unit in variants.items():
        units = [unit for unit in by_unit if unit[2] in sizes]
        if lacking := [unit for unit in units if unit not in baseline]:
            raise checks.UsageError(
                expected=f"a plain ascent of every proposer of {benchmark}",
                got=f"none of {lacking[0]}",
                remedy=f"add {BASELINE!r} to the variants",
            )
        if not units:
            continue
        measures = [by_unit[unit].measures() for unit in units]
        compared[name] = VariantSummary(
            mean={measure: float(np.mean([m[measure] for m in measures])) for measure in MEASURES},
            difference=_differences({unit: (by_unit[unit], baseline[unit]) for unit in units}),
            seconds=float(np.median([by_unit[unit].seconds for unit in units])),
            pairs=len(units),
        )
    known = [outcome.known for unit, outcome in baseline.items() if unit[2] in sizes]
    return BenchmarkSummary(float(np.mean(known)), compared)


def _differences(pairs: Mapping[Unit, tuple[Outcome, Outcome]]) -> dict[str, dict[str, float]]:
    """Returns the interval of each measure's difference within pairs of a variant and its baseline."""
    grouped: dict[tuple[str, int], list[dict[str, float]]] = {}
    for (task, seed, _), (variant, baseline) in pairs.items():
        shared = min(len(variant.true), len(baseline.true))
        ours, theirs = (o.measures(shared) | {"best_of_top": max(o.true)} for o in (variant, baseline))
        grouped.setdefault((task, seed), []).append({m: ours[m] - theirs[m] for m in MEASURES})
    seeds = [seed for _, seed in grouped]
    means = {m: [float(np.mean([d[m] for d in group])) for group in grouped.values()] for m in MEASURES}
    return {m: mean_interval(values, seeds=seeds) for m, values in means.items()}


def options_figure(summary: OptionsSummary, path: Path, *, measure: str = "top") -> Path:
    """Draws each variant's difference from the baseline with its 95 % interval, one row per variant.

    Args:
      summary: what ``summarise_options`` returned; each benchmark has a colour.
      path: PNG file to write.
      measure: one of ``MEASURES``.
    """
    checks.choose("measure", measure, MEASURES)
    names = list(dict.fromkeys(name for by_rows in summary.values() for name in by_rows["all"].variants))
    names.remove(BASELINE)
    figure, axes = new_axes(width=7.5, height=1.2 + 0.5 * len(names))
    colours = (BLUE, ORANGE, GREEN, "black", GREY)
    for i, (benchmark, by_rows) in enumerate(summary.items()):
        variants = by_rows["all"].variants
        rows = [row for row, name in enumerate(names) if name in variants]
        drawn = [variants[names[row]].difference[measure] for row in rows]
        mean, low, high = (np.array([interval[end] for interval in drawn]) for end in ("mean", "low", "high"))
        at = np.array(rows) + (i - (len(summary) - 1) / 2) * 0.15
        style: dict[str, Any] = {"color": colours[i % len(colours)], "label": benchmark, "markersize": 3.5}
        axes.errorbar(mean, at, xerr=[mean - low, high - mean], fmt="o", linewidth=1.2, **style)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(f"{_LABELS.get(measure, measure)}, minus that of plain ascent")
    axes.legend(frameon=False, fontsize=8)
    return save_figure(figure, path)
