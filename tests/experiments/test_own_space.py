"""experiments/own_space.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import load_table

from .conftest import Smoke

SCRIPT = "own_space.py"
OPTIONS = (
    "--smoke",
    "--benchmark",
    "digits/class",
    "--methods",
    "ncp,random,optuna-tpe,optuna-cmaes,optuna-tpe@3",
    "--trials",
    "12",
)


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    assert {path.name for path in smoke.folder.glob("*.png")} == {"own_space.png"}
    summary, records = smoke.summary(), smoke.records()
    assert {"best", "ranks", "trials_to_optimum", "ask_s", "tests"} <= set(summary)
    assert {"optuna", "cmaes"} <= set(summary["versions"])
    values = np.sort(np.asarray(load_table("digits/class").measured("accuracy"), float))[::-1]
    for method in ("ncp", "random", "optuna-tpe", "optuna-cmaes"):
        best = [max(r["results"]["values"]) for r in records if r["cell"]["method"] == method]
        assert summary["best"]["digits/class"][method]["12"]["mean"] == pytest.approx(np.mean(best))
        ranks = [1 + int((values > value).sum()) for value in best]
        assert summary["ranks"]["digits/class"][method]["12"]["mean"] == pytest.approx(np.mean(ranks))
        assert summary["ask_s"][method] > 0
    assert len(summary["tests"]["12"]) == 10
    single, several, chance = (
        summary["best"]["digits/class"][method]["12"]["mean"] for method in ("optuna-tpe", "optuna-tpe@3", "random")
    )
    kept = summary["kept_by_workers"]["optuna-tpe@3"]["12"]
    assert kept["mean"] == pytest.approx((several - chance) / (single - chance))


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("open_search.trials.search") == first


def test_fewer_methods_and_seeds_keep_the_searches_of_before(
    smoke: Smoke, tmp_path: Path, complete: Callable[..., tuple[str, str]]
) -> None:
    folder = shutil.copytree(smoke.folder, tmp_path / "copy")
    options = ("--smoke", "--benchmark", "digits/class", "--methods", "random", "--trials", "12")
    complete(SCRIPT, *options, "--seeds", "1", "--resume", "--out", folder)
    assert (folder / "records.jsonl").read_bytes() == (smoke.folder / "records.jsonl").read_bytes()


def test_the_open_space_has_the_eight_tasks_that_everyone_has() -> None:
    from open_search.benchmarks import expand

    assert len(expand(("nas-bench-mr",))) == 8
    assert "nas-bench-mr/3ddet" not in expand(("nas-bench-mr", "digits/class"))


@pytest.mark.usefixtures("spaces_stay", "mirror")
def test_trees_answer_for_spaces_that_a_table_holds_a_part_of() -> None:
    from open_search.benchmarks import expand, load

    assert "fbnet-latency/raspi4" in expand(("fbnet-latency",))
    benchmark, table = load("fbnet-latency/raspi4", noisy=True), load_table("fbnet-latency/raspi4")
    latency = np.asarray(table.measured("latency"))
    answers = benchmark.true(np.asarray(table.codes))
    assert benchmark.space.size == 9**22
    assert np.std(answers + latency) == pytest.approx(benchmark.noise)  # lower is better, so answers are negative
    assert 0 < benchmark.noise < 0.2 * latency.std()


def test_what_is_told_has_noise_and_what_is_reported_has_none() -> None:
    from open_search.trials import Trials

    run = Trials(values=(1.0, 3.0, 2.0), told=(1.5, 2.0, 2.5), ask_s=0.1)
    assert run.best().tolist() == [1.0, 3.0, 2.0]


def test_workers_ask_before_they_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from open_search import trials
    from open_search.benchmarks import load

    calls: list[str] = []

    class Recorder:
        def ask(self) -> np.ndarray:
            calls.append("ask")
            return np.full(6, len(calls) % 3, np.int32)

        def tell(self, code: np.ndarray, value: float) -> None:
            calls.append("tell")

    monkeypatch.setattr(trials, "make", lambda *_, **__: Recorder())
    benchmark = load("digits/class", noisy=False)
    monkeypatch.setattr(type(benchmark), "true", lambda self, codes: np.zeros(len(codes)))
    trials.search(benchmark, "random@3", seed=0, trials=5, folder=tmp_path)
    assert calls == ["ask"] * 3 + ["tell", "ask"] * 2 + ["tell"] * 3


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--methods", "optuna-gq"), "did you mean: optuna-gp"),
        (("--methods", "ncp@1"), "a number of workers from 2"),
        (("--benchmark", "digits/clas"), "did you mean: digits/class"),
        (("--trials", "1"), "--trials"),
    ],
)
def test_bad_input(refused: Callable[..., str], options: tuple[str, ...], expected: str) -> None:
    assert expected in refused("--smoke", *options)
