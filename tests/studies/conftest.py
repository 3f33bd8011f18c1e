"""A small CSV table, a grid over it, and what a study's folder holds."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ncp_jax import Table
from ncp_jax.studies import Grid, read_grid
from ncp_jax.studies.folder import StudyFolder
from ncp_jax.studies.plan import Plan, make_plan


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


@pytest.fixture
def read(tmp_path: Path) -> Callable[[str], Grid]:
    """The grid that a text describes."""

    def read_text(text: str) -> Grid:
        (tmp_path / "grid.toml").write_text(text, encoding="utf-8")
        return read_grid(tmp_path / "grid.toml")

    return read_text
