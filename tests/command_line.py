"""What tests of the command line share."""

from __future__ import annotations

from collections.abc import Callable

Run = Callable[..., tuple[int, str, str]]
SMALL = ("--codes", "64", "--steps", "3")


def failure(result: tuple[int, str, str]) -> tuple[int, str]:
    """Status and the one line of a failed command."""
    status, _, err = result
    lines = [line for line in err.splitlines() if line.startswith("ncp-jax: error: ")]
    assert "Traceback" not in err
    assert len(lines) == 1, err
    assert err.rstrip().endswith(lines[0]), "the error is not the last word"
    return status, lines[0].removeprefix("ncp-jax: error: ")
