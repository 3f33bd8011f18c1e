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
from ncp_jax.records.journal import Records, cell_hash, write_json

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
    assert json.loads((tmp_path / "out" / "config.json").read_text()) == CONFIG
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


def test_records_without_resume_are_refused(tmp_path: Path) -> None:
    Records(tmp_path, CONFIG).add(ONE, {})
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    with pytest.raises(UsageError, match=r"expected a folder without records for --out .*; add --resume or choose"):
        Records(tmp_path, CONFIG)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_other_settings_are_refused_with_the_difference(tmp_path: Path) -> None:
    Records(tmp_path, CONFIG).add(ONE, {})
    with pytest.raises(UsageError, match=r"other settings \(folds: None there, 5 now; seeds: 2 there, 3 now\)"):
        Records(tmp_path, {**CONFIG, "seeds": 3, "folds": 5}, resume=True)
    assert json.loads((tmp_path / "config.json").read_text()) == CONFIG


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
