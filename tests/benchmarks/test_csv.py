from __future__ import annotations

import hashlib
from pathlib import Path

import jax
import numpy as np
import pytest

from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import with_flops
from ncp_jax.checks import DataError, UsageError
from ncp_jax.metrics import MetricSpec
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
        ("acc", "", "maximize", "quality"),
        ("latency", "", "minimize", "cost"),
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
        (f"arch,acc,latency\n{A},71_5,2\n{B},2,3\n", "line 2, column 'acc' in .*, got '71_5'"),
        (f"arch,acc,latency\n{A},１,2\n{B},2,3\n", "line 2, column 'acc' in .*, got '１'"),
        (f'arch,acc,latency\n{A},"71,5",2\n{B},2,3\n', "line 2, column 'acc' in .*, got '71,5'"),
        (f"arch;acc;latency\n{A};71,5;2\n{B};2.5;3\n", r"\(with decimal commas, .* in line 3, .* got '2.5'"),
        (f"arch;acc;latency\n{A};1.234,5;2\n{B};2;3\n", "line 2, column 'acc' in .*, got '1.234,5'"),
        (f"arch\tacc\tlatency\n{A}\t1,234\t2\n{B}\t2\t3\n", "got '1,234', where the comma is a decimal sign or groups"),
        (f"# arch,acc,latency\n{A},1,2\n{B},2,3\n", "got the architecture '64.*; add a first line of names, without"),
        (f"id,net,acc,latency\n0,{A},1,2\n1,{B},2,3\n", "in the column 'id' in .* got '0' .* give --architecture net"),
        ("# nothing else\n", 'got only lines that begin with "#"'),
        (b"PK\x03\x04" + bytes(40), "expected text in .*, got bytes that are none .an Excel workbook"),
        (b"\x80\x04\x95 .", "got bytes that are none .a pickle"),
        (GOOD.encode("utf-16")[:-1], "expected text in .*, got bytes that are none"),
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


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD.encode("utf-16"), "UTF-16, comma-separated"),
        (GOOD.replace("first", "\u00e9").encode("latin-1"), "Latin-1, comma-separated"),
        (GOOD.replace("\n", "\r"), "UTF-8, comma-separated, CR line ends"),
        ("# May\n" + GOOD.replace("64-41414-3", "# then\n64-41414-3"), "UTF-8, comma-separated, 2 comment lines"),
        ("sep=,\n" + GOOD, "UTF-8, comma-separated, sep= line"),
        (
            GOOD.replace(',"a note, with a comma"', ",").replace(",", ";").replace(".", ","),
            "UTF-8, semicolon-separated, decimal commas",
        ),
        (GOOD.replace(',"a note, with a comma"', ",").replace(",", "\t"), "UTF-8, tab-separated"),
        ("".join(f"{i - 1 if i else ''},{line}\n" for i, line in enumerate(GOOD.splitlines())), "index column ignored"),
        ("".join(f"{i or 'Unnamed: 0'},{line}\n" for i, line in enumerate(GOOD.splitlines())), "index column ignored"),
    ],
)
def test_what_was_recognised_is_told_in_one_line(csv: Path, text: str | bytes, told: str) -> None:
    notes: list[str] = []
    assert read(csv, text, notify=notes.append).content_hash() == read(csv, GOOD).content_hash()
    (note,) = notes
    assert note.startswith(f"{csv} read as ")
    assert note.endswith(told)


def test_a_plain_file_needs_no_note(csv: Path) -> None:
    notes: list[str] = []
    read(csv, GOOD, notify=notes.append)
    assert notes == []


CODES = [[1, 0, 2, 3, 3, 3], [0, 1, 2, 3, 0, 1]]


