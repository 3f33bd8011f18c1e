"""Notations of codes: conversion on the command line, and in tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import DataError, Table, UsageError
from ncp_jax.spaces import SPACES, get_space
from ncp_jax.spaces.nas_bench_201 import EDGES, NASLIB_EDGES, NASLIB_OPS

SPACE = get_space("nas-bench-201")
Command = Callable[..., tuple[int, str, str]]


def by_hand(integers: tuple[int, ...]) -> str:
    """The string of a tuple of NASLib, from its documented order of edges and operations."""
    ops = {edge: NASLIB_OPS[integer] for edge, integer in zip(NASLIB_EDGES, integers, strict=True)}
    cell = {edge: f"{ops[edge]}~{edge[0]}" for edge in EDGES}
    return f"|{cell[0, 1]}|+|{cell[0, 2]}|{cell[1, 2]}|+|{cell[0, 3]}|{cell[1, 3]}|{cell[2, 3]}|"


def test_every_code_of_naslib_there_and_back() -> None:
    codes = SPACE.all_codes()
    integers = SPACE.to_integers(codes, "naslib")
    np.testing.assert_array_equal(SPACE.from_integers(integers, "naslib"), codes)
    for row, code in zip(integers[::997].tolist(), codes[::997], strict=True):
        assert by_hand(tuple(row)) == SPACE.to_string(code)


@pytest.mark.parametrize("name", SPACES)
def test_the_own_notation_is_the_code(name: str) -> None:
    space = get_space(name)
    code = space.from_string(space.example)
    assert space.notations[0] == "ncp-jax"
    np.testing.assert_array_equal(space.from_integers(code), code[None])
    np.testing.assert_array_equal(space.to_integers(code), code[None])


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
