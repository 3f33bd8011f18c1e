"""Writes layers, operations and classes as source text: one dialect for PyTorch, one for Flax NNX.

What a network consists of is written once, in ``blocks``; a dialect knows how its framework says it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Protocol

WIDTH = 120  # of lines
Fields = Sequence[tuple[str, str]]  # attributes of a module, and the expressions that make them


class Dialect(Protocol):
    """How one framework writes modules. Arguments and results are source text.

    Attributes:
      name: the framework, as users name it.
      words: the framework in the header of a file.
      imports: the lines of imports.
      image: the shape of images, a format of batch, channels and side.
      helpers: text of the functions that the framework lacks, by name.
      calls: a format for each operation. Most take features; "resize" also takes height and width, "empty" (zeros with
        half the sides) a number of channels, "join" (by channels) and "modules" the text of a sequence, "on_pixel" a
        convolution and features of no pixels [n, c]. "sides" is height and width, "merge" makes pieces examples.
    """

    name: str
    words: str
    imports: str
    image: str
    helpers: dict[str, str]
    calls: dict[str, str]

    def call(self, function: str, *arguments: str) -> str:
        """Returns an operation on its arguments, one of ``calls``."""
        return self.calls[function].format(*arguments)

    def new(self, kind: str, *arguments: str) -> str:
        """A module of a class of the file."""

    def sequence(self, modules: Sequence[str]) -> str:
        """Modules that are applied one after the other."""

    def convolution(
        self, inputs: str, outputs: str, kernel: str, *more: str, bias: bool = False, halved: str = "kernel // 2"
    ) -> str:
        """A convolution, padded by half of its kernel; ``more`` is a stride, ``halved`` half of an unknown kernel."""

    def transposed(self, inputs: str, outputs: str) -> str:
        """A transposed 3x3 convolution with bias that doubles the sides."""

    def norm(self, channels: str, *, affine: bool = True) -> str:
        """BatchNorm."""

    def linear(self, inputs: str, outputs: str) -> str:
        """A linear layer."""

    def define(self, name: str, doc: str, arguments: str, fields: Fields, inputs: str, body: Sequence[str]) -> str:
        """A class: its arguments, attributes, the inputs of a call, and the lines of the call."""

    def shape(self, batch: Sequence[int], side: int, channels: int) -> tuple[int, ...]:
        """Shape of images."""

    def main(self, shape: tuple[int, ...]) -> str:
        """What the file does when it is run."""


def _class(head: str, doc: str, init: list[str], fields: Fields, call: str, body: Sequence[str]) -> str:
    """Returns a class; one without attributes has no constructor of its own."""
    made = [*init, *(_assignment(field, value) for field, value in fields), ""] if fields else []
    return "\n".join([f"class {head}:", f'    """{doc}"""', "", *made, call, *(f"        {line}" for line in body)])


def _assignment(field: str, value: str) -> str:
    line = f"        self.{field} = {value}"
    if len(line) <= WIDTH or "\n" in line or not line.endswith(")"):
        return line
    head, rest = line.split("(", 1)
    inner = f"            {rest[:-1]}"
    if len(inner) > WIDTH:
        # One argument a line; those in brackets stay whole.
        inner = "".join(f"            {part},\n" for part in re.split(r", (?![^(]*\))", rest[:-1])).rstrip("\n")
    return f"{head}(\n{inner}\n        )"


class _Torch(Dialect):
    name, words = "torch", "plain PyTorch"
    imports = "import torch\nfrom torch import nn\nfrom torch.nn import functional as F"
    image = "[{batch}, {channels}, {side}, {side}]"
    helpers = {  # noqa: RUF012
        "average3": '''
def average3(x):
    """Averages over 3x3 windows; pixels beyond the border are left out."""
    return F.avg_pool2d(x, 3, stride=1, padding=1, count_include_pad=False)
''',
        "resize": '''
def resize(x, sides):
    """Interpolates bilinearly to a height and a width."""
    return F.interpolate(x, size=sides, mode="bilinear", align_corners=False)
''',
    }
    calls = {  # noqa: RUF012
        "relu": "F.relu({})",
        "leaky_relu": "F.leaky_relu({}, 0.2)",
        "tanh": "torch.tanh({})",
        "average3": "average3({})",
        "average2": "F.avg_pool2d({}, 2)",
        "mean": "{}.mean(dim=(2, 3))",
        "flatten": "{}.permute(0, 2, 3, 1).flatten(1)",
        "zeros": "torch.zeros_like({})",
        "resize": "resize({}, {})",
        "enlarge": "F.interpolate({}, scale_factor=2)",
        "shift": "F.pad({}[:, :, 1:, 1:], (0, 1, 0, 1))",
        "sides": "{}.shape[-2:]",
        "join": "torch.cat({}, dim=1)",
        "modules": "nn.ModuleList({})",
        "empty": "{0}.new_zeros(len({0}), {1}, ({0}.shape[2] + 1) // 2, ({0}.shape[3] + 1) // 2)",
        "on_pixel": "{}({}[:, :, None, None])[:, :, 0, 0]",
        "merge": "{}.flatten(0, 1)",
    }

    def new(self, kind: str, *arguments: str) -> str:
        return f"{kind}({', '.join(arguments)})"

    def sequence(self, modules: Sequence[str]) -> str:
        return self.new("nn.Sequential", *modules)

    def convolution(
        self, inputs: str, outputs: str, kernel: str, *more: str, bias: bool = False, halved: str = "kernel // 2"
    ) -> str:
        padding = {"1": [], "3": ["padding=1"]}.get(kernel, [f"padding={halved}"])
        return self.new("nn.Conv2d", inputs, outputs, kernel, *more, *padding, *([] if bias else ["bias=False"]))

    def transposed(self, inputs: str, outputs: str) -> str:
        return f"nn.ConvTranspose2d({inputs}, {outputs}, 3, stride=2, padding=1, output_padding=1)"

    def norm(self, channels: str, *, affine: bool = True) -> str:
        return self.new("nn.BatchNorm2d", channels, *([] if affine else ["affine=False"]))

    def linear(self, inputs: str, outputs: str) -> str:
        return f"nn.Linear({inputs}, {outputs})"

    def define(self, name: str, doc: str, arguments: str, fields: Fields, inputs: str, body: Sequence[str]) -> str:
        init = [f"    def __init__(self{arguments and f', {arguments}'}):", "        super().__init__()"]
        return _class(f"{name}(nn.Module)", doc, init, fields, f"    def forward(self, {inputs}):", body)

    def shape(self, batch: Sequence[int], side: int, channels: int) -> tuple[int, ...]:
        return (*batch, channels, side, side)

    def main(self, shape: tuple[int, ...]) -> str:
        return f"""if __name__ == "__main__":
    network = Network().eval()
    print("parameters:", sum(parameter.numel() for parameter in network.parameters()))
    images = torch.randn{shape}
    with torch.no_grad():
        print("images:", list(images.shape), "outputs:", list(network(images).shape))"""


class _Flax(Dialect):
    name, words = "flax", "plain Flax NNX"
    imports = "import jax\nimport jax.numpy as jnp\nfrom flax import nnx"
    image = "[{batch}, {side}, {side}, {channels}]"
    helpers = {  # noqa: RUF012
        "average3": '''
def average3(x):
    """Averages over 3x3 windows; pixels beyond the border are left out."""
    return nnx.avg_pool(x, (3, 3), strides=(1, 1), padding=((1, 1), (1, 1)), count_include_pad=False)
''',
        "resize": '''
def resize(x, sides):
    """Interpolates bilinearly to a height and a width."""
    return jax.image.resize(x, (len(x), *sides, x.shape[-1]), "bilinear", antialias=False)
''',
    }
    calls = {  # noqa: RUF012
        "relu": "nnx.relu({})",
        "leaky_relu": "nnx.leaky_relu({}, 0.2)",
        "tanh": "jnp.tanh({})",
        "average3": "average3({})",
        "average2": "nnx.avg_pool({}, (2, 2), strides=(2, 2))",
        "mean": "{}.mean(axis=(1, 2))",
        "flatten": "{0}.reshape(len({0}), -1)",
        "zeros": "jnp.zeros_like({})",
        "resize": "resize({}, {})",
        "enlarge": "{}.repeat(2, axis=1).repeat(2, axis=2)",
        "shift": "jnp.pad({}[:, 1:, 1:], ((0, 0), (0, 1), (0, 1), (0, 0)))",
        "sides": "{}.shape[-3:-1]",
        "join": "jnp.concatenate({}, axis=-1)",
        "modules": "nnx.List({})",
        "empty": "jnp.zeros((len({0}), ({0}.shape[1] + 1) // 2, ({0}.shape[2] + 1) // 2, {1}), {0}.dtype)",
        "on_pixel": "{}({}[:, None, None, :])[:, 0, 0, :]",
        "merge": "{0}.reshape(-1, *{0}.shape[2:])",
    }

    def new(self, kind: str, *arguments: str) -> str:
        return f"{kind}({', '.join((*arguments, 'rngs=rngs'))})"

    def sequence(self, modules: Sequence[str]) -> str:
        return f"nnx.Sequential({', '.join(modules)})"

    def convolution(
        self, inputs: str, outputs: str, kernel: str, *more: str, bias: bool = False, halved: str = "kernel // 2"
    ) -> str:
        padding = {"1": "0", "3": "1"}.get(kernel, halved)
        options = [f"padding={padding}", *([] if bias else ["use_bias=False"]), "kernel_init=HE"]
        return self.new("nnx.Conv", inputs, outputs, f"({kernel}, {kernel})", *more, *options)

    def transposed(self, inputs: str, outputs: str) -> str:
        options = ("(3, 3)", "strides=(2, 2)", "padding=((1, 2), (1, 2))", "kernel_init=HE")
        return self.new("nnx.ConvTranspose", inputs, outputs, *options)

    def norm(self, channels: str, *, affine: bool = True) -> str:
        options = [] if affine else ["use_bias=False", "use_scale=False"]
        return self.new("nnx.BatchNorm", channels, "momentum=0.9", *options)

    def linear(self, inputs: str, outputs: str) -> str:
        return self.new("nnx.Linear", inputs, outputs)

    def define(self, name: str, doc: str, arguments: str, fields: Fields, inputs: str, body: Sequence[str]) -> str:
        init = [f"    def __init__(self, {arguments and f'{arguments}, '}*, rngs):"]
        return _class(f"{name}(nnx.Module)", doc, init, fields, f"    def __call__(self, {inputs}):", body)

    def shape(self, batch: Sequence[int], side: int, channels: int) -> tuple[int, ...]:
        return (*batch, side, side, channels)

    def main(self, shape: tuple[int, ...]) -> str:
        return f'''def load_weights(network, weights):
    """Sets the weights of a network to arrays by name, such as numpy.load("weights.npz")."""
    state = nnx.state(network, (nnx.Param, nnx.BatchStat))
    for path, variable in nnx.to_flat_state(state):
        variable.set_value(jnp.asarray(weights[".".join(map(str, path))]))
    nnx.update(network, state)


if __name__ == "__main__":
    network = Network(rngs=nnx.Rngs(0))
    network.eval()
    print("parameters:", sum(leaf.size for leaf in jax.tree.leaves(nnx.state(network, nnx.Param))))
    images = jax.random.normal(jax.random.key(0), {shape})
    print("images:", list(images.shape), "outputs:", list(network(images).shape))'''


TORCH, FLAX = _Torch(), _Flax()
DIALECTS: dict[str, Dialect] = {"torch": TORCH, "flax": FLAX}
