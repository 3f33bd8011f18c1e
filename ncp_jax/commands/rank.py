"""Ranks a table's architectures with Arch-Graph (``ncp.rank``, ``ncp-jax rank``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ncp_jax import checks
from ncp_jax.commands.command import FileCommand, as_config
from ncp_jax.commands.rank_config import NETWORK, PROCESS, RankConfig
from ncp_jax.commands.rank_result import RankResult
from ncp_jax.commands.user_table import is_name, known_part, read_user_table
from ncp_jax.console import ProgressBar, prepare_jax, say
from ncp_jax.jax_settings import check_devices, package_settings

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax.benchmarks import QueryGuard, Table
    from ncp_jax.ordering import Ordering
    from ncp_jax.searchers.arch_graph.process import ProcessConfig
    from ncp_jax.searchers.arch_graph.search import ArchGraphConfig, ArchGraphRuns
    from ncp_jax.searchers.arch_graph.sources import SourceTasks
    from ncp_jax.types import Bool, Float, Int

NEAR_COPY = 0.99  # rank correlation on what was measured above which a source is warned of,
LEAST_SHARED = 5  # and the fewest measured architectures that it is computed from


@package_settings
def rank(
    config: RankConfig | None = None,
    *,
    method: ProcessConfig | ArchGraphConfig | None = None,
    notify: Callable[[str], None] = say,
    **settings: Any,
) -> RankResult:
    """Ranks a table's architectures from ``budget`` queries of its metric, with other tasks as sources (Arch-Graph).

    Where some cells of a CSV file are blank, there is nothing to query: all other values are taken as measured, and the
    result says which architectures to measure next. Write their values into the file and call again. A training that
    failed has no value: remove its line.

    Examples:
      >>> import ncp_jax as ncp
      >>> result = ncp.rank(table="digits/class", budget=12, seed=0)
      >>> len(result.asked), len(result.order) == len(result.table)
      (12, True)

    Args:
      config: what to rank.
      method: settings of the head, which they name; the defaults of ``config.head`` if None.
      notify: receives one-line notices (what was recognised in a file).
      **settings: fields of ``RankConfig``, in place of ``config``.

    Raises:
      UsageError: an unknown table or metric, a budget beyond the table, a source that orders the architectures as the
        target does, or test values without ``on_test``.
      DataError: a bad file, or a source that shares no architecture with the target.
      FileNotFoundError: a file or a table that is not on this machine.
    """
    import numpy as np

    from ncp_jax.benchmarks import QueryGuard
    from ncp_jax.metrics import check_split
    from ncp_jax.records.run_card import run_card
    from ncp_jax.searchers.arch_graph.process import ProcessConfig
    from ncp_jax.searchers.arch_graph.search import ArchGraphConfig
    from ncp_jax.searchers.arch_graph.sources import SourceTasks, source_values

    config = as_config(RankConfig, config, settings)
    if method is None:
        method = ProcessConfig() if config.head == PROCESS else ArchGraphConfig()
    config = dataclasses.replace(config, head=PROCESS if isinstance(method, ProcessConfig) else NETWORK)
    if config.batch is not None:
        method = dataclasses.replace(method, batch=config.batch)
    notices: list[str] = []

    def tell(text: str) -> None:
        notices.append(text)
        notify(text)

    table = _load(config.table, config, tell)
    names = _source_names(config, table)
    complete = bool(np.isfinite(table.measured(table.main.name)).all())
    guard = QueryGuard(table, table.main.name, budget=config.budget, on_test=config.on_test) if complete else None
    check_split(table.main, on_test=config.on_test)
    loaded = [_load_source(name, config, tell) for name in names]
    known = source_values(table, loaded, on_test=config.on_test)
    search = _head(table, SourceTasks(known, config.source_budget, seed=config.seed), config, method)
    ranked = _by_blanks(table, search, config, method) if guard is None else _by_queries(guard, search, method)
    result = RankResult(
        config=config,
        method=method,
        table=table,
        sources=tuple(names),
        asked=ranked.measured.astype(np.int32),
        next=ranked.wanted,
        order=ranked.order.astype(np.int32),
        rank=None,
        percentile=None,
        regret=None,
        tau=None,
        ordering=ranked.ordering,
        run_card=run_card(),
        notices=tuple(notices),
        warnings=(
            *_left_out(names, search.used, np.isfinite(known).sum(axis=1), config.source_budget),
            *_near_copies(names, known[:, ranked.measured], ranked.paid),
        ),
        source_weights=None if ranked.weights is None else dict(zip(names, ranked.weights.tolist(), strict=True)),
    )
    return _scored(result) if complete else result


class _Ranked(NamedTuple):
    """Rows that were measured with their values, rows to measure next, all rows in order, the acyclic graph's, weights.

    The weights are those of the sources, None where the head has none or nothing is measured yet.
    """

    measured: Int[np.ndarray, " q"]
    paid: Float[np.ndarray, " q"]
    wanted: Int[np.ndarray, " w"]
    order: Int[np.ndarray, " n"]
    ordering: Ordering | None
    weights: Float[np.ndarray, " s"] | None = None


class _Head(NamedTuple):
    """What a head does: a whole search, and the next rows to measure after some measurements.

    ``used`` tells which sources it learns from.
    """

    run: Callable[[QueryGuard, Callable[[int, int], None]], ArchGraphRuns]
    next: Callable[
        [Int[np.ndarray, " q"], Float[np.ndarray, " q"], int], tuple[Int[np.ndarray, " w"], ArchGraphRuns | None]
    ]
    used: Bool[np.ndarray, " s"]

    def weights(self, found: ArchGraphRuns) -> Float[np.ndarray, " s"] | None:
        """Returns the sources' weights in the model of a run; 0 for those that were left out."""
        import numpy as np

        if found.weights is None or not len(self.used):
            return None
        return found.weights[0] if found.weights.shape[1] else np.zeros(len(self.used))


