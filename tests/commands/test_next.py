"""``ncp-jax next``: the table is the state."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.cli import parse
from ncp_jax.commands.next import suggest_next
from ncp_jax.spaces import get_space

from .described import TOML

pytestmark = pytest.mark.usefixtures("spaces_stay")


def accuracy(row: dict[str, str]) -> float:
    return float(row["width"]) / 128 + {"": 0.0, "3x3": 0.1, "5x5": 0.4, "7x7": 0.2}[row["kernel4"]]


def test_a_table_is_filled_round_by_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "space.toml").write_text(TOML)
    table, out = tmp_path / "mine.csv", tmp_path / "next.csv"
    options = ["next", "--space", str(tmp_path / "space.toml"), "--maximize", "accuracy", "--count", "4"]
    options += ["--initial", "6", "--out", str(out)]
    rows: list[dict[str, str]] = []
    for number in range(4):
        parse([*options, *(["--table", str(table)] if rows else [])]).run()
        with out.open() as file:
            new = list(csv.DictReader(file))
        assert len(new) == 4
        assert all(row["accuracy"] == "" for row in new)
        for place, row in enumerate(new):
            row["accuracy"] = ("failed", "")[number - 1] if 1 <= number <= 2 and place == 0 else f"{accuracy(row):.4f}"
        rows += new
        with table.open("w") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    assert len({(row["stages"], row["kernel4"], row["width"]) for row in rows}) == 16  # also those that failed or wait
    measured = [float(row["accuracy"]) for row in rows if row["accuracy"] not in ("", "failed")]
    assert max(measured) == pytest.approx(1.4)  # the best of the space
    text = capsys.readouterr().out
    assert "spread out" in text
    assert "1 failed, 1 without a result yet" in text


def test_json_and_reasons() -> None:
    result = suggest_next(space="transnas-macro", maximize=("accuracy",), count=3, searcher="random", seed=2)
    content = json.loads(json.dumps(result.to_json(), allow_nan=False))
    assert content["schema"] == "next/1"
    assert [row["why"] for row in content["next"]] == ["random"] * 3
    assert content["trained"] == {"measured": 0, "failed": 0, "waiting": 0}
    space = get_space("transnas-macro")
    for row in content["next"]:
        assert (space.from_string(row["architecture"]) == np.array(row["code"])).all()
    again = suggest_next(space="transnas-macro", maximize=("accuracy",), count=3, searcher="random", seed=2)
    assert again.suggestions == result.suggestions


@pytest.mark.parametrize(
    ("settings", "pattern"),
    [
        ({}, "--maximize or --minimize"),
        ({"maximize": ("a",), "count": 0}, "--count"),
        ({"maximize": ("a",), "searcher": "nothing"}, "searcher"),
        ({"maximize": ("a",), "limit": ("gflops<=1e-9",)}, "a GFLOPs limit >= 0.3053"),
        ({"maximize": ("a",), "limit": ("b",)}, "METRIC<=NUMBER"),
    ],
)
def test_wrong_options(settings: dict[str, object], pattern: str) -> None:
    with pytest.raises(UsageError, match=pattern):
        suggest_next(space="transnas-macro", **settings)
