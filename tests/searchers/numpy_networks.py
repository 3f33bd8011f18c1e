"""The searches by networks as plain NumPy in float64: by Jacobians and normal equations, climbs by the chain rule.

See ``numpy_models``.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator

from .numpy_models import Paid, World

PATHS = ((3,), (0, 4), (1, 5), (0, 2, 5))  # edges of a cell on each way from its input to its output
ON_PATH = np.array([[edge in path for edge in range(6)] for path in PATHS], float)

# Networks: for each layer one matrix, the last row the biases, all standard normal under the prior.
Network = list[np.ndarray]


def drawn(rng: Generator, features: int, width: int, depth: int) -> Network:
    sizes = [features, *[width] * depth, 1]
    return [rng.normal(size=(i + 1, o)) for i, o in itertools.pairwise(sizes)]


def forward(network: Network, x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Output [n], its Jacobian in all weights [n, w] and its slope in the input [n, g]."""
    layers = []
    for place, weights in enumerate(network):
        last = place == len(network) - 1
        scaled = np.hstack([x / np.sqrt(len(weights) - 1), np.full((len(x), 1), 0.3)])
        z = scaled @ weights
        gate = 1 / (1 + np.exp(-z))
        # swish(z) = z σ(z), whose derivative is σ(z) (1 + z (1 - σ(z)))
        layers.append((scaled, np.ones_like(z) if last else gate * (1 + z * (1 - gate))))
        x = z if last else z * gate
    back, jacobian = np.ones((len(x), 1)), []
    for weights, (scaled, bend) in zip(network[::-1], layers[::-1], strict=True):
        back = back * bend
        jacobian.insert(0, (scaled[:, :, None] * back[:, None, :]).reshape(len(x), -1))
        back = back @ weights[:-1].T / np.sqrt(len(weights) - 1)
    return x[:, 0], np.hstack(jacobian), back


def output(network: Network, x: np.ndarray) -> np.ndarray:
    """The first of ``forward`` alone."""
    for place, weights in enumerate(network):
        z = (x @ weights[:-1]) / np.sqrt(len(weights) - 1) + 0.3 * weights[-1]
        x = z if place == len(network) - 1 else z / (1 + np.exp(-z))
    return x[:, 0]


def flat(network: Network) -> np.ndarray:
    return np.concatenate([weights.ravel() for weights in network])


def like(network: Network, vector: np.ndarray) -> Network:
    parts = np.split(vector, np.cumsum([weights.size for weights in network])[:-1])
    return [part.reshape(weights.shape) for part, weights in zip(parts, network, strict=True)]


def trained(anchor: Network, x: np.ndarray, y: np.ndarray, noise: float, sweeps: int) -> Network:
    """Gauss-Newton from the anchor on |y - f|² / noise² + |w - anchor|²: a whole step, a quarter of it, or none."""
    begin = flat(anchor)

    def loss(w: np.ndarray) -> float:
        return (((y - output(like(anchor, w), x)) / noise) ** 2).sum() + ((w - begin) ** 2).sum()

    w = begin
    for _ in range(sweeps):
        said, jacobian, _ = forward(like(anchor, w), x)
        normal = jacobian.T @ jacobian / noise**2 + np.eye(len(w))
        step = np.linalg.solve(normal, jacobian.T @ (y - said) / noise**2 - (w - begin))
        w = min((w, w + step, w + step / 4), key=loss)
    return like(anchor, w)


@dataclasses.dataclass(frozen=True)
class Terms:
    """What both searches share: questions of a tenth of what is paid for, within bounds; ensembles after the first."""

    first: int
    least: int
    most: int
    members: int
    width: int
    depth: int = 1
    sweeps: int = 2
    noise: float = 0.4


