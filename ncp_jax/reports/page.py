"""Builds the HTML page of a report, one file that loads nothing else, from the templates in templates/."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncp_jax.analysis.comparison import Comparison, PairTest, holm
from ncp_jax.reports.figures import CURVES, line_style
from ncp_jax.reports.report import MethodSummary, Report, shown_marks
from ncp_jax.reports.text import duration, moment, number, p_value, plural, share, span

TEMPLATES = Path(__file__).parent / "templates"
STYLE = TEMPLATES / "style.css"  # of all pages of the project
_PAIRS_SHOWN = 60
_MEASURES = ("final_rank", "percentile", "regret", "value", "queries_to_optimum", "hypervolume")
_REPEATS = {
    "counted": "counted: repeating a query costs budget",
    "free": "free: repeating a query costs nothing",
    "free-isomorphs": "free, isomorphs included: querying an architecture equal to a known one costs nothing",
}


def build_page(title: str, report: Report, pictures: Mapping[str, bytes], notes: Sequence[str] = ()) -> str:
    """Builds the page.

    Args:
      title: title of the page.
      report: what the page shows.
      pictures: PNG bytes by name, see ``figures.draw_figures``; sections without a picture leave it out.
      notes: notes on the figures.

    Returns:
      HTML; equal arguments give equal text. All texts of the report are escaped.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    formats = (duration, moment, number, p_value, plural, share, span)
    environment.filters |= {function.__name__: function for function in formats}
    return environment.get_template("report.html").render(
        title=title,
        report=report,
        notes=notes,
        pictures={name: base64.b64encode(image).decode() for name, image in pictures.items()},
        curves={kind: text for kind, (_, _, text) in CURVES.items()},
        styles={label: _svg_style(i) for i, label in enumerate(report.methods)},
        measures_of=_measures_of,
        named=lambda names, labels: [labels[name] for name in names],
        not_different=_not_different,
        best_ranked=_best_ranked,
        shown_marks=shown_marks,
        by_rank=_by_rank,
        pair_rows=_pair_rows,
        pairs_shown=_PAIRS_SHOWN,
        repeats=_REPEATS,
        grid=json.dumps(report.run_card.grid, indent=2, ensure_ascii=False),
    )


def _svg_style(number: int) -> dict[str, str]:
    """Returns colour and dashes of a method's line for SVG, as in the figures."""
    style = line_style(number)
    dashes = "" if isinstance(style["linestyle"], str) else " ".join(f"{2 * d:g}" for d in style["linestyle"][1])
    return {"colour": style["color"], "dashes": dashes}


def _measures_of(methods: Mapping[str, MethodSummary], *, value: bool) -> list[str]:
    """Returns the measures that all methods have, in the order of the columns."""
    names = [name for name in _MEASURES if value or name != "value"]
    return [name for name in names if all(name in found.measures for found in methods.values())]


def _by_rank(found: Comparison) -> list[str]:
    """Returns the methods of a comparison, the best average rank first."""
    return sorted(found.average_rank, key=found.average_rank.__getitem__)


def _best_ranked(found: Comparison) -> list[str]:
    """Returns the methods with the best average rank: several where they share it."""
    least = min(found.average_rank.values())
    return [label for label, rank in found.average_rank.items() if rank <= least + 1e-9]


def _not_different(found: Comparison, best: str) -> list[str]:
    """Returns the methods whose signed ranks do not differ significantly from those of the best one.

    Holm's correction is over the comparisons with the best, as for the marks in the tables.
    """
    pairs = [pair for pair in found.pairs if best in (pair.a, pair.b)]
    adjusted = zip(pairs, holm([pair.p for pair in pairs]), strict=True)
    return [pair.b if pair.a == best else pair.a for pair, p in adjusted if p >= found.alpha]


def _pair_rows(pairs: Sequence[PairTest]) -> Iterator[dict[str, Any]]:
    """Yields the pairs with the smallest p-values first, and in each pair the better ranked method first."""
    for pair in sorted(pairs, key=lambda pair: (pair.p_holm, -abs(pair.rank_difference)))[:_PAIRS_SHOWN]:
        names, counts, effect = (pair.a, pair.b), (pair.wins, pair.ties, pair.losses), pair.a12
        if pair.rank_difference > 0:
            names, counts, effect = names[::-1], counts[::-1], 1 - effect
        yield {"names": names, "counts": counts, "a12": effect, "p_holm": pair.p_holm, "nemenyi_p": pair.nemenyi_p}
