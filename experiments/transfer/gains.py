"""Statistics of transfer: gains over the search from scratch, negative transfer, what similarity could have told."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from scipy.stats import rankdata

from ncp_jax.analysis.comparison import holm, signed_rank
from ncp_jax.analysis.intervals import mean_interval
from ncp_jax.analysis.ranks import percentiles
from ncp_jax.embeddings import choose_anchors, fingerprint, rank_correlations, similarity
from ncp_jax.types import Float, Int
from transfer.pairs import ALL, NONE, Found, Tasks

ANCHORS = (10, 50)  # architectures of a fingerprint: as many labels of the target as a small search
TOP = 0.01  # share of a table that counts as its best
ALPHA = 0.05
MOST_ORDERS = 5040  # orders of the tasks that a permutation test looks at: all those of seven tasks

Runs = Mapping[str, Mapping[str, Found]]  # target → source → runs


def log_ranks(found: Found, mark: int) -> Float[np.ndarray, " r"]:
    """Returns the decimal logarithm of each run's best rank after some queries: a tenth of the rank counts as 1."""
    return np.log10(found.best(mark).astype(float))


def single(runs: Mapping[str, Found]) -> dict[str, Found]:
    """Returns the runs with one source."""
    return {source: found for source, found in runs.items() if source not in (ALL, NONE)}


def levels(runs: Runs, size: int, marks: Sequence[int]) -> dict[str, Any]:
    """Percentiles and ranks of a method, means over targets (and single sources) with intervals over seeds.

    Returns:
      "none", "one", "all" (sources; those that the method has) → mark → "percentile", "rank" and "log_rank".
    """
    found: dict[str, Any] = {}
    for kind in (NONE, "one", ALL):
        parts = [list(single(by).values()) if kind == "one" else [by[kind]] for by in runs.values() if _has(by, kind)]
        if parts:
            found[kind] = {str(mark): _level([one for part in parts for one in part], size, mark) for mark in marks}
    return found


def _has(by_source: Mapping[str, Found], kind: str) -> bool:
    return bool(single(by_source)) if kind == "one" else kind in by_source


def _level(parts: Sequence[Found], size: int, mark: int) -> dict[str, Any]:
    ranks = np.stack([part.best(mark) for part in parts])
    return {
        "percentile": mean_interval(percentiles(ranks, size).mean(axis=0), least=0.0, most=100.0),
        "rank": mean_interval(ranks.mean(axis=0), least=1.0),
        "log_rank": mean_interval(np.log10(ranks).mean(axis=0), least=0.0),
    }


def gains(scheme: Runs, scratch: Runs, marks: Sequence[int]) -> dict[str, Any]:
    """Compares a scheme with the same method from scratch, target by target and source by source, paired by seed.

    A gain is the difference of the decimal logarithms of the best ranks: 1 is a tenth of the rank. Tests are Wilcoxon's
    signed-rank tests over the seeds, corrected by Holm over the pairs with single sources, and apart from them over
    those with all sources.

    Returns:
      mark → "one" and "all" → "pairs" (source, target, gain with interval, p, p_holm), "better" and "worse" (pairs
      whose test says so), "positive" and "negative" (signs of the mean gains), "gain" (mean over pairs).
    """
    found: dict[str, Any] = {}
    for mark in marks:
        cases = {
            "one": [(s, t) for t, by in scheme.items() for s in single(by)],
            ALL: [(ALL, t) for t, by in scheme.items() if ALL in by],
        }
        found[str(mark)] = {kind: _compared(pairs, scheme, scratch, mark) for kind, pairs in cases.items() if pairs}
    return found


def _compared(pairs: Sequence[tuple[str, str]], scheme: Runs, scratch: Runs, mark: int) -> dict[str, Any]:
    tests: list[dict[str, Any]] = []
    p_values, per_seed = [], []
    for source, target in pairs:
        before, after = log_ranks(scratch[target][NONE], mark), log_ranks(scheme[target][source], mark)
        _, p = signed_rank(after, before)
        gain = mean_interval(before - after)
        tests.append({"source": source, "target": target, "gain": gain, "p": p})
        p_values.append(p)
        per_seed.append(before - after)
    corrected = holm(p_values)
    tests = [test | {"p_holm": float(p)} for test, p in zip(tests, corrected, strict=True)]
    signs = np.array([test["gain"]["mean"] for test in tests])
    certain = corrected < ALPHA
    return {
        "pairs": tests,
        "better": int((certain & (signs > 0)).sum()),
        "worse": int((certain & (signs < 0)).sum()),
        "positive": int((signs > 0).sum()),
        "negative": int((signs < 0).sum()),
        "gain": mean_interval(np.mean(per_seed, axis=0)),
    }


