"""Notations of codes: conversion on the command line, and in tables."""

from __future__ import annotations

import functools
import io
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import DataError, Table, UsageError
from ncp_jax.spaces import SPACES, get_space
from ncp_jax.spaces.nas_bench_201 import EDGES, NASLIB_EDGES, NASLIB_OPS
from ncp_jax.studies.grid import grid_of

from .. import upstream

SPACE = get_space("nas-bench-201")


class PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"{module}.{name}")


Command = Callable[..., tuple[int, str, str]]


def by_hand(integers: tuple[int, ...]) -> str:
    """The string of a tuple of NASLib, from its documented order of edges and operations."""
    ops = {edge: NASLIB_OPS[integer] for edge, integer in zip(NASLIB_EDGES, integers, strict=True)}
    cell = {edge: f"{ops[edge]}~{edge[0]}" for edge in EDGES}
    return f"|{cell[0, 1]}|+|{cell[0, 2]}|{cell[1, 2]}|+|{cell[0, 3]}|{cell[1, 3]}|{cell[2, 3]}|"


def test_every_code_of_naslib_there_and_back() -> None:
    codes = SPACE.all_codes()
    integers = SPACE.to_notation(codes, "naslib")
    np.testing.assert_array_equal(SPACE.from_notation(integers, "naslib"), codes)
    for row, code in zip(integers[::997].tolist(), codes[::997], strict=True):
        assert by_hand(tuple(row)) == SPACE.to_string(code)


# From the benchmark authors' own check of the order of their list.
NATS = {
    0: "|avg_pool_3x3~0|+|nor_conv_1x1~0|skip_connect~1|+|nor_conv_1x1~0|skip_connect~1|skip_connect~2|",
    9: "|avg_pool_3x3~0|+|none~0|none~1|+|skip_connect~0|none~1|nor_conv_3x3~2|",
    123: "|avg_pool_3x3~0|+|avg_pool_3x3~0|nor_conv_1x1~1|+|none~0|avg_pool_3x3~1|nor_conv_3x3~2|",
}


def test_the_index_of_nats_bench() -> None:
    codes = SPACE.from_notation([*NATS], "nats-index")
    assert SPACE.to_strings(codes) == [*NATS.values()]
    every = SPACE.from_notation(np.arange(SPACE.size), "nats-index")
    np.testing.assert_array_equal(SPACE.to_notation(every, "nats-index")[:, 0], np.arange(SPACE.size))
    assert len(np.unique(np.asarray(SPACE.index(every)))) == SPACE.size


def test_the_published_index_of_nats_bench(mirror: Path) -> None:
    published = next(mirror.rglob("str_arch2idx.pt"), None)
    if published is None:
        upstream.absent("the published index (str_arch2idx.pt of NATS-Bench's authors)")
    with zipfile.ZipFile(published) as archive:  # a container of PyTorch, with one plain dictionary
        name = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        found = PlainUnpickler(io.BytesIO(archive.read(name))).load()
    codes = SPACE.from_notation([*found.values()], "nats-index")
    assert SPACE.to_strings(codes) == [*found]


@pytest.mark.parametrize("name", ["nas-bench-201", "transnas-micro"])
def test_operations_by_name(name: str) -> None:
    space = get_space(name)
    code = space.from_string(space.example)
    names = space.to_notation(code, "ops")
    assert [space.ops[letter] for letter in code] == names[0].tolist()
    np.testing.assert_array_equal(space.from_notation(names, "ops"), code[None])
    for text in (", ".join(names[0]), str(tuple(names[0].tolist())), str(names[0].tolist()), " ".join(names[0])):
        np.testing.assert_array_equal(space.read(text, "ops"), code)


@pytest.mark.parametrize("name", SPACES)
def test_the_own_notation_is_the_code(name: str) -> None:
    space = get_space(name)
    code = space.from_string(space.example)
    assert space.notations[0] == "ncp-jax"
    np.testing.assert_array_equal(space.from_notation(code), code[None])
    np.testing.assert_array_equal(space.to_notation(code), code[None])


