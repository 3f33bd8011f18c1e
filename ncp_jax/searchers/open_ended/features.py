"""Features of relaxed codes that models of sessions compare, for any space, as differentiable functions."""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces import Space
from ncp_jax.types import Array, Float

SAMPLE = 512  # random codes that set centres and scales
LEAST_SPREAD = 1e-6
WAVES = np.array([1.0, 2.0, 3.0, 4.0])  # half periods of the cosines that an ordered position's effect consists of


@dataclasses.dataclass(frozen=True, eq=False)
class Features:
    """How the relaxed codes of a space become features in groups, each with a length-scale of its own.

    There is a group for each position, and one for the space's smooth attributes that depend on several positions.
    Ends of an ordered position, and different choices, are at the distance 1; attributes are scaled to the same
    spread as an ordered position.

    Attributes:
      space: the space.
      groups: int [g], number of the group of each feature.
      lower, width: float32 [f], what is subtracted from, and what divides, relaxed codes and attributes.
      centre, tilt: float32 [e], mean of each function that effects consist of, and the factor that gives its group unit
        variance.
      straight: int [b], the features with a linear effect: shares of choices, attributes and other tasks.
      curved: int [c], the features with an effect of any shape: ordered positions.
      kept: int, attributes that vary and are no function of a single position.
      mean, scale: float32 [f], mean of each feature over the space, and the factor that gives it unit variance; 0 where
        it does not vary.
      tasks: number of other tasks whose predictions are the last features.
    """

    space: Space
    groups: np.ndarray
    lower: np.ndarray
    width: np.ndarray
    centre: np.ndarray
    tilt: np.ndarray
    straight: np.ndarray
    curved: np.ndarray
    kept: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    tasks: int = 0

    @property
    def count(self) -> int:
        """Number of groups."""
        return int(self.groups.max()) + 1

    def __call__(self, relaxed: Float[Array, "n f"], others: Float[Array, "n t"] | None = None) -> Float[Array, "n g"]:
        """Returns the features whose squared distances the kernel scales (jittable).

        Args:
          relaxed: relaxed codes.
          others: predictions for other tasks, of unit variance; they become groups of one feature each.
        """
        parts = [relaxed]
        if len(self.kept):
            parts.append(self.space.smooth_attributes(relaxed)[:, self.kept])
        own = (jnp.concatenate(parts, axis=1) - self.lower) / self.width
        return own if others is None else jnp.concatenate([own, others / np.sqrt(12)], axis=1)

    def standard(self, features: Float[Array, "n g"]) -> Float[Array, "n g"]:
        """Returns the features with mean 0 and variance 1 over the space, as inputs of networks (jittable)."""
        return (features - self.mean) * self.scale

    @property
    def effect_groups(self) -> np.ndarray:
        """Number of the group of each function that ``effects`` returns, int [e]."""
        return _effect_groups(self.groups, self.straight, self.curved)

    def effects(self, features: Float[Array, "n g"]) -> Float[Array, "n e"]:
        """Returns functions of the features whose weighted sums are the kernel's additive part (jittable).

        They are centred, and each group has unit variance over the space. The effect of an ordered position is a sum of
        cosines whose amplitudes fall with the square of the frequency; choices have an effect each.
        """
        return (_functions(features, self.straight, self.curved) - self.centre) * self.tilt


def _effect_groups(groups: np.ndarray, straight: np.ndarray, curved: np.ndarray) -> np.ndarray:
    return np.concatenate([groups[straight], np.tile(groups[curved], len(WAVES))])


def _functions(features: Array, straight: np.ndarray, curved: np.ndarray) -> Array:
    waves = [jnp.cos(float(np.pi * wave) * features[:, curved]) * float(wave**-2) for wave in WAVES]
    return jnp.concatenate([features[:, straight], *waves], axis=1)


