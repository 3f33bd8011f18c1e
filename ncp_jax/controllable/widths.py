"""Makes the space of a model's width configurations, whose codes are numbers of channels, with exact costs."""

from __future__ import annotations

import dataclasses
import functools
from types import MappingProxyType
from typing import Any

import numpy as np

from ncp_jax.controllable.config import COSTS, ModelConfig
from ncp_jax.controllable.counts import count
from ncp_jax.spaces import CostFunction, Position, describe_space
from ncp_jax.spaces.costs.model import SCALE, CostModel, floating
from ncp_jax.spaces.described import DescribedSpace
from ncp_jax.types import Array, Int


@dataclasses.dataclass(frozen=True)
class CountedCost:
    """A cost of a sub-network as a function of its widths, for ``CostFunction``.

    Attributes:
      config: the model.
      cost: "flops" or "params".
    """

    config: ModelConfig
    cost: str

    def __call__(self, widths: dict[str, Any]) -> Any:
        """Returns the cost in GMAC or M of widths [n] for each position by name."""
        counted = count(self.config, [widths[name] for name in self.config.names])
        return getattr(counted, self.cost) / SCALE[COSTS[self.cost]]


def width_space(config: ModelConfig) -> DescribedSpace:
    """Returns the space of the width configurations: a position for each encoder stage and decoder.

    A code holds numbers of channels. Its costs are parameters and multiply-adds, exact integers. The same config gives
    the same space.
    """
    positions = [Position(name, values=values) for name, values in zip(config.names, config.widths, strict=True)]
    costs = [CostFunction(cost, CountedCost(config, cost), unit) for cost, unit in COSTS.items()]
    return describe_space(f"widths-{config.digest[:12]}", positions, costs=costs)


def exact_costs(config: ModelConfig, codes: Int[np.ndarray, "n d"]) -> dict[str, Int[np.ndarray, " n"]]:
    """Returns multiply-adds for one image and parameters of width configurations, exact integers."""
    counted: Any = count(config, list(np.asarray(codes, np.int64).T))
    return {"flops": counted.flops, "params": counted.params}


@functools.cache
def width_costs(config: ModelConfig) -> CostModel:
    """Returns the costs of the space of a model's widths, exact for codes and differentiable for relaxed ones.

    Relaxed costs are the same polynomials of real widths. The space's own description also knows the exact costs, but
    no gradient.
    """
    space = width_space(config)

    def exact(codes: Any) -> dict[str, np.ndarray]:
        rows, shape = space.check(codes), np.shape(codes)[:-1]
        return {cost: values.reshape(shape) for cost, values in exact_costs(config, rows).items()}

    def relaxed(codes: Any) -> dict[str, Array]:
        counted = count(config, [floating(space, codes)[..., place] for place in range(space.length)])
        return {cost: getattr(counted, cost) / SCALE[unit] for cost, unit in COSTS.items()}

    words = f"the sub-network: {len(config.targets)} tasks, image {config.side}×{config.side}"
    return CostModel(space.name, MappingProxyType(COSTS), exact, relaxed, counted=words, increasing=True)


def width_table(config: ModelConfig) -> Int[np.ndarray, "d k"]:
    """Returns the widths of each position, one for each ratio."""
    return np.array(config.widths, np.int32)


def extreme(config: ModelConfig, *, largest: bool) -> Int[np.ndarray, " d"]:
    """Returns the configuration of all widths at their largest, or at their smallest."""
    return width_table(config)[:, -1 if largest else 0]
