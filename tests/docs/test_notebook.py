"""The notebook of examples/ runs in a kernel of Jupyter, and is kept with its outputs."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from .blocks import REPOSITORY

NOTEBOOK = REPOSITORY / "examples" / "first_search.ipynb"


def code_cells(notebook: Any) -> list[Any]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def kinds(cell: Any) -> list[tuple[str, list[str]]]:
    """What a cell shows: text, a value, a picture; progress on standard error is not kept."""
    shown = [output for output in cell.outputs if output.get("name") != "stderr"]
    return [(output.output_type, sorted(output.get("data", {}))) for output in shown]


def test_runs_in_a_kernel_and_shows_what_is_kept(
    tmp_path: Path, empty_cache: Path, no_mirror: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat
    from nbclient import NotebookClient

    for name in ("IPYTHONDIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_CONFIG_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))  # never those of the person who runs the tests
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(REPOSITORY), *(path for path in sys.path if path)]))
    kept = nbformat.read(NOTEBOOK, as_version=4)
    run = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(run, timeout=300, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert [kinds(cell) for cell in code_cells(run)] == [kinds(cell) for cell in code_cells(kept)]
    assert [cell.execution_count for cell in code_cells(kept)] == list(range(1, len(code_cells(kept)) + 1))
    assert any("image/png" in data for cell in code_cells(kept) for _, data in kinds(cell))
    # A notebook that leaves files where it lies would dirty the checkout of whoever runs it.
    assert [path.suffix for path in tmp_path.iterdir() if path.is_file()] == []


def test_is_small_and_names_no_machine() -> None:
    text = NOTEBOOK.read_text()
    assert len(text) <= 150_000
    assert "/tmp/" not in text
    assert "/home/" not in text
