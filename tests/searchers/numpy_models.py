"""Bayesian optimisation as plain NumPy in float64: one run, nothing compiled, everything anew at each question.

What is written here and in ``numpy_networks`` comes from the papers and the documentation, by other numerics than the
library's: here by solving with the whole covariance. Given are the candidates and ``kernel_features``. ``twist`` makes
a search that is wrong on purpose.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from scipy import special, stats


class World(NamedTuple):
    """What is searched, and the terms.

    Attributes:
      values: [n], higher is better.
      networks: [n], the same for codes of the same network.
      pairs: [2, 2, n, n], see ``pairs``.
      relaxed: [n, 24], relaxed codes of a cell space of four letters.
      neighbours: rows at one edit of each row.
      budget: queries to pay for.
      merged: another code of a known network is free.
    """

    values: np.ndarray
    networks: np.ndarray
    pairs: np.ndarray
    relaxed: np.ndarray
    neighbours: list[np.ndarray]
    budget: int
    merged: bool


class Paid:
    """What a run has paid for, and how many architectures it has asked for."""

    def __init__(self, world: World) -> None:
        self.world, self.rows, self.asks, self.known = world, [], 0, set()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def over(self) -> bool:
        return len(self) == self.world.budget

    def values(self) -> np.ndarray:
        return self.world.values[self.rows]

    def scores(self) -> np.ndarray:
        """Normal scores of the values."""
        return special.ndtri((stats.rankdata(self.values()) - 0.5) / len(self))

    def query(self, rows: list[int]) -> None:
        """Answers one question, as far as the budget goes."""
        for row in rows:
            network = self.world.networks[row] if self.world.merged else row
            if network not in self.known:
                if self.over:
                    return
                self.known.add(network)
                self.rows.append(row)
            self.asks += 1


# Bayesian optimisation. Hyper-parameters are one vector of logarithms: of the variance of the smooth part, of two
# length-scales, of two variances of linear parts, of the noise.
MEDIANS = np.log([0.5, 1.0, 1.0, 0.25, 0.25, 0.1])


def pairs(points: np.ndarray, blocks: tuple[int, ...]) -> np.ndarray:
    """Mean squared difference and mean product in both blocks, [2, 2, n, n]."""
    parts = np.split(points, np.cumsum(blocks)[:-1], axis=1)
    squares = [((part[:, None] - part) ** 2).mean(axis=-1) for part in parts]
    return np.stack([np.stack(squares), np.stack([part @ part.T / part.shape[1] for part in parts])])


def covariance(logs: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Of noise-free values, for ``pairs`` of any shape."""
    rbf, lengths, tilts = np.exp(logs[0]), np.exp(logs[1:3]), np.exp(logs[3:5])
    return rbf * np.exp(-np.tensordot(lengths**-2, pairs[0], 1) / 2) + np.tensordot(tilts, pairs[1], 1)


def uphill(logs: np.ndarray, pairs: np.ndarray, z: np.ndarray, freedom: float) -> np.ndarray:
    """Gradient of the log posterior: ½ tr((a aᵀ - K⁻¹) ∂K) of each logarithm, and of the log-normal prior."""
    squares, linear = pairs[0] / np.exp(2 * logs[1:3, None, None]), pairs[1] * np.exp(logs[3:5, None, None])
    smooth, noise = np.exp(logs[0] - squares.sum(axis=0) / 2), np.exp(logs[5]) * np.eye(len(z))
    whole = smooth + linear.sum(axis=0) + noise
    inverse = np.linalg.inv(whole)
    a = inverse @ z
    changes = np.stack([smooth, *(smooth * squares), *linear, noise]).reshape(6, -1)
    return changes @ (np.outer(a, a) - inverse).ravel() / 2 - (logs - MEDIANS) / freedom**2


def fitted(logs: np.ndarray, pairs: np.ndarray, z: np.ndarray, freedom: float) -> np.ndarray:
    """Forty steps of Adam (D. Kingma and J. Ba, 2015), each kept within e³ of the medians."""
    first, second = np.zeros(6), np.zeros(6)
    for step in range(1, 41):
        slope = uphill(logs, pairs, z, freedom)
        first, second = 0.8 * first + 0.2 * slope, 0.95 * second + 0.05 * slope**2
        change = first / (1 - 0.8**step) / (np.sqrt(second / (1 - 0.95**step)) + 1e-8)
        logs = np.clip(logs + 0.1 * change, MEDIANS - 3, MEDIANS + 3)
    return logs


