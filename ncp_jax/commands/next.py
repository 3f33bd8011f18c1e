"""Says what to train next, from a table of what was trained (``ncp.suggest_next``, ``ncp-jax next``)."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncp_jax import checks
from ncp_jax.commands.command import JsonCommand, as_config, notify_written
from ncp_jax.commands.user_table import is_name, known_part
from ncp_jax.console import format_table, prepare_jax, say
from ncp_jax.jax_settings import check_devices, package_settings

if TYPE_CHECKING:
    from ncp_jax.benchmarks import Table
    from ncp_jax.benchmarks.training_log import TrainingLog
    from ncp_jax.searchers.open_ended import Observation, Suggestion


@dataclasses.dataclass(frozen=True)
class NextConfig:
    """What was trained, and what is wanted.

    Attributes:
      space: Space of the architectures: nas-bench-mr, nas-bench-201, transnas-micro, transnas-macro, nats-size, or a
        file that describes one (space.toml).
      table: CSV file of what was trained: a column of architectures, or one for each position, and metrics. A blank
        metric is a training without a result yet, "failed" or "nan" one that failed. Without a file, nothing has been
        trained.
      maximize: Metric to raise. May be repeated.
      minimize: Metric to lower. May be repeated.
      limit: Limit on a metric of the table or a cost of the space, NAME<=NUMBER (or >=, <, >; quote it): params<3e6,
        latency_ms<=20. Exact where the cost is known, else predicted. May be repeated.
      limit_confidence: Probability with which an architecture shall satisfy a limit on a metric of the table.
      source: CSV file or published table of another task in the same space, which is learned first. May be repeated.
      count: Number of architectures to train next.
      searcher: How they are chosen: ncp (a Gaussian process, whose acquisition is inverted), bayesian (the same, over
        random architectures), neural-ensemble, arch-graph, reinforce, evolution, local-search or random.
      initial: Number of architectures that are spread over the space before a model is used.
      architecture: Column of the architectures in the CSV files; by default the one called architecture, else the
        first. May be repeated for one column per position of the code; * and ? are wildcards: x*.
      notation: How architectures in the CSV files are written, where they are no strings: ncp-jax, ops (names of
        operations); in nas-bench-201 also naslib or nats-index.
      seed: Random seed.
    """

    space: str
    table: Path | None = None
    maximize: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    limit_confidence: float = 0.5
    source: tuple[str, ...] = ()
    count: int = 8
    searcher: str = "ncp"
    initial: int = 10
    architecture: tuple[str, ...] = ()
    notation: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer("--count", self.count, least=1, most=10_000, remedy="try --count 8")
        if not self.maximize and not self.minimize:
            raise checks.UsageError(
                expected="--maximize or --minimize with a metric",
                got="neither",
                remedy="directions are never guessed",
            )


@dataclasses.dataclass(frozen=True, eq=False)
class NextResult:
    """What to train next.

    Attributes:
      config: what was asked.
      suggestions: the architectures, the first ones first.
      front: measured architectures that no other one dominates, best in the first metric first.
      log: the table that was read.
      run_card: versions, device and date.
    """

    config: NextConfig
    suggestions: tuple[Suggestion, ...]
    front: tuple[Observation, ...]
    log: TrainingLog
    run_card: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Returns the JSON of ``ncp-jax next --json``."""
        config = dataclasses.asdict(self.config)
        config["table"] = None if self.config.table is None else str(self.config.table)
        return {
            "schema": "next/1",
            "config": config,
            "trained": {
                "measured": int(self.log.measured.sum()),
                "failed": int(self.log.failed.sum()),
                "waiting": int(self.log.waiting.sum()),
            },
            "best": [dataclasses.asdict(row) for row in self.front],
            "next": [suggestion.to_json() for suggestion in self.suggestions],
            **self.run_card,
        }

    def __str__(self) -> str:
        log, metrics = self.log, (*self.config.maximize, *self.config.minimize)
        counts = [f"{int(log.measured.sum())} measured"]
        counts += [f"{int(log.failed.sum())} failed"] if log.failed.any() else []
        counts += [f"{int(log.waiting.sum())} without a result yet"] if log.waiting.any() else []
        lines = [f"{self.config.table or 'nothing trained yet'}: {', '.join(counts)}"]
        for row in self.front[:5]:
            known = ", ".join(f"{name} {row.values[name]:.6g}" for name in metrics)
            lines.append(f"best so far: {known}  {row.architecture}")
        names = list(self.suggestions[0].predicted) if self.suggestions else []
        rows = [["train next", *(f"{name} (predicted)" for name in names), "edits", "why"]]
        for item in self.suggestions:
            values = [f"{item.predicted[name]:.5g} ± {item.spread[name]:.2g}" for name in names]
            distance = "" if item.distance is None else str(item.distance)
            rows.append([item.architecture, *values, distance, item.why])
        if not self.suggestions:
            lines.append("no further architecture within the limits was found")
            return "\n".join(lines)
        if names:
            lines.append(
                "± is the standard deviation of the prediction; edits: positions that differ from the nearest measured"
            )
        return "\n".join([*lines, format_table(rows, "<" + ">" * len(names) + "><")])

    def write(self, path: Path) -> Path:
        """Writes the architectures with the table's columns, their metrics blank."""
        import numpy as np

        from ncp_jax.benchmarks.training_log import architecture_cells
        from ncp_jax.spaces import get_space

        space = get_space(self.config.space)
        codes = [np.array(item.code, np.int32) for item in self.suggestions]
        return self.log.write(path, [architecture_cells(space, self.log.columns, code) for code in codes])


