"""Takes networks out of the package: source files of plain PyTorch and Flax NNX, ONNX files, weights."""

from __future__ import annotations

from ncp_jax.networks.export.onnx_file import export_onnx
from ncp_jax.networks.export.source import export_source
from ncp_jax.networks.export.weights import export_weights, import_weights

__all__ = ["export_onnx", "export_source", "export_weights", "import_weights"]
