"""Arch-Graph with a Gaussian process in the place of the network: what is measured next, and relations of all pairs."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.searchers import gaussian_process as gp
from ncp_jax.searchers.arch_graph.process_model import Run, ask, conclude, keys_of, medians
from ncp_jax.searchers.arch_graph.search import ArchGraphRuns
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.searchers.initial_design import networks_first, spread_out_runs
from ncp_jax.searchers.kernel_features import kernel_features
from ncp_jax.searchers.ties import best_first_on_host, tie_breakers
from ncp_jax.types import Array, Bool, Float, Int

if TYPE_CHECKING:
    from ncp_jax.benchmarks import QueryGuard

Progress = Callable[[int, int], None]
SLOTS = 64  # fewest slots for measurements; programs are compiled for this number times a power of two, or the budget
NEXT = 4  # candidates that ``next`` chooses, where the size of a batch is not given
SHARE = 25  # measurements for each one of a batch, where its size is not given


@dataclasses.dataclass(frozen=True)
class ProcessConfig:
    """Settings of a search with a Gaussian process.

    Attributes:
      first: number of queries before the first model, without sources: one near the centre, the others far from those
        before (``spread_out``). With sources, what is best on them on average comes first, and one query is enough.
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

    Settings were chosen on ``digits`` and restrictions of NAS-Bench-201 to four operations, the scores, the final order
    and the first queries on NAS-Bench-MR, too.

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
        silent = self._silent(numbers)
        found = np.empty((len(numbers), count), np.int32)
        if silent.any():
            found[silent] = spread_out_runs(self._features[0], asked, ties[silent], count=count)
        if self.evidence is not None and not silent.all():
            best = best_first_on_host(self.evidence.mean(axis=-1)[self._variants(numbers)], ties)[~silent]
            found[~silent] = networks_first(best, np.asarray(self.candidates.classes))[:, :count]
        return found

    def _variants(self, numbers: Sequence[int]) -> Int[np.ndarray, " r"]:
        several = self.evidence is not None and len(self.evidence) > 1
        return np.arange(len(numbers), dtype=np.int32) if several else np.zeros(len(numbers), np.int32)

    def _batch(self, done: int) -> int:
        return self.config.batch or 2 ** int(np.log2(max(1, done // SHARE)))

    def _start(self, numbers: Sequence[int]) -> gp.Kernel:
        """Medians of the hyper-parameters' priors for each run."""
        blocks = len(self._features[2])
        told, untold = medians(blocks), medians(blocks, blocks - 3 if self._sources else None)
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
        return ask(structure, networks, evidence, runs, ties, self.config.optimism, blocks=blocks, batch=batch)

    def _concluded(
        self,
        kernels: gp.Kernel,
        rows: Int[np.ndarray, "r b"],
        paid: Float[np.ndarray, "r b"],
        ties: Float[np.ndarray, "r n"],
        numbers: Sequence[int],
    ) -> ArchGraphRuns:
        structure, evidence, blocks = self._features
        keys = keys_of(jax.random.key(self.seed), np.asarray(numbers, np.uint32))
        runs = self._runs(kernels, rows, paid, numbers)
        mean, utilities, measured, weights = conclude(
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
    ) -> Run:
        # Unused slots hold NaN, which jax_debug_nans refuses in arrays that are placed on a device here.
        return Run(kernels, self._start(numbers), rows, paid, self._variants(numbers))


def _slots(done: int, most: int) -> int:
    """The number of slots for measurements: few different ones, since a program is compiled for each."""
    slots = SLOTS
    while slots < done:
        slots *= 2
    return max(min(slots, most), done)


def _like(flags: Bool[np.ndarray, " r"], leaf: Float[np.ndarray, "r ..."]) -> Bool[np.ndarray, "r ..."]:
    return flags.reshape(-1, *(1,) * (leaf.ndim - 1))
