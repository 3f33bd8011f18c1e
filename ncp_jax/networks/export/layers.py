"""Names the layers of a network as its exported files name them, and finds each layer's variables.

Exported modules have the structure of ours: a name is a path of attributes, with the same words in both frameworks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from flax import nnx

from ncp_jax import checks
from ncp_jax.networks.blocks import BasicBlock, Chain, PooledShortcut
from ncp_jax.networks.cells import AveragePool, Cell, FactorizedReduction, Skip
from ncp_jax.networks.digits import DigitsHead, DigitsReduction
from ncp_jax.networks.heads import BranchClassifier, BranchDetector, BranchSegmenter, Classifier, Decoder, DecoderLayer
from ncp_jax.networks.layers import BatchNorm, ConvBatchNorm, Convolution, Linear
from ncp_jax.networks.multi_resolution import Fusion, ResidualBlock, Stage, Stem
from ncp_jax.networks.network import Network
from ncp_jax.spaces.cells import EDGES

Leaf = Convolution | Linear | BatchNorm
Children = list[tuple[str, Any]]


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer with weights.

    Attributes:
      path: attributes that lead to it; "#" stands before its place in a sequence of modules.
      module: the layer in our network.
    """

    path: str
    module: Leaf

    @property
    def torch(self) -> str:
        """Its name in the PyTorch module."""
        return self.path.replace("#", "")

    @property
    def flax(self) -> str:
        """Its name in the Flax module, whose sequences keep their modules in ``layers``."""
        return self.path.replace("#", "layers.")


def stage_attribute(name: str) -> str:
    """Returns the attribute of a stage: "module1" for "module 1"."""
    return name.replace(" ", "")


def edge_attribute(place: int) -> str:
    """Returns the attribute of an edge of a cell, by its place in ``EDGES``: "edge01"."""
    return "edge{}{}".format(*EDGES[place])


def head_attributes(head: DigitsHead) -> tuple[str, ...]:
    """Returns the attributes of a digits head's layers: the bottleneck, where there is one, and the last layer."""
    return ("bottleneck", "linear")[-len(head.layers) :]


def is_empty(module: Any) -> bool:
    """Returns whether an operation on an edge is absent, or has no weights."""
    return module is None or isinstance(module, Skip | AveragePool)


def _sequence(modules: Any) -> Children:
    return [(f"#{place}", module) for place, module in enumerate(modules)]


def _block(block: BasicBlock) -> Children:
    shortcut = block.shortcut
    inner = shortcut.convolution if isinstance(shortcut, PooledShortcut) else shortcut
    return [("first", block.first), ("second", block.second), *([] if inner is None else [("shortcut", inner)])]


def _cell(cell: Cell) -> Children:
    return [(edge_attribute(place), edge) for place, edge in enumerate(cell.edges) if not is_empty(edge)]


def _fusion(fusion: Fusion) -> Children:
    near = [(f"layers.{t}.{i}", layer) for t, layers in enumerate(fusion.layers) for i, layer in enumerate(layers)]
    return near + [(f"new.{i}", layer) for i, layer in enumerate(fusion.new)]


def _stage(stage: Stage) -> Children:
    found: Children = [(f"fusions.{i}", fusion) for i, fusion in enumerate(stage.fusions)]
    for i, parallel in enumerate(stage.branches):
        for j, blocks in enumerate(parallel):
            found += [(f"branches.{i}.{j}.{name}", block) for name, block in _sequence(blocks)]
    return found


def _decoder(decoder: Decoder) -> Children:
    return [(f"layers.{name}", layer) for name, layer in _sequence(decoder.layers)] + [("last", decoder.last)]


def _digits_head(head: DigitsHead) -> Children:
    return list(zip(head_attributes(head), head.layers, strict=True))


_CHILDREN: dict[type, Callable[[Any], Children]] = {
    ConvBatchNorm: lambda m: [("conv", m.convolution), ("norm", m.norm)],
    Chain: lambda m: _sequence(m.links),
    BasicBlock: _block,
    FactorizedReduction: lambda m: [("conv1", m.halves[0]), ("conv2", m.halves[1]), ("norm", m.norm)],
    Cell: _cell,
    Stem: lambda m: _sequence([m.first, m.second]),
    ResidualBlock: lambda m: [("first", m.first), ("second", m.second)],
    Fusion: _fusion,
    Stage: _stage,
    BranchClassifier: lambda m: [("join", m.join.layer), ("classifier", m.classifier)],
    BranchSegmenter: lambda m: [("join", m.join.layer), ("classifier", m.classifier)],
    BranchDetector: lambda m: [("join", m.join.layer), ("classifier", m.classifier)],
    Classifier: lambda m: [*([] if m.norm is None else [("norm", m.norm.norm)]), ("linear", m.linear)],
    DecoderLayer: lambda m: [("conv", m.convolution), ("norm", m.norm)],
    Decoder: _decoder,
    DigitsReduction: lambda m: [("layer", m.layer)],
    DigitsHead: _digits_head,
    Network: lambda m: [*((stage_attribute(name), m.stages[name]) for name in m.names), ("head", m.head)],
}


def layers(module: Any, path: str = "") -> Iterator[Layer]:
    """Yields the layers of a network with weights, in the order of the exported files.

    Raises:
      UsageError: the network has a module of another kind than the package's networks have.
    """
    if isinstance(module, Leaf):
        yield Layer(path, module)
        return
    if type(module) not in _CHILDREN:
        raise unknown(module)
    for name, child in _CHILDREN[type(module)](module):
        yield from layers(child, f"{path}.{name}" if path else name)


def unknown(module: Any) -> checks.UsageError:
    """Returns the error for a module that exports don't know."""
    return checks.UsageError(
        expected="a network made of the package's own modules",
        got=f"one with a {type(module).__name__}",
        remedy="write the file of a network of your own by hand",
    )


def variables(layer: Leaf) -> dict[str, nnx.Variable]:
    """Returns the variables of a layer by our names ("kernel", "bias", "scale", "mean", "var"), without absent ones."""
    names = ("scale", "bias", "mean", "var") if isinstance(layer, BatchNorm) else ("kernel", "bias")
    return {name: value for name in names if (value := getattr(layer, name)) is not None}
