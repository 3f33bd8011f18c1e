"""Trains the architectures of the digits benchmark in chunks, each written to disk as soon as it is finished."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from harness.script import ExperimentConfig

from ncp_jax import checks
from ncp_jax.records.journal import Record, Records
from ncp_jax.records.shards import read_shard
from ncp_jax.spaces.transnas_micro import TRANSNAS_MICRO
from ncp_jax.training.cells.program import Scores, TrainConfig, train_chunk
from ncp_jax.training.cells.tasks import TASKS, pools
from ncp_jax.types import Int

FORMAT = "ncp-jax digits 1"
ORDER_SEED = 0
SMOKE_LIMIT = 8  # architectures of a smoke run


@dataclasses.dataclass(frozen=True)
class GenerateConfig(ExperimentConfig):
    """Options of ``experiments/make_benchmark.py``.

    Attributes:
      out: folder for config.json, records.jsonl, digits.npz, card and figures.
      seeds: number of seeds of the first ``repeated`` architectures; the others are trained from seed 0 alone.
      repeated: number of architectures that are trained from all seeds.
      limit: number of architectures, the first of a fixed random order; all by default.
      tasks: tasks to train on; all by default, one with --smoke.
      shard: i/N: train only this share of the chunks, counted from 0 (or from 1).
      chunk: number of architectures trained in one call.
      epochs: epochs of every training.
      speed: number of architectures that are also trained one at a time, to compare the speed.
    """

    seeds: int = 2
    repeated: int = 500
    limit: int | None = None
    tasks: tuple[str, ...] = tuple(TASKS)
    shard: str = ""
    chunk: int = 64
    epochs: int = TrainConfig.epochs
    speed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("chunk", "epochs", *(("limit",) if self.limit is not None else ())):
            checks.integer(f"--{name}", getattr(self, name), least=1)
        for name in ("repeated", "speed"):
            checks.integer(f"--{name}", getattr(self, name), least=0)
        if self.shard:
            read_shard(self.shard)
        object.__setattr__(self, "tasks", tuple(checks.choose("task", task, TASKS) for task in self.tasks))
        if self.smoke:
            # The full benchmark takes an hour. A smoke run trains a few architectures on one task, since compiling the
            # program of each task takes longer than the trainings.
            if self.tasks == tuple(TASKS):
                object.__setattr__(self, "tasks", self.tasks[:1])
            object.__setattr__(self, "limit", min(self.limit or SMOKE_LIMIT, SMOKE_LIMIT))
            object.__setattr__(self, "repeated", min(self.repeated, SMOKE_LIMIT // 2))
            object.__setattr__(self, "chunk", min(self.chunk, SMOKE_LIMIT))

    def settings(self) -> dict[str, Any]:
        """Returns what determines the values of a training; the number of trainings and the shard do not."""
        tasks = {
            name: {field: value for field, value in dataclasses.asdict(task).items() if field != "make"}
            for name, task in TASKS.items()
        }
        return {"format": FORMAT, "training": dataclasses.asdict(self.training), "tasks": tasks, "chunk": self.chunk}

    @property
    def training(self) -> TrainConfig:
        """Settings of each training."""
        return TrainConfig(epochs=1, steps=2, batch=32) if self.smoke else TrainConfig(epochs=self.epochs)


@functools.cache
def architectures() -> Int[np.ndarray, "1948 6"]:
    """Returns one code of each isomorphism class (the canonical one), in a fixed random order."""
    unique = np.unique(np.asarray(TRANSNAS_MICRO.canonical(jnp.asarray(TRANSNAS_MICRO.all_codes()))), axis=0)
    return unique[np.random.default_rng(ORDER_SEED).permutation(len(unique))]


class Chunk(NamedTuple):
    """Architectures ``start`` to ``stop`` of ``architectures()`` on one task from one seed."""

    task: str
    seed: int
    start: int
    stop: int

    def cell(self) -> Record:
        """Returns the chunk as the cell of a record."""
        return self._asdict()


def make_chunks(config: GenerateConfig) -> list[Chunk]:
    """Returns the chunks in the order of training: all tasks of some architectures, then of the next ones."""
    total = len(architectures()) if config.limit is None else min(config.limit, len(architectures()))
    return [
        Chunk(task, seed, start, min(start + config.chunk, count))
        for seed in range(config.seeds)
        for count in [total if seed == 0 else min(total, config.repeated)]
        for start in range(0, count, config.chunk)
        for task in config.tasks
    ]


def to_record(scores: Scores, seconds: float) -> Record:
    """Returns the scores of a chunk as JSON, with None for trainings that diverged."""

    def rounded(array: Any) -> list:
        values = np.asarray(array)
        numbers = np.round(values.astype(np.float64), 4).astype(object)
        numbers[~np.isfinite(values)] = None
        return numbers.tolist()

    return {
        "final": rounded(scores.final),
        "best": rounded(scores.best),
        "epoch": scores.epoch.tolist(),
        "curve": rounded(scores.curve),
        "seconds": round(seconds / len(scores.epoch), 4),
    }


def generate(
    config: GenerateConfig,
    records: Records,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Trains the chunks that have no record yet; each is recorded as soon as it is finished."""
    mine, shares = read_shard(config.shard)
    chunks = [chunk for number, chunk in enumerate(make_chunks(config)) if number % shares == mine]
    total = sum(chunk.stop - chunk.start for chunk in chunks)
    done = 0
    for chunk in chunks:
        if records.get(chunk.cell()) is None:
            began = time.perf_counter()
            codes = architectures()[chunk.start : chunk.stop]
            scores = train_chunk(
                codes, TASKS[chunk.task], pools(chunk.task), chunk.seed, config.training, size=config.chunk
            )
            records.add(chunk.cell(), to_record(scores, time.perf_counter() - began))
        done += chunk.stop - chunk.start
        progress(done, total)
