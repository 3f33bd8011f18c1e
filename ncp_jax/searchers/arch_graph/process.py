"""Arch-Graph with a Gaussian process in the place of the network: what is measured next, and relations of all pairs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.predictors.targets import expected_scores, normal_scores
from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.searchers.arch_graph.search import ArchGraphRuns
from ncp_jax.searchers.arch_graph.source_choice import source_weights, weighted
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.initial_design import spread_out
from ncp_jax.searchers.kernel_features import kernel_features
from ncp_jax.searchers.ties import any_best, best_first_on_host, tie_breakers
from ncp_jax.training.relations import PROBIT
from ncp_jax.types import Array, Bool, Float, Int, Key

if TYPE_CHECKING:
    from ncp_jax.benchmarks import QueryGuard

Progress = Callable[[int, int], None]
SLOTS = 64  # fewest slots for measurements; programs are compiled for this number times a power of two, or the budget
FITTED = 128  # measurements that hyper-parameters are fitted to
NEXT = 4  # candidates that ``next`` chooses, where the size of a batch is not given
SHARE = 25  # measurements for each one of a batch, where its size is not given
TIES = 1e-3  # normal scores within which chance decides between candidates: above what rounding does to equal ones
WAVES = 512  # cosines of a draw from the prior
# What makes relations of pairs that nobody measured about as frequent as they are predicted to be: the model's own
# probabilities are too far from one half. Chosen for the log loss on digits, NAS-Bench-MR and restrictions of
# NAS-Bench-201.
SHARPNESS = 0.35  # factor of the log-odds
SPREAD = 0.25  # share of the posterior's standard deviation that members differ by
LEAST_SPREAD = 1e-6  # least standard deviation of the candidates' means that they are divided by
LEAST_NOISE = 1e-2  # least variance of the noise in relations, which keeps log-odds finite
_CELLS = 2**26  # float32 in the covariances of the runs that are computed together


@dataclasses.dataclass(frozen=True)
class ProcessConfig:
    """Settings of a search with a Gaussian process.

    Attributes:
      first: number of queries before the first model, without sources: one at random, the others far from those before
        (``spread_out``). With sources, what is best on them on average comes first, and one query is enough.
      batch: number of queries between two models; 0 for one in 25 of those paid for, rounded down to a power of two.
      optimism: number of standard deviations added to a candidate's expected value.
      members: number of functions drawn from the posterior for the relations, in pairs with the posterior mean between.
      trust: probability from which a relation counts as trusted in the final graph, 0.5 ≤ trust < 1.
    """

    first: int = 3
    batch: int = 0
    optimism: float = 1.0
    members: int = 8
    trust: float = 0.55

    def __post_init__(self) -> None:
        for name, least in (("first", 1), ("batch", 0), ("members", 1)):
            checks.integer(name, getattr(self, name), least=least)
        checks.positive("optimism", self.optimism, zero=True)
        if not 0.5 <= self.trust < 1:
            raise checks.UsageError(expected="0.5 <= trust < 1", got=str(self.trust), remedy="try 0.55")


@dataclasses.dataclass(frozen=True, eq=False)
class ProcessSearch:
    """Searches of one target with a Gaussian process, and what they know of the sources.

    The model of a run is a Gaussian process on scores of its measurements. They have the order of the values, and the
    sources say what they are (``expected_scores``): normal scores would spread the best candidates, which a search
    measures, over the whole scale, and with them the noise of their order. Without sources they are normal scores. The
    kernel (``Kernel``) has one block for each kind of feature of the networks (``kernel_features``), one for the
    sources' evidence and one for its mean, both with the sources' weights (``source_weights``), and a constant: what
    was measured first is no random sample. Hyper-parameters are set to their maximum a posteriori for each question,
    the noise among them.

    Asked for is the candidate with the highest mean plus ``optimism`` standard deviations (GP-UCB: N. Srinivas et al.,
    ICML 2010); within a batch, earlier picks lower the deviations (T. Desautels et al., JMLR 15, 2014). Codes of one
    network have the same features, so chance decides between them; another code of a measured network is asked for
    only after all networks are measured. The final order takes one more model, of the scores that the last one expects.
    Where all sources say nothing (0 everywhere), a run asks for what it would ask for without them, if ``batch``
    divides the number of queries that ``first`` leaves after one.

    Settings were chosen on ``digits`` and restrictions of NAS-Bench-201 to four operations, the scores and the final
    order on NAS-Bench-MR, too.

    Attributes:
      candidates: the n candidates.
      evidence: float32 ``[e, n, s]``, see ``smoothed_sources``: one variant for all runs, or one per run. None, or s 0,
        to search without sources.
      config: settings.
      seed: random seed; the draws of a run depend on it and on the run's number alone.
    """

    candidates: Candidates
    evidence: Float[np.ndarray, "e n s"] | None = None
    config: ProcessConfig = dataclasses.field(default_factory=ProcessConfig)
    seed: int = 0

    def run(self, guard: QueryGuard, numbers: Sequence[int], progress: Progress | None = None) -> ArchGraphRuns:
        """Spends the whole budget of a guard (host loop around jitted programs).

        Args:
          guard: answers the queries of each run.
          numbers: the number of each run.
          progress: called with (queries done, budget).
        """
        budget, done, first = guard.budget, 0, self.config.first
        ties, start = self._ties(numbers), self._start(numbers)
        silent = self._silent(numbers)
        opening = self._opening(numbers, ties, min(first, len(self.candidates)), np.empty(0, np.int32))
        picks, kernels = opening[:, : 1 if self._sources else None], start
        while True:
            guard.query(picks[:, : budget - done])
            done = min(done + picks.shape[1], budget)
            if progress:
                progress(done, budget)
            slots = _slots(done, budget)
            rows, paid = guard.asked[:, :slots], guard.paid[:, :slots]
            if done == budget:
                return self._concluded(kernels, rows, paid, ties, numbers)
            kernels, asked = self._advance(kernels, rows, paid, ties, numbers, batch=min(self._batch(done), budget))
            picks = np.array(asked)
            if done + picks.shape[1] <= first:  # runs whose sources say nothing go on as runs without sources do
                picks[silent] = opening[silent, done : done + picks.shape[1]]
                kernels = jax.tree.map(lambda new, old: np.where(_like(silent, old), old, new), kernels, start)

    def next(
        self, asked: Int[np.ndarray, " k"], paid: Float[np.ndarray, " k"], most: int
    ) -> tuple[Int[np.ndarray, " m"], ArchGraphRuns | None]:
        """Chooses what a run with these measurements would measure next.

        Args:
          asked: the k measured candidates, each once.
          paid: their values, higher is better.
          most: largest number of candidates to choose.

        Returns:
          The rows to measure, all new, and the model that chose them: ``batch`` or ``NEXT``. Where nothing is measured
          yet, or less than ``first`` without sources, they are the first ``batch`` or ``first``, and the model is None.
        """
        n, ties, first = len(self.candidates), self._ties((0,)), self.config.first
        most = min(most, n - len(asked))
        if len(asked) < (first if self._silent((0,))[0] else 1):
            count = min(most, self.config.batch or first - len(asked))
            return self._opening((0,), ties, count, asked)[0], None
        rows = np.full((1, _slots(len(asked), n)), -1, np.int32)
        values = np.full(rows.shape, np.nan, np.float32)
        rows[0, : len(asked)], values[0, : len(asked)] = asked, paid
        kernels, wanted = self._start((0,)), np.empty(0, np.int32)
        if most:
            batch = min(most, self.config.batch or NEXT)
            kernels, found = self._advance(kernels, rows, values, ties, (0,), batch=batch)
            wanted = np.asarray(found)[0]
        return wanted, self._concluded(kernels, rows, values, ties, (0,))

    @functools.cached_property
    def _sources(self) -> int:
        return 0 if self.evidence is None else self.evidence.shape[-1]

    @functools.cached_property
    def _says(self) -> Bool[np.ndarray, " e"]:
        """Whether any source says something, for each variant of the evidence."""
        return np.zeros(1, bool) if self.evidence is None else np.asarray(self.evidence.any(axis=(1, 2)))

    def _silent(self, numbers: Sequence[int]) -> Bool[np.ndarray, " r"]:
        """The runs without a source, or whose sources all say nothing."""
        return np.logical_not(self._says[self._variants(numbers)])

    @functools.cached_property
    def _features(self) -> tuple[Float[Array, "n f"], Float[Array, "e n s"], tuple[int, ...]]:
        """Features of the networks, the evidence of each variant, and the blocks of what a model compares."""
        structure, blocks = kernel_features(self.candidates)
        evidence = self.evidence if self._sources else np.zeros((1, len(self.candidates), 0), np.float32)
        return structure, jnp.asarray(evidence), (*blocks, *((self._sources, 1) if self._sources else ()), 1)

    def _ties(self, numbers: Sequence[int]) -> Float[np.ndarray, "r n"]:
        return tie_breakers([[self.seed, number] for number in numbers], len(self.candidates))

    def _opening(
        self,
        numbers: Sequence[int],
        ties: Float[np.ndarray, "r n"],
        count: int,
        asked: Int[np.ndarray, " k"],
    ) -> Int[np.ndarray, "r k"]:
        """The first queries of each run, besides those asked: far apart, or what is best on the sources on average."""
        found = np.asarray(_spread(self._features[0], asked, ties, count=count))
        if self._sources and self.evidence is not None:
            best = best_first_on_host(self.evidence.mean(axis=-1)[self._variants(numbers)], ties)
            best = np.stack([_networks_first(rows, np.asarray(self.candidates.classes)) for rows in best])[:, :count]
            found = np.where(self._silent(numbers)[:, None], found, best)
        return found

    def _variants(self, numbers: Sequence[int]) -> Int[np.ndarray, " r"]:
        several = self.evidence is not None and len(self.evidence) > 1
        return np.arange(len(numbers), dtype=np.int32) if several else np.zeros(len(numbers), np.int32)

    def _batch(self, done: int) -> int:
        return self.config.batch or 2 ** int(np.log2(max(1, done // SHARE)))

    def _start(self, numbers: Sequence[int]) -> gp.Kernel:
        """Medians of the hyper-parameters' priors for each run."""
        blocks = len(self._features[2])
        told, untold = _centre(blocks), _centre(blocks, blocks - 3 if self._sources else None)
        silent = self._silent(numbers)
        return jax.tree.map(lambda a, b: np.where(_like(silent, a[None]), b, a), told, untold)

    def _advance(
        self,
        kernels: gp.Kernel,
        rows: Int[np.ndarray, "r b"],
        paid: Float[np.ndarray, "r b"],
        ties: Float[np.ndarray, "r n"],
        numbers: Sequence[int],
        *,
        batch: int,
    ) -> tuple[gp.Kernel, Int[Array, "r k"]]:
        structure, evidence, blocks = self._features
        runs = self._runs(kernels, rows, paid, numbers)
        networks = self.candidates.classes
        return _ask(structure, networks, evidence, runs, ties, self.config.optimism, blocks=blocks, batch=batch)

    def _concluded(
        self,
        kernels: gp.Kernel,
        rows: Int[np.ndarray, "r b"],
        paid: Float[np.ndarray, "r b"],
        ties: Float[np.ndarray, "r n"],
        numbers: Sequence[int],
    ) -> ArchGraphRuns:
        structure, evidence, blocks = self._features
        keys = _keys(jax.random.key(self.seed), np.asarray(numbers, np.uint32))
        runs = self._runs(kernels, rows, paid, numbers)
        mean, utilities, measured, weights = _conclude(
            structure, evidence, runs, keys, blocks=blocks, members=self.config.members
        )
        used, scores = int((rows[0] >= 0).sum()), np.asarray(mean)
        return ArchGraphRuns(
            rows[:, :used],
            paid[:, :used],
            scores,
            utilities,
            ties,
            np.asarray(measured)[:, :used],
            np.asarray(weights)[:, : self._sources],
        )

    def _runs(
        self,
        kernels: gp.Kernel,
        rows: Int[np.ndarray, "r b"],
        paid: Float[np.ndarray, "r b"],
        numbers: Sequence[int],
    ) -> _Run:
        # Unused slots hold NaN, which jax_debug_nans refuses in arrays that are placed on a device here.
        return _Run(kernels, self._start(numbers), rows, paid, self._variants(numbers))


