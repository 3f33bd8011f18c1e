from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

import ncp_jax as ncp
from ncp_jax.checks import UsageError
from ncp_jax.integrations import distributions
from ncp_jax.integrations.distributions import Parameter, SearchSpace
from ncp_jax.integrations.optuna import ENDED, NCPSampler, suggest_architecture

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "optuna_workers.py"
MIXED = {
    "depth": IntDistribution(2, 8),
    "width": IntDistribution(16, 4096, log=True),
    "rate": FloatDistribution(1e-4, 1e-1, log=True),
    "drop": FloatDistribution(0.0, 0.5, step=0.1),
    "kernel": CategoricalDistribution(("3x3", "5x5", None, True)),
}


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    yield
    optuna.logging.set_verbosity(optuna.logging.INFO)


@pytest.mark.parametrize(
    ("distribution", "count"),
    [
        (IntDistribution(3, 9, step=2), 4),
        (IntDistribution(-10, 10), 21),
        (IntDistribution(1, 10**6), 256),
        (IntDistribution(1, 10**18), 256),
        (IntDistribution(1, 100, log=True), None),
        (FloatDistribution(-1.0, 1.0), 256),
        (FloatDistribution(1e-7, 1.0, log=True), 256),
        (FloatDistribution(-10.2, 10.2, step=0.1), 205),
        (FloatDistribution(0.0, 1.0, step=1e-4), 256),
        (CategoricalDistribution((None, True, 3, "a")), 4),
    ],
)
def test_every_value_is_one_of_the_distribution_and_finds_its_place(distribution, count) -> None:
    parameter = Parameter.of(distribution)
    assert count is None or len(parameter.values) == count
    for digit, value in enumerate(parameter.values):
        assert distribution._contains(distribution.to_internal_repr(value))
        assert type(value) in (int, float, str, bool, type(None))
        assert parameter.digit(value) == digit
    if parameter.ordered:
        assert (parameter.values[0], parameter.values[-1]) == (distribution.low, distribution.high)
        between = np.random.default_rng(0).uniform(distribution.low, distribution.high, 50)
        scale = np.log if distribution.log else np.asarray
        for value in between:
            nearest = np.abs(scale(np.array(parameter.values)) - scale(value)).argmin()
            assert parameter.digit(value) == nearest
    assert len(parameter.position("x").grid) == len(parameter.values)


def test_codes_and_parameters_say_the_same() -> None:
    search = SearchSpace(MIXED)
    codes = np.stack([np.random.default_rng(0).choice(values, 40) for values in search.space.values], axis=1)
    rows = [search.params(code) for code in codes]
    assert all(
        distribution._contains(distribution.to_internal_repr(row[n]))
        for row in rows
        for n, distribution in MIXED.items()
    )
    np.testing.assert_array_equal(search.codes(rows), codes)
    assert search.space.name not in ncp.SPACES


def test_parameters_without_number_share_the_values_that_a_space_may_have() -> None:
    asked = {f"x{place}": FloatDistribution(0, 1) for place in range(300)}
    asked |= {"one": IntDistribution(3, 3), "many": CategoricalDistribution(range(500))}
    free = distributions.free_parameters(asked)
    assert list(free) == [f"x{place}" for place in range(300)]
    search = SearchSpace(free)
    assert {len(values) for values in search.space.values} == {66}  # 20,000 values in all
    assert len(distributions.free_parameters({f"x{place}": FloatDistribution(0, 1) for place in range(1500)})) == 1000


@pytest.mark.parametrize("name", ["nas-bench-mr", "nas-bench-201", "transnas-macro"])
def test_an_architecture_is_suggested_from_the_positions_of_a_space(name: str) -> None:
    space = ncp.get_space(name)
    codes = np.asarray(space.sample(ncp_key(), 5))
    asked = distributions.distributions_of(space)
    for code in codes:
        row = {p: distributions.meanings(space, i)[space.values[i].index(code[i])] for i, p in enumerate(asked)}
        np.testing.assert_array_equal(
            suggest_architecture(optuna.trial.FixedTrial(row), name), space.settled(code[None])[0]
        )


def ncp_key():
    import jax

    return jax.random.key(0)


def objective(trial: optuna.Trial) -> float:
    depth, width = trial.suggest_int("depth", 2, 8), trial.suggest_int("width", 16, 4096, log=True)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    drop = trial.suggest_float("drop", 0.0, 0.5, step=0.1)
    kernel = trial.suggest_categorical("kernel", ["3x3", "5x5", None, True])
    return (depth - 6) ** 2 + np.log(width / 256) ** 2 + np.log(rate / 3e-3) ** 2 + drop + (kernel != "5x5")


