"""Writes sub-networks at their real cost, to use without the whole model, and reads them back."""

from __future__ import annotations

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax import checks, files
from ncp_jax.array_files import header_array, read_headed_npz, write_npz
from ncp_jax.controllable.answers import WidthChoice
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.controllable import Controllable, pack_params
from ncp_jax.controllable.encoders import RESIDUAL, find_encoder
from ncp_jax.controllable.model import ControllableModel
from ncp_jax.controllable.onnx_file import onnx_model
from ncp_jax.networks.export.weights import to_torch, torch_name
from ncp_jax.networks.layers import Convolution

FORMS = ("flax", "torch", "onnx")
FORMAT = "ncp-jax sub-network 1"


def export(model: Controllable, choice: WidthChoice, *, to: str, path: str | Path) -> list[Path]:
    """Writes the sub-network of one answer.

    Args:
      model: the trained model.
      choice: the answer, of one question.
      to: "flax": an npz of the weights, which ``load_subnetwork`` reads. "torch": a Python module that needs torch and
        NumPy alone, and an npz of the weights beside it. "onnx": an ONNX file with the input "images"
        [n, colours, side, side] and an output for each task; needs onnx.
      path: the file.

    Returns:
      The files written.

    Raises:
      UsageError: an unknown form; one that the model's encoder, tasks or normalisation, or the
        installed packages, do not allow.
      OSError: the file cannot be written.
    """
    form = checks.choose("form of an export", to, FORMS)
    place = files.user_path(path)
    if model.config.norm == "batch":
        raise checks.UsageError(
            expected="a model whose normalisation is group or layer",
            got="batch, whose statistics are measured for each width configuration",
            remedy="in Python, take Controllable.network(widths) and measured_statistics",
        )
    if form != "flax" and not find_encoder(model.config.encoder).torch:
        raise checks.UsageError(
            expected=f"the encoder {RESIDUAL} for --to {form}",
            got=model.config.encoder,
            remedy="take --to flax; other forms of this encoder are not written yet",
        )
    if form != "flax" and any(target.grid for target in model.config.targets):
        raise checks.UsageError(
            expected=f"a model without jigsaws for --to {form}",
            got=", ".join(target.name for target in model.config.targets if target.grid),
            remedy="take --to flax, or train a model without them",
        )
    network = model.network(choice.codes)
    sizes = {**model.config.to_json(), "widths": list(network.widths or ())}
    if form == "flax":
        header = {"model": model.config.to_json(), "widths": sizes["widths"]}
        header |= {"flops": choice.flops, "params": choice.params}
        arrays = pack_params(nnx.state(network, nnx.Param))
        arrays["header"] = header_array(FORMAT, header)
        return [write_npz(place, arrays)]
    weights = torch_weights(network)
    if form == "onnx":
        return [files.atomic_write(place, onnx_model(model.config, sizes["widths"], weights))]
    if place.suffix != ".py":
        raise checks.UsageError(
            expected="a path that ends in .py for --to torch", got=str(place), remedy="the file is a Python module"
        )
    template = (Path(__file__).parent / "templates" / "sub_network.txt").read_text(encoding="utf-8")
    source = template.replace('"""{}"""', f'"""{json.dumps(sizes)}"""')
    beside = write_npz(place.with_suffix(".npz"), weights)
    return [files.atomic_write(place, source.encode()), beside]


def torch_weights(network: ControllableModel) -> dict[str, np.ndarray]:
    """Returns the weights of a sub-network by their names and in the layouts of PyTorch."""
    transposed = {
        ".".join(map(str, path))
        for path, module in nnx.iter_modules(network)
        if isinstance(module, Convolution) and module.transposed
    }
    found = {}
    for name, array in pack_params(nnx.state(network, nnx.Param)).items():
        layer, _, last = name.rpartition(".")
        if last == "kernel":
            array = np.ascontiguousarray(to_torch(array, transposed=layer in transposed))
        found[f"{layer}.{torch_name(last)}"] = array
    return found


def load_subnetwork(path: str | Path) -> ControllableModel:
    """Reads a sub-network that was exported to Flax: call it with images [n, side, side, colours].

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is damaged, or of another format.
    """
    place = files.user_path(path)
    try:
        header, stored = read_headed_npz(place.read_bytes(), FORMAT)
        network = ControllableModel(ModelConfig.from_json(header["model"]), jax.random.key(0)).sliced(header["widths"])
        graph, state = nnx.split(network)
        names = pack_params(state)
        wrong = [name for name, array in names.items() if stored[name].shape != array.shape]
        if wrong:
            raise ValueError(f"{wrong[0]} of shape {list(stored[wrong[0]].shape)}")
        leaves = [jnp.asarray(stored[name]) for name in names]
    except FileNotFoundError as error:
        raise checks.MissingError(
            expected=f"a sub-network at {place}", got="no such file", remedy="write it with ncp-jax widths export"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise checks.DataError(
            expected=f"a file of format {FORMAT} at {place}", got=f"something else ({error})", remedy="export it anew"
        ) from error
    return nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(state), leaves))
