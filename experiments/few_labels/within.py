"""Searches within a budget: inversion, the same predictor scoring everything, evolution and random search.

"inversion" learns from labels within the budget, "exhaustive" is the same predictor scoring every architecture within
it, and "shared-labels" is the inversion of a predictor that learned from all over the space and serves every budget.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from few_labels.budgets import LIMITED, Budget
from few_labels.ensembles import QUALITY, Ensembles
from few_labels.inversions import RATE, STEPS
from ncp_jax.analysis.ranks import percentiles
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.view import QueryView
from ncp_jax.propagation import Objective, PropagationConfig, propagate
from ncp_jax.searchers import ArraySearcher, Candidates, make_searcher, search
from ncp_jax.spaces import CostModel
from ncp_jax.types import Bool, Float, Int

BASELINES = ("evolution", "random")
METHODS = ("inversion", "exhaustive", "shared-labels", *BASELINES)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What one search found within its budget.

    Attributes:
      loss: best value within the budget minus the best that was paid for, in the metric's unit.
      percentile: rank of the latter among all architectures within the budget, percent of their number.
      proposals: number of architectures that the method proposed.
      over: number of them that exceed a limit.
      fill: largest cost of a proposal as a share of its limit; None without proposals, or for limits from below alone.
    """

    loss: float
    percentile: float
    proposals: int
    over: int
    fill: float | None

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as records hold them."""
        return dataclasses.asdict(self)


def judge(
    values: Float[np.ndarray, " n"],
    costs: Mapping[str, Float[np.ndarray, " n"]],
    budget: Budget,
    proposed: Int[np.ndarray, " k"],
    labelled: Sequence[int] | Int[np.ndarray, " j"] = (),
) -> Outcome:
    """Returns the outcome of a search that measured ``proposed`` and, before, ``labelled`` rows.

    Where none of them is within the budget, the outcome is that of its worst architecture.

    Args:
      values: [n] measured values, higher is better.
      costs: costs of the architectures.
      budget: the limits; labelled rows beyond them do not count.
      proposed: rows that the method proposed.
      labelled: rows that its predictor learned from.
    """
    inside = values[budget.within]
    paid = np.concatenate([proposed, np.asarray(labelled, int)])
    best = values[paid[budget.within[paid]]].max(initial=inside.min())
    names = {LIMITED[cost]: cost for cost in costs}
    uppers = [limit for limit in budget.limits if limit.upper and len(proposed)]
    fills = [float(costs[names[limit.metric]][proposed].max() / limit.value) for limit in uppers]
    return Outcome(
        loss=float(inside.max() - best),
        percentile=float(percentiles(np.array(1 + (inside > best).sum()), len(inside))),
        proposals=len(proposed),
        over=int((~budget.within[proposed]).sum()),
        fill=max(fills, default=None),
    )


def invert_within(
    table: Table,
    candidates: Candidates,
    ensembles: Ensembles,
    run: int,
    budget: Budget,
    model: CostModel,
    *,
    known: Int[np.ndarray, " k"],
    seed: int,
    codes: int,
    queries: int,
) -> tuple[Int[np.ndarray, " j"], Int[np.ndarray, " j"]]:
    """Returns the rows that inversion under the limits proposes, and those of the best predictions within them.

    Both are of different networks, none of which is among the rows ``known``.
    """
    networks = np.asarray(candidates.classes)
    found = propagate(
        ensembles.predictor(run),
        Objective(maximize={QUALITY.name: 1.0}),
        codes=codes,
        key=jax.random.key(seed),
        config=PropagationConfig(steps=STEPS, learning_rate=RATE, costs=model),
        limits=budget.limits,
    )
    ranked = np.asarray(table.rows(jnp.asarray(found.codes)))
    everything = np.flatnonzero(budget.within)
    everything = everything[np.argsort(-ensembles.mean[run, everything], kind="stable")]

    def fresh(rows: Int[np.ndarray, " n"]) -> Int[np.ndarray, " j"]:
        _, first = np.unique(networks[rows], return_index=True)
        rows = rows[np.sort(first)]
        return rows[~np.isin(networks[rows], networks[known])][:queries]

    return fresh(ranked), fresh(everything)


def search_within(
    table: Table, name: str, within: Bool[np.ndarray, " n"], seeds: Sequence[int], budget: int, *, on_test: bool
) -> list[Int[np.ndarray, " b"]]:
    """Runs a searcher on the architectures within a budget alone; returns the rows that each run paid for."""
    rows = np.flatnonzero(within)
    part = table.select(rows)
    made: Any = make_searcher(name)
    group = type(made).together([made] * len(seeds))
    searchers: ArraySearcher = jax.tree.map(lambda *leaves: np.asarray(leaves), *group)
    view = QueryView.of(part, budget=budget, on_test=on_test)
    runs = search(searchers, jnp.asarray(seeds, jnp.int32), Candidates.of(part), view)
    return [rows[row[: int(count)]] for row, count in zip(np.asarray(runs.rows), np.asarray(runs.count), strict=True)]
