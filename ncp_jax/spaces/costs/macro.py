"""Counts the costs of TransNAS macro, where a module's cost depends on the doublings and halvings before it.

A module is two residual blocks of two ReLU-convolution-BatchNorm each; its first block changes channels and
resolution, with a 1x1 convolution and BatchNorm around it where anything changes. With the rules
of ``layers`` and the task's head of ``heads``, the costs are those published with NASLib (github.com/automl/NASLib) to
the last digit.

The relaxed cost reads the shares of a relaxed code as probabilities of each module type. It carries the probability of
every state (doublings, halvings) from module to module and adds what each type costs there. The result is the expected
cost of a network drawn from these probabilities: a polynomial, linear in the shares of each place, equal to the exact
cost at codes. It also weighs networks that no code denotes (too many doublings or halvings, absent modules in the
middle), with the costs that they would have.
"""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces.costs.heads import HEADS, Head, head_counts
from ncp_jax.spaces.costs.layers import Counts, batch_norm, convolution, halved, relu_conv_bn, transnas_stem
from ncp_jax.spaces.costs.model import SCALE, UNITS, CostModel, shares_of, table_counter
from ncp_jax.spaces.costs.registry import CostFamily, register_costs
from ncp_jax.spaces.transnas_macro import LONGEST, MODULES, TRANSNAS_MACRO, doubles, halves
from ncp_jax.types import Array, Int

BLOCKS = 2  # in each module
STATES = LONGEST + 1  # 0 to 6 doublings, 0 to 6 halvings
_COLUMNS = {"params": 0, "flops": 1}


def channels_after(doublings: int) -> int:
    """Returns the channels behind so many doublings."""
    return 64 << doublings


def side_after(head: Head, halvings: int) -> int:
    """Returns the side, in pixels, behind the stem and so many halvings."""
    return functools.reduce(lambda side, _: halved(side, 2), range(halvings), head.image // 4)


def module_counts(head: Head, module: int, doublings: int, halvings: int) -> Counts:
    """Returns the counts of one module behind so many doublings and halvings; zeros for an absent module."""
    total = Counts()
    if module == 0:
        return total
    inputs, side = channels_after(doublings), side_after(head, halvings)
    outputs, stride = inputs << doubles(module), 1 + halves(module)
    for _ in range(BLOCKS):
        after = halved(side, stride)
        total += relu_conv_bn(3, inputs, outputs, side, stride) + relu_conv_bn(3, outputs, outputs, after)
        if stride > 1 or inputs != outputs:
            total += convolution(1, inputs, outputs, after) + batch_norm(outputs, after)
        inputs, side, stride = outputs, after, 1
    return total


@functools.cache
def _tables(task: str) -> tuple[dict[str, Int[np.ndarray, "t s s"]], dict[str, Int[np.ndarray, "s s"]]]:
    """Returns the costs of each module type in each state (doublings, halvings), and of the ends by the last state.

    The ends are stem and head. Sides do not go below one pixel; channels keep growing: 64 * 2**7 at most, 3e12 FLOPs,
    far within int64.
    """
    head, states = HEADS[task], list(itertools.product(range(STATES), repeat=2))
    modules = [[module_counts(head, module, *state) for state in states] for module in range(len(MODULES))]
    ends = [transnas_stem(head.image) + head_counts(head, channels_after(d), side_after(head, h), h) for d, h in states]
    shape = (STATES, STATES)
    return (
        {
            cost: np.array([[c[i] for c in row] for row in modules], np.int64).reshape(-1, *shape)
            for cost, i in _COLUMNS.items()
        },
        {cost: np.array([c[i] for c in ends], np.int64).reshape(shape) for cost, i in _COLUMNS.items()},
    )


def _all_sequences(task: str) -> dict[str, np.ndarray]:
    """Returns exact costs of all 5**6 sequences of module types, the first weighing most, int64 [15625]."""
    modules, ends = _tables(task)
    places = np.indices((len(MODULES),) * LONGEST).reshape(LONGEST, -1)
    totals = {cost: np.zeros(places.shape[1], np.int64) for cost in UNITS}
    doublings, halvings = np.zeros_like(places[0]), np.zeros_like(places[0])
    for types in places:
        for cost, total in totals.items():
            total += modules[cost][types, doublings, halvings]
        doublings, halvings = doublings + doubles(types), halvings + halves(types)
    return {cost: total + ends[cost][doublings, halvings] for cost, total in totals.items()}


def _relaxed(task: str, relaxed: Any) -> dict[str, Array]:
    shares = shares_of(TRANSNAS_MACRO, relaxed)
    modules, ends = _tables(task)
    scaled = {
        cost: (
            jnp.asarray(modules[cost] / SCALE[unit], shares.dtype),
            jnp.asarray(ends[cost] / SCALE[unit], shares.dtype),
        )
        for cost, unit in UNITS.items()
    }
    # Probability of each state before the first module: [..., doublings, halvings].
    probabilities = jnp.zeros((*shares.shape[:-2], STATES, STATES), shares.dtype).at[..., 0, 0].set(1)
    totals = {cost: jnp.zeros(shares.shape[:-2], shares.dtype) for cost in UNITS}
    for place in range(LONGEST):
        moved = [shares[..., place, module, None, None] * probabilities for module in range(len(MODULES))]
        for cost, (costs, _) in scaled.items():
            for module in range(1, len(MODULES)):
                totals[cost] = totals[cost] + (moved[module] * costs[module]).sum(axis=(-2, -1))
        probabilities = sum(
            (_shifted(part, doubles(m), halves(m)) for m, part in enumerate(moved)), jnp.zeros_like(probabilities)
        )
    return {cost: totals[cost] + (probabilities * end).sum(axis=(-2, -1)) for cost, (_, end) in scaled.items()}


def _shifted(probabilities: Array, doublings: int, halvings: int) -> Array:
    """Shifts probabilities [..., s, s] by so many doublings and halvings; six modules do not pass the last state."""
    lead = [(0, 0)] * (probabilities.ndim - 2)
    padded = jnp.pad(probabilities, [*lead, (doublings, 0), (halvings, 0)])
    return padded[..., : probabilities.shape[-2], : probabilities.shape[-1]]


def transnas_macro_model(task: str) -> CostModel:
    """Returns the cost model of TransNAS macro with the head of a task."""
    exact, words = table_counter(TRANSNAS_MACRO, _all_sequences(task)), HEADS[task].words(task)
    return CostModel(TRANSNAS_MACRO.name, UNITS, exact, functools.partial(_relaxed, task), task, words)


register_costs(TRANSNAS_MACRO, CostFamily(tuple(HEADS), transnas_macro_model))
