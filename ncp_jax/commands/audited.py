"""Audits what a search found: chooses the metrics, refuses what cannot be audited, and calls ``ncp_jax.auditing``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.auditing import Audit, audit, check_rows
from ncp_jax.commands.predictor_choice import PredictorChoice
from ncp_jax.commands.search_config import SearchConfig
from ncp_jax.console import ProgressBar
from ncp_jax.spaces import cost_model_for, get_space

if TYPE_CHECKING:
    from ncp_jax.propagation import Found, Objective


def audited_metrics(choice: PredictorChoice, objective: Objective) -> tuple[str, ...]:
    """Returns the sought metrics that are predictions, as the measured table names them.

    Raises:
      MissingError: the table is not on this machine.
      UsageError: all that is sought are costs that are known, the table lacks the metrics, or it has too few rows.
    """
    if choice.table is None:
        raise checks.MissingError(
            expected="the measured table for --audit", got="none here", remedy=f"run: ncp-jax data fetch {choice.task}"
        )
    model = choice.costs or cost_model_for(get_space(choice.predictor.space), choice.predictor.metrics)
    exact = set() if model is None else {cost.lower() for cost in model.units}
    known = {metric.name.lower(): metric.name for metric in choice.table.metrics}
    sought = [name for name in objective.names if name.lower() not in exact]
    names = tuple(known[name.lower()] for name in sought if name.lower() in known)
    if not names:
        raise checks.UsageError(
            expected=f"a predicted metric of {choice.table.name} among those sought, for --audit",
            got=", ".join(objective.names),
            remedy="name one with --maximize or --minimize, or drop --audit: costs that are known are exact",
        )
    check_rows(choice.table.known(names))
    return names


def audit_found(
    config: SearchConfig,
    choice: PredictorChoice,
    metrics: tuple[str, ...],
    shown: list[Found],
    notify: Callable[[str], None],
) -> Audit:
    """Audits architectures that a search shows.

    Args:
      config: what was searched for.
      choice: the search's predictor and table.
      metrics: those of ``audited_metrics``.
      shown: the architectures; those that occur twice are audited once.
      notify: receives one-line notices.
    """
    assert choice.table is not None
    codes = np.concatenate([found.codes for found in shown])
    _, first = np.unique(codes, axis=0, return_index=True)
    notify(f"auditing {len(first)} architectures with models of other families")
    with ProgressBar("ncp-jax: audit, epochs") as bar:
        return audit(
            choice.table,
            codes[np.sort(first)],
            metrics=metrics,
            key=jax.random.fold_in(jax.random.key(config.seed), 2),
            on_test=config.on_test,
            notify=notify,
            progress=bar,
        )


def compare_with_search(found: Found, audited: Audit) -> list[str]:
    """Returns one line for each audited metric: whether the intervals hold what the search itself predicts."""
    lines, places = [], audited.places(found.codes)
    for metric in audited.metrics:
        own, part = found.values_of(metric.metric.name), metric.take(places)
        worse = metric.metric.sign * (own - np.where(metric.metric.sign > 0, part.low, part.high)) < 0
        better = metric.metric.sign * (own - np.where(metric.metric.sign > 0, part.high, part.low)) > 0
        outside = [f"{count} {side}" for side, count in (("better", better.sum()), ("worse", worse.sum())) if count]
        within = len(found) - int(better.sum()) - int(worse.sum())
        gap = float((metric.metric.sign * (own - part.predicted)).mean())
        lines.append(
            f"The search predicts {metric.metric.name} within the interval for {within} of the {len(found)} first"
            + (f" ({', '.join(outside)})" if outside else "")
            + f"; on average {abs(gap):.3g} {'better' if gap > 0 else 'worse'} than the audit"
        )
    return lines
