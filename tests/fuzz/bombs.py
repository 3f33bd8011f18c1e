"""Small contents that ask for much: numbers of bytes that are not there, nesting, products, columns, backtracking."""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Callable
from typing import Any

from .readers import npy, npz, predictor_arrays


def _compressed_zeros(name: str, size: int) -> bytes:
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open(name, "w") as member,
    ):
        for _ in range(size >> 20):
            member.write(bytes(1 << 20))
    return buffer.getvalue()


def _many_lists() -> bytes:
    """A list of lists of lists …, each ten times the same one."""
    value: list[Any] = [0]
    for _ in range(12):
        value = [value] * 10
    return pickle.dumps([{"embedding": [1], "top1": value, "mIoU": value, "acc": value}])


def _claims(size: int) -> bytes:
    head = f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({size},), }}".encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(head)) + head + bytes(64)


def _edges(count: int) -> bytes:
    return "".join(f"a{i},b{i},1\n" for i in range(count)).encode()


def _seeds(count: int) -> bytes:
    rows = "".join(f"64-1234-basic,{i},{i}\n" for i in range(count))
    return f"architecture,accuracy,loss\n{rows}64-1233-basic,1,1\n".encode()


def _row(cells: str, header: str = "architecture,accuracy,loss") -> bytes:
    return f"{header}\n64-1234-basic,{cells}\n64-1233-basic,2,1\n".encode()


_COLUMNS = ",".join(f"c{i}" for i in range(100_000))
_GRID = 'benchmarks = ["digits/class"]\n'
_SETTINGS = "".join(
    f"{name} = {list(range(1, 400))}\n" for name in ("population", "tournament", "parents", "mutations")
)

