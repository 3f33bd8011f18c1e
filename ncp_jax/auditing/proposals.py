"""Audits proposed architectures with families of models that a search's predictor has no part in (``ncp.audit``)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.conformal import CrossConformal
from ncp_jax.auditing.config import AuditConfig, check_rows
from ncp_jax.auditing.families import (
    NETWORKS,
    PROCESS,
    TREES,
    FoldData,
    FoldPredictions,
    has_trees,
    network_predictions,
    process_predictions,
    tree_predictions,
)
from ncp_jax.auditing.nearest import nearest_rows
from ncp_jax.auditing.result import UNLIKE, Audit, Calibration, MetricAudit, share_below
from ncp_jax.benchmarks import Table
from ncp_jax.console import say
from ncp_jax.jax_settings import package_settings
from ncp_jax.metrics import MetricSpec, check_split
from ncp_jax.propagation import Found
from ncp_jax.spaces import get_space
from ncp_jax.types import Float, Int, Key

TOP = 0.1  # share of the rows, those predicted best, whose coverage is given beside that of all rows


@package_settings
def audit(
    table: Table,
    codes: Found | Int[np.ndarray, "k d"],
    *,
    metrics: Sequence[str] = (),
    config: AuditConfig | None = None,
    key: Key | int = 0,
    on_test: bool = False,
    notify: Callable[[str], None] = say,
    progress: Callable[[int, int], None] | None = None,
) -> Audit:
    """Predicts metrics of architectures by independent families of models, with calibrated intervals.

    Gradient-boosted trees (where scikit-learn is installed), a Gaussian process and networks are fitted to the measured
    table once without each of five folds. Their mean is the prediction. Its interval comes from the errors on the rows
    that each model was fitted without (see ``analysis.conformal``): the scale of an error is
    ``sqrt(s² + d²)``, where s is the Gaussian process's standard deviation of a measurement, which grows with the
    distance from the measured architectures, and d the standard deviation over the families. A code of the table is
    predicted by the models without its fold alone, so its own value has no part in its prediction.

    What is promised: on further architectures drawn like those of the table, intervals contain about ``level`` of the
    measured values, also among those that are predicted best. Nothing of the kind is promised for architectures unlike
    the table (``Audit.unlike``). docs/results/audit.md has what was measured.

    Examples:
      >>> import numpy as np, ncp_jax as ncp
      >>> table = ncp.load_table("digits/class").select(np.arange(80))
      >>> config = ncp.AuditConfig(folds=2, steps=2)  # the default trains longer
      >>> interval = ncp.audit(table, table.codes[:2], config=config, notify=lambda line: None).metrics[0]
      >>> bool((interval.low < interval.high).all())
      True

    Args:
      table: the measured architectures. All its metrics are learned together by the networks.
      codes: ``[k, d]`` the architectures, or what a search found.
      metrics: names of the metrics to predict; by default the main metric of each task.
      config: level, folds and steps.
      key: key of folds and models, or an integer as its seed.
      on_test: whether metrics of the test split may be learned.
      notify: receives one-line notices: a family that is left out.
      progress: callback of the networks' training, called with (epochs done, all epochs).

    Raises:
      UsageError: codes of another space or none, an unknown metric, one of the test split without ``on_test``, or too
        few rows to split.
      DataError: values that are not finite, or no quality metric that varies.
    """
    config, root, began = config or AuditConfig(), checks.key(key), time.perf_counter()
    if isinstance(codes, Found) and codes.space != table.space:
        raise checks.UsageError(
            expected=f"architectures of {table.space}, the space of {table.name}",
            got=f"those of {codes.space}",
            remedy="audit them with a table of their own space",
        )
    asked = get_space(table.space).check(np.asarray(codes.codes if isinstance(codes, Found) else codes))
    if len(asked) == 0:
        raise checks.UsageError(expected="at least one architecture to audit", got="none", remedy="give some")
    names = _names(table, metrics, on_test=on_test)
    table = _learnable(table, names)
    check_rows(table, config)

    data = FoldData(table, names, _folds(table, config.folds, root), asked)
    seed = int(jax.random.randint(jax.random.fold_in(root, 1), (), 0, 2**31 - 1))
    families = {PROCESS: process_predictions(data, seed)}
    if has_trees():
        families = {TREES: tree_predictions(data, seed), **families}
    else:
        notify("audit without gradient-boosted trees, which need scikit-learn: pip install 'ncp-jax[audit]'")
    network_key = jax.random.fold_in(root, 2)
    families[NETWORKS] = network_predictions(
        data, steps=config.steps, key=network_key, on_test=on_test, progress=progress
    )
    rows, distances, held_out = nearest_rows(get_space(table.space), np.asarray(table.codes), data.fold, asked)
    places = np.asarray(table.rows(jnp.asarray(asked)))
    return Audit(
        codes=asked,
        space=table.space,
        table=table.name,
        rows=len(table),
        config=config,
        metrics=tuple(_audit_metric(data, families, column, places, config) for column in range(len(names))),
        measured_row=places,
        nearest_row=rows,
        nearest_code=np.asarray(table.codes)[rows],
        distance=distances,
        distance_percentile=share_below(held_out, distances),
        held_out_distances=(int(np.quantile(held_out, 0.05)), int(np.quantile(held_out, 0.95))),
        seconds=time.perf_counter() - began,
    )


def _names(table: Table, metrics: Sequence[str], *, on_test: bool) -> tuple[str, ...]:
    """Returns the names of the metrics to audit, as the table has them."""
    known = [metric.name for metric in table.metrics]
    kind = f"metric of {table.name} (a column without a direction is not one)"
    names = tuple(dict.fromkeys(checks.choose(kind, name, known) for name in metrics))
    if not names:
        tasks = dict.fromkeys(metric.task for metric in table.metrics if metric.kind == "quality")
        names = tuple(next(m.name for m in table.metrics if m.kind == "quality" and m.task == task) for task in tasks)
        names = names or (table.main.name,)
    for name in names:
        check_split(table.metric(name), on_test=on_test)
    return names


def _learnable(table: Table, names: tuple[str, ...]) -> Table:
    """Returns the rows that have all audited metrics, with the other columns that are known there."""
    table = table.known(names)
    known = np.isfinite(np.asarray(table.values)).all(axis=0)
    others = [metric.name for metric, there in zip(table.metrics, known, strict=True) if there]
    return table if known.all() else table.with_columns(list(dict.fromkeys((*names, *others))))


def _folds(table: Table, folds: int, key: Key) -> Int[np.ndarray, " n"]:
    """Returns a random fold for each row; all rows of one architecture share theirs."""
    _, place = np.unique(np.asarray(table.codes), axis=0, return_inverse=True)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(key, 0), int(place.max()) + 1))
    return (order[place.ravel()] % folds).astype(np.int32)


def _audit_metric(
    data: FoldData, families: dict[str, FoldPredictions], column: int, places: np.ndarray, config: AuditConfig
) -> MetricAudit:
    """Calibrates one metric and returns the intervals of all codes, in the metric's own unit."""
    metric, fold = data.table.metric(data.names[column]), data.fold
    by_row = np.stack([family.rows[:, column] for family in families.values()])
    by_code = np.stack([_unseen(family.codes[..., column], fold, places) for family in families.values()])
    process = families[PROCESS]
    assert process.rows_deviation is not None
    assert process.codes_deviation is not None
    deviation = _unseen(process.codes_deviation[..., column], fold, places)
    scores = CrossConformal(
        fold,
        by_row.mean(axis=0),
        np.hypot(process.rows_deviation[:, column], by_row.std(axis=0)),
        data.values[:, column],
        float(config.level),
    )
    low, high = scores.interval(by_code.mean(axis=0), np.hypot(deviation, by_code.std(axis=0)))
    each = by_code.mean(axis=1)  # the family's prediction is the mean over the folds' models
    predicted, disagreement = each.mean(axis=0), each.std(axis=0)
    percentile = share_below(by_row.std(axis=0), disagreement)
    rank = share_below(metric.sign * scores.mean, metric.sign * predicted)
    return MetricAudit(
        metric=metric,
        families={name: _own(metric, values) for name, values in zip(families, each, strict=True)},
        predicted=_own(metric, predicted),
        low=_own(metric, low),
        high=_own(metric, high),
        disagreement=_own_spread(metric, predicted, disagreement),
        disagreement_percentile=percentile,
        rank_percentile=rank,
        extrapolated=((percentile > UNLIKE) | (rank >= 100)) & (places < 0),
        calibration=_calibration(metric, scores, dict(zip(families, by_row, strict=True))),
    )


