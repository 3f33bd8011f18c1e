"""Measures what a limit on FLOPs costs: against the best of all feasible codes by the same predictor."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from harness.tables import all_tasks

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import PropagationConfig, propagate
from ncp_jax.records.journal import Records
from ncp_jax.spaces import cost_model_for
from ncp_jax.training import Recipe
from ncp_jax.training.fitting import Progress
from optimization.argmax import SPACES, ArgmaxConfig, ExhaustiveScores, objectives, train

QUANTILES = (0.02, 0.05, 0.1, 0.25, 0.5)


@dataclasses.dataclass(frozen=True)
class LimitedSearch:
    """One inversion under a limit, compared with the best feasible code.

    Attributes:
      quantile: share of the space's codes that are within the limit.
      feasible: number of these codes.
      gap: how much less the best code found scores than the best feasible one, in standard deviations of the score
        over the space.
      distinct: number of architectures found.
      scored: number of codes scored, counted separately in each stage of the search.
      seconds: wall time of the inversion, without compilation.
    """

    quantile: float
    feasible: int
    gap: float
    distinct: int
    scored: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class LimitCost:
    """What a limit costs on one space at one quantile, over all (predictor, objective) pairs.

    Attributes:
      searches: number of searches.
      feasible: number of codes within the limit.
      exact: share of the searches that found the best feasible code.
      mean: mean gap, standard deviations of the score over the space.
      largest: largest gap.
      seconds: median wall time of an inversion.
    """

    searches: int
    feasible: int
    exact: float
    mean: float
    largest: float
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, as summary.json holds them."""
        return dataclasses.asdict(self)


def search_limited(
    predictor: Predictor, config: PropagationConfig, quantiles: Sequence[float], *, codes: int, seed: int, count: int
) -> list[LimitedSearch]:
    """Searches for several objectives under limits at some quantiles of the space's FLOPs.

    Args:
      predictor: ensemble to invert. It need not predict FLOPs.
      config: settings of the inversion.
      quantiles: shares of the space's codes within the limit.
      codes: starts of an inversion.
      seed: seed of the starts.
      count: number of objectives.
    """
    exhaustive = ExhaustiveScores.of(predictor)
    model = cost_model_for(exhaustive.space, predictor.metrics)
    if model is None:
        raise checks.UsageError(
            expected="a space whose costs are known", got=predictor.space, remedy="leave it out of part limits"
        )
    flops = model.in_units(exhaustive.space.all_codes())["flops"]
    root, found = jax.random.fold_in(jax.random.key(0x11A17), seed), []
    for number, goal in enumerate(objectives(predictor.metrics, count)):
        scores = goal.weights(predictor.metrics).score(exhaustive.mean, exhaustive.spread)
        for quantile in quantiles:
            limit = float(np.quantile(flops, quantile, method="higher"))
            began = time.perf_counter()
            best = propagate(
                predictor,
                goal,
                codes=codes,
                key=jax.random.fold_in(root, number),
                config=config,
                max_gflops=limit,
            )
            seconds = time.perf_counter() - began - best.timing["compile"]
            feasible = flops <= limit
            gap = float(scores[feasible].max() - scores[exhaustive.index(best.codes)].max()) / float(scores.std())
            found.append(LimitedSearch(quantile, int(feasible.sum()), gap, len(best), best.scored, seconds))
    return found


@dataclasses.dataclass(frozen=True)
class LimitBenchmark:
    """Predictors trained on real tables, inverted for several objectives under limits on FLOPs.

    Attributes:
      spaces: names of enumerable spaces whose costs are known, some of ``SPACES``.
      config: settings of the predictors and of the inversions.
      recipe: training recipe of the predictors.
      predictors: number of predictors per space.
      objectives: number of objectives per predictor.
      first_seed: seed of the first predictor; the others have those that follow.
      quantiles: shares of a space's codes within the limits.
    """

    spaces: tuple[str, ...]
    config: ArgmaxConfig
    recipe: Recipe
    predictors: int
    objectives: int
    first_seed: int = 0
    quantiles: tuple[float, ...] = QUANTILES

    def __post_init__(self) -> None:
        for space in self.spaces:
            checks.choose("enumerable space", space, SPACES)
        checks.integer("predictors", self.predictors, least=1, remedy="try 5")

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, which determine the results."""
        lists = {"spaces": list(self.spaces), "quantiles": list(self.quantiles)}
        return dataclasses.asdict(self) | lists | {"recipe": self.recipe.to_json()}

    def run(self, records: Records, progress: Progress | None = None) -> dict[str, dict[str, LimitCost]]:
        """Runs what is not on record yet, one record per predictor; returns costs by space and quantile."""
        costs = {}
        for number, name in enumerate(self.spaces):
            table = all_tasks(name)
            searches = []
            for i in range(self.predictors):
                cell = {
                    "part": "limits",
                    "space": name,
                    "seed": self.first_seed + i,
                    "table": table.content_hash(),
                }
                record = records.get(cell) or records.add(cell, self._run_predictor(table, self.first_seed + i))
                searches += [LimitedSearch(**found) for found in record["results"]["searches"]]
                if progress is not None:
                    progress(number * self.predictors + i + 1, len(self.spaces) * self.predictors)
            costs[name] = {f"{q:g}": summarise([s for s in searches if s.quantile == q]) for q in self.quantiles}
        return costs

    def _run_predictor(self, table: Table, seed: int) -> dict[str, Any]:
        predictor = train(table, self.recipe, self.config, seed)
        found = search_limited(
            predictor,
            self.config.chosen.config,
            self.quantiles,
            codes=self.config.codes,
            seed=seed,
            count=self.objectives,
        )
        return {"searches": [dataclasses.asdict(search) for search in found]}


def summarise(searches: Iterable[LimitedSearch]) -> LimitCost:
    """Puts the searches of one space and quantile together."""
    found = list(searches)
    gaps = np.array([search.gap for search in found])
    return LimitCost(
        searches=len(found),
        feasible=found[0].feasible,
        exact=float((gaps <= 1e-6).mean()),
        mean=float(gaps.mean()),
        largest=float(gaps.max()),
        seconds=float(np.median([search.seconds for search in found])),
    )


def limit_lines(costs: Mapping[str, Mapping[str, LimitCost]]) -> list[str]:
    """Returns the costs as lines of text, one per space and quantile."""
    return [
        f"{space:14} {float(quantile):4.0%} of codes within the limit ({row.feasible}): best one found in "
        f"{row.exact:.1%} of {row.searches}, gap {row.mean:.4f}, at most {row.largest:.4f} sd; {row.seconds:.2f} s"
        for space, quantiles in costs.items()
        for quantile, row in quantiles.items()
    ]
