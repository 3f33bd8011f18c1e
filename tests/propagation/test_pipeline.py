from __future__ import annotations

import json
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ncp_jax.checks import UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Found, Objective, PropagationConfig, pipeline, propagate
from ncp_jax.spaces import get_space

Make = Callable[..., Predictor]
GOAL = Objective(maximize={"acc": 1.0}, minimize={"flops": 0.5})
FEW = PropagationConfig(steps=5, learning_rate=60.0)  # far enough for codes to change


def networks(codes: np.ndarray) -> set[tuple[int, ...]]:
    """The different networks that codes denote."""
    return {tuple(c) for c in np.asarray(get_space("transnas-micro").canonical(jnp.asarray(codes))).tolist()}


@pytest.fixture(scope="module")
def predictor(ensemble: Make) -> Predictor:
    return ensemble()


@pytest.fixture(scope="module")
def found(predictor: Predictor) -> Found:
    return propagate(predictor, GOAL, codes=32, key=jax.random.key(0), config=FEW)


def test_what_is_found(found: Found, predictor: Predictor) -> None:
    space = get_space("transnas-micro")
    np.testing.assert_array_equal(found.starts, space.sample(jax.random.key(0), 32))
    assert np.asarray(space.is_valid(found.codes)).all()
    assert len(networks(found.codes)) == len(found), "a network twice"
    mean, spread = predictor(space.encode(jnp.asarray(found.codes)))
    np.testing.assert_allclose(found.mean, mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.spread, spread, rtol=1e-4, atol=1e-5)
    # Means are 2 and deviations 1/2 for each metric of these ensembles.
    np.testing.assert_allclose(found.score, (found.mean - 2) / 0.5 @ [1.0, 0.0, -0.5], rtol=1e-4, atol=1e-4)
    assert (np.diff(found.score) <= 0).all()
    assert found.costs == {}
    assert set(found.timing) == {"compile", "search", "code_steps_per_s"}
    assert found.timing["code_steps_per_s"] > 0


def test_it_climbs(found: Found, predictor: Predictor) -> None:
    mean, _ = predictor(get_space("transnas-micro").encode(jnp.asarray(found.starts)))
    begun = (np.asarray(mean) - 2) / 0.5 @ [1.0, 0.0, -0.5]
    assert found.score.mean() > begun.mean() + 0.1
    assert found.score[0] >= begun.max()


def test_every_start_leads_to_the_projection_of_its_end(found: Found, predictor: Predictor) -> None:
    _, ends = pipeline._invert_in_chunks(predictor, GOAL, None, get_space("transnas-micro"), found.starts, FEW)
    assert networks(get_space("transnas-micro").project(jnp.asarray(ends))) == networks(found.codes)


def test_more_codes_do_not_change_the_others(found: Found, predictor: Predictor) -> None:
    less = propagate(predictor, GOAL, codes=8, key=jax.random.key(0), config=FEW)
    np.testing.assert_array_equal(less.starts, found.starts[:8])
    assert networks(less.codes) < networks(found.codes)
    space = get_space("transnas-micro")
    few, many = (pipeline._invert_in_chunks(predictor, GOAL, None, space, f.starts, FEW)[1] for f in (less, found))
    np.testing.assert_allclose(few, many[:8], atol=1e-5)