def test_it_finds_better_trials_than_random_ones_and_the_seed_decides() -> None:
    best, params = {}, []
    for searcher in ("ncp", "random", "ncp"):
        study = optuna.create_study(sampler=NCPSampler(searcher, seed=1, initial=6))
        study.optimize(objective, n_trials=30)
        best[searcher] = study.best_value
        params.append([trial.params for trial in study.trials])
        assert len({str(trial.params) for trial in study.trials}) == 30
    assert best["ncp"] < 0.5 * best["random"]
    assert params[0] == params[2]


@pytest.mark.parametrize("searcher", ["neural-ensemble", "arch-graph", "reinforce"])
def test_every_searcher_serves_a_study_with_constraints(searcher: str) -> None:
    def limited(trial: optuna.Trial) -> float:
        found = objective(trial)
        trial.set_constraint("depth", trial.params["depth"] - 7)
        return found

    study = optuna.create_study(sampler=NCPSampler(searcher, seed=1, initial=6))
    study.optimize(limited, n_trials=12)
    assert len({str(trial.params) for trial in study.trials}) == 12
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def trials_of(study: optuna.Study, values: list[float | None], state: TrialState = TrialState.COMPLETE) -> None:
    for place, value in enumerate(values):
        params = {"a": place, "b": place}
        one = {"a": IntDistribution(0, 20), "b": IntDistribution(0, 20)}
        study.add_trial(create_trial(params=params, distributions=one, value=value, state=state))


def seen(sampler: NCPSampler, study: optuna.Study, monkeypatch: pytest.MonkeyPatch):
    """What the choice of the next trial depends on."""
    from ncp_jax.searchers.open_ended import strategies

    found = []
    choose = strategies.choose
    monkeypatch.setattr(strategies, "choose", lambda now, n: (found.append(now), choose(now, n))[1])
    trial = study.ask()
    trial.suggest_int("a", 0, 20)
    return found[0], trial


def test_what_failed_was_pruned_or_is_infinite_counts_as_bad_and_what_died_is_left_out(monkeypatch) -> None:
    sampler = NCPSampler("evolution", seed=0)
    study = optuna.create_study(sampler=sampler)
    trials_of(study, [1.0, 2.0, float("inf")])
    trials_of(study, [None], TrialState.PRUNED)
    trials_of(study, [None], TrialState.FAIL)  # nobody told its end: the process died
    study.enqueue_trial({"a": 7, "b": 8})
    study.optimize(
        lambda trial: float("nan") * trial.suggest_int("a", 0, 20) * trial.suggest_int("b", 0, 20), n_trials=1
    )
    assert ENDED in study.trials[-1].system_attrs
    now, _ = seen(sampler, study, monkeypatch)
    np.testing.assert_array_equal(now.observations.values[:, 0], [1, 2, 2, np.nan, np.nan])
    assert now.observations.codes[-1].tolist() == [7, 8]


def test_trials_that_run_are_pending_before_their_parameters_are_asked_for(monkeypatch) -> None:
    sampler = NCPSampler("evolution", seed=0)
    study = optuna.create_study(sampler=sampler)
    trials_of(study, [1.0, 2.0, 3.0])
    first = study.ask()
    first.suggest_int("a", 0, 20)  # b is chosen, too
    now, second = seen(NCPSampler("evolution", seed=0), study, monkeypatch)
    assert [code.tolist() for code in now.pending] == [[first.params["a"], first.suggest_int("b", 0, 20)]]
    assert second.params["a"] != first.params["a"] or second.suggest_int("b", 0, 20) != first.params["b"]


def test_constraints_are_limits() -> None:
    def with_limit(trial: optuna.Trial) -> float:
        a, b = trial.suggest_int("a", 0, 20), trial.suggest_int("b", 0, 20)
        trial.set_constraint("sum", a + b - 12)
        trial.set_user_attr("difference", a - b)
        return a + 2 * b

    sampler = NCPSampler(seed=0, initial=5, constraints_func=lambda trial: (trial.user_attrs["difference"],))
    study = optuna.create_study(direction="maximize", sampler=sampler)
    study.optimize(with_limit, n_trials=18)
    assert set(study.trials[0].constraints) == {"0", "sum"}
    assert study.best_value >= 22  # of 24; without constraints 60
    asked = [max(trial.constraints.values()) <= 0 for trial in study.trials[5:]]
    assert np.mean(asked) > 0.5


def test_two_objectives_find_both_ends_of_the_front() -> None:
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=NCPSampler(seed=0, initial=5))
    study.optimize(lambda t: (t.suggest_int("a", 0, 20) - t.suggest_int("b", 0, 20), t.params["a"]), n_trials=25)
    assert {0, 20} & {trial.params["a"] for trial in study.best_trials}
    assert all(trial.params["b"] <= 4 for trial in study.best_trials)


