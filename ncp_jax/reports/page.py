"""One HTML page without anything outside it: figures, tables, run card, checklist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ncp_jax.reports import sections
from ncp_jax.reports.markup import STYLE, escape, picture
from ncp_jax.reports.text import number

# The curves of a benchmark: name → (axis, measure, what a reader without the picture is told).
CURVES = {
    "percentile": ("queries", "percentile", "percentile of the best so far against queries"),
    "regret": ("queries", "regret", "regret of the best so far against queries"),
    "seconds-percentile": ("seconds", "percentile", "percentile of the best so far against simulated seconds"),
    "seconds-regret": ("seconds", "regret", "regret of the best so far against simulated seconds"),
}


def build_page(title: str, summary: Mapping[str, Any], pictures: Mapping[str, bytes], notes: Sequence[str] = ()) -> str:
    """Builds the report.

    Args:
      title: of the page, plain text.
      summary: see ``summarise``.
      pictures: PNG bytes by name: "curve/BENCHMARK/KIND" (see ``CURVES``), "ranks", "ranks/queries", "settings";
        those that are not there are left out.
      notes: about the figures, plain text.

    Returns:
      HTML; equal arguments give equal text.
    """
    numbers = {label: i for i, label in enumerate(summary["methods"])}
    parts = [f"<h1>{escape(title)}</h1>", sections.headline(summary)]
    parts += ["<h2>Comparison</h2>", sections.legend(summary)]
    if len(summary["benchmarks"]) > 1:
        parts += ["<h3>Over all benchmarks</h3>", sections.overall_table(summary, numbers)]
    for benchmark, methods in summary["benchmarks"].items():
        if methods:
            parts += [f"<h3>{escape(benchmark)}</h3>", sections.benchmark_table(summary, benchmark, numbers)]
    if summary["comparison"]:
        parts += ["<h2>Average ranks and significance</h2>", *_ranks(summary, pictures), sections.pair_table(summary)]
    parts.append("<h2>Anytime curves</h2>")
    parts.append(
        '<p class="soft">Means over seeds with 95 % bootstrap intervals; lower is better. '
        "A mean regret of zero is drawn at the lower edge.</p>"
    )
    parts += [f'<p class="soft">{escape(note)}</p>' for note in notes]
    for benchmark in summary["benchmarks"]:
        drawn = {kind: pictures.get(f"curve/{benchmark}/{kind}") for kind in CURVES}
        images = [picture(image, f"{benchmark}: {CURVES[kind][2]}") for kind, image in drawn.items() if image]
        if images:
            parts.append(f'<h3>{escape(benchmark)}</h3><div class="pair">{"".join(images)}</div>')
    if summary["settings"]:
        parts.append("<h2>Settings</h2>")
        parts.append(
            '<p class="soft">For each value, the mean over all methods that have it, on all benchmarks. '
            "<b>≈</b>: the interval of its difference from the best value includes zero.</p>"
        )
        if "settings" in pictures:
            parts.append(picture(pictures["settings"], "final percentile by setting; the tables below", kind="medium"))
        parts.append(sections.settings_tables(summary))
    parts += ["<h2>Run card</h2>", sections.run_card_section(summary)]
    parts += ["<h2>Best-practice checklist</h2>", sections.checklist_section(summary)]
    body = "\n".join(parts)
    return (
        f'<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{escape(title)}</title>\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _ranks(summary: Mapping[str, Any], pictures: Mapping[str, bytes]) -> list[str]:
    """The diagrams of average ranks, by the final percentile and by the queries to the optimum."""
    parts = []
    for name, found, basis in (
        ("ranks", summary["comparison"], "the final percentile"),
        ("ranks/queries", summary["comparison"]["queries_to_optimum"], "the queries to the optimum"),
    ):
        if found:
            ranks = found["average_rank"]
            order = sorted(ranks, key=ranks.__getitem__)
            words = f"Average ranks of {basis}: " + ", ".join(f"{label} {number(ranks[label])}" for label in order)
            image = [picture(pictures[name], words, kind="medium")] if name in pictures else []
            parts += [f"<h3>By {basis}</h3>", *image, sections.test_text(found, basis)]
    tell = "Blocks are seeds of these benchmarks: the tests say nothing about other benchmarks."
    return [*parts, f'<p class="soft">{tell} A run that never found the optimum comes after all that did.</p>']
