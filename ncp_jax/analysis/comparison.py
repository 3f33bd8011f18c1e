"""Compares methods over common blocks: average ranks, significance tests, effect sizes."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.types import Float

ALL_PAIRS = 20  # methods up to which every pair is tested; with more, each against the best
EXACT = 50  # pairs up to which signed ranks are tested exactly


@dataclasses.dataclass(frozen=True)
class FriedmanTest:
    """The result of Friedman's test.

    Attributes:
      statistic: chi-squared, corrected for ties.
      df: its degrees of freedom.
      p: its p-value.
      f: the less conservative statistic of Iman and Davenport; None where it is infinite or undefined.
      f_p: its p-value, or None.
    """

    statistic: float
    df: int
    p: float
    f: float | None
    f_p: float | None


@dataclasses.dataclass(frozen=True)
class PairTest:
    """Two methods compared over their common blocks.

    Attributes:
      a: name of the first method.
      b: name of the second method.
      wins: number of blocks in which a has the lower score.
      ties: number of blocks in which both have the same score.
      losses: number of blocks in which a has the higher score.
      statistic: statistic of Wilcoxon's signed-rank test, the smaller of the two rank sums.
      p: its p-value.
      p_holm: its p-value after Holm's correction over all pairs.
      a12: Vargha and Delaney's effect size, see ``a12``, averaged over strata.
      rank_difference: average rank of a minus that of b.
      nemenyi_p: p-value of the Nemenyi test; None for two methods alone.
    """

    a: str
    b: str
    wins: int
    ties: int
    losses: int
    statistic: float
    p: float
    p_holm: float
    a12: float
    rank_difference: float
    nemenyi_p: float | None


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Methods compared over common blocks.

    Attributes:
      blocks: number of blocks.
      average_rank: method → mean rank over the blocks, 1 is best.
      friedman: Friedman's test; None for fewer than three methods or two blocks.
      critical_difference: Nemenyi's critical difference of average ranks; None where ``friedman`` is None.
      alpha: significance level.
      groups: names of methods, best first, that do not differ significantly: within one critical difference, or, for
        two methods, by the signed-rank test.
      pairs: comparisons of two methods.
      pairs_of: "all", or "with the best" if there are more than ``ALL_PAIRS`` methods.
    """

    blocks: int
    average_rank: dict[str, float]
    friedman: FriedmanTest | None
    critical_difference: float | None
    alpha: float
    groups: list[list[str]]
    pairs: list[PairTest]
    pairs_of: str

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as a JSON-ready dictionary."""
        return dataclasses.asdict(self)


def block_ranks(scores: Float[np.ndarray, "blocks methods"]) -> Float[np.ndarray, "blocks methods"]:
    """Returns the rank of each method in each block, 1 for the lowest score; ties share their mean rank.

    Raises:
      UsageError: scores that are not [blocks, methods], are empty, or contain NaN.
    """
    from scipy.stats import rankdata

    return rankdata(_checked(scores), axis=1)


def friedman(scores: Float[np.ndarray, "blocks methods"]) -> FriedmanTest | None:
    """Tests whether the methods have the same ranks in all blocks (Friedman, JASA 1937), corrected for ties.

    Returns:
      The test, or None with fewer than three methods or two blocks. If all methods tie in every block, the statistic
      is 0 and p is 1.
    """
    from scipy.stats import f as f_distribution
    from scipy.stats import friedmanchisquare

    table = _checked(scores)
    n, k = table.shape
    if n < 2 or k < 3:
        return None
    if (table == table[:, :1]).all():
        return FriedmanTest(statistic=0.0, df=k - 1, p=1.0, f=0.0, f_p=1.0)
    found = friedmanchisquare(*table.T)
    chi, rest = float(found.statistic), n * (k - 1) - float(found.statistic)
    f = (n - 1) * chi / rest if rest > 1e-9 else None
    f_p = None if f is None else float(f_distribution.sf(f, k - 1, (k - 1) * (n - 1)))
    return FriedmanTest(statistic=chi, df=k - 1, p=float(found.pvalue), f=f, f_p=f_p)


def critical_difference(methods: int, blocks: int, *, alpha: float = 0.05) -> float:
    """Returns Nemenyi's critical difference of average ranks (Demšar, JMLR 2006, section 3.2.2).

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
    """Returns the p-value of a difference of average ranks, corrected for all pairs of methods (Nemenyi)."""
    from scipy.stats import studentized_range

    return float(studentized_range.sf(abs(difference) / _rank_error(methods, blocks), methods, math.inf))


def _rank_error(methods: int, blocks: int) -> float:
    """Returns the standard error of an average rank, in units of the studentized range."""
    return math.sqrt(methods * (methods + 1) / (12 * blocks))


