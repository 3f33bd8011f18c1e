"""Bounds: nearest codes against brute force, and the errors."""

from __future__ import annotations

import functools
import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.checks import UsageError
from ncp_jax.spaces import SPACES, get_space
from ncp_jax.spaces.bounds import Bounds, parse_bounds

N = 16  # one batch size, so that each bounds compile once
MR, NB201, MACRO = (get_space(name) for name in ("mr", "nb201", "macro"))
SOME = {
    "nas-bench-mr": (
        {"stage?.num_blocks": (1, 2), "*.num_channels[*]": (20, 64), "last_channel": (None, 8)},
        {26: (16, 80)},
    ),
    "nas-bench-201": ({"edge 0>?": (1, 3), "edge 2>3": (4, 4)}, {"edge 1>2": (None, 0)}),
    "transnas-micro": ({0: (2, 3), "*": (1, None)}, {"edge 0>3": (0, 1)}),
    "transnas-macro": ({"module 5": (0, 0)}, {"module 1": (1, 2), "module 3": (3, 4), "module 6": (1, None)}),
    "nats-size": ({"stage 1": (8, 16), "stage 5": (20, None)}, {"*": (24, 48)}),
}
CASES = [(name, i) for name in SPACES for i in range(2)]
seeds = st.integers(0, 2**31 - 1)
few = settings(max_examples=8, deadline=None)


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def bounds(request: pytest.FixtureRequest) -> Bounds:
    name, i = request.param
    return Bounds.of(SPACES[name], SOME[name][i])


def anywhere(space, seed, scale=1.5):
    """Relaxed codes around the middle of the box, most of them outside."""
    middle, half = (space.upper + space.lower) / 2, (space.upper - space.lower) / 2
    return (middle + scale * half * np.random.default_rng(seed).normal(size=(N, space.features))).astype(np.float32)


@functools.cache
def left_codes(bounds: Bounds) -> np.ndarray:
    """All codes left of an enumerable space, by loops over its list."""
    rows = bounds.space.all_codes().tolist()
    return np.array([row for row in rows if all(v in left for v, left in zip(row, bounds.values, strict=True))])


def test_every_space_is_tested() -> None:
    assert set(SOME) == set(SPACES)


def test_values_left() -> None:
    bounds = Bounds.of(MR, SOME["nas-bench-mr"][0])
    left = dict(zip(MR.position_names, bounds.values, strict=True))
    assert [left[f"stage{k}.num_blocks"] for k in range(1, 5)] == [(1, 2)] * 4
    assert left["stage4.num_channels[3]"] == (24, 32, 40, 48, 56, 64)
    assert left["last_channel"] == (8,)
    assert left["stage4.num_convs[3]"] == (1, 2, 3, 4)
    assert left["input_channel[0]"] == tuple(range(8, 129, 8))
    assert not bounds.all
    assert hash(bounds) == hash(Bounds.of(MR, SOME["nas-bench-mr"][0]))
    assert bounds != Bounds.of(MR, {})


def test_keys_meet_positions() -> None:
    by_name = Bounds.of(MR, {"input_channel[1]": (16, 16)})
    assert by_name.values[1] == (16,)
    assert by_name.values[0] == MR.values[0]  # the bracket is no set of characters
    for same in ({1: (16, 16)}, {np.int64(1): (16, 16)}, {"INPUT_channel[1]": (16, 16)}, {"*t_channel[1]": (16, 16)}):
        assert Bounds.of(MR, same) == by_name
    assert Bounds.of(MR, {"input_channel?0?": (8, 8)}).to_json() == {"input_channel[0]": [8]}


def test_later_keys_narrow_earlier_ones() -> None:
    assert Bounds.of(NB201, {"*": (1, 3), "edge 0>1": (2, None)}).values == ((2, 3), *((1, 2, 3),) * 5)
    assert Bounds.of(NB201, {"edge 0>1": (2, None), "*": (1, 3)}).values == ((2, 3), *((1, 2, 3),) * 5)


def test_unrestricted_bounds_are_the_space(bounds: Bounds) -> None:
    space = bounds.space
    free = Bounds.of(space, {"*": (None, None)})
    assert free.all
    assert free == Bounds(space, space.values)
    assert free.to_json() == {}
    assert free.size == space.size
    np.testing.assert_array_equal(free.lower, space.lower)
    np.testing.assert_array_equal(free.upper, space.upper)
    np.testing.assert_array_equal(free.sample(jax.random.key(3), N), space.sample(jax.random.key(3), N))

    @few
    @given(seeds)
    def check(seed: int) -> None:
        relaxed = anywhere(space, seed)
        np.testing.assert_array_equal(free.project(relaxed), space.project(relaxed))

    check()


def test_projection_is_within_and_idempotent(bounds: Bounds) -> None:
    @few
    @given(seeds, st.sampled_from([1.0, 1e3, 1e30]))
    def check(seed: int, scale: float) -> None:
        codes = bounds.project(anywhere(bounds.space, seed, scale))
        assert codes.dtype == jnp.int32
        assert bounds.contains(codes).all()
        assert bounds.space.is_valid(codes).all()
        np.testing.assert_array_equal(bounds.project(bounds.space.encode(codes)), codes)

    check()
    for extreme in (np.inf, -np.inf, np.nan):
        assert bounds.contains(bounds.project(np.full((2, bounds.space.features), extreme, np.float32))).all()


