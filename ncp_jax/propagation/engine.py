"""Inverts a predictor: takes gradient steps on thousands of relaxed codes, in tiles of one shape.

The method is Network Coding Propagation (Ding et al., ICLR 2022, section 3.3) with the authors' released recipe. Each
iteration asks the prediction to move by ``delta`` in the wanted directions and takes one gradient step of a smooth
L1 loss on the code. Within the loss's quadratic zone its gradient is ``delta`` itself, so the step follows a fixed
cotangent through the predictor, without a target or an optimizer state.

Codes move in tiles. The rows of a tile follow the same networks through all steps. A tile is the same program on the
same shapes for every number of codes, portions, devices and processes, so none of these changes a bit of the result.
Its activations also stay near a core. The more codes follow one network, the larger the tiles are (``tile_shape``);
products sum in the same order at every multiple of the smallest size.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from ncp_jax.propagation.config import PropagationConfig
from ncp_jax.propagation.gradients import Gradient, Invertible, fixed_slopes, members_of, tile_gradient
from ncp_jax.propagation.objective import ObjectiveWeights
from ncp_jax.spaces import Bounds, CostModel, get_space
from ncp_jax.types import Array, Float, Int, Params

Box = tuple[Float[Array, " f"], Float[Array, " f"]]
AXIS = "codes"  # the mesh axis that tiles are spread over

# Rows of the smallest tile; all tiles are multiples of it. On CPU, Eigen computes a product in blocks of three vectors
# of rows, and what is left over by another loop, which sums in another order. Blocks have 48 rows with AVX-512, 24 with
# AVX2 and 12 with NEON: of 48 rows nothing is left over anywhere. Elsewhere, a tile fills the device.
TILE = {"cpu": 48}
TILE_ELSEWHERE = 32768
# Growth of a tile where there are enough codes: in larger tiles, CPU threads synchronise less often. Tiles that follow
# several networks grow less, since their batched products would sum in another order.
GROWTH = {"cpu": 43}
GROWTH_OF_SEVERAL = {"cpu": 10}
# Tiles in flight. On CPU, XLA runs independent chains of one loop body in parallel; a single chain of products leaves
# a second core idle much of the time.
LANES = {"cpu": 2}

# On CPU, float32 products of these shapes run faster in Eigen than in XLA's default library (docs/performance.md).
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_prefer_vector_width": 512}


class Shape(NamedTuple):
    """The static shape of the compiled program.

    Attributes:
      tile: number of codes in a tile.
      lanes: number of tiles in flight.
      kernel: "xla" or "pallas".
      mesh: devices that share the tiles, or None for a single device.
    """

    tile: int
    lanes: int
    kernel: str = "xla"
    mesh: Mesh | None = None


def tile_shape(rows: int, shares: int = 1, networks: int = 1, platform: str | None = None) -> tuple[int, int]:
    """Returns (codes in a tile, tiles in flight).

    A tile is as large as it may be while no lane is idle and the last tile is nearly full.

    Args:
      rows: number of codes that follow the same networks, in all portions together.
      shares: number of such groups of codes.
      networks: number of networks that each code follows.
      platform: "cpu", "gpu", …; JAX's default if None.
    """
    platform = platform or jax.default_backend()
    smallest, lanes = TILE.get(platform, TILE_ELSEWHERE), LANES.get(platform, 1)
    largest = smallest * (GROWTH if networks == 1 else GROWTH_OF_SEVERAL).get(platform, 1)
    # Codes that could share a tile: one group, or less where a group alone has to keep all lanes busy.
    together = max(1, min(rows, -(-rows * shares // lanes)))
    tiles = -(-together // largest)
    return smallest * -(-together // (tiles * smallest)), lanes


def shape_for(predictor: Invertible, config: PropagationConfig, n: int, platform: str | None = None) -> tuple[int, int]:
    """Returns ``tile_shape`` for the inversion of n codes."""
    each = followers(predictor, config)
    return tile_shape(n // each, each, members_of(predictor) // each, platform)


def followers(predictor: Invertible, config: PropagationConfig) -> int:
    """Returns the number of networks among which the codes are divided; 1 if every code follows the same networks."""
    return members_of(predictor) if config.follow == "member" else 1


def invert(
    predictor: Invertible,
    weights: ObjectiveWeights,
    start: Float[Array, "n f"],
    box: Box,
    config: PropagationConfig,
    model: CostModel | None = None,
) -> Float[Array, "n f"]:
    """Inverts n relaxed codes. Row i depends on row i of ``start`` alone and, with ``follow="member"``, on i.

    Args:
      predictor: the ensemble.
      weights: the objective.
      start: relaxed codes in raw units.
      box: lower and upper corner of the legal relaxed codes, in raw units.
      config: settings of the loop.
      model: cost model of the space, if codes are to follow exact costs instead of predicted ones.

    Returns:
      Relaxed codes ``[n, f]`` in raw units.
    """
    return run(predictor, weights, start, box, config, model, len(start))


def run(
    predictor: Invertible,
    weights: ObjectiveWeights,
    start: Float[Array, "n f"],
    box: Box,
    config: PropagationConfig,
    model: CostModel | None,
    count: int,
    shape: Shape | None = None,
) -> Float[Array, "n f"]:
    """Inverts the first ``count`` rows, on chosen devices; see ``invert``. Ignore the rows after these.

    A new ``count`` does not recompile the program.
    """
    shape = shape or Shape(*shape_for(predictor, config, len(start)))
    # JAX accepts compiler options at the outermost jit only. Inside another jit, even a constant is traced.
    traced = isinstance(jnp.zeros(()), jax.core.Tracer)
    options = () if traced else _usable_options(shape, config)
    return _compiled(options)(predictor, weights, start, box, config, model, np.int32(count), shape)


@functools.cache
def _compiled(options: tuple[tuple[str, Any], ...]) -> Any:
    return jax.jit(_run, static_argnames=("model", "shape"), compiler_options=dict(options) or None)


def _usable_options(shape: Shape, config: PropagationConfig) -> tuple[tuple[str, Any], ...]:
    platform = jax.default_backend() if shape.mesh is None else shape.mesh.devices.flat[0].platform
    if platform != "cpu" or config.precision == "bfloat16":
        return ()
    return cpu_options()


@functools.cache
def cpu_options() -> tuple[tuple[str, Any], ...]:
    """Returns XLA's compiler options for CPU; none if this version of XLA does not know them."""
    try:
        jax.jit(lambda: np.float32(0), compiler_options=CPU_OPTIONS).lower().compile()
    except jax.errors.JaxRuntimeError:
        return ()
    return tuple(CPU_OPTIONS.items())


