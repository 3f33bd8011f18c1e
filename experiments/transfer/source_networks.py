"""Networks of source tasks, from random labels or from complete tables."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.jax_settings import package_settings
from ncp_jax.predictors.targets import exponential_scores
from ncp_jax.searchers import Candidates, NCPSearch
from ncp_jax.searchers.arch_graph import sampled_values
from ncp_jax.searchers.ensemble import Network, TrainingSet, draw_networks, fit
from ncp_jax.searchers.inputs import input_units, network_inputs
from ncp_jax.types import Array, Float, Int
from transfer.pairs import Tasks

COMPLETE = 0  # number of labels that stands for the complete table
MOST = 4096  # architectures of a larger table that networks learn: training takes the third power of their number
FITTED = 41  # sets the keys of the sources' networks apart


@dataclasses.dataclass(frozen=True, eq=False)
class SourceNetworks:
    """Networks of the sources of a space, each trained when it is first asked for.

    Attributes:
      tasks: the tasks.
      labels: number of random labels that a source's networks learn, other ones in each run. ``COMPLETE`` stands for
        its table, or ``MOST`` architectures of it; the networks are then the same in all runs.
    """

    tasks: Tasks
    labels: int = COMPLETE

    def of(self, method: NCPSearch, target: str, source: str, seeds: Sequence[int]) -> Network:
        """Returns the networks of a source, or of all sources of a target: leaves [r, sources, members, ...]."""
        found = [self._fitted(method, name, tuple(seeds)) for name in self.tasks.members(target, source)]
        networks = jax.tree.map(lambda *leaves: np.stack(leaves, axis=1), *found)
        return jax.tree.map(lambda leaf: np.broadcast_to(leaf, (len(seeds), *leaf.shape[1:])), networks)

    def _fitted(self, method: NCPSearch, name: str, seeds: tuple[int, ...]) -> Network:
        """The networks of one source, leaves [r, members, ...], or [1, members, ...] if all runs have the same."""
        runs = (0,) if self.labels == COMPLETE else seeds
        if (name, runs) not in self._known:
            count = min(self.labels or MOST, self.tasks.size)
            rows, values = sampled_values(self.tasks.values([name]), count, runs=runs, seed=0)
            candidates = Candidates.of(self.tasks.tables[name])
            told = jnp.asarray(values[..., 0])
            found = _fit(method, candidates, jnp.asarray(rows), told, jnp.asarray(np.asarray(runs, np.uint32)))
            self._known[name, runs] = jax.device_get(found)
        return self._known[name, runs]

    @functools.cached_property
    def _known(self) -> dict[tuple[str, tuple[int, ...]], Network]:
        return {}


@package_settings
@jax.jit
def _fit(
    method: NCPSearch,
    candidates: Candidates,
    rows: Int[Array, "r b"],
    values: Float[Array, "r b"],
    seeds: Int[Array, " r"],
) -> Network:
    """Trains the networks of the method on exponential scores of the labels, one after the other to save memory."""
    inputs = network_inputs(candidates.space, candidates.relaxed, input_units(candidates))

    def one(run: tuple[Array, Array, Array]) -> Network:
        rows, values, seed = run
        used = jnp.ones(len(rows), bool)
        data = TrainingSet(inputs[rows], exponential_scores(values, used), used)
        draws, noise = jax.random.split(jax.random.fold_in(jax.random.key(seed), FITTED))
        drawn = draw_networks(draws, method.members, inputs.shape[1], method.width, method.depth)
        blurred = data.y + method.noise * jax.random.normal(noise, (method.members, len(rows)))

        def member(own: tuple[Network, Array]) -> Network:
            return fit(own[0], data._replace(y=own[1]), method.noise, method.sweeps)

        return jax.lax.map(member, (drawn, blurred))

    return jax.lax.map(one, (rows, values, seeds))
