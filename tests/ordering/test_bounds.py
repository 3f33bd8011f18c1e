"""No order outweighs a bound, whatever the magnitudes of the weights: exact arithmetic and long searches as oracles."""

from __future__ import annotations

import functools
from collections.abc import Callable
from fractions import Fraction

import numpy as np
import pytest
from numba import njit

from ncp_jax.ordering import Ordering, order, solver

Maker = Callable[[np.random.Generator, int], np.ndarray]


def small_integers(rng: np.random.Generator, n: int) -> np.ndarray:
    return rng.integers(0, 100, (n, n)).astype(float)


def with_heavy(count: int, size: float) -> Maker:
    """Integers to 99 and some heavy weights, which may form cycles."""

    def make(rng: np.random.Generator, n: int) -> np.ndarray:
        weights = small_integers(rng, n)
        for _ in range(count):
            i, j = rng.choice(n, 2, replace=False)
            weights[i, j] = size
        return weights

    return make


def heavy_cycle(rng: np.random.Generator, n: int) -> np.ndarray:
    weights = small_integers(rng, n)
    members = rng.permutation(n)[:5]
    weights[members, np.roll(members, 1)] = 1e10 + rng.integers(0, 50, len(members))
    return weights


def magnitudes(rng: np.random.Generator, n: int) -> np.ndarray:
    return 10.0 ** rng.uniform(-12, 12, (n, n))


def tiny_beside_one(rng: np.random.Generator, n: int) -> np.ndarray:
    weights = 1e-10 * rng.random((n, n))
    weights[tuple(rng.choice(n, 2, replace=False))] = 1.0
    return weights


def offset(rng: np.random.Generator, n: int) -> np.ndarray:
    return 1e9 + rng.random((n, n))


def mixed_integers(rng: np.random.Generator, n: int) -> np.ndarray:
    return np.floor(10.0 ** rng.uniform(0, 13, (n, n)))


INTEGERS: dict[str, Maker] = {
    "small integers": small_integers,
    "one of 1e9": with_heavy(1, 1e9),
    "one of 1e12": with_heavy(1, 1e12),
    "ten of 1e10": with_heavy(10, 1e10),
    "ten of 1e15": with_heavy(10, 1e15),
    "a heavy cycle": heavy_cycle,
    "mixed integers": mixed_integers,
}
REALS: dict[str, Maker] = {"magnitudes": magnitudes, "1e-10 beside 1": tiny_beside_one, "offset": offset}


def exact_weights(weights: np.ndarray) -> list[list[Fraction]]:
    return [[Fraction(w) for w in row] for row in weights.tolist()]


def exact_weight(weights: np.ndarray, sequence: list[int]) -> Fraction:
    exact = exact_weights(weights)
    return sum((exact[a][b] for k, a in enumerate(sequence) for b in sequence[k + 1 :]), Fraction(0))


def exact_best(weights: np.ndarray) -> Fraction:
    """The largest weight of any order, by dynamic programming over subsets in fractions."""
    n, exact = len(weights), exact_weights(weights)
    # after[x][subset] would be the sum of exact[x][y] over y in subset, built bit by bit.
    best = [Fraction(0)] * (1 << n)
    after = [[Fraction(0)] * (1 << n) for _ in range(n)]
    for subset in range(1, 1 << n):
        low = subset & -subset
        y = low.bit_length() - 1
        for x in range(n):
            after[x][subset] = after[x][subset ^ low] + exact[x][y]
        best[subset] = max(after[x][subset ^ (1 << x)] + best[subset ^ (1 << x)] for x in range(n) if subset >> x & 1)
    return best[-1]


@pytest.mark.parametrize("by", ["subsets", "branch and cut", "dual ascent", "cycle packing"])
@pytest.mark.parametrize("kind", INTEGERS | REALS)
def test_no_order_outweighs_the_bound(kind: str, by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"subsets": (12, 100, 400), "branch and cut": (2, 100, 400), "dual ascent": (2, 2, 400)}
    for name, value in zip(("LARGEST", "EXACT", "DUAL"), limits.get(by, (2, 2, 2)), strict=True):
        monkeypatch.setattr(solver, name, value)
    rng = np.random.default_rng(len(kind))
    # The first two prove nothing and use all of it.
    time_limit = 0.1 if by in ("dual ascent", "cycle packing") else 0.5
    for n in (3, 4, 5, 6, 7, 8):
        weights = (INTEGERS | REALS)[kind](rng, n)
        best = exact_best(weights)
        found = order(weights, time_limit=time_limit)
        mine = exact_weight(weights, found.order.tolist())
        assert Fraction(found.upper_bound) >= best >= mine
        assert found.weight == float(mine), "the weight is the exact sum, rounded once"
        if found.status == "optimal":
            assert best - mine <= Fraction(found.upper_bound) - Fraction(found.weight)
            assert found.gap <= 1e-9
            if kind in INTEGERS:
                assert mine == best
                assert found.gap == 0
        else:
            assert by in ("dual ascent", "cycle packing")


