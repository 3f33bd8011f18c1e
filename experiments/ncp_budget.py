"""Searches for accuracy under hard limits on FLOPs, parameters and latency, and compares with the best within them.

    python experiments/ncp_budget.py --on-test --seeds 10 --out out/budget
    python experiments/ncp_budget.py --tables transnas-micro/jigsaw --limits "gflops<=0.05" "params_m<=0.2"

A predictor learns from labels within the limit and is inverted under it; another, which serves all limits, learns from
labels all over the table. Random search and evolution make as many queries within the limit. Costs are exact; the table
says which architecture within a limit is the best.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax import checks
from ncp_jax.console import ProgressBar, format_table

if TYPE_CHECKING:
    from few_labels.budgets import Budget, Limited

    from ncp_jax.benchmarks import Table
    from ncp_jax.records.journal import Record, Records

FAMILIES = ("nas-bench-201", "transnas-micro", "transnas-macro")


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      tables: complete tables or families of them; by default those of NAS-Bench-201 (with --on-test) and of
        TransNAS-Bench-101 that are downloaded, or digits.
      quantiles: limits, as quantiles of the costs of all architectures.
      limits: limits that hold together, in place of the quantiles: gflops, params_m (in millions), latency (ms).
      device: device of the latencies, on NAS-Bench-201; "none" for none.
      samples: labels that a predictor learns from.
      queries: proposals that are measured.
      codes: starts of an inversion.
      members: networks in a predictor.
      on_test: allow tables of test values (nas-bench-201) to be searched.
    """

    seeds: int = 10
    tables: tuple[str, ...] = ()
    quantiles: tuple[float, ...] = (0.1, 0.5)
    limits: tuple[str, ...] = ()
    device: str = "fpga"
    samples: int = 100
    queries: int = 20
    codes: int = 256
    members: int = 16
    on_test: bool = False


def run(config: Config) -> dict[str, Any]:
    """Searches every (table, budget, seed), writes records, a figure and summary.json, returns the summary."""
    with compiled_fast(config.smoke):
        return _run(config)


def _run(config: Config) -> dict[str, Any]:
    from few_labels.budget_summary import budget_figure, summarise
    from few_labels.tables import complete_tables
    from few_labels.within import METHODS
    from harness.tables import or_digits, searchable

    from ncp_jax.records.journal import Records

    _check(config)
    if config.smoke:
        seeds = min(config.seeds, 2)
        config = dataclasses.replace(config, seeds=seeds, quantiles=config.quantiles[-1:], codes=48, members=2)
        config = dataclasses.replace(config, samples=20, queries=4)
    published = or_digits(*searchable(FAMILIES, on_test=config.on_test)) if not config.tables else config.tables
    least = config.samples + config.queries
    tables = complete_tables(published, least, on_test=config.on_test, smoke=config.smoke)
    # All limits are looked at before the first search.
    limited = [_limited(config, table) for table in tables.values()]
    settings = config.settings()
    records = Records(config.out, settings, resume=config.resume, selects=("seeds", "tables"))
    cells: list[Record] = []
    wanted = [(one, budget) for one in limited for budget in one.budgets]
    with ProgressBar("searches") as bar:
        for place, (one, budget) in enumerate(wanted):
            where = {"table": one.table.name, "hash": one.table.content_hash(), "budget": budget.name}
            some = [where | {"seed": seed} for seed in range(config.seeds)]
            if any(records.get(cell) is None for cell in some):
                _search_budget(config, one, budget, records, some)
            cells += some
            bar(place + 1, len(wanted))
    results = summarise(records.of(cells))
    budget_figure(results["budgets"], config.out / "budget.png")
    rows = [("method", "percentile within the limit", "wins", "losses", "p")]
    for method in METHODS:
        row = results["methods"][method]
        interval, test = row["percentile"], row.get("test")
        counts = ("", "", "") if test is None else (str(test["wins"]), str(test["losses"]), f"{test['p_holm']:.3f}")
        rows.append((method, f"{interval['mean']:.2f} % [{interval['low']:.2f}, {interval['high']:.2f}]", *counts))
    print(format_table(rows, "<>>>>"))
    print(f"{results['over']} of {results['proposals']} proposals exceed their limit")
    return write_summary(config.out, "ncp_budget", results, settings)


