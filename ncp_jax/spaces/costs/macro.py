"""Costs of TransNAS macro: what a module costs depends on how often those before it doubled and halved.

A module is two residual blocks of two ReLU-convolution-BatchNorm each; its first block changes channels and
resolution, with a 1x1 convolution and BatchNorm around it where anything changes. Counted as ``layers`` says, with a
task's head as ``heads`` says, the costs are those published with NASLib (github.com/automl/NASLib) to the last digit.

The relaxed cost takes the shares of a relaxed code for the chances of each module type. It carries the chances of every
(doublings, halvings) from module to module and adds up what each type costs there: the expected cost of a network drawn
from these chances, a polynomial that is linear in the shares of each place, equal to the exact cost at codes. Networks
that no code denotes (too often doubled or halved, absent modules in the middle) have their own costs in it.
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
from ncp_jax.spaces.macro import LONGEST, MODULES, TRANSNAS_MACRO, doubles, halves
from ncp_jax.types import Array, Int

BLOCKS = 2  # of a module
STATES = LONGEST + 1  # 0 to 6 doublings, 0 to 6 halvings
_COLUMNS = {"params": 0, "flops": 1}


def channels_after(doublings: int) -> int:
    """Channels behind so many doublings."""
    return 64 << doublings


def side_after(head: Head, halvings: int) -> int:
    """Pixels a side behind the stem and so many halvings."""
    return functools.reduce(lambda side, _: halved(side, 2), range(halvings), head.image // 4)


def module_counts(head: Head, module: int, doublings: int, halvings: int) -> Counts:
    """One module, behind modules that doubled and halved so many times; nothing for an absent one."""
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
    """What each module type costs in each state (doublings, halvings), and stem and head together, by the last state.

    Sides do not go below one pixel and channels grow on: 64 * 2**7 at most, 3e12 FLOPs, far within int64.
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


def _all_words(task: str) -> dict[str, np.ndarray]:
    """Exact costs of all 5**6 words of module types, the first weighing most, int64 [15625]."""
    modules, ends = _tables(task)
    words = np.indices((len(MODULES),) * LONGEST).reshape(LONGEST, -1)
    totals = {cost: np.zeros(words.shape[1], np.int64) for cost in UNITS}
    doublings, halvings = np.zeros_like(words[0]), np.zeros_like(words[0])
    for types in words:
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
    # Of having doubled and halved so many times: [..., doublings, halvings].
    chances = jnp.zeros((*shares.shape[:-2], STATES, STATES), shares.dtype).at[..., 0, 0].set(1)
    totals = {cost: jnp.zeros(shares.shape[:-2], shares.dtype) for cost in UNITS}
    for place in range(LONGEST):
        moved = [shares[..., place, module, None, None] * chances for module in range(len(MODULES))]
        for cost, (costs, _) in scaled.items():
            for module in range(1, len(MODULES)):
                totals[cost] = totals[cost] + (moved[module] * costs[module]).sum(axis=(-2, -1))
        chances = sum((_shifted(part, doubles(m), halves(m)) for m, part in enumerate(moved)), jnp.zeros_like(chances))
    return {cost: totals[cost] + (chances * end).sum(axis=(-2, -1)) for cost, (_, end) in scaled.items()}


def _shifted(chances: Array, doublings: int, halvings: int) -> Array:
    """Chances [..., s, s] moved up by so many doublings and halvings; six modules move none beyond the last state."""
    lead = [(0, 0)] * (chances.ndim - 2)
    padded = jnp.pad(chances, [*lead, (doublings, 0), (halvings, 0)])
    return padded[..., : chances.shape[-2], : chances.shape[-1]]


def transnas_macro_model(task: str) -> CostModel:
    """The cost model of TransNAS macro with the head of a task."""
    exact = table_counter(TRANSNAS_MACRO, _all_words(task))
    return CostModel(TRANSNAS_MACRO.name, UNITS, exact, functools.partial(_relaxed, task), task)
