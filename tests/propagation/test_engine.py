from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Objective, ObjectiveWeights, PropagationConfig, TrustRegion, engine, invert
from ncp_jax.spaces import get_space

Make = Callable[..., Predictor]
F = 24  # transnas-micro
WIDE = (jnp.full(F, -1e3), jnp.full(F, 1e3))
UNIT = (jnp.zeros(F), jnp.ones(F))
STARTS = np.random.default_rng(2).uniform(0, 1, (6, F)).astype(np.float32)


def slopes(predictor: Predictor) -> np.ndarray:
    """Of a linear ensemble: derivative of each standard metric by each standard feature, [members, f, m]."""
    return np.asarray(predictor.params["w"][0], np.float64)


def standard(predictor: Predictor, raw: object) -> np.ndarray:
    return (np.asarray(raw, np.float64) - np.asarray(predictor.scale.x_mean)) / np.asarray(predictor.scale.x_std)


def descend(predictor: Predictor, weights: ObjectiveWeights, config: PropagationConfig, x: np.ndarray) -> np.ndarray:
    """What ``invert`` should return for a linear ensemble in a wide box, standard units, one code after the other."""
    push, hold, ceiling = (np.asarray(a, np.float64) for a in (weights.push, weights.hold, weights.ceiling))
    w, b = slopes(predictor), np.asarray(predictor.params["b"][0], np.float64)
    ends = []
    for i, point in enumerate(standard(predictor, x)):
        k = i % len(w)
        matrix, bias = (w[k], b[k]) if config.follow == "member" else (w.mean(axis=0), b.mean(axis=0))
        begin = point @ matrix + bias
        for _ in range(config.steps):
            z = point @ matrix + bias
            slope = -push * config.delta + hold * np.clip(z - begin, -1, 1)
            slope = slope + (z > ceiling) * config.ceiling_weight * config.delta
            point = point - config.learning_rate * matrix @ slope
        ends.append(point)
    return np.stack(ends)


GOALS = {
    "up and down": Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5}),
    "hold": Objective(maximize={"acc": 1.0}, hold={"loss": 1.0}),
}


@pytest.mark.parametrize("follow", ["member", "mean"])
@pytest.mark.parametrize("goal", GOALS)
def test_linear_ensembles_in_closed_form(ensemble: Make, follow: str, goal: str) -> None:
    predictor = ensemble(members=3, hidden=())
    config = PropagationConfig(steps=7, learning_rate=0.7, follow=follow)
    weights = GOALS[goal].weights(predictor.metrics, {"flops": 0.4})
    end = invert(predictor, weights, jnp.asarray(STARTS), WIDE, config)
    np.testing.assert_allclose(
        standard(predictor, end), descend(predictor, weights, config, STARTS), rtol=1e-4, atol=1e-4
    )


def predictions(predictor: Predictor, raw: object) -> np.ndarray:
    """Ensemble mean in standard units."""
    return standard(predictor, raw) @ slopes(predictor).mean(axis=0) + np.asarray(predictor.params["b"][0]).mean(axis=0)


def test_hold_keeps_a_metric_that_would_drift(ensemble: Make) -> None:
    predictor = ensemble(members=1, hidden=())
    config = PropagationConfig(steps=60, learning_rate=0.2, follow="mean")
    drift = {}
    for name, goal in (("free", Objective(maximize={"acc": 1.0})), ("held", GOALS["hold"])):
        end = invert(predictor, goal.weights(predictor.metrics), jnp.asarray(STARTS), WIDE, config)
        drift[name] = predictions(predictor, end) - predictions(predictor, STARTS)
    assert (np.abs(drift["held"][:, 1]) < 0.3 * np.abs(drift["free"][:, 1])).all()
    assert (drift["held"][:, 0] > 0.1).all()


def test_a_metric_is_pushed_below_its_ceiling_and_no_further(ensemble: Make) -> None:
    predictor = ensemble(members=1, hidden=())
    config = PropagationConfig(steps=60, learning_rate=1.0, follow="mean", ceiling_weight=4.0)
    goal, ends = Objective(maximize={"acc": 1.0}), {}
    for name, limit in (("none", {}), ("low", {"flops": -2.0}), ("high", {"flops": 1e6})):
        end = invert(predictor, goal.weights(predictor.metrics, limit), jnp.asarray(STARTS), WIDE, config)
        ends[name] = predictions(predictor, end)
    one_step = 0.1 * 5 * np.abs(slopes(predictor)[0].T @ slopes(predictor)[0]).sum(axis=0).max()
    assert (np.abs(ends["low"][:, 2] + 2.0) < one_step).all()
    np.testing.assert_array_equal(ends["high"], ends["none"])
    assert (ends["low"][:, 2] != ends["none"][:, 2]).all()


