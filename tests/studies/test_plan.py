from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import Table, list_tables, load_table
from ncp_jax.checks import UsageError
from ncp_jax.searchers import Candidates
from ncp_jax.studies import Grid
from ncp_jax.studies.plan import Plan, make_plan, run_bytes

Runs = list[tuple[str, str, int]]


def runs_of(plan: Plan) -> Runs:
    return [(p.benchmark, m, s) for p in plan.packs for m, s in zip(p.methods, p.seeds, strict=True)]


def packed(plan: Plan) -> list[tuple[dict[str, int], int]]:
    """For each pack how many runs of each method it has, and its size."""
    return [(dict(Counter(pack.methods)), pack.lanes) for pack in plan.packs]


def test_every_run_once(make_grid: Callable[..., Grid]) -> None:
    plan = make_plan(make_grid(benchmarks=("mine", "other"), first_seed=7))
    runs = runs_of(plan)
    assert plan.size == len(runs) == len(set(runs)) == 2 * 5 * 5
    assert {seed for _, _, seed in runs} == set(range(7, 12))
    assert {name for name, _, _ in runs} == {"mine", "other"}
    for pack in plan.packs:
        assert [plan.methods[label].settings() for label in pack.methods] == [s.settings() for s in pack.searchers]


def test_numeric_settings_share_a_pack_and_static_ones_do_not(make_grid: Callable[..., Grid]) -> None:
    assert packed(make_plan(make_grid())) == [
        ({"random": 5}, 5),
        ({"evolution population=4": 5, "evolution population=6": 5}, 10),
        ({"local-search move=first": 5}, 5),
        ({"local-search move=best": 5}, 5),
    ]


def test_a_host_searcher_has_packs_of_its_own(make_grid: Callable[..., Grid]) -> None:
    searchers: Any = {"arch-graph": [{"steps": [5, 10]}], "random": [{}]}
    plan = make_plan(make_grid(searchers=searchers, seeds=40), devices=8, memory_mb=0.1)
    of_host = [item for item in packed(plan) if "random" not in item[0]]
    assert of_host == [
        ({"arch-graph steps=5": 32}, 32),
        ({"arch-graph steps=5": 8}, 32),
        ({"arch-graph steps=10": 32}, 32),
        ({"arch-graph steps=10": 8}, 32),
    ]


def test_packs_are_as_large_as_memory_allows(make_grid: Callable[..., Grid]) -> None:
    grid = make_grid(searchers={"random": [{}]}, seeds=100)
    plan = make_plan(grid)
    each = run_bytes(plan.methods["random"], Candidates.of(plan.tables["mine"]), plan.view("mine"))
    assert each > 2 * (2 * 4 * 12)  # rows and values of 12 queries, twice, and what is known
    assert packed(plan) == [({"random": 100}, 100)]
    small = make_plan(grid, memory_mb=40.5 * each / 1e6)
    assert [sum(methods.values()) for methods, _ in packed(small)] == [40, 40, 20]
    assert {lanes for _, lanes in packed(small)} == {40}
    with pytest.raises(UsageError, match=r"expected at least 0\.\d+ MB for one run of random, got 0\.\d+ MB; allow"):
        make_plan(grid, memory_mb=0.5 * each / 1e6)
    for wrong in (0, -1, float("nan")):
        with pytest.raises(UsageError, match=r"expected --memory-mb to be a number > 0"):
            make_plan(grid, memory_mb=wrong)


def test_devices_get_a_pack_each(make_grid: Callable[..., Grid]) -> None:
    plan = make_plan(make_grid(searchers={"random": [{}]}, seeds=20), devices=8)
    assert [(sum(methods.values()), lanes) for methods, lanes in packed(plan)] == [(3, 3)] * 6 + [(2, 3)]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 25, 26, 61])
