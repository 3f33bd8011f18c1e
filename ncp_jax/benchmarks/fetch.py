"""Downloads upstream files or copies them from a local mirror. No other module uses the network."""

from __future__ import annotations

import dataclasses
import io
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from ncp_jax import checks, files
from ncp_jax.benchmarks import registry, store
from ncp_jax.benchmarks.sources import Source, all_sources, check_hash, may_lack, select_sources

_WAITS = (1.0, 4.0)  # seconds before the second and the third attempt
_TIMEOUT = 30.0  # seconds to wait for an answer or for data
_MIRROR_REMEDY = "fetch it where there is a network and name the folder that holds the files: --mirror DIR"


@dataclasses.dataclass(frozen=True)
class Fetched:
    """The result of ``fetch_tables`` for one upstream file.

    Attributes:
      file: key of the file.
      action: "present" (in the cache with the right hash), "copied" (from the mirror), "downloaded", or "absent" (a
        file that a mirror may lack, and lacks; only where it was not asked for by name).
      path: path in the cache.
    """

    file: str
    action: Literal["present", "copied", "downloaded", "absent"]
    path: Path


def fetch_tables(
    names: Sequence[str] = ("all",),
    *,
    mirror: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> tuple[Fetched, ...]:
    """Fetches upstream files into the cache, checks their hashes, and converts their tables.

    A file in the cache stays as it is, unless it is altered; then it is replaced. Several processes may fetch at once:
    the first one downloads, and the others wait for it. An interruption leaves only complete files, and the next call
    continues from there.

    Args:
      names: tables ("nas-bench-mr/seg", "seg"), families ("nas-bench-mr", "nas-bench-201", "transnas-micro",
        "transnas-macro"), keys of files ("ncp/search_list.txt"), "help" (latencies of all devices) or "all" (all but
        those).
      mirror: folder with copies of the files under their keys, used instead of the network; ``NCP_JAX_MIRROR`` if None.
      progress: whether to show a progress bar per file, if standard error is a terminal.

    Returns:
      One result per file.

    Raises:
      UsageError: an unknown name.
      FileNotFoundError: the mirror does not exist, or lacks a file; those that it has are fetched first.
      ConnectionError: a download failed three times.
      DataError: the downloaded file, or the mirror's file, has another hash than the one in ``sources.toml``.
      OSError: the cache cannot be written.
    """
    chosen = select_sources(names)
    folder = store.mirror_path(mirror)
    done, missing = [], []
    for source in chosen:
        if folder is not None and may_lack(source, names):
            path = store.raw_path(source)
            if not (path.is_file() or (folder / source.key).is_file()):
                done.append(Fetched(source.key, "absent", path))
                continue
        try:
            done.append(_fetch(source, folder, progress))
        except checks.MissingError as error:  # a mirror without this file may have the others
            missing.append(error)
    here = {result.file for result in done if result.action != "absent"}
    for table in dict.fromkeys(table for source in chosen for table in source.tables):
        if all(source.key in here for source in all_sources().values() if table in source.tables):
            registry.load_arrays(table)
    if len(missing) > 1:
        raise checks.MissingError(
            f"{missing[0]} ({len(missing)} of {len(chosen)} files are missing; the others are here)"
        )
    if missing:
        raise missing[0]
    return tuple(done)


def _fetch(source: Source, mirror: Path | None, progress: bool) -> Fetched:
    path = store.raw_path(source)
    with files.lock(path.with_name(f".{path.name}.lock")):
        if path.is_file() and source.digest_of(path.read_bytes()) == source.digest:
            return Fetched(source.key, "present", path)
        content = _download(source, progress) if mirror is None else _copy(source, mirror)
        files.atomic_write(path, content, remedy=store.WRITE_REMEDY)
    return Fetched(source.key, "downloaded" if mirror is None else "copied", path)


def _copy(source: Source, mirror: Path) -> bytes:
    path = mirror / source.key
    if not path.is_file():
        raise checks.MissingError(
            expected=f"{source.key} in the mirror at {path}",
            got="no such file",
            remedy="complete the mirror, or leave it out to download from the source",
        )
    content = path.read_bytes()
    remedy = "replace the mirror's file by the one of its source"
    check_hash(source, content, str(path), f"{remedy}, {source.address}")
    return content


def _download(source: Source, progress: bool) -> bytes:
    """Downloads a file in at most three attempts and checks its hash. Files are small, so each attempt starts anew."""
    failure: Exception | None = None
    for wait in (0.0, *_WAITS):
        time.sleep(wait)
        try:
            content = _request(source, progress)
            check_hash(source, content, source.address, f"the source may have changed; {_MIRROR_REMEDY}")
            return content
        except OSError as error:  # any failure of the connection, the server or the transfer
            failure = error
        except checks.DataError as error:  # a transfer that was cut short may look complete
            failure = error
    assert failure is not None
    if isinstance(failure, checks.DataError):
        raise failure
    tries = f"{len(_WAITS) + 1} tries"
    remedy = f"check the network and run the command again, or {_MIRROR_REMEDY}"
    cause = f"{type(failure).__name__}: {failure}".replace("\n", " ")[:300]
    text = checks.message(f"to download {source.address}", f"after {tries} {cause}", remedy)
    raise ConnectionError(text) from failure


def _request(source: Source, progress: bool) -> bytes:
    """Downloads a file once, into memory, so that the cache never has a partial file."""
    import pooch  # imported here because importing it takes as long as loading a table
    from tqdm import tqdm

    buffer = io.BytesIO()
    hidden = None if progress else True  # None: hidden where standard error is not a terminal
    with tqdm(total=max(1, source.bytes), desc=source.key, unit="B", unit_scale=True, disable=hidden) as bar:
        downloader = pooch.HTTPDownloader(progressbar=bar, chunk_size=2**16, timeout=_TIMEOUT)
        downloader(source.address, buffer, None)
    return buffer.getvalue()
