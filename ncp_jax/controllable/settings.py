"""Defines the settings that the library and the options of ``ncp-jax widths train`` share. Imports no JAX."""

from __future__ import annotations

import dataclasses

RESIDUAL = "residual"  # the default encoder


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizeOptions:
    """Sizes of a controllable model, but those of its encoder's stages.

    Attributes:
      encoder: Shared encoder: residual, or an architecture as transnas-micro:CODE, transnas-macro:CODE or
        nas-bench-mr:CODE.
      decoder: Channels of each decoder at full width.
      multiple: Number that all widths are multiples of; shares of the channels are rounded up to it.
      norm: Normalisation: group (groups of MULTIPLE channels), layer (all active channels of a pixel) or batch
        (statistics measured for each width configuration).
    """

    encoder: str = RESIDUAL
    decoder: int = 16
    multiple: int = 2
    norm: str = "group"


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Settings of the training that users choose.

    Attributes:
      steps: Gradient steps.
      batch: Images for each step, drawn with replacement.
      sampled: Width configurations for each step: the full one, the smallest, random ones.
      rate: Peak of the learning rate of AdamW, which rises over a tenth of the steps and falls as a cosine.
      in_place: Share of the full width's outputs in the targets of the smaller ones, 0 to 1.
      ci_kd: Weight of the configuration-invariant distillation of the encoder's features; 0 for none.
      balance: Weights of the tasks' losses: fixed (equal), uncertainty (learned; Kendall et al., CVPR 2018) or rates
        (by how far each loss has fallen, as GradNorm, Chen et al., ICML 2018, without its norms of gradients).
      precision: Precision of the network: float32, bfloat16, or auto (bfloat16 on accelerators).
    """

    steps: int = 15_000
    batch: int = 16
    sampled: int = 4
    rate: float = 5e-3
    in_place: float = 0.5
    ci_kd: float = 0.5
    balance: str = "uncertainty"
    precision: str = "auto"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SearchOptions:
    """Settings of the search for answers that users choose.

    Attributes:
      sample: Width configurations that predictors of the tasks' metrics learn from.
      audit: Width configurations that are measured of those that the predictors propose.
    """

    sample: int = 256
    audit: int = 512
