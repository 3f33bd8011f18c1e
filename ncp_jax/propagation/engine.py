"""Inversion of a predictor: gradient steps on thousands of relaxed codes, in tiles of one shape.

Method: Network Coding Propagation (Ding et al., ICLR 2022, section 3.3) with the authors' released recipe. Each
iteration asks the prediction to move by ``delta`` in the wanted directions and takes one gradient step of a smooth
L1 loss on the code. Within its quadratic zone the gradient of that loss is ``delta`` itself, so the step follows
a fixed cotangent through the predictor: no target, no optimizer state.

Codes move in tiles: rows that follow the same networks through all steps. A tile is the same program on the same shapes
however a number of codes is cut into portions and spread over devices and processes, so none of that changes a bit of a
result; and its activations stay near a core. More codes that follow one network make larger tiles (``tile_shape``), in
which the products sum in the same order.
"""

from __future__ import annotations

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

# Rows of the smallest tile: on CPU what products still sum row by row alike, elsewhere what fills the device.
TILE = {"cpu": 32}
TILE_ELSEWHERE = 32768
# How many times larger a tile becomes where there are codes enough: on CPU threads then meet less often. Less so for
# tiles that follow several networks: in still larger ones their batched products sum in another order.
GROWTH = {"cpu": 64}
GROWTH_OF_SEVERAL = {"cpu": 16}
# Tiles in flight: on CPU XLA runs independent chains of one loop body side by side, and one chain of products alone
# keeps a second core waiting much of the time.
LANES = {"cpu": 2}

# On CPU, float32 products of these shapes run faster in Eigen than in XLA's default library (docs/performance.md).
CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "", "xla_cpu_prefer_vector_width": 512}


class Shape(NamedTuple):
    """The static shape of the work.

    Attributes:
      tile: codes in a tile.
      lanes: tiles in flight.
      kernel: "xla" or "pallas".
      mesh: the devices that share the tiles; None for one.
    """

    tile: int
    lanes: int
    kernel: str = "xla"
    mesh: Mesh | None = None


def tile_shape(rows: int, shares: int = 1, networks: int = 1, platform: str | None = None) -> tuple[int, int]:
    """Returns (codes in a tile, tiles in flight).

    Tiles grow as long as they are filled and no lane stands idle.

    Args:
      rows: how many codes follow the same networks, all portions together.
      shares: how many such shares of the codes there are.
      networks: how many networks each code follows.
      platform: where; JAX's default without it.
    """
    platform = platform or jax.default_backend()
    tile, lanes = TILE.get(platform, TILE_ELSEWHERE), LANES.get(platform, 1)
    largest = tile * (GROWTH if networks == 1 else GROWTH_OF_SEVERAL).get(platform, 1)
    while 2 * tile <= min(largest, rows) and 2 * tile * lanes <= rows * shares:
        tile *= 2
    return tile, lanes