def _run(
    predictor: Invertible,
    weights: ObjectiveWeights,
    start: Float[Array, "n f"],
    box: Box,
    config: PropagationConfig,
    model: CostModel | None,
    count: Int[Array, ""],
    shape: Shape,
) -> Float[Array, "n f"]:
    # Checked while tracing. Training uses chex for this, which Optax imports anyway; a search alone would wait 0.1 s.
    assert start.ndim == 2, start.shape
    assert count.ndim == 0, count.shape
    assert all(corner.shape == start.shape[1:] for corner in box), (box[0].shape, box[1].shape, start.shape)
    sizes = {side.shape[-1:] for side in (weights.push, weights.hold, weights.ceiling)}
    assert sizes == {(len(predictor.metrics),)}, sizes
    assert weights.push.shape[:-1] in ((), start.shape[:1]), (weights.push.shape, start.shape)
    scale, each = predictor.scale, followers(predictor, config)
    standard_box = (scale.standard_x(box[0]), scale.standard_x(box[1]))
    # The networks that a tile follows together: [groups, members of a group, …].
    groups = jax.tree.map(lambda a: a[:, None] if each > 1 else a[None], predictor.params)
    devices = 1 if shape.mesh is None else shape.mesh.size
    tiles = into_tiles(scale.standard_x(start), shape.tile, each, shape.lanes * devices)
    member = jnp.arange(len(tiles), dtype=jnp.int32) % each
    # Codes with weights of their own take them along in tiles of the same shape.
    own = () if weights.push.ndim == 1 else (into_tiles(weights.push, shape.tile, each, shape.lanes * devices),)
    needed = tiles_needed(count, shape.tile, each)

    if shape.kernel == "pallas":
        local = functools.partial(_fused, predictor, weights, config, shape)
    else:
        local = functools.partial(_looped, predictor, weights, config, model, shape)
    if shape.mesh is None:
        moved = local(groups, standard_box, tiles, member, needed[None], *own)
    else:
        # Each device holds a contiguous share of the tiles, and moves those of them that are needed.
        share = len(tiles) // devices
        shares = jnp.clip(needed - share * jnp.arange(devices, dtype=jnp.int32), 0, share)
        spread, everywhere = PartitionSpec(AXIS), PartitionSpec()
        moved = jax.shard_map(
            local,
            mesh=shape.mesh,
            in_specs=(everywhere, everywhere, spread, spread, spread, *(spread for _ in own)),
            out_specs=spread,
            check_vma=False,
        )(groups, standard_box, tiles, member, shares, *own)
    return scale.raw_x(from_tiles(moved, len(start), each))


