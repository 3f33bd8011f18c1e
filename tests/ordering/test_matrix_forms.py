"""Property tests: a matrix or a list of edges is read as it was written, in whatever form, or refused."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.checks import DataError, UsageError
from ncp_jax.ordering.matrix_files import read_weights

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "latin-1")
NAMES = st.one_of(
    st.sampled_from([f"n{i}" for i in range(9)] + ["\u00e9", "none", "x", "a b", "#1", "1.5", "nan", "A,B", "q;"]),
    st.integers(0, 6).map(str),
)


def quoted(cell: str) -> str:
    special = any(mark in cell for mark in ',;\t|" #')
    return '"' + cell.replace('"', '""') + '"' if special else cell


def lay_out(rows: list[list[str]], separator: str, ends: str, encoding: str, extras: random.Random) -> bytes:
    lines = [separator.join(map(quoted, row)) for row in rows]
    if extras.random() < 0.3:
        lines.insert(extras.randrange(len(lines) + 1), "# 1, 2; three")
    if extras.random() < 0.3:
        lines.insert(extras.randrange(len(lines) + 1), "")
    if extras.random() < 0.3:
        lines.insert(0, f"sep={separator}")
    return (ends.join(lines) + ends * extras.randrange(2)).encode(encoding)


def read(
    content: bytes, name: str = "a.csv", *, edges: bool = False
) -> tuple[np.ndarray, tuple[str, ...] | None] | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            found = read_weights(path, edges=edges)
        except DataError:
            return None
    return found.weights, found.names


FORM = {
    "separator": st.sampled_from(",;\t|"),
    "ends": st.sampled_from(["\n", "\r\n", "\r"]),
    "encoding": st.sampled_from(ENCODINGS),
    "seed": st.integers(0, 10**6),
}


@settings(max_examples=300)
@given(names=st.lists(NAMES, min_size=2, max_size=5, unique=True), corner=st.sampled_from(["", "name"]), **FORM)
def test_named_matrices(names: list[str], corner: str, separator: str, ends: str, encoding: str, seed: int) -> None:
    extras = random.Random(seed)
    n = len(names)
    weights = np.array([[extras.choice([0, 1, 2, 7, 0.5]) for _ in names] for _ in names])
    np.fill_diagonal(weights, extras.choice([0, 0, 3]))
    blank = extras.choice([None, None, "", "-"])
    columns = extras.sample(range(n), n)
    sign = "," if separator != "," and extras.random() < 0.5 else "."
    rows = [[corner, *(names[j] for j in columns)]]
    for i in range(n):
        cells = [blank if i == j and blank is not None else f"{weights[i, j]:g}".replace(".", sign) for j in columns]
        rows.append([names[i], *cells])
    found = read(lay_out(rows, separator, ends, encoding, extras))
    if found is not None:
        expected = weights.copy()
        if blank is not None:
            np.fill_diagonal(expected, 0)
        assert found[1] == tuple(names)
        np.testing.assert_array_equal(found[0], expected)
    else:  # only what is doubtful may be refused
        assert any(name.replace(".", "").isdigit() or name in ("none", "nan") for name in names) or n < 3


@settings(max_examples=200)
@given(n=st.integers(1, 5), **FORM)
def test_matrices_without_names(n: int, separator: str, ends: str, encoding: str, seed: int) -> None:
    extras = random.Random(seed)
    weights = np.array([[extras.choice([0, 1, 2, 7, 0.5]) for _ in range(n)] for _ in range(n)])
    blank = extras.choice([None, "0", "", "-", "--"])
    sign = "," if separator != "," and extras.random() < 0.5 else "."
    rows = [
        [blank if i == j and blank is not None else f"{weights[i, j]:g}".replace(".", sign) for j in range(n)]
        for i in range(n)
    ]
    found = read(lay_out(rows, separator, ends, encoding, extras))
    if found is not None:
        assert found[1] is None
        np.testing.assert_array_equal(found[0] * (1 - np.eye(n)), weights * (1 - np.eye(n)))


@settings(max_examples=200)
@given(names=st.lists(NAMES, min_size=2, max_size=5, unique=True), header=st.booleans(), **FORM)
def test_edges(names: list[str], header: bool, separator: str, ends: str, encoding: str, seed: int) -> None:
    extras = random.Random(seed)
    pairs = [(i, j) for i in range(len(names)) for j in range(len(names)) if i != j]
    chosen = extras.sample(pairs, extras.randrange(1, len(pairs) + 1))
    weights = {pair: extras.choice([1, 2, 0.5, 7]) for pair in chosen}
    order = extras.sample(range(3), 3) if header else [0, 1, 2]
    rows = [["winner", "loser", "count"]] if header else []
    rows += [[names[i], names[j], f"{weight:g}"] for (i, j), weight in weights.items()]
    rows = [[row[place] for place in order] for row in rows]
    content = lay_out(rows, separator, ends, encoding, extras)
    found = read(content, edges=True)
    assert found is not None
    matrix, listed = found
    assert listed is not None
    assert {(listed[i], listed[j]): matrix[i, j] for i, j in zip(*np.nonzero(matrix), strict=True)} == {
        (names[i], names[j]): weight for (i, j), weight in weights.items()
    }
    # Without the option, no list of edges becomes a matrix of another kind.
    assert read(content) is None or (len(rows) <= 3 and not header) or len(rows) == 1


@settings(max_examples=300)
@given(content=st.one_of(st.binary(max_size=60), st.text('01 ,;\t\r\n"#.ABx-_e', max_size=60).map(str.encode)))
def test_any_content_is_read_or_refused(content: bytes) -> None:
    for name in ("a.csv", "a"):
        for edges in (False, True):
            found = read(content, name, edges=edges)
            assert found is None or found[0].shape == (len(found[0]),) * 2
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.npy"
        path.write_bytes(b"\x93NUMPY" + content)
        try:
            read_weights(path)
        except (DataError, UsageError):
            return
