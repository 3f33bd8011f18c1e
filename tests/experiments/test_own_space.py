"""experiments/own_space.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import load_table

SCRIPT = "own_space.py"
OPTIONS = (
    "--smoke",
    "--benchmark",
    "digits/class",
    "--methods",
    "ncp,random,optuna-tpe,optuna-cmaes",
    "--trials",
    "12",
)


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("own_space") / "out"
    assert start(*OPTIONS, "--out", folder) == 0
    return folder


def test_what_a_smoke_run_writes(smoke: Path) -> None:
    assert {"config.json", "records.jsonl", "summary.json", "own_space.png"} <= {p.name for p in smoke.iterdir()}
    assert (smoke / "own_space.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    summary = json.loads((smoke / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "own_space/1")
    assert {"best", "ranks", "trials_to_optimum", "ask_s", "tests", "config", "versions", "device", "date"} <= set(
        summary
    )
    assert {"optuna", "cmaes"} <= set(summary["versions"])
    values = np.sort(np.asarray(load_table("digits/class").measured("accuracy"), float))[::-1]
    records = [json.loads(line) for line in (smoke / "records.jsonl").read_text().splitlines()]
    for method in ("ncp", "random", "optuna-tpe", "optuna-cmaes"):
        best = [max(r["results"]["values"]) for r in records if r["cell"]["method"] == method]
        assert summary["best"]["digits/class"][method]["12"]["mean"] == pytest.approx(np.mean(best))
        ranks = [1 + int((values > value).sum()) for value in best]
        assert summary["ranks"]["digits/class"][method]["12"]["mean"] == pytest.approx(np.mean(ranks))
        assert summary["ask_s"][method] > 0
    assert len(summary["tests"]["12"]) == 6


def test_more_seeds_keep_the_searches_of_before(smoke: Path, start: Callable[..., int]) -> None:
    before = (smoke / "records.jsonl").read_text()
    options = ("--smoke", "--benchmark", "digits/class", "--methods", "random", "--trials", "12")
    assert start(*options, "--seeds", "1", "--resume", "--out", smoke) == 0
    assert (smoke / "records.jsonl").read_text() == before


def test_the_open_space_has_the_eight_tasks_that_everyone_has() -> None:
    from open_search.benchmarks import expand

    assert len(expand(("nas-bench-mr",))) == 8
    assert "nas-bench-mr/3ddet" not in expand(("nas-bench-mr", "digits/class"))


def test_what_is_told_has_noise_and_what_is_reported_has_none() -> None:
    from open_search.trials import Trials

    run = Trials(values=(1.0, 3.0, 2.0), told=(1.5, 2.0, 2.5), ask_s=0.1)
    assert run.best().tolist() == [1.0, 3.0, 2.0]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--methods", "optuna-gq"), "did you mean: optuna-gp"),
        (("--benchmark", "digits/clas"), "did you mean: digits/class"),
        (("--trials", "1"), "--trials"),
    ],
)
def test_bad_input(run: Callable[..., tuple[int, str, str]], tmp_path: Path, options, expected: str) -> None:
    status, _, err = run("--smoke", *options, "--out", tmp_path / "out")
    assert status == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
