"""experiments/search_latency.py: a smoke run with real processes, its files, its continuation, its refusals."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "search_latency.py"
TORCH = importlib.util.find_spec("torch") is not None
# PyTorch is an optional extra; without it, the error is tested in test_config, and the loop runs in JAX.
OPTIONS = ("--smoke", "--against", "torch,torch-frozen,torch-folded,loop" if TORCH else "loop")
BASELINES = ["torch-authors", "torch-frozen", "torch-folded", "loop-torch"] if TORCH else ["loop-jax"]


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("latency") / "out"
    assert start(*OPTIONS, "--out", folder) == 0
    return folder


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(), parse_constant=lambda n: pytest.fail(f"{n} in JSON"))


def test_what_a_smoke_run_writes(smoke: Path) -> None:
    assert {"config.json", "records.jsonl", "summary.json", "latency.png"} <= {p.name for p in smoke.iterdir()}
    assert (smoke / "latency.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    summary = summary_of(smoke)
    assert next(iter(summary.items())) == ("schema", "search_latency/1")
    assert {"rows", "ratios", "config", "versions", "device", "date"} <= set(summary)
    config = json.loads((smoke / "config.json").read_text())
    assert config.pop("versions").items() <= summary["versions"].items()
    assert summary["config"] == config
    assert ("torch" in summary["versions"]) == TORCH
    rows = summary["rows"]
    assert [row["engine"] for row in rows] == ["ncp-jax", *BASELINES]
    assert set(summary["ratios"]) == set(BASELINES)


def test_rows_are_consistent(smoke: Path) -> None:
    rows = summary_of(smoke)["rows"]
    for row in rows:
        assert (row["codes"], row["steps"]) == (64, 3)
        assert len(row["runs_s"]) == 2
        assert min(row["runs_s"]) <= row["median_s"] <= max(row["runs_s"])
        assert row["code_steps_per_s"] == pytest.approx(3 * row["codes_timed"] / row["median_s"])
        assert row["fraction"] == pytest.approx(row["flops_per_s"] / row["products_flops_per_s"])
        full, tile = row["products_full_flops_per_s"], row["products_tile_flops_per_s"]
        assert row["products_flops_per_s"] == max(full, tile)
        assert row["peak_memory_mb"] > 50
    own = rows[0]
    for kind in ("cold", "warm"):
        parts = ("import_s", "backend_s", "load_s", "compile_s", "search_s")
        assert all(own[f"{kind}_{part}"] > 0 for part in parts)
        assert sum(own[f"{kind}_{part}"] for part in parts) <= own[f"{kind}_first_result_s"]
        assert own[f"{kind}_first_result_after_import_s"] < own[f"{kind}_first_result_s"]
    assert own["changed_architectures"] == 0.0


def test_every_baseline_computes_the_same(smoke: Path) -> None:
    for row in summary_of(smoke)["rows"][1:]:
        assert row["agreement"]["max_difference"] < 1e-4
        assert row["agreement"]["different_architectures"] == 0.0
        assert row["agreement"]["codes"] == row["codes_timed"]


def test_a_finished_run_measures_nothing_again(smoke: Path, run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    before, records = summary_of(smoke), (smoke / "records.jsonl").read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr("latency.measurement.Child", refuse)
    status, out, err = run(*OPTIONS, "--resume", "--out", smoke)
    assert status == 0, err
    assert "ncp-jax / " in out
    assert (smoke / "records.jsonl").read_bytes() == records
    assert {k: v for k, v in summary_of(smoke).items() if k != "date"} == {
        k: v for k, v in before.items() if k != "date"
    }
    status, _, err = run(*OPTIONS, "--resume", "--predictor", "shipped", "--out", smoke)
    assert status == 2
    assert "predictor: 'ncp' there, 'shipped' now" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--codes", "4096", "0"), "expected --codes to be an integer 1 or more, got 0"),
        (("--codes", "4096,0"), "expected --codes to be an integer 1 or more, got 0"),
        (("--steps", "0"), "expected --steps to be an integer 1 or more, got 0"),
        (("--repeats", "0"), "expected --repeats to be an integer 1 or more, got 0"),
        (("--precision", "float8"), "expected a known precision, got 'float8'"),
        (("--against", "torch,lop"), "expected a known rival, got 'lop'; did you mean: loop"),
    ],
)
def test_wrong_options(run: Callable, options: tuple[str, ...], text: str, tmp_path: Path) -> None:
    status, out, err = run(*options, "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert text in err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_a_process_that_fails_is_reported_in_one_line(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    status, _, err = run("--smoke", "--out", tmp_path / "out")
    assert status == 1
    assert "ncp-jax: error: expected the setup process to answer 'write', got exit status 1" in err.splitlines()[-1]
    assert not (tmp_path / "out" / "summary.json").exists()
