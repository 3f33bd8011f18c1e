"""Optimizers against wall time: the recorder, the scores, the optimizers and the comparison of their curves."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optimization import anytime, anytime_baselines
from optimization.anytime import (
    AnytimeRun,
    Curve,
    Optimizer,
    Recorder,
    Rounds,
    TimeUp,
    curve_of,
    inversion,
    run_once,
    score_function,
    warm_up,
)
from optimization.anytime_baselines import (
    BASELINES,
    AnytimeBenchmark,
    Cma,
    Evolution,
    cma_es,
    evolution,
    make_baselines,
)
from optimization.anytime_summary import TimeToBest, anytime_figure, anytime_lines, anytime_summary, best_known

from ncp_jax import get_space, load_shipped
from ncp_jax.predictors import Predictor
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation import PropagationConfig, propagate
from ncp_jax.propagation.objective import default_objective
from ncp_jax.records.journal import Records

SPACE = get_space("nas-bench-mr")
CODE = np.asarray(SPACE.from_string(SPACE.example))


@pytest.fixture(scope="module")
def seg() -> Predictor:
    """Two of the shipped networks, on one task."""
    shipped = load_shipped("nas-bench-mr")
    assert shipped is not None
    predictor = for_task(shipped[0], "seg")
    two = jax.tree.map(lambda a: a[:2], predictor.params)
    return Predictor(two, predictor.scale, predictor.apply, predictor.metrics, predictor.space)


@pytest.fixture(scope="module")
def score(seg: Predictor) -> anytime.Score:
    return score_function(seg, default_objective(seg.metrics, limited=False))


@pytest.fixture(scope="module")
def optimizers(seg: Predictor, score: anytime.Score) -> dict[str, Optimizer]:
    ours = inversion(seg, default_objective(seg.metrics, limited=False), score)
    return {c.name: c for c in (ours, *make_baselines(BASELINES, seg, score))}


def test_a_recorder_keeps_the_best_and_the_time() -> None:
    ticks = iter([10.0, 10.5, 11.0, 11.5, 12.5])
    recorder = Recorder(2.0, clock=lambda: next(ticks))
    codes = np.arange(4 * 27).reshape(4, 27)
    for value, code in zip((1.0, 0.5, 3.0), codes, strict=False):
        recorder(value, code)
    with pytest.raises(TimeUp):
        recorder(9.0, codes[3])  # too late to count
    assert (recorder.times, recorder.values) == ([0.5, 1.5], [1.0, 3.0])
    np.testing.assert_array_equal(recorder.codes, codes[[0, 2]])


def test_a_recorder_for_warming_up_counts_reports() -> None:
    recorder = Recorder(math.inf, calls=2)
    recorder(1.0, CODE)
    recorder(2.0, CODE)
    with pytest.raises(TimeUp):
        recorder(3.0, CODE)


def test_a_run_ends_and_is_the_same_search_for_the_same_key() -> None:
    seen = []

    def search(key: jax.Array, recorder: Recorder) -> None:
        for i in itertools.count():
            code = np.asarray(SPACE.sample(jax.random.fold_in(key, i), 1))[0]
            seen.append(code)
            recorder(i, code)

    optimizer = Optimizer("x", search, warmup_calls=3)
    warm_up(optimizer, jax.random.key(0))
    assert len(seen) == 4
    recorder = run_once(optimizer, jax.random.key(0), 0.05)
    assert recorder.times[-1] <= 0.05
    np.testing.assert_array_equal(recorder.codes[0], seen[0])


@pytest.mark.parametrize("space", ["nas-bench-mr"])
def test_the_score_is_that_of_propagate(seg: Predictor, score: anytime.Score, space: str) -> None:
    starts = np.asarray(SPACE.sample(jax.random.key(0), 300))
    goal = default_objective(seg.metrics, limited=False)
    assert goal.names == ("mIoU", "flops")
    found = propagate(seg, goal, start=starts, config=PropagationConfig(steps=0))
    np.testing.assert_allclose(score(jnp.asarray(found.codes)), found.score, rtol=1e-5, atol=1e-5)


def test_the_score_of_costs_alone_and_of_qualities_alone(seg: Predictor) -> None:
    from ncp_jax import Objective

    starts = np.asarray(SPACE.sample(jax.random.key(0), 50))
    for goal in (Objective(minimize={"flops": 1.0, "params": 2.0}), Objective(maximize={"mAcc": 1.0, "aAcc": 0.1})):
        found = propagate(seg, goal, start=starts, config=PropagationConfig(steps=0))
        np.testing.assert_allclose(
            score_function(seg, goal)(jnp.asarray(found.codes)), found.score, rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("name", ["inversion", *BASELINES])
def test_every_optimizer_reports_legal_codes_with_their_scores(
    optimizers: dict[str, Optimizer], score: anytime.Score, name: str
) -> None:
    class Checking(Recorder):
        def __call__(self, value: float, code: np.ndarray) -> None:
            shown.append((float(value), np.array(code)))
            super().__call__(value, code)

    shown: list[tuple[float, np.ndarray]] = []
    with pytest.raises(TimeUp):
        optimizers[name].search(jax.random.key(3), Checking(math.inf, calls=20))
    codes = np.stack([code for _, code in shown])
    SPACE.check(codes)
    np.testing.assert_allclose(score(jnp.asarray(codes)), [value for value, _ in shown], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["inversion", *BASELINES])
def test_a_search_depends_on_its_key_alone(optimizers: dict[str, Optimizer], name: str) -> None:
    def values(seed: int) -> list[float]:
        recorder = Recorder(math.inf, calls=6)
        with pytest.raises(TimeUp):
            optimizers[name].search(jax.random.key(seed), recorder)
        return recorder.values

    assert values(5) == values(5)
    assert values(5) != values(6)


def test_every_other_optimizer_beats_random_sampling(optimizers: dict[str, Optimizer]) -> None:
    """Without a clock: a hundred calls each, of which random sampling has the largest."""
    best = {}
    for name, optimizer in optimizers.items():
        recorder = Recorder(math.inf, calls=100)
        with pytest.raises(TimeUp):
            optimizer.search(jax.random.key(1), recorder)
        best[name] = recorder.values[-1]
    assert best["inversion"] >= best["evolution"] - 1e-3
    for name in ("inversion", "evolution", "cma-es"):
        assert best[name] > best["random"] + 0.1


def test_inversion_goes_on_from_its_best(seg: Predictor, score: anytime.Score) -> None:
    elites = [CODE, np.asarray(SPACE.lower, int)]
    rounds = Rounds(codes=10, edits=3)
    starts = np.asarray(anytime._starts(SPACE, jax.random.key(0), rounds, elites))
    distance = [min((code != elite).sum() for elite in elites) for code in starts]
    assert max(distance[:5]) <= 3
    assert min(distance[5:]) > 3
    np.testing.assert_array_equal(anytime._starts(SPACE, jax.random.key(0), rounds, [])[5:], starts[5:])


def test_a_curve_is_scored_once_more(score: anytime.Score) -> None:
    recorder = Recorder(math.inf)
    codes = np.asarray(SPACE.sample(jax.random.key(0), 5))
    right = np.asarray(score(jnp.asarray(codes)))
    for i in np.argsort(right):
        recorder(float(right[i]) + 1e-5, codes[i])
    curve = curve_of(recorder, score)
    np.testing.assert_allclose(curve.score, np.sort(right), rtol=1e-6)
    assert curve.code == codes[np.argmax(right)].tolist()
    assert curve_of(Recorder(1.0), score) == Curve([], [], [])
    assert Curve(**json.loads(json.dumps(curve.to_json()))) == curve


def test_best_at() -> None:
    curve = Curve([0.1, 0.5], [1.0, 2.0], [1])
    assert [curve.best_at(t) for t in (0.05, 0.1, 0.4, 0.5, 9)] == [None, 1.0, 1.0, 2.0, 2.0]


def runs() -> list[AnytimeRun]:
    def curve(*improvements: tuple[float, float]) -> Curve:
        return Curve([t for t, _ in improvements], [v for _, v in improvements], [1])

    def run(task: str, seed: int, ours: Curve, other: Curve) -> AnytimeRun:
        return AnytimeRun(task, {"ours": ours, "other": other, "none": curve()}, seed)

    return [
        run("a", 0, curve((0.01, 1.0), (0.1, 2.0)), curve((0.05, 0.5), (1.0, 2.0))),
        run("a", 1, curve((0.02, 2.0)), curve((0.01, 1.0), (0.4, 1.5))),
        run("b", 0, curve((0.02, 4.0)), curve((0.01, 4.0), (0.4, 5.0))),
    ]


def test_summary(tmp_path: Path) -> None:
    summary = anytime_summary(runs(), (0.01, 0.1, 2.0), "ours")
    first, second, third = summary.against["other"]
    # At 0.01 s ours has something in the first run only, the other one in the second and third.
    assert (first.ahead, first.tied, first.behind) == (1 / 3, 0, 2 / 3)
    assert first.difference is None
    assert (second.ahead, second.tied, second.behind) == (2 / 3, 1 / 3, 0)
    assert second.difference["mean"] == pytest.approx((1.5 + 1.0 + 0.0) / 3)
    assert (third.ahead, third.tied, third.behind) == (1 / 3, 1 / 3, 1 / 3)
    assert [row.ahead for row in summary.against["none"]] == [1 / 3, 1, 1]
    assert best_known(runs()) == {"a": 2.0, "b": 5.0}
    assert summary.to_best["ours"] == TimeToBest(2 / 3, pytest.approx(0.1))
    assert summary.to_best["other"] == TimeToBest(2 / 3, pytest.approx(1.0))
    assert summary.to_best["none"] == TimeToBest(0, None)
    json.dumps(summary.to_json(), allow_nan=False)
    lines = anytime_lines(summary)
    assert lines[1].strip() == lines[1].strip().replace("nan", "")
    assert "0.1 s against other      +0.83333" in lines[1]
    assert "ahead 67%, tied 33%, behind 0%" in lines[1]
    assert "none: best known reached in 0% of the runs" in lines
    path = anytime_figure(runs(), tmp_path / "anytime.png", end=2.0)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_evolution_forgets_the_oldest(seg: Predictor) -> None:
    """With as many children as there are places, nothing of the generation before is left, not even its best."""
    values: list[float] = []

    def falling(codes: jax.Array) -> jax.Array:
        return -codes.sum(axis=-1).astype(jnp.float32)

    for children in (16, 4):
        optimizer = evolution(SPACE, falling, Evolution(16, tournament=1, children=children, steps=1))
        recorder = Recorder(math.inf, calls=30)
        shown: list[float] = []

        class Noting(Recorder):
            def __call__(self, value: float, code: np.ndarray, shown: list[float] = shown) -> None:
                shown.append(value)
                super().__call__(value, code)

        recorder = Noting(math.inf, calls=30)
        with pytest.raises(TimeUp):
            optimizer.search(jax.random.key(0), recorder)
        values.append(min(np.diff(shown)))
    assert min(values) < 0, "the best of a generation is not kept"


def test_cma_restarts_without_progress(seg: Predictor) -> None:
    """A constant score never improves: with no patience, every other generation begins at another random code."""
    settings = Cma(population=8, sigma=0.1, patience=0, steps=1)
    optimizer = cma_es(seg, lambda codes: jnp.zeros(len(codes)), settings)
    reported: list[np.ndarray] = []

    class Noting(Recorder):
        def __call__(self, value: float, code: np.ndarray) -> None:
            reported.append(np.array(code))
            super().__call__(value, code)

    with pytest.raises(TimeUp):
        optimizer.search(jax.random.key(0), Noting(math.inf, calls=12))
    apart = [(a != b).sum() for a, b in itertools.pairwise(reported)]
    assert sum(distance > 15 for distance in apart) >= 5


def test_a_benchmark_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    benchmark = AnytimeBenchmark(("seg",), ("random",), (0.01, 0.03), seeds=2)
    calls: list[tuple[int, int]] = []
    runs = benchmark.run(Records(tmp_path, benchmark.to_json()), lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert [run.task for run in runs] == ["seg", "seg"]
    for run in runs:
        assert set(run.curves) == {"inversion", "random"}
        assert all(curve.seconds[-1] <= 0.03 for curve in run.curves.values() if curve.seconds)
    monkeypatch.setattr(anytime_baselines, "run_once", lambda *_: pytest.fail("run again"))
    assert benchmark.run(Records(tmp_path, benchmark.to_json(), resume=True)) == runs


def test_errors(monkeypatch: pytest.MonkeyPatch, seg: Predictor, score: anytime.Score) -> None:
    with pytest.raises(ValueError, match=r"expected a known rival, got 'annealing'"):
        make_baselines(("annealing",), seg, score)
    with pytest.raises(ValueError, match=r"expected a known NAS-Bench-MR task, got 'segg'; did you mean: seg"):
        AnytimeBenchmark(("segg",), BASELINES, (1.0,), 1)
    with pytest.raises(ValueError, match=r"expected a known rival"):
        AnytimeBenchmark(("seg",), ("cma",), (1.0,), 1)
    with pytest.raises(ValueError, match=r"expected a budget of seconds to be a number > 0, got 0"):
        AnytimeBenchmark(("seg",), BASELINES, (0,), 1)
    with pytest.raises(ValueError, match=r"expected children to be an integer in 1..16, got 17"):
        Evolution(population=16, children=17)
    with pytest.raises(ValueError, match=r"expected polish to be an integer 1 or more, got 0; give another polish"):
        Rounds(polish=0)
    monkeypatch.setitem(sys.modules, "evosax.algorithms", None)
    with pytest.raises(ValueError, match=r'expected the package evosax for cma-es, got none; try pip install "ncp-jax'):
        make_baselines(("cma-es",), seg, score)
