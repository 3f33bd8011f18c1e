"""Carries the weights of a network to and from its exported files: a PyTorch state dict, or names of Flax variables."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from ncp_jax import checks, files
from ncp_jax.array_files import read_npz, write_npz
from ncp_jax.networks.export.layers import Layer, layers, variables
from ncp_jax.networks.layers import BatchNorm, Convolution
from ncp_jax.networks.network import Network

Framework = Literal["torch", "flax"]
FRAMEWORKS = ("torch", "flax")
_TORCH_NORM = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}
_IGNORED = re.compile(r"(^|\.)num_batches_tracked$|(^|\.)rngs\.|\.rng\b")  # of PyTorch's and Flax's own making


def export_weights(
    network: Network, framework: Framework = "torch", out: str | os.PathLike[str] | None = None
) -> dict[str, np.ndarray]:
    """Returns the weights of a network under the names, and in the layout, of its exported file.

    Examples:
      >>> import ncp_jax as ncp
      >>> network = ncp.build("nas-bench-201", [4, 1, 0, 3, 1, 0], "cifar10")
      >>> weights = ncp.export_weights(network, "torch")
      >>> weights["stem.conv.weight"].shape
      (16, 3, 3, 3)

    Args:
      network: a network of ``build`` with values.
      framework: "torch" for ``load_state_dict``, or "flax" for ``load_weights`` of the exported file.
      out: file to write them to as well, ".safetensors" (needs the extra ``safetensors``) or ".npz".

    Returns:
      Arrays by name, float32: parameters, and the running averages of BatchNorm.

    Raises:
      UsageError: another framework or ending of the file; the network is abstract; safetensors is not installed.
      OSError: the file cannot be written.
    """
    checks.choose("framework", framework, FRAMEWORKS)
    found = {}
    for layer in layers(network):
        for name, value in variables(layer.module).items():
            if isinstance(value.get_value(), jax.ShapeDtypeStruct):
                raise checks.UsageError(
                    expected="a network with values", got="an abstract one", remedy="build it without abstract=True"
                )
            array = _converted(to_torch, framework, layer, name, np.asarray(value[...], np.float32))
            found[_name(layer, name, framework)] = np.array(array, order="C")
    if out is not None:
        _write(Path(files.user_path(out)), found)
    return found


def import_weights(
    network: Network, weights: Mapping[str, Any] | str | os.PathLike[str], framework: Framework = "torch"
) -> None:
    """Sets the weights of a network to those of its exported file, as trained there.

    Args:
      network: a network of ``build``; it changes. It may be abstract.
      weights: arrays (or tensors on the host) by name, such as a state dict, or the path of a file of them: ".npz", or
        ".safetensors" (needs the extra ``safetensors``).
      framework: framework of the names and layouts.

    Raises:
      UsageError: another framework or ending; a name is missing or too many; a shape is another one.
      FileNotFoundError, DataError: the file is missing or not of its kind.
    """
    checks.choose("framework", framework, FRAMEWORKS)
    given = _read(weights) if isinstance(weights, str | os.PathLike) else dict(weights)
    given = {name: value for name, value in given.items() if not _IGNORED.search(name)}
    places = {
        _name(layer, name, framework): (layer, name, value)
        for layer in layers(network)
        for name, value in variables(layer.module).items()
    }
    missing, extra = sorted(places.keys() - given.keys()), sorted(given.keys() - places.keys())
    if missing or extra:
        what = [f"{len(missing)} missing ({missing[0]})"] * bool(missing) + [f"{len(extra)} more ({extra[0]})"] * bool(
            extra
        )
        raise checks.UsageError(
            expected=f"the {len(places)} names of weights of this network in {framework}",
            got=", ".join(what),
            remedy="take the weights of the same code, task and classes",
        )
    arrays = {}
    for full, (layer, name, variable) in places.items():
        array = _host(given[full])
        wanted = _converted(to_torch, framework, layer, name, np.empty(variable.shape, np.bool_)).shape
        if array.shape != wanted:
            raise checks.UsageError(
                expected=f"{full} of shape {list(wanted)}",
                got=f"{list(array.shape)}",
                remedy="take the weights of the same code, task and classes",
            )
        arrays[full] = jnp.asarray(_converted(from_torch, framework, layer, name, array.astype(np.float32)))
    for full, (_, _, variable) in places.items():  # nothing has changed before all is checked
        variable.set_value(arrays[full])


def _read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Returns the arrays of a file of weights."""
    file = Path(files.user_path(path))
    _check_ending(file)
    if not file.is_file():
        raise checks.MissingError(expected=f"weights at {file}", got="no such file", remedy="correct the path")
    content = file.read_bytes()
    try:
        return read_npz(content) if file.suffix == ".npz" else _safetensors().load(content)
    except checks.UsageError:
        raise
    except Exception as error:
        raise checks.DataError(
            expected=f"a whole {file.suffix} file of arrays at {file}",
            got=checks.shorten(f"{type(error).__name__}: {error}"),
            remedy="write it again with export_weights",
        ) from error


def _write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    _check_ending(file)
    if file.suffix == ".npz":
        write_npz(file, arrays)
    else:
        files.atomic_write(file, _safetensors().save(arrays))


def _check_ending(file: Path) -> None:
    if file.suffix not in (".npz", ".safetensors"):
        raise checks.UsageError(
            expected="a file of weights that ends in .safetensors or .npz", got=str(file), remedy="rename it"
        )


def _safetensors() -> Any:
    return checks.optional_module(
        "safetensors.numpy", what="safetensors, for this kind of file", extra="safetensors", instead="use .npz"
    )


def _host(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)


def _name(layer: Layer, name: str, framework: str) -> str:
    if framework == "flax":
        return f"{layer.flax}.{name}"
    return f"{layer.torch}.{_TORCH_NORM[name] if isinstance(layer.module, BatchNorm) else torch_name(name)}"


def torch_name(name: str) -> str:
    """Returns PyTorch's name of a variable of a convolution or linear layer."""
    return "weight" if name == "kernel" else name


def to_torch(kernel: np.ndarray, *, transposed: bool = False) -> np.ndarray:
    """Converts a kernel [k, k, inputs, outputs] or [inputs, outputs] to PyTorch's layout.

    Args:
      kernel: the kernel; that of a transposed convolution is not mirrored here, and mirrored there.
      transposed: whether the convolution is transposed.
    """
    return _mirrored(kernel, transposed).transpose(_axes(kernel.ndim, transposed))


def from_torch(kernel: np.ndarray, *, transposed: bool = False) -> np.ndarray:
    """Converts a kernel from PyTorch's layout, the inverse of ``to_torch``."""
    return _mirrored(kernel.transpose(np.argsort(_axes(kernel.ndim, transposed))), transposed)


def _mirrored(kernel: np.ndarray, transposed: bool) -> np.ndarray:
    return kernel[::-1, ::-1] if transposed else kernel


def _axes(axes: int, transposed: bool) -> tuple[int, ...]:
    """Returns our axes in PyTorch's order: outputs first, or inputs first if transposed."""
    if axes == 2:
        return (1, 0)
    return (2, 3, 0, 1) if transposed else (3, 2, 0, 1)


def _converted(convert: Callable[..., np.ndarray], framework: str, layer: Layer, name: str, array: Any) -> np.ndarray:
    """Converts an array by ``to_torch`` or ``from_torch``, where it is a kernel and the framework PyTorch."""
    if framework == "flax" or name != "kernel":
        return array
    return convert(array, transposed=isinstance(layer.module, Convolution) and layer.module.transposed)
