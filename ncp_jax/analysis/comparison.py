"""Methods compared over common blocks: ranks, tests, effect sizes. scipy does the tests."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Float

ALL_PAIRS = 20  # methods up to which every pair is tested; with more, each against the best
EXACT = 50  # pairs up to which signed ranks are tested exactly


def block_ranks(scores: Float[np.ndarray, "blocks methods"]) -> Float[np.ndarray, "blocks methods"]:
    """The rank of each method in each block, 1 for the lowest score; ties share their mean rank.

    Raises:
      UsageError: scores that are no [blocks, methods], none at all, or NaN.
    """
    from scipy.stats import rankdata

    return rankdata(_checked(scores), axis=1)


def friedman(scores: Float[np.ndarray, "blocks methods"]) -> dict[str, Any] | None:
    """Friedman's test that the methods rank alike in all blocks, corrected for ties (JASA 1937).

    Returns:
      "statistic" (chi-squared with "df" degrees of freedom) and "p"; "f", the less cautious statistic of Iman and
      Davenport with its "f_p" (None where it is infinite or undefined). None with fewer than three methods or two
      blocks. Where all methods tie in every block: 0 and p = 1.
    """
    from scipy.stats import f as f_distribution
    from scipy.stats import friedmanchisquare

    table = _checked(scores)
    n, k = table.shape
    if n < 2 or k < 3:
        return None
    if (table == table[:, :1]).all():
        return {"statistic": 0.0, "df": k - 1, "p": 1.0, "f": 0.0, "f_p": 1.0}
    found = friedmanchisquare(*table.T)
    chi, rest = float(found.statistic), n * (k - 1) - float(found.statistic)
    f = (n - 1) * chi / rest if rest > 1e-9 else None
    f_p = None if f is None else float(f_distribution.sf(f, k - 1, (k - 1) * (n - 1)))
    return {"statistic": chi, "df": k - 1, "p": float(found.pvalue), "f": f, "f_p": f_p}


def critical_difference(methods: int, blocks: int, *, alpha: float = 0.05) -> float:
    """Nemenyi's critical difference of average ranks (Demšar, JMLR 2006, section 3.2.2).

    Two of ``methods`` methods differ at level ``alpha`` if their average ranks over ``blocks`` blocks differ by more.

    Raises:
      UsageError: fewer than two methods, no blocks, or an alpha outside 0..1.
    """
    from scipy.stats import studentized_range

    if methods < 2 or blocks < 1 or not 0 < alpha < 1:
        raise checks.UsageError(
            expected="two methods, a block and an alpha in 0..1",
            got=f"{methods}, {blocks} and {alpha}",
            remedy="give more of them",
        )
    return float(studentized_range.ppf(1 - alpha, methods, math.inf)) * _rank_error(methods, blocks)


def nemenyi_p(difference: float, methods: int, blocks: int) -> float:
    """The p-value of a difference of average ranks, corrected for all pairs of methods (Nemenyi)."""
    from scipy.stats import studentized_range

    return float(studentized_range.sf(abs(difference) / _rank_error(methods, blocks), methods, math.inf))


def _rank_error(methods: int, blocks: int) -> float:
    """The standard error of an average rank, in the studentized range's unit."""
    return math.sqrt(methods * (methods + 1) / (12 * blocks))


