"""From a predictor and an objective to architectures: start, invert, project, drop repeats, rank."""

from __future__ import annotations

import dataclasses
import time

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.metrics import MetricSpec
from ncp_jax.propagation.engine import Invertible, PropagationConfig, exact_columns, invert
from ncp_jax.propagation.objective import Objective, ObjectiveWeights
from ncp_jax.spaces import cost_model, get_space
from ncp_jax.spaces.base import Space
from ncp_jax.spaces.costs import CostModel
from ncp_jax.types import Float, Int, Key

# Codes in flight at once: enough to fill the matrix products, few enough to stay in a few hundred MB.
CHUNK = 4096


@dataclasses.dataclass(frozen=True)
class Found:
    """Architectures found, without repeats (isomorphs count as repeats), best first.

    Attributes:
      codes: ``[k, d]`` legal codes.
      mean: ``[k, m]`` ensemble mean of the predictions, in the metrics' own units.
      spread: ``[k, m]`` standard deviation over the ensemble's members, same units.
      score: ``[k]`` the objective, in standard units; higher is better.
      costs: exact costs by name (``[k]`` each), where the space has a cost model: "flops" (GMAC), "params" (M).
      starts: ``[n, d]`` the codes that the propagation began with.
      metrics: what the m columns mean.
      space: the space's name.
      timing: seconds of "compile" and "search", and "code_steps_per_s".
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
            cells += [f"{c[i]:.3f}" for c in self.costs.values()]
            lines.append([str(i + 1), *cells, f"{self.score[i]:+.3f}", text])
        widths = [max(len(line[j]) for line in lines) for j in range(len(lines[0]))]
        return "\n".join(
            "  ".join([*(c.rjust(w) for c, w in zip(line[:-1], widths, strict=False)), line[-1]]) for line in lines
        )


_COST_KEYS = {"flops": "gflops", "params": "params_m"}
_COST_HEADS = {"flops": "GFLOPs", "params": "params [M]"}


def propagate(
    predictor: Invertible,
    objective: Objective,
    *,
    codes: int = 4096,
    start: Int[np.ndarray, "n d"] | None = None,
    key: Key | None = None,
    config: PropagationConfig | None = None,
    max_gflops: float | None = None,
) -> Found:
    """Inverts a predictor: moves codes along the gradient of their predicted metrics to where the objective is high.

    Args:
      predictor: an ensemble (``fit``, ``load_predictor``).
      objective: what to raise, lower, hold.
      codes: how many random starts, where ``start`` is not given.
      start: codes to begin with, ``[n, d]``.
      key: for the random starts; code i draws from ``fold_in(key, i)``.
      config: settings of the gradient loop; the authors' recipe by default.
      max_gflops: only architectures of at most so many GFLOPs (multiply-adds / 1e9). Exact where the space has a
        cost model, by the predicted metric "flops" elsewhere.

    Returns:
      The distinct architectures reached, best first.

    Raises:
      UsageError: unknown metric, illegal start, zero codes, neither key nor start, a limit that nothing satisfies.
    """
    config = config or PropagationConfig()
    space = get_space(predictor.space)
    starts = _starts(space, codes, start, key)
    limit = None if max_gflops is None else _Limit.make(space, predictor, max_gflops)
    weights = objective.weights(predictor.metrics, {} if limit is None else limit.ceiling)

    timing, relaxed = _invert_in_chunks(predictor, objective, limit, space, starts, config)
    began = time.perf_counter()
    if limit is not None:
        relaxed = limit.pull_back(relaxed)
    reached = np.unique(np.asarray(space.project(jnp.asarray(relaxed))), axis=0)
    found = _ranked(predictor, weights, space, reached, starts, timing)
    if limit is not None:
        found = limit.keep(found)
    found = _without_isomorphs(space, found)
    timing["search"] += time.perf_counter() - began
    timing["code_steps_per_s"] = len(starts) * config.steps / timing["search"]
    return found


def _starts(space: Space, codes: int, start: np.ndarray | None, key: Key | None) -> Int[np.ndarray, "n d"]:
    if start is not None:
        checked = space.check(start, where="start")
        if len(checked) == 0:
            raise checks.UsageError(checks.message("at least one start", "none", "give codes of the space"))
        return checked
    if not isinstance(codes, int) or codes < 1:
        raise checks.UsageError(checks.message("codes to be an integer >= 1", repr(codes), "try codes=4096"))
    if key is None:
        raise checks.UsageError(checks.message("a key or starts", "neither", "try key=jax.random.key(0)"))
    return np.asarray(space.sample(key, codes))


def _invert_in_chunks(
    predictor: Invertible,
    objective: Objective,
    limit: _Limit | None,
    space: Space,
    starts: np.ndarray,
    config: PropagationConfig,
) -> tuple[dict[str, float], Float[np.ndarray, "n f"]]:
    """Host loop over chunks of one shape (the last is padded); not jittable. Compilation is timed apart."""
    ceiling = {} if limit is None else limit.ceiling
    sought = tuple(dict.fromkeys((*objective.names, *ceiling)))
    judge, predictor = predictor, predictor.select(sought)  # what is not sought is not computed in the loop
    weights = objective.weights(predictor.metrics, ceiling)
    members = jax.tree.leaves(predictor.params)[0].shape[0]
    # A multiple of the members, so that in every chunk code i meets member i modulo their number.
    chunk = -(-min(CHUNK, len(starts)) // members) * members
    padded = np.concatenate([starts, np.repeat(starts[-1:], -len(starts) % chunk, axis=0)])
    box = (jnp.asarray(space.lower), jnp.asarray(space.upper))
    model = cost_model(space) if config.exact_costs else None
    began = time.perf_counter()
    example = space.encode(jnp.asarray(padded[:chunk]))
    compiled = invert.lower(predictor, weights, example, box, config, model).compile()
    _predict(judge, space, starts[:1])  # compiles what the ranking will use
    compiled_at = time.perf_counter()
    pieces = [
        np.asarray(compiled(predictor, weights, space.encode(jnp.asarray(padded[i : i + chunk])), box, config))
        for i in range(0, len(padded), chunk)
    ]
    timing = {"compile": compiled_at - began, "search": time.perf_counter() - compiled_at}
    return timing, np.concatenate(pieces)[: len(starts)]


def _ranked(
    predictor: Invertible,
    weights: ObjectiveWeights,
    space: Space,
    reached: np.ndarray,
    starts: np.ndarray,
    timing: dict[str, float],
) -> Found:
    pieces = [_predict(predictor, space, reached[i : i + CHUNK]) for i in range(0, len(reached), CHUNK)]
    mean, spread = (np.concatenate(column) for column in zip(*pieces, strict=True))
    model = cost_model(space)
    exact = model.in_units(reached) if model else {}
    for column, name in exact_columns(predictor.metrics, model).items():
        # What is known exactly is not predicted.
        mean[:, column], spread[:, column] = exact[name], 0.0
    # In NumPy: how many were found differs from call to call, and JAX would compile for each number.
    standard = (mean - np.asarray(predictor.scale.y_mean)) / np.asarray(predictor.scale.y_std)
    score = standard @ np.asarray(weights.push)
    # Equal scores stay in the order of the codes, so that the ranking does not depend on the order of the starts.
    order = np.argsort(-score, kind="stable")
    metrics = tuple(predictor.metrics)
    return Found(reached, mean, spread, score, exact, starts, metrics, space.name, timing).take(order)


def _predict(predictor: Invertible, space: Space, codes: Int[np.ndarray, "n d"]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and spread for up to CHUNK codes, padded to that number: one shape, one compilation."""
    padded = np.concatenate([codes, np.repeat(codes[-1:], CHUNK - len(codes), axis=0)])
    mean, spread = predictor(space.encode(jnp.asarray(padded)))
    return np.array(mean)[: len(codes)], np.array(spread)[: len(codes)]


