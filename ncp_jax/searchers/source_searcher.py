"""A base class for baselines of studies with source tasks, which get the evidence that Arch-Graph gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from ncp_jax.searchers.base import HostSearcher, choice, searcher_class
from ncp_jax.training.relations import RelationInputs, RelationRecipe
from ncp_jax.types import Float

if TYPE_CHECKING:
    from ncp_jax.searchers.arch_graph.sources import SourceTasks


@searcher_class
class SourceSearcher(HostSearcher):
    """A searcher that gets Arch-Graph's evidence about the sources, and learns no relations on the target.

    Attributes:
      members: number of networks in the ensemble of the sources' relation predictor.
      steps: number of gradient steps of its fit.
      encoder: its encoder, "code" or "graph".
      width: units of every layer.
    """

    runs_per_call: ClassVar[int] = 32

    members: int = choice(5, "networks in the ensemble of the sources' predictor")
    steps: int = choice(150, "gradient steps of the sources' predictor")
    encoder: str = choice("code", "encoder of the sources' predictor", options=("code", "graph"))
    width: int = choice(32, "units of every layer of the sources' predictor")

    def evidence(
        self, inputs: RelationInputs, seeds: Sequence[int], sources: SourceTasks | None
    ) -> Float[np.ndarray, "e n s"]:
        """Returns utilities on the sources, one variant for all runs or one per run; without sources s is 0."""
        recipe = RelationRecipe(encoder=self.encoder, width=self.width, members=self.members, steps=self.steps)
        known = None if sources is None else sources.learn(inputs, seeds, recipe)
        return np.zeros((1, len(inputs.nodes), 0), np.float32) if known is None else np.asarray(known.evidence)
