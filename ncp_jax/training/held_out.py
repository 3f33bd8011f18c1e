"""Measures how wrong predictors are on rows that they have not learned from."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.benchmarks import Table
from ncp_jax.jax_settings import package_settings
from ncp_jax.metrics import to_own_units
from ncp_jax.propagation.limit import HeldOutError
from ncp_jax.spaces import get_space
from ncp_jax.training.columns import Columns
from ncp_jax.training.fitting import Progress, fit_many
from ncp_jax.training.recipes import Recipe, get_recipe
from ncp_jax.types import Key

FOLDS = 3
FEWEST = 3 * FOLDS  # rows below which there is nothing to hold out


@package_settings
def held_out_errors(
    table: Table,
    *,
    recipe: str | Recipe = "ensemble",
    folds: int = FOLDS,
    members: int = 1,
    key: Key | int,
    on_test: bool = False,
    progress: Progress | None = None,
) -> dict[str, HeldOutError]:
    """Cross-validates an ensemble: every row is predicted by networks that have not learned from it.

    The networks have learned from fewer rows than one that is fitted to all of them, and may be fewer: the errors are
    rather too large than too small.

    Args:
      table: the measured architectures.
      recipe: the recipe, with the weight decay of the ensemble that is to be judged.
      folds: number of parts, each of which is held out once.
      members: number of networks for each fold.
      key: key of folds and networks, or an integer as its seed.
      on_test: as for ``fit``.
      progress: callback, called with (epochs done, all epochs).

    Returns:
      The errors by metric, in the metrics' own units; costs included where they are learned.

    Raises:
      UsageError: fewer rows than three for each fold, or what ``fit_many`` raises.
    """
    folds = checks.integer("folds", folds, least=2, remedy="try folds=3")
    n, recipe, root = len(table), get_recipe(recipe), checks.key(key)
    if n < 3 * folds:
        raise checks.UsageError(expected=f"at least {3 * folds} rows to hold out", got=str(n), remedy="measure more")
    # All rows of one architecture are held out together.
    _, place = np.unique(np.asarray(table.codes), axis=0, return_inverse=True)
    order = np.asarray(jax.random.permutation(jax.random.fold_in(root, 2**31), place.max() + 1))
    train = order[place.ravel()][None, :] % folds != np.arange(folds)[:, None]
    runs = np.repeat(np.arange(folds), members)
    fitted = fit_many(
        table,
        train[runs],
        keys=jax.vmap(functools.partial(jax.random.fold_in, root))(jnp.arange(len(runs))),
        recipe=recipe,
        columns=Columns.whole(table.metrics, len(runs), on_test=on_test),
        progress=progress,
    )
    relaxed = get_space(table.space).encode(table.codes)
    names: tuple[str, ...] = ()
    mean, spread = np.zeros((n, 0)), np.zeros((n, 0))
    for fold in range(folds):
        predictor = fitted.predictor(np.flatnonzero(runs == fold).tolist())
        predicted = [np.asarray(a) for a in predictor.in_stored_units(relaxed)]
        own, own_spread = to_own_units(predictor.metrics, *predicted)
        if fold == 0:
            names = tuple(metric.name for metric in predictor.metrics)
            mean, spread = np.zeros((n, len(names))), np.zeros((n, len(names)))
        unseen = ~train[fold]
        mean[unseen], spread[unseen] = own[unseen], own_spread[unseen]
    return {name: HeldOutError.of(mean[:, i], spread[:, i], table.measured(name)) for i, name in enumerate(names)}