def test_shares_are_disjoint_and_complete(make_grid: Callable[..., Grid], count: int) -> None:
    """Whatever devices and memory the machine of each has."""
    grid = make_grid(benchmarks=("mine", "other"), searchers=make_grid().searchers | {"arch-graph": [{}]})
    devices, memory = [1, 8, 3], [None, 0.01, 1.0]
    options = [{"devices": devices[i % 3], "memory_mb": memory[i % 3]} for i in range(count)]
    shares = [runs_of(make_plan(grid, shard=(i, count), **options[i])) for i in range(count)]
    together = [run for share in shares for run in share]
    assert len(together) == len(set(together)) == 60
    assert set(together) == set(runs_of(make_plan(grid)))
    # A host searcher's seeds stay together; of the others each share has as many as another, give or take a block.
    others = [sum(method != "arch-graph" for _, method, _ in share) for share in shares]
    assert max(others) <= -(-50 // count) + 8


def test_shares_count_from_0_or_from_1(make_grid: Callable[..., Grid]) -> None:
    for index in range(3):
        low, high = (runs_of(make_plan(make_grid(), shard=(i, 3))) for i in (index, index + 3))
        assert low == high


def test_a_share_has_its_part_of_every_method(make_grid: Callable[..., Grid]) -> None:
    grid = make_grid(seeds=9)
    for index in range(3):
        counts = Counter(method for _, method, _ in runs_of(make_plan(grid, shard=(index, 3))))
        assert counts["random"] == counts["local-search move=best"] == 3
        assert sum(count for method, count in counts.items() if "evolution" in method) == 6


CHANGES: dict[str, dict[str, Any]] = {
    "budget": {"budget": 13},
    "repeats": {"repeats": "counted"},
    "seconds": {"seconds": 500.0, "seconds_column": "train_s"},
    "column of seconds": {"seconds_column": "train_s"},
    "metric": {"metric": "loss"},
    "judge": {"judge": "tested"},
    "settings": {"searchers": {"evolution": [{"population": 7, "tournament": 2}]}},
    "searcher": {"searchers": {"random": [{}]}},
}


def cells_of(grid: Grid) -> list[str]:
    plan = make_plan(grid)
    return [plan.cell(*run) for run in runs_of(plan)]


@pytest.fixture
def one(make_grid: Callable[..., Grid]) -> Grid:
    return make_grid(searchers={"evolution": [{"population": 4, "tournament": 2}]}, seeds=2)


@pytest.mark.parametrize("name", CHANGES)
def test_the_hash_knows_what_results_depend_on(one: Grid, name: str) -> None:
    assert not set(cells_of(one)) & set(cells_of(dataclasses.replace(one, **CHANGES[name])))


def test_the_hash_knows_the_data(one: Grid, arguments: Callable[[str], dict[str, Any]]) -> None:
    other = dataclasses.replace(one, tables={"mine": arguments("other")})
    assert not set(cells_of(one)) & set(cells_of(other))


def test_all_hashes_of_a_study_differ(make_grid: Callable[..., Grid]) -> None:
    cells = cells_of(make_grid(benchmarks=("mine", "other")))
    assert len(set(cells)) == len(cells) == 50
    assert all(len(cell) == 16 and int(cell, 16) >= 0 for cell in cells)


def test_the_hash_does_not_know_what_changes_nothing(one: Grid, make_grid: Callable[..., Grid]) -> None:
    """More seeds, other methods, defaults written out, the order of settings, where the file lies."""
    cells = set(cells_of(one))
    assert cells < set(cells_of(dataclasses.replace(one, seeds=4)))
    assert set(cells_of(dataclasses.replace(one, first_seed=1))) & cells
    assert cells < set(cells_of(make_grid()))
    turned = dataclasses.replace(one, searchers={"evolution": [{"tournament": 2.0, "population": 4}]})
    assert set(cells_of(turned)) == cells


def test_hashes_are_the_same_in_another_process(one: Grid, tmp_path: Path) -> None:
    script = (
        "import json, sys\n"
        "from ncp_jax.studies.grid import grid_of\n"
        "from ncp_jax.studies.plan import make_plan\n"
        "plan = make_plan(grid_of(json.loads(sys.argv[1])))\n"
        "print(json.dumps([plan.cell(p.benchmark, m, s) for p in plan.packs for m, s in zip(p.methods, p.seeds)]))\n"
    )
    environment = os.environ | {"PYTHONHASHSEED": "5"}
    command = [sys.executable, "-c", script, json.dumps(one.to_json())]
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == cells_of(one)


def test_what_answers_is_what_the_grid_says(make_grid: Callable[..., Grid], mine: Table) -> None:
    view = make_plan(make_grid(metric="loss", repeats="counted", seconds=70, seconds_column="train_s")).view("mine")
    np.testing.assert_array_equal(view.values, -np.asarray(mine.column("loss")))
    assert (view.budget, view.repeats, float(view.limit)) == (12, "counted", 70.0)


def test_views_are_made_once_a_benchmark(make_grid: Callable[..., Grid]) -> None:
    plan = make_plan(make_grid(benchmarks=("mine", "other")))
    assert plan.view("mine") is plan.view("mine") is not plan.view("other")


DIGITS = [name for name in list_tables() if name.startswith("digits/")]
RELATIONS: dict[str, Any] = {"arch-graph": [{"steps": 5}], "evolution": [{"population": 4, "tournament": 2}]}


def test_hashes_of_earlier_studies_stay() -> None:
    """Written by a version without source tasks; studies in its folders go on."""
    plan = make_plan(Grid(RELATIONS, ("digits/class",), budget=12, seeds=2))
    cells = [plan.cell("digits/class", method, seed) for method in plan.methods for seed in (0, 1)]
    assert cells == ["33a2f25b7e11e402", "a2d360131a7d4fa1", "64d38670afa226af", "39e70d92ce636334"]


def test_sources_are_the_other_tables_of_the_grid() -> None:
    values = {name: np.asarray(load_table(name).oriented(load_table(name).main.name)) for name in DIGITS}
    for sources, chosen in {
        "none": {name: [] for name in DIGITS},
        "one": {name: [DIGITS[(i + 1) % len(DIGITS)]] for i, name in enumerate(DIGITS)},
        "all": {name: [other for other in DIGITS if other != name] for name in DIGITS},
        (DIGITS[1],): {name: [DIGITS[1]] if name != DIGITS[1] else [] for name in DIGITS},
    }.items():
        plan = make_plan(Grid(RELATIONS, tuple(DIGITS), budget=12, seeds=2, sources=sources))
        for number, (name, others) in enumerate(chosen.items()):
            found = plan.sources(name)
            assert found is plan.sources(name)
            assert (found.number, found.budget) == (number, None)
            assert len(found.values) == len(others)
            for given, other in zip(found.values, others, strict=True):
                np.testing.assert_array_equal(given, values[other])
    assert make_plan(Grid(RELATIONS, tuple(DIGITS), budget=12, seeds=2)).sources(DIGITS[0]) is None


def test_the_hash_knows_the_sources() -> None:
    grid = Grid(RELATIONS, tuple(DIGITS), budget=12, seeds=2)
    changes: list[dict[str, Any]] = [{}, *({"sources": s} for s in ("none", "one", "all"))]
    changes.append({"sources": "all", "source_budget": 20})
    cells = [cell for change in changes for cell in cells_of(dataclasses.replace(grid, **change))]
    assert len(set(cells)) == len(cells)
    # How the sources are named does not matter.
    named, one = (make_plan(dataclasses.replace(grid, sources=s)) for s in ((DIGITS[1],), "one"))
    assert named.cell(DIGITS[0], "evolution", 0) == one.cell(DIGITS[0], "evolution", 0)


def test_sources_that_do_not_fit() -> None:
    one = Grid(RELATIONS, ("digits/class",), budget=12, seeds=2, sources="all")
    with pytest.raises(UsageError, match=r"expected two tasks or more with sources, got 1; choose sources"):
        make_plan(one)
    with pytest.raises(UsageError, match=r"expected a source budget from 2 to the \d+ architectures .* got 999999"):
        make_plan(dataclasses.replace(one, benchmarks=tuple(DIGITS), source_budget=999_999))
