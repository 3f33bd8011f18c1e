"""Finds what tests need beside the package: the published tables, and optional packages.

Tables come from a mirror, the user's cache, or the published addresses, in this order.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

import pytest

IN_CI = os.environ.get("CI", "").lower() in ("1", "true")
REPOSITORY = Path(__file__).resolve().parent.parent
MISSING = "NCP_JAX_TEST_TABLES_MISSING"  # why there are no tables, for the workers of pytest-xdist
OPTIONAL = (
    "cmaes",
    "evosax",
    "igraph",
    "onnx",
    "onnxruntime",
    "optuna",
    "psycopg",
    "safetensors",
    "sklearn",
    "submitit",
    "torch",
)
FETCH = "ncp-jax data fetch"
SKIPPED = "needs the published tables"


def check_packages() -> None:
    """Raises a UsageError in CI where a package is missing without which tests check less."""
    missing = [name for name in OPTIONAL if importlib.util.find_spec(name) is None]
    if IN_CI and missing:
        raise pytest.UsageError(f"with CI=true all optional packages of the tests are needed; missing: {missing}")


def find_mirror() -> None:
    """Sets ``NCP_JAX_MIRROR`` where a folder with the published files lies at hand, before jax is imported."""
    given = os.environ.get("NCP_JAX_MIRROR")
    mirror = Path(given or REPOSITORY.parent / "shared" / "data" / "raw")
    if given or mirror.is_dir():
        # Absolute: tests and the commands they start change the working directory.
        os.environ["NCP_JAX_MIRROR"] = str(mirror.absolute())


def fetch(cache: str | None, names: tuple[str, ...] = ("all", "help")) -> None:
    """Fetches the published files once into the user's cache, with progress, where no mirror is set.

    Args:
      cache: ``NCP_JAX_DATA`` of the person who runs the tests; None for the platform's cache.
      names: what to fetch.
    """
    if os.environ.get("NCP_JAX_MIRROR") or MISSING in os.environ:
        return
    environment = {name: value for name, value in os.environ.items() if name != "NCP_JAX_DATA"}
    if cache is not None:
        environment["NCP_JAX_DATA"] = cache
    script = (
        "from ncp_jax.benchmarks import fetch_tables; from ncp_jax.files import cache_path\n"
        "from ncp_jax.console import guarded; import sys\n"
        "code = guarded(lambda: fetch_tables(sys.argv[1:])); print(cache_path() / 'raw'); sys.exit(code)"
    )
    print("fetching the published tables that tests use (20 MB, once) ...", file=sys.stderr, flush=True)
    # Progress bars and the error, if there is one, are shown.
    done = subprocess.run(
        [sys.executable, "-c", script, *names], env=environment, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode == 0:
        os.environ["NCP_JAX_MIRROR"] = done.stdout.splitlines()[-1]
    else:
        os.environ[MISSING] = "they could not be fetched"


def require() -> Path:
    """Returns the folder of the published files; skips the test where there is none, and fails it in CI."""
    folder = os.environ.get("NCP_JAX_MIRROR", "")
    if folder and Path(folder).is_dir():
        return Path(folder)
    why = os.environ.get(MISSING) or (f"there is no folder at NCP_JAX_MIRROR={folder!r}" if folder else "none are here")
    text = f"{SKIPPED}, and {why}: run '{FETCH}'"
    if IN_CI or folder:
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def absent(what: str) -> NoReturn:
    """Skips a test that needs what no command brings, and fails it in CI."""
    text = f"{what} is not among the upstream files"
    if IN_CI:
        pytest.fail(text, pytrace=False)
    pytest.skip(text)


def summary(skipped: list[str]) -> str | None:
    """Returns the last line of a run in which tests lacked the tables, or None.

    Args:
      skipped: the reasons of all skipped tests.
    """
    count = sum(SKIPPED in reason for reason in skipped)
    tests = "1 test needs" if count == 1 else f"{count} tests need"
    return f"{tests} the published tables and did not run: '{FETCH}' brings them" if count else None