def ensemble(rng: Generator, paid: Paid, inputs: np.ndarray, terms: Terms) -> list[Network]:
    """Each from and towards a draw of its own, on the scores and noise of its own."""
    x, y = inputs[paid.rows], paid.scores()
    anchors = [drawn(rng, inputs.shape[1], terms.width, terms.depth) for _ in range(terms.members)]
    return [
        trained(anchor, x, y + terms.noise * rng.normal(size=len(y)), terms.noise, terms.sweeps) for anchor in anchors
    ]


def take(scores: list[np.ndarray], closed: np.ndarray) -> list[int]:
    """The best of each slot in turn."""
    rows = []
    for score in scores:
        rows.append(int(np.argmax(np.where(closed, -np.inf, score))))
        closed[rows[-1]] = True
    return rows


def ask(
    world: World,
    rng: Generator,
    inputs: np.ndarray,
    terms: Terms,
    score: Callable[[Paid, list[Network]], Sequence[np.ndarray]],
) -> Paid:
    """At random at first; then each slot by the scores that one network of an ensemble gives, in turn."""
    paid, closed = Paid(world), np.zeros(len(world.values), bool)
    while not paid.over:
        wanted = min(max(len(paid) // 10, terms.least), terms.most)
        if len(paid) < terms.first:
            each: Sequence[np.ndarray] = [rng.uniform(size=len(closed))]
        else:
            each = score(paid, ensemble(rng, paid, inputs, terms))
        paid.query(take([each[slot % len(each)] for slot in range(wanted)], closed))
    return paid


def neural_ensemble(world: World, rng: Generator, *, twist: str = "", **settings: Any) -> Paid:
    """One run of the ensemble that scores everything."""
    inputs, terms = Inputs(world.relaxed).all, Terms(**settings)
    if twist == "ten times the noise":
        terms = dataclasses.replace(terms, noise=10 * terms.noise)
    return ask(world, rng, inputs, terms, lambda _, networks: [output(network, inputs) for network in networks])


class Inputs:
    """What networks see of relaxed codes of a cell of four letters, in standard units over the candidates."""

    def __init__(self, relaxed: np.ndarray) -> None:
        raw = self.raw(relaxed)[0]
        spread = raw.std(axis=0)
        self.mean, self.scale = raw.mean(axis=0), np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)
        self.all = (raw - self.mean) * self.scale

    def __call__(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Inputs [n, g] and their Jacobian [n, g, 24]."""
        raw, jacobian = self.raw(x)
        return (raw - self.mean) * self.scale, jacobian * self.scale[:, None]

    @staticmethod
    def raw(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes and attributes; the Jacobian by the product rule. Letters: none, skip, 1x1, 3x3 convolution."""
        n, unit = len(x), np.eye(24).reshape(24, 6, 4)
        share = x.reshape(n, 6, 4)
        there, d_there = share[..., 1:].sum(axis=-1), unit[..., 1:].sum(axis=-1).T  # [n, 6], [6, 24]

        def product(factors: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
            value, slope = np.ones(n), np.zeros((n, 24))
            for factor, change in factors:
                value, slope = value * factor, slope * factor[:, None] + value[:, None] * change
            return value, slope

        whole = [product([(there[:, edge], d_there[edge]) for edge in path]) for path in PATHS]
        alive = []
        for edge in range(6):
            dead = product([(1 - w, -d) for path, (w, d) in zip(PATHS, whole, strict=True) if edge in path])
            alive.append((1 - dead[0], -dead[1]))
        intact, d_intact = np.stack([w for w, _ in whole], axis=1), np.stack([d for _, d in whole], axis=1)
        living, d_living = np.stack([w for w, _ in alive], axis=1), np.stack([d for _, d in alive], axis=1)

        def deepest(letters: list[int]) -> tuple[np.ndarray, np.ndarray]:
            """The most of some letters on one path: the slope of the largest, which equals share."""
            held, d_held = share[..., letters].sum(axis=-1) @ ON_PATH.T, ON_PATH @ unit[..., letters].sum(axis=-1).T
            values, slopes = intact * held, d_intact * held[..., None] + intact[..., None] * d_held
            top = values == values.max(axis=1, keepdims=True)
            top = top / top.sum(axis=1, keepdims=True)
            return values.max(axis=1), (slopes * top[..., None]).sum(axis=1)

        kinds = np.einsum("ne,neo->no", living, share)[:, 1:]
        d_kinds = (np.einsum("nef,neo->nof", d_living, share) + np.einsum("ne,feo->nof", living, unit))[:, 1:]
        weights = np.array([0, 1, 9])  # of the kinds of convolution
        size = 1 + kinds @ weights
        scalars = [(living.sum(axis=1), d_living.sum(axis=1)), deepest([2, 3]), deepest([3])]
        scalars.append((np.log(size), np.einsum("nof,o->nf", d_kinds, weights) / size[:, None]))
        values = np.column_stack([x, kinds, *(value for value, _ in scalars), intact])
        d_scalars = np.stack([slope for _, slope in scalars], axis=1)
        same = np.broadcast_to(np.eye(24), (n, 24, 24))
        return values, np.concatenate([same, d_kinds, d_scalars, d_intact], axis=1)


def climbed(network: Network, inputs: Inputs, x: np.ndarray, spread: np.ndarray, rate: float, steps: int) -> np.ndarray:
    """All relaxed codes on the way uphill; the shares of a position go on summing to 1."""
    way = []
    for _ in range(steps):
        there, jacobian = inputs(x)
        slope = np.einsum("ng,ngf->nf", forward(network, there)[2], jacobian).reshape(-1, 6, 4)
        slope = (slope - slope.mean(axis=-1, keepdims=True)).reshape(x.shape) * spread
        x = x + rate * spread * slope / np.maximum(np.linalg.norm(slope, axis=1, keepdims=True), 1e-6)
        shares = np.maximum(x.reshape(-1, 6, 4), 0)
        x = (shares / shares.sum(axis=-1, keepdims=True)).reshape(x.shape)
        way.append(x)
    return np.concatenate(way)


def ncp(
    world: World,
    rng: Generator,
    *,
    rate: float = 1.0,
    steps: int,
    best: int,
    strangers: int,
    polish: int,
    twist: str = "",
    **settings: Any,
) -> Paid:
    """One run of the search by climbs on relaxed codes; ``best`` at most ``first``."""
    inputs, n, pace = Inputs(world.relaxed), len(world.values), -rate if twist == "downhill" else rate
    spread = world.relaxed.std(axis=0)
    scale = np.where(spread > 1e-6, 1 / np.maximum(spread, 1e-6), 0)

    def nearest(x: np.ndarray) -> np.ndarray:
        legal = np.eye(4)[x.reshape(-1, 6, 4).argmax(axis=-1)].reshape(x.shape)
        far = (((legal[:, None] - world.relaxed) * scale) ** 2).sum(axis=-1)
        return np.argmin(np.round(far, 9), axis=1)

    def scores(network: Network, starts: np.ndarray) -> np.ndarray:
        reached = nearest(climbed(network, inputs, world.relaxed[starts], np.maximum(spread, 1e-6), pace, steps))
        rows = np.unique([*starts, *reached])
        centres = rows[np.argsort(-output(network, inputs.all[rows]))[:polish]]
        rows = np.unique([*rows, *np.concatenate([world.neighbours[row] for row in centres])])
        score = -1e3 - ((inputs.all - inputs.all[centres[0]]) ** 2).sum(axis=1)
        score[rows] = output(network, inputs.all[rows])
        return score

    def climbs(paid: Paid, networks: list[Network]) -> list[np.ndarray]:
        good = np.array(paid.rows)[np.argsort(-paid.values(), kind="stable")[:best]]
        starts = np.concatenate([good, rng.integers(n, size=strangers)])
        return [scores(network, starts) for network in networks]

    return ask(world, rng, inputs.all, Terms(**settings), climbs)
