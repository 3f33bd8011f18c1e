"""Files written whole or not at all, lines appended whole or not at all, a lock between processes, shipped data."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

from ncp_jax import checks

try:
    import fcntl
except ImportError:  # not a POSIX system
    fcntl = None  # type: ignore[assignment]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_READ_ONLY = {errno.EROFS, errno.EACCES, errno.EPERM}


def describe_os_error(error: OSError, path: str | os.PathLike[str], remedy: str) -> OSError:
    """Returns an error of the same class whose text says what was found and what to do.

    Args:
      error: what the operating system raised.
      path: the file or folder that was to be written.
      remedy: what the user can do about it.

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
    # errno alone: with strerror set as well, str() would put "[Errno …]" before the sentence.
    described.errno = error.errno
    return described


def _sync_folder(folder: Path) -> None:
    """Makes a rename durable where folders can be synced (POSIX); elsewhere the rename is atomic but may be late."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems refuse to sync a folder; the file itself was synced before its rename.
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
    """Writes a file so that at every moment its name means the old content or the whole new one.

    The content goes to a hidden temporary file in the same folder, is synced to the disk, and takes the name in one
    ``os.replace``. An exception removes the temporary file; a killed process leaves it (``.NAME.*.tmp``) and the name
    untouched. Concurrent writers of one name do no harm: the last whole file stays. Missing folders are made.

    Args:
      path: the file to write.
      content: its bytes, or a function that writes them to the binary file (open for reading too) it is given.
      remedy: the last part of the error text, what the user can do when the place cannot be written.

    Returns:
      ``path``.

    Raises:
      OSError: the disk is full, the folder cannot be written, …: one sentence; ``errno`` is kept.
      Exception: whatever the function ``content`` raises.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            # Not tempfile: its files are private (0600), while a cache may be shared by a group.
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
    """Writes a CSV file atomically: comma-separated, cells quoted where they need it, lines ended by a line feed.

    Raises:
      OSError: see ``atomic_write``.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return atomic_write(path, text.getvalue().encode(), remedy=remedy)


def append(path: str | os.PathLike[str], lines: bytes, *, remedy: str = "free some space and try again") -> None:
    """Appends whole lines to a file, synced to the disk; a write that fails leaves the file as it was.

    A killed process may leave a part of the lines behind: whoever reads the file drops a last line without its end.

    Args:
      path: made if missing, its folder is not.
      lines: what to add.
      remedy: what the user can do when there is no room.

    Raises:
      OSError: the disk is full, …: one sentence; ``errno`` is kept.
    """
    try:
        # Unbuffered: a buffer would be written again when the file is closed, after what failed was cut off.
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


def make_folder(path: str | os.PathLike[str], *, remedy: str = "choose another folder") -> Path:
    """Makes a folder (and its parents) that can be written to.

    Raises:
      OSError: it cannot be made, is a file, or cannot be written: one sentence.
    """
    path = Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        if not os.access(path, os.W_OK):
            raise PermissionError(errno.EACCES, "permission denied", str(path))
    except OSError as error:
        raise describe_os_error(error, path, remedy) from error
    return path


@contextlib.contextmanager
def lock(path: str | os.PathLike[str], *, wait: bool = True) -> Iterator[bool]:
    """Holds an exclusive lock between processes (and threads) while the block runs; waits until it is free.

    The lock saves double work; it is not what keeps files whole (``atomic_write`` does). So where it cannot be had
    (no ``fcntl``, a read-only folder, a file system without locks) the block runs without it. The operating system
    frees the lock of a process that dies. The lock file stays: removing it would let two processes hold "the" lock.

    Args:
      path: the lock file, made if missing; missing folders are made.
      wait: whether to wait for another holder.

    Yields:
      Whether the lock is held.

    Raises:
      BlockingIOError: another process or thread holds it, and ``wait`` is off.
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
    """Returns the descriptor of the locked file, or None where locks cannot be had."""
    if fcntl is None:
        return None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
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
    """Folder of the project's own data: inside an installed package, or ``benchmarks_data/`` of a checkout."""
    package = Path(__file__).resolve().parent
    inside = package / "benchmarks_data"
    return inside if inside.is_dir() else package.parent / "benchmarks_data"


def cache_path() -> Path:
    """Returns the folder of downloaded and converted files: ``NCP_JAX_DATA``, or ncp_jax in the platform's cache."""
    chosen = os.environ.get("NCP_JAX_DATA", "")
    if chosen:
        return Path(os.path.abspath(Path(chosen).expanduser()))
    import pooch  # here, not above: it takes as long to import as a table to load

    return Path(pooch.os_cache("ncp_jax"))
