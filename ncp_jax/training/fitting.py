"""Fits predictors: one ensemble, or many runs (seeds × tasks × folds) in one vmapped program."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.jax_settings import package_settings
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors import FoldedMLP, Predictor, Standardisation
from ncp_jax.predictors.kinds import KINDS
from ncp_jax.records.run_card import result_versions
from ncp_jax.spaces import get_space
from ncp_jax.training.checkpoint import Checkpoints
from ncp_jax.training.columns import Columns
from ncp_jax.training.program import Moments, Program, Run, State, advance, module, moments, start
from ncp_jax.training.recipes import Recipe, get_recipe
from ncp_jax.types import Array, Bool, Float, Int, Key, Params

Progress = Callable[[int, int], None]

# Runs trained at once. On CPU, more runs do not fit the caches; an accelerator needs thousands to be busy.
CHUNK = {"cpu": 16}
CHUNK_ELSEWHERE = 1024
DECAY_FOLDS = 3  # folds of the cross-validation that chooses the weight decay
DECAY_FACTORS = (1.0, 2.0, 5.0, 12.0, 30.0)  # candidate strengths, as multiples of the recipe's


@dataclasses.dataclass(frozen=True)
class Fitted:
    """Trained runs, folded for inference.

    Attributes:
      params: folded layers, leaves ``[r, …]``, in the standard units of each run's own ``scales``.
      scales: means and standard deviations of each run, leaves ``[r, …]``.
      columns: metrics that each run learned.
      program: recipe and shapes.
      metrics: specifications of the table's metrics.
      space: name of the table's space.
    """

    params: Params
    scales: Moments
    columns: Columns
    program: Program
    metrics: tuple[MetricSpec, ...]
    space: str

    @package_settings
    def predictor(self, runs: Sequence[int]) -> Predictor:
        """Returns the ensemble of some runs that learned the same columns, with one standardisation.

        Raises:
          UsageError: there are no runs, or they learned different columns.
        """
        chosen = np.asarray(runs, int)
        rows = self.columns.indices[chosen]
        if len(chosen) == 0 or (rows != rows[0]).any():
            raise checks.UsageError(
                expected="runs that learned the same columns",
                got=f"runs {list(runs)}",
                remedy="make one ensemble per task",
            )
        params, scales = _pick((self.params, self.scales), chosen)

        # Each run standardised by its own training rows; the ensemble uses the mean of their standardisations.
        f = self.program.features
        shared = Standardisation(
            scales.x_mean[:, :f].mean(axis=0),
            scales.x_std[:, :f].mean(axis=0),
            scales.y_mean.mean(axis=0),
            scales.y_std.mean(axis=0),
        )
        rescaled = jax.vmap(functools.partial(_rescale, f, self.program.recipe.log, shared))(params, scales)

        # A repeated column was padding: keep the first output of each metric.
        first = [int(np.flatnonzero(rows[0] == c)[0]) for c in dict.fromkeys(rows[0].tolist())]
        apply = FoldedMLP(log=self.program.recipe.log)
        metrics = tuple(self.metrics[c] for c in rows[0][first])
        picked = jnp.asarray(first)
        scale = dataclasses.replace(shared, y_mean=shared.y_mean[picked], y_std=shared.y_std[picked])
        return Predictor(apply.select(rescaled, tuple(first)), scale, apply, metrics, self.space)


@jax.jit
def _pick(tree: Any, rows: Int[np.ndarray, " k"]) -> Any:
    """Returns these rows of all arrays, in one program: array by array, five are compiled for each shape."""
    return jax.tree.map(lambda a: a[rows], tree)


def _rescale(features: int, log: bool, to: Standardisation, params: Params, own: Moments) -> Params:
    """Rewrites the first and last layer to use the standard units of ``to`` instead of the run's own."""
    (w1, *w, w_last), (b1, *b, b_last) = params["w"], params["b"]

    # The features arrive in the units of ``to``; their logarithms, if any, arrive unstandardised.
    linear, logs = w1[:features], w1[features:]
    x_std, logs_std = own.x_std[:features], own.x_std[features:]
    b1 = b1 + ((to.x_mean - own.x_mean[:features]) / x_std) @ linear
    b1 = b1 - (own.x_mean[features:] / logs_std) @ logs
    w1 = jnp.concatenate([linear * (to.x_std / x_std)[:, None], logs / logs_std[:, None]])

    # The metrics leave in the units of ``to``.
    w_last = w_last * (own.y_std / to.y_std)
    b_last = (b_last * own.y_std + own.y_mean - to.y_mean) / to.y_std
    extra = {"x_mean": to.x_mean, "x_std": to.x_std} if log else {}
    return {"w": (w1, *w, w_last), "b": (b1, *b, b_last), **extra}


