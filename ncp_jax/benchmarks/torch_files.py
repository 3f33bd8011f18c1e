"""Reads the files that ``torch.save`` writes, without PyTorch: tensors as NumPy arrays, and plain data.

Both containers are read: the zip archive of PyTorch 1.6 and later, and the sequence of pickles before it. The bytes of
an archive's tensors stay in the file until they are used.
"""

from __future__ import annotations

import math
import mmap
import os
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks.pickles import DAMAGED, MEMORY, read_pickle
from ncp_jax.benchmarks.stand_ins import RefusedError, StandIn, brief, no_call
from ncp_jax.files import user_path

_MAGIC = 0x1950A86A20F9469CFC6C  # first pickle of the older container
_DIRECTORY = 16 * 2**20  # maximum bytes of an archive's list of members
_DIMENSIONS = 32
_BFLOAT16 = "BFloat16Storage"
_STORAGES: dict[str, np.dtype[Any]] = {
    "DoubleStorage": np.dtype("f8"),
    "FloatStorage": np.dtype("f4"),
    "HalfStorage": np.dtype("f2"),
    "LongStorage": np.dtype("i8"),
    "IntStorage": np.dtype("i4"),
    "ShortStorage": np.dtype("i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
    "ComplexFloatStorage": np.dtype("c8"),
    "ComplexDoubleStorage": np.dtype("c16"),
}


class _Storage(NamedTuple):
    """The numbers of one or more tensors."""

    values: np.ndarray


def read_torch(path: str | os.PathLike[str], *, memory: float = MEMORY) -> Any:
    """Reads a file of ``torch.save``: tensors, and plain Python data as in ``pickles.read_pickle``.

    Nothing that the file names is imported or called: its names are those of tensors, NumPy's arrays and numbers, and
    ordered dictionaries, and functions of this package stand in for them.

    Args:
      path: the file (.pt, .pth, .pth.tar), in either container.
      memory: maximum bytes of the objects of the file, estimated. The numbers of an archive's tensors do not count.

    Returns:
      What was saved: dictionaries, lists, tuples, numbers and texts; tensors as read-only NumPy arrays of their shape
      and type (``bfloat16`` as JAX has it); ordered dictionaries as dictionaries.

    Raises:
      FileNotFoundError: there is no such file.
      DataError: the file is another one, is truncated or damaged, needs a name that is not among those above, or takes
        more memory. The text says what was found.
    """
    path = user_path(path)
    if not path.is_file():
        raise checks.MissingError(expected=f"a file at {path}", got="none", remedy="correct the path")
    with open(path, "rb") as file:
        if not file.read(1):
            raise _other(path, "an empty file")
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return _read(str(path), content, memory)


def read_torch_bytes(content: bytes, where: str, *, memory: float = MEMORY) -> Any:
    """Reads what a file of ``torch.save`` holds; see ``read_torch``.

    Args:
      content: the bytes of the file.
      where: name of the file, for error texts.
      memory: as for ``read_torch``.
    """
    if not content:
        raise _other(where, "an empty file")
    mapped = mmap.mmap(-1, len(content))
    mapped.write(content)
    return _read(where, mapped, memory)


def _read(where: str, content: mmap.mmap, memory: float) -> Any:
    head = content[:512]
    content.seek(0)
    if head[:4] == b"PK\x03\x04":
        return _read_archive(where, content, memory)
    if head[:1] == b"\x80":
        return _read_sequence(where, content, memory)
    raise _other(where, looks_like(head))


def looks_like(head: bytes) -> str:
    """Returns in words what a file that begins with these bytes is."""
    kinds = (
        (b"PK\x03\x04", "a zip archive"),
        (b"BZh", "a bz2 stream"),
        (b"\x1f\x8b", "a gzip stream"),
        (b"\x80", "a pickle"),
        (b"SQLite format 3\x00", "an SQLite database"),
        (b"\x89HDF", "an HDF5 file"),
        (b"\x93NUMPY", "a NumPy array"),
        (b"version https://git-lfs", "a pointer of Git LFS, not the file itself"),
        (b"<", "a page of HTML or XML: a download that failed"),
        (b"{", "JSON"),
        (b"[", "JSON"),
    )
    for start, words in kinds:
        if head.lstrip()[: len(start)].lower() == start.lower():
            return words
    return "a tar archive" if head[257:262] == b"ustar" else f"bytes that begin with {head[:8]!r}"


def _other(path: Path | str, got: str) -> checks.DataError:
    return checks.DataError(
        expected=f"a file of torch.save at {path}", got=got, remedy="use the file as its source publishes it"
    )


# The archive: a pickle, and one member for each storage, all without compression.


def _read_archive(where: str, content: mmap.mmap, memory: float) -> Any:
    members = _members(where, content)
    name = next((name for name in members if name.rpartition("/")[2] == "data.pkl"), None)
    if name is None:
        raise _other(where, "a zip archive without data.pkl")
    folder = name.removesuffix("data.pkl")
    big = _bytes(content, members.get(f"{folder}byteorder", (0, 0)))[:3] == b"big"
    storages: dict[str, _Storage] = {}

    def storage(pid: Any) -> _Storage:
        kind, key, count = _storage_of(pid)
        place = members.get(f"{folder}data/{key}")
        if place is None or count * kind.itemsize > place[1]:
            raise RefusedError(f"a tensor whose numbers the archive lacks (data/{checks.shorten(key)})")
        if key not in storages:
            values = np.frombuffer(content, kind.newbyteorder(">" if big else "<"), place[1] // kind.itemsize, place[0])
            storages[key] = _Storage(values)
        elif storages[key].values.dtype.kind != kind.kind:
            raise RefusedError("two tensors of different types with the same numbers")
        return storages[key]

    start, size = members[name]
    content.seek(start)
    return read_pickle(content, size, where, names=_NAMES, storage=storage, memory=memory)


def _members(where: str, content: mmap.mmap) -> dict[str, tuple[int, int]]:
    """Returns position and size of each member of an archive by its name."""
    # RuntimeError: zipfile says with one that an archive is of a later version of the format.
    damaged = (*DAMAGED, zipfile.BadZipFile, OSError, RuntimeError)
    try:
        # A list of members can be long: it is not read before its size is known.
        end = content.rfind(b"PK\x05\x06", max(0, len(content) - 2**16 - 22))
        if end < 0:
            raise zipfile.BadZipFile("no list of members at the end: the file is truncated")
        (directory,) = struct.unpack_from("<I", content, end + 12)
        if directory == 2**32 - 1:
            (zip64,) = struct.unpack_from("<Q", content, end - 12)
            (directory,) = struct.unpack_from("<Q", content, zip64 + 40)
        if directory > _DIRECTORY:
            raise zipfile.BadZipFile(f"a list of members of {directory} bytes")
        members = {}
        with zipfile.ZipFile(content) as archive:  # type: ignore[call-overload]  # a map reads and seeks as a file does
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED or info.flag_bits & 1:
                    raise zipfile.BadZipFile(f"{info.filename!r} is compressed, which torch.save does not do")
                head = content[info.header_offset : info.header_offset + 30]
                signature, name, extra = struct.unpack("<4s22xHH", head)
                start = info.header_offset + 30 + name + extra
                if signature != b"PK\x03\x04" or start + info.file_size > len(content):
                    raise zipfile.BadZipFile(f"{info.filename!r} is not whole")
                members[info.filename] = (start, info.file_size)
                if info.filename.endswith("data.pkl"):
                    with memoryview(content) as view, view[start : start + info.file_size] as part:
                        if zlib.crc32(part) != info.CRC:
                            raise zipfile.BadZipFile(f"{info.filename!r} has another checksum than the archive says")
    except damaged as error:
        raise _other(where, f"a damaged zip archive ({checks.shorten(str(error))})") from error
    return members


def _bytes(content: mmap.mmap, place: tuple[int, int]) -> bytes:
    start, size = place
    return content[start : start + min(size, 16)]


# The older container: four pickles, the keys of the storages, then the numbers of each.


def _read_sequence(where: str, content: mmap.mmap, memory: float) -> Any:
    def read() -> Any:
        size = len(content) - content.tell()
        return read_pickle(content, size, where, names=_NAMES, storage=storage, memory=memory)

    storages: dict[str, _Storage] = {}
    taken = 0

    def storage(pid: Any) -> _Storage:
        nonlocal taken
        kind, key, count = _storage_of(pid)
        if key not in storages:
            taken += count * kind.itemsize
            if taken > len(content):
                raise RefusedError("tensors of more bytes than the file has")
            storages[key] = _Storage(np.zeros(count, kind))
        return storages[key]

    first = read()
    if first != _MAGIC:
        raise _other(where, f"a pickle of {brief(first)}, and no file of torch.save")
    read(), read()  # the protocol, and the sizes of integers
    value, keys = read(), read()
    if not isinstance(keys, list) or {*map(str, keys)} != {*storages}:
        raise _other(where, "tensors whose numbers are not in the file")
    for key in keys:
        values = storages[str(key)].values
        count = content.read(8)
        if len(count) < 8 or struct.unpack("<q", count)[0] != len(values):
            raise _other(where, "a truncated file, or tensors of other sizes than it says")
        raw = content.read(values.nbytes)
        if len(raw) < values.nbytes:
            raise _other(where, "a truncated file")
        values[:] = np.frombuffer(raw, values.dtype.newbyteorder("<"))
    return value


def _storage_of(pid: Any) -> tuple[np.dtype[Any], str, int]:
    """Returns type, key and number of entries of a storage that a pickle refers to."""
    if not isinstance(pid, tuple) or len(pid) < 5 or pid[0] != "storage" or not isinstance(pid[1], StandIn):
        raise RefusedError("a persistent name that is no storage")
    if len(pid) > 5 and pid[5] is not None:
        raise RefusedError("a part of a storage, as PyTorch before 0.4 wrote")
    name = pid[1].name.rpartition(".")[2]
    kind = _bfloat16() if name == _BFLOAT16 else _STORAGES.get(name)
    if kind is None or not isinstance(pid[2], str) or type(pid[4]) is not int or pid[4] < 0:
        raise RefusedError("a storage of an unknown form")
    return kind, pid[2], pid[4]


def _bfloat16() -> np.dtype[Any]:
    import jax.numpy as jnp  # NumPy has no such type, and few files do

    kind: np.dtype[Any] = np.dtype(jnp.bfloat16)
    return kind


# What stands in for PyTorch's functions.


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_others: Any) -> np.ndarray:
    whole = isinstance(storage, _Storage) and all(_counts(some) for some in ((offset,), shape, strides))
    if not whole or len(shape) != len(strides) or len(shape) > _DIMENSIONS:
        raise RefusedError("a tensor of an unknown form")
    values, count = storage.values, math.prod(shape)
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True)) if count else offset
    if count > max(1, len(values)) or (count and last >= len(values)):
        raise RefusedError("a tensor beyond its numbers")
    steps = [stride * values.itemsize for stride in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False)


def _counts(values: Any) -> bool:
    return isinstance(values, tuple) and all(type(value) is int and 0 <= value < 2**62 for value in values)


def _parameter(tensor: Any, *_others: Any) -> np.ndarray:
    if not isinstance(tensor, np.ndarray):
        raise RefusedError("a parameter that is no tensor")
    return tensor


def _size(shape: Any) -> tuple[int, ...]:
    if not _counts(tuple(shape) if isinstance(shape, list | tuple) else None):
        raise RefusedError("a shape of anything but integers")
    return tuple(shape)


_NAMES: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    **{f"torch.{name}": no_call("a storage") for name in (*_STORAGES, _BFLOAT16)},
}
