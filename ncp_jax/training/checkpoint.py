"""Saves training states with Orbax, so that an interrupted training continues to the same result."""

from __future__ import annotations

import contextlib
import json
import os
import re
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.files import atomic_write, check_room, describe_os_error
from ncp_jax.records.journal import hold

MAKE_ROOM = "free some space and run again"
OVERHEAD = 2**18  # bytes that Orbax writes beside the arrays, generously


class Checkpoints:
    """The checkpoints of one training: one folder per chunk of runs, with its newest state.

    They are used in a ``with`` block, in which no other process has them.

    Args:
      folder: folder of the checkpoints, created if missing.
      signature: JSON-ready facts that the result depends on. A folder with states of another signature is refused.

    Raises (where the block begins):
      UsageError: the folder belongs to another training (the text shows the differences), or another process trains
        on it.
      DataError: the folder's description of the training is damaged.
      OSError: the folder cannot be written.
    """

    def __init__(self, folder: str | Path, signature: dict[str, Any]) -> None:
        self.folder, self.signature = Path(folder).absolute(), json.loads(json.dumps(signature))
        self._held = contextlib.ExitStack()

    def __enter__(self) -> Self:
        remedy = "wait for it, or choose another folder"
        with contextlib.ExitStack() as held:
            hold(held, self.folder / ".training.lock", what="training", who=str(self.folder), remedy=remedy)
            self._compare()
            self._held = held.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._held.close()

    def _compare(self) -> None:
        """Compares the signature with that of the folder's states, or writes it into a folder without any."""
        path = self.folder / "training.json"
        if not any(state.name.isdigit() for state in self.folder.glob("chunk-*/*")):
            atomic_write(path, json.dumps(self.signature, indent=1).encode())
            return
        old, new = _read_signature(path), self.signature
        differences = [
            f"{k}: {old.get(k)} there, {new.get(k)} now" for k in sorted({*old, *new}) if old.get(k) != new.get(k)
        ]
        if differences:
            raise checks.UsageError(
                expected=f"checkpoints of this training in {self.folder}",
                got="; ".join(differences),
                remedy="choose another folder",
            )

    def _manager(self, chunk: int) -> Any:
        import orbax.checkpoint as ocp

        options = ocp.CheckpointManagerOptions(max_to_keep=1, create=True, enable_async_checkpointing=False)
        return ocp.CheckpointManager(self.folder / f"chunk-{chunk:04d}", options=options)

    def load(self, chunk: int, like: Any) -> tuple[int, Any] | None:
        """Returns (segments done, state) of a chunk, or None if it has no state.

        Args:
          chunk: number of the chunk.
          like: a state of the same structure, shapes and dtypes.

        Raises:
          DataError: the saved state is damaged.
        """
        import orbax.checkpoint as ocp

        with self._manager(chunk) as manager:
            segment = manager.latest_step()
            if segment is None:
                return None
            leaves, structure = jax.tree.flatten(like)
            abstract = {str(i): jax.ShapeDtypeStruct(a.shape, a.dtype) for i, a in enumerate(leaves)}
            try:
                found = manager.restore(segment, args=ocp.args.StandardRestore(abstract))
            except Exception as error:  # Orbax's readers raise exceptions of many types
                raise checks.DataError(
                    expected=f"a whole training state in {self.folder / f'chunk-{chunk:04d}'}",
                    got=f"a damaged one ({type(error).__name__})",
                    remedy="delete the folder and train anew",
                ) from error
            return segment, jax.tree.unflatten(structure, [found[str(i)] for i in range(len(leaves))])

    def save(self, chunk: int, segment: int, state: Any) -> None:
        """Saves the state of a chunk after ``segment`` segments. An interruption leaves the previous state intact.

        Raises:
          OSError: the disk is full, or cannot be written.
        """
        import orbax.checkpoint as ocp

        content = {str(i): np.asarray(a) for i, a in enumerate(jax.tree.leaves(state))}
        # On a full disk, Orbax's threads print tracebacks beside the error.
        check_room(self.folder, OVERHEAD + sum(array.nbytes for array in content.values()), remedy=MAKE_ROOM)
        try:
            with self._manager(chunk) as manager:
                manager.save(segment, args=ocp.args.StandardSave(content))
        except (OSError, ValueError) as error:
            cause = _os_error(error)
            if cause is None:
                raise
            raise describe_os_error(cause, self.folder, MAKE_ROOM) from error


def _os_error(error: Exception) -> OSError | None:
    """Returns the error of the operating system behind an error of Orbax, whose writers in C raise ValueError."""
    if isinstance(error, OSError):
        return error
    code = re.search(r"os_error_code='(\d+)'", str(error))
    return None if code is None else OSError(int(code[1]), os.strerror(int(code[1])))


def _read_signature(path: Path) -> dict[str, Any]:
    try:
        signature = json.loads(path.read_text())
        if isinstance(signature, dict):
            return signature
        got = f"a {type(signature).__name__}"
    except (ValueError, RecursionError) as error:
        got = f"something else ({error})"
    raise checks.DataError(
        expected=f"the description of a training in {path}", got=got, remedy="delete the folder and train anew"
    )
