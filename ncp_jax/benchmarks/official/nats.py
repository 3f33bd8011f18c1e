"""Reads NATS-Bench (Dong et al., TPAMI 2021, arXiv 2009.00437) and NAS-Bench-201 (ICLR 2020, arXiv 2001.00326).

NATS-Bench is published as a folder with one file for each architecture (``NATS-tss-v1_0-3ffb9-simple``), and as one
file with all of them; NAS-Bench-201 as one file of ``torch.save``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ncp_jax import checks
from ncp_jax.benchmarks.official.collected import need
from ncp_jax.benchmarks.official.files import read_pickled
from ncp_jax.benchmarks.official.reading import Reading
from ncp_jax.benchmarks.official.results import read_results
from ncp_jax.benchmarks.stand_ins import brief, not_as_published
from ncp_jax.benchmarks.torch_files import read_torch

META = "meta.pickle.pbz2"
_FILE = re.compile(r"\d{6}\.pickle\.pbz2")
NATS_NAMES = {"01": "01", "12": "12", "90": "90", "200": "200"}
NB201_NAMES = {"less": "12", "full": "200"}


def read_nats(path: Path, reading: Reading) -> None:
    """Reads a folder or a file of NATS-Bench into one table for each data set and set of hyper-parameters."""
    if path.is_dir():
        _read_folder(path, reading)
        return
    content = read_pickled(path, memory=reading.memory)
    _read_all(content, NATS_NAMES, path.name, reading)


def read_nas_bench_201(path: Path, reading: Reading) -> None:
    """Reads a file of NAS-Bench-201 into one table for each data set and number of epochs, 12 or 200."""
    _read_all(read_torch(path, memory=reading.memory), NB201_NAMES, path.name, reading)


def default_name(path: Path) -> str:
    """Returns the name of an import of a path of NATS-Bench: that of the space by the name of the path."""
    for part in ("tss", "sss"):
        if part in path.name.lower():
            return f"nats-{part}"
    return "nats"


def _read_folder(path: Path, reading: Reading) -> None:
    files = sorted(file for file in path.iterdir() if _FILE.fullmatch(file.name))
    if not files:
        raise checks.DataError(
            expected=f"files like 000000.pickle.pbz2 in {path}",
            got=f"{sum(1 for _ in path.iterdir())} others",
            remedy="name the folder that the archive of NATS-Bench unpacks to",
        )
    whole, space = 0, ""
    if (path / META).is_file():
        meta = need(read_pickled(path / META, memory=reading.memory), ("meta_archs",), META, META)
        whole = len(meta["meta_archs"]) if isinstance(meta["meta_archs"], list) else 0
    else:
        reading.notice(f"{path.name}: {META} is not there; architectures are known by their files alone")
    for place, file in enumerate(files):
        content = read_pickled(file, memory=reading.memory)
        found = _space(content, file.name)
        if space and found != space:
            raise checks.DataError(
                expected=f"architectures of {space} in {file}", got=f"one of {found}", remedy="import them one by one"
            )
        space = found
        read_results(content, NATS_NAMES, space, f"{path.name}/{file.name}", reading)
        reading.progress(place + 1, len(files))
    reading.partial(path.name, len(files), whole)


def _read_all(content: Any, names: Mapping[str, str], where: str, reading: Reading) -> None:
    infos = need(need(content, ("arch2infos",), "the file", where)["arch2infos"], (), "arch2infos", where)
    if not infos:
        raise checks.DataError(expected=f"architectures in {where}", got="none", remedy="use another file")
    for place, results in enumerate(infos.values()):
        read_results(results, names, _space(results, where), where, reading)
        reading.progress(place + 1, len(infos))
    archs = content.get("meta_archs")
    reading.partial(where, len(infos), len(archs) if isinstance(archs, list) else 0)


def _space(results: Any, where: str) -> str:
    """Returns the space of an architecture by how its string looks."""
    for result in need(results, (), "the results of an architecture", where).values():
        text = result.get("arch_str") if isinstance(result, Mapping) else None
        if isinstance(text, str) and "~" in text:
            return "nas-bench-201"
        if isinstance(text, str) and re.fullmatch(r"\d+(:\d+)*", text):
            return "nats-size"
        raise not_as_published("an architecture of NATS-Bench as arch_str", where, brief(text))
    raise checks.DataError(expected=f"results in {where}", got="none", remedy="leave that file out")
