"""Learns from a few labels of a complete table, inverts, measures the best proposals, and ranks them in the table.

    python experiments/ncp_nas_bench_201.py --samples 100 --queries 20 --seeds 50 --out out/nas_bench_201

Compared with the same predictor scoring every architecture, and with searchers that make as many queries in all. A
method sees the labels and the answers to its queries; the other values of the table only rank what was proposed.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax import checks
from ncp_jax.console import ProgressBar, format_table

if TYPE_CHECKING:
    from collections.abc import Mapping

    from few_labels.inversions import Variant
    from few_labels.ranking import Ranking

    from ncp_jax.benchmarks import Table
    from ncp_jax.records.journal import Record, Records
    from ncp_jax.searchers import Candidates

SIZES = (25, 50, 100, 200, 400)
BLOCK = 10  # seeds that are trained and inverted side by side
SMOKE = ("continuous", "polish")  # variants of a smoke run: each compiles a program


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      samples: labels that the predictor of the main result learns from.
      queries: proposals that are measured.
      sizes: other numbers of labels, for the default inversion alone.
      tables: complete tables or families of them; by default nas-bench-201, or digits where that is not downloaded.
      searchers: searchers with as many queries; all by default, "none" for none.
      codes: starts of an inversion.
      members: networks in a predictor.
      on_test: allow named tables of test values to be searched. Those that are taken by default may be: NAS-Bench-201
        has test values alone, and the records say so.
    """

    seeds: int = 50
    samples: int = 100
    queries: int = 20
    sizes: tuple[int, ...] = SIZES
    tables: tuple[str, ...] = ()
    searchers: tuple[str, ...] = ()
    codes: int = 1024
    members: int = 16
    on_test: bool = False


def run(config: Config) -> dict[str, Any]:
    """Runs every (table, number of labels, seed), writes records, figures and summary.json, returns the summary."""
    with compiled_fast(config.smoke):
        return _run(config)


def _run(config: Config) -> dict[str, Any]:
    from few_labels.figure import ablation_figure, labels_figure
    from few_labels.inversions import CONTINUOUS, VARIANTS
    from few_labels.ranking import Ranking
    from few_labels.summary import compare_searches, read_searches, summarise
    from few_labels.tables import complete_tables
    from harness.tables import or_digits

    from ncp_jax.records.journal import Records
    from ncp_jax.searchers import Candidates

    for name, count in (("samples", config.samples), *(("sizes", size) for size in config.sizes)):
        checks.integer(f"--{name}", count, least=4, remedy=f"try --{name} 100")
    checks.integer("--queries", config.queries, least=1, remedy="try --queries 20")
    checks.integer("--codes", config.codes, least=16, remedy="try --codes 1024")
    checks.integer("--members", config.members, least=2, remedy="try --members 16")
    if config.smoke:
        seeds = min(config.seeds, 2)
        config = dataclasses.replace(config, seeds=seeds, sizes=(), samples=20, queries=4, codes=64, members=3)
    variants = {name: VARIANTS[name] for name in (SMOKE if config.smoke else VARIANTS)}
    if not config.tables:
        config = dataclasses.replace(config, on_test=True)
    paid = max(config.samples, *config.sizes, 0) + config.queries
    found = complete_tables(
        config.tables or or_digits("nas-bench-201"), paid, on_test=config.on_test, smoke=config.smoke
    )
    # Data sets are called by their task alone, where that tells them apart.
    short = {name.partition("/")[2]: table for name, table in found.items()}
    tables = short if len(short) == len(found) else found
    counts = sorted({config.samples, *config.sizes})
    searchers = _searchers(config)
    settings = config.settings() | {"hashes": {table.name: table.content_hash() for table in tables.values()}}
    settings["variants"] = {n: v.config.to_json() | {"codes": v.codes} for n, v in variants.items()}
    selects = ("seeds", "samples", "sizes", "searchers")
    records = Records(config.out, settings, resume=config.resume, selects=selects)
    runs: dict[str, Any] = {}
    sizes: dict[str, dict[str, int]] = {}
    with ProgressBar("predictors") as bar:
        for place, (name, table) in enumerate(tables.items()):
            candidates = Candidates.of(table)
            ranking = Ranking.of(table, candidates)
            sizes[name], runs[name] = ranking.sizes(), {}
            for step, count in enumerate(counts):
                some = variants if count == config.samples else {CONTINUOUS: variants[CONTINUOUS]}
                runs[name][count] = _records(config, records, table, count, (candidates, ranking, some))
                bar(place * len(counts) + step + 1, len(tables) * len(counts))
    results = summarise(runs, config.samples) | {"sizes": sizes}
    if searchers:
        _search(config, tables, searchers)
        totals = [n + config.queries for n in counts if n <= config.samples]
        done = read_searches(config.out / "searchers", tables, totals)
        results["searchers"] = compare_searches(done, runs, config.queries)
    labels_figure(results["labels"], config.out / "labels.png")
    ablation_figure(results["ablation"], config.out / "ablation.png")
    print(_text(results, config))
    return write_summary(config.out, "ncp_nas_bench_201", results, settings)


