from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import array_files
from ncp_jax.array_files import header_array, read_headed_npz, read_npy, read_npz, write_npz


def saved(array: Any, save: Any = np.save, **more: Any) -> bytes:
    buffer = io.BytesIO()
    save(buffer, array, **more)
    return buffer.getvalue()


def with_header(text: str, size: int = 8) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + bytes(size)


def shaped(shape: str) -> bytes:
    return with_header(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({shape}), }}")


@pytest.mark.parametrize(
    "array",
    [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3)), np.array(2.5), np.zeros((0, 3)),
     np.arange(3, dtype=">i2"), np.array([True]), np.zeros(2, np.float16)],
)  # fmt: skip
def test_arrays_are_read_as_numpy_reads_them(array: np.ndarray) -> None:
    found = read_npy(saved(array))
    content = bytearray(saved(array))
    assert np.shares_memory(read_npy(content), np.frombuffer(content, np.uint8)) == (array.size > 0)
    assert found.dtype == array.dtype
    np.testing.assert_array_equal(found, array, strict=True)
    assert found.flags.writeable
    again = read_npz(saved(array, np.savez_compressed))
    np.testing.assert_array_equal(again["arr_0"], array, strict=True)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "magic string"),
        (b"PK\x03\x04", "magic string"),
        (saved(np.array([{}], object), allow_pickle=True), "pickled objects"),
        (saved(np.array(["x"])), "type <U1"),
        (saved(np.zeros(3))[:-1], "23 bytes for shape 3 of float64"),
        (shaped("1000000000000,"), "8 bytes for shape"),
        (shaped("-1, -1"), "8 bytes for shape -1×-1"),
        (shaped("4611686018427387904, 4"), "8 bytes for"),
        (with_header("{'descr': '<f8', 'fortran_order': False, 'shape': '''"), "no header"),  # tokenize.TokenError
        (with_header("-" * 5000 + "1"), "no header|malformed"),  # by Python 3.11 and by 3.13
        (shaped("1, " * 99), "maximum supported dimension"),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:Reading")
def test_damaged_arrays(content: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read_npy(content)


def test_damaged_archives(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = saved(np.zeros(1000), np.savez_compressed)
    encrypted, unknown = bytearray(whole), bytearray(whole)
    place = whole.index(b"PK\x01\x02")
    encrypted[place + 8] |= 1
    unknown[place + 10] = 99
    for content in (b"", b"text", whole[:-30], bytes(encrypted), bytes(unknown)):
        with pytest.raises(ValueError, match="no whole archive"):
            read_npz(content)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.npy", b"text")
    with pytest.raises(ValueError, match="magic string"):
        read_npz(buffer.getvalue())
    monkeypatch.setattr(array_files, "LARGEST", 1000)
    with pytest.raises(ValueError, match="arrays of 8128 bytes, more than 1000"):
        read_npz(whole)


def test_headers() -> None:
    array = np.arange(3)

    def named(header: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        np.savez(buffer, a=array, header=header)
        return buffer.getvalue()

    header, arrays = read_headed_npz(named(header_array("mine 1", {"tasks": ["x"]})), "mine 1")
    assert header == {"format": "mine 1", "tasks": ["x"]}
    assert list(arrays) == ["a"]
    deep = np.frombuffer(b"[" * 10**5, np.uint8)
    for wrong, words in (
        (header_array("mine 2", {}), "format mine 2"),
        (np.frombuffer(b"{}", np.uint8), "format"),
        (np.frombuffer(b"[1]", np.uint8), "indices"),
        (np.frombuffer(b"\xff", np.uint8), "decode"),
        (deep, "recursion|nesting|Expecting"),
    ):
        with pytest.raises(ValueError, match=words):
            read_headed_npz(named(wrong), "mine 1")
    with pytest.raises(ValueError, match="header"):
        read_headed_npz(saved(array, np.savez), "mine 1")


@pytest.mark.parametrize("compressed", [False, True])
def test_an_archive_is_written_and_read(compressed: bool, tmp_path: Path) -> None:
    arrays = {"a": np.arange(6.0).reshape(2, 3), "b.c": np.zeros(1000, np.int8)}
    path = write_npz(tmp_path / "new" / "a.npz", arrays, compressed=compressed)
    found = read_npz(path.read_bytes())
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array, strict=True)
    assert (path.stat().st_size < 1000) == compressed
    with pytest.raises(ValueError, match="allow_pickle"):
        write_npz(path, {"a": np.array([None])})
    assert list(read_npz(path.read_bytes())) == list(arrays)
    assert [file.name for file in path.parent.iterdir()] == ["a.npz"]