@pytest.mark.parametrize(
    ("text", "changes"),
    [
        ("x0,x1,x2,x3,x4,x5,acc\n1,0,2,3,3,3,71\n0,1,2,3,0,1,60\n", {}),
        ("acc,e6,e5,e4,e3,e2,e1\n71,3,3,3,2,0,1\n60,1,0,3,2,1,0\n", {}),
        (",op[0],op[1],op[2],op[3],op[4],op[5],acc\n0,1,0,2,3,3,3,71\n1,0,1,2,3,0,1,60\n", {}),
        ("x0;x1;x2;x3;x4;x5;acc\n1,0;0;2;3;3;3;71\n", "bad"),
        ("x0,x1,x2,x3,x4,x5,acc\n1.0,0.0,2.0,3.0,3.0,3.0,71\n0,1,2,3,0,1,60\n", {}),
        ("a,b,c,d,e,f,acc\n1,0,2,3,3,3,71\n0,1,2,3,0,1,60\n", {"architecture": list("abcdef")}),
        ("f,b,c,d,e,a,acc\n3,0,2,3,3,1,71\n1,1,2,3,0,0,60\n", {"architecture": list("abcdef")}),
        ("acc,n10,n9,n8,n7,n6,n5\n71,3,3,3,2,0,1\n60,1,0,3,2,1,0\n", {"architecture": "n*"}),
        ("acc,seed,arch\n71,1,64-41414-1_02_333\n60,1,64-41414-0_12_301\n", {}),
        ('acc,seed,String\n71,1,"1,0,2,3,3,3"\n60,1,"(0, 1, 2, 3, 0, 1,)"\n', {}),
        ("acc,net\n71,1 0 2 3 3 3\n60,0 1 2 3 0 1\n", {"architecture": ("net",)}),
    ],
)
def test_architectures_in_columns_found_by_name(csv: Path, text: str, changes: dict | str) -> None:
    if changes == "bad":
        with pytest.raises(DataError, match="line 2: expected"):
            read(csv, text, minimize=[])
        return
    table = read(csv, text, minimize=[], **changes)
    np.testing.assert_array_equal(table.codes, CODES)
    np.testing.assert_array_equal(table.values[:, 0], [71, 60])


def test_positions_have_the_names_of_the_space(csv: Path) -> None:
    names = get_space("transnas-macro").position_names
    text = ",".join(["acc", *reversed(names)]) + "\n50,,,4,3,2,1\n51,,1,4,3,2,1\n"
    notes: list[str] = []
    table = read(csv, text, minimize=[], space="transnas-macro", notify=notes.append)
    np.testing.assert_array_equal(table.codes, [[1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 1, 0]])
    assert "code in the columns module 1 … module 6" in notes[0]


def test_macro_codes_of_four_to_six_integers(csv: Path) -> None:
    text = 'arch,acc\n"(1, 2, 3, 4)",50\n"1,2,3,4,1",51\n1 2 3 4 1 1,52\n64-1234-basic,50\n'
    table = read(csv, text, minimize=[], space="transnas-macro")
    np.testing.assert_array_equal(table.codes, [[1, 2, 3, 4, 0, 0], [1, 2, 3, 4, 1, 0], [1, 2, 3, 4, 1, 1]])
    for wrong in ("1 2 3", "1 2 3 4 1 1 1", "1 2 3 4 0 1"):
        with pytest.raises(DataError, match="line 2"):
            read(csv, f"arch,acc\n{wrong},50\n1 2 3 4 1,51\n", minimize=[], space="transnas-macro")


@pytest.mark.parametrize("changes", [{"architecture": ["a", "b"]}, {"architecture": ["x*"]}, {"architecture": "y"}])
def test_wrong_columns_of_architectures(csv: Path, changes: dict) -> None:
    with pytest.raises(UsageError, match=r"one column of architectures, or 6|a known column"):
        read(csv, "a,b,c,d,e,f,acc\n1,0,2,3,3,3,71\n0,1,2,3,0,1,60\n", minimize=[], **changes)


SEEDED = f"architecture,seed,acc\n{A},777,71.5\n{A},888,71.9\n{B},777,60\n"


def test_seeds(csv: Path) -> None:
    with pytest.raises(DataError, match=r"other values in line 3 .* of line 2; .* --seeds mean for their mean"):
        read(csv, SEEDED, minimize=[])
    notes: list[str] = []
    table = read(csv, SEEDED, minimize=[], seeds="mean", notify=notes.append)
    np.testing.assert_array_equal(table.values[:, 0], np.array([71.7, 60], np.float32))
    assert notes[0].endswith("comma-separated, 1 architecture with several seeds (mean)")
    table = read(csv, SEEDED, minimize=[], seeds="each")
    np.testing.assert_array_equal(table.values[:, 0], np.array([71.5, 71.9, 60], np.float32))
    np.testing.assert_array_equal(table.codes[0], table.codes[1])
    assert with_flops(table).values.shape[0] == 3
    with pytest.raises(UsageError, match="a known rule for seeds, got 'median'"):
        read(csv, SEEDED, minimize=[], seeds="median")


def test_a_seed_counts_once(csv: Path) -> None:
    table = read(csv, f"{SEEDED}{A},777,71.5\n", minimize=[], seeds="mean")
    np.testing.assert_array_equal(table.values[:, 0], np.array([71.7, 60], np.float32))
    with pytest.raises(DataError, match=r"one set of values per seed in .*, got other values in line 5"):
        read(csv, f"{SEEDED}{A},777,70\n", minimize=[], seeds="mean")
    # Without seeds, every line is a measurement.
    table = read(csv, f"arch,acc\n{A},1\n{A},1\n{A},4\n{B},60\n", minimize=[], seeds="mean")
    np.testing.assert_array_equal(table.values[:, 0], [2, 60])


