"""Holds the results of an inversion: distinct architectures, best first, and the merging of partial results."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.analysis.hypervolume import dominated_volume, non_dominated
from ncp_jax.console import format_table, short_repr
from ncp_jax.metrics import MetricSpec, find_metric
from ncp_jax.propagation.limit import LimitStatus
from ncp_jax.spaces import get_space
from ncp_jax.spaces.codes import ISOMORPHISM
from ncp_jax.types import Bool, Float, Int

STARTS = 4096  # number of starts kept, for figures
# Rows of one device call after the gradient loop: a single shape for any number of codes.
ROWS = {"cpu": 4096}
ROWS_ELSEWHERE = 65536


@dataclasses.dataclass(frozen=True)
class Found:
    """The distinct architectures that an inversion found, best first. Codes of the same network count as one.

    Attributes:
      codes: ``[k, d]`` legal codes.
      mean: ``[k, m]`` ensemble mean of the predictions, in the metrics' own units: float32, or float64 where a metric
        needs it.
      spread: ``[k, m]`` standard deviation over the ensemble's members, same units.
      score: ``[k]`` objective in standard units; higher is better.
      costs: exact costs by name, ``[k]`` each: "flops" (GMAC), "params" (M). Empty for a space without a cost model.
      starts: ``[n, d]`` codes that the propagation started from, the first ``STARTS`` of them.
      metrics: specifications of the m metrics.
      space: name of the space.
      timing: seconds of "compile" and "search", and the rate "code_steps_per_s".
      scored: number of legal codes scored, counted separately in each portion of the work.
      counted: the network whose costs these are, in words ("the network of seg: …"); "" where they are not known.
      limits: limits that all of them satisfy, and what each means: exact, or predicted with a confidence.
      same_network: rule by which codes are the same network.
      sought: name and sign of each metric of the objective: +1 to raise it, -1 to lower it.
      preferences: number of weightings of the objective that the codes followed; with more than one, the Pareto front
        is kept before all others.
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
    same_network: str = ISOMORPHISM
    counted: str = ""
    limits: tuple[LimitStatus, ...] = ()
    sought: tuple[tuple[str, float], ...] = ()
    preferences: int = 1

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.codes)

    def take(self, rows: Int[np.ndarray, " j"] | slice) -> Found:
        """Returns the chosen architectures, in the given order."""
        picked = {name: getattr(self, name)[rows] for name in ("codes", "mean", "spread", "score")}
        return dataclasses.replace(self, costs={n: c[rows] for n, c in self.costs.items()}, **picked)

    def top(self, k: int) -> Found:
        """Returns the best k architectures, or all where there are fewer. Printing the result gives a table."""
        return self.take(slice(0, k))

    def strings(self) -> list[str]:
        """Returns the codes in the space's string form."""
        return get_space(self.space).to_strings(self.codes)

    def to_json(self) -> dict[str, Any]:
        """Returns everything but the starts as JSON-ready values; ``architectures`` are the ``rows()``."""
        return {
            "schema": "propagate/1",
            "space": self.space,
            "same_network": self.same_network,
            "metrics": [m.to_json() for m in self.metrics],
            "counted": self.counted,
            "limits": [limit.to_json() for limit in self.limits],
            "scored": self.scored,
            "timing": dict(self.timing),
            "architectures": self.rows(),
        }

    def rows(self) -> list[dict[str, object]]:
        """Returns one JSON-ready dictionary per architecture: code, string, predicted, spread, score, costs."""
        shown = self._predicted
        return [
            {
                "code": [int(v) for v in self.codes[i]],
                "string": text,
                "predicted": {self.metrics[j].name: float(self.mean[i, j]) for j in shown},
                "spread": {self.metrics[j].name: float(self.spread[i, j]) for j in shown},
                "score": float(self.score[i]),
                **{COST_KEYS.get(n, n): float(c[i]) for n, c in self.costs.items()},
            }
            for i, text in enumerate(self.strings())
        ]

    def values_of(self, name: str) -> Float[np.ndarray, " k"]:
        """Returns one metric: the exact cost where it is known, else the predicted mean, in the metric's own unit."""
        if name in self.costs:
            return self.costs[name]
        return np.asarray(self.mean[:, find_metric(self.metrics, name)], np.float64)

    def pareto(self, reference: Mapping[str, float] | None = None, *, reference_is: str = "given") -> Front:
        """Returns the Pareto front between the metrics of the objective, by predicted means and exact costs.

        A search with ``PropagationConfig(preferences=256)`` covers the front. With one preference this is what the
        objective's own weights happened to meet.

        Args:
          reference: the worst point that still counts for the hypervolume, by metric, in the metrics' own units. By
            default the worst value of each metric among all that was found.
          reference_is: what the reference point is, in words.

        Raises:
          UsageError: fewer than two metrics in the objective, or a reference without one of them.
        """
        if len(self.sought) < 2:
            raise checks.UsageError(
                expected="an objective with two metrics or more for a Pareto front",
                got=", ".join(name for name, _ in self.sought) or "a function",
                remedy="name several with maximize and minimize",
            )
        names, signs = zip(*self.sought, strict=True)
        points = self._oriented()
        rows = np.flatnonzero(non_dominated(points))
        rows = rows[np.argsort(-points[rows, 0], kind="stable")]
        if reference is None:
            corner, reference_is = points.min(axis=0), "the worst of all found"
        else:
            given = [checks.choose("metric of the reference", name, reference) for name in names]
            corner = np.array([reference[name] for name in given], np.float64) * signs
        return Front(
            found=self.take(rows),
            metrics=names,
            directions=tuple("maximize" if sign > 0 else "minimize" for sign in signs),
            values=points[rows] * signs,
            reference=corner * signs,
            reference_is=reference_is,
            hypervolume=dominated_volume(points[rows], corner),
        )

    def on_front(self) -> Bool[np.ndarray, " k"]:
        """Returns True for each architecture on the Pareto front between the metrics of the objective."""
        return non_dominated(self._oriented())

    def _oriented(self) -> Float[np.ndarray, "k s"]:
        return np.stack([sign * self.values_of(name) for name, sign in self.sought], axis=1)

    @property
    def _predicted(self) -> list[int]:
        """Columns of the metrics that are predictions, not exact costs."""
        return [j for j, m in enumerate(self.metrics) if m.name not in self.costs]

    def __str__(self) -> str:
        return self.text({})

    def text(self, more: Mapping[str, Sequence[str]]) -> str:
        """Returns the table that printing gives, with further columns before the architecture.

        Args:
          more: name of each further column, and its k cells.
        """
        shown = self._predicted
        head = [f"{m.name} [{m.unit}]" if m.unit else m.name for m in (self.metrics[j] for j in shown)]
        head += [COST_HEADS.get(n, n) for n in self.costs] + ["score", *more, "architecture"]
        rows = [["rank", *head]]
        for i, text in enumerate(self.strings()):
            cells = [_cell(self.metrics[j], self.mean[i, j], self.spread[i, j]) for j in shown]
            cells += [f"{c[i]:.3f}" if c[i] >= 0.1 else f"{c[i]:.3g}" for c in self.costs.values()]
            rows.append([str(i + 1), *cells, f"{self.score[i]:+.3f}", *(column[i] for column in more.values()), text])
        table = format_table(rows, ">" * len(head) + "<")
        return f"{table}\nGFLOPs and params of {self.counted}" if self.counted else table


