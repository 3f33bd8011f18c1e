"""Open-ended sessions: any order, failures, repeats, limits, several goals, files; they find more than chance."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from ncp_jax.benchmarks import Table
from ncp_jax.checks import DataError, UsageError
from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation import Limit
from ncp_jax.searchers.open_ended import OPEN_SEARCHERS, OpenSession
from ncp_jax.spaces import cost_model, get_space

SPACE = get_space("nas-bench-mr")


LEARNERS = ("neural-ensemble", "arch-graph", "reinforce")  # beside the Gaussian processes


def value(codes: np.ndarray) -> np.ndarray:
    """A smooth function with an interaction; its largest value is 4."""
    x = (codes - SPACE.lower) / (SPACE.upper - SPACE.lower)
    return 2 * np.sqrt(x[:, 0]) * x[:, 5] + 1 - (x[:, 9] - 0.5) ** 2 + x[:, -1] - 0.1 * x[:, 3]


def run(searcher: str, n: int, **settings: object) -> OpenSession:
    session = OpenSession("nas-bench-mr", maximize="accuracy", searcher=searcher, **settings)
    for _ in range(n):
        codes = session.ask()
        session.tell(codes, value(codes))
    return session


@pytest.mark.parametrize("searcher", OPEN_SEARCHERS)
def test_searchers_ask_for_new_legal_codes_and_are_reproducible(searcher: str) -> None:
    first, second = (run(searcher, 14, seed=3) for _ in range(2))
    codes = np.array([row.code for row in first.observations])
    assert len(codes) == 14
    assert [row.code for row in second.observations] == codes.tolist() or (
        [list(row.code) for row in second.observations] == codes.tolist()
    )
    SPACE.check(codes)
    other = run(searcher, 3, seed=4)
    assert [row.code for row in other.observations] != [row.code for row in first.observations[:3]]


@pytest.mark.parametrize("searcher", ["ncp", "neural-ensemble", "arch-graph"])
def test_inversion_finds_what_random_search_does_not(searcher: str) -> None:
    found = run(searcher, 40, seed=1)
    chance = value(np.asarray(SPACE.sample(jax.random.key(7), 400))).max()
    assert found.best is not None
    assert found.best.values["accuracy"] > chance  # ten times as many random codes have less
    why = [item.why for item in found.suggest(3)]
    assert set(why) <= {"explore", "exploit"}


@pytest.mark.parametrize("searcher", ["ncp", *LEARNERS])
def test_workers_ask_and_tell_in_any_order(searcher: str) -> None:
    session = OpenSession("nas-bench-mr", maximize="accuracy", initial=4, searcher=searcher)
    asked = [session.ask(2), session.ask(3), session.ask(7)]
    together = np.concatenate(asked)
    assert len(np.unique(together, axis=0)) == 12
    assert len(session.pending) == 12
    for codes in reversed(asked[1:]):
        session.tell(codes, value(codes))
    assert len(session.pending) == 2
    more = session.ask(3)
    assert len(np.unique(more, axis=0)) == 3
    assert not {code.tobytes() for code in more} & {code.tobytes() for code in together}
    session.forget(asked[0])
    assert len(session.pending) == 3


@pytest.mark.parametrize("searcher", ["bayesian", *LEARNERS])
def test_failures_repeats_and_strangers(searcher: str) -> None:
    session = OpenSession("nas-bench-mr", maximize="accuracy", initial=3, searcher=searcher)
    codes = session.ask(6)
    session.tell(codes[:3], [None, float("nan"), 0.5])
    session.tell(codes[3:4], 0.9)
    session.tell(codes[3:4], 0.7)  # once more: noise
    stranger = np.asarray(SPACE.sample(jax.random.key(9), 1))
    session.tell(stranger, 0.2)
    assert session.best is not None
    assert session.best.values["accuracy"] == pytest.approx(0.8)
    assert session.best.measurements == 2
    assert [row.measurements for row in session.observations] == [0, 0, 1, 2, 1]
    assert len(session.ask()) == 1
    mean, spread = session.predict(codes)["accuracy"]
    assert np.isfinite(mean).all()
    assert (spread > 0).all()


@pytest.mark.parametrize("searcher", ["ncp", "evolution", *LEARNERS])
def test_limits_on_known_costs_hold_for_every_code(searcher: str) -> None:
    session = run(searcher, 16, limits=["gflops<=0.5", "params>=1e6"])
    costs = cost_model(SPACE).in_units(np.array([row.code for row in session.observations]))
    assert (costs["flops"] <= 0.5).all()
    assert (costs["params"] >= 1.0).all()


@pytest.mark.parametrize("searcher", ["ncp", "neural-ensemble", "arch-graph"])
def test_limits_on_metrics_are_learned(searcher: str) -> None:
    settings = {"limits": ["latency<=1.2"], "confidence": 0.8, "searcher": searcher}
    session = OpenSession("nas-bench-mr", maximize="accuracy", **settings)
    for _ in range(30):
        codes = session.ask()
        x = (codes - SPACE.lower) / (SPACE.upper - SPACE.lower)
        session.tell(codes, {"accuracy": value(codes), "latency": x[:, 0] + x[:, -1]})
    late = [row.values["latency"] for row in session.observations[15:]]
    assert np.mean(np.array(late) <= 1.2) >= 0.6  # of random codes 0.72 do, but the best ones lie at the limit
    assert session.best is not None
    assert session.best.values["latency"] <= 1.2
    chance = np.asarray(SPACE.sample(jax.random.key(1), 30))
    x = (chance - SPACE.lower) / (SPACE.upper - SPACE.lower)
    assert session.best.values["accuracy"] > value(chance)[x[:, 0] + x[:, -1] <= 1.2].max()


@pytest.mark.parametrize("searcher", ["bayesian", *LEARNERS])
def test_several_goals_have_a_front(searcher: str) -> None:
    session = OpenSession("nas-bench-mr", maximize="accuracy", minimize="size", searcher=searcher, initial=5)
    for _ in range(20):
        codes = session.ask()
        session.tell(codes, {"accuracy": value(codes), "size": codes.sum(axis=1).astype(float)})
    front = session.front
    assert len(front) >= 2
    accuracy, size = ([row.values[name] for row in front] for name in ("accuracy", "size"))
    assert accuracy == sorted(accuracy, reverse=True)
    assert size == sorted(size, reverse=True)


@pytest.mark.parametrize("searcher", ["evolution", *LEARNERS])
def test_a_killed_session_goes_on(tmp_path: Path, searcher: str) -> None:
    path = tmp_path / "mine.json"
    whole = run(searcher, 14)
    session = OpenSession("nas-bench-mr", maximize="accuracy", searcher=searcher, path=path)
    for _ in range(7):
        codes = session.ask()
        session.tell(codes, value(codes))
    waiting = session.ask()
    with pytest.raises(UsageError, match="no other process on this session"):
        OpenSession("nas-bench-mr", maximize="accuracy", searcher=searcher, path=path)
    session.close()  # as the end of the process does; nothing is written
    session = OpenSession("nas-bench-mr", maximize="accuracy", searcher=searcher, path=path)
    assert (session.pending == waiting).all()
    session.tell(waiting, value(waiting))
    for _ in range(6):
        codes = session.ask()
        session.tell(codes, value(codes))
    assert [row.code for row in session.observations] == [row.code for row in whole.observations]
    session.close()
    with pytest.raises(UsageError, match="seed"):
        OpenSession("nas-bench-mr", maximize="accuracy", searcher=searcher, path=path, seed=5)
    path.write_text(json.dumps({"schema": "other/1"}))
    for _ in range(2):  # a session that does not open holds nothing
        with pytest.raises(DataError, match="expected a saved session"):
            OpenSession("nas-bench-mr", maximize="accuracy", path=path)


def test_known_rows_and_sources() -> None:
    codes = np.asarray(SPACE.sample(jax.random.key(2), 60))

    def table(name: str, values: np.ndarray) -> Table:
        return Table.from_arrays(
            name, space="nas-bench-mr", codes=codes, values=values[:, None], metrics=[MetricSpec("accuracy")]
        )

    target = table("mine", value(codes)).select(np.arange(8))
    plain, helped = (
        OpenSession("nas-bench-mr", maximize="accuracy", known=target, sources=sources, initial=4)
        for sources in ([], [table("other", value(codes) + 3.0)])
    )
    assert len(plain.observations) == 8
    errors = [
        float(np.abs(session.predict(codes[8:])["accuracy"][0] - value(codes[8:])).mean())
        for session in (plain, helped)
    ]
    assert errors[1] < 0.7 * errors[0]
    assert len(helped.ask(2)) == 2


@pytest.mark.parametrize("searcher", ["neural-ensemble", "arch-graph"])
def test_sources_lead_networks_to_good_codes(searcher: str) -> None:
    codes = np.asarray(SPACE.sample(jax.random.key(5), 200))
    table = {"space": "nas-bench-mr", "metrics": [MetricSpec("accuracy")]}
    other = Table.from_arrays("other", codes=codes, values=value(codes)[:, None] + 3.0, **table)
    known = Table.from_arrays("mine", codes=codes[:12], values=value(codes)[:12, None], **table)
    found = {}
    for name, sources in {"plain": [], "helped": [other]}.items():
        settings = {"known": known, "sources": sources, "searcher": searcher}
        found[name] = value(OpenSession("nas-bench-mr", maximize="accuracy", **settings).ask(4)).mean()
    assert found["helped"] > found["plain"] + 0.3


def test_a_small_space_is_used_up() -> None:
    space = get_space("transnas-macro")
    session = OpenSession(space, maximize="accuracy", searcher="random", limits=["gflops<=0.5"])
    fitting = int((cost_model(space).in_units(space.all_codes())["flops"] <= 0.5).sum())
    assert len(session.ask(fitting + 5)) == fitting
    assert len(session.ask(1)) == 0


def test_many_measurements_and_many_workers() -> None:
    """What is thinned for the model is still not asked for again, and the number of workers has no limit."""
    codes = np.unique(np.asarray(SPACE.sample(jax.random.key(3), 1300)), axis=0)
    session = OpenSession("nas-bench-mr", maximize="accuracy", searcher="bayesian")
    session.resume(codes[:1100], {"accuracy": value(codes[:1100])}, pending=codes[1100:], asked=0)
    known = {code.tobytes() for code in codes}
    for _ in range(2):
        asked = session.ask(2)
        assert len(asked) == 2
        assert not {code.tobytes() for code in asked} & known
        known |= {code.tobytes() for code in asked}
    session = OpenSession("nas-bench-mr", maximize="accuracy", searcher="bayesian")
    session.resume(codes[:3], {"accuracy": value(codes[:3])}, pending=codes[3:], asked=0)
    assert len(session.ask()) == 1


def test_a_tight_limit_on_a_known_cost_leaves_something_to_ask_for() -> None:
    # One random code of millions is as small as this.
    session = OpenSession("nas-bench-mr", maximize="accuracy", limits=["gflops<=0.02"], searcher="random")
    codes = session.ask(20)
    assert len(np.unique(codes, axis=0)) == 20
    assert (cost_model(SPACE).in_units(codes)["flops"] <= 0.02).all()


def test_limits_are_kept_to_the_last_digit() -> None:
    limits = [Limit("val loss", "<=", 0.123456789), "size < 1234567.5"]
    session = OpenSession("nas-bench-mr", maximize="accuracy", limits=limits)
    assert [(limit.metric, limit.relation, limit.value) for limit in session.goals.limits] == [
        ("val loss", "<=", 0.123456789),
        ("size", "<", 1234567.5),
    ]
    assert session.goals.metrics == ("accuracy", "val loss", "size")


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({}, "metrics to maximize or minimize"),
        ({"maximize": "a", "minimize": "a"}, "each once"),
        ({"maximize": "a", "searcher": "annealing"}, "searcher"),
        ({"maximize": "a", "limits": ["a"]}, "METRIC<=NUMBER"),
        ({"maximize": "a", "limits": ["gflops<=1e-9"]}, "a GFLOPs limit >= 0.01084"),
        ({"maximize": "a", "confidence": 1.0}, "confidence"),
        ({"maximize": "a", "initial": 0}, "initial"),
        ({"maximize": "a", "sed": 1}, "seed"),
    ],
)
def test_wrong_settings(settings: dict[str, object], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        OpenSession("nas-bench-mr", **settings)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ([1.0, 2.0], "1 values of accuracy"),
        (float("inf"), "finite number"),
        ("0.9", "finite number"),
        (True, "finite number"),
        ({"acuracy": 1.0}, "accuracy"),
        ({}, "values of accuracy"),
    ],
)
def test_wrong_values_change_nothing(values: object, text: str) -> None:
    session = OpenSession("nas-bench-mr", maximize="accuracy")
    code = session.ask()
    with pytest.raises(UsageError, match=text):
        session.tell(code, values)
    assert len(session.pending) == 1
    assert not session.observations
