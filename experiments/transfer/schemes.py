"""The schemes of transfer: what each takes from a source, and how it searches the target."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ncp_jax.benchmarks.view import QueryView
from ncp_jax.searchers import (
    ArraySearcher,
    Evolution,
    HostSearcher,
    NCPSearch,
    Reinforce,
    Searcher,
    make_searcher,
    search_on_host,
)
from ncp_jax.searchers.arch_graph import SourceTasks, source_values
from transfer.pairs import NONE, Found, Tasks
from transfer.searchers import TransferredPolicy, TransferredPopulation, TransferredPredictor
from transfer.source_runs import SourceRuns, run_batch


@dataclasses.dataclass(frozen=True)
class Scheme:
    """One way to use a source.

    Attributes:
      method: the searcher that it is compared with, from scratch.
      fields: makes the searcher's own fields of the runs with one source, leaves [r, ...]; None for a scheme that runs
        on the host.
      kind: class of the searcher; None where the source alone decides what is asked for.
      settings: settings of the searcher that differ from those from scratch.
    """

    method: str
    fields: Callable[[SourceRuns, Any, str, str], dict[str, Any]] | None = None
    kind: type[ArraySearcher] | None = None
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def _population(runs: SourceRuns, method: Evolution, target: str, source: str) -> dict[str, Any]:
    return {"first": runs.best_rows(method, target, source)[:, : int(method.population)].astype(np.int32)}


def _policy(runs: SourceRuns, method: Reinforce, target: str, source: str) -> dict[str, Any]:
    state = runs.search(method, target, source).state
    assert state is not None
    return {"learned": state.policy}


def _predictor(runs: SourceRuns, method: NCPSearch, target: str, source: str) -> dict[str, Any]:
    networks, favourites = runs.networks(method, target, source)
    return {"source": networks, "favourites": favourites}


SCRATCH = ("random", "evolution", "reinforce", "bayesian", "ncp", "arch-graph")
SCHEMES: dict[str, Scheme] = {
    "architectures": Scheme("ncp"),
    "population": Scheme("evolution", _population, TransferredPopulation),
    "policy": Scheme("reinforce", _policy, TransferredPolicy, {"rate": 0.0}),
    "tuned-policy": Scheme("reinforce", _policy, TransferredPolicy),
    "predictor": Scheme("ncp", _predictor, TransferredPredictor, {"first": 0}),
    "relations": Scheme("arch-graph"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Searches:
    """Searches of the targets of one space, from scratch and with sources.

    Attributes:
      tasks: the tasks.
      budget: number of queries of a target.
      sources: what is known about the sources; its seeds are those of the runs.
      settings: settings of each searcher that differ from its defaults.
    """

    tasks: Tasks
    budget: int
    sources: SourceRuns
    settings: Mapping[str, Mapping[str, Any]] = dataclasses.field(default_factory=dict)

    def method(self, name: str) -> Searcher:
        """Returns a searcher with the settings of this study."""
        return make_searcher(name, **self.settings.get(name, {}))

    def run(self, name: str, target: str) -> dict[str, Found]:
        """Searches a target from scratch or by a scheme, with every source in turn: source → runs."""
        if name in SCRATCH:
            return {NONE: self._scratch(name, target)}
        scheme, cases = SCHEMES[name], self.tasks.cases(target)
        method: Any = self.method(scheme.method)
        if isinstance(method, HostSearcher):
            return {source: self._on_host(method, target, self._known(target, source)) for source in cases}
        if scheme.fields is None:
            asked = {source: self.sources.best_rows(method, target, source) for source in cases}
            return {source: Found.of(rows[:, : self.budget], self._values(target)) for source, rows in asked.items()}
        # The sources of a group and all seeds are searched in one program.
        groups = self.tasks.groups(target) if scheme.kind is TransferredPredictor else (cases,)
        parts = [self._with_fields(scheme, method, target, group) for group in groups]
        return {source: found for part in parts for source, found in part.items()}

    def _with_fields(
        self, scheme: Scheme, method: ArraySearcher, target: str, cases: tuple[str, ...]
    ) -> dict[str, Found]:
        """Searches a target with some sources, whose fields have one shape."""
        assert scheme.kind is not None
        assert scheme.fields is not None
        own = [scheme.fields(self.sources, method, target, source) for source in cases]
        together = jax.tree.map(lambda *leaves: np.concatenate([np.asarray(leaf) for leaf in leaves]), *own)
        settings = {f.name: getattr(method, f.name) for f in dataclasses.fields(method)} | dict(scheme.settings)
        seeds, size = self.sources.seeds * len(cases), len(self.sources.seeds)
        found = run_batch(scheme.kind(**settings), seeds, self.sources.candidates, self._view(target), own=together)
        rows, values = np.asarray(found.rows), self._values(target)
        return {source: Found.of(rows[i * size : (i + 1) * size], values) for i, source in enumerate(cases)}

    def _scratch(self, name: str, target: str) -> Found:
        method = self.method(name)
        if isinstance(method, HostSearcher):
            return self._on_host(method, target, None)
        assert isinstance(method, ArraySearcher)
        found = run_batch(method, self.sources.seeds, self.sources.candidates, self._view(target))
        return Found.of(np.asarray(found.rows), self._values(target))

    def _on_host(self, method: HostSearcher, target: str, known: SourceTasks | None) -> Found:
        table = self.tasks.tables[target]
        found = search_on_host(method, self.sources.seeds, table, table.main.name, self._view(target), known)
        return Found.of(np.asarray(found.rows), self._values(target))

    def _known(self, target: str, source: str) -> SourceTasks:
        """What Arch-Graph knows of a source: as many random labels as the other schemes have."""
        tables = [self.tasks.tables[name] for name in self.tasks.members(target, source)]
        values = source_values(self.tasks.tables[target], tables, on_test=self.sources.on_test)
        return SourceTasks(values, self.sources.budget, number=[*self.tasks.tables].index(target))

    def _view(self, target: str) -> QueryView:
        table = self.tasks.tables[target]
        return QueryView.of(table, table.main.name, budget=self.budget, on_test=self.sources.on_test)

    def _values(self, target: str) -> np.ndarray:
        return self.tasks.values([target])[0]
