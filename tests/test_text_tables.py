from __future__ import annotations

import pickle

import pytest

from ncp_jax.checks import DataError
from ncp_jax.text_tables import decimal_sign, decode, note, number, read_text_table

PLAIN = 'name,size,note\na,1,"x, y"\nb,2,\u00e9\n'
ROWS = (("name", "size", "note"), ("a", "1", "x, y"), ("b", "2", "\u00e9"))


def swapped(separator: str) -> str:
    return PLAIN.replace('"x, y"', "\0").replace(",", separator).replace("\0", '"x, y"')


@pytest.mark.parametrize(
    ("content", "recognised"),
    [
        (PLAIN.encode(), ("UTF-8", "comma-separated")),
        (PLAIN.encode("utf-8-sig"), ("UTF-8", "comma-separated")),
        (PLAIN.encode("utf-16"), ("UTF-16", "comma-separated")),
        (b"\xfe\xff" + PLAIN.encode("utf-16-be"), ("UTF-16", "comma-separated")),
        (PLAIN.encode("utf-32"), ("UTF-32", "comma-separated")),
        (PLAIN.encode("latin-1"), ("Latin-1", "comma-separated")),
        (PLAIN.replace("\n", "\r\n").encode(), ("UTF-8", "comma-separated")),
        (PLAIN.replace("\n", "\r").encode(), ("UTF-8", "comma-separated", "CR line ends")),
        (swapped(";").encode(), ("UTF-8", "semicolon-separated")),
        (swapped("\t").encode(), ("UTF-8", "tab-separated")),
        (swapped("|").encode(), ("UTF-8", "bar-separated")),
        (PLAIN.replace(",", ", ").replace("x,  y", "x, y").encode(), ("UTF-8", "comma-separated")),
        (f"sep=,\n{PLAIN}".encode(), ("UTF-8", "comma-separated", "sep= line")),
        (f'"SEP=;"\r\n{swapped(";")}'.encode(), ("UTF-8", "semicolon-separated", "sep= line")),
        (f"sep=\t\n{swapped(chr(9))}".encode(), ("UTF-8", "tab-separated", "sep= line")),
        (f"sep=,,,\n{PLAIN}".encode("utf-16"), ("UTF-16", "comma-separated", "sep= line")),
        (f"# a\n\n  # b, c\n{PLAIN}".encode(), ("UTF-8", "comma-separated", "2 comment lines")),
        (PLAIN.replace("b,", "# c;\nb,").encode(), ("UTF-8", "comma-separated", "1 comment line")),
        (PLAIN.replace("\n", ",,\n").encode(), ("UTF-8", "comma-separated")),
        (f"\n ,,\n{PLAIN}\n\n".encode(), ("UTF-8", "comma-separated")),
        (PLAIN.encode() + b"\x1a", ("UTF-8", "comma-separated")),
    ],
)
def test_the_same_table_written_otherwise(content: bytes, recognised: tuple[str, ...]) -> None:
    table = read_text_table("a.csv", content)
    assert table.rows == ROWS
    assert table.recognised() == recognised


def test_white_space_separates_where_nothing_else_does() -> None:
    table = read_text_table("a.csv", b'a  b\n1 "2"\n   3 4  \n')
    assert table.rows == (("a", "b"), ("1", "2"), ("3", "4"))
    assert read_text_table("a.csv", b"one column\n1\n").rows == (("one column",), ("1",))


@pytest.mark.parametrize(
    ("text", "separator"),
    [
        ("a;b\n1,5;2,5\n", ";"),
        ("0;8,5;9\n1;0;7\n2,5;3;0\n", ";"),
        ("a,b;c\n1,2\n3,4\n", ","),
        ("a,b\n1;2,3\n4,5\n", ","),
        ("a,b\n1,2,3,4\n", ","),
        ('"a;b",c\n1,2\n', ","),
        ("a, b, c\td\n1,2,3\n", ","),
    ],
)
def test_the_separator(text: str, separator: str) -> None:
    assert read_text_table("a.csv", text.encode()).separator == separator


