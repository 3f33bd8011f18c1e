"""Trains controllable models: the host loop around the jitted program, with checkpoints and progress."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.program import Settings, State, TrainConfig, advance, start
from ncp_jax.controllable.tasks import Examples
from ncp_jax.jax_settings import package_settings
from ncp_jax.records.run_card import result_versions
from ncp_jax.training.checkpoint import Checkpoints
from ncp_jax.types import Int, Params


@dataclasses.dataclass(frozen=True, eq=False)
class Trained:
    """Trained runs.

    Attributes:
      params: weights, leaves with a leading axis of runs.
      skipped: ``[runs]`` steps that were skipped since their loss or gradient was not finite.
    """

    params: Params
    skipped: Int[np.ndarray, " r"]

    def run(self, number: int) -> Params:
        """Returns the weights of one run."""
        return jax.tree.map(lambda leaf: leaf[number], self.params)


@package_settings
def train_models(
    model: ModelConfig,
    examples: Examples,
    settings: Sequence[Settings],
    *,
    train: TrainConfig,
    folder: Path | None = None,
    together: int = 4,
    progress: Callable[[int, int], None] | None = None,
) -> Trained:
    """Trains one model for each of some settings, all in one program (host-side; not jittable).

    A step whose loss or gradient is not finite changes nothing and is counted.

    Args:
      model: sizes of the models.
      examples: examples of the tasks.
      settings: the runs.
      train: settings that all runs share.
      folder: folder of checkpoints, from which an interrupted training goes on; None for none.
      together: runs that are vmapped at once.
      progress: callback, called with (steps done, all steps).

    Raises:
      DataError: too many steps in a row that were not finite; the checkpoint before them stays.
      UsageError: the folder holds the checkpoints of another training.
      OSError: the folder cannot be written.
    """
    images, truths = examples.part("train")
    data = (jnp.asarray(images), tuple(map(jnp.asarray, truths)))
    runs = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *settings)
    state, done = start(model, train, list(settings)), 0
    signature = _signature(model, examples, settings, train)
    with contextlib.ExitStack() as stack:
        checkpoints = None if folder is None else stack.enter_context(Checkpoints(folder, signature))
        found = None if checkpoints is None else checkpoints.load(0, state)
        if found is not None:
            done, state = int(np.asarray(found[1].step)[0]), jax.tree.map(jnp.asarray, found[1])
        kept = None if found is None else folder
        while done < train.steps:
            if progress is not None:
                progress(done, train.steps)
            steps = min(train.segment, train.steps - done)
            state = advance(
                state, runs, data, steps=steps, model=model, train=train, together=min(together, len(settings))
            )
            done += steps
            _check(state, train, kept)
            # A checkpoint in the middle of a row of bad steps would not be a good one.
            if checkpoints is not None and not np.asarray(state.streak).any():
                checkpoints.save(0, done, state)
                kept = folder
        if progress is not None:
            progress(train.steps, train.steps)
    return Trained(state.params, np.asarray(state.skipped))


def _check(state: State, train: TrainConfig, kept: Path | None) -> None:
    """Ends a training whose losses stay infinite; ``kept`` is the folder of its checkpoint, if there is one."""
    streak = int(np.asarray(state.streak).max())
    if streak >= min(train.patience, train.steps):
        state_text = "" if kept is None else f"; the last good state is in {kept}"
        raise checks.DataError(
            expected="finite losses",
            got=f"{streak} steps in a row whose loss or gradient is not finite",
            remedy=f"lower the learning rate, or look for extreme values in the data{state_text}",
        )


def _signature(
    model: ModelConfig, examples: Examples, settings: Sequence[Settings], train: TrainConfig
) -> dict[str, Any]:
    """Returns the facts that the result depends on, JSON-ready."""
    return {
        "model": model.to_json(),
        "data": examples.digest,
        "settings": [[np.asarray(value).tolist() for value in one] for one in settings],
        "train": dataclasses.asdict(train),
        "versions": result_versions(),
    }
