"""Which codes go where and when: portions and shares, memory, devices, kernels. Nothing is inverted here."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import numpy as np
import optax
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp_jax.checks import UsageError
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Execution, Objective, PropagationConfig, TrustRegion, execution
from ncp_jax.propagation.engine import Shape, can_fuse
from ncp_jax.propagation.execution import Plan, Starts, make_plan
from ncp_jax.spaces import cost_model, get_space

Make = Callable[..., Predictor]
SPACE = get_space("transnas-micro")
GOAL = Objective(maximize={"acc": 1.0})


def plan_of(ensemble: Make, n: int, config: PropagationConfig | None = None, **settings: Any) -> Plan:
    predictor = ensemble(members=3, hidden=(6,))
    weights = GOAL.weights(predictor.metrics)
    return make_plan(Execution(**settings), predictor, weights, config or PropagationConfig(), None, n)


@given(
    n=st.integers(1, 3000),
    unit=st.integers(1, 100),
    units=st.integers(1, 20),
    processes=st.integers(1, 9),
)
def test_portions_cover_the_codes_once(n: int, unit: int, units: int, processes: int) -> None:
    plan = Plan(Shape(unit, 1), jax.devices()[0], unit, unit * units)
    seen: list[int] = []
    shares = []
    for process in range(processes):
        with (
            mock.patch.object(jax, "process_count", return_value=processes),
            mock.patch.object(jax, "process_index", return_value=process),
        ):
            portions = plan.portions(n)
        for first, size in portions:
            assert 0 < size <= plan.portion
            assert first % unit == 0, "a code would follow another member"
            seen.extend(range(first, first + size))
        shares.append(sum(size for _, size in portions))
    assert seen == list(range(n))
    assert max(shares) - min(shares) <= 2 * unit, "a process has more than its share"


def test_a_unit_has_a_tile_for_each_member_followed(ensemble: Make, small_tiles: int) -> None:
    for follow, unit in (("member", 24), ("mean", 8), ("bound", 8)):
        plan = plan_of(ensemble, 1000, PropagationConfig(follow=follow))
        assert (plan.unit, plan.shape.tile) == (unit, small_tiles)
        assert plan.portion % unit == 0


def test_a_portion_is_no_larger_than_the_codes_or_the_cap(
    ensemble: Make, small_tiles: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert [plan_of(ensemble, n).portion for n in (1, 24, 25, 100)] == [24, 24, 48, 120]
    monkeypatch.setitem(execution.LARGEST, "cpu", 60)
    assert [plan_of(ensemble, n).portion for n in (1, 25, 100, 10**9)] == [24, 48, 48, 48]


def test_restarts_look_at_one_unit(ensemble: Make, small_tiles: int) -> None:
    plan = plan_of(ensemble, 1000, PropagationConfig(restarts=1))
    assert plan.portion == plan.unit == 24


def test_portions_grow_with_the_memory_up_to_the_cap(ensemble: Make, small_tiles: int) -> None:
    with pytest.raises(UsageError, match=r"expected memory_mb >= \d+, the least .* got 1e-06; allow more") as error:
        plan_of(ensemble, 10**6, memory_mb=1e-6)
    least = int(re.search(r">= (\d+)", str(error.value))[1])
    sizes = []
    for more in (0, 1, 3, 10, 100, 1000):
        sizes.append(plan_of(ensemble, 10**6, memory_mb=least + more).portion)
        # Start and end of each code, relaxed and not.
        assert sizes[-1] * 4 * 2 * (SPACE.features + SPACE.length) < (least + more) * 1e6
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 5
    assert sizes[-1] == sizes[-2] == execution.LARGEST["cpu"] // 24 * 24


def test_more_members_and_a_region_take_more_memory(ensemble: Make, small_tiles: int) -> None:
    rows = np.asarray(SPACE.sample(jax.random.key(0), 300))
    region = TrustRegion.around(rows, SPACE, ensemble().scale)
    one, mean, near = (
        execution.bytes_in_flight(ensemble(members=3), config, 10**4)
        for config in (
            PropagationConfig(),
            PropagationConfig(follow="mean"),
            PropagationConfig(region=region),
        )
    )
    assert one < mean
    assert near - one >= 4 * 10**4 * len(region.rows)


def test_what_is_free_is_half_of_an_accelerator_and_little_on_a_cpu() -> None:
    def device(platform: str, **stats: int) -> Any:
        return mock.Mock(platform=platform, memory_stats=lambda: stats or None)

    assert execution.free_bytes(device("gpu", bytes_limit=100, bytes_in_use=20)) == 40
    assert execution.free_bytes(device("gpu", bytes_limit=100)) == 50
    assert execution.free_bytes(device("gpu")) == execution.free_bytes(device("cpu", bytes_limit=7)) == 4e8


def test_devices_that_are_not_there(ensemble: Make) -> None:
    with pytest.raises(UsageError, match=r"expected devices <= 1 \(cpu\), got 3; ask for fewer"):
        plan_of(ensemble, 8, devices=3)
    for platform in ("gpu", "tpu"):
        with pytest.raises(
            UsageError, match=rf"expected a {platform} device, got none here \(1 cpu\); leave the platform out"
        ):
            plan_of(ensemble, 8, platform=platform)
    assert plan_of(ensemble, 8, devices=1, platform="cpu").shape.mesh is None


def test_the_kernel_is_decided(ensemble: Make) -> None:
    assert plan_of(ensemble, 8).shape.kernel == "xla"
    with pytest.raises(UsageError, match="expected a GPU or TPU for kernel='pallas', got cpu; try kernel='xla'"):
        plan_of(ensemble, 8, kernel="pallas")
    decide = execution._check_kernel
    assert decide("auto", "gpu", True) == "auto"
    assert decide("auto", "gpu", False) == decide("xla", "gpu", True) == "xla"
    assert decide("pallas", "tpu", True) == "pallas"
    with pytest.raises(UsageError, match="expected plain steps of folded networks on a linear objective for kernel="):
        decide("pallas", "gpu", False)


def test_the_fused_kernel_is_for_plain_steps_of_one_folded_network(ensemble: Make) -> None:
    predictor, config = ensemble(members=3, hidden=(6, 6)), PropagationConfig()
    weights = GOAL.weights(predictor.metrics)

    def possible(**changed: Any) -> bool:
        chosen = {"predictor": predictor, "weights": weights, "config": config, "model": None, "platform": "gpu"}
        return can_fuse(**chosen | changed)

    assert possible()
    assert possible(predictor=ensemble(members=1), config=PropagationConfig(follow="mean"))
    assert not possible(platform="cpu")
    assert not possible(model=cost_model(get_space("nas-bench-mr")))
    assert not possible(predictor=dataclasses.replace(predictor, apply=lambda params, x: x))
    assert not possible(weights=dataclasses.replace(weights, fixed=False))
    region = TrustRegion(np.zeros((2, 24), np.float32), 1.0, 1.0)
    for settings in (
        {"follow": "mean"},
        {"follow": "bound"},
        {"transform": optax.sgd(1.0)},
        {"region": region},
        {"discreteness": "annealed"},
    ):
        assert not possible(config=PropagationConfig(**settings)), settings


def test_of_two_kernels_the_faster_one_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = Plan(Shape(8, 1, "auto"), jax.devices()[0], 8, 8)
    ran: list[str] = []

    def invert(plan: Plan) -> jax.Array:
        ran.append(plan.shape.kernel)
        return jax.numpy.zeros(2)

    def first_of(timed: dict[str, Callable], key: Any) -> str:
        for run in timed.values():
            run()
        return "pallas"

    monkeypatch.setattr(execution, "fastest", first_of)
    chosen = plan.with_kernel(invert, key="any")
    assert chosen == dataclasses.replace(plan, shape=Shape(8, 1, "pallas"))
    assert ran == ["xla", "pallas"]
    assert chosen.with_kernel(invert, key="any") is chosen
    assert len(ran) == 2


def test_a_kernel_that_fails_is_not_taken() -> None:
    def invert(plan: Plan) -> jax.Array:
        if plan.shape.kernel == "pallas":
            raise RuntimeError("out of shared memory")
        return jax.numpy.zeros(2)

    plan = Plan(Shape(8, 1, "auto"), jax.devices()[0], 8, 8)
    with pytest.warns(UserWarning, match="pallas failed and is not used: RuntimeError: out of shared memory"):
        assert plan.with_kernel(invert, key=object()).shape.kernel == "xla"


def test_starts_by_their_numbers() -> None:
    rows = np.asarray(SPACE.sample(jax.random.key(0), 5))
    given_ones = Starts(SPACE, 5, rows, None)
    np.testing.assert_array_equal(given_ones.codes(3, 2), rows[3:])
    np.testing.assert_array_equal(given_ones.codes(3, 4), rows[[3, 4, 4, 4]])
    drawn = Starts(SPACE, 5, None, lambda n, first: np.asarray(SPACE.sample(jax.random.key(0), n, first)))
    np.testing.assert_array_equal(drawn.codes(0, 5), rows)
    np.testing.assert_array_equal(drawn.relaxed(2, 2), SPACE.encode(rows[2:4]))
