"""experiments/ncp_intra_task.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from .conftest import Smoke

SCRIPT = "ncp_intra_task.py"
OPTIONS = ("--smoke", "--seeds", "1")


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    summary = smoke.summary()
    (matrix,) = summary["loss"].values()
    records = {record["cell"]["setting"]: record["results"] for record in smoke.records()}
    assert list(matrix) == list(records)
    for source in matrix:
        assert matrix[source][source]["mean"] == 0
        for target in matrix:
            loss = records[target]["judged"][target] - records[source]["judged"][target]
            assert matrix[source][target]["mean"] == pytest.approx(loss)
        lengths = np.array([end["mean"] for end in summary["gradient"][source].values()])
        assert 0 < np.linalg.norm(lengths) <= 1 + 1e-6
    assert {path.name for path in smoke.folder.glob("*.png")} == {"gradient.png", "carry_over.png"}


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("harness.scoring.fit_pair") == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--tasks", "vidoe"), "did you mean: video"),
        (("--quantile", "0"), "--quantile in (0, 1]"),
        (("--top", "0"), "--top"),
    ],
)
def test_bad_input(refused: Callable[..., str], options: tuple[str, ...], expected: str) -> None:
    assert expected in refused(*options)
