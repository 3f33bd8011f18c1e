"""Inversion in described spaces: conditions and limits hold, and NAS-Bench-201 as a file is NAS-Bench-201."""

from __future__ import annotations

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ncp_jax import CostFunction, MetricSpec, Objective, Position, Predictor, describe_space, get_space, propagate
from ncp_jax.predictors import FoldedMLP, Standardisation
from ncp_jax.propagation import PropagationConfig
from ncp_jax.spaces import Space

CONFIG = PropagationConfig(steps=20, polish=4)
GOAL = Objective(maximize={"acc": 1.0})


pytestmark = pytest.mark.usefixtures("spaces_stay")


def predictor(space: Space) -> Predictor:
    """Two members with random weights, the same for spaces of equal relaxed codes."""
    rng, middle, half = np.random.default_rng(0), (space.lower + space.upper) / 2, (space.upper - space.lower) / 2
    params = {
        "w": tuple(jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in ((2, space.features, 8), (2, 8, 1))),
        "b": (jnp.zeros((2, 8)), jnp.zeros((2, 1))),
    }
    scale = Standardisation(*(jnp.asarray(end, jnp.float32) for end in (middle, half, [0.0], [1.0])))
    return Predictor(params, scale, FoldedMLP(log=False), (MetricSpec("acc"),), space.name)


def best_of_all(guide: Predictor, codes: np.ndarray) -> tuple[float, list[int]]:
    mean = np.asarray(guide(get_space(guide.space).encode(jnp.asarray(codes)))[0])[:, 0]
    return float(mean.max()), codes[mean.argmax()].tolist()


def test_conditions_forbidden_combinations_and_a_limit_on_a_cost_hold() -> None:
    space = describe_space(
        "inverted",
        [
            Position("stages", values=(2, 3, 4)),
            Position("kernel4", choices=("3x3", "5x5", "7x7"), only_if="stages >= 4"),
            Position("rate", real=(1e-4, 0.1), log=True, levels=16),
            Position("sub", boolean=True, only_if="kernel4 == '7x7'"),
            Position("width", range=(8, 128), step=8),
        ],
        forbid=["kernel4 == '7x7' and rate > 0.02", "width * stages > 400"],
        costs=[CostFunction("latency_ms", lambda p: p["stages"] * p["width"] + 10.0 * p["kernel4"], "ms")],
    )
    guide, codes = predictor(space), space.all_codes()
    cost = np.asarray([code[0] * code[4] + 10 * code[1] for code in codes.tolist()])
    found = propagate(guide, GOAL, codes=64, key=0, config=CONFIG, limits=("latency_ms<=120",))
    np.testing.assert_array_equal(space.canonical(found.codes), found.codes)
    assert space.is_valid(found.codes).all()
    assert len(np.unique(found.codes, axis=0)) == len(found.codes)
    assert found.costs["latency_ms"].max() <= 120
    value, code = best_of_all(guide, codes[cost <= 120])
    assert found.codes[0].tolist() == code
    np.testing.assert_allclose(found.mean[0, 0], value, rtol=1e-5)


def test_nas_bench_201_as_a_file_finds_what_the_built_in_finds(tmp_path: Path) -> None:
    built = get_space("nas-bench-201")
    ops = ", ".join(f'"{op}"' for op in built.ops)
    path = tmp_path / "nb201.toml"
    path.write_text(
        'name = "nb201-file"\n' + "".join(f'[[position]]\nname = "e{edge}"\nchoices = [{ops}]\n' for edge in range(6))
    )
    space = get_space(str(path))
    best = best_of_all(predictor(built), built.all_codes())
    assert best_of_all(predictor(space), space.all_codes()) == best
    found = [propagate(predictor(one), GOAL, codes=64, key=0, config=CONFIG) for one in (space, built)]
    assert (
        found[0].codes[0].tolist() == found[1].codes[0].tolist() == best_of_all(predictor(built), built.all_codes())[1]
    )
    np.testing.assert_allclose(found[0].mean[0], found[1].mean[0], rtol=1e-6)
