"""Fixtures that run a script of experiments/, which a test module names as ``SCRIPT``."""

from __future__ import annotations

import contextlib
import io
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent.parent / "experiments"


def run_script(name: str, *arguments: object) -> int:
    """Runs a script in this process and returns its exit status."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [name, *map(str, arguments)])
        with pytest.raises(SystemExit) as caught:
            runpy.run_path(str(FOLDER / name), run_name="__main__")
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def start(request: pytest.FixtureRequest) -> Callable[..., int]:
    """Runs the module's script in this process and returns its exit status."""
    return lambda *arguments: run_script(request.module.SCRIPT, *arguments)


@pytest.fixture(scope="session")
def complete() -> Callable[..., tuple[str, str]]:
    """Runs a script in this process, also for fixtures of a module, and asserts its success; returns what it wrote."""

    def call(name: str, *arguments: object) -> tuple[str, str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("NCP_JAX_TRACEBACK", raising=False)
            with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
                status = run_script(name, *arguments)
        assert status == 0, err.getvalue()
        return out.getvalue(), err.getvalue()

    return call


@pytest.fixture
def run(
    start: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Callable[..., tuple[int, str, str]]:
    """Runs the module's script in this process; returns (exit status, stdout, stderr)."""
    monkeypatch.delenv("NCP_JAX_TRACEBACK", raising=False)
    return lambda *arguments: (start(*arguments), *capsys.readouterr())


@pytest.fixture(scope="module")
def launch(request: pytest.FixtureRequest) -> Callable[..., subprocess.Popen[str]]:
    """Starts the module's script in a process of its own; keywords are environment variables."""
    script = FOLDER / request.module.SCRIPT

    def call(*arguments: object, **environment: str) -> subprocess.Popen[str]:
        paths = os.pathsep.join(path for path in sys.path if path)
        return subprocess.Popen(
            [sys.executable, str(script), *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": paths} | environment,
        )

    return call
