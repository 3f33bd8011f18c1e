"""Scripts of experiments/: a smoke run of each, its files, its continuation, its refusals."""

from __future__ import annotations

import json
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ncp_jax import cost_model, get_space, load_predictor, load_table

FOLDER = Path(__file__).resolve().parent.parent.parent / "experiments"
FILES = {
    "train_predictors.py": {"config.json", "records.jsonl", "summary.json", "tau.png"},
    "ncp_search.py": {"config.json", "records.jsonl", "summary.json", "margins.png"},
}


@pytest.fixture(scope="module")
def smoke(
    tmp_path_factory: pytest.TempPathFactory, mirror: Path, complete: Callable[..., tuple[str, str]]
) -> dict[str, tuple[Path, str]]:
    """Runs both scripts; gives the folder and the output of each."""
    root, done = tmp_path_factory.mktemp("experiments"), {}
    for name in FILES:
        out, err = complete(name, "--smoke", "--out", root / name)
        assert "Traceback" not in err
        done[name] = (root / name, out)
    return done


def summary_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "summary.json").read_text())


def records_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", FILES)
def test_every_script_has_its_files(smoke: dict, name: str) -> None:
    folder, _ = smoke[name]
    assert FILES[name] <= {p.name for p in folder.iterdir()}
    for path in folder.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    summary = summary_of(folder)
    assert next(iter(summary.items())) == ("schema", f"{name.removesuffix('.py')}/1")
    assert {"config", "versions", "device", "date"} <= set(summary)
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("versions").items() <= summary["versions"].items()
    assert summary["config"] == config
    assert summary["config"]["smoke"] is True


def test_train_predictors(smoke: dict) -> None:
    folder, out = smoke["train_predictors.py"]
    summary = summary_of(folder)
    assert set(summary["tau"]) == {"ncp", "ensemble"}
    for recipe, taus in summary["tau"].items():
        assert set(taus) == {"seg", "video"}
        assert all(-1 <= tau <= 1 for tau in taus.values())
        assert summary["tau_mean"][recipe]["mean"] == pytest.approx(np.mean(list(taus.values())))
        assert summary["seconds_per_predictor"][recipe] > 0
        assert f"{recipe}: tau " in out
    records = {record["cell"]["recipe"]["name"]: record["results"] for record in records_of(folder)}
    assert records["ncp"]["tau"] == summary["tau"]["ncp"]
    # Two folds of two tasks, one network each; the ensemble has two joint members per fold.
    assert (records["ncp"]["networks"], records["ncp"]["predictors"]) == (4, 4)
    assert (records["ensemble"]["networks"], records["ensemble"]["predictors"]) == (4, 8)
    assert not list((folder / "checkpoints").glob("*")), "checkpoints of finished trainings are removed"


