"""What is known of an open-ended session's codes, as arrays of a few sizes that programs are compiled for."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ncp_jax.searchers.open_ended.observations import Observations
from ncp_jax.searchers.open_ended.targets import TargetScale, limit_targets, scalarise
from ncp_jax.types import Bool, Float, Int

SLOTS = (64, 128, 256, 512, 1024)  # measurements that compiled programs have room for


class Known(NamedTuple):
    """What is known of n slots, for the objective and c limits on metrics.

    Attributes:
      codes: int32 [n, d]; slots that are neither measured nor pending hold any legal code.
      targets: float32 [1 + c, n]; of the objective, higher is better; of a limit, values of at least 0 satisfy it.
      measured: bool [1 + c, n], True where a target was measured.
      pending: bool [n], True for codes that are being trained.
    """

    codes: Int[np.ndarray, "n d"]
    targets: Float[np.ndarray, "p n"]
    measured: Bool[np.ndarray, "p n"]
    pending: Bool[np.ndarray, " n"]


def gather(
    observations: Observations, pending: list[np.ndarray], weights: Float[np.ndarray, " g"], most: int = SLOTS[-1]
) -> Known:
    """Returns what is known for the goals in these weights; a failed training counts as the worst value measured.

    Args:
      observations: the measurements.
      pending: codes that are being trained.
      weights: relative importance of the goals, with the sum 1.
      most: largest number of slots, one of ``SLOTS``.
    """
    codes, values = observations.codes, observations.values
    good = ~np.isnan(values[:, 0])
    goals = observations.oriented(values)
    single = goals[:, 0].copy()
    if goals.shape[1] > 1:
        single[good] = scalarise(goals[good], weights)
    objective = TargetScale.of(single[good]).forward(np.where(good, single, single[good].min()))
    names = observations.goals.metrics
    limits = [
        np.nan_to_num(limit_targets(values[:, names.index(limit.metric)], limit.value, upper=limit.upper))
        for limit in observations.goals.limits
    ]
    measured = [np.ones(len(good), bool), *[good] * len(limits)]
    return in_slots(codes, np.array([objective, *limits]), np.array(measured), pending, most)


def in_slots(
    codes: Int[np.ndarray, "k d"],
    targets: Float[np.ndarray, "p k"],
    measured: Bool[np.ndarray, "p k"],
    pending: list[np.ndarray],
    most: int = SLOTS[-1],
) -> Known:
    """Returns measurements and the latest pending codes in one of the sizes ``SLOTS``, thinned where they are more."""
    pending = pending[-most // 2 :]
    rows = _some(targets[0], most - len(pending))
    size = next(slots for slots in SLOTS if slots >= len(rows) + len(pending))
    end = size - len(rows)
    waiting = np.array(pending, np.int32).reshape(-1, codes.shape[1])
    spare = np.repeat(codes[:1], end - len(pending), axis=0)
    return Known(
        codes=np.concatenate([codes[rows], waiting, spare]),
        targets=np.pad(targets[:, rows], ((0, 0), (0, end))).astype(np.float32),
        measured=np.pad(measured[:, rows], ((0, 0), (0, end))),
        pending=np.pad(np.ones(len(pending), bool), (len(rows), end - len(pending))),
    )


def _some(objective: Float[np.ndarray, " k"], most: int) -> Int[np.ndarray, " j"]:
    """Returns up to ``most`` rows: the best quarter, the latest quarter and an even share of the others."""
    k = len(objective)
    if k <= most:
        return np.arange(k)
    quarter = most // 4
    kept = np.zeros(k, bool)
    kept[np.argsort(-objective, kind="stable")[:quarter]] = True
    kept[-quarter:] = True
    others = np.flatnonzero(~kept)
    kept[others[np.linspace(0, len(others) - 1, most - int(kept.sum())).astype(int)]] = True
    return np.flatnonzero(kept)


def best_known(known: Known, n: int) -> Int[np.ndarray, "b d"]:
    """Returns the n best measured codes, those that satisfy the limits first."""
    satisfied = (~known.measured[1:] | (known.targets[1:] >= 0)).all(axis=0)
    order = np.lexsort((-known.targets[0], ~satisfied, ~known.measured[0]))
    return known.codes[order[: min(n, int(known.measured[0].sum()))]]


def ranked(observations: Observations) -> Float[np.ndarray, " k"]:
    """Returns one number for each measurement, higher is better: the goals in equal parts, failures last."""
    values = observations.values
    good = ~np.isnan(values[:, 0])
    goals = observations.oriented(values[good])
    found = np.full(len(values), -np.inf)
    found[good] = scalarise(goals, np.full(goals.shape[1], 1 / goals.shape[1]))
    for limit in observations.goals.limits:
        column = values[:, observations.goals.metrics.index(limit.metric)]
        beyond = (column - limit.value) if limit.upper else (limit.value - column)
        found = np.where(beyond > 0, np.minimum(found, -1e6 - beyond), found)
    return found