def _searchers(config: Config) -> list[str]:
    from ncp_jax.searchers import SEARCHERS, CurveSearcher, SourceSearcher

    asked = config.searchers
    if asked == ("none",):
        return []
    every = [name for name, searcher in SEARCHERS.items() if not issubclass(searcher, SourceSearcher | CurveSearcher)]
    if config.smoke and not asked:
        return ["random"]
    return [checks.choose("searcher", name, every) for name in asked] or every


def _records(
    config: Config,
    records: Records,
    table: Table,
    count: int,
    inputs: tuple[Candidates, Ranking, Mapping[str, Variant]],
) -> list[Record]:
    """Returns the results of all seeds of one table and number of labels; computes what is not on record."""
    from few_labels.ensembles import EnsembleConfig
    from few_labels.ranking import run_seeds

    candidates, ranking, variants = inputs
    cells: list[Record] = [
        {"table": table.name, "labels": count, "seed": seed, "variants": list(variants)} for seed in range(config.seeds)
    ]
    # Whole blocks are computed, so that an interrupted run and an uninterrupted one have the same numbers.
    for first in range(0, len(cells), BLOCK):
        block = cells[first : first + BLOCK]
        if all(records.get(cell) is not None for cell in block):
            continue
        found = run_seeds(
            *(table, candidates, ranking, count, [cell["seed"] for cell in block]),
            ensemble=EnsembleConfig(members=config.members),
            codes=config.codes,
            queries=config.queries,
            variants=variants,
        )
        for cell, results in zip(block, found, strict=True):
            if records.get(cell) is None:
                records.add(cell, results)
    return [record["results"] for record in records.of(cells)]


def _search(config: Config, tables: dict[str, Table], searchers: list[str]) -> None:
    """Runs the searchers as a study in a folder of its own."""
    from ncp_jax.studies import Grid, RunnerOptions, run_study

    grid = Grid(
        searchers={name: [{}] for name in searchers},
        benchmarks=tuple(table.name for table in tables.values()),
        budget=config.samples + config.queries,
        seeds=config.seeds,
        on_test=config.on_test,
    )
    with ProgressBar("searches") as bar:
        run_study(grid, config.out / "searchers", RunnerOptions(resume=config.resume, progress=bar))


def _text(results: dict[str, Any], config: Config) -> str:
    """Returns the main figures as a table."""
    rows = [("data set", "method", "percentile", "regret", "scored", "p")]
    for name, shares in results["percentile"].items():
        exhaustive = results["exhaustive"][name]
        rows.append((name, "inversion", _share(shares), *_others(results["regret"][name], results["scored"][name]), ""))
        rows.append(
            (
                *(name, "every architecture scored", _share(exhaustive["percentile"])),
                *_others(exhaustive["regret"], exhaustive["scored"]),
                f"{exhaustive['test']['p']:.3f}",
            )
        )
        for variant, row in results["ablation"][name].items():
            scored = f"{row['scored']['mean']:.1%}"
            rows.append((name, variant, _share(row["percentile"]), "", scored, f"{row['test']['p_holm']:.3f}"))
        for method, row in (
            results.get("searchers", {}).get(name, {}).get(str(config.samples + config.queries), {}).items()
        ):
            p = f"{row['test']['p_holm']:.3f}" if "test" in row else ""
            rows.append((name, f"all queries: {method}", _share(row["percentile"]), "", "", p))
    return format_table(rows, "<<>>>>")


def _share(interval: dict[str, float]) -> str:
    return f"{interval['mean']:.3f} % [{interval['low']:.3f}, {interval['high']:.3f}]"


def _others(regret: dict[str, float], scored: dict[str, float]) -> tuple[str, str]:
    return f"{regret['mean']:.3g}", f"{scored['mean']:.1%}"


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
