"""Fits relation predictors: seeds × targets × budgets × members in one vmapped program."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from ncp_jax import checks
from ncp_jax.predictors.relation import ENCODERS, RelationPredictor, pair_loss
from ncp_jax.predictors.targets import normal_scores
from ncp_jax.spaces import Space, get_space
from ncp_jax.types import Array, Float, Int, Params

PROBIT = 1.702  # slope of the logistic function that is closest to the standard normal distribution function
EDGE = 1e-3  # minimum distance of the quantiles from 0 and 1


@dataclasses.dataclass(frozen=True)
class RelationRecipe:
    """Settings of a relation predictor. ``RelationRecipe(**dataclasses.asdict(recipe))`` is the same recipe.

    Attributes:
      encoder: "graph" or "code", see ``RelationPredictor``.
      width: units of every layer.
      rounds: rounds of message passing.
      members: number of networks in the ensemble.
      steps: gradient steps of a fit.
      learning_rate: initial learning rate of Adam, decayed to zero along a cosine.
      weight_decay: strength of the decoupled weight decay.
      noise: standard deviation of the difference between two measurements, in normal scores. The larger it is, the
        farther apart two architectures must be for the label of their pair to be certain.
    """

    encoder: str = "code"
    width: int = 32
    rounds: int = 1
    members: int = 5
    steps: int = 150
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    noise: float = 1.0

    def __post_init__(self) -> None:
        checks.choose("encoder", self.encoder, ENCODERS)
        for name in ("width", "rounds", "members", "steps", "learning_rate", "noise"):
            checks.positive(name, getattr(self, name))
        checks.positive("weight_decay", self.weight_decay, zero=True)


class RelationInputs(NamedTuple):
    """The network's inputs for n candidates, see ``RelationPredictor``.

    Attributes:
      nodes: features of each operation.
      live: 1 for operations that count, 0 for others.
      links: 1 at ``[i, j]`` if operation i feeds operation j.
      attributes: attributes of each graph, in standard units.
    """

    nodes: Float[Array, "n v f"]
    live: Float[Array, "n v"]
    links: Float[Array, "v v"]
    attributes: Float[Array, "n g"]

    @classmethod
    def of(cls, space: Space | str, codes: Int[Array | np.ndarray, "n d"]) -> RelationInputs:
        """Returns the inputs for codes. Attributes are standardised over the codes; constant ones become 0."""
        graphs = (get_space(space) if isinstance(space, str) else space).graphs(codes)
        attributes = np.asarray(graphs.attributes)
        spread = attributes.std(axis=0)
        standard = (attributes - attributes.mean(axis=0)) / np.where(spread > 1e-6, spread, np.inf)
        arrays = (graphs.nodes, graphs.live, graphs.links, standard)
        return cls(*(jnp.asarray(a, jnp.float32) for a in arrays))

    def take(self, rows: Int[Array, " b"]) -> tuple[Array, Array, Array, Array]:
        """Returns the network's arguments for some of the candidates."""
        return self.nodes[rows], self.live[rows], self.links, self.attributes[rows]


class Fits(NamedTuple):
    """The fitted ensembles of r runs.

    Attributes:
      params: weights, leaves ``[r, members, …]``.
      utilities: ``[r, members, n, t]`` utilities of all candidates, in normal scores of the run's own measurements.
    """

    params: Params
    utilities: Float[Array, "r m n t"]


def preferences(scores: Float[Array, "*r b"], noise: float) -> Float[Array, "*r b b"]:
    """Returns soft labels for all pairs: P(a better than b) = Φ((s_a − s_b) / noise), from two noisy scores."""
    return jax.scipy.stats.norm.cdf((scores[..., :, None] - scores[..., None, :]) / noise)


