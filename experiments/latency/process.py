"""Starts measured processes and asks them questions: each request and each answer is one JSON line."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ncp_jax import checks

# Users and test runs set these for their own compilation cache; a measured process gets a new one.
_CACHE = ("JAX_COMPILATION_CACHE_DIR", "JAX_ENABLE_COMPILATION_CACHE")
_PERSISTENT = "JAX_PERSISTENT_CACHE_"


class Child:
    """A process that answers requests (see ``child``); a context manager that ends the process on exit.

    Args:
      role: role of the process, see ``child.ROLES``.
      folder: folder of its error output; also its data cache, which holds the compilation cache, unless ``cache`` is
        given.
      job: JSON-ready settings of the role.
      cache: data cache, to share one between processes.
    """

    def __init__(self, role: str, folder: Path, job: dict[str, Any], *, cache: Path | None = None) -> None:
        self._role = role
        self._log = folder / f"{role}-{time.monotonic_ns()}.log"
        environment = {k: v for k, v in os.environ.items() if k not in _CACHE and not k.startswith(_PERSISTENT)}
        environment["NCP_JAX_DATA"] = str(cache or folder)
        # The child imports this package from where this process imported it.
        scripts = str(Path(__file__).resolve().parent.parent)
        environment["PYTHONPATH"] = os.pathsep.join([scripts, *filter(None, [os.environ.get("PYTHONPATH")])])
        # Several processes share one accelerator; none may take most of its memory from the start.
        environment.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
        command = [sys.executable, "-m", "latency.child"]
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, json.dumps({"role": role, "started": time.time(), **job})],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Sends a request and waits for its answer.

        Raises:
          DataError: the process has ended; the text is the last line it wrote.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise self._failure(do)
        return json.loads(line)

    def _failure(self, do: str) -> checks.DataError:
        status = self._process.wait()
        lines = [line.strip() for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        found = lines[-1] if lines else f"exit status {status} without a word"
        remedy = "try fewer --codes, or report it"
        return checks.DataError(expected=f"the {self._role} process to answer '{do}'", got=found, remedy=remedy)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kills the process and waits until it is gone."""
        self._process.kill()
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        self._process.wait()