class _Run(NamedTuple):
    """What the model of a run is made from: its hyper-parameters, the medians of their priors, and its measurements.

    ``variant`` is that of its evidence.
    """

    kernel: gp.Kernel
    centre: gp.Kernel
    rows: Int[Array | np.ndarray, " b"]
    paid: Float[Array | np.ndarray, " b"]
    variant: Int[Array | np.ndarray, ""]


class _Data(NamedTuple):
    """What a run's model is fitted to.

    ``features`` are those of all candidates, ``weights`` those of the sources, one zero without sources. ``rows`` are
    the measured candidates, 0 in slots where ``mask`` is False; ``scores`` stand for the ``values``. ``few`` are the
    slots that hyper-parameters are fitted to.
    """

    features: Float[Array, "n f"]
    weights: Float[Array, " s"]
    rows: Int[Array, " b"]
    mask: Bool[Array, " b"]
    values: Float[Array, " b"]
    scores: Float[Array, " b"]
    few: Int[Array, " m"]


class _Model(NamedTuple):
    """The model of a run: ``factor`` is an ``inverse_factor``, ``half`` that times the covariances with all candidates.

    ``mean`` is the posterior mean of all candidates.
    """

    kernel: gp.Kernel
    factor: Float[Array, "b b"]
    half: Float[Array, "b n"]
    mean: Float[Array, " n"]


