"""Reads published data sets of several tasks from their files, as arrays that ``tasks.read_examples`` takes.

CIFAR-100 is read in its binary version; NYUD-v2 and PASCAL-Context as the folders that Maninis et al. ("Attentive
single-tasking of multiple tasks", CVPR 2019) and Vandenhende et al. (survey of multi-task learning, 2020) distribute.
What they count as unknown (class 255, depth 0, normals of length 0, images without parts of persons) is -1 or NaN here.
A fifth of each training list is for validation; the published validation list is for test.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from ncp_jax import checks
from ncp_jax.controllable.dataset_files import (
    borders,
    known_mean,
    nearest,
    one_of,
    read_array,
    read_bytes,
    read_classes,
    read_map,
    read_picture,
    somewhere,
    unit_mean,
    wrong,
)
from ncp_jax.types import Float, Int

SETS = ("cifar100", "nyud", "pascal")
SIDE = 64  # default height and width of the images of nyud and pascal

Progress = Callable[[int, int], None]

# Parts of persons: head, torso, upper arms, lower arms, upper legs and lower legs, as in the articles above.
_PARTS = {
    **dict.fromkeys(("hair", "head", "lear", "lebrow", "leye", "mouth", "nose", "rear", "rebrow", "reye"), 1),
    **dict.fromkeys(("neck", "torso"), 2),
    **dict.fromkeys(("luarm", "ruarm"), 3),
    **dict.fromkeys(("llarm", "rlarm", "lhand", "rhand"), 4),
    **dict.fromkeys(("luleg", "ruleg"), 5),
    **dict.fromkeys(("llleg", "rlleg", "lfoot", "rfoot"), 6),
}
_PERSON = 15  # class of PASCAL VOC
# The normals of PASCAL-Context are outputs of a network that learned from NYUD-v2. They count on these classes alone,
# of the 459 of PASCAL-Context, which NYUD-v2 has by the same name; and on 427 (tvmonitor).
_INDOOR = (
    *(3, 4, 6, 9, 10, 11, 13, 15, 17, 18, 22, 23, 29, 30, 33, 34, 36, 37, 38, 39, 41, 43, 46, 49, 50, 51, 53, 55, 56),
    *(59, 61, 62, 65, 66, 68, 69, 72, 73, 78, 83, 84, 85, 87, 88, 95, 96, 101, 104, 105, 107, 111, 113, 115, 122, 124),
    *(135, 141, 142, 143, 146, 150, 154, 157, 158, 159, 165, 172, 174, 181, 183, 184, 191, 193, 195, 197, 199, 202),
    *(213, 215, 216, 219, 220, 223, 225, 228, 230, 232, 233, 238, 239, 242, 243, 246, 250, 251, 252, 255, 260, 261),
    *(263, 269, 272, 273, 275, 281, 283, 284, 285, 286, 287, 288, 290, 291, 292, 293, 295, 304, 307, 309, 310, 314),
    *(315, 319, 323, 329, 330, 331, 336, 342, 345, 349, 350, 351, 352, 355, 357, 368, 370, 371, 374, 379, 380, 383),
    *(384, 397, 401, 403, 405, 407, 408, 411, 412, 413, 414, 417, 419, 421, 423, 427, 429, 430, 432, 440, 441, 442),
    *(443, 444, 446, 454, 457),
)


def dataset_arrays(
    name: str, folder: Path, *, side: int | None = None, progress: Progress | None = None
) -> dict[str, np.ndarray]:
    """Returns the arrays of a published data set, for ``numpy.savez``.

    Args:
      name: one of ``SETS``.
      folder: the unpacked folder; see ``cifar100_arrays``, ``nyud_arrays`` and ``pascal_arrays``.
      side: height and width that images are resized to; by default 64. CIFAR-100 has 32, and no other.
      progress: callback, called with (images read, all images).

    Raises:
      UsageError: an unknown name, or a side that is not possible.
      FileNotFoundError: the folder or a file in it is missing.
      DataError: a file is damaged, or of another shape or content.
    """
    found = checks.choose("data set", name, SETS)
    if found == "cifar100":
        if side not in (None, 32):
            raise checks.UsageError(
                expected="cifar100 at its own 32 pixels", got=f"a side of {side}", remedy="leave the side out"
            )
        return cifar100_arrays(folder / "train.bin", folder / "test.bin")
    read = nyud_arrays if found == "nyud" else pascal_arrays
    return read(folder, side=SIDE if side is None else side, progress=progress)


def cifar100_arrays(train: Path, test: Path) -> dict[str, np.ndarray]:
    """Returns CIFAR-100-MTL as arrays for ``numpy.savez``: 20 tasks of five classes, one for each coarse class.

    A label is the rank of the fine class among those of its coarse class. An image has a label in one task, and -1 in
    the others.

    Args:
      train: ``train.bin`` of the binary version of CIFAR-100: a byte of the coarse class, one of the fine class, and
        3 x 32 x 32 bytes of pixels for each image.
      test: ``test.bin``.

    Raises:
      FileNotFoundError: a file does not exist.
      DataError: a file of another size, or a coarse class without five fine classes.
    """
    rows = []
    for path in (train, test):
        content = np.frombuffer(read_bytes(path), np.uint8)
        if not len(content) or len(content) % (2 + 3072):
            raise checks.DataError(
                expected=f"images of {2 + 3072} bytes in {path}",
                got=f"{len(content)} bytes",
                remedy="take the binary version of CIFAR-100",
            )
        rows.append(content.reshape(-1, 2 + 3072))
    both = np.concatenate(rows)
    coarse, fine = both[:, 0].astype(int), both[:, 1].astype(int)
    images = np.ascontiguousarray(both[:, 2:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
    arrays = {"images": images, "split": _split(len(rows[0]), len(rows[1]))}
    for task in range(20):
        # Not fine % 5, which two classes of one coarse class may share.
        known = np.unique(fine[coarse == task])
        if len(known) != 5:
            raise checks.DataError(
                expected=f"five fine classes of the coarse class {task} in {train}",
                got=f"{len(known)}",
                remedy="take the binary version of CIFAR-100",
            )
        ranks = np.searchsorted(known, fine)
        arrays[f"coarse{task}.classes"] = np.where(coarse == task, ranks, -1).astype(np.int8)
    return arrays


def nyud_arrays(folder: Path, *, side: int = SIDE, progress: Progress | None = None) -> dict[str, np.ndarray]:
    """Returns NYUD-v2 with the tasks ``seg.labels`` (40 classes), ``edge.labels``, ``normal.pixels``, ``depth.pixels``.

    A pixel of the result is an area of the image: its mean colour, depth and direction, the class in its middle, and
    class 1 in ``edge`` where an edge crosses it.

    Args:
      folder: ``NYUD_MT`` of one of the two articles: ``gt_sets/train.txt`` and ``val.txt`` (a name in each line),
        ``images/NAME.jpg``, ``segmentation/NAME.png`` or ``.mat`` (0 for no class), ``edge/NAME.npy`` or ``.png``,
        ``normals/NAME.npy`` or ``.jpg``, ``depth/NAME.npy`` or ``.mat`` (metres).
      side: height and width that images are resized to.
      progress: callback, called with (images read, all images).

    Raises:
      UsageError: ``side`` below 1.
      FileNotFoundError: a folder, or the file of an image, is missing.
      DataError: a file is damaged, or of another shape or content.
    """

    def read(name: str) -> dict[str, np.ndarray]:
        image, size = read_picture(folder / "images" / f"{name}.jpg", side)
        paths = {
            task: one_of(folder / task, name, suffixes)
            for task, suffixes in {
                "segmentation": (".png", ".mat"),
                "edge": (".npy", ".png"),
                "normals": (".npy", ".jpg"),
                "depth": (".npy", ".mat"),
            }.items()
        }
        classes = read_classes(paths["segmentation"], size, 40, variable="segmentation")
        edges = read_map(paths["edge"], size) > (127 if paths["edge"].suffix == ".png" else 0.5)
        depth = read_map(paths["depth"], size, variable="depth")
        return {
            "images": image,
            "seg.labels": np.maximum(nearest(classes, side, side) - 1, -1).astype(np.int8),
            "edge.labels": somewhere(edges, side).astype(np.int8),
            "normal.pixels": unit_mean(_normals(paths["normals"], size), side),
            "depth.pixels": known_mean(np.where(depth > 0, depth, np.nan), side),
        }

    return _arrays(folder / "gt_sets", read, side, progress)


def pascal_arrays(folder: Path, *, side: int = SIDE, progress: Progress | None = None) -> dict[str, np.ndarray]:
    """Returns PASCAL-Context with five tasks.

    They are ``seg.labels`` (21 classes), ``parts.labels`` (background and six parts of persons; -1 in images without),
    ``saliency.labels`` (2), ``edge.labels`` (2, borders between the 459 classes) and ``normal.pixels``. A pixel of the
    result is an area of the image, as in ``nyud_arrays``.

    Args:
      folder: ``PASCAL_MT``: ``ImageSets/Context/train.txt`` and ``val.txt`` (a name in each line),
        ``JPEGImages/NAME.jpg``, ``semseg/VOC12/NAME.png`` or else ``semseg/pascal-context/NAME.png``,
        ``pascal-context/trainval/NAME.mat``, ``human_parts/NAME.mat``, ``normals_distill/NAME.png``,
        ``sal_distill/NAME.png``.
      side: height and width that images are resized to.
      progress: callback, called with (images read, all images).

    Raises:
      UsageError: ``side`` below 1.
      FileNotFoundError: a folder, or the file of an image, is missing.
      DataError: a file is damaged, or of another shape or content.
    """

    def read(name: str) -> dict[str, np.ndarray]:
        image, size = read_picture(folder / "JPEGImages" / f"{name}.jpg", side)
        first = folder / "semseg" / "VOC12" / f"{name}.png"
        second = folder / "semseg" / "pascal-context" / f"{name}.png"
        classes = read_classes(first if first.exists() else second, size, 20)
        objects = folder / "pascal-context" / "trainval" / f"{name}.mat"
        context = read_classes(objects, size, 459, variable="LabelMap")
        normals = _normals(folder / "normals_distill" / f"{name}.png", size)
        normals[~np.isin(nearest(context, *normals.shape[:2]), _INDOOR)] = np.nan
        salient = read_map(folder / "sal_distill" / f"{name}.png", size) > 127
        parts = _person_parts(folder / "human_parts" / f"{name}.mat", size)
        return {
            "images": image,
            "seg.labels": nearest(classes, side, side).astype(np.int8),
            "parts.labels": nearest(parts, side, side).astype(np.int8),
            "saliency.labels": nearest(salient, side, side).astype(np.int8),
            "edge.labels": somewhere(borders(context), side).astype(np.int8),
            "normal.pixels": unit_mean(normals, side),
        }

    return _arrays(folder / "ImageSets" / "Context", read, side, progress)


def _normals(path: Path, size: tuple[int, int]) -> Float[np.ndarray, "h w 3"]:
    """Returns directions; a picture has them as bytes, of which 0 to 255 are -1 to 1."""
    found = read_map(path, size, planes=3).astype(np.float32)
    return found if path.suffix == ".npy" else found * np.float32(2 / 255) - 1


def _person_parts(path: Path, size: tuple[int, int]) -> Int[np.ndarray, "h w"]:
    """Returns the part of a person at each pixel, 0 for none; -1 everywhere in an image without parts."""
    found = np.zeros(size, np.int32)
    try:
        for thing in read_array(path, "anno")[0, 0]["objects"].reshape(-1):
            if int(thing["class_ind"].item()) == _PERSON:
                for part in thing["parts"].reshape(-1):
                    found[part["mask"].astype(bool)] = _PARTS[str(part["part_name"].item())]
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        expected = f"anno.objects with class_ind and parts of shape {list(size)}"
        raise wrong(path, expected, f"something else ({type(error).__name__}: {error})") from error
    return found if found.any() else found - 1


def _arrays(
    lists: Path, read: Callable[[str], dict[str, np.ndarray]], side: int, progress: Progress | None
) -> dict[str, np.ndarray]:
    """Returns the arrays of all images that the lists of a data set name, read one at a time."""
    checks.integer("side", side, least=1)
    train, test = (_names(lists / f"{part}.txt") for part in ("train", "val"))
    found: dict[str, np.ndarray] = {}
    for row, name in enumerate((*train, *test)):
        for key, array in read(name).items():
            if not row:
                found[key] = np.empty((len(train) + len(test), *array.shape), array.dtype)
            found[key][row] = array
        if progress is not None:
            progress(row + 1, len(train) + len(test))
    return {**found, "split": _split(len(train), len(test))}


def _names(path: Path) -> list[str]:
    names = read_bytes(path).decode(errors="replace").split()
    if not names:
        raise wrong(path, "the names of images", "none")
    return names


def _split(train: int, test: int) -> Int[np.ndarray, " n"]:
    """Returns the split of training images, of which every fifth is for validation, and test images."""
    return np.concatenate([np.arange(train) % 5 == 0, np.full(test, 2)]).astype(np.int8)