def test_lines_are_those_of_the_file() -> None:
    table = read_text_table("a.csv", b'# one\na,b\n\n"1\n# no comment",2\n#\n3,4\n')
    assert table.rows == (("a", "b"), ("1\n# no comment", "2"), ("3", "4"))
    assert table.lines == (2, 5, 7)
    assert table.comments == ("one", "")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PK\x03\x04\x14", "an Excel workbook or another zip archive"),
        (b"PAR1\x15", "a Parquet file"),
        (b"\x1f\x8b\x08", "a gzip archive"),
        (b"\x93NUMPY\x01\x00", "a NumPy array"),
        (b" <!DOCTYPE html><html>", "an HTML or XML page"),
        *[(pickle.dumps({"a": [1.0]}, protocol), "a pickle") for protocol in range(2, 6)],
        (pickle.dumps([1, 2], 0), "a pickle"),
        (pickle.dumps(range(3), 0), "a pickle"),
        (b"a,b\x00", "control character"),
        (b"\xff\xfea", "truncated"),
        (bytes(range(128, 256)), "bytes that are none"),
    ],
)
def test_what_is_no_text(content: bytes, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        read_text_table("a.csv", content)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_titles_that_look_like_pickles_are_text() -> None:
    assert decode("a", b"cities\n2\n0 1.\n1. 0.") == ("cities\n2\n0 1.\n1. 0.", "UTF-8")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('a,b\n"x,2\n', "comma-separated values in a.csv, got line 2: unexpected end of data"),
        ("sep=:\na:b\n", "one of the separators .* got 'sep=:'"),
    ],
)
def test_what_is_wrong_with_a_table(text: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_text_table("a.csv", text.encode())


@pytest.mark.parametrize(
    ("text", "value"),
    [("71.5", 71.5), ("-3", -3), ("+.5", 0.5), ("5.", 5), ("1e-3", 1e-3), (" 2E+2 ", 200), ("007", 7)],
)
def test_numbers(text: str, value: float) -> None:
    assert number(text) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "71_5",
        "1 000",
        "1'000",
        "1,000",
        "\uff11",
        "\u0663",
        "0x1F",
        "1e",
        "e1",
        ".",
        "1.2.3",
        "nan",
        "inf",
        "5%",
        "1d3",
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert number(text) is None


def test_decimal_commas() -> None:
    assert number("1,5", ",") == 1.5
    assert number("1.5", ",") is None
    assert number("1,234,567", ",") is None
    assert decimal_sign("a", ",", ["1", "1,5"]) == "."
    assert decimal_sign("a", ";", ["1", "1,5"]) == ","
    assert decimal_sign("a", ";", ["1,500"]) == ","
    assert decimal_sign("a", "\t", ["1.5", "2"]) == "."
    assert decimal_sign("a", "\t", ["0,500", "x,y"]) == ","
    assert decimal_sign("a", "\t", ["1,500", "1,5"]) == ","
    with pytest.raises(DataError, match="'1,500', where the comma is a decimal sign or groups digits"):
        decimal_sign("a", "\t", ["1,500", "2"])


def test_not_a_number_where_the_caller_allows_it() -> None:
    assert number("-Inf", special=True) == float("-inf")
    assert str(number("nan", special=True)) == "nan"


def test_a_note_tells_only_what_is_not_plain() -> None:
    assert note("a.csv", ("UTF-8", "comma-separated")) == ""
    assert note("a.csv", ("UTF-16", "tab-separated", "index column ignored")) == (
        "a.csv read as UTF-16, tab-separated, index column ignored"
    )


def test_long_cells_take_no_time() -> None:
    """Digits before a letter, and separators before anything else, once took the square of their number."""
    assert number("1" * 300_000 + "x") is None
    assert number("1" * 30 + ".") == 1e30 / 9 - 1 / 9
    assert read_text_table("a.csv", b"sep=" + b"," * 300_000 + b"x\n1").rows[-1] == ("1",)
