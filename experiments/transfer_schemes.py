"""Single-task search against transfer: every source for every target, negative transfer counted and tested.

    python experiments/transfer_schemes.py --seeds 20 --out out/transfer_schemes

A search on a source is as long as one on a target may be. A method sees what a search or sample on the source has paid
for, and of the target only the values that it queries.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar

BLOCK = 20  # seeds that are searched together


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      seeds: number of runs of each method on each target, with seeds 0, 1, ….
      spaces: micro, macro (TransNAS-Bench-101), nas-bench-201 (data sets as tasks) or digits; by default micro and
        macro, and digits where these are not downloaded.
      targets: tasks that are searched; by default all, but for those that are only sources.
      sources: tasks that are sources; by default all others of a target.
      methods: random, evolution, reinforce, bayesian, ncp, arch-graph (from scratch); architectures, population,
        policy, tuned-policy, predictor, relations (transfer). A scheme of transfer brings the method that it is
        compared with. By default all.
      budget: number of queries of each target.
      source_budget: number of architectures measured on each source.
      on_test: allow tables of test values (nas-bench-201) to be searched; records say so.
    """

    seeds: int = 20
    spaces: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    budget: int = 100
    source_budget: int = 100
    on_test: bool = False


def run(config: Config) -> dict[str, Any]:
    """Runs every method on every target; writes records, figures and summary.json; returns the summary."""
    from transfer.gain_figures import curve_figure, gain_figure
    from transfer.gains import similarities
    from transfer.pairs import NONE, Found
    from transfer.scheme_study import SMALL, load_spaces, methods_of, summarise, told
    from transfer.schemes import Searches
    from transfer.source_runs import SourceRuns

    from ncp_jax import checks
    from ncp_jax.records.journal import Records

    methods = methods_of(config.methods, smoke=config.smoke)
    paid = {"--budget": config.budget, "--source-budget": config.source_budget}
    for name, count in paid.items():
        checks.integer(name, count, least=10, remedy="try 50")
    spaces = load_spaces(config.spaces, config.targets, config.sources, on_test=config.on_test, smoke=config.smoke)
    for space, tasks in spaces.items():
        for name, count in paid.items():
            checks.integer(name, count, least=10, most=tasks.size, remedy=f"{space} has {tasks.size} architectures")
    budget, source_budget, seeds = config.budget, config.source_budget, config.seeds
    if config.smoke:
        budget, source_budget, seeds = min(budget, 20), min(source_budget, 20), min(seeds, 2)
    hashes = {name: {t: table.content_hash() for t, table in tasks.tables.items()} for name, tasks in spaces.items()}
    settings = config.settings() | {"methods": list(methods), "tables": hashes}
    records = Records(config.out, settings, resume=config.resume, selects=("seeds", "methods"))

    def cell(space: str, target: str, method: str, first: int) -> dict[str, Any]:
        return {"space": space, "target": target, "method": method, "seeds": [first, min(first + BLOCK, seeds)]}

    blocks = range(0, seeds, BLOCK)
    wanted = [(s, t, m, b) for b in blocks for s, tasks in spaces.items() for m in methods for t in tasks.targets]
    searches: dict[tuple[str, int], Searches] = {}
    with ProgressBar("searches") as bar, compiled_fast(config.smoke):
        for place, (space, target, method, first) in enumerate(wanted):
            one = cell(space, target, method, first)
            if records.get(one) is None:
                if (space, first) not in searches:
                    sources = SourceRuns(spaces[space], source_budget, tuple(range(*one["seeds"])), config.on_test)
                    searches[space, first] = Searches(spaces[space], budget, sources, SMALL if config.smoke else {})
                found = searches[space, first].run(method, target)
                records.add(one, {source: runs.to_json() for source, runs in found.items()})
            bar(place + 1, len(wanted))

    results: dict[str, Any] = {}
    for space, tasks in spaces.items():
        runs: dict[str, dict[str, dict[str, Found]]] = {method: {} for method in methods}
        for method in methods:
            for target in tasks.targets:
                parts = [r["results"] for r in records.of([cell(space, target, method, first) for first in blocks])]
                cases = [source for source in (NONE, *tasks.cases(target)) if source in parts[0]]
                runs[method][target] = {source: Found.joined([part[source] for part in parts]) for source in cases}
        results[space] = summarise(runs, tasks, similarities(tasks), budget)
    curve_figure(results, config.out / "curves.png")
    gain_figure(results, config.out / "gains.png")
    print("\n".join(told(results)))
    return write_summary(config.out, "transfer_schemes", {"spaces": results}, settings)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
