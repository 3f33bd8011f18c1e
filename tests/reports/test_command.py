from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

MakeStudy = Callable[..., Path]
Command = Callable[..., tuple[int, str, str]]


def test_report_writes_files_and_prints_the_table(command: Command, make_study: MakeStudy) -> None:
    folder = make_study()
    status, out, err = command("report", folder)
    assert status == 0
    assert out.startswith("method ")
    assert "evolution population=50" in out
    assert f"ncp-jax: wrote {folder / 'report.html'}\n" in err
    assert (folder / "report.html").is_file()


def test_report_prints_json_and_writes_elsewhere(command: Command, make_study: MakeStudy, tmp_path: Path) -> None:
    folder = make_study()
    status, out, _ = command("report", folder, "--out", tmp_path / "out", "--json")
    assert status == 0
    assert json.loads(out) == json.loads((tmp_path / "out" / "report.json").read_text())
    assert not (folder / "report.html").exists()


@pytest.mark.parametrize(("name", "status"), [("nowhere", 2), ("empty", 2), ("broken", 1)])
def test_wrong_folders_are_one_line(command: Command, tmp_path: Path, name: str, status: int) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "study.json").write_text("{")
    code, out, err = command("report", tmp_path / name)
    assert (code, out) == (status, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("ncp-jax: error: expected ")


def test_reporting_starts_no_device(make_study: MakeStudy) -> None:
    script = (
        "import sys; from ncp_jax.reports import write_report; write_report(sys.argv[1]); "
        "from jax._src import xla_bridge; print(len(xla_bridge._backends))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, make_study(seeds=2)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "0"
