"""Arch-Graph against baselines: the best architecture found within a budget of queries, with each task as the target.

    python experiments/arch_graph.py --space micro --budget 50 --seeds 20 --sources all --out out/micro_all

A method sees the source tasks, and of the target only the values that it queries.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.script import run_main

from ncp_jax.commands.command import Verbosity
from ncp_jax.commands.study import StudyOptions


@dataclasses.dataclass(frozen=True)
class Config(Verbosity, StudyOptions):
    """Options.

    Attributes:
      seeds: number of runs of each method on each target, with seeds 0, 1, ….
      space: micro, macro (TransNAS-Bench-101), nas-bench-201 (data sets as tasks) or digits; without it micro, and
        digits where micro is not downloaded.
      budget: number of queries of each target.
      sources: source tasks: none, one (the task that follows) or all the other tasks.
      source_budget: number of architectures measured on the sources (50, 500), or all; without sources it is ignored.
      tasks: targets and sources; by default all tasks of the space.
      encoder: encoder of the relation predictor, graph or code.
      batch: number of queries between two rankings.
      on_test: allow tables of test values (nas-bench-201) to be searched; records and report say so.
      methods: arch_graph, borda, no_transfer, gaussian_process, mean_rank, random; by default all that apply.
    """

    seeds: int = 20
    space: str = ""
    budget: int = 50
    sources: str = "all"
    source_budget: str = "all"
    tasks: tuple[str, ...] = ()
    encoder: str = "code"
    batch: int = 4
    on_test: bool = False
    methods: tuple[str, ...] = ()


# Method → its searcher, and the settings that make it.
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "arch_graph": ("arch-graph", {}),
    "borda": ("arch-graph", {"ranking": "borda"}),
    "no_transfer": ("arch-graph", {"sources": "ignored"}),
    "gaussian_process": ("source-gaussian-process", {}),
    "mean_rank": ("mean-rank", {}),
    "random": ("random", {}),
}


def run(config: Config) -> None:
    """Runs every method as a study with source tasks; writes records, report, figures and summary.json."""
    from harness.tables import or_digits
    from transfer import summary
    from transfer.figures import query_figure, reliability_figure

    from ncp_jax import checks
    from ncp_jax.benchmarks.registry import load_tasks
    from ncp_jax.commands.study import run_grid
    from ncp_jax.ordering import Reliability
    from ncp_jax.searchers.arch_graph import ArchGraphConfig, RelationRecipe, read_source_budget
    from ncp_jax.studies import Grid

    checks.integer("--seeds", config.seeds, least=1, remedy="try --seeds 1")
    checks.choose("sources", config.sources, ("none", "one", "all"))
    source_budget = read_source_budget(config.source_budget)
    chosen = [checks.choose("method", m, METHODS) for m in config.methods] or list(METHODS)
    if config.sources == "none":
        chosen = [m for m in chosen if m not in ("no_transfer", "mean_rank")]
    methods = [m for m in METHODS if m in chosen]
    if not methods:
        raise checks.UsageError(expected="a method that needs no sources", got="none", remedy="add arch_graph")
    space = config.space or or_digits("transnas-micro")[0].removeprefix("transnas-")
    small: dict[str, Any] = {"width": 8, "members": 2, "steps": 5} if config.smoke else {}
    recipe = dataclasses.replace(RelationRecipe(encoder=config.encoder), **small)
    search = ArchGraphConfig(batch=config.batch, recipe=recipe)
    tasks = config.tasks
    if config.smoke and space in ("micro", "macro"):
        tasks = tasks or ("class_scene", "jigsaw", "normal")
    tables = load_tasks(space, tasks)

    learned = {"encoder": recipe.encoder, "width": recipe.width, "members": recipe.members, "steps": recipe.steps}
    given: dict[str, dict[str, Any]] = {
        "arch-graph": {**learned, "first": search.first, "batch": search.batch},
        "mean-rank": learned,
    }
    searchers: dict[str, list[dict[str, Any]]] = {}
    for name, settings in map(METHODS.__getitem__, methods):
        searchers.setdefault(name, []).append({**given.get(name, {}), **settings})
    grid = Grid(
        searchers=searchers,
        benchmarks=tuple(table.name for table in tables),
        budget=min(config.budget, 12) if config.smoke else config.budget,
        seeds=2 if config.smoke else config.seeds,
        sources=config.sources,
        source_budget=None if config.sources == "none" else source_budget,
        on_test=config.on_test,
    )
    found: dict[str, Any] = {}

    def summarise() -> dict[str, Any]:
        labels = dict(zip(grid.methods(), methods, strict=True))
        results = summary.read_results(config.out, labels)
        sizes = {table.name.partition("/")[2]: len(table) for table in tables}
        calibrated = [m for m in ("arch_graph", "no_transfer", "gaussian_process") if m in methods]
        found.update(
            summary.summarise(results, sizes, grid.budget),
            seconds=summary.read_seconds(config.out, labels),
            calibration={m: summary.pool_calibration(results[m]).to_json() for m in calibrated},
            similarity=summary.task_similarity(tables),
            denoised=summary.denoised(results, tables),
            architectures=sizes,
        )
        query_figure(found["curves"], config.out / "curves.png")
        curves = {m: Reliability.from_json(c) for m, c in found["calibration"].items()}
        if curves:
            reliability_figure(curves, config.out / "calibration.png")
        hashes = {table.name: table.content_hash() for table in tables}
        settings = {"space": space, "tasks": list(sizes), "methods": methods, "search": dataclasses.asdict(search)}
        return {"schema": "arch_graph/1", **found, "config": settings | {"tables": hashes}}

    run_grid(grid, config, summarise)
    for method in methods if found else ():
        share, rank = found["percentile"][method], found["rank"][method]
        print(
            f"{method:17} top {share['mean']:.3f} % [{share['low']:.3f}, {share['high']:.3f}], "
            f"rank {rank['mean']:.2f}, tau {found['tau'][method]['mean']:.3f}, {found['seconds'][method]:.1f} s"
        )


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
