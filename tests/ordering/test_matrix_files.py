"""Weight matrices from files: each format, and what is wrong with a file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import checks
from ncp_jax.ordering import edge_files
from ncp_jax.ordering.matrix_files import from_frame, read_weights

WEIGHTS = np.array([[0, 1.5, 2], [3, 0, 4], [5, 6, 0]])


def npy(array: np.ndarray, **options: object) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "names"),
    [
        ("a", "3\n0 1.5 2\n3 0 4\n5 6 0\n", None),
        ("a.txt", "  3 0 1.5 2 3 0\n\n4 5 6 0", None),
        ("a.mat", "input-output table 44\n3\n0 1.5 2\n3 0 4\n5 6 0\n", None),
        ("a.csv", "0,1.5,2\n3,0,4\n5,6,0\n", None),
        ("a.csv", "\ufeff0,1.5,2\r\n3,0,4\r\n\r\n5,6,0", None),
        ("a.csv", "x,y,z\n0,1.5,2\n3,0,4\n5,6,0\n", ("x", "y", "z")),
        ("a.csv", ",p,q,r\np,0,1.5,2\nq,3,0,4\n r ,5,6,0\n", ("p", "q", "r")),
        ("a.csv", "p,0,1.5,2\nq,3,0,4\nr,5,6,0\n", ("p", "q", "r")),
        ("a.csv", "code,11,12,13\n11,0,1.5,2\n12,3,0,4\n13,5,6,0\n", ("11", "12", "13")),
        ("a.CSV", ",11,12,13\n11,0,1.5,2\n12,3,0,4\n13,5,6,0\n", ("11", "12", "13")),
    ],
)
def test_text(tmp_path: Path, name: str, content: str, names: tuple[str, ...] | None) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    found = read_weights(path)
    assert np.array_equal(found.weights, WEIGHTS)
    assert found.names == names


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, np.int64, np.uint8, bool])
def test_arrays(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(npy(WEIGHTS.astype(dtype)))
    found = read_weights(str(path))
    assert found.weights.dtype == dtype
    assert np.array_equal(found.weights, WEIGHTS.astype(dtype))


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a", b"", "got an empty file"),
        ("a", b"\n\n", "no line of numbers"),
        ("a", b"only words\n", "no line of numbers"),
        ("a", b"3\n0 1 2\n3 0 4\n5 6", "3² = 9 numbers after the size 3 in .*a, got 8 numbers"),
        ("a", b"2\n0 1 2\n3 0 4\n", "2² = 4 numbers after the size 2 in .*, got 6 numbers"),
        ("a", b"2\n0 1\nx 0\n", "numbers in .*, got 'x' as number 4"),
        ("a", b"2.5\n0 1\n", "a size n >= 1 first .*, got 2.5"),
        ("a", b"nan\n", "a size n >= 1 first .*, got nan"),
        ("a", b"inf 1\n", "a size n >= 1 first .*, got inf"),
        ("a", b"-1 1\n", "a size n >= 1 first .*, got -1"),
        ("a", b"0\n", "a size n >= 1 first .*, got 0"),
        ("a", bytes(range(128, 256)), "bytes that are none"),
        ("a.txt", npy(WEIGHTS), "bytes that are none"),
        ("a.csv", b"\n", "rows of numbers in .*, got none"),
        ("a.csv", b"0,1\nx,y\n", r"got 'y' in row 2, column 2|square"),
        ("a.csv", b"0,1\n2,\n", "got '' in row 2, column 2"),
        ("a.csv", b"0,1\n2\n", "2 cells in every row in .*, got 1 in row 2"),
        ("a.csv", b"0,1,2\n3,0,4\n", "a square matrix in .*, got 2×3"),
        ("a.csv", b"x,y\n", "a square matrix in .*, got 0×0"),
        ("a.csv", b"0,\x00\n", "bytes that are none"),
        ("a.npy", b"garbage", "as numpy.save writes it"),
        ("a.npy", npy(WEIGHTS)[:-9], "as numpy.save writes it"),
        ("a.npy", npy(WEIGHTS)[:20], "as numpy.save writes it"),
        ("a.npy", npy(np.array([[{}]], dtype=object), allow_pickle=True), "got pickled objects"),
        ("a.npy", npy(np.array([["x"]])), "an array of real numbers in .*, got type <U1"),
        ("a.npy", npy(WEIGHTS.astype(complex)), "an array of real numbers in .*, got type complex128"),
        ("a.npy", npy(np.zeros((2, 2, 2))), "a square matrix in .*, got 2×2×2"),
        ("a.npy", npy(np.zeros((2, 3))), "got 2×3"),
        ("a.npy", npy(np.zeros((0, 0))), "got 0×0"),
        ("a.npy", npy(np.float64(1)), "got a single value"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path: Path, name: str, content: bytes, text: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(checks.DataError, match=text) as caught:
        read_weights(path)
    assert "\n" not in str(caught.value)


def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_weights(tmp_path / "none")
    with pytest.raises(IsADirectoryError):
        read_weights(tmp_path)


def test_archives_of_arrays_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    with open(path, "wb") as file:
        np.savez(file, a=WEIGHTS)
    with pytest.raises(checks.DataError, match="real numbers"):
        read_weights(path)


def write(tmp_path: Path, content: str | bytes, name: str = "a.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


NAMED = ",A,B,C\nA,0,8,9\nB,1,0,7\nC,2,3,0\n"
RIGHT = np.array([[0, 8, 9], [1, 0, 7], [2, 3, 0]])


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (NAMED, None),
        (",A,C,B\nA,0,9,8\nB,1,7,0\nC,2,0,3\n", "columns put in the order of the rows"),
        ("x,C,A,B\nA,9,0,8\nB,7,1,0\nC,0,2,3\n", "columns put in the order of the rows"),
        ("C,A,B\nA,9,0,8\nB,7,1,0\nC,0,2,3\n", "columns put in the order of the rows"),
        ("# C,A,B\nA,9,0,8\nB,7,1,0\nC,0,2,3\n", "columns put in the order of the rows"),
        (NAMED.replace("\n", "\r"), "CR line ends"),
        (NAMED.replace(",", ";"), "semicolon-separated"),
        (NAMED.replace(",", ";").replace(";9", ";9,0"), "decimal commas"),
        (NAMED.replace(",", "\t"), "tab-separated"),
        (NAMED.replace(",", " ").replace(" A", "n A", 1), "separated by white space"),
        (NAMED.encode("utf-16"), "UTF-16"),
        ("sep=,\n" + NAMED, "sep= line"),
        ("# May\n" + NAMED.replace("B,1", "# June\nB,1"), "2 comment lines"),
        (",A,B,C\nA,,8,9\nB,1,,7\nC,2,3,\n", "blank diagonal"),
        (",A,B,C\nA,-,8,9\nB,1,-,7\nC,2,3,-\n", "blank diagonal"),
        (",A,C,B\nA,,9,8\nB,1,7,\nC,2,,3\n", "blank diagonal"),
        (",A,B,C\nA,nan,8,9\nB,1,nan,7\nC,2,3,nan\n", "blank diagonal"),
        (",A,B,C\n0,0,8,9\n1,1,0,7\n2,2,3,0\n", "index column ignored"),
        (",0,1,2\nA,0,8,9\nB,1,0,7\nC,2,3,0\n", "numbers over the columns ignored"),
        ('"","A","B","C"\n"A","0","8","9"\n"B","1","0","7"\n"C","2","3","0"\n', None),
        (",A,B,C,,\nA,0,8,9,,\nB,1,0,7,,\nC,2,3,0,,\n,,,,,\n", None),
    ],
)
def test_columns_are_matched_to_rows_by_name(tmp_path: Path, content: str | bytes, fact: str | None) -> None:
    found = read_weights(write(tmp_path, content))
    assert np.array_equal(found.weights, RIGHT)
    assert found.names == ("A", "B", "C")
    assert fact in found.recognised if fact else found.recognised == ("UTF-8", "comma-separated")


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (",8,9\n1,,7\n2,3,\n", None),
        ("-;8;9\n1;-;7\n2;3;-\n", None),
        ("0,8,9\n1,0,7\n2,3,0\n", None),
        (",3,1,2\n1,8,0,9\n2,3,2,0\n3,0,1,7\n", ("1", "2", "3")),
    ],
)
def test_matrices_of_numbers_alone(tmp_path: Path, content: str, names: tuple[str, ...] | None) -> None:
    found = read_weights(write(tmp_path, content))
    expected = RIGHT if names is None else np.array([[0, 9, 8], [2, 0, 3], [1, 7, 0]])
    assert np.array_equal(found.weights, expected)
    assert found.names == names


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (NAMED.replace("C\n", "D\n", 1), "got rows 'C' and columns 'D'; correct the names"),
        (NAMED.replace("C", "B"), "names that differ in .*, got 'B' more than once"),
        (",A,A,C\nA,0,8,9\nB,1,0,7\nC,2,3,0\n", "the same names over the columns as before the rows"),
        ("A,A,C\n0,8,9\n1,0,7\n2,3,0\n", "names that differ in .*, got 'A' more than once"),
        (",A,B,C\nA,0,,9\nB,1,0,7\nC,2,3,0\n", "got '' in row 2, column 3; write 0 for no weight"),
        (",A,B,C\nA,,8,9\nB,1,0,7\nC,2,3,0\n", "got '' in row 2, column 2; .* only a whole diagonal may be blank"),
        (NAMED.replace("8", "8_0"), "got '8_0' in row 2, column 3"),
        (",1,2,3\n1,0,8,9\n2,1,0,7\n4,2,3,0\n", "got rows '4' and columns '3'"),
        (",8,9\n8,,7\n9,7,\n", "a matrix that can be read in one way .* write 0 on the diagonal"),
        ("A,B,C\n0,8,9,1\n1,0,7,2\n2,3,0,3\n", "could be both"),
        ("A,B,C\n0,0,9,1\n1,4,0,2\n2,3,1,0\n", "got rows '0', '1', '2' and columns 'A', 'B', 'C'"),
        (NAMED.replace(",", "\t").replace("8", "8,000"), "where the comma is a decimal sign or groups digits"),
    ],
)
def test_matrices_that_are_refused(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(checks.DataError, match=words):
        read_weights(write(tmp_path, content))


@pytest.mark.parametrize(
    "content",
    [
        "1,2,8\n1,3,9\n2,3,7\n",
        "0,1,8\n0,2,9\n1,2,7\n",
        "winner,loser,count\n1,2,8\n1,3,9\n2,3,7\n",
        ",winner,loser,count\n0,1,2,8\n1,1,3,9\n2,2,3,7\n",
        "from,to,w\n0,1,5\n1,0,3\n1,2,0\n",
    ],
)
def test_a_file_that_could_be_a_matrix_or_edges(tmp_path: Path, content: str) -> None:
    path = write(tmp_path, content)
    with pytest.raises(
        checks.DataError, match=r"could be both; give --edges \(edges=True\) .* leave the diagonal blank"
    ):
        read_weights(path)
    assert read_weights(path, edges=True).weights.shape == (3, 3)


@pytest.mark.parametrize(
    ("content", "names"),
    [
        ("winner,loser,count\nA,B,8\nA,C,9\nB,C,7\nB,A,1\nC,A,2\nC,B,3\n", "ABC"),
        ("A,B,8\nA,C,9\nB,C,7\nB,A,1\nC,A,2\nC,B,3\n", "ABC"),
        ("loser;winner;count\nB;A;8,0\nC;A;9\nC;B;7\nA;B;1\nA;C;2\nB;C;3\n", "BAC"),
        ("count\tto\tfrom\n8\tB\tA\n9\tC\tA\n7\tC\tB\n1\tA\tB\n2\tA\tC\n3\tB\tC\n", "ABC"),
        (",x,y,z\n0,A,B,8\n1,A,C,9\n2,B,C,7\n3,B,A,1\n4,C,A,2\n5,C,B,3\n", "ABC"),
        ("A B 8\nA C 9\n# and\nB C 7\nB A 1\nC A 2\nC B 1\nC B 2\n", "ABC"),
        ("date,winner,loser,weight\n1,A,B,8\n1,A,C,9\n1,B,C,7\n1,B,A,1\n1,C,A,2\n1,C,B,3\n", "ABC"),
    ],
)
def test_edges(tmp_path: Path, content: str, names: str) -> None:
    found = read_weights(write(tmp_path, content, "a.txt"), edges=True)
    assert found.names is not None
    assert set(found.names) == set(names)
    order = [found.names.index(name) for name in "ABC"]
    assert np.array_equal(found.weights[np.ix_(order, order)], RIGHT)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("a,b,c,d\nA,B,8,1\n", "the three columns winner, loser, weight"),
        ("loser,other,count\nA,B,8\n", "the three columns winner, loser, weight"),
        ("A,B\nB,C\n", "the three columns winner, loser, weight"),
        ("winner,loser,count\nA,B,x\n", "two names and a finite weight in .*, got 'A', 'B', 'x' in line 2"),
        ("winner,loser,count\nA,B,1_0\n", "got 'A', 'B', '1_0' in line 2"),
        ("winner,loser,count\nA,,8\n", "got 'A', '', '8' in line 2"),
        ("winner,loser,count\nA,B,inf\n", "got 'A', 'B', 'inf' in line 2"),
        ("winner,loser,count\n", "got a header alone"),
        ("A,B,8\nA,B\n", "3 cells in every row in .*, got 2 in line 2"),
        ("# none\n", "got no row"),
    ],
)
def test_edges_that_are_refused(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(checks.DataError, match=words):
        read_weights(write(tmp_path, content), edges=True)


def test_edges_are_no_arrays(tmp_path: Path) -> None:
    with pytest.raises(checks.UsageError, match="edges in a text file"):
        read_weights(write(tmp_path, npy(WEIGHTS), "a.npy"), edges=True)


@pytest.mark.parametrize("content", ["A,B,8\nA,C,9\nB,C,7\n", "winner,loser,n\nA,B,8\n"])
def test_what_fails_in_three_columns_names_the_option(tmp_path: Path, content: str) -> None:
    with pytest.raises(checks.DataError, match="--edges"):
        read_weights(write(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "title"),
    [
        ("1975\n3\n0 1.5 2\n3 0 4\n5 6 0\n", "1975"),
        ("44 1975\n3\n0 1.5 2\n3 0 4\n5 6 0\n", "44 1975"),
        ("1975\nin millions\n\n3\n0 1.5 2 3 0 4 5 6 0\n", "1975 / in millions"),
        ("3\n3\r0 1,5 2\r3 0 4\r5 6 0\r", "3"),
    ],
)
def test_titles_of_digits(tmp_path: Path, content: str, title: str) -> None:
    found = read_weights(write(tmp_path, content, "a"))
    assert np.array_equal(found.weights, WEIGHTS)
    assert f"title {title!r}" in found.recognised


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("2\n1 3\n", "2² = 4 numbers after the size 2 in .*, got 2 numbers"),
        ("2\n0 1_0\n1 0\n", "got '1_0' as number 3"),
        ("3\n0 1 2\n2\n1 0\n", "3² = 9 numbers after the size 3 in .*, got 6 numbers"),
        ("3 0 1 0 0\n2\n1 2 3 4\n", "one way to read LOLIB text in .*, got a size n of 3 or 2"),
    ],
)
def test_lolib_text_that_is_refused(tmp_path: Path, content: str, words: str) -> None:
    with pytest.raises(checks.DataError, match=words):
        read_weights(write(tmp_path, content, "a"))


class Frame:
    """What a data frame of pandas is to this library."""

    def __init__(self, values: list, index: list, columns: list) -> None:
        self.values, self.index, self.columns = values, index, columns

    def to_numpy(self) -> np.ndarray:
        return np.array(self.values, dtype=object)


def test_data_frames() -> None:
    found = from_frame(Frame([[0, 9, 8], [1, 7, None], [2, 0, 3]], list("ABC"), list("ACB")))
    assert np.array_equal(found.weights, RIGHT)
    assert found.names == ("A", "B", "C")
    assert from_frame(Frame([[0, 1], [2, 0]], [0, 1], [0, 1])).names is None
    assert from_frame(Frame([[0, 1], [2, 0]], [0, 1], ["A", "B"])).names == ("A", "B")
    with pytest.raises(checks.DataError, match="the same names"):
        from_frame(Frame([[0, 1], [2, 0]], ["A", "B"], ["A", "C"]))
    with pytest.raises(checks.DataError, match="numbers in the data frame"):
        from_frame(Frame([["x", 1], [2, 0]], ["A", "B"], ["A", "B"]))


def test_a_short_list_of_edges_between_many_elements_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its matrix would take more memory than the list suggests; a long list is worth it."""
    edges = "".join(f"a{i},b{i},1\n" for i in range(2501))
    words = r"edges between at most 5000 elements, or .*, got 2501 between 5002, whose matrix takes 0\.2 GB"
    with pytest.raises(checks.DataError, match=words):
        read_weights(write(tmp_path, edges), edges=True)
    monkeypatch.setattr(edge_files, "MOST_ELEMENTS", 50)
    monkeypatch.setattr(edge_files, "MOST_FILL", 4)
    ring = [f"n{i},n{(i + step) % 60},1\n" for i in range(60) for step in range(1, 16)]
    assert read_weights(write(tmp_path, "".join(ring)), edges=True).weights.shape == (60, 60)
    with pytest.raises(checks.DataError, match="got 899 between 60"):
        read_weights(write(tmp_path, "".join(ring[1:])), edges=True)