def holm(p: Sequence[float] | Float[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
    """Corrects m p-values by Holm's step-down method (1979), which controls the family-wise error rate."""
    values = np.asarray(p, np.float64)
    order, m = np.argsort(values, kind="stable"), len(values)
    steps = np.maximum.accumulate(values[order] * np.arange(m, 0, -1))
    adjusted = np.empty(m)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def signed_rank(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " n"]) -> tuple[float, float]:
    """Tests paired scores with Wilcoxon's signed-rank test (1945), two-sided; equal pairs are left out.

    The test is exact for up to ``EXACT`` unequal pairs, also with ties among the differences. For more pairs it is
    scipy's normal approximation.

    Returns:
      The statistic, which is the smaller of the two rank sums, and the p-value; 0 and 1 if all pairs are equal.
    """
    from scipy.stats import rankdata, wilcoxon

    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    scale = max(np.abs(x).max(initial=0.0), np.abs(y).max(initial=0.0)) or 1.0
    # Scores that differ only by rounding are ties.
    difference = np.round((x - y) / scale, 12)
    some = difference[difference != 0]
    if not len(some):
        return 0.0, 1.0
    if len(some) > EXACT:
        found = wilcoxon(some, method="approx")
        return float(found.statistic), float(found.pvalue)
    # scipy's exact distribution needs ranks without ties; its permutation test of tied ranks takes 0.1 s per pair.
    # Under the null hypothesis each rank has either sign with equal probability. Mean ranks are multiples of a half,
    # so doubled ranks are integers, and the distribution of their sum is a convolution, one rank after the other.
    doubled = np.rint(2 * rankdata(np.abs(some))).astype(int)
    probability = np.ones(1)
    for rank in doubled:
        probability = (np.pad(probability, (0, rank)) + np.pad(probability, (rank, 0))) / 2
    lower = int(min(doubled[some > 0].sum(), doubled[some < 0].sum()))
    return lower / 2, float(min(1.0, 2 * probability[: lower + 1].sum()))


def a12(a: Float[np.ndarray, " n"], b: Float[np.ndarray, " m"]) -> float:
    """Returns the probability that a score of a is lower (better) than a score of b; a tie counts one half.

    This is Vargha and Delaney's effect size A (2000) for scores of which lower is better. 0.5 means no difference;
    above it a is better. They call 0.56, 0.64 and 0.71 a small, a medium and a large effect.
    """
    from scipy.stats import rankdata

    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    ranks = rankdata(-np.concatenate([x, y]))[: len(x)]
    return float((ranks.mean() - (len(x) + 1) / 2) / len(y))


def compare(
    scores: Float[np.ndarray, "blocks methods"],
    names: Sequence[str],
    *,
    strata: Sequence[int] | np.ndarray | None = None,
    alpha: float = 0.05,
) -> Comparison:
    """Compares methods over common blocks (data sets, or pairs of data set and seed).

    Args:
      scores: scores of the methods, lower is better. Ranks use their order within a block; signed ranks use their
        differences within a block.
      names: names of the methods.
      strata: group of each block (its benchmark) within which scores are on one scale; the effect size is computed
        within each group. All blocks form one group if None.
      alpha: significance level of the critical difference and the groups.

    Raises:
      UsageError: scores that do not fit the names, are empty, or contain NaN.
    """
    table = _checked(scores)
    n, k = table.shape
    if k != len(names):
        raise checks.UsageError(expected=f"{k} names", got=str(len(names)), remedy="give one name per method")
    groups = np.zeros(n, int) if strata is None else np.asarray(strata)
    mean_ranks = block_ranks(table).mean(axis=0)
    order = np.argsort(mean_ranks, kind="stable")
    couples = list(itertools.combinations(range(k), 2))
    if k > ALL_PAIRS:
        couples = [(int(order[0]), int(other)) for other in order[1:]]
    pairs = _pairs(table, names, mean_ranks, groups, couples)
    cd = critical_difference(k, n, alpha=alpha) if k > 2 and n > 1 else None
    # Two methods have no critical difference, so their one test decides; a single method has no pair.
    reach = cd if cd is not None else math.inf if pairs and pairs[0].p >= alpha else 0.0
    return Comparison(
        blocks=n,
        average_rank=dict(zip(names, mean_ranks.tolist(), strict=True)),
        friedman=friedman(table),
        critical_difference=cd,
        alpha=alpha,
        groups=[[names[i] for i in group] for group in _groups(order, mean_ranks, reach)],
        pairs=pairs,
        pairs_of="all" if k <= ALL_PAIRS else "with the best",
    )


def _pairs(
    table: np.ndarray,
    names: Sequence[str],
    mean_ranks: np.ndarray,
    strata: np.ndarray,
    couples: Sequence[tuple[int, int]],
) -> list[PairTest]:
    """Compares the methods of each couple of columns."""
    n, k = table.shape
    within = [strata == group for group in np.unique(strata)]
    tests = [signed_rank(table[:, a], table[:, b]) for a, b in couples]
    pairs = []
    for (a, b), (statistic, p), p_holm in zip(couples, tests, holm([p for _, p in tests]).tolist(), strict=True):
        x, y = table[:, a], table[:, b]
        difference = float(mean_ranks[a] - mean_ranks[b])
        pairs.append(
            PairTest(
                a=names[a],
                b=names[b],
                wins=int((x < y).sum()),
                ties=int((x == y).sum()),
                losses=int((x > y).sum()),
                statistic=statistic,
                p=p,
                p_holm=p_holm,
                a12=float(np.mean([a12(x[some], y[some]) for some in within])),
                rank_difference=difference,
                nemenyi_p=nemenyi_p(difference, k, n) if k > 2 and n > 1 else None,
            )
        )
    return pairs


def _groups(order: np.ndarray, ranks: np.ndarray, reach: float) -> list[list[int]]:
    """Returns the maximal groups of two or more methods, in order of rank, whose first and last are within reach."""
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
