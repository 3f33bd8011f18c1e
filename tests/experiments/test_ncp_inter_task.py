"""experiments/ncp_inter_task.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Smoke

SCRIPT = "ncp_inter_task.py"
# A smoke run waits for its times, however slow the machine: shares of them are not tested.
OPTIONS = (
    *("--smoke", "--seeds", "1", "--benchmarks", "digits", "--methods", "evolution,nsga2,optuna-nsga2"),
    *("--seconds", "0.5", "1"),
)


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    assert {path.name for path in smoke.folder.glob("*.png")} == {"inter_task_digits.png"}
    summary = smoke.summary()
    digits = summary["benchmarks"]["digits"]
    assert digits["tasks"] == ["class", "rotation", "jigsaw", "autoencoder", "edges"]
    assert list(digits["methods"]) == ["inversion", "evolution", "nsga2", "optuna-nsga2"]
    assert set(digits["sets"]) == {"single-task", "table", "exhaustive"}
    assert set(digits["against"]["evolution"]) == {"0.5", "1"}
    # The table's own front is the largest that there is; no answer is off the table.
    best = digits["sets"]["table"]["judged"]["mean"]
    assert 0 < best <= 1
    for by_mark in digits["methods"].values():
        assert 0 <= by_mark["1"]["judged"]["mean"] <= best
        assert by_mark["1"]["seconds"]["mean"] <= 1
    assert digits["most_of_budget"] <= 1


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("inter_task.cell.run_cell") == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--benchmarks", "micros"), "did you mean: micro"),
        (("--methods", "nsga3"), "did you mean: nsga2"),
        (("--benchmarks", "digits", "--weights", "3"), "--weights"),
        (("--benchmarks", "digits", "--rows", "3"), "--rows"),
        (("--benchmarks", "digits", "--weights", "0"), "--weights"),
        (("--seconds", "2", "1"), "ascending"),
        (("--members", "0"), "--members"),
        (("--clock", "cpus"), "did you mean: cpu"),
    ],
)
def test_bad_input(refused: Callable[..., str], options: tuple[str, ...], expected: str) -> None:
    assert expected in refused("--smoke", *options)
