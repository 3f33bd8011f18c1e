"""The hill climb behind inversion, against what its rules demand and against exhaustive search."""

from __future__ import annotations

import itertools

import jax
import numpy as np
import pytest

from ncp_jax import get_space
from ncp_jax.propagation.polish import Polished, keys_of, polish

SPACES = ("nas-bench-201", "transnas-micro", "transnas-macro", "nas-bench-mr")
SMALL = SPACES[:3]


class Landscape:
    """A score that notes the shapes and the codes it is asked for. ``rough`` adds what no sum over positions has."""

    def __init__(self, space: str, seed: int = 0, rough: float = 0.0) -> None:
        self.space = get_space(space)
        rng = np.random.default_rng(seed)
        self.worth = [rng.permutation(len(values)) + rng.random(len(values)) for values in self.space.values]
        self.pairs = rough * rng.normal(size=(self.space.length, self.space.length, 8, 8))
        self.shapes: set[tuple[int, ...]] = set()
        self.asked: list[bytes] = []

    def of(self, codes: np.ndarray) -> np.ndarray:
        digits = [np.searchsorted(values, codes[:, i]) for i, values in enumerate(self.space.values)]
        total = sum(self.worth[i][digit] for i, digit in enumerate(digits))
        for i, j in itertools.combinations(range(self.space.length), 2):
            total = total + self.pairs[i, j, digits[i] % 8, digits[j] % 8]
        return total

    def __call__(self, codes: np.ndarray) -> np.ndarray:
        self.shapes.add(codes.shape)
        self.asked += keys_of(codes)
        return self.of(codes)

    def starts(self, n: int, seed: int = 1) -> np.ndarray:
        return np.asarray(self.space.sample(jax.random.key(seed), n))


def neighbours(space: str, code: np.ndarray) -> np.ndarray:
    """All legal codes that differ in one position, or by an exchange of two, written without the library's edits."""
    found = []
    for i, values in enumerate(get_space(space).values):
        found += [np.concatenate([code[:i], [v], code[i + 1 :]]) for v in values if v != code[i]]
    for i, j in itertools.combinations(range(len(code)), 2):
        swapped = code.copy()
        swapped[[i, j]] = code[[j, i]]
        found.append(swapped)
    edited = np.array(found, np.int32)
    return edited[np.asarray(get_space(space).is_valid(edited))]


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("together", [1, 3])
def test_a_sum_over_positions_is_climbed_to_its_top(space: str, together: int) -> None:
    landscape = Landscape(space)
    ended = polish(landscape, landscape.space, landscape.starts(4), together=together)
    if space == "transnas-macro":  # not every combination is legal
        top = landscape.of(landscape.space.all_codes()).max()
    else:
        top = sum(worth.max() for worth in landscape.worth)
    assert ended.score[0] == pytest.approx(top)
    assert ended.peak.all()


@pytest.mark.parametrize("space", SPACES)
def test_the_ends_are_peaks(space: str) -> None:
    landscape = Landscape(space, rough=2.0)
    ended = polish(landscape, landscape.space, landscape.starts(5))
    assert 1 <= len(ended.codes) <= 5
    assert ended.peak.all()
    assert ended.climbs == 5
    np.testing.assert_array_equal(ended.score, landscape.of(ended.codes))
    assert (np.diff(ended.score) <= 0).all()
    for code, value in zip(ended.codes, ended.score, strict=True):
        assert landscape.of(neighbours(space, code)).max() <= value


@pytest.mark.parametrize("space", SPACES)
def test_every_code_is_scored_once_in_calls_of_one_shape(space: str) -> None:
    landscape = Landscape(space, rough=2.0)
    starts = landscape.starts(6)
    ended = polish(landscape, landscape.space, np.concatenate([starts, starts]))
    assert len(landscape.shapes) == 1
    assert len(set(keys_of(ended.scored))) == len(ended.scored)
    assert set(keys_of(ended.scored)) == set(landscape.asked)
    assert np.asarray(landscape.space.is_valid(ended.scored)).all()
    np.testing.assert_array_equal(ended.scores, landscape.of(ended.scored))
    assert set(keys_of(ended.codes)) <= set(keys_of(ended.scored))
    assert ended.scores.max() == ended.score[0]


def test_what_is_known_is_not_scored_again() -> None:
    landscape = Landscape("transnas-micro", rough=2.0)
    first = polish(landscape, landscape.space, landscape.starts(6))
    landscape.asked.clear()
    again = polish(landscape, landscape.space, landscape.starts(6), known=(first.scored, first.scores))
    assert not set(landscape.asked) & set(keys_of(first.scored))
    assert len(again.scored) < len(first.scored) / 2, "only pairs of edits that did not have their turn are left"
    assert again.score[0] >= first.score[0]
    every = landscape.space.all_codes()
    nothing = polish(landscape, landscape.space, landscape.starts(6), known=(every, landscape.of(every)))
    assert nothing.scored.shape == (0, 6)
    assert nothing.peak.all()


