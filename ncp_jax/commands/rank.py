"""What ``ncp-jax rank`` does: an Arch-Graph search of one table, with other tasks as sources."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.ranks import best_ranks, kendall_tau, percentiles, regret
from ncp_jax.benchmarks import QueryGuard, Table, list_tables, load_table
from ncp_jax.benchmarks.catalogue import choose_table
from ncp_jax.console import ProgressBar
from ncp_jax.files import atomic_write
from ncp_jax.metrics import MetricSpec
from ncp_jax.records.journal import write_json
from ncp_jax.records.run_card import run_card
from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, ArchGraphRuns, final_order, run_arch_graph
from ncp_jax.searchers.arch_graph.sources import full_sources, learn_sources, sampled_values, source_values
from ncp_jax.spaces import get_space
from ncp_jax.training.relations import RelationInputs

SHOWN = 10


@dataclasses.dataclass(frozen=True)
class RankConfig:
    """What to rank.

    Attributes:
      table: a benchmark's table, or a CSV file (then ``space`` and one of ``maximize`` and ``minimize`` are needed).
      sources: tables or CSV files of other tasks; "all" stands for the other tasks of the table's benchmark.
      source_budget: measurements that are used of each source; all without it.
      space: the space of CSV files.
      maximize: the metric of CSV files, higher better.
      minimize: the metric of CSV files, lower better.
      budget: queries of the target.
      seed: of the search.
      search: how to query and rank.
    """

    table: str
    sources: tuple[str, ...] = ()
    source_budget: int | None = None
    space: str | None = None
    maximize: str | None = None
    minimize: str | None = None
    budget: int = 50
    seed: int = 0
    search: ArchGraphConfig = dataclasses.field(default_factory=ArchGraphConfig)

    def __post_init__(self) -> None:
        if self.budget < 2:
            raise checks.UsageError(expected="--budget 2 or more", got=str(self.budget), remedy="relations need pairs")
        if not 0 <= self.seed < 2**32:
            raise checks.UsageError(expected="--seed from 0 to 2**32 - 1", got=str(self.seed), remedy="try --seed 0")
        if self.source_budget is not None and set(self.sources) <= {"none"}:
            raise checks.UsageError(expected="--sources with --source-budget", got="none", remedy="name some, or all")
        if self.maximize and self.minimize:
            raise checks.UsageError(
                expected="one of --maximize and --minimize", got="both", remedy="a ranking has one metric"
            )


@dataclasses.dataclass(frozen=True)
class RankResult:
    """What a search found.

    Attributes:
      table: the target.
      found: the search's run.
      summary: the JSON-ready result.
    """

    table: Table
    found: ArchGraphRuns
    summary: dict[str, Any]


def run_rank(config: RankConfig) -> RankResult:
    """Ranks a table's architectures with ``config.budget`` queries of its metric.

    Raises:
      UsageError: an unknown table or metric, a budget beyond the table, a source that is the target.
      DataError: a bad file, or a source that shares no architecture with the target.
      FileNotFoundError: a file or a table that is not here.
    """
    table = _load(config.table, config)
    names = _source_names(config, table)
    values = source_values(table, [_load(name, config) for name in names])
    guard = QueryGuard(table, table.main.name, budget=config.budget)
    inputs = RelationInputs.of(table.space, np.asarray(table.codes))
    sources = None
    if len(names) and config.source_budget is None:
        sources = full_sources(inputs, [values], seed=config.seed, recipe=config.search.recipe)
    elif len(names):
        rows, sampled = sampled_values(values, config.source_budget or 0, runs=1, seed=config.seed)
        sources = learn_sources(inputs, rows, sampled, seed=config.seed, recipe=config.search.recipe)
    with ProgressBar("ncp-jax: queries") as bar:
        (found,) = run_arch_graph(
            [guard], inputs, sources=sources, seed=config.seed, config=config.search, progress=bar
        )
    return RankResult(table, found, _summary(config, table, names, found))


def _load(name: str, config: RankConfig) -> Table:
    if not name.lower().endswith(".csv"):
        return load_table(name)
    if config.space is None or not (config.maximize or config.minimize):
        raise checks.UsageError(
            expected="--space and --maximize or --minimize with a CSV file",
            got="less",
            remedy="directions are never guessed",
        )
    up, down = (tuple(x for x in (m,) if x) for m in (config.maximize, config.minimize))
    return Table.from_csv(Path(name), space=config.space, maximize=up, minimize=down)


def _source_names(config: RankConfig, table: Table) -> list[str]:
    """The sources by name, "all" and "none" resolved, each once."""
    if "none" in config.sources and len(config.sources) > 1:
        raise checks.UsageError(expected="--sources none alone", got="more of them", remedy="drop none")
    names: list[str] = []
    for name in config.sources:
        if name == "none":
            continue
        if name.lower().endswith(".csv"):
            names.append(name)
        elif name == "all":
            family = table.name.partition("/")[0]
            names += [t for t in list_tables() if t.startswith(f"{family}/") and t != table.name]
        else:
            names.append(choose_table(name))
    if "all" in config.sources and not names:
        raise checks.UsageError(
            expected="--sources FILE.csv … with a CSV table", got="all", remedy="name the sources one by one"
        )
    return [n for n in dict.fromkeys(names) if not n.endswith("-ncp") or n in config.sources]


def _summary(config: RankConfig, table: Table, names: list[str], found: ArchGraphRuns) -> dict[str, Any]:
    values = np.asarray(table.oriented(table.main.name))
    space, metric = get_space(table.space), table.main
    ranking, answer = final_order(found, trust=config.search.trust)
    asked = found.trace.asked[0]
    best = asked[np.argmax(values[asked])]
    rank = int(best_ranks(found.trace.asked, values)[0, -1])
    codes, column = np.asarray(table.codes), np.asarray(table.column(metric.name))

    def row(i: int) -> dict[str, Any]:
        return {"architecture": space.to_string(codes[i]), "code": codes[i].tolist()}

    return {
        "table": table.name,
        "metric": _describe_metric(metric),
        "sources": names,
        "source_budget": config.source_budget,
        "budget": config.budget,
        "queries": len(asked),
        "seed": config.seed,
        "best": {**row(best), "value": float(column[best])},
        "rank": rank,
        "percentile": float(percentiles(np.array(rank), len(table))),
        "regret": float(regret(found.trace.asked, values)[0, -1]),
        "tau": _finite(kendall_tau(-np.argsort(ranking)[None].astype(np.float32), values)[0]),
        "asked": [{**row(i), "value": float(column[i])} for i in asked],
        "order": [row(i) for i in ranking[:1000]],
        "solver": {
            "weight": float(answer.weight),
            "upper_bound": float(answer.upper_bound),
            "gap": float(answer.gap),
            "status": answer.status,
        },
        "search": dataclasses.asdict(config.search),
        **run_card(),
        "hashes": dict(table.hashes),
    }


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _describe_metric(metric: MetricSpec) -> dict[str, str]:
    return {"name": metric.name, "direction": metric.direction, "unit": metric.unit}


def describe(result: RankResult) -> str:
    """The result as a person reads it."""
    summary = result.summary
    lines = [
        f"{summary['table']}, {summary['metric']['name']} ({summary['metric']['direction']}): "
        f"{summary['queries']} of {len(result.table)} architectures measured, "
        + (f"sources {', '.join(summary['sources'])}" if summary["sources"] else "no sources"),
        f"best measured: {summary['best']['architecture']}  {summary['best']['value']:.6g}  "
        f"(rank {summary['rank']} of {len(result.table)}, top {summary['percentile']:.3g} %)",
        ("" if summary["tau"] is None else f"Kendall tau of the final order {summary['tau']:.3f}; ")
        + f"acyclic subgraph within {summary['solver']['gap']:.2%} of its bound",
        "top of the final order:",
    ]
    lines += [f"  {i:2}  {item['architecture']}" for i, item in enumerate(summary["order"][:SHOWN], 1)]
    return "\n".join(lines)


def write_rank(result: RankResult, folder: Path) -> list[Path]:
    """Writes ``rank.json`` and ``queries.csv`` (each atomically) and returns their paths."""
    lines = ["query,architecture,value"]
    lines += [f'{i},"{q["architecture"]}",{q["value"]!r}' for i, q in enumerate(result.summary["asked"], 1)]
    return [
        atomic_write(folder / "queries.csv", ("\n".join(lines) + "\n").encode()),
        write_json(folder / "rank.json", result.summary),
    ]
