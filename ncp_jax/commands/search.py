"""Searches architectures by propagation through a predictor (``ncp.search``, ``ncp-jax search``)."""

from __future__ import annotations

import dataclasses
import importlib
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ncp_jax.commands.command import FileCommand, as_config
from ncp_jax.commands.search_config import SearchConfig
from ncp_jax.console import ProgressBar, prepare_jax, say, short_repr
from ncp_jax.jax_settings import check_devices, package_settings

if TYPE_CHECKING:
    from ncp_jax.auditing import Audit
    from ncp_jax.benchmarks import Table
    from ncp_jax.commands.measured import Measured
    from ncp_jax.commands.predictor_choice import PredictorOrigin
    from ncp_jax.predictors import Predictor
    from ncp_jax.propagation import Found, Front, HeldOutError, Objective
    from ncp_jax.spaces import CostModel

SHOWN = 10  # architectures that are printed
LISTED = 2**16  # spaces of no more codes are ranked whole
MANY = 65536  # more codes than this take long enough to show progress


@dataclasses.dataclass(frozen=True, eq=False)
class SearchResult:
    """Architectures that a search found, with everything that they depend on.

    Attributes:
      config: what was searched for.
      task: full name of the benchmark's table, or the path of the user's own.
      found: k distinct architectures, best first: codes ``[k, d]``, predicted means and spreads ``[k, m]`` in the
        metrics' own units, scores ``[k]`` in standard deviations (higher is better), exact costs.
      predictor: ensemble that ranked them.
      objective: what was sought.
      table: measured table; None where it is not on this machine.
      measured: the same by the objective; None without a table, or where it lacks a sought metric.
      errors: errors of the predictor on rows held out, by metric; empty where there are too few rows.
      costs: cost model whose numbers limits and results have; None where costs are not known.
      front: Pareto front between the metrics of the objective, where it was asked for.
      origin: where the predictor comes from.
      run_card: versions, device and date.
      notices: what was recognised in the user's own file, and which of its metrics are predictions.
      import_s: seconds that imports took, where the command line measured them.
      audit: what models of other families say about the architectures that are shown, where it was asked for.
    """

    config: SearchConfig
    task: str
    found: Found
    predictor: Predictor
    objective: Objective
    table: Table | None
    measured: Measured | None
    errors: Mapping[str, HeldOutError]
    costs: CostModel | None
    front: Front | None
    origin: PredictorOrigin
    run_card: Mapping[str, Any]
    notices: tuple[str, ...] = ()
    import_s: float | None = None
    audit: Audit | None = None

    __repr__ = short_repr

    @property
    def timing(self) -> dict[str, float]:
        """Seconds of imports (where measured), compilation and search, and code-steps per second."""
        found = self.found.timing
        imports = {} if self.import_s is None else {"import_s": self.import_s}
        times = {"compile_s": found["compile"], "search_s": found["search"]}
        return {**imports, **times, "code_steps_per_s": found["code_steps_per_s"]}

    @property
    def on_test(self) -> bool:
        """Whether the objective has a metric that the predictor learned from the test split."""
        tested = [m.name.lower() for m in self.predictor.metrics if m.split == "test"]
        return any(name.lower() in tested for name in self.objective.names)

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``result.json``: settings, objective, provenance, timing, the ten best."""
        top = self._rows(self.found.top(SHOWN))
        data = {} if self.table is None else dict(self.table.hashes)
        settings = self.config.to_json()
        return {
            "schema": "search/1",
            "task": self.task,
            "space": self.predictor.space,
            **settings,
            "objective": {"maximize": dict(self.objective.maximize), "minimize": dict(self.objective.minimize)},
            "predictor": self.origin.to_json(),
            **({"notices": list(self.notices)} if self.notices else {}),
            **self.run_card,
            "hashes": {**self.origin.hashes, **data},
            "splits": {m.name: m.split for m in self.predictor.metrics if m.name not in self.found.costs},
            "timing": self.timing,
            "keep": self.config.keep,
            "counted": self.found.counted,
            "limits": [limit.to_json() for limit in self.found.limits],
            "held_out": {name: {"rmse": e.rmse, "rows": e.rows} for name, e in self._shown_errors.items()},
            "best_measured": None if self.measured is None else self.measured.best_json(),
            **({} if self.front is None else {"pareto": self._front_json()}),
            **({} if self.audit is None else {"audit": self.audit.summary_json()}),
            "distinct": len(self.found),
            "scored": self.found.scored,
            "best": top[0],
            "top": top,
        }

    @property
    def _shown_errors(self) -> dict[str, HeldOutError]:
        """Errors of the metrics that are shown as predictions."""
        predicted = [m.name for m in self.found.metrics if m.name not in self.found.costs]
        return {name: self.errors[name] for name in predicted if name in self.errors}

    def _rows(self, found: Found) -> list[dict[str, Any]]:
        """Returns the rows of what was found, with measured values, ranks and the audit where there are any."""
        rows = found.rows()
        if self.audit is not None:
            for row, place in zip(rows, self.audit.places(found.codes).tolist(), strict=True):
                row["audit"] = self.audit.row(place)
        if self.measured is not None:
            for row, place in zip(rows, self.measured.rows_of(found).tolist(), strict=True):
                if place >= 0:
                    row["measured"] = self.measured.of_row(place)
                    row["measured_rank"] = int(self.measured.rank[place])
        return rows

    def _front_json(self) -> dict[str, Any]:
        assert self.front is not None
        return {**self.front.to_json(), "architectures": self._rows(self.front.found)}

    def _notes(self) -> list[str]:
        """Returns what the numbers mean, one line each."""
        lines = []
        if self.found.limits:
            lines.append("Limits: " + "; ".join(map(str, self.found.limits)))
        if self._shown_errors:
            listed = ", ".join(f"{name} {error.rmse:.3g}" for name, error in self._shown_errors.items())
            rows = max(error.rows for error in self._shown_errors.values())
            lines.append(
                "± is the spread over the networks, which understates the error. Root mean squared error on "
                f"{rows} rows held out (cross-validation): {listed}"
            )
        else:
            lines.append("± is the spread over the networks, which understates the error")
        if self.measured is not None:
            lines.append(self.measured.best_line())
        if self.front is not None:
            lines.append(self.front.summary())
        if self.audit is not None:
            from ncp_jax.commands.audited import compare_with_search

            lines += [*self.audit.notes(), *compare_with_search(self.found.top(SHOWN), self.audit)]
        return lines

    def _text(self, found: Found) -> str:
        more = {} if self.measured is None else self.measured.columns(found, found.costs)
        return found.text(more if self.audit is None else more | self.audit.columns(found.codes))

    def __str__(self) -> str:
        from ncp_jax.metrics import ON_TEST

        config, timing, distinct = self.config, self.timing, len(self.found)
        sought = [f"{name} up ×{weight:g}" for name, weight in self.objective.maximize.items()]
        sought += [f"{name} down ×{weight:g}" for name, weight in self.objective.minimize.items()]
        limit = "" if config.max_gflops is None else f", at most {config.max_gflops:g} GFLOPs"
        limit += "".join(f", {text}" for text in config.limit)
        tested = f" ({ON_TEST})" if self.on_test else ""
        notes = "\n".join(self._notes())
        front = "" if self.front is None else f"\nOn the Pareto front:\n{self._text(_spread_out(self.front.found))}"
        return (
            f"{self.task}: {', '.join(sought)}{limit}{tested}\n{self._text(self.found.top(SHOWN))}{front}\n{notes}\n"
            f"{config.codes} codes × {config.steps} steps in {timing['search_s']:.2f} s "
            f"({timing['code_steps_per_s']:,.0f} code-steps/s; compilation {timing['compile_s']:.2f} s), "
            f"{distinct} distinct architectures{' kept' if distinct == config.keep else ''}"
        )

    def write(self, folder: Path) -> list[Path]:
        """Writes ``codes.csv``, ``search.png`` and ``result.json`` (each atomically) and returns their paths.

        With a Pareto front, ``front.csv`` has its architectures in the form of ``codes.csv``.
        """
        from ncp_jax.commands.search_figure import search_figure
        from ncp_jax.metrics import ON_TEST
        from ncp_jax.records.journal import write_json

        front = [] if self.front is None else [_write_codes(folder / "front.csv", self.front.found)]
        return [
            _write_codes(folder / "codes.csv", self.found),
            *front,
            search_figure(
                folder / "search.png",
                found=self.found,
                predictor=self.predictor,
                objective=self.objective,
                table=self.table,
                title=f"{self.task}: {self.config.codes} codes, {self.config.steps} steps"
                + (f", {ON_TEST}" if self.on_test else ""),
                costs=self.costs,
                front=self.front,
            ),
            write_json(folder / "result.json", self.to_json()),
        ]


def _write_codes(path: Path, found: Found) -> Path:
    """Writes architectures as a CSV file, one line each."""
    from ncp_jax.files import write_csv

    rows: list[dict[str, Any]] = found.rows()
    names = list(rows[0]["predicted"])
    costs = [key for key in rows[0] if key not in ("code", "string", "predicted", "spread", "score")]
    lines = [
        [
            rank,
            row["string"],
            " ".join(map(str, row["code"])),
            *row["predicted"].values(),
            *row["spread"].values(),
            *(row[key] for key in costs),
            row["score"],
        ]
        for rank, row in enumerate(rows, 1)
    ]
    header = ["rank", "string", "code", *names, *(f"{name}_spread" for name in names), *costs, "score"]
    return write_csv(path, header, lines)


def _spread_out(found: Found) -> Found:
    """Returns some architectures of a front, evenly spaced from one end to the other."""
    import numpy as np

    return found.take(np.unique(np.linspace(0, len(found) - 1, SHOWN).round().astype(int)))


def _front(found: Found, measured: Measured | None) -> Front:
    """Returns the Pareto front, with the worst measured values as the reference point where there are any."""
    if measured is None:
        return found.pareto()
    worst = {
        name: float(measured.values[known].min() if sign > 0 else measured.values[known].max())
        for name, sign in found.sought
        for known in measured.values
        if known.lower() == name.lower()
    }
    return found.pareto(worst, reference_is="the worst measured")


@package_settings
def search(config: SearchConfig | None = None, *, notify: Callable[[str], None] = say, **settings: Any) -> SearchResult:
    """Finds architectures: moves random codes along the gradient of a predictor and ranks where they arrive.

    Without a task it searches NAS-Bench-MR's segmentation task with the predictor that ships with the package.

    Examples:
      >>> import ncp_jax as ncp
      >>> result = ncp.search(task="seg", max_gflops=2.0, codes=64, steps=3)
      >>> bool((result.found.costs["flops"] <= 2.0).all())
      True

    Args:
      config: what to search for, and how.
      notify: receives one-line notices (which predictor is used, that one is trained).
      **settings: fields of ``SearchConfig``, in place of ``config``.

    Raises:
      UsageError: unknown task, space, metric; a limit that nothing satisfies.
      DataError: a bad table.
      FileNotFoundError: the task needs a table that has not been fetched; the text names the command.
    """
    import jax
    import numpy as np

    from ncp_jax.commands.measured import Measured
    from ncp_jax.commands.predictor_choice import choose_objective, choose_predictor, trust_region
    from ncp_jax.propagation import propagate
    from ncp_jax.propagation.execution import find_devices
    from ncp_jax.records.run_card import run_card
    from ncp_jax.spaces import Bounds, cost_model_for, get_space

    config = as_config(SearchConfig, config, settings)
    find_devices(config.execution())  # missing devices are refused before anything is trained or compiled
    choice = choose_predictor(config, notify)
    objective = choose_objective(config, choice)
    audited = None
    if config.audit:
        from ncp_jax.commands.audited import audit_found, audited_metrics

        audited = audited_metrics(choice, objective)  # what cannot be audited is refused before the search
    space = get_space(choice.predictor.space)
    propagation = dataclasses.replace(config.propagation(trust_region(config, choice)), costs=choice.costs)
    limits = config.limits(choice.errors)
    if space.size <= LISTED and not config.trust:
        # Where all architectures can be ranked, the proposals are at least the predictor's best.
        propagation = dataclasses.replace(propagation, measured=space.all_codes())
    elif limits and choice.table is not None:
        # Near a tight limit the measured architectures may be most of what there is.
        propagation = dataclasses.replace(propagation, measured=np.asarray(choice.table.codes))
    with ProgressBar("ncp-jax: codes") as bar:
        found = propagate(
            choice.predictor,
            objective,
            codes=config.codes,
            key=jax.random.fold_in(jax.random.key(config.seed), 1),
            config=propagation,
            limits=limits,
            execution=config.execution(bar if config.codes > MANY else None),
        )
    costs = choice.costs or cost_model_for(space, choice.predictor.metrics)
    bounds = Bounds.of(space, propagation.bounds_map)
    measured = Measured.of(
        choice.table, found, choice.predictor, objective, costs, bounds, own_costs=choice.costs is not None
    )
    front = _front(found, measured) if config.pareto else None
    shown = [found.top(SHOWN), *([] if front is None else [front.found])]
    return SearchResult(
        config,
        choice.task,
        found,
        choice.predictor,
        objective,
        choice.table,
        measured,
        choice.errors,
        costs,
        front,
        choice.origin,
        run_card(),
        choice.notices,
        audit=None if audited is None else audit_found(config, choice, audited, shown, notify),
    )


@dataclasses.dataclass(frozen=True)
class Search(FileCommand, SearchConfig):
    """Find architectures: move random codes along the gradient of a predictor, print the best.

    Without options it searches NAS-Bench-MR's segmentation task with the predictor that ships with the package.

    Attributes:
      json: Print result.json instead of the table.
      out: Folder for result.json, codes.csv and search.png.
    """

    def run(self) -> None:
        """Runs the search, prints what it found and writes it where asked."""
        began = time.perf_counter()
        from ncp_jax.commands import predictor_choice  # noqa: F401, for the time that its imports take
        from ncp_jax.files import make_folder

        prepare_jax()
        check_devices()
        import_s = time.perf_counter() - began
        config = self.config(SearchConfig)
        if self.out is not None:
            make_folder(self.out)  # a folder that cannot be written is refused before the work, not after it
            # Matplotlib takes most of a second to import: meanwhile XLA computes.
            threading.Thread(
                target=importlib.import_module, args=("matplotlib.backends.backend_agg",), daemon=True
            ).start()
        result = dataclasses.replace(search(config, notify=say), import_s=import_s)
        self.show_and_write(result)
