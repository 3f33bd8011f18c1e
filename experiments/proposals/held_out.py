"""Do proposed architectures hold up before a judge that shares neither data nor seeds with the proposer?"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import main_metrics
from ncp_jax.predictors import Predictor
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation import Found, PropagationConfig, propagate
from ncp_jax.propagation.objective import default_objective
from ncp_jax.spaces import cost_model_for, get_space
from ncp_jax.training import Recipe, fit


@dataclasses.dataclass(frozen=True)
class Opponents:
    """Two ensembles trained on disjoint halves of a table, with different seeds.

    Attributes:
      proposer: inverted to propose architectures.
      judge: compares them with the table's best.
    """

    proposer: Predictor
    judge: Predictor


def train_opponents(table: Table, recipe: Recipe, *, members: int, seed: int) -> Opponents:
    """Splits the table's rows in two at random and trains an ensemble on each half."""
    half = np.zeros(len(table), bool)
    half[np.random.default_rng(seed).permutation(len(table))[: len(table) // 2]] = True
    keys = [jax.random.fold_in(jax.random.key(seed), side) for side in (11, 12)]
    proposer, judge = (
        fit(table, recipe=recipe, members=members, key=key, rows=rows)
        for key, rows in zip(keys, (half, ~half), strict=True)
    )
    return Opponents(proposer, judge)


def gflops_limits(table: Table, quantiles: tuple[float, ...]) -> tuple[float | None, ...]:
    """No limit, then the given quantiles of the table's own GFLOPs."""
    model = cost_model_for(get_space(table.space), table.metrics)
    assert model is not None
    flops = model.in_units(np.asarray(table.codes))["flops"]
    return (None, *(float(np.quantile(flops, q)) for q in quantiles))


def contest(
    opponents: Opponents, table: Table, task: str, *, limit: float | None, codes: int, steps: int, seed: int
) -> dict[str, Any]:
    """The proposer's best architecture against the table's best at equal or lower GFLOPs, before the judge.

    Args:
      opponents: the two ensembles.
      table: all measured tasks; the rival is the architecture with the best MEASURED value, which the judge may have
        trained on.
      task: whose main metric counts.
      limit: GFLOPs allowed; None for the trade-off objective (main metric up, FLOPs down at half the weight).
      codes: starts.
      steps: iterations.
      seed: of the starts.

    Returns:
      JSON-ready: the two architectures, their GFLOPs, what the judge predicts of each, "margin" (judge's prediction
      of the proposal minus that of the rival, oriented so that > 0 favours the proposal), "margin_std" (the same in
      standard deviations of the metric), "margin_measured" (against the rival's measured value), "beats".
    """
    (metric,) = main_metrics(table, [task])
    model = cost_model_for(get_space(table.space), table.metrics)
    assert model is not None
    short = for_task(opponents.proposer, task)
    main = short.main
    goal = default_objective(short.metrics, limited=limit is not None)
    key = jax.random.fold_in(jax.random.key(seed), 13)
    config = PropagationConfig(steps=steps)
    found: Found = propagate(short, goal, codes=codes, key=key, config=config, max_gflops=limit).top(1)
    gflops = float(found.costs["flops"][0])
    table_codes = np.asarray(table.codes)
    allowed = np.flatnonzero(model.in_units(table_codes)["flops"] <= gflops)
    outcome: dict[str, Any] = {
        "limit": limit,
        "gflops": gflops,
        "code": found.codes[0].tolist(),
        "string": found.strings()[0],
        "proposer_predicts": float(found.mean[0, [m.name for m in found.metrics].index(main.name)]),
    }
    if len(allowed) == 0:
        return outcome | {"beats": None}
    rival = allowed[int(np.argmax(np.asarray(table.oriented(metric.name))[allowed]))]
    pair = jnp.asarray(np.stack([found.codes[0], table_codes[rival]]))
    column = [m.name for m in opponents.judge.metrics].index(metric.name)
    mean, _ = opponents.judge(get_space(table.space).encode(pair))
    judged, rival_judged = (float(v) for v in mean[:, column])
    measured = float(table.column(metric.name)[rival])
    margin = metric.sign * (judged - rival_judged)
    return outcome | {
        "judge_predicts": judged,
        "rival": table_codes[rival].tolist(),
        "rival_gflops": float(model.in_units(table_codes[rival])["flops"]),
        "rival_measured": measured,
        "rival_judged": rival_judged,
        "margin": margin,
        "margin_std": margin / float(jnp.std(table.column(metric.name))),
        "margin_measured": metric.sign * (judged - measured),
        "beats": bool(margin > 0),
    }
