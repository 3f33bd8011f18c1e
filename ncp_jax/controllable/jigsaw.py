"""Cuts images into the tiles of a jigsaw, and chooses the permutations that its classes stand for.

Tiles are numbered row by row. In the jigsaw of class c, place p holds the image's tile ``permutations(…)[c, p]``. As in
TransNAS-Bench-101 (Duan et al., CVPR 2021) the encoder runs on each tile alone, and the class is predicted from the
features of all tiles. That one image serves the other tasks whole and this one in tiles, the grids and the permutations
are this project's choice.
"""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import numpy as np

from ncp_jax.types import Float, Int

GRIDS = {"jigsaw": 2, "jigsaw3": 3}  # tiles on a side, by the kind of target
MOST = {2: 24, 3: 1000}  # classes; TransNAS-Bench-101 has 1000 permutations of 3 x 3 tiles


@functools.cache
def permutations(grid: int, count: int) -> Int[np.ndarray, "k t"]:
    """Returns the permutations of the first classes, far from each other in Hamming distance.

    The first one is random. Each further one has the largest distance to the nearest of those before; of equal ones,
    the largest sum of distances; then the first in a random order. The seed is fixed, so a class stands for the same
    permutation however many there are. After Noroozi & Favaro, ECCV 2016, who choose distant permutations one by one.

    Args:
      grid: tiles on a side.
      count: number of classes, at most ``MOST[grid]``.
    """
    tiles = grid * grid
    orders = np.array(list(itertools.permutations(range(tiles))), np.int8)
    orders = orders[np.random.default_rng(0).permutation(math.factorial(tiles))]
    chosen = [0]
    nearest, total = np.full(len(orders), tiles + 1), np.zeros(len(orders), int)
    while len(chosen) < count:
        distance = (orders != orders[chosen[-1]]).sum(axis=1)
        nearest, total = np.minimum(nearest, distance), total + distance
        chosen.append(int((nearest * tiles * MOST[grid] + total).argmax()))
    return orders[chosen].astype(np.int32)


def cut(images: Float[Any, "n h w c"], grid: int) -> Float[Any, "n t i j c"]:
    """Returns the tiles of images, row by row; NumPy or JAX arrays whose sides are multiples of ``grid``."""
    n, height, width, colours = images.shape
    rows = images.reshape(n, grid, height // grid, grid, width // grid, colours)
    return rows.transpose(0, 1, 3, 2, 4, 5).reshape(n, grid * grid, height // grid, width // grid, colours)
