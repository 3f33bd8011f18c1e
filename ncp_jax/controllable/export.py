"""Writes sub-networks at their real cost, to use without the whole model, and reads them back."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax import checks, files
from ncp_jax.array_files import header_array, read_headed_npz, write_npz
from ncp_jax.controllable.answers import WidthChoice
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.controllable import Controllable, pack_params
from ncp_jax.controllable.encoders import find_encoder
from ncp_jax.controllable.frozen import freeze, pack_statistics, unpack_statistics
from ncp_jax.controllable.measurement import CALIBRATION
from ncp_jax.controllable.model import ControllableModel
from ncp_jax.controllable.onnx_file import onnx_model
from ncp_jax.networks.export.weights import to_torch, torch_name
from ncp_jax.networks.layers import Convolution
from ncp_jax.types import Float

FORMS = ("flax", "torch", "onnx")
FORMAT = "ncp-jax sub-network 1"
TEMPLATES = Path(__file__).parent / "templates"


def export(
    model: Controllable,
    choice: WidthChoice,
    *,
    to: str,
    path: str | Path,
    images: Float[Any, "n h w c"] | None = None,
) -> list[Path]:
    """Writes the sub-network of one answer.

    Args:
      model: the trained model.
      choice: the answer, of one question.
      to: "flax": an npz of the weights, which ``load_subnetwork`` reads. "torch": a Python module that needs torch and
        NumPy alone, and an npz of the weights beside it. "onnx": an ONNX file with the input "images"
        [n, colours, side, side] and an output for each task; needs onnx.
      path: the file.
      images: the model's training images. Statistics of BatchNorm are measured on the first of them, as those of the
        answers were. Models of other normalisations need none.

    Returns:
      The files written.

    Raises:
      UsageError: an unknown form, or one that the installed packages do not allow; a file of weights for the other
        framework where those of this one would go; no images, or images of another shape, for a model with BatchNorm.
      OSError: the file cannot be written.
    """
    form = checks.choose("form of an export", to, FORMS)
    place, config = files.user_path(path), model.config
    if form == "torch" and place.suffix != ".py":
        raise checks.UsageError(
            expected="a path that ends in .py for --to torch", got=str(place), remedy="the file is a Python module"
        )
    if form != "onnx":
        _refuse_other_weights(place.with_suffix(".npz") if form == "torch" else place, form)
    network = model.network(choice.codes)
    if config.norm == "batch":
        freeze(network, _calibration(config, images))
    if form == "flax":
        costs = {"flops": choice.flops, "params": choice.params}
        header: dict[str, Any] = {"model": config.to_json(), "widths": network.widths, **costs}
        arrays = {**pack_params(nnx.state(network, nnx.Param)), **pack_statistics(network)}
        return [write_npz(place, {**arrays, "header": header_array(FORMAT, header)})]
    weights = {**torch_weights(network), **pack_statistics(network)}
    if form == "onnx":
        return [files.atomic_write(place, onnx_model(network, weights))]
    beside = write_npz(place.with_suffix(".npz"), weights)
    return [files.atomic_write(place, torch_source(network).encode()), beside]


def _refuse_other_weights(path: Path, form: str) -> None:
    """Refuses to replace weights for Flax by those of a PyTorch module, or the other way round."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        there = "flax" if "header.npy" in archive.namelist() else "torch"
    if there != form:
        raise checks.UsageError(
            expected=f"no weights for {there} at {path}, where those for {form} would go",
            got=f"a file that --to {there} wrote",
            remedy="choose another name for --out",
        )


def _calibration(config: ModelConfig, images: Any) -> np.ndarray:
    """Returns the images that statistics of BatchNorm are measured on."""
    shape = (config.side, config.side, config.colours)
    if images is None or np.shape(images)[1:] != shape or not len(images):
        raise checks.UsageError(
            expected=f"training images [n, {', '.join(map(str, shape))}], to measure statistics of BatchNorm on",
            got="none" if images is None else f"shape {list(np.shape(images))}",
            remedy="give those that the model was trained on as images",
        )
    return np.asarray(images[:CALIBRATION], np.float32)


def torch_source(network: ControllableModel) -> str:
    """Returns the Python module of a sub-network in PyTorch."""
    config = network.config
    encoder, plan = find_encoder(config.encoder), config.plan
    sizes = {"encoder": encoder.text, **config.to_json(), **encoder.details, "read": plan.read, "steps": plan.steps}
    lines = [f'    "{name}": {json.dumps(value)},\n' for name, value in {**sizes, "widths": network.widths}.items()]
    literal = "".join(lines).replace("}, {", "},\n" + " " * 16 + "{")  # a line for each target
    names = ("sub_network.txt", *encoder.templates)
    main, *classes = ((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    source = main.replace("{encoder}\n", "\n\n".join(classes))
    return source.replace("{sizes}", f"{{\n{literal}}}")


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
    """Reads a sub-network that was exported to Flax, with its statistics of BatchNorm.

    Call it with images [n, side, side, colours].

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
        network = nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(state), leaves))
        if network.config.norm == "batch":
            unpack_statistics(network, stored)
    except FileNotFoundError as error:
        raise checks.MissingError(
            expected=f"a sub-network at {place}", got="no such file", remedy="write it with ncp-jax widths export"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise checks.DataError(
            expected=f"a file of format {FORMAT} at {place}", got=f"something else ({error})", remedy="export it anew"
        ) from error
    return network
