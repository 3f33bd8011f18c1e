"""experiments/transfer_schemes.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

SCRIPT = "transfer_schemes.py"
OPTIONS = ("--smoke", "--spaces", "digits")
METHODS = ("evolution", "reinforce", "ncp", "architectures", "population", "tuned-policy")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, complete: Callable[..., tuple[str, str]]) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("transfer") / "out"
    out, _ = complete(SCRIPT, *OPTIONS, "--out", folder)
    return folder, out


def test_what_a_smoke_run_writes(smoke: tuple[Path, str]) -> None:
    folder, out = smoke
    assert {"config.json", "records.jsonl", "summary.json", "curves.png", "gains.png"} <= {
        p.name for p in folder.iterdir()
    }
    summary = json.loads((folder / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "transfer_schemes/1")
    found = summary["spaces"]["digits"]
    assert tuple(found["levels"]) == METHODS
    assert found["compared_with"] == {
        "architectures": "ncp",
        "population": "evolution",
        "tuned-policy": "reinforce",
    }
    tasks = found["similarity"]["tasks"]
    assert len(tasks) == 3
    for scheme in found["compared_with"]:
        one = found["gains"][scheme]["20"]["one"]
        assert {(p["source"], p["target"]) for p in one["pairs"]} == {(s, t) for s in tasks for t in tasks if s != t}
        assert one["positive"] + one["negative"] <= len(one["pairs"])
        assert set(found["foresight"]["correlation"][scheme]) == set(found["similarity"]) - {"tasks"}
        assert f"digits {scheme}" in out


def test_the_summary_is_made_from_the_records(smoke: tuple[Path, str]) -> None:
    """The mean percentile after 20 queries, and a gain, from the last ranks on record."""
    folder, _ = smoke
    found = json.loads((folder / "summary.json").read_text())["spaces"]["digits"]
    last: dict[tuple[str, str, str], np.ndarray] = {}
    for line in (folder / "records.jsonl").read_text().splitlines():
        record = json.loads(line)
        for source, runs in record["results"].items():
            assert all(at[0] == 1 and at[-1] <= 20 for at in runs["at"])
            assert all(ranks == sorted(ranks, reverse=True) for ranks in runs["ranks"])
            key = (record["cell"]["method"], record["cell"]["target"], source)
            last[key] = np.array([ranks[-1] for ranks in runs["ranks"]])
    tasks = found["similarity"]["tasks"]
    scratch = 100 * np.mean([last["evolution", t, "none"] for t in tasks]) / 4096
    assert found["levels"]["evolution"]["none"]["20"]["percentile"]["mean"] == pytest.approx(scratch)
    pair = found["gains"]["population"]["20"]["all"]["pairs"][0]
    gain = np.log10(last["evolution", pair["target"], "none"]) - np.log10(last["population", pair["target"], "all"])
    assert pair["gain"]["mean"] == pytest.approx(gain.mean())


def test_a_finished_run_is_written_again_without_a_search(
    smoke: tuple[Path, str], complete: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from transfer.schemes import Searches

    folder, out = smoke
    before = [(folder / name).read_bytes() for name in ("records.jsonl", "gains.png")]
    (folder / "gains.png").unlink()
    monkeypatch.setattr(Searches, "run", None)
    again, _ = complete(SCRIPT, *OPTIONS, "--resume", "--out", folder)
    assert again == out
    assert [(folder / name).read_bytes() for name in ("records.jsonl", "gains.png")] == before


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--methods", "populaton"), "did you mean: population"),
        (("--targets", "clas"), "did you mean: class"),
        (("--targets", "class", "--sources", "clas"), "did you mean: class"),
        (("--targets", "class", "--sources", "class", "edges"), "expected sources other than the targets, got class"),
        (("--spaces", "micr"), "did you mean: micro"),
        (("--budget", "9"), "--budget"),
        (("--source-budget", "3"), "--source-budget"),
    ],
)
def test_bad_input(run: Callable[..., tuple[int, str, str]], tmp_path: Path, options, expected: str) -> None:
    given = OPTIONS if "--spaces" not in options else OPTIONS[:1]
    status, _, err = run(*given, *options, "--out", tmp_path / "out")
    assert status == 2
    assert expected in err
    assert len(err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()
