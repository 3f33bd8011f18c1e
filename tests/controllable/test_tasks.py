"""Examples: the digits, a user's arrays, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncp_jax.checks import DataError, MissingError
from ncp_jax.controllable.tasks import digits_examples, read_examples

from .conftest import user_arrays


def test_a_users_arrays(data: Path) -> None:
    examples, given = read_examples(data), user_arrays()
    assert [(t.name, t.kind, t.outputs, t.metric) for t in examples.kinds] == [
        ("bar", "classes", 3, "accuracy"),
        ("parts", "labels", 2, "accuracy"),
        ("twice", "pixels", 1, "r2"),
    ]
    images, (bars, parts, twice) = examples.part("validation")
    np.testing.assert_array_equal(images[..., 0], given["images"][1::3])
    np.testing.assert_array_equal(bars, given["bar.classes"][1::3])
    np.testing.assert_array_equal(parts, given["parts.labels"][1::3])
    train = given["twice.pixels"][::3]
    expected = (given["twice.pixels"][1::3] - train.mean(axis=0)) / (train - train.mean(axis=0)).std()
    np.testing.assert_allclose(twice[..., 0], expected, atol=1e-5)
    assert read_examples(data).digest == examples.digest


def test_the_digits() -> None:
    examples = digits_examples(copies=2)
    assert [t.name for t in examples.kinds] == ["class", "rotation", "edges", "autoencoder"]
    assert np.bincount(examples.split).tolist() == [2 * 898, 449, 450]
    images, (classes, turns, edges, clean) = examples.part("train")
    assert images.shape == clean.shape == edges.shape == (1796, 8, 8, 1)
    assert (np.bincount(classes) > 150).all()
    assert (np.bincount(turns) > 350).all()
    # Two variants of an image are one image, turned and with other noise.
    assert (classes[:898] == classes[898:]).all()


def in_split(place: int, value: float) -> np.ndarray:
    """Returns random numbers for each pixel, and one value in all images of a split."""
    found = np.random.default_rng(0).integers(0, 3, (90, 6, 6)).astype(float)
    found[place::3] = value
    return found


def test_pixels_without_a_number_do_not_count(tmp_path: Path) -> None:
    arrays = user_arrays()
    numbers = np.stack([arrays["twice.pixels"]] * 2, axis=-1)
    numbers[::2, :, :, 0] = np.nan
    numbers[:, 0, 0] = np.nan
    np.savez(tmp_path / "x.npz", **(arrays | {"twice.pixels": numbers}))  # type: ignore[arg-type]
    found = read_examples(tmp_path / "x.npz").targets["twice"]
    train = np.ma.masked_invalid(numbers[::3])
    spread = (train - train.mean(axis=0)).std()
    expected = (np.ma.masked_invalid(numbers) - train.mean(axis=0).filled(0)) / spread
    np.testing.assert_allclose(found, expected.filled(np.nan), atol=1e-5)


def test_bytes_are_shares_of_255(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (90, 6, 6)).astype(np.uint8)
    np.savez(tmp_path / "x.npz", **(user_arrays() | {"images": images}))  # type: ignore[arg-type]
    np.testing.assert_allclose(read_examples(tmp_path / "x.npz").images[..., 0], images / 255, rtol=1e-6)


def test_files_of_any_size_that_hold_what_they_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ncp_jax.controllable.tasks.LARGEST", 1000)
    np.savez(tmp_path / "x.npz", **user_arrays())  # type: ignore[arg-type]
    assert len(read_examples(tmp_path / "x.npz").images) == 90
    # A small file can hold any number of zeros.
    np.savez_compressed(tmp_path / "x.npz", images=np.zeros((90, 64, 64)))
    with pytest.raises(DataError, match="bytes, more than"):
        read_examples(tmp_path / "x.npz")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": None}, "an array called images"),
        ({"images": np.zeros((90, 6, 5))}, r"images \[n, side, side\].*got shape \[90, 6, 5\]"),
        ({"images": np.zeros((90, 0, 0)), "parts.labels": np.zeros((90, 0, 0), int)}, "images .n, side, side."),
        ({"images": np.full((90, 6, 6), np.nan)}, "finite pixels"),
        ({"bar.classes": np.zeros(80, int)}, r"bar.classes \[90\] of integers.*got shape \[80\]"),
        ({"bar.classes": np.zeros(90)}, r"bar.classes \[90\] of integers.*float64"),
        ({"bar.classes": np.zeros(90, int) - 1}, "classes 0, 1, … .or -1 for none."),
        ({"parts.labels": np.zeros((90, 6), int)}, r"parts.labels \[90, 6, 6\]"),
        ({"twice.pixels": np.zeros((90, 5, 6))}, r"twice.pixels \[90, 6, 6\]"),
        (
            {"twice.pixels": np.zeros((90, 6, 6))},
            "twice.pixels that differ between the images of train in .*, got equal",
        ),
        ({"twice.pixels": in_split(1, 3.0)}, "twice.pixels that differ between the images of validation"),
        ({"twice.pixels": in_split(2, np.nan)}, "twice.pixels that differ between the images of test in .*NaN"),
        (
            {"twice.pixels": np.full((90, 6, 6), np.inf)},
            "numbers of at most 1e.15, or NaN for none, in twice.pixels.* got inf to inf",
        ),
        ({"twice.pixels": in_split(0, -1e300)}, "numbers of at most .* got -1e.300 to 2"),
        ({"images": np.full((90, 6, 6), 1e300)}, "finite pixels"),
        ({"bar.pixels": np.ones((90, 6, 6))}, "one array for each task in .*, got bar.classes and bar.pixels"),
        (
            {"parts.labels": in_split(0, -1).astype(int)},
            "a class in parts.labels among the images of train in .*, got -1",
        ),
        (
            {"bar.classes": np.arange(90) % 3 - 1},
            "a class in bar.classes among the images of train in .*, got -1 everyw",
        ),
        ({"bar.classes": np.arange(90) % 2 * 255}, "classes 0, 1, … without a gap, and -1 for none.* got class 255"),
        ({"bar.classes": np.arange(90) * 1000}, "classes 0, 1, … without a gap, .* got class 89000"),
        ({"my task.classes": np.arange(90) % 2}, "names of tasks of letters, digits and _.*got 'my task'"),
        ({"a.b.classes": np.arange(90) % 2}, "names of tasks of letters, digits and _.*got 'a.b'"),
        ({"images": np.array([{}] * 90)}, "an npz file of arrays at .*pickled objects"),
        (
            {"images": np.zeros((0, 6, 6)), "split": np.zeros(0, int)},
            "examples of train, validation and test.*got 0 images",
        ),
        ({"split": np.arange(90) % 2}, "examples of train, validation and test"),
        ({"other.numbers": np.zeros(90)}, "a kind of target"),
        ({"twice": np.zeros(90)}, "arrays called NAME.classes"),
        ({"split": np.zeros(90, int)}, "examples of train, validation and test"),
        ({"split": np.zeros(9, int)}, r"split \[90\]"),
        ({"split": np.full(90, 3)}, r"split \[90\]"),
    ],
)
def test_files_that_are_refused(tmp_path: Path, change: dict[str, np.ndarray | None], message: str) -> None:
    arrays = {name: array for name, array in (user_arrays() | change).items() if array is not None}
    np.savez(tmp_path / "x.npz", **arrays)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=message):
        read_examples(tmp_path / "x.npz")


def test_no_file_and_no_npz(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match=r"no such file; name an npz"):
        read_examples(tmp_path / "x.npz")
    with pytest.raises(DataError, match=r"an npz file of arrays at .*, got a folder"):
        read_examples(tmp_path)
    (tmp_path / "x.npz").write_text("hello")
    with pytest.raises(DataError, match="an npz file of arrays"):
        read_examples(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=np.zeros((9, 4, 4)))
    with pytest.raises(DataError, match=r"one array NAME\.KIND or more"):
        read_examples(tmp_path / "x.npz")
