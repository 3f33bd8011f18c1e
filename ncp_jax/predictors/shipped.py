"""Loads the predictors that ship with the package, trained by this project on the published tables."""

from __future__ import annotations

from typing import Any

from ncp_jax.files import shipped_folder
from ncp_jax.predictors.predictor import Predictor
from ncp_jax.predictors.storage import load_predictor

SHIPPED = {"nas-bench-mr": "predictors/nas-bench-mr.npz"}


def load_shipped(family: str) -> tuple[Predictor, dict[str, Any]] | None:
    """Returns the shipped predictor of a family of tables ("nas-bench-mr") and its card, or None if there is none."""
    if family not in SHIPPED:
        return None
    return load_predictor(shipped_folder() / SHIPPED[family])
