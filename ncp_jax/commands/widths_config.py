"""Holds the settings of the training of a controllable model and checks them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from ncp_jax import checks

if TYPE_CHECKING:
    from ncp_jax.controllable.config import ModelConfig
    from ncp_jax.controllable.program import TrainConfig
    from ncp_jax.controllable.search import SearchConfig
    from ncp_jax.controllable.tasks import Examples

DIGITS = "digits"


@dataclasses.dataclass(frozen=True)
class WidthsConfig:
    """What is trained, and how.

    Attributes:
      data: Either digits (scikit-learn's images with four tasks), or an npz file with images and an array for each task
        (NAME.classes, NAME.labels or NAME.pixels).
      smoke: Train a tiny model for a few steps, in seconds; its metrics mean nothing.
      channels: Channels of an encoder stage at full width, once for each stage; by default 8, 16 and 24.
      strides: 1 or 2 for each stage, by which it reduces height and width, once for each stage; by default 1, then 2.
      decoder: Channels of each decoder at full width.
      ratios: Width that each stage and decoder can take, as a share of its channels. Repeated, rising to 1; by default
        0.25, 0.5, 0.75 and 1.
      multiple: Number that all widths are multiples of.
      norm: Normalisation: group, layer, or batch (statistics measured for each width configuration).
      steps: Gradient steps.
      batch: Images for each step.
      sampled: Width configurations for each step: the full one, the smallest, random ones.
      rate: Peak of the learning rate.
      in_place: Share of the full width's outputs in the targets of the smaller ones, 0 to 1.
      ci_kd: Weight of the configuration-invariant distillation of the encoder's features; 0 for none.
      balance: Weights of the tasks' losses: fixed, uncertainty, or rates (GradNorm-like).
      precision: Precision of the network: auto, float32 or bfloat16.
      sample: Width configurations that predictors of the tasks' metrics learn from.
      audit: Width configurations that are measured of those that the predictors propose.
      seed: Random seed.
    """

    data: str = DIGITS
    smoke: bool = False
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    decoder: int = 16
    ratios: tuple[float, ...] = ()
    multiple: int = 2
    norm: str = "group"
    steps: int = 1500
    batch: int = 64
    sampled: int = 4
    rate: float = 5e-3
    in_place: float = 0.5
    ci_kd: float = 0.5
    balance: str = "uncertainty"
    precision: str = "auto"
    sample: int = 256
    audit: int = 512
    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer("--seed", self.seed, least=0, most=2**31 - 1, remedy="try --seed 0")
        if self.smoke:
            small = {"channels": (4, 8), "strides": (1, 2), "decoder": 4, "ratios": (0.5, 1.0), "steps": 20}
            small |= {"batch": 16, "sample": 24, "audit": 24}
            for name, value in small.items():
                object.__setattr__(self, name, value)

    def model(self, examples: Examples) -> ModelConfig:
        """Returns the sizes of the model; UsageError for illegal ones."""
        from ncp_jax.controllable.config import ModelConfig

        side, colours = examples.images.shape[1], examples.images.shape[3]
        shared = ("channels", "strides", "decoder", "ratios", "multiple", "norm")
        given = {name: getattr(self, name) for name in shared if getattr(self, name) != ()}
        return ModelConfig(side, colours, examples.kinds, **given)

    def train(self) -> TrainConfig:
        """Returns the settings of the training; UsageError for illegal ones."""
        from ncp_jax.controllable.program import TrainConfig

        shared = ("steps", "batch", "sampled", "rate", "in_place", "ci_kd", "balance", "precision")
        return TrainConfig(**{name: getattr(self, name) for name in shared}, segment=10 if self.smoke else 100)

    def search(self) -> SearchConfig:
        """Returns the settings of the search for answers; UsageError for illegal ones."""
        from ncp_jax.controllable.search import SearchConfig

        if not self.smoke:
            return SearchConfig(sample=self.sample, audit=self.audit)
        search = SearchConfig(sample=self.sample, audit=self.audit, budgets=2, preferences=8, codes=32, steps=4)
        recipe = dataclasses.replace(search.recipe, widths=(8,), epochs=2, min_steps=0)
        return dataclasses.replace(search, members=2, recipe=recipe)
