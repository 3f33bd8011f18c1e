"""Defines controllability, this project's measure of how far budgets and preferences steer a model.

At one budget, every preference leads to one point, the test metrics of the chosen widths. Three parts:

- hypervolume: the volume that the points dominate, above a reference that all methods share, as a share of the box
  between the reference and the best metrics of any method;
- uniformity: 1 - the mean over the preferences of the non-uniformity of Mahapatra & Rajan (ICML 2020),
  ``sum l log(m l)`` with ``l = r * losses`` scaled to sum 1; a task's loss is 1 - metric / 100;
- rank correlation (Spearman) between a task's preference and its metric, the mean over the tasks.

Controllability itself is the hypervolume, the mean over the budgets. Aich et al. (ICCV 2023) report a gain in
controllability, but not, where we could read it, how it is defined.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import spearmanr

from ncp_jax.analysis.hypervolume import dominated_volume
from ncp_jax.types import Float

PARTS = ("hypervolume", "uniformity", "rank_correlation")
LEAST_LOSS = 1e-3  # a loss of 0 has no logarithm


def hypervolume_share(
    points: Float[np.ndarray, "k t"], reference: Float[np.ndarray, " t"], best: Float[np.ndarray, " t"]
) -> float:
    """Returns the share, 0 to 1, of the box between reference and best that points dominate."""
    size = np.maximum(best - reference, 1e-9)
    return dominated_volume(np.clip((points - reference) / size, 0, 1), np.zeros(len(reference)))


def uniformity(points: Float[np.ndarray, "k t"], rays: Float[np.ndarray, "k t"]) -> float:
    """Returns 1 - the mean non-uniformity of the rays; 1 where all weighted losses are equal."""
    losses = rays * np.maximum(1 - points / 100, LEAST_LOSS)
    shares = losses / losses.sum(axis=1, keepdims=True)
    terms = np.where(shares > 0, shares * np.log(np.maximum(shares, 1e-300) * shares.shape[1]), 0)
    return 1 - float(terms.sum(axis=1).mean())


def rank_correlation(points: Float[np.ndarray, "k t"], rays: Float[np.ndarray, "k t"]) -> float:
    """Returns the mean over tasks of Spearman's correlation of preference and metric; 0 for a metric that is fixed."""
    found = [
        0.0 if np.ptp(metric) == 0 else float(spearmanr(ray, metric).statistic)
        for ray, metric in zip(rays.T, points.T, strict=True)
    ]
    return float(np.mean(found))