def fit_relations(
    inputs: RelationInputs,
    rows: Int[np.ndarray, "r b"],
    values: Float[np.ndarray, "r b t"],
    *,
    seeds: Int[np.ndarray, "r k"],
    recipe: RelationRecipe,
    evidence: Float[Array, "e n s"] | None = None,
    which: Int[np.ndarray, " r"] | None = None,
    encoder: Params | None = None,
) -> Fits:
    """Trains r × members relation predictors at once, each on all pairs of its run's measurements.

    The result of a run does not depend on the other runs.

    Args:
      inputs: inputs of the n candidates.
      rows: candidates measured in each run; -1 in unused slots.
      values: metrics of these on t tasks, higher is better; NaN where not measured.
      seeds: seeds of the weights, one row of non-negative integers per run.
      recipe: settings of network and training.
      evidence: utilities of all candidates on s source tasks, in standard units, in e variants; None for no sources.
      which: variant of the evidence for each run; 0 by default.
      encoder: weights of a pre-trained encoder to start from, leaves ``[e, members, …]``; by default new weights.

    Returns:
      Weights, and utilities of all candidates.

    Raises:
      UsageError: shapes do not fit, or a run has fewer than two measurements of a task.
    """
    n, runs, tasks = inputs.nodes.shape[0], rows.shape[0], values.shape[-1]
    if rows.ndim != 2 or values.shape[:2] != rows.shape or rows.max(initial=-1) >= n:
        raise checks.UsageError(
            expected="rows [r, b] below n and values [r, b, t]",
            got=f"{list(rows.shape)} and {list(values.shape)}",
            remedy="give the values of the rows asked",
        )
    known = (rows >= 0)[..., None] & np.isfinite(values)
    if known.sum(axis=1).min() < 2:
        raise checks.UsageError(
            expected="two measured architectures or more", got=str(int(known.sum(axis=1).min())), remedy="query more"
        )
    if evidence is None:
        evidence = jnp.zeros((1, n, 0), jnp.float32)
    variant = np.zeros(runs, np.int32) if which is None else np.asarray(which, np.int32)
    shape = _Shape(*(int(k) for k in (*inputs.nodes.shape[1:], inputs.attributes.shape[-1], evidence.shape[-1], tasks)))
    start = _weights(recipe, shape, np.asarray(seeds))
    if encoder is not None:
        start["encoder"] = jax.tree.map(lambda leaf: leaf[variant], encoder)
    params, utilities = _program(recipe, shape)(
        inputs,
        evidence,
        jnp.asarray(variant),
        jnp.asarray(np.maximum(rows, 0), jnp.int32),
        jnp.asarray(np.where(known, values, 0.0), jnp.float32),
        jnp.asarray(known, jnp.float32),
        start,
    )
    return Fits(params, utilities)


def relation_utilities(
    params: Params, inputs: RelationInputs, evidence: Float[Array, "n s"], *, recipe: RelationRecipe
) -> Float[Array, "m n t"]:
    """Returns the utilities that a fitted ensemble gives any candidates (jittable).

    Their origin is arbitrary; ``fit_relations`` returns them relative to the mean of a run's measurements.

    Args:
      params: weights of one run, leaves ``[members, …]``.
      inputs: inputs of the candidates.
      evidence: their utilities on s source tasks, ``[n, 0]`` without sources.
      recipe: settings of the ensemble.
    """
    tasks = params["task"]["kernel"].shape[-1]
    shape = _Shape(*(*inputs.nodes.shape[1:], inputs.attributes.shape[-1], evidence.shape[-1], tasks))
    graphdef = _skeleton(recipe, shape)[0]
    return jax.vmap(lambda one: nnx.merge(graphdef, one)(*inputs, evidence))(params)


class _Shape(NamedTuple):
    """The sizes that determine the network's shape, see ``RelationPredictor``."""

    operations: int
    features: int
    attributes: int
    sources: int
    tasks: int


@functools.lru_cache(maxsize=64)
def _skeleton(recipe: RelationRecipe, shape: _Shape) -> tuple[Any, Any]:
    """Returns the network's structure and the shapes of its weights, without computing anything."""

    def build() -> RelationPredictor:
        return RelationPredictor(
            shape.features,
            shape.attributes,
            operations=shape.operations,
            sources=shape.sources,
            tasks=shape.tasks,
            encoder=recipe.encoder,
            width=recipe.width,
            rounds=recipe.rounds,
            rngs=nnx.Rngs(0),
        )

    return nnx.split(nnx.eval_shape(build))


