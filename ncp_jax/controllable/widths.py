"""Makes the space of a model's width configurations, whose codes are numbers of channels, with exact costs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from ncp_jax.controllable.config import COSTS, ModelConfig, count
from ncp_jax.spaces import CostFunction, Position, describe_space
from ncp_jax.spaces.costs.model import SCALE
from ncp_jax.spaces.described import DescribedSpace
from ncp_jax.types import Int


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


def extreme(config: ModelConfig, *, largest: bool) -> Int[np.ndarray, " d"]:
    """Returns the configuration of all widths at their largest, or at their smallest."""
    return np.array([values[-1 if largest else 0] for values in config.widths], np.int32)
