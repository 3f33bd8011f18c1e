"""Holds what ``ncp.rank`` found, prints and writes it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncp_jax.commands.rank_config import RankConfig
from ncp_jax.console import short_repr

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax.benchmarks import Table
    from ncp_jax.ordering import Ordering
    from ncp_jax.searchers.arch_graph.process import ProcessConfig
    from ncp_jax.searchers.arch_graph.search import ArchGraphConfig
    from ncp_jax.types import Int

SHOWN = 10
LISTED = 1000  # architectures of the final order that the JSON lists


@dataclasses.dataclass(frozen=True, eq=False)
class RankResult:
    """A table's architectures, ranked from few measurements.

    Attributes:
      config: what was ranked.
      method: settings of the head.
      table: target table of n architectures, NaN where a value is not known.
      sources: names of the source tables.
      asked: ``[q]`` int32, measured rows in the order of asking, or of the table where that is not complete.
      next: ``[k]`` int32, rows to be measured next; none where the table is complete or the budget is used up.
      order: ``[n]`` int32, all rows of the table in the final order, best first. Of two measured architectures, the
        better one comes first.
      rank: rank of the best measured architecture in the table, 1 for the best. This and the next three are None where
        the table is not complete.
      percentile: 100 × rank / n; lower is better.
      regret: difference between the table's best value and the best measured one, in the metric's unit, >= 0.
      tau: Kendall's tau between the final order and the table; None where it is undefined, too.
      ordering: the final acyclic graph's order, with its weight and bound; None before the first queries are measured.
      run_card: versions, device and date.
      notices: what was recognised in the user's own files, and which of their metrics are predictions.
      warnings: what readers of the result should know: sources that were left out, and sources that rank what was
        measured almost as the target does.
      source_weights: how much each source counts in the final model, with sum 1, or 0 for all where all were left out.
        None without sources, for the head ``network``, and before the first model.
    """

    config: RankConfig
    method: ProcessConfig | ArchGraphConfig
    table: Table
    sources: tuple[str, ...]
    asked: Int[np.ndarray, " q"]
    next: Int[np.ndarray, " k"]
    order: Int[np.ndarray, " n"]
    rank: int | None
    percentile: float | None
    regret: float | None
    tau: float | None
    ordering: Ordering | None
    run_card: Mapping[str, Any]
    notices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    source_weights: Mapping[str, float] | None = None

    __repr__ = short_repr

    @property
    def best(self) -> int | None:
        """Row of the best measured architecture; None where nothing is measured."""
        import numpy as np

        if not len(self.asked):
            return None
        values = np.asarray(self.table.oriented(self.table.main.name))[self.asked]
        return int(self.asked[np.argmax(values)])

    def _value(self, row: int) -> float:
        return float(self.table.measured(self.table.main.name)[row])

    def _codes(self, rows: Sequence[int] | Int[np.ndarray, " k"]) -> Int[np.ndarray, "k d"]:
        import numpy as np

        return np.asarray(self.table.codes)[np.asarray(rows)]

    def _strings(self, rows: Sequence[int] | Int[np.ndarray, " k"]) -> list[str]:
        from ncp_jax.spaces import get_space

        return get_space(self.table.space).to_strings(self._codes(rows))

    def _described(self, rows: Sequence[int] | Int[np.ndarray, " k"]) -> list[dict[str, Any]]:
        pairs = zip(self._strings(rows), self._codes(rows), strict=True)
        return [{"architecture": text, "code": code.tolist()} for text, code in pairs]

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``rank.json``: queries, final order, scores against the table, provenance."""
        metric, config, solved, best = self.table.main, self.config, self.ordering, self.best
        asked = [
            {**row, "value": self._value(i)} for i, row in zip(self.asked, self._described(self.asked), strict=True)
        ]
        return {
            "schema": "rank/1",
            "table": self.table.name,
            "metric": {
                "name": metric.name,
                "direction": metric.direction,
                "unit": metric.unit,
                "split": metric.split,
            },
            "on_test": config.on_test,
            "sources": list(self.sources),
            **({"notices": list(self.notices)} if self.notices else {}),
            "source_budget": config.source_budget,
            "source_weights": None if self.source_weights is None else dict(self.source_weights),
            "warnings": list(self.warnings),
            "budget": config.budget,
            "queries": len(self.asked),
            "seed": config.seed,
            "best": None if best is None else {**self._described([best])[0], "value": self._value(best)},
            "rank": self.rank,
            "percentile": self.percentile,
            "regret": self.regret,
            "tau": self.tau,
            "asked": asked,
            "next": self._described(self.next),
            "order": self._described(self.order[:LISTED]),
            "solver": None
            if solved is None
            else {
                "weight": float(solved.weight),
                "upper_bound": float(solved.upper_bound),
                "gap": float(solved.gap),
                "status": solved.status,
            },
            "head": config.head,
            "search": dataclasses.asdict(self.method),
            **self.run_card,
            "hashes": dict(self.table.hashes),
        }

    def __str__(self) -> str:
        from ncp_jax.metrics import ON_TEST

        metric, size = self.table.main, len(self.table)
        sources = f"sources {', '.join(self.sources)}" if self.sources else "no sources"
        lines = [
            f"{self.table.name}, {metric.name} ({metric.direction}): "
            f"{len(self.asked)} of {size} architectures measured, {sources}, head {self.config.head}"
            + (f" ({ON_TEST})" if metric.split == "test" else "")
        ]
        if self.best is not None:
            place = "" if self.rank is None else f"  (rank {self.rank} of {size}, top {self.percentile:.3g} %)"
            value = f"{self._value(self.best):{'.12g' if metric.stored else '.6g'}}"
            lines.append(f"best measured: {self._strings([self.best])[0]}  {value}{place}")
        if self.source_weights is not None and len(self.source_weights) > 1:
            heaviest = sorted(self.source_weights.items(), key=lambda pair: -pair[1])
            lines.append("weights of the sources: " + ", ".join(f"{name} {weight:.2f}" for name, weight in heaviest))
        if self.ordering is not None:
            tau = "" if self.tau is None else f"Kendall tau of the final order {self.tau:.3f}; "
            lines.append(f"{tau}acyclic subgraph within {self.ordering.gap:.2%} of its bound")
        if len(self.next):
            lines += ["measure next:", *(f"      {text}" for text in self._strings(self.next))]
        elif self.rank is None:
            lines.append(f"nothing to measure next: the budget of {self.config.budget} is used up; raise --budget")
        if self.ordering is not None:
            top = enumerate(self._strings(self.order[:SHOWN]), 1)
            lines += ["top of the final order:", *(f"  {place:2}  {text}" for place, text in top)]
        return "\n".join([*lines, *(f"warning: {text}" for text in self.warnings)])

    def write(self, folder: Path) -> list[Path]:
        """Writes ``queries.csv``, ``next.csv``, ``rank.json`` and ``rank.png`` (each atomically); returns their paths.

        ``next.csv`` is there only where the table is not complete.
        """
        from ncp_jax.commands.rank_figure import rank_figure
        from ncp_jax.files import write_csv
        from ncp_jax.records.journal import write_json

        queries = zip(self._strings(self.asked), map(self._value, self.asked), strict=True)
        rows = [(number, text, value) for number, (text, value) in enumerate(queries, 1)]
        wanted = [] if self.rank is not None else [(text, "") for text in self._strings(self.next)]
        names, figure = ("architecture", self.table.main.name), None
        if len(self.asked):
            path = folder / "rank.png"
            figure = rank_figure(path, self.table, asked=self.asked, wanted=self.next, order=self.order)
        return [
            *([figure] if figure else []),
            *([] if self.rank is not None else [write_csv(folder / "next.csv", names, wanted)]),
            write_csv(folder / "queries.csv", ("query", "architecture", "value"), rows),
            write_json(folder / "rank.json", self.to_json()),
        ]
