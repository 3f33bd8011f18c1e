"""experiments/ncp_cross_task.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SCRIPT = "ncp_cross_task.py"
OPTIONS = ("--smoke", "--spaces", "digits")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, complete: Callable[..., tuple[str, str]]) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("cross") / "out"
    out, _ = complete(SCRIPT, *OPTIONS, "--out", folder)
    return folder, out


def test_what_a_smoke_run_writes(smoke: tuple[Path, str]) -> None:
    folder, out = smoke
    files = {"config.json", "records.jsonl", "summary.json", "matrix.png", "labels.png"}
    assert files <= {p.name for p in folder.iterdir()}
    summary = json.loads((folder / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "ncp_cross_task/1")
    matrix, found = summary["matrix"]["digits"], summary["transfer"]["digits"]
    tasks = matrix["tasks"]
    assert len(tasks) == 3
    assert all(list(row) == tasks for row in matrix["percentile"].values())
    assert {kind: list(at) for kind, at in found["levels"]["predictor"].items()} == {
        "one": ["10", "20"],
        "all": ["10", "20"],
    }
    assert list(found["levels"]["scratch"]) == ["none"]
    for scheme in ("starts", "predictor"):
        assert {"labels", "better", "worse", "reached"} == set(found["aim"][scheme])
        assert f"digits {scheme}: with 20 labels" in out


def test_the_summary_is_made_from_the_records(smoke: tuple[Path, str]) -> None:
    folder, _ = smoke
    found = json.loads((folder / "summary.json").read_text())["transfer"]["digits"]
    records = [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]
    ranks = [
        record["results"]["all"]
        for record in records
        if record["cell"].get("scheme") == "predictor" and record["cell"]["labels"] == 20
    ]
    assert np.shape(ranks) == (3, 2)
    assert found["levels"]["predictor"]["all"]["20"]["rank"]["mean"] == pytest.approx(np.mean(ranks))


def test_a_finished_run_is_written_again_and_takes_other_labels(
    smoke: tuple[Path, str], complete: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transfer.cross_cells import Cells

    folder, out = smoke
    before = [(folder / name).read_bytes() for name in ("records.jsonl", "labels.png", "matrix.png")]
    (folder / "labels.png").unlink()
    monkeypatch.setattr(Cells, "run", None)
    again, _ = complete(SCRIPT, *OPTIONS, "--resume", "--out", folder)
    assert again == out
    assert [(folder / name).read_bytes() for name in ("records.jsonl", "labels.png", "matrix.png")] == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--spaces", "micr"), "did you mean: micro"),
        (("--spaces", "digits", "--targets", "clas"), "did you mean: class"),
        (
            ("--spaces", "digits", "--targets", "class", "--sources", "class"),
            "sources other than the targets, got class",
        ),
        (("--spaces", "digits", "--labels", "9"), "--labels"),
        (("--spaces", "digits", "--labels", "501"), "--labels"),
        (("--spaces", "digits", "--ensembles", "0"), "--ensembles"),
    ],
)
def test_bad_input(run: Callable[..., tuple[int, str, str]], tmp_path: Path, options, expected: str) -> None:
    status, _, err = run("--smoke", *options, "--out", tmp_path / "out")
    assert status == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
