"""The strength of decay that small tables get: chosen inside the training rows."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from ncp_jax import Recipe, Table
from ncp_jax.training import choose_decay, fit, fitting

ROWS = np.arange(200) < 120


def one_metric(tiny_table: Table, name: str, held_out: float = 0.0) -> Table:
    """The tiny table with one quality metric; ``held_out`` is added to the rows outside ROWS."""
    values = np.asarray(tiny_table.column(name)) + held_out * ~ROWS
    (metric,) = [m for m in tiny_table.metrics if m.name == name]
    codes = np.asarray(tiny_table.codes)
    return Table.from_arrays("one", space="nas-bench-mr", codes=codes, values=values[:, None], metrics=[metric])


def test_noise_gets_more_decay_than_a_smooth_function(tiny_table: Table, tiny_recipe: Recipe) -> None:
    key = jax.random.key(0)
    smooth = choose_decay(one_metric(tiny_table, "a/top1"), ROWS, tiny_recipe, key=key)
    noise = choose_decay(one_metric(tiny_table, "b/top1"), ROWS, tiny_recipe, key=key)
    candidates = [tiny_recipe.weight_decay * factor for factor in fitting.DECAY_FACTORS]
    assert {smooth, noise} <= set(candidates)
    assert smooth < noise


def test_the_choice_never_looks_outside_the_rows(tiny_table: Table, tiny_recipe: Recipe) -> None:
    key = jax.random.key(0)
    chosen = choose_decay(one_metric(tiny_table, "a/top1"), ROWS, tiny_recipe, key=key)
    poisoned = choose_decay(one_metric(tiny_table, "a/top1", held_out=1e6), ROWS, tiny_recipe, key=key)
    assert chosen == poisoned


def test_fit_uses_the_choice_below_decay_rows(tiny_table: Table, tiny_recipe: Recipe, monkeypatch) -> None:
    asked = []
    monkeypatch.setattr(fitting, "choose_decay", lambda *args, **_: asked.append(args) or 7.0)
    used = []
    many = fitting.fit_many

    def spy(*args, **kwargs):
        used.append(kwargs["recipe"].weight_decay)
        return many(*args, **kwargs)

    monkeypatch.setattr(fitting, "fit_many", spy)
    rows = np.arange(200) < 100  # the shape that other tests have compiled
    for threshold in (0, 100, 101):
        recipe = dataclasses.replace(tiny_recipe, decay_rows=threshold)
        fit(tiny_table, recipe=recipe, members=2, key=jax.random.key(0), rows=rows)
    assert used == [tiny_recipe.weight_decay, tiny_recipe.weight_decay, 7.0]
    assert len(asked) == 1