def _weights(recipe: RelationRecipe, shape: _Shape, seeds: Int[np.ndarray, "r k"]) -> Params:
    """Returns new weights ``[r, members, …]``, normal with the variances of the module's initialisers.

    They are drawn on the host: compiling JAX's generator for every layer would take longer than a search.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(_skeleton(recipe, shape)[1])
    generators = [[np.random.default_rng([*seed, member]) for member in range(recipe.members)] for seed in seeds]

    def draw(path: Any, leaf: Any) -> np.ndarray:
        name = jax.tree_util.keystr(path)
        size = (len(seeds), recipe.members, *leaf.shape)
        if "trust" in name:
            return np.full(size, 1.0 / max(shape.sources, 1), np.float32)
        if "bias" in name:
            return np.zeros(size, np.float32)
        gain = 1.0 if "task" in name else 2.0
        normal = [[g.standard_normal(leaf.shape, np.float32) for g in run] for run in generators]
        return np.asarray(normal, np.float32).reshape(size) * np.float32(np.sqrt(gain / leaf.shape[0]))

    return jax.tree_util.tree_unflatten(tree, [jnp.asarray(draw(path, leaf)) for path, leaf in leaves])


@functools.lru_cache(maxsize=32)
def _program(recipe: RelationRecipe, shape: _Shape) -> Any:
    """Returns the jitted program of one recipe and shape. It is cached, so equal shapes compile once."""
    schedule = optax.cosine_decay_schedule(recipe.learning_rate, recipe.steps)
    optimiser = optax.adamw(schedule, b2=0.99, weight_decay=recipe.weight_decay)
    slope = jnp.float32(PROBIT / recipe.noise)
    graphdef = _skeleton(recipe, shape)[0]

    def program(
        inputs: RelationInputs,
        evidence: Array,
        variant: Array,
        slots: Array,
        values: Array,
        known: Array,
        start: Params,
    ) -> tuple[Params, Array]:
        chex.assert_rank([slots, values, known, evidence], [2, 3, 3, 3])
        chex.assert_equal_shape([values, known])
        chex.assert_equal_shape_prefix([slots, values], 2)

        def apply(params: Params, arguments: tuple[Array, ...]) -> Array:
            return nnx.merge(graphdef, params)(*arguments)

        def train(params: Params, arguments: tuple[Array, ...], scores: Array, mask: Array) -> Params:
            preference = jax.vmap(lambda s: preferences(s, recipe.noise), in_axes=1)(scores)

            def loss(params: Params) -> Array:
                utilities = apply(params, arguments)
                return jax.vmap(pair_loss, in_axes=(1, 0, 1, None))(utilities, preference, mask, slope).mean()

            def step(carry: tuple[Params, Any], _: None) -> tuple[tuple[Params, Any], None]:
                params, state = carry
                updates, state = optimiser.update(jax.grad(loss)(params), state, params)
                return (optax.apply_updates(params, updates), state), None

            return jax.lax.scan(step, (params, optimiser.init(params)), length=recipe.steps)[0][0]

        def run(slots: Array, values: Array, known: Array, variant: Array, start: Params) -> Params:
            scores = normal_scores(values.T, known.T, edge=EDGE).T
            arguments = (*inputs.take(slots), evidence[variant][slots])
            return jax.vmap(train, in_axes=(0, None, None, None))(start, arguments, scores, known)

        params = jax.vmap(run)(slots, values, known, variant, start)

        def predict(item: tuple[Params, Array, Array, Array, Array]) -> Array:
            params, slots, values, known, variant = item
            scores = normal_scores(values.T, known.T, edge=EDGE).T
            arguments = (*inputs, evidence[variant])
            utilities = jax.vmap(lambda p: apply(p, arguments))(params)
            # Relations do not determine the origin of utilities; the mean of the measured scores does.
            gap = ((scores - utilities[:, slots]) * known).sum(axis=1) / known.sum(axis=0)
            return utilities + gap[:, None]

        # One run after another: the hidden units of all candidates in all runs would not fit in memory.
        return params, jax.lax.map(predict, (params, slots, values, known, variant))

    return jax.jit(program)
