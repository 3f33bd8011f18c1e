"""Codes as people write them, and the space they mean."""

from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.spaces import SPACES, find_code


@pytest.mark.parametrize("space", SPACES.values(), ids=SPACES)
def test_a_string_says_its_space(space) -> None:
    code = space.from_string(space.example)
    found, read = find_code(f" {space.example}")
    assert found is space
    np.testing.assert_array_equal(read, code)
    np.testing.assert_array_equal(space.read(", ".join(map(str, code))), code)


def test_integers_say_their_space_where_they_fit_one() -> None:
    mr = SPACES["nas-bench-mr"]
    assert find_code(",".join(map(str, mr.from_string(mr.example))))[0] is mr
    assert find_code("4,0,0,0,0,0")[0].name == "nas-bench-201"


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        (
            "1,2,3,4,0,0",
            "a code of one space, got '1,2,3,4,0,0', a code of nas-bench-201, transnas-macro; give --space",
        ),
        ("9,9,9,9,9,9", "integers with commas between them .27 of nas-bench-mr"),
        ("1,b", "integers with commas between them"),
        ("64-1111-basic", "0 and 0 where 4 to 6 modules"),
        ("64-41414-9_00_000", "position 0 .edge 0>1. to be one of"),
        ("|none~0|", "architecture string of nas-bench-201"),
        ("8_8-1", "architecture string of nas-bench-mr"),
        ("hello", "expected an architecture string, got 'hello'; right ones: 64_64-"),
        ("", "expected an architecture string, got ''"),
    ],
)
def test_what_is_no_code_of_one_space(text: str, pattern: str) -> None:
    with pytest.raises(UsageError, match=pattern) as caught:
        find_code(text)
    assert "\n" not in str(caught.value)
