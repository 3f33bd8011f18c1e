"""Changes the grid of a study's folder: what may change, which records stay, and where the others are kept.

A record belongs to a grid if everything that the run depends on is the same: its cell and, for a searcher on the host,
the seeds of its call, on which rounding may depend. Where the new grid does not ask for all records, the study as it
was is copied to a folder of its own, ``earlier-1``, ``earlier-2``, …, from which a later grid gets what it asks for.
Killed at any moment, this leaves a folder of the old or of the new grid, with all records.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ncp_jax import checks
from ncp_jax.files import atomic_write
from ncp_jax.records import journal
from ncp_jax.records.journal import MAKE_ROOM, OTHER_FOLDER, Line, Record
from ncp_jax.searchers import SEARCHERS, HostSearcher
from ncp_jax.studies.plan import Plan

MERGED, SESSIONS, STUDY = "records.jsonl", "sessions.jsonl", "study.json"
_REPORT = ("report.*", "summary.*", "*.csv", "*.png")  # what was made of the records
# What a grid may change in a folder: with more or fewer of these, the other runs are what they were.
_EXTENDED = ("searchers", "benchmarks", "tables", "seeds", "first_seed", "budget", "seconds")
_DERIVED = ("methods", "seeds", "budget", "seconds", "repeats", "cells")  # they follow from the grid


class Identity(NamedTuple):
    """What a run's results depend on, besides the versions of the software.

    Attributes:
      cell: hash of its settings.
      call: first seed, and end of the seeds, that a searcher on the host searches in one call; None for the others.
    """

    cell: str
    call: tuple[int, int] | None


def refuse_contradiction(folder: Path, old: Any, new: Record) -> None:
    """Refuses a grid that would change the meaning of what a folder's study is made of.

    Args:
      folder: folder of the study.
      old: content of its study.json.
      new: content of the study.json of the grid of now.

    Raises:
      UsageError: other data under the same name, other versions, another rule of the grid; other settings under a
        method's name; or nothing in common.
    """
    old, new = json.loads(json.dumps(old)), json.loads(json.dumps(new))
    parts = ("grid", "tables", "methods")
    if not isinstance(old, dict) or not all(isinstance(old.get(part), dict) for part in parts):
        journal.refuse_other(folder, old, new, what="study", got="another study")
    for name in {*old["tables"]} & {*new["tables"]}:
        if ("curves" in old["tables"][name]) != ("curves" in new["tables"][name]):
            # The hash of the learning curves is there if some method needs them.
            for study in (old, new):
                study["tables"][name].pop("curves", None)
    tables = [study["grid"].get("tables", {}) for study in (old, new)]
    fixed = [_fixed(study, {*old["tables"]} & {*new["tables"]}, tables[0].keys() & tables[1]) for study in (old, new)]
    journal.refuse_other(folder, *fixed, what="study", got="another study")
    for name, method in old["methods"].items():
        if name in new["methods"] and method not in new["methods"].values():
            journal.refuse_other(
                folder,
                method,
                new["methods"][name],
                what=f"method {name!r}",
                got="other settings",
                remedy=f"list both values in the grid, or {OTHER_FOLDER}",
            )
    for what, known, asked in (
        ("method", old["methods"].values(), new["methods"].values()),
        ("benchmark", old["tables"], new["tables"]),
    ):
        if not any(one in asked for one in known):
            raise checks.UsageError(
                expected=f"{folder} to hold a study that shares a {what} with this grid",
                got="another study",
                remedy=OTHER_FOLDER,
            )


def same_study(old: Any, new: Record) -> bool:
    """Returns whether two contents of study.json are of one grid, data and versions; paths do not matter."""
    return _without_paths(old) == _without_paths(new)


def _fixed(study: Record, benchmarks: set[str], own: set[str]) -> Record:
    """What must not change: all but what extends a grid, and only those tables that both grids have."""
    rest = {key: value for key, value in _without_paths(study).items() if key not in _DERIVED}
    grid = {key: value for key, value in rest["grid"].items() if key not in _EXTENDED}
    grid["tables"] = {name: table for name, table in rest["grid"].get("tables", {}).items() if name in own}
    return rest | {"grid": grid, "tables": {n: table for n, table in rest["tables"].items() if n in benchmarks}}


def _without_paths(study: Any) -> Any:
    """A copy without the paths of the user's own tables: what counts is their content, not where they lie."""
    study = json.loads(json.dumps(study))
    grid = study.get("grid") if isinstance(study, dict) else None
    tables = grid.get("tables") if isinstance(grid, dict) else None
    for table in tables.values() if isinstance(tables, dict) else ():
        table.pop("path", None)
    return study


def change_grid(folder: Path, files: Sequence[Path], plan: Plan, old: Record, new: Record) -> list[str]:
    """Makes a folder that of another grid; the caller knows that nobody else writes there.

    Args:
      folder: folder of the study.
      files: its record files.
      plan: all runs of the new grid.
      old: content of study.json.
      new: the content that it gets.

    Returns:
      Lines that tell the user what became of the records.

    Raises:
      OSError: the folder cannot be written; all records are still there.
    """
    labels = _wanted(plan)

    def stays(line: Line) -> bool:
        # A run that has another label now is written anew, from the earlier folder.
        identity = _identity(line.record, old)
        return identity in labels and labels[identity] == line.record.get("method")

    leaving = [_identity(line.record, old) for line in _lines(files) if not stays(line)]
    told: list[str] = []
    if leaving:
        kept = {identity: beside.name for beside, _, identity, _ in _earlier_runs(folder)}
        if any(identity is None or identity not in kept for identity in leaving):
            beside = _keep_beside(folder, files)
            kept |= dict.fromkeys(leaving, beside.name)
        told = _tell(folder, leaving, labels, kept)
        _keep_only(folder, files, stays)
    journal.write_json(folder / STUDY, new)
    return told


