"""Shields the package's functions from settings of JAX that are meant for a user's own code."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Any, TypeVar

from ncp_jax import checks

Function = TypeVar("Function", bound=Callable[..., Any])


def package_settings(function: Function) -> Function:
    """Makes a function of the host run its JAX programs with the settings that the package's code needs.

    - ``JAX_ENABLE_X64``: in 64-bit mode, random draws and the dtypes of constants are others, so results would differ,
      or programs not compile. The whole of this package computes in float32 and int32; what needs more is computed by
      NumPy. JAX arrays of 64 bits among the arguments are converted.
    - ``JAX_NUMPY_RANK_PROMOTION=raise`` and ``JAX_DEBUG_INFS``: arrays are broadcast on purpose, and infinities mark
      what is left out of a maximum. ``JAX_DEBUG_NANS`` stays in force.
    """

    @functools.wraps(function)
    def run(*args: Any, **kwargs: Any) -> Any:
        import jax

        with jax.numpy_rank_promotion("allow"), jax.debug_infs(False):
            if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
                return function(*args, **kwargs)
            with jax.enable_x64(False):
                args, kwargs = jax.tree.map(_narrow, (args, kwargs))
                return function(*args, **kwargs)

    return run  # type: ignore[return-value]


def check_devices() -> None:
    """Starts JAX's backend.

    Raises:
      UsageError: JAX finds no device of the platform that ``JAX_PLATFORMS`` names.
    """
    import jax

    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter without a text where no platform is left
        wanted = os.environ.get("JAX_PLATFORMS", "none")
        raise checks.UsageError(
            expected=f"a device of the platform that JAX_PLATFORMS names ({wanted})",
            got=" ".join(str(error).split())[:200] or "none",
            remedy="unset JAX_PLATFORMS or set it to cpu; for a GPU, install ncp-jax[cuda12] or ncp-jax[cuda13]",
        ) from error


def _narrow(leaf: Any) -> Any:
    """Returns a JAX array of 64 bits as one of 32; anything else as it is."""
    import jax
    import numpy as np

    concrete = isinstance(leaf, jax.Array) and not isinstance(leaf, jax.core.Tracer)
    narrow = {"float64": "float32", "int64": "int32", "uint64": "uint32"}
    if not concrete or str(leaf.dtype) not in narrow:
        return leaf
    dtype = np.dtype(narrow[str(leaf.dtype)])
    # An integer out of range stays out of the range of codes: it must not wrap around to a legal one.
    values = np.asarray(leaf)
    ends = (np.iinfo(dtype).min, np.iinfo(dtype).max) if dtype.kind in "iu" else (-np.inf, np.inf)
    return jax.device_put(np.clip(values, *ends).astype(dtype))
