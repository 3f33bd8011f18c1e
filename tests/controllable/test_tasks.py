"""Examples: the digits, a user's arrays, and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ncp_jax.checks import DataError, MissingError
from ncp_jax.controllable.tasks import cifar100_arrays, digits_examples, make_examples, read_examples

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
        ({"twice.pixels": np.zeros((90, 6, 6))}, "differ between training images"),
        ({"twice.pixels": np.full((90, 6, 6), np.inf)}, "finite numbers in twice.pixels"),
        ({"twice.numbers": np.zeros(90)}, "a kind of target"),
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
    (tmp_path / "x.npz").write_text("hello")
    with pytest.raises(DataError, match="an npz file of arrays"):
        read_examples(tmp_path / "x.npz")
    np.savez(tmp_path / "x.npz", images=np.zeros((9, 4, 4)))
    with pytest.raises(DataError, match=r"one array NAME\.KIND or more"):
        read_examples(tmp_path / "x.npz")


def test_cifar100(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fine = rng.permutation(100)  # which coarse class a fine class belongs to is no rule
    for name, copies in (("train", 5), ("test", 1)):
        rows = np.zeros((100 * copies, 3074), np.uint8)
        rows[:, 1] = np.tile(np.arange(100), copies)
        rows[:, 0] = fine[rows[:, 1]] // 5
        rows[:, 2:] = rng.integers(0, 256, (len(rows), 3072))
        rows.tofile(tmp_path / f"{name}.bin")
    arrays = cifar100_arrays(tmp_path / "train.bin", tmp_path / "test.bin")
    assert arrays["images"].shape == (600, 32, 32, 3)
    assert np.bincount(arrays["split"]).tolist() == [400, 100, 100]
    labels = np.stack([arrays[f"coarse{task}.classes"] for task in range(20)])
    assert ((labels >= 0).sum(axis=0) == 1).all()
    # The labels tell the fine classes of a coarse class apart.
    for task, row in enumerate(labels):
        members = np.flatnonzero(fine // 5 == task)
        assert row[members].tolist() == [0, 1, 2, 3, 4]
    targets = {key.removesuffix(".classes"): ("classes", array) for key, array in arrays.items() if "." in key}
    examples = make_examples(arrays["images"], targets, split=arrays["split"])
    assert {kind.outputs for kind in examples.kinds} == {5}
    np.zeros(3075, np.uint8).tofile(tmp_path / "test.bin")
    with pytest.raises(DataError, match="images of 3074 bytes"):
        cifar100_arrays(tmp_path / "train.bin", tmp_path / "test.bin")
