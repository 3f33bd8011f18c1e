"""Writes the modules of a network as classes of its exported file, and the expressions that make them.

Each function returns the expression that makes one of our modules, and adds the class that it needs to the file. A
class is written once, for what the network uses of it.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

from ncp_jax.networks.blocks import BasicBlock, Chain, PooledShortcut
from ncp_jax.networks.cells import Cell, FactorizedReduction, Skip
from ncp_jax.networks.digits import DigitsHead, DigitsReduction
from ncp_jax.networks.export.dialects import Dialect, Fields
from ncp_jax.networks.export.layers import edge_attribute, is_empty, unknown
from ncp_jax.networks.heads import BranchClassifier, BranchSegmenter, Classifier, Decoder, DecoderLayer
from ncp_jax.networks.layers import ConvBatchNorm, Convolution
from ncp_jax.networks.multi_resolution import Stage, Stem
from ncp_jax.networks.network import Form
from ncp_jax.spaces.cells import EDGES


@dataclasses.dataclass
class SourceFile:
    """The classes of a file in the making.

    Attributes:
      dialect: the framework.
      form: what the network is for.
      classes: text of each class by name, in the order in which the file has them.
      strided: kinds of ``ConvBatchNorm`` (where their ReLU is) that come with a stride.
      helpers: names of the functions that classes use.
      branches: channels of the branches that the last stage returns.
    """

    dialect: Dialect
    form: Form
    strided: frozenset[str]
    classes: dict[str, str] = dataclasses.field(default_factory=dict)
    helpers: set[str] = dataclasses.field(default_factory=set)
    branches: list[int] = dataclasses.field(default_factory=list)

    def define(self, name: str, doc: str, arguments: str, fields: Fields, inputs: str, body: Sequence[str]) -> str:
        """Adds a class, unless the file has it; returns its name, with a number where another one has it."""
        for number in itertools.count(1):
            full = name if number == 1 else f"{name}{number}"
            text = self.dialect.define(full, doc, arguments, fields, inputs, body)
            if self.classes.setdefault(full, text) == text:
                return full
        raise AssertionError

    def call(self, function: str, *arguments: str) -> str:
        """Returns a call of a function, which the file defines where the framework lacks it."""
        if function in self.dialect.helpers:
            self.helpers.add(function)
        return self.dialect.call(function, *arguments)

    def new(self, module: Any) -> str:
        """Returns the expression that makes a module of ours."""
        if type(module) not in _WRITERS:
            raise unknown(module)
        return _WRITERS[type(module)](module, self)


def _channels(convolution: Convolution) -> tuple[str, str]:
    shape = convolution.kernel.shape
    return str(shape[2]), str(shape[3])


def _convolution(layer: Convolution, file: SourceFile) -> str:
    return file.dialect.convolution(*_channels(layer), *_sizes(layer), bias=layer.bias is not None)


def _sizes(convolution: Convolution) -> list[str]:
    """Returns the kernel, and the stride unless it is 1."""
    stride = convolution.stride
    return [str(convolution.kernel.shape[0]), *([str(stride)] if stride > 1 else [])]


def _conv_norm(layer: ConvBatchNorm, file: SourceFile) -> str:
    name = _conv_norm_class(file, layer.relu, affine=layer.norm.scale is not None)
    return file.dialect.new(name, *_channels(layer.convolution), *_sizes(layer.convolution))


def _conv_norm_class(file: SourceFile, relu: str, *, affine: bool = True) -> str:
    name = {"before": "ReluConvNorm", "after": "ConvNormRelu", "none": "ConvNorm"}[relu]
    doc = {"before": "ReLU, convolution, BatchNorm.", "after": "Convolution, BatchNorm, ReLU."}
    x = file.call("relu", "x") if relu == "before" else "x"
    result = f"self.norm(self.conv({x}))"
    strided = relu in file.strided
    sizes = ("kernel", *(["stride"] if strided else []))
    halved = "kernel // 2" if affine else "(kernel - 1) // 2"  # some kernels of digits are 2x2
    convolution = file.dialect.convolution("inputs", "outputs", *sizes, halved=halved)
    return file.define(
        name,
        doc.get(relu, "Convolution, BatchNorm."),
        "inputs, outputs, kernel, stride=1" if strided else "inputs, outputs, kernel",
        [("conv", convolution), ("norm", file.dialect.norm("outputs", affine=affine))],
        "x",
        [f"return {file.call('relu', result) if relu == 'after' else result}"],
    )


def _chain(chain: Chain, file: SourceFile) -> str:
    modules = [file.new(link) for link in chain.links]
    if len(modules) > 2 and len(set(modules)) == 1:
        modules = [f"*[{modules[0]} for _ in range({len(modules)})]"]
    return file.dialect.sequence(modules)


def _basic_block(block: BasicBlock, file: SourceFile) -> str:
    dialect, shortcut = file.dialect, block.shortcut
    inputs, outputs = _channels(block.first.convolution)
    stride = block.first.convolution.stride
    layer = _conv_norm_class(file, "before")
    second = ("second", dialect.new(layer, "outputs", "outputs", "3"))
    if shortcut is None:
        fields = [(name, dialect.new(layer, "channels", "channels", "3")) for name in ("first", "second")]
        doc = "Two 3x3 convolutions around a shortcut."
        name = file.define("BasicBlock", doc, "channels", fields, "x", ["return x + self.second(self.first(x))"])
        return dialect.new(name, outputs)
    if isinstance(shortcut, PooledShortcut):
        first = ("first", dialect.new(layer, "inputs", "outputs", "3", str(stride)))
        fields = [first, second, ("shortcut", dialect.convolution("inputs", "outputs", "1"))]
        body = [f"return self.second(self.first(x)) + self.shortcut({file.call('average2', 'x')})"]
        doc = (
            "Halves the sides: two 3x3 convolutions; the shortcut is an average over 2x2 pixels and a 1x1 convolution."
        )
        name = file.define("ReductionBlock", doc, "inputs, outputs", fields, "x", body)
        return dialect.new(name, inputs, outputs)
    first = ("first", dialect.new(layer, "inputs", "outputs", "3", "stride"))
    one = dialect.new(_conv_norm_class(file, "none"), "inputs", "outputs", "1", "stride")
    body = ["return self.second(self.first(x)) + self.shortcut(x)"]
    doc = "Two 3x3 convolutions that change channels or halve the sides; the shortcut is a 1x1 convolution."
    name = file.define("ChangingBlock", doc, "inputs, outputs, stride", [first, second, ("shortcut", one)], "x", body)
    return dialect.new(name, inputs, outputs, str(stride))


def _factorized_class(file: SourceFile, stride: int) -> str:
    dialect = file.dialect
    halves = [dialect.convolution("inputs", "outputs // 2", "1", str(stride)) for _ in range(2)]
    fields = [("conv1", halves[0]), ("conv2", halves[1]), ("norm", dialect.norm("outputs"))]
    body = [
        f"x = {file.call('relu', 'x')}",
        f"shifted = {file.call('shift', 'x')}",
        f"return self.norm({dialect.join('[self.conv1(x), self.conv2(shifted)]')})",
    ]
    doc = f"A skip that changes shape: two 1x1 convolutions of stride {stride}, one pixel apart."
    return file.define("FactorizedReduction", doc, "inputs, outputs", fields, "x", body)


def _cell(cell: Cell, file: SourceFile) -> str:
    dialect = file.dialect
    changes = cell.stride != 1 or cell.inputs != cell.outputs
    first, other = ("inputs", "outputs") if changes else ("channels", "channels")
    needed = _needed(cell)
    fields = []
    for place, ((source, target), edge) in enumerate(zip(EDGES, cell.edges, strict=True)):
        if is_empty(edge):
            continue
        inputs = first if source == 0 else other
        if isinstance(edge, FactorizedReduction):
            made = dialect.new(_factorized_class(file, edge.halves[0].stride), inputs, other)
        else:
            name = _conv_norm_class(file, edge.relu, affine=edge.norm.scale is not None)
            made = dialect.new(name, inputs, other, *_sizes(edge.convolution))
        unused = "" if target in needed else "  # no way from here to x3; the costs count it"
        fields.append((edge_attribute(place), made + unused))
    zeros = dialect.empty("x0", "self.outputs") if changes else file.call("zeros", "x0")
    body = _cell_body(cell, file, needed, zeros)
    if changes and any(zeros in line for line in body):
        fields.append(("outputs", "outputs"))
    name, what = ("ReductionCell", "that halves the sides") if changes else ("Cell", "that keeps the shape")
    edges = ", ".join(f"{s}>{t} {op}" for (s, t), op in zip(EDGES, cell.ops, strict=True))
    doc = f"A cell {what}: x3 is the output, each node is the sum of its edges.\n\n    {edges}\n    "
    arguments = ("inputs, outputs" if changes else "channels") if fields else ""
    name = file.define(name, doc, arguments, fields, "x0", body)
    if not fields:
        return f"{name}()"
    return dialect.new(name, *((str(cell.inputs), str(cell.outputs)) if changes else (str(cell.outputs),)))


def _needed(cell: Cell) -> set[int]:
    """Returns the nodes from which a way leads to the output."""
    needed = {3}
    for (source, target), edge in reversed(list(zip(EDGES, cell.edges, strict=True))):
        if edge is not None and target in needed:
            needed.add(source)
    return needed


def _cell_body(cell: Cell, file: SourceFile, needed: set[int], zeros: str) -> list[str]:
    """Returns the lines that compute the needed nodes of a cell; skips and averages of zeros are left out."""
    lines: dict[int, list[str]] = {}
    empty: set[int] = set()
    for node in (1, 2, 3):
        terms = []
        for place, ((source, target), edge) in enumerate(zip(EDGES, cell.edges, strict=True)):
            x = f"x{source}"
            if target != node or edge is None:
                continue
            if not is_empty(edge):
                terms.append(f"self.{edge_attribute(place)}({x})")
            elif source not in empty:
                terms.append(x if isinstance(edge, Skip) else file.call("average3", x))
        if not terms:
            empty.add(node)
        lines[node] = terms or [zeros]
    used = {3} | {n for n in needed & {1, 2} if any(f"x{n}" in term for later in (2, 3) for term in lines[later])}
    names = {1: "x1 =", 2: "x2 =", 3: "return"}
    return [f"{names[node]} {' + '.join(terms)}" for node, terms in lines.items() if node in used & needed]


def _residual_class(file: SourceFile) -> str:
    dialect = file.dialect
    first = dialect.new(_conv_norm_class(file, "after"), "channels", "channels", "3")
    second = dialect.new(_conv_norm_class(file, "none"), "channels", "channels", "3")
    body = [f"return {file.call('relu', 'x + self.second(self.first(x))')}"]
    doc = "Two 3x3 convolutions around a shortcut, ReLU after the sum."
    return file.define("ResidualBlock", doc, "channels", [("first", first), ("second", second)], "x", body)


def _fusion_class(file: SourceFile) -> str:
    dialect, layer = file.dialect, _conv_norm_class(file, "after")
    sizes = ("1 if source > target else 3", "2 if source < target else 1")
    near = f"""
                {dialect.new(layer, "inputs[source]", "outputs[target]", *sizes)}
                for source in range(max(target - 1, 0), min(target + 2, len(inputs)))
            """
    rows = f"""
            {dialect.module_list(near)}
            for target in range(len(inputs))
        """
    new = f"""
            {dialect.new(layer, "outputs[target - 1]", "outputs[target]", "3", "2")}
            for target in range(len(inputs), len(outputs))
        """
    fields = [("layers", dialect.module_list(rows)), ("new", dialect.module_list(new))]
    larger = file.call("enlarge", "parts[-1]")
    body = [
        "fused = []",
        "for target, layers in enumerate(self.layers):",
        "    parts = [layer(x) for layer, x in zip(layers, branches[max(target - 1, 0) :])]",
        "    if target + 1 < len(branches):",
        "        # Sides that are not multiples of 32 make the enlarged branch a pixel too large.",
        f"        parts[-1] = {file.call('resize', larger, dialect.sides('parts[0]'))}",
        f"    fused.append({file.call('relu', 'sum(parts)')})",
        "for layer in self.new:",
        "    fused.append(layer(fused[-1]))",
        "return fused",
    ]
    doc = "Sums each branch and the two next to it, and adds a coarser branch where one more is asked for."
    return file.define("Fusion", doc, "inputs, outputs", fields, "branches", body)


def _stage(stage: Stage, file: SourceFile) -> str:
    dialect = file.dialect
    fusion, residual = _fusion_class(file), _residual_class(file)
    blocks = dialect.sequence([f"*[{dialect.new(residual, 'width')} for _ in range(count)]"])
    row = f"""
                {blocks}
                for count, width in zip(convs, channels)
            """
    parallel = dialect.module_list(row)
    fusions = dialect.new(fusion, "channels if block else inputs", "channels")
    fields = [
        ("fusions", dialect.module_list(f"{fusions} for block in range(blocks)")),
        ("branches", dialect.module_list(f"\n            {parallel}\n            for _ in range(blocks)\n        ")),
    ]
    body = [
        "for fusion, parallel in zip(self.fusions, self.branches):",
        "    branches = [block(x) for block, x in zip(parallel, fusion(branches))]",
        "return branches",
    ]
    doc = "Blocks of a fusion and of residual blocks on each branch, finest first."
    name = file.define("Stage", doc, "inputs, blocks, convs, channels", fields, "branches", body)
    first = stage.fusions[0]
    widths = [layers[min(place, 1)].convolution for place, layers in enumerate(first.layers)]
    inputs = [layer.kernel.shape[2] for layer in widths]
    channels = [parallel[0].first.convolution.kernel.shape[3] for parallel in stage.branches[0]]
    convs = [len(parallel) for parallel in stage.branches[0]]
    file.branches = channels
    return dialect.new(name, str(inputs), str(len(stage.fusions)), str(convs), str(channels))


def _branch_head(head: BranchClassifier | BranchSegmenter, file: SourceFile) -> str:
    dialect = file.dialect
    layer = _conv_norm_class(file, "after")
    fields = [
        ("join", dialect.new(layer, "sum(inputs)", "channels", "1")),
        ("classifier", dialect.convolution("channels", "classes", "1", bias=True)),
    ]
    finest = isinstance(head, BranchSegmenter)
    resized = f"[{file.call('resize', 'x', 'sides')} for x in branches]"
    body = [
        f"sides = {dialect.sides(f'branches[{0 if finest else -1}]')}",
        f"x = self.join({dialect.join(resized)})",
    ]
    inputs = "branches"
    if finest:
        name, doc = "Segmenter", "Logits from all branches at the finest resolution, enlarged to the image's size."
        inputs, last = "branches, image_sides", file.call("resize", "self.classifier(x)", "image_sides")
        body.append(f"return {last}")
    elif file.form.pieces:
        name, doc = "VideoClassifier", "Logits from all branches at the coarsest resolution, averaged over frames."
        inputs = "branches, frames"
        body += [f"x = {file.call('mean', 'x')}", "x = x.reshape(-1, frames, x.shape[1]).mean(1)"]
        body.append(f"return {dialect.on_pixel('self.classifier', 'x')}")
    else:
        body.append(f"x = {file.call('mean', 'x')}")
        name, doc = "Classifier", "Logits from all branches at the coarsest resolution."
        body.append(f"return {dialect.on_pixel('self.classifier', 'x')}")
    name = file.define(name, doc, "inputs, channels, classes", fields, inputs, body)
    return dialect.new(name, str(file.branches), *_channels(head.classifier))


def _classifier(head: Classifier, file: SourceFile) -> str:
    dialect, pieces = file.dialect, file.form.count or 1
    inputs, outputs = head.linear.kernel.shape
    x, fields = "x", []
    if head.norm is not None:
        fields.append(("norm", dialect.norm("inputs")))
        x = file.call("relu", "self.norm(x)")
    fields.append(("linear", dialect.linear("inputs" if pieces == 1 else f"{pieces} * inputs", "outputs")))
    features = "x" if pieces == 1 else f"x.reshape(-1, {pieces} * x.shape[1])"
    body = [f"x = {file.call('mean', x)}", f"return self.linear({features})"]
    doc = "The mean over pixels, and a linear layer."
    if pieces > 1:
        doc = (
            f"The mean over pixels, side by side for the {pieces} {file.form.pieces} of an example, and a linear layer."
        )
    name = file.define("Head", doc, "inputs, outputs", fields, "x", body)
    return dialect.new(name, str(inputs // pieces), str(outputs))


def _decoder_layer(layer: DecoderLayer, file: SourceFile) -> str:
    dialect = file.dialect
    double = layer.convolution.transposed
    name = "DoublingLayer" if double else "DecoderLayer"
    convolution = (
        dialect.transposed("inputs", "outputs") if double else dialect.convolution("inputs", "outputs", "3", bias=True)
    )
    kind = "transposed 3x3 convolution that doubles the sides" if double else "3x3 convolution"
    doc = f"A {kind}, BatchNorm, leaky ReLU."
    fields = [("conv", convolution), ("norm", dialect.norm("outputs"))]
    body = [f"return {file.call('leaky_relu', 'self.norm(self.conv(x))')}"]
    name = file.define(name, doc, "inputs, outputs", fields, "x", body)
    return dialect.new(name, *_channels(layer.convolution))


def _decoder(head: Decoder, file: SourceFile) -> str:
    layers = [file.new(layer) for layer in head.layers]
    last = file.new(head.last)
    text = file.dialect.sequence(["".join(f"\n            {layer}," for layer in layers) + "\n        "])
    result = "self.last(self.layers(x))"
    doc = "Layers that double the sides until they are those of the image."
    body = [f"return {file.call('tanh', result) if head.generates else result}"]
    name = file.define("Decoder", doc, "", [("layers", text), ("last", last)], "x", body)
    return file.dialect.new(name)


def _digits_reduction(module: DigitsReduction, file: SourceFile) -> str:
    layer = file.dialect.new(_conv_norm_class(file, "none", affine=False), "inputs", "outputs", "1")
    body = [f"return self.layer({file.call('average2', file.call('relu', 'x'))})"]
    doc = "ReLU, the average over 2x2 pixels, a 1x1 convolution and BatchNorm."
    name = file.define("Reduction", doc, "inputs, outputs", [("layer", layer)], "x", body)
    return file.dialect.new(name, *_channels(module.layer.convolution))


def _digits_head(head: DigitsHead, file: SourceFile) -> str:
    names = ("bottleneck", "linear")[-len(head.layers) :]
    made = [file.dialect.linear(*map(str, layer.kernel.shape)) for layer in head.layers]
    fields = list(zip(names, made, strict=True))
    x = file.call("mean" if head.pooled else "flatten", "x")
    body = [f"x = {file.call('relu', 'x')}"]
    for name in names:
        x = f"self.{name}({x})"
    pixels = "the mean over pixels" if head.pooled else "all pixels"
    doc = f"ReLU, then {'a bottleneck and ' if len(names) > 1 else ''}a linear layer on {pixels}."
    name = file.define("Head", doc, "", fields, "x", [*body, f"return {x}"])
    return file.dialect.new(name)


_WRITERS: dict[type, Callable[[Any, SourceFile], str]] = {
    Convolution: _convolution,
    ConvBatchNorm: _conv_norm,
    Chain: _chain,
    BasicBlock: _basic_block,
    Cell: _cell,
    Stem: lambda stem, file: file.dialect.sequence([file.new(stem.first), file.new(stem.second)]),
    Stage: _stage,
    BranchClassifier: _branch_head,
    BranchSegmenter: _branch_head,
    Classifier: _classifier,
    DecoderLayer: _decoder_layer,
    Decoder: _decoder,
    DigitsReduction: _digits_reduction,
    DigitsHead: _digits_head,
}
