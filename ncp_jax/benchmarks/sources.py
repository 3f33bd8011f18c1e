"""Lists the upstream files: address, hash, size, licence and citations of each, from ``sources.toml``."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources

from ncp_jax import checks
from ncp_jax.benchmarks.catalogue import DIGITS, FAMILIES, HELP, LATENCY, RECIPES, SHIPPED, Recipe, bare_names


@dataclasses.dataclass(frozen=True)
class Source:
    """One upstream file.

    Attributes:
      key: path in the cache and in a mirror ("ncp/seg/trainval.pkl").
      family: benchmark of the file ("nas-bench-mr").
      what: one-line description.
      address: URL of the download. It names a commit, so the content is fixed.
      sha256: expected hash, hexadecimal; "" where only ``git_blob`` is known.
      bytes: size in bytes; 0 where it is not known.
      source: publisher.
      licence: licence of the file.
      citations: papers to cite.
      tables: names of the tables made from the file; empty for files used for checks and costs.
      git_blob: name of the file's content in its git repository, a SHA-1, hexadecimal; "" where ``sha256`` is known.
      apart: whether a mirror may lack the file: then "all" and the family do without it.
    """

    key: str
    family: str
    what: str
    address: str
    sha256: str
    bytes: int
    source: str
    licence: str
    citations: tuple[str, ...]
    tables: tuple[str, ...]
    git_blob: str = ""
    apart: bool = False

    @property
    def digest(self) -> str:
        """The hash by which records know the file: its SHA-256, or "git:" and the name of its blob."""
        return self.sha256 or f"git:{self.git_blob}"

    def digest_of(self, content: bytes) -> str:
        """Returns the hash of any bytes in the form of ``digest``."""
        if self.sha256:
            return sha256(content)
        blob = b"blob %d\0" % len(content)
        return f"git:{hashlib.sha1(blob + content, usedforsecurity=False).hexdigest()}"


@functools.cache
def all_sources() -> Mapping[str, Source]:
    """Returns the files in ``sources.toml`` by key, in the order of that file."""
    text = resources.files("ncp_jax.benchmarks").joinpath("sources.toml").read_text(encoding="utf-8")
    document = tomllib.loads(text)
    papers = document["citations"]
    found = {}
    for entry in document["file"]:
        fields = dict(entry)
        fields["citations"] = tuple(papers[paper] for paper in entry["citations"])
        fields["tables"] = tuple(entry["tables"])
        found[entry["key"]] = Source(**fields)
    return found


def select_sources(names: Sequence[str]) -> tuple[Source, ...]:
    """Returns the files for a list of names, each file once, in the order of ``sources.toml``.

    Args:
      names: tables ("nas-bench-mr/seg", or "seg" if only one table has that task), families ("nas-bench-mr"), keys of
        files ("ncp/search_list.txt"), "help" (latencies of all devices) or "all" (all but those). Case does not matter.
        Tables that ship with the package have no upstream file.

    Raises:
      UsageError: a name is unknown (the text lists the nearest ones), or there is no name.
    """
    if isinstance(names, str):
        names = (names,)
    if not names:
        raise checks.UsageError(expected="at least one name", got="none", remedy="name a table, a family or 'all'")
    everything = all_sources()
    chosen: set[str] = set()
    options = ["all", HELP, *FAMILIES, *RECIPES, DIGITS, *SHIPPED, *bare_names(), *everything]
    for name in names:
        option = checks.choose("table, family or file", name, options)
        table = bare_names().get(option, option)
        for key, source in everything.items():
            measured = source.family in LATENCY
            whole = option == (HELP if measured else "all")
            if whole or key == option or source.family == option or table in source.tables:
                chosen.add(key)
    return tuple(source for key, source in everything.items() if key in chosen)


def hashes_of(recipe: Recipe) -> tuple[tuple[str, str], ...]:
    """Returns the files that a table is made from, with their hashes."""
    return tuple((key, all_sources()[key].digest) for key in recipe.files)


def may_lack(source: Source, names: Sequence[str]) -> bool:
    """Returns whether a mirror may lack a file: none of the names is that of the file or of a table made from it."""
    wanted = {name.lower() for name in ([names] if isinstance(names, str) else names)}
    own = {source.key, *source.tables, *(bare for bare, table in bare_names().items() if table in source.tables)}
    return source.apart and wanted.isdisjoint(name.lower() for name in own)


def sha256(content: bytes) -> str:
    """Returns the SHA-256 of bytes, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def check_hash(source: Source, content: bytes, where: str, remedy: str) -> None:
    """Raises DataError unless the bytes are exactly those of the upstream file.

    Args:
      source: the upstream file.
      content: the bytes found.
      where: their origin, for the error text.
      remedy: what the user can do, for the error text.
    """
    found = source.digest_of(content)
    if found != source.digest:
        kind = "SHA-256" if source.sha256 else "blob"
        size = f" ({source.bytes} bytes)" if source.bytes else ""
        raise checks.DataError(
            expected=f"{source.key} with {kind} {source.digest}{size}",
            got=f"{kind} {found} ({len(content)} bytes) at {where}",
            remedy=remedy,
        )
