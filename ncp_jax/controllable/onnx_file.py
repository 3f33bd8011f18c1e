"""Writes a sub-network as an ONNX graph, node by node, with images and outputs of pixels as in PyTorch."""

from __future__ import annotations

import collections
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from flax import nnx

from ncp_jax import checks
from ncp_jax.controllable.blocks import ConvNorm
from ncp_jax.controllable.decoders import ClassDecoder, JigsawDecoder, PixelDecoder
from ncp_jax.controllable.encoders import multi_resolution, residual, transnas
from ncp_jax.controllable.layers import SlimConvolution, SlimNorm
from ncp_jax.controllable.model import ControllableModel
from ncp_jax.networks.export.onnx_graph import Features, OnnxGraph, OnnxValue, parallel_blocks
from ncp_jax.networks.layers import EPSILON
from ncp_jax.spaces.cells import EDGES

INPUT = "images"


def onnx_model(network: ControllableModel, weights: Mapping[str, np.ndarray]) -> bytes:
    """Returns the content of an ONNX file: input "images" [n, colours, side, side], an output for each task.

    Args:
      network: the sub-network.
      weights: its weights by their names and in the layouts of PyTorch, and its statistics of BatchNorm.

    Raises:
      UsageError: onnx is not installed, or a task has the name of the input.
    """
    graph, config = _Graph(network, weights), network.config
    if any(target.name == INPUT for target in config.targets):
        raise checks.UsageError(
            expected=f"tasks of other names than {INPUT} for --to onnx, whose input has it",
            got=f"a task {INPUT}",
            remedy="take --to torch or flax, or rename the task in the data",
        )
    sides = (config.side, config.side)
    images, outputs = Features(INPUT, sides), []
    features = graph.encode(images)
    for decoder, target in zip(network.decoders, config.targets, strict=True):
        graph.apply(decoder, graph.encode(graph.tiles(images, target.grid)) if target.grid else features)
        graph.name_output(target.name)
        pixels = sides if target.kind in ("labels", "pixels") else ()
        outputs.append(OnnxValue(target.name, ["n", target.outputs, *pixels]))
    facts = {"widths": ", ".join(map(str, network.widths or ()))}
    return graph.content(OnnxValue(INPUT, ["n", config.colours, *sides]), outputs, facts)


