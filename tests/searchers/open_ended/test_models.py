"""The models of sessions beside the Gaussian process: networks, relations and policies; their programs."""

from __future__ import annotations

import re
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax.predictors.targets import normal_scores
from ncp_jax.searchers.open_ended import OpenSession
from ncp_jax.searchers.open_ended.beliefs import learn
from ncp_jax.searchers.open_ended.known import Known
from ncp_jax.searchers.open_ended.networks import learn_ensemble
from ncp_jax.searchers.open_ended.policy import _write, replayed
from ncp_jax.searchers.open_ended.proposals import around, evaluate
from ncp_jax.searchers.open_ended.relations import learn_relations
from ncp_jax.searchers.open_ended.situation import Situation
from ncp_jax.spaces import get_space

SPACE = get_space("nas-bench-mr")
CODES = np.asarray(SPACE.sample(jax.random.key(1), 128))
LOWER, UPPER = (np.array([end(values) for values in SPACE.values], float) for end in (min, max))


def value(codes: np.ndarray) -> np.ndarray:
    x = (codes - LOWER) / (UPPER - LOWER)
    return x[:, 0] + 2 * x[:, 5] - x[:, -1] ** 2


def known(measured: int = 60, limits: int = 0) -> Known:
    """The first codes are measured; each limit is a value of at least 1."""
    targets = np.tile(value(CODES[:64]), (1 + limits, 1)).astype(np.float32)
    targets[1:] -= 1
    slots = np.arange(64) < measured
    return Known(CODES[:64], targets * slots, np.tile(slots, (1 + limits, 1)), np.zeros(64, bool))


@pytest.mark.parametrize("teach", [learn_ensemble, learn_relations])
def test_beliefs_predict_normal_scores_and_say_how_sure_limits_are(teach) -> None:
    belief = teach(jax.random.key(0), known(limits=1), None, space=SPACE)
    seen, new = (evaluate(SPACE, belief, codes) for codes in (CODES[:60], CODES[64:]))
    scores = np.asarray(normal_scores(value(CODES[:60]), np.ones(60)))
    assert np.corrcoef(seen.mean[0], scores)[0, 1] > 0.95
    assert abs(seen.mean[0].mean()) < 0.1
    assert np.corrcoef(new.mean[0], value(CODES[64:]))[0, 1] > 0.6
    assert float(belief.best) == pytest.approx(seen.mean[0][value(CODES[:60]) >= 1].max(), abs=1e-4)
    assert (seen.deviation > 0).all()
    assert np.mean(seen.sure(0.5) == (value(CODES[:60]) >= 1)) > 0.95
    assert new.sure(0.999).sum() < new.sure(0.5).sum()
    # Where no code satisfies the limits, only their probability counts.
    far = known(limits=1)
    far.targets[1, :60] -= 100
    lost = evaluate(SPACE, teach(jax.random.key(0), far, None, space=SPACE), CODES[64:])
    assert lost.scores.max() < 0
    assert (np.diff((lost.mean[1] / lost.deviation[1])[np.argsort(lost.scores)]) > -1e-3).all()


def test_pending_codes_count_as_measured_with_less_than_is_predicted() -> None:
    alone = known(limits=1)
    before = evaluate(SPACE, learn(alone, None, space=SPACE), CODES[60:64])
    after = evaluate(SPACE, learn(alone._replace(pending=np.arange(64) >= 60), None, space=SPACE), CODES[60:64])
    assert (after.deviation < before.deviation).all()
    assert (after.mean[0] < before.mean[0] - 0.2 * before.deviation[0]).all()
    np.testing.assert_allclose(after.mean[1], before.mean[1], atol=0.02)  # limits as predicted
    assert (after.scores < before.scores).all()


