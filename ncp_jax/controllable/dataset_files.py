"""Reads the files of one image of a data set, and resizes what they hold to a square."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from PIL import Image  # Pillow comes with matplotlib

from ncp_jax import checks
from ncp_jax.array_files import read_npy
from ncp_jax.types import Bool, Float, Int, UInt

_STRETCH = 0.02  # by which the aspect ratios of an image and of a map of it may differ, for roundings
_SHORTEST = 0.1  # length of a direction; shorter ones, of which roundings to bytes leave some, are none


def read_bytes(path: Path) -> bytes:
    """Returns the content of a file of a data set; MissingError where there is none."""
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise checks.MissingError(
            expected=f"a file {path}", got="none", remedy="see docs/controllable_data.md for the files of each data set"
        ) from error


def wrong(path: Path, expected: str, got: str) -> checks.DataError:
    """Returns the error for a file of another content."""
    return checks.DataError(expected=f"{expected} in {path}", got=got, remedy="take the data set's own file")


def one_of(folder: Path, name: str, suffixes: tuple[str, ...]) -> Path:
    """Returns the file of an image in one of several forms; the first one where there is none."""
    paths = [folder / f"{name}{suffix}" for suffix in suffixes]
    return next((path for path in paths if path.exists()), paths[0])


def read_array(path: Path, variable: str = "") -> np.ndarray:
    """Returns the array in a picture (png, jpg), a file of NumPy (npy) or the variable of one of MATLAB (mat).

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: it is damaged, or no such file.
    """
    if path.suffix not in (".npy", ".mat"):
        return np.asarray(_picture(path))
    content = read_bytes(path)
    try:
        if path.suffix == ".npy":
            return read_npy(content)
        from scipy.io import loadmat

        return np.asarray(loadmat(io.BytesIO(content), variable_names=[variable])[variable])
    except Exception as error:  # loadmat raises exceptions of many types on damaged files
        got = f"something else ({type(error).__name__}: {error})"
        raise wrong(path, f"an array {variable}".rstrip(), got) from error


def read_picture(path: Path, side: int) -> tuple[UInt[np.ndarray, "side side 3"], tuple[int, int]]:
    """Returns a picture as red, green and blue, resized to a square of mean colours; and its own height and width."""
    picture = _picture(path)
    small = picture.convert("RGB").resize((side, side), Image.Resampling.BOX)
    return np.asarray(small), (picture.height, picture.width)


def _picture(path: Path) -> Image.Image:
    content = read_bytes(path)
    try:
        with Image.open(io.BytesIO(content)) as picture:
            picture.load()
            return picture
    except Exception as error:  # as above
        raise wrong(path, "a picture", f"something else ({type(error).__name__}: {error})") from error


def read_map(path: Path, size: tuple[int, int], *, variable: str = "", planes: int = 0) -> np.ndarray:
    """Returns what a file says of the pixels of an image: numbers ``[h, w]`` or, of ``planes`` planes, ``[h, w, k]``.

    Raises:
      DataError: another shape, or another aspect ratio than that of the image of height and width ``size``.
    """
    found = read_array(path, variable)
    shape = found.shape[:2]
    dimensions = found.ndim == (3 if planes else 2) and (not planes or found.shape[2] == planes)
    if not dimensions or 0 in shape or found.dtype.kind not in "buif":
        expected = f"numbers [h, w, {planes}]" if planes else "numbers [h, w]"
        raise wrong(path, expected, f"shape {list(found.shape)} of {found.dtype}")
    if abs(shape[0] * size[1] / (shape[1] * size[0]) - 1) > _STRETCH:
        raise wrong(path, f"the shape of its image, {list(size)}, or a multiple of it", f"shape {list(shape)}")
    return found


def read_classes(path: Path, size: tuple[int, int], most: int, *, variable: str = "") -> Int[np.ndarray, "h w"]:
    """Returns the class of each pixel, 0 to ``most``; 255, which means none, becomes -1.

    Raises:
      DataError: another shape, or other numbers.
    """
    found = read_map(path, size, variable=variable)
    if not np.isfinite(found).all():
        raise wrong(path, f"classes 0 to {most}", "NaN or infinity")
    classes = found.astype(np.int32)
    if most < 255:
        classes = np.where(found == 255, -1, classes)
    if (classes != found)[classes >= 0].any() or classes.max() > most or classes.min() < -1:
        raise wrong(path, f"classes 0 to {most}", f"{found.min()} to {found.max()}")
    return classes


def nearest(array: Int[np.ndarray, "h w"], height: int, width: int) -> Int[np.ndarray, "height width"]:
    """Returns numbers that are resized without mixing them."""
    picture = Image.fromarray(np.ascontiguousarray(array, np.int32))
    return np.asarray(picture.resize((width, height), Image.Resampling.NEAREST))


def shrunk(plane: np.ndarray, side: int) -> Float[np.ndarray, "side side"]:
    """Returns the mean of a plane of numbers over the area of each new pixel."""
    picture = Image.fromarray(np.ascontiguousarray(plane, np.float32))
    return np.asarray(picture.resize((side, side), Image.Resampling.BOX))


def known_mean(array: Float[np.ndarray, "h w *k"], side: int) -> Float[np.ndarray, "side side *k"]:
    """Returns the mean of the known numbers, those that are finite, over the area of each pixel; NaN without any."""
    planes = array.reshape(*array.shape[:2], -1)
    known = np.isfinite(planes).all(axis=-1)
    share = shrunk(known, side)
    sums = [shrunk(np.where(known, planes[..., k], 0), side) for k in range(planes.shape[-1])]
    means = np.where(share[..., None] > 0, np.stack(sums, axis=-1) / np.maximum(share, 1e-9)[..., None], np.nan)
    return means.reshape(side, side, *array.shape[2:]).astype(np.float32)


def unit_mean(vectors: Float[np.ndarray, "h w 3"], side: int) -> Float[np.ndarray, "side side 3"]:
    """Returns the mean direction of vectors, of length 1, over the area of each pixel; NaN where it has none.

    Vectors of almost no length, or with NaN, mean that a pixel has no direction. Others count by their direction alone.
    """
    return _unit(known_mean(_unit(vectors), side))


def _unit(vectors: Float[np.ndarray, "*n 3"]) -> Float[np.ndarray, "*n 3"]:
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(lengths > _SHORTEST, lengths, np.nan)


def somewhere(mask: Bool[np.ndarray, "h w"], side: int) -> Bool[np.ndarray, "side side"]:
    """Returns where a mask is true anywhere in the area of a pixel. Thin lines stay whole."""
    return shrunk(mask, side) > 0


def borders(classes: Int[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Returns the pixels whose class differs from that of the pixel to the right or below."""
    found = np.zeros(classes.shape, bool)
    found[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    found[:-1] |= classes[:-1] != classes[1:]
    return found
