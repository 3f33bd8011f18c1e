from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.spaces import cost_model, cost_tasks
from ncp_jax.spaces.nas_bench_201 import NAS_BENCH_201, from_ncp_onehot

NONE, CONV3 = [0] * 6, [3] * 6


def test_the_published_table_is_that_of_cifar100(pickled):
    """It is rounded to thousands of parameters and ten thousands of FLOPs; 150 rows have the costs of another cell."""
    rows = pickled("nas-bench-201")
    codes = from_ncp_onehot([row["embedding"] for row in rows])
    table = {
        name: np.array([float(row[key]) for row in rows]) for name, key in (("params", "Params"), ("flops", "Flops"))
    }
    exact = cost_model(NAS_BENCH_201, "cifar100").exact(codes)
    same = {}
    for name, digits in (("params", 3), ("flops", 2)):
        rounded = np.round(exact[name] / 1e6, digits)
        same[name] = np.abs(rounded - table[name]) < 1e-6
        # The others are costs of cells of this space, too.
        assert set(np.round(table[name], digits)) <= set(rounded)
    np.testing.assert_array_equal(same["params"], same["flops"])
    assert len(rows) == 15625
    assert int((~same["params"]).sum()) == 150


@pytest.mark.parametrize(
    ("task", "params", "flops"),
    [("cifar10", 73_306, 7_783_050), ("cifar100", 79_156, 7_788_900), ("imagenet16-120", 80_456, 1_953_400)],
)
def test_an_empty_cell(task, params, flops):
    """Skeleton alone, by hand: stem, two residual blocks, BatchNorm, classifier."""
    side, classes = {"cifar10": (32, 10), "cifar100": (32, 100), "imagenet16-120": (16, 120)}[task]
    blocks = [(9 * 16 * 32 + 9 * 32 * 32 + 16 * 32, side // 2), (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64, side // 4)]
    weights = 27 * 16 + sum(block for block, _ in blocks) + 65 * classes
    assert params == weights + 2 * 16 + 2 * 2 * 32 + 2 * 2 * 64 + 2 * 64
    assert flops == 27 * 16 * side**2 + sum(block * s * s for block, s in blocks) + 65 * classes
    got = cost_model(NAS_BENCH_201, task).exact(NONE)
    assert (got["params"], got["flops"]) == (params, flops)


def test_tasks():
    assert cost_tasks(NAS_BENCH_201) == ("cifar10", "cifar100", "imagenet16-120")
    assert cost_model(NAS_BENCH_201) is cost_model(NAS_BENCH_201, "cifar10")
    assert cost_model(NAS_BENCH_201, "ImageNet16-120").task == "imagenet16-120"
    large, small = (cost_model(NAS_BENCH_201, task) for task in ("cifar10", "imagenet16-120"))
    added = [model.exact(CONV3)["flops"] - model.exact(NONE)["flops"] for model in (large, small)]
    # A quarter of the pixels.
    assert added == [6 * 5 * 3 * 2304 * 1024, 6 * 5 * 3 * 2304 * 256]


def test_only_convolutions_cost():
    model = cost_model(NAS_BENCH_201)
    nothing = model.exact(NONE)
    for op, free in enumerate((True, True, False, False, True)):
        for edge in range(6):
            code = np.zeros(6, int)
            code[edge] = op
            got = model.exact(code)
            assert all((got[cost] == nothing[cost]) == free for cost in got)
