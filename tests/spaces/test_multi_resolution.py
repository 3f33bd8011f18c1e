from __future__ import annotations

import numpy as np
import pytest

from ncp_jax.checks import UsageError
from ncp_jax.spaces.multi_resolution import NAS_BENCH_MR


def test_layout():
    names = NAS_BENCH_MR.position_names
    assert names[:5] == (
        "input_channel[0]",
        "input_channel[1]",
        "stage1.num_blocks",
        "stage1.num_convs[0]",
        "stage1.num_channels[0]",
    )
    starts = {5: "stage2.num_blocks", 10: "stage3.num_blocks", 14: "stage3.num_channels[0]", 17: "stage4.num_blocks"}
    assert {place: names[place] for place in starts} == starts
    assert names[22] == "stage4.num_channels[0]"
    assert names[26] == "last_channel"
    channels = {0, 1, 4, 8, 9, 14, 15, 16, 22, 23, 24, 25, 26}
    for place, values in enumerate(NAS_BENCH_MR.values):
        assert values == (tuple(range(8, 129, 8)) if place in channels else (1, 2, 3, 4))


def test_every_published_string_round_trips(mirror):
    lines = (mirror / "ncp" / "search_list.txt").read_text().split()
    assert len(lines) == 2511
    codes = NAS_BENCH_MR.from_strings(lines)
    assert NAS_BENCH_MR.to_strings(codes) == lines
    assert NAS_BENCH_MR.is_valid(codes).all()


def test_published_codes_are_those_of_the_strings(mirror, pickled):
    lines = (mirror / "ncp" / "search_list.txt").read_text().split()
    known = {tuple(code) for code in NAS_BENCH_MR.from_strings(lines).tolist()}
    rows = pickled("seg")
    assert len(rows) == 2507
    assert all(tuple(row["embedding"]) in known for row in rows)


RIGHT = "96_128-1_1_1_48-1_2_1_1_128_8-2_3_1_2_3_8_16_24-4_4_1_2_3_4_8_16_24_32-64"


def test_string_by_hand():
    code = [96, 128, 1, 1, 48, 1, 1, 1, 128, 8, 2, 1, 2, 3, 8, 16, 24, 4, 1, 2, 3, 4, 8, 16, 24, 32, 64]
    assert NAS_BENCH_MR.from_string(RIGHT).tolist() == code
    assert NAS_BENCH_MR.to_string(code) == RIGHT


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("1_2_1_1_128_8", "1_1_1_128_8", "without the branch count 2 after num_blocks in stage 2"),
        ("1_2_1_1_128_8", "1_3_1_1_128_8", "branch count 3 in stage 2, which has 2"),
        ("1_2_1_1_128_8", "1_2_1_1_128", "without the branch count 2|numbers in group 2"),
        ("1_2_1_1_128_8", "1_2_1_1_128_8_8", "7 numbers in group 2 where 6 belong"),
        ("-64", "", "5 groups where 6 belong"),
        ("96_128", "96", "1 numbers in group 0 where 2 belong"),
        ("96_128", "96_129", r"129 where position 1 \(input_channel\[1\]\) to be one of 8, 16, ..., 128"),
        ("96_128", "96_x", "'x' where a number belongs"),
        ("96_128", "96_-8", "'' where a number belongs"),
    ],
)
def test_bad_strings(old, new, why):
    with pytest.raises(UsageError, match=why):
        NAS_BENCH_MR.from_string(RIGHT.replace(old, new))


def test_ties_go_to_the_lower_value():
    middle = NAS_BENCH_MR.lower + np.where(NAS_BENCH_MR.upper == 4, 0.5, 4.0)
    np.testing.assert_array_equal(NAS_BENCH_MR.project(middle), NAS_BENCH_MR.lower)
    np.testing.assert_array_equal(NAS_BENCH_MR.project(middle + 0.01)[:4], [16, 16, 2, 2])
