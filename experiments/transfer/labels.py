"""Inversion with some random labels of a target: from scratch, from another task's architectures, or its networks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.analysis.ranks import table_ranks
from ncp_jax.benchmarks.view import History
from ncp_jax.jax_settings import package_settings
from ncp_jax.searchers import ArraySearcher, Candidates, NCPSearch
from ncp_jax.types import Array, Int, Key
from transfer.inversion import GivenStarts, SourcesAndDifference
from transfer.pairs import NONE
from transfer.source_networks import SourceNetworks
from transfer.source_runs import SourceRuns

SLOTS = (50, 200, 500)  # labels are filled up to one of these, for which a program is compiled
PROPOSALS = 10  # architectures that are proposed, and measured
SCHEMES = ("scratch", "starts", "predictor")
TOGETHER = 20  # runs that are computed at once
APART = 7_001  # sets the labels of the targets apart from those of the sources


@dataclasses.dataclass(frozen=True, eq=False)
class Inversions:
    """Inversions for the targets of one space.

    Attributes:
      sources: searches of the sources; its seeds are those of the runs.
      networks: networks of the sources.
      method: settings of NCP; ``PROPOSALS`` are asked for at once.
    """

    sources: SourceRuns
    networks: SourceNetworks
    method: NCPSearch

    def run(self, scheme: str, target: str, count: int) -> dict[str, list[int]]:
        """Inverts with ``count`` labels: source → the rank in the target's table of each run's best proposal."""
        if scheme == "scratch":
            groups: tuple[tuple[str, ...], ...] = ((NONE,),)
        elif scheme == "predictor":
            groups = self.sources.tasks.groups(target)
        else:
            groups = (self.sources.tasks.cases(target),)
        return {source: ranks for cases in groups for source, ranks in self._of(scheme, target, cases, count).items()}

    def _of(self, scheme: str, target: str, cases: tuple[str, ...], count: int) -> dict[str, list[int]]:
        """Inverts with some sources, whose fields have one shape."""
        own = [self._own(scheme, target, source) for source in cases]
        together = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *own)
        ranks = self._ranks(scheme, target, together, count, len(cases)).reshape(len(cases), -1)
        return {source: part.tolist() for source, part in zip(cases, ranks, strict=True)}

    def _own(self, scheme: str, target: str, source: str) -> dict[str, Any]:
        """The fields of the runs with one source."""
        if scheme == "starts":
            rows = self.sources.best_rows(self.method, target, source)
            return {"given": rows[:, : self.method.best].astype(np.int32)}
        if scheme == "predictor":
            return {"source": self.networks.of(self.method, target, source, self.sources.seeds)}
        return {}

    def _ranks(self, scheme: str, target: str, own: Mapping[str, Any], count: int, cases: int) -> Int[np.ndarray, " r"]:
        """The rank of the best of each run's proposals after ``count`` labels."""
        kind = SourcesAndDifference if scheme == "predictor" else GivenStarts
        settings = {f.name: getattr(self.method, f.name) for f in dataclasses.fields(NCPSearch)}
        settings |= {"first": 0, "least": PROPOSALS, "most": PROPOSALS}
        seeds, values = self.sources.seeds, self.sources.tasks.values([target])[0]
        drawn = [np.random.default_rng([APART, seed]).permutation(len(values))[:count] for seed in seeds]
        slots = min(size for size in (*SLOTS, max(count, SLOTS[-1])) if size >= count)
        rows = np.full((len(seeds), slots), -1, np.int32)
        rows[:, :count] = drawn
        paid = np.where(rows >= 0, values[rows], -np.inf).astype(np.float32)
        if scheme == "scratch":  # climbs start at the best labels, by the program that serves other starts too
            order = np.argsort(-paid, axis=1, kind="stable")[:, : self.method.best]
            own = {"given": np.take_along_axis(rows, order, axis=1)}
        keys = [jax.random.fold_in(jax.random.key(seed), APART) for seed in seeds]
        searcher: Any = jax.tree.map(lambda leaf: np.asarray(leaf), kind(**settings))
        found = propose(
            searcher,
            dict(own),
            self.sources.candidates,
            np.tile(rows, (cases, 1)),
            np.tile(paid, (cases, 1)),
            np.int32(count),
            jnp.stack(keys * cases),
        )
        return np.asarray(table_ranks(values)[np.asarray(found)]).min(axis=1)


@package_settings
@jax.jit
def propose(
    searcher: ArraySearcher,
    own: dict[str, Any],
    candidates: Candidates,
    rows: Int[Array, "r b"],
    values: Array,
    count: Int[Array, ""],
    keys: Key,
) -> Int[Array, "r k"]:
    """Asks a searcher once, in runs that have paid for ``count`` architectures: returns its next proposals.

    Args:
      searcher: the searcher; what it says is the same for all runs.
      own: its fields of each run, leaves [r, ...].
      candidates: the architectures.
      rows: architectures paid for, -1 in unused slots.
      values: float32 [r, b], their values, higher is better, -inf in unused slots.
      count: number of used slots.
      keys: key of each run.
    """

    def one(run: tuple[dict[str, Any], Array, Array, Key]) -> Array:
        own, rows, values, key = run
        zero = jnp.zeros((), jnp.float32)
        history = History(rows, values, count, count, zero, jnp.zeros((), bool))
        asked = jnp.zeros(len(candidates), bool).at[jnp.where(rows >= 0, rows, len(candidates))].set(True, mode="drop")
        return dataclasses.replace(searcher, **own).ask(candidates, asked, history, key)[0]

    return jax.lax.map(one, (own, rows, values, keys), batch_size=TOGETHER)
