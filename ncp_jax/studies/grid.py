"""The grid of a study, as a user writes it; checked before anything runs."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ncp_jax import checks
from ncp_jax.benchmarks import Table, list_tables, load_table
from ncp_jax.benchmarks.catalogue import bare_names, tables_of_family
from ncp_jax.benchmarks.view import REPEATS
from ncp_jax.console import say
from ncp_jax.files import user_path
from ncp_jax.searchers import SEARCHERS, make_searcher
from ncp_jax.spaces import SPACES
from ncp_jax.spaces.codes import ISOMORPHISM
from ncp_jax.text_tables import read_toml

SOURCES = ("none", "one", "all")
MOST_METHODS = 10_000  # combinations of settings: a few short lists make billions
MOST = 2**31 - 1  # integers on the device have 32 bits

Settings = dict[str, Any]


@dataclasses.dataclass(frozen=True)
class Grid:
    """Searchers with their settings, benchmarks, seeds and a budget: every combination is one run.

    Attributes:
      searchers: searcher → alternatives. Each alternative maps settings to a value or to a list of values; every
        combination of the listed values is one method.
      benchmarks: names of tables; the name of a family stands for all its tables.
      budget: number of queries that a run pays for. For searchers of learning curves, a query pays for as many epochs
        as a whole training has.
      seeds: number of seeds, from ``first_seed`` on.
      first_seed: the first seed.
      repeats: cost of asking for a known architecture: "free", "counted" or "free-isomorphs" (``QueryView.of``).
      same_network: rule by which two codes are the same network, one of the spaces' ``same_networks``: for repeats
        "free-isomorphs", and for the searcher "bayesian", to which codes of one network are alike.
      seconds: simulated training seconds that a run may spend; None for no limit.
      seconds_column: column of the training seconds; the only one of unit "s" if None.
      metric: column that queries read; each table's main one if None.
      judge: column by which results are scored; that of the queries if None.
      tables: the user's own CSV files: name → arguments of ``Table.from_csv``, and ``test``, the columns that were
        measured on the test split, which can score results but not be searched without ``on_test``.
      sources: source tasks of each benchmark: "none", "one" (the benchmark that follows, cyclically), "all" (all the
        other benchmarks), or names of tables, of which a benchmark's own is left out; None for a study without source
        tasks. With sources, even "none", records also score the runs' final predictions.
      source_budget: number of architectures measured on the sources, drawn anew for each seed; None for all of them.
      on_test: whether columns of the test split may be searched, and be sources. Records and report say so.
    """

    searchers: Mapping[str, Sequence[Settings]]
    benchmarks: tuple[str, ...]
    budget: int = 200
    seeds: int = 100
    first_seed: int = 0
    repeats: str = "free"
    seconds: float | None = None
    seconds_column: str | None = None
    metric: str | None = None
    judge: str | None = None
    tables: Mapping[str, Settings] = dataclasses.field(default_factory=dict)
    sources: str | tuple[str, ...] | None = None
    source_budget: int | None = None
    on_test: bool = False
    same_network: str = ISOMORPHISM

    def __post_init__(self) -> None:
        for name in ("budget", "seeds"):
            object.__setattr__(self, name, checks.integer(name, getattr(self, name), least=1, most=MOST))
        object.__setattr__(self, "first_seed", checks.integer("first_seed", self.first_seed, least=0, most=MOST))
        if self.first_seed + self.seeds > 2**31:
            raise checks.UsageError(
                expected="seeds below 2**31",
                got=f"{self.seeds} from {self.first_seed} on",
                remedy="begin lower or take fewer",
            )
        # Equal grids are equal in JSON too: one spelling, one type.
        object.__setattr__(self, "repeats", checks.choose("repeats", self.repeats, REPEATS))
        rules = dict.fromkeys(rule for space in SPACES.values() for rule in space.same_networks)
        rule = checks.choose("rule for same_network", self.same_network, list(rules))
        object.__setattr__(self, "same_network", rule)
        if self.seconds is not None:
            checks.positive("seconds", self.seconds)
            object.__setattr__(self, "seconds", float(self.seconds))
        if not isinstance(self.on_test, bool):
            raise checks.UsageError(
                expected="on_test to be true or false", got=repr(self.on_test), remedy="write on_test = true"
            )
        self._check_sources()
        if not self.searchers or not self.benchmarks:
            missing = "searcher" if not self.searchers else "benchmark"
            raise checks.UsageError(expected=f"at least one {missing}", got="none", remedy=f"add one to {missing}s")

    def _check_sources(self) -> None:
        sources = self.sources
        if isinstance(sources, str):
            object.__setattr__(self, "sources", checks.choose("sources", sources, SOURCES))
        elif sources is not None:
            if not isinstance(sources, list | tuple) or not all(isinstance(name, str) for name in sources):
                raise checks.UsageError(
                    expected=f"sources to be one of {', '.join(SOURCES)}, or a list of tables",
                    got=repr(sources),
                    remedy='write "all"',
                )
            object.__setattr__(self, "sources", tuple(sources))
        if self.source_budget is not None:
            if sources in (None, "none", (), []):
                raise checks.UsageError(
                    expected="sources with a source_budget", got="none", remedy='add sources = "all"'
                )
            object.__setattr__(self, "source_budget", checks.integer("source_budget", self.source_budget, least=2))

    def methods(self) -> dict[str, tuple[str, Settings]]:
        """Returns label → (searcher, given settings), in the grid's order.

        Raises:
          UsageError: an unknown searcher or setting, an illegal value, two methods that are the same.
        """
        found: dict[str, tuple[str, Settings]] = {}
        seen: dict[tuple[str, str], str] = {}
        for given, alternatives in self.searchers.items():
            name = checks.choose("searcher", given, SEARCHERS)
            if getattr(SEARCHERS[name], "needs_sources", False) and self.sources in (None, "none", ()):
                raise checks.UsageError(
                    expected=f"sources in a grid with {name}", got="none", remedy='add sources = "all"'
                )
            choices = [_combinations(settings) for settings in alternatives]
            every = list(itertools.chain.from_iterable(choices))
            varied = [key for key in _keys(every) if len({repr(s.get(key)) for s in every}) > 1]
            for settings in every:
                label = " ".join([name, *(f"{key}={settings[key]}" for key in varied if key in settings)])
                same = (name, repr(make_searcher(name, **settings).settings()))
                if label in found or same in seen:
                    twin = seen.get(same, label)
                    raise checks.UsageError(
                        expected="methods that differ", got=f"{label!r}, the same as {twin!r}", remedy="drop one"
                    )
                found[label], seen[same] = (name, settings), label
        return found

    def load(self, notify: Callable[[str], None] = say) -> dict[str, Table]:
        """Returns benchmark → table, each once, under its full name.

        Args:
          notify: receives one-line notices about the user's own files.

        Raises:
          UsageError: an unknown table (the text lists the nearest names).
          DataError: a damaged CSV file.
          FileNotFoundError: a table that is not on this machine.
        """
        names = dict.fromkeys(itertools.chain.from_iterable(_expand(name, self.tables) for name in self.benchmarks))
        return {
            name: _from_csv(name, dict(self.tables[name]), notify) if name in self.tables else self._published(name)
            for name in names
        }

    def _published(self, name: str) -> Table:
        """Returns a published or imported table, without architectures that have no value of the metric."""
        table = load_table(name)
        return table.known([self.metric or table.only_main().name, *([self.judge] if self.judge else [])])

    def to_json(self) -> dict[str, Any]:
        """The fields, JSON-ready; those about sources only in a study with source tasks, some others only where set."""
        fields = dataclasses.asdict(self)
        if not self.on_test:
            del fields["on_test"]
        if self.same_network == ISOMORPHISM:
            del fields["same_network"]
        if self.sources is None:
            del fields["sources"], fields["source_budget"]
        elif not isinstance(self.sources, str):
            fields["sources"] = list(self.sources)
        return fields | {
            "searchers": {name: [dict(s) for s in alternatives] for name, alternatives in self.searchers.items()},
            "benchmarks": list(self.benchmarks),
            "tables": {name: dict(table) for name, table in self.tables.items()},
        }


def read_grid(path: str | Path) -> Grid:
    """Reads a grid from a TOML file; its keys are the fields of ``Grid``.

    A searcher is a table ``[searchers.evolution]`` of settings, each a value or a list of values; several alternatives
    are an array of tables, ``[[searchers.evolution]]``. The user's own tables are ``[tables.NAME]`` with ``path``,
    ``space``, ``maximize``, ``minimize``, ``architecture``, ``seeds``, ``notation``, ``test``.

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is not TOML. It is UTF-8 by that standard; UTF-16 and Latin-1 are read, too.
      UsageError: an unknown key, searcher or setting, or an illegal value.
    """
    content = read_toml(path, kind="a grid", remedy="see docs/studies.md")
    return grid_of(content, user_path(path).parent)


def grid_of(content: Mapping[str, Any], folder: Path | None = None) -> Grid:
    """Makes a grid from the content of a TOML file; paths in it are relative to ``folder``."""
    fields = [f.name for f in dataclasses.fields(Grid)]
    given = {checks.choose("key of a grid", key, fields): value for key, value in content.items()}
    for key in ("searchers", "benchmarks"):
        if key not in given:
            raise checks.UsageError(expected=f"{key} in the grid", got="none", remedy="see docs/studies.md")
    searchers = given["searchers"]
    if not isinstance(searchers, Mapping):
        raise checks.UsageError(
            expected="a table for each searcher", got=repr(searchers), remedy="write [searchers.evolution]"
        )
    alternatives = {name: list(s) if isinstance(s, list) else [s] for name, s in searchers.items()}
    for name, settings in alternatives.items():
        if not settings or not all(isinstance(s, Mapping) for s in settings):
            raise checks.UsageError(
                expected=f"a table of settings for {name}",
                got=repr(searchers[name]),
                remedy=f"write [searchers.{name}]",
            )
    benchmarks = given["benchmarks"]
    if not isinstance(benchmarks, list) or not all(isinstance(b, str) for b in benchmarks):
        raise checks.UsageError(expected="a list of benchmarks", got=repr(benchmarks), remedy='write ["nas-bench-201"]')
    tables = _own_tables(given.get("tables", {}), folder)
    return Grid(**{**given, "searchers": alternatives, "benchmarks": tuple(benchmarks), "tables": tables})


def _own_tables(tables: Any, folder: Path | None) -> dict[str, Settings]:
    """The user's own tables, with paths relative to the current folder."""
    if not isinstance(tables, Mapping) or not all(isinstance(table, Mapping) for table in tables.values()):
        raise checks.UsageError(expected="a table for each of tables", got=repr(tables), remedy="write [tables.NAME]")
    found = {name: dict(table) for name, table in tables.items()}
    for name, table in found.items():
        for key in ("path", "space", "seeds", "notation"):
            if not isinstance(table.get(key, ""), str):
                raise checks.UsageError(
                    expected=f"text for {key} of table {name}", got=repr(table[key]), remedy="write it in quotes"
                )
        if folder is not None and "path" in table:
            table["path"] = str(folder / user_path(table["path"]))
        if folder is not None and table.get("space", "").lower().endswith(".toml"):
            table["space"] = str(folder / user_path(table["space"]))
    return found


