"""Network Coding Propagation as a searcher: predicts, inverts, projects, asks, and repeats."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp

from ncp_jax.benchmarks.view import History
from ncp_jax.searchers.base import choice, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.draws import draw_rows
from ncp_jax.searchers.ensemble import Network, predict
from ncp_jax.searchers.ensemble_search import EnsembleSearch, Learned
from ncp_jax.searchers.inputs import Units, network_inputs
from ncp_jax.searchers.ties import any_best
from ncp_jax.spaces import get_space
from ncp_jax.types import Array, Float, Int, Key

UNREACHED = -1e3  # below any prediction in normal scores, yet small enough for float32 to tell distances apart
TINY = 1e-6
SAME = 1e-4  # squared distances in standard units that differ by less are equal but for rounding


@register
class NCPSearch(EnsembleSearch):
    """Trains networks on the measured architectures, climbs their gradients from the best codes, asks for the results.

    After M. Ding et al., ICLR 2022 (arXiv 2103.13253): a predictor is held fixed and propagated back to its input, the
    relaxed code, which moves in steps of fixed length and is projected to legal codes. Here this is repeated within a
    budget. Several small networks are trained anew each time, each towards its own draw from the prior
    (``ensemble.train``). Each network has its own climbs and its own slots of a proposal: the differences between the
    networks make the search explore, since the climbs of a single predictor end where its error is largest.

    Every code of a climb is projected, and single edits (``Candidates.neighbours``) of the best ones are predicted too.
    No network scores all candidates: those that were not reached come last, nearest to the network's best first. Where
    a table holds a part of its space, the row nearest to a projected code takes its place.

    Attributes: those of ``EnsembleSearch``, and
      rate: length of a step, in standard deviations of a feature over the candidates.
      steps: number of steps of a climb.
      best: number of climbs from the best architectures paid for.
      strangers: number of climbs from architectures drawn uniformly.
      polish: number of reached architectures whose neighbours are predicted.
    """

    name: ClassVar[str] = "ncp"

    rate: float | Array = number(1.0, "length of a step, standard deviations of a feature", least=0, most=100)
    steps: int = choice(10, "steps of a climb")
    best: int = choice(10, "best architectures to climb from")
    strangers: int = choice(5, "random architectures to climb from")
    polish: int = choice(5, "reached architectures whose neighbours are looked at")

    def scores(self, candidates: Candidates, learned: Learned, history: History, key: Key) -> Float[Array, "k n"]:
        """Returns one network's scores for each slot, from climbs that start at the best and at random codes."""
        starts = jnp.concatenate([self.known(history), draw_rows(key, self.strangers, len(candidates))])
        ties = jax.random.uniform(jax.random.fold_in(key, 1), (len(candidates),))
        each = jax.lax.map(lambda network: self._reached(candidates, learned, network, starts, ties), learned.networks)
        return each[jnp.arange(self.most) % self.members]

    def known(self, history: History) -> Int[Array, " s"]:
        """Returns the rows of the best architectures paid for, from which climbs start."""
        return jnp.maximum(history.rows[jnp.argsort(-history.values)[: self.best]], 0)

    def scoring_bytes(self, candidates: Candidates, features: int) -> int:
        """Bytes of the climbs of one network and of the scores of all."""
        n = len(candidates)
        reached = (self.best + self.strangers) * (self.steps + 1)
        near = self.polish * candidates.neighbours.shape[1]
        climbs = 4 * reached**2 + 8 * (reached + near) * (self.width * self.depth + 2 * features)
        space = get_space(candidates.space)
        # Where a space forbids combinations, or the table holds a part of it, codes are compared with all rows.
        lookup = 0 if space.is_product and n == space.size else 8 * reached * n
        return climbs + lookup + 4 * n * 2 * self.members

    def _reached(
        self,
        candidates: Candidates,
        learned: Learned,
        network: Network,
        starts: Int[Array, " s"],
        ties: Float[Array, " n"],
    ) -> Float[Array, " n"]:
        """One network's predictions of the rows that it reached; the others are scored by the distance to its best."""
        inputs = learned.inputs
        reached = climb(
            candidates, learned.units, network, candidates.relaxed[starts], rate=self.rate, steps=self.steps
        )
        rows = jnp.concatenate([starts, nearest_rows(candidates, reached, ties)])
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
    candidates: Candidates,
    units: Units,
    network: Network,
    relaxed: Float[Array, "s f"],
    *,
    rate: float | Array,
    steps: int,
) -> Float[Array, "p f"]:
    """Climbs the gradient of one network on relaxed codes, inside the space's box.

    A categorical position stays a set of shares that sum to 1, so it moves between its letters.

    Args:
      candidates: the candidates, whose standard deviations set the length of a step.
      units: units of the network's inputs.
      network: the network.
      relaxed: float32 [s, f], starts of the climbs, raw units.
      rate: length of a step, in standard deviations of a feature.
      steps: number of steps. Static.

    Returns:
      The code after every step, float32 [steps * s, f], raw units.
    """
    space = get_space(candidates.space)
    spread = jnp.maximum(candidates.relaxed.std(axis=0), TINY)
    slope_of = jax.grad(lambda x: predict(network, network_inputs(candidates.space, x, units)).sum())

    def step(x: Float[Array, "s f"], _: None) -> tuple[Float[Array, "s f"], Float[Array, "s f"]]:
        slope = space.tangent(slope_of(x)) * spread
        length = jnp.maximum(jnp.linalg.norm(slope, axis=1, keepdims=True), TINY)
        x = space.clip(x + rate * spread * slope / length)
        return x, x

    _, way = jax.lax.scan(step, relaxed, None, length=steps)
    return way.reshape(-1, relaxed.shape[1])


def nearest_rows(candidates: Candidates, relaxed: Float[Array, "p f"], ties: Float[Array, " n"]) -> Int[Array, " p"]:
    """Returns the rows of the projected codes; where the table is a part of its space, the nearest rows instead.

    Args:
      candidates: the candidates.
      relaxed: relaxed codes, raw units.
      ties: random numbers, at least 0, that decide between rows that are equally near.
    """
    space = get_space(candidates.space)
    codes = space.project(relaxed)
    n = len(candidates)
    if n == space.size:
        numbers = jnp.arange(n, dtype=jnp.int32)
        return jnp.zeros(n, jnp.int32).at[space.index(candidates.codes)].set(numbers)[space.index(codes)]
    spread = candidates.relaxed.std(axis=0)
    scale = jnp.where(spread > TINY, 1 / jnp.maximum(spread, TINY), 0.0)
    wanted, there = space.encode(codes) * scale, candidates.relaxed * scale
    near = 2 * wanted @ there.T - (there**2).sum(axis=1)
    return jax.vmap(lambda row: any_best(row, ties, SAME))(near)
