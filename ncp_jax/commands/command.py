"""Defines what all commands of the command line share: reading their settings, printing and writing their results."""

from __future__ import annotations

import dataclasses
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ncp_jax import checks
from ncp_jax.console import LOG, say, set_verbosity

Config = TypeVar("Config")


def as_config(kind: type[Config], config: Config | None, settings: Mapping[str, Any]) -> Config:
    """Returns the config that a caller gave as an object or field by field.

    Args:
      kind: dataclass of the config.
      config: the object; None where the caller gave fields.
      settings: the fields by name.

    Raises:
      UsageError: both were given, or a name is no field of the config.
    """
    known = [field.name for field in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for name in settings:
        if name not in known:
            nearest = checks.choose(f"field of {kind.__name__}", name, known)
            raise checks.UsageError(
                expected=f"a field of {kind.__name__}", got=repr(name), remedy=f"did you mean: {nearest}"
            )
    if config is None:
        return kind(**settings)
    if settings:
        raise checks.UsageError(
            expected=f"a {kind.__name__} or its fields as keywords", got="both", remedy="use dataclasses.replace"
        )
    return config


@dataclasses.dataclass(frozen=True)
class Verbosity:
    """The options of every program that say what is shown beside the result.

    Attributes:
      quiet: Show the result, warnings and errors alone: no notices, no progress.
      verbose: Show details too, and the time of day in each line.
    """

    quiet: bool = False
    verbose: bool = False

    def start(self) -> None:
        """Sets what is shown, and begins the details with the versions."""
        set_verbosity(quiet=self.quiet, verbose=self.verbose)
        if self.verbose:
            from ncp_jax.files import cache_path
            from ncp_jax.records.run_card import result_versions

            versions = ", ".join(f"{name} {version}" for name, version in result_versions().items())
            LOG.debug("%s; Python %s; cache %s", versions, platform.python_version(), cache_path())


@dataclasses.dataclass(frozen=True)
class Command(Verbosity):
    """One subcommand: a dataclass whose fields are its options.

    A command inherits its options from the config of the library function that it runs: ``class Search(FileCommand,
    SearchConfig)``. The parser reads their texts from the "Attributes:" section of the class that declares them. This
    is no abstract base class, since for those the parser imports a type checker, which takes 0.1 s.
    """

    def __post_init__(self) -> None:
        """Leaves the checks of the config to ``config``: the parser would print their errors in its own form."""

    def config(self, kind: type[Config]) -> Config:
        """Returns the library's config with the values of this command's options; it checks itself."""
        return kind(**{field.name: getattr(self, field.name) for field in dataclasses.fields(kind)})  # type: ignore[arg-type]

    def keeps_work(self) -> bool:
        """Returns whether an interruption leaves finished work behind that a second call continues."""
        return False

    def run(self) -> None:
        """Runs the command and prints its result. Every command has its own."""
        raise AssertionError(type(self).__name__)


@dataclasses.dataclass(frozen=True)
class JsonCommand(Command):
    """A command that prints its result as text or as JSON.

    Attributes:
      json: Print JSON instead of text.
    """

    json: bool = False

    def show(self, to_json: Callable[[], Any], to_text: Callable[[], str]) -> None:
        """Prints the result in the form asked for."""
        print(json.dumps(to_json(), indent=1, allow_nan=False) if self.json else to_text(), flush=True)


def has_work(folder: Path) -> bool:
    """Returns whether a folder has records or checkpoints, from which an interrupted work goes on.

    It is asked when Ctrl-C is pressed, maybe during an import, so it imports nothing.
    """
    patterns = ("records*.jsonl", "*/records*.jsonl", "checkpoints/*", "*/checkpoints/*")
    return any(path.stat().st_size for pattern in patterns for path in folder.glob(pattern))


class WrittenResult(Protocol):
    """A result that prints as text and as JSON, and has files."""

    def to_json(self) -> Any:
        """Returns JSON-ready values."""

    def write(self, folder: Path) -> tuple[Path, ...] | list[Path]:
        """Writes the files; returns their paths."""


@dataclasses.dataclass(frozen=True)
class FileCommand(JsonCommand):
    """A command that also writes its result to files.

    Attributes:
      out: Folder for the files of the result; nothing is written without it.
    """

    out: Path | None = None

    def show_and_write(self, result: WrittenResult) -> None:
        """Prints a result, and writes its files where asked.

        The screen comes first: a disk that fills up does not cost the result. A screen that fails, as a pipe does
        whose reader has gone, does not cost the files. Of two processes that write into one folder, the second waits
        for the first: all files are of the same result.
        """
        from ncp_jax.files import lock

        try:
            self.show(result.to_json, lambda: str(result))
        finally:
            if self.out is not None:
                with lock(self.out):
                    paths = result.write(self.out)
                notify_written(paths)


def notify_written(paths: tuple[Path, ...] | list[Path]) -> None:
    """Names the files that a command wrote on standard error."""
    for path in paths:
        say(f"wrote {path}")