def _combinations(settings: Settings) -> list[Settings]:
    """Every combination of the listed values."""
    lists = [value if isinstance(value, list) else [value] for value in settings.values()]
    for key, values in zip(settings, lists, strict=True):
        if not values:
            raise checks.UsageError(
                expected=f"a value for {key}", got="an empty list", remedy="list one or drop the key"
            )
    count = math.prod(map(len, lists))
    if count > MOST_METHODS:
        raise checks.UsageError(
            expected=f"at most {MOST_METHODS} combinations of settings", got=f"{count}", remedy="list fewer values"
        )
    return [dict(zip(settings, values, strict=True)) for values in itertools.product(*lists)]


def _keys(settings: Sequence[Settings]) -> list[str]:
    return list(dict.fromkeys(itertools.chain.from_iterable(settings)))


def _expand(name: str, own: Mapping[str, Settings]) -> list[str]:
    """The tables of a family, or the one table of that name."""
    published = list_tables()
    families = dict.fromkeys(table.partition("/")[0] for table in published)
    chosen = name if name in own else checks.choose("benchmark", name, (*families, *published, *bare_names(), *own))
    if chosen in own:
        return [chosen]
    if chosen in families:
        return list(tables_of_family(chosen))
    return [bare_names().get(chosen, chosen)]


