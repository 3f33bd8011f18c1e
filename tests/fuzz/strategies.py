"""Strategies for damaged and hostile contents: valid ones, edited at the level of bytes, cells, lines and keys."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import strategies as st

from .readers import npy, npz

Draw = Callable[[Any], Any]

NUMBERS = (
    "0", "-0.0", "-1", "1e308", "1e309", "-1e309", "1e-320", "1.7976931348623157e308", "nan", "NaN", "inf", "-Infinity",
    "1_000", "1,5", "1.234,5", "1 000", "0x10", "1e", "+3", ".5", "5.", "007", "9" * 30, "9" * 5000, "1" * 5000 + "x",
    "2147483648", "18446744073709551616", "true", "1e3", "1E400", "٣", "１", "²", "½", "−1",
)  # fmt: skip
WORDS = (
    "", " ", "\t", '"', '""', "'", "#", "# x", "sep=;", "sep=" + "," * 3000 + "x", "\x00", "\ufeff", "\x1a", "\x0b",
    "\r",
    "\r\n", "\n", "\n\n", "\u2028", "\xa0", "\u200b", "é", "日本", "😀",
    "architecture", "accuracy", "loss", "seed", "x0",
    "x" + "1" * 5000, "1" + " " * 3000 + "x", "1 " * 2000 + "x", "winner", "loser", "weight", ",,,,,", ";;",
    "=cmd|' /C'!A0",
    "[" * 3000, "{" * 3000, "(" * 3000, "{\"a\":" * 3000, "a." * 1500 + "b = 1", "[a]\n[a]", "a = 1\na = 2", "a" * 4000,
    '"\\ud800"', "\\", "%s", "null", "[]", "{}", "~nobody/x", "|none~0|", "~", "+", "-", "_", "64-1234-basic",
    "<html>", "[searchers.evolution]", "population = [" + "1," * 2000 + "]", "1979-05-27T07:32:00Z", '"""', "'''",
)  # fmt: skip
BYTES = (
    b"\x00", b"\xff", b"\x80", b"\xff\xfe", b"\xfe\xff", b"\xef\xbb\xbf", b"\xff\xfe\x00\x00", b"\xed\xa0\x80", b"\x1a",
    b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x80\x04", b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\xff" * 8, b"\x8e",
    b"r",
)  # fmt: skip
JSON = (
    None, True, False, 0, -1, 1, 2**31, 2**63, 2**64, -(2**63), 10**400, 0.5, -0.0, 1e308, 5e-324, float("nan"),
    float("inf"), "", "x", "a/b", "\ud800", "\x00", "~nobody/x", [], {}, [[]], [1, [2]], {"a": None}, [None], ["x"],
    [1e308],
    "digits/class", "random", "all", "mean", "maximize", "asinh",
)  # fmt: skip
KEYS = ("", "cell", "results", "seed", "rows", "path", "budget", "kind", "stored", "x", "\ud800", "log", "format")


LARGEST = 100_000  # bytes of a small file


def _edit_bytes(draw: Draw, content: bytes) -> bytes:
    start = draw(st.integers(0, len(content)))
    end = min(len(content), start + draw(st.sampled_from((0, 0, 1, 1, 2, 4, 16, 10**6))))
    return content[:start] + draw(st.sampled_from(BYTES) | st.binary(max_size=4)) + content[end:]


def _edit_cells(draw: Draw, content: bytes) -> bytes:
    """Puts something else in place of one cell, word or value."""
    mark = draw(st.sampled_from((b",", b"\n", b" ", b";", b"\t", b"=", b"-", b"|", b'"')))
    parts = content.split(mark)
    text = draw(st.sampled_from(NUMBERS) | st.sampled_from(WORDS) | st.text(max_size=5))
    parts[draw(st.integers(0, len(parts) - 1))] = text.encode("utf-8", errors="surrogatepass")
    return mark.join(parts)


def _edit_lines(draw: Draw, content: bytes) -> bytes:
    """Repeats, drops or moves lines, or cuts one."""
    lines = content.splitlines(keepends=True) or [b""]
    source, place = draw(st.integers(0, len(lines) - 1)), draw(st.integers(0, len(lines)))
    line = lines[source]
    kind = draw(st.sampled_from(("repeat", "drop", "move", "cut", "many")))
    if kind in ("drop", "move"):
        del lines[source]
    if kind in ("repeat", "move", "many"):
        lines[place:place] = [line] * (200 if kind == "many" else 1)
    if kind == "cut":
        lines[source] = line[: draw(st.integers(0, len(line)))]
    return b"".join(lines)


