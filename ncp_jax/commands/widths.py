"""Trains, asks and exports controllable multi-task models (``ncp-jax widths``, ``ncp.Controllable``); writes data."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

from tyro.conf import OmitSubcommandPrefixes, Positional, subcommand

from ncp_jax import checks
from ncp_jax.commands.command import Command, JsonCommand, notify_written
from ncp_jax.commands.widths_config import WidthsConfig
from ncp_jax.console import format_table

if TYPE_CHECKING:
    import numpy as np

    from ncp_jax.controllable.answers import WidthChoice
    from ncp_jax.controllable.controllable import Controllable
    from ncp_jax.types import Float

_NUMBER = re.compile(r"\s*(?P<number>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?)\s*(?P<unit>[kmg]?)\s*", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9}


def read_budget(text: str) -> float:
    """Returns a budget of multiply-adds: "300000", "300K", "2M", "1.5G".

    Raises:
      UsageError: a text that is no positive number.
    """
    match = _NUMBER.fullmatch(text)
    value = float(match["number"]) * _UNITS[match["unit"].lower()] if match else 0.0
    if not 0 < value < 1e300:
        raise checks.UsageError(
            expected="--budget as a number of multiply-adds above 0, with K, M or G for thousands, millions, billions",
            got=repr(text),
            remedy="try --budget 200K",
        )
    return value


def read_preferences(texts: Sequence[str], tasks: Sequence[str]) -> dict[str, float]:
    """Returns preferences, TASK=NUMBER, by task.

    Raises:
      UsageError: no preference, a text of another form, an unknown task, one that is named twice.
    """
    found: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.partition("=")
        try:
            value = float(number)
        except ValueError:
            value = float("nan")
        if not equals or not value >= 0 or value > 1e300:
            raise checks.UsageError(
                expected="--prefer TASK=NUMBER with a number >= 0",
                got=repr(text),
                remedy=f"for example {tasks[0]}=0.7",
            )
        task = checks.choose("task of the model", name.strip(), tasks)
        if task in found:
            raise checks.UsageError(expected="each task once in --prefer", got=f"{task} twice", remedy="leave one out")
        found[task] = value
    if not found:
        raise checks.UsageError(
            expected="--prefer TASK=NUMBER", got="none", remedy=f"tasks of the model: {', '.join(tasks)}"
        )
    return found


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthsData(Command):
    """Write a published data set of several tasks as the file that ncp-jax widths train --data takes.

    Attributes:
      kind: What PATH holds: cifar100 (cifar-100-binary), nyud (NYUD_MT) or pascal (PASCAL_MT).
      path: The unpacked folder.
      side: Height and width that images are resized to; by default 64, and for cifar100 its own 32.
      out: The file, an npz.
    """

    kind: Positional[str]
    path: Positional[Path]
    side: int | None = None
    out: Path

    def run(self) -> None:
        """Reads the folder, writes the file and prints what it holds."""
        from ncp_jax.array_files import write_npz
        from ncp_jax.console import ProgressBar
        from ncp_jax.controllable.datasets import dataset_arrays
        from ncp_jax.files import user_path

        out = user_path(self.out)
        with ProgressBar("ncp-jax: reading") as bar:
            arrays = dataset_arrays(self.kind, user_path(self.path), side=self.side, progress=bar)
        write_npz(out, arrays)
        shapes = [(name, " x ".join(map(str, array.shape)), str(array.dtype)) for name, array in arrays.items()]
        print(format_table([("array", "shape", "type"), *shapes], "<<<"), flush=True)
        notify_written([out])


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthsTrain(Command, WidthsConfig):
    """Train one multi-task model for all widths, and find the best widths for every budget and preference.

    An interrupted training goes on from its last checkpoint.

    Attributes:
      out: Folder for the model.
    """

    out: Path

    def keeps_work(self) -> bool:
        """Returns whether there are checkpoints."""
        from ncp_jax.commands.command import has_work

        return has_work(self.out)

    def run(self) -> None:
        """Trains, and prints what came of it."""
        from ncp_jax.commands.widths_training import train_widths
        from ncp_jax.console import prepare_jax
        from ncp_jax.controllable.controllable import ANSWERS, MODEL, WEIGHTS

        prepare_jax()
        config = self.config(WidthsConfig)
        model = train_widths(config, self.out)
        print(_summary(model), flush=True)
        notify_written([self.out / name for name in (MODEL, WEIGHTS, ANSWERS)])


def _summary(model: Controllable) -> str:
    """Returns the smallest and the largest answers as text."""
    answers = model.answers
    header = ("multiply-adds", "parameters", *(f"{task} [%]" for task in answers.tasks))
    rows = []
    for row in sorted({0, len(answers.flops) // 2, len(answers.flops) - 1}):
        cells = [f"{value:.2f}" for value in answers.values[row]]
        rows.append((str(answers.flops[row]), str(answers.params[row]), *cells))
    text = format_table([header, *rows], ">" * len(header))
    skipped = model.card.skipped
    return f"{len(answers.flops)} width configurations to choose from; {skipped} training steps skipped\n{text}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Question(JsonCommand):
    """What is asked of a trained model.

    Attributes:
      folder: Folder of the model, from ncp-jax widths train.
      budget: Multiply-adds for one image, at most: 300000, 300K, 2M.
      prefer: Relative importance of a task, TASK=NUMBER; tasks that are left out count 0. May be repeated.
    """

    folder: Positional[Path]
    budget: str
    prefer: tuple[str, ...] = ()

    def ask(self) -> tuple[Controllable, WidthChoice]:
        """Returns the model and the widths that answer the question."""
        from ncp_jax.controllable.controllable import Controllable

        budget = read_budget(self.budget)
        model = Controllable.load(self.folder)
        return model, model.query(budget, read_preferences(self.prefer, model.tasks))


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthsQuery(_Question):
    """Choose the widths for a budget and preferences: the best of those that keep the budget."""

    def run(self) -> None:
        """Prints the answer."""
        _, choice = self.ask()
        self.show(choice.to_json, lambda: describe_choice(choice))


def describe_choice(choice: WidthChoice) -> str:
    """Returns an answer as text."""
    content = choice.to_json()
    widths = " ".join(f"{name}={width}" for name, width in content["widths"].items())
    rows: list[tuple[str, ...]] = [("task", "predicted [%]", "measured [%]")]
    for task in choice.tasks:
        cells = (content[key].get(task) for key in ("predicted", "measured"))
        rows.append((task, *("" if value is None else f"{value:.2f}" for value in cells)))
    lines = [widths, f"{content['flops']} multiply-adds, {content['params']} parameters", format_table(rows, "<>>")]
    return "\n".join(lines)


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthsExport(_Question):
    """Write the sub-network for a budget and preferences, at its real cost.

    Attributes:
      to: Form of the file: flax (npz of the weights and the sizes), torch (a Python module with its weights in an npz
        beside it) or onnx.
      data: The data that the model was trained on, if it is no longer where it was. Read for models of --norm batch
        alone, whose statistics are measured on its training images.
      out: The file.
    """

    to: str = "flax"
    data: str | None = None
    out: Path

    def run(self) -> None:
        """Writes the file and prints the sub-network."""
        from ncp_jax.controllable.export import export

        model, choice = self.ask()
        images = training_images(model, self.data) if model.config.norm == "batch" else None
        paths = export(model, choice, to=self.to, path=self.out, images=images)
        self.show(choice.to_json, lambda: describe_choice(choice))
        notify_written(paths)


def training_images(model: Controllable, data: str | None) -> Float[np.ndarray, "n h w c"]:
    """Returns the images that a model was trained on.

    Args:
      model: the model.
      data: where its data are; None for the place that its card names.

    Raises:
      FileNotFoundError: there is no such file.
      DataError: the data are others.
    """
    from ncp_jax.commands.widths_training import read_data

    place = model.card.data if data is None else data
    wanted = f"the data that {model.folder} was trained on at {place}, to measure statistics of BatchNorm"
    remedy = "name the file with --data"
    try:
        examples = read_data(place)
    except FileNotFoundError as error:
        raise checks.MissingError(expected=wanted, got="no such file", remedy=remedy) from error
    if examples.digest != model.card.examples:
        raise checks.DataError(expected=wanted, got="other data", remedy=remedy)
    return examples.part("train")[0]


_WidthsCommand = (
    Annotated[WidthsData, subcommand("data")]
    | Annotated[WidthsTrain, subcommand("train")]
    | Annotated[WidthsQuery, subcommand("query")]
    | Annotated[WidthsExport, subcommand("export")]
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Widths(Command):
    """Train a multi-task model for all widths, choose widths for a budget and preferences, export sub-networks."""

    SUBCOMMANDS: ClassVar[tuple[str, ...]] = ("data", "train", "query", "export")

    command: OmitSubcommandPrefixes[_WidthsCommand]

    def start(self) -> None:
        """Begins the chosen command."""
        self.command.start()

    def keeps_work(self) -> bool:
        """Returns whether an interruption of the chosen command leaves work behind."""
        return self.command.keeps_work()

    def run(self) -> None:
        """Runs the chosen command."""
        self.command.run()
