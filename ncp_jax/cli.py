"""The command line: the list of commands, and ``main``."""

from __future__ import annotations

import gc
import importlib
import sys
from typing import TYPE_CHECKING, Annotated, Any, Union

from ncp_jax import checks
from ncp_jax.console import guarded
from ncp_jax.files import expand_home

if TYPE_CHECKING:
    from ncp_jax.commands.command import Command

# ``ncp-jax NAME`` runs the class ``Name`` of the module ``ncp_jax.commands.name``.
COMMANDS = (
    "search",
    "next",
    "cost",
    "rank",
    "order",
    "build",
    "convert",
    "space",
    "widths",
    "study",
    "report",
    "data",
    "version",
)
NESTED = ("data", "space", "widths")  # have commands of their own
GARBAGE = 100_000  # new objects between two collections


def main() -> None:
    """Entry point of ``ncp-jax``."""
    command: Command | None = None
    # Imports and compilation make many objects that stay. Looking through them for garbage as often as Python does by
    # default takes a twelfth of a short command.
    gc.set_threshold(GARBAGE)

    def parse_and_run() -> None:
        nonlocal command
        command = parse(sys.argv[1:])
        command.start()
        command.run()

    sys.exit(guarded(parse_and_run, keeps_work=lambda: command is not None and command.keeps_work()))


def parse(arguments: list[str]) -> Command:
    """Returns the command that the arguments describe. Prints and exits where they ask for help or are wrong.

    Raises:
      UsageError: an unknown command; the text names the nearest ones.
    """
    # Imported here, not above: an interruption meanwhile is one line and a status, too.
    import tyro

    if arguments == ["--version"]:
        arguments = ["version"]
    elif arguments and not arguments[0].startswith("-"):
        arguments = [checks.choose("command", arguments[0], COMMANDS), *arguments[1:]]
    if len(arguments) > 1 and arguments[0] in NESTED and not arguments[1].startswith("-"):
        name, chosen, *rest = arguments
        arguments = [name, checks.choose(f"command of ncp-jax {name}", chosen, command_class(name).SUBCOMMANDS), *rest]
    if arguments and arguments[0] in COMMANDS and arguments[0] not in NESTED:
        # Alone, so that an error about an option names those of this command, and no other command is imported.
        name, *arguments = arguments
        wanted: Any = command_class(name)
        prog, description = f"ncp-jax {name}", None  # its docstring
    else:
        choices = [Annotated[command_class(name), tyro.conf.subcommand(name)] for name in COMMANDS]
        wanted = Union[tuple(choices)]  # noqa: UP007, the union is made at run time
        prog, description = "ncp-jax", "Neural architecture search with predictors, in JAX."
    command = tyro.cli(
        wanted,
        prog=prog,
        description=description,
        args=arguments,
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes, tyro.conf.UseAppendAction),
    )
    return expand_home(command)


def command_class(name: str) -> type[Command]:
    """Returns the class of a command."""
    return getattr(importlib.import_module(f"ncp_jax.commands.{name}"), name.title())


if __name__ == "__main__":
    main()