def test_the_command(command: Command) -> None:
    given = ("convert", "4,0,3,1,4,3", "--space", "nas-bench-201", "--notation", "naslib")
    text = by_hand((4, 0, 3, 1, 4, 3))
    assert command(*given) == (0, f"{text}\n", "")
    assert command("convert", text, "--space", "nb201", "--to", "naslib")[1] == "4,0,3,1,4,3\n"
    assert json.loads(command(*given, "--json", "--to", "ncp-jax")[1]) == [SPACE.from_string(text).tolist()]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("1,2,3", "--space", "nb201", "--notation", "naslib"), "NASLib architectures"),
        (("0,0,0,0,0,9", "--space", "nb201", "--notation", "naslib"), "NASLib architectures"),
        (("0,0,0,0,0,9", "--space", "nb201", "--notation", "nats-index"), "one integer 0..15624"),
        (("15625", "--space", "nb201", "--notation", "nats-index"), "one integer 0..15624"),
        (("-1", "--space", "nb201", "--notation", "nats-index"), "one integer 0..15624"),
        (("none,none,none", "--space", "nb201", "--notation", "ops"), "nor_conv_1x1"),
        (("none,none,none,none,none,conv", "--space", "nb201", "--notation", "ops"), "got 'conv'"),
        (("none,none,none,none,none,none", "--space", "nb201"), "6 integers with commas between them"),
        (("0,0,0,0,0,0", "--space", "nb201", "--notation", "ops"), "in the notation ops"),
        (("123", "--space", "nb201"), "state another notation: naslib, nats-index, ops"),
        (("123", "--space", "transnas-micro", "--notation", "nats-index"), "notation of transnas-micro"),
        (("0,0,0,0,0,a", "--space", "nb201"), "6 integers with commas between them, got '0,0,0,0,0,a'"),
        (("0,0,0,0,0,0", "--space", "transnas-micro", "--notation", "naslib"), "notation of transnas-micro"),
        (("0,0,0,0,0,0", "--space", "nb201", "--to", "nas"), "form to convert to"),
        (("--space", "nb201"), "at least one code, got none"),
    ],
)
def test_what_cannot_be_converted(options: tuple[str, ...], text: str, command: Command) -> None:
    status, out, error = command("convert", *options)
    assert (status, out) == (2, "")
    assert text in error


def test_the_command_to_and_from_an_index_and_names(command: Command) -> None:
    index = ("--space", "nb201", "--notation", "nats-index")
    assert command("convert", *map(str, NATS), *index)[1].splitlines() == [*NATS.values()]
    names = command("convert", "123", *index, "--to", "ops")[1].strip()
    assert names == "avg_pool_3x3,avg_pool_3x3,nor_conv_1x1,none,avg_pool_3x3,nor_conv_3x3"
    assert command("convert", names, "--space", "nb201", "--notation", "ops", "--to", "nats-index")[1] == "123\n"
    assert json.loads(command("convert", "9", *index, "--to", "ops", "--json")[1]) == [
        ["avg_pool_3x3", "none", "none", "skip_connect", "none", "nor_conv_3x3"]
    ]


@pytest.mark.parametrize("subcommand", ["cost", "build"])
def test_other_commands_read_every_notation(subcommand: str, command: Command) -> None:
    usual = command(subcommand, NATS[123], "--space", "nb201", "--json")
    assert usual[0] == 0
    for notation in SPACE.notations:
        text = ",".join(map(str, SPACE.to_notation(SPACE.from_string(NATS[123]), notation)[0]))
        assert command(subcommand, text, "--space", "nb201", "--notation", notation, "--json") == usual
    assert command("build", "123", "--notation", "nats-index", "--json")[1] == command("build", NATS[123], "--json")[1]
    status, _, error = command("build", "123", "--notation", "nats")
    assert (status, "nats-index" in error) == (2, True)


TUPLES = [(4, 0, 3, 1, 4, 3), (2, 2, 0, 2, 2, 0), (1, 1, 1, 1, 1, 0)]


