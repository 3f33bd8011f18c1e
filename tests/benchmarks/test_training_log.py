"""Tables that users fill while they train: measured, failed and blank cells, one column or one for each position."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncp_jax.benchmarks.training_log import architecture_cells, empty_log, read_training_log
from ncp_jax.checks import DataError, MissingError, UsageError
from ncp_jax.spaces import SPACES, Position, describe_space, get_space

MACRO = get_space("transnas-macro")
OWN = describe_space(
    "training-log-space",
    [
        Position("depth", values=(2, 3, 4)),
        Position("kernel", choices=("3x3", "5x5"), only_if="depth >= 3"),
        Position("rate", real=(0.001, 0.1), log=True, levels=9),
    ],
)
del SPACES[OWN.name]  # other modules' tests go through the spaces that there are


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPACES, OWN.name, OWN)


def written(folder: Path, text: str) -> Path:
    path = folder / "mine.csv"
    path.write_text(text)
    return path


def test_measured_failed_and_blank(tmp_path: Path) -> None:
    first, second, third = MACRO.to_strings(MACRO.all_codes()[:3])
    path = written(
        tmp_path,
        f"architecture,note,accuracy,latency\n{first},x,0.5,3\n{second},y,failed,\n{third},z,,2\n{first},again,0.7,3.5\n",
    )
    log = read_training_log(path, space=MACRO, metrics=["latency", "accuracy"])
    assert log.values[0].tolist() == [3.0, 0.5]
    assert log.measured.tolist() == [True, False, False, True]
    assert log.failed.tolist() == [False, True, False, False]
    assert log.waiting.tolist() == [False, False, True, False]
    assert (log.codes[0] == log.codes[3]).all()
    out = log.write(tmp_path / "next.csv", [architecture_cells(MACRO, log.columns, log.codes[2])])
    assert out.read_text() == f"architecture,note,accuracy,latency\n{third},,,\n"


def test_columns_of_positions_come_back(tmp_path: Path) -> None:
    empty = empty_log(OWN, ["accuracy"])
    assert empty.header == ("depth", "kernel", "rate", "accuracy")
    codes = OWN.all_codes()
    path = empty.write(tmp_path / "next.csv", [architecture_cells(OWN, empty.columns, code) for code in codes])
    log = read_training_log(path, space=OWN, metrics=["accuracy"])
    assert (log.codes == codes).all()
    assert log.waiting.all()
    header = written(tmp_path, "depth,kernel,rate,accuracy\n")
    assert len(read_training_log(header, space=OWN, metrics=["accuracy"]).codes) == 0


@pytest.mark.parametrize(
    ("text", "error", "pattern"),
    [
        ("depth,kernel,rate,accuracy\n3,4x4,0.1,1\n", DataError, r"line 2.*'4x4'"),
        ("depth,kernel,rate,accuracy\n5,3x3,0.1,1\n", DataError, r"line 2.*'5'"),
        ("depth,kernel,rate,accuracy\n3,3x3,0.1,high\n", DataError, r"line 2.*'accuracy'.*'high'"),
        ("depth,kernel,rate,acuracy\n3,3x3,0.1,1\n", UsageError, r"'?acuracy"),
        ("depth,kernel,accuracy\n3,3x3,1\n", DataError, r"rate"),
        ("", DataError, r"empty file"),
    ],
)
def test_what_is_no_table(tmp_path: Path, text: str, error: type[Exception], pattern: str) -> None:
    with pytest.raises(error, match=pattern):
        read_training_log(written(tmp_path, text), space=OWN, metrics=["accuracy"])


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file"):
        read_training_log(tmp_path / "none.csv", space=OWN, metrics=["accuracy"])
    assert np.isnan(empty_log(MACRO, ["a"]).values).sum() == 0