@functools.lru_cache(maxsize=32)
def features_of(space: Space, tasks: int = 0) -> Features:
    """Returns the features of a space and of the predictions for some other tasks (host-side; cached)."""
    if tasks:
        own = features_of(space)
        last, ends = len(own.groups) + np.arange(tasks), len(own.straight)
        return dataclasses.replace(
            own,
            tasks=tasks,
            groups=np.concatenate([own.groups, own.count + np.arange(tasks)]),
            centre=np.insert(own.centre, [ends] * tasks, 0.0),
            tilt=np.insert(own.tilt, [ends] * tasks, np.sqrt(12)),
            straight=np.concatenate([own.straight, last]),
            mean=np.concatenate([own.mean, np.zeros(tasks, np.float32)]),
            scale=np.concatenate([own.scale, np.full(tasks, np.sqrt(12), np.float32)]),
        )
    with jax.ensure_compile_time_eval():  # also where a program is being traced
        codes = np.asarray(space.sample(jax.random.key(0), SAMPLE))
        relaxed = np.asarray(space.encode(jnp.asarray(codes)))
        attributes = np.asarray(space.smooth_attributes(jnp.asarray(relaxed)), np.float32)
    owners = _owners(space, codes, relaxed)
    width = space.upper - space.lower
    width = np.where(width > 0, width, 1.0)
    choice = np.bincount(owners, minlength=space.length)[owners] > 1
    width = np.where(choice, np.sqrt(2.0), width)  # two different one-hot blocks are at the distance sqrt(2)
    kept = _joint(attributes, codes)
    attributes = attributes[:, kept]
    # The numbers of an ordered position, drawn uniformly, have the standard deviation 1 / sqrt(12) of their range.
    spread = attributes.std(axis=0) * np.sqrt(12.0 * max(len(kept), 1))
    groups = np.concatenate([owners, np.full(len(kept), owners.max() + 1, int)]).astype(int)
    groups = np.unique(groups, return_inverse=True)[1]
    lower = np.concatenate([space.lower, attributes.mean(axis=0)]).astype(np.float32)
    width = np.concatenate([width, spread]).astype(np.float32)
    features = (np.concatenate([relaxed, attributes], axis=1) - lower) / width
    ordered = np.concatenate([~choice, np.zeros(len(kept), bool)])
    straight, curved = np.flatnonzero(~ordered), np.flatnonzero(ordered)
    with jax.ensure_compile_time_eval():
        functions = np.asarray(_functions(jnp.asarray(features), straight, curved))
    effect_groups = _effect_groups(groups, straight, curved)
    variance = np.bincount(effect_groups, weights=functions.var(axis=0), minlength=groups.max() + 1)
    tilt = np.where(variance > LEAST_SPREAD**2, 1 / np.sqrt(np.maximum(variance, LEAST_SPREAD**2)), 0.0)
    spread = features.std(axis=0)
    return Features(
        space=space,
        groups=groups,
        lower=lower,
        width=width,
        centre=functions.mean(axis=0).astype(np.float32),
        tilt=tilt[effect_groups].astype(np.float32),
        straight=straight,
        curved=curved,
        kept=kept,
        mean=features.mean(axis=0),
        scale=np.where(spread > LEAST_SPREAD, 1 / np.maximum(spread, LEAST_SPREAD), 0.0).astype(np.float32),
    )


def _owners(space: Space, codes: np.ndarray, relaxed: np.ndarray) -> np.ndarray:
    """Returns the position that each relaxed feature depends on: a feature may change only where its position does."""
    changed = np.abs(relaxed - np.roll(relaxed, 1, axis=0)) > 0
    moved = codes != np.roll(codes, 1, axis=0)
    # Of the positions that moved whenever the feature did, the one that moved least often otherwise.
    missed = (changed[:, :, None] & ~moved[:, None, :]).sum(axis=0)
    extra = (~changed[:, :, None] & moved[:, None, :]).sum(axis=0)
    return _least(missed, extra)


def _least(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Returns for each row the column with the least ``first``, of those the one with the least ``second``."""
    return np.argmin(first.astype(np.int64) * (second.max() + 1) + second, axis=1)


def _joint(attributes: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """Returns the attributes that vary and are not a function of one position alone."""
    kept = []
    for place, column in enumerate(attributes.T):
        if column.std() <= LEAST_SPREAD:
            continue
        alone = False
        for position in codes.T:
            _, which = np.unique(position, return_inverse=True)
            low, high = np.full(which.max() + 1, np.inf), np.full(which.max() + 1, -np.inf)
            np.minimum.at(low, which, column)
            np.maximum.at(high, which, column)
            alone = alone or bool((high - low <= 1e-4 * np.ptp(column)).all())
        if not alone:
            kept.append(place)
    return np.array(kept, int)
