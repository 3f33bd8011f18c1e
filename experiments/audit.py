"""Audits held-out rows and proposals: how often do intervals of 90 % contain the true metric?

    python experiments/audit.py --seeds 20 --out out/audit

Kinds of architectures that are audited as if they were proposals: rows held out at random; a region around one row; the
rows predicted best; the rows measured best; what inversion proposes on complete tables, where the truth is known. The
proposals of NAS-Bench-MR are audited too, without a truth. Needs the extra ``audit``.
"""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from harness.script import ExperimentConfig, compiled_fast, run_main, write_summary

from ncp_jax.console import ProgressBar

if TYPE_CHECKING:
    from audits.proposals import SearchSettings

    from ncp_jax import AuditConfig, Table

COMPLETE = ("micro", "macro", "digits")  # tables whose proposals can be looked up


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options; ``seeds`` is the number of random splits.

    Attributes:
      tasks: tasks of NAS-Bench-MR or of digits; by default all of NAS-Bench-MR, or of digits where that is not
        downloaded.
      kinds: random, region, predicted, measured, searched, proposals; all by default.
      complete: complete tables of kind searched: micro, macro (TransNAS-Bench-101), digits; by default the first two,
        or digits where they are not downloaded.
      repeats: number of repetitions of the kinds other than random and proposals.
      labels: rows that predictor and audit see in kind searched.
    """

    seeds: int = 20
    tasks: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    complete: tuple[str, ...] = ()
    repeats: int = 3
    labels: int = 500


def run(config: Config) -> dict[str, Any]:
    """Runs every audit, writes records, a figure and summary.json, returns the summary."""
    with compiled_fast(config.smoke):
        return _run(config)


def _run(config: Config) -> dict[str, Any]:
    from audits.proposals import PROPOSALS, SEARCHED
    from audits.splits import KINDS, RANDOM, chosen_tasks, counts_of
    from audits.summary import coverage_figure, coverage_json, coverage_lines, proposals_json
    from harness.tables import joint_table

    from ncp_jax import checks
    from ncp_jax.benchmarks.catalogue import DIGITS_TASKS
    from ncp_jax.records.journal import Records

    every = (*KINDS, SEARCHED, PROPOSALS)
    kinds = tuple(dict.fromkeys(checks.choose("kind", kind, every) for kind in config.kinds))
    kinds = kinds or ((RANDOM, SEARCHED, PROPOSALS) if config.smoke else every)
    checks.integer("--repeats", config.repeats, least=1, remedy="try 3")
    checks.integer("--labels", config.labels, least=40, remedy="try 500")
    complete = {name: _complete(name, config) for name in _complete_names(config)} if SEARCHED in kinds else {}
    tasks = config.tasks or (DIGITS_TASKS[:1] if config.smoke else ())
    table = chosen_tasks(joint_table(tasks), tasks)
    settings, search = _settings(config)
    if config.smoke:
        # Four fifths of 150 rows are as many as kind searched learns from: one program serves both.
        table = table.with_columns([table.main.name]).select(np.arange(150))
    described = config.settings() | {"table": table.content_hash(), "audit": settings.to_json()}
    described |= {"complete": {name: one.content_hash() for name, one in complete.items()}}
    records = Records(config.out, described, resume=config.resume, selects=("seeds", "repeats"))
    cells = _cells(config, kinds, tuple(complete))
    with ProgressBar("audits") as bar:
        for place, cell in enumerate(cells):
            if records.get(cell) is None:
                records.add(cell, _measure(cell, table, complete, settings, search, config))
            bar(place + 1, len(cells))

    covered: dict[str, dict[str, list[Any]]] = {}
    proposals: dict[str, Any] = {}
    for cell, record in zip(cells, records.of(cells), strict=True):
        if cell["kind"] == PROPOSALS:
            proposals = record["results"]["tasks"]
            continue
        name = f"{cell['kind']}, {cell['table']}" if "table" in cell else cell["kind"]
        for task, counts in counts_of(record["results"]).items():
            covered.setdefault(name, {}).setdefault(task, []).append(counts)
    results: dict[str, Any] = {"coverage": {kind: coverage_json(runs) for kind, runs in covered.items()}}
    for kind, tasks in results["coverage"].items():
        print("\n".join(coverage_lines(kind, tasks)))
    if results["coverage"]:
        coverage_figure(results["coverage"], config.out / "coverage.png")
    results["proposals"] = proposals_json(proposals)
    results["seconds"] = {kind: _mean_seconds(records.of(cells), kind) for kind in kinds}
    return write_summary(config.out, "audit", results, described)


def _settings(config: Config) -> tuple[AuditConfig, SearchSettings]:
    from audits.proposals import SearchSettings

    from ncp_jax import AuditConfig
    from ncp_jax.training import get_recipe

    recipe = get_recipe("ensemble")
    if not config.smoke:
        return AuditConfig(), SearchSettings(recipe)
    small = dataclasses.replace(recipe, widths=(8,), epochs=2, min_steps=0, decay_rows=0)
    return AuditConfig(folds=2, steps=2), SearchSettings(small, members=1, codes=16, steps=2)


def _complete_names(config: Config) -> tuple[str, ...]:
    from harness.tables import or_digits

    from ncp_jax import checks

    names = config.complete
    if not names:
        names = ("digits",) if config.smoke else or_digits("transnas-micro", "transnas-macro")
    given = [name.removeprefix("transnas-") for name in names]
    return tuple(dict.fromkeys(checks.choose("complete table", name, COMPLETE) for name in given))


def _complete(name: str, config: Config) -> Table:
    """Returns the quality columns of all tasks; UsageError where labels would leave too little to propose."""
    from audits.splits import chosen_tasks
    from harness.tables import all_tasks

    from ncp_jax import checks

    table = chosen_tasks(all_tasks(name), ())
    half = len(table) // 2
    checks.integer("--labels", config.labels, least=40, most=half, remedy=f"half of {name} is {half} architectures")
    return table.with_columns([table.main.name]) if config.smoke else table


def _cells(config: Config, kinds: tuple[str, ...], complete: tuple[str, ...]) -> list[dict[str, Any]]:
    from audits.proposals import PROPOSALS, SEARCHED
    from audits.splits import RANDOM

    repeats, seeds = (1, 1) if config.smoke else (config.repeats, config.seeds)
    cells: list[dict[str, Any]] = []
    # All kinds with one seed, then with the next: a run that is cut short has some of each.
    for seed in range(max(repeats, seeds)):
        for kind in kinds:
            if seed >= {RANDOM: seeds, PROPOSALS: 1}.get(kind, repeats):
                continue
            if kind == SEARCHED:
                cells += [{"kind": kind, "table": name, "seed": seed} for name in complete]
            else:
                cells.append({"kind": kind, "seed": seed})
    return cells


def _measure(
    cell: dict[str, Any],
    table: Table,
    complete: dict[str, Table],
    settings: AuditConfig,
    search: SearchSettings,
    config: Config,
) -> dict[str, Any]:
    from audits.proposals import PROPOSALS, SEARCHED, audit_proposals, searched
    from audits.splits import measure, to_record

    began, seed = time.perf_counter(), cell["seed"]
    if cell["kind"] == PROPOSALS:
        # As many rows as the other kinds learn from: one program serves all.
        rows = table.select(np.arange(120)) if config.smoke else table
        found = audit_proposals(rows, search=search, config=settings, seed=seed)
        return {"tasks": found, "seconds": time.perf_counter() - began}
    if cell["kind"] == SEARCHED:
        labels = 120 if config.smoke else config.labels
        counts = searched(complete[cell["table"]], labels=labels, search=search, config=settings, seed=seed)
    else:
        counts = measure(cell["kind"], table, config=settings, seed=seed)
    return to_record(counts, time.perf_counter() - began)


def _mean_seconds(records: list[dict[str, Any]], kind: str) -> float:
    times = [record["results"]["seconds"] for record in records if record["cell"]["kind"] == kind]
    return sum(times) / len(times)


if __name__ == "__main__":
    run_main(Config, run, __doc__ or "")
