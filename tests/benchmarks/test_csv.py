from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import numpy as np
import pytest

from ncp_jax.benchmarks import Table
from ncp_jax.checks import DataError, UsageError
from ncp_jax.spaces import SPACES, get_space

A, B = "64-41414-1_02_333", "64-41414-3_33_333"
GOOD = """arch,acc,latency,note
64-41414-1_02_333,71.5,3.25,first
64-41414-0_12_301,60.25,1.5,"a note, with a comma"
64-41414-3_33_333,80,9e0,
"""


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def read(path: Path, text: str | bytes, **changes) -> Table:
    options = {"space": "transnas-micro", "maximize": ["acc"], "minimize": ["latency"], **changes}
    return Table.from_csv(write(path, text), **options)


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    return tmp_path / "mine.csv"


def test_a_good_file(csv: Path) -> None:
    table = read(csv, GOOD)
    assert table.name == "mine"
    assert table.space == "transnas-micro"
    np.testing.assert_array_equal(table.codes, [[1, 0, 2, 3, 3, 3], [0, 1, 2, 3, 0, 1], [3, 3, 3, 3, 3, 3]])
    np.testing.assert_array_equal(table.values, np.array([[71.5, 3.25], [60.25, 1.5], [80, 9]], np.float32))
    assert [(m.name, m.task, m.direction, m.kind) for m in table.metrics] == [
        ("acc", "mine", "maximize", "quality"),
        ("latency", "mine", "minimize", "cost"),
    ]
    assert table.main.name == "acc"
    assert table.hashes == (("mine.csv", hashlib.sha256(GOOD.encode()).hexdigest()),)
    assert int(table.rows(np.array([0, 1, 2, 3, 0, 1]))) == 1


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace("\n", "\r\n"),
        b"\xef\xbb\xbf" + GOOD.encode(),
        GOOD.replace("\n", "\n\n") + "  \n,,,\n",
        GOOD.replace(",", " , ").replace('"a note , with', '"a note, with').replace(' , "', ',"'),
        GOOD + GOOD.split("\n", 1)[1],
        GOOD.replace("64-41414-1_02_333", '"1,0,2,3,3,3"'),
        GOOD.replace("64-41414-1_02_333", "1 0 2 3 3 3"),
        GOOD.replace("64-41414-1_02_333", '"[1, 0, 2, 3, 3, 3]"'),
        GOOD.replace("64-41414-1_02_333", '"(1, 0, 2, 3, 3, 3)"'),
        GOOD.removesuffix("\n"),
    ],
    ids=["crlf", "bom", "blank", "spaces", "repeats", "commas", "blanks", "list", "tuple", "no-newline"],
)
def test_the_same_content_written_otherwise(csv: Path, text: str | bytes) -> None:
    assert read(csv, text).content_hash() == read(csv, GOOD).content_hash()


def test_the_architectures_may_stand_in_any_column(csv: Path) -> None:
    text = f"acc,latency,which\n1,2,{A}\n2,3,{B}\n"
    table = read(csv, text, architecture="which")
    np.testing.assert_array_equal(table.codes, [[1, 0, 2, 3, 3, 3], [3, 3, 3, 3, 3, 3]])
    np.testing.assert_array_equal(table.column("latency"), [2, 3])


def test_losses_alone_are_the_quality(csv: Path) -> None:
    table = read(csv, GOOD, maximize=[], minimize=["latency"])
    assert [(m.name, m.direction, m.kind) for m in table.metrics] == [("latency", "minimize", "quality")]
    assert table.main.name == "latency"


def test_the_order_is_the_one_given(csv: Path) -> None:
    text = f"arch,acc,latency,f1\n{A},1,2,3\n{B},2,3,4\n"
    assert [m.name for m in read(csv, text, maximize=("f1", "ACC")).metrics] == ["f1", "acc", "latency"]


