"""Families of models that predict metrics independently of each other, fitted once without each fold of a table."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import LinAlgError, cholesky, solve_triangular

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.searchers.open_ended import surrogate
from ncp_jax.searchers.open_ended.features import Features, features_of
from ncp_jax.spaces import get_space
from ncp_jax.training import fit_many, get_recipe
from ncp_jax.training.columns import Columns
from ncp_jax.types import Array, Bool, Float, Int, Key

TREES, PROCESS, NETWORKS = "trees", "gaussian process", "networks"
KERNEL_STEPS = 30  # of the hyper-parameters' ascent; more change no prediction that matters
PROCESS_ROWS = 2048  # largest number of rows that a Gaussian process is given: its cost is cubic
# Settings of the trees: small ones, which on tables of some thousand rows are as good as the default and cost a third.
TREE_SETTINGS = {"max_iter": 100, "max_leaf_nodes": 8, "learning_rate": 0.15}
FEW_ROWS = 1000  # rows below which one strength of the weight decay does not suit all tables
DECAYS, DECAYS_FEW = (1.0,), (1.0, 5.0)  # strengths of the networks that are averaged, as multiples of the recipe's
Report = Callable[[int, int], None]


@dataclasses.dataclass(frozen=True)
class FoldPredictions:
    """Predictions by models of one family, each fitted without one of K folds, in the metrics' stored units.

    Attributes:
      rows: ``[n, m]`` of each row of the table by the model without its fold.
      codes: ``[K, k, m]`` of further codes by each model.
      rows_deviation: ``[n, m]`` standard deviation of a measurement of each row, given the other folds; None for
        families that know none.
      codes_deviation: ``[K, k, m]`` the same of the codes.
    """

    rows: Float[np.ndarray, "n m"]
    codes: Float[np.ndarray, "K k m"]
    rows_deviation: Float[np.ndarray, "n m"] | None = None
    codes_deviation: Float[np.ndarray, "K k m"] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class FoldData:
    """What every family is given.

    Attributes:
      table: the measured architectures, with finite values.
      names: the m metrics to predict.
      fold: ``[n]`` fold of each row, 0..K-1.
      codes: ``[k, d]`` further codes.
    """

    table: Table
    names: tuple[str, ...]
    fold: Int[np.ndarray, " n"]
    codes: Int[np.ndarray, "k d"]

    @property
    def folds(self) -> int:
        """Number of folds, K."""
        return int(self.fold.max()) + 1

    @functools.cached_property
    def relaxed(self) -> Float[np.ndarray, "t f"]:
        """Relaxed codes of the rows, then of the further codes."""
        encode = get_space(self.table.space).encode
        return np.concatenate([np.asarray(encode(jnp.asarray(c))) for c in (self.table.codes, self.codes)])

    @functools.cached_property
    def values(self) -> Float[np.ndarray, "n m"]:
        """Measured values in stored units."""
        return np.stack([np.asarray(self.table.column(name), np.float64) for name in self.names], axis=1)

    def train(self, fold: int) -> Bool[np.ndarray, " n"]:
        """Returns True for the rows outside a fold."""
        return self.fold != fold

    def collect(self, predicted: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Returns what belongs to rows and to codes, from the predictions ``[n + k, m]`` of each fold's model."""
        stacked, n = np.stack(predicted), len(self.fold)
        return stacked[self.fold, np.arange(n)], stacked[:, n:]


def has_trees() -> bool:
    """Returns whether scikit-learn, whose trees are used, is installed."""
    try:
        checks.optional_module("sklearn.ensemble", what="scikit-learn", extra="audit")
    except checks.UsageError:
        return False
    return True


