"""Polishes the results of an inversion by hill climbing on legal codes.

Inversion moves relaxed codes; rounding turns each into a legal code that is often an edit or two short of a better one.
Here the best codes try their single edits and move to the best of these. Where none is better, they try exchanges of
two positions and the most promising pairs of edits. Edits with a large gain in an earlier round are tried first, the
others only if these do not help.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.propagation.edits import double_edits, joint_edits
from ncp_jax.propagation.found import in_batches
from ncp_jax.spaces import get_space
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.codes import padded_values
from ncp_jax.types import Bool, Float, Int

Score = Callable[[Int[np.ndarray, "n d"]], Float[np.ndarray, " n"]]
Allowed = Callable[[Int[np.ndarray, "n d"]], Bool[np.ndarray, " n"]]
Known = tuple[Int[np.ndarray, "j d"], Float[np.ndarray, " j"]]

BATCH = 1024  # maximum rows of one call of the score
SHORT = 4  # a round begins with the most promising 1/SHORT of the single edits


@dataclasses.dataclass(frozen=True)
class Polished:
    """The ends of the climbs, and all codes scored.

    Attributes:
      codes: ``[p, d]`` distinct ends of the climbs, best first.
      score: ``[p]`` their scores.
      peak: ``[p]`` True where no neighbour is better, False where rounds or budget ran out before.
      scored: ``[n, d]`` codes scored here, each once, in the order of scoring; excludes known codes.
      scores: ``[n]`` their scores.
      climbs: number of starts used.
      rounds: number of rounds.
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
    space: Space | str,
    codes: Int[np.ndarray, "k d"],
    *,
    rounds: int | None = None,
    budget: int | None = None,
    allowed: Allowed | None = None,
    known: Known | None = None,
    together: int = 8,
) -> Polished:
    """Climbs from each code to one without a better neighbour.

    Several climbs run side by side, and their neighbours are scored in one call. When a climb ends, or reaches a code
    that another climb has passed, the next start takes its slot. This is a host loop without randomness.

    Args:
      score: ``[n, d]`` legal codes → ``[n]`` scores, higher is better; n never changes, so JAX compiles once.
      space: space of the codes, or its name.
      codes: ``[k, d]`` starts of the climbs, the most promising first.
      rounds: maximum number of rounds; None to go on until all climbs have ended.
      budget: maximum number of codes scored here, or None.
      allowed: ``[n, d]`` → ``[n]``, True for codes that a climb may visit (a limit on FLOPs); called like ``score``.
        Other codes are not scored; as starts they have the score -inf.
      known: codes ``[j, d]`` and scores ``[j]`` that need not be computed again.
      together: number of climbs side by side. More climbs make larger calls; fewer spend the budget on the first
        starts.

    Raises:
      UsageError: illegal codes, no codes, or numbers out of range.
    """
    space = get_space(space)
    starts = space.check(codes, where="code to polish")
    if len(starts) == 0:
        raise checks.UsageError(expected="at least one code to polish", got="none", remedy="give codes of the space")
    for name, limit, least in (("rounds", rounds, 0), ("budget", budget, 0), ("together", together, 1)):
        if limit is not None:
            checks.integer(name, limit, least=least, remedy="leave it out")
    width = min(together, len(starts))
    rows = min(BATCH, -(-width * sum(len(values) - 1 for values in space.values) // SHORT))
    scorer = _Scorer(score, allowed, budget, rows=rows, length=space.length)
    if known is not None:
        scorer.add(space.check(known[0], where="known code"), known[1])
    climbs = _Climbs(space, scorer, starts, width)
    done = 0
    while climbs.begin() and not scorer.exhausted and (rounds is None or done < rounds):
        climbs.advance()
        done += 1
    codes, values, peak = climbs.ends()
    return Polished(codes, values, peak, *scorer.entries(), climbs.begun, done)


class _Climbs:
    """Climbs side by side, one per slot, and the starts that wait for a slot.

    Shapes: w slots, j single edits of a code of length d.
    """

    def __init__(self, space: Space, scorer: _Scorer, starts: Int[np.ndarray, "k d"], width: int) -> None:
        self.begun = 0
        self._space, self._scorer = space, scorer
        self._waiting: Iterator[np.ndarray] = iter(starts)
        self._codes = starts[:width].copy()
        self._values = np.full(width, -np.inf)
        self._active = np.zeros(width, bool)
        # The gain of each edit, [slot, position, place of the new value], when it was last tried; nan if it never was.
        # The next climb in a slot inherits it, since edits that helped one code often help another.
        self._table = padded_values(space.values)
        self._gains = np.full((width, *self._table.shape), np.nan)
        self._passed: set[bytes] = set()  # codes that a climb has visited
        self._ends: dict[bytes, tuple[np.ndarray, float, bool]] = {}

    def begin(self) -> bool:
        """Fills free slots with the next starts. Returns False if no climb is left."""
        begun = np.zeros(len(self._active), bool)
        for slot in np.flatnonzero(~self._active).tolist():
            for code in self._waiting:
                self.begun += 1
                if self._arrive(slot, code, -np.inf):
                    begun[slot] = True
                    break
        self._values = np.where(begun, self._scorer.scores(self._codes, begun), self._values)
        return bool(self._active.any())

    def _arrive(self, slot: int, code: Int[np.ndarray, " d"], value: float) -> bool:
        """Moves a climb to a code. Stops it if another climb has visited the code, as it would take the same path."""
        (key,) = keys_of(code[None])
        self._active[slot] = key not in self._passed
        self._passed.add(key)
        if self._active[slot]:
            self._codes[slot], self._values[slot] = code, value
        return bool(self._active[slot])

    def advance(self) -> None:
        """Moves each climb to the best candidate around its code, or ends it."""
        codes, values = self._codes.copy(), self._values.copy()
        edits, legal = (np.asarray(a) for a in self._space.neighbours(jnp.asarray(codes)))

        # First the promising single edits. Climbs that these do not improve try all single edits, then double edits.
        promising = self._promising(edits)
        best, best_values, edit_values = self._try_single(edits, legal & promising & self._active[:, None])
        for wider in (self._try_all_single, self._try_double):
            stuck = self._active & ~(best_values > values)
            if stuck.any() and not self._scorer.exhausted:
                other, other_values, edit_values = wider(edits, legal, edit_values, stuck)
                best = np.where((other_values > best_values)[:, None], other, best)
                best_values = np.maximum(best_values, other_values)
        self._remember(edits, edit_values)

        # A climb without a better candidate is at a peak, unless the budget ran out before all were scored.
        for slot in np.flatnonzero(self._active).tolist():
            if best_values[slot] > values[slot]:
                self._arrive(slot, best[slot], best_values[slot])
            else:
                self._end(slot, peak=not self._scorer.exhausted)

    def _try_single(self, edits: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Scores the wanted single edits and some joint ones. Returns the best, its score, and the edits' scores."""
        values = self._scorer.scores(edits, wanted)
        joint = joint_edits(self._codes, edits, values, self._values)
        best, best_values = self._best([(edits, values), self._scored(joint, np.any(wanted, axis=1))])
        return best, best_values, values

    def _try_all_single(
        self, edits: np.ndarray, legal: np.ndarray, _: np.ndarray, stuck: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._try_single(edits, legal & stuck[:, None])

    def _try_double(
        self, edits: np.ndarray, legal: np.ndarray, edit_values: np.ndarray, stuck: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        double = double_edits(self._codes, edits, edit_values, self._values, stuck, self._unscored)
        return *self._best([self._scored(double, stuck)]), edit_values

    def _index(self, edits: Int[np.ndarray, "w j d"]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Returns the index of each single edit in ``_gains``: slot, position, place of the new value."""
        positions = (edits != self._codes[:, None]).argmax(axis=-1)
        slots, which = np.indices(positions.shape)
        values = edits[slots, which, positions]
        return slots, positions, (values[..., None] > self._table[positions, :-1]).sum(axis=-1)

    def _promising(self, edits: Int[np.ndarray, "w j d"]) -> Bool[np.ndarray, "w j"]:
        """Returns True for the 1/SHORT of the single edits with the largest gains; for all in a slot without gains."""
        gains = self._gains[self._index(edits)]
        order = np.argsort(-np.where(np.isnan(gains), 0.0, gains), axis=1, kind="stable")
        ranks = np.argsort(order, axis=1, kind="stable")
        return (ranks < -(-edits.shape[1] // SHORT)) | np.isnan(gains).all(axis=1)[:, None]

    def _remember(self, edits: Int[np.ndarray, "w j d"], edit_values: Float[np.ndarray, "w j"]) -> None:
        """Stores the gains of the edits that were scored."""
        at = self._index(edits)
        known = np.isfinite(edit_values) & np.isfinite(self._values)[:, None]
        self._gains[at] = np.where(known, np.where(known, edit_values, 0.0) - self._values[:, None], self._gains[at])

    def _scored(self, codes: Int[np.ndarray, "w j d"], wanted: Bool[np.ndarray, " w"]) -> tuple[np.ndarray, np.ndarray]:
        codes = self._space.settled(codes)
        legal = np.asarray(self._space.is_valid(jnp.asarray(codes))) & (codes != self._codes[:, None]).any(axis=-1)
        return codes, self._scorer.scores(codes, legal & wanted[:, None])

    def _unscored(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Returns True for each code that is legal and has no score."""
        return np.asarray(self._space.is_valid(jnp.asarray(codes))) & ~self._scorer.has(codes)

    @staticmethod
    def _best(options: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the best code of each slot and its score; the first of equals."""
        codes, values = (np.concatenate(parts, axis=1) for parts in zip(*options, strict=True))
        first = values.argmax(axis=1)
        rows = np.arange(len(codes))
        return codes[rows, first], values[rows, first]

    def _end(self, slot: int, *, peak: bool) -> None:
        self._active[slot] = False
        code = self._codes[slot].copy()
        self._ends[keys_of(code[None])[0]] = (code, float(self._values[slot]), peak)

    def ends(self) -> tuple[Int[np.ndarray, "p d"], Float[np.ndarray, " p"], Bool[np.ndarray, " p"]]:
        """Ends all climbs. Returns the codes, best first, their scores, and True for each peak."""
        for slot in np.flatnonzero(self._active).tolist():
            self._end(slot, peak=False)
        ranked = sorted(self._ends.values(), key=lambda end: -end[1])
        codes, values, peak = zip(*ranked, strict=True)
        return np.stack(codes), np.array(values), np.array(peak)


class _Scorer:
    """Scores codes, each once, at most ``budget`` of them, in calls of ``rows`` codes.

    Attributes:
      exhausted: True once a code went unscored because the budget had run out.
    """

    def __init__(self, score: Score, allowed: Allowed | None, budget: int | None, *, rows: int, length: int) -> None:
        self.exhausted = False
        self._score, self._allowed, self._left, self._rows = score, allowed, budget, rows
        self._scores: dict[bytes, float] = {}
        self._codes: list[np.ndarray] = [np.zeros((0, length), np.int32)]
        self._values: list[np.ndarray] = [np.zeros(0)]

    def add(self, codes: Int[np.ndarray, "n d"], scores: Float[np.ndarray, " n"]) -> None:
        """Adds known scores."""
        self._scores.update(zip(keys_of(codes), np.asarray(scores, np.float64).tolist(), strict=True))

    def has(self, codes: Int[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Returns True for each code with a known score."""
        return np.array([key in self._scores for key in keys_of(codes)], bool)

    def scores(
        self, codes: Int[np.ndarray, "*batch d"], wanted: Bool[np.ndarray, "*batch"]
    ) -> Float[np.ndarray, "*batch"]:
        """Returns scores; computes unknown ones. -inf for codes not wanted, not allowed, or beyond the budget."""
        asked = codes[wanted]
        keys = keys_of(asked)
        unknown = {key: i for i, key in reversed(list(enumerate(keys))) if key not in self._scores}
        self._compute(asked[sorted(unknown.values())])
        values = np.full(wanted.shape, -np.inf)
        values[wanted] = [self._scores.get(key, -np.inf) for key in keys]
        return values

    def _compute(self, codes: Int[np.ndarray, "n d"]) -> None:
        if self._allowed is not None and len(codes):
            allowed = self._in_batches(self._allowed, codes).astype(bool)
            self.add(codes[~allowed], np.full(int((~allowed).sum()), -np.inf))
            codes = codes[allowed]
        if self._left is not None:
            self.exhausted |= len(codes) > self._left
            codes = codes[: self._left]
            self._left -= len(codes)
        if len(codes):
            values = self._in_batches(self._score, codes).astype(np.float64)
            self.add(codes, values)
            self._codes.append(codes)
            self._values.append(values)

    def _in_batches(self, function: Callable[[np.ndarray], np.ndarray], codes: Int[np.ndarray, "n d"]) -> np.ndarray:
        (values,) = in_batches(function, codes, self._rows)
        return values

    def entries(self) -> tuple[Int[np.ndarray, "n d"], Float[np.ndarray, " n"]]:
        """Returns the codes and scores computed here, in order."""
        return np.concatenate(self._codes), np.concatenate(self._values)


def keys_of(codes: Int[np.ndarray, "n d"]) -> list[bytes]:
    """Returns one hashable value per code."""
    whole = np.ascontiguousarray(codes, dtype=np.int32)
    return whole.view(f"V{whole.itemsize * whole.shape[1]}").ravel().tolist()
