"""Bayesian optimisation: a Gaussian process on the space's kernel says what to measure next."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks.view import History
from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.searchers.base import ArraySearcher, choice, number, register
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.points import block_sizes, kernel_points
from ncp_jax.types import Array, Bool, Float, Int, Key

GROWTH = 1.5  # paid queries at a fit are this many times those at the last one,
LATER = 2.0  # and this many times once there are more than a fit looks at
FITTED = 64  # measurements, at most, that hyper-parameters are fitted to
SIZES = (32, 64, 128, 256, 512, 1024, 2048)  # slots of the compiled fits; the last is the budget
PIECE = 2048  # candidates looked at in one go while a model is built
WAVES = 128  # cosines of a draw
TIES = 1e-3  # spread of the noise that decides between equals, in the logarithm of the expected improvement


class Belief(NamedTuple):
    """What a run believes: its model, and what that says about the shortlist.

    Attributes:
      first: int32 [i], the rows of the initial design.
      begun: int32 [], questions so far.
      kernel: hyper-parameters.
      rows: int32 [b], measured architectures in the model, in order; those asked for now count as measured.
      size: int32 [], how many they are.
      due: int32 [], paid queries from which on the next fit is due.
      asked: bool [n], not to be asked (again).
      distinct: bool [], another code of a network already paid for brings nothing new, as answers have shown.
      seen: float32 [b, f], features of the measured.
      factor: float32 [b, b], inverse of the Cholesky factor of their covariance; rows from ``size`` on mean nothing.
      short: int32 [c], the shortlist: rows that may be asked next.
      near: float32 [c, f], their features.
      half: float32 [b, c], ``factor`` times their covariance with the measured; likewise.
      variance: float32 [c], of their noise-free values.
      luck: float32 [c], decides between equals.
    """

    first: Int[Array, " i"]
    begun: Int[Array, ""]
    kernel: gp.Kernel
    rows: Int[Array, " b"]
    size: Int[Array, ""]
    due: Int[Array, ""]
    asked: Bool[Array, " n"]
    distinct: Bool[Array, ""]
    seen: Float[Array, "b f"]
    factor: Float[Array, "b b"]
    short: Int[Array, " c"]
    near: Float[Array, "c f"]
    half: Float[Array, "b c"]
    variance: Float[Array, " c"]
    luck: Float[Array, " c"]


@register
class Bayesian(ArraySearcher):
    """Bayesian optimisation with a Gaussian process: D. R. Jones et al., J. Global Optimization 13 (1998).

    Targets are the normal scores of the values paid for. The kernel (``gaussian_process.Kernel``) compares the features
    of ``kernel_points``; its hyper-parameters go to their maximum a posteriori when half as many queries again are
    paid for as at the last fit, and what is found later is added to the model row by row. At each fit the candidates of
    highest expected improvement become the shortlist; until the next one only these can be asked.

    "expected-improvement" is that of a measured value, noise included, over the best value paid for; in a batch,
    earlier picks count as measured with the value expected of them (D. Ginsbourger et al., 2010: kriging believer).
    "thompson" asks for the best of a function drawn from the posterior, another one for each slot of a batch (J. Wilson
    et al., ICML 2020: a draw from the prior, corrected by the measured values). Equals are told apart at random.

    Attributes:
      acquisition: "expected-improvement" or "thompson".
      batch: architectures asked for at once.
      initial: architectures drawn uniformly, all different, before the first fit.
      shortlist: candidates that can be asked between two fits.
      freedom: standard deviation of the log-normal priors of the hyper-parameters.
    """

    name: ClassVar[str] = "bayesian"

    acquisition: str = choice(
        "expected-improvement", "what is asked for next", options=("expected-improvement", "thompson")
    )
    batch: int = choice(1, "architectures asked for at once")
    initial: int = choice(10, "random architectures before the first fit", least=2)
    shortlist: int = choice(2048, "candidates between two fits", least=2)
    freedom: float | Array = number(2.0, "spread of the hyper-parameters' priors", least=0.01, most=10.0)

    def start(self, candidates: Candidates, budget: int, key: Key) -> Belief:
        """The initial design, and no model."""
        blocks = block_sizes(candidates)
        n, f = len(candidates), sum(blocks)
        c = self._width(n)
        zero, integer = jnp.zeros, jnp.int32
        return Belief(
            first=jax.random.permutation(key, n)[: self.initial].astype(integer),
            begun=zero((), integer),
            kernel=gp.prior(len(blocks)),
            rows=jnp.full(budget, -1, integer),
            size=zero((), integer),
            due=zero((), integer),
            asked=zero(n, bool),
            distinct=zero((), bool),
            seen=zero((budget, f)),
            factor=zero((budget, budget)),
            short=zero(c, integer),
            near=zero((c, f)),
            half=zero((budget, c)),
            variance=zero(c),
            luck=zero(c),
        )

    def ask(self, candidates: Candidates, state: Belief, history: History, key: Key) -> tuple[Int[Array, " k"], Belief]:
        """The initial design, then what the acquisition likes best of the shortlist."""
        design, blocks, budget = len(state.first), block_sizes(candidates), len(state.rows)
        keys = jax.random.split(key)
        early = state.begun < design
        scores = normal_scores(history.values, jnp.arange(budget) < history.count)
        # What was asked but not paid for is in the model and not in the history: a known network's other code.
        stale = (state.size != history.count) | (history.count >= state.due)
        state = state._replace(distinct=state.distinct | (state.size > history.count))
        sizes = _sizes(budget)
        lower = np.array((0, *sizes[:-1]))
        due = ~early & stale & (history.count > lower) & (history.count <= np.array(sizes))
        builds = [self._builder(size, blocks) for size in sizes]
        state = _where_due(builds, due, state, (history, scores, keys[0], self.freedom), candidates)
        wished, state = self._choose(candidates, state, scores, keys[1], blocks, early)
        places = state.begun + jnp.arange(self.batch)
        drawn = jnp.where(places < design, state.first[jnp.minimum(places, design - 1)], -1)
        rows = jnp.where(early, drawn, wished)
        asked = state.asked.at[jnp.where(rows >= 0, rows, len(candidates))].set(True, mode="drop")
        return rows, state._replace(begun=state.begun + self.batch, asked=asked)

    def memory(self, candidates: Candidates, budget: int) -> int:
        """The state once more, which a step may copy, and the covariances with a piece of the candidates."""
        n = len(candidates)
        f = sum(block_sizes(candidates))
        c, piece = self._width(n), _piece(n)
        return 4 * (budget * (c + budget + f) + c * f + 3 * budget * piece + 4 * n)

    def lanes(self, candidates: Candidates, budget: int) -> int:
        """On a CPU a few runs fill the caches, and records come sooner."""
        del candidates, budget
        return 25 if jax.default_backend() == "cpu" else 2**20

    def _width(self, n: int) -> int:
        return min(self.shortlist, n)

    def _builder(self, size: int, blocks: tuple[int, ...]) -> Callable[..., Belief]:
        """A function that fits the model of a run with at most ``size`` paid queries and makes its shortlist."""

        def build(state: Belief, own: tuple[History, Array, Key, Array], shared: Candidates) -> Belief:
            (history, scores, key, freedom), candidates = own, shared
            points = kernel_points(candidates)[0]
            n, c, budget = len(points), len(state.short), len(state.rows)
            rows, z, count = history.rows[:size], scores[:size], history.count
            mask = jnp.arange(size) < count
            seen = points[jnp.maximum(rows, 0)] * mask[:, None]
            few = jnp.arange(min(size, FITTED))
            few = jnp.where(count > len(few), few * count // len(few), few)
            pairs = gp.geometry(seen[few], seen[few], blocks)
            kernel = gp.fit_kernel(state.kernel, pairs, z[few], mask[few], freedom=freedom)
            factor = gp.inverse_factor(kernel, gp.geometry(seen, seen, blocks), mask)
            weights, best = factor.T @ (factor @ z), jnp.where(mask, z, -jnp.inf).max()
            taken = _close(state.asked, candidates.classes, state.distinct)
            luck = TIES * jax.random.uniform(key, (n,))

            def look(piece: Array) -> Array:
                cross = gp.covariance_between(kernel, seen, piece, blocks) * mask[:, None]
                variance = gp.own_variance(kernel, piece, blocks) - ((factor @ cross) ** 2).sum(axis=0)
                deviation = jnp.sqrt(jnp.maximum(variance, 0.0) + jnp.exp(kernel.noise))
                return gp.log_expected_improvement(weights @ cross, deviation, best)

            if c < n:
                wide = _piece(n)
                padded = jnp.pad(points, ((0, -n % wide), (0, 0))).reshape(-1, wide, points.shape[1])
                gain = jax.lax.map(look, padded).reshape(-1)[:n]
                short = jax.lax.top_k(jnp.where(taken, -jnp.inf, gain + luck), c)[1].astype(jnp.int32)
            else:
                short = jnp.arange(n, dtype=jnp.int32)
            near = points[short]
            half = factor @ (gp.covariance_between(kernel, seen, near, blocks) * mask[:, None])
            growth = jnp.where(count > FITTED, LATER, GROWTH)
            longer = jnp.minimum((growth * count).astype(jnp.int32), count + max(c // 2, 1))
            rest = budget - size
            return state._replace(
                kernel=kernel,
                rows=jnp.pad(rows, (0, rest)),
                size=count,
                due=jnp.maximum(longer, count + self.batch),
                asked=taken,
                seen=jnp.pad(seen, ((0, rest), (0, 0))),
                factor=jnp.pad(factor * mask[:, None], ((0, rest), (0, rest))),
                short=short,
                near=near,
                half=jnp.pad(half * mask[:, None], ((0, rest), (0, 0))),
                variance=gp.own_variance(kernel, near, blocks) - (half**2).sum(axis=0),
                luck=luck[short],
            )

        return build

    def _choose(
        self, candidates: Candidates, state: Belief, scores: Array, key: Key, blocks: tuple[int, ...], early: Array
    ) -> tuple[Int[Array, " k"], Belief]:
        """Picks rows one by one; each joins the model as if measured. Nothing changes while it is early."""
        weights = state.factor @ scores
        taken = state.asked[state.short]
        values = weights @ state.half
        best = jnp.where(jnp.arange(len(scores)) < state.size, scores, -jnp.inf).max()
        if self.acquisition == "thompson":
            values = self._draws(state, scores, key, blocks)
        picks = []
        for slot in range(self.batch):
            if self.acquisition == "thompson":
                liking = values[slot]
            else:
                deviation = jnp.sqrt(jnp.maximum(state.variance, 0.0) + jnp.exp(state.kernel.noise))
                liking = gp.log_expected_improvement(values, deviation, best) + state.luck
            place = jnp.argmax(jnp.where(taken, -jnp.inf, liking))
            picks.append(state.short[place])
            networks = candidates.classes[state.short]
            alike = state.distinct & (networks == networks[place])
            taken = (taken | alike).at[place].set(True)
            state = _add(state, place, blocks, ~early)
        return jnp.stack(picks), state

    def _draws(self, state: Belief, scores: Array, key: Key, blocks: tuple[int, ...]) -> Float[Array, "k c"]:
        """Functions from the posterior on the shortlist, one for each slot."""
        keys = jax.random.split(key)
        near, seen = gp.prior_draws(
            keys[0], state.kernel, (state.near, state.seen), blocks, draws=self.batch, waves=WAVES
        )
        noise = jax.random.normal(keys[1], seen.shape) * jnp.exp(0.5 * state.kernel.noise)
        known = jnp.arange(len(scores)) < state.size
        return near + jnp.where(known, scores - seen - noise, 0.0) @ state.factor.T @ state.half


def _add(state: Belief, place: Array, blocks: tuple[int, ...], really: Array) -> Belief:
    """Adds one architecture of the shortlist to the measured: a row of the Cholesky factor and of all it multiplies."""
    point, column = state.near[place], state.half[:, place]
    cross = gp.covariance_between(state.kernel, point[None], state.near, blocks)[0]
    slot = jnp.where(really, state.size, len(state.rows))
    row, deviation = gp.inverse_row(state.factor, column, cross[place] + jnp.exp(state.kernel.noise), slot)
    half = (cross - column @ state.half) / deviation
    return state._replace(
        rows=state.rows.at[slot].set(state.short[place], mode="drop"),
        size=jnp.where(really, jnp.minimum(state.size + 1, len(state.rows)), state.size),
        seen=state.seen.at[slot].set(point, mode="drop"),
        factor=state.factor.at[slot].set(row, mode="drop"),
        half=state.half.at[slot].set(half, mode="drop"),
        variance=jnp.where(really, state.variance - half**2, state.variance),
    )


def _where_due(
    builds: list[Callable[..., Belief]], due: Bool[Array, " s"], state: Belief, own: Any, shared: Any
) -> Belief:
    """The state after that of ``builds`` which is due, if one is; a batch computes those that any of its runs needs.

    A conditional in a batch would otherwise do everything at every step.
    """

    def choose(due: Array, state: Belief, own: Any, shared: Any) -> Belief:
        for place, build in enumerate(builds):
            state = _where(due[place], functools.partial(build, own=own, shared=shared), state)
        return state

    @jax.custom_batching.custom_vmap
    def run(due: Array, state: Belief, own: Any, shared: Any) -> Belief:
        return _where(due.any(), lambda state: choose(due, state, own, shared), state)

    @run.def_vmap
    def batched(size: int, batch: list[Any], due: Array, state: Belief, own: Any, shared: Any) -> tuple[Belief, Any]:
        due, state = _spread(size, batch[0], due), _spread(size, batch[1], state)
        axes = jax.tree.map(lambda flag: 0 if flag else None, tuple(batch[2:]))

        def some(state: Belief) -> Belief:
            for place, build in enumerate(builds):
                needed = due[:, place]

                def built(state: Belief, build: Callable[..., Belief] = build, needed: Array = needed) -> Belief:
                    made = jax.vmap(build, in_axes=(0, *axes))(state, own, shared)
                    return jax.vmap(_select)(needed, made, state)

                state = _where(needed.any(), built, state)
            return state

        done = _where(due.any(), some, state)
        return done, jax.tree.map(lambda _: True, done)

    return run(due, state, own, shared)


def _where(predicate: Array, change: Callable[[Belief], Belief], state: Belief) -> Belief:
    """The changed state where the predicate holds. A conditional would copy the state, every time; a loop does not."""
    return jax.lax.while_loop(
        lambda carry: carry[0], lambda carry: (False & carry[0], change(carry[1])), (predicate, state)
    )[1]


def _select(predicate: Array, a: Belief, b: Belief) -> Belief:
    return jax.tree.map(lambda p, q: jnp.where(predicate, p, q), a, b)


def _spread(size: int, batched: Any, tree: Any) -> Any:
    """The tree with a leading axis on every leaf that has none yet."""
    return jax.tree.map(lambda flag, leaf: leaf if flag else jnp.broadcast_to(leaf, (size, *leaf.shape)), batched, tree)


def _close(asked: Array, networks: Array, distinct: Array) -> Array:
    """Asked, or of the same network as one asked where that brings nothing new."""
    known = jax.ops.segment_max(asked.astype(jnp.int32), networks, len(asked)) > 0
    return asked | (distinct & known[networks])


def _sizes(budget: int) -> tuple[int, ...]:
    return (*(size for size in SIZES if size < budget), budget)


def _piece(n: int) -> int:
    return -(-n // -(-n // PIECE))
