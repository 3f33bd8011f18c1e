"""Defines the space of NAS-Bench-MR: multi-resolution networks (Ding et al., arXiv 2103.13253, section 3)."""

from __future__ import annotations

import dataclasses

from ncp_jax.spaces.base import OrdinalSpace
from ncp_jax.spaces.registry import register

STAGES = (1, 2, 3, 4)  # stage k keeps k resolutions in parallel
COUNTS = tuple(range(1, 5))
CHANNELS = tuple(range(8, 129, 8))


def _layout() -> tuple[tuple[str, tuple[int, ...]], ...]:
    """Returns name and legal values of each of the 27 positions."""
    positions = [("input_channel[0]", CHANNELS), ("input_channel[1]", CHANNELS)]
    for stage in STAGES:
        positions.append((f"stage{stage}.num_blocks", COUNTS))
        positions += [(f"stage{stage}.num_convs[{branch}]", COUNTS) for branch in range(stage)]
        positions += [(f"stage{stage}.num_channels[{branch}]", CHANNELS) for branch in range(stage)]
    return (*positions, ("last_channel", CHANNELS))


@dataclasses.dataclass(frozen=True)
class MultiResolutionSpace(OrdinalSpace):
    """The full legal space of NAS-Bench-MR: counts 1..4, channels 8, 16, ..., 128; 2**80 codes.

    A code is ``input_channel[2]``, then for each stage k = 1..4 ``num_blocks, num_convs[k], num_channels[k]``, then
    ``last_channel``. A string writes the same numbers, the groups joined by "-" and the numbers of a group by "_".
    In it each stage also holds its branch count k, after ``num_blocks``.
    """

    def _format(self, code: list[int]) -> str:
        groups = [code[:2]]
        for start, end, stage in self._stages():
            groups.append([code[start], stage, *code[start + 1 : end]])
        groups.append(code[-1:])
        return "-".join("_".join(map(str, group)) for group in groups)

    def _parse(self, text: str) -> list[int]:
        groups = [self._numbers(text, group.split("_")) for group in text.split("-")]
        if len(groups) != len(STAGES) + 2:
            raise self._bad_string(text, f"with {len(groups)} groups where {len(STAGES) + 2} belong")
        sizes = [2, *(2 + 2 * stage for stage in STAGES), 1]
        for place, (group, size) in enumerate(zip(groups, sizes, strict=True)):
            is_stage = 0 < place <= len(STAGES)
            if is_stage and len(group) == size - 1:
                raise self._bad_string(text, f"without the branch count {place} after num_blocks in stage {place}")
            if len(group) != size:
                raise self._bad_string(text, f"with {len(group)} numbers in group {place} where {size} belong")
            if is_stage and group[1] != place:
                raise self._bad_string(text, f"with branch count {group[1]} in stage {place}, which has {place}")
        stages = [number for group in groups[1:-1] for number in (group[0], *group[2:])]
        return [*groups[0], *stages, *groups[-1]]

    def _stages(self) -> list[tuple[int, int, int]]:
        """Returns first position, end and branch count of each stage."""
        spans, start = [], 2
        for stage in STAGES:
            spans.append((start, start + 1 + 2 * stage, stage))
            start += 1 + 2 * stage
        return spans


NAS_BENCH_MR = register(
    MultiResolutionSpace(
        name="nas-bench-mr",
        values=tuple(values for _, values in _layout()),
        position_names=tuple(name for name, _ in _layout()),
        example="64_64-2_1_2_64-2_2_2_2_64_64-2_3_2_2_2_64_64_64-2_4_2_2_2_2_64_64_64_64-64",
        aliases=("mr",),
        mark="_",
    )
)
