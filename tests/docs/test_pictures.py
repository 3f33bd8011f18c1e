"""The script of the pictures draws each of them."""

from __future__ import annotations

import runpy
from pathlib import Path

from .blocks import REPOSITORY


def test_draws_the_pictures_of_the_pages(tmp_path: Path, empty_cache: Path, no_mirror: None) -> None:
    script = runpy.run_path(str(REPOSITORY / "examples" / "pictures.py"))
    drawn = script["draw_pictures"](tmp_path, smoke=True)
    kept = {path.name for path in (REPOSITORY / "docs" / "images").iterdir()}
    # Drawn by the tutorial, and by experiments: transfer_schemes.py, ncp_cross_task.py and controllable.py.
    elsewhere = {"tutorial.png", "transfer_gains.png", "transfer_labels.png", "controllable.png"}
    assert {path.name for path in drawn} == kept - elsewhere
    assert all(path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n") for path in drawn)
