"""experiments/audit.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

SCRIPT = "audit.py"


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, start: Callable[..., int]) -> Path:
    folder = tmp_path_factory.mktemp("audit") / "out"
    assert start("--smoke", "--tasks", "class", "--out", folder) == 0
    return folder


def test_what_a_smoke_run_writes(smoke: Path) -> None:
    assert {"config.json", "records.jsonl", "summary.json", "coverage.png"} <= {p.name for p in smoke.iterdir()}
    assert (smoke / "coverage.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    summary = json.loads((smoke / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "audit/1")
    assert {"coverage", "proposals", "seconds", "config", "versions", "device", "date"} <= set(summary)
    assert set(summary["coverage"]) == {"random", "searched, digits"}
    records = [json.loads(line) for line in (smoke / "records.jsonl").read_text().splitlines()]
    for record in records[:2]:
        name = ", ".join(str(record["cell"][key]) for key in ("kind", "table") if key in record["cell"])
        counts, written = record["results"]["tasks"]["class"], summary["coverage"][name]["class"]
        assert written["coverage"]["mean"] == counts["covered"] / counts["rows"]
        assert written["top_coverage"]["mean"] == counts["top_covered"] / counts["top_rows"]
        assert written["rows"] == counts["rows"]
    proposals = records[2]["results"]["tasks"]["class"]["metric"]
    said = summary["proposals"]["class"]["metric"]
    assert said["proposals"] == len(proposals) == 10
    assert said["proposer"] == pytest.approx(sum(row["proposer"] for row in proposals) / 10)
    assert 0 <= said["proposer_inside"] <= 1


def test_a_finished_folder_is_written_again_from_its_records(smoke: Path, start: Callable[..., int]) -> None:
    records = (smoke / "records.jsonl").read_text()
    before = json.loads((smoke / "summary.json").read_text())
    (smoke / "coverage.png").unlink()
    (smoke / "summary.json").unlink()
    assert start("--smoke", "--tasks", "class", "--resume", "--out", smoke) == 0
    assert (smoke / "records.jsonl").read_text() == records
    assert (smoke / "coverage.png").is_file()
    after = json.loads((smoke / "summary.json").read_text())
    assert {key: after[key] for key in ("coverage", "proposals", "seconds")} == {
        key: before[key] for key in ("coverage", "proposals", "seconds")
    }


def test_what_is_refused(run: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    for options, words in (
        (("--kinds", "rando"), "did you mean: random"),
        (("--labels", "20"), "--labels to be an integer 40 or more"),
        (("--repeats", "0"), "--repeats to be an integer 1 or more"),
        (("--tasks", "segg"), "segg"),
    ):
        status, _, err = run("--smoke", *options, "--out", tmp_path / "out")
        assert (status, words in err, err.count("\n")) == (2, True, 1), err