def into_tiles(x: Float[Array, "n f"], tile: int, members: int, multiple: int) -> Float[Array, "p t f"]:
    """Divides rows into tiles of one member each: row i belongs to member i modulo ``members``.

    The last row is repeated to fill the tiles. The last tile is repeated to make their number a multiple of
    ``multiple``.
    """
    unit = tile * members
    units = -(-len(x) // unit)
    filled = jnp.pad(x, ((0, units * unit - len(x)), (0, 0)), mode="edge")
    tiles = filled.reshape(units, tile, members, -1).swapaxes(1, 2).reshape(units * members, tile, -1)
    return jnp.pad(tiles, ((0, -len(tiles) % multiple), (0, 0), (0, 0)), mode="edge")


def from_tiles(tiles: Float[Array, "p t f"], n: int, members: int) -> Float[Array, "n f"]:
    """Returns the first n rows, in the order that they had before ``into_tiles``."""
    _, tile, f = tiles.shape
    units = -(-n // (tile * members))
    rows = tiles[: units * members].reshape(units, members, tile, f).swapaxes(1, 2)
    return rows.reshape(-1, f)[:n]


def tiles_needed(count: Int[Array, ""], tile: int, members: int) -> Int[Array, ""]:
    """Returns how many tiles hold the first ``count`` rows."""
    # A full unit needs one tile per member; a partial one only the tiles of members that have a row in it.
    unit = tile * members
    return count // unit * members + jnp.minimum(count % unit, members)


def _looped(
    predictor: Invertible,
    weights: ObjectiveWeights,
    config: PropagationConfig,
    model: CostModel | None,
    shape: Shape,
    groups: Params,
    box: Box,
    tiles: Float[Array, "p t f"],
    member: Int[Array, " p"],
    needed: Int[Array, " 1"],
    pushes: Float[Array, "p t m"] | None = None,
) -> Float[Array, "p t f"]:
    """Moves the needed tiles one after the other, ``lanes`` of them at a time."""
    same = tile_gradient(predictor, weights, config, model)

    def gradient_of(tile: Array) -> Gradient:
        if pushes is None:
            return same
        return tile_gradient(predictor, dataclasses.replace(weights, push=pushes[tile]), config, model)

    def move(i: Array, tiles: Array) -> Array:
        chosen = [i * shape.lanes + lane for lane in range(shape.lanes)]
        params = [jax.tree.map(lambda a, j=j: a[member[j]], groups) for j in chosen]
        gradients = [gradient_of(j) for j in chosen]
        xs = _move_lanes(predictor, weights, config, gradients, box, params, [tiles[j] for j in chosen])
        return jax.lax.dynamic_update_slice_in_dim(tiles, jnp.stack(xs), i * shape.lanes, axis=0)

    return jax.lax.fori_loop(0, -(-needed[0] // shape.lanes), move, tiles)


def _move_lanes(
    predictor: Invertible,
    weights: ObjectiveWeights,
    config: PropagationConfig,
    gradients: list[Gradient],
    box: Box,
    params: list[Params],
    xs: list[Float[Array, "t f"]],
) -> tuple[Float[Array, "t f"], ...]:
    """Takes all steps of some tiles in one loop. The tiles are independent of each other."""
    starts = [_start_values(predictor, weights, p, x) for p, x in zip(params, xs, strict=True)]
    states = [() if config.transform is None else jax.vmap(config.transform.init)(x) for x in xs]

    def step(
        gradient: Gradient, x: Array, state: Any, params: Params, z_start: Array, done: Array
    ) -> tuple[Array, Any]:
        # The gradient of the loss, at the relaxed codes or at (or towards) the legal codes nearest to them.
        at = x if config.discreteness == "none" else _snapped(predictor, config, x, done)
        slope = gradient(params, at, z_start)

        # The trust region adds a push back to the measured architectures.
        if config.region is not None:
            slope = slope + config.region.gradient(at)

        # Winner-takes-all (the paper's second strategy) moves each code along its steepest feature alone.
        if config.strategy == "winner-takes-all":
            largest = jnp.argmax(jnp.abs(slope), axis=-1, keepdims=True)
            slope = jnp.where(jnp.arange(x.shape[-1]) == largest, slope, 0.0)

        # One step, by the authors' plain rule or by an optax transformation; codes stay inside the box.
        if config.transform is None:
            return jnp.clip(x - config.learning_rate * slope, *box), state
        update, state = jax.vmap(config.transform.update)(slope, state, x)
        return jnp.clip(x + update, *box), state

    def iteration(carry: list[tuple[Array, Any]], done: Array) -> tuple[list[tuple[Array, Any]], None]:
        lanes = zip(gradients, carry, params, starts, strict=True)
        return [step(g, x, s, p, z, done) for g, (x, s), p, z in lanes], None

    carry = list(zip(xs, states, strict=True))
    moved, _ = jax.lax.scan(iteration, carry, jnp.arange(config.steps, dtype=jnp.float32))
    return tuple(x for x, _ in moved)


def _start_values(
    predictor: Invertible, weights: ObjectiveWeights, params: Params, x: Float[Array, "t f"]
) -> Float[Array, "t m"]:
    """Returns the predictions at the start, for metrics to hold; zeros if the objective does not need them."""
    if weights.fixed:
        return jnp.zeros((len(x), len(predictor.metrics)), x.dtype)
    over_codes = jax.vmap(predictor.apply, in_axes=(None, 0))
    return jax.vmap(over_codes, in_axes=(0, None))(params, x).mean(axis=0)


def _snapped(predictor: Invertible, config: PropagationConfig, x: Float[Array, "t f"], done: Array) -> Array:
    """Returns the nearest legal codes or, if annealed, points that approach them as iterations are ``done``."""
    space = get_space(predictor.space)
    codes = Bounds.of(space, config.bounds_map).project(predictor.scale.raw_x(x))
    nearest = predictor.scale.standard_x(space.encode(codes))
    share = 1.0 if config.discreteness == "straight-through" else (done + 1) / config.steps
    return x + share * (nearest - x)


def can_fuse(
    predictor: Invertible, weights: ObjectiveWeights, config: PropagationConfig, model: CostModel | None, platform: str
) -> bool:
    """Returns whether the fused kernel can do this inversion.

    It needs a folded network that fits on the chip, one for each code, slopes that are the same for every code, and the
    authors' step without options.
    """
    one_network = config.follow == "member" or members_of(predictor) == 1
    no_options = config.transform is None and config.region is None and config.discreteness == "none" and model is None
    fixed = weights.fixed and config.follow != "bound"
    if platform == "cpu" or not (one_network and no_options and fixed and hasattr(predictor.apply, "gradient")):
        return False
    from ncp_jax.propagation import kernels

    return kernels.supported(platform, _hidden_layers(predictor.params), config.precision)


def _hidden_layers(params: Params) -> Params:
    """Returns the parameters without the output layer."""
    return params | {"w": params["w"][:-1], "b": params["b"][:-1]}


def _fused(
    predictor: Invertible,
    weights: ObjectiveWeights,
    config: PropagationConfig,
    shape: Shape,
    groups: Params,
    box: Box,
    tiles: Float[Array, "p t f"],
    member: Int[Array, " p"],
    needed: Int[Array, " 1"],
) -> Float[Array, "p t f"]:
    """Runs the fused kernel on the tiles of each member. It moves all tiles, needed or not."""
    from ncp_jax.propagation import kernels  # importing Pallas takes a while, and a CPU does not need it

    del member, needed
    slopes = fixed_slopes(weights, config, 1)
    assert slopes is not None
    params = jax.tree.map(lambda a: a[:, 0], groups)
    hidden, last = _hidden_layers(params), params["w"][-1]
    # With fixed slopes, the loss is a linear form of the last hidden layer.
    form = jnp.einsum("kum,m->ku", last, slopes[0], precision=jax.lax.Precision.HIGHEST)
    members = len(last)
    # Tile i belongs to member i modulo their number. Group them by member, and fill up the last round.
    rounds = -(-len(tiles) // members)
    padded = jnp.pad(tiles, ((0, rounds * members - len(tiles)), (0, 0), (0, 0)), mode="edge")
    x = padded.reshape(rounds, members, shape.tile, -1).swapaxes(0, 1).reshape(members, rounds * shape.tile, -1)
    moved = kernels.fused_invert(
        hidden,
        form,
        x,
        box,
        steps=config.steps,
        learning_rate=config.learning_rate,
        strategy=config.strategy,
        log=bool(getattr(predictor.apply, "log", False)),
        precision=config.precision,
        rows=kernels.default_rows(jax.default_backend(), hidden, config.precision),
        interpret=jax.default_backend() == "cpu",
    )
    back = moved.reshape(members, rounds, shape.tile, -1).swapaxes(0, 1).reshape(rounds * members, shape.tile, -1)
    return back[: len(tiles)]
