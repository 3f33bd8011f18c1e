"""Limits on any metric or cost: how they are written, what they are on, and that results satisfy them."""

from __future__ import annotations

import json
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import HeldOutError, Limit, Objective, PropagationConfig, propagate
from ncp_jax.propagation.constraint import resolve
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.limit import RELATIONS, as_limits
from ncp_jax.spaces import Bounds, cost_model, get_space

Make = Callable[..., Predictor]
MR = get_space("nas-bench-mr")
MODEL = cost_model("nas-bench-mr")
FEW = PropagationConfig(steps=4, learning_rate=20.0)
GOAL = Objective(maximize={"acc": 1.0})


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("params<3e6", Limit("params", "<", 3e6)),
        (" latency_ms <= 20 ", Limit("latency_ms", "<=", 20.0)),
        ("seg/mIoU>=70.5", Limit("seg/mIoU", ">=", 70.5)),
        ("a b=>-1", Limit("a b", ">=", -1.0)),
    ],
)
def test_limits_as_text(text: str, limit: Limit) -> None:
    assert Limit.parse(text) == limit
    assert limit.upper == (limit.relation[0] == "<")


@pytest.mark.parametrize(
    "text", ["params", "params=3", "params<", "<3", "params<<3", "params<three", "a<=nan", "a<=inf"]
)
def test_texts_that_are_no_limit(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected a .* limit|expected a limit|expected a number behind"):
        Limit.parse(text)


def test_wrong_limits() -> None:
    for confidence in (0.0, 1.0, 2, "0.9"):
        with pytest.raises(UsageError, match=r"expected a confidence above 0 and below 1"):
            Limit("acc", "<=", 1.0, confidence)
    with pytest.raises(UsageError, match=r"relation of a limit"):
        Limit("acc", "==", 1.0)
    for limit in (3, None):
        with pytest.raises(UsageError, match=r"expected limits as"):
            as_limits([limit])  # type: ignore[list-item]


def read(text: str, predictor: Predictor) -> float:
    return resolve(Limit.parse(text), Bounds.of(MR, {}), predictor, MODEL).threshold


def test_what_a_number_means(ensemble: Make) -> None:
    """Counts, or 1e9 and 1e6, where a count would say nothing; GFLOPs and millions by name."""
    predictor = ensemble("nas-bench-mr", hidden=(5,))
    assert read("params<3e6", predictor) == read("params<3", predictor) == read("params_m<3", predictor) == 3.0
    assert read("FLOPS<=2e9", predictor) == read("flops<=2", predictor) == read("gflops<=2", predictor) == 2.0
    assert read("params>=3", predictor) == read("params>=3e6", predictor) == 3.0
    with pytest.raises(
        UsageError, match=r"expected a limit on params >= 2.132e\+04 \(0.02132 million\), got 5000; raise"
    ):
        read("params<=5000", predictor)
    with pytest.raises(UsageError, match=r"expected a limit on flops <= .*, got 1e\+15; lower"):
        read("flops>=1e15", predictor)
    with pytest.raises(UsageError, match=r"expected a known metric or cost to limit, got 'latency'; did you mean: acc"):
        read("latency<=5", predictor)
    with pytest.raises(UsageError, match=r"to be a number > 0"):
        read("gflops<=-1", predictor)


# Each has codes that satisfy it and codes that do not; both sides, both costs, predictions beside costs.
SETS = [
    ("params>2e7", "params<=2.2e7", "gflops<=5"),
    ("loss<=2.2", "loss>=1.9", "gflops<=3"),
]


@pytest.mark.parametrize("texts", SETS, ids=" ".join)
def test_everything_found_satisfies_all_limits(ensemble: Make, texts: tuple[str, ...]) -> None:
    predictor = ensemble("nas-bench-mr", hidden=(5,))
    limits = [Limit.parse(text) for text in texts]
    found = propagate(predictor, GOAL, codes=16, key=0, config=FEW, limits=limits)
    assert len(found) > 1
    counts = MODEL.exact(found.codes)
    mean, spread = (np.asarray(a) for a in predictor(MR.encode(jnp.asarray(found.codes))))
    for limit, status in zip(limits, found.limits, strict=True):
        place = ["acc", "loss"].index(limit.metric) if limit.metric in ("acc", "loss") else None
        if place is None:
            values = counts["flops"] / 1e9 if limit.metric == "gflops" else counts[limit.metric]
            assert (status.exact, status.confidence) == (True, None)
            assert "classifier" in str(status)
        else:
            # The bound of a normal distribution with the ensemble's spread: 1.2816 deviations for 90 %.
            values = mean[:, place] + (1 if limit.upper else -1) * 1.2815515655446004 * spread[:, place]
            assert (status.exact, status.confidence, status.calibrated) == (False, 0.9, False)
        slack = 1e-5 if place is not None else 0.0
        assert RELATIONS[limit.relation](values, limit.value + (slack if limit.upper else -slack)).all()
    assert [row["exact"] for row in found.to_json()["limits"]] == [status.exact for status in found.limits]


def test_limits_in_text_and_the_short_form_are_one(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr", hidden=(5,))
    results = [
        propagate(predictor, GOAL, codes=16, key=0, config=FEW, **form)
        for form in ({"max_gflops": 0.5}, {"limits": ["gflops<=0.5"]}, {"limits": "flops<=5e8"})
    ]
    for other in results[1:]:
        np.testing.assert_array_equal(other.codes, results[0].codes)
        np.testing.assert_array_equal(other.score, results[0].score)


def test_limits_that_nothing_satisfies(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr", hidden=(5,))
    with pytest.raises(
        UsageError, match=r"not params <= 1e\+06 and gflops >= 5, got none found .the nearest has params"
    ):
        propagate(predictor, GOAL, codes=8, key=0, config=FEW, limits=["params<=1e6", "gflops>=5"])
    cells = ensemble(metrics=(MetricSpec("acc", task="jigsaw"),))
    with pytest.raises(UsageError, match=r"not params <= .* and flops >= .*, got none .the nearest"):
        propagate(cells, GOAL, codes=8, key=0, config=FEW, limits=["params<=4.7e6", "flops>=5e8"])
    with pytest.raises(UsageError, match=r"architectures of at least 99 % in acc, got none .*margin of the confidence"):
        propagate(predictor, GOAL, codes=8, key=0, config=FEW, limits=["acc>=99"])


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**31), st.booleans())
def test_limits_that_some_code_satisfies_are_satisfied(ensemble: Make, seed: int, extreme: bool) -> None:
    """More parameters and fewer FLOPs than a code that exists: the anchor of the search is within."""
    rng = np.random.default_rng(seed)
    code = np.array(
        [values[-1 if rng.random() < 0.5 else 0] if extreme else rng.choice(values) for values in MR.values]
    )
    has = MODEL.in_units(code)
    limits = [Limit("gflops", "<=", float(has["flops"])), Limit("params_m", ">=", float(has["params"]))]
    feasible = Feasible.make(Bounds.of(MR, {}), ensemble("nas-bench-mr", hidden=(5,)), limits, MODEL)
    assert feasible.fits(feasible.anchor_code[None])[0]


def test_the_costs_of_another_network(ensemble: Make) -> None:
    """Limits, objectives and results mean the network that is asked for; what the predictor has learned is not used."""
    predictor, model = ensemble("nas-bench-mr", hidden=(5,)), cost_model("nas-bench-mr", "seg", of="task")
    config = PropagationConfig(steps=4, learning_rate=20.0, costs=model)
    goal = Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5})
    found = propagate(predictor, goal, codes=16, key=0, config=config, limits=["gflops<=20"])
    flops = model.exact(found.codes)["flops"]
    assert (flops <= 20e9).all()
    assert flops.max() > 2 * MODEL.exact(found.codes)["flops"].max()
    np.testing.assert_array_equal(found.costs["flops"], flops / 1e9)
    assert found.counted == "the network of seg: 19 classes, image 512×512"
    assert str(found).splitlines()[-1] == f"GFLOPs and params of {found.counted}"
    assert found.limits[0].counted == found.counted
    with pytest.raises(UsageError, match=r"settings that JSON can hold, got a cost model"):
        config.to_json()


