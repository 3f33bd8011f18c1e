"""Converted copies, mirrors, missing and altered files, several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import files
from ncp_jax.benchmarks import (
    all_sources,
    cache_path,
    convert,
    list_files,
    load_arrays,
    load_table,
    registry,
    store,
    verify_files,
)
from ncp_jax.benchmarks.catalogue import LATENCY, RECIPES, SHIPPED, TRANSNAS_TASKS
from ncp_jax.checks import DataError, UsageError

NAME = "transnas-macro/jigsaw"
RECIPE = RECIPES[NAME]
SOURCE = all_sources()[RECIPE.file]


@pytest.fixture
def conversions(empty_cache: Path, mirror: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the tables converted so far; the cache is empty at first."""
    done: list[str] = []

    def counted(recipe, *arguments):
        done.append(recipe.name)
        return convert.convert(recipe, *arguments)

    monkeypatch.setattr(registry, "convert", counted)
    return done


def paths() -> tuple[Path, Path]:
    return store.converted_paths(RECIPE)


def test_converted_once(conversions: list[str]) -> None:
    first = load_arrays(NAME)
    second = load_arrays(NAME)
    assert conversions == [NAME]
    np.testing.assert_array_equal(first.codes, second.codes)
    np.testing.assert_array_equal(first.values, second.values)
    assert second.values.dtype == np.float64
    assert (first.metrics, first.hashes, first.space) == (second.metrics, second.hashes, second.space)


def test_the_converted_files_need_no_library(conversions: list[str]) -> None:
    arrays = load_arrays(NAME)
    npz, side = paths()
    with np.load(npz, allow_pickle=False) as stored:
        assert sorted(stored) == ["codes", "values"]
        np.testing.assert_array_equal(stored["values"], arrays.values)
    schema = json.loads(side.read_text())
    assert schema["format"] == "ncp-jax table 1"
    assert schema["name"] == NAME
    assert schema["space"] == "transnas-macro"
    assert schema["arrays"] == {
        "codes": {"shape": [3256, 6], "dtype": "int32"},
        "values": {"shape": [3256, 1], "dtype": "float64"},
    }
    assert schema["columns"] == [
        {
            "name": "top1",
            "task": "jigsaw",
            "split": "validation",
            "epoch": "final",
            "unit": "%",
            "direction": "maximize",
            "kind": "quality",
        }
    ]
    assert schema["sources"] == [{"file": RECIPE.file, "sha256": SOURCE.sha256}]
    assert schema["licence"] == "Apache-2.0"
    assert len(schema["citations"]) == 2


