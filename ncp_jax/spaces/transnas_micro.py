"""Defines the micro space of TransNAS-Bench-101 (Duan et al., CVPR 2021, arXiv 2105.11871)."""

from __future__ import annotations

import re

from ncp_jax.spaces.cells import CellSpace
from ncp_jax.spaces.registry import register

OPS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3")


class TransNasMicroSpace(CellSpace):
    """TransNAS-Bench-101 micro: 4 operations, 4096 codes; strings like ``64-41414-1_02_333``.

    "64-41414" is the skeleton that all codes share: 64 base channels and the five modules around the cells.
    """

    def _format(self, code: list[int]) -> str:
        digits = "".join(map(str, code))
        return f"64-41414-{digits[0]}_{digits[1:3]}_{digits[3:]}"

    def _parse(self, text: str) -> list[int]:
        found = re.fullmatch(r"64-41414-([0-9])_([0-9]{2})_([0-9]{3})", text)
        if not found:
            raise self._bad_string(text, "which is not 64-41414-a_bc_def with one digit per edge")
        return [int(digit) for digit in "".join(found.groups())]


TRANSNAS_MICRO = register(
    TransNasMicroSpace.of(
        "transnas-micro",
        OPS,
        example="64-41414-1_02_333",
        aliases=("micro", "transnas-bench-101-micro"),
        mark="41414",
    )
)
