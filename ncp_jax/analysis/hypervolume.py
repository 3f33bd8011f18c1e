"""Computes Pareto fronts, of quality against cost or of any metrics, and the hypervolume they dominate."""

from __future__ import annotations

import math

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Bool, Float

_AT_ONCE = 2**20  # points sorted at once: some tens of MB


def pareto_front(points: Float[np.ndarray, "... n 2"]) -> Bool[np.ndarray, "... n"]:
    """Returns which points are on the Pareto front: no other point is at least as good in both and better in one.

    Args:
      points: quality (higher is better) and cost (lower is better). A point with a NaN is never on the front; it
        fills up sets of unequal size that share one array.

    Returns:
      A mask over the points of each set. Of equal points, all or none are on the front.

    Raises:
      UsageError: the last axis is not of length 2.
    """
    quality, cost, there = _split(points)
    # By rising cost, the best of equal cost first; points with a NaN come last.
    order = np.lexsort((-quality, np.where(there, cost, np.inf)), axis=-1)
    quality, cost = (np.take_along_axis(a, order, axis=-1) for a in (np.where(there, quality, -np.inf), cost))
    place = np.arange(quality.shape[-1])
    new = np.ones(cost.shape, bool)
    new[..., 1:] = cost[..., 1:] != cost[..., :-1]
    first = np.maximum.accumulate(np.where(new, place, 0), axis=-1)
    cheaper = np.full(quality.shape, -np.inf)
    cheaper[..., 1:] = np.maximum.accumulate(quality, axis=-1)[..., :-1]
    beaten = np.take_along_axis(cheaper, first, axis=-1) >= quality
    sorted_front = ~beaten & (quality == np.take_along_axis(quality, first, axis=-1))
    front = np.empty_like(sorted_front)
    np.put_along_axis(front, order, sorted_front, axis=-1)
    return front & there


def hypervolume(points: Float[np.ndarray, "... n 2"], reference: Float[np.ndarray, "2"]) -> Float[np.ndarray, "..."]:
    """Returns the area that points dominate, down to a reference point (Zitzler & Thiele, 1998), exactly.

    Args:
      points: quality (higher is better) and cost (lower is better) of n points, for any number of sets. A point with
        a NaN is ignored; a point that is no better than the reference in either adds nothing.
      reference: quality and cost of the reference point, the worst that still counts.

    Returns:
      float64, one area per set, in units of quality times units of cost; higher is better, 0 if nothing is dominated.

    Raises:
      UsageError: points or a reference of another shape, or a reference that is not finite.
    """
    corner = np.asarray(reference, np.float64)
    if corner.shape != (2,) or not np.isfinite(corner).all():
        raise checks.UsageError(
            expected="a reference (quality, cost) of two finite numbers", got=repr(corner.tolist()), remedy="give both"
        )
    all_points = np.asarray(points)
    _check_shape(all_points)
    sets = all_points.reshape(math.prod(all_points.shape[:-2]), *all_points.shape[-2:])
    step = max(1, _AT_ONCE // max(1, sets.shape[1]))
    areas = [_areas(sets[i : i + step], corner) for i in range(0, len(sets), step)]
    return np.concatenate([np.zeros(0), *areas]).reshape(all_points.shape[:-2])


def non_dominated(points: Float[np.ndarray, "n m"]) -> Bool[np.ndarray, " n"]:
    """Returns which points no other point equals or beats in all of m metrics and beats in one.

    Args:
      points: m metrics of n points, higher is better in each. A point with a NaN is never on the front.

    Returns:
      A mask. Of equal points, all or none are on the front.
    """
    values = np.asarray(points, np.float64)
    if values.shape[1] == 2:
        return pareto_front(values * [1.0, -1.0])
    front = np.zeros(len(values), bool)
    distinct, inverse = np.unique(values, axis=0, return_inverse=True)
    place = np.arange(len(distinct))[~np.isnan(distinct).any(axis=1)]
    # A dominated point has a smaller sum of ranks: of what is left, the one with the largest sum is on the front.
    ranks = np.stack([np.unique(column, return_inverse=True)[1] for column in distinct.T], axis=1).sum(axis=1)
    place = place[np.argsort(-ranks[place], kind="stable")]
    kept = np.zeros(len(distinct), bool)
    while len(place):
        best, place = place[0], place[1:]
        kept[best] = True
        place = place[~(distinct[place] <= distinct[best]).all(axis=1)]
    front[:] = kept[inverse.ravel()]
    return front


def dominated_volume(points: Float[np.ndarray, "n m"], reference: Float[np.ndarray, " m"]) -> float:
    """Returns the hypervolume that points dominate down to a reference point, exactly, for any number of metrics.

    Slices along the last metric (While et al., 2006, "hypervolume by slicing objectives"): exponential in m, a second
    or so for a thousand points and three metrics.

    Args:
      points: m metrics of n points, higher is better in each; those with a NaN are ignored.
      reference: the worst point that still counts.
    """
    corner = np.asarray(reference, np.float64)
    values = np.asarray(points, np.float64)
    values = values[(values > corner).all(axis=1)]
    if len(values) == 0:
        return 0.0
    if values.shape[1] == 1:
        return float((values - corner).max())
    if values.shape[1] == 2:
        return float(hypervolume(values * [1.0, -1.0], corner * [1.0, -1.0]))
    values = values[non_dominated(values)]
    values = values[np.argsort(-values[:, -1], kind="stable")]
    depth = values[:, -1] - np.append(values[1:, -1], corner[-1])
    return sum(
        float(thick) * dominated_volume(values[: i + 1, :-1], corner[:-1]) for i, thick in enumerate(depth) if thick > 0
    )


def _areas(sets: np.ndarray, corner: np.ndarray) -> np.ndarray:
    quality, cost, there = _split(sets)
    height = np.where(there, np.maximum(quality - corner[0], 0.0), 0.0)
    # A point that costs more than the reference has no width.
    left = np.where(there, np.minimum(cost, corner[1]), corner[1])
    order = np.argsort(left, axis=-1)
    left, height = (np.take_along_axis(a, order, axis=-1) for a in (left, height))
    width = np.diff(left, axis=-1, append=np.full((len(left), 1), corner[1]))
    return (np.maximum.accumulate(height, axis=-1) * width).sum(axis=-1)


def _split(points: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns quality and cost [..., n] in float64, and which points have no NaN; UsageError for other shapes."""
    array = np.asarray(points, np.float64)
    _check_shape(array)
    there = np.logical_not(np.isnan(array[..., 0]) | np.isnan(array[..., 1]))
    return array[..., 0], array[..., 1], there


def _check_shape(array: np.ndarray) -> None:
    if array.ndim < 2 or array.shape[-1] != 2:
        raise checks.UsageError(
            expected="points [..., n, 2] of (quality, cost)",
            got=f"shape {list(array.shape)}",
            remedy="stack the two along the last axis",
        )
