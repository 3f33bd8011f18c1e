"""Describes the space of FBNet as HELP and HW-NAS-Bench measured it: 22 layers, nine blocks each.

Sources: B. Wu et al. FBNet. CVPR 2019. arXiv:1812.03443, table 2; H. Lee et al. HELP. NeurIPS 2021. arXiv:2106.08630.
"""

from __future__ import annotations

from ncp_jax.spaces.description import SpaceDescription
from ncp_jax.spaces.positions import Position

LAYERS = 22
BLOCKS = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""Kernel, expansion and groups of an inverted residual block; the integer of a block is its place."""

FBNET = SpaceDescription("fbnet", tuple(Position(f"layer{i}", choices=BLOCKS) for i in range(1, LAYERS + 1)))
