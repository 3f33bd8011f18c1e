from __future__ import annotations

import dataclasses
import functools
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from harness.script import ExperimentConfig

from ncp_jax import console
from ncp_jax.checks import DataError, UsageError
from ncp_jax.console import ProgressBar, format_table, guarded
from ncp_jax.records.run_card import run_card


def raising(error: BaseException) -> Callable[[], None]:
    def action() -> None:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (UsageError("expected a, got b; try c"), 2, "ncp-jax: error: expected a, got b; try c\n"),
        (DataError("expected a,\n  got b"), 1, "ncp-jax: error: expected a, got b\n"),
        (FileNotFoundError("no table"), 1, "ncp-jax: error: no table\n"),
        (OSError(28, "No space left on device"), 1, "ncp-jax: error: [Errno 28] No space left on device\n"),
        (MemoryError(), 1, "ncp-jax: error: MemoryError\n"),
        (
            ZeroDivisionError("division by zero"),
            1,
            "ncp-jax: error: unexpected ZeroDivisionError: division by zero; "
            "set NCP_JAX_TRACEBACK=1 to see where, and report it\n",
        ),
        (KeyboardInterrupt(), 130, "ncp-jax: interrupted; what was finished is kept\n"),
        (SystemExit(2), 2, ""),
        (SystemExit(), 0, ""),
        (SystemExit("text"), 1, ""),
    ],
)
def test_errors_are_one_line_and_a_status(
    capsys: pytest.CaptureFixture, monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str
) -> None:
    monkeypatch.delenv("NCP_JAX_TRACEBACK", raising=False)
    assert guarded(raising(error)) == status
    assert capsys.readouterr().err == words


def test_an_interruption_promises_only_what_is_kept(capsys: pytest.CaptureFixture) -> None:
    assert guarded(raising(KeyboardInterrupt()), keeps_work=lambda: False) == 130
    assert capsys.readouterr().err == "ncp-jax: interrupted\n"


@pytest.mark.parametrize(
    "action",
    [
        "class Late:\n    def __del__(self): os.kill(os.getpid(), signal.SIGINT)\nLate(); time.sleep(60)",
        "try:\n    os.kill(os.getpid(), signal.SIGINT); time.sleep(60)\n"
        "except KeyboardInterrupt as error:\n    raise ImportError('initialisation failed') from error",
    ],
)
def test_an_interruption_is_neither_lost_nor_another_error(action: str) -> None:
    """Finalisers drop exceptions; extension modules make others of them."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    script = f"""
import os, signal, sys, time
from ncp_jax.console import guarded
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(guarded(lambda: exec({action!r}, globals()), keeps_work=lambda: False))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "ncp-jax: interrupted\n")


def test_success(capsys: pytest.CaptureFixture) -> None:
    assert guarded(lambda: print("done")) == 0
    assert capsys.readouterr() == ("done\n", "")


def test_tracebacks_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCP_JAX_TRACEBACK", "1")
    with pytest.raises(DataError, match=r"^x$"):
        guarded(raising(DataError("x")))


@pytest.mark.parametrize("flush", [True, False])
def test_a_reader_that_goes_away_is_no_error_message(flush: bool) -> None:
    """Neither while the command prints nor when what is left in the buffer is flushed at the end."""
    script = f"""
import sys
from ncp_jax.console import guarded
def talk():
    print("line 0", flush=True)
    sys.stdin.readline()
    for i in range(100_000 if {flush} else 10):
        print("line", i, flush={flush})
sys.exit(guarded(talk))
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-c", script]
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    with subprocess.Popen(command, **pipes, text=True, env=environment) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == "line 0\n"
        child.stdout.close()
        child.stdin.close()
        assert child.stderr.read() == ""
        assert child.wait() == 141


def test_a_reader_of_the_errors_that_goes_away_is_none_either() -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    script = f"{sys.executable} -m ncp_jax data verify nowhere 2>&1 | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, env=environment)
    assert (done.stdout, done.stderr) == ("141\n", "")


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options of a test."""

    data: Path = Path("a/b")
    tasks: tuple[str, ...] = ("x", "y")


def test_settings_leave_out_where_results_go() -> None:
    settings = Config(out=Path("here"), resume=True, seeds=3).settings()
    assert settings == {"seeds": 3, "smoke": False, "data": "a/b", "tasks": ["x", "y"]}
    assert json.loads(json.dumps(settings)) == settings
    assert settings == Config(out=Path("there"), seeds=3).settings()


