"""One cell of the study: a benchmark and a seed, from training to the judged answers of all methods."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from harness.scoring import fit_pair
from harness.tables import all_tasks

from inter_task.methods import Programs, Settings
from inter_task.problem import COST, Problem, Questions, Units, budgets_of, costs_of, measured, predicted
from inter_task.race import Judge, compile_methods, exhaustive, race
from inter_task.volume import Box
from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import main_metrics, tasks_of
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.training import Recipe, fit

# Quantiles of the table's GFLOPs that the budgets are.
QUANTILES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.75, 1.0)
REFERENCE = 0.25  # quantile of the table's values that is the reference of hypervolumes
ABOVE = 0.5  # standard deviations by which architectures off the table may exceed its best and count
SAMPLED = "nas-bench-mr"  # its table is a small part of its space; the others hold every architecture
# Benchmarks, and the seconds after which the methods are compared.
MARKS: dict[str, tuple[float, ...]] = {
    SAMPLED: (1.0, 2.0, 4.0, 8.0),
    "micro": (0.5, 1.0, 2.0),
    "macro": (0.5, 1.0, 2.0),
    "digits": (0.5, 1.0, 2.0),
}


@dataclasses.dataclass(frozen=True)
class Design:
    """What is done in every cell.

    Attributes:
      methods: names of the methods, "inversion" first.
      weights: number of weightings.
      rows: rows that the searched predictor learns from, where the table holds every architecture.
      members: networks of each ensemble.
      recipe: training recipe.
      samples: points of the estimate of hypervolumes.
      settings: settings of the methods.
      small: the same in spaces that can be listed, where thousands of codes at once are the whole space.
      marks: seconds of the comparisons, ascending; empty for those of ``MARKS``.
      clock: "wall" or "cpu", see ``race.CLOCKS``.
    """

    methods: tuple[str, ...]
    weights: int
    rows: int
    members: int
    recipe: Recipe
    samples: int
    settings: Settings
    small: Settings
    marks: tuple[float, ...] = ()
    clock: str = "wall"

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON-ready values."""
        plain = {name: list(v) if isinstance(v, tuple) else v for name, v in vars(self).items()}
        return plain | {
            "recipe": self.recipe.to_json(),
            "settings": self.settings.to_json(),
            "small": self.small.to_json(),
        }

    def marks_of(self, benchmark: str) -> tuple[float, ...]:
        """Returns the seconds after which the methods are compared."""
        return self.marks or MARKS[benchmark]


@functools.cache
def main_table(benchmark: str) -> Table:
    """Returns a benchmark's table: of a complete one, the main metric of each task and the exact FLOPs.

    Other metrics of a task would tell its predictor what was not paid for. FLOPs cost nothing.
    """
    table = all_tasks(checks.choose("benchmark", benchmark, MARKS))
    if benchmark == SAMPLED:
        return table
    main = main_metrics(table, tasks_of(table))
    model = costs_of(table)
    flops = MetricSpec(COST, task=model.task, unit=model.units[COST], direction="minimize", kind="cost")
    columns = [np.asarray(table.column(metric.name), np.float32) for metric in main]
    columns.append(np.asarray(model.in_units(np.asarray(table.codes))[COST], np.float32))
    values = np.stack(columns, axis=1)
    return dataclasses.replace(table, values=jax.device_put(values), metrics=(*main, flops))


def run_cell(benchmark: str, seed: int, design: Design) -> dict[str, Any]:
    """Trains, lets the methods answer, and judges the answers; returns the results as a record holds them.

    Args:
      benchmark: a key of ``MARKS``.
      seed: random seed.
      design: what is done in every cell.
    """
    table = main_table(benchmark)
    tasks = tasks_of(table)
    units, codes = Units.of(table, tasks), np.asarray(table.codes)
    questions = Questions.make(len(tasks), design.weights, budgets_of(table, QUANTILES))
    if benchmark == SAMPLED:
        proposer, evaluator = fit_pair(table, seed=seed, recipe=design.recipe, members=design.members)
        judged = functools.partial(predicted, evaluator.predictor, units)
    else:
        proposer = fit_on_rows(table, design, seed)
        judged = functools.partial(measured, table, units)
    problem = Problem.make(proposer, table, units, questions)
    above = ABOVE if benchmark == SAMPLED else 0.0
    box = box_of(measured(table, units, codes), problem.gflops(codes), questions.budgets[-1], above)
    predict = functools.partial(predicted, problem.predictor, units)
    judge = Judge(predict, judged, problem.gflops, box, box.points(design.samples))

    programs = Programs(problem, design.settings if benchmark == SAMPLED else design.small)
    marks = design.marks_of(benchmark)
    compiled = compile_methods(programs, design.methods)
    shots, answers = race(programs, design.methods, seed, marks, design.clock)
    over = max(
        float((problem.gflops(answers.codes[b][answers.answered[b]]) / budget).max(initial=0.0))
        for b, budget in enumerate(questions.budgets)
    )
    alone = answers.codes[:, : len(tasks)][answers.answered[:, : len(tasks)]]
    sets = {"single-task": np.unique(alone, axis=0), "table": codes}
    if benchmark != SAMPLED:
        sets["exhaustive"] = exhaustive(programs, codes)
    return {
        "marks": list(marks),
        "budgets": questions.budgets.tolist(),
        "tasks": list(tasks),
        "methods": judge.record(shots),
        "sets": {name: judge.volumes(some) | {"distinct": len(some)} for name, some in sets.items()},
        "compile_s": compiled,
        "most_of_budget": over,
        "fronts": {name: judge.front(some[-1].codes) for name, some in shots.items()},
    }


def fit_on_rows(table: Table, design: Design, seed: int) -> Predictor:
    """Trains an ensemble on ``design.rows`` random rows of a table."""
    chosen = np.zeros(len(table), bool)
    chosen[np.random.default_rng(seed).permutation(len(table))[: design.rows]] = True
    key = jax.random.fold_in(jax.random.key(seed), 11)
    return fit(table, recipe=design.recipe, members=design.members, key=key, rows=chosen)


def box_of(metrics: np.ndarray, gflops: np.ndarray, most: float, above: float) -> Box:
    """Returns the box between the lower quartiles and the best of a table's metrics, within a limit on GFLOPs."""
    low = np.append(np.quantile(metrics, REFERENCE, axis=0), -most)
    return Box(low, np.append(metrics.max(axis=0) + above, -gflops.min()))


def choose_benchmarks(names: Sequence[str]) -> tuple[str, ...]:
    """Returns names of benchmarks; UsageError with the nearest ones for an unknown name."""
    return tuple(checks.choose("benchmark", name.removeprefix("transnas-"), MARKS) for name in names)
