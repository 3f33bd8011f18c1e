from __future__ import annotations

import dataclasses
import json
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Execution, Found, Objective, PropagationConfig, engine, execution, inversion, propagate
from ncp_jax.spaces import get_space
from ncp_jax.types import Array

Make = Callable[..., Predictor]
GOAL = Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5})
FEW = PropagationConfig(steps=5, learning_rate=60.0)  # far enough for codes to change
SPACE = get_space("transnas-micro")
CODES = 70  # three portions, the last of less than a unit
UNIT = 16  # codes that stay together: a tile of 8 for each of two members
# Optimised: most of these tests are that programs of different sizes return the same bits.
pytestmark = pytest.mark.usefixtures("optimised_module", "small_portions")


def networks(codes: np.ndarray) -> set[tuple[int, ...]]:
    """The different networks that codes denote."""
    return {tuple(c) for c in np.asarray(SPACE.canonical(jnp.asarray(codes))).tolist()}


def assert_same(one: Found, other: Found) -> None:
    """The same to the last bit, but for timing and what was scored on the way."""
    for name in ("codes", "mean", "spread", "score"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@pytest.fixture(scope="module")
def predictor(ensemble: Make) -> Predictor:
    return ensemble()


@pytest.fixture(scope="module")
def found(predictor: Predictor) -> Found:
    return propagate(predictor, GOAL, codes=CODES, key=jax.random.key(0), config=FEW)


def test_what_is_found(found: Found, predictor: Predictor) -> None:
    np.testing.assert_array_equal(found.starts, SPACE.sample(jax.random.key(0), CODES))
    assert np.asarray(SPACE.is_valid(found.codes)).all()
    assert len(networks(found.codes)) == len(found), "a network twice"
    mean, spread = predictor(SPACE.encode(jnp.asarray(found.codes)))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-4, atol=1e-5)
    # Means are 2 and deviations 1/2 for each metric of these ensembles.
    np.testing.assert_allclose(found.score, (found.mean - 2) / 0.5 @ [1.0, 0.0, -0.5], rtol=1e-4, atol=1e-4)
    assert (np.diff(found.score) <= 0).all()
    assert found.costs == {}
    assert set(found.timing) == {"compile", "search", "code_steps_per_s"}
    assert found.timing["code_steps_per_s"] > 0


def test_it_climbs(found: Found, predictor: Predictor) -> None:
    mean, _ = predictor(SPACE.encode(jnp.asarray(found.starts)))
    begun = (np.asarray(mean) - 2) / 0.5 @ [1.0, 0.0, -0.5]
    assert found.score.mean() > begun.mean() + 0.1
    assert found.score[0] >= begun.max()


def test_every_start_leads_to_the_projection_of_its_end(found: Found, predictor: Predictor) -> None:
    box = (jnp.asarray(SPACE.lower), jnp.asarray(SPACE.upper))
    ends = engine.invert(predictor, GOAL.weights(predictor.metrics), SPACE.encode(found.starts), box, FEW)
    codes = np.unique(SPACE.project(ends), axis=0)
    assert networks(codes) == networks(found.codes)
    assert len(codes) > len(found), "no two codes of a network are reached: that isomorphs go is not tested"


def test_more_codes_do_not_change_the_others(found: Found, predictor: Predictor) -> None:
    for codes in (8, 45):
        less = propagate(predictor, GOAL, codes=codes, key=jax.random.key(0), config=FEW)
        np.testing.assert_array_equal(less.starts, found.starts[:codes])
        assert networks(less.codes) < networks(found.codes)
        both = {tuple(code): score for code, score in zip(found.codes.tolist(), found.score, strict=True)}
        again = [
            (both[tuple(code)], score)
            for code, score in zip(less.codes.tolist(), less.score, strict=True)
            if tuple(code) in both
        ]
        assert again
        assert all(one == other for one, other in again)


@pytest.mark.parametrize("follow", ["member", "mean"])
def test_the_portions_change_no_bit(
    found: Found, predictor: Predictor, monkeypatch: pytest.MonkeyPatch, follow: str
) -> None:
    config = dataclasses.replace(FEW, follow=follow)
    portions: list[tuple[int, int]] = []

    def search() -> Found:
        portions.clear()
        progress = Execution(progress=lambda done, total: portions.append((done, total)))
        return propagate(predictor, GOAL, start=found.starts, config=config, execution=progress)

    # Whole units: 16 codes where each of two members has its tile of 8, 8 codes where all are followed.
    wanted = search()
    assert portions == [(32, 70), (64, 70), (70, 70)]
    if follow == "member":
        assert_same(wanted, found)
    monkeypatch.setitem(execution.LARGEST, "cpu", UNIT)
    assert_same(search(), wanted)
    assert portions == [(16, 70), (32, 70), (48, 70), (64, 70), (70, 70)]
    monkeypatch.setitem(execution.LARGEST, "cpu", 10**6)
    assert_same(search(), wanted)
    assert portions == [(70, 70)]