@package_settings
def suggest_next(
    config: NextConfig | None = None, *, notify: Callable[[str], None] = say, **settings: Any
) -> NextResult:
    """Says which architectures to train next, from a table of what was trained.

    The table is the state: train what is suggested, append the results, and call again.

    Examples:
      >>> import ncp_jax as ncp
      >>> first = ncp.suggest_next(space="nas-bench-201", maximize=("accuracy",), count=2)
      >>> [item.why for item in first.suggestions]
      ['spread out', 'spread out']

    Args:
      config: what was trained, and what is wanted.
      notify: receives one-line notices.
      **settings: fields of ``NextConfig``, in place of ``config``.

    Raises:
      UsageError: an unknown space, metric or searcher; a limit that nothing satisfies.
      DataError: a bad table; names the line.
      FileNotFoundError: a file does not exist.
    """
    import numpy as np

    from ncp_jax.benchmarks.training_log import empty_log, read_training_log
    from ncp_jax.records.run_card import run_card
    from ncp_jax.searchers.open_ended import OpenSession
    from ncp_jax.spaces import get_space

    config = as_config(NextConfig, config, settings)
    space = get_space(config.space)
    session = OpenSession(
        space,
        maximize=config.maximize,
        minimize=config.minimize,
        limits=config.limit,
        confidence=config.limit_confidence,
        searcher=config.searcher,
        initial=config.initial,
        seed=config.seed,
        sources=[_source(name, config, notify) for name in config.source],
    )
    metrics = session.goals.metrics
    log = empty_log(space, metrics)
    if config.table is not None:
        log = read_training_log(
            config.table,
            space=space,
            metrics=metrics,
            architecture=config.architecture or None,
            notation=config.notation,
        )
    done = log.measured | log.failed
    values = {name: np.where(log.failed[done], np.nan, log.values[done, place]) for place, name in enumerate(metrics)}
    session.resume(log.codes[done], values, pending=log.codes[log.waiting], asked=len(log.codes))
    return NextResult(config, tuple(session.suggest(config.count)), tuple(session.front), log, run_card())


def _source(name: str, config: NextConfig, notify: Callable[[str], None]) -> Table:
    from ncp_jax.benchmarks import Table, load_table

    if is_name(name):
        return known_part(load_table(name), (), notify=notify)
    return Table.from_csv(
        name,
        space=config.space,
        maximize=config.maximize[:1],
        minimize=() if config.maximize else config.minimize[:1],
        architecture=config.architecture or None,
        notation=config.notation,
        notify=notify,
    )


@dataclasses.dataclass(frozen=True)
class Next(JsonCommand, NextConfig):
    """Say what to train next, from a table of what was trained: append the results and run it again.

    Attributes:
      json: Print JSON instead of text.
      out: CSV file for the architectures to train, with the table's columns and blank metrics.
    """

    out: Path | None = None

    def run(self) -> None:
        """Reads the table, prints what to train next and writes it where asked."""
        prepare_jax()
        check_devices()
        result = suggest_next(self.config(NextConfig), notify=say)
        self.show(result.to_json, lambda: str(result))
        if self.out is not None:
            notify_written([result.write(self.out)])