def _from_csv(name: str, arguments: Settings, notify: Callable[[str], None]) -> Table:
    legal = ("path", "space", "maximize", "minimize", "architecture", "seeds", "notation", "test")
    given = {checks.choose(f"key of table {name}", key, legal): value for key, value in arguments.items()}
    for key in ("path", "space"):
        if key not in given:
            raise checks.UsageError(expected=f"{key} of table {name}", got="none", remedy=f"add it to [tables.{name}]")
    if given.get("seeds") == "each":
        raise checks.UsageError(
            expected=f'seeds of table {name} to be "refuse" or "mean"',
            got="'each'",
            remedy="a query of a study reads one value of an architecture",
        )
    if isinstance(given.get("architecture"), str):
        given["architecture"] = [given["architecture"]]
    for key in ("maximize", "minimize", "test", "architecture"):
        columns = given.get(key, [])
        if not isinstance(columns, list | tuple) or not all(isinstance(column, str) for column in columns):
            raise checks.UsageError(
                expected=f"a list of columns for {key} of table {name}",
                got=repr(columns),
                remedy=f'write {key} = ["NAME"]',
            )
    tested = given.pop("test", ())
    table = Table.from_csv(given.pop("path"), **given, notify=notify)
    tested = {table.metric(column).name for column in tested}
    # The task is the name too: what the file is called does not matter to a study.
    metrics = (dataclasses.replace(m, task=name, split="test" if m.name in tested else m.split) for m in table.metrics)
    return dataclasses.replace(table, name=name, metrics=tuple(metrics))
