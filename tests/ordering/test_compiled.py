"""Compiled functions where the files of their machine code are damaged or have no folder."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
from numba import int64
from ncp_jax.ordering.compiled import compiled

@compiled(int64(int64))
def double(x):
    return 2 * x

@compiled(int64(int64))
def fourfold(x):
    return 2 * double(x)
"""
# As where neither the package nor the home folder can be written.
WITHOUT_FOLDERS = """
import numba.core.caching as caching
kind = caching.CompileResultCacheImpl
kind._locator_classes = [one for one in kind._locator_classes if "UserProvided" in one.__name__]
"""


def run(folder: Path, before: str = "", **environment: str) -> str:
    """Compiles the module's functions in a process of its own; returns the notices."""
    (folder / "kernels.py").write_text(MODULE)
    script = before + "\nimport kernels; print(kernels.double(21), kernels.fourfold(21))"
    inherited = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=folder,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "42 84\n"
    return done.stderr


def test_damaged_files_are_replaced(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    assert run(tmp_path, NUMBA_CACHE_DIR=str(cache)) == ""
    for ending, left in itertools.product(("nbi", "nbc"), (0, 100)):
        files = list(cache.rglob(f"*.{ending}"))
        assert len(files) == 2
        for path in files:
            path.write_bytes(path.read_bytes()[:left])
        notices = run(tmp_path, NUMBA_CACHE_DIR=str(cache))
        assert notices.count("\n") == 1, "one notice for all functions"
        assert f"compiled functions in {cache}" in notices
        assert "cannot be read or written; compiling them anew" in notices
        assert run(tmp_path, NUMBA_CACHE_DIR=str(cache)) == ""


def test_without_a_folder_a_temporary_one_serves(tmp_path: Path) -> None:
    notices = run(tmp_path, WITHOUT_FOLDERS)
    assert notices.startswith("no cache folder can be written; compiled functions go to ")
    assert notices.count("\n") == 1


def test_errors_of_the_functions_themselves_are_raised() -> None:
    import numba
    from numba import int64

    from ncp_jax.ordering.compiled import compiled

    with pytest.raises(numba.core.errors.TypingError):

        @compiled(int64(int64))
        def wrong(x):  # type: ignore[no-untyped-def]
            return x.nothing