def _edit_encoding(draw: Draw, content: bytes) -> bytes:
    text = content.decode("utf-8", errors="replace")
    codec = draw(st.sampled_from(("utf-16", "utf-16-le", "utf-32", "utf-8-sig", "cp1252", "latin-1", "CR", "CRLF")))
    if codec in ("CR", "CRLF"):
        return text.replace("\n", "\r" if codec == "CR" else "\r\n").encode()
    return text.encode(codec, errors="replace")


TEXT_EDITS = (_edit_bytes, _edit_cells, _edit_cells, _edit_cells, _edit_lines, _edit_encoding)


@st.composite
def damaged_text(draw: Draw, examples: tuple[bytes, ...]) -> bytes:
    """Text files, edited up to five times."""
    content = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(0, 5))):
        content = draw(st.sampled_from(TEXT_EDITS))(draw, content)[:LARGEST]
    return content


@st.composite
def damaged_bytes(draw: Draw, examples: tuple[bytes, ...]) -> bytes:
    """Binary files, edited up to five times."""
    content = draw(st.sampled_from(examples))
    for _ in range(draw(st.integers(0, 5))):
        content = _edit_bytes(draw, content)
    return content


def _edit_value(draw: Draw, value: Any, depth: int = 0) -> Any:
    """Puts something else in place of one value of JSON, at any depth, or adds, drops or renames a key."""
    children = list(value) if isinstance(value, dict) else list(range(len(value))) if isinstance(value, list) else []
    if not children or depth == 6 or draw(st.integers(0, 3)) == 0:
        kind = draw(st.integers(0, 5))
        if kind == 0 and isinstance(value, dict):
            return value | {draw(st.sampled_from(KEYS)): draw(st.sampled_from(JSON))}
        if kind == 1 and isinstance(value, dict) and children:
            return {key: inner for key, inner in value.items() if key != draw(st.sampled_from(children))}
        if kind == 2 and isinstance(value, list):
            return value + [draw(st.sampled_from(JSON))] * draw(st.sampled_from((1, 1, 50)))
        return draw(st.sampled_from(JSON))
    place = draw(st.sampled_from(children))
    copy = value.copy()
    copy[place] = _edit_value(draw, value[place], depth + 1)
    return copy


@st.composite
def damaged_json(draw: Draw, examples: tuple[bytes, ...]) -> bytes:
    """JSON or lines of JSON, with values and keys edited; now and then also as text."""
    lines = []
    for line in draw(st.sampled_from(examples)).splitlines():
        value = json.loads(line)
        for _ in range(draw(st.integers(0, 2))):
            value = _edit_value(draw, value)
        lines.append(json.dumps(value).encode())
    content = b"\n".join(lines) + b"\n"
    for _ in range(draw(st.sampled_from((0, 0, 0, 1, 2)))):
        content = draw(st.sampled_from(TEXT_EDITS))(draw, content)[:LARGEST]
    return content


OPERATIONS = (
    b"(", b"]", b"}", b")", b"N", b"\x88", b"K\x01", b"J\xff\xff\xff\xff", b"G\x7f\xef\xff\xff\xff\xff\xff\xff", b"e",
    b"a",
    b"s", b"u", b"t", b"l", b"d", b"\x85", b"\x86", b"\x87", b"2", b"0", b"1", b"R", b"b", b"\x81", b"\x92", b"\x90",
    b"\x91",
    b"\x8f", b"o", b"Q", b"P1\n", b"\x8c\x05numpy\x8c\x05dtype\x93", b"cnumpy\nndarray\n", b"cos\nsystem\n",
    b"c_codecs\nencode\n",
    b"cnumpy.core.multiarray\n_reconstruct\n", b"cnumpy.core.multiarray\nscalar\n", b"q\x00", b"h\x00",
    b"r\xff\xff\xff\x7f",
    b"p99999999999\n", b"g0\n", b"\x94", b"X\x01\x00\x00\x00a", b"\x8c\x02f8", b"C\x08" + b"\x00" * 8, b"I1\n", b"L9\n",
    b"I" + b"9" * 5000 + b"\n", b"\x8a\xff" + b"\x7f" * 255, b"\x8b\xff\xff\xff\x7f", b"\x8e" + b"\xff" * 7 + b"\x00",
    b"\x8d" + struct.pack("<Q", 2**40), b"\x96" + struct.pack("<Q", 2**40), b"B\xff\xff\xff\x7f", b"\x95" + b"\xff" * 8,
    b"\x82\x01", b"\x83\x01\x00", b"\x97", b"\x98", b"inumpy\ndtype\n", b"F1e400\n", b"Vx\\ud800\n", b"S'latin1'\n",
    b"T\xff\xff\xff\x7f",
)  # fmt: skip


