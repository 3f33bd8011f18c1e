"""Writes a study's report: page, JSON, CSV and figures."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path

from ncp_jax.console import format_table
from ncp_jax.files import atomic_write, make_folder, write_csv
from ncp_jax.records.journal import write_json
from ncp_jax.reports import tables
from ncp_jax.reports.data import load_study
from ncp_jax.reports.figures import draw_figures
from ncp_jax.reports.page import build_page
from ncp_jax.reports.report import Report, shown_marks
from ncp_jax.reports.statistics import summarise
from ncp_jax.reports.text import number, share

_REMEDY = "free some space or choose another --out"


def write_report(folder: str | Path, out: str | Path | None = None) -> Report:
    """Writes report.html, report.json, CSV files and PNG figures from a study's records.

    Nothing but the records and study.json determines the report: the same records give the same bytes. An earlier
    report is overwritten; no other file is.

    Examples:
      >>> import tempfile, ncp_jax as ncp
      >>> grid = ncp.Grid({"random": [{}]}, benchmarks=("digits/class",), budget=10, seeds=2)
      >>> folder = tempfile.mkdtemp()
      >>> result = ncp.run_study(grid, folder)
      >>> ncp.write_report(folder).paths[0].name
      'report.html'

    Args:
      folder: folder of the study; the study may be unfinished.
      out: folder for the files, made if missing; ``folder`` by default.

    Returns:
      The report. Its paths are report.html, report.json, summary.csv, pairs.csv, curves.csv, runs.csv and the figures.

    Raises:
      UsageError: the folder is not a study's.
      DataError: no run has finished yet, or files are damaged or contain runs of another study.
      OSError: files cannot be read or written.
    """
    data = load_study(folder)
    target = make_folder(folder if out is None else out, remedy="choose another --out")
    report = summarise(data)
    pictures, notes = draw_figures(data, report)
    page = build_page(f"Search study: {data.folder.resolve().name}", report, pictures, notes)
    paths = [
        atomic_write(target / "report.html", page.encode(), remedy=_REMEDY),
        write_json(target / "report.json", report.to_json()),
    ]
    for name, header, rows in (
        ("summary.csv", tables.SUMMARY_HEADER, tables.summary_rows(report)),
        ("pairs.csv", tables.PAIRS_HEADER, tables.pair_rows(report)),
        ("curves.csv", tables.CURVES_HEADER, tables.curve_rows(report.curves)),
        ("runs.csv", tables.RUNS_HEADER, tables.run_rows(data)),
    ):
        paths.append(write_csv(target / name, header, rows, remedy=_REMEDY))
    for name, image in pictures.items():
        paths.append(atomic_write(target / f"{_file_name(name)}.png", image, remedy=_REMEDY))
    return dataclasses.replace(report, paths=tuple(paths))


def _file_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def describe(report: Report) -> str:
    """Returns the main table of a report as text."""
    rows = [("method", "average rank", "final rank", "percentile", "to optimum", "found")]
    marks = shown_marks(report.methods)
    for label, found in report.methods.items():
        queries = found.queries
        needed = ("≥ " if queries.restricted else "") + number(queries.mean) if queries.found else "–"
        rank = number(found.measures["final_rank"].mean) + _sign(marks[label], "final_rank")
        percentile = f"{number(found.measures['percentile'].mean)} %" + _sign(marks[label], "percentile")
        rows.append((label, number(found.average_rank), rank, percentile, needed, share(queries.rate)))
    notes = [f"note: {note}" for note in report.notes]
    shared = any("shared" in found.values() for found in marks.values())
    legend = f"* best mean,{' = shares the best mean,' if shared else ''} ~ not significantly different from it"
    return "\n".join([format_table(rows, "<>>>>>"), legend, *notes])


def _sign(marks: Mapping[str, str], measure: str) -> str:
    return {"best": " *", "shared": " =", "tied": " ~"}.get(marks.get(measure, ""), "  ")
