"""A small CSV table, a grid over it, and what a study's folder holds."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ncp_jax import Table, get_space
from ncp_jax.studies import Grid
from ncp_jax.studies.folder import StudyFolder
from ncp_jax.studies.plan import Plan, make_plan

SPACE = get_space("transnas-micro")
N = 60
SEARCHERS: dict[str, list[dict[str, Any]]] = {
    "random": [{}],
    "evolution": [{"population": [4, 6], "tournament": 2}],
    "local-search": [{"move": ["first", "best"]}],
}


def _text(n: int, seed: int) -> str:
    """Architectures with ties and with two codes of one network; accuracy, another one, a loss, seconds and FLOPs."""
    rng, codes = np.random.default_rng(seed), np.asarray(SPACE.all_codes())
    chosen = codes[np.sort(rng.choice(SPACE.size, n, replace=False))]
    lines = ["architecture,acc,tested,loss,train_s,flops"]
    for code in chosen:
        acc = round(50 + 4 * float(code.sum()) + rng.normal(), 0)
        cells = [acc, round(acc - 3 + 2 * rng.normal(), 2), round(100 - acc + rng.normal(), 1)]
        cells += [int(rng.integers(10, 100)), round(1 + float(code[:3].sum()) + rng.random(), 2)]
        lines.append(",".join([SPACE.to_string(code), *map(str, cells)]))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="session")
def folder_of_tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Holds ``mine.csv`` and ``other.csv``."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "mine.csv").write_text(_text(N, 0))
    (folder / "other.csv").write_text(_text(N, 1))
    return folder


@pytest.fixture(scope="session")
def arguments(folder_of_tables: Path) -> Callable[[str], dict[str, Any]]:
    """What a grid says of one of the CSV files."""

    def of(name: str) -> dict[str, Any]:
        columns = {"maximize": ["acc", "tested"], "minimize": ["loss", "train_s", "flops"], "test": ["tested"]}
        return {"path": str(folder_of_tables / f"{name}.csv"), "space": SPACE.name, **columns}

    return of


@pytest.fixture(scope="session")
def make_grid(arguments: Callable[[str], dict[str, Any]]) -> Callable[..., Grid]:
    """A grid over "mine": three searchers, five methods, 5 seeds, 12 queries; keywords change it."""
    own = {name: arguments(name) for name in ("mine", "other")}
    grid = Grid(SEARCHERS, ("mine",), budget=12, seeds=5, tables=own)
    return lambda **changes: dataclasses.replace(grid, **changes)


@pytest.fixture(scope="session")
def mine(make_grid: Callable[..., Grid]) -> Table:
    return make_grid().load()["mine"]


@pytest.fixture(scope="session")
def records() -> Callable[[Path], list[dict[str, Any]]]:
    """The records of a finished study."""
    return lambda folder: [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


class Folders:
    """Studies' folders without searches."""

    versions: ClassVar = {"ncp-jax": "1", "jax": "2", "jaxlib": "3", "numpy": "4", "scipy": "no matter"}

    def open(self, path: Path, plan: Plan, *, versions: dict[str, str] | None = None, **options: Any) -> StudyFolder:
        return StudyFolder(path, plan, versions or self.versions, **options)

    def work(self, folder: StudyFolder, packs: int | None = None) -> int:
        """Records what is missing of some packs, with results that name the run; returns the number of runs."""
        done = 0
        for pack in folder.plan.packs[:packs]:
            places = folder.missing(pack)
            if places:
                folder.add(pack, places, [{"of": f"{pack.methods[i]} {pack.seeds[i]}"} for i in places])
            done += len(places)
        return done

    def content(self, folder: Path) -> dict[str, bytes]:
        """Its files, locks left out."""
        return {p.name: p.read_bytes() for p in folder.iterdir() if not p.name.endswith(".lock")}


@pytest.fixture(scope="session")
def folders() -> Folders:
    return Folders()


@pytest.fixture(scope="session")
def two_tables(make_grid: Callable[..., Grid]) -> Grid:
    """50 runs."""
    return make_grid(benchmarks=("mine", "other"))


@pytest.fixture(scope="session")
def plan(two_tables: Grid) -> Plan:
    return make_plan(two_tables)


@pytest.fixture(scope="session")
def recorded(plan: Plan, folders: Folders, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The records of ``work`` on both tables, done at once."""
    path = tmp_path_factory.mktemp("recorded")
    with folders.open(path, plan) as folder:
        assert folders.work(folder) == plan.size == 50
        assert folder.finish()
    return (path / "records.jsonl").read_bytes()
