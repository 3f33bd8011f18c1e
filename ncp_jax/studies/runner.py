"""Runs a study: each pack of runs in one compiled call, over local devices, with records as they finish."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ncp_jax import checks
from ncp_jax.benchmarks.view import QueryView, check_rows
from ncp_jax.console import say
from ncp_jax.jax_settings import package_settings
from ncp_jax.records.journal import describe_dropped
from ncp_jax.records.run_card import run_card
from ncp_jax.records.shards import read_shard
from ncp_jax.searchers import (
    ArraySearcher,
    Candidates,
    CurveSearcher,
    HostSearcher,
    Runs,
    search,
    search_on_curves,
    search_on_host,
)
from ncp_jax.searchers.run import search_compiled
from ncp_jax.studies.folder import StudyFolder
from ncp_jax.studies.grid import Grid
from ncp_jax.studies.outcomes import Evaluator
from ncp_jax.studies.plan import Pack, Plan, make_plan

Progress = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """Settings of the runner. None of them changes a result.

    Attributes:
      shard: "i/N" to run only the i-th of N shares. Shares count from 0 or from 1: i and i + N are the same share. If
        empty, each process under ``jax.distributed`` takes one share.
      devices: number of local devices that share the work; all of them if None.
      memory_mb: device memory that one call may use, see ``make_plan``.
      resume: whether to continue in a folder that has records, or to change its grid: with more seeds, methods or
        benchmarks, or another budget, the records that the grid asks for are kept.
      progress: called with (runs done, runs of this share).
      say: called with a line of text for the user.
    """

    shard: str = ""
    devices: int | None = None
    memory_mb: float | None = None
    resume: bool = False
    progress: Progress | None = None
    say: Callable[[str], None] = say


@dataclasses.dataclass(frozen=True)
class StudyResult:
    """State of a study after a call of ``run_study``.

    Attributes:
      folder: folder of the study; see ``StudyFolder`` for its files.
      finished: whether every run of the study is recorded, those of other shares included.
      runs: number of runs in the study.
      done: number of runs that are recorded.
    """

    folder: Path
    finished: bool
    runs: int
    done: int

    def to_json(self) -> dict[str, Any]:
        """The fields, JSON-ready."""
        return {"schema": "study/1", **dataclasses.asdict(self), "folder": str(self.folder)}


@package_settings
def run_study(grid: Grid, folder: str | Path, options: RunnerOptions | None = None) -> StudyResult:
    """Runs the missing runs of a study (host loop around compiled calls).

    Examples:
      >>> import tempfile, ncp_jax as ncp
      >>> grid = ncp.Grid({"random": [{}]}, benchmarks=("digits/class",), budget=10, seeds=2)
      >>> folder = tempfile.mkdtemp()
      >>> result = ncp.run_study(grid, folder)
      >>> report = ncp.write_report(folder)

    Args:
      grid: the study.
      folder: folder of the records, see ``StudyFolder``.
      options: settings of the runner.

    Returns:
      What the folder holds now.

    Raises:
      UsageError: a bad grid, shard or number of devices; a folder of another study, or of one that this grid
        contradicts.
      DataError: a record that is not of this study.
      OSError: the disk is full; what is finished stays whole.
    """
    options = options or RunnerOptions()
    shard = read_shard(options.shard)
    devices = _find_devices(options.devices)
    plan = make_plan(grid, shard=shard, devices=len(devices), memory_mb=options.memory_mb, notify=options.say)
    card = run_card()
    with StudyFolder(folder, plan, card["versions"], shard=shard, resume=options.resume) as store:
        if store.dropped:
            options.say(describe_dropped(store.dropped))
        for line in store.told:
            options.say(line)
        began, before, clock = time.perf_counter(), store.done, dict[str, float]()

        def close_session() -> None:
            if store.done > before:
                session = {**card, "shard": f"{shard[0]}/{shard[1]}", "devices": len(devices), "command": _command()}
                session |= {"runs": store.done - before, "seconds": round(time.perf_counter() - began, 2)}
                session |= {"method_seconds": {label: round(spent, 2) for label, spent in clock.items()}}
                store.add_session(session)

        try:
            _run_missing(plan, store, devices, options, clock)
        except BaseException:
            with contextlib.suppress(OSError):  # on a full disk this fails too
                close_session()
            raise
        close_session()
        finished = store.finish()
        return StudyResult(folder=Path(folder), finished=finished, runs=plan.size, done=store.done)


def _run_missing(
    plan: Plan, store: StudyFolder, devices: list[jax.Device], options: RunnerOptions, clock: dict[str, float]
) -> None:
    """Runs the share's packs, except for runs that some file has a record of; adds up the seconds of each method."""
    todo = _todo(plan, store, len(devices))
    total = sum(len(pack.seeds) for pack in plan.packs)
    done = total - sum(len(missing) for _, missing in todo)
    if done:
        options.say(f"{done} of {total} runs are finished already")
    evaluators = dict[str, Evaluator]()
    for batch in _batches(todo, len(devices)):
        began = time.perf_counter()
        for (pack, missing), runs in zip(batch, run_packs(plan, [pack for pack, _ in batch], devices), strict=True):
            if pack.benchmark not in evaluators:  # only the latest is kept: an evaluator holds the whole table
                evaluators = {pack.benchmark: _evaluator(plan, pack.benchmark)}
            chosen = jax.tree.map(lambda array: np.asarray(array)[np.array(missing)], runs)  # noqa: B023
            store.add(pack, missing, [outcome.to_json() for outcome in evaluators[pack.benchmark].score(chosen)])
            done += len(missing)
            if options.progress:
                options.progress(done, total)
        # Runs that share a call have equal parts of its time.
        labels = [label for pack, _ in batch for label in pack.methods]
        for label in labels:
            clock[label] = clock.get(label, 0.0) + (time.perf_counter() - began) / len(labels)