def _without_isomorphs(space: Space, found: Found) -> Found:
    """Keeps the best-ranked code of each isomorphism class: the others denote the same network."""
    # Padded to the number of starts: one shape, however many were found.
    padded = np.resize(found.codes, (len(found.starts), space.length))
    canonical = np.asarray(space.canonical(jnp.asarray(padded)))[: len(found)]
    if np.array_equal(canonical, found.codes):
        return found
    _, first = np.unique(canonical, axis=0, return_index=True)
    return found.take(np.sort(first))


@dataclasses.dataclass(frozen=True)
class _Limit:
    """An upper limit on GFLOPs: how to steer below it, how to get below it, how to check it."""

    gflops: float
    space: Space
    model: CostModel | None
    unit: float
    ceiling: dict[str, float]

    @classmethod
    def make(cls, space: Space, predictor: Invertible, gflops: float) -> _Limit:
        checks.positive("max_gflops", gflops)
        model, unit, ceiling = cost_model(space), 1.0, {}
        names = [m.name for m in predictor.metrics]
        if "flops" in names:
            i = names.index("flops")
            unit = 1e-3 if predictor.metrics[i].unit == "M" else 1.0
            ceiling = {"flops": float((gflops / unit - predictor.scale.y_mean[i]) / predictor.scale.y_std[i])}
        if model is None and not ceiling:
            raise checks.UsageError(
                checks.message(
                    "a space with known FLOPs, or a metric 'flops' in the table",
                    space.name,
                    "leave out the GFLOPs limit",
                )
            )
        if model is not None:
            least = float(model.in_units(np.asarray(space.project(jnp.asarray(space.lower)))[None])["flops"][0])
            if gflops < least:
                raise checks.UsageError(
                    checks.message(
                        f"a GFLOPs limit >= {least:.4g}, the space's smallest", f"{gflops:g}", "raise the limit"
                    )
                )
        return cls(gflops, space, model, unit, ceiling)

    def pull_back(self, relaxed: Float[np.ndarray, "n f"]) -> Float[np.ndarray, "n f"]:
        """Moves each code over the limit straight towards the cheapest corner of the box until it fits.

        Exact costs rise with every position, so along that line the cost of the projected code is monotone and
        bisection finds the last point that fits.
        """
        if self.model is None:
            return relaxed
        low = np.asarray(self.space.lower)

        def fits(points: np.ndarray) -> np.ndarray:
            assert self.model is not None
            return self.model.in_units(np.asarray(self.space.project(jnp.asarray(points))))["flops"] <= self.gflops

        over = np.flatnonzero(~fits(relaxed))
        if len(over) == 0:
            return relaxed
        inside, outside = np.zeros((len(over), 1), np.float32), np.ones((len(over), 1), np.float32)
        for _ in range(12):
            middle = (inside + outside) / 2
            ok = fits(low + middle * (relaxed[over] - low))[:, None]
            inside, outside = np.where(ok, middle, inside), np.where(ok, outside, middle)
        pulled = relaxed.copy()
        pulled[over] = low + inside * (relaxed[over] - low)
        return pulled

    def keep(self, found: Found) -> Found:
        """Drops what is over the limit."""
        if self.model is not None:
            gflops = found.costs["flops"]
        else:
            gflops = found.mean[:, [m.name for m in found.metrics].index("flops")] * self.unit
        kept = found.take(np.flatnonzero(gflops <= self.gflops))
        if len(kept) == 0:
            least = float(gflops.min())
            raise checks.UsageError(
                checks.message(
                    f"architectures of at most {self.gflops:g} GFLOPs",
                    f"none (the smallest found has {least:.4g})",
                    "raise the limit",
                )
            )
        return kept
