"""Measures what options of the inversion bring over plain gradient ascent, by the true scores of what they propose.

    python experiments/inversion_options.py --on-test --seeds 3 --out out/inversion_options

Predictors are trained on a few rows of a published table and inverted with each option from the same starts.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from harness.script import ExperimentConfig, run_main, write_summary

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      benchmarks: nas-bench-201, transnas-micro, transnas-macro, nas-bench-mr, digits; by default those of the first
        four that are downloaded, or digits; nas-bench-201 only with --on-test.
      tasks: tasks of these benchmarks; all by default.
      rows: numbers of rows that predictors are trained on; by default 50, 100 and 300, on NAS-Bench-MR 100 and 400.
      codes: starts of each inversion.
      steps: iterations of each inversion.
      on_test: allow predictors to learn test values (nas-bench-201).
    """

    benchmarks: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    codes: int = 1024
    steps: int = 70
    on_test: bool = False


def run(config: Config) -> dict[str, Any]:
    """Inverts every (benchmark, rows, seed, task), writes records, figures and summary.json, returns the summary."""
    from harness.scoring import Evaluator, fit_evaluator
    from harness.tables import or_digits, searchable
    from proposals import options

    from ncp_jax import checks
    from ncp_jax.benchmarks.table import tasks_of
    from ncp_jax.records.journal import Records

    published = ("transnas-macro",) if config.smoke else tuple(name for name in options.ROWS if name != "digits")
    names = config.benchmarks or or_digits(*searchable(published, on_test=config.on_test))
    tables = {name: options.benchmark_table(name) for name in names}
    tasks = {name: tasks_of(table) for name, table in tables.items()}
    known = [task for some in tasks.values() for task in some]
    wanted = [checks.choose("task", task, known) for task in config.tasks] or (known[:1] if config.smoke else known)
    effort = options.Effort(codes=config.codes, steps=config.steps, on_test=config.on_test)
    variants = options.VARIANTS
    if config.smoke:
        recipe = dataclasses.replace(effort.recipe, widths=(8,), epochs=2, min_steps=0, decay_rows=0)
        effort = options.Effort(recipe=recipe, members=2, codes=32, steps=2, on_test=config.on_test)
        variants = {name: variants[name] for name in (options.BASELINE, "bound-1", "polish")}
    sizes = {name: config.rows or ((30,) if config.smoke else options.ROWS[name]) for name in names}
    cells: list[dict[str, Any]] = [
        {"benchmark": name, "rows": rows, "seed": seed, "task": task}
        for seed in range(config.seeds)
        for name in names
        for rows in sizes[name]
        for task in tasks[name]
        if task in wanted
    ]
    hashes = {name: table.content_hash() for name, table in tables.items()}
    settings = config.settings() | {"tables": hashes, "recipe": effort.recipe.to_json()}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))

    @functools.cache
    def evaluator(name: str, seed: int) -> Evaluator | None:
        # The other tables hold every architecture of their space.
        return fit_evaluator(tables[name], seed=seed) if name == "nas-bench-mr" else None

    with ProgressBar("inversions") as bar:
        for cell in cells:
            if records.get(cell) is None:
                name, seed = cell["benchmark"], cell["seed"]
                outcomes = options.compare_variants(
                    tables[name],
                    cell["task"],
                    rows=cell["rows"],
                    seed=seed,
                    effort=effort,
                    variants=variants,
                    evaluator=evaluator(name, seed),
                )
                # An outcome names its space, which digits and TransNAS micro share.
                records.add(cell, {"outcomes": [outcome.to_json() | {"benchmark": name} for outcome in outcomes]})
            bar(len(records.of(cells)), len(cells))

    summary = options.summarise_options(
        options.Outcome(**outcome) for record in records.of(cells) for outcome in record["results"]["outcomes"]
    )
    for measure in ("top", "best", "optimism"):
        options.options_figure(summary, config.out / f"options_{measure}.png", measure=measure)
    for name, by_rows in summary.items():
        for variant, row in by_rows["all"].variants.items():
            top = row.difference["top"]
            print(f"{name}, {variant}: true score {top['mean']:+.3f} [{top['low']:+.3f}, {top['high']:+.3f}]")
    as_json = {name: {rows: s.to_json() for rows, s in by_rows.items()} for name, by_rows in summary.items()}
    return write_summary(config.out, "inversion_options", {"options": as_json}, settings)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
