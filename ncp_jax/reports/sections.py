"""The parts of the page, each from the summary alone."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ncp_jax.reports.checklist import NO, YES
from ncp_jax.reports.figures import line_style
from ncp_jax.reports.markup import escape, swatch, table
from ncp_jax.reports.text import duration, moment, number, p_value, plural, share, span

_PAIRS_SHOWN = 60


def method_name(label: str, numbers: Mapping[str, int]) -> str:
    """A method's label behind its line in the figures."""
    style = line_style(numbers[label])
    return swatch(style["color"], style["linestyle"]) + escape(label)


def headline(summary: Mapping[str, Any]) -> str:
    """What was compared and who came out best, in two sentences."""
    comparison, card = summary["comparison"], summary["run_card"]
    methods, tables, seeds = len(summary["methods"]), len(card["tables"]), card["seeds"]["count"]
    what = (
        f"{plural(methods, 'method')} on {plural(tables, 'benchmark')}, {plural(seeds, 'seed')} each, "
        f"{plural(summary['budget'], 'query', 'queries')} a run: {summary['runs']:,} runs."
    )
    text = f"<p>{what}</p>"
    if comparison:
        ranks = comparison["average_rank"]
        best = min(ranks, key=ranks.__getitem__)
        beaten = _not_told_apart(comparison, best)
        if len(beaten) == len(ranks) - 1:
            rest = "No other method differs from it significantly (paired signed ranks, Holm's correction)."
        elif beaten:
            rest = (
                "Not significantly different (paired signed ranks, Holm's correction): "
                + ", ".join(map(escape, beaten))
                + "."
            )
        else:
            rest = "It differs significantly from every other method (paired signed ranks, Holm's correction)."
        blocks = f"{comparison['blocks']:,} pairs of benchmark and seed"
        text += (
            f'<p class="lead"><b>{escape(best)}</b> has the best average rank, '
            f"{number(ranks[best])} of {len(ranks)} over {blocks}. {rest}</p>"
        )
    return text + "".join(f'<p class="note">{escape(note)}</p>' for note in summary["notes"])


def _not_told_apart(comparison: Mapping[str, Any], best: str) -> list[str]:
    """Methods whose signed ranks against the best one have p >= alpha after correction over all pairs."""
    pairs = [pair for pair in comparison["pairs"] if best in (pair["a"], pair["b"])]
    return [p["b"] if p["a"] == best else p["a"] for p in pairs if p["p_holm"] >= comparison["alpha"]]


def overall_table(summary: Mapping[str, Any], numbers: Mapping[str, int]) -> str:
    """All methods over all benchmarks."""
    methods, total = summary["methods"], len(summary["run_card"]["tables"])
    measures = _measures(methods)
    header = ["method", "average rank", *(_HEADS[name] for name in measures), *_TAIL]
    rows = []
    for label, found in methods.items():
        name = method_name(label, numbers)
        if found["benchmarks"] < total:
            name += f"<small>{found['benchmarks']} of {total} benchmarks</small>"
        cells = [_stat_cell(name_, found) for name_ in measures]
        rows.append([name, number(found["average_rank"]), *cells, *_tail_cells(found["queries_to_optimum"])])
    return table(header, rows, kind="numbers", caption=f"Every benchmark counts the same. {_censored(methods)}")


def benchmark_table(summary: Mapping[str, Any], benchmark: str, numbers: Mapping[str, int]) -> str:
    """All methods on one benchmark."""
    methods, about = summary["benchmarks"][benchmark], summary["run_card"]["tables"][benchmark]
    measures = _measures(methods, ("value",))
    unit = f" [{escape(about['unit'])}]" if about["unit"] else ""
    heads = _HEADS | {"regret": f"regret{unit}", "value": f"{escape(about['metric'])}{unit}"}
    header = ["method", *(heads[name] for name in measures), *_TAIL]
    rows = [
        [
            method_name(label, numbers),
            *(_stat_cell(name, found) for name in measures),
            *_tail_cells(found["queries_to_optimum"]),
        ]
        for label, found in methods.items()
    ]
    better = "higher" if about["direction"] == "maximize" else "lower"
    best = "" if about["best"] is None else f"; best {number(about['best'], 5)}"
    what = f"{about['rows']:,} architectures; {escape(about['metric'])}{unit}, {better} is better{best}."
    return table(header, rows, kind="numbers", caption=f"{what} {_censored(methods)}")


_HEADS = {
    "final_rank": "final rank",
    "percentile": "percentile [%]",
    "regret": "regret",
    "value": "value",
    "queries_to_optimum": "queries to optimum",
    "hypervolume": "hypervolume",
}


def _measures(methods: Mapping[str, Mapping[str, Any]], more: Sequence[str] = ()) -> list[str]:
    order = ("final_rank", "percentile", "regret", *more, "queries_to_optimum", "hypervolume")
    return [name for name in order if methods and all(name in found for found in methods.values())]


