"""Writes a network with its weights as an ONNX file, whose weights have the names of the exported PyTorch file."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ncp_jax import files
from ncp_jax.networks.blocks import BasicBlock, Chain, PooledShortcut
from ncp_jax.networks.cells import AveragePool, Cell, FactorizedReduction, Skip
from ncp_jax.networks.digits import DigitsHead, DigitsReduction
from ncp_jax.networks.export.layers import layers, unknown
from ncp_jax.networks.export.onnx_graph import Features, OnnxGraph, OnnxValue, parallel_blocks, reduced
from ncp_jax.networks.export.weights import export_weights
from ncp_jax.networks.families import family_of
from ncp_jax.networks.heads import BranchClassifier, BranchDetector, BranchSegmenter, Classifier, Decoder, DecoderLayer
from ncp_jax.networks.layers import EPSILON, BatchNorm, ConvBatchNorm, Convolution
from ncp_jax.networks.multi_resolution import Fusion, ResidualBlock, Stage, Stem
from ncp_jax.networks.network import Network
from ncp_jax.networks.summary import summarise
from ncp_jax.spaces.cells import EDGES


def export_onnx(network: Network, out: str | os.PathLike[str], *, side: int | None = None) -> Path:
    """Writes a network in evaluation mode, with its weights, as an ONNX file (needs the extra ``onnx``).

    Args:
      network: a network of ``build`` with values.
      out: path of the file.
      side: side of the images; by default the benchmark's. The number of images (and of frames) stays open.

    Returns:
      The path. The graph has the input "images" [n, channels, side, side] (tiles or frames as a second axis) and
      the output "outputs", with channels second where it has pixels.

    Raises:
      UsageError: onnx is not installed; the side is too small; the network is abstract or has other modules.
      OSError: the file cannot be written.
    """
    form, summary = network.form, summarise(network, side)
    side = summary.input[-2]
    graph = _Graph(network, side)
    outputs, channels = graph.run(), summary.stages[-1].outputs[0][-1]
    facts = {
        "space": form.space,
        "task": form.task,
        "string": summary.string,
        "code": ", ".join(map(str, form.code)),
        "parameters": str(summary.published["params"]),
        "flops": str(summary.published["flops"]),
        "counted": summary.counted,
        "cite": family_of(form.space, form.task).citation,
    }
    pieces = [form.count or form.pieces] if form.pieces else []
    content = graph.content(
        OnnxValue("images", ["n", *pieces, form.channels, side, side]),
        [OnnxValue("outputs", ["n", channels, *([] if outputs.sides == (1, 1) else outputs.sides)])],
        facts,
        doc=f"{summary.string}, a network of {form.space} for {form.task}",
    )
    return files.atomic_write(files.user_path(out), content)


class _Graph(OnnxGraph):
    """The graph of one network, in which our layers have the names of its exported file."""

    def __init__(self, network: Network, side: int) -> None:
        super().__init__(export_weights(network, "torch"))
        self.form, self.side, self._network = network.form, side, network
        self._names = {id(layer.module): layer.torch for layer in layers(network)}

    def name_of(self, layer: Any) -> str:
        """Returns the name of a layer's weights."""
        return self._names[id(layer)]

    def apply(self, module: Any, x: Any) -> Any:
        """Adds the nodes of a module."""
        if type(module) not in _APPLY:
            raise unknown(module)
        return _APPLY[type(module)](self, module, x)

    def run(self) -> Features:
        """Adds the nodes of the network; they compute "outputs" from "images"."""
        network, images, side = self._network, "images", self.side
        if self.form.pieces:
            images = self.node("Reshape", images, self.sizes([-1, self.form.channels, side, side]))
        x: Any = Features(images, (side, side))
        for name in network.names:
            x = self.apply(network.stages[name], x)
        result = self.apply(network.head, x)
        self.name_output("outputs")
        return result

    def average(self, x: Features, window: int, stride: int) -> Features:
        pads, sides = [(window - 1) // 2] * 4, (x.sides[0] // stride, x.sides[1] // stride)
        options = {"kernel_shape": [window] * 2, "strides": [stride] * 2, "pads": pads, "count_include_pad": 0}
        return Features(self.node("AveragePool", x.name, **options), sides)

    def concatenate(self, parts: Sequence[Features]) -> Features:
        return parts[0]._replace(name=self.node("Concat", *(part.name for part in parts), axis=1))

    def zeros(self, x: Features, channels: int, stride: int) -> Features:
        sides = reduced(x.sides, stride)
        batch = self.node("Shape", x.name, start=0, end=1)
        shape = self.node("Concat", batch, self.sizes([channels, *sides]), axis=0)
        return Features(self.node("ConstantOfShape", shape), sides)

    def first_axes(self, count: int, last: int) -> str:
        """The first axes of the images and one more, as a shape."""
        return self.node("Concat", self.node("Shape", "images", start=0, end=count), self.sizes([last]), axis=0)


def _convolution(graph: _Graph, layer: Convolution, x: Features) -> Features:
    return graph.convolution(graph.name_of(layer), x, stride=layer.stride, transposed=layer.transposed)


def _norm(graph: _Graph, layer: BatchNorm, x: Features) -> Features:
    name, channels = graph.name_of(layer), layer.mean.shape
    if layer.scale is None:
        scale = graph.array(f"{name}.weight", np.ones(channels, np.float32))
        bias = graph.array(f"{name}.bias", np.zeros(channels, np.float32))
    else:
        scale, bias = graph.weight(f"{name}.weight"), graph.weight(f"{name}.bias")
    moments = graph.weight(f"{name}.running_mean"), graph.weight(f"{name}.running_var")
    return x._replace(name=graph.node("BatchNormalization", x.name, scale, bias, *moments, epsilon=EPSILON))


def _conv_norm(graph: _Graph, layer: ConvBatchNorm, x: Features) -> Features:
    y = _norm(graph, layer.norm, _convolution(graph, layer.convolution, graph.relu(x) if layer.relu == "before" else x))
    return graph.relu(y) if layer.relu == "after" else y


def _chain(graph: _Graph, chain: Chain, x: Any) -> Any:
    for link in chain.links:
        x = graph.apply(link, x)
    return x


def _basic_block(graph: _Graph, block: BasicBlock, x: Features) -> Features:
    shortcut = x if block.shortcut is None else graph.apply(block.shortcut, x)
    return graph.add(graph.apply(block.second, graph.apply(block.first, x)), shortcut)


def _pooled_shortcut(graph: _Graph, shortcut: PooledShortcut, x: Features) -> Features:
    return _convolution(graph, shortcut.convolution, graph.average(x, shortcut.stride, shortcut.stride))


def _factorized(graph: _Graph, module: FactorizedReduction, x: Features) -> Features:
    x = graph.relu(x)
    ends = graph.sizes([1, 1]), graph.sizes([2**31, 2**31]), graph.sizes([2, 3])
    shifted = graph.node("Pad", graph.node("Slice", x.name, *ends), graph.sizes([0, 0, 0, 0, 0, 0, 1, 1]))
    halves = [_convolution(graph, h, y) for h, y in zip(module.halves, (x, x._replace(name=shifted)), strict=True)]
    return _norm(graph, module.norm, graph.concatenate(halves))


def _cell(graph: _Graph, cell: Cell, x: Features) -> Features:
    nodes: list[Features | None] = [x, None, None, None]

    def value(node: int) -> Features:
        found = nodes[node]
        return graph.zeros(x, cell.outputs, cell.stride) if found is None else found

    for (source, target), edge in zip(EDGES, cell.edges, strict=True):
        if edge is None or (nodes[source] is None and isinstance(edge, Skip | AveragePool)):
            continue
        part = graph.apply(edge, value(source))
        before = nodes[target]
        nodes[target] = part if before is None else graph.add(before, part)
    return value(3)


def _residual(graph: _Graph, block: ResidualBlock, x: Features) -> Features:
    return graph.relu(graph.add(x, graph.apply(block.second, graph.apply(block.first, x))))


def _fusion(graph: _Graph, fusion: Fusion, branches: list[Features]) -> list[Features]:
    fused = []
    for target, (sources, near) in enumerate(zip(fusion.sources, fusion.layers, strict=True)):
        parts: list[Features] = []
        for source, layer in zip(sources, near, strict=True):
            part = graph.apply(layer, branches[source])
            if source > target:
                part = graph.resize(part, (2 * part.sides[0], 2 * part.sides[1]), "nearest")
            parts.append(graph.resize(part, parts[0].sides) if parts else part)
        fused.append(graph.relu(graph.add(*parts)))
    for layer in fusion.new:
        fused.append(graph.apply(layer, fused[-1]))
    return fused


def _joined(graph: _Graph, head: Any, branches: list[Features], to: int) -> Features:
    sides = branches[to].sides
    return graph.apply(head.join.layer, graph.concatenate([graph.resize(branch, sides) for branch in branches]))


def _branch_classifier(graph: _Graph, head: BranchClassifier, branches: list[Features]) -> Features:
    features, channels = graph.mean(_joined(graph, head, branches, -1)), head.classifier.kernel.shape[2]
    if graph.form.pieces:
        frames = graph.node("Reshape", features, graph.first_axes(2, channels))
        features = graph.node("ReduceMean", frames, graph.sizes([1]), keepdims=0)
    pixel = graph.node("Reshape", features, graph.sizes([-1, channels, 1, 1]))
    logits = _convolution(graph, head.classifier, Features(pixel))
    return Features(graph.node("Reshape", logits.name, graph.sizes([-1, head.classifier.kernel.shape[3]])))


def _branch_segmenter(graph: _Graph, head: BranchSegmenter, branches: list[Features]) -> Features:
    logits = _convolution(graph, head.classifier, _joined(graph, head, branches, 0))
    return graph.resize(logits, (graph.side, graph.side))


def _branch_detector(graph: _Graph, head: BranchDetector, branches: list[Features]) -> Features:
    return _convolution(graph, head.classifier, _joined(graph, head, branches, 0))


def _classifier(graph: _Graph, head: Classifier, x: Features) -> Features:
    if head.norm is not None:
        x = graph.relu(_norm(graph, head.norm.norm, x))
    features = graph.mean(x)
    if graph.form.pieces:
        features = graph.node("Reshape", features, graph.sizes([-1, head.linear.kernel.shape[0]]))
    return Features(graph.linear(graph.name_of(head.linear), features))


def _decoder_layer(graph: _Graph, layer: DecoderLayer, x: Features) -> Features:
    y = _norm(graph, layer.norm, _convolution(graph, layer.convolution, x))
    return y._replace(name=graph.node("LeakyRelu", y.name, alpha=0.2))


def _decoder(graph: _Graph, head: Decoder, x: Features) -> Features:
    for layer in head.layers:
        x = graph.apply(layer, x)
    y = _convolution(graph, head.last, x)
    return y._replace(name=graph.node("Tanh", y.name)) if head.generates else y


def _digits_head(graph: _Graph, head: DigitsHead, x: Features) -> Features:
    x = graph.relu(x)
    if head.pooled:
        y = graph.mean(x)
    else:
        last = graph.node("Transpose", x.name, perm=[0, 2, 3, 1])
        y = graph.node("Reshape", last, graph.sizes([-1, head.layers[0].kernel.shape[0]]))
    for layer in head.layers:
        y = graph.linear(graph.name_of(layer), y)
    return Features(y)


_APPLY: dict[type, Callable[[_Graph, Any, Any], Any]] = {
    Convolution: _convolution,
    ConvBatchNorm: _conv_norm,
    Chain: _chain,
    BasicBlock: _basic_block,
    PooledShortcut: _pooled_shortcut,
    Skip: lambda graph, module, x: x,
    AveragePool: lambda graph, module, x: graph.average(x, 3, 1),
    FactorizedReduction: _factorized,
    Cell: _cell,
    Stem: lambda graph, stem, x: [graph.apply(stem.second, graph.apply(stem.first, x))],
    ResidualBlock: _residual,
    Fusion: _fusion,
    Stage: lambda graph, stage, branches: parallel_blocks(graph.apply, stage, branches),
    BranchClassifier: _branch_classifier,
    BranchSegmenter: _branch_segmenter,
    BranchDetector: _branch_detector,
    Classifier: _classifier,
    DecoderLayer: _decoder_layer,
    Decoder: _decoder,
    DigitsReduction: lambda graph, module, x: graph.apply(module.layer, graph.average(graph.relu(x), 2, 2)),
    DigitsHead: _digits_head,
}
