"""Ranks proposals by their measured values: among all codes, different networks, and cells with a path."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from few_labels.ensembles import EnsembleConfig, draw_labels, train_ensembles
from few_labels.inversions import Proposals, Variant, propose
from ncp_jax.analysis.ranks import kendall_tau, percentiles, table_ranks
from ncp_jax.benchmarks import Table
from ncp_jax.searchers.candidates import Candidates
from ncp_jax.spaces import get_space
from ncp_jax.spaces.cells import CellSpace
from ncp_jax.types import Bool, Float, Int

MEASURES = ("percentile", "percentile_networks", "percentile_connected", "regret")


@dataclasses.dataclass(frozen=True)
class Ranking:
    """The measured values of a complete table, by which proposals are judged.

    Attributes:
      values: [n], higher is better.
      ranks: [n] among all codes, 1 is best.
      networks: [n] number of the network of each code; codes that are the same graph have the same.
      network_ranks: [n] rank of that network among all networks, each by the mean of its codes' values.
      connected: [n] False for cells without a path from input to output, which compute nothing.
    """

    values: Float[np.ndarray, " n"]
    ranks: Int[np.ndarray, " n"]
    networks: Int[np.ndarray, " n"]
    network_ranks: Int[np.ndarray, " n"]
    connected: Bool[np.ndarray, " n"]

    @classmethod
    def of(cls, table: Table, candidates: Candidates) -> Ranking:
        """Returns the ranking of a table by its main metric."""
        values = np.asarray(table.main.sign * table.measured(table.main.name), np.float64)
        _, networks = np.unique(np.asarray(candidates.classes), return_inverse=True)
        means = np.bincount(networks, weights=values) / np.bincount(networks)
        space, connected = get_space(table.space), np.ones(len(table), bool)
        if isinstance(space, CellSpace):
            # A cell without a path is the same graph as the empty cell, code 0.
            connected = np.asarray(space.canonical(jnp.asarray(candidates.codes)).any(axis=1))
        return cls(values, table_ranks(values), networks, table_ranks(means)[networks], connected)

    def sizes(self) -> dict[str, int]:
        """Returns the numbers of codes, of networks, and of connected codes."""
        return {
            "codes": len(self.values),
            "networks": int(self.networks.max()) + 1,
            "connected": int(self.connected.sum()),
        }

    def judge(self, rows: Int[np.ndarray, " k"]) -> dict[str, float]:
        """Returns the measures of the best of some rows.

        "percentile" is 100 x rank / codes; "percentile_networks" counts each network once; "percentile_connected"
        leaves out cells without a path; "regret" is the distance from the best value, in the metric's unit.
        """
        best = rows[np.argmax(self.values[rows])]
        sizes = self.sizes()
        rank = min(1 + int((self.values[self.connected] > self.values[best]).sum()), sizes["connected"])
        return {
            "percentile": float(percentiles(self.ranks[best], sizes["codes"])),
            "percentile_networks": float(percentiles(self.network_ranks[best], sizes["networks"])),
            "percentile_connected": float(percentiles(np.array(rank), sizes["connected"])),
            "regret": float(self.values.max() - self.values[best]),
        }


def run_seeds(
    table: Table,
    candidates: Candidates,
    ranking: Ranking,
    labels: int,
    seeds: Sequence[int],
    *,
    ensemble: EnsembleConfig,
    codes: int,
    queries: int,
    variants: Mapping[str, Variant],
) -> list[dict[str, Any]]:
    """Labels rows at random, trains, inverts and judges, for all seeds in one program.

    Args:
      table: a complete table. Its values are read at the labelled rows, and to judge the proposals.
      candidates: its architectures.
      ranking: its values.
      labels: number of labelled rows.
      seeds: the seeds.
      ensemble: sizes of the ensembles.
      codes: starts of an inversion.
      queries: number of proposals that are measured.
      variants: inversions that are compared.

    Returns:
      For each seed the record: "tau" of the predictor over all codes, measures of the best label ("labels"), and of
      each method's best proposal ("methods"), with those of the best of labels and proposals as "paid".
    """
    rows = draw_labels(len(table), labels, seeds)
    trained = train_ensembles(candidates, rows, ranking.values[rows], seeds, ensemble)
    proposals = propose(table, candidates, trained, rows, seeds, codes=codes, queries=queries, variants=variants)
    tau = kendall_tau(trained.mean, ranking.values)
    return [
        {
            "tau": float(tau[run]),
            "labels": ranking.judge(rows[run]),
            "methods": {name: _record(ranking, rows[run], made) for name, made in proposals[run].items()},
        }
        for run in range(len(seeds))
    ]


def _record(ranking: Ranking, labelled: Int[np.ndarray, " k"], made: Proposals) -> dict[str, Any]:
    return {
        **ranking.judge(made.rows),
        "scored": made.scored / len(ranking.values),
        "paid": ranking.judge(np.concatenate([labelled, made.rows]))["percentile"],
        "rows": made.rows.tolist(),
    }