@pytest.fixture(params=["one cell", "columns"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "one cell":
        lines = ["arch,acc", *(f'"{row}",{i}.5' for i, row in enumerate(TUPLES))]
    else:
        lines = ["x0,x1,x2,x3,x4,x5,acc", *(f"{','.join(map(str, row))},{i}.5" for i, row in enumerate(TUPLES))]
    (tmp_path / "table.csv").write_text("\n".join(lines))
    return tmp_path / "table.csv"


def test_integers_with_several_meanings_need_their_notation(table: Path) -> None:
    with pytest.raises(DataError) as caught:
        Table.from_csv(table, space="nas-bench-201", maximize=["acc"])
    for reading in (by_hand(TUPLES[0]), SPACE.to_string(np.array(TUPLES[0]))):
        assert reading in str(caught.value)
    assert "--notation ncp-jax" in str(caught.value)
    naslib = Table.from_csv(table, space="nas-bench-201", maximize=["acc"], notation="naslib")
    assert SPACE.to_strings(naslib.codes) == [by_hand(row) for row in TUPLES]
    own = Table.from_csv(table, space="nas-bench-201", maximize=["acc"], notation="ncp-jax")
    assert np.asarray(own.codes).tolist() == [list(row) for row in TUPLES]
    with pytest.raises(UsageError, match="notation of nas-bench-201"):
        Table.from_csv(table, space="nas-bench-201", maximize=["acc"], notation="nats")


@pytest.mark.parametrize("notation", ["naslib", "nats-index", "ops"])
@pytest.mark.parametrize("columns", [False, True])
def test_tables_state_their_notation(notation: str, columns: bool, tmp_path: Path) -> None:
    codes = SPACE.from_notation(TUPLES, "naslib")
    rows = SPACE.to_notation(codes, notation).tolist()
    if columns:
        header = [f"x{place}" for place in range(len(rows[0]))] if len(rows[0]) > 1 else ["cell"]
        lines = [",".join(map(str, row)) for row in rows]
    else:
        header, lines = ["arch"], [f'"{", ".join(map(str, row))}"' for row in rows]
    text = "\n".join([",".join([*header, "acc"]), *(f"{line},{i}.5" for i, line in enumerate(lines))])
    (tmp_path / "table.csv").write_text(text)
    read = functools.partial(Table.from_csv, tmp_path / "table.csv", space="nas-bench-201", maximize=["acc"])
    np.testing.assert_array_equal(read(notation=notation).codes, codes)
    with pytest.raises(DataError) as caught:
        read()
    assert f"--notation {notation}" in str(caught.value)
    assert SPACE.to_string(codes[0]) in str(caught.value)


def test_an_index_without_a_notation_shows_its_readings(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("arch,acc\n123,1\n9,2\n")
    with pytest.raises(DataError) as caught:
        Table.from_csv(tmp_path / "table.csv", space="nas-bench-201", maximize=["acc"])
    assert f"nats-index: {NATS[123]}" in str(caught.value)
    assert f"in the order of this library's codes: {SPACE.to_string(SPACE.from_index(123))}" in str(caught.value)


def test_columns_called_as_the_positions_hold_names_of_operations(tmp_path: Path) -> None:
    codes = SPACE.from_notation(TUPLES, "naslib")
    lines = [",".join([f"{i}.5", *row]) for i, row in enumerate(SPACE.to_notation(codes, "ops")[:, ::-1].tolist())]
    header = ",".join(["acc", *SPACE.position_names[::-1]])
    (tmp_path / "table.csv").write_text("\n".join([header, *lines]))
    found = Table.from_csv(tmp_path / "table.csv", space="nas-bench-201", maximize=["acc"])
    np.testing.assert_array_equal(found.codes, codes)


def test_which_column_holds_the_index(tmp_path: Path) -> None:
    def read(text: str, **options: str) -> list[str]:
        (tmp_path / "table.csv").write_text(text)
        given = {"space": "nas-bench-201", "maximize": ["acc"], "notation": "nats-index"} | options
        return SPACE.to_strings(Table.from_csv(tmp_path / "table.csv", **given).codes)

    both = [NATS[9], NATS[123]]
    assert read("acc,cell,seed\n1.5,9,1\n2.5,123.0,1\n") == both  # "123.0" of a column that had gaps
    assert read("acc,cell\n1,9\n2,123\n") == both
    for text in ("id,cell,acc\n1,9,1\n2,123,2\n", ",acc\n9,1\n123,2\n"):
        with pytest.raises(DataError, match="one column of indices of NATS-Bench"):
            read(text)
    assert read("id,cell,acc\n1,9,1\n2,123,2\n", architecture="cell") == both
    with pytest.raises(DataError, match=r"0\.\.15624"):
        read("arch,acc\n1,1\n15625,2\n")


def test_grids_state_a_notation(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("arch,acc\n123,1\n9,2\n")
    table = {"path": "table.csv", "space": "nb201", "maximize": ["acc"], "notation": "nats-index"}
    content = {"searchers": {"random": {}}, "benchmarks": ["mine"], "tables": {"mine": table}, "budget": 1}
    assert SPACE.to_strings(grid_of(content, tmp_path).load()["mine"].codes) == [NATS[123], NATS[9]]


def test_strings_need_none(tmp_path: Path) -> None:
    rows = "\n".join(f"{by_hand(row)},{i}" for i, row in enumerate(TUPLES))
    (tmp_path / "table.csv").write_text(f"arch,acc\n{rows}\n")
    for notation in (None, "naslib"):
        found = Table.from_csv(tmp_path / "table.csv", space="nb201", maximize=["acc"], notation=notation)
        assert SPACE.to_strings(found.codes) == [by_hand(row) for row in TUPLES]


@pytest.mark.parametrize(
    "text",
    [
        "|none~0|none~0|+|none~1|+|none~0|none~1|none~2|",
        "|none~0|+|none~0|none~1|none~0|+|none~1|none~2|",
        "|none~0|+|none~0|none~1|none~0|none~1|none~2|+",
        "+|none~0||none~0|none~1|+|none~0|none~1|none~2|",
    ],
)
def test_strings_with_wrong_groups_are_refused(text: str) -> None:
    with pytest.raises(UsageError, match="architecture string of nas-bench-201"):
        SPACE.from_string(text)
