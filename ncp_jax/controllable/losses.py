"""Losses, scores and distillation terms of tasks; outputs of one width configuration against targets."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from ncp_jax.controllable.tasks import Target
from ncp_jax.types import Array, Float

TINY = 1e-6  # keeps the norm of features differentiable where all of them are zero


def task_loss(target: Target, outputs: Array, truth: Array) -> Float[Array, ""]:
    """Returns the mean cross-entropy of the images or pixels that have a class, or the mean squared error of numbers.

    Numbers that are NaN, which are not known, do not count.
    """
    if target.kind == "pixels":
        known = ~jnp.isnan(truth)
        return (_errors(outputs, truth, known) ** 2).sum() / jnp.maximum(known.sum(), 1)
    labelled = truth >= 0
    each = optax.softmax_cross_entropy_with_integer_labels(outputs, jnp.maximum(truth, 0))
    return jnp.where(labelled, each, 0).sum() / jnp.maximum(labelled.sum(), 1)


def task_score(target: Target, outputs: Array, truth: Array) -> Float[Array, ""]:
    """Returns the task's metric in percent, higher is better; NaN if an output is not finite.

    It is the accuracy, or the explained share of the variance around each pixel's mean; 0 where nothing is known.
    """
    return score_of_sums(score_sums(target, outputs, truth, known_means(target, truth)))


def known_means(target: Target, truth: Array) -> Array:
    """Returns the mean of each pixel's known numbers over all images, which ``score_sums`` takes; 0 for classes."""
    if target.kind != "pixels":
        return jnp.zeros(())
    known = ~jnp.isnan(truth)
    return jnp.where(known, truth, 0).sum(axis=0) / jnp.maximum(known.sum(axis=0), 1)


def score_sums(target: Target, outputs: Array, truth: Array, means: Array) -> Float[Array, "3"]:
    """Returns what the metric is made of, and what adds up over images.

    These are the errors (classes that are wrong, or squares), those of the simplest guess (all classes, or the squares
    of the distances from ``means``), and the number of outputs that are not finite.
    """
    if target.kind == "pixels":
        known = ~jnp.isnan(truth)
        errors, most = (jnp.square(_errors(guess, truth, known)).sum() for guess in (outputs, means))
    else:
        labelled = truth >= 0
        errors, most = (labelled & (outputs.argmax(axis=-1) != truth)).sum(), labelled.sum()
    return jnp.stack([errors, most, (~jnp.isfinite(outputs)).sum()]).astype(jnp.float32)


def score_of_sums(sums: Float[Array, "*n 3"]) -> Float[Array, "*n"]:
    """Returns the metric of the sums over all images, in percent."""
    errors, most, infinite = jnp.moveaxis(sums, -1, 0)
    share = jnp.where(most > 0, 1 - errors / jnp.where(most > 0, most, 1), 0)
    return jnp.where(infinite > 0, jnp.nan, 100 * share)


def _errors(outputs: Array, truth: Array, known: Array) -> Array:
    # Replaced before the subtraction: the gradient of what is left out afterwards would be NaN.
    return jnp.where(known, outputs - jnp.where(known, truth, 0), 0)


def imitation_loss(target: Target, outputs: Array, teacher: Array) -> Float[Array, ""]:
    """Returns how far outputs are from those of a teacher, which gets no gradient.

    It is the Kullback-Leibler divergence of classes, or the mean squared difference of pixels.
    """
    teacher = jax.lax.stop_gradient(teacher)
    if target.kind == "pixels":
        return jnp.mean((outputs - teacher) ** 2)
    wanted = jax.nn.log_softmax(teacher)
    return (jnp.exp(wanted) * (wanted - jax.nn.log_softmax(outputs))).sum(axis=-1).mean()


def feature_loss(
    features: list[Array], teacher: list[Array], projections: list[Array], full: Array
) -> Float[Array, ""]:
    """Returns how far an encoder's features are from those of the full encoder, which get no gradient.

    The term of configuration-invariant distillation. Published is that smaller encoders learn the representation of
    the largest one; that all stages count alike, the projection, and the squared distance between features scaled to
    unit length are this project's choices.

    Args:
      features: features [n, h, w, c] of each stage, zero in inactive channels.
      teacher: those of the full encoder.
      projections: a matrix [c, c] for each stage, applied where its channels differ from the full ones.
      full: ``[stages]`` whether each stage has all of its channels.
    """
    total = jnp.zeros(())
    for place, (x, wanted) in enumerate(zip(features, teacher, strict=True)):
        x = jnp.where(full[place], x, x @ projections[place].astype(x.dtype)).astype(jnp.float32)
        wanted = jax.lax.stop_gradient(wanted).astype(jnp.float32)
        total += jnp.square(_unit(x) - _unit(wanted)).sum(axis=-1).mean()
    return total / len(features)


def _unit(x: Array) -> Array:
    return x * jax.lax.rsqrt(jnp.square(x).sum(axis=-1, keepdims=True) + TINY)
