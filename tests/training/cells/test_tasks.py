"""The five tasks: their splits, and that each asks for what it says."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from ncp_jax import checks
from ncp_jax.benchmarks.catalogue import DIGITS_TASKS
from ncp_jax.training.cells import tasks
from ncp_jax.training.cells.tasks import ORDERS, TASKS, pools, split_rows


def test_the_tasks_are_those_of_the_tables() -> None:
    assert tuple(TASKS) == DIGITS_TASKS


def test_every_image_is_in_one_split() -> None:
    rows = split_rows()
    assert {name: len(part) for name, part in rows.items()} == {"train": 898, "validation": 449, "test": 450}
    np.testing.assert_array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(1797))


@pytest.mark.parametrize("task", TASKS)
def test_pools_have_the_copies_they_say_and_fit_the_head(task: str) -> None:
    train, rest = TASKS[task].copies
    for (name, pool), copies in zip(pools(task).items(), (train, rest, rest), strict=True):
        assert len(pool) == copies * len(split_rows()[name])
        assert pool.images.shape == (len(pool), 64)
        assert pool.images.dtype == np.float32
        if TASKS[task].metric == "accuracy":
            assert pool.targets.shape == (len(pool),)
            assert set(pool.targets.tolist()) == set(range(TASKS[task].shape.outputs))
        else:
            assert pool.targets.shape == (len(pool), TASKS[task].shape.outputs)


def clean(split: str) -> np.ndarray:
    return tasks.digits_images()[0][split_rows()[split]]


def test_a_turned_image_turned_back_is_the_image() -> None:
    pool = pools("rotation")["test"]
    turned = pool.images.reshape(-1, 8, 8)
    back = [np.rot90(image, -int(turn)) for image, turn in zip(turned, pool.targets, strict=True)]
    np.testing.assert_array_equal(back, np.tile(clean("test"), (4, 1, 1)))


def test_quadrants_in_their_order_are_the_image() -> None:
    pool = pools("jigsaw")["test"]
    for image, label, whole in zip(pool.images[:40], pool.targets, clean("test"), strict=False):
        parts = [image.reshape(8, 8)[y : y + 4, x : x + 4] for y in (0, 4) for x in (0, 4)]
        back = np.zeros((8, 8), np.float32)
        for part, place in zip(parts, ORDERS[label], strict=True):
            y, x = divmod(place, 2)
            back[4 * y : 4 * y + 4, 4 * x : 4 * x + 4] = part
        np.testing.assert_array_equal(back, whole)


def test_pixels_are_in_units_of_the_training_split() -> None:
    for task in ("autoencoder", "edges"):
        targets = pools(task)["train"].targets
        np.testing.assert_allclose(targets.mean(axis=0), 0, atol=1e-4)
        assert targets.std() == pytest.approx(1, abs=1e-3)
    assert (
        np.corrcoef(pools("autoencoder")["test"].images.ravel(), pools("autoencoder")["test"].targets.ravel())[0, 1]
        > 0.5
    )


def test_noise_differs_between_copies_and_not_between_calls() -> None:
    pool = pools("class")["train"]
    assert not np.array_equal(pool.images[:898], pool.images[898:1796])
    first = pool.images.copy()
    pools.cache_clear()
    np.testing.assert_array_equal(pools("class")["train"].images, first)


def test_what_a_user_without_scikit_learn_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(checks.UsageError, match=r"scikit-learn.*pip install"):
        tasks.digits_images.__wrapped__()


def test_an_unknown_task() -> None:
    with pytest.raises(checks.UsageError, match="jigsaw"):
        pools("jigsaws")
