"""Chooses the predictor of a search: the one that ships with the package, or one trained from a table."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table, list_tables, load_table
from ncp_jax.benchmarks.catalogue import choose_table, is_apart
from ncp_jax.benchmarks.imported import imported_names
from ncp_jax.benchmarks.table import with_flops
from ncp_jax.commands.search_config import SearchConfig
from ncp_jax.commands.user_table import known_part, read_user_table
from ncp_jax.console import ProgressBar
from ncp_jax.files import user_path
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import Predictor, load_shipped
from ncp_jax.predictors.predictor import for_task
from ncp_jax.propagation import Objective, TrustRegion
from ncp_jax.propagation.constraint import UNIT_NAMES, is_known
from ncp_jax.propagation.feasible import Feasible
from ncp_jax.propagation.limit import HeldOutError
from ncp_jax.propagation.objective import COST_WEIGHT, default_objective
from ncp_jax.propagation.reading import read_names, read_objective
from ncp_jax.spaces import Bounds, CostModel, cost_model, cost_model_for, cost_tasks, get_space, parse_bounds
from ncp_jax.spaces.costs.registry import FLOPS_OF, own_cost_model
from ncp_jax.text_tables import read_text_table


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
        # The quantiles of held-out errors fill pages; results have their own summary of them.
        known = (
            {} if self.card is None else {"card": {k: v for k, v in self.card.items() if not k.startswith("held_out")}}
        )
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
      costs: cost model that the search was asked for; None for the one that belongs to the predictor's metrics.
      errors: errors of the predictor on rows held out, by metric; empty where there are too few rows.
      notices: what was recognised in the user's own file, and which of its metrics are predictions.
    """

    task: str
    predictor: Predictor
    table: Table | None
    origin: PredictorOrigin
    costs: CostModel | None
    errors: Mapping[str, HeldOutError]
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
    named = _table_name(config)
    if config.table is not None or named:
        notices: list[str] = []
        if named:
            whole = load_table(named)
            table = known_part(whole, _named_columns(whole, config), notify=notices.append)
        else:
            assert config.table is not None
            up, down = _columns(config)
            table = read_user_table(config.table, config, maximize=up, minimize=down, notify=notices.append)
        for notice in notices:
            notify(notice)
        space, costs = table.space, _costs(config, table.space, table.metrics)
        learned = with_flops(table) if costs is None else table
        if costs is not None and costs.has_flops and cost_model_for(space, (*table.metrics, _flops_of(costs))) is costs:
            # A column of FLOPs that says whose they are: they steer codes as those of any table do.
            learned, costs = with_flops(table, costs), None
        predictor, origin, errors = _train(learned, config, notify)
        task = named or str(config.table)
        return PredictorChoice(task, predictor, table, origin, costs, errors, tuple(notices))
    name = choose_table(config.task or "seg")
    family, _, task = name.partition("/")
    shipped = None if config.retrain or is_apart(name) else load_shipped(family)
    if shipped is None:
        table = _training_table(name, family)
        # FLOPs that are limited or sought have to be known to the predictor, even where they are not in its table.
        sought = read_names((*config.maximize, *config.minimize))
        needed = config.limits_flops or "flops" in map(str.lower, sought)
        own = load_table(name) if table.name != name else table
        costs = _costs(config, own.space, own.metrics)
        predictor, origin, errors = _train(with_flops(table) if needed and costs is None else table, config, notify)
        predictor = for_task(predictor, task)
        return PredictorChoice(name, predictor, own, origin, costs, _of_task(errors, task))
    predictor, card = shipped
    if config.members != SearchConfig.members:
        raise checks.UsageError(
            expected="--retrain with --members",
            got=f"the predictor that ships, of {predictor.members} networks",
            remedy="add --retrain, or drop --members",
        )
    quality = card.get("tau", {}).get(task)
    notify(
        f"using the predictor that ships with ncp-jax ({predictor.members} networks trained on {family}"
        + (f"; Kendall tau on unseen architectures {quality:.3f}" if quality else "")
        + "); --retrain trains a new one from the table"
    )
    origin = PredictorOrigin("shipped", predictor.members, _weights_hash(predictor), card)
    errors = {metric: HeldOutError.from_json(fields) for metric, fields in card.get("held_out", {}).items()}
    predictor = for_task(predictor, task)
    costs = _costs(config, predictor.space, predictor.metrics)
    return PredictorChoice(name, predictor, _fetched_table(name), origin, costs, _of_task(errors, task))