def test_a_known_cost_that_is_not_predicted_may_be_sought(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-201", metrics=(MetricSpec("acc", task="cifar10"),))
    goal = Objective(maximize={"acc": 1e-9}, minimize={"params": 1.0})
    config = PropagationConfig(steps=30, learning_rate=20.0)
    found = propagate(predictor, goal, codes=64, key=0, config=config)
    model = cost_model("nas-bench-201", "cifar10")
    least = model.exact(get_space("nas-bench-201").all_codes())["params"].min()
    assert model.exact(found.codes[0])["params"] <= 1.1 * least


def test_the_confidence_holds_on_further_rows() -> None:
    """Coverage over many draws: not below what is promised, for errors of any shape, and not wastefully above."""
    rng = np.random.default_rng(0)
    kept = {True: [], False: []}
    for _ in range(400):
        spread = rng.uniform(0.05, 0.2, 1100)
        errors = spread * rng.standard_t(3, 1100) + rng.exponential(1.0, 1100) - 1.0
        mean = rng.normal(size=1100)
        error = HeldOutError.of(mean[:100], spread[:100], (mean + errors)[:100])
        for upper in (True, False):
            bound = error.quantile(0.9, upper=upper) * error.scale(spread[100:])
            kept[upper].append(((errors[100:] <= bound) == upper).mean() if upper else (errors[100:] >= bound).mean())
    for shares in kept.values():
        assert 0.895 < np.mean(shares) < 0.93
    assert error.rmse == pytest.approx(float(np.sqrt(np.mean(errors[:100] ** 2))), rel=1e-6)
    assert HeldOutError.from_json(json.loads(json.dumps(error.to_json()))) == error
    many = HeldOutError.of(np.zeros(5000), np.zeros(5000), rng.normal(size=5000))
    assert len(many.ratios) == 201
    assert many.quantile(0.9, upper=True) == pytest.approx(1.2816, abs=0.08)
    assert many.quantile(0.9, upper=False) == pytest.approx(-1.2816, abs=0.08)
    with pytest.raises(UsageError, match=r"expected a confidence of at most 0.99 with 100 held-out rows, got 0.995"):
        error.quantile(0.995, upper=True)


def test_limits_by_held_out_errors_have_their_margin(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr", hidden=(5,))
    error = HeldOutError(0.1, 4, 0.1, (-1.0, 0.0, 1.0, 2.0))
    limit = Limit("loss", "<=", 2.5, 0.8, error)
    found = propagate(predictor, GOAL, codes=16, key=0, config=FEW, limits=[limit])
    assert (found.mean[:, 1] + 2.0 * np.sqrt(0.01 + found.spread[:, 1] ** 2) <= 2.5).all()
    assert found.limits[0].calibrated
    assert str(found.limits[0]) == "loss <= 2.5 (predicted: with 80 % confidence by held-out errors)"
