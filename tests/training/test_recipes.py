from __future__ import annotations

import dataclasses
import json

import pytest

from ncp_jax.checks import UsageError
from ncp_jax.training import ENSEMBLE, NCP, RECIPES, Recipe, get_recipe


@pytest.mark.parametrize("recipe", RECIPES.values())
def test_json_round_trip(recipe: Recipe) -> None:
    again = Recipe(**json.loads(json.dumps(recipe.to_json())))
    assert again == recipe
    assert hash(again) == hash(recipe)


def test_the_authors_settings() -> None:
    # Ding et al., ICLR 2022, released code.
    assert NCP.widths == (256, 128)
    assert NCP.rates == (0.5, 0.5, 0.5, 0.0)
    assert (NCP.epochs, NCP.batch, NCP.learning_rate, NCP.weight_decay) == (200, 128, 1e-2, 1e-7)
    assert (NCP.warm, NCP.momentum, NCP.huber, NCP.decay) == (0.3, (0.85, 0.95), 1.0, "l2")


@pytest.mark.parametrize(
    ("rows", "batch", "steps", "size"), [(100, 32, 4, 25), (96, 32, 3, 32), (97, 32, 4, 24), (5, 32, 1, 5)]
)
def test_batches(rows: int, batch: int, steps: int, size: int) -> None:
    recipe = dataclasses.replace(ENSEMBLE, batch=batch)
    assert recipe.batches(rows) == (steps, size)
    assert steps * size <= rows < steps * (size + 1)
    assert size <= batch


@pytest.mark.parametrize(
    ("rows", "fields", "epochs"),
    [
        (100, {"epochs": 60}, 60),
        (100, {"epochs": 60, "min_steps": 800}, 200),  # four steps an epoch
        (100, {"epochs": 60, "max_steps": 100}, 25),
        (10_000, {"epochs": 60, "max_steps": 10}, 1),  # never less than one epoch
        (100, {"epochs": 1, "min_steps": 10}, 2),  # 2.5 epochs, rounded to even
    ],
)
def test_epochs_within_the_bounds_on_steps(rows: int, fields: dict, epochs: int) -> None:
    recipe = Recipe("x", batch=32, **fields)
    assert recipe.epochs_for(rows) == epochs


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"network": "transformer"}, "expected a known network, got 'transformer'; choose from: ncp, mlp"),
        ({"decay": "l1"}, "expected a known decay, got 'l1'; did you mean: l2"),
        ({"precision": "float16"}, "expected a known precision, got 'float16'"),
        ({"epochs": 0}, "expected epochs to be a number > 0, got 0"),
        ({"batch": -1}, "expected batch to be a number > 0, got -1"),
        ({"learning_rate": float("nan")}, "expected learning_rate to be a number > 0, got nan"),
        ({"huber": 0.0}, "expected huber to be a number > 0"),
        ({"weight_decay": -1e-3}, "expected weight_decay to be a number >= 0, got -0.001"),
        ({"max_steps": 0}, "expected max_steps to be a number > 0"),
    ],
)
def test_wrong_settings(fields: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        Recipe("x", **fields)


def test_recipes_by_name() -> None:
    assert get_recipe("NCP") is NCP
    assert get_recipe(ENSEMBLE) is ENSEMBLE
    with pytest.raises(UsageError, match="expected a known recipe, got 'ensembl'; did you mean: ensemble"):
        get_recipe("ensembl")
