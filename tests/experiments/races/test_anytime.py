"""Races against wall time: the watch, the scoring, the contenders and what is made of their curves."""

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
from races import anytime, anytime_rivals
from races.anytime import Contender, Rounds, TimeUp, Watch, best_at, curve_of, inversion, race, scoring, warm_up
from races.anytime_rivals import RIVALS, Cma, Evolution, Tournament, cma_es, evolution, make_rivals
from races.anytime_summary import anytime_figure, anytime_lines, best_known, summarise

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
    return scoring(seg, default_objective(seg.metrics, limited=False))


@pytest.fixture(scope="module")
def contenders(seg: Predictor, score: anytime.Score) -> dict[str, Contender]:
    ours = inversion(seg, default_objective(seg.metrics, limited=False), score)
    return {c.name: c for c in (ours, *make_rivals(RIVALS, seg, score))}


def test_a_watch_keeps_the_best_and_the_time() -> None:
    ticks = iter([10.0, 10.5, 11.0, 11.5, 12.5])
    watch = Watch(2.0, clock=lambda: next(ticks))
    codes = np.arange(4 * 27).reshape(4, 27)
    for value, code in zip((1.0, 0.5, 3.0), codes, strict=False):
        watch(value, code)
    with pytest.raises(TimeUp):
        watch(9.0, codes[3])  # too late to count
    assert (watch.times, watch.values) == ([0.5, 1.5], [1.0, 3.0])
    np.testing.assert_array_equal(watch.codes, codes[[0, 2]])


def test_a_watch_for_warming_up_counts_calls() -> None:
    watch = Watch(math.inf, calls=2)
    watch(1.0, CODE)
    watch(2.0, CODE)
    with pytest.raises(TimeUp):
        watch(3.0, CODE)


def test_a_race_ends_and_is_the_same_search_for_the_same_key() -> None:
    seen = []

    def search(key: jax.Array, watch: Watch) -> None:
        for i in itertools.count():
            code = np.asarray(SPACE.sample(jax.random.fold_in(key, i), 1))[0]
            seen.append(code)
            watch(i, code)

    contender = Contender("x", search, warm=3)
    warm_up(contender, jax.random.key(0))
    assert len(seen) == 4
    watch = race(contender, jax.random.key(0), 0.05)
    assert watch.times[-1] <= 0.05
    np.testing.assert_array_equal(watch.codes[0], seen[0])


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
        np.testing.assert_allclose(scoring(seg, goal)(jnp.asarray(found.codes)), found.score, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["inversion", *RIVALS])
def test_every_contender_shows_legal_codes_with_their_scores(
    contenders: dict[str, Contender], score: anytime.Score, name: str
) -> None:
    class Checking(Watch):
        def __call__(self, value: float, code: np.ndarray) -> None:
            shown.append((float(value), np.array(code)))
            super().__call__(value, code)

    shown: list[tuple[float, np.ndarray]] = []
    with pytest.raises(TimeUp):
        contenders[name].search(jax.random.key(3), Checking(math.inf, calls=20))
    codes = np.stack([code for _, code in shown])
    SPACE.check(codes)
    np.testing.assert_allclose(score(jnp.asarray(codes)), [value for value, _ in shown], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["inversion", *RIVALS])
def test_a_search_depends_on_its_key_alone(contenders: dict[str, Contender], name: str) -> None:
    def values(seed: int) -> list[float]:
        watch = Watch(math.inf, calls=6)
        with pytest.raises(TimeUp):
            contenders[name].search(jax.random.key(seed), watch)
        return watch.values

    assert values(5) == values(5)
    assert values(5) != values(6)


def test_everyone_beats_random_sampling(contenders: dict[str, Contender]) -> None:
    """Without a clock: a hundred calls each, of which random sampling has the largest."""
    best = {}
    for name, contender in contenders.items():
        watch = Watch(math.inf, calls=100)
        with pytest.raises(TimeUp):
            contender.search(jax.random.key(1), watch)
        best[name] = watch.values[-1]
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
    watch = Watch(math.inf)
    codes = np.asarray(SPACE.sample(jax.random.key(0), 5))
    right = np.asarray(score(jnp.asarray(codes)))
    for i in np.argsort(right):
        watch(float(right[i]) + 1e-5, codes[i])
    curve = curve_of(watch, score)
    np.testing.assert_allclose(curve["score"], np.sort(right), rtol=1e-6)
    assert curve["code"] == codes[np.argmax(right)].tolist()
    assert curve_of(Watch(1.0), score) == {"seconds": [], "score": [], "code": []}
    json.dumps(curve)


def test_best_at() -> None:
    curve = {"seconds": [0.1, 0.5], "score": [1.0, 2.0]}
    assert [best_at(curve, t) for t in (0.05, 0.1, 0.4, 0.5, 9)] == [None, 1.0, 1.0, 2.0, 2.0]


def races() -> list[tuple[str, dict]]:
    def curve(*points: tuple[float, float]) -> dict:
        return {"seconds": [t for t, _ in points], "score": [v for _, v in points], "code": [1]}

    return [
        ("a", {"ours": curve((0.01, 1.0), (0.1, 2.0)), "other": curve((0.05, 0.5), (1.0, 2.0)), "none": curve()}),
        ("a", {"ours": curve((0.02, 2.0)), "other": curve((0.01, 1.0), (0.4, 1.5)), "none": curve()}),
        ("b", {"ours": curve((0.02, 4.0)), "other": curve((0.01, 4.0), (0.4, 5.0)), "none": curve()}),
    ]


