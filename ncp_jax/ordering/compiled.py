"""Compiles functions with Numba and keeps the machine code on disk, also where folders or files there are of no use."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from ncp_jax.console import warn


def compiled(signature: Any) -> Callable[[Callable[..., Any]], Any]:
    """Returns a decorator that compiles a function for one signature. It releases the interpreter's lock.

    Machine code is kept beside the package or in the user's cache folder (``NUMBA_CACHE_DIR`` overrides both). Where
    neither can be written, it goes to a temporary folder. Where a file there is damaged, the function is compiled anew.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        try:
            kernel = numba.njit(nogil=True, cache=True)(function)
        except RuntimeError as error:
            if "locator" not in str(error):
                raise
            folder = tempfile.mkdtemp(prefix="ncp-jax-numba-")
            numba.config.CACHE_DIR = folder  # type: ignore[attr-defined]
            warn(f"no cache folder can be written; compiled functions go to {folder}")
            kernel = numba.njit(nogil=True, cache=True)(function)
        try:
            kernel.compile(signature)
        except numba.core.errors.NumbaError:
            raise
        except Exception:  # damaged pickles raise anything; a full disk an OSError
            kernel = _compile_anew(kernel, function, signature)
        kernel.disable_compile()
        return kernel

    return decorate


def _compile_anew(kernel: Any, function: Callable[..., Any], signature: Any) -> Any:
    """Returns a kernel compiled without the files that could not be read, and with new ones where possible."""
    global _told
    folder = Path(kernel.stats.cache_path)
    if not _told:
        warn(f"compiled functions in {folder} cannot be read or written; compiling them anew")
        _told = True
    try:
        for path in folder.glob(f"*.{function.__name__}-*.nbi"):
            path.unlink()
        kernel.compile(signature)
    except Exception:
        kernel = numba.njit(nogil=True)(function)
        kernel.compile(signature)
    return kernel


_told = False