def _unseen(values: Float[np.ndarray, "K k"], fold: np.ndarray, places: np.ndarray) -> Float[np.ndarray, "K k"]:
    """Returns predictions by each fold's model; of codes in the table, those by the model without the code for all."""
    measured = places >= 0
    found = values.copy()
    found[:, measured] = values[fold[places[measured]], np.flatnonzero(measured)]
    return found


def _calibration(metric: MetricSpec, scores: CrossConformal, families: dict[str, np.ndarray]) -> Calibration:
    measured = _own(metric, scores.measured)
    predicted = _own(metric, scores.mean)
    inside = scores.covered()
    oriented = metric.sign * scores.mean
    top = oriented >= np.quantile(oriented, 1 - TOP)
    errors = {name: float(np.sqrt(np.mean((_own(metric, each) - measured) ** 2))) for name, each in families.items()}
    return Calibration(
        rows=len(measured),
        bins=scores.bins,
        coverage=float(inside.mean()),
        top_coverage=float(inside[top].mean()),
        rmse=float(np.sqrt(np.mean((predicted - measured) ** 2))),
        family_rmse=errors,
    )


def _own(metric: MetricSpec, values: np.ndarray) -> np.ndarray:
    """Converts stored units to the metric's own; infinite ends of intervals stay."""
    return values if metric.stored is None else np.where(np.isfinite(values), metric.stored.restore(values), values)


def _own_spread(metric: MetricSpec, values: np.ndarray, spread: np.ndarray) -> np.ndarray:
    return spread if metric.stored is None else metric.stored.restore_spread(values, spread)
