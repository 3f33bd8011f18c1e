"""All readers of files and strings that users give: examples of what each reads, and how to call it with any bytes.

The hypothesis tests beside this file and the atheris harness share this list.
"""

from __future__ import annotations

import dataclasses
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import Table, checks, get_space, load_space
from ncp_jax.array_files import read_npy, read_npz
from ncp_jax.benchmarks.catalogue import RECIPES
from ncp_jax.benchmarks.convert import convert
from ncp_jax.benchmarks.digits import DIGITS_TASKS, Digits, read_digits, write_digits
from ncp_jax.benchmarks.pickles import load_pickle
from ncp_jax.ordering.matrix_files import read_weights
from ncp_jax.predictors import load_predictor
from ncp_jax.records.journal import Records, read_json, read_records
from ncp_jax.reports.data import load_study
from ncp_jax.spaces.registry import SPACES, find_code
from ncp_jax.studies.grid import grid_of, read_grid
from ncp_jax.training.checkpoint import Checkpoints

ALLOWED = (checks.UsageError, checks.DataError, OSError)
"""What a reader may raise."""
NAMES = tuple(SPACES)


@dataclasses.dataclass(frozen=True)
class Reader:
    """A reader.

    Attributes:
      examples: contents that it reads.
      read: reads a content that it may write to a file in a folder; the number chooses among settings.
    """

    examples: tuple[bytes, ...]
    read: Callable[[bytes, Path, int], Any]


def _file(folder: Path, name: str, content: bytes) -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def _tables() -> tuple[bytes, ...]:
    def rows(header: str, space: str, separator: str = ",", *, integers: bool = False) -> bytes:
        codes = get_space(space).from_index(np.arange(5))
        texts = get_space(space).to_strings(codes)
        if integers:
            texts = [separator.join(map(str, code)) for code in np.asarray(codes).tolist()]
        lines = (f"{text}{separator}{i + 0.5}{separator}{i % 3}" for i, text in enumerate(texts))
        return "\n".join([header, *lines, ""]).encode()

    named = "architecture,accuracy,loss"
    positions = ";".join([*(f"x{i}" for i in range(6)), "accuracy", "loss"])
    return (
        *(rows(named, space) for space in NAMES),
        rows("# made by hand\narchitecture\taccuracy\tseed", "transnas-macro", "\t"),
        rows(positions, "transnas-micro", ";", integers=True).replace(b".5", b",5"),
        b'code,accuracy,loss\n"1, 2, 3, 0, 0, 1",0.1,1\n"(1, 2, 3, 0, 0, 2)",0.2,2\n',
        b"rank,string,code,accuracy,accuracy_spread,score\n1,64-1234-basic,1 2 3 4 0 0,0.5,0.1,1\n"
        b"2,64-1233-basic,1 2 3 3 0 0,0.6,0.1,0.5\n",
        b"sep=|\narchitecture|accuracy|seed\n64-1234-basic|1|0\n64-1234-basic|2|1\n64-1233-basic|3|0\n",
    )


def _read_table(content: bytes, folder: Path, choice: int) -> Table:
    # Mostly the space that the file looks like: most edits then reach what comes after the architectures.
    marks = {name: space.mark.encode() for name, space in reversed(SPACES.items())}
    meant = next((name for name, mark in marks.items() if mark in content), NAMES[0])
    space = get_space(NAMES[choice % len(NAMES)] if choice % 6 == 0 else meant)
    patterns = ((), (), "architecture", "x*", ["*"])
    return Table.from_csv(
        _file(folder, "table.csv", content),
        space=space,
        maximize=["accuracy"] if choice % 3 else [],
        minimize=[] if choice % 3 == 1 else ["loss"],
        architecture=patterns[choice % len(patterns)],
        seeds=("refuse", "mean", "each")[choice % 7 % 3],
        notation=(None, None, *space.notations)[choice % 11 % (2 + len(space.notations))],
    )


MATRICES = (
    b"3\n0 8 9\n1 0 7\n2 3 0\n",
    b"Title of 1975\n3\n0 8 9 1 0 7 2 3 0\n",
    b",A,B,C\nA,0,8,9\nB,1,0,7\nC,2,3,0\n",
    b"A;B;C\n-;8,5;9\n1;-;7,25\n2;3;-\n",
    b"winner,loser,weight\na,b,1\nb,c,2.5\nc,a,1e3\na,b,4\n",
    b"\t0\t1\n0\t0\t5\n1\t3\t0\n",
)


