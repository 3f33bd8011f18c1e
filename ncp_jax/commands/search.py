"""One search from a task's name or a user's table to ranked architectures, as the command line runs it."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table, list_tables, load_table
from ncp_jax.benchmarks.catalogue import choose_table
from ncp_jax.benchmarks.table import with_flops
from ncp_jax.console import ProgressBar
from ncp_jax.files import atomic_write
from ncp_jax.predictors import Predictor, load_shipped
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation import Execution, Found, Objective, PropagationConfig, TrustRegion, propagate
from ncp_jax.propagation.execution import find_devices
from ncp_jax.propagation.objective import default_objective
from ncp_jax.records.journal import write_json
from ncp_jax.records.run_card import run_card
from ncp_jax.spaces import Bounds, get_space, parse_bounds

MANY = 65536  # more codes than this take long enough to show progress
OPTIONS = ("discreteness", "restarts", "polish")  # settings that are called the same here and in PropagationConfig


@dataclasses.dataclass(frozen=True)
class SearchConfig:
    """What to search for.

    Attributes:
      task: a benchmark's task ("seg", "nas-bench-201/cifar10"); ignored where ``table`` is given.
      table: a user's CSV file: one column of architecture strings, the others metrics.
      space: the space that the strings of ``table`` belong to.
      maximize: metrics to raise, each as NAME or NAME=WEIGHT.
      minimize: metrics to lower, likewise.
      codes: random starts that are moved at once.
      steps: gradient steps.
      strategy: "continuous" or "winner-takes-all".
      precision: of the matrix products while codes move: "float32", "tf32", "bfloat16".
      max_gflops: only architectures of at most so many GFLOPs.
      bound: narrower limits on positions, each as NAME=LOW..HIGH (patterns allowed).
      confidence: follow and rank by the ensemble's bound, so many spreads on the bad side of its mean; 0 for the mean.
      trust: weight of a trust region around the table; 0 for none.
      discreteness: "none", "straight-through" or "annealed", see ``PropagationConfig``.
      restarts: rounds in which codes that repeat an architecture begin anew.
      polish: how many of the best architectures try all their single edits in the end.
      keep: how many architectures are kept, at most.
      devices: how many devices share the codes; all without it.
      memory_mb: device memory that may be used at once, MB.
      seed: of the starts, and of training where there is any.
      members: networks in the ensemble, where one is trained.
      retrain: train from the table even where a predictor ships with the package.
    """

    task: str = "seg"
    table: Path | None = None
    space: str | None = None
    maximize: tuple[str, ...] = ()
    minimize: tuple[str, ...] = ()
    codes: int = 4096
    steps: int = 70
    strategy: str = "continuous"
    precision: str = "float32"
    max_gflops: float | None = None
    bound: tuple[str, ...] = ()
    confidence: float = 0.0
    trust: float = 0.0
    discreteness: str = "none"
    restarts: int = 0
    polish: int = 0
    keep: int = 65536
    devices: int | None = None
    memory_mb: float | None = None
    seed: int = 0
    members: int = 8
    retrain: bool = False

    def __post_init__(self) -> None:
        checks.positive("--confidence", self.confidence, zero=True)
        checks.positive("--trust", self.trust, zero=True)
        self.propagation(None)
        self.execution()
        for name in ("codes", "members"):
            if getattr(self, name) < 1:
                raise checks.UsageError(
                    expected=f"--{name} >= 1", got=str(getattr(self, name)), remedy=f"give a larger --{name}"
                )
        if not 0 <= self.seed < 2**32:
            raise checks.UsageError(expected="--seed from 0 to 2**32 - 1", got=str(self.seed), remedy="try --seed 0")
        if self.max_gflops is not None:
            checks.positive("--max-gflops", self.max_gflops)
        if self.table is not None and self.space is None:
            raise checks.UsageError(
                expected="--space NAME with --table",
                got="no --space",
                remedy="say which space the architectures belong to",
            )
        if self.table is not None and not (self.maximize or self.minimize):
            raise checks.UsageError(
                expected="--maximize or --minimize COLUMN with --table",
                got="neither",
                remedy="directions are never guessed from a column's name",
            )
        if self.table is None and self.space is not None:
            raise checks.UsageError(
                expected="--table FILE with --space", got="no --table", remedy="drop --space or add --table"
            )

    def propagation(self, region: TrustRegion | None) -> PropagationConfig:
        """Settings of the gradient loop; UsageError for a wrong one."""
        return PropagationConfig(
            steps=self.steps,
            strategy=self.strategy,
            follow="bound" if self.confidence else "member",
            confidence=self.confidence,
            precision=self.precision,
            region=region,
            bounds=parse_bounds(self.bound),
            **{name: getattr(self, name) for name in OPTIONS},
        )

    def execution(self, progress: Callable[[int, int], None] | None = None) -> Execution:
        """Where the loop runs; UsageError for a wrong setting."""
        return Execution(devices=self.devices, memory_mb=self.memory_mb, keep=self.keep, progress=progress)


@dataclasses.dataclass(frozen=True)
class SearchResult:
    """What a search found, with all that it depends on.

    Attributes:
      found: the architectures, best first.
      predictor: the ensemble that judged them.
      objective: what was sought.
      table: the measured table, where it is at hand.
      summary: the JSON-ready content of ``result.json``.
    """

    found: Found
    predictor: Predictor
    objective: Objective
    table: Table | None
    summary: dict[str, Any]


def run_search(config: SearchConfig, *, say: Callable[[str], None] = lambda text: None) -> SearchResult:
    """Runs one search.

    Args:
      config: what to search for.
      say: receives one-line notices (which predictor is used, training progress).

    Raises:
      UsageError: unknown task, space, metric; a limit that nothing satisfies.
      DataError: a bad table.
      FileNotFoundError: the task needs a table that has not been fetched; the text names the command.
    """
    find_devices(config.execution())  # devices that are not there are known before anything is trained or compiled
    name, predictor, table, origin = _predictor_and_table(config, say)
    objective = _objective(config, predictor)
    with ProgressBar("ncp-jax: codes") as bar:
        found = propagate(
            predictor,
            objective,
            codes=config.codes,
            key=jax.random.fold_in(jax.random.key(config.seed), 1),
            config=config.propagation(_region(config, predictor, table, name)),
            max_gflops=config.max_gflops,
            execution=config.execution(bar if config.codes > MANY else None),
        )
    best = found.top(1).rows()[0]
    timing = {
        "compile_s": found.timing["compile"],
        "search_s": found.timing["search"],
        "code_steps_per_s": found.timing["code_steps_per_s"],
    }
    summary = {
        "task": name,
        "space": predictor.space,
        "seed": config.seed,
        "codes": config.codes,
        "steps": config.steps,
        "strategy": config.strategy,
        "precision": config.precision,
        "max_gflops": config.max_gflops,
        "bounds": {str(key): list(ends) for key, ends in parse_bounds(config.bound).items()},
        "confidence": config.confidence,
        "trust": config.trust,
        **{name: getattr(config, name) for name in OPTIONS},
        "objective": {"maximize": dict(objective.maximize), "minimize": dict(objective.minimize)},
        "predictor": origin,
        **run_card(),
        "hashes": {**origin["hashes"], **(dict(table.hashes) if table is not None else {})},
        "timing": timing,
        "keep": config.keep,
        "distinct": len(found),
        "scored": found.scored,
        "best": best,
        "top": found.top(10).rows(),
    }
    return SearchResult(found, predictor, objective, table, summary)


def _region(config: SearchConfig, predictor: Predictor, table: Table | None, name: str) -> TrustRegion | None:
    if not config.trust:
        return None
    if table is None:
        raise checks.MissingError(
            expected="the measured table for --trust", got="none here", remedy=f"run: ncp-jax data fetch {name}"
        )
    space = get_space(predictor.space)
    return TrustRegion.around(np.asarray(table.codes), space, predictor.scale, weight=config.trust)


def _predictor_and_table(
    config: SearchConfig, say: Callable[[str], None]
) -> tuple[str, Predictor, Table | None, dict[str, Any]]:
    if config.table is not None:
        assert config.space is not None
        table = Table.from_csv(
            config.table, space=config.space, maximize=_names(config.maximize), minimize=_names(config.minimize)
        )
        predictor, origin = _trained(with_flops(table), config, say)
        return str(config.table), predictor, table, origin
    name = choose_table(config.task)
    family, _, task = name.partition("/")
    shipped = None if config.retrain else load_shipped(family)
    if shipped is None:
        table = _training_table(name, family)
        # FLOPs that are limited or sought have to be known to the predictor, even where they are not in its table.
        sought = config.max_gflops is not None or "flops" in map(
            str.lower, _names((*config.maximize, *config.minimize))
        )
        predictor, origin = _trained(with_flops(table) if sought else table, config, say)
        return name, for_task(predictor, task), load_table(name) if table.name != name else table, origin
    predictor, card = shipped
    quality = card.get("tau", {}).get(task)
    say(
        f"using the predictor that ships with ncp-jax ({predictor.members} networks trained on {family}"
        + (f"; Kendall tau on unseen architectures {quality:.3f}" if quality else "")
        + "); --retrain trains anew from the table"
    )
    origin = {"source": "shipped", "members": predictor.members, "card": card, "hashes": _shipped_hash(predictor)}
    return name, for_task(predictor, task), _table_at_hand(name), origin


def _training_table(name: str, family: str) -> Table:
    """All tasks of the family together, where they are measured on the same codes and at hand: they help each other."""
    if family not in list_tables():
        return load_table(name)
    try:
        return load_table(family)
    except FileNotFoundError:
        return load_table(name)


def _trained(table: Table, config: SearchConfig, say: Callable[[str], None]) -> tuple[Predictor, dict[str, Any]]:
    from ncp_jax.training import fit  # Flax and Optax: half a second that a shipped predictor does not need

    Bounds.of(get_space(table.space), parse_bounds(config.bound))  # wrong bounds are known before the work, too
    say(f"training {config.members} networks on {table.codes.shape[0]} architectures")
    with ProgressBar("ncp-jax: training, epochs") as bar:
        key = jax.random.fold_in(jax.random.key(config.seed), 0)
        predictor = fit(table, members=config.members, key=key, progress=bar)
    return predictor, {"source": "trained", "on": table.name, "members": config.members, "hashes": dict(table.hashes)}


def _table_at_hand(name: str) -> Table | None:
    """The measured table for the figure, if it has been fetched; the search itself does not need it."""
    try:
        return load_table(name)
    except FileNotFoundError:
        return None


def _shipped_hash(predictor: Predictor) -> dict[str, str]:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(predictor.params):
        digest.update(np.asarray(leaf).tobytes())
    return {"predictor": digest.hexdigest()}


def _names(items: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(_weighted(item)[0] for item in items)


def _weighted(item: str) -> tuple[str, float]:
    """Reads NAME or NAME=WEIGHT."""
    name, sep, weight = item.rpartition("=")
    if not sep:
        return item, 1.0
    try:
        return name, float(weight)
    except ValueError as error:
        raise checks.UsageError(
            expected="NAME or NAME=WEIGHT", got=repr(item), remedy="try mIoU or mIoU=0.5"
        ) from error


def _objective(config: SearchConfig, predictor: Predictor) -> Objective:
    if config.maximize or config.minimize:
        known = [m.name for m in predictor.metrics]
        sides = []
        for items in (config.maximize, config.minimize):
            pairs = [(checks.choose("metric", name, known), weight) for name, weight in map(_weighted, items)]
            repeated = {n for n, _ in pairs if [m for m, _ in pairs].count(n) > 1}
            if repeated:
                raise checks.UsageError(
                    expected="each metric once", got=f"{sorted(repeated)[0]!r} twice", remedy="drop one"
                )
            sides.append(dict(pairs))
        return Objective(maximize=sides[0], minimize=sides[1])
    return default_objective(predictor.metrics, limited=config.max_gflops is not None)


def describe(result: SearchResult) -> str:
    """The result as a person reads it: what was sought, the ten best, how fast."""
    summary, timing = result.summary, result.summary["timing"]
    wanted = [f"{n} up ×{w:g}" for n, w in result.objective.maximize.items()]
    wanted += [f"{n} down ×{w:g}" for n, w in result.objective.minimize.items()]
    limit = "" if summary["max_gflops"] is None else f", at most {summary['max_gflops']:g} GFLOPs"
    return (
        f"{summary['task']}: {', '.join(wanted)}{limit}\n{result.found.top(10)}\n"
        f"{summary['codes']} codes × {summary['steps']} steps in {timing['search_s']:.2f} s "
        f"({timing['code_steps_per_s']:,.0f} code-steps/s; compilation {timing['compile_s']:.2f} s), "
        f"{summary['distinct']} distinct architectures{' kept' if summary['distinct'] == summary['keep'] else ''}"
    )


def write_result(result: SearchResult, folder: Path) -> list[Path]:
    """Writes ``result.json``, ``codes.csv`` and ``search.png`` (each atomically) and returns their paths."""
    from ncp_jax.commands.search_figure import search_figure

    rows, summary = result.found.rows(), result.summary
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    names = list(rows[0]["predicted"])  # type: ignore[call-overload]
    cost_keys = [k for k in rows[0] if k not in ("code", "string", "predicted", "spread", "score")]
    writer.writerow(["rank", "string", "code", *names, *(f"{n}_spread" for n in names), *cost_keys, "score"])
    for rank, row in enumerate(rows, 1):
        predicted, spread = (list(row[part].values()) for part in ("predicted", "spread"))  # type: ignore[attr-defined]
        code = " ".join(map(str, row["code"]))  # type: ignore[call-overload]
        writer.writerow([rank, row["string"], code, *predicted, *spread, *(row[k] for k in cost_keys), row["score"]])
    return [
        atomic_write(folder / "codes.csv", buffer.getvalue().encode()),
        search_figure(
            folder / "search.png",
            found=result.found,
            predictor=result.predictor,
            objective=result.objective,
            table=result.table,
            title=f"{summary['task']}: {summary['codes']} codes, {summary['steps']} steps",
        ),
        write_json(folder / "result.json", result.summary),
    ]
