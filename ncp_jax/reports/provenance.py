"""Collects what a study depends on (the run card) and answers a checklist of good practice from it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from ncp_jax.reports.data import StudyData, searched_and_judged, searched_split, tested_benchmarks
from ncp_jax.reports.report import ChecklistItem, RunCard, StudyComparison, TableCard

YES, NO, AUTHOR = "yes", "no", "for the author to state"
SEEDS = 5  # fewer seeds count as few
_MIN_PAIRS = 6  # with fewer pairs, a signed-rank test cannot reach p < 0.05

# Items that the records say nothing about.
_FOR_THE_AUTHOR = (
    ("setup", "How the searchers' own settings were chosen, on which benchmarks and seeds, and what that cost"),
    ("code", "The code of all methods, with the configuration of each, is public under a licence"),
    ("comparison", "The methods compared are the authors' versions or agree with them"),
    ("reporting", "Claims go no further than the benchmarks, spaces and budgets studied here"),
)


def study_card(data: StudyData) -> RunCard:
    """Collects the run card from study.json and the sessions."""
    study, sessions = data.study, data.sessions
    versions = {str(name): str(found) for name, found in study.get("versions", {}).items() if found is not None}
    other: dict[str, list[str]] = {}
    for session in sessions:
        for name, version in session.get("versions", {}).items():
            if name in versions and str(version) != versions[name] and str(version) not in other.setdefault(name, []):
                other[name].append(str(version))
    dates = [str(session["date"]) for session in sessions if session.get("date")]
    walls = [session["seconds"] for session in sessions if isinstance(session.get("seconds"), int | float)]
    commands = [found for found in (study.get("command"), *(s.get("command") for s in sessions)) if found]
    first, count = study.get("seeds") or (int(data.seed.min()), int(data.seed.max() - data.seed.min() + 1))
    return RunCard(
        versions=versions,
        other_versions=other,
        devices=_distinct([_device(session["device"]) for session in sessions if session.get("device")]),
        sessions=len(sessions),
        shards=_distinct([_text(session["shard"]) for session in sessions if session.get("shard") is not None]),
        first=dates[0] if dates else None,
        last=dates[-1] if dates else None,
        wall_seconds=float(sum(walls)) if walls else None,
        first_seed=int(first),
        seed_count=int(count),
        budget=data.budget,
        seconds=study.get("seconds"),
        repeats=study.get("repeats"),
        same_network=study.get("same_network", "isomorphism"),
        tables={name: _table(data, name) for name in data.benchmarks},
        command=_text(commands[0]) if commands else None,
        grid=study.get("grid"),
    )


def _table(data: StudyData, name: str) -> TableCard:
    table, metric = data.study["tables"][name], data.metric(name)
    return TableCard(
        hash=table.get("hash"),
        rows=table["rows"],
        metric=metric.name,
        unit=metric.unit,
        direction=metric.direction,
        split=metric.split,
        epoch=metric.epoch,
        best=table.get("best"),
        searched_split=searched_split(data.study, name),
    )


def _device(device: Any) -> str:
    """Describes a device as recorded: "4 × H100", "1 × cpu (2 cores, x86_64)"."""
    if not isinstance(device, dict):
        return _text(device)
    text = f"{device.get('count', 1)} × {device.get('kind', device.get('platform', 'unknown'))}"
    host = [f"{device['cores']} cores" if device.get("cores") else "", str(device.get("machine", ""))]
    return f"{text} ({', '.join(filter(None, host))})" if any(host) else text


def _text(value: Any) -> str:
    """Returns a text, the words of a command line, or any other value as JSON, as one text."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return " ".join(value)
    return json.dumps(value, sort_keys=True)


def _distinct(texts: list[str]) -> list[str]:
    return list(dict.fromkeys(texts))


def checklist(data: StudyData, comparison: StudyComparison | None, card: RunCard) -> list[ChecklistItem]:
    """Answers the items of Lindauer & Hutter, "Best practices for scientific research on NAS" (JMLR 2020).

    The items are in this project's words.
    """
    items = [*_comparison(data, comparison), *_setup(data, card), *_evaluation(data)]
    items += [(topic, item, AUTHOR, "not in the records") for topic, item in _FOR_THE_AUTHOR]
    return [ChecklistItem(*fields) for fields in items]


def _answer(ok: bool) -> str:
    return YES if ok else NO


def _comparison(data: StudyData, comparison: StudyComparison | None) -> list[tuple[str, str, str, str]]:
    most, budget = int(data.queries.max()), data.budget
    short = int((data.queries < budget).sum())
    spent = f"at most {most:,} of {budget:,} queries a run" + (f"; {short:,} runs ended earlier" if short else "")
    seeds = [_seeds(data, m, b) for m in range(len(data.methods)) for b in range(len(data.benchmarks))]
    counts = [len(found) for found in seeds]
    same = all(found == seeds[0] for found in seeds)
    many = f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else f"{counts[0]}"
    random = [m for m in data.methods if "random" in data.study["methods"][m]["searcher"].lower()]
    test = "no: one method" if len(data.methods) < 2 else "no blocks that all methods have"
    if comparison:
        found = comparison.by_percentile
        kind = "Friedman, Nemenyi and " if found.friedman else ""
        test = f"{kind}Wilcoxon's signed ranks with Holm's correction over {found.blocks:,} blocks"
        if found.blocks < _MIN_PAIRS:
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


def _setup(data: StudyData, card: RunCard) -> list[tuple[str, str, str, str]]:
    cells = int(data.study["cells"])
    hashes = [table.hash for table in card.tables.values()]
    versions = bool(card.versions) and not card.other_versions
    mixed = "; ".join(f"{name} also {', '.join(found)}" for name, found in card.other_versions.items())
    known = ", ".join(f"{name} {version}" for name, version in list(card.versions.items())[:4]) or "not recorded"
    devices = card.devices
    bare = [m for m in data.methods if not data.study["methods"][m]["settings"]]
    reported = f"of {len(data.methods)} methods" + (f"; {len(bare)} have none" if bare else "")
    times = not np.isnan(data.times).all()
    cost = "simulated training seconds are recorded" if times else "the tables have no training times"
    wall = card.wall_seconds
    return [
        ("setup", "All runs of the plan are here", _answer(len(data) >= cells), f"{len(data):,} of {cells:,}"),
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
        ("setup", "Seeds are recorded", YES, f"{card.seed_count:,} from {card.first_seed}"),
    ]


def _evaluation(data: StudyData) -> list[tuple[str, str, str, str]]:
    splits = sorted({data.metric(name).split or "unknown" for name in data.benchmarks})
    item = "Searches are guided by validation values, not by the test set"
    searched, judge = searched_and_judged(data.study)
    tested = tested_benchmarks(data.study)
    unseen, rest = AUTHOR, "searched and judged by the same values"
    if judge is None:
        answer = NO if "test" in splits else AUTHOR if "unknown" in splits else YES
        found = f"searched and judged on: {', '.join(splits)}"
    else:
        # Without on_test, the view that searches query hides columns of a test split.
        split = f"of the test split on {', '.join(tested)}" if tested else "not of the test split"
        answer, found = _answer(not tested), f"searched: {searched} ({split}); judged by: {judge}"
        unseen = YES if splits == ["test"] and not tested else AUTHOR
        rest = f"judged by {judge}, split: {', '.join(splits)}"
    return [
        ("evaluation", item, answer, found),
        ("evaluation", "Final architectures are judged on data that no search saw", unseen, rest),
        ("evaluation", "A published table, so that training is the same for all", YES, ", ".join(data.benchmarks)),
    ]