def _read_matrix(content: bytes, folder: Path, choice: int) -> Any:
    ending = ("txt", "csv", "tsv")[choice % 3]
    return read_weights(_file(folder, f"matrix.{ending}", content), edges=choice % 4 == 3)


GRIDS = (
    b'benchmarks = ["digits/class"]\nbudget = 12\nseeds = 3\n'
    b"[searchers.random]\n[searchers.evolution]\npopulation = [4, 8]\n",
    b'benchmarks = ["digits"]\nsources = "all"\nsource_budget = 5\nseconds = 1e3\nrepeats = "counted"\non_test = true\n'
    b'[[searchers.evolution]]\ntournament = 3\n[[searchers.evolution]]\npopulation = 16\n[searchers."local-search"]\n',
    b'benchmarks = ["mine"]\nmetric = "a"\njudge = "b"\n[searchers.bayesian]\n'
    b"[searchers.neural-ensemble]\nmembers = 2\n"
    b'[tables.mine]\npath = "t.csv"\nspace = "transnas-macro"\nmaximize = ["a"]\ntest = ["b"]\nseeds = "mean"\n',
)


def _read_grid(content: bytes, folder: Path, choice: int) -> Any:
    grid = read_grid(_file(folder, "grid.toml", content))
    json.dumps(grid.to_json())
    return grid.methods()


SPACE_FILES = (
    b"""name = "fuzzed"
[[position]]
name = "stages"
values = [2, 3, 4]
[[position]]
name = "kernel4"
choices = ["3x3", "5x5", "7x7"]
only_if = "stages >= 4"
[[position]]
name = "rate"
real = [1e-4, 1e-1]
log = true
levels = 16
unit = "1/s"
[[position]]
name = "sub"
boolean = true
only_if = "kernel4 in ['5x5', '7x7'] and not stages + 1 * 2 < 4"
[[forbid]]
where = "kernel4 == '7x7' and (rate > 0.05 or sub)"
[[cost]]
name = "latency_ms"
function = "package.module:function"
unit = "ms"
""",
    b'name = "fuzzed"\n[[position]]\nname = "w"\nrange = [8, 128]\nstep = 8\n'
    b'[[position]]\nname = "d[0]"\nboolean = true',
)


def _read_space(content: bytes, folder: Path, choice: int) -> Any:
    before = {*SPACES}
    try:
        space = load_space(_file(folder, "space.toml", content))
    finally:
        for name in {*SPACES} - before:
            del SPACES[name]
    assert space.size > 0
    assert space.to_string(space.from_string(space.example)) == space.example
    return space


def _read_grid_of_json(content: bytes, folder: Path, choice: int) -> Any:
    """A grid from Python, as of JSON: any keys and values."""
    given = _json(content)
    return grid_of(given).methods() if isinstance(given, dict) else None


def _json(content: bytes) -> Any:
    """The content as JSON, or None: for readers of values that a test can only make from bytes."""
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


RECIPE = dataclasses.replace(RECIPES["nas-bench-mr/seg"], rows=3)
CELLS = dataclasses.replace(RECIPES["nas-bench-201/imagenet16-120-ncp"], rows=1)
ARCHIVE = dataclasses.replace(RECIPES["transnas-macro/class_object"], rows=2)


def _pickles() -> tuple[bytes, ...]:
    space = get_space(RECIPE.space)
    codes = space.from_index(np.arange(3)).tolist()
    fields = [column.field for column in RECIPE.columns]
    rows = [{"embedding": code} | dict.fromkeys(fields, i + 0.5) for i, code in enumerate(codes)]
    cell = {"embedding": np.tile(np.eye(5)[0], 6)} | {column.field: np.float64(1.0) for column in CELLS.columns}
    shared: list[Any] = [1]
    for _ in range(12):
        shared = [shared] * 10
    values = [rows, [cell], [{"embedding": shared, fields[0]: shared}], [2**100, -1.5, "text", b"\xff", None, ((),)]]
    return tuple(pickle.dumps(value, protocol=protocol) for value in values for protocol in (0, 2, 4))