def _table_name(config: SearchConfig) -> str:
    """Returns the name of the table that --table or --task names and a predictor is trained on; "" for none."""
    if config.is_named:
        return choose_table(str(config.table))
    if config.table is not None or not config.task:
        return ""
    chosen = choose_table(config.task)
    return chosen if chosen in imported_names() else ""


def _named_columns(table: Table, config: SearchConfig) -> tuple[str, ...]:
    """Returns the columns of a named table that are sought or limited, but for costs that are known for its space."""
    model = cost_model(table.space)
    own = {metric.name.lower() for metric in table.metrics}
    computed = {*UNIT_NAMES, *(() if model is None else model.units)} - own
    sought = [*read_names((*config.maximize, *config.minimize)), *(limit.metric for limit in config.limits({}))]
    return tuple(name for name in dict.fromkeys(sought) if name.lower() not in computed)


def _columns(config: SearchConfig) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Returns the columns of the user's table to raise and to lower; those that have a limit alone come last."""
    assert config.table is not None
    up, down = read_names(config.maximize), read_names(config.minimize)
    path = user_path(config.table)
    header = read_text_table(path, path.read_bytes()).rows[0] if path.is_file() else ()
    model, lower = cost_model(config.space or ""), [name.lower() for name in header]
    # Costs that are known for the space are computed, not read.
    computed = [] if model is None else [cost for cost in model.units if cost not in lower]
    up, down = (tuple(name for name in side if name.lower() not in computed) for side in (up, down))
    known = {name.lower() for name in (*up, *down)}
    for limit in config.limits({}):
        column = next((name for name in header if name.lower() == limit.metric.lower()), None)
        if column is not None and column.lower() not in known:
            known.add(column.lower())
            # A column with a limit from above is better low, as far as the search is concerned.
            up, down = (up, (*down, column)) if limit.upper else ((*up, column), down)
    return up, down


def _flops_of(model: CostModel) -> MetricSpec:
    return MetricSpec("flops", task=model.task, unit=model.units["flops"], direction="minimize", kind="cost")


def _costs(config: SearchConfig, space: str, metrics: Sequence[MetricSpec]) -> CostModel | None:
    """Returns the cost model that the config asks for, None for the usual one; checks the limits."""
    costs = own_model(config, space, metrics)
    usual = costs or cost_model_for(space, metrics)
    names = dict.fromkeys([m.name for m in metrics])
    if usual is not None:
        names |= dict.fromkeys([*usual.units, *UNIT_NAMES])
    limits = config.limits({})
    for limit in limits:
        if limit.metric.lower() != "gflops" or usual is not None:
            checks.choose("metric or cost to limit", limit.metric, names)
    if config.limit_confidence is not None and all(is_known(limit.metric.lower(), metrics, usual) for limit in limits):
        raise checks.UsageError(
            expected="a limit on a predicted metric with --limit-confidence",
            got=", ".join(limit.metric for limit in limits),
            remedy="drop it: limits on known costs are exact",
        )
    exact = [limit for limit in limits if is_known(limit.metric.lower(), metrics, usual)]
    if exact and usual is not None:
        # Refuses limits that nothing satisfies before anything is trained.
        Feasible.of_costs(Bounds.of(get_space(space), parse_bounds(config.bound)), exact, usual)
    return costs


