"""Writes a network with its weights as an ONNX file.

The graph is written node by node from our modules, with images [n, channels, height, width] as in PyTorch, and names of
weights as in the exported PyTorch file. A converter of traced JAX programs would keep channels last and transpose
around each convolution; the one that is kept up, jax2onnx, also pins a version of Orbax that this package cannot have.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ncp_jax import checks, files
from ncp_jax.networks.blocks import BasicBlock, Chain, PooledShortcut
from ncp_jax.networks.cells import AveragePool, Cell, FactorizedReduction, Skip
from ncp_jax.networks.digits import DigitsHead, DigitsReduction
from ncp_jax.networks.export.layers import layers, unknown
from ncp_jax.networks.export.weights import export_weights
from ncp_jax.networks.families import family_of
from ncp_jax.networks.heads import BranchClassifier, BranchSegmenter, Classifier, Decoder, DecoderLayer
from ncp_jax.networks.layers import EPSILON, BatchNorm, ConvBatchNorm, Convolution, Linear
from ncp_jax.networks.multi_resolution import Fusion, ResidualBlock, Stage, Stem
from ncp_jax.networks.network import Form, Network
from ncp_jax.networks.summary import summarise
from ncp_jax.spaces.cells import EDGES

OPSET, IR = 18, 8  # resizing by axes needs this opset; the format's version is the one that came with it


class Features(NamedTuple):
    """A value of the graph: its name, and the sides of its pixels."""

    name: str
    sides: tuple[int, int] = (1, 1)


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
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise checks.UsageError(
            expected="onnx, to write its files", got="none installed", remedy='pip install "ncp-jax[onnx]"'
        ) from error
    form, summary = network.form, summarise(network, side)
    weights = export_weights(network, "torch")
    side = summary.input[-2]
    graph = _Graph(network, weights, side)
    pieces = [form.count or form.pieces] if form.pieces else []
    shape = ["n", *pieces, form.channels, side, side]
    outputs = graph.run(network)
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        graph.nodes,
        "network",
        [value("images", TensorProto.FLOAT, shape)],
        [value("outputs", TensorProto.FLOAT, ["n", *_output_shape(form, outputs)])],
        [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()],
    )
    model = helper.make_model(
        body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="ncp-jax"
    )
    model.doc_string = f"{summary.string}, a network of {form.space} for {form.task}"
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
    helper.set_model_props(model, facts)
    onnx.checker.check_model(model, full_check=True)
    return files.atomic_write(files.user_path(out), model.SerializeToString())


def _output_shape(form: Form, outputs: Features) -> list[int]:
    return [form.outputs] if outputs.sides == (1, 1) else [form.outputs, *outputs.sides]


class _Graph:
    """Nodes and constants of a graph in the making; methods add nodes and return what they compute."""

    def __init__(self, network: Network, weights: dict[str, np.ndarray], side: int) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}
        self.form, self.side, self._weights = network.form, side, weights
        self._names = {id(layer.module): layer.torch for layer in layers(network)}

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, values: Sequence[int]) -> str:
        name = "sizes_" + "_".join(map(str, values)).replace("-", "minus")
        self.constants[name] = np.array(values, np.int64)
        return name

    def weight(self, layer: Any, name: str, default: Callable[[], np.ndarray] | None = None) -> str:
        full = f"{self._names[id(layer)]}.{name}"
        self.constants[full] = np.ascontiguousarray(self._weights[full] if default is None else default())
        return full

    def apply(self, module: Any, x: Any) -> Any:
        """Adds the nodes of a module."""
        if type(module) not in _APPLY:
            raise unknown(module)
        return _APPLY[type(module)](self, module, x)

    def run(self, network: Network) -> Features:
        form, images, side = network.form, "images", self.side
        if form.pieces:
            images = self.node("Reshape", images, self.constant([-1, form.channels, side, side]))
        x: Any = Features(images, (side, side))
        for name in network.names:
            x = self.apply(network.stages[name], x)
        result = self.apply(network.head, x)
        self.nodes[-1].output[0] = "outputs"
        return result

    # Layers and operations

    def convolution(self, layer: Convolution, x: Features) -> Features:
        stride, pad = layer.stride, (layer.kernel.shape[0] - 1) // 2
        inputs = [
            x.name,
            self.weight(layer, "weight"),
            *([self.weight(layer, "bias")] if layer.bias is not None else []),
        ]
        options = {"strides": [stride] * 2, "pads": [pad] * 4, "kernel_shape": list(layer.kernel.shape[:2])}
        if layer.transposed:
            name = self.node("ConvTranspose", *inputs, output_padding=[stride - 1] * 2, **options)
            return Features(name, (x.sides[0] * stride, x.sides[1] * stride))
        return Features(self.node("Conv", *inputs, **options), (-(-x.sides[0] // stride), -(-x.sides[1] // stride)))

    def norm(self, layer: BatchNorm, x: Features) -> Features:
        channels = layer.mean.shape
        scale = self.weight(layer, "weight", None if layer.scale is not None else lambda: np.ones(channels, np.float32))
        bias = self.weight(layer, "bias", None if layer.bias is not None else lambda: np.zeros(channels, np.float32))
        moments = self.weight(layer, "running_mean"), self.weight(layer, "running_var")
        return x._replace(name=self.node("BatchNormalization", x.name, scale, bias, *moments, epsilon=EPSILON))

    def linear(self, layer: Linear, x: str) -> Features:
        return Features(self.node("Gemm", x, self.weight(layer, "weight"), self.weight(layer, "bias"), transB=1))

    def relu(self, x: Features) -> Features:
        return x._replace(name=self.node("Relu", x.name))

    def add(self, *parts: Features) -> Features:
        total = parts[0]
        for part in parts[1:]:
            total = total._replace(name=self.node("Add", total.name, part.name))
        return total

    def average(self, x: Features, window: int, stride: int) -> Features:
        pads, sides = [(window - 1) // 2] * 4, (x.sides[0] // stride, x.sides[1] // stride)
        options = {"kernel_shape": [window] * 2, "strides": [stride] * 2, "pads": pads, "count_include_pad": 0}
        return Features(self.node("AveragePool", x.name, **options), sides)

    def mean(self, x: Features) -> str:
        return self.node("ReduceMean", x.name, self.constant([2, 3]), keepdims=0)

    def concatenate(self, parts: Sequence[Features]) -> Features:
        return parts[0]._replace(name=self.node("Concat", *(part.name for part in parts), axis=1))

    def resize(self, x: Features, sides: tuple[int, int], mode: str = "linear") -> Features:
        if x.sides == sides:
            return x
        form = "half_pixel" if mode == "linear" else "asymmetric"
        options = {"mode": mode, "coordinate_transformation_mode": form, "nearest_mode": "floor", "axes": [2, 3]}
        return Features(self.node("Resize", x.name, "", "", self.constant(sides), **options), sides)

    def zeros(self, x: Features, channels: int, stride: int) -> Features:
        sides = (-(-x.sides[0] // stride), -(-x.sides[1] // stride))
        batch = self.node("Shape", x.name, start=0, end=1)
        shape = self.node("Concat", batch, self.constant([channels, *sides]), axis=0)
        return Features(self.node("ConstantOfShape", shape), sides)

    def first_axes(self, count: int, last: int) -> str:
        """The first axes of the images and one more, as a shape."""
        return self.node("Concat", self.node("Shape", "images", start=0, end=count), self.constant([last]), axis=0)


def _conv_norm(graph: _Graph, layer: ConvBatchNorm, x: Features) -> Features:
    y = graph.norm(layer.norm, graph.convolution(layer.convolution, graph.relu(x) if layer.relu == "before" else x))
    return graph.relu(y) if layer.relu == "after" else y


def _chain(graph: _Graph, chain: Chain, x: Any) -> Any:
    for link in chain.links:
        x = graph.apply(link, x)
    return x


def _basic_block(graph: _Graph, block: BasicBlock, x: Features) -> Features:
    shortcut = x if block.shortcut is None else graph.apply(block.shortcut, x)
    return graph.add(graph.apply(block.second, graph.apply(block.first, x)), shortcut)


def _pooled_shortcut(graph: _Graph, shortcut: PooledShortcut, x: Features) -> Features:
    return graph.convolution(shortcut.convolution, graph.average(x, shortcut.stride, shortcut.stride))


def _factorized(graph: _Graph, module: FactorizedReduction, x: Features) -> Features:
    x = graph.relu(x)
    ends = graph.constant([1, 1]), graph.constant([2**31, 2**31]), graph.constant([2, 3])
    shifted = graph.node("Pad", graph.node("Slice", x.name, *ends), graph.constant([0, 0, 0, 0, 0, 0, 1, 1]))
    halves = [graph.convolution(h, y) for h, y in zip(module.halves, (x, x._replace(name=shifted)), strict=True)]
    return graph.norm(module.norm, graph.concatenate(halves))


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


def _stage(graph: _Graph, stage: Stage, branches: list[Features]) -> list[Features]:
    for fusion, parallel in zip(stage.fusions, stage.branches, strict=True):
        branches = graph.apply(fusion, branches)
        for place, blocks in enumerate(parallel):
            for block in blocks:
                branches[place] = graph.apply(block, branches[place])
    return branches


def _joined(graph: _Graph, head: Any, branches: list[Features], to: int) -> Features:
    sides = branches[to].sides
    return graph.apply(head.join.layer, graph.concatenate([graph.resize(branch, sides) for branch in branches]))


def _branch_classifier(graph: _Graph, head: BranchClassifier, branches: list[Features]) -> Features:
    features, channels = graph.mean(_joined(graph, head, branches, -1)), head.classifier.kernel.shape[2]
    if graph.form.pieces:
        frames = graph.node("Reshape", features, graph.first_axes(2, channels))
        features = graph.node("ReduceMean", frames, graph.constant([1]), keepdims=0)
    pixel = graph.node("Reshape", features, graph.constant([-1, channels, 1, 1]))
    logits = graph.convolution(head.classifier, Features(pixel))
    return Features(graph.node("Reshape", logits.name, graph.constant([-1, head.classifier.kernel.shape[3]])))


def _branch_segmenter(graph: _Graph, head: BranchSegmenter, branches: list[Features]) -> Features:
    logits = graph.convolution(head.classifier, _joined(graph, head, branches, 0))
    return graph.resize(logits, (graph.side, graph.side))


def _classifier(graph: _Graph, head: Classifier, x: Features) -> Features:
    if head.norm is not None:
        x = graph.relu(graph.norm(head.norm.norm, x))
    features = graph.mean(x)
    if graph.form.pieces:
        features = graph.node("Reshape", features, graph.constant([-1, head.linear.kernel.shape[0]]))
    return graph.linear(head.linear, features)


def _decoder_layer(graph: _Graph, layer: DecoderLayer, x: Features) -> Features:
    y = graph.norm(layer.norm, graph.convolution(layer.convolution, x))
    return y._replace(name=graph.node("LeakyRelu", y.name, alpha=0.2))


def _decoder(graph: _Graph, head: Decoder, x: Features) -> Features:
    for layer in head.layers:
        x = graph.apply(layer, x)
    y = graph.convolution(head.last, x)
    return y._replace(name=graph.node("Tanh", y.name)) if head.generates else y


def _digits_head(graph: _Graph, head: DigitsHead, x: Features) -> Features:
    x = graph.relu(x)
    if head.pooled:
        y = graph.mean(x)
    else:
        last = graph.node("Transpose", x.name, perm=[0, 2, 3, 1])
        y = graph.node("Reshape", last, graph.constant([-1, head.layers[0].kernel.shape[0]]))
    for layer in head.layers:
        y = graph.linear(layer, y).name
    return Features(y)


_APPLY: dict[type, Callable[[_Graph, Any, Any], Any]] = {
    Convolution: _Graph.convolution,
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
    Stage: _stage,
    BranchClassifier: _branch_classifier,
    BranchSegmenter: _branch_segmenter,
    Classifier: _classifier,
    DecoderLayer: _decoder_layer,
    Decoder: _decoder,
    DigitsReduction: lambda graph, module, x: graph.apply(module.layer, graph.average(graph.relu(x), 2, 2)),
    DigitsHead: _digits_head,
}
