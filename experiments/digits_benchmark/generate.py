"""The trainings of the benchmark: a plan of chunks, each a record on disk as soon as it is finished."""

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
from ncp_jax.spaces.cells import TRANSNAS_MICRO
from ncp_jax.training.cells.program import Scores, TrainConfig, train_chunk
from ncp_jax.training.cells.tasks import TASKS, pools
from ncp_jax.types import Int

FORMAT = "ncp-jax digits 1"
ORDER_SEED = 0


@dataclasses.dataclass(frozen=True)
class GenerateConfig(ExperimentConfig):
    """Options of ``experiments/make_benchmark.py``.

    Attributes:
      out: folder for config.json, records.jsonl, digits.npz, card and figures.
      seeds: seeds of every architecture in ``repeated``; the others have seed 0 alone.
      repeated: how many architectures are trained from all seeds.
      limit: only so many architectures (the first of a fixed random order).
      tasks: which tasks.
      shard: i/N: only this share of the chunks, counted from 0 (or from 1).
      chunk: architectures trained in one call.
      epochs: of every training.
      speed: train so many architectures one at a time too, and compare.
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
            if getattr(self, name) < 1:
                raise checks.UsageError(expected=f"--{name} >= 1", got=str(getattr(self, name)), remedy="give another")
        for name in ("repeated", "speed"):
            if getattr(self, name) < 0:
                raise checks.UsageError(expected=f"--{name} >= 0", got=str(getattr(self, name)), remedy="give another")
        if self.shard:
            read_shard(self.shard)
        object.__setattr__(self, "tasks", tuple(checks.choose("task", task, TASKS) for task in self.tasks))

    def settings(self) -> dict[str, Any]:
        """What determines the values of a training: neither how many there are nor who makes them."""
        tasks = {
            name: {field: value for field, value in dataclasses.asdict(task).items() if field != "make"}
            for name, task in TASKS.items()
        }
        return {"format": FORMAT, "training": dataclasses.asdict(self.training), "tasks": tasks, "chunk": self.chunk}

    @property
    def training(self) -> TrainConfig:
        """How each architecture is trained."""
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
        """The chunk as a record's cell."""
        return self._asdict()


def plan(config: GenerateConfig) -> list[Chunk]:
    """Returns the chunks in the order they are trained: all tasks of some architectures, then of the next."""
    total = len(architectures()) if config.limit is None else min(config.limit, len(architectures()))
    return [
        Chunk(task, seed, start, min(start + config.chunk, count))
        for seed in range(config.seeds)
        for count in [total if seed == 0 else min(total, config.repeated)]
        for start in range(0, count, config.chunk)
        for task in config.tasks
    ]


def to_record(scores: Scores, seconds: float) -> Record:
    """Scores of a chunk as JSON; None for what diverged."""

    def plain(array: Any) -> list:
        values = np.asarray(array)
        rounded = np.round(values.astype(np.float64), 4).astype(object)
        rounded[~np.isfinite(values)] = None
        return rounded.tolist()

    return {
        "final": plain(scores.final),
        "best": plain(scores.best),
        "epoch": scores.epoch.tolist(),
        "curve": plain(scores.curve),
        "seconds": round(seconds / len(scores.epoch), 4),
    }


def generate(
    config: GenerateConfig,
    records: Records,
    *,
    progress: Callable[[int, int], object] = lambda done, total: None,
) -> None:
    """Trains the chunks that have no record yet; each is on disk as soon as it is finished."""
    mine, shares = read_shard(config.shard)
    chunks = [chunk for number, chunk in enumerate(plan(config)) if number % shares == mine]
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
