"""Defines what a report contains, as dataclasses that turn into report.json."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from ncp_jax.analysis.comparison import Comparison
from ncp_jax.analysis.intervals import Interval
from ncp_jax.analysis.survival import TimeToEvent
from ncp_jax.console import short_repr
from ncp_jax.reports.curves import Curve

SCHEMA = "report/1"


@dataclasses.dataclass(frozen=True)
class MethodSummary:
    """Results of one method on one benchmark.

    Attributes:
      measures: measure → mean with its interval: "final_rank", "percentile" (100 · rank / rows of the table), "regret"
        and "value" (in the metric's unit), "hypervolume" (share of the whole table's, where the records have it) and
        "queries_to_optimum", a ``TimeToEvent``.
      marks: measure → "best" (by the mean), "tied" (not significantly different from the best: Wilcoxon's signed ranks
        over paired seeds, Holm's correction, p >= 0.05), or "". "value" has no mark, since regret says the same.
    """

    measures: dict[str, Interval]
    marks: dict[str, str]

    @property
    def queries(self) -> TimeToEvent:
        """Queries to the optimum, with the number of runs that found it."""
        return cast("TimeToEvent", self.measures["queries_to_optimum"])

    def to_json(self) -> dict[str, Any]:
        """Returns the measures as a JSON-ready dictionary, each with its mark."""
        marks = {name: {"mark": mark} for name, mark in self.marks.items()}
        return {name: found.to_json() | marks.get(name, {}) for name, found in self.measures.items()}


@dataclasses.dataclass(frozen=True)
class OverallSummary(MethodSummary):
    """Results of one method over all benchmarks, each of the same weight.

    "regret" is among the measures only if all benchmarks share a unit.

    Attributes:
      searcher: name of the searcher.
      settings: settings of the searcher that differ from its defaults.
      runs: number of runs.
      benchmarks: number of benchmarks that the method has runs on.
      average_rank: mean rank over blocks of benchmark and seed, 1 is best; None if there is no comparison.
    """

    searcher: str
    settings: Mapping[str, Any]
    runs: int
    benchmarks: int
    average_rank: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary, the measures beside the others."""
        names = ("searcher", "settings", "runs", "benchmarks")
        return {n: getattr(self, n) for n in names} | super().to_json() | {"average_rank": self.average_rank}


@dataclasses.dataclass(frozen=True)
class StudyComparison:
    """Methods compared over blocks of benchmark and seed.

    Attributes:
      left_out: number of blocks that are left out because a method lacks them.
      by_percentile: comparison of the final percentiles.
      over_benchmarks: comparison of the mean percentiles, with one block per benchmark; None with one benchmark.
      by_benchmark: benchmark → comparison of the final percentiles on it.
      by_queries: comparison of the queries to the optimum, where runs that never found it come last; None if no run
        found it.
    """

    left_out: int
    by_percentile: Comparison
    over_benchmarks: Comparison | None
    by_benchmark: dict[str, Comparison]
    by_queries: Comparison | None

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison of the percentiles as a JSON-ready dictionary, with the others inside it."""
        over, queries = self.over_benchmarks, self.by_queries
        return (
            {"measure": "percentile", "left_out": self.left_out}
            | self.by_percentile.to_json()
            | {
                "over_benchmarks": over.to_json() if over else None,
                "by_benchmark": {name: found.to_json() for name, found in self.by_benchmark.items()},
                "queries_to_optimum": queries.to_json() if queries else None,
            }
        )


@dataclasses.dataclass(frozen=True)
class SettingValue:
    """Results of one value of a setting, over all methods that have it and all benchmarks.

    Attributes:
      value: the value as JSON; "default" for methods that do not set it.
      methods: number of methods that have it.
      runs: number of their runs.
      percentile: mean final percentile, lower is better.
      average_rank: mean of the methods' average ranks; None if they were not compared.
      rate: share of the runs that found the optimum.
      worse: difference of its percentile from the best value's, paired by seed; an interval above zero means that
        the best value is better. None for the best value itself.
    """

    value: str
    methods: int
    runs: int
    percentile: Interval
    average_rank: float | None
    rate: float
    worse: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary."""
        worse = self.worse.to_json() if self.worse else None
        return dataclasses.asdict(self) | {"percentile": self.percentile.to_json(), "worse": worse}


@dataclasses.dataclass(frozen=True)
class SettingEffect:
    """The effect of one setting of a searcher.

    Attributes:
      searcher: name of the searcher.
      setting: name of the setting.
      balanced: whether each value occurs equally often with the same other settings. If not, the effects of other
        settings are mixed in.
      values: results of its values, in the order of the study.
    """

    searcher: str
    setting: str
    balanced: bool
    values: tuple[SettingValue, ...]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary."""
        return dataclasses.asdict(self) | {"values": [value.to_json() for value in self.values]}


@dataclasses.dataclass(frozen=True)
class TableCard:
    """The table that a benchmark consists of.

    Attributes:
      hash: SHA-256 of the data; None if it was not recorded.
      rows: number of architectures.
      metric: name of the metric that results are measured by.
      unit: its unit.
      direction: "maximize" or "minimize".
      split: data split of the metric.
      epoch: training epoch of the metric.
      best: best value in the table; None if it was not recorded.
      searched_split: data split of the column that is searched; "" if it was not recorded.
    """

    hash: str | None
    rows: int
    metric: str
    unit: str
    direction: str
    split: str
    epoch: str
    best: float | None
    searched_split: str = ""


@dataclasses.dataclass(frozen=True)
class RunCard:
    """What the results of a study depend on: versions, devices, sessions, data, and how it was started.

    Attributes:
      versions: package → version, from study.json.
      other_versions: package → other versions that sessions used.
      devices: distinct devices, in the order of first use.
      sessions: number of sessions.
      shards: distinct shares of the work.
      first: date of the first session as recorded; None if there is none.
      last: date of the last session as recorded; None if there is none.
      wall_seconds: wall time of all sessions together; None if it was not recorded.
      first_seed: first seed.
      seed_count: number of seeds.
      budget: queries that a run may pay for.
      seconds: simulated training seconds that a run may spend; None without a limit.
      repeats: whether a repeated query costs budget; None if it was not recorded.
      same_network: rule by which two codes are the same network.
      tables: benchmark → its table.
      command: command that started the study; None if it was not recorded.
      grid: the grid of the study as JSON; None if it was not recorded.
    """

    versions: dict[str, str]
    other_versions: dict[str, list[str]]
    devices: list[str]
    sessions: int
    shards: list[str]
    first: str | None
    last: str | None
    wall_seconds: float | None
    first_seed: int
    seed_count: int
    budget: int
    seconds: float | None
    repeats: str | None
    same_network: str
    tables: dict[str, TableCard]
    command: str | None
    grid: Any

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary, with the two about seeds as "seeds"."""
        fields = dataclasses.asdict(self)
        return fields | {"seeds": {"first": fields.pop("first_seed"), "count": fields.pop("seed_count")}}


@dataclasses.dataclass(frozen=True)
class ChecklistItem:
    """One item of the best-practice checklist.

    Attributes:
      topic: "comparison", "setup", "evaluation", "code" or "reporting".
      item: the practice.
      answer: "yes", "no" or "for the author to state".
      evidence: what the records say about it.
    """

    topic: str
    item: str
    answer: str
    evidence: str


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """The report of a study.

    Intervals are 95 % intervals over seeds (Student's t, corrected for skewness, see ``analysis.intervals``). Over all
    benchmarks, each benchmark has the same weight, and the runs of one seed count as one observation.

    Attributes:
      runs: number of finished runs.
      cells: number of planned runs.
      budget: queries that a run may pay for.
      notes: what readers of the results should know: runs missing, lines dropped, ….
      methods: label → results over all benchmarks.
      benchmarks: benchmark → label → results on that benchmark.
      comparison: significance tests; None for one method, or if no block is common to all methods.
      settings: effects of the settings that differ between methods of one searcher.
      run_card: what the results depend on.
      checklist: best practices for research on architecture search, answered from the records.
      curves: anytime curves, as in the figures and curves.csv; not part of report.json.
      paths: files written, the page first; not part of report.json.
    """

    runs: int
    cells: int
    budget: int
    notes: Sequence[str]
    methods: Mapping[str, OverallSummary]
    benchmarks: Mapping[str, Mapping[str, MethodSummary]]
    comparison: StudyComparison | None
    settings: Sequence[SettingEffect]
    run_card: RunCard
    checklist: Sequence[ChecklistItem]
    curves: Sequence[Curve]
    paths: tuple[Path, ...] = ()

    __repr__ = short_repr

    def to_json(self) -> dict[str, Any]:
        """Returns the content of report.json, without NaN."""
        return {
            "schema": SCHEMA,
            "runs": self.runs,
            "cells": self.cells,
            "budget": self.budget,
            "notes": list(self.notes),
            "methods": {label: found.to_json() for label, found in self.methods.items()},
            "benchmarks": {
                name: {label: found.to_json() for label, found in methods.items()}
                for name, methods in self.benchmarks.items()
            },
            "comparison": self.comparison.to_json() if self.comparison else None,
            "settings": [effect.to_json() for effect in self.settings],
            "run_card": self.run_card.to_json(),
            "checklist": [dataclasses.asdict(item) for item in self.checklist],
        }