def _todo(plan: Plan, store: StudyFolder, devices: int) -> list[tuple[Pack, list[int]]]:
    """The packs that have runs without a record, and which these are.

    Where packs of an array program lack only some of their runs, as in a study with more seeds than before, these runs
    make new packs. A searcher on the host always has the same runs in one call.
    """
    todo: list[tuple[Pack, list[int]]] = []
    for _, group in itertools.groupby(plan.packs, _shape):
        found = [(pack, missing) for pack in group if (missing := store.missing(pack))]
        if all(len(missing) == len(pack.seeds) for pack, missing in found) or _is_on_host(found[0][0]):
            todo += found
        else:
            todo += _repack(found, devices)
    return todo


def _repack(found: list[tuple[Pack, list[int]]], devices: int) -> list[tuple[Pack, list[int]]]:
    """Packs of the missing runs alone, with as many in a call as there were, or fewer."""
    runs = [(pack.methods[i], pack.seeds[i], pack.searchers[i]) for pack, missing in found for i in missing]
    benchmark, lanes = found[0][0].benchmark, min(found[0][0].lanes, -(-len(runs) // devices))
    packs = []
    for first in range(0, len(runs), lanes):
        methods, seeds, searchers = zip(*runs[first : first + lanes], strict=True)
        packs.append((Pack(benchmark, methods, seeds, searchers, lanes), list(range(len(seeds)))))
    return packs


def _is_on_host(pack: Pack) -> bool:
    return isinstance(pack.searchers[0], HostSearcher)


def _command() -> str:
    """The command line, the program without its folder."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def _evaluator(plan: Plan, benchmark: str) -> Evaluator:
    table, grid = plan.tables[benchmark], plan.grid
    scored = grid.sources is not None
    return Evaluator(table, grid.metric or table.main.name, grid.judge, np.asarray(plan.view(benchmark).costs), scored)


def _find_devices(count: int | None) -> list[jax.Device]:
    devices = jax.local_devices()
    if count is None:
        return devices
    if not 1 <= count <= len(devices):
        raise checks.UsageError(
            expected=f"1..{len(devices)} devices", got=f"{count}", remedy="this process has no more"
        )
    return devices[:count]


def _batches(todo: list[tuple[Pack, list[int]]], devices: int) -> list[list[tuple[Pack, list[int]]]]:
    """Groups consecutive packs that one program runs; the packs of a group run at the same time, one per device."""
    batches: list[list[tuple[Pack, list[int]]]] = []
    for item in todo:
        last = batches[-1] if batches else []
        if last and len(last) < devices and _shape(last[0][0]) == _shape(item[0]):
            last.append(item)
        else:
            batches.append([item])
    return batches


def _shape(pack: Pack) -> Any:
    return pack.benchmark, pack.searchers[0].program(), pack.lanes


def run_packs(plan: Plan, packs: list[Pack], devices: list[jax.Device]) -> list[Runs]:
    """Runs packs of one shape at the same time, one per device.

    Args:
      plan: the plan of the packs.
      packs: at most one per device, all of one benchmark and of searchers that one program runs.
      devices: devices that share the packs.

    Returns:
      The runs of each pack, on the host, without those that fill up a pack.
    """
    table, view = plan.tables[packs[0].benchmark], plan.view(packs[0].benchmark)
    searcher = packs[0].searchers[0]
    if isinstance(searcher, CurveSearcher):
        curves, predict = plan.curves(packs[0].benchmark), plan.grid.sources is not None
        return [search_on_curves(searcher, pack.seeds, table, view, curves, predict=predict) for pack in packs]
    if isinstance(searcher, HostSearcher):
        metric = plan.grid.metric or table.main.name
        sources = plan.sources(packs[0].benchmark)
        return [search_on_host(searcher, pack.seeds, table, metric, view, sources) for pack in packs]
    # A device without a pack repeats the last one: the program is the same for any number of packs.
    filled, lanes = packs + [packs[-1]] * (len(devices) - len(packs)), packs[0].lanes
    seeds = np.array([seed for pack in filled for seed in _filled(pack.seeds, lanes)], np.int32)
    searchers = stack([searcher for pack in filled for searcher in _filled(pack.searchers, lanes)])
    runs = search_on(devices, searchers, seeds, plan.candidates(packs[0].benchmark), view)
    parts = [slice(i * lanes, i * lanes + len(pack.seeds)) for i, pack in enumerate(packs)]
    return [jax.tree.map(lambda array: array[part], runs) for part in parts]  # noqa: B023


def stack(searchers: list[Any]) -> ArraySearcher:
    """Returns one searcher whose numeric settings have a leading axis."""
    return jax.tree.map(lambda *leaves: np.asarray(leaves), *searchers)


def search_on(
    devices: list[jax.Device], searchers: ArraySearcher, seeds: np.ndarray, candidates: Candidates, view: QueryView
) -> Runs:
    """Runs ``search`` with the runs split evenly over devices; returns the results on the host."""
    if len(devices) == 1:
        with jax.default_device(devices[0]):
            return jax.device_get(search(searchers, jnp.asarray(seeds), candidates, view))
    found = jax.device_get(_sharded(tuple(devices))(searchers, seeds, candidates, view))
    check_rows(found.wrong, len(view.values))
    return found


@functools.cache
def _sharded(devices: tuple[jax.Device, ...]) -> Callable[..., Runs]:
    mesh = Mesh(np.array(devices), ("runs",))
    runs, everywhere = PartitionSpec("runs"), PartitionSpec()
    specs = (runs, runs, everywhere, everywhere)
    # Every device has its own loop, which ends with its own last run. Devices exchange nothing.
    return jax.jit(jax.shard_map(search_compiled, mesh=mesh, in_specs=specs, out_specs=runs, check_vma=False))


def _filled(values: tuple[Any, ...], lanes: int) -> list[Any]:
    """Fills up to the call's number of lanes by repeating the last value."""
    return [*values, *[values[-1]] * (lanes - len(values))]
