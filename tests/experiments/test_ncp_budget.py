"""experiments/ncp_budget.py: a smoke run, what it writes, how it goes on, how it fails."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from ncp_jax import load_table
from ncp_jax.spaces import cost_model_for, get_space

from .conftest import Smoke

SCRIPT = "ncp_budget.py"
OPTIONS = ("--smoke", "--tables", "digits/class")


def test_what_a_smoke_run_writes(smoke: Smoke) -> None:
    summary = smoke.summary()
    assert summary["over"] == 0
    assert summary["proposals"] == 2 * (3 * 4 + 2 * 24)
    (row,) = summary["budgets"]["digits/class"].values()
    table = load_table("digits/class")
    model = cost_model_for(get_space(table.space), table.metrics)
    assert model is not None
    (limit,) = row["limits"]
    assert row["within"] == (model.in_units(np.asarray(table.codes))["flops"] <= limit["value"]).sum()
    assert 0 < row["inversion"]["percentile"]["mean"] <= 100


def test_a_finished_run_is_only_summarised_again(smoke: Smoke, write_again: Callable[[str], dict]) -> None:
    first = smoke.content()
    assert write_again("few_labels.within.search_within") == first


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--limits", "gflop<=1"), "did you mean: gflops"),
        (("--limits", "gflops=1"), "METRIC<=NUMBER"),
        (("--limits", "params_m<=0.001", "params_m>=0.002"), "contradict"),
        (("--quantiles", "0"), "--quantiles in (0, 1]"),
        (("--quantiles", "0.0001"), "at least 120 of the 4096 architectures of digits/class"),
        (("--device", "fpgaa"), "did you mean: fpga"),
        (("--samples", "2"), "--samples"),
    ],
)
def test_bad_input(refused: Callable[..., str], options: tuple[str, ...], expected: str) -> None:
    assert expected in refused("--tables", "digits/class", *options)
