"""A study's folder turned into a page, a summary, CSV and figures."""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from ncp_jax.files import atomic_write, make_folder
from ncp_jax.records.journal import write_json
from ncp_jax.reports import csv as tables
from ncp_jax.reports.curves import Curve, anytime_curves
from ncp_jax.reports.data import StudyData, load_study
from ncp_jax.reports.figures import SHOWN, anytime_figure, difference_figure, setting_figure
from ncp_jax.reports.page import CURVES, build_page
from ncp_jax.reports.summary import summarise
from ncp_jax.reports.text import number, share

_REMEDY = "free some space or choose another --out"


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What was made of a study.

    Attributes:
      summary: JSON-ready, see ``summarise``.
      paths: the files written, the page first.
      curves: what the figures and curves.csv show.
    """

    summary: dict[str, Any]
    paths: tuple[Path, ...]
    curves: tuple[Curve, ...]


def write_report(folder: str | Path, out: str | Path | None = None) -> Report:
    """Turns a study's records into report.html, report.json, CSV and PNG figures.

    Everything comes from the records: the same records give the same bytes. Earlier reports are overwritten; no other
    file is, nor is a summary.json, which belongs to whoever ran the study.

    Example:
      >>> import tempfile, ncp_jax as ncp
      >>> grid = ncp.Grid({"random": [{}]}, benchmarks=("digits/class",), budget=10, seeds=2)
      >>> folder = tempfile.mkdtemp()
      >>> result = ncp.run_study(grid, folder)
      >>> ncp.write_report(folder).paths[0].name
      'report.html'

    Args:
      folder: the study's folder; the study may be unfinished.
      out: where the files go, made if missing; ``folder`` without it.

    Returns:
      The summary, the paths: report.html, report.json, summary.csv, pairs.csv, curves.csv, runs.csv and the figures.

    Raises:
      UsageError: the folder is no study's.
      DataError: it has no finished run yet, or files are damaged, or hold runs that are not of this study.
      OSError: files cannot be read or written.
    """
    data = load_study(folder)
    target = make_folder(folder if out is None else out, remedy="choose another --out")
    summary, curves = summarise(data), anytime_curves(data)
    pictures, notes = draw(data, summary, curves)
    title = f"Search study: {data.folder.resolve().name}"
    page = build_page(title, summary, pictures, notes)
    paths = [atomic_write(target / "report.html", page.encode(), remedy=_REMEDY)]
    paths.append(write_json(target / "report.json", summary))
    for name, header, rows in (
        ("summary.csv", tables.SUMMARY_HEADER, tables.summary_rows(summary)),
        ("pairs.csv", tables.PAIRS_HEADER, tables.pair_rows(summary)),
        ("curves.csv", tables.CURVES_HEADER, tables.curve_rows(curves)),
        ("runs.csv", tables.RUNS_HEADER, tables.run_rows(data)),
    ):
        write: Callable[[BinaryIO], None] = functools.partial(tables.write_csv, header=header, rows=rows)
        paths.append(atomic_write(target / name, write, remedy=_REMEDY))
    for name, image in pictures.items():
        paths.append(atomic_write(target / f"{_slug(name)}.png", image, remedy=_REMEDY))
    return Report(summary, tuple(paths), tuple(curves))


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def draw(data: StudyData, summary: Mapping[str, Any], curves: Sequence[Curve]) -> tuple[dict[str, bytes], list[str]]:
    """Draws all figures.

    Returns:
      PNG bytes by the names that ``build_page`` knows, and notes on what they leave out.
    """
    numbers = {label: i for i, label in enumerate(summary["methods"])}
    shown, notes = _shown(summary), []
    if len(shown) < len(numbers):
        notes.append(f"The {len(shown)} best of {len(numbers)} methods by average rank; all are in curves.csv.")
    pictures: dict[str, bytes] = {}
    for benchmark in data.benchmarks:
        here = [curve for curve in curves if curve.benchmark == benchmark and curve.method in shown]
        rows, unit = data.study["tables"][benchmark]["rows"], data.metric(benchmark).unit
        for kind, (axis, measure, _) in CURVES.items():
            lines = [curve for curve in here if curve.axis == axis]
            if lines:
                image = anytime_figure(lines, measure, numbers, rows=rows, unit=unit)
                pictures[f"curve/{benchmark}/{kind}"] = image
    comparison = summary["comparison"]
    if comparison:
        for name, found in (("ranks", comparison), ("ranks/queries", comparison["queries_to_optimum"])):
            if found:
                drawn = (found["average_rank"], found["groups"], found["critical_difference"])
                pictures[name] = difference_figure(*drawn, numbers)
    if summary["settings"]:
        pictures["settings"] = setting_figure(summary["settings"])
    return pictures, notes


def _shown(summary: Mapping[str, Any]) -> set[str]:
    """The methods whose curves are drawn: all, or the best ones where they are too many for one figure."""
    methods = summary["methods"]

    def rank(label: str) -> float:
        found = methods[label]
        return found["percentile"]["mean"] if found["average_rank"] is None else found["average_rank"]

    return set(sorted(methods, key=rank)[:SHOWN])


def describe(report: Report) -> str:
    """The main table as plain text."""
    summary = report.summary
    lines = [("method", "average rank", "final rank", "percentile", "to optimum", "found")]
    for label, found in summary["methods"].items():
        queries = found["queries_to_optimum"]
        needed = ("≥ " if queries["restricted"] else "") + number(queries["mean"]) if queries["found"] else "–"
        rank, percent = found["final_rank"], found["percentile"]
        cells = (f"{number(rank['mean'])}{_sign(rank)}", f"{number(percent['mean'])} %{_sign(percent)}")
        lines.append((label, number(found["average_rank"]), *cells, needed, share(queries["rate"])))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = [
        "  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    text += ["* best mean, ~ not significantly different from it"]
    return "\n".join([*text, *(f"note: {note}" for note in summary["notes"])])


def _sign(stats: Mapping[str, Any]) -> str:
    return {"best": " *", "tied": " ~"}.get(stats.get("mark", ""), "  ")
