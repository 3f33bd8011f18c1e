"""Plans a study: turns a grid into packs of runs.

The grid and the number of shares determine which share does a run, so shares fit together wherever they run. The
devices and the memory of a share only determine how its runs are split into compiled calls.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table, load_table
from ncp_jax.benchmarks.curves import curves_hash, curves_of, without_curves
from ncp_jax.benchmarks.imported import Curves
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.console import say
from ncp_jax.metrics import MetricSpec
from ncp_jax.records.journal import cell_hash
from ncp_jax.searchers import ArraySearcher, Candidates, CurveSearcher, HostSearcher, Searcher, make_searcher
from ncp_jax.searchers.arch_graph.sources import SourceTasks, source_values
from ncp_jax.spaces.codes import ISOMORPHISM
from ncp_jax.studies.grid import Grid

MOST_LANES = 1000  # runs in one call on CPU; more would not save a noticeable share of the time
MOST_LANES_ELSEWHERE = 65_536  # it takes more runs to fill an accelerator


@dataclasses.dataclass(frozen=True, eq=False)
class Pack:
    """Runs of one call: one benchmark, searchers that share a program.

    Attributes:
      benchmark: name of the table.
      methods: label of the method of each run.
      seeds: seed of each run.
      searchers: searcher of each run.
      lanes: number of runs of the compiled call; a shorter pack is filled up by repeating its last run.
    """

    benchmark: str
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    searchers: tuple[Searcher, ...]
    lanes: int


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """All runs of a grid, and the part of one share.

    Attributes:
      grid: the grid of the study.
      tables: benchmark → table.
      methods: label → searcher.
      packs: the runs of the share, each once, in the order in which they are done.
    """

    grid: Grid
    tables: dict[str, Table]
    methods: dict[str, Searcher]
    packs: tuple[Pack, ...]

    @property
    def size(self) -> int:
        """Number of runs of the study, those of other shares included."""
        return len(self.tables) * len(self.methods) * self.grid.seeds

    def view(self, benchmark: str) -> QueryView:
        """Returns the view that answers the queries on a benchmark; made once, on the device."""
        if benchmark not in self._views:
            grid = self.grid
            self._views[benchmark] = QueryView.of(
                self.tables[benchmark],
                grid.metric,
                budget=grid.budget,
                repeats=grid.repeats,
                same_network=grid.same_network,
                seconds=grid.seconds,
                seconds_column=grid.seconds_column,
                on_test=grid.on_test,
            )
        return self._views[benchmark]

    @functools.cached_property
    def _views(self) -> dict[str, QueryView]:
        return {}

    def candidates(self, benchmark: str) -> Candidates:
        """Returns the architectures of a benchmark that can be asked for."""
        return Candidates.of(self.tables[benchmark], self.grid.same_network)

    def searched(self, benchmark: str) -> MetricSpec:
        """Returns the column of a benchmark that queries read."""
        table = self.tables[benchmark]
        return table.metric(self.grid.metric) if self.grid.metric else table.main

    @property
    def on_curves(self) -> bool:
        """Whether some methods need learning curves."""
        return any(isinstance(searcher, CurveSearcher) for searcher in self.methods.values())

    def curves(self, benchmark: str) -> Curves:
        """Returns the learning curves of the column of a benchmark that is searched; read once.

        Raises:
          UsageError: the table or the column has none.
          DataError: some architectures of the table have none.
        """
        if benchmark not in self._curves:
            if benchmark in self.grid.tables:
                raise without_curves(benchmark)
            self._curves[benchmark] = curves_of(self.tables[benchmark], self.searched(benchmark).name)
        return self._curves[benchmark]

    @functools.cached_property
    def _curves(self) -> dict[str, Curves]:
        return {}

    def sources(self, benchmark: str) -> SourceTasks | None:
        """Returns what searches on a benchmark may know about other tasks; None in a study without source tasks."""
        if self.grid.sources is None:
            return None
        if benchmark not in self._sources:
            sources = list(self._source_tables(benchmark).values())
            values = source_values(self.tables[benchmark], sources, self.grid.metric, on_test=self.grid.on_test)
            number = list(self.tables).index(benchmark)
            self._sources[benchmark] = SourceTasks(values, self.grid.source_budget, number)
        return self._sources[benchmark]

    @functools.cached_property
    def _sources(self) -> dict[str, SourceTasks]:
        return {}

    def _source_tables(self, benchmark: str) -> dict[str, Table]:
        """Returns the source tasks of a benchmark: name → table."""
        chosen, names = self.grid.sources, list(self.tables)
        if chosen in ("one", "all") and len(names) < 2:
            raise checks.UsageError(
                expected="two tasks or more with sources", got=str(len(names)), remedy='choose sources "none"'
            )
        if chosen == "one":
            names = [names[(names.index(benchmark) + 1) % len(names)]]
        elif isinstance(chosen, tuple):
            names = list(chosen)
        elif chosen == "none":
            names = []
        return {n: self.tables[n] if n in self.tables else load_table(n) for n in names if n != benchmark}

    def cell(self, benchmark: str, method: str, seed: int) -> str:
        """Returns the hash of everything that a run's results depend on, except for the versions of the software."""
        return cell_hash(self._configs[benchmark, method] | {"seed": seed})

    @functools.cached_property
    def _configs(self) -> dict[tuple[str, str], dict[str, Any]]:
        grid = self.grid
        merged = {} if grid.same_network == ISOMORPHISM else {"same_network": grid.same_network}
        known: dict[str, dict[str, Any]] = {benchmark: dict(merged) for benchmark in self.tables}
        if grid.sources is not None:
            for number, benchmark in enumerate(self.tables):
                hashes = [table.content_hash() for table in self._source_tables(benchmark).values()]
                known[benchmark]["sources"] = [hashes, grid.source_budget, number]
        return {
            (benchmark, label): {
                "searcher": searcher.name,
                "settings": searcher.settings(),
                "benchmark": benchmark,
                "data": self.hashes[benchmark],
                "budget": [grid.budget, grid.seconds, grid.seconds_column, grid.repeats],
                "columns": [grid.metric, grid.judge],
                **known[benchmark],
                **({"curves": self.curve_hashes[benchmark]} if isinstance(searcher, CurveSearcher) else {}),
            }
            for benchmark in self.tables
            for label, searcher in self.methods.items()
        }

    @functools.cached_property
    def curve_hashes(self) -> dict[str, str]:
        """Benchmark → hash of the learning curves that are searched; empty if no method needs them."""
        return {name: curves_hash(self.curves(name)) for name in self.tables} if self.on_curves else {}

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """Benchmark → hash of its table's content."""
        return {name: table.content_hash() for name, table in self.tables.items()}


