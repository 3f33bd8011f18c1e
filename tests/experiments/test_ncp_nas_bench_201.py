"""experiments/ncp_nas_bench_201.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import load_table
from ncp_jax.spaces.cells import PATHS

SCRIPT = "ncp_nas_bench_201.py"
OPTIONS = ("--smoke", "--tables", "digits/class")


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, complete: Callable[..., tuple[str, str]]) -> tuple[Path, str]:
    folder = tmp_path_factory.mktemp("nas_bench_201") / "out"
    return folder, complete(SCRIPT, *OPTIONS, "--out", folder)[0]


def test_percentiles_are_those_of_the_table(smoke: tuple[Path, str]) -> None:
    folder, _ = smoke
    summary = json.loads((folder / "summary.json").read_text())
    assert next(iter(summary.items())) == ("schema", "ncp_nas_bench_201/1")
    values = np.asarray(load_table("digits/class").measured("accuracy"), float)
    records = [json.loads(line)["results"] for line in (folder / "records.jsonl").read_text().splitlines()]
    best = {
        method: [values[record["methods"][method]["rows"]].max() for record in records]
        for method in ("continuous", "exhaustive")
    }
    shares = {m: [100 * (1 + (values > value).sum()) / len(values) for value in some] for m, some in best.items()}
    assert summary["percentile"]["class"]["mean"] == pytest.approx(np.mean(shares["continuous"]))
    assert summary["exhaustive"]["class"]["percentile"]["mean"] == pytest.approx(np.mean(shares["exhaustive"]))
    assert summary["regret"]["class"]["mean"] == pytest.approx(np.mean(values.max() - best["continuous"]))
    assert all(len(record["methods"]["continuous"]["rows"]) == 4 for record in records)
    assert 0 < summary["scored"]["class"]["most"] < 0.2
    codes = np.asarray(load_table("digits/class").codes)
    connected = np.any([(codes[:, list(path)] > 0).all(axis=1) for path in PATHS], axis=0).sum()
    assert summary["sizes"]["class"] == {"codes": 4096, "networks": 1948, "connected": connected}
    assert set(summary["searchers"]["class"]["24"]) == {"inversion", "random"}
    for name in ("labels.png", "ablation.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG\r\n\x1a\n")


def test_a_finished_run_is_only_summarised_again(
    smoke: tuple[Path, str], complete: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, out = smoke

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr("few_labels.ranking.run_seeds", refuse)
    lines = (folder / "records.jsonl").read_bytes()
    (folder / "labels.png").unlink()
    assert complete(SCRIPT, *OPTIONS, "--resume", "--out", folder)[0] == out
    assert (folder / "records.jsonl").read_bytes() == lines
    assert (folder / "labels.png").exists()


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--tables", "digits/clas"), "did you mean: digits/class"),
        (("--tables", "digits/class", "--searchers", "randon"), "did you mean: random"),
        (("--samples", "3"), "expected --samples to be an integer 4 or more"),
        (("--queries", "0"), "--queries"),
        (("--tables", "digits/class", "--samples", "2000"), "1948 networks"),
        (("--tables", "nas-bench-mr/seg"), "every architecture of its space"),
        (("--tables", "nas-bench-201/cifar10"), "on_test"),
    ],
)
def test_bad_input(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, mirror: Path, options: tuple[str, ...], expected: str
) -> None:
    status, _, err = run(*options, "--out", tmp_path / "out")
    assert (status, len(err.strip().splitlines())) == (2, 1), err
    assert expected in err
