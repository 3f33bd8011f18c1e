"""Makes five tasks from the digits that scikit-learn bundles: 1797 images of 8 x 8 pixels.

The images are split once, by class, into train, validation and test. Every task and every seed uses that split.
Source of the images: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998 (its test set).
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
from scipy import ndimage

from ncp_jax import checks
from ncp_jax.networks.gated import SIDE, Shape
from ncp_jax.spaces.costs.digits import HEADS
from ncp_jax.types import Float, Int

SPLITS = ("train", "validation", "test")
SHARES = (0.5, 0.25, 0.25)
SPLIT_SEED = 0
NOISE = 0.2  # standard deviation of the noise on pixels, whose values are 0 to 1


@dataclasses.dataclass(frozen=True)
class Pool:
    """The examples of one split.

    Attributes:
      images: ``[n, 64]`` pixels, float32.
      targets: ``[n]`` classes, int32, or ``[n, 64]`` pixels, float32.
    """

    images: Float[np.ndarray, "n 64"]
    targets: np.ndarray

    def __len__(self) -> int:
        return len(self.images)


@dataclasses.dataclass(frozen=True)
class Task:
    """One task.

    Attributes:
      name: name of the task ("class", …).
      metric: "accuracy" (share of correct classes) or "r2" (explained share of the targets' variance), in percent.
      shape: sizes of the network.
      rate: peak of the learning rate.
      copies: number of variants of each image in train, and in validation and test.
      make: function of (images ``[n, 8, 8]`` of one split, classes, random generator, copies) to the split's pool.
      what: one line for the data card.
    """

    name: str
    metric: Literal["accuracy", "r2"]
    shape: Shape
    rate: float
    copies: tuple[int, int]
    make: Callable[[np.ndarray, np.ndarray, np.random.Generator, int], Pool] = dataclasses.field(repr=False)
    what: str


@functools.cache
def digits_images() -> tuple[np.ndarray, np.ndarray]:
    """Returns the images ``[1797, 8, 8]``, with values from 0 to 1, and their classes."""
    datasets = checks.optional_module("sklearn.datasets", what="scikit-learn, which has the digits", extra="benchmark")
    found = datasets.load_digits()
    return np.asarray(found.images / 16, np.float32), np.asarray(found.target, np.int32)


@functools.cache
def split_rows() -> Mapping[str, Int[np.ndarray, " n"]]:
    """Returns the rows of each split: a random half, quarter and quarter of every class."""
    _, classes = digits_images()
    rng = np.random.default_rng(SPLIT_SEED)
    parts: list[list[np.ndarray]] = [[], [], []]
    for label in range(10):
        rows = rng.permutation(np.flatnonzero(classes == label))
        cuts = np.round(np.cumsum(SHARES)[:-1] * len(rows)).astype(int)
        for part, chosen in zip(parts, np.split(rows, cuts), strict=True):
            part.append(chosen)
    return MappingProxyType({name: np.sort(np.concatenate(part)) for name, part in zip(SPLITS, parts, strict=True)})


def _flat(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.reshape(len(images), -1), np.float32)


def _noisy(images: np.ndarray, rng: np.random.Generator, copies: int) -> np.ndarray:
    """Returns copies of all images, one set after the other, each copy with its own noise."""
    tiled = np.tile(images, (copies, 1, 1))
    return tiled + NOISE * rng.standard_normal(tiled.shape).astype(np.float32)


def _turned(images: np.ndarray, rng: np.random.Generator, copies: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns rotated copies of all images, and their numbers of quarter turns; no copy of an image repeats a turn."""
    turns = np.stack([rng.permutation(4)[:copies] for _ in images], axis=1).astype(np.int32).reshape(-1)
    tiled = np.tile(images, (copies, 1, 1))
    return np.stack([np.rot90(image, int(turn)) for image, turn in zip(tiled, turns, strict=True)]), turns


def _class(images: np.ndarray, classes: np.ndarray, rng: np.random.Generator, copies: int) -> Pool:
    return Pool(_flat(_noisy(images, rng, copies)), np.tile(classes, copies))


def _rotation(images: np.ndarray, classes: np.ndarray, rng: np.random.Generator, copies: int) -> Pool:
    turned, turns = _turned(images, rng, copies)
    return Pool(_flat(turned), turns)


def _shape(task: str) -> Shape:
    head = HEADS[task]
    return Shape(head.outputs, bottleneck=head.bottleneck, pooled=head.pooled)


ORDERS = tuple(itertools.permutations(range(4)))


def _jigsaw(images: np.ndarray, classes: np.ndarray, rng: np.random.Generator, copies: int) -> Pool:
    # Cut each image into four quadrants, and put them together again in a random order, which is the label.
    half = SIDE // 2
    quadrants = images.reshape(-1, 2, half, 2, half).transpose(0, 1, 3, 2, 4).reshape(-1, 4, half, half)
    labels = np.stack([rng.permutation(len(ORDERS))[:copies] for _ in images], axis=1).astype(np.int32).reshape(-1)
    shuffled = np.tile(quadrants, (copies, 1, 1, 1))[np.arange(len(labels))[:, None], np.array(ORDERS)[labels]]
    joined = shuffled.reshape(-1, 2, 2, half, half).transpose(0, 1, 3, 2, 4).reshape(-1, SIDE, SIDE)
    return Pool(_flat(joined), labels)


def _autoencoder(images: np.ndarray, classes: np.ndarray, rng: np.random.Generator, copies: int) -> Pool:
    return Pool(_flat(images), _flat(images))


def _edges(images: np.ndarray, classes: np.ndarray, rng: np.random.Generator, copies: int) -> Pool:
    turned, _ = _turned(images, rng, copies)
    slopes = [ndimage.sobel(turned, axis=axis, mode="nearest") for axis in (1, 2)]
    return Pool(_flat(turned), _flat(np.hypot(*slopes)))


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            Task("class", "accuracy", _shape("class"), 0.01, (4, 2), _class, "which digit, of images with pixel noise"),
            Task(
                "rotation",
                "accuracy",
                _shape("rotation"),
                0.02,
                (4, 4),
                _rotation,
                "by how many quarter turns the image was rotated",
            ),
            Task(
                "jigsaw", "accuracy", _shape("jigsaw"), 0.01, (4, 2), _jigsaw, "in which of 24 orders the quadrants are"
            ),
            Task(
                "autoencoder",
                "r2",
                _shape("autoencoder"),
                0.02,
                (1, 1),
                _autoencoder,
                "the image, through 16 numbers",
            ),
            Task(
                "edges",
                "r2",
                _shape("edges"),
                0.02,
                (4, 2),
                _edges,
                "the edge map (magnitude of the Sobel slopes) of the image at any of four turns",
            ),
        )
    }
)


@functools.cache
def pools(task: str) -> Mapping[str, Pool]:
    """Returns the examples of each split of a task. They are the same in every process."""
    chosen = TASKS[checks.choose("task", task, TASKS)]
    images, classes = digits_images()
    number = list(TASKS).index(chosen.name)
    made = {
        name: chosen.make(
            images[rows], classes[rows], np.random.default_rng([SPLIT_SEED, number, place]), chosen.copies[place > 0]
        )
        for place, (name, rows) in enumerate(split_rows().items())
    }
    if chosen.metric == "r2":
        # Regression targets are standardised by the training examples.
        mean = made["train"].targets.mean(axis=0)
        scale = (made["train"].targets - mean).std()
        made = {name: Pool(pool.images, (pool.targets - mean) / scale) for name, pool in made.items()}
    return MappingProxyType(made)
