"""Fixtures that run a script of experiments/, which a test module names as ``SCRIPT``."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parent.parent.parent / "experiments"


@pytest.fixture(scope="module")
def start(request: pytest.FixtureRequest) -> Callable[..., int]:
    """Runs the module's script in this process and returns its exit status."""
    script = FOLDER / request.module.SCRIPT

    def call(*arguments: object) -> int:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys, "argv", [script.name, *map(str, arguments)])
            with pytest.raises(SystemExit) as caught:
                runpy.run_path(str(script), run_name="__main__")
        return int(caught.value.code or 0)

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
