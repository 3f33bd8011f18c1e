"""Grids as files that people bring: encodings, contents that are none, contents that ask for too much."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax.checks import DataError, UsageError
from ncp_jax.studies import Grid, read_grid

LEAST = 'benchmarks = ["transnas-macro/jigsaw"]\n[searchers.random]\n'


def test_files_that_are_no_grids(tmp_path: Path) -> None:
    path = tmp_path / "grid.toml"
    with pytest.raises(FileNotFoundError, match=r"expected a grid, got no file .*grid\.toml; write one"):
        read_grid(path)
    with pytest.raises(FileNotFoundError, match=r"expected a grid, got no file"):
        read_grid(tmp_path)
    for content in (b"budget = = 3", b"\xff\xfe", b"budget = 3\nbudget = 4"):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"expected TOML in .*grid\.toml, got something else \(.*mend it"):
            read_grid(path)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
def test_grids_of_any_encoding(tmp_path: Path, encoding: str, ends: str) -> None:
    path = tmp_path / "grid.toml"
    path.write_bytes(f"# \u00e9\n{LEAST}".replace("\n", ends).encode(encoding))
    assert read_grid(path) == Grid({"random": [{}]}, ("transnas-macro/jigsaw",))


def test_a_grid_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "grid.toml").write_bytes(b"PK\x03\x04")
    with pytest.raises(DataError, match="an Excel workbook or another zip archive"):
        read_grid(tmp_path / "grid.toml")


def test_own_tables_of_other_forms(tmp_path: Path) -> None:
    text = "x0;x1;x2;x3;x4;x5;seed;acc\n1;0;2;3;3;3;1;71,5\n1;0;2;3;3;3;2;71,9\n0;1;2;3;0;1;1;60\n"
    (tmp_path / "mine.csv").write_bytes(text.encode("utf-16"))
    given = {"path": str(tmp_path / "mine.csv"), "space": "transnas-micro", "maximize": ["acc"]}
    notes: list[str] = []
    for architecture in ({}, {"architecture": "x*"}, {"architecture": [f"x{i}" for i in range(6)]}):
        grid = Grid({"random": [{}]}, ("mine",), tables={"mine": {**given, "seeds": "mean", **architecture}})
        table = grid.load(notes.append)["mine"]
        np.testing.assert_array_equal(table.values[:, 0], np.array([71.7, 60], np.float32))
    assert len(notes) == 3
    assert "UTF-16, semicolon-separated, code in the columns x0 … x5, decimal commas" in notes[0]
    with pytest.raises(UsageError, match='seeds of table mine to be "refuse" or "mean"'):
        Grid({"random": [{}]}, ("mine",), tables={"mine": {**given, "seeds": "each"}}).load()


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("a = " + "[" * 50_000, DataError, "expected TOML"),
        (LEAST + "[tables.mine]\npath = '~nobody-at-all/x'\n", UsageError, "a home folder, got ~nobody-at-all/x"),
        ("a." * 50_000 + "b = 1", DataError, "keys of at most 100 parts"),
        ('"a b" . ' * 50_000 + "b = 1", DataError, "keys of at most 100 parts"),
        (LEAST + '[tables.mine]\npath = "a\\u0000b"\n', UsageError, "the path of a file or folder"),
    ],
)
def test_grids_that_once_ended_otherwise(read: Callable[[str], Grid], text: str, kind: type, words: str) -> None:
    with pytest.raises(kind, match=words):
        read(text)


def test_more_methods_than_memory_holds(read: Callable[[str], Grid]) -> None:
    values = list(range(1, 400))
    settings = "".join(f"{name} = {values}\n" for name in ("a", "b", "c", "d"))
    with pytest.raises(UsageError, match="at most 10000 combinations of settings, got 25344958401"):
        read(f"{LEAST}[searchers.evolution]\n{settings}").methods()
