"""Keeps compiled programs from one session of the tests to the next, in the cache folder of pytest."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from pathlib import Path

DAYS, MEGABYTES = 30, 1000  # older programs go, and the oldest where there are too many


def bring(kept: Path, folder: Path) -> None:
    """Puts the programs that were kept into the session's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in kept.iterdir():
        try:
            os.link(path, folder / path.name)
        except OSError:  # another file system, or none that knows links
            shutil.copy2(path, folder / path.name)


def keep(folder: Path, kept: Path) -> None:
    """Keeps the session's new programs, but not what a process wrote that was killed meanwhile."""
    from jax._src import compilation_cache

    for path in folder.iterdir():
        if not (kept / path.name).exists() and path.suffix != ".tmp":
            with contextlib.suppress(Exception):  # the decompression of a part of a file raises anything
                compilation_cache.decompress_executable(path.read_bytes())
                part = kept / f"{path.name}.{os.getpid()}.tmp"
                shutil.copy2(path, part)
                part.replace(kept / path.name)
    left, limit = MEGABYTES * 10**6, time.time() - DAYS * 86400
    for path in sorted(kept.iterdir(), key=lambda path: -path.stat().st_mtime):
        left -= path.stat().st_size
        if left < 0 or path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
