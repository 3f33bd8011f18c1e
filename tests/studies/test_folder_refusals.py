"""What a study's folder refuses, and what it does when the disk does."""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncp_jax.checks import DataError, UsageError
from ncp_jax.records import journal
from ncp_jax.studies import Grid
from ncp_jax.studies.folder import StudyFolder
from ncp_jax.studies.plan import Plan, make_plan


def test_records_without_resume_are_refused(two_tables: Grid, plan: Plan, tmp_path: Path, folders: Any) -> None:
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder, 1)
    before = folders.content(tmp_path)
    for shard in ((0, 1), (0, 2)):
        with pytest.raises(UsageError, match=r"expected a folder without records for --out .*; add --resume or choose"):
            folders.open(tmp_path, make_plan(two_tables, shard=shard), shard=shard)
    assert folders.content(tmp_path) == before
    with folders.open(tmp_path, plan, resume=True) as folder:
        folders.work(folder)
        folder.finish()
    with pytest.raises(UsageError, match=r"add --resume"):
        folders.open(tmp_path, plan)


def test_sister_shares_need_no_resume_and_an_empty_file_neither(two_tables: Grid, tmp_path: Path, folders: Any) -> None:
    with folders.open(tmp_path, make_plan(two_tables, shard=(0, 2)), shard=(0, 2)) as share:
        folders.work(share)
    (tmp_path / "records-1-of-2.jsonl").touch()
    with folders.open(tmp_path, make_plan(two_tables, shard=(1, 2)), shard=(1, 2)) as share:
        folders.work(share)
        assert share.finish()


# What a grid may change in a folder, and what happens then, is in test_extension.py.
CHANGES: dict[str, tuple[dict[str, Any], str]] = {
    "judge": ({"judge": "tested"}, r"grid\.judge: None there, 'tested' now"),
    "metric": ({"metric": "loss"}, r"grid\.metric: None there, 'loss' now"),
    "repeats": ({"repeats": "counted"}, r"grid\.repeats: 'free' there, 'counted' now"),
    "sources": ({"sources": "none"}, r"grid\.sources: nothing there, 'none' now"),
    "on_test": ({"on_test": True}, r"grid\.on_test: nothing there, True now"),
    "columns": ({"columns": "one less"}, r"grid\.tables\.mine\.minimize"),
    "more seeds too": ({"seeds": 6, "repeats": "counted"}, r"grid\.repeats: 'free' there, 'counted' now"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_another_grid_is_refused_with_the_difference(
    two_tables: Grid, plan: Plan, tmp_path: Path, name: str, folders: Any
) -> None:
    changes, words = CHANGES[name]
    changes = dict(changes)
    if "columns" in changes:
        table = two_tables.tables["mine"]
        changes = {"tables": {**two_tables.tables, "mine": table | {"minimize": table["minimize"][:-1]}}}
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder, 1)
    before = folders.content(tmp_path)
    other = make_plan(dataclasses.replace(two_tables, **changes))
    with pytest.raises(UsageError, match=rf"to hold this study, got another study \(.*{words}.*; choose another --out"):
        folders.open(tmp_path, other, resume=True)
    assert folders.content(tmp_path) == before


def test_another_version_is_refused_with_the_difference(plan: Plan, tmp_path: Path, folders: Any) -> None:
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder, 1)
    with pytest.raises(UsageError, match=r"another study \(versions\.jax: '2' there, '2\.1' now\)"):
        folders.open(tmp_path, plan, versions=folders.versions | {"jax": "2.1"}, resume=True)
    folders.open(tmp_path, plan, versions=folders.versions | {"scipy": "another"}, resume=True).close()


def test_other_data_is_refused_wherever_it_lies(
    make_grid: Callable[..., Grid], folder_of_tables: Path, tmp_path: Path, folders: Any
) -> None:
    arguments = {"path": str(tmp_path / "mine.csv"), "space": "transnas-micro", "maximize": ["acc"]}
    text = (folder_of_tables / "mine.csv").read_text()
    (tmp_path / "mine.csv").write_text(text)
    grid = make_grid(tables={"mine": arguments})
    with folders.open(tmp_path / "out", make_plan(grid)) as folder:
        folders.work(folder, 1)
    # The same data in another place, or named from another folder, is the same study.
    (tmp_path / "moved.csv").write_text(text)
    moved = make_grid(tables={"mine": arguments | {"path": str(tmp_path / "moved.csv")}})
    with folders.open(tmp_path / "out", make_plan(moved), resume=True) as folder:
        assert folder.done == 5
    (tmp_path / "mine.csv").write_text(text.rpartition("\n64")[0] + "\n")
    with pytest.raises(
        UsageError, match=r"another study \(tables\.mine\.hash: .* now; tables\.mine\.rows: 60 there, 59"
    ):
        folders.open(tmp_path / "out", make_plan(grid), resume=True)


