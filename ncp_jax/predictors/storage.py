"""Saves and loads predictors as single npz files: weights, standardisation, and a JSON header."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ncp_jax import checks
from ncp_jax.array_files import read_headed_npz, write_npz
from ncp_jax.metrics import MetricSpec
from ncp_jax.predictors.folded import FoldedMLP
from ncp_jax.predictors.predictor import Predictor, Standardisation
from ncp_jax.predictors.products import check_precision
from ncp_jax.spaces import check_digest, get_space

FORMAT = 1
_SCALES = ("x_mean", "x_std", "y_mean", "y_std")


def save_predictor(
    path: str | Path, predictor: Predictor, *, card: dict[str, Any] | None = None, half: bool = False
) -> Path:
    """Writes a predictor of folded layers to an npz file (atomically).

    Args:
      path: the file.
      predictor: the predictor; its ``apply`` must be a FoldedMLP.
      card: JSON-ready facts to store with it, of the caller's choice: recipe, data hashes, seeds, measured quality.
      half: whether to store the weights as float16 (relative rounding 5e-4). Loading converts them to float32.

    Raises:
      UsageError: the predictor is of another kind.
      OSError: the file cannot be written.
    """
    if not isinstance(predictor.apply, FoldedMLP):
        raise checks.UsageError(
            expected="a predictor of folded layers", got=type(predictor.apply).__name__, remedy="fold it before saving"
        )
    header = {"format": FORMAT, **predictor.to_json(), "card": card or {}}
    del header["members"]  # the shape of the weights has it
    if digest := get_space(predictor.space).digest:
        header["space_digest"] = digest
    number = np.float16 if half else np.float32
    arrays = {f"w{i}": np.asarray(w, number) for i, w in enumerate(predictor.params["w"])}
    arrays |= {f"b{i}": np.asarray(b, number) for i, b in enumerate(predictor.params["b"])}
    arrays |= {name: np.asarray(getattr(predictor.scale, name), np.float32) for name in _SCALES}
    arrays["header"] = np.frombuffer(json.dumps(header, sort_keys=True).encode(), np.uint8)
    return write_npz(path, arrays, compressed=True)


def load_predictor(path: str | Path) -> tuple[Predictor, dict[str, Any]]:
    """Reads a predictor and its card. Nothing in the file is executed.

    Raises:
      FileNotFoundError: the file does not exist.
      DataError: the file is truncated, altered, or of another format.
    """
    try:
        content = Path(path).read_bytes()
    except FileNotFoundError as error:
        raise checks.MissingError(
            expected=f"a predictor at {path}", got="no such file", remedy="train one with --retrain, or check the path"
        ) from error
    try:
        header, arrays = read_headed_npz(content, FORMAT)
        check_digest(header["space"], header.get("space_digest", ""), os.fspath(path))
        return _assemble(header, arrays), dict(header["card"])
    except checks.DataError:
        raise
    except (ValueError, LookupError, TypeError, OSError, RecursionError) as error:
        raise checks.DataError(
            expected=f"a predictor file of format {FORMAT} at {path}",
            got=f"something else ({error})",
            remedy="train it anew or reinstall",
        ) from error


def _assemble(header: dict[str, Any], arrays: dict[str, np.ndarray]) -> Predictor:
    apply = dict(header["apply"])
    if apply.pop("kind") != "FoldedMLP":
        raise ValueError(f"kind {header['apply']['kind']}")
    layers = sum(name.startswith("w") for name in arrays)
    metrics = tuple(MetricSpec(**m) for m in header["metrics"])
    folded = FoldedMLP(**apply)
    check_precision(folded.precision)
    if not isinstance(folded.log, bool):
        raise ValueError(f"log {folded.log!r}")
    _check_arrays(arrays, layers, get_space(header["space"]).features, len(metrics), log=folded.log)
    params: dict[str, Any] = {
        letter: tuple(jax.device_put(arrays[f"{letter}{i}"].astype(np.float32)) for i in range(layers))
        for letter in ("w", "b")
    }
    scale = Standardisation(*(jax.device_put(arrays[name].astype(np.float32)) for name in _SCALES))
    if folded.log:
        members = params["w"][0].shape[0]
        params |= {name: jax.device_put(np.tile(arrays[name], (members, 1))) for name in ("x_mean", "x_std")}
    return Predictor(params, scale, folded, metrics, header["space"])


def _check_arrays(arrays: Mapping[str, np.ndarray], layers: int, features: int, metrics: int, *, log: bool) -> None:
    """Raises ValueError unless the arrays are those of layers from the features of a space to metrics."""
    members, width = arrays["w0"].shape[0], features * (2 if log else 1)
    wanted: dict[str, tuple[int, ...]] = {"x_mean": (features,), "x_std": (features,)}
    wanted |= {"y_mean": (metrics,), "y_std": (metrics,)}
    for i in range(layers):
        out = metrics if i == layers - 1 else arrays[f"w{i}"].shape[-1]
        wanted |= {f"w{i}": (members, width, out), f"b{i}": (members, out)}
        width = out
    for name, shape in wanted.items():
        if arrays[name].shape != shape or 0 in shape:
            raise ValueError(f"{name} {list(arrays[name].shape)} for {layers} layers from {features} features")
        if arrays[name].dtype.kind != "f" or not np.isfinite(arrays[name].astype(np.float32)).all():
            raise ValueError(f"{name} that is not finite")
    if min(arrays["x_std"].min(), arrays["y_std"].min()) <= 0:
        raise ValueError("standard deviations that are not positive")
