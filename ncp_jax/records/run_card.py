"""The run card: versions, device and date, which a result depends on besides its config."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
from typing import Any

_PACKAGES = ("ncp-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")
RESULT_PACKAGES = ("ncp-jax", "jax", "jaxlib", "numpy")
"""Packages whose version the result of a run may depend on."""


def run_card() -> dict[str, Any]:
    """Returns the packages' versions, the device that JAX computes on, and the time (UTC). Starts JAX's backend."""
    import jax

    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES},
        "device": {
            "platform": device.platform,
            "kind": device.device_kind,
            "count": jax.device_count(),
            "cores": os.cpu_count(),
            "machine": platform.machine(),
        },
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def result_versions() -> dict[str, str]:
    """Returns package → version of the packages that results may depend on."""
    return {name: _version(name) for name in RESULT_PACKAGES}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
