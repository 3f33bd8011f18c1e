"""Network Coding Propagation as a searcher: predict, invert, project, ask, and again."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import Searcher, choice, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import draw_rows
from ncp_jax.searchers.ensemble import (
    Network,
    draw_networks,
    lessons_of,
    pick,
    predict,
    questions,
    train,
    training_bytes,
)
from ncp_jax.searchers.inputs import network_features, network_inputs
from ncp_jax.spaces import get_space
from ncp_jax.spaces.base import CategoricalSpace, Space
from ncp_jax.spaces.macro import MacroSpace
from ncp_jax.types import Array, Bool, Float, Int, Key

UNREACHED = -1e3  # below any prediction in normal scores, yet small enough for float32 to tell distances apart
TINY = 1e-6


@register
class NCPSearch(Searcher):
    """Trains networks on what is paid for, climbs their gradients from the best codes, asks for where that leads.

    After M. Ding et al., ICLR 2022 (arXiv 2103.13253): a predictor is held fixed and propagated back to its input, the
    relaxed code, which moves in steps of fixed length and is projected to legal codes. Here this is repeated within a
    budget. Each of several small networks, trained anew towards its own draw from the prior (``ensemble.train``), has
    its own climbs and its own slots of a question: the spread of the ensemble is what explores, for the climbs of one
    predictor end where it is most mistaken. Every code on the way is projected; the best that were reached are polished
    by single edits (``Candidates.neighbours``). No network scores all candidates. Where a table holds a part of its
    space, a projected code stands for the nearest row. What lies nearest to a network's best comes last.

    It never asks for an architecture twice. When all are asked for, it asks for nothing.

    Attributes:
      first: architectures drawn uniformly before any network is believed.
      noise: standard deviation of the values' noise, in units of the normal scores.
      rate: length of a step, in standard deviations of a feature over the candidates.
      least: fewest architectures asked for at once; a tenth of those paid for, up to ``most``, where that is more.
      most: most architectures asked for at once.
      members, width, depth, sweeps: networks, units of a hidden layer, hidden layers, steps of training.
      steps: steps of a climb.
      best, strangers: climbs from the best paid for, and from some drawn uniformly.
      polish: reached architectures whose neighbours are looked at.
    """

    name: ClassVar[str] = "ncp"

    first: int | Array = number(10, "random architectures to begin with", least=1, most=100_000, whole=True)
    noise: float | Array = number(0.4, "noise of the values, standard deviations", least=0.01, most=10)
    rate: float | Array = number(1.0, "length of a step, standard deviations of a feature", least=0, most=100)
    least: int | Array = number(5, "fewest architectures asked for at once", least=1, most=100_000, whole=True)
    most: int = choice(10, "most architectures asked for at once")
    members: int = choice(5, "networks")
    width: int = choice(128, "units of a hidden layer")
    depth: int = choice(1, "hidden layers")
    sweeps: int = choice(2, "steps of training")
    steps: int = choice(10, "steps of a climb")
    best: int = choice(10, "best architectures to climb from")
    strangers: int = choice(5, "random architectures to climb from")
    polish: int = choice(5, "reached architectures whose neighbours are looked at")

    @property
    def batch(self) -> int:
        """Architectures asked for at once."""
        return self.most

    def start(self, candidates: Candidates, budget: int, key: Key) -> Bool[Array, " n"]:
        """Nothing is asked for yet."""
        del budget, key
        return jnp.zeros(len(candidates), bool)

    def ask(
        self, candidates: Candidates, state: Bool[Array, " n"], history: History, key: Key
    ) -> tuple[Int[Array, " k"], Bool[Array, " n"]]:
        """Trains anew, climbs, and takes the best of what each network has reached."""
        draws, noise, chance, others = jax.random.split(key, 4)
        inputs = network_inputs(candidates, candidates.relaxed)
        lessons = lessons_of(history, inputs)
        anchors = draw_networks(draws, self.members, inputs.shape[1], self.width, self.depth)
        networks = train(noise, anchors, lessons, self.noise, self.sweeps)
        order = jnp.argsort(jnp.where(lessons.used, -lessons.y, jnp.inf))
        paid = jnp.maximum(history.rows[order[: self.best]], 0)
        starts = jnp.concatenate([paid, draw_rows(others, self.strangers, len(candidates))])
        scores = jax.lax.map(lambda network: self._scores(candidates, inputs, network, starts), networks)
        random = jax.random.uniform(chance, (len(candidates),))
        scores = jnp.where(history.count < self.first, random, scores[jnp.arange(self.most) % self.members])
        return pick(scores, state, questions(history.count, self.least, self.most))

    def memory(self, candidates: Candidates, budget: int) -> int:
        """Bytes of training, of the climbs of one network, and of the scores."""
        n, features = len(candidates), network_features(candidates)
        reached = (self.best + self.strangers) * (self.steps + 1)
        near = self.polish * candidates.neighbours.shape[1]
        climbs = 4 * reached**2 + 8 * (reached + near) * (self.width * self.depth + 2 * features)
        space = get_space(candidates.space)
        # A macro sequence is projected, and a part of a space looked up, by comparing with all rows.
        lookup = 8 * reached * n if isinstance(space, MacroSpace) or n < space.size else 0
        scores = 4 * n * (2 * self.members + 2 * self.most)
        return scores + climbs + lookup + training_bytes(self.members, features, self.width, self.depth, budget)

    def _scores(
        self, candidates: Candidates, inputs: Float[Array, "n g"], network: Network, starts: Int[Array, " s"]
    ) -> Float[Array, " n"]:
        """One network's scores of what it reached from some rows; of the others, how near they are to its best."""
        reached = climb(candidates, network, candidates.relaxed[starts], self.rate, self.steps)
        rows = jnp.concatenate([starts, nearest_rows(candidates, reached)])
        worth = predict(network, inputs[rows])
        repeated = jnp.triu(rows[:, None] == rows, 1).any(axis=0)
        centres = rows[jax.lax.top_k(jnp.where(repeated, -jnp.inf, worth), min(self.polish, len(rows)))[1]]
        near = candidates.neighbours[centres]
        real = jnp.arange(near.shape[1]) < candidates.degree[centres][:, None]
        near = jnp.where(real, near, centres[:, None]).ravel()
        there = inputs[centres[0]]
        far = (inputs**2).sum(axis=1) - 2 * inputs @ there + there @ there
        scores = (UNREACHED - far).at[rows].set(worth)
        return scores.at[near].set(predict(network, inputs[near]))


