from __future__ import annotations

import pickle
import sys
from typing import Any

import numpy as np
import pytest

from ncp_jax import checks


@pytest.mark.parametrize("kind", [checks.UsageError, checks.DataError, checks.MissingError])
def test_an_error_says_what_was_expected_found_and_to_do(kind: type[Exception]) -> None:
    error = kind(expected="a budget of 2 or more", got="1", remedy="give a larger --budget")  # type: ignore[call-arg]
    assert str(error) == "expected a budget of 2 or more, got 1; give a larger --budget"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(kind("the whole text")) == "the whole text"


def test_kinds_of_errors() -> None:
    assert issubclass(checks.UsageError, ValueError)
    assert issubclass(checks.DataError, ValueError)
    assert issubclass(checks.MissingError, FileNotFoundError)


@pytest.mark.parametrize("value", [1, 5, np.int32(3)])
def test_integers_in_range(value: object) -> None:
    found = checks.integer("n", value, least=1, most=5)
    assert found == value
    assert type(found) is int


@pytest.mark.parametrize("value", [0, 6, 1.0, True, "3", None, np.nan])
def test_integers_out_of_range_and_other_things(value: object) -> None:
    with pytest.raises(checks.UsageError, match=r"expected n to be an integer in 1\.\.5, got .*; give another n"):
        checks.integer("n", value, least=1, most=5)
    if value != 6:
        with pytest.raises(checks.UsageError, match=r"n to be an integer 1 or more, got .*; take more"):
            checks.integer("n", value, least=1, remedy="take more")


@pytest.mark.parametrize("value", [10**400, -(10**400), float("inf"), float("nan"), "1", None])
def test_a_positive_number_is_one_that_float64_holds(value: Any) -> None:
    with pytest.raises(checks.UsageError, match="seconds to be a number > 0"):
        checks.positive("seconds", value)
    checks.positive("seconds", 10**300)


def test_zero_is_a_limit_too() -> None:
    with pytest.raises(checks.UsageError, match=r"in -3\.\.0, got 1"):
        checks.integer("n", 1, least=-3, most=0)


def test_choices_among_any_number_of_names_of_any_length() -> None:
    names = [f"column {number}" for number in range(100_000)] + ["x" * 100_000]
    assert checks.choose("column", "COLUMN 99999", names) == "column 99999"
    for wanted in ("columm 1", "nothing like it", "y" * 100_000):
        with pytest.raises(checks.UsageError) as caught:
            checks.choose("column", wanted, names)
        assert len(str(caught.value)) < 20_000


def test_a_module_that_is_not_installed_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    assert checks.optional_module("json.decoder", what="json", extra="json").__name__ == "json.decoder"
    monkeypatch.setitem(sys.modules, "onnx", None)
    install = 'expected onnx, to write its files, got none installed; pip install "ncp-jax[onnx]"'
    for instead, more in (("", ""), ("use .npz", ", or use .npz")):
        with pytest.raises(checks.UsageError) as caught:
            checks.optional_module("onnx", what="onnx, to write its files", extra="onnx", instead=instead)
        assert str(caught.value) == install + more
