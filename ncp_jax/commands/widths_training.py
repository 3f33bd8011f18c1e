"""Trains a controllable model, finds the answers to questions about it, and writes both into a folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ncp_jax import files
from ncp_jax.commands.widths_config import DIGITS, DIGITS_AND_JIGSAW, WidthsConfig
from ncp_jax.console import ProgressBar, say, warn
from ncp_jax.controllable.controllable import ANSWERS, MODEL, Controllable, ModelCard, write_weights
from ncp_jax.controllable.program import Settings
from ncp_jax.controllable.search import find_answers
from ncp_jax.controllable.tasks import Examples, digits_examples, read_examples
from ncp_jax.controllable.training import train_models
from ncp_jax.records.journal import refuse_other, write_json
from ncp_jax.records.run_card import run_card


def read_data(name: str) -> Examples:
    """Returns the examples that ``--data`` names: digits, with the jigsaw or without, or those of an npz file."""
    if name.lower() in (DIGITS, DIGITS_AND_JIGSAW):
        return digits_examples(jigsaw=name.lower() == DIGITS_AND_JIGSAW)
    return read_examples(files.user_path(name))


def train_widths(config: WidthsConfig, folder: str | Path, *, notify: Callable[[str], None] = say) -> Controllable:
    """Trains a model and writes its folder; an interrupted training goes on from its last checkpoint.

    Args:
      config: what to train, and how.
      folder: where model.json, weights.npz, answers.npz and checkpoints go.
      notify: receives one line for each stage of the work.

    Raises:
      UsageError: sizes or settings that are illegal; a folder that holds another training or model.
      DataError: data that is damaged or of the wrong kind; losses that are not finite in many steps in a row.
      OSError: the folder cannot be written.
    """
    config.search()  # its errors come before the training
    examples = read_data(config.data)
    _warn_of_gaps(examples)
    model, train = config.model(examples), config.train()
    folder = files.make_folder(files.user_path(folder))
    if (folder / MODEL).exists():
        _refuse_other(folder, config, examples)
    with ProgressBar("training steps") as bar:
        trained = train_models(
            *(model, examples, [Settings.make(model, train, seed=config.seed)]),
            train=train,
            folder=folder / "checkpoints",
            progress=bar,
        )
    skipped = int(trained.skipped[0])
    if skipped:
        warn(f"{skipped} of {train.steps} steps were skipped, whose loss or gradient was not finite")
    params = trained.run(0)
    card = ModelCard(
        model=model,
        weights=write_weights(folder, params),
        examples=examples.digest,
        data=config.data,
        settings=dataclasses.asdict(config),
        skipped=skipped,
        made=run_card(),
    )
    write_json(folder / MODEL, card.to_json())
    answers = find_answers(
        *(model, params, examples, config.search()), seed=config.seed, origin=card.origin, progress=notify
    )
    answers.save(folder / ANSWERS)
    return Controllable.load(folder)


def _warn_of_gaps(examples: Examples) -> None:
    """Warns of classes that no training image has: their numbers may begin at 1, or leave some out."""
    _, targets = examples.part("train")
    for kind, array in zip(examples.kinds, targets, strict=True):
        if kind.kind in ("classes", "labels"):
            seen = np.unique(array[array >= 0])
            if len(seen) < kind.outputs:
                missing = np.setdiff1d(np.arange(kind.outputs), seen)
                numbers = ", ".join(map(str, missing[:5])) + ", …" * (len(missing) > 5)
                warn(f"{len(missing)} of the {kind.outputs} classes of {kind.name} are in no training image: {numbers}")


def _refuse_other(folder: Path, config: WidthsConfig, examples: Examples) -> None:
    """Refuses a folder that holds a model of other settings or data."""
    card = ModelCard.read(folder)
    old = {"settings": card.settings, "data": card.examples}
    new = {"settings": json.loads(json.dumps(dataclasses.asdict(config))), "data": examples.digest}
    refuse_other(folder, old, new, what="model", got="another model", remedy="choose another --out")
