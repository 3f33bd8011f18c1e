"""Summarises how often inversion found the exhaustive argmax: rates with intervals, costs, the figure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax.analysis.intervals import wilson_interval
from ncp_jax.drawing import BLUE, GREEN, ORANGE, new_axes, save_figure


@dataclasses.dataclass(frozen=True)
class Attempt:
    """One inversion, compared with the exhaustive argmax of its objective.

    Attributes:
      hit: whether the best code found is an argmax, an isomorph of one, or within the tolerance of one.
      gap: how much less the best code found scores, in standard units.
      scored: number of distinct legal codes scored (an upper bound).
      until: number of codes scored until the best was among them.
      code_steps: number of codes times gradient steps.
      seconds: wall time of the inversion, without compilation.
    """

    hit: bool
    gap: float
    scored: int
    until: int
    code_steps: int
    seconds: float


def to_columns(attempts: Sequence[Attempt]) -> dict[str, list[Any]]:
    """Returns attempts as records hold them: one list per field."""
    return {field.name: [getattr(a, field.name) for a in attempts] for field in dataclasses.fields(Attempt)}


def from_columns(columns: Mapping[str, Sequence[Any]]) -> list[Attempt]:
    """Reads what ``to_columns`` returned."""
    names = [field.name for field in dataclasses.fields(Attempt)]
    return [Attempt(*row) for row in zip(*(columns[name] for name in names), strict=True)]


@dataclasses.dataclass(frozen=True)
class VariantRate:
    """How often one variant found the exhaustive argmax on one space, and at what cost.

    Attributes:
      pairs: number of (predictor, objective) pairs.
      hits: number of pairs whose argmax was found.
      rate: hits / pairs.
      low: lower end of the 95 % Wilson interval of the rate.
      high: upper end of that interval.
      gap_of_misses: "mean" and "largest" gap of the misses in standard units; None without misses.
      scored: "mean" and "largest" number of codes scored, and the "share" of the space that the largest is.
      until: mean number of codes scored until the argmax was found, over the hits; None without hits.
      code_steps: mean number of code-steps.
      seconds: median wall time.
    """

    pairs: int
    hits: int
    rate: float
    low: float
    high: float
    gap_of_misses: dict[str, float] | None
    scored: dict[str, float]
    until: float | None
    code_steps: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as summary.json holds them."""
        return dataclasses.asdict(self)


Rates = Mapping[str, Mapping[str, VariantRate]]  # by space, then by variant


def variant_rates(predictors: Sequence[Mapping[str, Sequence[Attempt]]], size: int) -> dict[str, VariantRate]:
    """Puts the predictors of one space together.

    Args:
      predictors: attempts by variant, for each predictor; a variant may be missing in some.
      size: number of codes of the space.

    Returns:
      Rates by variant.
    """
    rates = {}
    for name in dict.fromkeys(name for variants in predictors for name in variants):
        attempts = [attempt for variants in predictors for attempt in variants.get(name, ())]
        hits, n = sum(a.hit for a in attempts), len(attempts)
        low, high = wilson_interval(hits, n)
        missed = np.array([a.gap for a in attempts if not a.hit])
        until = np.array([a.until for a in attempts if a.hit])
        scored = np.array([a.scored for a in attempts])
        rates[name] = VariantRate(
            pairs=n,
            hits=hits,
            rate=hits / n,
            low=low,
            high=high,
            gap_of_misses={"mean": float(missed.mean()), "largest": float(missed.max())} if len(missed) else None,
            scored={
                "mean": float(scored.mean()),
                "largest": int(scored.max()),
                "share": float(scored.max() / size),
            },
            until=float(until.mean()) if len(until) else None,
            code_steps=float(np.mean([a.code_steps for a in attempts])),
            seconds=float(np.median([a.seconds for a in attempts])),
        )
    return rates


def argmax_figure(spaces: Rates, path: Path) -> Path:
    """Draws the rate of each variant with its interval, one row per variant and one colour per space."""
    names = list(dict.fromkeys(name for variants in spaces.values() for name in variants))
    figure, axes = new_axes(width=7.5, height=1.4 + 0.3 * len(names))
    for i, ((space, variants), colour) in enumerate(zip(spaces.items(), (BLUE, ORANGE, GREEN), strict=False)):
        rows = [row for row, name in enumerate(names) if name in variants]
        shown = [variants[names[row]] for row in rows]
        rates = np.array([v.rate for v in shown])
        errors = np.array([[v.rate - v.low, v.high - v.rate] for v in shown]).T
        y = np.array(rows) + (i - (len(spaces) - 1) / 2) * 0.2
        style = {"fmt": "o", "markersize": 3.5, "linewidth": 1.0, "color": colour}
        axes.errorbar(rates, y, xerr=np.maximum(errors, 0), label=space, **style)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    axes.invert_yaxis()
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("share of (predictor, objective) pairs whose exhaustive argmax was found")
    axes.legend(frameon=False, fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(spaces))
    return save_figure(figure, path)


def argmax_lines(spaces: Rates) -> list[str]:
    """Returns the rates as lines of text, one per space and variant."""
    lines = []
    for space, variants in spaces.items():
        for name, row in variants.items():
            gaps, scored = row.gap_of_misses, row.scored
            until = "" if row.until is None else f", {row.until:.0f} until it was found"
            missed = "" if gaps is None else f", misses by {gaps['mean']:.3f} (at most {gaps['largest']:.3f})"
            lines.append(
                f"{space:14} {name:36} {row.hits}/{row.pairs} = {row.rate:.1%} "
                f"[{row.low:.1%}, {row.high:.1%}]{missed}; scored {scored['mean']:.0f}, "
                f"at most {scored['largest']} ({scored['share']:.1%}){until}; {row.code_steps:.0f} code-steps"
            )
    return lines
