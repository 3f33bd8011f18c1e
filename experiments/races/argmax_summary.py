"""How often the exhaustive argmax was found, by variant and space: rates with intervals, costs, the figure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import wilson_interval
from ncp_jax.drawing import BLUE, GREEN, ORANGE, new_axes, save_figure


def summarise(outcomes: Sequence[Mapping[str, Mapping[str, Sequence[Any]]]], size: int) -> dict[str, dict[str, Any]]:
    """Puts the predictors of one space together.

    Args:
      outcomes: of each predictor, see ``argmax.try_all``; a variant may be missing in some.
      size: codes of the space.

    Returns:
      JSON-ready, by variant: "pairs", "hits", "rate", "low", "high" (Wilson), "gap_of_misses" (mean and largest,
      standard units; None without misses), "scored" (mean, largest, largest share of the space), "until" (mean,
      over the hits; None without any), "code_steps" (mean), "seconds" (median).
    """
    summary = {}
    for name in dict.fromkeys(name for outcome in outcomes for name in outcome):
        column = {
            key: np.concatenate([np.asarray(outcome[name][key]) for outcome in outcomes if name in outcome])
            for key in ("hit", "gap", "scored", "until", "code_steps", "seconds")
        }
        hits, n = int(column["hit"].sum()), len(column["hit"])
        low, high = wilson_interval(hits, n)
        found, scored = column["hit"].astype(bool), column["scored"]
        missed = column["gap"][~found]
        gaps = {"mean": float(missed.mean()), "largest": float(missed.max())} if len(missed) else None
        summary[name] = {
            "pairs": n,
            "hits": hits,
            "rate": hits / n,
            "low": low,
            "high": high,
            "gap_of_misses": gaps,
            "scored": {"mean": float(scored.mean()), "largest": int(scored.max()), "share": float(scored.max() / size)},
            "until": float(column["until"][found].mean()) if found.any() else None,
            "code_steps": float(column["code_steps"].mean()),
            "seconds": float(np.median(column["seconds"])),
        }
    return summary


def argmax_figure(spaces: Mapping[str, Mapping[str, Mapping[str, Any]]], path: Path) -> Path:
    """Draws the rate of each variant with its interval, a row a variant, a colour a space."""
    names = list(dict.fromkeys(name for variants in spaces.values() for name in variants))
    figure, axes = new_axes(width=7.5, height=1.4 + 0.3 * len(names))
    for i, ((space, variants), colour) in enumerate(zip(spaces.items(), (BLUE, ORANGE, GREEN), strict=False)):
        rows = [row for row, name in enumerate(names) if name in variants]
        shown = [variants[names[row]] for row in rows]
        rates = np.array([v["rate"] for v in shown])
        errors = np.array([[v["rate"] - v["low"], v["high"] - v["rate"]] for v in shown]).T
        y = np.array(rows) + (i - (len(spaces) - 1) / 2) * 0.2
        style = {"fmt": "o", "markersize": 3.5, "linewidth": 1.0, "color": colour}
        axes.errorbar(rates, y, xerr=np.maximum(errors, 0), label=space, **style)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share of (predictor, objective) pairs whose exhaustive argmax was found")
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(spaces))
    return save_figure(figure, path)


def argmax_lines(spaces: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[str]:
    """The summary as a person reads it."""
    lines = []
    for space, variants in spaces.items():
        for name, row in variants.items():
            gaps, scored = row["gap_of_misses"], row["scored"]
            until = "" if row["until"] is None else f", {row['until']:.0f} until it was found"
            missed = "" if gaps is None else f", misses by {gaps['mean']:.3f} (at most {gaps['largest']:.3f})"
            lines.append(
                f"{space:14} {name:36} {row['hits']}/{row['pairs']} = {row['rate']:.1%} "
                f"[{row['low']:.1%}, {row['high']:.1%}]{missed}; scored {scored['mean']:.0f}, "
                f"at most {scored['largest']} ({scored['share']:.1%}){until}; {row['code_steps']:.0f} code-steps"
            )
    return lines
