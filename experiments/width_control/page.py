"""Writes the report page of experiments/controllable.py, one HTML file that loads nothing else."""

from __future__ import annotations

import base64
import html
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncp_jax.files import atomic_write
from ncp_jax.reports.page import STYLE

WAYS = {"published_rule": "the published rule", "predictors": "predictors", "audited": "predictors and audit"}


def write_page(folder: Path, summary: Mapping[str, Any], pictures: Sequence[Path]) -> Path:
    """Writes report.html: targets, controllability, gaps to static models, searches, speed and pictures."""
    parts = [
        "<h1>Controllable multi-task models</h1>",
        f"<p>Means over {summary['seeds']} seeds with 95 % intervals.</p>",
        *_section("Targets", ("target", "measured", "reached"), _targets(summary)),
        *_section(
            "Controllability",
            ("method", "hypervolume", "uniformity", "rank correlation", "gain over it, %"),
            _methods(summary),
        ),
        *(_picture(path) for path in pictures),
        *_section("Difference from static models, % of the metric", *_gaps(summary)),
        *_section(
            "Largest fall of a task's metric where its preference is higher, percent points",
            ("task", "validation", "noise", "test", "noise"),
            _falls(summary),
        ),
        *_section(
            "Test metrics by normalisation, mean of all tasks",
            ("normalisation", *next(iter(summary["norms"].values()))),
            ((name, *map(_interval, row.values())) for name, row in summary["norms"].items()),
        ),
        *_section(
            "Ways to choose widths, 500 questions for each seed",
            ("way", "within 1 % of the oracle", "mean gap", "above the budget"),
            _searches(summary),
        ),
        *_section("Seconds", ("what", "seconds"), ((k, f"{v:.4g}") for k, v in _seconds(summary).items())),
    ]
    head = f"<meta charset=utf-8><title>Controllable models</title><style>{STYLE.read_text()}</style>"
    text = "\n".join([f"<!doctype html><html lang=en>{head}<main>", *parts, "</main></html>\n"])
    return atomic_write(folder / "report.html", text.encode(), remedy="free space")


def _section(title: str, head: Iterable[str], rows: Iterable[Iterable[str]]) -> list[str]:
    body = [_row("td", row) for row in rows]
    return [f"<h2>{html.escape(title)}</h2>", "<table>", _row("th", head), *body, "</table>"]


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _picture(path: Path) -> str:
    return f'<img alt="{path.stem}" src="data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}">'


def _interval(found: Mapping[str, float], digits: int = 1) -> str:
    return f"{found['mean']:.{digits}f} [{found['low']:.{digits}f}, {found['high']:.{digits}f}]"


def _targets(summary: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for target in summary["targets"]:
        yield target["target"], _interval(target["measured"], 2), "yes" if target["reached"] else "no"


def _methods(summary: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    gains = summary["gain_percent"]
    for method in summary["controllability"]:
        parts = (_interval(by_method[method]["all"], 3) for by_method in summary["parts"].values())
        yield method, *parts, _interval(gains[method]) if method in gains else ""


def _gaps(summary: Mapping[str, Any]) -> tuple[Iterable[str], Iterable[Iterable[str]]]:
    gaps = summary["static_gap"]
    ratios = next(iter(gaps.values()))
    return ("task", *ratios), ((task, *(_interval(row[r]) for r in ratios)) for task, row in gaps.items())


def _falls(summary: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for task, by_split in summary["preference"].items():
        cells = ((_interval(row["fall"], 2), f"{row['noise']:.2f}") for row in by_split.values())
        yield task, *(cell for pair in cells for cell in pair)


def _searches(summary: Mapping[str, Any]) -> Iterable[tuple[str, ...]]:
    for way, words in WAYS.items():
        row = summary["searches"][way]
        gap = f"{100 * row['mean_gap']['mean']:.2f} %"
        yield words, f"{100 * row['within']['mean']:.1f} %", gap, str(row["above_budget"])


def _seconds(summary: Mapping[str, Any]) -> dict[str, float]:
    query, speed = summary["searches"]["query"], summary["speed"]
    return {
        "10 000 questions in one call": query["seconds_10000"],
        "one question": query["seconds_one"],
        "1000 configurations in one call": speed["one_call"],
        "1000 configurations one at a time": speed["masked_one_at_a_time"],
        "1000 sliced configurations one at a time": speed["sliced_one_at_a_time"],
        "training of all models, one after the other": summary["training_seconds"],
    }