def make_plan(
    grid: Grid,
    *,
    shard: tuple[int, int] = (0, 1),
    devices: int = 1,
    memory_mb: float | None = None,
    notify: Callable[[str], None] = say,
) -> Plan:
    """Checks a grid against its tables and packs the runs of one share.

    Args:
      grid: the study.
      shard: (share, number of shares). Each run belongs to one of the N shares, and each share has about 1/N of every
        method's runs, whatever its devices and memory.
      devices: number of devices of the share. Packs are small enough that each device gets one, if there are enough
        runs.
      memory_mb: device memory that one call may use; if None, one GiB on CPU and half of the device's memory elsewhere.
      notify: receives one-line notices about the user's own files.

    Raises:
      UsageError: an unknown searcher, setting, benchmark or column; a budget beyond a table; a table without learning
        curves for a searcher that needs them.
      FileNotFoundError: a table that is not here.
    """
    tables = grid.load(notify)
    methods = {label: make_searcher(name, **settings) for label, (name, settings) in grid.methods().items()}
    plan = Plan(grid, tables, methods, ())
    packs: list[Pack] = []
    block = 0
    for benchmark, table in tables.items():
        if grid.judge:
            table.metric(grid.judge)
        plan.sources(benchmark)
        view, candidates = plan.view(benchmark), plan.candidates(benchmark)
        for searcher in methods.values():
            if isinstance(searcher, CurveSearcher):
                searcher.check(plan.curves(benchmark).values.shape[1])
        for labels, searchers in _groups(methods):
            runs = [(label, s, seed) for label, s in zip(labels, searchers, strict=True) for seed in _seeds(grid)]
            size = _block(searchers[0], len(runs), shard[1])
            lanes = _lanes(searchers[0], candidates, view, size, devices, memory_mb)
            for first in range(0, len(runs), size):
                if block % shard[1] == shard[0] % shard[1]:
                    packs += _packs(benchmark, runs[first : first + size], lanes)
                block += 1
    return dataclasses.replace(plan, packs=tuple(packs))


