"""Defines the relation predictor: which of two architectures is better on a task, antisymmetric by construction."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax import checks
from ncp_jax.types import Array, Float

ENCODERS = ("graph", "code")
EVIDENCE_SCALE = 2.0  # scale of the evidence from source tasks against the architecture's own features


class GraphEncoder(nnx.Module):
    """Encodes an architecture by message passing along its edges, both ways, and a sum over its live operations.

    Args:
      features: f, number of features of an operation.
      attributes: g, number of attributes of the graph.
      operations: v, number of operations of a graph; unused here.
      width: units of every layer.
      rounds: rounds of message passing.
      rngs: random streams of the initial weights.
    """

    def __init__(
        self, features: int, attributes: int, *, operations: int, width: int, rounds: int = 1, rngs: nnx.Rngs
    ) -> None:
        del operations
        linear = functools.partial(nnx.Linear, rngs=rngs, kernel_init=nnx.initializers.he_normal())
        self.enter = linear(features, width)
        self.stay = nnx.List([linear(width, width) for _ in range(rounds)])
        self.ahead = nnx.List([linear(width, width, use_bias=False) for _ in range(rounds)])
        self.back = nnx.List([linear(width, width, use_bias=False) for _ in range(rounds)])
        self.leave = linear(width + attributes, width)

    def __call__(
        self,
        nodes: Float[Array, "n v f"],
        live: Float[Array, "n v"],
        links: Float[Array, "v v"],
        attributes: Float[Array, "n g"],
    ) -> Float[Array, "n w"]:
        """Encodes n architectures.

        Args:
          nodes: features of each operation.
          live: 1 for operations that count, 0 for others.
          links: 1 at ``[i, j]`` if operation i feeds operation j.
          attributes: attributes of each graph, in standard units.
        """
        mask = live[..., None]
        hidden = nnx.swish(self.enter(nodes)) * mask
        for stay, ahead, back in zip(self.stay, self.ahead, self.back, strict=True):
            # Messages from the operations before and after each one, added to a residual connection.
            from_inputs = jnp.einsum("ij,niw->njw", links, ahead(hidden))
            from_outputs = jnp.einsum("ij,njw->niw", links, back(hidden))
            hidden = hidden + nnx.swish(stay(hidden) + from_inputs + from_outputs) * mask
        pooled = hidden.sum(axis=-2) / np.sqrt(nodes.shape[-2])
        return nnx.swish(self.leave(jnp.concatenate([pooled, attributes], axis=-1)))


class CodeEncoder(nnx.Module):
    """Encodes an architecture by two dense layers on its one-hot features and attributes, as a simple baseline.

    Arguments and call are those of ``GraphEncoder``; ``rounds``, ``live`` and ``links`` are unused.
    """

    def __init__(
        self, features: int, attributes: int, *, operations: int, width: int, rounds: int = 1, rngs: nnx.Rngs
    ) -> None:
        del rounds
        linear = functools.partial(nnx.Linear, rngs=rngs, kernel_init=nnx.initializers.he_normal())
        self.enter = linear(operations * features + attributes, width)
        self.leave = linear(width, width)

    def __call__(
        self,
        nodes: Float[Array, "n v f"],
        live: Float[Array, "n v"],
        links: Float[Array, "v v"],
        attributes: Float[Array, "n g"],
    ) -> Float[Array, "n w"]:
        """Encodes n architectures; see ``GraphEncoder``."""
        del live, links
        flat = nodes.reshape(*nodes.shape[:-2], -1)
        return nnx.swish(self.leave(nnx.swish(self.enter(jnp.concatenate([flat, attributes], axis=-1)))))


class RelationPredictor(nnx.Module):
    """Predicts utilities u_t(a) of architectures a on tasks t: P(a better than b) = sigmoid((u_t(a) − u_t(b)) · slope).

    The difference makes the relation antisymmetric: P(a, b) + P(b, a) = 1. Each architecture is encoded once; all pairs
    follow from the utilities. A task has a learned vector τ_t, which weights the encoder's features, and a learned
    vector σ_t, which weights the evidence of source tasks:

        u_t(a) = τ_t · [encoder(a), mix(encoder(a), e(a))] + σ_t · e(a),

    where e(a) are the utilities of the architecture on s source tasks (s = 0 for none). σ_t starts with equal weights
    of all sources.

    Source: Arch-Graph (Huang et al., CVPR 2022), section 3. Deviations: the paper's network reads both architectures
    and a given task embedding. Here the network reads one architecture and returns its utility, because the measured
    relation of a task is an order; and the task's embedding is fitted along with the network.

    Args:
      features: f, number of features of an operation.
      attributes: g, number of attributes of a graph.
      operations: v, number of operations of a graph.
      sources: s, number of source tasks whose utilities serve as evidence.
      tasks: t, number of tasks learned together.
      encoder: "graph" or "code".
      width: units of every layer.
      rounds: rounds of message passing.
      rngs: random streams of the initial weights.
    """

    def __init__(
        self,
        features: int,
        attributes: int,
        *,
        operations: int,
        sources: int,
        tasks: int = 1,
        encoder: str = "graph",
        width: int = 32,
        rounds: int = 1,
        rngs: nnx.Rngs,
    ) -> None:
        chosen: Any = {"graph": GraphEncoder, "code": CodeEncoder}[checks.choose("encoder", encoder, ENCODERS)]
        self.encoder = chosen(features, attributes, operations=operations, width=width, rounds=rounds, rngs=rngs)
        self.mix = nnx.Linear(width + sources, width, kernel_init=nnx.initializers.he_normal(), rngs=rngs)
        self.task = nnx.Linear(2 * width, tasks, use_bias=False, kernel_init=nnx.initializers.lecun_normal(), rngs=rngs)
        self.trust = nnx.Param(jnp.full((sources, tasks), 1.0 / max(sources, 1)))

    def __call__(
        self,
        nodes: Float[Array, "n v f"],
        live: Float[Array, "n v"],
        links: Float[Array, "v v"],
        attributes: Float[Array, "n g"],
        evidence: Float[Array, "n s"],
    ) -> Float[Array, "n t"]:
        """Returns the utility of each architecture on each task; higher is better, in units of the relation's slope.

        Args:
          nodes: features of each operation.
          live: 1 for operations that count, 0 for others.
          links: 1 at ``[i, j]`` if operation i feeds operation j.
          attributes: attributes of each graph, in standard units.
          evidence: utilities on the source tasks, in standard units; ``[n, 0]`` without sources.
        """
        own = self.encoder(nodes, live, links, attributes)
        mixed = nnx.swish(self.mix(jnp.concatenate([own, EVIDENCE_SCALE * evidence], axis=-1)))
        return self.task(jnp.concatenate([own, mixed], axis=-1)) + evidence @ self.trust[...]


@jax.custom_vjp
def pair_loss(
    utilities: Float[Array, " b"], preference: Float[Array, "b b"], mask: Float[Array, " b"], slope: Float[Array, ""]
) -> Float[Array, ""]:
    """Returns the mean of −p log P − (1 − p) log(1 − P) over all pairs, with P = sigmoid(slope · (u_a − u_b)).

    Args:
      utilities: utilities of b architectures on one task.
      preference: p of each ordered pair, in 0..1, with ``p + p.T == 1``.
      mask: 1 for architectures that count, 0 for others.
      slope: factor between a difference of utilities and log-odds.
    """
    logits = slope * (utilities[:, None] - utilities)
    each = jax.nn.softplus(-logits) + (1 - preference) * logits
    return (each * mask[:, None] * mask).sum() / jnp.maximum(mask.sum() ** 2, 1.0)


def _forward(
    utilities: Array, preference: Array, mask: Array, slope: Array
) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    return pair_loss(utilities, preference, mask, slope), (utilities, preference, mask, slope)


def _backward(saved: tuple[Array, Array, Array, Array], g: Array) -> tuple[Array, None, None, None]:
    # Both orders of a pair contribute equally to the gradient, so one sum over rows, doubled, is enough.
    utilities, preference, mask, slope = saved
    pull = (jax.nn.sigmoid(slope * (utilities[:, None] - utilities)) - preference) * mask[:, None] * mask
    return g * 2 * slope * pull.sum(axis=1) / jnp.maximum(mask.sum() ** 2, 1.0), None, None, None


pair_loss.defvjp(_forward, _backward)
