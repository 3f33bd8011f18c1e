"""Builds the graph of an ONNX file node by node, with images [n, channels, height, width] as in PyTorch.

A converter of traced JAX programs would keep channels last and transpose around each convolution; the one that is kept
up, jax2onnx, also pins a version of Orbax that this package cannot have.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ncp_jax import checks

OPSET, IR = 18, 8  # resizing by axes needs this opset; the format's version is the one that came with it


class Features(NamedTuple):
    """A value of the graph: its name, and the sides of its pixels."""

    name: str
    sides: tuple[int, int] = (1, 1)


class OnnxValue(NamedTuple):
    """An input or output of a graph: its name, and its shape, of which named sizes stay open."""

    name: str
    shape: Sequence[int | str]


def _onnx() -> Any:
    return checks.optional_module("onnx", what="onnx, to write its files", extra="onnx")


class OnnxGraph:
    """Nodes and constants of a graph in the making; methods add nodes and return what they compute.

    Args:
      weights: weights by their names and in the layouts of PyTorch.

    Raises:
      UsageError: onnx is not installed.
    """

    def __init__(self, weights: Mapping[str, np.ndarray]) -> None:
        self.weights = weights
        self._onnx = _onnx()
        self._nodes: list[Any] = []
        self._constants: dict[str, np.ndarray] = {}

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Adds a node with one output, and returns its name. It has a dot, which no name of a task has."""
        name = f"{kind.lower()}.{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def array(self, name: str, array: np.ndarray) -> str:
        """Adds a constant, and returns its name."""
        self._constants[name] = np.ascontiguousarray(array)
        return name

    def sizes(self, values: Sequence[int]) -> str:
        """Adds a constant of integers, once for equal ones."""
        name = "sizes." + "_".join(map(str, values)).replace("-", "minus")
        return self.array(name, np.array(values, np.int64))

    def weight(self, name: str, shape: tuple[int, ...] | None = None) -> str:
        """Adds weights as a constant, in another shape where one is given."""
        array = self.weights[name]
        return self.array(name, array if shape is None else array.reshape(shape))

    def name_output(self, name: str) -> None:
        """Names the output of the last node."""
        self._nodes[-1].output[0] = name

    def convolution(self, name: str, x: Features, *, stride: int = 1, transposed: bool = False) -> Features:
        """Adds a layer of the weights ``name``, padded by (k - 1) // 2; a transposed one enlarges by the stride."""
        kernel = self.weights[f"{name}.weight"].shape[2:]
        inputs = [x.name, self.weight(f"{name}.weight")]
        if f"{name}.bias" in self.weights:
            inputs.append(self.weight(f"{name}.bias"))
        pads = [(kernel[0] - 1) // 2] * 4
        options = {"strides": [stride] * 2, "pads": pads, "kernel_shape": list(kernel)}
        if transposed:
            name = self.node("ConvTranspose", *inputs, output_padding=[stride - 1] * 2, **options)
            return Features(name, (x.sides[0] * stride, x.sides[1] * stride))
        return Features(self.node("Conv", *inputs, **options), reduced(x.sides, stride))

    def linear(self, name: str, x: str) -> str:
        """Adds a linear layer of the weights ``name``."""
        return self.node("Gemm", x, self.weight(f"{name}.weight"), self.weight(f"{name}.bias"), transB=1)

    def relu(self, x: Features) -> Features:
        """Adds a ReLU."""
        return x._replace(name=self.node("Relu", x.name))

    def add(self, *parts: Features) -> Features:
        """Adds the sum of features."""
        total = parts[0]
        for part in parts[1:]:
            total = total._replace(name=self.node("Add", total.name, part.name))
        return total

    def mean(self, x: Features) -> str:
        """Adds the mean over pixels."""
        return self.node("ReduceMean", x.name, self.sizes([2, 3]), keepdims=0)

    def resize(self, x: Features, sides: tuple[int, int], mode: str = "linear") -> Features:
        """Adds an interpolation, "linear" or "nearest", unless features have these sides."""
        if x.sides == sides:
            return x
        form = "half_pixel" if mode == "linear" else "asymmetric"
        options = {"mode": mode, "coordinate_transformation_mode": form, "nearest_mode": "floor", "axes": [2, 3]}
        return Features(self.node("Resize", x.name, "", "", self.sizes(sides), **options), sides)

    def content(
        self, images: OnnxValue, outputs: Sequence[OnnxValue], facts: Mapping[str, str], *, doc: str = ""
    ) -> bytes:
        """Returns the content of the file, checked: float32 inputs and outputs, facts as the model's metadata."""
        onnx, helper = self._onnx, self._onnx.helper

        def value(of: OnnxValue) -> Any:
            return helper.make_tensor_value_info(of.name, onnx.TensorProto.FLOAT, list(of.shape))

        constants = [onnx.numpy_helper.from_array(array, name) for name, array in self._constants.items()]
        body = helper.make_graph(self._nodes, "network", [value(images)], list(map(value, outputs)), constants)
        model = helper.make_model(
            body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR, producer_name="ncp-jax"
        )
        if doc:
            model.doc_string = doc
        helper.set_model_props(model, dict(facts))
        onnx.checker.check_model(model, full_check=True)
        return model.SerializeToString()


def reduced(sides: tuple[int, int], stride: int) -> tuple[int, int]:
    """Returns the sides behind a layer of a stride."""
    return -(-sides[0] // stride), -(-sides[1] // stride)


def parallel_blocks(apply: Callable[[Any, Any], Any], stage: Any, branches: list[Features]) -> list[Features]:
    """Adds a stage of a multi-resolution network: fusions, each followed by blocks on every branch.

    Args:
      apply: adds the nodes of a fusion (of all branches) or of a block (of one).
      stage: the stage, slimmable or not.
      branches: features of each branch.
    """
    for fusion, parallel in zip(stage.fusions, stage.branches, strict=True):
        branches = apply(fusion, branches)
        for place, blocks in enumerate(parallel):
            for block in blocks:
                branches[place] = apply(block, branches[place])
    return branches
