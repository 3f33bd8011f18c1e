"""experiments/ncp_cross_task.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import pytest
from transfer.cross_cells import Cells
from transfer.cross_config import Config

from ncp_jax.checks import UsageError

from .conftest import Smoke

SCRIPT = "ncp_cross_task.py"
OPTIONS = ("--smoke", "--spaces", "digits")


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    assert {path.name for path in smoke.folder.glob("*.png")} == {"matrix.png", "labels.png"}
    summary = smoke.summary()
    matrix, found = summary["matrix"]["digits"], summary["transfer"]["digits"]
    tasks = matrix["tasks"]
    assert len(tasks) == 3
    assert all(list(row) == tasks for row in matrix["percentile"].values())
    assert {kind: list(at) for kind, at in found["levels"]["predictor"].items()} == {
        "one": ["10", "20"],
        "all": ["10", "20"],
    }
    assert list(found["levels"]["scratch"]) == ["none"]
    for scheme in ("starts", "predictor"):
        assert {"labels", "better", "worse", "reached"} == set(found["aim"][scheme])
        assert f"digits {scheme}: with 20 labels" in smoke.out


def test_the_summary_is_made_from_the_records(smoke: Smoke) -> None:
    found = smoke.summary()["transfer"]["digits"]
    ranks = [
        record["results"]["all"]
        for record in smoke.records()
        if record["cell"].get("scheme") == "predictor" and record["cell"]["labels"] == 20
    ]
    assert np.shape(ranks) == (3, 2)
    assert found["levels"]["predictor"]["all"]["20"]["rank"]["mean"] == pytest.approx(np.mean(ranks))


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("transfer.cross_cells.Cells.run") == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--spaces", "micr"), "did you mean: micro"),
        (("--spaces", "digits", "--targets", "clas"), "did you mean: class"),
        (
            ("--spaces", "digits", "--targets", "class", "--sources", "class"),
            "sources other than the targets, got class",
        ),
        (("--spaces", "digits", "--labels", "9"), "--labels"),
        (("--spaces", "digits", "--labels", "501"), "--labels"),
        (("--spaces", "digits", "--ensembles", "0"), "--ensembles"),
        (("--spaces", "nas-bench-mr", "--targets", "seg"), "a space with complete tables"),
    ],
)
def test_bad_input(refused: Callable[..., str], options: tuple[str, ...], expected: str) -> None:
    assert expected in refused("--smoke", *options)


@pytest.mark.parametrize("option", ["source_labels", "source_budget"])
def test_no_more_of_a_source_than_there_is(option: str) -> None:
    with pytest.raises(UsageError, match=rf"--{option.replace('_', '-')} to be an integer in 1?0\.\.4096, got 5000"):
        Cells.of(dataclasses.replace(Config(spaces=("digits",)), **{option: 5000}))
