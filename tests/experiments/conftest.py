"""Fixtures that run a script of experiments/, which a test module names as ``SCRIPT``, its options ``OPTIONS``."""

from __future__ import annotations

import contextlib
import io
import json
import os
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

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


class Smoke(NamedTuple):
    """A finished smoke run: its folder, and what it wrote to stdout."""

    folder: Path
    out: str

    def summary(self) -> dict[str, Any]:
        """Returns summary.json, which has no NaN."""
        text = (self.folder / "summary.json").read_text()
        return json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))

    def records(self) -> list[dict[str, Any]]:
        """Returns the records, in the order of running."""
        return [json.loads(line) for line in (self.folder / "records.jsonl").read_text().splitlines()]

    def content(self) -> dict[str, Any]:
        """Returns all that the run wrote, but for the date."""
        figures = {path.name: path.read_bytes() for path in self.folder.glob("*.png")}
        records = (self.folder / "records.jsonl").read_bytes()
        return {"out": self.out, "records": records, "figures": figures, "summary": self.summary() | {"date": None}}


@pytest.fixture(scope="module")
def smoke(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, complete: Callable[..., tuple[str, str]]
) -> Smoke:
    """Runs the module's script with its options, once for all its tests; its files have what every script's have."""
    script = request.module.SCRIPT
    folder = tmp_path_factory.mktemp("smoke") / "out"
    found = Smoke(folder, complete(script, *request.module.OPTIONS, "--out", folder)[0])
    summary, config = found.summary(), json.loads((folder / "config.json").read_text())
    assert next(iter(summary.items())) == ("schema", f"{script.removesuffix('.py')}/1")
    assert config.pop("versions").items() <= summary["versions"].items()
    assert summary["config"] == config
    assert {"device", "date"} <= set(summary)
    figures = list(folder.glob("*.png"))
    assert figures
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in figures)
    return found


@pytest.fixture
def write_again(
    request: pytest.FixtureRequest,
    smoke: Smoke,
    complete: Callable[..., tuple[str, str]],
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], dict[str, Any]]:
    """Writes summary and figures of the smoke run anew, with ``--resume``, from its records alone.

    It is called with the function (module.name) that computes a record, which is not to be called, and returns the
    content of what was written.
    """

    def call(computes: str) -> dict[str, Any]:
        def refuse(*_: object, **__: object) -> None:
            raise AssertionError("computed again")

        monkeypatch.setattr(computes, refuse)
        for path in (*smoke.folder.glob("*.png"), smoke.folder / "summary.json"):
            path.unlink()
        out, _ = complete(request.module.SCRIPT, *request.module.OPTIONS, "--resume", "--out", smoke.folder)
        return smoke._replace(out=out).content()

    return call


@pytest.fixture
def refused(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> Callable[..., str]:
    """Runs the module's script with options that it refuses, in one line and before it makes a folder: the line."""

    def call(*options: object) -> str:
        status, _, err = run(*options, "--out", tmp_path / "out")
        assert (status, len(err.strip().splitlines())) == (2, 1), err
        assert not (tmp_path / "out").exists()
        return err

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
