"""Measured processes: their failures, their output, their caches; the clock."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from latency import child
from latency.clock import BackgroundLoad, calls_for, peak_memory_mb, timed
from latency.process import Child

from ncp_jax.checks import DataError


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_process_that_fails_says_why_and_is_gone(tmp_path: Path) -> None:
    job = {"folder": str(tmp_path / "nothing"), "codes": 1, "steps": 1, "smoke": True}
    with Child("loop-jax", tmp_path, job) as process:
        pid = process._process.pid
        with pytest.raises(DataError) as caught:
            process.ask("run")
        text = str(caught.value)
        assert text.startswith("expected the loop-jax process to answer 'run', got ncp_jax.checks.MissingError: ")
        assert "\n" not in text
        with pytest.raises(DataError, match="MissingError"):
            process.ask("run")
    assert gone(pid)


def test_a_process_that_has_nothing_to_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", shutil.which("false"))
    with Child("engine", tmp_path, {}) as process, pytest.raises(DataError, match="got exit status 1 without a word"):
        process.ask("first")


def test_an_error_here_ends_the_process_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits = tmp_path / "waits"
    waits.write_text("#!/bin/sh\nsleep 1000\n")
    waits.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(waits))
    pids = []

    def interrupted() -> None:
        with Child("engine", tmp_path, {}) as process:
            pids.append(process._process.pid)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert gone(*pids)


def test_what_a_library_prints_does_not_get_between_the_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child whose role prints before it answers."""
    script = tmp_path / "python"
    code = (
        "import sys; sys.argv[1:] = sys.argv[3:]\n"
        "from latency import child\n"
        "class Loud:\n"
        "    def add(self, a, b):\n"
        "        print('noise', flush=True)\n"
        "        return {'sum': a + b}\n"
        "child.ROLES['loud'] = lambda job: Loud()\n"
        "child.main()\n"
    )
    (tmp_path / "loud.py").write_text(code)
    script.write_text(f'#!/bin/sh\nexec {sys.executable} {tmp_path / "loud.py"} "$@"\n')
    script.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(script))
    with Child("loud", tmp_path, {}) as process:
        assert process.ask("add", a=2, b=3) == {"sum": 5}
        assert process.ask("add", a=-2, b=2) == {"sum": 0}
    (log,) = tmp_path.glob("loud-*.log")
    assert log.read_text() == "noise\nnoise\n"


def test_every_process_has_its_own_cache_unless_one_is_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Process:
        def __init__(self, *_: object, env: dict[str, str], **__: object) -> None:
            seen.append(env)

    monkeypatch.setattr("subprocess.Popen", Process)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "elsewhere")
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "5")
    Child("engine", tmp_path, {})
    Child("engine", tmp_path, {}, cache=tmp_path / "cache")
    assert [env["NCP_JAX_DATA"] for env in seen] == [str(tmp_path), str(tmp_path / "cache")]
    assert not any(name.startswith(("JAX_COMPILATION", "JAX_PERSISTENT")) for env in seen for name in env)


def test_roles_and_clock() -> None:
    assert set(child.ROLES) == {"setup", "engine", "torch", "loop-jax"}
    done: list[int] = []
    assert timed(done.append, 3) > 0
    assert done == [3]
    assert calls_for(0.0, done.append) == 1
    assert calls_for(1e-3, done.append) > 1
    assert 1 < peak_memory_mb() < 1e6


def test_own_work_is_not_that_of_others() -> None:
    load, cores = BackgroundLoad(), os.cpu_count() or 1
    subprocess.run([sys.executable, "-c", "sum(range(10**6))"], check=True)
    # The system counts in ticks, here and there at different moments: a tick a core more or less.
    assert 0 <= (load.busy_cores() or 0.0) < cores + 1
