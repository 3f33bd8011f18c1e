"""Writes files and appends lines atomically, locks between processes, and finds the package's data and cache."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import errno
import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, TypeVar

from ncp_jax import checks

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

Config = TypeVar("Config")

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def describe_os_error(error: OSError, path: str | os.PathLike[str], remedy: str) -> OSError:
    """Returns an error of the same class with an explained text.

    Args:
      error: error of the operating system.
      path: file or folder that could not be written.
      remedy: what the user can do.

    Returns:
      A new error with the same ``errno``; raise it ``from error``.
    """
    if error.errno in _FULL:
        got = f"a full disk ({error.strerror})"
    elif error.errno in _READ_ONLY:
        got = f"a place that cannot be written ({error.strerror})"
    else:
        got = str(error)
    kind = type(error) if type(error).__module__ == "builtins" else OSError
    described = kind(checks.message(f"to write {os.fspath(path)}", got, remedy))
    # Set errno alone: with strerror, str() would put "[Errno …]" before the text.
    described.errno = error.errno
    return described


def _sync_folder(folder: Path) -> None:
    """Syncs a folder so that a rename in it survives a crash. Only POSIX systems can do this."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems cannot sync a folder. The file itself was synced before its rename.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)


def atomic_write(
    path: str | os.PathLike[str],
    content: bytes | Callable[[BinaryIO], None],
    *,
    remedy: str = "free some space or choose another folder",
) -> Path:
    """Writes a file atomically: at every moment, the path has either the old or the complete new content.

    The content is written to a hidden temporary file in the same folder, synced to the disk, and renamed by
    ``os.replace``. An exception removes the temporary file. A killed process leaves it behind (``.NAME.*.tmp``), and
    the old content in place. With several writers, the last complete file remains. Missing folders are created.

    Args:
      path: the file to write.
      content: bytes, or a function that writes them to a binary file, which is also open for reading.
      remedy: last part of the error text, what the user can do if the file cannot be written.

    Returns:
      ``path``.

    Raises:
      OSError: the disk is full, the folder cannot be written, …; an explained text with the original ``errno``.
      Exception: an exception of the function ``content``.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # tempfile's files are private (0600), but a group may share a cache.
            with open(temporary, "x+b") as file:
                if callable(content):
                    content(file)
                else:
                    file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    except OSError as error:
        raise describe_os_error(error, path, remedy) from error
    return path


def write_csv(
    path: str | os.PathLike[str],
    header: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    remedy: str = "free some space or choose another folder",
) -> Path:
    """Writes a CSV file atomically, with commas, quotes where needed, and line feeds.

    Raises:
      OSError: see ``atomic_write``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return atomic_write(path, text.getvalue().encode(), remedy=remedy)


def append(path: str | os.PathLike[str], lines: bytes, *, remedy: str = "free some space and try again") -> None:
    """Appends lines to a file and syncs it to the disk. A failed write leaves the file unchanged.

    A killed process may leave some of the lines, so a reader has to drop a last line without its end.

    Args:
      path: the file, created if missing; its folder must exist.
      lines: bytes to append.
      remedy: what the user can do if the disk is full.

    Raises:
      OSError: the disk is full, …; an explained text with the original ``errno``.
    """
    try:
        # Unbuffered, since closing the file would write a buffer again after a failed write was cut off.
        with open(path, "ab", buffering=0) as file:
            size = file.seek(0, os.SEEK_END)
            try:
                rest = memoryview(lines)
                while rest:
                    rest = rest[file.write(rest) :]
                os.fsync(file.fileno())
            except BaseException:
                file.truncate(size)
                raise
    except OSError as error:
        raise describe_os_error(error, path, remedy) from error


def user_path(path: str | os.PathLike[str]) -> Path:
    """Returns a path that a user wrote, with the home folder in place of "~".

    Raises:
      UsageError: a "~user" that does not exist, or a NUL, which no path has.
    """
    if "\0" in os.fspath(path):
        raise checks.UsageError(
            expected="the path of a file or folder", got=f"{os.fspath(path)!r}", remedy="leave the NUL character out"
        )
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise checks.UsageError(
            expected="a home folder", got=f"{path} ({error})", remedy="write the whole path"
        ) from error


def expand_home(config: Config) -> Config:
    """Returns a dataclass whose paths begin with the home folder where they began with "~".

    A shell does that for ``--out ~/x``, but not for ``--out=~/x``.

    Raises:
      UsageError: a "~user" that does not exist.
    """
    changed = {}
    for field in dataclasses.fields(config):  # type: ignore[arg-type]
        value = getattr(config, field.name)
        if isinstance(value, Path) and str(value).startswith("~"):
            changed[field.name] = user_path(value)
    return dataclasses.replace(config, **changed) if changed else config  # type: ignore[type-var]


def make_folder(path: str | os.PathLike[str], *, remedy: str = "choose another folder") -> Path:
    """Creates a folder and its parents, and checks that it can be written to.

    Raises:
      OSError: it cannot be created, is a file, or cannot be written.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied", str(path))
    except OSError as error:
        raise describe_os_error(error, path, remedy) from error
    return path


def check_room(folder: str | os.PathLike[str], size: int, *, remedy: str = "free some space and run again") -> None:
    """Checks that the disk has room for a file, by reserving it for a moment; for writers that fail badly without.

    Args:
      folder: an existing folder on that disk.
      size: bytes, > 0.
      remedy: what the user can do.

    Raises:
      OSError: the disk is full, the folder cannot be written; an explained text with the original ``errno``.
    """
    path = Path(folder) / f".room.{os.getpid()}-{secrets.token_hex(4)}.tmp"
    try:
        with open(path, "xb") as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot reserve
            raise describe_os_error(error, folder, remedy) from error
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def lock(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[bool]:
    """Holds an exclusive lock between processes (and threads) while the block runs.

    The lock avoids double work; ``atomic_write``, not the lock, keeps files intact. Where locks are not available (no
    ``fcntl``, a read-only folder, a file system without locks), the block therefore runs without one. The operating
    system releases the lock of a process that dies. The lock file is never removed, since two processes could then lock
    two files of one name.

    Args:
      path: the lock file, created with its folders if missing; or a folder that exists, which needs no lock file.
      wait: whether to wait until the lock is free.

    Yields:
      True if the lock is held.

    Raises:
      BlockingIOError: another process or thread holds the lock, and ``wait`` is False.
    """
    descriptor = _open_lock(Path(path), wait)
    if descriptor is None:
        yield False
        return
    try:
        yield True
    finally:
        os.close(descriptor)


def _open_lock(path: Path, wait: bool) -> int | None:
    """Returns the descriptor of the locked file, or None if locks are not available."""
    if fcntl is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR | os.O_CREAT, 0o666)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        os.close(descriptor)
        raise
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def shipped_folder() -> Path:
    """Returns the folder of the project's own data: in the installed package, or ``benchmarks_data/`` of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "benchmarks_data"
    return inside if inside.is_dir() else package.parent / "benchmarks_data"


def cache_path() -> Path:
    """Returns the folder of fetched and converted files: ``NCP_JAX_DATA``, or ``ncp_jax`` in the platform's cache."""
    chosen = os.environ.get("NCP_JAX_DATA", "")
    if chosen:
        return Path(os.path.abspath(user_path(chosen)))
    import pooch  # imported here because importing it takes as long as loading a table

    return Path(pooch.os_cache("ncp_jax"))