def test_sources_are_tables_whose_positions_are_the_parameters() -> None:
    table = ncp.load_table("digits/class")

    def accuracy(trial: optuna.Trial) -> float:
        code = suggest_architecture(trial, "transnas-micro")
        return float(table.measured("accuracy")[(np.asarray(table.codes) == code).all(axis=1)][0])

    best = {}
    for sources in ((), (ncp.load_table("digits/edges"),)):
        study = optuna.create_study(
            direction="maximize", sampler=NCPSampler("bayesian", sources=sources, seed=0, initial=3)
        )
        study.optimize(accuracy, n_trials=8)
        best[bool(sources)] = study.best_value
    assert best[True] >= best[False]
    study = optuna.create_study(sampler=NCPSampler(sources=[table], seed=0))
    trials_of(study, [1.0, 2.0])
    with pytest.raises(UsageError, match=r"positions of digits/class's space, transnas-micro, got a, b"):
        study.optimize(lambda trial: trial.suggest_int("a", 0, 20) + trial.suggest_int("b", 0, 20), n_trials=1)


def test_settings_are_checked() -> None:
    with pytest.raises(UsageError, match="searcher"):
        NCPSampler("bayes-ian")
    with pytest.raises(UsageError, match="initial"):
        NCPSampler(initial=0)


def test_without_optuna_the_extra_is_named() -> None:
    code = "import sys; sys.modules['optuna'] = None; import ncp_jax.integrations.optuna"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert 'ImportError: ncp-jax: expected the package optuna, got none; pip install "ncp-jax[optuna]"' in found.stderr


def share_a_study(storage: str) -> None:
    """Four workers share a study; one is killed in the midst of a training, and its trial alone is lost."""
    command = [sys.executable, str(EXAMPLE), "--storage", storage, "--searcher", "evolution", "--trials", "24"]
    optuna.create_study(study_name="digits", storage=storage, direction="maximize")
    with subprocess.Popen([*command, "--worker", "--seconds", "1000"]) as victim:
        try:
            deadline = time.monotonic() + 200
            while not optuna.load_study(study_name="digits", storage=storage).trials:
                assert time.monotonic() < deadline
                assert victim.poll() is None
                time.sleep(0.2)
            rest = [*command, "--workers", "3", "--seconds", "0.05"]
            with subprocess.Popen(rest, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as others:
                victim.kill()
                out, errors = others.communicate(timeout=300)
        finally:
            victim.kill()
    assert others.returncode == 0, errors
    assert re.search(r"trainings by 3 workers, 0 of which ended early\nbest: 64-\S+, accuracy \d", out), out + errors
    trials = optuna.load_study(study_name="digits", storage=storage).trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    states = [trial.state for trial in trials]
    assert states[0] == TrialState.RUNNING
    assert set(states[1:]) == {TrialState.COMPLETE}
    assert 24 <= len(states) - 1 < 24 + 3
    assert len({trial.user_attrs["architecture"] for trial in trials[1:]}) > 20


def test_four_workers_share_a_file(tmp_path: Path) -> None:
    share_a_study(f"sqlite:///{tmp_path}/study.db")


@contextlib.contextmanager
def postgresql() -> Iterator[str]:
    """A server of this test's own, as another user where this one is root, whom the server refuses."""
    programs = shutil.which("initdb") or next(iter(sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))), None)
    if programs is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no PostgreSQL here")
        pytest.skip("no PostgreSQL here")
    bin_ = Path(programs).resolve().parent
    user = {"user": "nobody"} if os.geteuid() == 0 else {}
    folder = Path(tempfile.mkdtemp(prefix="ncp_jax_postgresql_"))
    try:
        if user:
            shutil.chown(folder, **user)
        data = folder / "data"
        initdb = [bin_ / "initdb", "-D", data, "-U", "ncp", "--auth=trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, capture_output=True, cwd=folder, timeout=120, **user)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        server = [bin_ / "postgres", "-D", data, "-h", "127.0.0.1", "-p", str(port), "-k", folder, "-F"]
        log = (folder / "log").open("w")
        with log, subprocess.Popen(server, stdout=log, stderr=log, cwd=folder, **user) as process:
            try:
                ready = [bin_ / "pg_isready", "-q", "-h", "127.0.0.1", "-p", str(port)]
                deadline = time.monotonic() + 60
                while subprocess.run(ready).returncode:
                    assert time.monotonic() < deadline, (folder / "log").read_text()
                    assert process.poll() is None, (folder / "log").read_text()
                    time.sleep(0.1)
                yield f"postgresql://ncp@127.0.0.1:{port}/postgres"
            finally:
                process.send_signal(signal.SIGINT)  # ends sessions, then stops
                process.wait(60)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_four_workers_share_a_server() -> None:
    with postgresql() as storage:
        share_a_study(storage)
