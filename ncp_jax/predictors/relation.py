"""Which of two architectures is better on a task: a relation predictor, antisymmetric by construction."""

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
EVIDENCE_SCALE = 2.0  # of the sources' utilities against the architecture's own features


class GraphEncoder(nnx.Module):
    """Message passing along the edges of an architecture, both ways, then the sum over its live operations.

    Args:
      features: f, of each operation.
      attributes: g, of the whole graph, in standard units.
      operations: v, of a graph; it does not matter here.
      width: units of every layer.
      rounds: of message passing.
      rngs: for the initial weights.
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
          live: 1 where the operation counts, 0 where it does not.
          links: ``links[i, j]`` is 1 where operation i feeds operation j.
          attributes: of the whole graph, in standard units.
        """
        mask = live[..., None]
        hidden = nnx.swish(self.enter(nodes)) * mask
        for stay, ahead, back in zip(self.stay, self.ahead, self.back, strict=True):
            received = jnp.einsum("ij,niw->njw", links, ahead(hidden))
            answered = jnp.einsum("ij,njw->niw", links, back(hidden))
            hidden = hidden + nnx.swish(stay(hidden) + received + answered) * mask
        pooled = hidden.sum(axis=-2) / np.sqrt(nodes.shape[-2])
        return nnx.swish(self.leave(jnp.concatenate([pooled, attributes], axis=-1)))


class CodeEncoder(nnx.Module):
    """The simple rival: two dense layers on the code's one-hot features and the graph's attributes.

    Arguments and call as ``GraphEncoder``; ``rounds`` and ``links`` do not matter.
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
    """Utilities u_t(a) of architectures on tasks; P(a better than b on t) = sigmoid((u_t(a) − u_t(b)) · slope).

    The difference makes the relation antisymmetric: P(a, b) + P(b, a) = 1. Each architecture is encoded once and all
    pairs follow from the utilities. A task is a learned vector τ_t that weights the encoder's features, and a vector
    σ_t that weights the evidence of other tasks:

        u_t(a) = τ_t · [encoder(a), mix(encoder(a), e(a))] + σ_t · e(a),

    with e(a) the utilities of the architecture on s source tasks (none: s = 0). The start of σ_t trusts all sources
    alike.

    Source: Arch-Graph (Huang et al., CVPR 2022), section 3. Deviations: there a network sees both architectures and a
    given task embedding; here utilities of one architecture each, because the measured relation of a task is an
    order, and the embedding of the task is fitted with the network.

    Args:
      features: f of each operation.
      attributes: g of each graph.
      operations: v of each graph.
      sources: s, source tasks whose utilities come as evidence.
      tasks: t, tasks that are learned together.
      encoder: "graph" or "code".
      width: units of every layer.
      rounds: of message passing.
      rngs: for the initial weights.
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
        """Returns the utility of each architecture on each task, higher better, in units of the relation's slope.

        Args:
          nodes: features of each operation.
          live: 1 where the operation counts.
          links: which operation feeds which.
          attributes: of each graph, in standard units.
          evidence: utilities on the source tasks, in standard units; ``[n, 0]`` without sources.
        """
        own = self.encoder(nodes, live, links, attributes)
        mixed = nnx.swish(self.mix(jnp.concatenate([own, EVIDENCE_SCALE * evidence], axis=-1)))
        return self.task(jnp.concatenate([own, mixed], axis=-1)) + evidence @ self.trust[...]


@jax.custom_vjp
def pair_loss(
    utilities: Float[Array, " b"], preference: Float[Array, "b b"], mask: Float[Array, " b"], slope: Float[Array, ""]
) -> Float[Array, ""]:
    """Cross-entropy of all pairs at once: mean of −p log P − (1 − p) log(1 − P) with P = sigmoid(slope · (u_a − u_b)).

    Args:
      utilities: of b architectures on one task.
      preference: p of each ordered pair, in 0..1, ``p + p.T == 1``.
      mask: 1 where the architecture takes part.
      slope: turns a difference of utilities into log-odds.
    """
    logits = slope * (utilities[:, None] - utilities)
    each = jax.nn.softplus(-logits) + (1 - preference) * logits
    return (each * mask[:, None] * mask).sum() / jnp.maximum(mask.sum() ** 2, 1.0)


def _forward(
    utilities: Array, preference: Array, mask: Array, slope: Array
) -> tuple[Array, tuple[Array, Array, Array, Array]]:
    return pair_loss(utilities, preference, mask, slope), (utilities, preference, mask, slope)


def _backward(saved: tuple[Array, Array, Array, Array], g: Array) -> tuple[Array, None, None, None]:
    # Both orders of a pair pull alike: one sum over rows is enough.
    utilities, preference, mask, slope = saved
    pull = (jax.nn.sigmoid(slope * (utilities[:, None] - utilities)) - preference) * mask[:, None] * mask
    return g * 2 * slope * pull.sum(axis=1) / jnp.maximum(mask.sum() ** 2, 1.0), None, None, None


pair_loss.defvjp(_forward, _backward)
