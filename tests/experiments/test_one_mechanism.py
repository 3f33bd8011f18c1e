"""Every experiment keeps its records in one way: one writer at a time, settings and data compared on --resume."""

from __future__ import annotations

import json
import re
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ncp_jax.files import lock
from ncp_jax.records.journal import Records, write_json

FOLDER = Path(__file__).resolve().parents[2] / "experiments"
# Script → what makes it start at once, and the lock of its folder.
STUDY, EXPERIMENT = ".share-records-0-of-1.lock", ".records.lock"
SCRIPTS: dict[str, tuple[tuple[str, ...], str]] = {
    "ablation": (("GRID",), STUDY),
    "arch_graph": (("--space", "digits"), STUDY),
    "audit": ((), EXPERIMENT),
    "compare_searchers": (("--benchmark", "digits/class", "--searchers", "random"), STUDY),
    "controllable": ((), EXPERIMENT),
    "device_latency": ((), EXPERIMENT),
    "inversion_options": (("--benchmarks", "digits"), EXPERIMENT),
    "inversion_quality": (("--parts", "argmax", "--spaces", "digits"), EXPERIMENT),
    "make_benchmark": ((), EXPERIMENT),
    "make_predictors": ((), "training-digits/.records.lock"),
    "ncp_budget": (("--tables", "digits/class"), EXPERIMENT),
    "ncp_cross_task": (("--spaces", "digits"), EXPERIMENT),
    "ncp_inter_task": (("--benchmarks", "digits"), EXPERIMENT),
    "ncp_intra_task": ((), EXPERIMENT),
    "ncp_nas_bench_201": (("--tables", "digits/class"), EXPERIMENT),
    "ncp_search": (("--tasks", "class"), EXPERIMENT),
    "own_space": (("--benchmark", "digits/class", "--methods", "random"), EXPERIMENT),
    "reliability": (("--commands", "study"), EXPERIMENT),
    "search_latency": (("--predictor", "shipped"), EXPERIMENT),
    "solve_orderings": ((), EXPERIMENT),
    "train_predictors": (("--tasks", "class"), EXPERIMENT),
    "transfer_schemes": (("--methods", "evolution"), EXPERIMENT),
}
# Experiment → the key of its config that identifies its data.
DATA = {
    "audit": "table",
    "controllable": "data",
    "device_latency": "data",
    "inversion_options": "tables",
    "inversion_quality": "tables",
    "make_benchmark": "images",
    "make_predictors": "table",
    "ncp_cross_task": "tables",
    "ncp_inter_task": "tables",
    "ncp_intra_task": "table",
    "ncp_nas_bench_201": "hashes",
    "ncp_search": "table",
    "search_latency": "shipped",
    "solve_orderings": "best_known",
    "train_predictors": "table",
    "transfer_schemes": "tables",
}


@pytest.fixture
def run(
    tmp_path: Path,
    empty_cache: Path,
    no_mirror: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Callable[..., tuple[int, str]]:
    """Runs the smoke version of an experiment in this process, without downloaded tables: exit status and stderr."""
    monkeypatch.delenv("NCP_JAX_TRACEBACK", raising=False)
    grid = tmp_path / "grid.toml"
    grid.write_text('benchmarks = ["digits/class"]\n[searchers.random]\n')

    def call(name: str, *arguments: object) -> tuple[int, str]:
        given = [str(grid) if word == "GRID" else word for word in SCRIPTS[name][0]]
        command = [name, *given, "--smoke", "--out", str(tmp_path / "out"), *map(str, arguments)]
        monkeypatch.setattr(sys, "argv", command)
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        return int(caught.value.code or 0), capsys.readouterr().err

    return call


def told(err: str) -> str:
    """The error, without notices about tables that are not here."""
    (line,) = [line for line in err.splitlines() if "ncp-jax: error:" in line]
    assert "Traceback" not in err
    return line


def test_every_experiment_is_here() -> None:
    # paper_tables reads the records of the others and has none.
    assert {path.stem for path in FOLDER.glob("*.py")} - {"paper_tables"} == set(SCRIPTS)


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_second_writer_is_refused_at_once(run: Callable[..., tuple[int, str]], tmp_path: Path, name: str) -> None:
    path = tmp_path / "out" / SCRIPTS[name][1]
    with lock(path, wait=False):
        for resume in ((), ("--resume",)):
            status, err = run(name, *resume)
            assert status == 2
            assert "expected no other process on this " in told(err)
            assert "wait for it, or " in told(err)
    assert not list((tmp_path / "out").rglob("*.jsonl"))


@pytest.mark.parametrize("name", DATA)
def test_other_settings_versions_or_data_are_refused(
    run: Callable[..., tuple[int, str]], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where nothing but its description is there, as when an experiment is killed before its first record."""
    configs: list[dict[str, Any]] = []

    def stop(self: Records, folder: Path, config: dict[str, Any], *rest: object) -> None:
        configs.append(config)
        raise OSError("seen enough")

    with monkeypatch.context() as patch:
        patch.setattr(Records, "_read", stop)
        assert run(name)[0] == 1
    (config,), data = configs, DATA[name]
    assert data in config
    changes = {
        "versions.jax": config | {"versions": config["versions"] | {"jax": "0"}},
        data: config | {data: "other"},
        "extra": config | {"extra": 1},
    }
    folder = tmp_path / "out" / Path(SCRIPTS[name][1]).parent
    for key, old in changes.items():
        (folder / "config.json").write_text(json.dumps(old))
        status, err = run(name, "--resume")
        assert status == 2
        assert re.search(rf"got other settings \(.*{key}.*: .* there, .* now.*; choose another --out", told(err))
    assert not list((tmp_path / "out").rglob("*.jsonl"))


def test_the_shipped_predictors_training_goes_on(
    run: Callable[..., tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its state is a checkpoint; a training that ends removes it."""
    folder, seen = tmp_path / "out" / "training-digits", []

    def killed(*_: object, checkpoint: Path, **__: object) -> None:
        checkpoint.mkdir(exist_ok=True)
        seen.append(checkpoint)
        raise OSError("killed")

    monkeypatch.setattr("ncp_jax.fit", killed)
    for resume in ((), ("--resume",), ("--resume", "--seeds", "2")):
        assert run("make_predictors", *resume)[0] == 1
    assert seen == [folder / "checkpoints"] * 3
    assert {path.name for path in folder.iterdir()} == {"config.json", "checkpoints", ".records.lock"}
    monkeypatch.setattr("ncp_jax.fit", lambda *_, **__: None)
    monkeypatch.setattr("ncp_jax.save_predictor", lambda path, *_, **__: write_json(path, {}))
    status, err = run("make_predictors", "--resume")
    assert status == 0, err
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"digits.npz", "digits.json"}
