"""Talks to the user: errors and exit statuses of commands, progress, notices, text tables, short forms of objects.

Notices and progress go to the logger ``ncp_jax`` of the standard library. Commands show it on standard error; in other
programs it is silent until they ask for it, for example with ``logging.basicConfig(level=logging.INFO)``. Warnings are
shown in any case.
"""

from __future__ import annotations

import codecs
import contextlib
import dataclasses
import io
import logging
import math
import os
import signal
import sys
import threading
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import FrameType
from typing import Any

from ncp_jax import checks

LOG = logging.getLogger("ncp_jax")
INTERRUPTED, BROKEN_PIPE = 130, 141  # 128 + SIGINT and 128 + SIGPIPE, as shells report them


def guarded(action: Callable[[], Any], *, keeps_work: Callable[[], bool] = lambda: True) -> int:
    """Runs ``action`` and returns an exit status; errors become one line on standard error.

    With ``NCP_JAX_TRACEBACK=1`` errors are raised as they are.

    Args:
      action: what to run. A ``SystemExit`` that it raises gives its status.
      keeps_work: whether an interrupted action leaves finished work behind; asked after an interruption.

    Returns:
      0 for success, 2 for a wrong call, 1 for other errors, 130 for an interruption, 141 where the reader of the
      output has gone (``| head``).
    """
    with _shown_log():
        return _guarded(action, keeps_work)


def _guarded(action: Callable[[], Any], keeps_work: Callable[[], bool]) -> int:
    _use_stand_ins()
    if os.environ.get("NCP_JAX_TRACEBACK") == "1":
        action()
        return 0

    def notice() -> str:
        return "ncp-jax: interrupted" + ("; what was finished is kept" if keeps_work() else "")

    try:
        with _interruptions(notice) as seen:
            status = _status(action, notice, seen)
        # Here, not when the interpreter ends: there a reader that has gone would leave a message.
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        _discard_output()
        return BROKEN_PIPE
    return status


@contextlib.contextmanager
def _interruptions(notice: Callable[[], str]) -> Iterator[list[int]]:
    """Makes Ctrl-C end the block wherever it strikes; yields a list of the signals that came.

    Python raises KeyboardInterrupt in whatever code runs. C extensions that are being imported turn it into an
    ImportError or crash, and finalisers drop it.
    """
    seen: list[int] = []
    here = threading.current_thread() is threading.main_thread()
    if not here or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield seen  # signals are somebody else's business, or ignored, as in a shell's background jobs
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        seen.append(number)
        while frame is not None:
            if frame.f_code.co_filename.startswith("<frozen importlib"):
                os.write(2, f"{notice()}\n".encode())
                os._exit(INTERRUPTED)
            frame = frame.f_back
        raise KeyboardInterrupt

    def pass_on(dropped: sys.UnraisableHookArgs) -> None:
        if not issubclass(dropped.exc_type, KeyboardInterrupt):
            hook(dropped)
            return
        # A little later: now it would be dropped again. A signal, since it also ends a system call that waits.
        timers.append(threading.Timer(0.05, signal.pthread_kill, (threading.main_thread().ident, signal.SIGINT)))
        timers[-1].start()

    timers: list[threading.Timer] = []
    hook, sys.unraisablehook = sys.unraisablehook, pass_on
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield seen
    finally:
        for timer in timers:
            timer.cancel()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.unraisablehook = hook


_STAND_INS = {
    "×": "x", "·": "*", "±": "+-", "−": "-", "–": "-", "—": "-", "…": "...", "≤": "<=", "≥": ">=", "≠": "!=",
    "→": "->", "←": "<-", "τ": "tau", "²": "^2", "³": "^3", "′": "'", "“": '"', "”": '"', "‘": "'", "’": "'", "█": "#",
}  # fmt: skip