def test_summary(tmp_path: Path) -> None:
    summary = summarise(races(), (0.01, 0.1, 2.0), "ours")
    first, second, third = summary["against"]["other"]
    # At 0.01 s ours has something in the first race only, the other one in the second and third.
    assert (first["ahead"], first["tied"], first["behind"]) == (1 / 3, 0, 2 / 3)
    assert first["difference"] is None
    assert (second["ahead"], second["tied"], second["behind"]) == (2 / 3, 1 / 3, 0)
    assert second["difference"]["mean"] == pytest.approx((1.5 + 1.0 + 0.0) / 3)
    assert (third["ahead"], third["tied"], third["behind"]) == (1 / 3, 1 / 3, 1 / 3)
    assert [row["ahead"] for row in summary["against"]["none"]] == [1 / 3, 1, 1]
    assert best_known(races()) == {"a": 2.0, "b": 5.0}
    assert summary["to_best"]["ours"] == {"reached": 2 / 3, "median_s": pytest.approx(0.1)}
    assert summary["to_best"]["other"] == {"reached": 2 / 3, "median_s": pytest.approx(1.0)}
    assert summary["to_best"]["none"] == {"reached": 0, "median_s": None}
    json.dumps(summary, allow_nan=False)
    lines = anytime_lines(summary)
    assert lines[1].strip() == lines[1].strip().replace("nan", "")
    assert "0.1 s against other      +0.83333" in lines[1]
    assert "ahead 67%, tied 33%, behind 0%" in lines[1]
    assert "none: best known reached in 0% of the races" in lines
    path = anytime_figure(races(), tmp_path / "anytime.png", end=2.0)
    assert path.read_bytes().startswith(b"\x89PNG")


def test_evolution_forgets_the_oldest(seg: Predictor) -> None:
    """With as many children as there are places, nothing of the generation before is left, not even its best."""
    values: list[float] = []

    def falling(codes: jax.Array) -> jax.Array:
        return -codes.sum(axis=-1).astype(jnp.float32)

    for children in (16, 4):
        contender = evolution(SPACE, falling, Evolution(16, tournament=1, children=children, steps=1))
        watch = Watch(math.inf, calls=30)
        shown: list[float] = []

        class Noting(Watch):
            def __call__(self, value: float, code: np.ndarray, shown: list[float] = shown) -> None:
                shown.append(value)
                super().__call__(value, code)

        watch = Noting(math.inf, calls=30)
        with pytest.raises(TimeUp):
            contender.search(jax.random.key(0), watch)
        values.append(min(np.diff(shown)))
    assert min(values) < 0, "the best of a generation is not kept"


def test_cma_begins_anew(seg: Predictor, score: anytime.Score) -> None:
    """A search that stands still after one generation keeps to no place."""
    contender = cma_es(seg, score, Cma(population=8, sigma=0.1, patience=0, steps=1))
    shown: list[np.ndarray] = []

    class Noting(Watch):
        def __call__(self, value: float, code: np.ndarray) -> None:
            shown.append(np.array(code))
            super().__call__(value, code)

    with pytest.raises(TimeUp):
        contender.search(jax.random.key(0), Noting(math.inf, calls=12))
    apart = [(a != b).sum() for a, b in itertools.pairwise(shown)]
    assert max(apart) > 20, "another place"


def test_a_tournament_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tournament = Tournament(("seg",), ("random",), (0.01, 0.03), seeds=2)
    calls: list[tuple[int, int]] = []
    races = tournament.run(Records(tmp_path, tournament.to_json()), lambda done, total: calls.append((done, total)))
    assert calls == [(1, 2), (2, 2)]
    assert [task for task, _ in races] == ["seg", "seg"]
    for _, curves in races:
        assert set(curves) == {"inversion", "random"}
        assert all(curve["seconds"][-1] <= 0.03 for curve in curves.values() if curve["seconds"])
    monkeypatch.setattr(anytime_rivals, "race", lambda *_: pytest.fail("raced again"))
    assert tournament.run(Records(tmp_path, tournament.to_json(), resume=True)) == races


def test_errors(monkeypatch: pytest.MonkeyPatch, seg: Predictor, score: anytime.Score) -> None:
    with pytest.raises(ValueError, match=r"expected a known rival, got 'annealing'"):
        make_rivals(("annealing",), seg, score)
    with pytest.raises(ValueError, match=r"expected a known NAS-Bench-MR task, got 'segg'; did you mean: seg"):
        Tournament(("segg",), RIVALS, (1.0,), 1)
    with pytest.raises(ValueError, match=r"expected a known rival"):
        Tournament(("seg",), ("cma",), (1.0,), 1)
    with pytest.raises(ValueError, match=r"expected a budget of seconds to be a number > 0, got 0"):
        Tournament(("seg",), RIVALS, (0,), 1)
    with pytest.raises(ValueError, match=r"expected 1 to 16 children, as many as the population at most, got 17"):
        Evolution(population=16, children=17)
    with pytest.raises(ValueError, match=r"expected polish >= 1, got 0; raise polish"):
        Rounds(polish=0)
    monkeypatch.setitem(sys.modules, "evosax.algorithms", None)
    with pytest.raises(ValueError, match=r'expected the package evosax for cma-es, got none; try pip install "ncp-jax'):
        make_rivals(("cma-es",), seg, score)
