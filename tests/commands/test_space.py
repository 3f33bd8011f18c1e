from __future__ import annotations

import json
from pathlib import Path

import pytest

from ncp_jax.cli import parse
from ncp_jax.spaces import SPACES

from .described import TOML

pytestmark = pytest.mark.usefixtures("spaces_stay")


def shown(path: Path, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    parse(["space", "check", str(path), *options]).run()
    return capsys.readouterr().out


def test_check_shows_size_positions_and_an_example(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "space.toml"
    path.write_text(TOML)
    text = shown(path, capsys)
    assert text.startswith("shown: 67 codes, 3 positions, 5 features\n")
    assert "width     integer  16, 24, ..., 128 (15)  px" in text
    assert [line.split() for line in text.splitlines() if line.startswith("kernel4")] == [
        ["kernel4", "choice", "3x3,", "5x5,", "7x7", "stages", ">=", "4"]
    ]
    assert "forbidden: kernel4 == '7x7' and width > 64" in text
    assert f"example: {SPACES['shown'].example}\n" in text
    found = json.loads(shown(path, capsys, "--json"))
    assert found["schema"] == "space/1"
    assert (found["size"], found["size_is_exact"], found["size_estimate"]) == (67, True, None)
    assert [position["kind"] for position in found["positions"]] == ["integer", "choice", "integer"]
    assert SPACES["shown"].to_string(found["example"]["code"]) == found["example"]["string"]


def test_a_size_that_is_not_counted_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "wide.toml"
    positions = "".join(f'[[position]]\nname = "w{place}"\nrange = [1, 16]\n' for place in range(20))
    total = " + ".join(f"w{place}" for place in range(20))
    path.write_text(f'name = "wide-shown"\n{positions}[[forbid]]\nwhere = "{total} > 170"\n')
    text = shown(path, capsys)
    assert f"wide-shown: at most {16**20} (1.21e+24) codes" in text
    assert "not counted" in text
    found = json.loads(shown(path, capsys, "--json"))
    assert (found["size"], found["size_is_exact"]) == (16**20, False)
    low, high = found["size_estimate"]
    assert 0.4 * 16**20 < low < high < 0.65 * 16**20


def test_list_names_the_spaces_that_ship(capsys: pytest.CaptureFixture[str]) -> None:
    parse(["space", "list"]).run()
    assert "nas-bench-mr    1208925819614629174706176" in capsys.readouterr().out
