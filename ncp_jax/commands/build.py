"""Describes the network of a code (``ncp-jax build``); the library's function is ``networks.build``."""

from __future__ import annotations

import dataclasses

from tyro.conf import Positional

from ncp_jax.commands.command import JsonCommand


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build(JsonCommand):
    """Show what network a code denotes: its parameters and multiply-adds. Nothing is trained or downloaded.

    Attributes:
      code: Architecture string (quote it), or the code's integers or names separated by commas.
      space: Space of the code; needed where the integers are a code of several spaces.
      task: Task of the head: classification, segmentation, video, cls-50-1000, jigsaw, normal, cifar10, ...
      classes: Number of classes; by default that of the benchmark.
      side: Height and width of the images in pixels; by default that of the benchmark.
      summary: Print one line per stage instead of one line in all.
      notation: What integers or names of operations mean: ncp-jax, ops (names, for cells); in nas-bench-201 also naslib
        or nats-index.
    """

    code: Positional[str]
    space: str | None = None
    task: str | None = None
    classes: int | None = None
    side: int | None = None
    summary: bool = False
    notation: str = "ncp-jax"

    def run(self) -> None:
        """Prints the network's counts."""
        from ncp_jax.networks import build, describe, summarise
        from ncp_jax.spaces import find_code, get_space

        if self.space is None:
            space, code = find_code(self.code, self.notation)
        else:
            space = get_space(self.space)
            code = space.read(self.code, self.notation)
        network = build(space, code, self.task, classes=self.classes, abstract=True)
        result = summarise(network, self.side)
        self.show(result.to_json, lambda: describe(result, stages=self.summary))
