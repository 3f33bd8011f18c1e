"""One architecture for several tasks: joint inversion against evolution and NSGA-II in equal time, by hypervolume.

    python experiments/ncp_inter_task.py --seeds 6 --out out/ncp_inter_task

Asked for are the best architectures for 4096 weightings of all tasks under each of 8 budgets of exact GFLOPs. All
methods search the same predictor. On nas-bench-mr their answers are judged by an ensemble trained on the other half of
the table; on micro, macro and digits by the table, which holds every architecture.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar

if TYPE_CHECKING:
    from inter_task.cell import Design

    from ncp_jax.records.journal import Record


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      benchmarks: nas-bench-mr, micro, macro (TransNAS-Bench-101), digits; by default those of the first three that are
        downloaded, or digits.
      methods: evolution, nsga2, optuna-nsga2 (needs the extra optuna), random; all by default. Inversion always runs.
      weights: weightings of the tasks.
      rows: rows that predictors of micro, macro and digits learn from.
      members: networks of each ensemble.
      seconds: times at which the methods are compared, ascending; by default up to 8 s on nas-bench-mr and 2 s
        elsewhere.
      clock: wall, or cpu on a machine that does other work too: the time that all threads of this process compute.
    """

    seeds: int = 6
    benchmarks: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    weights: int = 4096
    rows: int = 300
    members: int = 8
    seconds: tuple[float, ...] = ()
    clock: str = "wall"


def run(config: Config) -> dict[str, Any]:
    """Runs every (benchmark, seed); writes records, figures and summary.json; returns the summary."""
    from harness.tables import or_digits
    from inter_task.cell import SAMPLED, choose_benchmarks, main_table, run_cell
    from inter_task.figure import fronts_figure
    from inter_task.summary import lines, summarise

    from ncp_jax import checks
    from ncp_jax.benchmarks.table import tasks_of
    from ncp_jax.records.journal import Records

    published = ("nas-bench-mr", "transnas-micro", "transnas-macro")
    names = choose_benchmarks(config.benchmarks) or choose_benchmarks(or_digits(*published))
    if config.smoke and not config.benchmarks:
        names = choose_benchmarks(("digits",))
    design = _design(config)
    for name in names:
        table = main_table(name)
        checks.integer("--weights", design.weights, least=len(tasks_of(table)), remedy="try --weights 4096")
        if name != SAMPLED:
            checks.integer("--rows", design.rows, least=10, most=len(table), remedy="try --rows 300")
    hashes = {name: main_table(name).content_hash() for name in names}
    settings = config.settings() | {"design": design.to_json(), "tables": hashes}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds",))
    cells: list[Record] = [{"benchmark": name, "seed": seed} for seed in range(config.seeds) for name in names]
    with ProgressBar("searches") as bar, compiled_fast(config.smoke):
        for cell in cells:
            if records.get(cell) is None:
                records.add(cell, run_cell(cell["benchmark"], cell["seed"], design))
            bar(len(records.of(cells)), len(cells))

    done: dict[str, list[Record]] = {name: [] for name in names}
    for cell, record in zip(cells, records.of(cells), strict=True):
        done[cell["benchmark"]].append(record["results"])
    results = summarise(done)
    for name in names:
        fronts_figure(results[name], done[name][0]["fronts"], config.out / f"inter_task_{name}.png")
    print("\n".join(lines(results)))
    return write_summary(config.out, "ncp_inter_task", {"benchmarks": results}, settings)


def _design(config: Config) -> Design:
    """Returns what is done in every cell; UsageError for unknown methods or times that do not ascend."""
    import importlib.util

    from inter_task.cell import Design
    from inter_task.methods import METHODS, Settings, choose
    from inter_task.race import CLOCKS

    from ncp_jax import checks
    from ncp_jax.training import get_recipe

    asked = tuple(map(choose, config.methods))
    has_optuna = importlib.util.find_spec("optuna") is not None
    if "optuna-nsga2" in asked and not has_optuna:
        raise checks.UsageError(
            expected="the package optuna for the method optuna-nsga2",
            got="none",
            remedy='pip install "ncp-jax[optuna]", or leave the method out',
        )
    every = asked or tuple(name for name in METHODS if name != "optuna-nsga2" or has_optuna)
    for mark in config.seconds:
        checks.positive("--seconds", mark)
    if list(config.seconds) != sorted(set(config.seconds)):
        raise checks.UsageError(
            expected="--seconds in ascending order, each once",
            got=" ".join(f"{mark:g}" for mark in config.seconds),
            remedy="try --seconds 1 2 5",
        )
    checks.integer("--members", config.members, least=1, remedy="try --members 8")
    recipe = get_recipe("ensemble")
    design = Design(
        methods=("inversion", *(name for name in dict.fromkeys(every) if name != "inversion")),
        weights=checks.integer("--weights", config.weights, least=1, remedy="try --weights 4096"),
        rows=config.rows,
        members=config.members,
        recipe=recipe,
        samples=2**17,
        settings=Settings(),
        small=Settings(codes=512, children=256),
        marks=config.seconds,
        clock=checks.choose("clock", config.clock, CLOCKS),
    )
    if not config.smoke:
        return design
    small = Settings(codes=32, steps=2, children=32, population=16)
    return dataclasses.replace(
        design,
        methods=design.methods if asked else ("inversion", "evolution", "nsga2"),
        weights=min(design.weights, 32),
        rows=min(design.rows, 40),
        members=1,
        recipe=dataclasses.replace(recipe, widths=(8,), epochs=2, min_steps=0, decay_rows=0),
        samples=2**10,
        settings=small,
        small=small,
        marks=config.seconds or (0.1, 0.2),
    )


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