def _stat_cell(name: str, found: Mapping[str, Any]) -> str:
    stats = found[name]
    if name == "queries_to_optimum" and not stats["found"]:
        return "<td>–</td>"
    # A value near its best differs in later digits only.
    digits, mark = 5 if name == "value" else 3, stats.get("mark", "")
    value = ("≥ " if stats.get("restricted") else "") + number(stats["mean"], digits)
    cell = f"{value}{' ≈' if mark == 'tied' else ''}<small>{span(stats, digits)}</small>"
    return f'<td class="{mark}">{cell}</td>' if mark else f"<td>{cell}</td>"


_TAIL = ("median queries", "found the optimum")


def _tail_cells(queries: Mapping[str, Any]) -> tuple[str, str]:
    median = number(queries["median"], 4)
    between = f"{share(queries['rate_low'])} – {share(queries['rate_high'])}"
    return median, f"<td>{share(queries['rate'])}<small>{between}</small></td>"


def _censored(methods: Mapping[str, Mapping[str, Any]]) -> str:
    missing = sum(found["queries_to_optimum"]["censored"] for found in methods.values())
    total = sum(found["queries_to_optimum"]["runs"] for found in methods.values())
    return f"{missing:,} of {total:,} runs ended without the optimum."


def legend(summary: Mapping[str, Any]) -> str:
    """How to read the tables of the comparison."""
    text = (
        "Means with 95 % bootstrap intervals over seeds. <b>Bold</b>: best mean. <b>≈</b>: not significantly "
        "different from the best (Wilcoxon's signed ranks over paired seeds, Holm's correction, p ≥ 0.05). Rank 1 and "
        "the lowest percentile are the table's best; regret is what the best found lacks to it."
    )
    if any(found["queries_to_optimum"]["restricted"] for found in summary["methods"].values()):
        text += (
            " <b>≥</b>: some runs ended without the optimum; the mean counts at most "
            f"{summary['budget']:,} queries a run (area under the Kaplan-Meier curve), the true one is larger."
        )
    if any("hypervolume" in found for found in summary["methods"].values()):
        text += " Hypervolume: of quality against cost of all that was asked, as a share of the whole table's."
    return f'<p class="soft">{text}</p>'


def test_text(found: Mapping[str, Any], basis: str) -> str:
    """The tests of a comparison, in words.

    Args:
      found: see ``comparison.compare``.
      basis: what the ranks are of, plain text.
    """
    text = [f"Ranks of {escape(basis)} on each of {found['blocks']:,} pairs of benchmark and seed; ties share a rank."]
    if found.get("left_out"):
        text.append(f"{found['left_out']:,} more, which some method lacks, are left out.")
    if found["friedman"]:
        verdict = "the methods differ" if found["friedman"]["p"] < found["alpha"] else "no difference is shown"
        text.append(f"Friedman's test: {_friedman(found)}: {verdict}.")
    if found["critical_difference"] is not None:
        critical = number(found["critical_difference"])
        text.append(f"Bars join methods within Nemenyi's critical difference, {critical} at the 5 % level.")
    elif len(found["average_rank"]) == 2:
        text.append(f"Wilcoxon's signed-rank test: {_p(found['pairs'][0]['p'])}.")
    over = found.get("over_benchmarks")
    if over and over["friedman"]:
        text.append(f"With one block a benchmark: {_friedman(over)}.")
    return f'<p class="soft">{" ".join(text)}</p>'


def _friedman(found: Mapping[str, Any]) -> str:
    test = found["friedman"]
    return f"χ²({test['df']}) = {number(test['statistic'])}, {_p(test['p'])}"


def _p(p: float) -> str:
    text = p_value(p)
    return escape(f"p {text}" if text.startswith("<") else f"p = {text}")


def pair_table(summary: Mapping[str, Any]) -> str:
    """Every pair of methods: wins, p-values, effect size."""
    found = summary["comparison"]
    pairs = sorted(found["pairs"], key=lambda pair: (pair["p_holm"], -abs(pair["rank_difference"])))
    header = ["methods", "wins – ties – losses", "A12", "Wilcoxon p (Holm)"]
    nemenyi = any(pair["nemenyi_p"] is not None for pair in pairs)
    header += ["Nemenyi p"] if nemenyi else []
    rows = []
    for pair in pairs[:_PAIRS_SHOWN]:
        first, second = (pair["a"], pair["b"]) if pair["rank_difference"] <= 0 else (pair["b"], pair["a"])
        turned = first != pair["a"]
        record = [pair["wins"], pair["ties"], pair["losses"]]
        counts = " – ".join(f"{count:,}" for count in (record[::-1] if turned else record))
        effect = 1 - pair["a12"] if turned else pair["a12"]
        row = [f"{escape(first)} : {escape(second)}", counts, f"{effect:.2f}", p_value(pair["p_holm"])]
        rows.append(row + ([p_value(pair["nemenyi_p"])] if nemenyi else []))
    more = len(pairs) - len(rows)
    caption = "The better ranked method first. A12: the chance that a run of it ends better, ties half."
    if found["pairs_of"] != "all":
        caption += " Each method against the best one only."
    if more:
        caption += f" {more:,} more in pairs.csv."
    shown = table(header, rows, kind="numbers", caption=caption)
    return f"<details><summary>{plural(len(pairs), 'pair')} of methods</summary>{shown}</details>"


