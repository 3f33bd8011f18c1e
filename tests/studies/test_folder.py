"""The folder of a study: interrupted, shared out and put together, the records are the same bytes."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from ncp_jax.studies import Grid
from ncp_jax.studies import folder as store
from ncp_jax.studies.plan import Plan, make_plan


def test_the_merged_file_has_the_order_of_the_plan(recorded: bytes, plan: Plan) -> None:
    found = [json.loads(line) for line in recorded.splitlines()]
    wanted = [(m, b, s) for m in plan.methods for b in plan.tables for s in range(5)]
    assert [(r["method"], r["benchmark"], r["seed"]) for r in found] == wanted
    for record in found:
        assert list(record) == ["cell", "method", "searcher", "settings", "benchmark", "seed", "results"]
        assert record["cell"] == plan.cell(record["benchmark"], record["method"], record["seed"])
        assert record["settings"] == plan.methods[record["method"]].settings()
        assert record["results"] == {"of": f"{record['method']} {record['seed']}"}


def test_what_is_left_of_a_finished_folder(recorded: bytes, plan: Plan, tmp_path: Path, folders: Any) -> None:
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder)
        assert set(folders.content(tmp_path)) == {"study.json", "records-0-of-1.jsonl"}
        folder.finish()
        folder.add_session({"runs": 50})
        folder.add_session({"runs": 0})
    assert set(folders.content(tmp_path)) == {"study.json", "records.jsonl", "sessions.jsonl"}
    assert (tmp_path / "records.jsonl").read_bytes() == recorded
    assert [json.loads(line)["runs"] for line in (tmp_path / "sessions.jsonl").read_text().splitlines()] == [50, 0]
    study = json.loads((tmp_path / "study.json").read_text())
    assert study["grid"] == json.loads(json.dumps(plan.grid.to_json()))
    assert study["versions"] == {key: folders.versions[key] for key in ("ncp-jax", "jax", "jaxlib", "numpy")}
    assert list(study["methods"]) == list(plan.methods)
    assert (study["cells"], study["seeds"], study["budget"]) == (50, [0, 5], 12)
    for name, table in study["tables"].items():
        assert table["hash"] == plan.tables[name].content_hash()
        assert (table["rows"], table["metric"]["name"]) == (60, "acc")
        assert table["best"] == float(plan.tables[name].column("acc").max())


@pytest.mark.parametrize("packs", range(9))
def test_interrupted_after_any_pack(recorded: bytes, plan: Plan, tmp_path: Path, packs: int, folders: Any) -> None:
    with folders.open(tmp_path, plan) as folder:
        first = folders.work(folder, packs)
        assert folder.finish() is (packs == 8)
    with folders.open(tmp_path, plan, resume=True) as again:
        assert (again.done, again.dropped) == (first, 0)
        assert folders.work(again) == 50 - first
        assert again.finish()
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_killed_at_any_byte(recorded: bytes, plan: Plan, tmp_path: Path, folders: Any) -> None:
    """Whatever of a write reached the disk, the rest is done again."""
    with folders.open(tmp_path / "first", plan) as folder:
        folders.work(folder, 2)
    whole = folder.path.read_bytes()
    ends = [place for place, byte in enumerate(whole) if byte == ord("\n")]
    for cut in (0, 1, 50, *(end + step for end in (ends[0], ends[7]) for step in (0, 1, 2)), len(whole) - 1):
        path = tmp_path / str(cut)
        shutil.copytree(tmp_path / "first", path)
        (path / folder.path.name).write_bytes(whole[:cut])
        lines = whole[:cut].count(b"\n")
        with folders.open(path, plan, resume=True) as again:
            assert again.done == lines
            assert again.dropped == (not whole[:cut].endswith(b"\n") and cut > 0)
            assert (path / folder.path.name).read_bytes().count(b"\n") == lines
            folders.work(again)
            assert again.finish()
        assert (path / "records.jsonl").read_bytes() == recorded


@pytest.mark.parametrize("junk", [b"\0" * 700, b"\0" * 700 + b"\n", b"\n\n", b'{"cell":\n{"a\n', b"\xff\n"])
def test_what_a_power_cut_leaves_is_dropped(plan: Plan, tmp_path: Path, junk: bytes, folders: Any) -> None:
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder, 1)
    whole = folder.path.read_bytes()
    folder.path.write_bytes(whole + junk)
    with folders.open(tmp_path, plan, resume=True) as again:
        assert again.dropped >= 1
        assert again.done == 5
    assert folder.path.read_bytes() == whole


@pytest.mark.parametrize("junk", [b"\0" * 700 + b"\n", b'{"cell":"1234', b"\xff\n"])
def test_the_cut_line_of_another_share_is_passed_over(
    recorded: bytes, two_tables: Grid, plan: Plan, tmp_path: Path, junk: bytes, folders: Any
) -> None:
    """It may be written at this moment, or belong to a share that is never taken up again."""
    with folders.open(tmp_path, make_plan(two_tables, shard=(1, 3)), shard=(1, 3)) as share:
        done = folders.work(share)
    with open(share.path, "ab") as file:
        file.write(junk)
    with folders.open(tmp_path, plan, resume=True) as rest:
        assert rest.done == done
        assert (tmp_path / share.path.name).read_bytes().endswith(junk)
        assert folders.work(rest) == 50 - done
        assert rest.finish()
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_shares_in_turn_make_the_same_file(recorded: bytes, two_tables: Grid, tmp_path: Path, folders: Any) -> None:
    for index in (2, 0, 1):
        with folders.open(tmp_path, make_plan(two_tables, shard=(index, 3)), shard=(index, 3)) as share:
            folders.work(share)
            assert share.finish() is (index == 1)
    assert set(folders.content(tmp_path)) == {"study.json", "records.jsonl"}
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_shares_at_the_same_time(recorded: bytes, two_tables: Grid, tmp_path: Path, folders: Any) -> None:
    found: list[bool] = []

    def one(index: int) -> None:
        with folders.open(tmp_path, make_plan(two_tables, shard=(index, 7)), shard=(index, 7)) as share:
            folders.work(share)
            found.append(share.finish())

    threads = [threading.Thread(target=one, args=(index,)) for index in range(7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 7
    assert any(found)
    assert set(folders.content(tmp_path)) == {"study.json", "records.jsonl"}
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_what_shares_left_undone_is_done_without_them(
    recorded: bytes, two_tables: Grid, plan: Plan, tmp_path: Path, folders: Any
) -> None:
    """Another number of shares takes up what is missing; what both did is kept once."""
    for index in (0, 1):
        with folders.open(tmp_path, make_plan(two_tables, shard=(index, 3)), shard=(index, 3)) as share:
            folders.work(share, 3 - index)
    before = share.done
    with folders.open(tmp_path, plan, resume=True) as rest:
        assert rest.done == before
        folders.work(rest, 4)
    shutil.copy(tmp_path / "records-0-of-3.jsonl", tmp_path / "records-2-of-3.jsonl")
    with folders.open(tmp_path, plan, resume=True) as rest:
        folders.work(rest)
        assert rest.finish()
    assert set(folders.content(tmp_path)) == {"study.json", "records.jsonl"}
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_many_files_are_put_together_a_few_open_at_once(
    recorded: bytes, two_tables: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: Any
) -> None:
    monkeypatch.setattr(store, "MOST_OPEN", 2)
    for index in range(9):
        with folders.open(tmp_path, make_plan(two_tables, shard=(index, 9)), shard=(index, 9)) as share:
            folders.work(share)
    assert share.finish()
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_a_finished_study_goes_on_with_nothing(recorded: bytes, plan: Plan, tmp_path: Path, folders: Any) -> None:
    for turn in range(3):
        with folders.open(tmp_path, plan, resume=turn > 0) as folder:
            assert folders.work(folder) == (0 if turn else 50)
            assert folder.finish()
        assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_killed_while_files_were_put_together(
    recorded: bytes, two_tables: Grid, plan: Plan, tmp_path: Path, folders: Any
) -> None:
    """Both the whole file and those of shares are there, or a whole file that others have added to."""
    with folders.open(tmp_path, make_plan(two_tables, shard=(0, 2)), shard=(0, 2)) as share:
        folders.work(share)
    (tmp_path / "records.jsonl").write_bytes(recorded)
    (tmp_path / ".records.jsonl.1-abcd.tmp").write_bytes(recorded[:100])
    with folders.open(tmp_path, plan, resume=True) as folder:
        assert folder.done == 50
        assert folder.finish()
    assert set(folders.content(tmp_path)) == {"study.json", "records.jsonl", ".records.jsonl.1-abcd.tmp"}
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_files_of_the_users_own_stay(recorded: bytes, plan: Plan, tmp_path: Path, folders: Any) -> None:
    (tmp_path / "records-backup.jsonl").write_text("mine\n")
    (tmp_path / "records copy.jsonl").write_text("mine\n")
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder)
        assert folder.finish()
    assert {"records-backup.jsonl", "records copy.jsonl"} <= set(folders.content(tmp_path))
    assert (tmp_path / "records.jsonl").read_bytes() == recorded