class _Graph(OnnxGraph):
    """The graph of one sub-network, in which its layers have their names there."""

    def __init__(self, network: ControllableModel, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(weights)
        self.network = network
        self._names = {id(module): ".".join(map(str, path)) for path, module in nnx.iter_modules(network)}
        self._passes = collections.Counter[str]()

    def name_of(self, layer: Any) -> str:
        """Returns the name of a layer's weights."""
        return self._names[id(layer)]

    def row(self, layer: Any) -> int:
        """Returns how often the layer has asked before, the row of its statistics for this pass."""
        self._passes[self.name_of(layer)] += 1
        return self._passes[self.name_of(layer)] - 1

    def apply(self, module: Any, x: Any) -> Any:
        """Adds the nodes of a module."""
        return _APPLY[type(module)](self, module, x)

    def encode(self, images: Features) -> list[Features]:
        """Adds a pass through the encoder; returns the features of each stage."""
        found: list[Features] = []
        branches = [images]
        for part in self.network.encoder:
            if isinstance(part, multi_resolution.Stage):
                branches = self.apply(part, branches)
            else:
                x = self.apply(part, branches[0])
                branches = [self.relu(x) if isinstance(part, ConvNorm) else x]
            found += branches
        return found

    def tiles(self, images: Features, grid: int) -> Features:
        """Adds the tiles of images, row by row."""
        colours, side = self.network.config.colours, images.sides[0] // grid
        rows = self.node("Reshape", images.name, self.sizes([-1, colours, grid, side, grid, side]))
        tiles = self.node("Transpose", rows, perm=[0, 2, 4, 1, 3, 5])
        return Features(self.node("Reshape", tiles, self.sizes([-1, colours, side, side])), (side, side))

    def first(self, x: Features, sizes: tuple[int, ...], axes: tuple[int, ...]) -> str:
        """Adds the first entries of features along some axes."""
        return self.node("Slice", x.name, self.sizes([0] * len(axes)), self.sizes(sizes), self.sizes(axes))


def _norm(graph: _Graph, layer: SlimNorm, x: Features) -> Features:
    name, channels = graph.name_of(layer), layer.scale.shape[0]
    if layer.kind == "batch":
        row = graph.row(layer)
        moments = [graph.array(f"{name}.{m}.{row}", graph.weights[f"{name}.{m}"][row]) for m in ("mean", "var")]
        inputs = [x.name, graph.weight(f"{name}.scale"), graph.weight(f"{name}.bias"), *moments]
        return x._replace(name=graph.node("BatchNormalization", *inputs, epsilon=EPSILON))
    if layer.kind == "group":
        groups = channels // layer.group
        ones = graph.array(f"ones.{groups}", np.ones(groups, np.float32))
        zeros = graph.array(f"zeros.{groups}", np.zeros(groups, np.float32))
        y = graph.node("Reshape", x.name, graph.sizes([0, groups, -1]))
        y = graph.node("InstanceNormalization", y, ones, zeros, epsilon=EPSILON)
        y = graph.node("Reshape", y, graph.sizes([-1, channels, *x.sides]))
    else:
        axis = graph.sizes([1])
        y = graph.node("Sub", x.name, graph.node("ReduceMean", x.name, axis))
        var = graph.node("ReduceMean", graph.node("Mul", y, y), axis)
        epsilon = graph.array("norm.epsilon", np.array(EPSILON, np.float32))
        y = graph.node("Div", y, graph.node("Sqrt", graph.node("Add", var, epsilon)))
    y = graph.node("Mul", y, graph.weight(f"{name}.scale", (channels, 1, 1)))
    return x._replace(name=graph.node("Add", y, graph.weight(f"{name}.bias", (channels, 1, 1))))


def _convolution(graph: _Graph, layer: SlimConvolution, x: Features) -> Features:
    return graph.convolution(graph.name_of(layer), x, stride=layer.stride, transposed=layer.transposed)


def _conv_norm(graph: _Graph, layer: ConvNorm, x: Features) -> Features:
    return graph.apply(layer.norm, graph.apply(layer.convolution, x))


def _residual_stage(graph: _Graph, stage: residual.Stage, x: Features) -> Features:
    x = graph.relu(graph.apply(stage.first, x))
    y = graph.relu(graph.apply(stage.second, x))
    return graph.relu(graph.add(x, graph.apply(stage.third, y)))


def _stem(graph: _Graph, stem: transnas.Stem, x: Features) -> Features:
    return graph.apply(stem.second, graph.relu(graph.apply(stem.first, x)))


def _skip(graph: _Graph, skip: transnas.Skip, x: Features) -> Features:
    more = skip.outputs - skip.inputs
    if more > 0:
        return x._replace(name=graph.node("Pad", x.name, graph.sizes([0, 0, 0, 0, 0, more, 0, 0])))
    return x._replace(name=graph.first(x, (skip.outputs,), (1,))) if more else x


def _reduction(graph: _Graph, module: transnas.Reduction, x: Features) -> Features:
    x = graph.relu(x)
    ends = graph.sizes([1, 1]), graph.sizes([2**31, 2**31]), graph.sizes([2, 3])
    shifted = graph.node("Pad", graph.node("Slice", x.name, *ends), graph.sizes([0, 0, 0, 0, 0, 0, 1, 1]))
    even, odd = (graph.apply(h, y) for h, y in zip(module.halves, (x, x._replace(name=shifted)), strict=True))
    both, evens = graph.node("Concat", even.name, odd.name, axis=1), module.halves[0].kernel.shape[3]
    channels = module.norm.scale.shape[0]
    order = graph.sizes([place // 2 + evens * (place % 2) for place in range(channels)])
    return graph.apply(module.norm, even._replace(name=graph.node("Gather", both, order, axis=1)))


def _cell(graph: _Graph, cell: transnas.Cell, x: Features) -> Features:
    nodes = {0: x}
    for (source, target), edge in zip(EDGES, cell.edges, strict=True):
        if edge is not None:
            y = graph.apply(edge, nodes[source])
            nodes[target] = graph.add(nodes[target], y) if target in nodes else y
    return nodes[EDGES[-1][1]]


def _macro_block(graph: _Graph, block: transnas.ResidualBlock, x: Features) -> Features:
    y = graph.apply(block.second, graph.apply(block.first, x))
    return graph.add(y, graph.apply(block.shortcut, x))


def _module(graph: _Graph, module: transnas.Module, x: Features) -> Features:
    for block in module.blocks:
        x = graph.apply(block, x)
    return x


def _residual_block(graph: _Graph, block: multi_resolution.ResidualBlock, x: Features) -> Features:
    y = graph.relu(graph.apply(block.first, x))
    return graph.relu(graph.add(x, graph.apply(block.second, y)))


def _fusion(graph: _Graph, fusion: multi_resolution.Fusion, branches: list[Features]) -> list[Features]:
    totals: list[list[Features]] = [[] for _ in branches]
    new = []
    for (source, target, _), layer in zip(fusion.links, fusion.layers, strict=True):
        if target == len(branches):
            new.append((source, layer))
            continue
        part = graph.relu(graph.apply(layer, branches[source]))
        if source > target:
            part = graph.resize(part, (2 * part.sides[0], 2 * part.sides[1]), "nearest")
            part = graph.resize(part, branches[target].sides)
        totals[target].append(part)
    fused = [graph.relu(graph.add(*parts)) for parts in totals]
    for source, layer in new:
        fused.append(graph.relu(graph.apply(layer, fused[source])))
    return fused


def _classes(graph: _Graph, decoder: ClassDecoder, features: list[Features]) -> str:
    layer = graph.relu(graph.apply(decoder.layer, features[decoder.read]))
    return graph.linear(graph.name_of(decoder.last), graph.mean(layer))


def _jigsaw(graph: _Graph, decoder: JigsawDecoder, features: list[Features]) -> str:
    means = graph.mean(graph.relu(graph.apply(decoder.layer, features[decoder.read])))
    inputs = decoder.last.kernel.shape[0]
    tiles = graph.node("Reshape", means, graph.sizes([-1, decoder.tiles, inputs // decoder.tiles]))
    by_channel = graph.node("Reshape", graph.node("Transpose", tiles, perm=[0, 2, 1]), graph.sizes([-1, inputs]))
    return graph.linear(graph.name_of(decoder.last), by_channel)


def _pixels(graph: _Graph, decoder: PixelDecoder, features: list[Features]) -> Features:
    x = graph.relu(graph.apply(decoder.first, features[decoder.read[-1]]))
    for layer, lateral, place in zip(decoder.enlarging, decoder.lateral, decoder.read[-2::-1], strict=True):
        earlier = features[place]
        x = graph.apply(layer.convolution, x)
        if x.sides != earlier.sides:
            x = Features(graph.first(x, earlier.sides, (2, 3)), earlier.sides)
        x = graph.relu(graph.apply(layer.norm, graph.add(x, graph.apply(lateral, earlier))))
    return graph.resize(graph.apply(decoder.last, x), (decoder.side, decoder.side))


_APPLY: dict[type, Callable[[_Graph, Any, Any], Any]] = {
    SlimConvolution: _convolution,
    SlimNorm: _norm,
    ConvNorm: _conv_norm,
    residual.Stage: _residual_stage,
    transnas.Stem: _stem,
    transnas.Activated: lambda graph, module, x: graph.apply(module.layer, graph.relu(x)),
    transnas.Skip: _skip,
    transnas.Reduction: _reduction,
    transnas.Cell: _cell,
    transnas.ResidualBlock: _macro_block,
    transnas.Module: _module,
    multi_resolution.ResidualBlock: _residual_block,
    multi_resolution.Fusion: _fusion,
    multi_resolution.Stage: lambda graph, stage, branches: parallel_blocks(graph.apply, stage, branches),
    ClassDecoder: _classes,
    JigsawDecoder: _jigsaw,
    PixelDecoder: _pixels,
}