def test_the_chunk_size_changes_nothing(found: Found, predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    # 32 codes as 8 + 8 + 8 + 8, and with a start given 20 as 8 + 8 + 4 and a padding.
    monkeypatch.setattr(pipeline, "CHUNK", 8)
    again = propagate(predictor, GOAL, codes=32, key=jax.random.key(0), config=FEW)
    np.testing.assert_array_equal(again.codes, found.codes)
    np.testing.assert_allclose(again.mean, found.mean, rtol=1e-5, atol=1e-5)
    part = propagate(predictor, GOAL, start=found.starts[:20], config=FEW)
    assert networks(part.codes) <= networks(found.codes)


def test_a_chunk_that_the_members_do_not_divide(ensemble: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor, space = ensemble(members=3), get_space("transnas-micro")
    starts = np.asarray(space.sample(jax.random.key(1), 10))
    whole = pipeline._invert_in_chunks(predictor, GOAL, None, space, starts, FEW)[1]
    monkeypatch.setattr(pipeline, "CHUNK", 4)
    np.testing.assert_allclose(
        pipeline._invert_in_chunks(predictor, GOAL, None, space, starts, FEW)[1], whole, atol=1e-5
    )


def test_the_second_call_compiles_nothing(found: Found, predictor: Predictor, caplog: pytest.LogCaptureFixture) -> None:
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.jit(lambda x: x * 3)(np.arange(7))
        before = sum("Finished XLA compilation" in text for text in caplog.messages)
        other = propagate(predictor, GOAL, codes=32, key=jax.random.key(5), config=FEW)
    assert before == 1, "compilations are not logged as this test expects"
    # The number of distinct codes found differs: no shape may depend on it.
    assert sum("Finished XLA compilation" in text for text in caplog.messages) == before
    assert (other.starts != found.starts).any()


def test_same_key_same_result(found: Found, predictor: Predictor) -> None:
    again = propagate(predictor, GOAL, codes=32, key=jax.random.key(0), config=FEW)
    np.testing.assert_array_equal(again.codes, found.codes)
    np.testing.assert_array_equal(again.mean, found.mean)


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
    np.testing.assert_array_equal(get_space("transnas-micro").from_string(rows[3]["string"]), rows[3]["code"])
    assert rows[3]["code"] == found.codes[3].tolist()
    assert rows[3]["predicted"]["loss"] == pytest.approx(found.mean[3, 1])
    assert rows[3]["spread"]["flops"] == pytest.approx(found.spread[3, 2])


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


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"codes": 0}, "expected codes to be an integer >= 1, got 0; try codes=4096"),
        ({"codes": -3}, "got -3"),
        ({"codes": 2.5}, "got 2.5"),
        ({"key": None}, r"expected a key or starts, got neither; try key=jax\.random\.key\(0\)"),
        ({"start": np.zeros((0, 6), int)}, "expected at least one start, got none"),
        ({"start": [0, 1, 2, 3, 4, 0]}, "in start 0, .*position 4.* got 4"),
        ({"start": [[0, 1, 2, 3, 3, 0], [0, 1, 2]]}, "start.* got something else"),
        ({"start": [0, 1, 2]}, r"start.* got shape \(3,\)"),
        ({"max_gflops": -1.0}, "expected max_gflops to be a number > 0, got -1.0"),
        ({"max_gflops": float("nan")}, "expected max_gflops to be a number > 0, got nan"),
    ],
)
def test_wrong_calls(predictor: Predictor, arguments: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        propagate(predictor, GOAL, **{"codes": 8, "key": jax.random.key(0), "config": FEW, **arguments})


def test_an_unknown_metric(predictor: Predictor) -> None:
    with pytest.raises(UsageError, match="expected a known metric, got 'acck'; did you mean: acc"):
        propagate(predictor, Objective(maximize={"acck": 1.0}), codes=8, key=jax.random.key(0))


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 2**31 - 1),
    weight=st.floats(1e-3, 1e3),
    rate=st.floats(1e-3, 1e4),
    delta=st.floats(1e-3, 1e2),
    maximize=st.sampled_from(["acc", "loss", "flops"]),
)
def test_what_is_found_is_always_legal(
    ensemble: Make, seed: int, weight: float, rate: float, delta: float, maximize: str
) -> None:
    # Macro codes are the strictest: zero-padded, with rules between positions.
    goal = Objective(maximize={maximize: weight})
    config = PropagationConfig(steps=3, learning_rate=rate, delta=delta)
    space = get_space("transnas-macro")
    found = propagate(ensemble(space.name), goal, codes=6, key=jax.random.key(seed), config=config)
    np.testing.assert_array_equal(space.check(found.codes), found.codes)
    assert len(np.unique(found.codes, axis=0)) == len(found)
    assert np.isfinite(found.score).all()
    assert found.metrics == (*ensemble(space.name).metrics,)
    assert isinstance(found.metrics[0], MetricSpec)
