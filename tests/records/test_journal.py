from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ncp_jax import files
from ncp_jax.checks import DataError, UsageError
from ncp_jax.records import journal
from ncp_jax.records.journal import Records, cell_hash, read_records, write_json
from ncp_jax.records.run_card import result_versions, run_card

CONFIG = {"seeds": 2, "tasks": ["seg"]}
ONE, TWO = {"seed": 0, "task": "seg"}, {"seed": 1, "task": "seg"}


def test_records_are_read_back(tmp_path: Path) -> None:
    first = Records(tmp_path / "out", CONFIG)
    assert first.get(ONE) is None
    assert first.add(ONE, {"tau": 0.5}) == {"cell": ONE, "results": {"tau": 0.5}}
    first.add(TWO, {"tau": 0.25})
    again = Records(tmp_path / "out", CONFIG, resume=True)
    assert len(again) == 2
    assert again.dropped == 0
    assert again.get({"task": "seg", "seed": 1}) == {"cell": TWO, "results": {"tau": 0.25}}
    assert [r["cell"] for r in again] == [ONE, TWO]
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == CONFIG | {"versions": result_versions()}
    assert len((tmp_path / "out" / "records.jsonl").read_text().splitlines()) == 2


def test_the_hash_ignores_the_order_of_keys() -> None:
    assert cell_hash({"a": 1, "b": {"c": 2, "d": [1, 2]}}) == cell_hash({"b": {"d": [1, 2], "c": 2}, "a": 1})
    assert cell_hash({"a": [1, 2]}) != cell_hash({"a": [2, 1]})
    assert cell_hash({"a": 1}) != cell_hash({"a": 2})


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_short_is_dropped_and_the_file_repaired(tmp_path: Path, cut: int) -> None:
    first = Records(tmp_path, CONFIG)
    first.add(ONE, {"tau": 0.5})
    whole = first.path.read_bytes()
    first.add(TWO, {"tau": 0.25})
    first.path.write_bytes(first.path.read_bytes()[:-cut])
    again = Records(tmp_path, CONFIG, resume=True)
    assert again.path.read_bytes() == whole
    assert again.dropped == 1
    assert again.get(ONE) is not None
    assert again.get(TWO) is None
    again.add(TWO, {"tau": 0.75})
    assert Records(tmp_path, CONFIG, resume=True).get(TWO)["results"] == {"tau": 0.75}


@pytest.mark.parametrize("junk", [b"\x00\x01\xff\n", b"[1, 2]\n", b'{"results": {}}\n', b"null\n"])
def test_lines_that_are_no_records_are_dropped(tmp_path: Path, junk: bytes) -> None:
    first = Records(tmp_path, CONFIG)
    first.add(ONE, {"tau": 0.5})
    whole = first.path.read_bytes()
    first.path.write_bytes(whole + junk)
    assert len(Records(tmp_path, CONFIG, resume=True)) == 1
    assert first.path.read_bytes() == whole


@pytest.mark.parametrize("junk", [b"\x00\xff\n", b'{"cell": {"seed"\n', b'{"results": {}}\n', b"\n"])
def test_a_damaged_line_loses_no_line_behind_it(tmp_path: Path, junk: bytes, caplog: pytest.LogCaptureFixture) -> None:
    first = Records(tmp_path, CONFIG)
    first.add(ONE, {"tau": 0.5})
    one = first.path.read_bytes()
    first.add(TWO, {"tau": 0.25})
    whole = first.path.read_bytes()
    first.path.write_bytes(one + junk + junk + whole[len(one) :] + b"\x00\n{")
    assert caplog.messages == []
    again = Records(tmp_path, CONFIG, resume=True)
    assert [record["cell"] for record in again] == [ONE, TWO]
    assert again.dropped == 4
    assert caplog.messages == ["dropped 4 damaged record(s); their runs are repeated"]
    assert first.path.read_bytes() == whole
    assert Records(tmp_path, CONFIG, resume=True).dropped == 0


