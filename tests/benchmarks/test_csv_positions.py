"""Tables with one column for each position of a described space."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import Position, Table, describe_space
from ncp_jax.checks import DataError, UsageError
from ncp_jax.spaces import SPACES, DescribedSpace

HEAD = "stages,kernel4,rate,sub,width,acc\n"
GOOD = "2,,0.0001,,24,1\n3,nan,1e-4,,32,2\n4,5x5,0.1,true,16,3\n"


@pytest.fixture(scope="module", autouse=True)
def space() -> Iterator[DescribedSpace]:
    yield describe_space(
        "csv-positions",
        [
            Position("stages", values=(2, 3, 4)),
            Position("kernel4", choices=("3x3", "5x5", "7x7"), only_if="stages >= 4"),
            Position("rate", real=(0.0001, 0.1), log=True, levels=7, unit="1/s"),
            Position("sub", boolean=True, only_if="kernel4 in ['5x5', '7x7']"),
            Position("width", range=(16, 40), step=8),
        ],
        forbid=["kernel4 == '7x7' and rate > 0.02"],
    )
    del SPACES["csv-positions"]


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "mine.csv"


def read(path: Path, text: str, **changes) -> Table:
    path.write_text(text)
    return Table.from_csv(path, **{"space": "csv-positions", "maximize": ["acc"], **changes})


@pytest.mark.parametrize(
    "text",
    [
        HEAD + GOOD,
        "acc,width,sub,rate,kernel4,stages\n1,24,,0.0001,,2\n2,32,,1e-4,nan,3\n3,16,true,0.1,5x5,4\n",
        (HEAD + GOOD).replace("stages,kernel4,rate", "Stages,KERNEL4,rate (1/s)"),
        (HEAD + GOOD).replace("rate", "rate [1/s]").replace("true", "1.0").replace("24", "24.0"),
        "stages;kernel4;rate;sub;width;acc\n2;;0,0001;;24;1\n3;;0,0001;;32;2\n4;5x5;0,1;yes;16;3,0\n",
        HEAD + GOOD + "2,7x7,0.0001,true,24,1\n",
        "string,acc\n" + "stages=2 rate=0.0001 width=24,1\nstages=3 rate=1e-4 width=32,2\n"
        "stages=4 kernel4=5x5 rate=0.1 sub=true width=16,3\n",
    ],
    ids=["plain", "order", "unit", "floats", "commas", "dead values", "strings"],
)
def test_the_same_architectures_in_many_forms(csv: Path, text: str) -> None:
    table = read(csv, text)
    np.testing.assert_array_equal(table.codes, [[2, 0, 0, 0, 24], [3, 0, 0, 0, 32], [4, 1, 6, 1, 16]])
    np.testing.assert_array_equal(table.values[:, 0], [1, 2, 3])


def test_columns_that_are_neither_are_told(csv: Path) -> None:
    said: list[str] = []
    csv.write_text("note," + (HEAD + GOOD).replace("\n", "\nn,").removesuffix("n,"))
    table = Table.from_csv(csv, space="csv-positions", maximize=["acc"], notify=said.append)
    assert len(table) == 3
    assert said == [f"{csv} read as UTF-8, comma-separated, ignored columns 'note'"]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (HEAD + "2,,0.0001,,24,1\n3,,0.0001,,33,2\n", "line 3, column 'width', got '33'; the nearest value is 32"),
        (HEAD + "2,,0.0002,,24,1\n", "line 2, column 'rate', got '0.0002'; the nearest value is 0.000316"),
        (HEAD + "2,,fast,,24,1\n", "line 2, column 'rate', got 'fast'; a number belongs here: 0.0001, "),
        (HEAD + "4,6x6,0.1,,24,1\n", "column 'kernel4', got '6x6'; the values are 3x3, 5x5, 7x7; nearest: "),
        (HEAD + "4,5x5,0.1,maybe,24,1\n", "column 'sub', got 'maybe'; the values are false, true; nearest: "),
        (HEAD + "4,,0.1,,24,1\n", "column 'kernel4', got ''; fill it in: the position counts here"),
        (HEAD + "4,7x7,0.1,no,24,1\n", "line 2: .*'7x7' and rate > 0.02.* forbids, .*nearest legal: stages=4 kernel4="),
        (
            HEAD.replace("width", "widht") + GOOD,
            "a column for each position of csv-positions .*none for width; .*'widht'",
        ),
        (HEAD.replace("width", "width (px)") + GOOD, "width in no unit .*got the column 'width .px.'"),
        (HEAD.replace("rate", "rate [1/ms]") + GOOD, "rate in 1/s .*got the column 'rate .1/ms.'"),
        (
            HEAD.replace("rate", "Rate,RATE") + GOOD.replace(",,24", ",,,24"),
            "one column of the position rate|cells per line",
        ),
        (
            HEAD + GOOD + "2,5x5,0.0001,,24,5\n",
            "one set of values per architecture .*line 5 for the architecture of line 2",
        ),
    ],
)
def test_tables_that_are_wrong(csv: Path, text: str, why: str) -> None:
    with pytest.raises(DataError, match=why) as caught:
        read(csv, text)
    assert str(csv) in str(caught.value)


def test_a_position_is_no_metric(csv: Path) -> None:
    with pytest.raises(UsageError, match=r"known column .*got 'width'"):
        read(csv, HEAD + GOOD, maximize=["width"])
