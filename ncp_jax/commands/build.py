"""Describes the network of a code, and takes it out of the package (``ncp-jax build``); see ``networks.build``."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tyro.conf import Positional

from ncp_jax import checks
from ncp_jax.commands.command import JsonCommand, notify_written
from ncp_jax.console import say

if TYPE_CHECKING:
    from ncp_jax.networks import Network


@dataclasses.dataclass(frozen=True, kw_only=True)
class Build(JsonCommand):
    """Show what network a code denotes: its parameters and multiply-adds. Nothing is trained or downloaded.

    Attributes:
      code: Architecture string (quote it), or the code's integers or names separated by commas.
      space: Space of the code; needed where the integers are a code of several spaces.
      task: Task of the head: classification, segmentation, video, cls-50-1000, jigsaw, cifar10, digits/class, ...
      classes: Number of classes; by default that of the benchmark.
      side: Height and width of the images in pixels; by default that of the benchmark.
      summary: Print one line per stage instead of one line in all.
      notation: What integers or names of operations mean: ncp-jax, ops (names, for cells); in nas-bench-201 also naslib
        or nats-index.
      export: Write the network as a file that needs nothing of ncp-jax: torch or flax (source text), or onnx (with
        weights; needs the extra onnx).
      out: File of the export; without it, source text is printed.
      weights: Weights for onnx, a .safetensors or .npz file with the names of the exported PyTorch network; without it,
        they are random.
    """

    code: Positional[str]
    space: str | None = None
    task: str | None = None
    classes: int | None = None
    side: int | None = None
    summary: bool = False
    notation: str = "ncp-jax"
    export: Literal["torch", "flax", "onnx"] | None = None
    out: Path | None = None
    weights: Path | None = None

    def run(self) -> None:
        """Prints the network's counts; writes or prints its file."""
        from ncp_jax.networks import build, describe, summarise
        from ncp_jax.spaces import find_code, get_space

        self._check()
        if self.space is None:
            space, code = find_code(self.code, self.notation)
        else:
            space = get_space(self.space)
            code = space.read(self.code, self.notation)
        network = build(space, code, self.task, classes=self.classes, abstract=self.export != "onnx")
        result = summarise(network, self.side)
        if self.export is None:
            self.show(result.to_json, lambda: describe(result, stages=self.summary))
            return
        exported = self._export(network)
        source = exported.get("source", "").rstrip("\n")
        self.show(
            lambda: {**result.to_json(), "export": exported},
            lambda: source or describe(result, stages=self.summary),
        )
        if self.out is not None:
            notify_written([self.out])

    def _check(self) -> None:
        """Raises UsageError for options that do not go together."""
        if self.export is None and self.out is not None:
            raise checks.UsageError(
                expected="--export with --out", got="--out alone", remedy="add --export torch, flax or onnx"
            )
        if self.export == "onnx" and self.out is None:
            raise checks.UsageError(
                expected="--out with --export onnx", got="none", remedy="name the file: --out network.onnx"
            )
        if self.weights is not None and self.export != "onnx":
            raise checks.UsageError(
                expected="--weights with --export onnx",
                got=f"--export {self.export}" if self.export else "no --export",
                remedy="source files hold no weights: load them in the framework",
            )
        if self.out is not None and self.out.is_dir():
            raise checks.UsageError(
                expected="a file as --out", got=f"the folder {self.out}", remedy="name a file in it"
            )

    def _export(self, network: Network) -> dict[str, str]:
        """Writes the file, or returns its text as "source"."""
        from ncp_jax import files
        from ncp_jax.networks.export import export_onnx, export_source, import_weights

        assert self.export is not None
        if self.export == "onnx":
            assert self.out is not None
            if self.weights is None:
                say("the weights are random: give trained ones with --weights")
            else:
                import_weights(network, self.weights)
            return {"format": self.export, "path": str(export_onnx(network, self.out, side=self.side))}
        text = export_source(network, self.export, side=self.side)
        if self.out is None:
            return {"format": self.export, "source": text}
        return {"format": self.export, "path": str(files.atomic_write(files.user_path(self.out), text.encode()))}