def test_logarithms_are_differentiated_too(ensemble: Make) -> None:
    predictor = ensemble("nas-bench-mr", members=2, hidden=(5,), log=True)
    f = 27
    starts = np.random.default_rng(0).uniform(1, 100, (4, f)).astype(np.float32)
    mean, std = (np.asarray(a, np.float64) for a in (predictor.scale.x_mean, predictor.scale.x_std))

    def loss(k: int, x: np.ndarray) -> float:
        """The linear form that one step descends, of member k, float64."""
        (w1, w2), (b1, b2) = ([np.asarray(a[k], np.float64) for a in predictor.params[n]] for n in ("w", "b"))
        hidden = np.concatenate([x, np.log2(np.maximum(x * std + mean, 0.5))]) @ w1 + b1
        z = (hidden / (1 + np.exp(-hidden))) @ w2 + b2
        return -0.1 * z[0] + 0.05 * z[2]

    config = PropagationConfig(steps=1, learning_rate=3.0)
    wide = (jnp.full(f, -1e4), jnp.full(f, 1e4))
    end = standard(
        predictor, invert(predictor, GOALS["up and down"].weights(predictor.metrics), jnp.asarray(starts), wide, config)
    )
    for i, x in enumerate((starts - mean) / std):
        gradient = [(loss(i % 2, x + 1e-5 * e) - loss(i % 2, x - 1e-5 * e)) / 2e-5 for e in np.eye(f)]
        np.testing.assert_allclose(x - 3.0 * np.array(gradient), end[i], atol=1e-4)
        assert np.abs(gradient).max() > 1e-3


@pytest.fixture
def small(ensemble: Make) -> Callable[..., np.ndarray]:
    """Inverts with one curved ensemble in the space's box, a few steps."""
    predictor = ensemble(members=2, hidden=(6,))
    weights = GOALS["up and down"].weights(predictor.metrics)

    def run(starts: object, **numbers: object) -> jax.Array:
        return invert(predictor, weights, jnp.asarray(starts), UNIT, PropagationConfig(steps=5, **numbers))

    return run


def test_the_numbers_of_the_config_may_be_swept_by_vmap(small: Callable) -> None:
    rates, deltas = jnp.array([0.5, 3.0, 3.0]), jnp.array([0.1, 0.1, 0.3])
    swept = jax.vmap(lambda rate, delta: small(STARTS, learning_rate=rate, delta=delta))(rates, deltas)
    for i in range(3):
        one = small(STARTS, learning_rate=float(rates[i]), delta=float(deltas[i]))
        np.testing.assert_allclose(swept[i], one, atol=1e-5)
    assert len({np.asarray(row).tobytes() for row in swept}) == 3


def test_objectives_may_be_swept_by_vmap(ensemble: Make) -> None:
    predictor = ensemble(members=2, hidden=(6,))
    goals = [Objective(maximize={"acc": 1.0}, minimize={"flops": w}).weights(predictor.metrics) for w in (0.1, 2.0)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *goals)
    box, config = UNIT, PropagationConfig(steps=5)
    swept = jax.vmap(lambda weights: invert(predictor, weights, jnp.asarray(STARTS), box, config))(stacked)
    for got, weights in zip(swept, goals, strict=True):
        np.testing.assert_allclose(got, invert(predictor, weights, jnp.asarray(STARTS), box, config), atol=1e-5)
    assert np.abs(np.asarray(swept[0] - swept[1])).max() > 1e-2


def test_a_batch_equals_its_rows(small: Callable) -> None:
    batch = np.asarray(small(STARTS))
    for i in range(0, len(STARTS), 2):
        # Two codes a call: the first follows the first network, the second the second.
        np.testing.assert_allclose(small(STARTS[i : i + 2]), batch[i : i + 2], atol=1e-5)


def test_no_step_is_no_move(ensemble: Make) -> None:
    predictor = ensemble(hidden=())
    weights = GOALS["up and down"].weights(predictor.metrics)
    end = invert(predictor, weights, jnp.asarray(STARTS), WIDE, PropagationConfig(steps=0))
    np.testing.assert_allclose(end, STARTS, atol=1e-6)


def test_other_numbers_do_not_recompile(small: Callable) -> None:
    small(STARTS, learning_rate=1.0)
    programs = engine._compiled(engine.cpu_options())
    before = programs._cache_size()
    small(STARTS[::-1], learning_rate=2.0, delta=0.4)
    assert programs._cache_size() == before
    small(STARTS, strategy="winner-takes-all")
    assert programs._cache_size() == before + 1


