"""Every Python and shell block of the README and of the pages in docs/ does what it says on a machine without data."""

from __future__ import annotations

import collections
import logging
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from .blocks import (
    DEVICE,
    HOURS,
    LARGE,
    PAGES,
    RAN,
    REASONS,
    REPOSITORY,
    TABLES,
    blocks_of,
    run_block,
    run_command,
    within,
)

# How many blocks are not run. A block that joins them is a decision: prefer a smaller example on what ships.
NOT_RUN = {TABLES: 25, LARGE: 9, DEVICE: 0, HOURS: 1}


@pytest.fixture
def settings_restored() -> Iterator[None]:
    """Takes back what a page sets for its reader's process: JAX's cache, the log, a searcher of the reader's own."""
    import jax

    from ncp_jax.searchers.base import SEARCHERS
    from ncp_jax.spaces import SPACES

    root, names = logging.getLogger(), ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    level, handlers, searchers = root.level, root.handlers[:], {*SEARCHERS, *SPACES}
    before = {name: getattr(jax.config, name) for name in names}
    yield
    for name, value in before.items():
        jax.config.update(name, value)
    root.setLevel(level)
    root.handlers[:] = handlers
    for registry in (SEARCHERS, SPACES):
        for name in registry.keys() - searchers:
            del registry[name]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
@pytest.mark.usefixtures("empty_cache", "no_mirror", "settings_restored")
def test_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType(f"page_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)  # where dataclasses look for the names of annotations
    blocks = blocks_of(page)
    with within(tmp_path):
        for block in blocks:
            try:
                run_block(block, vars(module))
            except BaseException as error:
                error.add_note(f"block of {page.name}, line {block.line}")
                raise
    programs = [block.text for block in blocks if block.runs and block.language == "python"]
    assert [text for text in programs if text not in RAN] == []


def test_reasons_not_to_run_a_block() -> None:
    """Titles that are neither a reason nor a file's name could hide a block from the test."""
    titles = [block.title for page in PAGES for block in blocks_of(page) if block.title]
    assert [title for title in titles if title not in REASONS and (" " in title or "." not in title)] == []
    counts = collections.Counter(title for title in titles if title in REASONS)
    assert {reason: counts[reason] for reason in REASONS} == {reason: NOT_RUN[reason] for reason in REASONS}


def test_fences_are_all_found() -> None:
    for page in PAGES:
        fences = [line for line in page.read_text().splitlines() if line.lstrip().startswith("```")]
        assert len(fences) == 2 * len(blocks_of(page)), page.name
        assert {block.language for block in blocks_of(page)} <= {"python", "bash", "sh", "text", "toml", "csv"}


@pytest.mark.parametrize(
    "line",
    [
        "ncp-jax serch",
        "ncp-jax search --max-gflop 2",
        "ncp-jax cost 9,9,9,9,9,9 --space transnas-micro",
        "make all",
        'pip install ".[gpu]"',
        "python experiments/arch_graph.py --sede 3",
    ],
)
def test_wrong_lines_are_noticed(line: str, tmp_path: Path) -> None:
    import shlex

    with within(tmp_path), pytest.raises(AssertionError):
        run_command(shlex.split(line), run="cost" in line)


def test_a_failing_block_is_noticed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('```python\nassert 1 == 2\n```\n\n```python title="' + TABLES + '"\nimport nowhere\n```\n')
    wrong, missing = blocks_of(page)
    with pytest.raises(AssertionError):
        run_block(wrong, {})
    with pytest.raises(ModuleNotFoundError):
        run_block(missing, {})


def test_pictures_are_small_and_used() -> None:
    text = "".join(page.read_text() for page in PAGES)
    for path in (REPOSITORY / "docs" / "images").iterdir():
        assert path.stat().st_size <= 100_000, path.name
        assert f"images/{path.name}" in text, path.name


def test_every_page_is_in_the_menu_and_every_public_name_in_the_reference() -> None:
    import ncp_jax

    menu = (REPOSITORY / "mkdocs.yml").read_text()
    pages = [page.relative_to(REPOSITORY / "docs") for page in PAGES if page.name != "README.md"]
    assert [str(page) for page in pages if f": {page}\n" not in menu] == []
    reference = (REPOSITORY / "docs" / "reference.md").read_text().split()
    assert [name for name in ncp_jax.__all__ if f"ncp_jax.{name}" not in reference] == []


def test_every_command_and_experiment_is_listed() -> None:
    from ncp_jax.cli import COMMANDS

    text = (REPOSITORY / "docs" / "commands.md").read_text()
    assert [name for name in COMMANDS if f"| `ncp-jax {name}` |" not in text] == []
    scripts = [path.name for path in (REPOSITORY / "experiments").glob("*.py")]
    assert [name for name in scripts if f"| `experiments/{name}" not in text] == []
