"""Asks for architectures of a space of any size, and is told results in any order."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ncp_jax import checks
from ncp_jax.console import LOG
from ncp_jax.files import user_path
from ncp_jax.jax_settings import package_settings
from ncp_jax.records.journal import hold, read_json, refuse_other, write_json
from ncp_jax.searchers.open_ended import strategies
from ncp_jax.searchers.open_ended.config import OpenConfig
from ncp_jax.searchers.open_ended.observations import Goals, Observation, Observations
from ncp_jax.searchers.open_ended.situation import Choice, Situation
from ncp_jax.searchers.open_ended.sources import learn_sources
from ncp_jax.spaces import Space, get_space
from ncp_jax.types import Float, Int

if TYPE_CHECKING:
    from ncp_jax.benchmarks import Table

SCHEMA = "open-session/1"


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """An architecture to train next.

    Attributes:
      architecture: its string.
      code: its code.
      predicted: predicted value of each metric; empty before there is a model.
      spread: standard deviation of each prediction.
      distance: number of positions in which the nearest measured architecture differs; None if nothing is measured.
      why: "spread out", "explore", "exploit", or what a searcher without a model does.
    """

    architecture: str
    code: tuple[int, ...]
    predicted: Mapping[str, float]
    spread: Mapping[str, float]
    distance: int | None
    why: str

    def to_json(self) -> dict[str, Any]:
        """Returns JSON-ready fields."""
        return {**dataclasses.asdict(self), "code": list(self.code)}


class OpenSession:
    """A search for architectures to train, in a space of any size (not jittable).

    Workers ask and tell in any order: an architecture that is asked for and not told yet is pending. Later ones are
    chosen as if a cautious prediction had been measured, or with draws of their own. What is asked for depends on the
    configuration, the source tables and what was asked and told, and on nothing else.

    Examples:
      >>> import ncp_jax as ncp
      >>> session = ncp.OpenSession("nas-bench-201", maximize="accuracy")
      >>> codes = session.ask(2)
      >>> session.tell(codes, [0.91, None])  # the second training failed
      >>> session.best.values["accuracy"]
      0.91

    Args:
      space: the space, or its name, or the path of its description.
      known: table of architectures that are measured already.
      sources: tables of other tasks in the same space; their main metric is used.
      path: file that holds the session; it is written after each call, and read if it exists. One session at a time
        has it, until it is closed or its process ends.
      settings: the other fields of ``OpenConfig``.

    Raises:
      UsageError: no goal, a searcher or a metric that does not exist, a limit that no architecture satisfies, a table
        of another space, a file of another session, or one that another process has open.
    """

    @package_settings
    def __init__(
        self,
        space: str | Space,
        *,
        known: Table | None = None,
        sources: Sequence[Table] = (),
        path: str | os.PathLike[str] | None = None,
        **settings: Any,
    ) -> None:
        self.space = get_space(space) if isinstance(space, str) else space
        fields = {field.name for field in dataclasses.fields(OpenConfig)} - {"space"}
        for name in settings:
            checks.choose("setting of a session", name, sorted(fields))
        self.config = OpenConfig(space=self.space.name, **settings)
        for table in (known, *sources):
            if table is not None and table.space != self.space.name:
                raise checks.UsageError(
                    expected=f"tables of {self.space.name}", got=f"{table.name} of {table.space}", remedy="leave it out"
                )
        names = None if known is None else [metric.name for metric in known.metrics]
        self.goals = Goals.of(self.config, self.space, names)
        self._observations = Observations(self.space, self.goals)
        self._pending: list[np.ndarray] = []
        self._asked = 0
        if known is not None:
            measured = {name: known.measured(name) for name in self.goals.metrics}
            self._observations.add(np.asarray(known.codes), measured)
        rows = [(np.asarray(t.codes), np.asarray(t.oriented(t.main.name))) for t in sources]
        self._sources = learn_sources(self.space, rows) if rows else None
        self._path = None if path is None else user_path(path)
        self._held = contextlib.ExitStack()
        if self._path is not None:
            remedy = "wait for it or choose another path; workers share a session through the program that asks"
            lock = self._path.with_name(f".{self._path.name}.lock")
            hold(self._held, lock, what="session", who=str(self._path), remedy=remedy)
        if self._path is not None and self._path.exists():
            try:
                self._restore(read_json(self._path), self._path)
            except BaseException:
                self._held.close()
                raise

    @property
    def pending(self) -> Int[np.ndarray, "k d"]:
        """int32 [k, d], architectures asked for and not told yet."""
        return np.array(self._pending, np.int32).reshape(-1, self.space.length)

    @property
    def observations(self) -> list[Observation]:
        """The measured architectures, in the order of their first measurement."""
        return self._observations.rows()

    @property
    def front(self) -> list[Observation]:
        """The measured architectures within all limits that no other one dominates, best in the first goal first."""
        return self._observations.front()

    @property
    def best(self) -> Observation | None:
        """The measured architecture within all limits that is best in the first goal; None before there is one."""
        return next(iter(self.front), None)

    @package_settings
    def ask(self, n: int = 1) -> Int[np.ndarray, "n d"]:
        """Returns architectures to train, int32 [n, d]: different ones, neither measured nor pending.

        Fewer are returned where no further ones within the limits on known costs were found.
        """
        codes = np.array([choice.code for choice in self._choose(n)], np.int32).reshape(-1, self.space.length)
        self._pending += list(codes)
        self._asked += len(codes)
        self._save()
        return codes

    @package_settings
    def suggest(self, n: int = 1) -> list[Suggestion]:
        """Returns what ``ask(n)`` would, with predictions and reasons, and leaves the session as it is."""
        chosen = self._choose(n)
        codes = np.array([choice.code for choice in chosen], np.int32).reshape(-1, self.space.length)
        predictions = {}
        if len(codes) and len(self._observations) >= 2:
            predictions = strategies.predict(self.space, self._observations, self._sources, codes)
        measured, found = self._observations.codes, []
        for row, (code, why) in enumerate(chosen):
            found.append(
                Suggestion(
                    architecture=self.space.to_strings(code[None])[0],
                    code=tuple(code.tolist()),
                    predicted={name: float(mean[row]) for name, (mean, _) in predictions.items()},
                    spread={name: float(spread[row]) for name, (_, spread) in predictions.items()},
                    distance=int((measured != code).sum(axis=1).min()) if len(measured) else None,
                    why=why,
                )
            )
        return found

    @package_settings
    def tell(self, codes: Any, values: Any) -> None:
        """Takes measured values.

        Args:
          codes: one code, or rows of them. Those never asked for are accepted, and said so in the log. A code that was
            told before is one more measurement of it: values may contain noise.
          values: a number, or one for each code, for a session with one metric; else a mapping from each metric to its
            values. None or NaN is a failed training.

        Raises:
          UsageError: illegal codes, another number of values, an unknown or missing metric, or infinite values.
        """
        rows = self.space.check(codes)
        self._observations.add(rows, self.goals.read(values, len(rows)))
        waiting = [code.tobytes() for code in self._pending]
        strangers = [row for row in rows if row.tobytes() not in waiting]
        if strangers:
            LOG.info("told of %d architectures that were not asked for", len(strangers))
        told = {row.tobytes() for row in rows}
        self._pending = [code for code in self._pending if code.tobytes() not in told]
        self._save()

    def resume(self, codes: Any, values: Mapping[str, Any], *, pending: Any, asked: int) -> None:
        """Takes what another process measured, and what is being trained, before the first call of ``ask``.

        Args:
          codes: measured codes.
          values: their values by metric, NaN for failed trainings.
          pending: codes that are being trained.
          asked: number of codes asked for so far: the next ones come from other random numbers.
        """
        if len(codes):
            rows = self.space.check(codes)
            self._observations.add(rows, self.goals.read(values, len(rows)))
        self._pending += list(self.space.check(pending)) if len(pending) else []
        self._asked += asked

    def forget(self, codes: Any) -> None:
        """Drops pending architectures whose training was given up; they may be asked for again."""
        dropped = {row.tobytes() for row in self.space.check(codes)}
        self._pending = [code for code in self._pending if code.tobytes() not in dropped]
        self._save()

    @package_settings
    def predict(self, codes: Any) -> dict[str, tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]]:
        """Returns predicted values of architectures and their standard deviations, by metric.

        Raises:
          UsageError: fewer than two architectures have been measured.
        """
        rows = self.space.check(codes)
        if len(self._observations) < 2:
            raise checks.UsageError(
                expected="at least two measurements to predict from",
                got=str(len(self._observations)),
                remedy="tell some",
            )
        return strategies.predict(self.space, self._observations, self._sources, rows)

    def close(self) -> None:
        """Lets another process open the file of this session. It is up to date at any time."""
        self._path = None
        self._held.close()

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Writes the session to a file, atomically; ``OpenSession(..., path=path)`` continues it."""
        return write_json(user_path(path), self._content())

    def _save(self) -> None:
        if self._path is not None:
            write_json(self._path, self._content())

    def _content(self) -> dict[str, Any]:
        values = [[None if math.isnan(value) else value for value in row] for row in self._observations.values.tolist()]
        return {
            "schema": SCHEMA,
            "config": dataclasses.asdict(self.config),
            "metrics": list(self.goals.metrics),
            "codes": self._observations.codes.tolist(),
            "values": values,
            "pending": self.pending.tolist(),
            "asked": self._asked,
        }

    def _restore(self, content: Any, path: Path) -> None:
        if not isinstance(content, dict) or content.get("schema") != SCHEMA:
            raise checks.DataError(f"{path}: expected a saved session, got another file; choose another path")
        mine = json.loads(json.dumps(dataclasses.asdict(self.config)))
        refuse_other(path, content["config"], mine, what="session", got="other settings")
        values = np.array([[math.nan if v is None else v for v in row] for row in content["values"]], float)
        codes = self.space.check(content["codes"]) if content["codes"] else np.zeros((0, self.space.length), np.int32)
        self._observations = Observations(self.space, self.goals)
        columns = dict(
            zip(self.goals.metrics, values.T if len(values) else [[]] * len(self.goals.metrics), strict=True)
        )
        self._observations.add(codes, columns)
        self._pending = list(self.space.check(content["pending"])) if content["pending"] else []
        self._asked = int(content["asked"])

    def _choose(self, n: int) -> list[Choice]:
        checks.integer("n", n, least=1, remedy="ask for at least one")
        now = Situation(self.space, self.config, self._observations, self._pending, self._asked, self._sources)
        return strategies.choose(now, n)
