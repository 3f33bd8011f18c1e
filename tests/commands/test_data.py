"""``ncp-jax data``: lists, fetches and checks tables."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from ..benchmarks.official_files import transnas
from ..benchmarks.torch_containers import archive

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


def test_data_import(command: Run, empty_cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "transnas.pth"
    path.write_bytes(archive(transnas(micro=3, macro=0, epochs=2)))
    status, out, err = command("data", "import", "transnas", path)
    assert status == 0, err
    assert out.splitlines()[0].split() == ["table", "space", "rows", "columns", "curves", "failed"]
    assert "transnas-bench-101-micro/jigsaw" in out
    assert "transnas.pth: micro: 3 of 4096 architectures are there" in err
    rows = {row["name"]: row for row in json.loads(command("data", "list", "--json")[1])}
    assert rows["transnas-bench-101-micro/jigsaw"]["state"] == "imported"
    made = json.loads(command("data", "import", "transnas", path, "--name", "mine", "--seeds", "mean", "--json")[1])
    assert made["schema"] == "import/1"
    assert made["tables"][0]["columns"][0]["split"] == "validation"
    for arguments, words in (
        (("transnas", tmp_path / "none.pth"), "expected a file or folder at"),
        (("torch", path), "expected a known kind of official files, got 'torch'"),
        (("nats", path), "expected a pickle at"),
        (("transnas", path, "--name", "digits"), "expected a --name that no built-in table has, got digits"),
    ):
        status, line = failure(command("data", "import", *arguments))
        assert status in (1, 2)
        assert words in line
    name = "transnas-bench-101-micro/jigsaw"
    for arguments, words in (
        (("search", "--table", name, "--maximize", "valid"), "expected a known metric, got 'valid'"),
        (("search", "--table", name, "--space", "transnas-micro"), "expected --maximize or --minimize COLUMN"),
        (("search", "--table", name, "--maximize", "test_top1"), "got test_top1 of the test split"),
        (("search", "--task", name.upper(), "--maximize", "test_top1"), "got test_top1 of the test split"),
        (("search", "--table", f"{name}x"), "expected a known table"),
        (("rank", "--table", name, "--minimize", "valid_top1"), "expected --maximize valid_top1"),
        (("rank", "--table", name, "--budget", "9"), "architectures"),
    ):
        status, line = failure(command(*arguments))
        assert (status, words in line) == (2, True), line