def damage_arrays(npz: Path, side: Path) -> None:
    content = bytearray(npz.read_bytes())
    content[len(content) // 2] ^= 1
    npz.write_bytes(content)


def cut_arrays(npz: Path, side: Path) -> None:
    npz.write_bytes(npz.read_bytes()[:-100])


def remove_arrays(npz: Path, side: Path) -> None:
    npz.unlink()


def cut_schema(npz: Path, side: Path) -> None:
    side.write_bytes(side.read_bytes()[:100])


def replace_schema_by_a_list(npz: Path, side: Path) -> None:
    side.write_text("[]")


def remove_schema(npz: Path, side: Path) -> None:
    side.unlink()


def other_direction(npz: Path, side: Path) -> None:
    side.write_text(side.read_text().replace("maximize", "minimize"))


def other_source(npz: Path, side: Path) -> None:
    side.write_text(side.read_text().replace(SOURCE.sha256, "0" * 64))


def honest_hash_of_other_arrays(npz: Path, side: Path) -> None:
    old = store.sha256(npz.read_bytes())
    np.savez(npz, codes=np.zeros((2, 6), np.int32), values=np.zeros((2, 1)))
    side.write_text(side.read_text().replace(old, store.sha256(npz.read_bytes())))


def honest_hash_of_an_object_array(npz: Path, side: Path) -> None:
    old = store.sha256(npz.read_bytes())
    np.savez(npz, codes=np.array([None], dtype=object), values=np.zeros((2, 1)))
    side.write_text(side.read_text().replace(old, store.sha256(npz.read_bytes())))


@pytest.mark.parametrize(
    "change",
    [
        damage_arrays,
        cut_arrays,
        remove_arrays,
        cut_schema,
        replace_schema_by_a_list,
        remove_schema,
        other_direction,
        other_source,
        honest_hash_of_other_arrays,
        honest_hash_of_an_object_array,
    ],
)
def test_a_damaged_or_outdated_copy_is_made_anew(change, conversions: list[str]) -> None:
    expected = load_arrays(NAME)
    before = [path.read_bytes() for path in paths()]
    change(*paths())
    found = load_arrays(NAME)
    assert conversions == [NAME, NAME]
    np.testing.assert_array_equal(found.values, expected.values)
    assert [path.read_bytes() for path in paths()] == before  # conversion is deterministic, to the byte


def test_a_newer_converter_converts_anew(conversions: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    load_arrays(NAME)
    monkeypatch.setattr(convert, "VERSION", convert.VERSION + 1)
    load_arrays(NAME)
    load_arrays(NAME)
    assert conversions == [NAME, NAME]


def test_a_damaged_copy_without_a_source_names_the_command(
    conversions: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    load_arrays(NAME)
    damage_arrays(*paths())
    monkeypatch.delenv("NCP_JAX_MIRROR", raising=False)
    with pytest.raises(FileNotFoundError, match=r"ncp-jax data fetch transnas-macro/jigsaw$"):
        load_arrays(NAME)


@pytest.mark.usefixtures("no_mirror")
@pytest.mark.parametrize(
    ("name", "fetch"),
    [
        ("nas-bench-mr/seg", "nas-bench-mr/seg"),
        ("SEG", "nas-bench-mr/seg"),
        ("nas-bench-mr", "nas-bench-mr/seg"),
        ("transnas-micro/normal", "transnas-micro/normal"),
    ],
)
def test_missing_data_names_the_command(name: str, fetch: str, empty_cache: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=rf"expected the data of .* at .*, got no such file; run: ncp-jax data fetch {fetch}$"
    ):
        load_table(name)


def test_missing_everywhere_names_both_places(
    empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mirror").mkdir()
    monkeypatch.setenv("NCP_JAX_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(FileNotFoundError, match=r"cache/raw/naslib/tnb101_macro_zen.zip or .*mirror/naslib/"):
        load_table(NAME)


def test_a_mirror_that_is_no_folder(empty_cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCP_JAX_MIRROR", str(tmp_path / "nowhere"))
    with pytest.raises(FileNotFoundError, match=r"NCP_JAX_MIRROR=.*nowhere, got none; correct NCP_JAX_MIRROR"):
        load_table(NAME)


def test_unknown_tables() -> None:
    with pytest.raises(UsageError, match=r"did you mean: .*nas-bench-mr/seg"):
        load_table("nas-bench-mr/segm")


@pytest.mark.usefixtures("no_mirror")
def test_an_altered_cached_file_is_not_parsed(
    conversions: list[str], mirror: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = cache_path() / "raw" / RECIPE.file
    raw.parent.mkdir(parents=True)
    raw.write_bytes((mirror / RECIPE.file).read_bytes() + b"x")
    with pytest.raises(DataError, match=rf"SHA-256 {SOURCE.sha256} .*; run: ncp-jax data fetch {NAME}$"):
        load_table(NAME)
    assert conversions == []


def test_an_altered_mirror_file_is_not_parsed(
    conversions: list[str], mirror: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "mirror"
    (copy / RECIPE.file).parent.mkdir(parents=True)
    (copy / RECIPE.file).write_bytes((mirror / RECIPE.file).read_bytes()[:-1])
    monkeypatch.setenv("NCP_JAX_MIRROR", str(copy))
    with pytest.raises(DataError, match="; correct the file in the mirror"):
        load_table(NAME)
    assert conversions == []
    shutil.rmtree(copy / "naslib")
    raw = cache_path() / "raw" / RECIPE.file
    raw.parent.mkdir(parents=True)
    shutil.copy(mirror / RECIPE.file, raw)
    assert len(load_table(NAME)) == RECIPE.rows  # a mirror may lack what the cache has


def test_relative_mirrors_and_home_folders(
    conversions: list[str], mirror: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(mirror.parent)
    monkeypatch.setenv("NCP_JAX_MIRROR", mirror.name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NCP_JAX_DATA", "~/mine")
    assert len(load_table(NAME)) == RECIPE.rows
    assert (tmp_path / "mine" / "tables" / "transnas-macro" / "jigsaw.npz").is_file()


def test_the_default_cache_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("NCP_JAX_DATA", "")
    assert cache_path().name in ("ncp_jax", "Cache")
    assert tmp_path in cache_path().parents


def test_a_cache_that_cannot_be_written_still_loads(
    conversions: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("NCP_JAX_DATA", str(tmp_path / "file" / "cache"))
    registry._warn_once.cache_clear()
    with pytest.warns(RuntimeWarning, match=r"cannot be written .*; free some space, or set NCP_JAX_DATA"):
        assert len(load_table(NAME)) == RECIPE.rows
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # once is enough
        assert len(load_table("transnas-macro/normal")) == RECIPE.rows
    assert conversions == [NAME, "transnas-macro/normal"]


def test_a_full_disk_still_loads_and_leaves_nothing(
    conversions: list[str], empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    registry._warn_once.cache_clear()
    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.warns(RuntimeWarning, match="No space left on device"):
        assert len(load_arrays(NAME).codes) == RECIPE.rows
    monkeypatch.undo()
    assert [p for p in empty_cache.rglob("*") if p.is_file() and not p.name.endswith(".lock")] == []


def test_list_and_verify(conversions: list[str], mirror: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NCP_JAX_MIRROR", raising=False)
    rows = {row.name: row for row in list_files()}
    assert len(rows) == 27 + 3 + 5 + 2 * 27
    assert {row.state for name, row in rows.items() if name not in SHIPPED} == {"absent"}
    assert rows[NAME].bytes == SOURCE.bytes
    assert rows[NAME].licence == "Apache-2.0"
    assert {check.state for check in verify_files(["transnas-macro"])} == {"missing"}
    raw = cache_path() / "raw" / RECIPE.file
    raw.parent.mkdir(parents=True)
    shutil.copy(mirror / RECIPE.file, raw)
    load_arrays(NAME)
    rows = {row.name: row for row in list_files()}
    assert rows[NAME].state == "converted"
    assert rows["transnas-macro/normal"].state == "downloaded"
    assert rows["ncp/search_list.txt"].state == "absent"
    states = {check.file: check for check in verify_files(["transnas-macro"])}
    assert states[RECIPE.file].state == "ok"
    assert states[RECIPE.file].path == raw
    raw.write_bytes(b"altered")
    assert [c.state for c in verify_files([NAME])] == ["altered"]
    monkeypatch.setenv("NCP_JAX_MIRROR", str(mirror))
    apart = "ncp/3ddet/trainval.pkl"  # a mirror may lack it, and the latencies of some devices
    assert {check.state for check in verify_files() if check.file != apart} == {"ok"}
    others = [row for row in list_files() if row.name not in SHIPPED and row.name.partition("/")[0] not in LATENCY]
    assert {row.state for row in others if apart not in row.files} == {"downloaded", "converted"}


SCRIPT = """
import sys
from ncp_jax.benchmarks import fetch_tables, load_arrays
names = ["transnas-macro/jigsaw", "transnas-macro/normal"]
print([done.action for done in fetch_tables(names, progress=False)])
print([float(load_arrays(name).values.sum()) for name in names])
"""


def test_two_processes_at_once(empty_cache: Path, mirror: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-W", "error", "-c", SCRIPT]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) for _ in range(2)]
    outputs = [process.communicate()[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(lines[0] for lines in outputs) == ["['copied']", "['present']"]
    assert outputs[0][1] == outputs[1][1]
    left = {p.name for p in empty_cache.rglob("*") if p.is_file() and not p.name.endswith(".lock")}
    made = {f"{task}.{end}" for task in TRANSNAS_TASKS for end in ("npz", "json")}
    assert left == {"tnb101_macro_zen.zip", *made}


def test_loading_warns_of_nothing(conversions: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_table(NAME)) == len(load_table(NAME)) == RECIPE.rows
