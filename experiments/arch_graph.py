"""Arch-Graph against baselines: the best architecture found within a budget of queries, with each task as the target.

    python experiments/arch_graph.py --space micro --budget 50 --seeds 20 --sources all --out out/micro_all

A method sees the source tasks, and of the target only the values that it queries.
"""

from __future__ import annotations

import dataclasses
import time
from typing import Any

from harness.script import ExperimentConfig, run_main, write_summary

from ncp_jax.console import ProgressBar


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      space: micro, macro (TransNAS-Bench-101), nas-bench-201 (data sets as tasks) or digits; without it micro, and
        digits where micro is not downloaded.
      budget: number of queries of each target.
      sources: source tasks: none, one (the task that follows) or all the other tasks.
      source_budget: number of architectures measured on the sources (50, 500), or all; without sources it is ignored.
      tasks: targets and sources; by default all tasks of the space.
      encoder: encoder of the relation predictor, graph or code.
      batch: number of queries between two rankings.
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
    methods: tuple[str, ...] = ()


METHODS = ("arch_graph", "borda", "no_transfer", "gaussian_process", "mean_rank", "random")


def run(config: Config) -> dict[str, Any]:
    """Runs every method, writes records, figures and summary.json, returns the summary."""
    from harness.tables import or_digits
    from transfer import transfer
    from transfer.figures import query_figure, reliability_figure

    from ncp_jax import checks
    from ncp_jax.benchmarks.registry import load_tasks
    from ncp_jax.ordering import Reliability
    from ncp_jax.records.journal import Records
    from ncp_jax.searchers.arch_graph import ArchGraphConfig, RelationRecipe, read_source_budget

    checks.choose("sources", config.sources, ("none", "one", "all"))
    source_budget = read_source_budget(config.source_budget)
    methods = [checks.choose("method", m, METHODS) for m in config.methods] or list(METHODS)
    if config.sources == "none":
        methods = [m for m in methods if m not in ("no_transfer", "mean_rank")]
    if not methods:
        raise checks.UsageError(expected="a method that needs no sources", got="none", remedy="add arch_graph")
    space = config.space or or_digits("transnas-micro")[0].removeprefix("transnas-")
    recipe, runs, budget, tasks = RelationRecipe(encoder=config.encoder), config.seeds, config.budget, config.tasks
    if config.smoke:
        recipe = dataclasses.replace(recipe, width=8, members=2, steps=5)
        runs, budget = 2, min(budget, 12)
        tasks = tasks or (("class_scene", "jigsaw", "normal") if space in ("micro", "macro") else ())
    search = ArchGraphConfig(batch=config.batch, recipe=recipe)
    tables = load_tasks(space, tasks)
    hashes = {table.name: table.content_hash() for table in tables}
    settings = config.settings() | {"tables": hashes, "search": dataclasses.asdict(search), "methods": methods}
    records = Records(config.out, settings, resume=config.resume)
    problem = transfer.make_problem(
        tables, sources=config.sources, source_budget=source_budget, runs=runs, seed=0, config=search
    )
    sizes = dict(zip(problem.tasks, (len(t) for t in tables), strict=True))

    for method in methods:
        if records.get({"method": method}) is not None:
            continue
        began = time.perf_counter()
        with ProgressBar(method) as bar:
            found = transfer.search_all(method, problem, budget=budget, runs=runs, seed=0, config=search, progress=bar)
        seconds = time.perf_counter() - began
        ranking = "borda" if method == "borda" else search.ranking
        scored = {
            task: transfer.score_runs(f, v, ranking=ranking, trust=search.trust)
            for task, f, v in zip(problem.tasks, found, problem.values, strict=True)
        }
        results: dict[str, Any] = {"seconds": seconds, "tasks": scored}
        if method in ("arch_graph", "no_transfer"):
            results["calibration"] = transfer.relation_quality(found, problem.values).to_json()  # type: ignore[arg-type]
        records.add({"method": method}, results)

    by_method = {r["cell"]["method"]: r["results"] for r in records}
    summary = {
        **transfer.summarise({m: by_method[m]["tasks"] for m in methods}, sizes),
        "seconds": {m: by_method[m]["seconds"] for m in methods},
        "calibration": {m: by_method[m]["calibration"] for m in methods if "calibration" in by_method[m]},
        "similarity": transfer.task_similarity(problem),
        "architectures": sizes,
    }
    query_figure(summary["curves"], config.out / "curves.png")
    curves = {m: Reliability.from_json(c) for m, c in summary["calibration"].items()}
    if curves:
        reliability_figure(curves, config.out / "calibration.png")
    summary = write_summary(config.out, "arch_graph", summary, settings)
    for method in methods:
        share, rank = summary["percentile"][method], summary["rank"][method]
        print(
            f"{method:17} top {share['mean']:.3f} % [{share['low']:.3f}, {share['high']:.3f}], "
            f"rank {rank['mean']:.2f}, tau {summary['tau'][method]['mean']:.3f}, {summary['seconds'][method]:.1f} s"
        )
    return summary


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