def hostile_pickles() -> st.SearchStrategy[bytes]:
    """Any sequence of operations, and plain data."""
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3) | st.binary(max_size=3)
    data = st.recursive(
        leaves,
        lambda s: st.lists(s, max_size=3) | st.dictionaries(st.text(max_size=9), s, max_size=3) | st.tuples(s, s),
        max_leaves=8,
    )
    written = st.builds(pickle.dumps, data, protocol=st.integers(0, 5))
    return written | st.lists(st.sampled_from(OPERATIONS), max_size=20).map(lambda parts: b"".join(parts) + b".")


ARRAYS = (
    np.zeros(0), np.zeros((2, 0)), np.array(1.5), np.full((2, 3), np.nan), np.array([np.inf]), np.zeros((1,) * 30),
    np.arange(6, dtype=">i8"), np.array([True]), np.array(["text"]), np.array([1j]), np.zeros(2, [("a", "f4")]),
    np.array([b"raw"]), np.array(["2020-01-01"], "M8[D]"), np.array([None, {}], object), np.full(3, 1e308),
    np.zeros((2, 24, 3), np.float16), np.zeros((2, 3, 1)), np.frombuffer(b"{", np.uint8), np.frombuffer(b"[" * 9000,
    np.uint8),
    np.zeros((5, 1, 2, 3), np.float32), np.zeros((5, 1, 2), np.int8), np.full((2, 6), 9, np.int8), np.zeros((3, 3),
    "f2"),
)  # fmt: skip
HEADERS = (
    "{'descr': '<f8', 'fortran_order': False, 'shape': (%s), }",
    "{'descr': '%s', 'fortran_order': False, 'shape': (1,), }",
    "{'descr': '<f8', 'fortran_order': %s, 'shape': (1,), }",
    "%s",
)
PARTS = (
    "3, 3", "-1, 3", "10**9,", "1000000000000,", "4611686018427387904, 4", "9" * 30 + ",", "1.5,", "'a',", "", "None,",
    "True,",
    "|O", "<f3", ">U1000000000", "V0", "(", "(" * 2000, "-" * 3000 + "1", "'''", "[" * 500 + "]" * 500, "1L, 2L",
    "\\x00", "é",
    "[('a', '<f8')]", "False", "\t\n  \n\t 1", "{}" , "lambda: 0", "__import__('os')", "9" * 9000,
)  # fmt: skip


@st.composite
def hostile_npy(draw: Draw) -> bytes:
    """Files with any header."""
    text = draw(st.sampled_from(HEADERS)).replace("%s", draw(st.sampled_from(PARTS))).encode("utf-8")
    version = draw(st.sampled_from((b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00")))
    size = struct.pack("<H" if version == b"\x01\x00" else "<I", min(len(text), 65535))
    return b"\x93NUMPY" + version + size + text + b"\x00" * draw(st.sampled_from((0, 8, 72, 1000)))


@st.composite
def hostile_npz(draw: Draw, arrays: dict[str, Any]) -> bytes:
    """Archives with other arrays, members and headers than they should have."""
    arrays = dict(arrays)
    header = json.loads(arrays["header"].tobytes())
    for _ in range(draw(st.integers(0, 2))):
        header = _edit_value(draw, header)
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    for _ in range(draw(st.integers(0, 2))):
        arrays[draw(st.sampled_from((*arrays, "w2", "w9", "b2")))] = draw(st.sampled_from(ARRAYS))
    for name in draw(st.lists(st.sampled_from(list(arrays)), max_size=1)):
        del arrays[name]
    content = npz(arrays, compressed=draw(st.booleans()))
    if draw(st.booleans()):
        buffer = io.BytesIO(content)
        with zipfile.ZipFile(buffer, "a", draw(st.sampled_from((0, 8, 12, 14)))) as archive:
            archive.writestr(
                draw(st.sampled_from(("x.npy", "w0.npy", "../up.npy", "header", "x"))), draw(hostile_npy())
            )
        content = buffer.getvalue()
    for _ in range(draw(st.sampled_from((0, 0, 1)))):
        content = _edit_bytes(draw, content)
    return content


def hostile_matrix() -> st.SearchStrategy[bytes]:
    """Arrays of all types and shapes as npy files."""
    return st.sampled_from(ARRAYS).map(npy) | hostile_npy()