@pytest.mark.parametrize("seeds", [0, -1])
def test_seeds_are_positive(seeds: int) -> None:
    with pytest.raises(UsageError, match=f"expected --seeds to be an integer 1 or more, got {seeds}; try --seeds 1"):
        Config(seeds=seeds)


def progress(monkeypatch: pytest.MonkeyPatch, steps: Sequence[tuple[float, int]], total: int) -> None:
    """Works in a command without a terminal: at each time, so many units are finished."""
    now = [0.0]
    monkeypatch.setattr(console.time, "monotonic", lambda: now[0])

    def work() -> None:
        with ProgressBar("training") as bar:
            for now[0], done in steps:
                bar(done, total)

    assert guarded(work) == 0


def test_progress_without_a_terminal_is_a_line_a_minute(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    progress(monkeypatch, [(10.0 * done, done) for done in range(1, 41)], 40)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "training: 1/40, 10 s so far, about 6 min 30 s left",
        "training: 7/40, 1 min 10 s so far, about 5 min 30 s left",
        "training: 13/40, 2 min 10 s so far, about 4 min 30 s left",
        "training: 19/40, 3 min 10 s so far, about 3 min 30 s left",
        "training: 25/40, 4 min 10 s so far, about 2 min 30 s left",
        "training: 31/40, 5 min 10 s so far, about 1 min 30 s left",
        "training: 37/40, 6 min 10 s so far, about 30 s left",
        "training: 40/40, 6 min 40 s so far",
    ]


def test_what_a_resumed_work_finds_finished_took_no_time(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    progress(monkeypatch, [(0, 900), (60, 910), (61, 911)], 1000)
    assert capsys.readouterr().err.splitlines() == [
        "training: 900/1000, 0 s so far",
        "training: 910/1000, 1 min 0 s so far, about 9 min 0 s left",
    ]


def test_the_log_of_a_library_is_silent_until_it_is_asked_for(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture
) -> None:
    console.say("a notice")
    assert (caplog.messages, capsys.readouterr()) == ([], ("", ""))
    with caplog.at_level(logging.INFO):
        console.say("100 % of a notice")
    console.warn("a warning")
    assert caplog.messages == ["100 % of a notice", "a warning"]


def test_a_command_shows_the_log_and_leaves_it_as_it_was(capsys: pytest.CaptureFixture) -> None:
    def work(**levels: bool) -> None:
        console.set_verbosity(**levels)
        console.LOG.debug("a detail")
        console.say("a notice")
        console.warn("a warning")

    for levels, shown in (
        ({"quiet": False, "verbose": False}, "ncp-jax: a notice\nncp-jax: a warning\n"),
        ({"quiet": True, "verbose": False}, "ncp-jax: a warning\n"),
    ):
        assert guarded(functools.partial(work, **levels)) == 0
        assert capsys.readouterr() == ("", shown)
    assert guarded(functools.partial(work, quiet=False, verbose=True)) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [re.fullmatch(r"\d\d:\d\d:\d\d ncp-jax: (.*)", line)[1] for line in lines] == [
        "a detail", "a notice", "a warning",
    ]  # fmt: skip
    assert guarded(functools.partial(work, quiet=True, verbose=True)) == 2
    assert "expected --quiet or --verbose, got both" in capsys.readouterr().err
    assert (console.LOG.handlers, console.LOG.level, console.LOG.propagate) == ([], logging.NOTSET, True)


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (3599, "59 min 59 s"), (7265, "2 h 1 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert console.duration(seconds) == text


def test_the_run_card() -> None:
    card = json.loads(json.dumps(run_card()))
    assert set(card) == {"versions", "device", "date"}
    assert {"python", "ncp-jax", "jax", "jaxlib", "flax", "optax", "numpy", "scipy"} <= set(card["versions"])
    assert card["versions"]["jax"].count(".") >= 2
    assert card["device"]["platform"] == "cpu"
    assert card["device"]["count"] >= 1
    assert card["date"].endswith("+00:00")


def test_a_table_of_text_is_aligned() -> None:
    assert format_table([("name", "n"), ("a", "10")], "<>") == "name   n\na     10"
    assert format_table([("n", "name"), ("10", "a long one")], "><") == " n  name\n10  a long one"