def _head(table: Table, sources: SourceTasks, config: RankConfig, method: ProcessConfig | ArchGraphConfig) -> _Head:
    """Returns the head that a method's settings are for, with what it learns from the sources."""
    import numpy as np

    from ncp_jax.searchers.arch_graph.process import ProcessConfig, ProcessSearch
    from ncp_jax.searchers.arch_graph.search import next_to_measure, run_arch_graph
    from ncp_jax.searchers.candidates import Candidates
    from ncp_jax.training.relations import RelationInputs

    if isinstance(method, ProcessConfig):
        candidates = Candidates.of(table)
        evidence = sources.smooth(candidates, (0,))
        used = np.zeros(len(sources.values), bool) if evidence is None else evidence[0].any(axis=0)
        process = ProcessSearch(candidates, evidence, method, config.seed)
        return _Head(lambda guard, progress: process.run(guard, (0,), progress), process.next, used)
    inputs = RelationInputs.of(table.space, np.asarray(table.codes))
    known, seed, network = sources.learn(inputs, (0,), method.recipe), config.seed, method

    def run(guard: QueryGuard, progress: Callable[[int, int], None]) -> ArchGraphRuns:
        return run_arch_graph(guard, inputs, sources=known, seed=seed, config=network, progress=progress)

    def after(
        asked: Int[np.ndarray, " q"], paid: Float[np.ndarray, " q"], most: int
    ) -> tuple[Int[np.ndarray, " w"], ArchGraphRuns | None]:
        return next_to_measure(inputs, asked, paid, most, sources=known, seed=seed, config=network)

    return _Head(run, after, np.ones(len(sources.values), bool))


def _by_queries(guard: QueryGuard, head: _Head, method: ProcessConfig | ArchGraphConfig) -> _Ranked:
    """Ranks a complete table from queries of it."""
    import numpy as np

    from ncp_jax.searchers.arch_graph.search import final_order

    with ProgressBar("ncp-jax: queries") as bar:
        found = head.run(guard, bar)
    order = final_order(found, trust=method.trust)
    return _Ranked(found.asked[0], found.paid[0], np.empty(0, np.int32), *order, head.weights(found))


def _by_blanks(table: Table, head: _Head, config: RankConfig, method: ProcessConfig | ArchGraphConfig) -> _Ranked:
    """Ranks a table with blank cells from all its values, and names the rows to measure next."""
    import numpy as np

    from ncp_jax.searchers.arch_graph.search import final_order

    measured = np.flatnonzero(np.isfinite(table.measured(table.main.name)))
    paid = np.asarray(table.oriented(table.main.name))[measured]
    most = max(0, min(config.budget - len(measured), config.batch or config.budget))
    wanted, found = head.next(measured, paid, most)
    if found is not None:
        order, ordering = final_order(found, trust=method.trust)
        return _Ranked(found.asked[0], found.paid[0], wanted, order, ordering, head.weights(found))
    best_first = measured[np.argsort(-paid, kind="stable")]
    order = np.concatenate([best_first, wanted, np.setdiff1d(np.arange(len(table)), [*measured, *wanted])])
    return _Ranked(measured, paid, wanted, order, None)


