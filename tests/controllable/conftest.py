"""One small model, trained once on a file of a user's own arrays, for all tests of questions and exports."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ncp_jax.commands.widths_config import WidthsConfig
from ncp_jax.commands.widths_training import train_widths
from ncp_jax.spaces import SPACES


@pytest.fixture(scope="module", autouse=True)
def _forget_spaces() -> Iterator[None]:
    """Other modules' tests go through all spaces that there are."""
    yield
    for name in [name for name in SPACES if name.startswith("widths-")]:
        del SPACES[name]


def user_arrays() -> dict[str, np.ndarray]:
    """Returns images of bars, with a class, a label and a number for their pixels."""
    rng = np.random.default_rng(0)
    kinds, n = rng.integers(0, 3, 90), 90
    images = rng.normal(0, 0.1, (n, 6, 6)).astype(np.float32)
    for image, kind in zip(images, kinds, strict=True):
        image[:, 2 * kind : 2 * kind + 2] += 1
    return {
        "images": images,
        "bar.classes": kinds,
        "parts.labels": (images > 0.5).astype(np.int64) - (rng.random(images.shape) < 0.1),
        "twice.pixels": 2 * images,
        "split": np.arange(n) % 3,
    }


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("widths") / "bars.npz"
    np.savez(path, **user_arrays())  # type: ignore[arg-type]
    return path


@pytest.fixture(scope="session")
def config(data: Path) -> WidthsConfig:
    return WidthsConfig(data=str(data), smoke=True)


@pytest.fixture(scope="session")
def folder(data: Path, config: WidthsConfig) -> Path:
    train_widths(config, data.parent / "model")
    return data.parent / "model"