def take_back(folder: Path, plan: Plan, versions: Record) -> Iterator[Record]:
    """Yields the records in a folder's earlier folders that belong to a plan, each once, with their label of now."""
    labels = _wanted(plan)
    for _, study, identity, record in _earlier_runs(folder):
        if identity in labels and study.get("versions") == versions:
            yield record | {"method": labels.pop(identity)}


def _wanted(plan: Plan) -> dict[Identity | None, str]:
    """Identity of each run of a plan → label of its method."""
    seeds = plan.grid.first_seed, plan.grid.seeds
    return {
        Identity(plan.cell(benchmark, label, seed), _call(searcher.name, seeds, seed)): label
        for label, searcher in plan.methods.items()
        for benchmark in plan.tables
        for seed in range(seeds[0], sum(seeds))
    }


def _identity(record: Any, study: Record) -> Identity | None:
    """The identity of a recorded run; None for what is no record of a run."""
    try:
        return Identity(str(record["cell"]), _call(record["searcher"], study["seeds"], int(record["seed"])))
    except (KeyError, TypeError, ValueError):
        return None


def _call(searcher: str, seeds: Sequence[int], seed: int) -> tuple[int, int] | None:
    """The seeds that one call searches, see ``make_plan``; None for a searcher whose runs do not depend on it."""
    kind = SEARCHERS.get(searcher)
    if kind is None or not issubclass(kind, HostSearcher):
        return None
    first, count = seeds
    start = seed - (seed - first) % kind.runs_per_call
    return start, min(start + kind.runs_per_call, first + count)


def _lines(files: Iterable[Path]) -> Iterator[Line]:
    for path in files:
        yield from journal.read_records(path)


def _earlier_folders(folder: Path) -> Iterator[Path]:
    """The earlier folders, also the next one, which is not there yet or was not finished."""
    for number in itertools.count(1):
        beside = folder / f"earlier-{number}"
        yield beside
        if not (beside / STUDY).is_file():
            return


def has_earlier(folder: Path) -> bool:
    """Returns whether records of another grid are kept in a study's folder."""
    return (next(_earlier_folders(folder)) / STUDY).is_file()


def _earlier_runs(folder: Path) -> Iterator[tuple[Path, Record, Identity | None, Record]]:
    """Folder, study, identity and content of each record in the earlier folders, the latest folder first."""
    for beside in reversed([*_earlier_folders(folder)][:-1]):
        study = journal.read_json(beside / STUDY)
        for line in journal.read_records(beside / MERGED):
            yield beside, study, _identity(line.record, study), line.record


def _keep_beside(folder: Path, files: Sequence[Path]) -> Path:
    """Copies a study as it is to the next earlier folder, itself the folder of a study, and moves its report there."""
    *_, beside = _earlier_folders(folder)

    def write(out: Any) -> None:
        out.writelines(line.text for line in _lines(files))

    atomic_write(beside / MERGED, write, remedy=MAKE_ROOM)
    if (folder / SESSIONS).exists():
        atomic_write(beside / SESSIONS, (folder / SESSIONS).read_bytes(), remedy=MAKE_ROOM)
    atomic_write(beside / STUDY, (folder / STUDY).read_bytes(), remedy=MAKE_ROOM)  # the last: the copy is whole now
    for path in itertools.chain.from_iterable(map(folder.glob, _REPORT)):
        path.replace(beside / path.name)
    return beside


def _keep_only(folder: Path, files: Sequence[Path], stays: Callable[[Line], bool]) -> None:
    """Removes from a folder what does not stay; all of it is in an earlier folder."""
    some = any(stays(line) for line in _lines(files))

    def write(out: Any) -> None:
        seen: set[str] = set()  # a run may be in two files
        for line in _lines(files):
            if stays(line) and line.record["cell"] not in seen:
                seen.add(line.record["cell"])
                out.write(line.text)

    if some:
        atomic_write(folder / MERGED, write, remedy=MAKE_ROOM)
    else:
        (folder / SESSIONS).unlink(missing_ok=True)  # what these sessions did is all in the earlier folder
    for path in files:
        if not (some and path.name == MERGED):
            path.unlink()


def _tell(
    folder: Path,
    leaving: Sequence[Identity | None],
    labels: dict[Identity | None, str],
    kept: dict[Identity | None, str],
) -> list[str]:
    gone = [identity for identity in dict.fromkeys(leaving) if identity not in labels]
    if not gone:
        return []
    names = ", ".join(sorted({kept[identity] for identity in gone}))
    told = [f"the grid has changed: {len(gone)} runs that it does not ask for are kept in {folder} ({names})"]
    cells = {identity.cell for identity in labels if identity}
    again = sum(identity is not None and identity.cell in cells for identity in gone)
    if again:
        told.append(f"{again} of them are repeated, since their searchers run the seeds of a call together")
    return told
