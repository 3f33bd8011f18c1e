"""Writes the network of a code as one source file that needs nothing of this package: plain PyTorch or Flax NNX."""

from __future__ import annotations

import importlib.metadata
import textwrap

from flax import nnx

from ncp_jax import checks
from ncp_jax.networks.export.blocks import BLOCKS
from ncp_jax.networks.export.dialects import DIALECTS, WIDTH, Dialect
from ncp_jax.networks.export.heads import HEADS
from ncp_jax.networks.export.layers import stage_attribute
from ncp_jax.networks.export.source_file import SourceFile
from ncp_jax.networks.families import FAMILIES, family_of
from ncp_jax.networks.heads import BranchSegmenter
from ncp_jax.networks.layers import ConvBatchNorm
from ncp_jax.networks.multi_resolution import Stem
from ncp_jax.networks.network import Form, Network
from ncp_jax.networks.summary import NetworkSummary, summarise

_INIT = {
    "torch": """
        for layer in self.modules():  # He et al., by outputs, as the benchmark's authors do
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")""",
    "flax": (
        "# By outputs (He et al.), as the benchmark's authors do.\n"
        'HE = nnx.initializers.variance_scaling(2.0, "fan_out", "normal")'
    ),
}


def export_source(network: Network, framework: str = "torch", *, side: int | None = None) -> str:
    """Returns a source file that defines a network in plain PyTorch or plain Flax NNX.

    The file has the classes that this network uses, ``Network`` last, and needs the framework alone. Its header has the
    code, the costs and the paper to cite. Run as a program it prints the number of parameters and the shape of the
    output for random images. ``export_weights`` carries weights over.

    Examples:
      >>> import ncp_jax as ncp
      >>> network = ncp.build("nas-bench-201", [4, 1, 0, 3, 1, 0], "cifar10", abstract=True)
      >>> "class Network(nn.Module):" in ncp.export_source(network, "torch")
      True

    Args:
      network: a network of ``build``, with values or abstract.
      framework: "torch" (images [n, channels, height, width]) or "flax" (channels last).
      side: side of the images that the header counts and the program draws; by default the benchmark's.

    Raises:
      UsageError: another framework; the side is too small; the network has modules that are not the package's.
    """
    dialect = DIALECTS[checks.choose("framework", framework, list(DIALECTS))]
    form = network.form
    summary = summarise(network, side)
    strided = frozenset(
        module.relu
        for _, module in nnx.iter_modules(network)
        if isinstance(module, ConvBatchNorm) and module.convolution.stride > 1
    )
    file = SourceFile(dialect, form, {**BLOCKS, **HEADS}, strided)
    fields = [(stage_attribute(name), file.new(network.stages[name])) for name in network.names]
    fields.append(("head", file.new(network.head)))
    doc = f"{summary.string}, for {form.task}."
    model = dialect.define("Network", doc, "", fields, "images", _forward(network, dialect))
    head = [_header(summary, form, dialect), dialect.imports]
    if dialect.name == "torch":
        model = model.replace("\n\n    def forward", f"{_INIT['torch']}\n\n    def forward")
    else:
        head.append(_INIT["flax"])
    helpers = [dialect.helpers[name].strip("\n") for name in dialect.helpers if name in file.helpers]
    batch = (1, *((form.count or 2,) if form.pieces else ()))
    images = dialect.shape(batch, summary.input[-2], form.channels)
    parts = [*helpers, *file.classes.values(), model, dialect.main(images)]
    return "\n\n\n".join(["\n\n".join(head), *parts]) + "\n"


def _forward(network: Network, dialect: Dialect) -> list[str]:
    """Returns the lines of the network's call."""
    images = dialect.call("merge", "images") if network.form.pieces else "images"
    stem, *others = map(stage_attribute, network.names)
    branched = isinstance(network.stages[network.names[0]], Stem)
    x = "branches" if branched else "x"
    lines = [f"{x} = [self.{stem}({images})]" if branched else f"{x} = self.{stem}({images})"]
    lines += [f"{x} = self.{name}({x})" for name in others]
    more = ""
    if isinstance(network.head, BranchSegmenter):
        more = f", {dialect.call('sides', 'images')}"
    elif branched and network.form.pieces:
        more = ", images.shape[1]"
    return [*lines, f"return self.head({x}{more})"]


def _header(summary: NetworkSummary, form: Form, dialect: Dialect) -> str:
    """Returns the docstring of the file: what the network is, what it costs, whom to cite, how weights come in."""
    batch = f"n, {form.count or form.pieces}" if form.pieces else "n"
    sides = {"batch": batch, "side": summary.input[-2]}
    images = dialect.image.format(channels=form.channels, **sides)
    shape = summary.stages[-1].outputs[0]
    output = f"[n, {form.outputs}]"
    if len(shape) == 4:
        output = dialect.image.format(channels=shape[-1], batch="n", side=shape[-2])
    cost = summary.published
    rows = [
        ("string", summary.string),
        ("code", ", ".join(map(str, summary.code))),
        ("input", f"images {images}, floating"),
        ("output", f"{'logits' if FAMILIES[form.space].tasks[form.task].has_classes else 'values'} {output}"),
        ("parameters", f"{cost['params']:,}"),
        ("FLOPs", f"{cost['flops']:,} for one image, as {summary.benchmark} counts ({summary.counted})"),
        ("cite", family_of(form.space, form.task).citation or "the source of the space"),
    ]
    table = [
        textwrap.fill(text, WIDTH, initial_indent=f"{name:<12}", subsequent_indent=" " * 12, break_on_hyphens=False)
        for name, text in rows
    ]
    load = {
        "torch": 'network.load_state_dict(safetensors.torch.load_file("weights.safetensors"))',
        "flax": 'load_weights(network, numpy.load("weights.npz"))',
    }[dialect.name]
    end = {"torch": "safetensors", "flax": "npz"}[dialect.name]
    version = importlib.metadata.version("ncp-jax")
    return "\n".join(
        [
            f'"""A network of {summary.space} for {form.task}, in {dialect.words}.',
            "",
            f"Written by ncp-jax {version}; it needs nothing of it.",
            "",
            *table,
            "",
            "Run this file to print the number of parameters, and the shape of the outputs for random images.",
            "Weights of a network trained with ncp-jax:",
            f'    there  ncp_jax.export_weights(network, "{dialect.name}", "weights.{end}")',
            f"    here   {load}",
            '"""',
        ]
    )
