"""A hill climb on legal codes behind inversion: what is best after rounding becomes best among its neighbours.

Inversion moves relaxed codes; rounding takes each to a legal one near the ascent's end, often an edit or two short of
a better one. Here the best of the codes reached try their single edits and go to the best of these; where none is
better, they try exchanges of two positions and the most promising pairs of edits. Edits that brought much when they
were last tried come first; the others are tried where these bring nothing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.propagation.edits import double_edits, joint_edits
from ncp_jax.spaces.base import Space
from ncp_jax.types import Bool, Float, Int

Score = Callable[[Int[np.ndarray, "n d"]], Float[np.ndarray, " n"]]
Allowed = Callable[[Int[np.ndarray, "n d"]], Bool[np.ndarray, " n"]]
Known = tuple[Int[np.ndarray, "j d"], Float[np.ndarray, " j"]]

BATCH = 1024  # rows of one call of the score, at most
SHORT = 4  # a look begins with one part in SHORT of the single edits, the most promising ones


@dataclasses.dataclass(frozen=True)
class Polished:
    """Where the climbs ended, and all that they scored.

    Attributes:
      codes: ``[p, d]`` the distinct ends of the climbs, best first.
      score: ``[p]`` their scores.
      peak: ``[p]`` True where no neighbour is better, False where a climb was cut short by rounds or budget.
      scored: ``[n, d]`` the codes scored here, each once, in the order of scoring; known ones are not among them.
      scores: ``[n]`` their scores.
      climbs: how many of the starts were taken up.
      rounds: how often the climbs looked around.
    """

    codes: Int[np.ndarray, "p d"]
    score: Float[np.ndarray, " p"]
    peak: Bool[np.ndarray, " p"]
    scored: Int[np.ndarray, "n d"]
    scores: Float[np.ndarray, " n"]
    climbs: int
    rounds: int


def polish(
    score: Score,
    space: Space,
    codes: Int[np.ndarray, "k d"],
    *,
    rounds: int | None = None,
    budget: int | None = None,
    allowed: Allowed | None = None,
    known: Known | None = None,
    together: int = 8,
) -> Polished:
    """Climbs from each code to one without a better neighbour.

    Some climbs go side by side, their neighbours scored in one call; where one ends, or meets the way of another, the
    next start takes its place. A host loop without randomness: equal arguments, equal results.

    Args:
      score: ``[n, d]`` legal codes → ``[n]``, higher is better; n is the same in all calls, so nothing recompiles.
      space: what the codes are.
      codes: ``[k, d]`` where the climbs begin, the most promising first.
      rounds: how often the climbs look around, at most; without it until all starts have ended.
      budget: how many codes are scored here, at most.
      allowed: ``[n, d]`` → ``[n]``, True where a code may be entered (a limit on FLOPs); called like ``score``. What is
        not allowed is not scored; a start that is not has the score -inf.
      known: codes ``[j, d]`` and their scores ``[j]``, which are not computed again.
      together: climbs side by side. More of them make larger calls, fewer spend a budget on the first starts first.

    Raises:
      UsageError: illegal codes, no codes, negative numbers.
    """
    starts = space.check(codes, where="code to polish")
    if len(starts) == 0:
        raise checks.UsageError(expected="at least one code to polish", got="none", remedy="give codes of the space")
    for name, limit, least in (("rounds", rounds, 0), ("budget", budget, 0), ("together", together, 1)):
        if limit is not None and (not isinstance(limit, int) or limit < least):
            raise checks.UsageError(
                expected=f"{name} to be an integer >= {least}", got=repr(limit), remedy="leave it out"
            )
    width = min(together, len(starts))
    rows = min(BATCH, -(-width * sum(len(values) - 1 for values in space.values) // SHORT))
    ledger = _Ledger(score, allowed, budget, rows=rows, length=space.length)
    if known is not None:
        ledger.learn(space.check(known[0], where="known code"), known[1])
    climbs = _Climbs(space, ledger, starts, width)
    done = 0
    while climbs.begin() and not ledger.spent and (rounds is None or done < rounds):
        climbs.look_around()
        done += 1
    codes, values, peak = climbs.ends()
    return Polished(codes, values, peak, *ledger.entries(), climbs.begun, done)


class _Climbs:
    """Climbs side by side, and the starts that wait for a place."""

    def __init__(self, space: Space, ledger: _Ledger, starts: Int[np.ndarray, "k d"], width: int) -> None:
        self.begun = 0
        self._space, self._ledger = space, ledger
        self._waiting: Iterator[np.ndarray] = iter(starts)
        self._here = starts[:width].copy()
        self._value = np.full(width, -np.inf)
        self._active = np.zeros(width, bool)
        # What each edit, [place, position, new value], brought when it was last tried; nan where it never was. The next
        # climb in a place inherits it: what was promising there is worth a try here.
        largest = max(max(values) for values in space.values)
        self._memory = np.full((width, space.length, largest + 1), np.nan)
        self._passed: set[bytes] = set()  # codes whose neighbours were looked at
        self._ends: dict[bytes, tuple[np.ndarray, float, bool]] = {}

    def begin(self) -> bool:
        """Fills free places with the next starts; False where there is nothing left to do."""
        begun = np.zeros(len(self._active), bool)
        for place in np.flatnonzero(~self._active).tolist():
            for code in self._waiting:
                self.begun += 1
                if self._arrive(place, code, -np.inf):
                    begun[place] = True
                    break
        self._value = np.where(begun, self._ledger.look(self._here, begun), self._value)
        return bool(self._active.any())

    def _arrive(self, place: int, code: Int[np.ndarray, " d"], value: float) -> bool:
        """Puts a climb at a code, unless another was there before: it would go the same way."""
        (key,) = keys_of(code[None])
        self._active[place] = key not in self._passed
        self._passed.add(key)
        if self._active[place]:
            self._here[place], self._value[place] = code, value
        return bool(self._active[place])

    def look_around(self) -> None:
        """Each climb goes to its best neighbour, or ends."""
        here, value = self._here.copy(), self._value.copy()
        near, legal = (np.asarray(a) for a in self._space.neighbours(jnp.asarray(here)))
        promising = self._promising(near)
        best, best_value, near_values = self._look(near, legal & promising & self._active[:, None])
        for wider in (self._look_at_all, self._look_further):
            stuck = self._active & ~(best_value > value)
            if stuck.any() and not self._ledger.spent:
                other, other_value, near_values = wider(near, legal, near_values, stuck)
                best = np.where((other_value > best_value)[:, None], other, best)
                best_value = np.maximum(best_value, other_value)
        self._remember(near, near_values)
        for place in np.flatnonzero(self._active).tolist():
            if best_value[place] > value[place]:
                self._arrive(place, best[place], best_value[place])
            else:
                self._end(place, peak=not self._ledger.spent)

    def _look(self, near: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores single edits, and some of the rising ones at once: the best of all, its score, those of the edits."""
        values = self._ledger.look(near, wanted)
        joint = joint_edits(self._here, near, values, self._value)
        best, best_value = self._best([(near, values), self._scored(joint, np.any(wanted, axis=1))])
        return best, best_value, values

    def _look_at_all(
        self, near: np.ndarray, legal: np.ndarray, _: np.ndarray, stuck: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._look(near, legal & stuck[:, None])

    def _look_further(
        self, near: np.ndarray, legal: np.ndarray, values: np.ndarray, stuck: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        wide = double_edits(self._here, near, values, self._value, stuck, self._new)
        return *self._best([self._scored(wide, stuck)]), values

    def _edits(self, near: Int[np.ndarray, "w j d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Where the memory has each single edit: climb, position, new value."""
        places = (near != self._here[:, None]).argmax(axis=-1)
        climbs, which = np.indices(places.shape)
        return climbs, places, near[climbs, which, places]

    def _promising(self, near: Int[np.ndarray, "w j d"]) -> Bool[np.ndarray, "w j"]:
        """The part of the single edits that brought most when they were last tried; all where none was."""
        gains = self._memory[self._edits(near)]
        order = np.argsort(-np.where(np.isnan(gains), 0.0, gains), axis=1, kind="stable")
        ranks = np.argsort(order, axis=1, kind="stable")
        return (ranks < -(-near.shape[1] // SHORT)) | np.isnan(gains).all(axis=1)[:, None]

    def _remember(self, near: Int[np.ndarray, "w j d"], values: Float[np.ndarray, "w j"]) -> None:
        at = self._edits(near)
        known = np.isfinite(values) & np.isfinite(self._value)[:, None]
        self._memory[at] = np.where(known, np.where(known, values, 0.0) - self._value[:, None], self._memory[at])

    def _scored(self, codes: Int[np.ndarray, "w j d"], wanted: Bool[np.ndarray, " w"]) -> tuple[np.ndarray, np.ndarray]:
        legal = np.asarray(self._space.is_valid(jnp.asarray(codes))) & (codes != self._here[:, None]).any(axis=-1)
        return codes, self._ledger.look(codes, legal & wanted[:, None])

    def _new(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """True where a code is legal and has no score."""
        return np.asarray(self._space.is_valid(jnp.asarray(codes))) & ~self._ledger.has(codes)

    @staticmethod
    def _best(options: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        codes, values = (np.concatenate(parts, axis=1) for parts in zip(*options, strict=True))
        first = values.argmax(axis=1)
        rows = np.arange(len(codes))
        return codes[rows, first], values[rows, first]

    def _end(self, place: int, *, peak: bool) -> None:
        self._active[place] = False
        code = self._here[place].copy()
        self._ends[keys_of(code[None])[0]] = (code, float(self._value[place]), peak)

    def ends(self) -> tuple[Int[np.ndarray, "p d"], Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
        """Codes, scores and whether they are peaks, best first; climbs under way end where they are."""
        for place in np.flatnonzero(self._active).tolist():
            self._end(place, peak=False)
        ranked = sorted(self._ends.values(), key=lambda end: -end[1])
        codes, values, peak = zip(*ranked, strict=True)
        return np.stack(codes), np.array(values), np.array(peak)


class _Ledger:
    """Scores by code: each code is scored once, at most ``budget`` of them, in calls of ``rows`` codes.

    Attributes:
      spent: True once something went unscored for want of budget.
    """

    def __init__(self, score: Score, allowed: Allowed | None, budget: int | None, *, rows: int, length: int) -> None:
        self.spent = False
        self._score, self._allowed, self._left, self._rows = score, allowed, budget, rows
        self._scores: dict[bytes, float] = {}
        self._codes: list[np.ndarray] = [np.zeros((0, length), np.int32)]
        self._values: list[np.ndarray] = [np.zeros(0)]

    def learn(self, codes: Int[np.ndarray, "n d"], scores: Float[np.ndarray, " n"]) -> None:
        """Takes scores that are known."""
        self._scores.update(zip(keys_of(codes), np.asarray(scores, np.float64).tolist(), strict=True))

    def has(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """True where the score is known."""
        return np.array([key in self._scores for key in keys_of(codes)], bool)

    def look(
        self, codes: Int[np.ndarray, "*batch d"], wanted: Bool[np.ndarray, "*batch"]
    ) -> Float[np.ndarray, "*batch"]:
        """Returns scores, computed where they are not known; -inf for what is not wanted or not to be had."""
        asked = codes[wanted]
        keys = keys_of(asked)
        fresh = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._scores}
        self._compute(asked[sorted(fresh.values())])
        values = np.full(wanted.shape, -np.inf)
        values[wanted] = [self._scores.get(key, -np.inf) for key in keys]
        return values

    def _compute(self, codes: Int[np.ndarray, "n d"]) -> None:
        if self._allowed is not None and len(codes):
            may = self._in_calls(self._allowed, codes).astype(bool)
            self.learn(codes[~may], np.full(int((~may).sum()), -np.inf))
            codes = codes[may]
        if self._left is not None:
            self.spent |= len(codes) > self._left
            codes = codes[: self._left]
            self._left -= len(codes)
        if len(codes):
            values = self._in_calls(self._score, codes).astype(np.float64)
            self.learn(codes, values)
            self._codes.append(codes)
            self._values.append(values)

    def _in_calls(self, function: Callable[[np.ndarray], np.ndarray], codes: Int[np.ndarray, "n d"]) -> np.ndarray:
        """One shape: the last call is filled up with its last code."""
        padded = np.concatenate([codes, np.repeat(codes[-1:], -len(codes) % self._rows, axis=0)])
        calls = [np.asarray(function(padded[i : i + self._rows])) for i in range(0, len(padded), self._rows)]
        return np.concatenate(calls)[: len(codes)]

    def entries(self) -> tuple[Int[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
        """What was computed here, in order."""
        return np.concatenate(self._codes), np.concatenate(self._values)


def keys_of(codes: Int[np.ndarray, "n d"]) -> list[bytes]:
    """One hashable value a code."""
    whole = np.ascontiguousarray(codes, dtype=np.int32)
    return whole.view(f"V{whole.itemsize * whole.shape[1]}").ravel().tolist()
