"""Defines recipes: all settings of a predictor's network and training, as data."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from ncp_jax import checks
from ncp_jax.predictors import mlp, ncp  # noqa: F401, they register the kinds of networks that ship
from ncp_jax.predictors.kinds import KINDS
from ncp_jax.predictors.products import check_precision


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Settings of a predictor's network and training. ``Recipe(**recipe.to_json())`` is the same recipe.

    Attributes:
      name: name in records.
      network: "ncp" (trunk and heads with BatchNorm), "mlp" (no BatchNorm, for strong weight decay), or another
        kind that is registered (``predictors.kinds``).
      widths: hidden units: of trunk and heads for "ncp", of each layer for "mlp".
      rates: dropout rates: of the trunk and of each head for "ncp", one for all layers of "mlp".
      log: whether the network also reads logarithms of the features, if all values of the space are positive.
      epochs: number of passes over the training rows, before ``min_steps`` and ``max_steps`` apply.
      min_steps: minimum number of gradient steps, for small tables.
      max_steps: maximum number of gradient steps, for large tables.
      batch: maximum number of rows per step.
      learning_rate: peak of the one-cycle schedule.
      weight_decay: strength of the weight decay.
      decay_rows: number of training rows below which ``fit`` chooses the strength by cross-validation (see
        ``choose_decay``); 0 for never.
      decay: kind of weight decay. "l2" adds it to the gradient before Adam; "decoupled" subtracts rate x weight_decay x
        kernel after Adam.
      warm: share of the steps during which the learning rate rises.
      momentum: lowest and highest first-moment decay, cycled against the learning rate.
      huber: threshold of the smooth L1 loss, in standard units.
      precision: precision of the matrix products: "float32", or "bfloat16" operands with float32 sums.
    """

    name: str
    network: str = "mlp"
    widths: tuple[int, ...] = (128, 128, 128)
    rates: tuple[float, ...] = (0.0,)
    log: bool = True
    epochs: int = 60
    min_steps: int = 0
    max_steps: int = 1_000_000
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1.0
    decay_rows: int = 2000
    decay: str = "decoupled"
    warm: float = 0.3
    momentum: tuple[float, float] = (0.85, 0.95)
    huber: float = 1.0
    precision: str = "bfloat16"

    def __post_init__(self) -> None:
        checks.choose("network", self.network, KINDS)
        checks.choose("decay", self.decay, ("l2", "decoupled"))
        check_precision(self.precision)
        for name in ("epochs", "batch", "learning_rate", "huber", "max_steps"):
            checks.positive(name, getattr(self, name))
        checks.positive("weight_decay", self.weight_decay, zero=True)
        checks.positive("decay_rows", self.decay_rows, zero=True)
        # JSON has no tuples; records read back must compare equal.
        for name in ("widths", "rates", "momentum"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def to_json(self) -> dict[str, Any]:
        """Returns the settings as a JSON-ready dictionary."""
        return dataclasses.asdict(self)

    def batches(self, rows: int) -> tuple[int, int]:
        """Returns (steps per epoch, rows per step) for ``rows`` training rows. Each epoch leaves out a remainder."""
        steps = max(1, math.ceil(rows / self.batch))
        return steps, rows // steps

    def epochs_for(self, rows: int) -> int:
        """Returns the number of epochs for ``rows`` training rows, within the bounds on steps."""
        steps, _ = self.batches(rows)
        wanted = min(max(self.epochs * steps, self.min_steps), self.max_steps)
        return max(1, round(wanted / steps))


NCP = Recipe(
    name="ncp",
    network="ncp",
    widths=(256, 128),
    rates=(0.5, 0.5, 0.5, 0.0),
    log=False,
    epochs=200,
    learning_rate=1e-2,
    weight_decay=1e-7,
    decay_rows=0,
    decay="l2",
)
"""The authors' recipe (Ding et al., ICLR 2022, released code). Training keeps the last epoch."""

ENSEMBLE = Recipe(name="ensemble", min_steps=800, max_steps=2500, huber=0.3)
"""This project's recipe: a small joint network with strong decoupled weight decay, for ensembles of eight."""

RECIPES = {recipe.name: recipe for recipe in (NCP, ENSEMBLE)}


def get_recipe(recipe: str | Recipe) -> Recipe:
    """Returns the recipe of that name, or the given recipe; UsageError with the known names if there is none."""
    return recipe if isinstance(recipe, Recipe) else RECIPES[checks.choose("recipe", recipe, RECIPES)]
