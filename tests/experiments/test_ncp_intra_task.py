"""experiments/ncp_intra_task.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SCRIPT = "ncp_intra_task.py"
OPTIONS = ("--smoke", "--seeds", "1")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, complete: Callable[..., tuple[str, str]]) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("intra_task") / "out"
    return folder, complete(SCRIPT, *OPTIONS, "--out", folder)[0]


def test_a_smoke_run_and_its_continuation(
    smoke: tuple[Path, str], complete: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = smoke
    summary = json.loads((folder / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "ncp_intra_task/1")
    (matrix,) = summary["loss"].values()
    records = {
        record["cell"]["setting"]: record["results"]
        for record in map(json.loads, (folder / "records.jsonl").read_text().splitlines())
    }
    assert list(matrix) == list(records)
    for source in matrix:
        assert matrix[source][source]["mean"] == 0
        for target in matrix:
            loss = records[target]["judged"][target] - records[source]["judged"][target]
            assert matrix[source][target]["mean"] == pytest.approx(loss)
        lengths = np.array([end["mean"] for end in summary["gradient"][source].values()])
        assert 0 < np.linalg.norm(lengths) <= 1 + 1e-6
    for name in ("gradient.png", "carry_over.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("harness.scoring.fit_pair", refuse)
    assert complete(SCRIPT, *OPTIONS, "--resume", "--out", folder)[0] == out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--tasks", "vidoe"), "did you mean: video"),
        (("--quantile", "0"), "--quantile in (0, 1]"),
        (("--top", "0"), "--top"),
    ],
)
def test_bad_input(run: Callable[..., tuple[int, str, str]], tmp_path: Path, options, expected: str) -> None:
    status, _, err = run(*options, "--out", tmp_path / "out")
    assert (status, len(err.strip().splitlines())) == (2, 1), err
    assert expected in err
