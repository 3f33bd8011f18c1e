"""Defines the size space of NATS-Bench (Dong et al., TPAMI 2021, arXiv 2009.00437, section 3.1)."""

from __future__ import annotations

from ncp_jax.spaces.base import OrdinalSpace
from ncp_jax.spaces.registry import register

STAGES = 5
CHANNELS = tuple(range(8, 65, 8))


class SizeSpace(OrdinalSpace):
    """Channels of five stages, each 8, 16, …, 64; 32768 codes; strings like ``8:64:16:24:32``.

    The stages are a cell, a residual block that halves the resolution, a cell, another such block and a cell. All cells
    have the same operations.
    """

    def _format(self, code: list[int]) -> str:
        return ":".join(map(str, code))

    def _parse(self, text: str) -> list[int]:
        return self._numbers(text, text.split(":"))


NATS_SIZE = register(
    SizeSpace(
        name="nats-size",
        values=(CHANNELS,) * STAGES,
        position_names=tuple(f"stage {stage}" for stage in range(1, STAGES + 1)),
        example="64:64:64:64:64",
        aliases=("sss",),
        mark=":",
    )
)
