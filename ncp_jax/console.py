"""What every script in experiments/ shares: options, errors, progress, records, summary."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

from ncp_jax import checks


def guarded(action: Callable[[], Any]) -> int:
    """Runs ``action`` and returns an exit status; errors become one line on stderr.

    0 for success, 2 where the call was wrong, 1 for the rest, 130 for an interruption. With
    ``NCP_JAX_TRACEBACK=1`` errors are raised as they are.
    """
    if os.environ.get("NCP_JAX_TRACEBACK") == "1":
        action()
        return 0
    try:
        action()
    except checks.UsageError as error:
        return _fail(error, 2)
    except KeyboardInterrupt:
        print("ncp-jax: interrupted; what was finished is kept", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader of our output has gone (``| head``); there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (checks.DataError, OSError, MemoryError) as error:
        return _fail(error, 1)
    except Exception as error:  # a bug: say so in one line, and how to see more
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


def use_compilation_cache() -> None:
    """Keeps compiled programs on disk between processes, unless the user has set JAX's own variables."""
    import jax

    if os.environ.get("JAX_COMPILATION_CACHE_DIR") or os.environ.get("JAX_ENABLE_COMPILATION_CACHE"):
        return
    from ncp_jax.files import cache_path

    jax.config.update("jax_compilation_cache_dir", str(cache_path() / "xla"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", 0)


class ProgressBar:
    """Progress on stderr as a context manager; call it with (done, total).

    A bar with the time left on a terminal; elsewhere a line for every tenth of the work.
    """

    def __init__(self, title: str) -> None:
        from tqdm import tqdm

        self._title, self._tenths = title, 0
        self._bar = tqdm(desc=title, file=sys.stderr, disable=not sys.stderr.isatty(), leave=False)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def __call__(self, done: int, total: int) -> None:
        """Shows that ``done`` of ``total`` is finished."""
        if self._bar.disable:
            if done * 10 // total > self._tenths:
                self._tenths = done * 10 // total
                print(f"{self._title}: {done}/{total}", file=sys.stderr)
            return
        self._bar.total = total
        self._bar.update(done - self._bar.n)


def say(text: str) -> None:
    """One line for the user, beside the results."""
    print(f"ncp-jax: {text}", file=sys.stderr)


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
