"""What a limit on FLOPs costs: the bookkeeping, on a predictor whose best feasible codes are known."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from optimization import limits
from optimization.argmax import ArgmaxConfig
from optimization.limits import LimitBenchmark, LimitedSearch, limit_lines, search_limited, summarise

from ncp_jax import MetricSpec, get_space
from ncp_jax.checks import UsageError
from ncp_jax.predictors import FoldedMLP, Predictor, Standardisation
from ncp_jax.propagation import PropagationConfig
from ncp_jax.records.journal import Records
from ncp_jax.spaces import cost_model
from ncp_jax.training import get_recipe

SPACE = get_space("transnas-macro")


def predictor(task: str = "class_object") -> Predictor:
    """One linear network: the score is a sum over positions."""
    f, rng = SPACE.features, np.random.default_rng(0)
    params = {"w": (jnp.asarray(rng.normal(size=(1, f, 1)), jnp.float32),), "b": (jnp.zeros((1, 1)),)}
    scale = Standardisation(jnp.zeros(f), jnp.ones(f), jnp.zeros(1), jnp.ones(1))
    return Predictor(params, scale, FoldedMLP(), (MetricSpec("acc", task=task),), "transnas-macro")


def test_gaps_are_those_to_the_best_feasible_code(monkeypatch: pytest.MonkeyPatch) -> None:
    config = PropagationConfig(steps=2, learning_rate=10.0)
    (search,) = search_limited(predictor(), config, (0.05,), codes=8, seed=0, count=1)
    codes = SPACE.all_codes()
    flops = cost_model(SPACE, "class_object").in_units(codes)["flops"]
    assert search.feasible == (flops <= np.quantile(flops, 0.05, method="higher")).sum()
    assert 0 <= search.gap <= 0.1
    assert search.scored >= search.distinct > 8

    found = limits.propagate
    monkeypatch.setattr(limits, "propagate", lambda *args, **settings: found(*args, **settings).take(slice(20, None)))
    (worse,) = search_limited(predictor(), config, (0.05,), codes=8, seed=0, count=1)
    assert worse.gap > search.gap


def test_a_space_of_unknown_costs_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a space whose costs are known, got transnas-macro"):
        search_limited(predictor("mine"), PropagationConfig(), (0.5,), codes=8, seed=0, count=1)


def test_searches_are_summarised() -> None:
    searches = [LimitedSearch(0.1, 30, gap, 10, 20, seconds) for gap, seconds in ((0.0, 1.0), (0.3, 3.0), (0.0, 2.0))]
    cost = summarise(searches)
    assert (cost.searches, cost.feasible, cost.exact) == (3, 30, pytest.approx(2 / 3))
    assert (cost.mean, cost.largest, cost.seconds) == (pytest.approx(0.1), 0.3, 2.0)
    (line,) = limit_lines({"macro": {"0.1": cost}})
    assert "10% of codes within the limit (30): best one found in 66.7% of 3, gap 0.1000, at most 0.3000 sd" in line


def test_finished_predictors_are_not_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small = ArgmaxConfig(codes=4, steps=1, members=1, rows=20)
    benchmark = LimitBenchmark(("digits",), small, get_recipe("ensemble"), predictors=2, objectives=1)
    found = [LimitedSearch(q, 5, 0.0, 3, 4, 0.1) for q in benchmark.quantiles]
    monkeypatch.setattr(limits, "train", lambda *_: predictor())
    monkeypatch.setattr(limits, "search_limited", lambda *_, **__: found)
    first = benchmark.run(Records(tmp_path / "out", {"x": 1}))
    assert first["digits"]["0.02"].searches == 2
    monkeypatch.setattr(limits, "train", lambda *_: pytest.fail("done again"))
    assert benchmark.run(Records(tmp_path / "out", {"x": 1}, resume=True)) == first
