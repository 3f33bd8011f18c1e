"""Lists the upstream files: address, hash, size, licence and citations of each, from ``sources.toml``."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources

from ncp_jax import checks
from ncp_jax.benchmarks.catalogue import DIGITS, FAMILIES, RECIPES, SHIPPED, bare_names


@dataclasses.dataclass(frozen=True)
class Source:
    """One upstream file.

    Attributes:
      key: path in the cache and in a mirror ("ncp/seg/trainval.pkl").
      family: benchmark of the file ("nas-bench-mr").
      what: one-line description.
      address: URL of the download. It names a commit, so the content is fixed.
      sha256: expected hash, hexadecimal.
      bytes: size in bytes.
      source: publisher.
      licence: licence of the file.
      citations: papers to cite.
      tables: names of the tables made from the file; empty for files used for checks and costs.
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
        files ("ncp/search_list.txt") or "all". Case does not matter. Tables that ship with the package have no
        upstream file.

    Raises:
      UsageError: a name is unknown (the text lists the nearest ones), or there is no name.
    """
    if isinstance(names, str):
        names = (names,)
    if not names:
        raise checks.UsageError(expected="at least one name", got="none", remedy="name a table, a family or 'all'")
    everything = all_sources()
    chosen: set[str] = set()
    options = ["all", *FAMILIES, *RECIPES, DIGITS, *SHIPPED, *bare_names(), *everything]
    for name in names:
        option = checks.choose("table, family or file", name, options)
        table = bare_names().get(option, option)
        for key, source in everything.items():
            if option == "all" or key == option or source.family == option or table in source.tables:
                chosen.add(key)
    return tuple(source for key, source in everything.items() if key in chosen)


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
    found = sha256(content)
    if found != source.sha256:
        raise checks.DataError(
            expected=f"{source.key} with SHA-256 {source.sha256} ({source.bytes} bytes)",
            got=f"SHA-256 {found} ({len(content)} bytes) at {where}",
            remedy=remedy,
        )
