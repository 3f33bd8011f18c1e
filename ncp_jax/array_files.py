"""Reads and writes NumPy's files, npy and npz, without pickles; reads within the memory that a file's size may take."""

from __future__ import annotations

import io
import json
import lzma
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import files

LARGEST = 128 * 2**20
"""Maximum bytes of the arrays in an npz file. A small file can hold any number of zeros."""
_HEADER = 2**17  # bytes that hold every header that NumPy reads

# What NumPy and zipfile raise on damaged files, besides ValueError.
_DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    tokenize.TokenError,
    SyntaxError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,  # an encrypted member; also unknown compression, and deep nesting
    TypeError,
)


def read_npy(content: bytes | bytearray) -> np.ndarray:
    """Returns the array of numbers in the bytes of an npy file.

    The array is a copy of bytes, and shares the memory of a bytearray, for files that would not fit twice.

    Raises:
      ValueError: the content is damaged or no such file, or holds anything but numbers.
    """
    file = io.BytesIO(bytes(memoryview(content)[:_HEADER]))
    try:
        version = np.lib.format.read_magic(file)
        readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in readers:
            raise ValueError(f"version {version[0]}.{version[1]} of the format")
        shape, fortran, dtype = readers[version](file)
    except _DAMAGED as error:
        raise ValueError(f"no header ({type(error).__name__}: {error})") from error
    if dtype.hasobject:
        raise ValueError("pickled objects")
    if dtype.kind not in "buif":
        raise ValueError(f"type {dtype}")
    start = file.tell()
    # Before an array is made: the header can claim any size.
    if any(size < 0 for size in shape) or math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError(f"{len(content) - start} bytes for shape {_some(shape)} of {dtype}")
    try:
        found = np.frombuffer(content, dtype, offset=start).reshape(shape, order="F" if fortran else "C")
        return found.copy() if isinstance(content, bytes) else found
    except _DAMAGED as error:  # more dimensions than an array can have, no bytes at all
        raise ValueError(f"shape {_some(shape)} of {dtype} ({error})") from error


def read_npz(content: bytes, *, most: int | None = None) -> dict[str, np.ndarray]:
    """Returns the arrays of numbers in the bytes of an npz file by their names.

    Args:
      content: the bytes.
      most: maximum bytes of the arrays; by default ``LARGEST``.

    Raises:
      ValueError: the content is damaged or no such file, holds anything but numbers, or more than ``most`` bytes.
    """
    limit = LARGEST if most is None else most
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            members = archive.infolist()
            size = sum(member.file_size for member in members)
            if size > limit:
                raise ValueError(f"arrays of {size} bytes, more than {limit}")
            return {member.filename.removesuffix(".npy"): read_npy(archive.read(member)) for member in members}
    except _DAMAGED as error:
        raise ValueError(f"no whole archive ({type(error).__name__}: {error})") from error


def read_headed_npz(content: bytes, form: Any) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Returns the header of an npz file of a format, and its arrays; ``header_array`` made the header.

    Raises:
      ValueError: the content is damaged or no such file, has no header, or is of another format.
    """
    arrays = read_npz(content)
    try:
        header = json.loads(arrays.pop("header").tobytes())
        found = header["format"]
    except (LookupError, TypeError, RecursionError) as error:
        raise ValueError(str(error)) from error
    if found != form:
        raise ValueError(f"format {found}")
    return header, arrays


def header_array(form: Any, content: Mapping[str, Any]) -> np.ndarray:
    """Returns the array called header of a file of a format: its name and JSON-ready facts."""
    return np.frombuffer(json.dumps({"format": form, **content}).encode(), np.uint8)


def write_npz(path: str | os.PathLike[str], arrays: Mapping[str, Any], *, compressed: bool = False) -> Path:
    """Writes arrays by name to an npz file, atomically and without pickles.

    Raises:
      OSError: see ``files.atomic_write``.
      ValueError: an array of objects.
    """
    save = np.savez_compressed if compressed else np.savez
    return files.atomic_write(path, lambda file: save(file, allow_pickle=False, **arrays))


def _some(shape: tuple[Any, ...]) -> str:
    text = "×".join(map(str, shape[:4]))
    return f"{text}×…" if len(shape) > 4 else text or "()"