def _block(searcher: Searcher, runs: int, shares: int) -> int:
    """Number of consecutive runs of a group that go to one share."""
    if isinstance(searcher, HostSearcher):
        return min(searcher.runs_per_call, runs)  # the same runs in one call, whatever the number of shares
    return -(-runs // shares)


def _packs(benchmark: str, runs: list[tuple[str, Searcher, int]], lanes: int) -> list[Pack]:
    packs = []
    for first in range(0, len(runs), lanes):
        named, made, seeds = (tuple(column) for column in zip(*runs[first : first + lanes], strict=True))
        packs.append(Pack(benchmark, named, seeds, made, lanes))
    return packs


def _seeds(grid: Grid) -> range:
    return range(grid.first_seed, grid.first_seed + grid.seeds)


def _groups(methods: dict[str, Searcher]) -> list[tuple[list[str], list[Searcher]]]:
    """Labels and searchers of methods whose runs can share a call, in the grid's order."""
    groups: dict[Any, list[str]] = {}
    for label, searcher in methods.items():
        groups.setdefault(searcher.program(), []).append(label)
    searchers = [[methods[label] for label in labels] for labels in groups.values()]
    return [(labels, type(group[0]).together(group)) for labels, group in zip(groups.values(), searchers, strict=True)]


def _lanes(
    searcher: Searcher, candidates: Candidates, view: QueryView, runs: int, devices: int, memory_mb: float | None
) -> int:
    """Number of runs of a block that go into one call."""
    if not isinstance(searcher, ArraySearcher):
        return runs
    memory = _memory(memory_mb)
    each = run_bytes(searcher, candidates, view)
    if memory < each:
        raise checks.UsageError(
            expected=f"at least {each / 1e6:.3g} MB for one run of {searcher.name}",
            got=f"{memory / 1e6:.3g} MB",
            remedy="allow more memory or a smaller budget of queries",
        )
    most = MOST_LANES if jax.default_backend() == "cpu" else MOST_LANES_ELSEWHERE
    return int(min(memory // each, most, searcher.lanes(candidates, view.budget), -(-runs // devices)))


def run_bytes(searcher: ArraySearcher, candidates: Candidates, view: QueryView) -> int:
    """Bytes of one run: twice its account and state (a step reads one copy and writes the other), and its work."""
    leaves, structure = jax.tree.flatten((searcher, candidates, view))
    program = (structure, tuple((np.shape(leaf), jnp.result_type(leaf)) for leaf in leaves))
    if program not in _KEPT:
        key = jax.random.key(0)
        kept = jax.eval_shape(lambda: (searcher.start(candidates, view.budget, key), view.open()))
        _KEPT[program] = sum(int(np.prod(leaf.shape)) * leaf.dtype.itemsize for leaf in jax.tree.leaves(kept))
    return 2 * _KEPT[program] + searcher.memory(candidates, view.budget) + 64


_KEPT: dict[Any, int] = {}  # bytes of account and state by what a compiled program depends on: tracing takes long


def _memory(memory_mb: float | None) -> float:
    if memory_mb is not None:
        checks.positive("--memory-mb", memory_mb)
        return memory_mb * 1e6
    stats = None if jax.default_backend() == "cpu" else jax.local_devices()[0].memory_stats()
    return 2.0**30 if not stats else 0.5 * stats.get("bytes_limit", 2.0**34)
