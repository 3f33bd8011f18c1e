"""Writes sub-networks at their real cost, to use without the whole model, and reads them back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from ncp_jax import checks, files
from ncp_jax.array_files import read_npz
from ncp_jax.controllable.answers import WidthChoice
from ncp_jax.controllable.config import ModelConfig
from ncp_jax.controllable.controllable import Controllable, pack_params
from ncp_jax.controllable.model import ControllableModel

FORMS = ("flax",)
FORMAT = "ncp-jax sub-network 1"


def export(model: Controllable, choice: WidthChoice, *, to: str, path: str | Path) -> list[Path]:
    """Writes the sub-network of one answer.

    Args:
      model: the trained model.
      choice: the answer, of one question.
      to: "flax": an npz of the weights, which ``load_subnetwork`` reads.
      path: the file.

    Returns:
      The files written.

    Raises:
      UsageError: an unknown form.
      OSError: the file cannot be written.
    """
    checks.choose("form of an export", to, FORMS)
    network = model.network(choice.codes)
    header = {
        "format": FORMAT,
        "model": model.config.to_json(),
        "widths": list(network.widths or ()),
        "flops": choice.flops,
        "params": choice.params,
    }
    arrays: dict[str, Any] = pack_params(nnx.state(network, nnx.Param))
    arrays["header"] = np.frombuffer(json.dumps(header).encode(), np.uint8)
    return [files.atomic_write(files.user_path(path), lambda file: np.savez(file, allow_pickle=False, **arrays))]


def load_subnetwork(path: str | Path) -> ControllableModel:
    """Reads a sub-network that was exported to Flax: call it with images [n, side, side, colours].

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is damaged, or of another format.
    """
    place = files.user_path(path)
    try:
        stored = read_npz(place.read_bytes())
        header = json.loads(stored["header"].tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"format {header['format']}")
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
