"""Described spaces for tests: a small product, one with conditions and forbidden combinations, one of 10**15 codes."""

from __future__ import annotations

from ncp_jax.spaces.constrained import make_space
from ncp_jax.spaces.described import DescribedSpace
from ncp_jax.spaces.description import SpaceDescription
from ncp_jax.spaces.positions import Position

PRODUCT = SpaceDescription(
    "tests-product",
    (
        Position("depth", values=(2, 3, 4)),
        Position("kernel", choices=("3x3", "5x5", "7 x 7")),
        Position("rate", real=(0.001, 0.1), log=True, levels=5, unit="1/s"),
        Position("skip", boolean=True),
        Position("width", range=(16, 32), step=8),
    ),
)
CONSTRAINED = SpaceDescription(
    "tests-constrained",
    (
        Position("stages", values=(2, 3, 4)),
        Position("kernel4", choices=("3x3", "5x5", "7x7"), only_if="stages >= 4"),
        Position("rate", real=(0.0001, 0.1), log=True, levels=6),
        Position("sub", boolean=True, only_if="kernel4 in ['5x5', '7x7']"),
        Position("width", range=(16, 40), step=8),
    ),
    ("kernel4 == '7x7' and rate > 0.02", "width * stages > 130 or (stages == 2 and width <= 16)"),
)
LARGE = SpaceDescription(
    "tests-large",
    (
        Position("stages", values=(1, 2, 3, 4)),
        *(
            Position(f"width{stage}", range=(8, 128), step=8, **({"only_if": f"stages > {stage}"} if stage else {}))
            for stage in range(4)
        ),
        *(Position(f"kernel{stage}", choices=("1x1", "3x3", "5x5")) for stage in range(4)),
        *(Position(f"drop[{place}]", values=(0, 0.1, 0.2, 0.5)) for place in range(4)),
        Position("rate", real=(1e-5, 1), log=True, levels=64),
        Position("decay", real=(0, 1), levels=11),
        Position("momentum", real=(0, 1), levels=31),
        Position("warmup", range=(0, 300), step=10),
        Position("norm", boolean=True),
    ),
    (
        *(f"kernel{stage} == '5x5' and width{stage} > 96" for stage in range(4)),
        "width0 + width1 > 200",
        "rate > 0.1 and decay > 0.5",
    ),
)
DESCRIPTIONS = (PRODUCT, CONSTRAINED, LARGE)
DESCRIBED: dict[str, DescribedSpace] = {description.name: make_space(description) for description in DESCRIPTIONS}
