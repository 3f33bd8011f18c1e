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
    "segmentsemantic": ("loss", "acc", "mIoU"),
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


def trainings(seed: int, data: tuple[tuple[str, int], ...], epochs: int, *, whole: bool = True) -> dict[str, Any]:
    """Returns what NAS-Bench-201 and NATS-Bench hold of the trainings of one architecture, by data set and seed."""
    rng, made = np.random.default_rng(seed), {}
    for name, number in data:
        images = {"cifar10-valid": ("x-valid", "ori-test"), "cifar10": ("ori-test",)}.get(
            name, ("x-valid", "ori-test", "x-test")
        )
        keys = [
            f"{which}@{epoch}"
            for which in images
            for epoch in range(epochs)
            if whole or which == "x-valid" or epoch == epochs - 1
        ]
        made[name, number] = {
            "name": name,
            "train_acc1es": dict(enumerate(rng.random(epochs).tolist())),
            "train_acc5es": None,
            "train_losses": dict(enumerate(rng.random(epochs).tolist())),
            "train_times": dict(enumerate(rng.random(epochs).tolist())),
            "params": np.float64(0.5),
            "flop": 11.5,
            "seed": f"{number:04}",
            "epochs": epochs,
            "latency": [np.float64(0.25), np.float64(0.75)],
            "eval_names": list(images),
            "eval_acc1es": dict(zip(keys, rng.random(len(keys)).tolist(), strict=True)),
            "eval_losses": dict(zip(keys, rng.random(len(keys)).tolist(), strict=True)),
            "net_state_dict": None,
        }
    return made


def nas_bench_201(count: int) -> dict[str, Any]:
    """Returns the content of a NAS-Bench-201 file with the first architectures."""
    space = get_space("nas-bench-201")
    names = space.to_strings(space.from_index(np.arange(count)))
    infos = {}
    for place, name in enumerate(names):
        full = trainings(place, (("cifar10-valid", 777), ("cifar10", 777), ("cifar100", 888)), 3, whole=False)
        less = trainings(place, (("cifar10-valid", 777), ("cifar10-valid", 111 + place)), 2)
        infos[place] = {
            key: {"arch_index": place, "arch_str": name, "all_results": found, "dataset_seed": {}}
            for key, found in (("full", full), ("less", less))
        }
    return {"meta_archs": names, "arch2infos": infos, "evaluated_indexes": set(range(count))}
