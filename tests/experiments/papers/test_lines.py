"""Published figures beside records: every path leads somewhere, no other record is taken, nothing is made up."""

from __future__ import annotations

import itertools
import tomllib
from pathlib import Path

import pytest
from papers.lines import PUBLISHED, Record, all_blocks, find, lookup, matches
from papers.page import markdown, missing

with PUBLISHED.open("rb") as _file:
    DATA = tomllib.load(_file)
SEPARATOR = " > "
INTERVAL = {"mean": 0.5, "low": 0.4, "high": 0.7, "n": 3}


def put(content: dict, path: str, value: object) -> None:
    """Writes a value where a path leads; a list's entry and every key are made."""
    *parts, last = path.split(SEPARATOR)
    for part, following in itertools.pairwise([*parts, last]):
        name = "any" if part == "*" else part
        if "=" in part:
            key, _, wanted = part.partition("=")
            content.append({key: wanted})
            content = content[-1]
        else:
            content = content.setdefault(name, [] if "=" in following else {})
    content["any" if last == "*" else last] = value


def record_of(name: str) -> Record:
    """A summary with everything that the lines of a command ask for."""
    command = DATA["commands"][name]
    content: dict = {"schema": command["schema"]}
    for path, value in command.get("match", {}).items():
        put(content, path, {"*": 1, "null": None}.get(value, value) if isinstance(value, str) else value)
    for table in DATA["table"]:
        for line in table["line"]:
            if line["record"] == name:
                put(content, line["value"], dict(INTERVAL))
    return Record(Path(name), content)


@pytest.mark.parametrize("name", DATA["commands"])
def test_a_record_fills_its_lines_and_no_others(name: str) -> None:
    record = record_of(name)
    assert [key for key, command in DATA["commands"].items() if matches(record.content, command)] == [name]
    own = [line for table in DATA["table"] for line in table["line"] if line["record"] == name]
    assert own
    for line in own:
        found = lookup([record], DATA["commands"][name], line["value"])
        assert found is not None
        assert (found.mean, found.n) == (0.5, 3)


def test_other_settings_are_other_records() -> None:
    record = record_of("compare_micro")
    changed = Record(record.folder, {**record.content, "budget": 50})
    assert lookup([changed], DATA["commands"]["compare_micro"], "methods > random > final_rank") is None
    assert lookup([record], DATA["commands"]["compare_micro"], "methods > unknown > final_rank") is None


def test_the_record_with_the_most_runs_counts() -> None:
    few, many = record_of("train"), record_of("train")
    put(many.content, "tau_mean > ncp", {"mean": 0.9, "low": 0.8, "high": 1.0, "n": 30})  # type: ignore[arg-type]
    found = lookup([few, many, few], DATA["commands"]["train"], "tau_mean > ncp")
    assert found is not None
    assert found.mean == 0.9


def test_paths() -> None:
    content = {"a": {"x": {"mean": 1}, "y": {"mean": 2}}, "rows": [{"k": 1, "v": 5}, {"k": 2, "v": 6}]}
    assert find(content, "a > * > mean") == [1, 2]
    assert find(content, "rows > k=2 > v") == [6]
    assert find(content, "a > z > mean") == []


def test_without_records_every_line_names_its_command() -> None:
    blocks = all_blocks([])
    lines = [line for block in blocks for line in block.lines]
    assert all(line.ours is None and "not measured: `python experiments/" in line.cells()[3] for line in lines)
    assert sum(missing(blocks).values()) == len(lines)
    assert set(missing(blocks)) == {command["command"] for command in DATA["commands"].values()}
    scripts = {command.split()[1] for command in missing(blocks)}
    assert all((PUBLISHED.parents[2] / script).is_file() for script in scripts)
    assert markdown(blocks).count("\n| ") == len(lines) + 2 * len(blocks)


def test_gaps_are_in_percent_of_the_best() -> None:
    record = record_of("compare_micro")
    path = "benchmarks > transnas-micro/class_object > random"
    put(record.content, f"{path} > regret", {"mean": 1.0, "low": 0.5, "high": 2.0, "n": 4})  # type: ignore[arg-type]
    put(record.content, f"{path} > value", {"mean": 49.0, "low": 48.0, "high": 49.5, "n": 4})  # type: ignore[arg-type]
    lines = {line.quantity: line for block in all_blocks([record]) for line in block.lines}
    line = lines["micro, class_object, random"]
    assert line.published == "2.50 (45.16 of 46.32)"
    assert line.cells()[3] == "2.00 [1.00, 4.00], n = 4"
    assert lines["micro, class_scene, random"].ours is None