@package_settings
def fit(
    table: Table,
    *,
    recipe: str | Recipe = "ensemble",
    members: int = 8,
    key: Key | int,
    rows: Bool[np.ndarray, " n"] | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
    on_test: bool = False,
) -> Predictor:
    """Fits an ensemble that predicts all metrics of a table from relaxed codes.

    Examples:
      >>> import jax, ncp_jax as ncp
      >>> table = ncp.load_table("digits/class")
      >>> recipe = ncp.Recipe("short", widths=(8,), rates=(0.0,), epochs=2, decay_rows=0)  # the default trains longer
      >>> predictor = ncp.fit(table, recipe=recipe, members=2, key=jax.random.key(0))
      >>> predictor.members
      2

    Args:
      table: the measured architectures.
      recipe: a recipe or its name ("ensemble", "ncp").
      members: number of networks; member i draws from ``fold_in(key, i)``.
      key: key of initial weights, batches and dropout, or an integer as its seed.
      rows: ``[n]`` True for the rows to learn from, or None for all.
      checkpoint: folder for the state of an unfinished training, from which an interrupted call continues.
      progress: callback, called with (epochs done, all epochs).
      on_test: whether columns of the test split are learned too. They are for the evaluation of a search's result.

    Returns:
      The ensemble, which predicts in the metrics' own units.

    Raises:
      UsageError: an unknown recipe, fewer than one member, too few rows, or qualities of the test split alone without
        ``on_test``.
      DataError: values that are not finite, or no quality metric that varies.
    """
    members, root = checks.integer("members", members, least=1, remedy="try members=8"), checks.key(key)
    mask = np.ones(len(table), bool) if rows is None else np.asarray(rows, bool)
    recipe = with_chosen_decay(table, mask, get_recipe(recipe), key=root, on_test=on_test)
    keys = jax.vmap(functools.partial(jax.random.fold_in, root))(jnp.arange(members))
    fitted = fit_many(
        table,
        np.tile(mask, (members, 1)),
        keys=keys,
        recipe=recipe,
        columns=Columns.whole(table.metrics, members, on_test=on_test),
        checkpoint=checkpoint,
        progress=progress,
    )
    return fitted.predictor(range(members))


def with_chosen_decay(
    table: Table, rows: Bool[np.ndarray, " n"], recipe: Recipe, *, key: Key, on_test: bool = False
) -> Recipe:
    """Returns the recipe that ``fit`` with that key trains by: small tables choose their weight decay."""
    if not DECAY_FOLDS * 2 <= rows.sum() < recipe.decay_rows:
        return recipe
    strength = choose_decay(table, rows, recipe, key=jax.random.fold_in(key, 2**31), on_test=on_test)
    return dataclasses.replace(recipe, weight_decay=strength)


