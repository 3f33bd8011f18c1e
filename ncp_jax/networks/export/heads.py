"""Writes the heads of networks as classes of an exported file, and the expressions that make them; see ``blocks``."""

from __future__ import annotations

from ncp_jax.networks.digits import DigitsHead
from ncp_jax.networks.export.blocks import channels_of, conv_norm_class
from ncp_jax.networks.export.layers import head_attributes
from ncp_jax.networks.export.source_file import SourceFile, Writers
from ncp_jax.networks.heads import BranchClassifier, BranchDetector, BranchSegmenter, Classifier, Decoder, DecoderLayer


def _branch_head(head: BranchClassifier | BranchDetector | BranchSegmenter, file: SourceFile) -> str:
    dialect = file.dialect
    layer = conv_norm_class(file, "after")
    fields = [
        ("join", dialect.new(layer, "sum(inputs)", "channels", "1")),
        ("classifier", dialect.convolution("channels", "classes", "1", bias=True)),
    ]
    finest = isinstance(head, BranchDetector | BranchSegmenter)
    resized = f"[{file.call('resize', 'x', 'sides')} for x in branches]"
    body = [
        f"sides = {file.call('sides', f'branches[{0 if finest else -1}]')}",
        f"x = self.join({file.call('join', resized)})",
    ]
    inputs, result = "branches", file.call("on_pixel", "self.classifier", "x")
    if isinstance(head, BranchDetector):
        name, doc = "Detector", "Scores and boxes of anchors from all branches at the finest resolution."
        result = "self.classifier(x)"
    elif finest:
        name, doc = "Segmenter", "Logits from all branches at the finest resolution, enlarged to the image's size."
        inputs, result = "branches, image_sides", file.call("resize", "self.classifier(x)", "image_sides")
    elif file.form.pieces:
        name, doc = "VideoClassifier", "Logits from all branches at the coarsest resolution, averaged over frames."
        inputs = "branches, frames"
        body += [f"x = {file.call('mean', 'x')}", "x = x.reshape(-1, frames, x.shape[1]).mean(1)"]
    else:
        name, doc = "Classifier", "Logits from all branches at the coarsest resolution."
        body.append(f"x = {file.call('mean', 'x')}")
    name = file.define(name, doc, "inputs, channels, classes", fields, inputs, [*body, f"return {result}"])
    return dialect.new(name, str(file.branches), *channels_of(head.classifier))


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
    return dialect.new(name, *channels_of(layer.convolution))


def _decoder(head: Decoder, file: SourceFile) -> str:
    layers = [file.new(layer) for layer in head.layers]
    last = file.new(head.last)
    text = file.dialect.sequence(["".join(f"\n            {layer}," for layer in layers) + "\n        "])
    result = "self.last(self.layers(x))"
    doc = "Layers that double the sides until they are those of the image."
    body = [f"return {file.call('tanh', result) if head.generates else result}"]
    name = file.define("Decoder", doc, "", [("layers", text), ("last", last)], "x", body)
    return file.dialect.new(name)


def _digits_head(head: DigitsHead, file: SourceFile) -> str:
    names = head_attributes(head)
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


HEADS: Writers = {
    BranchClassifier: _branch_head,
    BranchSegmenter: _branch_head,
    BranchDetector: _branch_head,
    Classifier: _classifier,
    DecoderLayer: _decoder_layer,
    Decoder: _decoder,
    DigitsHead: _digits_head,
}
