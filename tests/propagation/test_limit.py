"""The GFLOPs limit: exact where a space has a cost model, by prediction elsewhere."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective, PropagationConfig, inversion, propagate
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.limit import Limit
from ncp_jax.spaces import Bounds, cost_model, cost_model_for, get_space

Make = Callable[..., Predictor]
SPACE = get_space("nas-bench-mr")
MODEL = cost_model(SPACE)
SMALLEST = np.array([values[0] for values in SPACE.values])
LEAST = int(MODEL.exact(SMALLEST)["flops"])
FEW = PropagationConfig(steps=4, learning_rate=20.0)
CODES = np.asarray(SPACE.sample(jax.random.key(1), 4))


def within(bounds: Bounds, predictor: Predictor, gflops: float) -> Feasible:
    limits = [Limit("gflops", "<=", gflops, confidence=None)]
    return Feasible.make(bounds, predictor, limits, cost_model_for(bounds.space, predictor.metrics))


def search(ensemble: Make, limit: float | None, config: PropagationConfig = FEW, **goal: dict) -> Found:
    goal = goal or {"maximize": {"acc": 1.0}}
    return propagate(
        ensemble("nas-bench-mr", hidden=(5,)),
        Objective(**goal),
        codes=16,
        key=jax.random.key(3),
        config=config,
        max_gflops=limit,
    )


@pytest.fixture(scope="module")
def unlimited(ensemble: Make) -> Found:
    return search(ensemble, None, maximize={"acc": 1.0}, minimize={"flops": 0.5})


def test_costs_are_exact_and_not_predicted(unlimited: Found) -> None:
    exact = MODEL.exact(unlimited.codes)
    np.testing.assert_array_equal(unlimited.costs["flops"], exact["flops"] / 1e9)
    np.testing.assert_array_equal(unlimited.costs["params"], exact["params"] / 1e6)
    column = [m.name for m in unlimited.metrics].index("flops")
    np.testing.assert_allclose(unlimited.mean[:, column], exact["flops"] / 1e9, rtol=1e-6)
    np.testing.assert_array_equal(unlimited.spread[:, column], 0)
    row = unlimited.rows()[0]
    assert row["gflops"] == exact["flops"][0] / 1e9
    assert row["params_m"] == exact["params"][0] / 1e6
    assert "flops" not in row["predicted"]
    assert str(unlimited).splitlines()[0].split()[-5:] == ["GFLOPs", "params", "[M]", "score", "architecture"]


# Multiples of the smallest architecture's cost: the next larger one has more than 1.001.
@pytest.mark.parametrize("factor", [1.0, 1.0001, 1.1, 3.0, 30.0])
def test_every_architecture_found_keeps_the_limit(ensemble: Make, factor: float) -> None:
    limit = LEAST * factor / 1e9
    found = search(ensemble, limit)
    counts = MODEL.exact(found.codes)["flops"]
    assert len(found) >= 1
    assert (counts <= int(LEAST * factor)).all()
    np.testing.assert_array_equal(SPACE.check(found.codes), found.codes)
    assert (np.diff(found.score) <= 0).all()
    if factor < 1.001:
        np.testing.assert_array_equal(found.codes, SMALLEST[None])
    if factor >= 3.0:
        assert counts.max() > 0.5 * limit * 1e9, "the limit is not made use of"


def test_a_loose_limit_is_no_limit(ensemble: Make) -> None:
    free, loose = search(ensemble, None), search(ensemble, 1e9)
    assert {tuple(c) for c in loose.codes.tolist()} == {tuple(c) for c in free.codes.tolist()}


def test_a_limit_below_the_smallest_architecture(ensemble: Make) -> None:
    limit = LEAST * 0.999 / 1e9
    with pytest.raises(UsageError, match=r"expected a GFLOPs limit >= .*, the space's smallest, got .*; raise"):
        search(ensemble, limit)


def test_bounds_and_a_limit_hold_together(ensemble: Make) -> None:
    bounds = Bounds.of(SPACE, {"*.num_blocks": (2, None), "last_channel": (64, 96)})
    low, high = (np.array([row[i] for row in bounds.values]) for i in (0, -1))
    least = int(MODEL.exact(low)["flops"]) / 1e9
    config = dataclasses.replace(FEW, bounds={"*.num_blocks": (2, None), "last_channel": (64, 96)}, polish=2)
    for factor in (1.0, 2.0):
        found = search(ensemble, least * factor, config)
        assert ((low <= found.codes) & (found.codes <= high)).all()
        assert (MODEL.exact(found.codes)["flops"] <= least * factor * 1e9).all()
    np.testing.assert_array_equal(search(ensemble, least, config).codes, low[None])
    with pytest.raises(UsageError, match=r"expected a GFLOPs limit >= .*, got .*; raise"):
        search(ensemble, least * 0.999, config)


def test_polish_climbs_below_the_limit(ensemble: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    limit = LEAST * 3.0 / 1e9
    monkeypatch.setattr(inversion, "EDITED", 0)  # what is polished without being asked for
    rough, polished = (search(ensemble, limit, dataclasses.replace(FEW, steps=0, polish=n)) for n in (0, 2))
    assert (MODEL.exact(polished.codes)["flops"] <= LEAST * 3).all()
    assert polished.score[0] > rough.score[0] + 0.1


def test_codes_are_pulled_back_as_far_as_needed(ensemble: Make, caplog: pytest.LogCaptureFixture) -> None:
    limit = within(Bounds.of(SPACE, {}), ensemble("nas-bench-mr", hidden=(5,)), 0.35)
    far = np.random.default_rng(0).uniform(SPACE.lower, SPACE.upper, (40, 27)).astype(np.float32)

    def gflops(relaxed: np.ndarray) -> np.ndarray:
        return MODEL.in_units(np.asarray(SPACE.project(jnp.asarray(relaxed))))["flops"]

    pulled = limit.pull_back(far)
    over = gflops(far) > 0.35
    assert over.sum() > 20
    assert (gflops(pulled) <= 0.35).all()
    # A little farther out on the way from the cheapest corner they are over it again.
    assert (gflops(SPACE.lower + (pulled - SPACE.lower) * 1.01)[over] > 0.3).all()
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        for n in (38, 39):  # however many are over the limit
            some = np.where(np.arange(40)[:, None] < n, far, pulled)
            np.testing.assert_array_equal(limit.pull_back(some)[n:], pulled[n:])
    assert not [text for text in caplog.messages if "Finished XLA compilation" in text]


def test_exact_costs_are_lowered_where_their_prediction_says_nothing(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr", hidden=(5,))
    *hidden, last = predictor.params["w"]
    blind = dataclasses.replace(predictor, params=predictor.params | {"w": (*hidden, last * 0)})
    ends = {}
    for exact in (False, True):
        config = PropagationConfig(steps=10, learning_rate=50.0, exact_costs=exact)
        found = propagate(blind, Objective(minimize={"flops": 1.0}), start=CODES, config=config)
        ends[exact] = found.codes
    assert {tuple(code) for code in ends[False].tolist()} == {tuple(code) for code in CODES.tolist()}
    assert MODEL.exact(ends[True])["flops"].max() < MODEL.exact(CODES)["flops"].min()


def metrics(unit: str) -> tuple[MetricSpec, ...]:
    return (
        MetricSpec("acc", task="a"),
        MetricSpec("flops", unit=unit, direction="minimize", kind="cost"),
    )


@pytest.mark.parametrize(("unit", "factor"), [("M", 1e3), ("GMAC", 1.0)])
def test_without_a_cost_model_the_predicted_flops_are_limited(ensemble: Make, unit: str, factor: float) -> None:
    predictor = ensemble(metrics=metrics(unit))
    # All FLOPs that it predicts are above zero.
    scale = dataclasses.replace(predictor.scale, y_mean=jnp.asarray([2.0, 20.0]))
    predictor = dataclasses.replace(predictor, scale=scale)

    def find(limit: float | None) -> Found:
        return propagate(
            predictor,
            Objective(maximize={"acc": 1.0}),
            codes=16,
            key=jax.random.key(0),
            config=FEW,
            max_gflops=limit,
        )

    free = find(None).mean[:, 1]
    limit = float(np.quantile(free, 0.5)) / factor
    assert limit > 0
    found = find(limit)
    assert (found.mean[:, 1] / factor <= limit * (1 + 1e-6)).all()
    with pytest.raises(UsageError, match=r"expected architectures of at most .* GFLOPs, got none \(the smallest"):
        find(1e-7)


def test_without_any_flops_there_is_no_limit(ensemble: Make) -> None:
    predictor = ensemble(metrics=(MetricSpec("acc", task="a"),))
    with pytest.raises(
        UsageError, match="expected a space with known FLOPs, or a metric 'flops' in the table, got transnas-micro"
    ):
        propagate(predictor, Objective(maximize={"acc": 1.0}), codes=8, key=jax.random.key(0), max_gflops=1.0)