def climb(
    candidates: Candidates, network: Network, relaxed: Float[Array, "s f"], rate: float | Array, steps: int
) -> Float[Array, "p f"]:
    """Gradient ascent of one network on relaxed codes, inside the space's box.

    A categorical position stays a set of shares that sum to 1, so it moves between its letters.

    Args:
      candidates: what sets the units.
      network: what to climb.
      relaxed: where the climbs begin, raw units.
      rate: length of a step, in standard deviations of a feature.
      steps: steps. Static.

    Returns:
      Every code on the way, float32 [steps * s, f], raw units.
    """
    space = get_space(candidates.space)
    spread = jnp.maximum(candidates.relaxed.std(axis=0), TINY)
    slope_of = jax.grad(lambda x: predict(network, network_inputs(candidates, x)).sum())

    def step(x: Float[Array, "s f"], _: None) -> tuple[Float[Array, "s f"], Float[Array, "s f"]]:
        slope = _along(space, slope_of(x)) * spread
        length = jnp.maximum(jnp.linalg.norm(slope, axis=1, keepdims=True), TINY)
        x = _inside(space, x + rate * spread * slope / length)
        return x, x

    _, way = jax.lax.scan(step, relaxed, None, length=steps)
    return way.reshape(-1, relaxed.shape[1])


def nearest_rows(candidates: Candidates, relaxed: Float[Array, "p f"]) -> Int[Array, " p"]:
    """The rows of the projected codes; where the table is a part of its space, the nearest rows in standard units."""
    space = get_space(candidates.space)
    codes = space.project(relaxed)
    n = len(candidates)
    if n == space.size:
        numbers = jnp.arange(n, dtype=jnp.int32)
        return jnp.zeros(n, jnp.int32).at[space.index(candidates.codes)].set(numbers)[space.index(codes)]
    spread = candidates.relaxed.std(axis=0)
    scale = jnp.where(spread > TINY, 1 / jnp.maximum(spread, TINY), 0.0)
    wanted, there = space.encode(codes) * scale, candidates.relaxed * scale
    return jnp.argmin((there**2).sum(axis=1) - 2 * wanted @ there.T, axis=1).astype(jnp.int32)


def _along(space: Space, slope: Float[Array, "s f"]) -> Float[Array, "s f"]:
    """The part of a slope along which the shares of each position keep their sum."""
    if not isinstance(space, CategoricalSpace):
        return slope
    shares = slope.reshape(len(slope), space.length, space.letters)
    return (shares - shares.mean(axis=-1, keepdims=True)).reshape(slope.shape)


def _inside(space: Space, x: Float[Array, "s f"]) -> Float[Array, "s f"]:
    """Codes back in their box: shares not below 0 that sum to 1, or quantities within their bounds."""
    if not isinstance(space, CategoricalSpace):
        return jnp.clip(x, space.lower, space.upper)
    shares = jnp.maximum(x.reshape(len(x), space.length, space.letters), 0.0)
    return (shares / jnp.maximum(shares.sum(axis=-1, keepdims=True), TINY)).reshape(x.shape)
