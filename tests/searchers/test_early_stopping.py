"""Early stopping goes on with what is predicted to become the best: by hand, and as good as its predictor."""

from __future__ import annotations

import numpy as np
import pytest

from ncp_jax import checks, get_space
from ncp_jax.benchmarks import EpochGuard
from ncp_jax.searchers import EarlyStopping, make_searcher

EPOCHS = 8


def spend(values: np.ndarray, budget: int, *, seed: int = 0, **settings: object) -> list[tuple[int, int]]:
    codes = np.asarray(get_space("transnas-micro").all_codes())[: len(values)]
    guard = EpochGuard(values, codes=codes, space="transnas-micro", budget=budget)
    searcher = make_searcher("early-stopping", **settings)
    assert isinstance(searcher, EarlyStopping)
    searcher.spend(guard, seed)
    return guard.steps


@pytest.mark.parametrize("predictor", ["process", "last-value"])
def test_flat_curves_by_hand(predictor: str) -> None:
    """The first value is the last one, and so it is predicted: what goes on is better than all before."""
    rng = np.random.default_rng(0)
    final = rng.permutation(100) / 100.0
    values = np.repeat(final[:, None], EPOCHS, axis=1)
    steps = spend(values, 240, predictor=predictor, whole=6)
    order = np.random.default_rng(0).permutation(100).tolist()
    wanted = [(row, EPOCHS) for row in order[:6]]
    best, spent = final[order[:6]].max(), 6 * EPOCHS
    for first in range(6, 100, 8):
        begun = order[first : first + 8][: (240 - spent) // 2]
        wanted += [(row, 2) for row in begun]
        spent += 2 * len(begun)
        row = max(begun, key=lambda row: final[row], default=None)
        if row is not None and final[row] > best and spent + EPOCHS - 2 <= 240:
            wanted.append((row, EPOCHS))
            best, spent = final[row], spent + EPOCHS - 2
    assert steps == wanted
    assert len([1 for _, until in steps if until == EPOCHS]) > 6


def test_curves_that_cross() -> None:
    """The final value follows from the code alone: the process learns it, the last value misleads."""
    codes = np.asarray(get_space("transnas-micro").all_codes())[:400]
    rng = np.random.default_rng(1)
    final = codes.sum(axis=1) + 0.1 * rng.random(400)
    values = np.linspace(rng.permutation(final), final, EPOCHS, axis=1)
    best = {}
    for predictor in ("process", "last-value"):
        runs = [dict(spend(values, 40 * EPOCHS, seed=seed, predictor=predictor, whole=15)) for seed in range(6)]
        best[predictor] = np.mean([max(final[row] for row, until in run.items() if until == EPOCHS) for run in runs])
    assert best["process"] > best["last-value"]


@pytest.mark.parametrize(("budget", "steps"), [(8, [8]), (7, [2, 2, 2]), (15, [8, 2, 2, 2]), (16, [8, 8])])
def test_small_budgets(budget: int, steps: list[int]) -> None:
    """What does not fit is not begun."""
    values = np.repeat(np.arange(50.0)[::-1, None], EPOCHS, axis=1)
    assert [until for _, until in spend(values, budget)] == steps


def test_failed_trainings() -> None:
    """They are neither learned from nor continued."""
    values = np.repeat(np.arange(50.0)[:, None], EPOCHS, axis=1)
    values[::2, 1:] = np.nan
    steps = spend(values, 200)
    assert {until for row, until in steps[5:] if row % 2 == 0} <= {2}
    with pytest.raises(
        checks.UsageError, match=r"read of early-stopping \(share of the epochs that the predictor reads"
    ):
        spend(values, 200, read=2)