def test_other_counts_do_not_recompile(ensemble: Make) -> None:
    predictor = ensemble(members=2, hidden=(6,))
    weights, config = GOALS["up and down"].weights(predictor.metrics), PropagationConfig(steps=5)
    programs = engine._compiled(engine.cpu_options())
    sizes = set()
    for count in (6, 0, 3):
        engine.run(predictor, weights, jnp.asarray(STARTS), UNIT, config, None, count)
        sizes.add(programs._cache_size())
    assert len(sizes) == 1


@given(
    n=st.integers(1, 40),
    tile=st.sampled_from([1, 4, 8]),
    members=st.sampled_from([1, 2, 3]),
    multiple=st.sampled_from([1, 2, 6]),
)
def test_tiles_hold_every_row_once_and_give_it_back(n: int, tile: int, members: int, multiple: int) -> None:
    rows = np.arange(1, n + 1, dtype=np.float32)[:, None] * np.array([1, 100], np.float32)
    with mock.patch.object(engine, "jnp", np):  # which would compile for each of these shapes
        tiles = engine.into_tiles(rows, tile, members, multiple)
        back = engine.from_tiles(tiles, n, members)
    np.testing.assert_array_equal(back, rows)
    assert tiles.shape[1:] == (tile, 2)
    assert len(tiles) % multiple == 0
    for i, row in enumerate(rows):
        unit, place = divmod(i, tile * members)
        np.testing.assert_array_equal(tiles[unit * members + place % members, place // members], row)
    assert {tuple(row) for row in tiles.reshape(-1, 2)} == {tuple(row) for row in rows}


@given(count=st.integers(0, 10**4), tile=st.integers(1, 600), members=st.integers(1, 9))
def test_tiles_are_needed_as_far_as_they_hold_a_row(count: int, tile: int, members: int) -> None:
    rows = np.arange(count)
    held = rows // (tile * members) * members + rows % members
    wanted = held.max() + 1 if count else 0
    assert int(engine.tiles_needed(np.int32(count), tile, members)) == wanted


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("follow", ["member", "mean"])
def test_a_row_ends_at_the_same_bits_whatever_else_there_is(ensemble: Make, small_tiles: int, follow: str) -> None:
    predictor, n = ensemble(members=3, hidden=(6, 5)), 60
    weights, config = GOALS["hold"].weights(predictor.metrics), PropagationConfig(steps=4, follow=follow)
    starts = np.random.default_rng(0).uniform(0, 1, (n, F)).astype(np.float32)
    whole = np.asarray(invert(predictor, weights, jnp.asarray(starts), UNIT, config))
    part = invert(predictor, weights, jnp.asarray(starts[:25]), UNIT, config)
    np.testing.assert_array_equal(part, whole[:25])
    other = starts[::-1].copy()
    other[[3, 30, 59]] = starts[[3, 30, 59]]
    ends = np.asarray(invert(predictor, weights, jnp.asarray(other), UNIT, config))
    np.testing.assert_array_equal(ends[[3, 30, 59]], whole[[3, 30, 59]])
    assert (ends[4] != whole[4]).any()
    # Fewer rows: their tiles move, and the tiles behind them stay.
    unit = small_tiles * (3 if follow == "member" else 1)
    for count in (0, 1, 26):
        part = np.asarray(engine.run(predictor, weights, jnp.asarray(starts), UNIT, config, None, count))
        np.testing.assert_array_equal(part[:count], whole[:count])
        idle = (count // unit + 2) * unit  # one tile more may move beside the last one needed
        np.testing.assert_allclose(part[idle:], starts[idle:], atol=1e-6)


@given(rows=st.integers(0, 10**6), shares=st.integers(1, 9), networks=st.sampled_from([1, 8]))
def test_tiles_are_large_and_nearly_full_and_all_lanes_are_busy(rows: int, shares: int, networks: int) -> None:
    tile, lanes = engine.tile_shape(rows, shares, networks, "cpu")
    growth = engine.GROWTH if networks == 1 else engine.GROWTH_OF_SEVERAL
    smallest, most = engine.TILE["cpu"], engine.TILE["cpu"] * growth["cpu"]
    assert tile % smallest == 0
    assert smallest <= tile <= most
    together = max(1, min(rows, -(-rows * shares // lanes)))
    tiles = -(-together // tile)
    assert tiles == -(-together // most), "more tiles than needed"
    assert tiles * tile - together < tiles * smallest, "rows that nobody needs"
    assert engine.tile_shape(rows, shares, networks, "gpu") == (engine.TILE_ELSEWHERE, 1)


@pytest.mark.parametrize("width", [12, 24, 48])  # rows of a block of Eigen's products: NEON, AVX2, AVX-512
def test_a_tile_is_a_whole_number_of_blocks(width: int) -> None:
    assert engine.TILE["cpu"] % width == 0


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("goal", GOALS)
def test_larger_tiles_of_one_network_change_no_bit(ensemble: Make, goal: str) -> None:
    predictor = ensemble(members=1, hidden=(96, 64))
    weights, config = GOALS[goal].weights(predictor.metrics), PropagationConfig(steps=3)
    n = 2 * engine.TILE["cpu"] * engine.GROWTH["cpu"]
    starts = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (n, F)), jnp.float32)
    assert engine.shape_for(predictor, config, n, "cpu")[0] == engine.TILE["cpu"] * engine.GROWTH["cpu"]
    ends = [
        np.asarray(engine.run(predictor, weights, starts, UNIT, config, None, n, engine.Shape(tile, 2)))
        for tile in (engine.TILE["cpu"] * growth for growth in (1, 2, 11, engine.GROWTH["cpu"]))
    ]
    for other in ends[1:]:
        np.testing.assert_array_equal(ends[0], other)


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("follow", ["mean", "bound"])
def test_larger_tiles_of_several_networks_change_no_bit(ensemble: Make, follow: str) -> None:
    predictor = ensemble(members=3, hidden=(96, 64))
    weights, config = GOALS["up and down"].weights(predictor.metrics), PropagationConfig(steps=3, follow=follow)
    most = engine.TILE["cpu"] * engine.GROWTH_OF_SEVERAL["cpu"]
    starts = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (2 * most, F)), jnp.float32)
    assert engine.shape_for(predictor, config, 2 * most, "cpu")[0] == most
    ends = [
        np.asarray(engine.run(predictor, weights, starts, UNIT, config, None, 2 * most, engine.Shape(tile, 2)))
        for tile in (engine.TILE["cpu"], 5 * engine.TILE["cpu"], most)
    ]
    for other in ends[1:]:
        np.testing.assert_array_equal(ends[0], other)


@pytest.mark.parametrize(
    ("starts", "box"), [(STARTS[0], UNIT), (STARTS, (UNIT[0][:-1], UNIT[1])), (STARTS, (UNIT[0][None], UNIT[1][None]))]
)
def test_shapes_are_checked_while_tracing(ensemble: Make, starts: np.ndarray, box: engine.Box) -> None:
    predictor = ensemble(members=1)
    weights = GOALS["hold"].weights(predictor.metrics)
    with pytest.raises(AssertionError):
        invert(predictor, weights, starts, box, PropagationConfig(steps=1))


@pytest.mark.usefixtures("optimised")
@pytest.mark.parametrize("goal", GOALS)
def test_larger_tiles_change_nothing_but_rounding(ensemble: Make, goal: str) -> None:
    predictor = ensemble(members=2, hidden=(48, 32))
    weights, config = GOALS[goal].weights(predictor.metrics), PropagationConfig(steps=4, follow="mean")
    starts = jnp.asarray(np.random.default_rng(0).uniform(0, 1, (200, F)), jnp.float32)
    ends = [
        np.asarray(engine.run(predictor, weights, starts, UNIT, config, None, 200, engine.Shape(*shape)))
        for shape in ((64, 2), (128, 2), (64, 1))
    ]
    np.testing.assert_allclose(ends[1], ends[0], atol=1e-5)
    np.testing.assert_array_equal(ends[2], ends[0])  # how many tiles are in flight changes no bit


def test_confidence_and_the_weight_of_the_region_may_be_swept_by_vmap(ensemble: Make) -> None:
    predictor, space = ensemble(members=2), get_space("transnas-micro")
    weights = GOALS["up and down"].weights(predictor.metrics)
    region = TrustRegion.around(np.asarray(space.sample(jax.random.key(0), 50)), space, predictor.scale)
    region = dataclasses.replace(region, threshold=region.threshold / 2)

    def end(confidence: Any, weight: Any) -> jax.Array:
        near = dataclasses.replace(region, weight=weight)
        config = PropagationConfig(steps=5, follow="bound", confidence=confidence, region=near)
        return invert(predictor, weights, jnp.asarray(STARTS), UNIT, config)

    numbers = list(itertools.product((0.0, 2.0), (0.0, 1.5)))
    swept = jax.vmap(end)(*(jnp.array(column) for column in zip(*numbers, strict=True)))
    for got, pair in zip(swept, numbers, strict=True):
        np.testing.assert_allclose(got, end(*(jnp.float32(number) for number in pair)), atol=1e-5)
    assert len({np.asarray(row).tobytes() for row in swept}) == 4


def test_it_may_be_part_of_a_compiled_function(small: Callable) -> None:
    plain = np.asarray(small(STARTS))
    np.testing.assert_allclose(jax.jit(small)(STARTS), plain, atol=1e-5)
    np.testing.assert_allclose(jax.jit(lambda: small(STARTS))(), plain, atol=1e-5)  # all of it constant