def _read_pickle(content: bytes, folder: Path, choice: int) -> Any:
    if choice % 3 == 0:
        return load_pickle(content, "file")
    return convert(RECIPE if choice % 3 == 1 else CELLS, content, "hash")


def _archives() -> tuple[bytes, ...]:
    def archive(method: int) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as file:
            for name in ARCHIVE.members:
                row = {"arch": "(1, 2, 3, 4)"} | {column.field: 0.5 for column in ARCHIVE.columns}
                other = row | {"arch": "(1, 2, 3, 3, 1, 1)"}
                file.writestr(name, json.dumps([row, other] if name == ARCHIVE.members[0] else []))
        return buffer.getvalue()

    return tuple(map(archive, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2)))


def _read_archive(content: bytes, folder: Path, choice: int) -> Any:
    return convert(ARCHIVE, content, "hash")


def npz(arrays: dict[str, Any], *, compressed: bool = False) -> bytes:
    """Returns the bytes of an npz file."""
    buffer = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(buffer, **arrays)
    return buffer.getvalue()


def npy(array: Any) -> bytes:
    """Returns the bytes of an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def predictor_arrays() -> dict[str, Any]:
    """Returns the arrays of a small file of a predictor."""
    metric = {"name": "accuracy", "task": "t", "direction": "maximize"}
    header = {
        "format": 1,
        "space": "transnas-micro",
        "apply": {"kind": "FoldedMLP", "log": False, "precision": "float32"},
        "metrics": [metric],
        "card": {},
    }
    shapes = {"w0": (2, 24, 3), "b0": (2, 3), "w1": (2, 3, 1), "b1": (2, 1)}
    arrays: dict[str, Any] = {name: np.full(shape, 0.5, np.float32) for name, shape in shapes.items()}
    arrays |= {
        name: np.ones(24 if name[0] == "x" else 1, np.float32) for name in ("x_mean", "x_std", "y_mean", "y_std")
    }
    return arrays | {"header": np.frombuffer(json.dumps(header).encode(), np.uint8)}


def _digits(folder: Path) -> bytes:
    tasks, n = len(DIGITS_TASKS), 2
    scores = np.full((tasks, 1, n, 3), 50.0)
    codes, epoch = np.zeros((n, 6), int) + np.arange(n)[:, None], np.ones((tasks, 1, n), int)
    curve, seconds = np.full((tasks, 1, n, 2), 50.0), np.ones(tasks)
    return write_digits(folder / "d.npz", Digits(codes, scores, scores, epoch, curve, seconds, {})).read_bytes()


def _read_npz(content: bytes, folder: Path, choice: int) -> Any:
    if choice % 3 == 0:
        return load_predictor(_file(folder, "p.npz", content))
    if choice % 3 == 1:
        return read_digits(_file(folder, "d.npz", content))
    try:
        return read_npz(content)
    except ValueError:  # what its callers turn into errors of their own
        return None


def _read_npy(content: bytes, folder: Path, choice: int) -> Any:
    return read_weights(_file(folder, "m.npy", content))


STUDY: dict[str, Any] = {
    "grid": {"metric": None, "judge": None},
    "tables": {"a/b": {"hash": "x", "rows": 100, "metric": {"name": "acc", "task": "b"}, "best": 1.0}},
    "budget": 5,
    "methods": {"random": {"searcher": "random", "settings": {}}},
    "cells": 2,
}
RUN: dict[str, Any] = {
    "cell": "8affc87ce83cca4e",
    "method": "random",
    "searcher": "random",
    "settings": {},
    "benchmark": "a/b",
    "seed": 0,
    "results": {
        "queries": 4, "asks": 4, "at": [1, 3], "rows": [5, 6], "values": [0.5, 0.7], "ranks": [30, 2],
        "regrets": [0.5, 0.1], "times": [1.0, 3.0], "seconds": 4.0, "hypervolume": None,
    },
}  # fmt: skip
LINES = tuple(
    "".join(json.dumps(line) + "\n" for line in lines).encode()
    for lines in (
        [RUN, RUN | {"cell": "05d440b836a92de6", "seed": 1}],
        [{"cell": {"a": 1}, "results": {"b": [1.5]}}, {"cell": {"a": 2}, "results": {}}],
        [{"cell": RUN["cell"], "date": "2026-01-01", "runs": 2}, RUN],
    )
)


def _read_lines(content: bytes, folder: Path, choice: int) -> Any:
    if choice % 3 == 0:
        _file(folder, "config.json", b"{}")
        path = _file(folder, "records.jsonl", content)
        cells = [line.record["cell"] for line in read_records(path, keys=("cell", "results"))]
        return cells, open_records(folder) if choice % 9 == 0 else None
    study = folder / "study"
    study.mkdir(exist_ok=True)
    _file(study, "study.json", json.dumps(STUDY).encode())
    _file(study, "records.jsonl", content if choice % 3 == 1 else LINES[0])
    _file(study, "sessions.jsonl", content)
    return load_study(study)


def open_records(folder: Path) -> int:
    """Opens a folder of records that fits, whatever its lines are; returns the number of records."""
    from ncp_jax.records.run_card import result_versions

    _file(folder, "config.json", json.dumps({"versions": result_versions()}).encode())
    records = Records(folder, {}, resume=True)
    records.close()
    return len(records)


DESCRIPTIONS = tuple(json.dumps(value).encode() for value in (STUDY, {"recipe": {"epochs": 3}}, {"versions": {}}))


def _read_description(content: bytes, folder: Path, choice: int) -> Any:
    if choice % 3 == 0:
        return read_json(_file(folder, "any.json", content))
    if choice % 3 == 1:
        _file(folder, "training.json", content)
        (folder / "chunk-0000" / "1").mkdir(parents=True, exist_ok=True)
        with Checkpoints(folder, {"recipe": {"epochs": 3}}) as checkpoints:
            return checkpoints
    study = folder / "study"
    study.mkdir(exist_ok=True)
    _file(study, "study.json", content)
    _file(study, "records.jsonl", LINES[0])
    (study / "sessions.jsonl").unlink(missing_ok=True)
    return load_study(study)


CODES = (
    *(space.example.encode() for space in SPACES.values()),
    b"1,2,3,0,0,1",
    b"(4, 0, 3, 1, 4, 3)",
    b"1 2 3 4 0 0",
    b"['none', 'skip_connect', 'nor_conv_1x1', 'nor_conv_3x3', 'none', 'none']",
    b"12345",
    b"1,2,3,4,0,0",
    b"64,32,1,2,64,1,2,2,32,64,1,2,2,2,32,64,96,1,2,2,2,2,32,64,96,128,128",
)


def _read_code(content: bytes, folder: Path, choice: int) -> Any:
    text = content.decode("utf-8", errors="surrogateescape")
    space = get_space(NAMES[choice // 60 % len(NAMES)])
    place = choice % 5
    if place == 0:
        return space.from_string(text)
    if place == 1:
        return space.read(text)
    if place == 2:
        return find_code(text)
    notation = space.notations[choice % 11 % len(space.notations)]
    if place == 3:
        return space.read(text, None if choice % 13 < 6 else notation)
    given = _json(b"[" + content + b"]")
    return space.from_notation(text if given is None else given, notation)


def make_readers(folder: Path) -> dict[str, Reader]:
    """Returns the readers by name; the folder is for files that examples are made with."""
    arrays = predictor_arrays()
    matrix = np.array([[0, 8.5, 9], [1, 0, 7], [2, 3, 0]])
    archives = (npz(arrays), npz(arrays, compressed=True), _digits(folder))
    return {
        "table": Reader(_tables(), _read_table),
        "matrix": Reader(MATRICES, _read_matrix),
        "toml": Reader(GRIDS, _read_grid),
        "space": Reader(SPACE_FILES, _read_space),
        "grid": Reader(tuple(json.dumps(grid).encode() for grid in _grids()), _read_grid_of_json),
        "pickle": Reader(_pickles(), _read_pickle),
        "zip": Reader(_archives(), _read_archive),
        "npz": Reader(archives, _read_npz),
        "npy": Reader((npy(matrix), npy(matrix.astype(">i2")), npy(np.asfortranarray(matrix))), _read_npy),
        "jsonl": Reader(LINES, _read_lines),
        "json": Reader(DESCRIPTIONS, _read_description),
        "code": Reader(CODES, _read_code),
    }


def _grids() -> list[dict[str, Any]]:
    import tomllib

    return [tomllib.loads(grid.decode()) for grid in GRIDS]


__all__ = ["ALLOWED", "Reader", "make_readers", "npy", "npz", "predictor_arrays", "read_npy"]
