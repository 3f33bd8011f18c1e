"""Counts the networks of NATS-Bench's size space, as that benchmark does (see ``costs.nas_bench_201`` for what counts).

A network is a stem, five stages and a classifier. Stages 1, 3 and 5 are the cell ``|nor_conv_3x3~0|+|nor_conv_3x3~0|
nor_conv_3x3~1|+|skip_connect~0|nor_conv_3x3~1|nor_conv_3x3~2|``; stages 2 and 4 are residual blocks of stride 2. Where
the cell has as many channels before as after it, its skip connection is the identity, else a 1x1 convolution.

Source: arXiv 2009.00437, section 3.1, and the authors' code (github.com/D-X-Y/AutoDL-Projects). The published
parameters and FLOPs are met exactly.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from ncp_jax.spaces.costs.model import SCALE, UNITS, CostModel, count_rows, floating, network_words
from ncp_jax.spaces.costs.nas_bench_201 import DATASETS, Dataset
from ncp_jax.spaces.costs.registry import CostFamily, register_costs
from ncp_jax.spaces.nats_size import CHANNELS, NATS_SIZE
from ncp_jax.types import Array, Int

_STEP = CHANNELS[1] - CHANNELS[0]


def _cell(inputs: Any, outputs: Any, changed: Any) -> tuple[Any, Any]:
    """Returns weights of the convolutions and parameters of a cell; ``changed`` is 1 where its channels change."""
    weights = 2 * 9 * inputs * outputs + 3 * 9 * outputs * outputs + changed * inputs * outputs
    return weights, weights + (5 + changed) * 2 * outputs


def _block(inputs: Any, outputs: Any) -> tuple[Any, Any]:
    weights = 9 * inputs * outputs + 9 * outputs * outputs + inputs * outputs
    return weights, weights + 2 * 2 * outputs


def _count(stages: list[Any], changed: tuple[Any, Any], dataset: Dataset) -> dict[str, Any]:
    """Returns the costs of networks with these channels, integers or real numbers."""
    c1, c2, c3, c4, c5 = stages
    pixels = [(dataset.image >> halvings) ** 2 for halvings in range(3)]
    stem = 27 * c1
    parts = [(stem, stem + 2 * c1, 0), (*_cell(c1, c1, 0), 0), (*_block(c1, c2), 1)]
    parts += [(*_cell(c2, c3, changed[0]), 1), (*_block(c3, c4), 2), (*_cell(c4, c5, changed[1]), 2)]
    classifier = (c5 + 1) * dataset.classes
    return {
        "params": sum(params for _, params, _ in parts) + 2 * c5 + classifier,
        "flops": sum(weights * pixels[place] for weights, _, place in parts) + classifier,
    }


def nats_size_model(task: str) -> CostModel:
    """Returns the cost model of the size space on a data set."""
    dataset = DATASETS[task]

    def count(rows: Int[np.ndarray, "n 5"]) -> dict[str, np.ndarray]:
        stages = list(rows.astype(np.int64).T)
        changed = (stages[1] != stages[2]).astype(np.int64), (stages[3] != stages[4]).astype(np.int64)
        return _count(stages, changed, dataset)

    def relaxed(codes: Any) -> dict[str, Array]:
        stages = list(jnp.moveaxis(floating(NATS_SIZE, codes), -1, 0))
        # From the identity to the convolution within one step of the channels: exact at codes, continuous between.
        changed = tuple(jnp.clip(jnp.abs(stages[i] - stages[i + 1]) / _STEP, 0, 1) for i in (1, 3))
        counts = _count(stages, (changed[0], changed[1]), dataset)
        return {cost: counts[cost] / SCALE[unit] for cost, unit in UNITS.items()}

    words = network_words(task, side=dataset.image, classes=dataset.classes)
    return CostModel(NATS_SIZE.name, UNITS, lambda codes: count_rows(NATS_SIZE, codes, count), relaxed, task, words)


register_costs(NATS_SIZE, CostFamily(tuple(DATASETS), nats_size_model))