@pytest.mark.parametrize("teach", [learn_ensemble, learn_relations])
def test_acquisitions_have_the_slopes_of_finite_differences(teach) -> None:
    belief = teach(jax.random.key(0), known(limits=1), None, space=SPACE)
    relaxed = SPACE.encode(jnp.asarray(CODES[70:73])) * 0.7 + 0.3 * SPACE.encode(jnp.asarray(CODES[80:83]))
    width = jnp.asarray(SPACE.upper - SPACE.lower)
    score = jax.jit(lambda x: belief.acquisition(SPACE, x)[0])
    slope = jax.grad(lambda x: score(x).sum())(relaxed) * width
    for position in (0, 5, 26):
        step = 0.02 * width[position] * jnp.eye(len(width))[position]
        difference = (score(relaxed + step) - score(relaxed - step)) / 0.04
        np.testing.assert_allclose(slope[:, position], difference, rtol=0.03, atol=0.02)


def test_members_are_trained_one_after_the_other() -> None:
    """Two programs with batches of factorisations wait for each other for ever on CPUs."""
    program = str(jax.make_jaxpr(lambda k: learn_ensemble(jax.random.key(0), k, None, space=SPACE))(known(limits=2)))
    shapes = re.findall(r":f32\[([0-9,]+)\] = cholesky", program)
    assert shapes
    assert set(shapes) == {"64,64"}


def test_neighbours_are_all_or_random_ones() -> None:
    count = sum(len(values) - 1 for values in SPACE.values)
    everything = around(jax.random.key(0), SPACE, CODES[:2], count)
    assert len(everything) == 2 * count
    some = around(jax.random.key(0), SPACE, CODES[:2], count - 1)
    assert len(some) == 2 * (count - 1)
    assert len(np.unique(everything, axis=0)) == 2 * count
    for codes in (everything, some):
        SPACE.check(codes)
    assert ((some != CODES[0]).any(axis=1).sum()) > count


def session_of(searcher: str, codes: np.ndarray, values: np.ndarray) -> OpenSession:
    session = OpenSession("nas-bench-mr", maximize="accuracy", searcher=searcher)
    session.tell(codes, values)
    return session


def letters(session: OpenSession) -> np.ndarray:
    """Mean of the first position of codes that the policy of a session writes, as a share of its range."""
    now = Situation(SPACE, session.config, session._observations, [], 0, None)
    written = [np.asarray(_write(jax.random.key(k), replayed(now), space=SPACE)) for k in range(4)]
    return ((np.concatenate(written) - LOWER) / (UPPER - LOWER))[:, 0].mean()


def test_a_policy_learns_from_whole_portions_in_the_order_of_telling() -> None:
    codes = np.asarray(SPACE.sample(jax.random.key(2), 240))
    first = (codes[:, 0] - LOWER[0]) / (UPPER[0] - LOWER[0])
    none, part, more, less = (
        letters(session_of("reinforce", codes[:n], sign * first[:n]))
        for n, sign in ((9, 1), (19, 1), (240, 1), (240, -1))
    )
    assert less + 0.1 < none < more - 0.1
    assert part == letters(session_of("reinforce", codes[:10], first[:10])) != none
    assert letters(session_of("reinforce", codes, first * 1e-6 + 7e5)) == more  # ranks alone count
    turned = letters(session_of("reinforce", codes[::-1], first[::-1]))
    assert none + 0.1 < turned != more


@pytest.fixture
def compiled() -> Iterator[list[str]]:
    """Names of the events of programs that are compiled."""
    found: list[str] = []

    def listen(event: str, seconds: float, **_: object) -> None:
        if event == "/jax/core/compile/jaxpr_to_mlir_module_duration":
            found.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield found
    jax.monitoring.unregister_event_duration_listener(listen)


@pytest.mark.parametrize("searcher", ["ncp", "neural-ensemble", "arch-graph", "reinforce"])
def test_no_program_is_compiled_from_trial_to_trial(searcher: str, compiled: list[str]) -> None:
    session = session_of(searcher, CODES[:12], value(CODES[:12]))
    for trial in range(12):
        if trial == 3:
            jax.jit(lambda x: x * 3)(np.ones(2, np.float32))
            assert compiled  # as it is heard
            compiled.clear()
        code = session.ask()
        session.tell(code, value(code))
    assert compiled == []