def similarities(tasks: Tasks) -> dict[str, Float[np.ndarray, "t t"]]:
    """Similarities of all tasks of a space, sources in rows and targets in columns.

    "fingerprint 10" and "fingerprint 50" read as many labels of each task. The others read whole tables, which nobody
    has of a target: "kendall" and "best in common", the share of a target's best architectures that are among the best
    of the source.
    """
    values = tasks.values([*tasks.tables])
    codes = np.asarray(next(iter(tasks.tables.values())).codes)
    found = {}
    for count in ANCHORS:
        anchors = np.asarray(choose_anchors(codes, count, key=jax.random.key(0)))
        found[f"fingerprint {count}"] = np.asarray(similarity(fingerprint(values[:, anchors])))
    found["kendall"] = np.asarray(rank_correlations(values))
    best = np.argsort(-values, axis=1)[:, : max(1, round(TOP * values.shape[1]))]
    common = [[len(np.intersect1d(a, b)) / best.shape[1] for b in best] for a in best]
    found["best in common"] = np.array(common)
    return found


def foresight(compared: Mapping[str, Any], names: Sequence[str], measures: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Says how well the similarity of two tasks tells the gain of transfer from one to the other.

    Args:
      compared: the single sources at one mark, as ``gains`` returns them.
      names: names of the tasks, in the order of the similarities.
      measures: similarities by name.

    Returns:
      name → "spearman", the rank correlation of gain and similarity over the pairs, and "p", the share of the orders of
      the tasks in which it would be as large (a permutation test: pairs share tasks). Empty for fewer than six pairs.
    """
    at, pairs = {name: place for place, name in enumerate(names)}, compared["pairs"]
    rows, columns = (np.array([at[pair[kind]] for pair in pairs]) for kind in ("source", "target"))
    gain = np.array([pair["gain"]["mean"] for pair in pairs])
    if len(gain) < 6:
        return {}
    orders, found = _orders(len(names)), {}
    for name, matrix in measures.items():
        correlations = _rank_correlations(matrix[orders[:, rows], orders[:, columns]], gain)
        observed = float(correlations[0])
        found[name] = {"spearman": observed, "p": float(np.mean(correlations >= observed - 1e-12))}
    return found


@functools.cache
def _orders(count: int) -> Int[np.ndarray, "o t"]:
    """All orders of a few tasks, or random ones; the order that is observed is the first."""
    if math.factorial(count) <= MOST_ORDERS:
        return np.array(list(itertools.permutations(range(count))))
    rng = np.random.default_rng(0)
    return np.stack([np.arange(count), *(rng.permutation(count) for _ in range(MOST_ORDERS - 1))])


def _rank_correlations(values: Float[np.ndarray, "o k"], gain: Float[np.ndarray, " k"]) -> Float[np.ndarray, " o"]:
    """Returns Spearman's correlation of each line of values with the gains; 0 where either is constant."""
    lines, ranks = (rankdata(some, axis=-1) - (len(gain) + 1) / 2 for some in (values, gain))
    lengths = np.sqrt((lines**2).sum(axis=1) * (ranks**2).sum())
    return np.divide(lines @ ranks, lengths, out=np.zeros(len(lines)), where=lengths > 0)


def chosen_sources(
    scheme: Runs, scratch: Runs, names: Sequence[str], measures: Mapping[str, np.ndarray], mark: int
) -> dict[str, Any]:
    """Mean gain over the targets if each took the source that a similarity prefers.

    Returns:
      name of the similarity, "mean of all", "best" and "worst" (of the mean gains, known only afterwards) → interval.
    """
    at = {name: place for place, name in enumerate(names)}
    picked: dict[str, list[np.ndarray]] = {}
    for target, by_source in scheme.items():
        by = single(by_source)
        gain = {s: log_ranks(scratch[target][NONE], mark) - log_ranks(found, mark) for s, found in by.items()}
        for name, matrix in measures.items():
            nearest = max(by, key=lambda s: matrix[at[s], at[target]])
            picked.setdefault(name, []).append(gain[nearest])
        picked.setdefault("mean of all", []).append(np.mean(list(gain.values()), axis=0))
        for name, pick in (("best", max), ("worst", min)):
            picked.setdefault(name, []).append(gain[pick(gain, key=lambda s: gain[s].mean())])
    return {name: mean_interval(np.mean(values, axis=0)) for name, values in picked.items()}