@package_settings
def choose_decay(
    table: Table, rows: Bool[np.ndarray, " n"], recipe: Recipe, *, key: Key, on_test: bool = False
) -> float:
    """Chooses the weight decay by cross-validation: folds × strengths in one vmapped program.

    A small table can be a smooth function or mostly noise, and no single strength suits both. On 400 rows of
    NAS-Bench-MR, five times the recipe's strength is best by far; on 100 rows without noise, the recipe's own is.

    Args:
      table: the measured architectures.
      rows: ``[n]`` True for the rows to use.
      recipe: recipe whose ``weight_decay`` is the smallest candidate.
      key: key of folds and networks.
      on_test: whether columns of the test split are learned too.

    Returns:
      The candidate with the smallest mean squared error on unseen folds, over the quality metrics in standard units.
    """
    candidates = recipe.weight_decay * np.asarray(DECAY_FACTORS)
    # Every fold holds out a random third of the rows, and is trained once with each candidate.
    order = np.asarray(jax.random.permutation(key, np.flatnonzero(rows)))
    train = np.tile(rows, (DECAY_FOLDS, 1))
    for fold in range(DECAY_FOLDS):
        train[fold, order[fold::DECAY_FOLDS]] = False
    layout = [(fold, decay) for decay in candidates for fold in range(DECAY_FOLDS)]
    keys = jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(len(layout)))
    fitted = fit_many(
        table,
        train[[f for f, _ in layout]],
        keys=keys,
        recipe=recipe,
        columns=Columns.whole(table.metrics, len(layout), on_test=on_test),
        decays=np.array([d for _, d in layout]),
    )
    relaxed = get_space(table.space).encode(table.codes)
    errors: dict[float, list[float]] = {}
    for run, (fold, decay) in enumerate(layout):
        predictor = fitted.predictor([run])
        quality = [i for i, m in enumerate(predictor.metrics) if m.kind == "quality"]
        measured = np.stack([np.asarray(table.column(m.name)) for m in predictor.metrics], axis=1)
        unseen = rows & ~train[fold]
        error = (np.asarray(predictor.in_stored_units(relaxed)[0]) - measured)[unseen][:, quality]
        deviation = np.std(measured[rows][:, quality], axis=0)
        error = error / np.where(deviation > 0, deviation, 1.0)
        errors.setdefault(float(decay), []).append(float(np.mean(error**2)))
    return min(errors, key=lambda decay: float(np.mean(errors[decay])))


