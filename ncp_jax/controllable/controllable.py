"""Defines ``Controllable``: the folder of a trained model, questions to it, and its sub-networks."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ncp_jax import checks, files
from ncp_jax.array_files import read_npz, write_npz
from ncp_jax.console import short_repr
from ncp_jax.controllable.answers import Answers, WidthChoice
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.records.journal import read_json

if TYPE_CHECKING:
    from ncp_jax.controllable.model import ControllableModel
    from ncp_jax.types import Params

MODEL, WEIGHTS, ANSWERS = "model.json", "weights.npz", "answers.npz"
SCHEMA = "widths-model/1"


@dataclasses.dataclass(frozen=True, eq=False)
class ModelCard:
    """What model.json says of a trained model.

    Attributes:
      model: its sizes.
      weights: SHA-256 of the file of its weights, hexadecimal.
      examples: SHA-256 of the examples that it was trained on.
      data: where they come from.
      settings: settings of the training, JSON-ready.
      skipped: training steps that were skipped, since their loss or gradient was not finite.
      made: versions, device and date, see ``records.run_card``.
    """

    model: ModelConfig
    weights: str
    examples: str
    data: str
    settings: Mapping[str, Any]
    skipped: int
    made: Mapping[str, Any]

    __repr__ = short_repr

    @property
    def origin(self) -> dict[str, str]:
        """The hashes that the model's answers carry."""
        return {"model": self.weights, "data set": self.examples}

    def to_json(self) -> dict[str, Any]:
        """Returns the content of model.json; ``from_json`` takes it back."""
        tasks = [target.name for target in self.model.targets]
        return {
            "schema": SCHEMA,
            "model": self.model.to_json(),
            "origin": self.origin,
            "data": {"name": self.data, "digest": self.examples, "tasks": tasks},
            "settings": dict(self.settings),
            "skipped": self.skipped,
            **self.made,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> ModelCard:
        """Returns the card of ``to_json``; ValueError, KeyError, TypeError or AttributeError for another content."""
        if content["schema"] != SCHEMA:
            raise ValueError(f"schema {content['schema']}")
        origin = content["origin"]
        card = cls(
            model=ModelConfig.from_json(content["model"]),
            weights=origin["model"],
            examples=origin["data set"],
            data=content["data"]["name"],
            settings=content["settings"],
            skipped=content["skipped"],
            made={},
        )
        return dataclasses.replace(card, made={k: v for k, v in content.items() if k not in card.to_json()})

    @classmethod
    def read(cls, folder: Path) -> ModelCard:
        """Reads the card of a folder.

        Raises:
          FileNotFoundError: there is none.
          DataError: it is damaged, or of another version.
        """
        path = folder / MODEL
        if not path.exists():
            raise checks.MissingError(
                expected=f"a controllable model in {folder}",
                got=f"no {MODEL}",
                remedy=f"make one with ncp-jax widths train --out {folder}",
            )
        content = read_json(path)
        try:
            return cls.from_json(content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise checks.DataError(
                expected=f"a model of {SCHEMA} at {path}",
                got=f"something else ({error})",
                remedy="train it anew with this version",
            ) from error


@dataclasses.dataclass(frozen=True, eq=False)
class Controllable:
    """A trained multi-task model whose widths are chosen from a budget and preferences, without retraining.

    Examples:
      >>> import ncp_jax as ncp
      >>> model = ncp.Controllable.load("out/widths")  # doctest: +SKIP
      >>> model.query(2e5, {"class": 0.7, "edges": 0.3}).widths  # doctest: +SKIP

    Attributes:
      folder: folder that ``ncp-jax widths train`` wrote.
      config: sizes of the model.
      answers: the configurations that questions are answered with.
      card: facts on the training.
    """

    folder: Path
    config: ModelConfig
    answers: Answers
    card: ModelCard

    __repr__ = short_repr

    @classmethod
    def load(cls, folder: str | Path) -> Controllable:
        """Reads the folder of a trained model. Its weights are read when a sub-network is asked for.

        Raises:
          FileNotFoundError: a file is missing.
          DataError: a file is damaged, or of another model, data set or version than the others.
        """
        folder = files.user_path(folder)
        card = ModelCard.read(folder)
        answers = Answers.load(folder / ANSWERS)
        for what, digest in card.origin.items():
            if answers.origin.get(what) != digest:
                raise checks.DataError(
                    expected=f"answers of the {what} of {folder / MODEL}",
                    got=f"those of another {what}",
                    remedy="train the model anew into a folder of its own",
                )
        if answers.positions != card.model.names:
            raise checks.DataError(
                expected=f"answers for {', '.join(card.model.names)}",
                got=", ".join(answers.positions),
                remedy="train the model anew",
            )
        return cls(folder, card.model, answers, card)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks."""
        return self.answers.tasks

    def query(self, budget: Any, preferences: Any) -> WidthChoice:
        """Returns the best widths within a budget of multiply-adds, for one question or several; see ``Answers.query``.

        Args:
          budget: multiply-adds for one image, at most: a number, or ``[q]`` of them.
          preferences: relative importance of the tasks by name, or an array ``[t]`` or ``[q, t]``.

        Raises:
          UsageError: a budget below the smallest sub-network, which the text states; preferences that are negative, all
            zero, or of unknown tasks.
        """
        return self.answers.query(budget, preferences)

    def network(self, widths: Any = None) -> ControllableModel:
        """Returns the whole model, or the sub-network of some widths at its real cost: a Flax module to call or train.

        Args:
          widths: numbers of channels by name, as ``query(...).widths``, or in the order of ``config.names``.

        Raises:
          UsageError: widths that the model was not trained for.
          DataError: the weights are damaged, or of another model.
        """
        from flax import nnx

        from ncp_jax.controllable.model import graph

        whole = nnx.merge(graph(self.config), self.params())
        return whole if widths is None else whole.sliced(self._ordered(widths))

    def _ordered(self, widths: Any) -> Any:
        if not isinstance(widths, Mapping):
            return widths
        for name in widths:
            checks.choose("stage or decoder", name, self.config.names)
        for name in self.config.names:
            if name not in widths:
                raise checks.UsageError(
                    expected=f"a width for {name}", got="none", remedy="give one for each stage and decoder"
                )
        return [int(widths[name]) for name in self.config.names]

    def params(self) -> Params:
        """Returns the weights of the whole model."""
        path = self.folder / WEIGHTS
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise checks.MissingError(
                expected=f"the weights at {path}", got="no such file", remedy="train the model anew"
            ) from error
        if hashlib.sha256(content).hexdigest() != self.card.weights:
            raise checks.DataError(
                expected=f"the weights of {self.folder / MODEL} at {path}",
                got="those of another model, or a damaged file",
                remedy="train the model anew into a folder of its own",
            )
        return unpack_params(self.config, read_npz(content))


def pack_params(params: Params) -> dict[str, np.ndarray]:
    """Returns weights by their path in the model ("encoder.0.first.norm.scale")."""
    import jax

    leaves, _ = jax.tree_util.tree_flatten_with_path(params)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _name(path: Any) -> str:
    parts = [str(getattr(step, "key", getattr(step, "name", step))) for step in path]
    return ".".join(part for part in parts if part != "value" and not part.startswith("."))


def unpack_params(config: ModelConfig, arrays: Mapping[str, np.ndarray]) -> Params:
    """Returns the weights that ``pack_params`` wrote for a model of these sizes."""
    import jax
    import jax.numpy as jnp
    from flax import nnx

    from ncp_jax.controllable.model import ControllableModel

    abstract = nnx.state(ControllableModel(config, None), nnx.Param)
    leaves, structure = jax.tree_util.tree_flatten_with_path(abstract)
    return jax.tree.unflatten(structure, [jnp.asarray(arrays[_name(path)]) for path, _ in leaves])


def write_weights(folder: Path, params: Params) -> str:
    """Writes the weights of a model into its folder; returns the SHA-256 of the file, hexadecimal."""
    path = write_npz(folder / WEIGHTS, pack_params(params))
    return hashlib.sha256(path.read_bytes()).hexdigest()