BOMBS: dict[str, tuple[str, int, Callable[[], bytes]]] = {
    # name → reader, choice of settings, content
    "memo of 2**31": ("pickle", 0, lambda: b"]r\xff\xff\xff\x7f."),
    "memo of 10**12 in text": ("pickle", 0, lambda: b"]p1000000000000\n."),
    "bytes of 2**33": ("pickle", 0, lambda: b"\x8e" + struct.pack("<Q", 2**33) + b"."),
    "byte array of 2**33": ("pickle", 0, lambda: b"\x96" + struct.pack("<Q", 2**33) + b"."),
    "text of 2**33": ("pickle", 0, lambda: b"\x8d" + struct.pack("<Q", 2**33) + b"."),
    "frame of 2**62": ("pickle", 0, lambda: b"\x80\x04\x95" + struct.pack("<Q", 2**62) + b"N."),
    "integer of 2**31 bytes": ("pickle", 0, lambda: b"\x8b\xff\xff\xff\x7f."),
    "integer of 300000 digits": ("pickle", 1, lambda: pickle.dumps([{"embedding": [1], "mIoU": 1 << 3_000_000}])),
    "key that takes 2**60 hashes": ("pickle", 0, lambda: b"})" + b"2\x86" * 60 + b"Ns."),
    "key 300000 levels deep": ("pickle", 0, lambda: b"})" + b"\x85" * 300_000 + b"Ns."),
    "set of a deep tuple": ("pickle", 0, lambda: b"\x8f()" + b"\x85" * 300_000 + b"\x90."),
    "frozen set of a deep tuple": ("pickle", 0, lambda: b"()" + b"\x85" * 300_000 + b"\x91."),
    "lists 300000 levels deep": ("pickle", 0, lambda: b"(" * 300_000 + b"l" * 300_000 + b"."),
    "10**12 lists": ("pickle", 1, _many_lists),
    "10**12 lists as a type": ("pickle", 0, lambda: b"cnumpy\ndtype\n](]" + b"(2222222222l" * 12 + b"\x85R."),
    "npz of zeros": ("npz", 0, lambda: _compressed_zeros("w0.npy", 120 << 20)),
    "npz of zeros, read as digits": ("npz", 1, lambda: _compressed_zeros("codes.npy", 120 << 20)),
    "npz that claims 8 TB": ("npz", 2, lambda: _npz_with("w0.npy", _claims(10**12))),
    "header of many digits": (
        "npz",
        0,
        lambda: npz(predictor_arrays() | {"header": _bytes(b'{"format": 1, "x": ' + b"1" * 3 * 10**5)}),
    ),
    "deep header": ("npz", 0, lambda: npz(predictor_arrays() | {"header": _bytes(b"[" * 3 * 10**5)})),
    "npy that claims 8 GB": ("npy", 0, lambda: _claims(10**9)),
    "npy of no columns": ("npy", 0, lambda: npy([[] for _ in range(10**5)])),
    "zip of zeros": ("zip", 0, lambda: _compressed_zeros("zc_transbench101_macro.json", 120 << 20)),
    "edges between 20000": ("matrix", 7, lambda: _edges(10_000)),
    "LOLIB of 10**300": ("matrix", 0, lambda: b"1e300 1 2 3"),
    "matrix of 100000 columns": ("matrix", 1, lambda: b"1," * 100_000 + b"1"),
    "matrix of 100000 names": ("matrix", 1, lambda: f"{_COLUMNS}\n1,2\n".encode()),
    "matrix of digits": ("matrix", 0, lambda: b"2 " + b"1" * 3 * 10**5 + b"x 1 1 1"),
    "sep= of 100000 commas": ("matrix", 1, lambda: b"sep=" + b"," * 100_000 + b"x\n1"),
    "table of 100000 columns": ("table", 3, lambda: f"{_COLUMNS}\n{_COLUMNS}\n{_COLUMNS}\n".encode()),
    "table of 100000 equal columns": ("table", 3, lambda: (b"x," * 100_000 + b"x\n") * 2),
    "table of 100000 patterns": ("table", 3, lambda: _row("1,2", f"architecture,loss,{_COLUMNS}")),
    "table of 4000 seeds": ("table", 31, lambda: _seeds(4000)),
    "number of 100000 digits and a letter": ("table", 7, lambda: _row("1" * 100_000 + "x,1")),
    "number of 100000 digits": ("table", 7, lambda: _row("1" * 100_000 + ",1")),
    "code of blanks": ("table", 7, lambda: _row("1,1").replace(b"64-1234-basic", b'"1' + b" " * 100_000 + b'x"')),
    "code of 50000 integers": ("table", 7, lambda: _row("1,1").replace(b"64-1234-basic", b'"' + b"1 " * 50_000 + b'"')),
    "column of 100000 digits": ("table", 7, lambda: f"{'1' * 100_000}xx,accuracy,loss\n1,1,1\n2,2,2\n".encode()),
    "cell of 100000 quotes": ("table", 7, lambda: _row('"' * 100_001 + ",1")),
    "10**10 methods": ("toml", 0, lambda: f"{_GRID}[searchers.evolution]\n{_SETTINGS}".encode()),
    "deep TOML": ("toml", 0, lambda: b"a = " + b"[" * 100_000),
    "TOML of 2000 dots": ("toml", 0, lambda: b"a." * 2000 + b"b = 1\n"),
    "TOML of 5000 tables": (
        "toml",
        0,
        lambda: "".join(f"[searchers.e{i}]\n" for i in range(5000)).encode() + _GRID.encode(),
    ),
    "deep record": ("jsonl", 0, lambda: b'{"cell":' + b"[" * 100_000 + b"\n"),
    "deep session": ("jsonl", 2, lambda: b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"\n"),
    "deep study": ("json", 2, lambda: b"[" * 100_000),
    "deep description": ("json", 1, lambda: b"[" * 100_000),
    "deep JSON": ("json", 0, lambda: b'{"a":' * 100_000),
    "string of 300000 digits": ("code", 0, lambda: b"1" * 3 * 10**5),
    "string of 300000 groups": ("code", 0, lambda: b"1-" * 150_000),
    "string of 300000 tildes": ("code", 1, lambda: b"~|" * 150_000),
    "300000 integers": ("code", 5, lambda: b"1," * 100_000),
    "integer of 5000 digits": ("code", 3, lambda: b"1," * 5 + b"1" * 5000),
}


def _npz_with(name: str, content: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(name, content)
    return buffer.getvalue()


def _bytes(content: bytes) -> Any:
    import numpy as np

    return np.frombuffer(content, np.uint8)