def _stand_in(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that a terminal cannot show by ASCII, as an error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = ""
    for character in error.object[error.start : error.end]:
        plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode()
        text += _STAND_INS.get(character) or plain or "?"
    return text, error.end


def _use_stand_ins() -> None:
    """Makes terminals that are not UTF-8 show ASCII in place of what they lack, where they would end the program."""
    codecs.register_error("ncp_jax.stand_in", _stand_in)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in ("strict", "backslashreplace", "surrogateescape"):
            stream.reconfigure(errors="ncp_jax.stand_in")


def _status(action: Callable[[], Any], notice: Callable[[], str], interruptions: Sequence[int]) -> int:
    try:
        action()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except KeyboardInterrupt:
        print(notice(), file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except checks.UsageError as error:
        return _fail(error, 2)
    except (checks.DataError, OSError, MemoryError) as error:
        return _fail(error, 1)
    except Exception as error:
        if interruptions:  # compiled code has made another error of the interruption
            print(notice(), file=sys.stderr)
            return INTERRUPTED
        # A bug: one line, and how to see more.
        return _fail(
            RuntimeError(
                f"unexpected {type(error).__name__}: {error}; set NCP_JAX_TRACEBACK=1 to see where, and report it"
            ),
            1,
        )
    return 0


def _fail(error: BaseException, status: int) -> int:
    text = " ".join(str(error).split()) or type(error).__name__
    print(f"ncp-jax: error: {text}", file=sys.stderr)
    return status


def _discard_output() -> None:
    """Sends what is left in the buffers of a stream without a reader to nowhere, so that its last flush succeeds."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def prepare_jax() -> None:
    """Prepares JAX for a command, which owns its process: sets what commands need. Starts no backend.

    Compiled programs are kept on disk between processes, unless the user has set JAX's own variables for that.
    """
    import jax

    # As ``jax_settings.package_settings``, for all that the command runs.
    jax.config.update("jax_debug_infs", False)
    jax.config.update("jax_numpy_rank_promotion", "allow")
    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.environ.get("JAX_ENABLE_COMPILATION_CACHE"):
        return
    from ncp_jax.files import cache_path

    jax.config.update("jax_compilation_cache_dir", str(cache_path() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.01)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class _ToStandardError(logging.Handler):
    """Shows each message as one line on what is standard error at that time."""

    def emit(self, record: logging.LogRecord) -> None:
        """Prints a record."""
        when = time.strftime("%H:%M:%S ", time.localtime(record.created)) if LOG.level <= logging.DEBUG else ""
        start = getattr(record, "start", "ncp-jax: ")
        print(f"{when}{start}{record.getMessage()}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _shown_log() -> Iterator[None]:
    """Shows the log on standard error within the block, for a command that owns its process."""
    handler, before = _ToStandardError(), (LOG.level, LOG.propagate)
    LOG.addHandler(handler)
    LOG.propagate = False
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(before[0])
        LOG.propagate = before[1]


def set_verbosity(*, quiet: bool, verbose: bool) -> None:
    """Sets what a command shows beside its result.

    Args:
      quiet: warnings and errors alone.
      verbose: details too, each line with the time of day.

    Raises:
      UsageError: both.
    """
    if quiet and verbose:
        raise checks.UsageError(expected="--quiet or --verbose", got="both", remedy="leave one out")
    LOG.setLevel(logging.WARNING if quiet else logging.DEBUG if verbose else logging.INFO)


def say(text: str) -> None:
    """Logs a one-line notice, which commands show on standard error, apart from their results."""
    LOG.info("%s", text)


def warn(text: str) -> None:
    """Logs a one-line warning, which is shown even with ``--quiet``."""
    LOG.warning("%s", text)


def duration(seconds: float) -> str:
    """Returns a duration for people: "8 s", "2 min 5 s", "3 h 20 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class ProgressBar:
    """Shows how far a long work is; a context manager to call with (done, total).

    On a terminal it is a bar with the time left. Elsewhere, as in a log file, it is a line for the first units, then
    one a minute, and one for the last, with the time so far and the time left. It is part of the log, and silent where
    notices are.

    Args:
      title: what is counted, before the numbers.
    """

    EVERY = 60.0  # seconds between lines

    def __init__(self, title: str) -> None:
        from tqdm import tqdm

        shown = LOG.isEnabledFor(logging.INFO)
        self._title, self._begin = title, time.monotonic()
        self._told, self._first = self._begin, -1
        self._bar = tqdm(desc=title, file=sys.stderr, disable=not (shown and sys.stderr.isatty()), leave=False)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` units are finished."""
        if not self._bar.disable:
            self._bar.total = total
            self._bar.update(done - self._bar.n)
            return
        now = time.monotonic()
        begins = self._first < 0
        if begins:
            self._first = done if now - self._begin < 1 else 0  # what a resumed work finds finished took no time
        if not begins and done < total and now - self._told < self.EVERY:
            return
        self._told, so_far, here, left = now, now - self._begin, done - self._first, ""
        if here > 0 and done < total:
            left = f", about {duration(so_far * (total - done) / here)} left"
        text = f"{self._title}: {done}/{total}, {duration(so_far)} so far{left}"
        LOG.info("%s", text, extra={"start": ""})  # the title stands for itself


def format_table(rows: Sequence[Sequence[str]], align: str) -> str:
    """Returns rows of cells as lines of text with aligned columns, two spaces between them.

    Args:
      rows: cells of each row, the header first; all rows of one length.
      align: one letter per column, "<" (left) or ">" (right). The last column is not padded where it is left-aligned.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(align))]
    if align.endswith("<"):
        widths[-1] = 0
    return "\n".join(
        "  ".join(f"{cell:{side}{width}}" for cell, side, width in zip(row, align, widths, strict=True)) for row in rows
    )


LONGEST = 80  # characters of a field's value that ``short_repr`` shows


def short_repr(value: Any) -> str:
    """Returns ``Name(field=…)`` with the types and shapes of arrays in place of their numbers.

    A dataclass takes it as its own: ``__repr__ = short_repr``. Fields with ``repr=False`` are left out.
    """
    shown = [(field.name, getattr(value, field.name, None)) for field in dataclasses.fields(value) if field.repr]
    return f"{type(value).__name__}({', '.join(f'{name}={_short(content)}' for name, content in shown)})"


def _short(value: Any) -> str:
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{value.dtype}{list(value.shape)}"
    if isinstance(value, Mapping | list | tuple):
        arrays = list(_arrays(value))
        if arrays:
            numbers = sum(math.prod(array.shape) for array in arrays)
            return f"<{len(arrays)} array{'s' * (len(arrays) > 1)} of {numbers:,} numbers>"
    text = repr(value)
    if len(text) <= LONGEST:
        return text
    named = [getattr(item, "name", None) for item in value] if isinstance(value, list | tuple) else [None]
    if all(isinstance(name, str) for name in named):  # metrics, for example
        listed = ", ".join(map(str, named))
        return f"({listed if len(listed) <= LONGEST else f'{len(named)} of them: {listed[: LONGEST - 20]}…'})"
    if isinstance(value, Mapping | list | tuple | str | bytes):
        return f"<{type(value).__name__} of {len(value)}>"
    if type(value).__repr__ is short_repr:
        return text
    return f"<{getattr(value, '__name__', type(value).__name__)}>"


def _arrays(value: Any) -> Iterator[Any]:
    """Yields the arrays inside nested mappings, lists and tuples."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _arrays(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _arrays(item)