def test_the_reader_counts_damaged_lines_and_says_where_readable_ones_are(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    lines = [b'{"a": 1}\n', b"\0\n", b'{"a": "\xc3\xa9"}\n', b"[2]\n", b"\n", b'{"a": 3}']
    path.write_bytes(b"".join(lines))
    reader = read_records(path)
    found = list(reader)
    assert [(line.number, line.text, line.record) for line in found] == [
        (1, lines[0], {"a": 1}),
        (3, lines[2], {"a": "é"}),
        (4, lines[3], [2]),
    ]
    content = path.read_bytes()
    assert all(content[line.start :].startswith(line.text) for line in found)
    assert (reader.damaged, reader.tail, reader.dropped) == (1, 2, 3)
    assert content[: reader.end] == b"".join(lines[:4])
    later = read_records(path, start=found[1].start, keys=("a",))
    assert [line.record for line in later] == [{"a": "é"}]
    assert (later.damaged, later.tail) == (0, 3)


def test_another_version_is_refused_with_the_difference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Records(tmp_path, CONFIG).add(ONE, {})
    now = result_versions()
    assert list(now) == ["ncp-jax", "jax", "jaxlib", "numpy"]
    assert now.items() <= run_card()["versions"].items()
    monkeypatch.setattr(journal, "result_versions", lambda: now | {"jax": "99"})
    with pytest.raises(UsageError, match=rf"other settings \(versions\.jax: '{now['jax']}' there, '99' now\)"):
        Records(tmp_path, CONFIG, resume=True)


OPEN = """
import sys
from ncp_jax.checks import UsageError
from ncp_jax.records.journal import Records
try:
    Records(sys.argv[1], {}, resume=True).add({"seed": 1}, {})
except UsageError as error:
    print(error)
"""


def test_one_process_writes_at_a_time(tmp_path: Path) -> None:
    def other() -> str:
        done = subprocess.run([sys.executable, "-c", OPEN, tmp_path], capture_output=True, text=True, check=True)
        return done.stdout

    first = Records(tmp_path, {})
    # The same process may open its folder again, and holds it still.
    second = Records(tmp_path, {})
    first.close()
    assert other() == (
        f"expected no other process on this folder, got one that is at work on {tmp_path}; "
        "wait for it, or choose another --out\n"
    )
    assert not second.path.exists()
    second.close()
    assert other() == ""
    assert [record["cell"] for record in Records(tmp_path, {}, resume=True)] == [{"seed": 1}]


def test_a_folder_is_free_when_its_records_are_gone(tmp_path: Path) -> None:
    records = Records(tmp_path, {})
    del records
    with files.lock(tmp_path / ".records.lock", wait=False) as held:
        assert held


def test_records_without_resume_are_refused(tmp_path: Path) -> None:
    Records(tmp_path, CONFIG).add(ONE, {})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"expected a folder without records for --out .*; add --resume or choose"):
        Records(tmp_path, CONFIG)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    Records(tmp_path, CONFIG).add(ONE, {})
    with pytest.raises(UsageError, match=r"other settings \(seeds: 2 there, 3 now; folds: nothing there, 5 now\)"):
        Records(tmp_path, {**CONFIG, "seeds": 3, "folds": 5}, resume=True)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG | {"versions": result_versions()}


def test_settings_that_select_cells_may_differ(tmp_path: Path) -> None:
    first = Records(tmp_path, CONFIG, selects=("seeds",))
    first.add(TWO, {})
    first.add(ONE, {})
    more = CONFIG | {"seeds": 3}
    again = Records(tmp_path, more, resume=True, selects=("seeds",))
    assert len(again) == 2
    assert [record["cell"] for record in again.of([ONE, {"seed": 2, "task": "seg"}, TWO])] == [ONE, TWO]
    assert json.loads((tmp_path / "config.json").read_text())["seeds"] == 3
    assert len(Records(tmp_path, CONFIG | {"seeds": 1}, resume=True, selects=("seeds",))) == 2
    with pytest.raises(UsageError, match=r"other settings \(tasks: \['seg'\] there, \['video'\] now\)"):
        Records(tmp_path, more | {"tasks": ["video"]}, resume=True, selects=("seeds",))


