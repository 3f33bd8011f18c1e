"""Pieces of HTML: escaped text, tables, pictures, the style of the page."""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence

STYLE = """
:root { color-scheme: light; --ink: #1c2126; --soft: #626b75; --line: #dfe3e8; --best: #dcefe0; --tied: #f0f7f1; }
* { box-sizing: border-box; }
body { margin: 0; color: var(--ink); background: #fff; font: 16px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1180px; margin: 0 auto; padding: 1.5rem 1.25rem 4rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.25rem; margin: 2.4rem 0 .6rem; padding-top: .6rem; border-top: 2px solid var(--ink); }
h3 { font-size: 1rem; margin: 1.4rem 0 .4rem; overflow-wrap: anywhere; }
p { margin: .4rem 0; max-width: 75ch; }
.soft, figcaption { color: var(--soft); font-size: .875rem; }
.lead { font-size: 1.05rem; }
.note { background: #fff6dd; border-left: 4px solid #d9a400; padding: .5rem .8rem; margin: .6rem 0; }
.wide { overflow-x: auto; margin: .4rem 0 .8rem; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--line); }
th { font-weight: 600; vertical-align: bottom; border-bottom: 1.5px solid var(--ink); }
th:first-child, td:first-child, .words td, .words th { text-align: left; }
.numbers th:first-child, .numbers td:first-child { position: sticky; left: 0; background: #fff; min-width: 9rem; }
.numbers td:not(:first-child) { white-space: nowrap; }
td small { display: block; color: var(--soft); font-size: .78rem; }
td.best { font-weight: 700; background: var(--best); }
td.best small { font-weight: 400; }
td.tied { background: var(--tied); }
.swatch { vertical-align: middle; margin-right: .35rem; }
figure { margin: 0; }
figure img { width: 100%; height: auto; display: block; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem; }
.medium { max-width: 760px; overflow-x: auto; }
.medium img { min-width: 600px; }
code, pre { font: .82rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, monospace; overflow-wrap: anywhere; }
pre { background: #f5f6f8; padding: .7rem .9rem; white-space: pre-wrap; margin: .4rem 0; }
td code { white-space: nowrap; font-size: .75rem; }
details { margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; }
.yes { color: #1a6b30; font-weight: 600; white-space: nowrap; }
.no { color: #a61b1b; font-weight: 600; white-space: nowrap; }
.author { color: #7a5a00; font-weight: 600; }
@media (max-width: 600px) {
  body { font-size: 15px; }
  main { padding: 1rem .9rem 3rem; }
  h1 { font-size: 1.4rem; }
  th, td { padding: .3rem .5rem; }
  .numbers th:first-child, .numbers td:first-child { min-width: 8rem; }
}
@media print { main { max-width: none; } .wide { overflow: visible; } }
"""


def escape(text: object) -> str:
    """Text as HTML shows it, in elements and in attributes."""
    return html.escape(str(text), quote=True)


def table(header: Sequence[str], rows: Sequence[Sequence[str]], *, kind: str, caption: str = "") -> str:
    """A table of HTML cells in a box that scrolls sideways where it is too wide.

    Args:
      header: HTML of the column heads; no head where it is empty.
      rows: cells, each HTML, or a whole ``<td …>`` of its own.
      kind: "numbers" or "words".
      caption: HTML, shown above.
    """
    cells = "".join(f'<th scope="col">{cell}</th>' for cell in header)
    head = f"<thead><tr>{cells}</tr></thead>\n" if header else ""
    body = "\n".join(
        "<tr>" + "".join(c if c.startswith("<td") else f"<td>{c}</td>" for c in row) + "</tr>" for row in rows
    )
    # A caption element would be as wide as the table, and scroll away with it.
    above = f'<p class="soft">{caption}</p>' if caption else ""
    return f'{above}<div class="wide"><table class="{kind}">{head}<tbody>{body}</tbody></table></div>'


def picture(image: bytes, alternative: str, caption: str = "", *, kind: str = "") -> str:
    """A PNG inside the page; ``alternative`` is the text for those who do not see it, both are plain text."""
    data = base64.b64encode(image).decode()
    below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
    source = f'<img alt="{escape(alternative)}" src="data:image/png;base64,{data}">'
    return f'<figure class="{kind}">{source}{below}</figure>' if kind else f"<figure>{source}{below}</figure>"


def swatch(colour: str, dashes: object) -> str:
    """A short line in a method's colour and dashes, as in the figures."""
    array = "" if isinstance(dashes, str) else ' stroke-dasharray="' + " ".join(f"{2 * d:g}" for d in dashes[1]) + '"'  # type: ignore[index]
    return (
        f'<svg class="swatch" width="22" height="8" aria-hidden="true"><line x1="0" y1="4" x2="22" y2="4" '
        f'stroke="{escape(colour)}" stroke-width="3"{array}/></svg>'
    )
