"""Holds the settings of the training of a controllable model and checks them."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

from ncp_jax import checks
from ncp_jax.controllable.settings import RESIDUAL, SearchOptions, SizeOptions, TrainOptions

if TYPE_CHECKING:
    from ncp_jax.controllable.config import ModelConfig
    from ncp_jax.controllable.program import TrainConfig
    from ncp_jax.controllable.search import SearchConfig
    from ncp_jax.controllable.tasks import Examples

DIGITS, DIGITS_AND_JIGSAW = "digits", "digits+jigsaw"


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataOptions:
    """The data, and the sizes that are given once for each stage or ratio.

    Attributes:
      data: Either digits (scikit-learn's images with four tasks) or digits+jigsaw (with a fifth), or an npz file with
        images and an array for each task (NAME.classes, NAME.labels, NAME.pixels, NAME.jigsaw or NAME.jigsaw3).
      smoke: Train a tiny model for a few steps, in seconds; its metrics mean nothing.
      channels: Channels of an encoder stage at full width, once for each stage; by default 8, 16 and 24. Of a TransNAS
        encoder only the stem's are given, by default 8; of a nas-bench-mr encoder none.
      strides: 1 or 2 for each stage, by which it reduces height and width, once for each stage; by default 1, then 2.
        Of encoders with an architecture only the stem's is given, 1 (default), 2 or 4.
      ratios: Width that each stage and decoder can take, as a share of its channels. Repeated, rising to 1; by default
        0.25, 0.5, 0.75 and 1.
    """

    data: str = DIGITS
    smoke: bool = False
    channels: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    ratios: tuple[float, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class WidthsConfig(SearchOptions, TrainOptions, SizeOptions, DataOptions):
    """What is trained, and how. The help shows the options of the last base first.

    Attributes:
      seed: Random seed.
    """

    seed: int = 0

    def __post_init__(self) -> None:
        checks.integer("--seed", self.seed, least=0, most=2**31 - 1, remedy="try --seed 0")
        if self.smoke:
            small: dict[str, Any] = {"decoder": 4, "ratios": (0.5, 1.0), "steps": 20}
            small |= {"batch": 16, "sample": 24, "audit": 24}
            if self.encoder.lower() == RESIDUAL:
                small |= {"channels": (4, 8), "strides": (1, 2)}
            for name, value in small.items():
                object.__setattr__(self, name, value)

    def _options(self, kind: type) -> dict[str, Any]:
        return {field.name: getattr(self, field.name) for field in dataclasses.fields(kind)}

    def model(self, examples: Examples) -> ModelConfig:
        """Returns the sizes of the model; UsageError for illegal ones."""
        from ncp_jax.controllable.config import ModelConfig

        side, colours = examples.images.shape[1], examples.images.shape[3]
        names = ("channels", "strides", "ratios")
        encoder = {name: getattr(self, name) for name in names if getattr(self, name) != ()}
        return ModelConfig(side, colours, examples.kinds, **encoder, **self._options(SizeOptions))

    def train(self) -> TrainConfig:
        """Returns the settings of the training; UsageError for illegal ones."""
        from ncp_jax.controllable.program import TrainConfig

        return TrainConfig(**self._options(TrainOptions), segment=10 if self.smoke else 100)

    def search(self) -> SearchConfig:
        """Returns the settings of the search for answers; UsageError for illegal ones."""
        from ncp_jax.controllable.search import SearchConfig

        if not self.smoke:
            return SearchConfig(**self._options(SearchOptions))
        search = SearchConfig(**self._options(SearchOptions), budgets=2, preferences=8, codes=32, steps=4)
        recipe = dataclasses.replace(search.recipe, widths=(8,), epochs=2, min_steps=0)
        return dataclasses.replace(search, members=2, recipe=recipe)
