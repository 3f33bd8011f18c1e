"""experiments/ncp_budget.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import load_table
from ncp_jax.spaces import cost_model_for, get_space

SCRIPT = "ncp_budget.py"
OPTIONS = ("--smoke", "--tables", "digits/class")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, complete: Callable[..., tuple[str, str]]) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("budget") / "out"
    return folder, complete(SCRIPT, *OPTIONS, "--out", folder)[0]


def test_a_smoke_run_and_its_continuation(
    smoke: tuple[Path, str], complete: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = smoke
    summary = json.loads((folder / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "ncp_budget/1")
    assert summary["over"] == 0
    assert summary["proposals"] == 2 * (3 * 4 + 2 * 24)
    (row,) = summary["budgets"]["digits/class"].values()
    table = load_table("digits/class")
    model = cost_model_for(get_space(table.space), table.metrics)
    assert model is not None
    (limit,) = row["limits"]
    assert row["within"] == (model.in_units(np.asarray(table.codes))["flops"] <= limit["value"]).sum()
    assert 0 < row["inversion"]["percentile"]["mean"] <= 100
    assert (folder / "budget.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("searched again")

    monkeypatch.setattr("few_labels.within.search_within", refuse)
    (folder / "budget.png").unlink()
    assert complete(SCRIPT, *OPTIONS, "--resume", "--out", folder)[0] == out
    assert (folder / "budget.png").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--limits", "gflop<=1"), "did you mean: gflops"),
        (("--limits", "gflops=1"), "METRIC<=NUMBER"),
        (("--limits", "params_m<=0.001", "params_m>=0.002"), "contradict"),
        (("--quantiles", "0"), "--quantiles in (0, 1]"),
        (("--device", "fpgaa"), "did you mean: fpga"),
        (("--samples", "2"), "--samples"),
    ],
)
def test_bad_input(run: Callable[..., tuple[int, str, str]], tmp_path: Path, options, expected: str) -> None:
    status, _, err = run(*OPTIONS, *options, "--out", tmp_path / "out")
    assert (status, len(err.strip().splitlines())) == (2, 1), err
    assert expected in err
