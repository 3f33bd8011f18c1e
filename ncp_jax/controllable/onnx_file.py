"""Writes a sub-network as an ONNX graph, node by node, with images and outputs of pixels as in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ncp_jax.controllable.config import ModelConfig
from ncp_jax.networks.export.onnx_graph import Features, OnnxGraph, OnnxValue
from ncp_jax.networks.layers import EPSILON


def onnx_model(config: ModelConfig, widths: list[int], weights: Mapping[str, np.ndarray]) -> bytes:
    """Returns the content of an ONNX file: input "images" [n, colours, side, side], an output for each task.

    Args:
      config: sizes of the whole model.
      widths: widths of the sub-network.
      weights: its weights by their names and in the layouts of PyTorch.

    Raises:
      UsageError: onnx is not installed.
    """
    graph, sides = _Graph(config, weights), [config.side] * 2
    features, x = [], Features("images", (config.side, config.side))
    for place, stride in enumerate(config.strides):
        x = graph.stage(f"encoder.{place}", x, stride)
        features.append(x)
    outputs = []
    for place, target in enumerate(config.targets):
        name, classes = f"decoders.{place}", target.kind == "classes"
        graph.classes(name, features) if classes else graph.pixels(name, features)
        graph.name_output(target.name)
        outputs.append(OnnxValue(target.name, ["n", target.outputs, *([] if classes else sides)]))
    images = OnnxValue("images", ["n", config.colours, *sides])
    return graph.content(images, outputs, {"widths": ", ".join(map(str, widths))})


class _Graph(OnnxGraph):
    """The graph of one sub-network."""

    def __init__(self, config: ModelConfig, weights: Mapping[str, np.ndarray]) -> None:
        super().__init__(weights)
        self.config = config

    def norm(self, name: str, x: Features) -> Features:
        channels = len(self.weights[f"{name}.scale"])
        if self.config.norm == "group":
            groups = channels // self.config.multiple
            ones = self.array(f"ones_{groups}", np.ones(groups, np.float32))
            zeros = self.array(f"zeros_{groups}", np.zeros(groups, np.float32))
            y = self.node("Reshape", x.name, self.sizes([0, groups, -1]))
            y = self.node("InstanceNormalization", y, ones, zeros, epsilon=EPSILON)
            y = self.node("Reshape", y, self.sizes([-1, channels, *x.sides]))
        else:
            axis = self.sizes([1])
            y = self.node("Sub", x.name, self.node("ReduceMean", x.name, axis))
            var = self.node("ReduceMean", self.node("Mul", y, y), axis)
            epsilon = self.array("epsilon", np.array(EPSILON, np.float32))
            y = self.node("Div", y, self.node("Sqrt", self.node("Add", var, epsilon)))
        y = self.node("Mul", y, self.weight(f"{name}.scale", (channels, 1, 1)))
        return x._replace(name=self.node("Add", y, self.weight(f"{name}.bias", (channels, 1, 1))))

    def layer(self, name: str, x: Features, stride: int = 1) -> Features:
        return self.norm(f"{name}.norm", self.convolution(f"{name}.convolution", x, stride=stride))

    def stage(self, name: str, x: Features, stride: int) -> Features:
        x = self.relu(self.layer(f"{name}.first", x, stride))
        y = self.relu(self.layer(f"{name}.second", x))
        return self.relu(self.add(x, self.layer(f"{name}.third", y)))

    def classes(self, name: str, features: list[Features]) -> str:
        return self.linear(f"{name}.last", self.mean(self.relu(self.layer(f"{name}.layer", features[-1]))))

    def pixels(self, name: str, features: list[Features]) -> Features:
        x = self.relu(self.layer(f"{name}.first", features[-1]))
        for number, place in enumerate(range(len(features) - 2, -1, -1)):
            earlier, stride = features[place], self.config.strides[place + 1]
            enlarging = f"{name}.enlarging.{number}"
            x = self.convolution(f"{enlarging}.convolution", x, stride=stride, transposed=stride == 2)
            x = self.cropped(x, earlier.sides)
            x = self.add(x, self.convolution(f"{name}.lateral.{number}", earlier))
            x = self.relu(self.norm(f"{enlarging}.norm", x))
        return self.resize(self.convolution(f"{name}.last", x), (self.config.side, self.config.side))

    def cropped(self, x: Features, sides: tuple[int, int]) -> Features:
        """Adds the first pixels of features that have more than these sides."""
        if x.sides == sides:
            return x
        ends = self.sizes([0, 0]), self.sizes(sides), self.sizes([2, 3])
        return Features(self.node("Slice", x.name, *ends), sides)
