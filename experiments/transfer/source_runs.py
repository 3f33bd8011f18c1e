"""What searches and labels of source tasks leave behind: architectures, populations, policies, networks."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks.view import QueryView
from ncp_jax.jax_settings import package_settings
from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers import ArraySearcher, Candidates, NCPSearch, Runs, search
from ncp_jax.searchers.arch_graph import measured_scores, sampled_values
from ncp_jax.searchers.ensemble import Network, TrainingSet
from ncp_jax.searchers.inputs import input_units, network_inputs
from ncp_jax.types import Array, Float, Int
from transfer.pairs import Tasks
from transfer.searchers import fit_source

APART = 1_000_000  # seeds of searches on sources begin here: their draws are not those of searches on targets
FITTED = 41  # sets the keys of the sources' networks apart


@package_settings
def run_batch(
    searcher: ArraySearcher,
    seeds: Sequence[int],
    candidates: Candidates,
    view: QueryView,
    *,
    own: Mapping[str, Any] | None = None,
) -> Runs:
    """Runs a searcher with each seed, in one program, and brings the runs to the host.

    Args:
      searcher: the searcher; what it says is the same for all runs.
      seeds: seed of each run.
      candidates: the architectures.
      view: answers the queries.
      own: name of a field of the searcher → its value for each run, leaves [r, ...].

    Returns:
      The runs with the searcher's final states: a search of a source and one of a target share a program.
    """
    (searcher,) = type(searcher).together([searcher])
    several: Any = jax.tree.map(lambda leaf: np.repeat(np.asarray(leaf)[None], len(seeds), 0), searcher)
    several = dataclasses.replace(several, **(own or {}))
    found = search(several, jnp.asarray(np.asarray(seeds, np.int32)), candidates, view, keep_state=True)
    return jax.device_get(found)


@dataclasses.dataclass(frozen=True, eq=False)
class SourceRuns:
    """Searches and labels of the sources of a space, each made when it is first asked for.

    Attributes:
      tasks: the tasks.
      budget: number of architectures measured on a source; those of all sources together are measured on each.
      seeds: seeds of the runs.
      on_test: whether the metrics may be of the test split.
    """

    tasks: Tasks
    budget: int
    seeds: tuple[int, ...]
    on_test: bool = False

    @functools.cached_property
    def candidates(self) -> Candidates:
        """The architectures, which all tasks share."""
        return Candidates.of(next(iter(self.tasks.tables.values())))

    def search(self, searcher: ArraySearcher, target: str, source: str) -> Runs:
        """Searches a source; for all sources together, what is searched is the mean of the sources' normal scores.

        Returns:
          The runs and their states, leaves [r, ...].
        """
        key = (type(searcher), self.tasks.members(target, source))
        if key not in self._searched:
            self._searched[key] = self._search(searcher, key[1])
        return self._searched[key]

    def _search(self, searcher: ArraySearcher, members: tuple[str, ...]) -> Runs:
        table = self.tasks.tables[members[0]]
        view = QueryView.of(table, table.main.name, budget=self.budget, on_test=self.on_test)
        values = self.tasks.values(members)
        quality = values[0] if len(members) == 1 else measured_scores(values).mean(axis=1)
        view = dataclasses.replace(view, values=jnp.asarray(quality))
        return run_batch(searcher, [APART + seed for seed in self.seeds], self.candidates, view)

    def best_rows(self, searcher: ArraySearcher, target: str, source: str) -> Int[np.ndarray, "r b"]:
        """Returns the rows that a search of a source paid for, the best there first; the best fills unused slots."""
        found = self.search(searcher, target, source)
        order = np.argsort(-found.values, axis=1, kind="stable")
        rows = np.take_along_axis(np.asarray(found.rows), order, axis=1)
        return np.where(rows >= 0, rows, rows[:, :1])

    def networks(self, searcher: NCPSearch, target: str, source: str) -> tuple[Network, Int[np.ndarray, "r best"]]:
        """Trains the searcher's networks on a random sample of each source's labels.

        Returns:
          The networks, leaves [r, sources, members, ...], and the rows that rank best in the sample, on the mean of the
          sources' normal scores.
        """
        members = self.tasks.members(target, source)
        drawn = {name: self._fitted_to(searcher, name) for name in members}
        networks = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *(found[0] for found in drawn.values()))
        rows = next(iter(drawn.values()))[1]  # all sources are measured on the same sample
        scores = np.mean([found[2] for found in drawn.values()], axis=0)
        best = np.argsort(-scores, axis=1, kind="stable")[:, : searcher.best]
        return networks, np.take_along_axis(rows, best, axis=1).astype(np.int32)

    def _fitted_to(self, searcher: NCPSearch, name: str) -> tuple[Network, np.ndarray, np.ndarray]:
        """The networks of one source, its sample, and the sample's normal scores."""
        if name not in self._fitted:
            rows, values = sampled_values(self.tasks.values([name]), self.budget, runs=self.seeds, seed=0)
            seeds = jnp.asarray(np.asarray(self.seeds, np.uint32))
            found = _fit(searcher, self.candidates, jnp.asarray(rows), jnp.asarray(values[..., 0]), seeds)
            networks, scores = jax.device_get(found)
            self._fitted[name] = networks, rows, scores
        return self._fitted[name]

    @functools.cached_property
    def _searched(self) -> dict[tuple[type, tuple[str, ...]], Runs]:
        return {}

    @functools.cached_property
    def _fitted(self) -> dict[str, tuple[Network, np.ndarray, np.ndarray]]:
        return {}


@package_settings
@jax.jit
def _fit(
    searcher: NCPSearch,
    candidates: Candidates,
    rows: Int[Array, "r b"],
    values: Float[Array, "r b"],
    seeds: Int[Array, " r"],
) -> tuple[Network, Float[Array, "r b"]]:
    """Trains networks on the labels of one source; returns them and the normal scores of the labels."""
    inputs = network_inputs(candidates.space, candidates.relaxed, input_units(candidates))

    def one(run: tuple[Array, Array, Array]) -> tuple[Network, Array]:
        rows, values, seed = run
        used = jnp.ones(len(rows), bool)
        scores = normal_scores(values, used)
        key = jax.random.fold_in(jax.random.key(seed), FITTED)
        return fit_source(searcher, TrainingSet(inputs[rows], scores, used), key), scores

    return jax.lax.map(one, (rows, values, seeds))