def settings_tables(summary: Mapping[str, Any]) -> str:
    """A table for every setting that was varied."""
    parts = []
    for effect in summary["settings"]:
        header = ["value", "percentile [%]", "worse than the best by", "average rank", "found", "methods", "runs"]
        rows = []
        for value in effect["values"]:
            worse, stats = value["worse"], value["percentile"]
            clear = worse is not None and worse["low"] > 0
            kind = "best" if worse is None else "" if clear else "tied"
            mean = number(stats["mean"]) + (" ≈" if kind == "tied" else "")
            cell = f'<td class="{kind}">{mean}<small>{span(stats)}</small></td>'
            gap = "" if worse is None else f"{number(worse['mean'])}<small>{span(worse)}</small>"
            rank, found = number(value["average_rank"]), share(value["rate"])
            rows.append([escape(value["value"]), cell, gap, rank, found, f"{value['methods']}", f"{value['runs']:,}"])
        caption = ""
        if not effect["balanced"]:
            caption = "This setting does not vary independently of the others: their effects are mixed in."
        parts.append(f"<h3>{escape(effect['searcher'])}: {escape(effect['setting'])}</h3>")
        parts.append(table(header, rows, kind="numbers", caption=caption))
    return "".join(parts)


_REPEATS = {
    "counted": "counted: asking again for a known architecture costs a query",
    "free": "free: asking again for a known architecture costs nothing",
    "free-isomorphs": "free, isomorphs included: an architecture equal to a known one costs nothing",
}


def run_card_section(summary: Mapping[str, Any]) -> str:
    """Versions, devices, seeds, data, and how to do it again."""
    card = summary["run_card"]
    versions = ", ".join(f"{name} {version}" for name, version in card["versions"].items()) or "not recorded"
    if card["other_versions"]:
        versions += "; also " + ", ".join(f"{k} {', '.join(v)}" for k, v in card["other_versions"].items())
    seeds, when = card["seeds"], "not recorded"
    if card["first"]:
        when = " to ".join(dict.fromkeys(moment(date) for date in (card["first"], card["last"])))
    limit = f"; {duration(card['seconds'])} of simulated training" if card["seconds"] is not None else ""
    rows = [
        ("budget of a run", f"{summary['budget']:,} queries{limit}"),
        ("repeats", _REPEATS.get(str(card["repeats"]), str(card["repeats"] or "not recorded"))),
        ("seeds", f"{seeds['first']} to {seeds['first'] + seeds['count'] - 1} ({seeds['count']:,})"),
        ("runs", f"{summary['runs']:,} of {summary['cells']:,}"),
        ("sessions", f"{card['sessions']}, wall time {duration(card['wall_seconds'])} together"),
        ("shards", ", ".join(card["shards"]) or "–"),
        ("date", when),
        ("device", "; ".join(card["devices"]) or "not recorded"),
        ("versions", versions),
    ]
    parts = [table([], [[escape(k), escape(v)] for k, v in rows], kind="words")]
    header = ["benchmark", "architectures", "metric", "split", "best", "SHA-256 of the data"]
    tables = []
    for name, about in card["tables"].items():
        unit = f" [{about['unit']}]" if about["unit"] else ""
        cells = [name, f"{about['rows']:,}", about["metric"] + unit, about["split"] or "–", number(about["best"], 5)]
        tables.append([*map(escape, cells), f"<code>{escape(about['hash'] or 'not recorded')}</code>"])
    parts.append(table(header, tables, kind="words"))
    if card["command"]:
        parts.append(f"<p>To make the records again:</p><pre>{escape(card['command'])}</pre>")
    if card["grid"] is not None:
        grid = escape(json.dumps(card["grid"], indent=2, ensure_ascii=False))
        parts.append(f"<details><summary>The grid</summary><pre>{grid}</pre></details>")
    parts.append("<p>To make this page again from the records: <code>ncp-jax report DIR</code></p>")
    return "".join(parts)


def checklist_section(summary: Mapping[str, Any]) -> str:
    """The best-practice checklist."""
    classes = {YES: "yes", NO: "no"}
    rows = [
        [
            escape(found["item"]),
            f'<td class="{classes.get(found["answer"], "author")}">{escape(found["answer"])}</td>',
            escape(found["evidence"]),
        ]
        for found in summary["checklist"]
    ]
    caption = (
        "After Lindauer and Hutter, Best practices for scientific research on neural architecture search, JMLR 2020."
    )
    return table(["item", "answer", "evidence"], rows, kind="words", caption=caption)
