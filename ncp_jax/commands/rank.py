"""Ranks a table's architectures with Arch-Graph (``ncp.rank``, ``ncp-jax rank``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncp_jax import checks
from ncp_jax.commands.command import FileCommand, as_config
from ncp_jax.commands.user_table import read_user_table
from ncp_jax.console import ProgressBar, prepare_jax, say
from ncp_jax.jax_settings import check_devices, package_settings

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax.benchmarks import Table
    from ncp_jax.ordering import Ordering
    from ncp_jax.searchers.arch_graph.search import ArchGraphConfig
    from ncp_jax.types import Float, Int

SHOWN = 10
NEAR_COPY = 0.99  # rank correlation on what was measured above which a source is warned of,
LEAST_SHARED = 5  # and the fewest measured architectures that it is computed from
LISTED = 1000  # architectures of the final order that the JSON lists


@dataclasses.dataclass(frozen=True)
class RankConfig:
    """What to rank, and from which measurements.

    Attributes:
      table: Table (transnas-micro/jigsaw, see `ncp-jax data list`) or CSV file of the target task. Each query reads one
        of its values.
      sources: Table or CSV file of another task; "all" for the benchmark's other tasks, or "none". May be repeated.
      source_budget: Number of measurements used of each source; by default all.
      space: Space of the CSV files.
      architecture: Column of the architectures in the CSV files; by default the one called architecture, else the
        first. May be repeated for one column per position of the code; * and ? are wildcards: x*.
      seeds: Lines of a CSV file that repeat an architecture with other values: refuse, or mean (one row with their
        mean).
      notation: How architectures in the CSV files are written, where they are no strings: ncp-jax, ops (names of
        operations); in nas-bench-201 also naslib or nats-index. Needed for names, and for integers in nas-bench-201.
      maximize: Metric of the CSV files, higher is better.
      minimize: Metric of the CSV files, lower is better.
      budget: Number of architectures measured on the table.
      seed: Random seed of the search.
      on_test: Allow test values (NAS-Bench-201) to be queried, or to be sources; the result says so.
    """

    table: str
    sources: tuple[str, ...] = ()
    source_budget: int | None = None
    space: str | None = None
    architecture: tuple[str, ...] = ()
    seeds: str = "refuse"
    notation: str | None = None
    maximize: str | None = None
    minimize: str | None = None
    budget: int = 50
    seed: int = 0
    on_test: bool = False

    def __post_init__(self) -> None:
        checks.integer("--budget", self.budget, least=2, remedy="relations need pairs")
        checks.integer("--seed", self.seed, least=0, most=2**32 - 1, remedy="try --seed 0")
        checks.choose("rule for --seeds", self.seeds, ("refuse", "mean"))
        if self.source_budget is not None and set(self.sources) <= {"none"}:
            raise checks.UsageError(expected="--sources with --source-budget", got="none", remedy="name some, or all")
        if self.maximize and self.minimize:
            raise checks.UsageError(
                expected="one of --maximize and --minimize", got="both", remedy="a ranking has one metric"
            )


@dataclasses.dataclass(frozen=True, eq=False)
class RankResult:
    """A table's architectures, ranked from few measurements.

    Attributes:
      config: what was ranked.
      method: settings of Arch-Graph.
      table: target table of n architectures.
      sources: names of the source tables.
      asked: ``[q]`` int32, rows of the table that were measured, in the order of asking.
      order: ``[n]`` int32, all rows of the table in the final order, best first.
      rank: rank of the best measured architecture in the table, 1 for the best.
      percentile: 100 × rank / n; lower is better.
      regret: difference between the table's best value and the best measured one, in the metric's unit, >= 0.
      tau: Kendall's tau between the final order and the table; None where it is undefined.
      ordering: the final acyclic graph's order, with its weight and bound.
      run_card: versions, device and date.
      notices: what was recognised in the user's own files, and which of their metrics are predictions.
      warnings: what readers of the result should know: sources that rank what was measured almost as the target does.
    """

    config: RankConfig
    method: ArchGraphConfig
    table: Table
    sources: tuple[str, ...]
    asked: Int[np.ndarray, " q"]
    order: Int[np.ndarray, " n"]
    rank: int
    percentile: float
    regret: float
    tau: float | None
    ordering: Ordering
    run_card: Mapping[str, Any]
    notices: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    @property
    def best(self) -> int:
        """Row of the best measured architecture."""
        import numpy as np

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
        metric, config, solved = self.table.main, self.config, self.ordering
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
            "warnings": list(self.warnings),
            "budget": config.budget,
            "queries": len(self.asked),
            "seed": config.seed,
            "best": {**self._described([self.best])[0], "value": self._value(self.best)},
            "rank": self.rank,
            "percentile": self.percentile,
            "regret": self.regret,
            "tau": self.tau,
            "asked": asked,
            "order": self._described(self.order[:LISTED]),
            "solver": {
                "weight": float(solved.weight),
                "upper_bound": float(solved.upper_bound),
                "gap": float(solved.gap),
                "status": solved.status,
            },
            "search": dataclasses.asdict(self.method),
            **self.run_card,
            "hashes": dict(self.table.hashes),
        }

    def __str__(self) -> str:
        from ncp_jax.metrics import ON_TEST

        metric, size = self.table.main, len(self.table)
        sources = f"sources {', '.join(self.sources)}" if self.sources else "no sources"
        best, *top = self._strings([self.best, *self.order[:SHOWN]])
        tau = "" if self.tau is None else f"Kendall tau of the final order {self.tau:.3f}; "
        lines = [
            f"{self.table.name}, {metric.name} ({metric.direction}): "
            f"{len(self.asked)} of {size} architectures measured, {sources}"
            + (f" ({ON_TEST})" if metric.split == "test" else ""),
            f"best measured: {best}  {self._value(self.best):{'.12g' if metric.stored else '.6g'}}  "
            f"(rank {self.rank} of {size}, top {self.percentile:.3g} %)",
            f"{tau}acyclic subgraph within {self.ordering.gap:.2%} of its bound",
            "top of the final order:",
            *(f"  {place:2}  {text}" for place, text in enumerate(top, 1)),
            *(f"warning: {text}" for text in self.warnings),
        ]
        return "\n".join(lines)

    def write(self, folder: Path) -> list[Path]:
        """Writes ``queries.csv`` and ``rank.json`` (each atomically) and returns their paths."""
        from ncp_jax.files import write_csv
        from ncp_jax.records.journal import write_json

        queries = zip(self._strings(self.asked), map(self._value, self.asked), strict=True)
        rows = [(number, text, value) for number, (text, value) in enumerate(queries, 1)]
        return [
            write_csv(folder / "queries.csv", ("query", "architecture", "value"), rows),
            write_json(folder / "rank.json", self.to_json()),
        ]


@package_settings
def rank(
    config: RankConfig | None = None,
    *,
    method: ArchGraphConfig | None = None,
    notify: Callable[[str], None] = say,
    **settings: Any,
) -> RankResult:
    """Ranks a table's architectures from ``budget`` queries of its metric, with other tasks as sources (Arch-Graph).

    Examples:
      >>> import ncp_jax as ncp
      >>> result = ncp.rank(table="digits/class", budget=12, seed=0)
      >>> len(result.asked), len(result.order) == len(result.table)
      (12, True)

    Args:
      config: what to rank.
      method: settings of Arch-Graph; its defaults if None.
      notify: receives one-line notices (what was recognised in a file).
      **settings: fields of ``RankConfig``, in place of ``config``.

    Raises:
      UsageError: an unknown table or metric, a budget beyond the table, a source that orders the architectures as the
        target does, or test values without ``on_test``.
      DataError: a bad file, or a source that shares no architecture with the target.
      FileNotFoundError: a file or a table that is not on this machine.
    """
    import numpy as np

    from ncp_jax.analysis.ranks import best_ranks, kendall_tau, percentiles, regret
    from ncp_jax.benchmarks import QueryGuard
    from ncp_jax.records.run_card import run_card
    from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, final_order, run_arch_graph
    from ncp_jax.searchers.arch_graph.sources import SourceTasks, source_values
    from ncp_jax.training.relations import RelationInputs

    config, method = as_config(RankConfig, config, settings), method or ArchGraphConfig()
    notices: list[str] = []

    def tell(text: str) -> None:
        notices.append(text)
        notify(text)

    table = _load(config.table, config, tell)
    names = _source_names(config, table)
    guard = QueryGuard(table, table.main.name, budget=config.budget, on_test=config.on_test)
    known = source_values(table, [_load(name, config, tell) for name in names], on_test=config.on_test)
    inputs = RelationInputs.of(table.space, np.asarray(table.codes))
    sources = SourceTasks(known, config.source_budget, seed=config.seed).learn(inputs, (0,), method.recipe)
    with ProgressBar("ncp-jax: queries") as bar:
        found = run_arch_graph(guard, inputs, sources=sources, seed=config.seed, config=method, progress=bar)
    order, ordering = final_order(found, trust=method.trust)
    # The whole table is read only now, to score what the search found.
    values, asked = table.main.sign * table.measured(table.main.name), found.asked
    best = int(best_ranks(asked, values)[0, -1])
    tau = float(kendall_tau(-np.argsort(order)[None].astype(np.float32), values)[0])
    return RankResult(
        config=config,
        method=method,
        table=table,
        sources=tuple(names),
        asked=asked[0],
        order=order,
        rank=best,
        percentile=float(percentiles(np.array(best), len(table))),
        regret=float(regret(asked, values)[0, -1]),
        tau=tau if np.isfinite(tau) else None,
        ordering=ordering,
        run_card=run_card(),
        notices=tuple(notices),
        warnings=_near_copies(names, known[:, asked[0]], found.paid[0]),
    )


def _near_copies(
    names: Sequence[str], known: Float[np.ndarray, "s q"], paid: Float[np.ndarray, " q"]
) -> tuple[str, ...]:
    """Returns a warning for each source that ranks the measured architectures almost as the target does."""
    import numpy as np
    from scipy.stats import spearmanr

    warnings = []
    for name, values in zip(names, known, strict=True):
        both = np.isfinite(values)
        if both.sum() < LEAST_SHARED or min(np.ptp(values[both]), np.ptp(paid[both])) == 0:
            continue
        correlation = float(spearmanr(values[both], paid[both]).statistic)
        if abs(correlation) > NEAR_COPY:
            warnings.append(
                f"{name} ranks the measured architectures almost as the target does (rank correlation "
                f"{correlation:.4f} over {int(both.sum())}): is it another task?"
            )
    return tuple(warnings)


def _load(name: str, config: RankConfig, notify: Callable[[str], None]) -> Table:
    from ncp_jax.benchmarks import load_table

    if not _is_file(name):
        return load_table(name)
    if config.space is None or not (config.maximize or config.minimize):
        raise checks.UsageError(
            expected="--space and --maximize or --minimize with a CSV file",
            got="less",
            remedy="directions are never guessed",
        )
    up, down = (() if metric is None else (metric,) for metric in (config.maximize, config.minimize))
    return read_user_table(Path(name), config, maximize=up, minimize=down, notify=notify)


def _is_file(name: str) -> bool:
    """Whether a name means a file: those of published tables have no ending."""
    return bool(Path(name).suffix)


def _source_names(config: RankConfig, table: Table) -> list[str]:
    """Returns the names of the sources, each once, with "all" and "none" resolved."""
    from ncp_jax.benchmarks import list_tables
    from ncp_jax.benchmarks.catalogue import choose_table

    if "none" in config.sources and len(config.sources) > 1:
        raise checks.UsageError(expected="--sources none alone", got="more of them", remedy="drop none")
    names: list[str] = []
    for name in config.sources:
        if name == "none":
            continue
        if _is_file(name):
            names.append(name)
        elif name == "all":
            family = table.name.partition("/")[0]
            names += [t for t in list_tables() if t.startswith(f"{family}/") and t != table.name]
        else:
            names.append(choose_table(name))
    if "all" in config.sources and not names:
        raise checks.UsageError(
            expected="--sources FILE.csv … with a CSV table", got="all", remedy="name the sources one by one"
        )
    return [n for n in dict.fromkeys(names) if not n.endswith("-ncp") or n in config.sources]


@dataclasses.dataclass(frozen=True)
class Rank(FileCommand, RankConfig):
    """Rank a table's architectures from few measurements, with other tasks as sources (Arch-Graph).

    Relations between architectures are learned. The trusted ones become an acyclic graph, whose top is measured next.

    Attributes:
      json: Print rank.json instead of the summary.
      out: Folder for rank.json and queries.csv.
    """

    def run(self) -> None:
        """Runs the search, prints what it found and writes it where asked."""
        from ncp_jax.files import make_folder

        prepare_jax()
        check_devices()
        config = self.config(RankConfig)
        if self.out is not None:
            make_folder(self.out)
        self.show_and_write(rank(config, notify=say))