@pytest.mark.parametrize("space", SPACES)
def test_every_space(csv: Path, space: str) -> None:
    codes = np.unique(np.asarray(get_space(space).sample(jax.random.key(0), 20)), axis=0)
    lines = [f"{text},{i}" for i, text in enumerate(get_space(space).to_strings(codes))]
    table = Table.from_csv(write(csv, "\n".join(["a,m", *lines])), space=get_space(space), maximize=["m"])
    np.testing.assert_array_equal(table.codes, codes)
    assert table.space == space


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"maximize": [], "minimize": []},
            r"direction of at least one metric column, got none; .*acc, latency, note; name",
        ),
        ({"maximize": ["accuracy"]}, r"expected a known column of .*mine\.csv, got 'accuracy'; did you mean: acc"),
        ({"minimize": ["zzz"]}, r"got 'zzz'; choose from: acc, latency, note"),
        ({"minimize": ["acc"]}, "expected each column named once, got 'acc' twice"),
        ({"maximize": ["acc", "ACC"]}, "got 'acc' twice"),
        ({"maximize": ["arch"]}, "expected a known column of .* got 'arch'"),
        ({"maximize": "acc"}, r"expected a list of column names, got 'acc'; write \['acc'\]"),
        ({"architecture": "architecture"}, "got 'architecture'; did you mean: arch"),
        ({"space": "transnas"}, "expected a known space"),
    ],
)
def test_wrong_calls(csv: Path, changes: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        read(csv, GOOD, **changes)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected a header and rows in .*, got an empty file"),
        ("\n \n", "got an empty file"),
        ("arch,acc,latency\n", "expected two architectures or more in .*, got 0"),
        (f"arch,acc,latency\n{A},1,2\n", "expected two architectures or more in .*, got 1"),
        (f"arch,acc,latency\n{A},1,2\n{A},1,2\n", "expected two architectures or more in .*, got 1"),
        (f"{A},1,2\n{B},2,3\n", "expected a header with column names in .*, got the architecture"),
        (f"arch,acc,acc\n{A},1,2\n", "got 'acc' more than once"),
        (f"arch,acc,latency\n{A},1,2\n{B},2\n", "expected 3 cells per line in .*, got 2 in line 3"),
        (f"arch,acc,latency\n1,0,2,3,3,3,1,2\n{B},2,3\n", "got 8 in line 2; .* need quotes"),
        (f"arch,acc,latency\n{A},nan,2\n{B},2,3\n", "a finite number in line 2, column 'acc' in .*, got 'nan'"),
        (f"arch,acc,latency\n{A},1,2\n{B},2,-inf\n", "a finite number in line 3, column 'latency' in .*, got '-inf'"),
        (f"arch,acc,latency\n{A},1,2\n{B},,3\n", "line 3, column 'acc' in .*, got ''"),
        (f"arch,acc,latency\n{A},1,2\n{B},93%,3\n", "line 3, column 'acc' in .*, got '93%'"),
        (f"arch,acc,latency\n{A},1,1e999\n{B},2,3\n", "got '1e999'"),
        (f"arch,acc,latency\n{A},1,2\n{B},1.0,3\n", "a metric that varies in .*, got 1 in every row of column 'acc'"),
        (
            f"arch,acc,latency\n{A},1,2\n{B},2,3\n\n{A},1,2.5\n",
            "got other values in line 5 for the architecture of line 2",
        ),
        (
            f'arch,acc,latency\n{A},1,2\n"1 0 2 3 3 3",1,2.5\n',
            "got other values in line 3 for the architecture of line 2",
        ),
        (f"arch,acc,latency\n{A},1,2\n64-41414-1_02_334,2,3\n", "mine.csv, line 3: expected an architecture string of"),
        ("arch,acc,latency\nresnet50,2,3\n", "mine.csv, line 2: expected an architecture string of transnas-micro"),
        ("arch,acc,latency\n,2,3\n", "mine.csv, line 2: expected an architecture string of transnas-micro"),
        ('arch,acc,latency\n"1,2,3",2,3\n', r"mine.csv, line 2: expected .*, got shape \(3,\)"),
        ('arch,acc,latency\n"1,2,3,0,0,9",2,3\n', r"mine.csv, line 2: expected .*position 5 .* got 9"),
        ('arch,acc,latency\n"1,2,3,0,0,99999999999999",2,3\n', r"mine.csv, line 2: expected .*position 5"),
        (f'arch,acc,latency\n"{A},1,2\n', "expected comma-separated values in .*, got line 2: unexpected end of data"),
        (f"arch;acc;latency\n{A};1;2\n", "expected cells separated by commas in .*, got the header 'arch;acc;latency'"),
        (GOOD.encode("utf-16"), "expected UTF-8 text in .*, got byte 0xff at offset 0"),
        (GOOD.replace("first", "é").encode("latin1"), "expected UTF-8 text in .*, got byte 0xe9"),
    ],
)
def test_wrong_files(csv: Path, text: str | bytes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read(csv, text)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(
        FileNotFoundError, match=r"expected a CSV file at .*none\.csv, got no such file; correct the path"
    ):
        Table.from_csv(tmp_path / "none.csv", space="transnas-micro", maximize=["acc"])
    with pytest.raises(FileNotFoundError, match=r"got a folder; correct the path"):
        Table.from_csv(tmp_path, space="transnas-micro", maximize=["acc"])
