"""Searches of a user's own table on the command line: from end to end, and what is wrong with tables."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ncp_jax import cost_model, get_space
from ncp_jax.training.recipes import ENSEMBLE, RECIPES

from .command_line import SMALL, Run, failure

ROWS = [("64-41414-1_02_333", "70.5"), ("64-41414-3_33_333", "80"), ("64-41414-0_12_301", "60.25")]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.write_text("\n".join(["arch,acc", *(",".join(row) for row in rows), ""]))
    return path


@pytest.mark.parametrize(
    ("rows", "options", "status", "words"),
    [
        ([*ROWS, (ROWS[0][0], "71")], {}, 1, "got other values in line 5 for the architecture of line 2"),
        ([(ROWS[0][0], "nan"), *ROWS[1:]], {}, 1, "expected a finite number in line 2, column 'acc'"),
        ([(arch, "1.0") for arch, _ in ROWS], {}, 1, "expected a metric that varies in"),
        ([("64-41414-9_02_333", "1"), *ROWS], {}, 1, "mine.csv, line 2: expected an architecture string"),
        ([], {}, 1, "expected two architectures or more"),
        (ROWS, {"--maximize": "accuracy"}, 2, "got 'accuracy'; did you mean: acc"),
        (ROWS, {"--space": "transnas-mikro"}, 2, "expected a known space, got 'transnas-mikro'; did you mean"),
        (
            ROWS,
            {"--max-gflops": "0.01"},
            2,
            "a GFLOPs limit >= 0.09182, the space's smallest, got 0.01; raise the",
        ),
        (
            ROWS,
            {"--limit": "latency<=3"},
            2,
            "a known metric or cost to limit, got 'latency'; did you mean",
        ),
        (ROWS, {"--task": "jigsau"}, 2, "expected a known task of transnas-micro, got 'jigsau'; did you mean: jigsaw"),
    ],
)
def test_wrong_tables(
    command: Run,
    tmp_path: Path,
    rows: list,
    options: dict[str, str],
    status: int,
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ncp_jax.training.fit", lambda *a, **k: pytest.fail("found after training"))
    path = write(tmp_path / "mine.csv", rows)
    arguments = {"--table": str(path), "--space": "transnas-micro", "--maximize": "acc", **options}
    code, line = failure(command("search", *SMALL, *(part for pair in arguments.items() for part in pair)))
    assert words in line
    assert code == status


def test_a_missing_table(command: Run, tmp_path: Path) -> None:
    table = tmp_path / "none.csv"
    status, line = failure(command("search", "--table", table, "--space", "micro", "--maximize", "acc"))
    assert status == 1
    assert "none.csv, got no such file; correct the path" in line


def test_a_users_table_from_end_to_end(command: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So easy a table is learned as well in fewer steps.
    monkeypatch.setitem(RECIPES, "ensemble", dataclasses.replace(ENSEMBLE, min_steps=200))
    space = get_space("transnas-micro")
    codes = np.unique(np.asarray(space.sample(jax.random.key(0), 60)), axis=0)
    quality = 50 + 5 * (codes == 3).sum(axis=1)
    table = write(tmp_path / "mine.csv", list(zip(space.to_strings(codes), map(str, quality), strict=True)))
    out = tmp_path / "out"
    status, text, err = command(
        "search", "--table", table, "--space", "transnas-micro", "--maximize", "acc", "--members", "1",
        "--codes", "64", "--steps", "70", "--out", out,
    )  # fmt: skip
    assert status == 0
    assert f"training 1 networks on {len(codes)} architectures" in err
    result = json.loads((out / "result.json").read_text())
    assert result["space"] == "transnas-micro"
    assert list(result["hashes"]) == ["mine.csv"]
    # A file says nothing about its networks: they are those of the space's first task.
    model = cost_model("transnas-micro", "class_scene")
    assert result["best"]["gflops"] == model.exact(np.array(result["best"]["code"]))["flops"] / 1e9
    assert result["counted"] == model.counted == "the network of class_scene: 63 classes, image 256×256"
    # The truth is known: the best has as many 3x3 convolutions as there are edges.
    assert result["best"]["code"].count(3) >= 5
    assert result["best"]["predicted"]["acc"] > 70
    assert result["best"]["string"] in text
    assert (out / "search.png").stat().st_size > 10_000