def holm(p: Sequence[float] | Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Holm's step-down correction of m p-values (1979): below alpha is rejected with family-wise error alpha."""
    values = np.asarray(p, np.float64)
    order, m = np.argsort(values, kind="stable"), len(values)
    steps = np.maximum.accumulate(values[order] * np.arange(m, 0, -1))
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def signed_rank(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> dict[str, float]:
    """Wilcoxon's signed-rank test of paired scores, two-sided; equal pairs are left out (1945).

    Exact up to ``EXACT`` unequal pairs, ties among the differences included; beyond, scipy's normal approximation.

    Returns:
      "statistic", the smaller of the two rank sums, and "p". Where all pairs are equal: 0 and 1.
    """
    from scipy.stats import rankdata, wilcoxon

    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    scale = max(np.abs(x).max(initial=0.0), np.abs(y).max(initial=0.0)) or 1.0
    # What differs by rounding alone is a tie.
    difference = np.round((x - y) / scale, 12)
    some = difference[difference != 0]
    if not len(some):
        return {"statistic": 0.0, "p": 1.0}
    if len(some) > EXACT:
        found = wilcoxon(some, method="approx")
        return {"statistic": float(found.statistic), "p": float(found.pvalue)}
    # scipy's exact distribution is for untied ranks; its permutations of tied ones take a tenth of a second a pair.
    # Mean ranks are multiples of a half: sums of doubled ranks are whole numbers, and signs are coin tosses.
    doubled = np.rint(2 * rankdata(np.abs(some))).astype(int)
    chance = np.ones(1)
    for rank in doubled:
        chance = (np.pad(chance, (0, rank)) + np.pad(chance, (rank, 0))) / 2
    lower = int(min(doubled[some > 0].sum(), doubled[some < 0].sum()))
    return {"statistic": lower / 2, "p": float(min(1.0, 2 * chance[: lower + 1].sum()))}


def a12(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> float:
    """The chance that a score of the first is lower (better) than one of the second, ties half.

    Vargha and Delaney's A (2000), for scores of which lower is better: 0.5 is no difference, above it the first is
    better; 0.56, 0.64 and 0.71 are their small, medium and large.
    """
    from scipy.stats import rankdata

    ours, theirs = np.asarray(a, np.float64), np.asarray(b, np.float64)
    ranks = rankdata(-np.concatenate([ours, theirs]))[: len(ours)]
    return float((ranks.mean() - (len(ours) + 1) / 2) / len(theirs))


def compare(
    scores: Float[np.ndarray, "blocks methods"],
    names: Sequence[str],
    *,
    strata: Sequence[int] | np.ndarray | None = None,
    alpha: float = 0.05,
) -> dict[str, Any]:
    """Compares methods over common blocks (data sets, or data set and seed).

    Args:
      scores: lower is better; all that the tests use is their order within a block and, for the signed ranks, their
        differences within it.
      names: of the methods.
      strata: a group of each block within which scores are on one scale (its benchmark), for the effect size; one
        group without it.
      alpha: of the critical difference and the groups.

    Returns:
      JSON-ready. "blocks"; "average_rank": name → mean rank over blocks, 1 is best; "friedman" (see there);
      "critical_difference" (None unless three methods are compared over two blocks); "alpha"; "groups": lists of
      names, best first, that are not told apart: within one critical difference, or, of two methods, by the
      signed ranks; "pairs": see below; "pairs_of": "all" or "with the best" (more than ``ALL_PAIRS`` methods).
      A pair has "a", "b", "wins", "ties", "losses" (blocks, of a), "statistic", "p" (Wilcoxon), "p_holm" (over the
      pairs), "a12" (mean over strata, see ``a12``), "rank_difference" (a minus b) and "nemenyi_p" (None for two).

    Raises:
      UsageError: scores that do not fit the names, none, or NaN.
    """
    table = _checked(scores)
    n, k = table.shape
    if k != len(names):
        raise checks.UsageError(expected=f"{k} names", got=str(len(names)), remedy="give one a method")
    groups = np.zeros(n, int) if strata is None else np.asarray(strata)
    mean_ranks = block_ranks(table).mean(axis=0)
    order = np.argsort(mean_ranks, kind="stable")
    couples = list(itertools.combinations(range(k), 2))
    if k > ALL_PAIRS:
        couples = [(int(order[0]), int(other)) for other in order[1:]]
    pairs = _pairs(table, names, mean_ranks, groups, couples)
    cd = critical_difference(k, n, alpha=alpha) if k > 2 and n > 1 else None
    # Two methods have no critical difference; one alone has no pair.
    reach = cd if cd is not None else math.inf if pairs and pairs[0]["p"] >= alpha else 0.0
    return {
        "blocks": n,
        "average_rank": dict(zip(names, mean_ranks.tolist(), strict=True)),
        "friedman": friedman(table),
        "critical_difference": cd,
        "alpha": alpha,
        "groups": [[names[i] for i in group] for group in _groups(order, mean_ranks, reach)],
        "pairs": pairs,
        "pairs_of": "all" if k <= ALL_PAIRS else "with the best",
    }


def _pairs(
    table: np.ndarray,
    names: Sequence[str],
    mean_ranks: np.ndarray,
    strata: np.ndarray,
    couples: Sequence[tuple[int, int]],
) -> list[dict[str, Any]]:
    """The entries of ``compare``'s "pairs"."""
    n, k = table.shape
    within = [strata == group for group in np.unique(strata)]
    pairs: list[dict[str, Any]] = []
    for a, b in couples:
        x, y = table[:, a], table[:, b]
        gap = float(mean_ranks[a] - mean_ranks[b])
        pairs.append(
            {
                "a": names[a],
                "b": names[b],
                "wins": int((x < y).sum()),
                "ties": int((x == y).sum()),
                "losses": int((x > y).sum()),
                **signed_rank(x, y),
                "a12": float(np.mean([a12(x[some], y[some]) for some in within])),
                "rank_difference": gap,
                "nemenyi_p": nemenyi_p(gap, k, n) if k > 2 and n > 1 else None,
            }
        )
    for pair, adjusted in zip(pairs, holm([pair["p"] for pair in pairs]).tolist(), strict=True):
        pair["p_holm"] = adjusted
    return pairs


def _groups(order: np.ndarray, ranks: np.ndarray, reach: float) -> list[list[int]]:
    """The largest runs of methods, in order of rank, whose first and last are within reach; of two methods or more."""
    groups: list[list[int]] = []
    end = 0
    for start in range(len(order)):
        stop = start + 1
        while stop < len(order) and ranks[order[stop]] - ranks[order[start]] <= reach:
            stop += 1
        if stop > end and stop - start > 1:
            groups.append([int(i) for i in order[start:stop]])
        end = max(end, stop)
    return groups


def _checked(scores: np.ndarray) -> np.ndarray:
    table = np.asarray(scores, np.float64)
    if table.ndim != 2 or not table.size or np.isnan(table).any():
        raise checks.UsageError(
            expected="scores [blocks, methods] without NaN, at least one",
            got=f"shape {list(table.shape)}",
            remedy="leave out the blocks that some method lacks",
        )
    return table
