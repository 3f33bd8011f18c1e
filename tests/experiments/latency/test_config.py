"""Options of search_latency.py: lists, names of baselines, smoke sizes, errors."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest
from latency.config import make_config

from ncp_jax.checks import UsageError

OPTIONS: dict[str, Any] = {
    "codes": (4096, 16384),
    "steps": 70,
    "precision": ("float32",),
    "against": (),
    "repeats": 7,
    "predictor": "ncp",
}


def config(**changes: Any) -> Any:
    return make_config(**OPTIONS | changes)


@pytest.fixture
def torch_there(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object() if request.param else None)


def test_lists_may_be_written_with_spaces_or_commas() -> None:
    assert config(codes=("8,16", 8, " 32 ")).codes == (8, 16, 32)
    assert config(codes=("8", "16", "32")) == config(codes=(8, 16, 32)) == config(codes=("8,16,32",))
    assert config(precision=("BFloat16,float32",)).precisions == ("bfloat16", "float32")


def test_baselines_are_timed_beside_float32_or_the_first_precision() -> None:
    assert config(precision=("bfloat16", "float32")).baseline_precision == "float32"
    assert config(precision=("bfloat16",)).baseline_precision == "bfloat16"


@pytest.mark.parametrize("torch_there", [True], indirect=True)
def test_names_of_the_baselines(torch_there: None) -> None:
    assert config(against=("loop,torch",)).baselines == ("torch-authors", "loop-torch")
    assert config(against=("torch",)).baselines == ("torch-authors",)
    assert config(against=("torch-folded,torch",)).baselines == ("torch-authors", "torch-folded")


@pytest.mark.parametrize("torch_there", [False], indirect=True)
def test_without_torch_the_loop_runs_in_jax_and_torch_is_refused(torch_there: None) -> None:
    assert config(against=("loop",)).baselines == ("loop-jax",)
    with pytest.raises(UsageError, match=r'expected PyTorch, for --against torch, got none installed; pip install "\.'):
        config(against=("loop", "torch"))


def test_a_smoke_run_is_small() -> None:
    small = config(codes=(4096, 16384), smoke=True)
    assert (small.codes, small.steps, small.repeats) == ((64,), 3, 2)
    assert config(codes=(8,), steps=1, repeats=1, smoke=True).codes == (8,)


@pytest.mark.parametrize("smoke", [False, True])
@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"codes": (4096, 0)}, "expected --codes to be an integer 1 or more, got 0; try --codes 4096"),
        ({"codes": ("4096,-3",)}, "expected --codes to be an integer 1 or more, got -3; try --codes 4096"),
        ({"codes": ("many",)}, "expected --codes to be an integer 1 or more, got 'many'; try --codes 4096"),
        ({"codes": ()}, "expected --codes with at least one value, got none; try --codes 4096"),
        ({"precision": (",",)}, "expected --precision with at least one value, got none; try --precision float32"),
        ({"steps": 0}, "expected --steps to be an integer 1 or more, got 0; try --steps 70"),
        ({"repeats": 0}, "expected --repeats to be an integer 1 or more, got 0; try --repeats 7"),
        ({"precision": ("float32,float23",)}, "expected a known precision, got 'float23'; did you mean: float32"),
        ({"against": ("troch",)}, "expected a known rival, got 'troch'; did you mean: torch"),
        ({"predictor": "shiped"}, "expected a known predictor, got 'shiped'; did you mean: shipped"),
    ],
)
def test_errors(wrong: dict[str, Any], text: str, smoke: bool) -> None:
    with pytest.raises(UsageError) as caught:
        config(**wrong, smoke=smoke)
    assert str(caught.value).startswith(text)
