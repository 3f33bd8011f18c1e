"""Chooses the predictor of a search: the one that ships with the package, or one trained from a table."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table, list_tables, load_table
from ncp_jax.benchmarks.catalogue import choose_table
from ncp_jax.benchmarks.table import with_flops
from ncp_jax.commands.search_config import SearchConfig
from ncp_jax.commands.user_table import read_user_table
from ncp_jax.console import ProgressBar
from ncp_jax.predictors import Predictor, load_shipped
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation import Objective, TrustRegion
from ncp_jax.propagation.objective import default_objective
from ncp_jax.propagation.reading import read_names, read_objective
from ncp_jax.spaces import Bounds, get_space, parse_bounds


@dataclasses.dataclass(frozen=True)
class PredictorOrigin:
    """Where a predictor comes from.

    Attributes:
      source: "shipped" with the package or "trained" for this search.
      members: number of networks in the ensemble.
      hashes: SHA-256 of what the predictor depends on: its own weights, or the files of its table.
      card: card of a shipped predictor; None for a trained one.
      table: name of the table that a predictor was trained on; "" for a shipped one.
    """

    source: str
    members: int
    hashes: Mapping[str, str]
    card: Mapping[str, Any] | None = None
    table: str = ""

    def to_json(self) -> dict[str, Any]:
        """Returns the fields, without those that do not apply."""
        known = {} if self.card is None else {"card": dict(self.card)}
        trained = {"on": self.table} if self.table else {}
        return {"source": self.source, **trained, "members": self.members, **known, "hashes": dict(self.hashes)}


@dataclasses.dataclass(frozen=True, eq=False)
class PredictorChoice:
    """A predictor for a search and the data that belongs to it.

    Attributes:
      task: full name of the benchmark's table, or the path of the user's own.
      predictor: ensemble, restricted to the metrics of the task and the costs.
      table: measured table; None where it is not on this machine.
      origin: where the predictor comes from.
      notices: what was recognised in the user's own file, and which of its metrics are predictions.
    """

    task: str
    predictor: Predictor
    table: Table | None
    origin: PredictorOrigin
    notices: tuple[str, ...] = ()


def choose_predictor(config: SearchConfig, notify: Callable[[str], None]) -> PredictorChoice:
    """Returns the shipped predictor of a task, or trains one from the task's or the user's table.

    Args:
      config: what to search for.
      notify: receives one-line notices.

    Raises:
      UsageError: unknown task or space, illegal bounds.
      DataError: a bad table.
      FileNotFoundError: the table to train on has not been fetched; the text names the command.
    """
    if config.table is not None:
        notices: list[str] = []
        up, down = read_names(config.maximize), read_names(config.minimize)
        table = read_user_table(config.table, config, maximize=up, minimize=down, notify=notices.append)
        for notice in notices:
            notify(notice)
        predictor, origin = _train(with_flops(table), config, notify)
        return PredictorChoice(str(config.table), predictor, table, origin, tuple(notices))
    name = choose_table(config.task)
    family, _, task = name.partition("/")
    shipped = None if config.retrain else load_shipped(family)
    if shipped is None:
        table = _training_table(name, family)
        # FLOPs that are limited or sought have to be known to the predictor, even where they are not in its table.
        sought = read_names((*config.maximize, *config.minimize))
        needed = config.max_gflops is not None or "flops" in map(str.lower, sought)
        predictor, origin = _train(with_flops(table) if needed else table, config, notify)
        own = load_table(name) if table.name != name else table
        return PredictorChoice(name, for_task(predictor, task), own, origin)
    predictor, card = shipped
    quality = card.get("tau", {}).get(task)
    notify(
        f"using the predictor that ships with ncp-jax ({predictor.members} networks trained on {family}"
        + (f"; Kendall tau on unseen architectures {quality:.3f}" if quality else "")
        + "); --retrain trains a new one from the table"
    )
    origin = PredictorOrigin("shipped", predictor.members, _weights_hash(predictor), card)
    return PredictorChoice(name, for_task(predictor, task), _fetched_table(name), origin)


def _training_table(name: str, family: str) -> Table:
    """Returns all tasks of a family, where they share their codes and are at hand: learned together, each helps."""
    if family not in list_tables():
        return load_table(name)
    try:
        return load_table(family)
    except FileNotFoundError:
        return load_table(name)


def _train(table: Table, config: SearchConfig, notify: Callable[[str], None]) -> tuple[Predictor, PredictorOrigin]:
    from ncp_jax.training import Columns, fit  # Flax and Optax: half a second that a shipped predictor does not need

    # Illegal bounds and rules, and a table of test values, are refused before the training.
    space = get_space(table.space)
    space.check_same_network(config.same_network)
    Bounds.of(space, parse_bounds(config.bound))
    Columns.whole(table.metrics, 1, on_test=config.on_test)
    notify(f"training {config.members} networks on {table.codes.shape[0]} architectures")
    with ProgressBar("ncp-jax: training, epochs") as bar:
        key = jax.random.fold_in(jax.random.key(config.seed), 0)
        predictor = fit(table, members=config.members, key=key, progress=bar, on_test=config.on_test)
    return predictor, PredictorOrigin("trained", config.members, dict(table.hashes), table=table.name)


def _fetched_table(name: str) -> Table | None:
    """Returns the measured table, which figures show, if it has been fetched; the search itself does not need it."""
    try:
        return load_table(name)
    except FileNotFoundError:
        return None


def _weights_hash(predictor: Predictor) -> dict[str, str]:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(predictor.params):
        digest.update(np.asarray(leaf).tobytes())
    return {"predictor": digest.hexdigest()}


def choose_objective(config: SearchConfig, predictor: Predictor) -> Objective:
    """Returns the objective that the config names, or the default one for the predictor's metrics.

    Raises:
      UsageError: an unknown metric, a metric named twice, an illegal weight.
    """
    if config.maximize or config.minimize:
        return read_objective(config.maximize, config.minimize, [m.name for m in predictor.metrics])
    return default_objective(predictor.metrics, limited=config.max_gflops is not None)


def trust_region(config: SearchConfig, choice: PredictorChoice) -> TrustRegion | None:
    """Returns the trust region around the measured table; None where the config asks for none.

    Raises:
      MissingError: the table is not on this machine.
    """
    if not config.trust:
        return None
    if choice.table is None:
        raise checks.MissingError(
            expected="the measured table for --trust", got="none here", remedy=f"run: ncp-jax data fetch {choice.task}"
        )
    space, scale = get_space(choice.predictor.space), choice.predictor.scale
    return TrustRegion.around(np.asarray(choice.table.codes), space, scale, weight=config.trust)
