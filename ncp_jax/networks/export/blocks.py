"""Writes stems, blocks, cells and stages as classes of an exported file, and the expressions that make them.

Each function returns the expression that makes one of our modules, and adds the class that it needs to the file. A
class is written once, for what the network uses of it.
"""

from __future__ import annotations

from ncp_jax.networks.blocks import BasicBlock, Chain, PooledShortcut
from ncp_jax.networks.cells import Cell, FactorizedReduction, Skip
from ncp_jax.networks.digits import DigitsReduction
from ncp_jax.networks.export.layers import edge_attribute, is_empty
from ncp_jax.networks.export.source_file import SourceFile, Writers
from ncp_jax.networks.layers import ConvBatchNorm, Convolution
from ncp_jax.networks.multi_resolution import Stage, Stem
from ncp_jax.spaces.cells import EDGES


def channels_of(convolution: Convolution) -> tuple[str, str]:
    """Returns the numbers of inputs and outputs."""
    shape = convolution.kernel.shape
    return str(shape[2]), str(shape[3])


def _convolution(layer: Convolution, file: SourceFile) -> str:
    return file.dialect.convolution(*channels_of(layer), *_sizes(layer), bias=layer.bias is not None)


def _sizes(convolution: Convolution) -> list[str]:
    """Returns the kernel, and the stride unless it is 1."""
    stride = convolution.stride
    return [str(convolution.kernel.shape[0]), *([str(stride)] if stride > 1 else [])]


def _conv_norm(layer: ConvBatchNorm, file: SourceFile) -> str:
    name = conv_norm_class(file, layer.relu, affine=layer.norm.scale is not None)
    return file.dialect.new(name, *channels_of(layer.convolution), *_sizes(layer.convolution))


def conv_norm_class(file: SourceFile, relu: str, *, affine: bool = True) -> str:
    """Adds the class of ``ConvBatchNorm`` with its ReLU at a place; returns its name."""
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
    inputs, outputs = channels_of(block.first.convolution)
    stride = block.first.convolution.stride
    layer = conv_norm_class(file, "before")
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
    one = dialect.new(conv_norm_class(file, "none"), "inputs", "outputs", "1", "stride")
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
        f"return self.norm({file.call('join', '[self.conv1(x), self.conv2(shifted)]')})",
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
            name = conv_norm_class(file, edge.relu, affine=edge.norm.scale is not None)
            made = dialect.new(name, inputs, other, *_sizes(edge.convolution))
        unused = "" if target in needed else "  # no way from here to x3; the costs count it"
        fields.append((edge_attribute(place), made + unused))
    zeros = file.call("empty", "x0", "self.outputs") if changes else file.call("zeros", "x0")
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
    first = dialect.new(conv_norm_class(file, "after"), "channels", "channels", "3")
    second = dialect.new(conv_norm_class(file, "none"), "channels", "channels", "3")
    body = [f"return {file.call('relu', 'x + self.second(self.first(x))')}"]
    doc = "Two 3x3 convolutions around a shortcut, ReLU after the sum."
    return file.define("ResidualBlock", doc, "channels", [("first", first), ("second", second)], "x", body)


def _fusion_class(file: SourceFile) -> str:
    dialect, layer = file.dialect, conv_norm_class(file, "after")
    sizes = ("1 if source > target else 3", "2 if source < target else 1")
    near = f"""
                {dialect.new(layer, "inputs[source]", "outputs[target]", *sizes)}
                for source in range(max(target - 1, 0), min(target + 2, len(inputs)))
            """
    rows = f"""
            {file.call("modules", near)}
            for target in range(len(inputs))
        """
    new = f"""
            {dialect.new(layer, "outputs[target - 1]", "outputs[target]", "3", "2")}
            for target in range(len(inputs), len(outputs))
        """
    fields = [("layers", file.call("modules", rows)), ("new", file.call("modules", new))]
    larger = file.call("enlarge", "parts[-1]")
    body = [
        "fused = []",
        "for target, layers in enumerate(self.layers):",
        "    parts = [layer(x) for layer, x in zip(layers, branches[max(target - 1, 0) :])]",
        "    if target + 1 < len(branches):",
        "        # Sides that are not multiples of 32 make the enlarged branch a pixel too large.",
        f"        parts[-1] = {file.call('resize', larger, file.call('sides', 'parts[0]'))}",
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
    parallel = file.call("modules", row)
    fusions = dialect.new(fusion, "channels if block else inputs", "channels")
    fields = [
        ("fusions", file.call("modules", f"{fusions} for block in range(blocks)")),
        ("branches", file.call("modules", f"\n            {parallel}\n            for _ in range(blocks)\n        ")),
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


def _digits_reduction(module: DigitsReduction, file: SourceFile) -> str:
    layer = file.dialect.new(conv_norm_class(file, "none", affine=False), "inputs", "outputs", "1")
    body = [f"return self.layer({file.call('average2', file.call('relu', 'x'))})"]
    doc = "ReLU, the average over 2x2 pixels, a 1x1 convolution and BatchNorm."
    name = file.define("Reduction", doc, "inputs, outputs", [("layer", layer)], "x", body)
    return file.dialect.new(name, *channels_of(module.layer.convolution))


BLOCKS: Writers = {
    Convolution: _convolution,
    ConvBatchNorm: _conv_norm,
    Chain: _chain,
    BasicBlock: _basic_block,
    Cell: _cell,
    Stem: lambda stem, file: file.dialect.sequence([file.new(stem.first), file.new(stem.second)]),
    Stage: _stage,
    DigitsReduction: _digits_reduction,
}
