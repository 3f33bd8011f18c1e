"""The page on files names every key of the JSON and every column of the CSV files that commands write."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import ncp_jax
from ncp_jax.reports import tables

from ..benchmarks.official_files import transnas
from ..benchmarks.torch_containers import archive

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "files.md").read_text(encoding="utf-8")
NAMED = set(re.findall(r"[A-Za-z0-9_]+", " ".join(re.findall(r"`([^`\n]+)`", PAGE))))
# Keys whose content is keyed by names of the user's world: metrics, packages, files, settings.
OPEN = {"held_out", "splits", "bounds", "maximize", "minimize", "hashes", "versions", "search", "measured", "predicted",
        "spread", "card", "reference", "metrics", "grid", "config", "device"}  # fmt: skip


def keys_of(content: Any) -> Iterator[str]:
    if isinstance(content, dict):
        for key, value in content.items():
            yield key
            if key not in OPEN:
                yield from keys_of(value)
    elif isinstance(content, list):
        for value in content:
            yield from keys_of(value)


@pytest.mark.usefixtures("spaces_stay", "empty_cache")
def test_every_key_that_a_command_writes_is_on_the_page(
    command: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "mine.csv").write_text("arch,acc\n64-41414-1_02_333,2\n64-41414-3_33_333,1\n64-41414-0_12_301,\n")
    (tmp_path / "file.pth").write_bytes(archive(transnas(micro=2, macro=0, epochs=2)))
    (tmp_path / "matrix.csv").write_text("0,3,1\n1,0,2\n2,1,0\n")
    (tmp_path / "space.toml").write_text('name = "keys"\n[[position]]\nname = "depth"\nvalues = [2, 3]\n')
    mine = ("--table", tmp_path / "mine.csv", "--space", "transnas-micro", "--maximize", "acc")
    calls: list[tuple[object, ...]] = [
        ("order", tmp_path / "matrix.csv"),
        ("cost", "1,1,1,1,1,1", "--space", "transnas-micro"),
        ("build", "1,1,1,1,1,1", "--space", "transnas-micro"),
        ("data", "list"),
        ("next", "--space", "transnas-macro", "--maximize", "acc", "--searcher", "random", "--count", 2),
        ("space", "check", tmp_path / "space.toml"),
        ("data", "import", "transnas", tmp_path / "file.pth", "--name", "keys"),
        ("rank", *mine, "--out", tmp_path),
        ("search", "--codes", 32, "--steps", 2, "--polish", 0, "--pareto", "--out", tmp_path),
    ]
    for call in calls:
        status, out, err = command(*call, "--json")
        assert status == 0, err
        unknown = {key for key in keys_of(json.loads(out)) if key not in NAMED}
        assert not unknown, f"{call[0]}: {sorted(unknown)}"
    for path in tmp_path.glob("*.csv"):
        with path.open(newline="") as file:
            header = next(csv.reader(file))
        if path.name not in ("mine.csv", "matrix.csv", "next.csv"):
            unknown = {name.removesuffix("_spread") for name in header} - NAMED - {"mIoU", "mAcc", "aAcc"}
            assert not unknown, f"{path.name}: {sorted(unknown)}"


@pytest.mark.usefixtures("empty_cache")
def test_every_key_of_a_study_and_its_report_is_on_the_page(
    command: Callable[..., tuple[int, str, str]], folder_of_tables: Path, tmp_path: Path
) -> None:
    (tmp_path / "grid.toml").write_text(
        'benchmarks = ["mine"]\nbudget = 5\nseeds = 3\n[searchers.random]\n[searchers.evolution]\npopulation = 3\n'
        f'[tables.mine]\npath = "{folder_of_tables}/mine.csv"\nspace = "transnas-micro"\nmaximize = ["acc"]\n'
    )
    for call in (("study", tmp_path / "grid.toml", "--out", tmp_path / "out"), ("report", tmp_path / "out")):
        status, _, err = command(*call)
        assert status == 0, err
    files = [path for ending in ("json", "jsonl") for path in (tmp_path / "out").rglob(f"*.{ending}")]
    assert {path.name for path in files} >= {"study.json", "report.json", "records.jsonl", "sessions.jsonl"}
    lines = [line for path in files if path.suffix == ".jsonl" for line in path.read_text().splitlines()]
    whole = [path.read_text() for path in files if path.suffix == ".json"]
    unknown = {key for text in (*lines, *whole) for key in keys_of(json.loads(text))} - NAMED
    assert unknown == {"mine", "random", "evolution", "population", "tournament"}, "these are the user's names"


@pytest.mark.parametrize("name", ["RUNS_HEADER", "CURVES_HEADER", "SUMMARY_HEADER", "PAIRS_HEADER"])
def test_every_column_of_a_report_is_on_the_page(name: str) -> None:
    columns = {re.sub(r"_(low|high)$", "", column) for column in getattr(tables, name)}
    assert columns - NAMED == set()


def test_the_page_on_spaces_has_every_space_position_and_alias() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "spaces.md").read_text(encoding="utf-8")
    for name in ("nas-bench-mr", "nas-bench-201", "transnas-micro", "transnas-macro"):
        space = ncp_jax.get_space(name)
        row = next(line for line in text.splitlines() if line.startswith(f"| `{name}` |"))
        assert all(f"`{alias}`" in row for alias in space.aliases)
        assert f"| {space.length} | {space.features} |" in row
        assert f"{space.size:,}" in row or name == "nas-bench-mr"
        words = {re.sub(r"\[\d\]|\d", "", position) for position in space.position_names}
        assert all(word.split(".")[-1].split(" ")[0] in text for word in words)
