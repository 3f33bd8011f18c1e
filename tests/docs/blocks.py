"""Reads the code blocks of Markdown pages, and runs those in Python and for the shell as a reader would."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import sys
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ncp_jax import checks

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
FENCE = re.compile(r'^( *)```(\w+)(?: title="([^"]*)")?\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
# The titles of blocks that are not run. The site shows them above the block.
TABLES, DEVICE, HOURS = (
    f"Not run by the tests: {reason}"
    for reason in ("needs the published tables", "needs an accelerator", "takes hours")
)
LARGE = "Only its options are tested: takes a minute or more"
REASONS = (TABLES, DEVICE, HOURS, LARGE)


@dataclass(frozen=True)
class Block:
    """A code block: its page, its first line there, its language, its title and its text."""

    page: Path
    line: int
    language: str
    title: str
    text: str

    @property
    def runs(self) -> bool:
        return self.title not in REASONS

    @property
    def commands(self) -> Iterator[list[str]]:
        """Words of each command, without comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            for part in line.split(" && "):
                if words := shlex.split(part, comments=True):
                    yield words


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    return [
        Block(page, text.count("\n", 0, found.start()) + 1, found[2], found[3] or "", textwrap.dedent(found[4]))
        for found in FENCE.finditer(text)
    ]


RAN: dict[str, dict[str, Any]] = {}  # what ran already, on this page or another; and the names that it left


def run_block(block: Block, names: dict[str, Any]) -> None:
    """Runs a block in the current folder, a block in Python with the names of its page; each text once."""
    if block.language == "python":
        text = block.text if block.runs else _imports(block.text)
        if text not in RAN:
            compile(block.text, str(block.page), "exec")
            # Blank lines in front: a traceback then shows the line of the page.
            program = compile("\n" * block.line + text, str(block.page), "exec")
            with contextlib.redirect_stdout(io.StringIO()):
                exec(program, names)
            RAN[text] = {name: value for name, value in names.items() if not name.startswith("__")}
        names.update(RAN[text])
    elif block.language in ("bash", "sh"):
        for words in block.commands:
            key = f"{block.runs} {shlex.join(words)}"
            if key not in RAN:
                run_command(words, run=block.runs)
            RAN[key] = {}
    elif "." in block.title:
        Path(block.title).write_text(block.text)


def _imports(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if re.match(r"(import|from) ", line))


def run_command(words: list[str], *, run: bool) -> None:
    """Runs a command of a page without a process of its own, or only reads its options."""
    while re.fullmatch(r"[A-Z_]+=.*", words[0]):
        words = words[1:]  # a setting of the environment
    if words[0] == "ncp-jax":
        _ncp_jax(words[1:], run=run)
    elif words[0] == "python" and words[1].startswith("experiments/"):
        _script(words[1], words[2:])
    elif words[:2] == ["pip", "install"]:
        _pip(words[2:])
    else:
        assert words[0] == "pytest", f"tests/docs/blocks.py does not know how to test {words}"


def _ncp_jax(arguments: list[str], *, run: bool) -> None:
    from ncp_jax import cli
    from ncp_jax.studies import read_grid

    output, status = io.StringIO(), None
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
        try:
            if run:
                sys.argv = ["ncp-jax", *arguments]
                cli.main()
            command = cli.parse(arguments)
            if (grid := getattr(command, "grid", None)) is not None and Path(grid).is_file():
                read_grid(grid).methods()
        except SystemExit as end:
            status = end.code
        except checks.UsageError as error:
            status = str(error)
    assert not status, f"ncp-jax {shlex.join(arguments)} ended with {status}: {output.getvalue()}"


def _script(path: str, arguments: list[str]) -> None:
    """Reads the options of an experiment; tests/experiments runs each of them."""
    import harness.script as script

    def parse(config_type: type, run: object, description: str) -> None:
        script._parse(config_type, description)

    sys.argv = [path, *arguments]
    run_main, script.run_main = script.run_main, parse
    try:
        with contextlib.redirect_stderr(io.StringIO()) as errors:
            runpy.run_path(str(REPOSITORY / path), run_name="__main__")
    except SystemExit as end:
        raise AssertionError(f"{path} {shlex.join(arguments)}: {errors.getvalue()}") from end
    finally:
        script.run_main = run_main


def _pip(arguments: list[str]) -> None:
    """Checks that the extras exist that a page asks for."""
    extras = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    for argument in arguments:
        if found := re.fullmatch(r"(?:\.|ncp-jax)\[([\w,]+)\]", argument):
            assert set(found[1].split(",")) <= set(extras), f"pip install {argument}: the extras are {sorted(extras)}"


@contextlib.contextmanager
def within(folder: Path) -> Iterator[None]:
    """Changes the working directory and the arguments of the program for a while."""
    before, arguments = Path.cwd(), sys.argv
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
        sys.argv = arguments
