"""Runs the fuzz tests with many inputs and collects their figures."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from ncp_jax import checks

TESTS = Path(__file__).resolve().parent.parent.parent / "tests" / "fuzz"


def fuzz(inputs: int, folder: Path) -> dict[str, Any]:
    """Runs ``pytest tests/fuzz``.

    Args:
      inputs: number of inputs to each reader.
      folder: where the tests write their figures.

    Returns:
      For each reader: inputs, answers, errors that it may raise, the longest time in seconds.

    Raises:
      DataError: a test fails; the text has the end of what pytest says.
    """
    figures = folder / "fuzz.jsonl"
    figures.unlink(missing_ok=True)
    environment = os.environ | {"NCP_JAX_FUZZ_INPUTS": str(inputs), "NCP_JAX_FUZZ_FIGURES": str(figures)}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", str(TESTS)]
    done = subprocess.run(command, env=environment, cwd=TESTS.parent.parent, capture_output=True, text=True)
    if done.returncode:
        raise checks.DataError(expected="fuzz tests that pass", got=done.stdout[-2000:], remedy="mend the reader")
    rows = [json.loads(line) for line in figures.read_text().splitlines()]
    return {row.pop("reader"): row for row in rows}
