"""Bayesian optimisation with a Gaussian process on features of the space."""

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
from ncp_jax.searchers.kernel_features import block_sizes, kernel_features
from ncp_jax.types import Array, Bool, Float, Int, Key

GROWTH = 1.5  # a fit is due when the number of queries has grown by this factor since the last one,
LATER = 2.0  # and by this factor once there are more queries than a fit uses
FITTED = 64  # largest number of measurements that hyper-parameters are fitted to
SIZES = (32, 64, 128, 256, 512, 1024, 2048)  # slots of the compiled fits; the last one is the budget
PIECE = 2048  # candidates evaluated at once while a model is built
WAVES = 128  # cosines of a draw
TIES = 1e-3  # range of the noise that breaks ties: in the logarithm of the expected improvement, or in normal scores


class Belief(NamedTuple):
    """Model of a run and its predictions for the shortlist.

    Attributes:
      first: int32 [i], rows of the initial design.
      begun: int32 [], number of architectures asked for so far.
      kernel: hyper-parameters.
      rows: int32 [b], architectures in the model, in order. Those of the current proposal count as measured.
      size: int32 [], their number.
      due: int32 [], number of paid queries at which the next fit is due.
      asked: bool [n], True for rows that must not be asked for (again).
      distinct: bool [], True once answers have shown that other codes of a paid network bring nothing new.
      seen: float32 [b, f], features of the architectures in the model.
      factor: float32 [b, b], inverse of the Cholesky factor of their covariance; the first ``size`` rows are valid.
      short: int32 [c], the shortlist: rows that can be asked for next.
      near: float32 [c, f], features of the shortlist.
      half: float32 [b, c], ``factor`` times the covariance of ``seen`` and ``near``; the first ``size`` rows are valid.
      variance: float32 [c], variance of the shortlist's noise-free values.
      tie_break: float32 [c], small noise that breaks ties.
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
    tie_break: Float[Array, " c"]


@register
class Bayesian(ArraySearcher):
    """Bayesian optimisation with a Gaussian process: D. R. Jones et al., J. Global Optimization 13 (1998).

    Targets are the normal scores of the values paid for. The kernel (``gaussian_process.Kernel``) compares the features
    of ``kernel_features``. Its hyper-parameters are set to their maximum a posteriori each time the number of queries
    has grown by half since the last fit; measurements in between are added to the model row by row. At each fit, the
    candidates of highest expected improvement become the shortlist, and only these can be asked for until the next fit.

    "expected-improvement" is that of a measured value, noise included, over the best value paid for. Within a batch,
    earlier picks count as measured with their expected value (D. Ginsbourger et al., 2010: kriging believer).
    "thompson" asks for the best of a function drawn from the posterior, with another draw for each slot of a batch
    (J. Wilson et al., ICML 2020: a draw from the prior, corrected by the measured values). Ties are broken at random.

    Attributes:
      acquisition: "expected-improvement" or "thompson".
      batch: number of architectures asked for at once.
      initial: number of different architectures drawn uniformly before the first fit.
      shortlist: number of candidates that can be asked for between two fits.
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
        """Returns the initial design, without a model."""
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
            tie_break=zero(c),
        )

    def ask(self, candidates: Candidates, state: Belief, history: History, key: Key) -> tuple[Int[Array, " k"], Belief]:
        """Returns rows of the initial design, then the best of the shortlist by the acquisition."""
        design, blocks, budget = len(state.first), block_sizes(candidates), len(state.rows)
        keys = jax.random.split(key)
        early = state.begun < design
        scores = normal_scores(history.values, jnp.arange(budget) < history.count)
        # An architecture that was asked for and not paid for, another code of a known network, is in the model but not
        # in the history.
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
        """Bytes of a copy of the state, which a step may make, and of covariances with a piece of the candidates."""
        n = len(candidates)
        f = sum(block_sizes(candidates))
        c, piece = self._width(n), _piece(n)
        return 4 * (budget * (c + budget + f) + c * f + 3 * budget * piece + 4 * n)

    def lanes(self, candidates: Candidates, budget: int) -> int:
        """Few on a CPU, where a few runs fill the caches and smaller calls give earlier records."""
        del candidates, budget
        return 25 if jax.default_backend() == "cpu" else 2**20

    def _width(self, n: int) -> int:
        return min(self.shortlist, n)

    def _builder(self, size: int, blocks: tuple[int, ...]) -> Callable[..., Belief]:
        """Returns a function that fits the model of a run with at most ``size`` queries and makes its shortlist."""

        def build(state: Belief, own: tuple[History, Array, Key, Array], shared: Candidates) -> Belief:
            (history, scores, key, freedom), candidates = own, shared
            points = kernel_features(candidates)[0]
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
            tie_break = TIES * jax.random.uniform(key, (n,))

            def look(piece: Array) -> Array:
                cross = gp.covariance_between(kernel, seen, piece, blocks) * mask[:, None]
                variance = gp.own_variance(kernel, piece, blocks) - ((factor @ cross) ** 2).sum(axis=0)
                deviation = jnp.sqrt(jnp.maximum(variance, 0.0) + jnp.exp(kernel.noise))
                return gp.log_expected_improvement(weights @ cross, deviation, best)

            if c < n:
                wide = _piece(n)
                padded = jnp.pad(points, ((0, -n % wide), (0, 0))).reshape(-1, wide, points.shape[1])
                gain = jax.lax.map(look, padded).reshape(-1)[:n]
                short = jax.lax.top_k(jnp.where(taken, -jnp.inf, gain + tie_break), c)[1].astype(jnp.int32)
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
                tie_break=tie_break[short],
            )

        return build

    def _choose(
        self, candidates: Candidates, state: Belief, scores: Array, key: Key, blocks: tuple[int, ...], early: Array
    ) -> tuple[Int[Array, " k"], Belief]:
        """Picks rows one by one and adds each to the model as if measured; if ``early``, the state stays as it is."""
        weights = state.factor @ scores
        taken = state.asked[state.short]
        values = weights @ state.half
        best = jnp.where(jnp.arange(len(scores)) < state.size, scores, -jnp.inf).max()
        if self.acquisition == "thompson":
            values = self._draws(state, scores, key, blocks)
        picks = []
        for slot in range(self.batch):
            if self.acquisition == "thompson":
                preference = values[slot] + state.tie_break
            else:
                deviation = jnp.sqrt(jnp.maximum(state.variance, 0.0) + jnp.exp(state.kernel.noise))
                preference = gp.log_expected_improvement(values, deviation, best) + state.tie_break
            place = jnp.argmax(jnp.where(taken, -jnp.inf, preference))
            picks.append(state.short[place])
            networks = candidates.classes[state.short]
            alike = state.distinct & (networks == networks[place])
            taken = (taken | alike).at[place].set(True)
            state = _add(state, place, blocks, ~early)
        return jnp.stack(picks), state

    def _draws(self, state: Belief, scores: Array, key: Key, blocks: tuple[int, ...]) -> Float[Array, "k c"]:
        """Draws a function from the posterior on the shortlist for each slot."""
        keys = jax.random.split(key)
        near, seen = gp.prior_draws(
            keys[0], state.kernel, (state.near, state.seen), blocks, draws=self.batch, waves=WAVES
        )
        noise = jax.random.normal(keys[1], seen.shape) * jnp.exp(0.5 * state.kernel.noise)
        known = jnp.arange(len(scores)) < state.size
        return near + jnp.where(known, scores - seen - noise, 0.0) @ state.factor.T @ state.half


