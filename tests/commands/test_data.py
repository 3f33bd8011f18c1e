"""``ncp-jax data``: lists, fetches and checks tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def failure(result: tuple[int, str, str]) -> tuple[int, str]:
    """Status and error of a failed command, which is all that it wrote on standard error."""
    status, _, err = result
    return status, err.removeprefix("ncp-jax: error: ").rstrip("\n")


def test_data_list(command: Run, mirror: Path) -> None:
    rows = json.loads(command("data", "list", "--json")[1])
    assert {"name", "state", "bytes", "licence", "what"} <= set(rows[0])
    status, out, _ = command("data", "list")
    assert status == 0
    assert out.splitlines()[0].split() == ["name", "state", "kB", "licence", "what"]
    assert len(out.splitlines()) == len(rows) + 1
    assert any(line.startswith("nas-bench-mr/seg ") for line in out.splitlines())


def test_data_fetch_verify_path(command: Run, mirror: Path, empty_cache: Path, no_mirror: None) -> None:
    assert command("data", "path") == (0, f"{empty_cache}\n", "")
    status, line = failure(command("data", "verify", "nas-bench-mr/seg"))
    assert status == 1
    assert "1 missing or altered; run: ncp-jax data fetch" in line
    status, out, _ = command("data", "fetch", "nas-bench-mr/seg", "--mirror", mirror)
    assert status == 0
    assert out.split() == ["copied", "ncp/seg/trainval.pkl"]
    status, out, _ = command("data", "verify", "nas-bench-mr/seg")
    assert status == 0
    assert out.split() == ["ok", "ncp/seg/trainval.pkl"]
    (file,) = (empty_cache / "raw").rglob("trainval.pkl")
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    status, line = failure(command("data", "verify", "nas-bench-mr/seg"))
    assert status == 1
    assert "1 missing or altered" in line


def test_data_of_unknown_names(command: Run) -> None:
    status, line = failure(command("data", "fetch", "nas-bench-mr/segg"))
    assert status == 2
    assert "got 'nas-bench-mr/segg'; did you mean: nas-bench-mr/seg" in line
    status, line = failure(command("data", "verify", "everything"))
    assert status == 2
