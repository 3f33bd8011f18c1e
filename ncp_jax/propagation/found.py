"""What an inversion found: architectures without repeats, best first, and how portions of them are put together."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.metrics import MetricSpec
from ncp_jax.spaces import get_space
from ncp_jax.types import Float, Int

STARTS = 4096  # starts that are kept, for figures
# Rows of one call on the device behind the loop: one shape, however many codes there are.
ROWS = {"cpu": 4096}
ROWS_ELSEWHERE = 65536


@dataclasses.dataclass(frozen=True)
class Found:
    """Architectures found, without repeats (isomorphs count as repeats), best first.

    Attributes:
      codes: ``[k, d]`` legal codes.
      mean: ``[k, m]`` ensemble mean of the predictions, in the metrics' own units.
      spread: ``[k, m]`` standard deviation over the ensemble's members, same units.
      score: ``[k]`` the objective, in standard units; higher is better.
      costs: exact costs by name (``[k]`` each), where the space has a cost model: "flops" (GMAC), "params" (M).
      starts: ``[n, d]`` the codes that the propagation began with; the first ``STARTS`` of them.
      metrics: what the m columns mean.
      space: the space's name.
      timing: seconds of "compile" and "search", and "code_steps_per_s".
      scored: how many legal codes were scored to find these, counted anew in each portion of the work.
    """

    codes: Int[np.ndarray, "k d"]
    mean: Float[np.ndarray, "k m"]
    spread: Float[np.ndarray, "k m"]
    score: Float[np.ndarray, " k"]
    costs: dict[str, Float[np.ndarray, " k"]]
    starts: Int[np.ndarray, "n d"]
    metrics: tuple[MetricSpec, ...]
    space: str
    timing: dict[str, float]
    scored: int

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: Int[np.ndarray, " j"] | slice) -> Found:
        """Returns the chosen rows, in the order given."""
        picked = {name: getattr(self, name)[rows] for name in ("codes", "mean", "spread", "score")}
        return dataclasses.replace(self, costs={n: c[rows] for n, c in self.costs.items()}, **picked)

    def top(self, k: int) -> Found:
        """Returns the best k (all, where there are fewer); printing it gives a table."""
        return self.take(slice(0, k))

    def strings(self) -> list[str]:
        """The codes in the space's string form."""
        return get_space(self.space).to_strings(self.codes)

    def rows(self) -> list[dict[str, object]]:
        """One JSON-ready dictionary an architecture: code, string, predicted, spread, score, costs."""
        shown = self._predicted
        return [
            {
                "code": [int(v) for v in self.codes[i]],
                "string": text,
                "predicted": {self.metrics[j].name: float(self.mean[i, j]) for j in shown},
                "spread": {self.metrics[j].name: float(self.spread[i, j]) for j in shown},
                "score": float(self.score[i]),
                **{_COST_KEYS.get(n, n): float(c[i]) for n, c in self.costs.items()},
            }
            for i, text in enumerate(self.strings())
        ]

    @property
    def _predicted(self) -> list[int]:
        """Columns that are predictions, not exact costs."""
        return [j for j, m in enumerate(self.metrics) if m.name not in self.costs]

    def __str__(self) -> str:
        shown = self._predicted
        head = [f"{m.name} [{m.unit}]" if m.unit else m.name for m in (self.metrics[j] for j in shown)]
        head += [_COST_HEADS.get(n, n) for n in self.costs] + ["score", "architecture"]
        lines = [["rank", *head]]
        for i, text in enumerate(self.strings()):
            cells = [f"{self.mean[i, j]:.3f} ±{self.spread[i, j]:.3f}" for j in shown]
            cells += [f"{c[i]:.3f}" if c[i] >= 0.1 else f"{c[i]:.3g}" for c in self.costs.values()]
            lines.append([str(i + 1), *cells, f"{self.score[i]:+.3f}", text])
        widths = [max(len(line[j]) for line in lines) for j in range(len(lines[0]))]
        return "\n".join(
            "  ".join([*(c.rjust(w) for c, w in zip(line[:-1], widths, strict=False)), line[-1]]) for line in lines
        )


_COST_KEYS = {"flops": "gflops", "params": "params_m"}
_COST_HEADS = {"flops": "GFLOPs", "params": "params [M]"}


def rows_of_a_call() -> int:
    """How many rows go to the device at once behind the loop."""
    return ROWS.get(jax.default_backend(), ROWS_ELSEWHERE)


def in_calls(
    function: Callable[[np.ndarray], object], codes: Int[np.ndarray, "n d"], rows: int | None = None
) -> list[np.ndarray]:
    """Applies a function of code rows in calls of one shape; returns its results (one array or several), joined.

    The last call is filled up with its last code, and the rows that this adds are cut off. A call has ``rows`` rows,
    ``rows_of_a_call()`` without it.
    """
    rows = rows or rows_of_a_call()
    padded = np.concatenate([codes, np.repeat(codes[-1:], -len(codes) % rows, axis=0)])
    calls = []
    for i in range(0, len(padded), rows):
        result = function(padded[i : i + rows])
        calls.append([np.asarray(a) for a in (result if isinstance(result, tuple) else (result,))])
    return [np.concatenate(parts)[: len(codes)] for parts in zip(*calls, strict=True)]


def merge(portions: list[Found], keep: int) -> Found:
    """Puts portions together: no code and no network twice, the best ``keep`` in order.

    Of the codes of one network the best-ranked one stays; equal scores are in the order of the codes. So the result
    does not depend on how the codes were portioned out.
    """
    first, *others = portions
    if others:
        names = ("codes", "mean", "spread", "score")
        arrays: dict[str, Any] = {name: np.concatenate([getattr(p, name) for p in portions]) for name in names}
        costs = {name: np.concatenate([p.costs[name] for p in portions]) for name in first.costs}
        scored = sum(p.scored for p in portions)
        first = dataclasses.replace(first, costs=costs, scored=scored, **arrays)
    distinct = first_of_each(first.codes)
    ranked = first.take(distinct[np.argsort(-first.score[distinct], kind="stable")])
    return _without_isomorphs(ranked).take(slice(0, keep))


def first_of_each(codes: Int[np.ndarray, "n d"]) -> Int[np.ndarray, " k"]:
    """The rows at which a code stands for the first time, in the order of the codes."""
    # Big-endian bytes sort like the numbers; a byte a position is the usual case and sorts several times faster.
    whole = np.ascontiguousarray(codes, dtype="u1" if codes.max(initial=0) < 256 else ">u4")
    return np.unique(whole.view(f"V{whole.itemsize * whole.shape[1]}").ravel(), return_index=True)[1]


def _without_isomorphs(found: Found) -> Found:
    """Keeps the best-ranked code of each isomorphism class: the others denote the same network."""
    if len(found) == 0:
        return found
    space = get_space(found.space)
    (canonical,) = in_calls(lambda codes: space.canonical(jnp.asarray(codes)), found.codes)
    if np.array_equal(canonical, found.codes):
        return found
    return found.take(np.sort(first_of_each(canonical)))
