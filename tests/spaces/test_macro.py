from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.spaces.transnas_macro import TRANSNAS_MACRO


def test_legal_codes_are_those_of_the_published_table(zipped):
    table = zipped("tnb101_macro_zen.zip", "class_scene")
    padded = {arch + (0,) * (6 - len(arch)) for arch in table}
    assert len(padded) == 3256
    assert padded == {tuple(code) for code in TRANSNAS_MACRO.all_codes().tolist()}


def test_every_code_can_be_reached_by_edits():
    codes = TRANSNAS_MACRO.all_codes()
    candidates, valid = TRANSNAS_MACRO.neighbours(codes)
    places = np.asarray(TRANSNAS_MACRO.index(candidates))
    assert ((places >= 0) == np.asarray(valid)).all()
    reached = np.zeros(len(codes), bool)
    reached[0] = True
    for _ in range(20):
        new = places[reached]
        reached[new[new >= 0]] = True
    assert reached.all()


def test_strings_by_hand():
    assert TRANSNAS_MACRO.from_string("64-1234-basic").tolist() == [1, 2, 3, 4, 0, 0]
    assert TRANSNAS_MACRO.to_string([4, 1, 1, 1, 1, 2]) == "64-411112-basic"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("64-123-basic", "not 64-<4 to 6 digits>-basic"),
        ("64-1234567-basic", "not 64-<4 to 6 digits>-basic"),
        ("64-1230-basic", "with module 0"),
        ("64-1235-basic", r"with 5 where position 3 \(module 4\) to be one of 1, 2, 3, 4"),
        ("64-1111-basic", r"with \[1, 1, 1, 1, 0, 0\] with 0 and 0 where 4 to 6 modules"),
        ("64-4444-basic", "with 4 and 4"),
    ],
)
def test_bad_strings(text, why):
    with pytest.raises(UsageError, match=why):
        TRANSNAS_MACRO.from_string(text)


@pytest.mark.parametrize("code", [[1, 2, 3, 4, 0, 1], [1, 1, 1, 3, 0, 0], [3, 3, 3, 3, 3, 2], [2, 2, 2, 2, 3, 0]])
def test_forbidden_combinations(code):
    assert not TRANSNAS_MACRO.is_valid(np.array(code))
    assert TRANSNAS_MACRO.index(np.array(code)) == -1
    with pytest.raises(UsageError, match="in code 0, 4 to 6 modules with zeros only at the end"):
        TRANSNAS_MACRO.check(code)


def test_projection_repairs_forbidden_combinations():
    """Many legal codes are one edit from 1,1,1,1 (no down-sampling, no doubling): the first of them is taken."""
    relaxed = TRANSNAS_MACRO.encode(np.array([1, 1, 1, 1, 0, 0]))
    code = np.asarray(TRANSNAS_MACRO.project(relaxed))
    assert code.tolist() == [1, 1, 1, 1, 4, 0]