@njit
def long_search(weights, sequence, draws):  # type: ignore[no-untyped-def]
    """Iterated insertion search in int64, independent of the solver's; ``draws[kick]`` has six places."""
    n = len(sequence)
    best, current = sequence.copy(), sequence.copy()
    best_gain, gain = np.int64(0), np.int64(0)
    for kick in range(len(draws)):
        trial, change = current.copy(), np.int64(0)
        if kick:
            for pair in range(3):
                a, b = draws[kick, 2 * pair], draws[kick, 2 * pair + 1]
                low, high = min(a, b), max(a, b)
                for k in range(low, high):
                    change -= weights[trial[low], trial[k + 1]] - weights[trial[k + 1], trial[low]]
                first = trial[low]
                for k in range(low, high):
                    trial[k] = trial[k + 1]
                trial[high] = first
        moved = True
        while moved:
            moved = False
            for place in range(n):
                x = trial[place]
                where, most, total = place, np.int64(0), np.int64(0)
                for k in range(place - 1, -1, -1):
                    total += weights[x, trial[k]] - weights[trial[k], x]
                    if total > most:
                        most, where = total, k
                total = np.int64(0)
                for k in range(place + 1, n):
                    total += weights[trial[k], x] - weights[x, trial[k]]
                    if total > most:
                        most, where = total, k
                if most > 0:
                    step = 1 if where > place else -1
                    for k in range(place, where, step):
                        trial[k] = trial[k + step]
                    trial[where] = x
                    change += most
                    moved = True
        if gain + change >= gain:
            gain, current = gain + change, trial
            if gain > best_gain:
                best_gain, best = gain, trial.copy()
    return best, best_gain


@pytest.mark.parametrize("kind", INTEGERS)
def test_no_long_search_finds_more_than_the_bound(kind: str) -> None:
    rng = np.random.default_rng(7)
    for n in (20, 40, 60):
        weights = INTEGERS[kind](rng, n)
        found = order(weights, time_limit=2 if n == 20 else 0.3)  # proofs are expected of the small ones
        whole = weights.astype(np.int64)
        starts = [found.order.astype(np.int64), np.argsort(whole.sum(axis=0) - whole.sum(axis=1))]
        for start in starts:
            better, _ = long_search(whole, start, rng.integers(0, n, (400, 6)))
            weight = exact_weight(weights, better.tolist())
            assert weight <= Fraction(found.upper_bound)
            if found.status == "optimal":
                assert weight <= exact_weight(weights, found.order.tolist())
        if kind in ("small integers", "one of 1e9", "one of 1e12") and n == 20:
            assert found.status == "optimal", "a forced precedence makes nothing harder"


@pytest.mark.filterwarnings("error")
def test_the_diagonal_is_ignored_beside_a_heavy_weight() -> None:
    weights = with_heavy(1, 1e12)(np.random.default_rng(0), 14)
    spoilt = weights.copy()
    np.fill_diagonal(spoilt, [np.nan, np.inf, -np.inf, -1, *range(10)])
    clean, other = order(weights, time_limit=1), order(spoilt, time_limit=1)
    assert clean.order.tolist() == other.order.tolist()
    assert (clean.weight, clean.upper_bound) == (other.weight, other.upper_bound)


@functools.cache
def without_a_heavy_one(n: int, time_limit: float) -> tuple[np.ndarray, Ordering]:
    weights = small_integers(np.random.default_rng(3), n)
    return weights, order(weights, time_limit=time_limit)


@pytest.mark.parametrize("size", [1e5, 1e9, 1e12, 1e15])
@pytest.mark.parametrize("n", [12, 40, 150])
def test_a_forced_precedence_costs_no_quality(n: int, size: float) -> None:
    """A weight that no order can afford to lose leaves the problem of the others as it was."""
    time_limit = 1 if n < 40 else 0.3  # proofs are expected of the small ones
    known, plain = without_a_heavy_one(n, time_limit)
    weights = known.copy()
    first, last = plain.order[0], plain.order[-1]
    before = weights[first, last]
    weights[first, last] = size
    found = order(weights, time_limit=time_limit)
    assert found.weight - size >= (plain.weight - before) * (1 if plain.status == "optimal" else 0.999)
    assert found.upper_bound - size >= plain.weight - before
    if plain.status == "optimal":
        assert found.status == "optimal"
        assert found.weight - size == plain.weight - before
