"""experiments/search_latency.py: a smoke run with real processes, its files, its continuation, its refusals."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import Smoke

SCRIPT = "search_latency.py"
TORCH = importlib.util.find_spec("torch") is not None
# PyTorch is an optional extra; without it, the error is tested in test_config, and the loop runs in JAX.
OPTIONS = ("--smoke", "--against", "torch,torch-frozen,torch-folded,loop" if TORCH else "loop")
BASELINES = ["torch-authors", "torch-frozen", "torch-folded", "loop-torch"] if TORCH else ["loop-jax"]


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    assert {path.name for path in smoke.folder.glob("*.png")} == {"latency.png"}
    summary = smoke.summary()
    assert ("torch" in summary["versions"]) == TORCH
    rows = summary["rows"]
    assert [row["engine"] for row in rows] == ["ncp-jax", *BASELINES]
    assert set(summary["ratios"]) == set(BASELINES)


def test_rows_are_consistent(smoke: Smoke) -> None:
    rows = smoke.summary()["rows"]
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


def test_every_baseline_computes_the_same(smoke: Smoke) -> None:
    for row in smoke.summary()["rows"][1:]:
        assert row["agreement"]["max_difference"] < 1e-4
        assert row["agreement"]["different_architectures"] == 0.0
        assert row["agreement"]["codes"] == row["codes_timed"]


def test_a_finished_run_measures_nothing_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("latency.measurement.Child") == first


def test_other_settings_are_another_run(smoke: Smoke, run: Callable) -> None:
    status, _, err = run(*OPTIONS, "--resume", "--predictor", "shipped", "--out", smoke.folder)
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
def test_wrong_options(refused: Callable[..., str], options: tuple[str, ...], text: str) -> None:
    assert text in refused(*options)


def test_a_process_that_fails_is_reported_in_one_line(
    run: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    status, _, err = run("--smoke", "--out", tmp_path / "out")
    assert status == 1
    assert "ncp-jax: error: expected the setup process to answer 'write', got exit status 1" in err.splitlines()[-1]
    assert not (tmp_path / "out" / "summary.json").exists()