@pytest.mark.parametrize("budget", [0, 1, 7, 50, 300])
def test_a_budget_is_kept(budget: int) -> None:
    landscape = Landscape("nas-bench-201", rough=2.0)
    ended = polish(landscape, landscape.space, landscape.starts(30), budget=budget)
    assert len(ended.scored) == len(set(landscape.asked)) == budget
    assert ended.climbs < 30
    assert not ended.peak.all()
    known = dict(zip(keys_of(ended.scored), ended.scores, strict=True))
    for code, value in zip(ended.codes, ended.score, strict=True):
        assert value == known.get(keys_of(code[None])[0], -np.inf)


def test_rounds_are_kept() -> None:
    landscape = Landscape("nas-bench-201", rough=2.0)
    starts = landscape.starts(3)
    unmoved = polish(landscape, landscape.space, starts, rounds=0)
    assert (unmoved.rounds, len(unmoved.scored), unmoved.peak.any()) == (0, 3, False)
    assert set(keys_of(unmoved.codes)) == set(keys_of(starts))
    scores = [polish(landscape, landscape.space, starts, rounds=n).score[0] for n in range(6)]
    assert scores == sorted(scores)
    assert scores[1] > scores[0]


@pytest.mark.parametrize("space", SPACES)
def test_what_is_not_allowed_is_neither_scored_nor_entered(space: str) -> None:
    landscape = Landscape(space)
    shapes = set()

    def allowed(codes: np.ndarray) -> np.ndarray:
        shapes.add(codes.shape)
        return codes[:, 0] != landscape.space.values[0][int(np.argmax(landscape.worth[0]))]

    starts = landscape.starts(40)
    ended = polish(landscape, landscape.space, starts, allowed=allowed)
    assert shapes == landscape.shapes
    assert allowed(ended.scored).all()
    assert not allowed(starts).all(), "no start was forbidden"
    if space in SMALL:
        codes = landscape.space.all_codes()
        assert ended.score[0] == pytest.approx(landscape.of(codes[allowed(codes)]).max())
    alone = polish(landscape, landscape.space, starts[~allowed(starts)][:1], allowed=allowed)
    assert allowed(alone.codes).all(), "a forbidden start is left"


def test_nothing_is_allowed() -> None:
    landscape = Landscape("transnas-micro")
    ended = polish(landscape, landscape.space, landscape.starts(2), allowed=lambda codes: np.zeros(len(codes), bool))
    assert len(ended.scored) == 0
    assert np.isneginf(ended.score).all()


def test_equal_arguments_give_equal_results() -> None:
    def once() -> Polished:
        landscape = Landscape("transnas-macro", rough=2.0)
        return polish(landscape, landscape.space, landscape.starts(9), budget=200)

    a, b = once(), once()
    for name in ("codes", "score", "peak", "scored", "scores"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


def test_an_exchange_leads_out_of_a_trap() -> None:
    """Macro codes with three doublings and a fixed number of each module: no legal single edit keeps the counts."""
    space = get_space("transnas-macro")
    order = np.array([1, 2, 3, 3, 2, 2])

    def score(codes: np.ndarray) -> np.ndarray:
        same = np.sort(codes, axis=1) == np.sort(order)
        return np.where(same.all(axis=1), (codes == order).sum(axis=1), -1.0)

    start = np.array([[2, 1, 3, 3, 2, 2]])
    legal = neighbours("transnas-macro", start[0])
    singles = legal[(legal != start).sum(axis=1) == 1]
    assert (score(singles) < score(start)).all()
    ended = polish(score, space, start)
    np.testing.assert_array_equal(ended.codes, order[None])


def test_two_edits_that_only_help_together() -> None:
    space = get_space("transnas-micro")

    def score(codes: np.ndarray) -> np.ndarray:
        first, second = codes[:, 0] == 3, codes[:, 3] == 2
        others = (codes > 0).sum(axis=1) - 1.0 * first - second
        return (first & second) * 5.0 - (first ^ second) * 0.5 - others

    ended = polish(score, space, np.zeros((1, 6), int))
    np.testing.assert_array_equal(ended.codes, [[3, 0, 0, 2, 0, 0]])


def test_errors() -> None:
    landscape = Landscape("transnas-micro")
    starts = landscape.starts(2)
    with pytest.raises(ValueError, match=r"in code to polish 0, position 1 .* to be one of 0, 1, 2, 3"):
        polish(landscape, landscape.space, np.array([[0, 9, 0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="in known code 0, position 0"):
        polish(landscape, landscape.space, starts, known=(np.full((1, 6), 7), np.zeros(1)))
    with pytest.raises(ValueError, match="expected at least one code to polish, got none; give codes"):
        polish(landscape, landscape.space, np.zeros((0, 6), int))
    for name, value, least in (("rounds", -1, 0), ("budget", 1.5, 0), ("together", 0, 1)):
        with pytest.raises(
            ValueError, match=f"expected {name} to be an integer {least} or more, got {value}; leave it out"
        ):
            polish(landscape, landscape.space, starts, **{name: value})