class Belief(NamedTuple):
    """A Gaussian process that knows some rows, by all ``pairs``."""

    logs: np.ndarray
    pairs: np.ndarray
    rows: list[int]

    def mean(self, z: np.ndarray, at: np.ndarray) -> np.ndarray:
        """Expected values at some rows, where those of the known ones are z."""
        return self._cross(at).T @ np.linalg.solve(self._whole(), z)

    def variance(self, at: np.ndarray) -> np.ndarray:
        """Of noise-free values."""
        cross = self._cross(at)
        own = covariance(self.logs, self.pairs[:, :, at, at])
        return own - (cross * np.linalg.solve(self._whole(), cross)).sum(axis=0)

    def draw(self, z: np.ndarray, at: np.ndarray, rng: Generator) -> np.ndarray:
        """A function from the posterior."""
        cross, own = self._cross(at), covariance(self.logs, self.pairs[:, :, at[:, None], at])
        spread = own - cross.T @ np.linalg.solve(self._whole(), cross)
        return self.mean(z, at) + np.linalg.cholesky(spread + 1e-8 * np.eye(len(at))) @ rng.normal(size=len(at))

    def _cross(self, at: np.ndarray) -> np.ndarray:
        return covariance(self.logs, self.pairs[:, :, np.array(self.rows)[:, None], at])

    def _whole(self) -> np.ndarray:
        return self._cross(np.array(self.rows)) + np.exp(self.logs[5]) * np.eye(len(self.rows))


def improvement(mean: np.ndarray, variance: np.ndarray, z: np.ndarray) -> np.ndarray:
    """Logarithm of the expected improvement of a normal value over the best of z."""
    deviation = np.sqrt(variance)
    gap = (mean - z.max()) / deviation
    # Very far below the best all underflows; there by the first term of Mills' ratio.
    log_density = -(gap**2) / 2 - np.log(2 * np.pi) / 2
    near = np.log(np.maximum(gap * special.ndtr(gap) + np.exp(log_density), 1e-300))
    far = log_density - 2 * np.log(np.abs(gap) + 1e-300)
    return np.log(deviation) + np.where(gap < -30, far, near)


def bayesian(
    world: World,
    rng: Generator,
    *,
    acquisition: str = "expected-improvement",
    batch: int = 1,
    initial: int = 10,
    shortlist: int = 2048,
    freedom: float = 2.0,
    twist: str = "",
) -> Paid:
    """One run of Bayesian optimisation."""
    n, paid, logs = len(world.values), Paid(world), MEDIANS
    design = rng.permutation(n)[:initial].tolist()
    closed = np.zeros(n, bool)
    for first in range(0, initial, batch):
        paid.query(design[first : first + batch])
    closed[design] = True
    due, expected, distinct, short, luck = 0, -1, False, np.arange(n), np.zeros(n)
    while not paid.over:
        count, rows, z = len(paid), list(paid.rows), paid.scores()
        distinct |= expected > count  # something asked for was not paid for
        if count >= due or expected != count:
            if distinct:
                closed |= np.isin(world.networks, world.networks[closed])
            logs = fitted(logs, world.pairs[:, :, np.array(rows)[:, None], rows], z, freedom)
            luck = 1e-3 * rng.uniform(size=n)
            due = max(min(int(1.5 * count), count + max(min(shortlist, n) // 2, 1)), count + batch)
            if shortlist < n:
                belief = Belief(logs, world.pairs, rows)
                liking = improvement(belief.mean(z, np.arange(n)), belief.variance(np.arange(n)) + np.exp(logs[5]), z)
                short = np.argsort(np.where(closed, np.inf, -liking - luck))[:shortlist]
        picks: list[int] = []
        taken, known = closed[short], Belief(logs, world.pairs, rows)
        mean = known.mean(z, short)  # earlier picks count with the value expected of them: it stays as it is
        for _ in range(batch):
            if acquisition == "thompson":
                liking = known.draw(z, short, rng)
            else:
                variance = Belief(logs, world.pairs, rows + picks).variance(short)
                liking = improvement(mean, variance + np.exp(logs[5]), z) + luck[short]
            if twist == "random choice":
                liking = rng.uniform(size=len(short))
            elif twist == "mean alone":
                liking = mean
            best = int(short[np.argmax(np.where(taken, -np.inf, liking))])
            picks.append(best)
            taken = taken | (short == best)
            if distinct:
                taken = taken | (world.networks[short] == world.networks[best])
        closed[picks] = True
        expected = count + batch
        paid.query(picks)
    return paid