@dataclasses.dataclass(frozen=True)
class Front:
    """The architectures found that no other one equals or beats in all sought metrics and beats in one.

    All of it is by predicted means; costs that are known are exact.

    Attributes:
      found: the k architectures, from the best to the worst in the first metric.
      metrics: names of the s sought metrics, those to maximize first.
      directions: "maximize" or "minimize" for each.
      values: ``[k, s]`` the metrics, in their own units.
      reference: ``[s]`` the worst point that still counts for the hypervolume, in the metrics' own units.
      reference_is: what the reference point is, in words.
      hypervolume: volume between the front and the reference point, in the product of the metrics' units.
    """

    found: Found
    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    values: Float[np.ndarray, "k s"]
    reference: Float[np.ndarray, " s"]
    reference_is: str
    hypervolume: float

    __repr__ = short_repr

    def __len__(self) -> int:
        return len(self.found)

    def to_json(self) -> dict[str, Any]:
        """Returns the front as JSON-ready values; ``architectures`` are ``found.rows()``."""
        return {
            "metrics": dict(zip(self.metrics, self.directions, strict=True)),
            "hypervolume": self.hypervolume,
            "reference": dict(zip(self.metrics, self.reference.tolist(), strict=True)),
            "reference_is": self.reference_is,
            "architectures": self.found.rows(),
        }

    def summary(self) -> str:
        """Returns one line: the size of the front, its hypervolume and the reference point."""
        worst = ", ".join(f"{name} {value:.4g}" for name, value in zip(self.metrics, self.reference, strict=True))
        return (
            f"Pareto front of {len(self)} architectures; hypervolume {self.hypervolume:.6g} "
            f"against {worst} ({self.reference_is})"
        )

    def __str__(self) -> str:
        return f"{self.found}\n{self.summary()}"


