"""The cells of ncp_cross_task.py: what is run, one record each, and the results of all of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from harness.tables import is_here, joint_table, or_digits

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.benchmarks.table import tasks_of
from ncp_jax.records.journal import Record, Records
from ncp_jax.searchers import NCPSearch, make_searcher
from ncp_jax.training import get_recipe
from transfer.cross_config import Config
from transfer.cross_matrix import judged_matrix, measured_matrix
from transfer.cross_study import matrix_json, summarise
from transfer.gains import similarities
from transfer.labels import SCHEMES, Inversions
from transfer.pairs import NONE, Found, Tasks
from transfer.scheme_study import SMALL, load_spaces
from transfer.source_networks import COMPLETE, SourceNetworks
from transfer.source_runs import SourceRuns

BLOCK = 20  # seeds that are computed together
JUDGED = "nas-bench-mr"
MEASURED = ("micro", "macro", "nas-bench-201", "digits")
LABELS = (10, 500)  # fewest and most labels of a target


@dataclasses.dataclass(frozen=True, eq=False)
class Cells:
    """What one call of the experiment runs.

    Attributes:
      config: the options, as the small version has them with ``smoke``.
      spaces: the tasks of each space with complete tables.
      joint: all tasks of NAS-Bench-MR; None where it is not asked for.
    """

    config: Config
    spaces: dict[str, Tasks]
    joint: Table | None
    _networks: dict[str, SourceNetworks] = dataclasses.field(default_factory=dict)
    _inversions: dict[tuple[str, int, int], Inversions] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, config: Config) -> Cells:
        """Checks the options and loads the tables.

        Raises:
          UsageError: an unknown space or task, a source that is a target, or numbers that are out of range.
          FileNotFoundError: tables that are not on this machine.
        """
        labels = tuple(checks.integer("--labels", n, least=LABELS[0], most=LABELS[1]) for n in config.labels)
        if not labels:
            raise checks.UsageError(expected="numbers of labels", got="none", remedy="try --labels 10 50 200")
        for name, least in (
            ("source_budget", 10),
            ("ensembles", 1),
            ("members", 1),
            ("codes", 1),
        ):
            checks.integer(f"--{name.replace('_', '-')}", getattr(config, name), least=least, remedy="take more")
        if config.source_labels != COMPLETE:
            checks.integer("--source-labels", config.source_labels, least=10, remedy="take more, or 0 for all")
        names = _space_names(config)
        measured = [name for name in names if name != JUDGED]
        spaces = {}
        if measured:
            spaces = load_spaces(measured, config.targets, config.sources, on_test=config.on_test, smoke=config.smoke)
        elif config.targets or config.sources:
            raise checks.UsageError(
                expected=f"targets and sources of a space with complete tables ({', '.join(MEASURED)})",
                got=f"those of {JUDGED} alone, where every task is both",
                remedy="leave --targets and --sources out",
            )
        joint = joint_table() if JUDGED in names else None
        small: dict[str, Any] = {"labels": tuple(sorted(set(labels)))}
        if config.smoke:
            small = {"labels": (10, 20), "source_budget": 12, "source_labels": 12, "seeds": 2, "ensembles": 1}
            small |= {"members": 1, "codes": 16}
        for tasks in spaces.values() if not config.smoke else ():
            checks.integer("--source-budget", config.source_budget, least=10, most=tasks.size)
            checks.integer("--source-labels", config.source_labels, least=0, most=tasks.size)
        return cls(dataclasses.replace(config, **small), spaces, joint)

    def hashes(self) -> dict[str, Any]:
        """Returns the hashes of the tables."""
        found: dict[str, Any] = {
            space: {name: table.content_hash() for name, table in tasks.tables.items()}
            for space, tasks in self.spaces.items()
        }
        return found if self.joint is None else found | {JUDGED: self.joint.content_hash()}

    def every(self) -> list[Record]:
        """Returns every cell, in the order of running."""
        labels = self.config.labels
        cells: list[Record] = []
        for first in range(0, self.config.seeds, BLOCK):
            seeds = [first, min(first + BLOCK, self.config.seeds)]
            cells += [{"part": "matrix", "space": space, "seeds": seeds} for space in self.spaces]
            cells += [
                {"part": "inversions", "space": space, "scheme": s, "target": t, "labels": n, "seeds": seeds}
                for n in labels
                for space, tasks in self.spaces.items()
                for s in SCHEMES
                for t in tasks.targets
            ]
        judged = range(self.config.ensembles if self.joint is not None else 0)
        return cells + [{"part": "judged", "space": JUDGED, "seed": seed} for seed in judged]

    def run(self, cell: Record) -> Record:
        """Returns the results of one cell, JSON-ready."""
        config = self.config
        if cell["part"] == "judged":
            assert self.joint is not None
            recipe = dataclasses.replace(get_recipe("ensemble"), decay_rows=0)
            if config.smoke:
                recipe = dataclasses.replace(recipe, widths=(8, 8), epochs=2, min_steps=0)
            sizes = {"members": config.members, "codes": config.codes, "steps": 2 if config.smoke else 70}
            return judged_matrix(self.joint, cell["seed"], recipe=recipe, **sizes)
        inversions = self._inverted(cell["space"], *cell["seeds"])
        if cell["part"] == "matrix":
            return measured_matrix(inversions.sources, inversions.method)
        return dict(inversions.run(cell["scheme"], cell["target"], cell["labels"]))

    def _inverted(self, space: str, first: int, last: int) -> Inversions:
        """The inversions in a space with some seeds, made when they are first asked for."""
        config, tasks, place = self.config, self.spaces[space], (space, first, last)
        if space not in self._networks:
            self._networks[space] = SourceNetworks(tasks, config.source_labels)
        if place not in self._inversions:
            sources = SourceRuns(tasks, config.source_budget, tuple(range(first, last)), config.on_test)
            method = make_searcher("ncp", **(SMALL["ncp"] if config.smoke else {}))
            assert isinstance(method, NCPSearch)
            self._inversions[place] = Inversions(sources, self._networks[space], method)
        return self._inversions[place]

    def summary(self, records: Records) -> dict[str, Any]:
        """Returns "matrix" and "transfer" by space, JSON-ready."""
        done = records.of(self.every())
        matrices, transfer = {}, {}
        for space, tasks in self.spaces.items():
            parts = _results(done, space, part="matrix")
            matrices[space] = matrix_json(
                {a: {b: [v for p in parts for v in p[a][b]] for b in tasks.tables} for a in tasks.tables}
            )
            runs = {scheme: {t: self._found(done, space, scheme, t) for t in tasks.targets} for scheme in SCHEMES}
            transfer[space] = summarise(runs, tasks, similarities(tasks), self.config.labels)
        if self.joint is not None:
            parts = _results(done, JUDGED, part="judged")
            names = tasks_of(self.joint)
            matrices[JUDGED] = matrix_json({a: {b: [p[a][b] for p in parts] for b in names} for a in names})
        return {"matrix": matrices, "transfer": transfer}

    def _found(self, done: Sequence[Record], space: str, scheme: str, target: str) -> dict[str, Found]:
        """The inversions of one target: source → ranks of the best proposals by the number of labels."""
        labels = list(self.config.labels)
        parts = {n: _results(done, space, scheme=scheme, target=target, labels=n) for n in labels}
        cases = [s for s in (NONE, *self.spaces[space].cases(target)) if s in parts[labels[0]][0]]
        table = {s: [[rank for part in parts[n] for rank in part[s]] for n in labels] for s in cases}
        return {
            s: Found([labels] * len(by[0]), [list(run) for run in zip(*by, strict=True)]) for s, by in table.items()
        }


def _results(done: Sequence[Record], space: str, **wanted: str | int) -> list[Record]:
    """The results of the cells of a space with these keys."""
    found = [record for record in done if record["cell"]["space"] == space]
    return [r["results"] for r in found if all(r["cell"].get(key) == value for key, value in wanted.items())]


def _space_names(config: Config) -> tuple[str, ...]:
    if config.spaces:
        every, given = (JUDGED, *MEASURED), [name.removeprefix("transnas-") for name in config.spaces]
        return tuple(dict.fromkeys(checks.choose("space", name, every) for name in given))
    here = [name for name in ("micro", "macro") if is_here(f"transnas-{name}")]
    if config.on_test and is_here("nas-bench-201"):
        here.append("nas-bench-201")
    here += [JUDGED] if is_here(JUDGED) and not config.smoke else []
    if not here:
        or_digits("transnas-micro", "transnas-macro", JUDGED)
    return ("digits",) if config.smoke else (*here, "digits")
