"""experiments/inversion_quality.py: a smoke run, its files, its continuation, its refusals."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import get_space
from ncp_jax.analysis.intervals import wilson_interval

SCRIPT = "inversion_quality.py"
METHODS = {"inversion", "random", "evolution", "cma-es"}


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, mirror: Path, start: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("inversion_quality") / "out"
    assert start("--smoke", "--out", folder) == 0
    return folder


def summary_of(folder: Path) -> dict[str, Any]:
    found = json.loads(
        (folder / "summary.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON")
    )
    return {k: v for k, v in found.items() if k != "date"}


def records_of(folder: Path) -> dict[str, list[dict[str, Any]]]:
    parts: dict[str, list[dict[str, Any]]] = {"argmax": [], "limits": [], "anytime": []}
    for line in (folder / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        parts[record["cell"]["part"]].append(record)
    return parts


def test_what_a_smoke_run_writes(smoke: Path) -> None:
    names = {p.name for p in smoke.iterdir()}
    assert {"config.json", "records.jsonl", "summary.json", "argmax.png", "anytime.png"} <= names
    for path in smoke.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    summary = summary_of(smoke)
    assert next(iter(summary.items())) == ("schema", "inversion_quality/1")
    assert {"argmax", "limits", "anytime", "config", "versions", "device"} <= set(summary)
    config = json.loads((smoke / "config.json").read_text())
    assert config.pop("versions").items() <= summary["versions"].items()
    assert summary["config"] == config


def test_the_argmax_part(smoke: Path) -> None:
    (record,) = records_of(smoke)["argmax"]
    assert record["cell"]["space"] == "macro"
    ((name, rows),) = record["results"]["variants"].items()
    summary = summary_of(smoke)["argmax"]["macro"][name]
    assert summary["pairs"] == len(rows["hit"]) == 2
    assert summary["hits"] == sum(rows["hit"])
    assert [summary["low"], summary["high"]] == list(wilson_interval(summary["hits"], 2))
    assert all(gap <= 1e-6 for gap, hit in zip(rows["gap"], rows["hit"], strict=True) if hit)
    assert max(rows["scored"]) == summary["scored"]["largest"] < get_space("transnas-macro").size / 5
    assert rows["code_steps"] == [32, 32]


def test_the_limits_part(smoke: Path) -> None:
    (record,) = records_of(smoke)["limits"]
    searches, summary = record["results"]["searches"], summary_of(smoke)["limits"]["macro"]
    assert [search["quantile"] for search in searches] == [float(quantile) for quantile in summary]
    for search, cost in zip(searches, summary.values(), strict=True):
        assert cost["searches"] == 1
        assert cost["largest"] == search["gap"] <= 0.1
        assert cost["feasible"] == search["feasible"] >= search["distinct"]


def test_the_anytime_part(smoke: Path) -> None:
    (record,) = records_of(smoke)["anytime"]
    assert record["cell"] == {"part": "anytime", "task": "seg", "seed": 0}
    curves = record["results"]
    assert set(curves) == METHODS
    for curve in curves.values():
        assert len(curve["seconds"]) == len(curve["score"])
        assert (np.diff(curve["seconds"]) > 0).all()
        assert (np.diff(curve["score"]) >= 0).all()
        assert all(seconds <= 0.05 for seconds in curve["seconds"])
        if curve["code"]:
            get_space("nas-bench-mr").check(curve["code"])
    summary = summary_of(smoke)["anytime"]
    assert set(summary["to_best"]) == METHODS
    assert set(summary["against"]) == METHODS - {"inversion"}
    for rows in summary["against"].values():
        assert [row["seconds"] for row in rows] == [0.02, 0.05]
        assert all(row["ahead"] + row["tied"] + row["behind"] == pytest.approx(1) for row in rows)


def test_a_finished_run_is_not_repeated(smoke: Path, run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    before, lines = summary_of(smoke), (smoke / "records.jsonl").read_bytes()
    for name in ("argmax.train", "limits.train", "anytime_baselines.run_once"):
        monkeypatch.setattr(f"optimization.{name}", lambda *_, **__: pytest.fail("done again"))
    status, out, err = run("--smoke", "--resume", "--out", smoke)
    assert status == 0, err
    assert (smoke / "records.jsonl").read_bytes() == lines
    assert summary_of(smoke) == before
    assert "macro          inversion + polish" in out
    assert "0.05 s against evolution" in out
    assert "inversion: best known reached in" in out


def test_one_part_alone(smoke: Path, run: Callable, tmp_path: Path) -> None:
    options = ("--smoke", "--parts", "anytime", "--rivals", "random", "--budgets", "0.01", "0.03")
    status, out, err = run(*options, "--tasks", "video", "--out", tmp_path / "out")
    assert status == 0, err
    summary = summary_of(tmp_path / "out")
    assert "argmax" not in summary
    assert not (tmp_path / "out" / "argmax.png").exists()
    assert set(summary["anytime"]["against"]) == {"random"}
    assert "0.03 s against random" in out


def test_wrong_options(smoke: Path, run: Callable, tmp_path: Path) -> None:
    for options, text in (
        (("--parts", "argmin"), "expected a known part, got 'argmin'"),
        (("--spaces", "mr"), "expected a known enumerable space, got 'mr'"),
        (("--tasks", "segg"), "expected a known NAS-Bench-MR task, got 'segg'; did you mean: seg"),
        (("--rivals", "cma"), "expected a known rival, got 'cma'"),
        (("--pairs", "0"), "expected pairs to be an integer 1 or more, got 0; try 200"),
        (("--share", "2"), "expected a share in (0, 1], got 2.0"),
        (("--budgets", "0"), "expected a budget of seconds to be a number > 0, got 0.0"),
    ):
        status, _, err = run(*options, "--out", tmp_path / "out")
        assert status == 2, err
        assert text in err
    assert not (tmp_path / "out").exists()
    copy = shutil.copytree(smoke, tmp_path / "copy")
    status, _, err = run("--smoke", "--out", copy)
    assert status == 2
    assert "add --resume or choose another --out" in err
    status, _, err = run("--smoke", "--resume", "--share", "0.1", "--out", copy)
    assert status == 2
    assert "share: 0.19 there, 0.1 now" in err
