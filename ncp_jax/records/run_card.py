"""The run card: versions, device and date, which a result depends on besides its config."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import sys
from typing import Any

from ncp_jax.jax_settings import check_devices

_PACKAGES = ("ncp-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy")
RESULT_PACKAGES = ("ncp-jax", "jax", "jaxlib", "numpy")
"""Packages whose version the result of a run may depend on."""
_DEFAULTS = {
    "default_prng_impl": "threefry2x32",
    "threefry_partitionable": True,
    "enable_x64": False,
    "default_matmul_precision": None,
}


def run_card() -> dict[str, Any]:
    """Returns the packages' versions, the device that JAX computes on, and the time (UTC). Starts JAX's backend."""
    import jax

    check_devices()
    device = jax.devices()[0]
    return {
        "versions": {"python": platform.python_version()} | {name: _version(name) for name in _PACKAGES} | _settings(),
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
    return {name: _version(name) for name in RESULT_PACKAGES} | _settings()


def _settings() -> dict[str, str]:
    """Returns the settings of JAX that change results where they are not JAX's defaults, as one entry of versions.

    Other generators and ``threefry_partitionable`` change all random draws; 64-bit numbers and the precision of
    products change digits.
    """
    jax = sys.modules.get("jax")
    if jax is None:
        return {}  # what does not use JAX does not depend on its settings
    found = {name: getattr(jax.config, f"jax_{name}") for name in _DEFAULTS}
    other = [f"{name}={value}" for name, value in found.items() if value != _DEFAULTS[name]]
    return {"jax settings": ", ".join(other)} if other else {}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
