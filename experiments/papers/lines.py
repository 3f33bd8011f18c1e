"""Sets published figures beside this project's records: reads both, finds the figure of each line."""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.console import say
from ncp_jax.records.journal import read_json

PUBLISHED = Path(__file__).with_name("published.toml")
SEPARATOR = " > "


@dataclasses.dataclass(frozen=True)
class Ours:
    """A figure from a record.

    Attributes:
      mean: the figure.
      low: lower end of its interval; None where the record has none.
      high: upper end.
      n: number of observations; None where the record does not say.
      folder: folder of the record.
    """

    mean: float
    low: float | None
    high: float | None
    n: int | None
    folder: str


@dataclasses.dataclass(frozen=True)
class Line:
    """A published figure beside ours.

    Attributes:
      quantity: what is compared.
      published: the published figure, as text.
      source: where it stands.
      ours: this project's figure; None where no record has it.
      command: command that makes the record.
      digits: decimals of ours.
      differs: what differs between the two protocols.
    """

    quantity: str
    published: str
    source: str
    ours: Ours | None
    command: str
    digits: int
    differs: str

    def cells(self) -> tuple[str, ...]:
        """Returns the cells of a table: quantity, published, source, ours and what differs."""
        return self.quantity, self.published, self.source, self._ours(), self.differs

    def _ours(self) -> str:
        if self.ours is None:
            return f"not measured: `{self.command}`"
        shown = f"{self.ours.mean:.{self.digits}f}"
        if self.ours.low is not None and self.ours.high is not None and self.ours.low < self.ours.high:
            shown += f" [{self.ours.low:.{self.digits}f}, {self.ours.high:.{self.digits}f}]"
        return shown if self.ours.n is None else f"{shown}, n = {self.ours.n}"


@dataclasses.dataclass(frozen=True)
class Block:
    """Lines under one title.

    Attributes:
      title: the title.
      text: what differs in all lines.
      lines: the lines.
    """

    title: str
    text: str
    lines: tuple[Line, ...]


@dataclasses.dataclass(frozen=True)
class Record:
    """A summary.json.

    Attributes:
      folder: its folder.
      content: its content.
    """

    folder: Path
    content: Mapping[str, Any]


def read_folders(folders: Sequence[Path]) -> list[Record]:
    """Reads summary.json of finished experiments; leaves smoke runs out and says so.

    Raises:
      UsageError: a folder without summary.json.
      DataError: a damaged one.
    """
    found = []
    for folder in folders:
        path = folder / "summary.json"
        if not path.is_file():
            raise checks.UsageError(
                expected=f"summary.json of a finished experiment in {folder}",
                got="none",
                remedy="finish the experiment with --resume, or leave the folder out",
            )
        content = read_json(path)
        if not isinstance(content, dict) or "schema" not in content:
            raise checks.DataError(
                expected=f'a summary with "schema" in {path}', got="something else", remedy="leave the folder out"
            )
        if (content.get("config") or {}).get("smoke"):
            say(f"{folder} is left out: a smoke run, whose figures mean nothing")
        else:
            found.append(Record(folder, content))
    return found


def find(content: Any, path: str) -> list[Any]:
    """Returns all that a path leads to; empty if nowhere. Parts are keys, ``*`` for all, ``KEY=VALUE`` in a list."""
    found = [content]
    for part in path.split(SEPARATOR):
        following: list[Any] = []
        for one in found:
            if isinstance(one, Mapping):
                following += list(one.values()) if part == "*" else [one[part]] if part in one else []
            elif isinstance(one, list) and "=" in part:
                key, _, value = part.partition("=")
                following += [entry for entry in one if isinstance(entry, Mapping) and str(entry.get(key)) == value]
        found = following
    return found


def matches(content: Mapping[str, Any], command: Mapping[str, Any]) -> bool:
    """Returns whether a summary is of the schema and settings that a command's record has."""
    if content["schema"] != command["schema"]:
        return False
    for path, wanted in command.get("match", {}).items():
        seen = find(content, path)
        if not seen or (wanted != "*" and seen[0] != (None if wanted == "null" else wanted)):
            return False
    return True


def lookup(records: Iterable[Record], command: Mapping[str, Any], path: str) -> Ours | None:
    """Returns the figure at a path, of the matching record with the most observations; None without one."""
    figures = []
    for record in records:
        if matches(record.content, command):
            values = [value for value in find(record.content, path) if value is not None]
            if values:
                figures.append(_figure(values, str(record.folder)))
    return max(figures, key=lambda one: one.n or 0) if figures else None


def _figure(values: Sequence[Any], folder: str) -> Ours:
    means = [float(value["mean"] if isinstance(value, Mapping) else value) for value in values]
    counts = [value["n"] for value in values if isinstance(value, Mapping) and "n" in value]
    n = min(counts) if counts else None
    if len(values) == 1 and isinstance(values[0], Mapping):
        return Ours(means[0], values[0].get("low"), values[0].get("high"), n or values[0].get("runs"), folder)
    return Ours(float(np.mean(means)), None, None, n, folder)


def all_blocks(records: Sequence[Record]) -> list[Block]:
    """Returns every published table with what the records hold beside it."""
    with PUBLISHED.open("rb") as file:
        published = tomllib.load(file)
    commands = published["commands"]
    blocks = []
    for table in published["table"]:
        lines = []
        for line in table["line"]:
            command = commands[line["record"]]
            kept = {key: line[key] for key in ("quantity", "published", "source", "digits", "differs")}
            lines.append(Line(**kept, ours=lookup(records, command, line["value"]), command=command["command"]))
        blocks.append(Block(table["title"], table["text"].strip(), tuple(lines)))
    blocks.insert(3, _gaps(published["gaps"], commands, records))
    return blocks


def _gaps(gaps: Mapping[str, Any], commands: Mapping[str, Any], records: Sequence[Record]) -> Block:
    """Returns gaps to the best of the published table beside regrets on ours, both in percent of the best."""
    lines = []
    for space, by_method in gaps["found"].items():
        for method, found in by_method.items():
            command = commands[f"{'arch' if method == 'arch_graph' else 'compare'}_{space}"]
            for task, value in found.items():
                best = gaps["best"][space][task]
                path = SEPARATOR.join(("benchmarks", f"transnas-{space}/{task}", method.replace("_", "-")))
                regret, reached = (lookup(records, command, f"{path} > {name}") for name in ("regret", "value"))
                lines.append(
                    Line(
                        quantity=f"{space}, {task}, {method.replace('_', '-')}",
                        published=f"{100 * (best - value) / best:.2f} ({value:g} of {best:g})",
                        source="Arch-Graph's paper" if method == "arch_graph" else "EDNAG's reprint",
                        ours=_relative(regret, reached),
                        command=command["command"],
                        digits=2,
                        differs="split, epoch" + (", metric" if task == "segmentsemantic" else ""),
                    )
                )
    return Block(gaps["title"], gaps["text"].strip(), tuple(lines))


def _relative(regret: Ours | None, value: Ours | None) -> Ours | None:
    """Returns a regret in percent of the best value."""
    if regret is None or value is None:
        return None
    unit = 100 / (value.mean + regret.mean)
    low, high = (None if end is None else end * unit for end in (regret.low, regret.high))
    return dataclasses.replace(regret, mean=regret.mean * unit, low=low, high=high)