def test_little_memory_makes_more_portions_and_changes_no_bit(
    found: Found, predictor: Predictor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(execution.LARGEST, "cpu", 10**6)
    with pytest.raises(UsageError, match="expected memory_mb >= ") as error:
        propagate(predictor, GOAL, start=found.starts, config=FEW, execution=Execution(memory_mb=1e-3))
    least = float(str(error.value).split(">= ")[1].split(",")[0])
    monkeypatch.setattr(execution, "bytes_in_flight", lambda *_: least * 1e6 - 40 * 48 * 24)  # room for 40 codes
    done: list[int] = []
    tight = Execution(memory_mb=least, progress=lambda codes, _: done.append(codes))
    assert_same(propagate(predictor, GOAL, start=found.starts, config=FEW, execution=tight), found)
    assert done == [32, 64, 70]


def test_what_is_kept_is_the_head(found: Found, predictor: Predictor) -> None:
    for keep in (1, 7, len(found), 10**6):
        short = propagate(predictor, GOAL, start=found.starts, config=FEW, execution=Execution(keep=keep))
        assert_same(short, found.top(keep))


def test_starts_are_kept_up_to_a_number(found: Found, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inversion, "STARTS", 5)
    again = propagate(predictor, GOAL, codes=CODES, key=jax.random.key(0), config=FEW)
    np.testing.assert_array_equal(again.starts, found.starts[:5])
    assert_same(again, found)


def test_restarts_find_more_networks(found: Found, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(FEW, restarts=2)

    def search(**settings: object) -> Found:
        return propagate(predictor, GOAL, codes=CODES, key=jax.random.key(0), config=config, **settings)

    more = search()
    assert networks(more.codes) > networks(found.codes)
    assert more.scored > found.scored
    assert more.score[0] >= found.score[0]
    assert_same(search(), more)
    monkeypatch.setitem(execution.LARGEST, "cpu", 10**6)
    assert_same(search(execution=Execution(memory_mb=1000.0)), more)
    with pytest.raises(UsageError, match=r"expected a key with restarts, got none; try key=jax\.random\.key\(0\)"):
        propagate(predictor, GOAL, start=found.starts, config=config)
    other = propagate(predictor, GOAL, start=found.starts, key=jax.random.key(9), config=config)
    assert networks(other.codes) > networks(found.codes)
    assert networks(other.codes) != networks(more.codes)


def test_restarts_begin_where_their_keys_say(found: Found, predictor: Predictor) -> None:
    """The same unit by unit: of the codes that last began, those on a network reached before draw a new start."""
    key, rounds, reached = jax.random.key(0), 2, set()
    box, weights = (jnp.asarray(SPACE.lower), jnp.asarray(SPACE.upper)), GOAL.weights(predictor.metrics)
    for first in range(0, CODES, UNIT):
        numbers, here = list(range(min(UNIT, CODES - first))), []
        starts = np.asarray(SPACE.sample(key, UNIT, first))
        for again in range(rounds + 1):
            ends = engine.invert(predictor, weights, SPACE.encode(starts), box, FEW)
            ends = SPACE.canonical(SPACE.project(ends[: len(numbers)]))
            missed = []
            for number, code in zip(numbers, np.asarray(ends).tolist(), strict=True):
                if tuple(code) in here:
                    missed.append(number)
                here.append(tuple(code))
            # A restarted code takes the place, and with it the member, that its rank among them gives it.
            numbers = missed
            fresh = np.asarray(SPACE.sample(jax.random.fold_in(key, 2**31 + again), UNIT, first))
            starts = fresh[np.resize(numbers or [0], UNIT)]
        reached |= set(here)
    config = dataclasses.replace(FEW, restarts=rounds)
    again = propagate(predictor, GOAL, codes=CODES, key=key, config=config)
    assert networks(again.codes) == reached
    assert len(reached) > len(found)


def score_of(predictor: Predictor, codes: np.ndarray) -> np.ndarray:
    mean, _ = predictor(SPACE.encode(jnp.asarray(codes)))
    return (np.asarray(mean) - 2) / 0.5 @ [1.0, 0.0, -0.5]


def test_polish_leaves_no_better_neighbour(found: Found, predictor: Predictor) -> None:
    def search(steps: int, polish: int, keep: int = 100) -> Found:
        config = PropagationConfig(steps=steps, learning_rate=60.0, polish=polish)
        return propagate(predictor, GOAL, start=found.starts[:16], config=config, execution=Execution(keep=keep))

    for steps in (0, 5):
        rough, polished = search(steps, 0), search(steps, 4)
        assert polished.score[0] > rough.score[0] + (0.1 if steps == 0 else -1e-9)
        assert networks(polished.codes) > networks(rough.codes)
        assert polished.scored > rough.scored
        near, valid = SPACE.neighbours(jnp.asarray(polished.codes[0]))
        assert score_of(predictor, np.asarray(near)[np.asarray(valid)]).max() <= polished.score[0] + 1e-5
        # What is kept changes nothing in what is polished.
        short = search(steps, 4, keep=2)
        assert_same(short, polished.top(2))
        assert short.scored == polished.scored


def linear(mean: Array, spread: Array) -> Array:
    return mean[0] - 0.5 * mean[2]


def test_a_function_may_be_the_objective(found: Found, predictor: Predictor) -> None:
    written = propagate(predictor, linear, start=found.starts, config=FEW)
    np.testing.assert_array_equal(written.codes, found.codes)
    np.testing.assert_allclose(written.score, found.score, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", ["plain", "function", "restarts and polish"])
def test_the_second_call_compiles_nothing(
    found: Found, predictor: Predictor, caplog: pytest.LogCaptureFixture, case: str
) -> None:
    goal = linear if case == "function" else GOAL
    config = dataclasses.replace(FEW, restarts=2, polish=4) if case == "restarts and polish" else FEW
    propagate(predictor, goal, codes=CODES, key=jax.random.key(0), config=config)
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.jit(lambda x: x * 3)(np.arange(7))
        before = sum("Finished XLA compilation" in text for text in caplog.messages)
        other = propagate(predictor, goal, codes=CODES, key=jax.random.key(5), config=config)
    assert before == 1, "compilations are not logged as this test expects"
    # The number of distinct codes found differs: no shape may depend on it.
    assert sum("Finished XLA compilation" in text for text in caplog.messages) == before
    assert (other.starts != found.starts).any()


def test_same_key_same_result(found: Found, predictor: Predictor) -> None:
    again = propagate(predictor, GOAL, codes=CODES, key=jax.random.key(0), config=FEW)
    assert_same(again, found)


def test_given_starts(found: Found, predictor: Predictor) -> None:
    given_starts = propagate(predictor, GOAL, start=found.starts, config=FEW)
    np.testing.assert_array_equal(given_starts.codes, found.codes)
    one = propagate(predictor, GOAL, start=found.starts[0], config=FEW)
    assert one.starts.shape == (1, 6)
    assert networks(one.codes) <= networks(found.codes)
    still = propagate(predictor, GOAL, start=found.starts[:2], config=PropagationConfig(steps=0))
    assert networks(still.codes) == networks(found.starts[:2])


def test_rows_are_json(found: Found) -> None:
    rows = json.loads(json.dumps(found.rows(), allow_nan=False))
    assert len(rows) == len(found)
    assert set(rows[0]) == {"code", "string", "predicted", "spread", "score"}
    assert list(rows[0]["predicted"]) == ["acc", "loss", "flops"]
    np.testing.assert_array_equal(SPACE.from_string(rows[3]["string"]), rows[3]["code"])
    assert rows[3]["code"] == found.codes[3].tolist()
    assert rows[3]["predicted"]["loss"] == pytest.approx(found.mean[3, 1])
    assert rows[3]["spread"]["flops"] == pytest.approx(found.spread[3, 2])
    content = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert content["schema"] == "propagate/1"
    assert content["architectures"] == rows
    assert [m["name"] for m in content["metrics"]] == [m.name for m in found.metrics]
    assert set(content["timing"]) == {"compile", "search", "code_steps_per_s"}


def test_top_and_text(found: Found) -> None:
    top = found.top(3)
    assert len(top) == 3
    np.testing.assert_array_equal(top.codes, found.codes[:3])
    assert len(found.top(10**6)) == len(found)
    head, *lines = str(top).splitlines()
    assert head.split() == ["rank", "acc", "[%]", "loss", "flops", "[GMAC]", "score", "architecture"]
    assert [line.split()[0] for line in lines] == ["1", "2", "3"]
    assert [line.split()[-1] for line in lines] == top.strings()
    assert f"{found.mean[0, 0]:.3f} ±{found.spread[0, 0]:.3f}" in lines[0]


def test_64_bits_change_nothing(ensemble: Make) -> None:
    """Whatever JAX_ENABLE_X64 says: the same draws, the same programs."""
    config = dataclasses.replace(FEW, polish=2, restarts=1)
    start = np.asarray(SPACE.sample(jax.random.key(3), 9))
    plain = propagate(ensemble(), GOAL, codes=CODES, key=jax.random.key(0), config=config)
    given = propagate(ensemble(), GOAL, start=start, config=FEW)
    with jax.enable_x64(True):
        assert_same(propagate(ensemble(), GOAL, codes=CODES, key=jax.random.key(0), config=config), plain)
        assert_same(propagate(ensemble(), GOAL, start=start.astype(np.int64), config=FEW), given)
        wide = jax.tree.map(lambda a: jnp.asarray(a, jnp.float64), ensemble())
        np.testing.assert_allclose(propagate(wide, GOAL, start=start, config=FEW).score, given.score)
        half = propagate(ensemble(), lambda mean, spread: mean[0] * jnp.float64(0.5), codes=4, key=0, config=FEW)
        assert np.isfinite(half.score).all()
