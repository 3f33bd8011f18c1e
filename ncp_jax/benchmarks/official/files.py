"""Opens official files that are pickles, alone or in a bz2 stream, within time and memory."""

from __future__ import annotations

import bz2
import io
import mmap
from pathlib import Path
from typing import Any

from ncp_jax import checks
from ncp_jax.benchmarks.pickles import MEMORY, read_pickle
from ncp_jax.benchmarks.torch_files import looks_like

SMALL = 8 * 2**20  # bytes that any bz2 stream may hold
RATIO = 16  # bytes that a larger one may hold for each of its own; the published ones hold four
_PART = 2**20


def read_pickled(path: Path, *, memory: float = MEMORY) -> Any:
    """Reads a pickle, which may be in a bz2 stream (``.pickle.pbz2``); see ``pickles.read_pickle``.

    Raises:
      DataError: another file, a damaged one, one that needs a name that is not allowed or too much memory, or a stream
        that holds far more than its size.
    """
    with open(path, "rb") as file:
        head = file.read(512)
        if head[:3] == b"BZh":
            file.seek(0)
            size = path.stat().st_size
            if 2 * size > memory:
                raise checks.DataError(
                    expected=f"a bz2 stream that {memory / 1e9:g} GB hold at {path}",
                    got=f"one of {size / 1e9:g} GB",
                    remedy="import the folder with a file for each architecture, or give --memory-gb",
                )
            content = _decompressed(path, file.read(), memory)
            if content[:1] != b"\x80":
                raise _other(path, f"a bz2 stream of {looks_like(content[:512])}")
            return read_pickle(io.BytesIO(content), len(content), str(path), memory=memory)
        if head[:1] != b"\x80":
            raise _other(path, looks_like(head) if head else "an empty file")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            return read_pickle(mapped, len(mapped), str(path), memory=memory)


def _decompressed(path: Path, content: bytes, memory: float) -> bytes:
    most = min(max(SMALL, RATIO * len(content)), int(memory))
    parts, size, stream = [], 0, bz2.BZ2Decompressor()
    try:
        while not stream.eof:
            part = stream.decompress(content if stream.needs_input else b"", _PART)
            content = b""
            if not part and stream.needs_input and not stream.eof:
                raise EOFError("the stream has no end")
            parts.append(part)
            size += len(part)
            if size > most:
                raise checks.DataError(
                    expected=f"at most {most} bytes in the bz2 stream {path}",
                    got="more",
                    remedy="use the file as its source publishes it",
                )
    except (OSError, EOFError, ValueError) as error:
        raise _other(path, f"a damaged bz2 stream ({error})") from error
    return b"".join(parts)


def _other(path: Path, got: str) -> checks.DataError:
    return checks.DataError(
        expected=f"a pickle at {path}", got=got, remedy="use the file as its source publishes it, and name its kind"
    )
