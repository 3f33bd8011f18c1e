"""What the options of an inversion bring against plain ascent, when the truth judges what is proposed.

    python experiments/inversion_options.py --seeds 3 --out out/inversion_options

Predictors learn from a few rows of a published table and are inverted with each option from the same starts.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

from harness.script import ExperimentConfig, run_main

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      benchmarks: nas-bench-201, transnas-micro, transnas-macro, nas-bench-mr, digits; without it those of the first
        four that are downloaded, or digits.
      tasks: of them; all without it.
      rows: how many rows predictors learn from; 50, 100 and 300 without it, on NAS-Bench-MR 100 and 400.
      codes: starts of each inversion.
      steps: its iterations.
    """

    benchmarks: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    rows: tuple[int, ...] = ()
    codes: int = 1024
    steps: int = 70


def run(config: Config) -> dict[str, Any]:
    """Inverts every (benchmark, rows, seed, task), writes records, figures and summary.json, returns the summary."""
    from harness.tables import or_digits
    from proposals import options as exploitation
    from proposals import scoring as truth

    from ncp_jax import checks
    from ncp_jax.benchmarks.table import tasks_of
    from ncp_jax.records.journal import Records, write_json
    from ncp_jax.records.run_card import run_card

    published = ("transnas-macro",) if config.smoke else tuple(name for name in exploitation.ROWS if name != "digits")
    names = config.benchmarks or or_digits(*published)
    tables = {name: exploitation.benchmark_table(name) for name in names}
    tasks = {name: tasks_of(table) for name, table in tables.items()}
    known = [task for some in tasks.values() for task in some]
    wanted = [checks.choose("task", task, known) for task in config.tasks] or (known[:1] if config.smoke else known)
    effort = exploitation.Effort(codes=config.codes, steps=config.steps)
    variants = exploitation.VARIANTS
    if config.smoke:
        recipe = dataclasses.replace(effort.recipe, widths=(8,), epochs=2, min_steps=0, decay_rows=0)
        effort = exploitation.Effort(recipe=recipe, members=2, codes=32, steps=2)
        variants = {name: variants[name] for name in ("plain", "bound-1", "polish")}
    sizes = {name: config.rows or ((30,) if config.smoke else exploitation.ROWS[name]) for name in names}
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
    records = Records(config.out, settings, resume=config.resume)

    @functools.cache
    def judge(name: str, seed: int) -> truth.Judge | None:
        return truth.train_judge(tables[name], seed=seed) if name == "nas-bench-mr" else None

    with ProgressBar("inversions") as bar:
        for cell in cells:
            if records.get(cell) is None:
                name, seed = cell["benchmark"], cell["seed"]
                outcomes = exploitation.exploit_table(
                    tables[name],
                    cell["task"],
                    rows=cell["rows"],
                    seed=seed,
                    effort=effort,
                    variants=variants,
                    judge=judge(name, seed),
                )
                # Digits and TransNAS micro share a space.
                records.add(cell, {"outcomes": [outcome | {"benchmark": name} for outcome in outcomes]})
            bar(len(records), len(cells))

    overview = exploitation.options_overview(o for record in records for o in record["results"]["outcomes"])
    for measure in ("top", "best", "optimism"):
        exploitation.options_figure(overview, config.out / f"options_{measure}.png", measure=measure)
    summary = {"options": overview, "config": settings, **run_card()}
    write_json(config.out / "summary.json", summary)
    for name, by_rows in overview.items():
        for variant, row in by_rows["all"]["variants"].items():
            top = row["difference"]["top"]
            print(f"{name}, {variant}: true score {top['mean']:+.3f} [{top['low']:+.3f}, {top['high']:+.3f}]")
    return summary


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
