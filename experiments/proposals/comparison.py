"""Compares proposed architectures with the table's best, as an independently trained evaluator predicts both."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import main_metrics
from ncp_jax.predictors import Predictor
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation import PropagationConfig, propagate
from ncp_jax.propagation.objective import default_objective
from ncp_jax.spaces import CostModel, cost_model_for, get_space


@dataclasses.dataclass(frozen=True)
class Baseline:
    """The table's best architecture at the GFLOPs of a proposal, and the proposal's margin over it.

    Margins are in the metric's unit and oriented so that a positive one favours the proposal.

    Attributes:
      proposal_predicted: the evaluator's prediction for the proposal.
      code: the baseline's code; it has the best MEASURED value, and the evaluator may have been trained on it.
      gflops: GFLOPs of the baseline.
      measured: measured value of the baseline.
      predicted: the evaluator's prediction for the baseline.
      margin: prediction for the proposal minus prediction for the baseline.
      margin_std: the same in standard deviations of the metric.
      margin_measured: prediction for the proposal minus the measured value of the baseline.
    """

    proposal_predicted: float
    code: list[int]
    gflops: float
    measured: float
    predicted: float
    margin: float
    margin_std: float
    margin_measured: float


# The keys of records.
_KEYS = {
    "proposal_predicted": "judge_predicts",
    "code": "rival",
    "gflops": "rival_gflops",
    "measured": "rival_measured",
    "predicted": "rival_judged",
    "margin": "margin",
    "margin_std": "margin_std",
    "margin_measured": "margin_measured",
}


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The best architecture proposed by one search, compared with the table's best at equal or lower GFLOPs.

    Attributes:
      limit: GFLOPs allowed in the search; None for the trade-off objective.
      gflops: exact GFLOPs of the proposal.
      code: the proposal's code.
      string: the code in the space's notation.
      proposer_predicts: the proposer's prediction of the main metric.
      baseline: what the proposal is compared with; None where the table has no architecture of so few GFLOPs.
    """

    limit: float | None
    gflops: float
    code: list[int]
    string: str
    proposer_predicts: float
    baseline: Baseline | None

    @property
    def wins(self) -> bool:
        """Whether the evaluator prefers the proposal."""
        return self.baseline is not None and self.baseline.margin > 0

    def to_json(self) -> dict[str, Any]:
        """Returns the comparison as records hold it; "beats" is None without a baseline."""
        proposal = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "baseline"}
        if self.baseline is None:
            return proposal | {"beats": None}
        compared = {key: getattr(self.baseline, name) for name, key in _KEYS.items()}
        return proposal | compared | {"beats": self.wins}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Comparison:
        """Reads what ``to_json`` returned."""
        baseline = None
        if record["beats"] is not None:
            baseline = Baseline(**{name: record[key] for name, key in _KEYS.items()})
        proposal = {f.name: record[f.name] for f in dataclasses.fields(cls) if f.name != "baseline"}
        return cls(**proposal, baseline=baseline)


def gflops_limits(table: Table, quantiles: Sequence[float]) -> tuple[float | None, ...]:
    """Returns None (no limit) followed by the given quantiles of the table's own GFLOPs."""
    flops = _cost_model(table).in_units(np.asarray(table.codes))["flops"]
    return (None, *(float(np.quantile(flops, q)) for q in quantiles))


def compare_with_table(
    proposer: Predictor,
    evaluator: Predictor,
    table: Table,
    task: str,
    *,
    limit: float | None,
    codes: int,
    config: PropagationConfig,
    seed: int,
) -> Comparison:
    """Inverts the proposer and compares its best architecture with the table's best at equal or lower GFLOPs.

    Args:
      proposer: ensemble that is inverted.
      evaluator: ensemble that predicts proposal and baseline.
      table: all measured tasks.
      task: task whose main metric counts.
      limit: GFLOPs allowed; None for the trade-off objective (main metric up, FLOPs down at half the weight).
      codes: number of starts.
      config: settings of the inversion.
      seed: random seed of the starts.
    """
    (metric,) = main_metrics(table, [task])
    model = _cost_model(table)
    of_task = for_task(proposer, task)
    goal = default_objective(of_task.metrics, limited=limit is not None)
    key = jax.random.fold_in(jax.random.key(seed), 13)
    found = propagate(of_task, goal, codes=codes, key=key, config=config, max_gflops=limit).top(1)
    gflops = float(found.costs["flops"][0])
    proposal = Comparison(
        limit=limit,
        gflops=gflops,
        code=found.codes[0].tolist(),
        string=found.strings()[0],
        proposer_predicts=float(found.mean[0, [m.name for m in found.metrics].index(of_task.main.name)]),
        baseline=None,
    )

    table_codes = np.asarray(table.codes)
    allowed = np.flatnonzero(model.in_units(table_codes)["flops"] <= gflops)
    if len(allowed) == 0:
        return proposal
    best = allowed[int(np.argmax(np.asarray(table.oriented(metric.name))[allowed]))]

    # Both architectures are predicted in one call of the evaluator.
    pair = jnp.asarray(np.stack([found.codes[0], table_codes[best]]))
    column = [m.name for m in evaluator.metrics].index(metric.name)
    mean, _ = evaluator(get_space(table.space).encode(pair))
    proposal_predicted, predicted = (float(v) for v in mean[:, column])
    measured = float(table.column(metric.name)[best])
    margin = metric.sign * (proposal_predicted - predicted)
    baseline = Baseline(
        proposal_predicted=proposal_predicted,
        code=table_codes[best].tolist(),
        gflops=float(model.in_units(table_codes[best])["flops"]),
        measured=measured,
        predicted=predicted,
        margin=margin,
        margin_std=margin / float(jnp.std(table.column(metric.name))),
        margin_measured=metric.sign * (proposal_predicted - measured),
    )
    return dataclasses.replace(proposal, baseline=baseline)


def _cost_model(table: Table) -> CostModel:
    model = cost_model_for(get_space(table.space), table.metrics)
    assert model is not None
    return model


def win_rates(comparisons: Mapping[str, Sequence[tuple[int, Comparison]]]) -> dict[str, Any]:
    """Returns how often proposals win and by how much, JSON-ready; comparisons without a baseline do not count.

    Args:
      comparisons: seeds and comparisons by task.

    Returns:
      "win_rate" (None where nothing was compared), "contests" (number of comparisons) and "tasks": "win_rate" and the
      mean of "margin", "margin_std" and "margin_measured", by task, with intervals in which the comparisons of one
      seed count together: they share their ensembles.
    """
    decided = {task: [(seed, c) for seed, c in some if c.baseline is not None] for task, some in comparisons.items()}
    wins = [c.wins for some in decided.values() for _, c in some]
    margins = ("margin", "margin_std", "margin_measured")
    return {
        "win_rate": float(np.mean(wins)) if wins else None,
        "contests": len(wins),
        "tasks": {
            task: {"win_rate": float(np.mean([c.wins for _, c in some]))}
            | {
                name: mean_interval([getattr(c.baseline, name) for _, c in some], seeds=[seed for seed, _ in some])
                for name in margins
            }
            for task, some in decided.items()
            if some
        },
    }
