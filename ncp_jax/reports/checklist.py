"""A checklist of good practice in architecture search research, answered from the records where they can tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ncp_jax.reports.data import StudyData, searched_and_judged

YES, NO, AUTHOR = "yes", "no", "for the author to state"
SEEDS = 5  # fewer are called few
_UNPAIRED = 6  # fewer pairs than this cannot reach p < 0.05 in a signed-rank test

# Left to the author: the records say nothing about it.
_TO_STATE = (
    ("How the searchers' own settings were chosen, on which benchmarks and seeds, and what that cost", "setup"),
    ("The code of all methods, with the configuration of each, is public under a licence", "code"),
    ("The methods compared are the authors' versions or agree with them", "comparison"),
    ("Claims go no further than the benchmarks, spaces and budgets studied here", "reporting"),
)


def checklist(data: StudyData, summary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Answers the items of Lindauer & Hutter, "Best practices for scientific research on NAS" (JMLR 2020).

    The items are in this project's words.

    Returns:
      JSON-ready: "topic", "item", "answer" ("yes", "no" or "for the author to state") and "evidence".
    """
    items = [*_comparison(data, summary), *_setup(data, summary), *_evaluation(data)]
    items += [(topic, item, AUTHOR, "not in the records") for item, topic in _TO_STATE]
    return [dict(zip(("topic", "item", "answer", "evidence"), found, strict=True)) for found in items]


def _answer(ok: bool) -> str:
    return YES if ok else NO


def _comparison(data: StudyData, summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    most, budget = int(data.queries.max()), data.budget
    short = int((data.queries < budget).sum())
    spent = f"at most {most:,} of {budget:,} queries a run" + (f"; {short:,} runs ended earlier" if short else "")
    seeds = [_seeds(data, m, b) for m in range(len(data.methods)) for b in range(len(data.benchmarks))]
    counts = [len(found) for found in seeds]
    same = all(found == seeds[0] for found in seeds)
    many = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    random = [m for m in data.methods if "random" in data.study["methods"][m]["searcher"].lower()]
    test = "no: one method" if len(data.methods) < 2 else "no blocks that all methods have"
    comparison = summary["comparison"]
    if comparison:
        kind = "Friedman, Nemenyi and " if comparison["friedman"] else ""
        test = f"{kind}Wilcoxon's signed ranks with Holm's correction over {comparison['blocks']:,} blocks"
        if comparison["blocks"] < _UNPAIRED:
            test += "; so few cannot show a difference of two methods"
    return [
        ("comparison", "Every method may spend the same budget", _answer(most <= budget), spent),
        ("comparison", "All methods meet the same benchmarks and seeds", _answer(same), f"{many} seeds each"),
        ("comparison", f"At least {SEEDS} repetitions with different seeds", _answer(min(counts) >= SEEDS), many),
        ("comparison", "Random search is among the methods", _answer(bool(random)), ", ".join(random) or "none"),
        ("comparison", "Differences are tested for significance", _answer(comparison is not None), test),
        (
            "comparison",
            "Performance is shown over the whole run, with intervals",
            YES,
            "the anytime curves of this page",
        ),
    ]


def _seeds(data: StudyData, method: int, benchmark: int) -> set[int]:
    return set(data.seed[data.group(method, benchmark)].tolist())


def _setup(data: StudyData, summary: Mapping[str, Any]) -> list[tuple[str, str, str, str]]:
    card = summary["run_card"]
    hashes = [table["hash"] for table in card["tables"].values()]
    versions = bool(card["versions"]) and not card["other_versions"]
    mixed = "; ".join(f"{name} also {', '.join(found)}" for name, found in card["other_versions"].items())
    known = ", ".join(f"{name} {version}" for name, version in list(card["versions"].items())[:4]) or "not recorded"
    devices = card["devices"]
    complete = len(data) >= summary["cells"]
    bare = [m for m in data.methods if not data.study["methods"][m]["settings"]]
    reported = f"of {len(data.methods)} methods" + (f"; {len(bare)} have none" if bare else "")
    times = not np.isnan(data.times).all()
    cost = "simulated training seconds are recorded" if times else "the tables have no training times"
    wall = card["wall_seconds"]
    return [
        ("setup", "All runs of the plan are here", _answer(complete), f"{len(data):,} of {summary['cells']:,}"),
        ("setup", "All settings of the searchers are recorded", YES, reported),
        ("setup", "Versions of the software are recorded, and one throughout", _answer(versions), mixed or known),
        ("setup", "The data are identified by a hash", _answer(all(hashes)), f"{sum(map(bool, hashes))} tables"),
        ("setup", "The device is recorded", _answer(bool(devices)), ", ".join(devices) or "not recorded"),
        ("setup", "One kind of device throughout", _answer(len(devices) == 1), f"{len(devices)} recorded"),
        (
            "setup",
            "Wall time of the whole study",
            _answer(wall is not None),
            "not recorded" if wall is None else f"{wall:,.0f} s in all sessions",
        ),
        ("setup", "Cost of training the architectures asked for", _answer(times), cost),
        ("setup", "Seeds are recorded", YES, f"{card['seeds']['count']:,} from {card['seeds']['first']}"),
    ]


def _evaluation(data: StudyData) -> list[tuple[str, str, str, str]]:
    splits = sorted({data.metric(name).split or "unknown" for name in data.benchmarks})
    item = "Searches are guided by validation values, not by the test set"
    searched, judge = searched_and_judged(data.study)
    unseen, rest = AUTHOR, "searched and judged by the same values"
    if judge is None:
        answer = NO if "test" in splits else AUTHOR if "unknown" in splits else YES
        found = f"searched and judged on: {', '.join(splits)}"
    else:
        # The view that searches query hides columns of a test split.
        answer, found = YES, f"searched: {searched} (a column of the test split cannot be); judged by: {judge}"
        unseen = YES if splits == ["test"] else AUTHOR
        rest = f"judged by {judge}, split: {', '.join(splits)}"
    return [
        ("evaluation", item, answer, found),
        ("evaluation", "Final architectures are judged on data that no search saw", unseen, rest),
        ("evaluation", "A published table, so that training is the same for all", YES, ", ".join(data.benchmarks)),
    ]
