"""Searches spaces that no searcher lists, and tables, trial by trial, beside Optuna's samplers and SMAC3.

    python experiments/own_space.py --seeds 20 --out out/own_space
    python experiments/own_space.py --benchmark micro --methods ncp optuna-gp --trials 50 --out out/micro

The benchmarks nas-bench-mr and fbnet-latency are open spaces of more than 10^20 codes: gradient-boosted trees, fitted
to a whole table, answer for any of them. Other benchmarks are complete tables. Needs the extras ``benchmark`` and
``optuna``.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar, say


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      benchmark: families (nas-bench-mr, fbnet-latency, micro, macro, nas-bench-201, digits) or single tables
        (nas-bench-mr/seg); by default nas-bench-mr, or digits where that is not downloaded.
      methods: ncp, bayesian, neural-ensemble, arch-graph, reinforce, evolution, local-search, random, optuna-tpe,
        optuna-gp, optuna-cmaes, smac3; by default all of this package and of Optuna. "ncp@8" is ncp with eight
        trials side by side.
      trials: trials of each search.
      noise: whether the answers of trees vary as the table does around them. The best trial is chosen by what was
        told, and reported without noise.
    """

    seeds: int = 20
    benchmark: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    trials: int = 100
    noise: bool = True


def run(config: Config) -> dict[str, Any]:
    """Runs every search, seed by seed; writes records, a figure and summary.json; returns the summary."""
    from harness.tables import or_digits
    from open_search.benchmarks import expand, load
    from open_search.figure import curves_figure
    from open_search.methods import METHODS, read_method, versions
    from open_search.trials import Comparison, Trials, of_record, search

    from ncp_jax import checks
    from ncp_jax.records.journal import Records

    checks.integer("--trials", config.trials, least=2, remedy="try 100")
    for text in config.methods:
        read_method(text)
    methods = config.methods or METHODS[:-1]
    names = expand(config.benchmark or or_digits("nas-bench-mr"))
    trials, seeds = config.trials, config.seeds
    if config.smoke:
        methods = config.methods or ("ncp", "random", "optuna-tpe")
        names, trials, seeds = names[:2], min(trials, 14), min(seeds, 2)
    tables = [load(name, noisy=config.noise) for name in names]
    packages = versions(methods)
    settings = config.settings() | {"trials": trials} | packages
    records = Records(config.out, settings, resume=config.resume, selects=("seeds", "methods", "benchmark"))
    cells: list[dict[str, Any]] = [
        {"seed": seed, "benchmark": name, "method": method}
        for seed in range(seeds)
        for name in names
        for method in methods
    ]
    with ProgressBar("searches") as bar, compiled_fast(config.smoke):
        for place, cell in enumerate(cells):
            if records.get(cell) is None:
                benchmark = load(cell["benchmark"], noisy=config.noise)
                found = search(benchmark, cell["method"], seed=cell["seed"], trials=trials, folder=config.out / "smac3")
                records.add(cell, dataclasses.asdict(found))
            bar(place + 1, len(cells))
    done: dict[str, dict[str, list[Trials]]] = {name: {method: [] for method in methods} for name in names}
    for cell, record in zip(cells, records.of(cells), strict=True):
        done[cell["benchmark"]][cell["method"]].append(of_record(record))
    marks = tuple(mark for mark in (50, 100) if mark <= trials) or (trials,)
    comparison = Comparison(done, marks, {one.name: one.rank for one in tables if one.oracle is None})
    curves_figure(comparison, config.out / "own_space.png")
    results = comparison.to_json()
    for name, by_method in results["best"].items():
        for method, at in by_method.items():
            written = [f"{v['mean']:.3f} [{v['low']:.3f}, {v['high']:.3f}] after {k} trials" for k, v in at.items()]
            print(f"{name} {method}: {', '.join(written)}")
    say(", ".join(f"{method} asks in {seconds * 1e3:.0f} ms" for method, seconds in results["ask_s"].items()))
    return write_summary(config.out, "own_space", results, settings, versions=packages)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
