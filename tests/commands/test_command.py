"""What commands share: results on the screen and in files."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from ncp_jax.commands.command import FileCommand
from ncp_jax.files import atomic_write, lock


class Result:
    """A result of two files, whose writer begins only when all writers are there.

    The first to begin pauses longest between its files: without a lock it writes its second file last.
    """

    pauses = iter((0.3, 0.2, 0.1, 0.0))

    def __init__(self, text: str, others: threading.Barrier) -> None:
        self.text, self.others = text, others

    def __str__(self) -> str:
        self.others.wait(10)
        return self.text

    def to_json(self) -> Any:
        return self.text

    def write(self, folder: Path) -> list[Path]:
        paths = [folder / "one", folder / "other"]
        atomic_write(paths[0], self.text.encode())
        time.sleep(next(self.pauses))
        atomic_write(paths[1], self.text.encode())
        return paths


def test_the_files_of_a_folder_are_of_one_result(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    others = threading.Barrier(4)
    writers = [
        threading.Thread(target=FileCommand(out=tmp_path).show_and_write, args=(Result(text, others),))
        for text in "abcd"
    ]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert (tmp_path / "one").read_text() == (tmp_path / "other").read_text()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one", "other"]
    with lock(tmp_path, wait=False) as held:
        assert held
    assert [text.split()[0] for text in caplog.messages] == ["wrote"] * 8