def test_ncp_search_against_the_table(smoke: dict) -> None:
    """The comparisons on record agree with the published table."""
    folder, _ = smoke["ncp_search.py"]
    summary = summary_of(folder)
    (record,) = records_of(folder)
    contests = record["results"]["contests"]
    assert [contest["limit"] is None for contest in contests] == [True, False]
    table, model = load_table("nas-bench-mr/seg"), cost_model(get_space("nas-bench-mr"))
    codes, measured = np.asarray(table.codes), np.asarray(table.column("mIoU"))
    flops = model.in_units(codes)["flops"]
    for contest in contests:
        assert contest["gflops"] == pytest.approx(float(model.in_units(np.array(contest["code"]))["flops"]))
        assert contest["limit"] is None or contest["gflops"] <= contest["limit"]
        allowed = flops <= contest["gflops"]
        assert contest["rival_measured"] == pytest.approx(measured[allowed].max())
        row = int(table.rows(np.array(contest["rival"])))
        assert measured[row] == pytest.approx(contest["rival_measured"])
        assert contest["rival_gflops"] == pytest.approx(flops[row])
        assert contest["margin"] == pytest.approx(contest["judge_predicts"] - contest["rival_judged"])
        assert contest["margin_std"] == pytest.approx(contest["margin"] / measured.std(), rel=1e-4)
        assert contest["margin_measured"] == pytest.approx(contest["judge_predicts"] - contest["rival_measured"])
        assert contest["beats"] == (contest["margin"] > 0)
    assert contests[1]["limit"] == pytest.approx(np.quantile(flops, 0.5))
    assert summary["contests"] == 2
    assert summary["win_rate"] == pytest.approx(np.mean([contest["beats"] for contest in contests]))
    assert set(summary["tasks"]["seg"]) >= {"win_rate", "margin", "margin_std", "margin_measured"}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> Callable[..., tuple[int, str, str]]:
    """Runs a script in this process; returns (exit status, stdout, stderr)."""
    monkeypatch.delenv("NCP_JAX_TRACEBACK", raising=False)

    def call(name: str, *arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
        code = caught.value.code
        return (0 if code is None else int(code)), *capsys.readouterr()

    return call


@pytest.mark.parametrize("name", FILES)
def test_resume_repeats_nothing(smoke: dict, run: Callable, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = smoke[name]
    before, lines = summary_of(folder), (folder / "records.jsonl").read_bytes()

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    for module in ("cross_validation.cross_validation.cross_validate", "harness.scoring.fit_pair"):
        monkeypatch.setattr(module, refuse)
    status, again, err = run(name, "--smoke", "--resume", "--out", folder)
    assert status == 0, err
    assert again == out
    assert (folder / "records.jsonl").read_bytes() == lines
    after = summary_of(folder)
    assert {k: v for k, v in after.items() if k != "date"} == {k: v for k, v in before.items() if k != "date"}


@pytest.mark.parametrize("name", FILES)
def test_records_are_not_overwritten(smoke: dict, run: Callable, name: str) -> None:
    folder, _ = smoke[name]
    before = {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}
    status, _, err = run(name, "--smoke", "--out", folder)
    assert status == 2
    assert err.splitlines()[-1].startswith("ncp-jax: error: expected a folder without records for --out")
    status, _, err = run(name, "--smoke", "--resume", "--members", "9", "--out", folder)
    assert status == 2
    assert "members: 8 there, 9 now" in err.splitlines()[-1]
    assert {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()} == before


@pytest.mark.parametrize("name", FILES)
def test_wrong_options(run: Callable, name: str, tmp_path: Path) -> None:
    status, _, err = run(name, "--seeds", "0", "--out", tmp_path / "out")
    assert status == 2
    assert "expected --seeds to be an integer 1 or more, got 0" in err
    status, _, err = run(name, "--tasks", "segg", "--smoke", "--out", tmp_path / "out")
    assert status == 2
    assert "got 'nas-bench-mr/segg'; did you mean: nas-bench-mr/seg" in err
    assert not (tmp_path / "out").exists()


def test_make_predictors_writes_a_predictor_with_its_card(run: Callable, tmp_path: Path, mirror: Path) -> None:
    quality = tmp_path / "quality.json"
    quality.write_text(json.dumps({"tau": {"ensemble": {"seg": 0.5}}}))
    options = ("--smoke", "--out", tmp_path / "out", "--quality", quality)
    status, _, err = run("make_predictors.py", *options)
    assert status == 0, err
    predictor, card = load_predictor(tmp_path / "out" / "nas-bench-mr.npz")
    assert predictor.members == card["members"] == 2
    assert [m.name for m in predictor.metrics if m.kind == "cost"] == ["flops", "params"]
    assert card["tau"] == {"seg": 0.5}
    assert json.loads((tmp_path / "out" / "nas-bench-mr.json").read_text()) == card
    quality.write_text("{}")
    status, _, err = run("make_predictors.py", *options)
    assert status == 1
    assert "expected a summary.json with tau of the ensemble" in err
    assert "Traceback" not in err