@pytest.mark.parametrize("text", ["{", "", "\0\0"])
def test_a_damaged_study_file(plan: Plan, tmp_path: Path, text: str, folders: Any) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(DataError, match=r"expected JSON in .*study\.json, got something else \(.*choose another --out"):
        folders.open(tmp_path, plan, resume=True)
    (tmp_path / "study.json").write_text("[]")
    with pytest.raises(UsageError, match=r"got another study \(: \[\] there"):
        folders.open(tmp_path, plan, resume=True)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("[1, 2]", r"something else \(TypeError"),
        ("{}", r"something else \(KeyError: 'benchmark'\)"),
        ('{"cell": {"seed": 0}, "results": {}}', r"something else \(KeyError: 'benchmark'\)"),
        ('{"cell":"0","benchmark":"mine","method":"random","seed":0}', r"a run of another one \(random, seed 0\)"),
        ('{"cell":"0","benchmark":"mine","method":"random","seed":5}', r"something else \(KeyError: 5\)"),
        ('{"cell":"0","benchmark":"mine","method":"random","seed":1.5}', r"something else \(KeyError: 1.5\)"),
        ('{"cell":"0","benchmark":"mine","method":["random"],"seed":1}', r"something else \(TypeError"),
        ('{"cell":"0","benchmark":"mine","method":"annealing","seed":0}', r"something else \(KeyError: \('annealing'"),
    ],
)
def test_foreign_records_are_refused(plan: Plan, tmp_path: Path, line: str, words: str, folders: Any) -> None:
    (tmp_path / "records.jsonl").write_text(line + "\n")
    with pytest.raises(DataError, match=rf"expected records of this study in .*records\.jsonl, got {words}"):
        folders.open(tmp_path, plan, resume=True)
    # Nothing is left behind in somebody else's folder.
    assert set(folders.content(tmp_path)) == {"records.jsonl"}


@pytest.mark.parametrize("merged", [False, True])
def test_a_damaged_line_amid_good_ones_loses_its_run_alone(
    recorded: bytes, plan: Plan, tmp_path: Path, folders: Any, merged: bool
) -> None:
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder, None if merged else 2)
        assert folder.finish() is merged
    path = tmp_path / "records.jsonl" if merged else folder.path
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], lines[1][:40] + b"\n", b"\0\0\0\n", *lines[3:]]))
    with folders.open(tmp_path, plan, resume=True) as again:
        assert (again.done, again.dropped) == (len(lines) - 2, 2)
        assert folders.work(again) == 50 - len(lines) + 2
        assert again.finish()
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_a_damaged_line_that_was_replaced_does_not_stay(
    recorded: bytes, plan: Plan, tmp_path: Path, folders: Any
) -> None:
    """Every run is there: the merged file is written anew without the damaged line."""
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder)
        folder.finish()
    (tmp_path / "records.jsonl").write_bytes(b"\0\n" + recorded)
    with folders.open(tmp_path, plan, resume=True) as again:
        assert (again.done, again.dropped) == (50, 1)
        assert again.finish()
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_a_full_disk_leaves_what_was_finished(
    recorded: bytes, plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: Any
) -> None:
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder, 2)
        whole = folder.path.read_bytes()

        def full(descriptor: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        with monkeypatch.context() as patch:
            patch.setattr("ncp_jax.files.os.fsync", full)
            with pytest.raises(OSError, match=r"expected to write .*, got a full disk .*--resume") as caught:
                folders.work(folder)
            assert caught.value.errno == errno.ENOSPC
        assert folder.path.read_bytes() == whole
        assert folder.done == 15
    with folders.open(tmp_path, plan, resume=True) as again:
        assert again.dropped == 0
        folders.work(again)
        assert again.finish()
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_no_space_to_put_files_together(
    recorded: bytes, two_tables: Grid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: Any
) -> None:
    for index in (0, 1):
        with folders.open(tmp_path, make_plan(two_tables, shard=(index, 2)), shard=(index, 2)) as share:
            folders.work(share)
    before = folders.content(tmp_path)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("ncp_jax.files.os.replace", full)
        with pytest.raises(OSError, match=r"expected to write .*records\.jsonl, got a full disk .*--resume"):
            share.finish()
    assert folders.content(tmp_path) == before
    assert share.finish()
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_a_share_at_work_is_not_begun_again(two_tables: Grid, plan: Plan, tmp_path: Path, folders: Any) -> None:
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder, 1)
        with pytest.raises(
            UsageError, match=r"expected no other process on this share, got one .* share 0/1 in .*wait"
        ):
            folders.open(tmp_path, plan, resume=True)
        with folders.open(tmp_path, make_plan(two_tables, shard=(0, 2)), resume=True, shard=(0, 2)) as other:
            assert other.done == 5
    with folders.open(tmp_path, plan, resume=True) as folder:
        assert folder.done == 5


def test_records_are_read_without_the_lock_of_the_folder(plan: Plan, tmp_path: Path, folders: Any) -> None:
    """Hundreds of shares begin and end at the same time; the records of all of them are long."""
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder)
    free: list[bool] = []
    read = StudyFolder._read_new_in

    def watched(self: StudyFolder, path: Path) -> None:
        with open(tmp_path / ".lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free.append(True)
            except BlockingIOError:
                free.append(False)
        read(self, path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StudyFolder, "_read_new_in", watched)
        with folders.open(tmp_path, plan, resume=True) as folder:
            assert free == [True]
            assert folder.finish()
    # Before files are put together, what has come since is looked at under the lock.
    assert free == [True, True, False]


def test_no_record_is_read_twice(plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: Any) -> None:
    parsed: list[bytes] = []
    parse = journal._parse
    monkeypatch.setattr(journal, "_parse", lambda line, keys: parsed.append(line) or parse(line, keys))
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder)
        folder.finish()
    assert len(parsed) == 50


def test_a_folder_without_locks(
    plan: Plan, recorded: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folders: Any
) -> None:
    """Some network file systems have none."""

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr("ncp_jax.files.fcntl.flock", refuse)
    with folders.open(tmp_path, plan) as folder:
        folders.work(folder)
        assert folder.finish()
    assert (tmp_path / "records.jsonl").read_bytes() == recorded


def test_a_folder_that_cannot_be_made(plan: Plan, tmp_path: Path, folders: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"expected to write .*file.*choose another --out"):
        folders.open(tmp_path / "file" / "out", plan)