@package_settings
def fit_many(
    table: Table,
    train: Bool[np.ndarray, "r n"],
    *,
    keys: Key,
    recipe: str | Recipe = "ensemble",
    columns: Columns | None = None,
    decays: Float[np.ndarray, " r"] | None = None,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> Fitted:
    """Trains r networks in one vmapped, jitted program: seeds × tasks × folds in any combination.

    This is a host loop over chunks of runs and segments of epochs; it is not jittable.

    Args:
      table: the measured architectures.
      train: True for the training rows of each run. Their numbers must differ by less than one batch; in every epoch, a
        run with more rows leaves some out at random.
      keys: ``[r]`` one key per run.
      recipe: a recipe or its name.
      columns: metrics that each run learns; by default all of them, but for the test split.
      decays: strength of each run's weight decay; the recipe's by default.
      checkpoint: folder for the states of an unfinished training.
      progress: callback, called with (epochs done, all epochs) over all chunks.

    Raises:
      UsageError: shapes that do not fit, fewer than two training rows, or a checkpoint of another training.
    """
    settings = get_recipe(recipe)
    train = np.asarray(train, bool)
    rows = _check_masks(train, len(table), settings)
    _check_values(table, train)
    columns = columns or Columns.whole(table.metrics, len(train))
    if len(keys) != len(train) or len(columns.indices) != len(train):
        raise checks.UsageError(
            expected=f"{len(train)} keys and columns, one per run",
            got=f"{len(keys)} and {len(columns.indices)}",
            remedy="match them",
        )
    space = get_space(table.space)
    if settings.log and min(map(min, space.values)) < 1:
        settings = dataclasses.replace(settings, log=False)  # zero has no logarithm
    program = Program(settings, space.features, columns.heads, rows)
    x = program.inputs(space.encode(table.codes))
    strengths = np.full(len(train), settings.weight_decay) if decays is None else np.asarray(decays)
    runs = Run(keys, jnp.asarray(train), jnp.asarray(columns.indices), jnp.asarray(strengths, jnp.float32))
    signature = _signature(table, train, keys, settings, columns) | {"decays": strengths.tolist()}

    chunks = -(-len(train) // CHUNK.get(jax.default_backend(), CHUNK_ELSEWHERE))
    size = -(-len(train) // chunks)
    pieces, total = [], chunks * program.epochs
    with contextlib.ExitStack() as held:
        checkpoints = held.enter_context(Checkpoints(checkpoint, signature)) if checkpoint else None
        for chunk in range(chunks):
            # The last chunk repeats the last run: all chunks have one shape and compile once.
            part = _pick(runs, np.minimum(np.arange(chunk * size, (chunk + 1) * size), len(train) - 1))
            report = None if progress is None else functools.partial(_report, progress, chunk * program.epochs, total)
            state = _train_chunk(program, part, x, table.values, chunk, checkpoints, report)
            pieces.append(_finish(program, part, state, x, table.values))
    params, scales = jax.tree.map(lambda *a: jnp.concatenate(a)[: len(train)], *pieces)
    return Fitted(params, scales, columns, program, table.metrics, table.space)


def _report(progress: Progress, before: int, total: int, done: int) -> None:
    progress(before + done, total)


def _check_masks(train: np.ndarray, n: int, recipe: Recipe) -> int:
    """Returns the smallest number of training rows of a run; UsageError if the masks do not fit."""
    if train.ndim != 2 or train.shape[1] != n or len(train) == 0:
        raise checks.UsageError(
            expected=f"train as booleans [runs, {n}]",
            got=f"shape {list(train.shape)}",
            remedy="give one row of flags per run",
        )
    counts = train.sum(axis=1)
    if counts.min() < 2:
        raise checks.UsageError(
            expected="at least 2 architectures to learn from", got=str(int(counts.min())), remedy="give more rows"
        )
    if counts.max() - counts.min() >= recipe.batch:
        raise checks.UsageError(
            expected=f"runs whose training rows differ by less than a batch ({recipe.batch})",
            got=f"{int(counts.min())} to {int(counts.max())}",
            remedy="call once per size",
        )
    return int(counts.min())


def _check_values(table: Table, train: np.ndarray) -> None:
    """Raises a DataError for values that are not finite, or quality metrics that are all constant over the rows."""
    values = np.asarray(table.values)[train.any(axis=0)]
    if not np.isfinite(values).all():
        row, column = np.argwhere(~np.isfinite(values))[0]
        raise checks.DataError(
            expected=f"finite values in {table.name}",
            got=f"{values[row, column]} in column {table.metrics[column].name!r}",
            remedy="make the table with from_csv or from_arrays, which check and scale it",
        )
    quality = [column for column, metric in enumerate(table.metrics) if metric.kind == "quality"]
    if quality and not np.ptp(values[:, quality], axis=0).any():
        raise checks.DataError(
            expected=f"a metric that varies in {table.name}",
            got=f"{table.metrics[quality[0]].name!r} with one value in all rows",
            remedy="give rows that differ: nothing can be learned from these",
        )


def _signature(table: Table, train: np.ndarray, keys: Key, recipe: Recipe, columns: Columns) -> dict[str, Any]:
    """Returns the facts that a result depends on, by which a checkpoint is recognised."""
    runs = hashlib.sha256(np.packbits(train).tobytes())
    runs.update(np.asarray(jax.random.key_data(keys)).tobytes())
    runs.update(columns.indices.tobytes())
    return {
        "recipe": recipe.to_json(),
        "table": table.content_hash(),
        "runs": runs.hexdigest(),
        "versions": result_versions(),
    }


@functools.partial(jax.jit, static_argnums=0)
def _start(program: Program, runs: Run) -> State:
    return jax.vmap(functools.partial(start, program))(runs)


@functools.partial(jax.jit, static_argnums=0, donate_argnums=2)
def _advance(program: Program, runs: Run, state: State, x: Array, y: Array) -> State:
    return jax.vmap(functools.partial(advance, program), in_axes=(0, 0, None, None))(runs, state, x, y)


@functools.partial(jax.jit, static_argnums=0)
def _finish(program: Program, runs: Run, state: State, x: Array, y: Array) -> tuple[Params, Moments]:
    fold = KINDS[program.recipe.network].fold

    def one(run: Run, state: State) -> tuple[Params, Moments]:
        return fold(module(program, state.params, state.statistics)), moments(program, run, x, y)

    return jax.vmap(one)(runs, state)


def _train_chunk(
    program: Program,
    runs: Run,
    x: Float[Array, "n i"],
    y: Float[Array, "n c"],
    chunk: int,
    checkpoints: Checkpoints | None,
    report: Callable[[int], None] | None,
) -> State:
    state, done = _start(program, runs), 0
    if checkpoints is not None:
        done, state = checkpoints.load(chunk, state) or (done, state)
    segments = program.epochs // program.segment
    for segment in range(done, segments):
        state = _advance(program, runs, state, x, y)
        if checkpoints is not None:
            checkpoints.save(chunk, segment + 1, state)
        if report is not None:
            jax.block_until_ready(state.step)
            report((segment + 1) * program.segment)
    return state