def own_model(config: SearchConfig, space: str, metrics: Sequence[MetricSpec]) -> CostModel | None:
    """Returns the cost model of the network that a search is asked to count, None for the usual one.

    Raises:
      UsageError: the network is not known.
    """
    if config.table is not None and config.task:
        model = cost_model(space, config.task, of=config.flops_of) if cost_tasks(space) else None
        if model is None:
            raise checks.UsageError(
                expected="a space with known costs for --task with --table", got=space, remedy="drop --task"
            )
    elif checks.choose("value of --flops-of", config.flops_of, FLOPS_OF) == "task":
        model = own_cost_model(space, metrics)
    else:
        return None
    return None if model is cost_model_for(space, metrics) else model


def _of_task(errors: Mapping[str, HeldOutError], task: str) -> dict[str, HeldOutError]:
    """Returns the errors by the names that metrics have in a search for one task."""
    return {name.removeprefix(f"{task}/") if task else name: error for name, error in errors.items()}


def _training_table(name: str, family: str) -> Table:
    """Returns all tasks of a family, where they share their codes and are at hand: learned together, each helps."""
    if family not in list_tables() or is_apart(name):
        return load_table(name)
    try:
        return load_table(family)
    except FileNotFoundError:
        return load_table(name)


def _train(
    table: Table, config: SearchConfig, notify: Callable[[str], None]
) -> tuple[Predictor, PredictorOrigin, dict[str, HeldOutError]]:
    # Flax and Optax: half a second that a shipped predictor does not need.
    from ncp_jax.training import Columns, fit, get_recipe, held_out_errors, with_chosen_decay
    from ncp_jax.training.held_out import FEWEST, FOLDS

    # Illegal bounds and rules, a table of test values and too few rows are refused before the training.
    space = get_space(table.space)
    space.check_same_network(config.same_network)
    Bounds.of(space, parse_bounds(config.bound))
    Columns.whole(table.metrics, 1, on_test=config.on_test)
    if config.audit:
        from ncp_jax.auditing import check_rows

        check_rows(table)
    notify(f"training {config.members} networks on {table.codes.shape[0]} architectures")
    key = jax.random.fold_in(jax.random.key(config.seed), 0)
    recipe = with_chosen_decay(
        table, np.ones(len(table), bool), get_recipe("ensemble"), key=key, on_test=config.on_test
    )
    recipe = dataclasses.replace(recipe, decay_rows=0)  # it is chosen
    with ProgressBar("ncp-jax: training, epochs") as bar:
        predictor = fit(table, recipe=recipe, members=config.members, key=key, progress=bar, on_test=config.on_test)
    errors: dict[str, HeldOutError] = {}
    if len(table) >= FEWEST:
        with ProgressBar("ncp-jax: error on rows held out, epochs") as bar:
            held_out = jax.random.fold_in(key, 2**31 + 1)
            # Three eighths of the time of the training, or of one network.
            parts = max(1, min(FOLDS, config.members * FOLDS // SearchConfig.members))
            errors = held_out_errors(
                table, recipe=recipe, parts=parts, key=held_out, on_test=config.on_test, progress=bar
            )
    origin = PredictorOrigin("trained", config.members, dict(table.hashes), table=table.name)
    return predictor, origin, errors


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


def choose_objective(config: SearchConfig, choice: PredictorChoice) -> Objective:
    """Returns the objective that the config names, or the default one for the predictor's metrics.

    Raises:
      UsageError: an unknown metric, a metric named twice, an illegal weight.
    """
    predictor = choice.predictor
    model = choice.costs or cost_model_for(predictor.space, predictor.metrics)
    costs = [] if model is None else list(model.units)
    if config.maximize or config.minimize:
        known = dict.fromkeys([*(m.name for m in predictor.metrics), *costs])
        return read_objective(config.maximize, config.minimize, list(known))
    objective = default_objective(predictor.metrics, limited=config.limits_flops and not config.pareto)
    if config.pareto and "flops" in costs and len(objective.pushed) == 1:
        objective = dataclasses.replace(objective, minimize={**objective.minimize, "flops": COST_WEIGHT})
    return objective


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
