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
from ncp_jax.console import ProgressBar, prepare_jax, say
from ncp_jax.jax_settings import check_devices, package_settings

if TYPE_CHECKING:
    from ncp_jax.benchmarks import Table
    from ncp_jax.commands.predictor_choice import PredictorOrigin
    from ncp_jax.predictors import Predictor
    from ncp_jax.propagation import Found, Objective

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
      origin: where the predictor comes from.
      run_card: versions, device and date.
      notices: what was recognised in the user's own file, and which of its metrics are predictions.
      import_s: seconds that imports took, where the command line measured them.
    """

    config: SearchConfig
    task: str
    found: Found
    predictor: Predictor
    objective: Objective
    table: Table | None
    origin: PredictorOrigin
    run_card: Mapping[str, Any]
    notices: tuple[str, ...] = ()
    import_s: float | None = None

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
        top = self.found.top(10).rows()
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
            "distinct": len(self.found),
            "scored": self.found.scored,
            "best": top[0],
            "top": top,
        }

    def __str__(self) -> str:
        from ncp_jax.metrics import ON_TEST

        config, timing, distinct = self.config, self.timing, len(self.found)
        sought = [f"{name} up ×{weight:g}" for name, weight in self.objective.maximize.items()]
        sought += [f"{name} down ×{weight:g}" for name, weight in self.objective.minimize.items()]
        limit = "" if config.max_gflops is None else f", at most {config.max_gflops:g} GFLOPs"
        tested = f" ({ON_TEST})" if self.on_test else ""
        return (
            f"{self.task}: {', '.join(sought)}{limit}{tested}\n{self.found.top(10)}\n"
            f"{config.codes} codes × {config.steps} steps in {timing['search_s']:.2f} s "
            f"({timing['code_steps_per_s']:,.0f} code-steps/s; compilation {timing['compile_s']:.2f} s), "
            f"{distinct} distinct architectures{' kept' if distinct == config.keep else ''}"
        )

    def write(self, folder: Path) -> list[Path]:
        """Writes ``codes.csv``, ``search.png`` and ``result.json`` (each atomically) and returns their paths."""
        from ncp_jax.commands.search_figure import search_figure
        from ncp_jax.files import write_csv
        from ncp_jax.metrics import ON_TEST
        from ncp_jax.records.journal import write_json

        rows: list[dict[str, Any]] = self.found.rows()
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
        return [
            write_csv(folder / "codes.csv", header, lines),
            search_figure(
                folder / "search.png",
                found=self.found,
                predictor=self.predictor,
                objective=self.objective,
                table=self.table,
                title=f"{self.task}: {self.config.codes} codes, {self.config.steps} steps"
                + (f", {ON_TEST}" if self.on_test else ""),
            ),
            write_json(folder / "result.json", self.to_json()),
        ]


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

    from ncp_jax.commands.predictor_choice import choose_objective, choose_predictor, trust_region
    from ncp_jax.propagation import propagate
    from ncp_jax.propagation.execution import find_devices
    from ncp_jax.records.run_card import run_card

    config = as_config(SearchConfig, config, settings)
    find_devices(config.execution())  # missing devices are refused before anything is trained or compiled
    choice = choose_predictor(config, notify)
    objective = choose_objective(config, choice.predictor)
    propagation = config.propagation(trust_region(config, choice))
    if config.max_gflops is not None and choice.table is not None:
        # Near a tight limit the measured architectures may be most of what there is.
        propagation = dataclasses.replace(propagation, measured=np.asarray(choice.table.codes))
    with ProgressBar("ncp-jax: codes") as bar:
        found = propagate(
            choice.predictor,
            objective,
            codes=config.codes,
            key=jax.random.fold_in(jax.random.key(config.seed), 1),
            config=propagation,
            max_gflops=config.max_gflops,
            execution=config.execution(bar if config.codes > MANY else None),
        )
    return SearchResult(
        config,
        choice.task,
        found,
        choice.predictor,
        objective,
        choice.table,
        choice.origin,
        run_card(),
        choice.notices,
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
