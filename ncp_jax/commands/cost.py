"""Counts parameters and FLOPs of codes (``ncp.cost``, ``ncp-jax cost``)."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from tyro.conf import Positional

from ncp_jax import checks
from ncp_jax.commands.command import JsonCommand, as_config
from ncp_jax.console import format_table, short_repr
from ncp_jax.jax_settings import package_settings

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax.types import Int


@dataclasses.dataclass(frozen=True)
class CostConfig:
    """Codes whose parameters and FLOPs are counted.

    Attributes:
      codes: Codes, each as an architecture string or as integers or names separated by commas.
      space: Space of the codes: nas-bench-mr, nas-bench-201, transnas-micro, transnas-macro, nats-size.
      task: Task whose head and image size are counted; by default class_scene (TransNAS) and cifar10 (NAS-Bench-201).
      flops_of: table (what the published table counts) or task (the task's own network). They differ in nas-bench-mr,
        whose table counts one image classifier for all of its tasks.
      notation: What integers or names of operations mean: ncp-jax, ops (names, for cells); in nas-bench-201 also naslib
        or nats-index.
    """

    codes: Positional[tuple[str, ...]] = ()
    space: str = "nas-bench-mr"
    task: str | None = None
    flops_of: str = "table"
    notation: str = "ncp-jax"


@dataclasses.dataclass(frozen=True, eq=False)
class CostResult:
    """Exact costs of some codes, in the convention of the space's published figures.

    Attributes:
      space: full name of the space.
      task: task whose network is counted; "" where the space has one network for all tasks.
      counted: the network that is counted, in words.
      tasks: all tasks whose networks the space can count, the default first.
      codes: ``[n, d]`` the codes.
      strings: the n architecture strings.
      params: ``[n]`` numbers of parameters, exact integers.
      flops: ``[n]`` numbers of multiply-adds, exact integers.
    """

    space: str
    task: str
    counted: str
    tasks: tuple[str, ...]
    codes: Int[np.ndarray, "n d"]
    strings: tuple[str, ...]
    params: Int[np.ndarray, " n"]
    flops: Int[np.ndarray, " n"]

    __repr__ = short_repr

    def to_json(self) -> dict[str, Any]:
        """Returns the content of ``ncp-jax cost --json``: one entry per code, counts as integers."""
        rows = zip(self.codes, self.strings, self.params, self.flops, strict=True)
        return {
            "schema": "cost/1",
            "space": self.space,
            "task": self.task,
            "counted": self.counted,
            "tasks": list(self.tasks),
            "codes": [
                {"code": code.tolist(), "string": string, "params": int(params), "flops": int(flops)}
                for code, string, params, flops in rows
            ],
        }

    def __str__(self) -> str:
        header = ("params", "flops", "architecture")
        rows = [(str(p), str(f), text) for p, f, text in zip(self.params, self.flops, self.strings, strict=True)]
        return f"{self.space}, {self.counted}\n{format_table([header, *rows], '>><')}"


@package_settings
def cost(config: CostConfig | None = None, **settings: Any) -> CostResult:
    """Counts the parameters and FLOPs (multiply-adds) of codes.

    Examples:
      >>> import ncp_jax as ncp
      >>> found = ncp.cost(codes=("64-41414-1_02_333", "0,0,0,0,0,3"), space="transnas-micro", task="jigsaw")
      >>> found.flops.shape
      (2,)

    Args:
      config: the codes and their space.
      **settings: fields of ``CostConfig``, in place of ``config``.

    Raises:
      UsageError: no code, a code that is not in the space, an unknown space, a task without a network in it.
    """
    import numpy as np

    from ncp_jax.spaces import cost_model, cost_tasks, get_space

    config = as_config(CostConfig, config, settings)
    space = get_space(config.space)
    model = cost_model(space, config.task, of=config.flops_of)
    if model is None or not {"params", "flops"} <= {*model.units}:
        raise checks.UsageError(
            expected="a space with known parameters and FLOPs", got=config.space, remedy="name another --space"
        )
    if not config.codes:
        raise checks.UsageError(expected="at least one code", got="none", remedy=f"for example '{space.example}'")
    codes = np.stack([space.read(text, config.notation) for text in config.codes])
    exact = model.exact(codes)
    strings = tuple(space.to_strings(codes))
    return CostResult(
        space.name, model.task, model.counted, cost_tasks(space), codes, strings, exact["params"], exact["flops"]
    )


@dataclasses.dataclass(frozen=True)
class Cost(JsonCommand, CostConfig):
    """Count the parameters and FLOPs of codes: exact integers, in the convention of the space's published figures."""

    def run(self) -> None:
        """Prints one line per code."""
        result = cost(self.config(CostConfig))
        self.show(result.to_json, lambda: str(result))