def test_projection_is_the_nearest_by_brute_force(bounds: Bounds) -> None:
    space = bounds.space

    @few
    @given(seeds)
    def check(seed: int) -> None:
        relaxed = anywhere(space, seed)
        got = np.asarray(bounds.project(relaxed))
        if space is MR:  # ordinal: position by position
            nearest = [
                [min(v, key=lambda a, x=x: abs(a - x)) for v, x in zip(bounds.values, row, strict=True)]
                for row in relaxed
            ]
            np.testing.assert_array_equal(got, nearest)
            return
        codes = left_codes(bounds)
        hot = np.asarray(space.encode(jnp.asarray(codes)), np.float64)
        distance = ((relaxed[:, None].astype(np.float64) - hot) ** 2).sum(axis=-1)
        np.testing.assert_array_equal(got, codes[distance.argmin(axis=1)])

    check()


def test_projection_batches(bounds: Bounds) -> None:
    relaxed = anywhere(bounds.space, 5)
    rows = bounds.project(relaxed)
    np.testing.assert_array_equal(bounds.project(relaxed[3]), rows[3])
    np.testing.assert_array_equal(bounds.project(relaxed.reshape(2, N // 2, -1)), rows.reshape(2, N // 2, -1))
    np.testing.assert_array_equal(jax.jit(lambda b, x: b.project(x))(bounds, relaxed), rows)
    np.testing.assert_array_equal(jax.vmap(bounds.project)(relaxed), rows)


def test_ties_go_to_the_lower_value() -> None:
    assert Bounds.of(MR, {"last_channel": (8, 24)}).project(np.full(27, 20.0, np.float32))[-1] == 16
    assert Bounds.of(NB201, {"*": (1, 3)}).project(np.zeros(30, np.float32)).tolist() == [1] * 6


def test_box_holds_the_codes_left_and_no_less(bounds: Bounds) -> None:
    space = bounds.space
    codes = bounds.sample(jax.random.key(0), 4000) if space is MR else jnp.asarray(left_codes(bounds))
    relaxed = np.asarray(space.encode(codes))
    np.testing.assert_array_equal(relaxed.min(axis=0), bounds.lower)
    np.testing.assert_array_equal(relaxed.max(axis=0), bounds.upper)
    assert bounds.lower.dtype == bounds.upper.dtype == np.float32


def test_box_of_a_categorical_space() -> None:
    bounds = Bounds.of(NB201, {"edge 0>1": (1, 3), "edge 0>2": (4, 4)})
    assert bounds.upper[:10].tolist() == [0, 1, 1, 1, 0, 0, 0, 0, 0, 1]
    assert bounds.lower[:10].tolist() == [0] * 9 + [1]
    assert (bounds.upper[10:] == 1).all()


def test_contains(bounds: Bounds) -> None:
    codes = bounds.space.sample(jax.random.key(1), 500)
    wanted = [all(v in left for v, left in zip(row, bounds.values, strict=True)) for row in codes.tolist()]
    assert bounds.contains(codes).tolist() == wanted
    assert jax.jit(bounds.contains)(codes.reshape(5, 100, -1)).shape == (5, 100)
    assert not bounds.contains(codes - 1000).any()


def test_sample_is_uniform_over_the_codes_left(bounds: Bounds) -> None:
    codes = np.asarray(bounds.sample(jax.random.key(2), 8000))
    assert bounds.contains(jnp.asarray(codes)).all()
    np.testing.assert_array_equal(codes[:3], bounds.sample(jax.random.key(2), 3))
    every = None if bounds.space is MR else left_codes(bounds)
    for place, values in enumerate(bounds.values):
        for value in values:
            share = 1 / len(values) if every is None else (every[:, place] == value).mean()
            error = math.sqrt(share * (1 - share) / len(codes))
            assert abs((codes[:, place] == value).mean() - share) <= 6 * error, (place, value)
    assert bounds.sample(jax.random.key(0), 0).shape == (0, bounds.space.length)
    with pytest.raises(UsageError, match="n >= 0"):
        bounds.sample(jax.random.key(0), -1)


def test_size(bounds: Bounds) -> None:
    wanted = math.prod(map(len, bounds.values)) if bounds.space is MR else len(left_codes(bounds))
    assert bounds.size == wanted


def test_values_that_no_legal_code_has_are_dropped() -> None:
    bounds = Bounds.of(MACRO, {"module 5": (0, 0)})
    assert bounds.values[5] == (0,)  # nothing comes after the end
    assert bounds == Bounds.of(MACRO, {"module 5": (0, 0), "module 6": (0, 0)})


def test_json_round_trip(bounds: Bounds) -> None:
    text = json.dumps(bounds.to_json())
    assert Bounds.from_json(bounds.space, json.loads(text)) == bounds
    restricted = [left != legal for left, legal in zip(bounds.values, bounds.space.values, strict=True)]
    assert len(json.loads(text)) == sum(restricted)


def test_json_may_hold_values_with_gaps() -> None:
    bounds = Bounds.from_json(MR, {"last_channel": [128, 8]})
    assert bounds.values[-1] == (8, 128)
    assert bounds.project(np.array([60.0] * 27, np.float32))[-1] == 8
    assert bounds.project(np.array([70.0] * 27, np.float32))[-1] == 128


def test_parse_bounds() -> None:
    texts = ("stage1.num_blocks=1..2", "last_channel=..64", "*.num_channels[*]=16", "3 = 2 ..", "edge 0>1=1..3")
    assert parse_bounds(texts) == {
        "stage1.num_blocks": (1, 2),
        "last_channel": (None, 64),
        "*.num_channels[*]": (16, 16),
        3: (2, None),
        "edge 0>1": (1, 3),
    }
    assert parse_bounds(()) == {}
    assert Bounds.of(MR, parse_bounds(texts[:4])).to_json()["stage2.num_channels[1]"] == [16]


@pytest.mark.parametrize(
    "text", ["", "last_channel", "last_channel=", "last_channel=..", "=1..2", "a=1...2", "a=1.5", "a=1..2..3", "a=x"]
)
def test_parse_bounds_of_another_form(text: str) -> None:
    with pytest.raises(UsageError, match=r"expected NAME=LOW\.\.HIGH.*got .*for example stage1\.num_blocks=1\.\.2"):
        parse_bounds([text])


def test_parse_bounds_twice() -> None:
    with pytest.raises(UsageError, match=r"each position or pattern once, got 'a' again in 'a=2'; write both ends"):
        parse_bounds(["a=1..", "a=2"])


@pytest.mark.parametrize(
    ("space", "limits", "text"),
    [
        (MR, {"stage1.num_block": (1, 2)}, r"known position, got 'stage1.num_block'; did you mean: stage1.num_blocks"),
        (MR, {"stage5.*": (1, 2)}, r"known position, got 'stage5\.\*'; did you mean: stage"),
        (MR, {"input_channel[01]": (8, 8)}, r"known position.*did you mean: input_channel\[1\]"),
        (MR, {27: (1, 2)}, r"a number 0\.\.26, got 27"),
        (MR, {-1: (1, 2)}, r"a number 0\.\.26, got -1"),
        (MR, {True: (1, 2)}, "got True"),
        (MR, {None: (1, 2)}, "got None"),
        (MR, {"last_channel": (9, 15)}, r"'last_channel' to leave last_channel some of 8, 16, .*, got 9\.\.15; widen"),
        (MR, {"*": (9, None)}, r"'\*' to leave stage1.num_blocks some of 1, 2, 3, 4, got 9\.\.;"),
        (MR, {"stage?.num_blocks": (1, 2), 2: (3, None)}, r"2 to leave stage1.num_blocks some of 1, 2, got 3\.\."),
        (MR, {"last_channel": (64, 8)}, r"low <= high for 'last_channel', got 64\.\.8; swap"),
        (MR, {"last_channel": (8.0, 64)}, r"two integers or None, got \(8\.0, 64\)"),
        (MR, {"last_channel": (8, math.nan)}, r"two integers or None, got \(8, nan\)"),
        (MR, {"last_channel": (True, 64)}, r"two integers or None, got \(True, 64\)"),
        (MR, {"last_channel": (8, 16, 24)}, "two integers or None"),
        (MR, {"last_channel": 16}, r"two integers or None, got 16; try \(1, 2\)"),
        (MR, ["last_channel=8"], r"a mapping of position to \(low, high\), got \['last_channel=8'\]"),
        (MACRO, {"*": (0, 2)}, r"leave a legal code of transnas-macro, got none with module 1 in 1, 2; .*widen one"),
    ],
)
def test_limits_that_are_wrong(space, limits, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Bounds.of(space, limits)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"last_chanel": [8]}, r"known position, got 'last_chanel'; did you mean: last_channel"),
        ({"last_channel": []}, r"values of last_channel, at least one of 8, 16, .*got \[\]"),
        ({"last_channel": [8, 9]}, r"values of last_channel, .*got \[8, 9\]; leave out the others"),
        ({"stage1.num_blocks": [True]}, r"got \[True\]"),
        ({"last_channel": 8}, "got 8"),
    ],
)
def test_json_that_is_wrong(values, text: str) -> None:
    with pytest.raises(UsageError, match=text):
        Bounds.from_json(MR, values)


def test_values_of_another_space() -> None:
    with pytest.raises(UsageError, match="values for each of the 27 positions of nas-bench-mr, got 6"):
        Bounds(MR, NB201.values)


def test_relaxed_codes_and_codes_of_another_space(bounds: Bounds) -> None:
    with pytest.raises(UsageError, match=f"relaxed codes of {bounds.space.name}"):
        bounds.project(np.zeros((3, 7), np.float32))
    with pytest.raises(UsageError, match=f"integer codes of {bounds.space.name}"):
        bounds.contains(np.zeros((3, 7), np.int32))
