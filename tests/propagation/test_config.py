from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.predictors import Predictor
from ncp_jax.propagation import Execution, Objective, PropagationConfig, TrustRegion, propagate

BOUNDS = {"stage1.num_blocks": (1, 2), "*.num_channels[*]": (None, 64), 26: (8, None)}
REGION = TrustRegion(jnp.zeros((2, 3)), 1.0, 2.0)


def test_settings_survive_json() -> None:
    config = PropagationConfig(
        steps=7,
        learning_rate=0.5,
        strategy="winner-takes-all",
        follow="bound",
        confidence=2.0,
        exact_costs=True,
        precision="bfloat16",
        discreteness="annealed",
        bounds=BOUNDS,
        restarts=2,
        polish=8,
    )
    assert PropagationConfig.from_json(json.loads(json.dumps(config.to_json(), allow_nan=False))) == config
    assert PropagationConfig.from_json({}) == PropagationConfig()
    assert PropagationConfig.from_json(PropagationConfig().to_json()) == PropagationConfig()


@pytest.mark.parametrize("field", [{"transform": optax.adam(0.1)}, {"region": REGION}], ids=["transform", "region"])
def test_functions_and_data_are_no_json(field: dict) -> None:
    (name,) = field
    with pytest.raises(UsageError, match=f"expected settings that JSON can hold, got a {name}; record how the {name}"):
        PropagationConfig(**field).to_json()


def test_an_unknown_setting_in_json() -> None:
    with pytest.raises(UsageError, match="expected a known setting, got 'learning_rat'; did you mean: learning_rate"):
        PropagationConfig.from_json({"learning_rat": 1.0})


def test_bounds_are_a_mapping_or_what_it_became() -> None:
    config = PropagationConfig(bounds=BOUNDS)
    assert config.bounds_map == BOUNDS
    assert PropagationConfig(bounds={key: list(ends) for key, ends in BOUNDS.items()}) == config
    assert dataclasses.replace(config, steps=3).bounds == config.bounds
    assert hash(config.bounds) == hash(PropagationConfig(bounds=BOUNDS).bounds)
    assert PropagationConfig().bounds_map == {}


def test_names_are_read_in_any_case() -> None:
    loud = PropagationConfig(
        strategy="Winner-Takes-All", follow="BOUND", precision="BFloat16", discreteness="Straight-Through"
    )
    assert (loud.strategy, loud.follow, loud.precision) == ("winner-takes-all", "bound", "bfloat16")
    assert loud.discreteness == "straight-through"
    assert Execution(kernel="XLA", platform="CPU") == Execution(kernel="xla", platform="cpu")


def test_numbers_are_leaves_and_the_rest_is_structure() -> None:
    config = PropagationConfig(region=REGION)
    doubled = jax.tree.map(lambda number: number * 2, config)
    assert (doubled.learning_rate, doubled.delta, doubled.steps) == (20.0, 0.2, 70)
    assert doubled.region.threshold == 4.0
    assert jax.tree.structure(config) != jax.tree.structure(dataclasses.replace(config, steps=69))


def test_the_authors_settings_may_be_changed() -> None:
    config = PropagationConfig.authors(steps=5)
    assert (config.steps, config.learning_rate, config.follow) == (5, 3.0, "mean")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"strategy": "winner"}, "expected a known strategy, got 'winner'; did you mean: winner-takes-all"),
        ({"follow": "members"}, "got 'members'; did you mean: member"),
        ({"precision": "float16"}, "expected a known precision, got 'float16'; did you mean: "),
        ({"discreteness": "through"}, "known discreteness, got 'through'; did you mean: straight-through"),
        ({"steps": -1}, "expected steps to be an integer 0 or more, got -1; try steps=70"),
        ({"steps": 1.5}, "expected steps to be an integer 0 or more, got 1.5"),
        ({"restarts": -1}, "expected restarts to be an integer 0 or more, got -1; try restarts=1"),
        ({"polish": 0.5}, "expected polish to be an integer 0 or more, got 0.5; try polish=8"),
        ({"learning_rate": 0.0}, "expected learning_rate to be a number > 0, got 0.0"),
        ({"learning_rate": float("nan")}, "expected learning_rate to be a number > 0, got nan"),
        ({"delta": float("inf")}, "expected delta to be a number > 0, got inf"),
        ({"ceiling_weight": -1.0}, "expected ceiling_weight to be a number >= 0, got -1.0"),
        ({"confidence": -0.1}, "expected confidence to be a number >= 0, got -0.1"),
        ({"transform": 0.1}, r"expected an optax transformation, got 0.1; try transform=optax\.adam"),
        ({"bounds": {"last_channel": 8}}, r"expected \(lowest, highest\) as the bounds of 'last_channel', got 8; try"),
        ({"bounds": {"last_channel": (8, 16, 24)}}, r"as the bounds of 'last_channel', got \(8, 16, 24\)"),
        ({"bounds": [("last_channel", 8, 16)]}, "expected bounds as a mapping of position to .lowest, highest., got"),
    ],
)
def test_wrong_settings(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        PropagationConfig(**fields)
    with pytest.raises(UsageError, match=words):
        dataclasses.replace(PropagationConfig(), **fields)


def test_no_weight_on_the_ceiling_and_no_confidence_are_fine() -> None:
    config = PropagationConfig(ceiling_weight=0.0, confidence=0, steps=0)
    assert (config.ceiling_weight, config.confidence, config.steps) == (0.0, 0, 0)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"edge 9>9": (0, 1)}, "expected a known position, got 'edge 9>9'; did you mean: "),
        ({"edge 0>1": (3, 1)}, "expected low <= high for 'edge 0>1', got 3..1; swap the two"),
        ({0: (7, 9)}, "expected 0 to leave edge 0>1 some of 0, 1, 2, 3, got 7..9; widen the bounds"),
        ({0: (0.5, 2)}, r"expected \(low, high\) for 0, two integers or None, got \(0\.5, 2\)"),
    ],
)
def test_bounds_that_the_space_has_not(ensemble: Callable[..., Predictor], limits: dict, words: str) -> None:
    config = PropagationConfig(bounds=limits)
    with pytest.raises(UsageError, match=words):
        propagate(ensemble(), Objective(maximize={"acc": 1.0}), codes=8, key=jax.random.key(0), config=config)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"kernel": "triton"}, "expected a known kernel, got 'triton'; "),
        ({"platform": "cuda"}, "expected a known platform, got 'cuda'; "),
        ({"memory_mb": 0}, "expected memory_mb to be a number > 0, got 0"),
        ({"memory_mb": np.nan}, "expected memory_mb to be a number > 0, got nan"),
        ({"devices": 0}, "expected devices to be an integer 1 or more, got 0; try devices=1"),
        ({"devices": 1.5}, "expected devices to be an integer 1 or more, got 1.5"),
        ({"keep": 0}, "expected keep to be an integer 1 or more, got 0; try keep=1"),
        ({"keep": None}, "expected keep to be an integer 1 or more, got None"),
    ],
)
def test_wrong_executions(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Execution(**fields)
