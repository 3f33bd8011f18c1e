"""few_labels: budgets of known costs, latencies as costs, outcomes of searches."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from few_labels.budgets import Budget, given_budget, quantile_budgets, with_latency
from few_labels.within import judge

from ncp_jax.benchmarks.latency import load_readings
from ncp_jax.checks import UsageError
from ncp_jax.propagation.limit import Limit
from ncp_jax.spaces import cost_model, get_space

COSTS = {"flops": np.array([1.0, 2.0, 3.0, 4.0]), "params": np.array([4.0, 3.0, 2.0, 1.0])}


def test_the_limit_of_a_quantile_is_a_cost_that_occurs() -> None:
    half, all_ = quantile_budgets({"flops": COSTS["flops"]}, (0.5, 1.0))
    assert (half.limits[0].value, half.within.tolist()) == (2.0, [True, True, False, False])
    assert all_.within.all()
    assert len(quantile_budgets({"flops": COSTS["flops"], "params": 2 * COSTS["flops"]}, (0.5,))) == 1


def test_limits_hold_together() -> None:
    budget = given_budget(COSTS, ("gflops<=3", "params_m<3"), 1)
    assert budget.within.tolist() == [False, False, True, False]
    with pytest.raises(UsageError, match="which 1 satisfy; widen them"):
        given_budget(COSTS, ("gflops<=3", "params_m<3"), 2)


def test_what_exceeds_a_limit_is_counted_and_does_not_win() -> None:
    budget = Budget("flops", None, (Limit("gflops", "<=", 3.0),), COSTS["flops"] <= 3.0)
    found = judge(np.array([1.0, 2.0, 3.0, 9.0]), COSTS, budget, np.array([1, 3]), np.array([0]))
    assert (found.loss, found.over, found.proposals) == (1.0, 1, 2)
    assert found.percentile == pytest.approx(200 / 3)
    assert found.fill == pytest.approx(4 / 3)


def test_a_search_that_paid_for_nothing_within_its_budget_found_the_worst_there() -> None:
    budget = Budget("flops", 0.5, (Limit("gflops", "<=", 2.0),), COSTS["flops"] <= 2.0)
    found = judge(np.array([1.0, 2.0, 3.0, 9.0]), COSTS, budget, np.array([], int), np.array([3]))
    assert (found.loss, found.percentile, found.proposals, found.fill) == (1.0, 100.0, 0, None)


def test_latencies_are_those_that_were_read(mirror: Path) -> None:
    model = cost_model(get_space("nas-bench-201"))
    assert model is not None
    measured, readings = with_latency(model, "fpga"), load_readings("nas-bench-201-latency/fpga")
    costs = measured.in_units(readings.codes[:50])
    np.testing.assert_array_equal(costs["latency"], readings.milliseconds[:50])
    np.testing.assert_array_equal(costs["flops"], model.in_units(readings.codes[:50])["flops"])
    relaxed = measured.relaxed(get_space("nas-bench-201").encode(jnp.asarray(readings.codes[::200])))
    assert np.corrcoef(relaxed["latency"], readings.milliseconds[::200])[0, 1] > 0.8
