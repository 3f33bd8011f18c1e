"""Values that a session is told: failed trainings, and numbers that float32 cannot hold."""

from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.searchers import Candidates, SearchSession, make_searcher
from ncp_jax.spaces import get_space

SPACE = get_space("transnas-micro")
CODES = SPACE.all_codes()[::100]


def session(name: str = "random", budget: int = 6) -> SearchSession:
    return SearchSession(make_searcher(name), Candidates.of_space(SPACE, CODES), budget=budget)


@pytest.mark.parametrize("failed", [None, float("nan"), np.float32("nan")])
@pytest.mark.parametrize("name", ["random", "evolution", "local-search", "bayesian"])
def test_a_failed_training_costs_budget_and_ranks_last(name: str, failed: float | None) -> None:
    run, told = session(name, 14), []
    while len(codes := run.ask()):
        values = [failed if len(told) % 3 == 0 else 70.0 + len(told) for _ in codes]
        told += values
        run.tell(values)
    assert len(run.values) == 14
    assert run.failed.sum() == sum(v is None or v != v for v in told)
    worst = run.values[~run.failed].min()
    assert (run.values[run.failed] == worst).all()
    assert np.isfinite(run.values).all()


def test_a_run_of_failures_alone() -> None:
    run = session()
    while len(codes := run.ask()):
        run.tell([None] * len(codes))
    assert run.failed.all()
    assert (run.values == 0).all()


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e61, -1e31, "71.5", True, 1j])
def test_what_is_no_value(value: object) -> None:
    run = session()
    codes = run.ask()
    with pytest.raises(UsageError, match=r"expected numbers within ±1e\+30, or None for a training that failed"):
        run.tell([value] * len(codes))
    run.tell([1.0] * len(codes))  # nothing was taken


@pytest.mark.parametrize(("offset", "step"), [(1e8, 1.0), (0.0, 1e-41)])
def test_values_that_float32_makes_equal_are_refused(offset: float, step: float) -> None:
    run = session()

    def tell_all() -> None:
        while len(codes := run.ask()):
            run.tell([offset + step * (1 + len(run.values) + i) for i in range(len(codes))])

    with pytest.raises(UsageError, match="expected values that differ in their first seven digits"):
        tell_all()
    assert len(run.values) < 5  # what was told before stays


@pytest.mark.parametrize("noise", [0.0, 1e-16])
def test_equal_values_are_no_fault(noise: float) -> None:
    run = session()
    while len(codes := run.ask()):
        run.tell([0.1 * (1 + noise * (len(run.values) + i)) for i in range(len(codes))])
    assert len(run.values) == 6
