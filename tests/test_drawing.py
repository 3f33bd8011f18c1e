from __future__ import annotations

import io
from pathlib import Path

import pytest
from cross_validation.figure import bar_figure
from matplotlib.image import imread

from ncp_jax.drawing import new_axes, save_figure

MAGIC = b"\x89PNG\r\n\x1a\n"


def assert_is_a_drawing(path: Path) -> None:
    content = path.read_bytes()
    assert content.startswith(MAGIC)
    pixels = imread(io.BytesIO(content))
    assert min(pixels.shape[:2]) > 300
    assert pixels.std() > 0.01, "an empty sheet"


def test_bars(tmp_path: Path) -> None:
    values = {"ncp": {"seg": 0.7, "video": 0.6}, "ensemble": {"seg": 0.75, "video": 0.65}}
    assert_is_a_drawing(bar_figure(values, tmp_path / "new" / "tau.png", ylabel="tau"))


def test_a_figure_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    figure, _ = new_axes()
    path = save_figure(figure, tmp_path / "x.png")
    before = path.read_bytes()

    class Broken:
        def savefig(self, file: io.BytesIO, format: str) -> None:
            file.write(MAGIC)
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        save_figure(Broken(), path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]
