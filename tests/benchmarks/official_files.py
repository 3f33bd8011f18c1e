"""Writes files of the forms that benchmarks are published as, of any size, with values of our own."""

from __future__ import annotations

from typing import Any

import numpy as np

from ncp_jax.spaces import get_space

TASKS = ("class_scene", "class_object", "room_layout", "jigsaw", "segmentsemantic", "normal", "autoencoder")
QUANTITIES = {
    "class_scene": ("top1", "loss"),
    "class_object": ("top1", "loss"),
    "jigsaw": ("top1", "loss"),
    "room_layout": ("neg_loss", "loss"),
    "segmentsemantic": ("acc", "mIoU", "loss"),
    "normal": ("ssim", "l1_loss"),
    "autoencoder": ("ssim", "l1_loss"),
}
INFO = ("inference_time", "encoder_params", "model_params", "model_FLOPs", "encoder_FLOPs")


def transnas(*, micro: int, macro: int, epochs: int = 25, seed: int = 0) -> dict[str, Any]:
    """Returns the content of a TransNAS-Bench-101 file with the first architectures of each space."""
    rng = np.random.default_rng(seed)
    data: dict[str, Any] = {}
    for kind, count in (("macro", macro), ("micro", micro)):
        space = get_space(f"transnas-{kind}")
        if count:
            names = space.to_strings(space.from_index(np.arange(count)))
            data[kind] = {name: {task: _result(task, epochs, rng) for task in TASKS} for name in names}
    metrics = {
        task: [f"{split}_{name}" for split in ("train", "valid", "test") for name in QUANTITIES[task]]
        + ["time_elapsed"]
        for task in TASKS
    }
    return {"metrics_dict": metrics, "info_names": list(INFO), "task_list": list(TASKS), "data": data}


def _result(task: str, epochs: int, rng: np.random.Generator) -> dict[str, Any]:
    metrics = {}
    for split in ("train", "valid", "test"):
        for name in QUANTITIES[task]:
            values = rng.random(epochs)
            metrics[f"{split}_{name}"] = (-values if name == "neg_loss" else values).tolist()
    metrics["time_elapsed"] = np.cumsum(rng.random(epochs)).tolist()
    return {
        "total_epochs": epochs,
        "model_info": dict(zip(INFO, rng.random(5).tolist(), strict=True)),
        "metrics": metrics,
    }
