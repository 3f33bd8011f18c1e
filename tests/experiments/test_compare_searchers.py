"""experiments/compare_searchers.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SCRIPT = "compare_searchers.py"
TABLES = ("transnas-macro/jigsaw", "transnas-macro/room_layout")
SEARCHERS = ("random", "evolution", "local-search", "arch-graph")
OPTIONS = ("--smoke", "--benchmark", ",".join(TABLES), "--searchers", *SEARCHERS, "--against", "python")


@pytest.fixture(scope="module")
def smoke(
    tmp_path_factory: pytest.TempPathFactory, mirror: Path, complete: Callable[..., tuple[str, str]]
) -> tuple[Path, str, str]:
    """The folder of a smoke run, and what it printed."""
    folder = tmp_path_factory.mktemp("compare") / "out"
    return folder, *complete(SCRIPT, *OPTIONS, "--out", folder)


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text(), parse_constant=lambda n: pytest.fail(f"{n} in JSON"))


def test_what_a_smoke_run_writes(smoke: tuple[Path, str, str]) -> None:
    folder, out, err = smoke
    names = {p.name for p in folder.iterdir()}
    assert {"study.json", "records.jsonl", "sessions.jsonl", "summary.json", "report.html", "runs.csv"} <= names
    assert not [name for name in names if name.startswith("records-") or name.endswith(".tmp")]
    pictures = list(folder.glob("*.png"))
    assert pictures
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in pictures)
    assert len((folder / "records.jsonl").read_text().splitlines()) == 2 * 4 * 3
    assert "runs: 24/24" in err
    for name in SEARCHERS:
        assert name in out


def test_the_summary(smoke: tuple[Path, str, str]) -> None:
    summary = summary_of(smoke[0])
    assert {"methods", "benchmarks", "comparison", "speed", "config", "versions", "device", "date"} <= set(summary)
    assert list(summary["methods"]) == list(SEARCHERS)
    assert set(summary["benchmarks"]) == set(TABLES)
    config = summary["config"]
    assert (config["smoke"], config["seeds"], config["budget"]) == (True, 3, 20)
    assert config["searchers"] == {name: [{}] for name in SEARCHERS}


def test_the_speed(smoke: tuple[Path, str, str]) -> None:
    folder, out, err = smoke
    speed = summary_of(folder)["speed"]
    assert list(speed) == ["random", "evolution", "local-search"]
    for name, measured in speed.items():
        assert measured["ratio"] == pytest.approx(measured["queries_per_s"] / measured["python_queries_per_s"])
        assert f"{name}: {measured['queries_per_s']:,.0f} queries/s, {measured['ratio']:.1f} times plain Python" in out
    assert "timing against plain Python" in err


def test_resume_repeats_no_search(smoke: tuple[Path, str, str], run: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out, _ = smoke
    before, records = summary_of(folder), (folder / "records.jsonl").read_bytes()
    monkeypatch.setattr("ncp_jax.studies.runner.run_packs", lambda *_: pytest.fail("searched again"))
    status, again, err = run(*OPTIONS[:-2], "--resume", "--out", folder)
    assert status == 0, err
    assert "24 of 24 runs are finished already" in err
    assert again == "".join(line for line in out.splitlines(keepends=True) if "queries/s" not in line)
    assert (folder / "records.jsonl").read_bytes() == records
    after = summary_of(folder)
    changing = ("date", "speed")
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }


def test_records_are_not_overwritten(smoke: tuple[Path, str, str], run: Callable) -> None:
    folder = smoke[0]
    before = {p.name: p.read_bytes() for p in folder.iterdir()}
    status, out, err = run(*OPTIONS, "--out", folder)
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith("ncp-jax: error: expected a folder without records for --out")
    # Said before anything is timed.
    assert "timing" not in err
    status, _, err = run(*OPTIONS, "--resume", "--repeats", "counted", "--out", folder)
    assert status == 2
    assert "got another study (grid.repeats: 'free' there, 'counted' now" in err.splitlines()[-1]
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == before


def test_shares(smoke: tuple[Path, str, str], run: Callable, tmp_path: Path) -> None:
    """Each share says that it is done; the last one makes the summary, and only it takes the time."""
    folder = tmp_path / "out"
    options = ("--smoke", "--benchmark", *TABLES, "--searchers", "random,evolution", "--against", "python")
    status, out, err = run(*options, "--shard", "1/2", "--out", folder)
    assert (status, out) == (0, ""), err
    assert err.splitlines()[-1] == f"ncp-jax: this share is done; the summary comes with the last one, in {folder}"
    assert not (folder / "summary.json").exists()
    status, out, err = run(*options, "--shard", "2/2", "--out", folder)
    assert status == 0, err
    assert set(summary_of(folder)["speed"]) == {"random", "evolution"}
    # The same runs as those of the study with more searchers.
    lines = (smoke[0] / "records.jsonl").read_bytes().splitlines()
    wanted = [line for line in lines if json.loads(line)["method"] in ("random", "evolution")]
    assert (folder / "records.jsonl").read_bytes().splitlines() == wanted


MACRO = ("--benchmark", "transnas-macro/jigsaw", "--searchers", "random")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            ("--benchmark", "transnas-makro"),
            "expected a known benchmark, got 'transnas-makro'; did you mean: transnas-ma",
        ),
        (("--searchers", "evolutoin"), "expected a known searcher, got 'evolutoin'; did you mean: evolution"),
        ((*MACRO, "--budget", "0"), "expected budget to be an integer in 1.."),
        ((*MACRO, "--budget", "3257"), "expected a budget of queries to be an integer in 1..3256, got 3257"),
        ((*MACRO, "--repeats", "onc"), "expected a known repeats, got 'onc'"),
        ((*MACRO, "--seconds", "5"), "expected one column of training seconds (unit s), got 0 of them"),
        ((*MACRO, "--seconds", "-5"), "expected seconds to be a number > 0, got -5.0"),
        ((*MACRO, "--against", "pyton"), "expected a known rival, got 'pyton'; did you mean: python"),
        ((*MACRO, "--shard", "9/3"), "expected --shard i/N with N >= 1 and i in 0..N-1 (or 1..N), got '9/3'"),
        ((*MACRO, "--coordinator", "127.0.0.1:9"), "expected --shard i/N with --coordinator HOST:PORT, got no --shard"),
        ((*MACRO, "--coordinator", "127.0.0.1:9", "--shard", "0/0"), "expected --shard i/N with N >= 1"),
        ((*MACRO, "--devices", "99"), "expected 1..1 devices, got 99"),
        ((*MACRO, "--memory-mb", "0"), "expected --memory-mb to be a number > 0, got 0.0"),
        ((*MACRO, "--memory-mb", "1e-5"), "MB for one run of random, got 1e-05 MB; allow more memory"),
        ((*MACRO, "--first-seed", "-1"), "expected first_seed to be an integer in 0.."),
    ],
)
def test_wrong_options(run: Callable, mirror: Path, tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    status, out, err = run(*options, "--out", tmp_path / "out")
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("ncp-jax: error: ")
    assert words in err
    assert not (tmp_path / "out").exists()


def test_an_option_that_no_experiment_takes(run: Callable, tmp_path: Path) -> None:
    for options in (("--seeds", "0"), ("--budget", "many"), ("--searcher-s", "random")):
        status, out, err = run(*options, "--out", tmp_path / "out")
        assert (status, out) == (2, "")
        assert "Traceback" not in err
    assert not (tmp_path / "out").exists()