def tree_predictions(data: FoldData, seed: int) -> FoldPredictions:
    """Fits gradient-boosted trees on relaxed codes, one model a fold and metric (scikit-learn's, host-side)."""
    ensemble = checks.optional_module("sklearn.ensemble", what="scikit-learn, for its trees", extra="audit")
    found = []
    for fold in range(data.folds):
        train, columns = data.train(fold), []
        leaf = int(np.clip(train.sum() // 20, 1, 20))
        for values in data.values.T:
            model = ensemble.HistGradientBoostingRegressor(
                **TREE_SETTINGS, min_samples_leaf=leaf, early_stopping=False, random_state=seed
            )
            columns.append(model.fit(data.relaxed[: len(train)][train], values[train]).predict(data.relaxed))
        found.append(np.stack(columns, axis=1))
    return FoldPredictions(*data.collect(found))


def process_predictions(data: FoldData, seed: int) -> FoldPredictions:
    """Fits a Gaussian process to each fold and metric: the one that ``OpenSession`` uses (host-side).

    Hyper-parameters maximise the posterior on up to 256 rows outside the fold; predictions use up to ``PROCESS_ROWS``
    of them. The deviation is that of a measurement, noise included: it grows with the distance from the rows.
    """
    features = features_of(get_space(data.table.space))
    all_features = np.asarray(features(jnp.asarray(data.relaxed)))
    n, rng = len(data.fold), np.random.default_rng(seed)
    means, deviations = [], []
    # All folds are given equally many rows, so that one program serves all.
    size = min(PROCESS_ROWS, *(int(data.train(fold).sum()) for fold in range(data.folds)))
    for fold in range(data.folds):
        rows = rng.permutation(np.flatnonzero(data.train(fold)))[:size]
        mean, deviation = np.zeros((len(all_features), len(data.names))), np.zeros((len(all_features), len(data.names)))
        # Only the rows of the fold and the further codes are asked for, padded to one number.
        asked = np.concatenate([np.flatnonzero(data.fold == fold), np.arange(n, len(all_features))])
        most = int(np.bincount(data.fold).max()) + len(all_features) - n
        asked = np.resize(asked, most)
        for column, values in enumerate(data.values.T):
            targets, centre, unit = _standard(values[rows])
            found = _posterior(features, all_features[rows], targets, all_features[asked])
            mean[asked, column], deviation[asked, column] = centre + unit * found[0], unit * found[1]
        means.append(mean)
        deviations.append(deviation)
    return FoldPredictions(*data.collect(means), *data.collect(deviations))


def _standard(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    centre, unit = float(values.mean()), float(values.std()) or 1.0
    return ((values - centre) / unit).astype(np.float32), centre, unit


@functools.partial(jax.jit, static_argnums=0)
def _kernel(features: Features, seen: Array, targets: Array) -> surrogate.Kernel:
    return surrogate.fit(features, seen, targets, jnp.ones(len(seen), bool), steps=KERNEL_STEPS)


@functools.partial(jax.jit, static_argnums=0)
def _covariances(features: Features, kernel: surrogate.Kernel, seen: Array, where: Array) -> tuple[Array, Array, Array]:
    among = surrogate.noisy(features, kernel, seen, jnp.ones(len(seen), bool))
    return among, surrogate.covariance(features, kernel, seen, where), surrogate.own_variance(features, kernel, where)


def _posterior(
    features: Features, seen: np.ndarray, targets: np.ndarray, where: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean and standard deviation of measurements: Rasmussen and Williams (2006), algorithm 2.1."""
    kernel = _kernel(features, seen[: surrogate.FITTED], targets[: surrogate.FITTED])
    among, cross, own = (np.asarray(a) for a in _covariances(features, kernel, seen, where))
    try:
        factor = cholesky(among, lower=True, check_finite=False)
    except LinAlgError:  # beyond what float32 factorises
        wide = among.astype(np.float64)
        factor = cholesky(wide + 1e-3 * np.trace(wide) / len(wide) * np.eye(len(wide)), lower=True)
    half = solve_triangular(factor, cross, lower=True, check_finite=False)
    mean = solve_triangular(factor, targets, lower=True, check_finite=False) @ half
    noise = float(np.exp(kernel.noise)) + surrogate.JITTER
    return mean, np.sqrt(np.maximum(own - (half**2).sum(axis=0), 0.0) + noise)


def network_predictions(
    data: FoldData, *, steps: int, key: Key, on_test: bool, progress: Report | None = None
) -> FoldPredictions:
    """Trains networks without each fold, all metrics of the table together, in one program.

    On few training rows, networks with the recipe's weight decay and with five times as much are averaged.
    """
    recipe = dataclasses.replace(get_recipe("ensemble"), decay_rows=0, min_steps=steps, max_steps=steps)
    train = np.stack([data.train(fold) for fold in range(data.folds)])
    factors = DECAYS if train.sum(axis=1).min() >= FEW_ROWS else DECAYS_FEW
    runs = len(train) * len(factors)
    fitted = fit_many(
        data.table,
        np.repeat(train, len(factors), axis=0),
        keys=jax.vmap(functools.partial(jax.random.fold_in, key))(jnp.arange(runs)),
        recipe=recipe,
        columns=Columns.whole(data.table.metrics, runs, on_test=on_test),
        decays=recipe.weight_decay * np.tile(factors, len(train)),
        progress=progress,
    )
    relaxed = jnp.asarray(data.relaxed)
    found = []
    for fold in range(data.folds):
        members = range(fold * len(factors), (fold + 1) * len(factors))
        predictor = fitted.predictor(members).select(data.names)
        found.append(np.asarray(predictor.in_stored_units(relaxed)[0], np.float64))
    return FoldPredictions(*data.collect(found))
