"""The predictors that come with the package: trained by this project from the real tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ncp_jax.predictors.predictor import Predictor
from ncp_jax.predictors.storage import load_predictor

SHIPPED = {"nas-bench-mr": "predictors/nas-bench-mr.npz"}


def shipped_folder() -> Path:
    """Folder of the project's own data: inside an installed package, or ``benchmarks_data/`` of a checkout."""
    package = Path(__file__).resolve().parent.parent
    inside = package / "benchmarks_data"
    return inside if inside.is_dir() else package.parent / "benchmarks_data"


def load_shipped(family: str) -> tuple[Predictor, dict[str, Any]] | None:
    """Returns the shipped predictor of a family of tables ("nas-bench-mr") and its card; None where none ships."""
    if family not in SHIPPED:
        return None
    return load_predictor(shipped_folder() / SHIPPED[family])