FOUND = f"""rank,string,code,acc,lat,acc_spread,gflops,score
1,{A},1 0 2 3 3 3,71,5,0.5,2,1.5
2,{B},3 3 3 3 3 3,60,4,1,3,0
"""


def test_predictions_are_read_but_never_taken_for_measurements(csv: Path) -> None:
    notes: list[str] = []
    table = read(csv, FOUND, maximize=["acc", "score"], minimize=["gflops"], notify=notes.append)
    assert [metric.split for metric in table.metrics] == ["predicted", "predicted", ""]
    np.testing.assert_array_equal(table.codes, [[1, 0, 2, 3, 3, 3], [3, 3, 3, 3, 3, 3]])
    assert notes == [f"{csv}: predictions of a search, not measurements (split \"predicted\"): 'acc', 'score'"]
    with pytest.raises(UsageError, match="columns of measurements, got 'rank', which numbers the rows"):
        read(csv, FOUND, maximize=[], minimize=["rank"])
    with pytest.raises(UsageError, match="got 'query', which numbers the rows"):
        read(csv, f"query,architecture,value\n1,{A},71\n2,{B},60\n", maximize=["query"], minimize=[])
    table = read(csv, f"query,architecture,value\n1,{A},71\n2,{B},60\n", maximize=["value"], minimize=[])
    assert [metric.split for metric in table.metrics] == [""]
    assert read(csv, f"architecture,rank\n{A},1\n{B},2\n", maximize=[], minimize=["rank"]).main.name == "rank"


def test_masked_codes_are_no_codes() -> None:
    codes = np.ma.array(CODES, mask=np.array(CODES) == 2)
    with pytest.raises(UsageError, match="got -1"):
        Table.from_arrays(
            "mine", space="transnas-micro", codes=codes, values=np.ones((2, 1)), metrics=[MetricSpec("acc")]
        )


def test_masked_values_are_no_values() -> None:
    values = np.ma.array([[1.0], [2.0]], mask=[[False], [True]])
    with pytest.raises(DataError, match="finite values in mine, got nan in row 1"):
        Table.from_arrays("mine", space="transnas-micro", codes=CODES, values=values, metrics=[MetricSpec("acc")])


def test_many_columns_seeds_and_blanks_take_no_time(csv: Path) -> None:
    """Each of these once took the square of its number."""
    names = ",".join(f"c{i}" for i in range(50_000))
    with pytest.raises(UsageError, match="expected a known column"):
        read(csv, f"{names}\n{names}\n{names}\n")
    with pytest.raises(DataError, match="'c' more than once"):
        read(csv, "c," * 50_000 + "c\n1\n")
    with pytest.raises(DataError, match="line 2: expected an architecture string"):
        read(csv, f'arch,acc,latency\n"1{" " * 100_000}x",1,1\n{A},2,2\n')
    with pytest.raises(UsageError, match="expected a known column"):
        read(csv, f"{'1' * 100_000}xx,b,c\n1,1,1\n2,2,2\n")
    lines = "".join(f"{A},{i},1,{i}\n" for i in range(3000))
    table = read(csv, f"arch,acc,latency,seed\n{lines}{B},1,2,0\n", seeds="mean")
    assert table.measured("acc").tolist() == [1499.5, 1.0]


def test_integers_of_ten_digits_are_not_cut_short(csv: Path) -> None:
    for code in ("0000000001", "1000000003"):
        with pytest.raises(DataError, match="line 2"):
            read(csv, f'arch,acc,latency\n"{code} 0 0 0 0 0",1,1\n{B},2,2\n')


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    """Also values that float32 stores in a unit of its own, names with commas, and costs."""
    space, values = (
        get_space("transnas-micro"),
        np.array([[71.53, 1e9 + 1, 0.1], [7e-7, 1e9 + 2, 3.0], [-2.5, 1e9, 7.0]]),
    )
    metrics = [MetricSpec("acc, val"), MetricSpec("big"), MetricSpec("ms", direction="minimize", kind="cost")]
    table = Table.from_arrays("mine", space=space, codes=space.all_codes()[[5, 3, 9]], values=values, metrics=metrics)
    path = table.to_csv(tmp_path / "mine.csv")
    again = Table.from_csv(path, space=space, maximize=["acc, val", "big"], minimize=["ms"])
    np.testing.assert_array_equal(again.codes, table.codes)
    np.testing.assert_array_equal(again.values, table.values)
    assert path.read_text().splitlines()[0] == 'architecture,"acc, val",big,ms'
    assert path.read_text().splitlines()[1].startswith("64-41414-0_00_011,71.53,")