def _check(config: Config) -> None:
    checks.integer("--samples", config.samples, least=4, remedy="try --samples 100")
    checks.integer("--queries", config.queries, least=1, remedy="try --queries 20")
    checks.integer("--codes", config.codes, least=16, remedy="try --codes 256")
    checks.integer("--members", config.members, least=2, remedy="try --members 16")
    for quantile in config.quantiles:
        if not 0 < quantile <= 1:
            raise checks.UsageError(expected="--quantiles in (0, 1]", got=repr(quantile), remedy="try 0.1 0.5")
    if not config.limits and not config.quantiles:
        raise checks.UsageError(expected="--quantiles or --limits", got="neither", remedy="try --quantiles 0.1 0.5")
    if config.device != "none":
        from ncp_jax.benchmarks.catalogue import DEVICES

        checks.choose("device", config.device, (*DEVICES["nas-bench-201-latency"], "none"))


def _limited(config: Config, table: Table) -> Limited:
    """Returns the costs and budgets of one table; UsageError where too few architectures are within them."""
    from few_labels.budgets import LATENCY, Limited, exact_costs, given_budget, quantile_budgets
    from harness.tables import is_here

    total = config.samples + config.queries
    has_latency = table.space == "nas-bench-201" and config.device != "none" and is_here(f"{LATENCY}/{config.device}")
    model, costs = exact_costs(table, config.device if has_latency else "")
    if config.limits:
        budgets = [given_budget(costs, config.limits, total)]
    else:
        budgets = [b for b in quantile_budgets(costs, config.quantiles) if b.within.sum() >= total]
        budgets = budgets[: 1 if config.smoke else None]  # each cost compiles a program
    if not budgets:
        raise checks.UsageError(
            expected=f"--quantiles with at least {total} of the {len(table)} architectures of {table.name} within one",
            got=" ".join(f"{quantile:g}" for quantile in config.quantiles),
            remedy="take larger ones, or fewer --samples and --queries",
        )
    return Limited(table, model, costs, budgets)


def _search_budget(config: Config, limited: Limited, budget: Budget, records: Records, cells: list[Record]) -> None:
    """Adds the missing records of one budget; what runs side by side is run for all seeds."""
    import numpy as np
    from few_labels.ensembles import EnsembleConfig, draw_labels, train_ensembles
    from few_labels.within import BASELINES, invert_within, judge, search_within

    table, costs, candidates = limited.table, limited.costs, limited.candidates
    values = table.main.sign * table.measured(table.main.name)
    seeds, inside = list(range(config.seeds)), np.flatnonzero(budget.within)
    own = inside[draw_labels(len(inside), config.samples, seeds)]
    everywhere = draw_labels(len(table), config.samples, seeds)
    trained = {
        name: train_ensembles(candidates, rows, values[rows], seeds, EnsembleConfig(members=config.members))
        for name, rows in (("inversion", own), ("shared-labels", everywhere))
    }
    total = config.samples + config.queries
    searched = {
        name: search_within(table, name, budget.within, seeds, total, on_test=config.on_test) for name in BASELINES
    }
    limits = [{"metric": x.metric, "relation": x.relation, "value": x.value} for x in budget.limits]
    for seed, cell in zip(seeds, cells, strict=True):
        if records.get(cell) is not None:
            continue
        found = {name: judge(values, costs, budget, searched[name][seed]) for name in BASELINES}
        for name, labelled in (("inversion", own[seed]), ("shared-labels", everywhere[seed])):
            inverted, scored = invert_within(
                *(table, candidates, trained[name], seed, budget, limited.model),
                known=labelled,
                seed=seed,
                codes=config.codes,
                queries=config.queries,
            )
            found[name] = judge(values, costs, budget, inverted, labelled)
            if name == "inversion":
                found["exhaustive"] = judge(values, costs, budget, scored, labelled)
        methods = {name: one.to_json() for name, one in found.items()}
        records.add(cell, {"limits": limits, "within": len(inside), "methods": methods})


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