def _scored(result: RankResult) -> RankResult:
    """Returns a result with its scores against the whole table, which is read only now."""
    import numpy as np

    from ncp_jax.analysis.ranks import best_ranks, kendall_tau, percentiles, regret

    table, asked = result.table, result.asked[None]
    values = table.main.sign * table.measured(table.main.name)
    best = int(best_ranks(asked, values)[0, -1])
    tau = float(kendall_tau(-np.argsort(result.order)[None].astype(np.float32), values)[0])
    return dataclasses.replace(
        result,
        rank=best,
        percentile=float(percentiles(np.array(best), len(table))),
        regret=float(regret(asked, values)[0, -1]),
        tau=tau if np.isfinite(tau) else None,
    )


def _left_out(
    names: Sequence[str], used: Bool[np.ndarray, " s"], counts: Int[np.ndarray, " s"], budget: int | None
) -> tuple[str, ...]:
    """Returns a warning for each source that the head does not learn from."""
    return tuple(
        f"{name} was left out: its values cannot be predicted from its architectures, as with random numbers "
        f"({count if budget is None else min(count, budget)} measured)"
        for name, learned, count in zip(names, used, counts.tolist(), strict=True)
        if not learned
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
    if not _is_file(name):
        return _named(name, config, notify)
    if config.space is None or not (config.maximize or config.minimize):
        raise checks.UsageError(
            expected="--space and --maximize or --minimize with a CSV file",
            got="less",
            remedy="directions are never guessed",
        )
    up, down = (() if metric is None else (metric,) for metric in (config.maximize, config.minimize))
    return read_user_table(Path(name), config, maximize=up, minimize=down, notify=notify, blanks=True)


def _named(name: str, config: RankConfig, notify: Callable[[str], None]) -> Table:
    """Returns a published or imported table with the metric to rank by; a source may lack it, and has its main one."""
    from ncp_jax.benchmarks import load_table

    metric, direction = config.maximize or config.minimize, "maximize" if config.maximize else "minimize"
    whole = load_table(name)
    known = {spec.name.lower() for spec in whole.metrics}
    if metric is None or (name != config.table and metric.lower() not in known):
        return known_part(whole, (), notify=notify)
    table = known_part(whole, (metric,), notify=notify)
    if table.main.direction != direction:
        raise checks.UsageError(
            expected=f"--{table.main.direction} {table.main.name}, as {table.name} has it",
            got=f"--{direction}",
            remedy=f"give --{table.main.direction}",
        )
    return table


def _load_source(name: str, config: RankConfig, notify: Callable[[str], None]) -> Table:
    """Returns a source without the architectures that it has no value of."""
    import numpy as np

    table = _load(name, config, notify)
    known = np.isfinite(table.measured(table.main.name))
    if not known.any():
        raise checks.DataError(
            expected=f"measured architectures in {name}", got="blank cells alone", remedy="leave this source out"
        )
    return table if known.all() else table.select(known)


def _is_file(name: str) -> bool:
    return not is_name(name)


def _source_names(config: RankConfig, table: Table) -> list[str]:
    """Returns the names of the sources, each once, with "all" and "none" resolved."""
    from ncp_jax.benchmarks.catalogue import choose_table, tables_of_family

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
            names += [other for other in tables_of_family(family) if other != table.name]
        else:
            names.append(choose_table(name))
    if "all" in config.sources and not names:
        raise checks.UsageError(
            expected="--sources FILE.csv … with a CSV table", got="all", remedy="name the sources one by one"
        )
    return list(dict.fromkeys(names))


@dataclasses.dataclass(frozen=True)
class Rank(FileCommand, RankConfig):
    """Rank a table's architectures from few measurements, with other tasks as sources (Arch-Graph).

    Relations between architectures are learned. The trusted ones become an acyclic graph, whose top is measured next.

    Attributes:
      json: Print rank.json instead of the summary.
      out: Folder for rank.json, queries.csv, rank.png and, with blank cells, next.csv.
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