@functools.partial(jax.jit, static_argnames="count")
def _spread(
    structure: Float[Array, "n f"], asked: Int[Array, " k"], ties: Float[Array, "r n"], *, count: int
) -> Int[Array, "r m"]:
    return jax.vmap(lambda own: spread_out(structure, asked, own, count=count))(ties)


@jax.jit
def _keys(key: Key, numbers: Int[Array, " r"]) -> Key:
    return jax.vmap(functools.partial(jax.random.fold_in, key))(numbers)


def _slots(done: int, most: int) -> int:
    """The number of slots for measurements: few different ones, since a program is compiled for each."""
    slots = SLOTS
    while slots < done:
        slots *= 2
    return max(min(slots, most), done)


def _networks_first(rows: Int[np.ndarray, " n"], networks: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Moves rows behind all others where one of the same network comes before them."""
    firsts = np.sort(np.unique(networks[rows], return_index=True)[1])
    return np.concatenate([rows[firsts], np.delete(rows, firsts)])


def _like(flags: Bool[np.ndarray, " r"], leaf: Float[np.ndarray, "r ..."]) -> Bool[np.ndarray, "r ..."]:
    return flags.reshape(-1, *(1,) * (leaf.ndim - 1))


def _centre(blocks: int, used: int | None = None) -> gp.Kernel:
    """Medians of the priors; the last block is the constant, whose variance is 1 like that of the linear parts.

    Where only the first ``used`` blocks vary, they are the medians of a model that has no more.
    """
    used = blocks - 1 if used is None else used
    linear = np.append(np.full(blocks - 1, np.log(1 / max(used, 1))), 0.0)
    numbers: Any = [np.asarray(x, np.float32) for x in (np.log(0.3), np.zeros(blocks), linear, np.log(0.1))]
    return gp.Kernel(*numbers)


def _data(structure: Float[Array, "n f"], evidence: Float[Array, "e n s"], run: _Run) -> _Data:
    """Returns what a run's model is fitted to; the scores are those that the sources expect, else normal scores."""
    mask, own = jnp.asarray(run.rows) >= 0, evidence[run.variant]
    values, rows, count = jnp.asarray(run.paid), jnp.maximum(run.rows, 0), mask.sum()
    z = normal_scores(values, mask)
    few = jnp.arange(min(len(rows), FITTED))
    few = jnp.where(count > len(few), few * count // len(few), few)
    constant = jnp.ones((len(structure), 1))
    if not own.shape[1]:
        features = jnp.concatenate([structure, constant], axis=1)
        return _Data(features, jnp.zeros(1), rows, mask, values, z, few)
    weights = source_weights(own, own[rows[few]], z[few], mask[few])
    sources = weighted(own, weights)
    features = jnp.concatenate([structure, sources, constant], axis=1)
    mean = sources[:, -1]
    z = jnp.where((mean != 0).any(), expected_scores(values, mask, mean[rows]), z)
    return _Data(features, weights, rows, mask, values, z, few)


def _fitted(data: _Data, start: gp.Kernel, centre: gp.Kernel, blocks: tuple[int, ...]) -> _Model:
    """Fits a run's model."""
    seen, few, mask = data.features[data.rows], data.few, data.mask
    pairs = gp.geometry(seen[few], seen[few], blocks)
    kernel = gp.fit_kernel(start, pairs, data.scores[few], mask[few], centre=centre)
    # Without LAPACK: on a small CPU, two of its batched calls in one program may wait for each other for ever.
    factor = gp.inverse_factor(kernel, gp.geometry(seen, seen, blocks), mask)
    cross = gp.covariance_between(kernel, seen, data.features, blocks) * mask[:, None]
    half = factor @ cross
    return _Model(kernel, factor, half, (factor @ data.scores) @ half)


def _among_all(data: _Data, start: gp.Kernel, centre: gp.Kernel, blocks: tuple[int, ...]) -> tuple[_Data, _Model]:
    """Fits the model that orders all candidates; what was measured has its ``expected_scores`` in it.

    They are expected by the model of a question, which is fitted once more.
    """
    model = _fitted(data, start, centre, blocks)
    mean = (model.mean - model.mean.mean()) / jnp.maximum(model.mean.std(), LEAST_SPREAD)
    data = data._replace(scores=expected_scores(data.values, data.mask, mean[data.rows]))
    return data, _fitted(data, model.kernel, centre, blocks)


def _together(runs: int, slots: int, n: int) -> int:
    return min(runs, max(1, _CELLS // (3 * slots * n)))


# Of a batch that grows: variances, which candidates are taken, whose networks are known, and how picks lower variances.
_Picks = tuple[Array, Array, Array, Array]


@functools.partial(jax.jit, static_argnames=("blocks", "batch"))
def _ask(
    structure: Float[Array, "n f"],
    networks: Int[Array, " n"],
    evidence: Float[Array, "e n s"],
    runs: _Run,
    ties: Float[Array, "r n"],
    optimism: float | Array,
    *,
    blocks: tuple[int, ...],
    batch: int,
) -> tuple[gp.Kernel, Int[Array, "r k"]]:
    """Fits the model of each run; returns kernels and the next rows to ask, of networks that are not measured yet."""
    n = len(structure)

    def one(run: tuple[_Run, Array]) -> tuple[gp.Kernel, Array]:
        (own, ties), data = run, _data(structure, evidence, run[0])
        kernel, _, half, mean = _fitted(data, own.kernel, own.centre, blocks)
        features = data.features
        variance = gp.own_variance(kernel, features, blocks) - (half**2).sum(axis=0)
        taken = jnp.zeros(n, bool).at[jnp.where(data.mask, data.rows, n)].set(True, mode="drop")
        known = jnp.zeros(n, bool).at[jnp.where(data.mask, networks[data.rows], n)].set(True, mode="drop")[networks]

        def pick(carry: _Picks, slot: Array) -> tuple[_Picks, Array]:
            variance, taken, known, more = carry
            score = mean + optimism * jnp.sqrt(jnp.maximum(variance, 0.0))
            barred = jnp.where(known.all(), taken, known)
            row = any_best(jnp.where(barred, -jnp.inf, score), ties, TIES)
            taken, known = taken.at[row].set(True), known | (networks == networks[row])
            cross = gp.covariance_between(kernel, features[row][None], features, blocks)[0]
            cross = cross - half[:, row] @ half - more[:, row] @ more
            lowered = cross / jnp.sqrt(jnp.maximum(cross[row], 0.0) + jnp.exp(kernel.noise))
            return (variance - lowered**2, taken, known, more.at[slot].set(lowered)), row

        start = (variance, taken, known, jnp.zeros((batch, n)))
        return kernel, jax.lax.scan(pick, start, jnp.arange(batch))[1]

    return jax.lax.map(one, (runs, ties), batch_size=_together(len(ties), runs.rows.shape[1], n))


@functools.partial(jax.jit, static_argnames=("blocks", "members"))
def _conclude(
    structure: Float[Array, "n f"],
    evidence: Float[Array, "e n s"],
    runs: _Run,
    keys: Key,
    *,
    blocks: tuple[int, ...],
    members: int,
) -> tuple[Float[Array, "r n"], Float[Array, "r m n"], Float[Array, "r b"], Float[Array, "r s"]]:
    """Returns for each run the means, log-odds of functions drawn from the posterior and of the measured, and weights.

    Two measured values differ by twice the variance of the noise, which the slope of the log-odds accounts for.
    ``SHARPNESS`` and ``SPREAD`` correct what the model says about its own certainty.
    """

    def one(run: tuple[_Run, Key]) -> tuple[Array, Array, Array, Array]:
        data = _data(structure, evidence, run[0])
        data, model = _among_all(data, run[0].kernel, run[0].centre, blocks)
        kernel, mean = model.kernel, model.mean
        of_functions, of_noise = jax.random.split(run[1])
        sets = (data.features, data.features[data.rows])
        near, seen = gp.prior_draws(of_functions, kernel, sets, blocks, draws=(members + 1) // 2, waves=WAVES)
        noise = jax.random.normal(of_noise, seen.shape) * jnp.exp(0.5 * kernel.noise)
        wrong = jnp.where(data.mask, data.scores - seen - noise, 0.0)
        drawn = near + wrong @ model.factor.T @ model.half
        # Each draw has its mirror image, so that the members' mean is the posterior mean.
        apart = SPREAD * (drawn - mean)
        drawn = jnp.concatenate([mean + apart, mean - apart])[:members]
        slope = SHARPNESS * PROBIT / jnp.sqrt(2 * jnp.maximum(jnp.exp(kernel.noise), LEAST_NOISE))
        return mean, slope * drawn, slope * data.scores, data.weights

    together = _together(len(runs.rows), runs.rows.shape[1] + 4 * members, len(structure))
    return jax.lax.map(one, (runs, keys), batch_size=together)