def _add(state: Belief, place: Array, blocks: tuple[int, ...], really: Array) -> Belief:
    """Adds an architecture of the shortlist to the model: a row of the factor and of its products."""
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
    """Returns the state after the one of ``builds`` that is due, if any; a batch computes those that any run needs.

    Under vmap a plain conditional would compute every build at every step.
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
    """The changed state if the predicate holds. A loop of at most one pass: a conditional would copy the state."""
    return jax.lax.while_loop(
        lambda carry: carry[0], lambda carry: (False & carry[0], change(carry[1])), (predicate, state)
    )[1]


def _select(predicate: Array, a: Belief, b: Belief) -> Belief:
    return jax.tree.map(lambda p, q: jnp.where(predicate, p, q), a, b)


def _spread(size: int, batched: Any, tree: Any) -> Any:
    """Adds a leading axis to every leaf that is not batched yet."""
    return jax.tree.map(lambda flag, leaf: leaf if flag else jnp.broadcast_to(leaf, (size, *leaf.shape)), batched, tree)


def _close(asked: Array, networks: Array, distinct: Array) -> Array:
    """Rows that were asked for, and other codes of their networks where those bring nothing new."""
    known = jax.ops.segment_max(asked.astype(jnp.int32), networks, len(asked)) > 0
    return asked | (distinct & known[networks])


def _sizes(budget: int) -> tuple[int, ...]:
    return (*(size for size in SIZES if size < budget), budget)


def _piece(n: int) -> int:
    return -(-n // -(-n // PIECE))
