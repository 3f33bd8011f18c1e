"""Writes a sub-network as an ONNX graph, node by node, with images and outputs of pixels as in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ncp_jax import checks
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.networks.layers import EPSILON

OPSET, IR = 18, 8  # resizing by axes needs this opset; the format's version is the one that came with it


def onnx_model(config: ModelConfig, widths: list[int], weights: Mapping[str, np.ndarray]) -> bytes:
    """Returns the content of an ONNX file: input "images" [n, colours, side, side], an output for each task.

    Args:
      config: sizes of the whole model.
      widths: widths of the sub-network.
      weights: its weights by their names and in the layouts of PyTorch.

    Raises:
      UsageError: onnx is not installed.
    """
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise checks.UsageError(
            expected="onnx, to write its files", got="none installed", remedy="pip install onnx"
        ) from error
    graph = _Graph(config, weights)
    features, x = [], "images"
    for place, (side, stride) in enumerate(zip(config.sides, config.strides, strict=True)):
        x = graph.stage(f"encoder.{place}", x, side, stride)
        features.append(x)
    outputs = []
    for place, target in enumerate(config.targets):
        name, classes = f"decoders.{place}", target.kind == "classes"
        graph.classes(name, features) if classes else graph.pixels(name, features)
        graph.nodes[-1].output[0] = target.name
        shape: list[str | int | None] = ["n", target.outputs, *([] if classes else [config.side] * 2)]
        outputs.append(helper.make_tensor_value_info(target.name, TensorProto.FLOAT, shape))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", config.colours, config.side, config.side])
    constants = [onnx.numpy_helper.from_array(array, name) for name, array in graph.constants.items()]
    body = helper.make_graph(graph.nodes, "network", [images], outputs, constants)
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
    model.producer_name = "ncp-jax"
    helper.set_model_props(model, {"widths": ", ".join(map(str, widths))})
    onnx.checker.check_model(model, full_check=True)
    return model.SerializeToString()


class _Graph:
    """Nodes and constants of a graph in the making; methods add nodes and return the name of what they compute."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
        self.config, self._weights = config, weights
        self.nodes: list[Any] = []
        self.constants: dict[str, np.ndarray] = {}

    def node(self, kind: str, *inputs: str, **attributes: Any) -> str:
        from onnx import helper

        name = f"{kind.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def weight(self, name: str, shape: tuple[int, ...] = ()) -> str:
        array = self._weights[name]
        self.constants[name] = array.reshape(shape) if shape else array
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        array = np.asarray(values, dtype)
        name = f"constant{len(self.constants)}"
        self.constants[name] = array
        return name

    def convolution(self, name: str, x: str, stride: int = 1, *, enlarges: bool = False) -> str:
        kernel = self._weights[f"{name}.weight"].shape[2:]
        options = {"strides": [stride] * 2, "pads": [kernel[0] // 2] * 4, "kernel_shape": list(kernel)}
        inputs = [x, self.weight(f"{name}.weight")]
        if f"{name}.bias" in self._weights:
            inputs.append(self.weight(f"{name}.bias"))
        if enlarges:
            return self.node("ConvTranspose", *inputs, output_padding=[stride - 1] * 2, **options)
        return self.node("Conv", *inputs, **options)

    def norm(self, name: str, x: str, side: int) -> str:
        channels = len(self._weights[f"{name}.scale"])
        if self.config.norm == "group":
            groups = channels // self.config.multiple
            ends = self.constant(np.ones(groups), np.float32), self.constant(np.zeros(groups), np.float32)
            y = self.node("Reshape", x, self.constant([0, groups, -1]))
            y = self.node("InstanceNormalization", y, *ends, epsilon=EPSILON)
            y = self.node("Reshape", y, self.constant([-1, channels, side, side]))
        else:
            axis = self.constant([1])
            y = self.node("Sub", x, self.node("ReduceMean", x, axis))
            var = self.node("ReduceMean", self.node("Mul", y, y), axis)
            y = self.node("Div", y, self.node("Sqrt", self.node("Add", var, self.constant(EPSILON, np.float32))))
        y = self.node("Mul", y, self.weight(f"{name}.scale", (channels, 1, 1)))
        return self.node("Add", y, self.weight(f"{name}.bias", (channels, 1, 1)))

    def layer(self, name: str, x: str, side: int, stride: int = 1) -> str:
        return self.norm(f"{name}.norm", self.convolution(f"{name}.convolution", x, stride), side)

    def stage(self, name: str, x: str, side: int, stride: int) -> str:
        x = self.node("Relu", self.layer(f"{name}.first", x, side, stride))
        y = self.node("Relu", self.layer(f"{name}.second", x, side))
        return self.node("Relu", self.node("Add", x, self.layer(f"{name}.third", y, side)))

    def classes(self, name: str, features: list[str]) -> str:
        x = self.node("Relu", self.layer(f"{name}.layer", features[-1], self.config.sides[-1]))
        x = self.node("ReduceMean", x, self.constant([2, 3]), keepdims=0)
        return self.node("Gemm", x, self.weight(f"{name}.last.weight"), self.weight(f"{name}.last.bias"), transB=1)

    def pixels(self, name: str, features: list[str]) -> str:
        config = self.config
        x = self.node("Relu", self.layer(f"{name}.first", features[-1], config.sides[-1]))
        for number, place in enumerate(range(config.stages - 2, -1, -1)):
            side, stride = config.sides[place], config.strides[place + 1]
            x = self.convolution(f"{name}.enlarging.{number}.convolution", x, stride, enlarges=stride == 2)
            if side < config.sides[place + 1] * stride:
                x = self.node("Slice", x, *(self.constant(v) for v in ([0, 0], [side, side], [2, 3])))
            x = self.node("Add", x, self.convolution(f"{name}.lateral.{number}", features[place]))
            x = self.node("Relu", self.norm(f"{name}.enlarging.{number}.norm", x, side))
        x = self.convolution(f"{name}.last", x)
        if config.sides[0] == config.side:
            return x
        options = {"mode": "linear", "coordinate_transformation_mode": "half_pixel", "axes": [2, 3]}
        return self.node("Resize", x, "", "", self.constant([config.side] * 2), **options)
