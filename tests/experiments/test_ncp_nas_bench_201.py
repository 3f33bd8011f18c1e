"""experiments/ncp_nas_bench_201.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ncp_jax import load_table
from ncp_jax.spaces.cells import PATHS

from .conftest import Smoke

SCRIPT = "ncp_nas_bench_201.py"
OPTIONS = ("--smoke", "--tables", "digits/class")


def test_percentiles_are_those_of_the_table(smoke: Smoke) -> None:
    summary = smoke.summary()
    values = np.asarray(load_table("digits/class").measured("accuracy"), float)
    records = [record["results"] for record in smoke.records()]
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
    assert {path.name for path in smoke.folder.glob("*.png")} == {"labels.png", "ablation.png"}


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("few_labels.ranking.run_seeds") == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--tables", "digits/clas"), "did you mean: digits/class"),
        (("--tables", "digits/class", "--searchers", "randon"), "did you mean: random"),
        (("--samples", "3"), "expected --samples to be an integer 4 or more"),
        (("--sizes", "50", "-3"), "expected --sizes to be an integer 4 or more"),
        (("--queries", "0"), "--queries"),
        (("--tables", "digits/class", "--samples", "2000"), "1948 networks"),
        (("--tables", "nas-bench-mr/seg"), "every architecture of its space"),
        (("--tables", "nas-bench-201/cifar10"), "on_test"),
    ],
)
def test_bad_input(refused: Callable[..., str], mirror: Path, options: tuple[str, ...], expected: str) -> None:
    assert expected in refused(*options)
