"""A study whose grid changes: what is on record stays, the rest is kept beside, and nothing is mixed."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncp_jax.checks import UsageError
from ncp_jax.studies import Grid, extension
from ncp_jax.studies import folder as store
from ncp_jax.studies.folder import StudyFolder
from ncp_jax.studies.plan import Plan, make_plan

# The runs of one grid are those of the others, except for the budget.
SMALL: dict[str, list[dict[str, Any]]] = {"random": [{}], "evolution": [{"population": 4, "tournament": 2}]}
LARGER: dict[str, list[dict[str, Any]]] = {
    "local-search": [{"move": "best"}],
    "evolution": [{"population": [4, 6], "tournament": 2}],
    "random": [{}],
}
CHANGES: dict[str, dict[str, Any]] = {
    "more seeds": {"seeds": 4},
    "other first seed": {"first_seed": 2},
    "fewer seeds": {"seeds": 1},
    "more methods": {"searchers": LARGER},
    "fewer methods": {"searchers": {"random": [{}]}},
    "more benchmarks": {"benchmarks": ("other", "mine")},
    "budget": {"budget": 13},
    "seconds": {"seconds": 700.0},
    "all": {"seeds": 4, "searchers": LARGER, "benchmarks": ("mine", "other"), "budget": 13},
}


@pytest.fixture(scope="module")
def plans(make_grid: Callable[..., Grid]) -> dict[str, Plan]:
    """The plan of each change, and under "" that of the grid of before."""
    grid = make_grid(searchers=SMALL, seeds=3, seconds=600, seconds_column="train_s")
    return {"": make_plan(grid)} | {name: make_plan(dataclasses.replace(grid, **c)) for name, c in CHANGES.items()}


def work(folder: StudyFolder, packs: int | None = None) -> int:
    """Records what is missing, with results that do not name the label; returns the number of runs."""
    done = 0
    for pack in folder.plan.packs[:packs]:
        places = folder.missing(pack)
        results = [
            {"of": str(pack.searchers[i].settings()), "budget": folder.plan.grid.budget, "at": [1]} for i in places
        ]
        if places:
            folder.add(pack, places, results)
        done += len(places)
    return done


def whole(plan: Plan, path: Path, folders: Any) -> bytes:
    """The records of a study in one go."""
    with folders.open(path, plan) as folder:
        work(folder)
        assert folder.finish()
    return (path / "records.jsonl").read_bytes()


def cells(*files: Path) -> set[str]:
    return {json.loads(line)["cell"] for path in files for line in path.read_text().splitlines()}


@pytest.mark.parametrize("packs", [None, 1])
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_grid_ends_as_in_one_go(
    plans: dict[str, Plan], name: str, packs: int | None, tmp_path: Path, folders: Any
) -> None:
    """Also from an unfinished study; and nothing that was on record is lost."""
    old, new = plans[""], plans[name]
    wanted = whole(new, tmp_path / "at once", folders)
    path = tmp_path / "out"
    with folders.open(path, old) as folder:
        before = work(folder, packs)
        folder.finish()
        folder.add_session({"runs": before})
    had = cells(*path.glob("records*.jsonl"))
    both = had & cells(tmp_path / "at once" / "records.jsonl")
    with folders.open(path, new, resume=True) as folder:
        assert folder.done == len(both)
        assert work(folder) == new.size - len(both)
        assert folder.finish()
        gone = len(had - both)
        assert folder.told == (
            [f"the grid has changed: {gone} runs that it does not ask for are kept in {path} (earlier-1)"]
            if gone
            else []
        )
    assert (path / "records.jsonl").read_bytes() == wanted
    assert json.loads((path / "study.json").read_text())["grid"] == json.loads(json.dumps(new.grid.to_json()))
    assert had <= cells(path / "records.jsonl", *path.glob("earlier-*/records.jsonl"))
    # What sessions did at another budget went along with their runs.
    assert (path / "sessions.jsonl").exists() is (len(both) > 0 or not gone)
    # Back to the grid of before: what is missing comes from the earlier folder.
    with folders.open(path, old, resume=True) as folder:
        assert folder.done >= before
        work(folder)
        assert folder.finish()
    assert (path / "records.jsonl").read_bytes() == whole(old, tmp_path / "old", folders)


def test_the_earlier_folder_is_the_study_as_it_was(plans: dict[str, Plan], tmp_path: Path, folders: Any) -> None:
    records = whole(plans[""], tmp_path, folders)
    study = (tmp_path / "study.json").read_bytes()
    for name in ("summary.json", "report.html", "curves.csv", "ranks.png", "notes.txt"):
        (tmp_path / name).write_text("of the first grid")
    for _ in range(3):  # there and back again: one copy is enough
        for name in ("budget", ""):
            with folders.open(tmp_path, plans[name], resume=True) as folder:
                work(folder)
                assert folder.finish()
    earlier = {p.name: (p / "records.jsonl").read_bytes() for p in tmp_path.glob("earlier-*")}
    assert set(earlier) == {"earlier-1", "earlier-2"}
    assert earlier["earlier-1"] == (tmp_path / "records.jsonl").read_bytes() == records
    assert (tmp_path / "earlier-1" / "study.json").read_bytes() == study
    report = {p.name for p in (tmp_path / "earlier-1").iterdir()} - {"study.json", "records.jsonl"}
    assert report == {"summary.json", "report.html", "curves.csv", "ranks.png"}
    assert {p.name for p in tmp_path.glob("[a-z]*.*")} == {"study.json", "records.jsonl", "notes.txt"}
    assert json.loads((tmp_path / "earlier-2" / "study.json").read_text())["budget"] == 13


def test_a_damaged_line_is_all_that_a_change_loses(plans: dict[str, Plan], tmp_path: Path, folders: Any) -> None:
    wanted = whole(plans["all"], tmp_path / "at once", folders)
    for name in ("more seeds", "fewer seeds", "budget"):
        path = tmp_path / name
        lines = whole(plans[""], path, folders).splitlines(keepends=True)
        (path / "records.jsonl").write_bytes(b"".join([lines[0], b'{"cell"\n', *lines[2:], b"\0\0"]))
        with folders.open(path, plans[name], resume=True) as folder:
            assert folder.dropped == 2
        with folders.open(path, plans["all"], resume=True) as folder:
            assert folder.dropped == 0
            work(folder)
            assert folder.finish()
        assert (path / "records.jsonl").read_bytes() == wanted


class KilledError(BaseException):
    """What ends a process in the middle of a change."""


def kill_after(writes: int, patch: pytest.MonkeyPatch) -> None:
    """Lets a number of files be replaced, removed and appended to, and then none."""
    left = [writes]

    def counted(write: Callable[..., Any]) -> Callable[..., Any]:
        def one(*arguments: Any, **options: Any) -> Any:
            if left[0] == 0:
                raise KilledError
            left[0] -= 1
            return write(*arguments, **options)

        return one

    patch.setattr("ncp_jax.files.os.replace", counted(os.replace))
    patch.setattr(Path, "unlink", counted(Path.unlink))
    patch.setattr(store, "append", counted(store.append))


@pytest.mark.parametrize("name", ["fewer seeds", "more methods", "budget"])
def test_killed_at_any_write_of_a_change(plans: dict[str, Plan], name: str, tmp_path: Path, folders: Any) -> None:
    """After every number of writes, the folder is one of either grid, and nothing that was there is run again."""
    old, new = plans[""], plans[name]
    wanted = {"": whole(old, tmp_path / "old", folders), name: whole(new, tmp_path / "new", folders)}
    with folders.open(tmp_path / "unfinished", old) as folder:
        work(folder)
        folder.add_session({"runs": 1})
    common = len(cells(tmp_path / "old" / "records.jsonl") & cells(tmp_path / "new" / "records.jsonl"))
    for writes in range(30):
        path = tmp_path / str(writes)
        shutil.copytree(tmp_path / "unfinished", path)
        killed = False
        with pytest.MonkeyPatch.context() as patch:
            kill_after(writes, patch)
            try:
                folders.open(path, new, resume=True).close()
            except KilledError:
                killed = True
        for turn, done in ((name, common), ("", old.size)):
            copy = tmp_path / f"{writes} {turn}"
            shutil.copytree(path, copy)
            with folders.open(copy, plans[turn], resume=True) as folder:
                assert folder.done == done
                work(folder)
                assert folder.finish()
            assert (copy / "records.jsonl").read_bytes() == wanted[turn]
        if not killed:
            assert writes >= 4
            return
    pytest.fail("more writes than expected")


def test_other_settings_under_a_methods_name_are_refused(
    make_grid: Callable[..., Grid], tmp_path: Path, folders: Any
) -> None:
    evolution = [{"population": 4, "tournament": 2}]
    whole(make_plan(make_grid(searchers={"evolution": evolution}, seeds=2)), tmp_path, folders)
    other = make_plan(make_grid(searchers={"evolution": [{"population": 6, "tournament": 2}]}, seeds=2))
    with pytest.raises(
        UsageError,
        match=r"to hold this method 'evolution', got other settings \(settings\.population: 4 there, 6 now\); "
        r"list both values in the grid, or choose another --out",
    ):
        folders.open(tmp_path, other, resume=True)
    # With both values, the method of before has another name.
    both = make_plan(make_grid(searchers={"evolution": [{"population": [4, 6], "tournament": 2}]}, seeds=2))
    with folders.open(tmp_path, both, resume=True) as folder:
        assert (folder.done, folder.told) == (2, [])
        work(folder)
        assert folder.finish()
    labels = [json.loads(line)["method"] for line in (tmp_path / "records.jsonl").read_text().splitlines()]
    assert labels == ["evolution population=4"] * 2 + ["evolution population=6"] * 2


@pytest.mark.parametrize(
    ("changes", "what"), [({"searchers": {"local-search": [{}]}}, "method"), ({"benchmarks": ("other",)}, "benchmark")]
)
def test_a_grid_without_anything_in_common_is_another_study(
    plans: dict[str, Plan], tmp_path: Path, folders: Any, changes: Any, what: str
) -> None:
    records = whole(plans[""], tmp_path, folders)
    other = make_plan(dataclasses.replace(plans[""].grid, **changes))
    with pytest.raises(UsageError, match=rf"to hold a study that shares a {what} with this grid, got another study"):
        folders.open(tmp_path, other, resume=True)
    assert (tmp_path / "records.jsonl").read_bytes() == records


def test_a_grid_changes_with_resume_alone(plans: dict[str, Plan], tmp_path: Path, folders: Any) -> None:
    with folders.open(tmp_path, plans[""]):
        pass  # no record yet
    with pytest.raises(UsageError, match=r"one of another grid \(grid\.seeds: 3 there, 4 now.*add --resume to change"):
        folders.open(tmp_path, plans["more seeds"])
    with folders.open(tmp_path, plans[""]) as folder:
        work(folder)
    with pytest.raises(UsageError, match=r"expected a folder without records for --out .*; add --resume or choose"):
        folders.open(tmp_path, plans["more seeds"])


def test_a_grid_does_not_change_under_a_share_at_work(plans: dict[str, Plan], tmp_path: Path, folders: Any) -> None:
    small, large = plans[""].grid, plans["more seeds"].grid
    with folders.open(tmp_path, make_plan(small, shard=(0, 2)), shard=(0, 2)) as first:
        work(first)
        with pytest.raises(
            UsageError, match=r"no other process on this study, got one that is at work on another grid in .*; wait"
        ):
            folders.open(tmp_path, make_plan(large, shard=(1, 2)), shard=(1, 2), resume=True)
        assert work(first) == 0
    # The shares of the new grid start together, as jobs of an array do.
    with folders.open(tmp_path, make_plan(large, shard=(1, 2)), shard=(1, 2), resume=True) as second:
        with folders.open(tmp_path, make_plan(large, shard=(0, 2)), shard=(0, 2), resume=True) as first:
            work(first)
        work(second)
        assert second.finish()
    wanted = whole(plans["more seeds"], tmp_path / "at once", folders)
    assert (tmp_path / "records.jsonl").read_bytes() == wanted


def test_records_of_other_versions_do_not_come_back(plans: dict[str, Plan], tmp_path: Path, folders: Any) -> None:
    whole(plans[""], tmp_path, folders)
    with folders.open(tmp_path, plans["budget"], resume=True):
        pass
    path = tmp_path / "earlier-1" / "study.json"
    path.write_text(path.read_text().replace('"jax": "2"', '"jax": "1"'))
    with folders.open(tmp_path, plans[""], resume=True) as folder:
        assert folder.done == 0


def test_runs_that_share_a_call_are_repeated_with_it(tmp_path: Path, folders: Any, monkeypatch: Any) -> None:
    """Rounding may depend on which seeds a searcher on the host searches together."""
    from ncp_jax.searchers import SEARCHERS

    monkeypatch.setattr(SEARCHERS["arch-graph"], "runs_per_call", 4)
    grid = Grid({"arch-graph": [{"steps": 5}], "random": [{}]}, ("digits/class",), budget=12, seeds=6)
    old, new = make_plan(grid), make_plan(dataclasses.replace(grid, seeds=9))
    for plan in (old, new):
        for pack in plan.packs:
            if pack.methods[0] == "arch-graph":
                call = pack.seeds[0], pack.seeds[-1] + 1
                assert {extension._call("arch-graph", (0, plan.grid.seeds), seed) for seed in pack.seeds} == {call}
    whole(old, tmp_path, folders)
    with folders.open(tmp_path, new, resume=True) as folder:
        assert folder.done == 4 + 6
        assert folder.told == [
            f"the grid has changed: 2 runs that it does not ask for are kept in {tmp_path} (earlier-1)",
            "2 of them are repeated, since their searchers run the seeds of a call together",
        ]
