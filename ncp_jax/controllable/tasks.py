"""Defines the targets of tasks and the examples that a controllable model learns from; reads them from npz files.

A file has ``images`` [n, h, w] or [n, h, w, colours] and one array for each task, whose name tells its kind:

- ``NAME.classes`` [n]: one class for each image, integers 0, 1, …;
- ``NAME.labels`` [n, h, w]: one class for each pixel, likewise; images and pixels of class -1 have none, do not count;
- ``NAME.pixels`` [n, h, w] or [n, h, w, k]: numbers for each pixel; NaN where it has none;
- ``NAME.jigsaw`` [n]: the permutation in which the task sees the 2 x 2 tiles of the image, one of at most 24 classes;
- ``NAME.jigsaw3`` [n]: likewise of 3 x 3 tiles, at most 1000 classes; see ``jigsaw``.

Images of bytes (uint8) are divided by 255. ``split`` [n], if there, has 0 for train, 1 for validation and 2 for test.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.array_files import LARGEST, read_npz
from ncp_jax.controllable.jigsaw import GRIDS, MOST
from ncp_jax.types import Float, Int

KINDS = ("classes", "labels", "pixels", *GRIDS)
SPLITS = ("train", "validation", "test")
SHARES = (0.5, 0.75)  # where the shares of a random split end
DIGITS = ("class", "rotation", "edges", "autoencoder")
LARGEST_NUMBER = 1e15  # of pixels to predict: in float32, sums of squares of larger ones are infinite
MOST_CLASSES = 2**16  # of one task; a decoder has an output for each
EXPANSION = 32  # bytes of arrays for each byte of a file, at most; label maps take 32 times less when compressed
NOISE = 0.2  # standard deviation of the noise on the pixels of digits, which are 0 to 1


@dataclasses.dataclass(frozen=True)
class Target:
    """What one task predicts.

    Attributes:
      name: name of the task.
      kind: "classes" (one class for each image), "labels" (one class for each pixel), "pixels" (numbers for each),
        "jigsaw" or "jigsaw3" (the permutation of the image's tiles).
      outputs: number of classes, or of numbers for each pixel.
    """

    name: str
    kind: str
    outputs: int

    @property
    def grid(self) -> int:
        """Tiles on a side of a jigsaw; 0 for other kinds, whose decoder reads the features of the whole image."""
        return GRIDS.get(self.kind, 0)

    @property
    def metric(self) -> str:
        """Name of the task's metric, in percent, higher is better: accuracy, or r2 (explained share of variance)."""
        return "r2" if self.kind == "pixels" else "accuracy"


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Images with a target for each task, on the host.

    Attributes:
      images: ``[n, h, w, colours]`` float32.
      targets: for each task ``[n]`` or ``[n, h, w]`` int32, or ``[n, h, w, k]`` float32.
      split: ``[n]`` 0 for train, 1 for validation, 2 for test.
      kinds: what each task predicts.
      name: where the examples come from.
    """

    images: Float[np.ndarray, "n h w c"]
    targets: Mapping[str, np.ndarray]
    split: Int[np.ndarray, " n"]
    kinds: tuple[Target, ...]
    name: str

    def part(self, split: str) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
        """Returns images and targets (in the order of ``kinds``) of one split."""
        rows = np.flatnonzero(self.split == SPLITS.index(split))
        return self.images[rows], tuple(self.targets[kind.name][rows] for kind in self.kinds)

    def every(self, step: int) -> Examples:
        """Returns every ``step``-th example."""
        targets = {name: array[::step] for name, array in self.targets.items()}
        return dataclasses.replace(self, images=self.images[::step], targets=targets, split=self.split[::step])

    @property
    def digest(self) -> str:
        """SHA-256 of all arrays, hexadecimal."""
        digest = hashlib.sha256(self.images.tobytes() + self.split.tobytes())
        for kind in self.kinds:
            digest.update(f"{kind}".encode() + self.targets[kind.name].tobytes())
        return digest.hexdigest()


def make_examples(
    images: Any,
    targets: Mapping[str, tuple[str, Any]],
    *,
    split: Any = None,
    name: str = "arrays",
) -> Examples:
    """Checks arrays and returns them as examples.

    Args:
      images: ``[n, h, w]`` or ``[n, h, w, colours]`` finite numbers, h = w; bytes are divided by 255.
      targets: for each task its kind and array; see the module.
      split: ``[n]`` 0 for train, 1 for validation, 2 for test; by default a random half, quarter and quarter.
      name: where they come from, for messages.

    Raises:
      DataError: arrays of the wrong kind, length, shape or content.
    """
    pictures = np.asarray(images)
    if pictures.ndim == 3:
        pictures = pictures[..., None]
    square = pictures.ndim == 4 and pictures.shape[1] == pictures.shape[2] and 0 not in pictures.shape[1:]
    if not square or pictures.dtype.kind not in "buif":
        raise _wrong(name, "images [n, side, side] or [n, side, side, colours] of numbers", f"{_shape(images)}")
    with np.errstate(over="ignore"):  # infinities are refused below
        pictures = pictures / np.float32(255) if pictures.dtype == np.uint8 else pictures.astype(np.float32)
    if not np.isfinite(pictures).all():
        raise _wrong(name, "finite pixels", "NaN or infinity in images")
    if not targets:
        raise _wrong(name, "one array NAME.KIND or more beside images", "none")
    n = len(pictures)
    places = _split(name, split, n)
    checked = {task: _target(name, task, kind, array, pictures.shape) for task, (kind, array) in targets.items()}
    kinds = tuple(target for target, _ in checked.values())
    arrays = {task: array for task, (_, array) in checked.items()}
    for kind in kinds:
        for place, split_name in enumerate(SPLITS):
            _check_part(name, kind, arrays[kind.name][places == place], split_name)
        if kind.kind == "pixels":
            arrays[kind.name] = _standardised(arrays[kind.name], places == 0)
    return Examples(pictures, arrays, places, kinds, name)


def _check_part(name: str, target: Target, array: np.ndarray, split: str) -> None:
    """Refuses targets of one split without anything to learn, or to measure by."""
    if target.kind != "pixels":
        if not (array >= 0).any():
            raise _wrong(name, f"a class in {target.name}.{target.kind} among the images of {split}", "-1 everywhere")
        return
    # The metric is the explained share of the variance around these means.
    if not np.nanmax(np.abs(array - _pixel_means(array)), initial=0) > 0:
        raise _wrong(name, f"{target.name}.pixels that differ between the images of {split}", "equal ones, or NaN")


def _pixel_means(array: np.ndarray) -> np.ndarray:
    """Returns the mean of the known numbers of each pixel; 0 where no image has any."""
    known = ~np.isnan(array)
    return np.where(known, array, 0).sum(axis=0) / np.maximum(known.sum(axis=0), 1).astype(np.float32)


def _standardised(array: np.ndarray, train: np.ndarray) -> np.ndarray:
    """Returns numbers less each pixel's mean in the training images, in units of the standard deviation there.

    So the losses of all tasks are of one size.
    """
    mean = _pixel_means(array[train])
    return ((array - mean) / np.nanstd(array[train] - mean)).astype(np.float32)


def _wrong(name: str, expected: str, got: str) -> checks.DataError:
    return checks.DataError(
        expected=f"{expected} in {name}", got=got, remedy="correct the file; see docs/controllable.md"
    )


def _shape(array: Any) -> str:
    found = np.asarray(array)
    return f"shape {list(found.shape)} of {found.dtype}"


def _split(name: str, split: Any, n: int) -> np.ndarray:
    if split is None:
        share = np.random.default_rng(0).permutation(n) / max(n, 1)
        places = (share[:, None] >= SHARES).sum(axis=1)
    else:
        places = np.asarray(split)
        if places.shape != (n,) or places.dtype.kind not in "bui" or not np.isin(places, (0, 1, 2)).all():
            raise _wrong(name, f"split [{n}] of 0 (train), 1 (validation) and 2 (test)", _shape(split))
    if len(np.unique(places)) < len(SPLITS):
        raise _wrong(name, "examples of train, validation and test", f"{n} images without some of them")
    return places.astype(np.int32)


def _target(name: str, task: str, kind: str, array: Any, shape: tuple[int, ...]) -> tuple[Target, np.ndarray]:
    n, side = shape[:2]
    found = np.asarray(array)
    if kind not in KINDS:
        raise _wrong(name, f"a kind of target ({', '.join(KINDS)})", f"{task}.{kind}")
    if not task.isidentifier():
        raise _wrong(name, "names of tasks of letters, digits and _", repr(task))
    if kind == "pixels":
        if found.dtype.kind not in "buif" or found.shape[:3] != (n, side, side) or found.ndim not in (3, 4):
            raise _wrong(name, f"{task}.pixels [{n}, {side}, {side}] of numbers", _shape(array))
        if (np.abs(found) > LARGEST_NUMBER).any():
            wanted = f"numbers of at most {LARGEST_NUMBER:g}, or NaN for none, in {task}.pixels"
            raise _wrong(name, wanted, f"{np.nanmin(found):g} to {np.nanmax(found):g}")
        found = (found if found.ndim == 4 else found[..., None]).astype(np.float32)
        return Target(task, kind, found.shape[-1]), found
    expected = (n, side, side) if kind == "labels" else (n,)
    if found.dtype.kind not in "bui" or found.shape != expected:
        raise _wrong(name, f"{task}.{kind} {list(expected)} of integers", _shape(array))
    classes = int(found.max()) + 1
    if found.min() < -1 or classes < 2:
        raise _wrong(name, f"classes 0, 1, … (or -1 for none) in {task}.{kind}", f"{found.min()} to {found.max()}")
    if classes > MOST_CLASSES or (classes == 256 and not (found == 254).any()):
        got = f"class {classes - 1}"
        raise _wrong(name, f"classes 0, 1, … without a gap, and -1 for none, in {task}.{kind}", got)
    target = Target(task, kind, classes)
    if target.grid and (side % target.grid or classes > MOST[target.grid]):
        wanted = f"classes below {MOST[target.grid]} in {task}.{kind}, and a side that is a multiple of {target.grid}"
        raise _wrong(name, wanted, f"classes up to {classes - 1}, a side of {side}")
    return target, found.astype(np.int32)


def read_examples(path: Path) -> Examples:
    """Reads examples from an npz file; see the module for its arrays. Nothing in the file is executed.

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is damaged, or has arrays of the wrong kind, length, shape or content.
    """
    try:
        content = path.read_bytes()
        stored = read_npz(content, most=max(LARGEST, EXPANSION * len(content)))
    except FileNotFoundError as error:
        raise checks.MissingError(
            expected=f"the data at {path}", got="no such file", remedy="name an npz file, or digits"
        ) from error
    except IsADirectoryError as error:
        raise checks.DataError(
            expected=f"an npz file of arrays at {path}", got="a folder", remedy="write it with numpy.savez"
        ) from error
    except ValueError as error:
        raise checks.DataError(
            expected=f"an npz file of arrays at {path}", got=str(error), remedy="write it with numpy.savez"
        ) from error
    if "images" not in stored:
        raise _wrong(str(path), "an array called images", ", ".join(stored) or "none")
    images, split = stored.pop("images"), stored.pop("split", None)
    targets: dict[str, tuple[str, np.ndarray]] = {}
    for key, array in stored.items():
        task, dot, kind = key.rpartition(".")
        if not dot:
            names = ", ".join(f"NAME.{kind}" for kind in KINDS)
            raise _wrong(str(path), f"images, split and arrays called {names}", key)
        if task in targets:
            raise _wrong(str(path), "one array for each task", f"{task}.{targets[task][0]} and {key}")
        targets[task] = (kind, array)
    return make_examples(images, targets, split=split, name=str(path))


def digits_examples(copies: int = 4, *, jigsaw: bool = False) -> Examples:
    """Returns scikit-learn's digits with four or five tasks on the same image, turned and with noise on its pixels.

    Tasks: class (which digit), rotation (by how many quarter turns), edges (the edge map of the image without noise),
    autoencoder (the image without noise), and jigsaw (in which of 24 orders the quadrants are).

    Args:
      copies: variants of each training image, each with its own turn, noise and order of the quadrants.
      jigsaw: whether there is the fifth task. The others are the same with and without it.

    Raises:
      UsageError: scikit-learn is not installed.
    """
    from scipy import ndimage

    from ncp_jax.training.cells.tasks import digits_images, split_rows

    images, classes = digits_images()
    rng = np.random.default_rng(0)
    rows, places = [], []
    for place, (split, found) in enumerate(split_rows().items()):
        rows.append(np.tile(found, copies if split == "train" else 1))
        places.append(np.full(len(rows[-1]), place))
    chosen, split_of = np.concatenate(rows), np.concatenate(places)
    turns = rng.integers(0, 4, len(chosen))
    clean = np.stack([np.rot90(images[row], turn) for row, turn in zip(chosen, turns, strict=True)])
    noisy = clean + NOISE * rng.standard_normal(clean.shape)
    slopes = np.stack([ndimage.sobel(clean, axis=axis, mode="constant") for axis in (1, 2)])
    targets: dict[str, tuple[str, Any]] = {
        "class": ("classes", classes[chosen]),
        "rotation": ("classes", turns),
        "edges": ("pixels", np.sqrt((slopes**2).sum(axis=0))),
        "autoencoder": ("pixels", clean),
    }
    if jigsaw:
        orders = np.random.default_rng(1).integers(0, MOST[GRIDS["jigsaw"]], len(chosen))
        targets["jigsaw"] = ("jigsaw", orders)
    return make_examples(noisy, targets, split=split_of, name="digits")
