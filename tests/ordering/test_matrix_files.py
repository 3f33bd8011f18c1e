"""Weight matrices from files: each format, and what is wrong with a file."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import checks
from ncp_jax.ordering.matrix_files import read_weights

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
        ("a.csv", ",x,y,z\np,0,1.5,2\nq,3,0,4\n r ,5,6,0\n", ("p", "q", "r")),
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