def test_settings_are_compared_before_the_first_record_and_without_a_config(tmp_path: Path) -> None:
    """A training that was killed has no record, but checkpoints."""
    Records(tmp_path, CONFIG).close()
    with pytest.raises(UsageError, match=r"other settings \(seeds: 2 there, 3 now\)"):
        Records(tmp_path, CONFIG | {"seeds": 3}, resume=True)
    Records(tmp_path, CONFIG).add(ONE, {})
    (tmp_path / "config.json").unlink()
    with pytest.raises(UsageError, match=r"other settings \(seeds: nothing there, 2 now"):
        Records(tmp_path, CONFIG, resume=True)


def test_tuples_and_lists_are_the_same_setting(tmp_path: Path) -> None:
    Records(tmp_path, {"tasks": ("a", "b")}).add(ONE, {})
    assert len(Records(tmp_path, {"tasks": ("a", "b")}, resume=True)) == 1


def test_a_damaged_config(tmp_path: Path) -> None:
    Records(tmp_path, CONFIG).add(ONE, {})
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(
        DataError, match=r"expected JSON in .*config\.json, got something else \(.*choose another --out"
    ):
        Records(tmp_path, CONFIG, resume=True)


def test_a_full_disk_leaves_the_earlier_lines_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Records(tmp_path, CONFIG)
    store.add(ONE, {"tau": 0.5})
    whole = store.path.read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(OSError, match=r"expected to write .*records\.jsonl, got a full disk .*--resume") as caught:
            store.add(TWO, {"tau": 0.25})
    assert caught.value.errno == errno.ENOSPC
    assert store.path.read_bytes() == whole
    assert store.get(TWO) is None
    store.add(TWO, {"tau": 0.25})
    assert len(Records(tmp_path, CONFIG, resume=True)) == 2


FILL = """
import resource, sys
from ncp_jax.records.journal import Records
records = Records(sys.argv[1], {})
records.add({"seed": 0}, {})
size, (_, most) = records.path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (size + 50, most))
try:
    records.add({"seed": 1}, {"text": "x" * 500})
except OSError as error:
    print(error)
print(records.path.stat().st_size - size)
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
records.add({"seed": 2}, {})
"""


def test_a_line_that_a_full_disk_cuts_short_is_taken_back(tmp_path: Path) -> None:
    """A real limit: a part of the line is written before the system refuses the rest."""
    done = subprocess.run([sys.executable, "-c", FILL, tmp_path], capture_output=True, text=True, check=True)
    refused, grown = done.stdout.splitlines()
    assert refused.startswith("expected to write ")
    assert grown == "0"
    again = Records(tmp_path, {}, resume=True)
    assert again.dropped == 0
    assert [record["cell"]["seed"] for record in again] == [0, 2]


def test_not_a_number_is_not_recorded(tmp_path: Path) -> None:
    store = Records(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="Out of range float"):
        store.add(ONE, {"tau": float("nan")})
    assert not store.path.exists()
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(tmp_path / "x.json", {"a": float("inf")})
    assert not (tmp_path / "x.json").exists()


def test_write_json_keeps_the_order(tmp_path: Path) -> None:
    path = write_json(tmp_path / "deep" / "x.json", {"b": 1, "a": [1, 2]})
    assert list(json.loads(path.read_text())) == ["b", "a"]
    assert path.read_text().endswith("}\n")


def test_lines_that_are_nested_too_deeply_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "records.jsonl"
    path.write_bytes(b'{"a": 1}\n' + b"[" * 100_000 + b"\n" + b'{"a": 2}\n')
    reader = read_records(path)
    assert [line.record["a"] for line in reader] == [1, 2]
    assert reader.dropped == 1
    with pytest.raises(DataError, match="expected JSON"):
        journal.read_json(path)