def shape_for(predictor: Invertible, config: PropagationConfig, n: int, platform: str | None = None) -> tuple[int, int]:
    """``tile_shape`` for the inversion of n codes."""
    each = followers(predictor, config)
    return tile_shape(n // each, each, members_of(predictor) // each, platform)


def followers(predictor: Invertible, config: PropagationConfig) -> int:
    """How many networks share the codes out among themselves: 1 where every code follows the same."""
    return members_of(predictor) if config.follow == "member" else 1


def invert(
    predictor: Invertible,
    weights: ObjectiveWeights,
    start: Float[Array, "n f"],
    box: Box,
    config: PropagationConfig,
    model: CostModel | None = None,
) -> Float[Array, "n f"]:
    """Inverts n relaxed codes at once; row i depends on row i of ``start`` and, with ``follow="member"``, on i alone.

    Args:
      predictor: the ensemble.
      weights: the objective.
      start: relaxed codes in raw units.
      box: lower and upper corner, raw units.
      config: settings of the loop.
      model: exact costs of the space; where given, cost metrics follow it instead of their prediction.

    Returns:
      Relaxed codes in raw units.
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
    """``invert`` of the first ``count`` rows, on chosen devices. What comes back behind them is of no use.

    The number may change from call to call without a new compilation.
    """
    shape = shape or Shape(*shape_for(predictor, config, len(start)))
    # JAX takes options at the outermost jit only; inside one, even a constant is traced.
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
    """The options for CPU; none where this version of XLA does not know them."""
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
    scale, each = predictor.scale, followers(predictor, config)
    standard_box = (scale.standard_x(box[0]), scale.standard_x(box[1]))
    # Networks that a tile can follow: [groups, members of the group, …].
    groups = jax.tree.map(lambda a: a[:, None] if each > 1 else a[None], predictor.params)
    devices = 1 if shape.mesh is None else shape.mesh.size
    tiles = into_tiles(scale.standard_x(start), shape.tile, each, shape.lanes * devices)
    member = jnp.arange(len(tiles), dtype=jnp.int32) % each
    needed = tiles_needed(count, shape.tile, each)

    if shape.kernel == "pallas":
        local = functools.partial(_fused, predictor, weights, config, shape)
    else:
        local = functools.partial(_looped, predictor, weights, config, model, shape)
    if shape.mesh is None:
        moved = local(groups, standard_box, tiles, member, needed[None])
    else:
        own = len(tiles) // devices
        shares = jnp.clip(needed - own * jnp.arange(devices, dtype=jnp.int32), 0, own)
        spread, everywhere = PartitionSpec(AXIS), PartitionSpec()
        moved = jax.shard_map(
            local,
            mesh=shape.mesh,
            in_specs=(everywhere, everywhere, spread, spread, spread),
            out_specs=spread,
            check_vma=False,
        )(groups, standard_box, tiles, member, shares)
    return scale.raw_x(from_tiles(moved, len(start), each))


def into_tiles(x: Float[Array, "n f"], tile: int, members: int, multiple: int) -> Float[Array, "p t f"]:
    """Cuts rows into tiles whose rows follow the same member: row i belongs to member i modulo their number.

    The last rows are repeated to fill the tiles, and tiles to make their number a multiple of ``multiple``.
    """
    unit = tile * members
    units = -(-len(x) // unit)
    filled = jnp.pad(x, ((0, units * unit - len(x)), (0, 0)), mode="edge")
    tiles = filled.reshape(units, tile, members, -1).swapaxes(1, 2).reshape(units * members, tile, -1)
    return jnp.pad(tiles, ((0, -len(tiles) % multiple), (0, 0), (0, 0)), mode="edge")


def from_tiles(tiles: Float[Array, "p t f"], n: int, members: int) -> Float[Array, "n f"]:
    """The first n rows that ``into_tiles`` cut up."""
    _, tile, f = tiles.shape
    units = -(-n // (tile * members))
    rows = tiles[: units * members].reshape(units, members, tile, f).swapaxes(1, 2)
    return rows.reshape(-1, f)[:n]


def tiles_needed(count: Int[Array, ""], tile: int, members: int) -> Int[Array, ""]:
    """How many tiles hold the first ``count`` rows: a member's tile in the last unit only if it has a row there."""
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
) -> Float[Array, "p t f"]:
    """One tile after the other, or ``lanes`` side by side, as far as they are needed."""
    gradient = tile_gradient(predictor, weights, config, model)

    def move(i: Array, tiles: Array) -> Array:
        chosen = [i * shape.lanes + lane for lane in range(shape.lanes)]
        params = [jax.tree.map(lambda a, j=j: a[member[j]], groups) for j in chosen]
        xs = _move_lanes(predictor, weights, config, gradient, box, params, [tiles[j] for j in chosen])
        return jax.lax.dynamic_update_slice_in_dim(tiles, jnp.stack(xs), i * shape.lanes, axis=0)

    return jax.lax.fori_loop(0, -(-needed[0] // shape.lanes), move, tiles)


def _move_lanes(
    predictor: Invertible,
    weights: ObjectiveWeights,
    config: PropagationConfig,
    gradient: Gradient,
    box: Box,
    params: list[Params],
    xs: list[Float[Array, "t f"]],
) -> tuple[Float[Array, "t f"], ...]:
    """All steps of some tiles, independent of each other, in one loop."""
    starts = [_start_values(predictor, weights, p, x) for p, x in zip(params, xs, strict=True)]
    states = [() if config.transform is None else jax.vmap(config.transform.init)(x) for x in xs]

    def one(x: Array, state: Any, params: Params, z_start: Array, done: Array) -> tuple[Array, Any]:
        point = x if config.discreteness == "none" else _snapped(predictor, config, x, done)
        slope = gradient(params, point, z_start)
        if config.region is not None:
            slope = slope + config.region.gradient(point)
        if config.strategy == "winner-takes-all":
            largest = jnp.argmax(jnp.abs(slope), axis=-1, keepdims=True)
            slope = jnp.where(jnp.arange(x.shape[-1]) == largest, slope, 0.0)
        if config.transform is None:
            return jnp.clip(x - config.learning_rate * slope, *box), state
        update, state = jax.vmap(config.transform.update)(slope, state, x)
        return jnp.clip(x + update, *box), state

    def iteration(carry: list[tuple[Array, Any]], done: Array) -> tuple[list[tuple[Array, Any]], None]:
        return [one(x, s, p, z, done) for (x, s), p, z in zip(carry, params, starts, strict=True)], None

    carry = list(zip(xs, states, strict=True))
    moved, _ = jax.lax.scan(iteration, carry, jnp.arange(config.steps, dtype=jnp.float32))
    return tuple(x for x, _ in moved)


def _start_values(
    predictor: Invertible, weights: ObjectiveWeights, params: Params, x: Float[Array, "t f"]
) -> Float[Array, "t m"]:
    """What is predicted where the codes begin, for metrics to hold; zeros where nothing asks for it."""
    if weights.fixed:
        return jnp.zeros((len(x), len(predictor.metrics)), x.dtype)
    over_codes = jax.vmap(predictor.apply, in_axes=(None, 0))
    return jax.vmap(over_codes, in_axes=(0, None))(params, x).mean(axis=0)


def _snapped(predictor: Invertible, config: PropagationConfig, x: Float[Array, "t f"], done: Array) -> Array:
    """Where the gradient is taken: at the nearest legal codes, or on the way to them after ``done`` iterations."""
    space = get_space(predictor.space)
    codes = Bounds.of(space, config.bounds_map).project(predictor.scale.raw_x(x))
    nearest = predictor.scale.standard_x(space.encode(codes))
    share = 1.0 if config.discreteness == "straight-through" else (done + 1) / config.steps
    return x + share * (nearest - x)


def can_fuse(
    predictor: Invertible, weights: ObjectiveWeights, config: PropagationConfig, model: CostModel | None, platform: str
) -> bool:
    """Whether the fused kernel does this inversion: folded networks that fit the chip, fixed slopes, plain steps."""
    one_network = config.follow == "member" or members_of(predictor) == 1
    plain = config.transform is None and config.region is None and config.discreteness == "none" and model is None
    fixed = weights.fixed and config.follow != "bound"
    if platform == "cpu" or not (one_network and plain and fixed and hasattr(predictor.apply, "gradient")):
        return False
    from ncp_jax.propagation import kernels

    return kernels.supported(platform, _hidden_layers(predictor.params), config.precision)


def _hidden_layers(params: Params) -> Params:
    """The parameters without the output layer."""
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
    """The fused kernel on the tiles of each member; all of them are moved, needed or not."""
    from ncp_jax.propagation import kernels  # Pallas takes a while to import, and a CPU does without

    del member, needed
    pull = fixed_slopes(weights, config, 1)
    assert pull is not None
    params = jax.tree.map(lambda a: a[:, 0], groups)
    hidden, last = _hidden_layers(params), params["w"][-1]
    form = jnp.einsum("kum,m->ku", last, pull[0], precision=jax.lax.Precision.HIGHEST)
    members = len(last)
    # Tiles follow each other member by member; behind the last whole round they are padding.
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