def _cell(metric: MetricSpec, mean: float, spread: float) -> str:
    """Formats a prediction: three decimals, or as many digits as a metric far from 1 needs."""
    if metric.stored is None:
        return f"{mean:.3f} ±{spread:.3f}"
    digits = 12 if metric.stored.form == "linear" else 4
    return f"{mean:.{digits}g} ±{spread:.3g}"


COST_KEYS = {"flops": "gflops", "params": "params_m"}
COST_HEADS = {"flops": "GFLOPs", "params": "params [M]"}


def batch_rows() -> int:
    """Returns the number of rows of one device call after the gradient loop."""
    return ROWS.get(jax.default_backend(), ROWS_ELSEWHERE)


def in_batches(
    function: Callable[[np.ndarray], object], codes: Int[np.ndarray, "n d"], rows: int | None = None
) -> list[np.ndarray]:
    """Applies a function to rows in batches of one shape, so that JAX compiles once for any number of rows.

    Args:
      function: maps ``[rows, d]`` to an array, or a tuple of arrays, with ``rows`` rows.
      codes: the rows. The last one is repeated to fill the last batch; results of repeats are cut off.
      rows: rows of a batch; ``batch_rows()`` by default.

    Returns:
      The function's results, concatenated, one array per result.
    """
    rows = rows or batch_rows()
    padded = np.concatenate([codes, np.repeat(codes[-1:], -len(codes) % rows, axis=0)])
    calls = []
    for i in range(0, len(padded), rows):
        result = function(padded[i : i + rows])
        calls.append([np.asarray(a) for a in (result if isinstance(result, tuple) else (result,))])
    return [np.concatenate(parts)[: len(codes)] for parts in zip(*calls, strict=True)]


def merge(portions: list[Found], keep: int) -> Found:
    """Merges portions into the best ``keep`` distinct architectures, best first.

    Of the codes of one network the best-ranked one stays. Equal scores are ordered by code, so the result does not
    depend on how the codes were divided into portions.
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
    ranked = _one_of_each_network(ranked)
    if ranked.preferences > 1 and len(ranked) > keep:
        on_front = ranked.on_front()
        first_kept = np.concatenate([np.flatnonzero(on_front), np.flatnonzero(~on_front)])[:keep]
        return ranked.take(np.sort(first_kept))
    return ranked.take(slice(0, keep))


def first_of_each(codes: Int[np.ndarray, "n d"]) -> Int[np.ndarray, " k"]:
    """Returns the row of each distinct code's first occurrence, sorted by code."""
    # Big-endian bytes sort like numbers. One byte per position is the usual case, and sorts several times faster.
    whole = np.ascontiguousarray(codes, dtype="u1" if codes.max(initial=0) < 256 else ">u4")
    return np.unique(whole.view(f"V{whole.itemsize * whole.shape[1]}").ravel(), return_index=True)[1]


def _one_of_each_network(found: Found) -> Found:
    """Keeps the best-ranked code of each network."""
    if len(found) == 0:
        return found
    space = get_space(found.space)
    rule = found.same_network
    (canonical,) = in_batches(lambda codes: space.canonical(jnp.asarray(codes), rule), found.codes)
    if np.array_equal(canonical, found.codes):
        return found
    return found.take(np.sort(first_of_each(canonical)))
