"""Runs an experiment script: its options, its errors, its exit status."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from ncp_jax import checks
from ncp_jax.console import guarded, use_compilation_cache

Config = TypeVar("Config")


@dataclasses.dataclass(frozen=True)
class ExperimentConfig:
    """Options of every experiment.

    Attributes:
      out: folder for config.json, records.jsonl, summary.json and figures.
      seeds: how many repetitions, with seeds 0, 1, ….
      smoke: a version that ends within seconds; its figures mean nothing.
      resume: continue an interrupted run in ``out``.
    """

    out: Path = Path("out")
    seeds: int = 1
    smoke: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if self.seeds < 1:
            raise checks.UsageError(expected="--seeds >= 1", got=str(self.seeds), remedy="try --seeds 1")

    def settings(self) -> dict[str, Any]:
        """What determines the results, JSON-ready: everything but where they go and whether this is a continuation."""
        return {
            f.name: _plain(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name not in ("out", "resume")
        }


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value


def run_main(config_type: type[Config], run: Callable[[Config], Any], description: str) -> None:
    """The ``main`` of an experiment: parses options, runs, turns user errors into one line and an exit status."""

    def parse_and_run() -> None:
        config = _parse(config_type, description)
        # A persistent cache of compiled programs makes the second run of an experiment start at once.
        use_compilation_cache()
        run(config)

    sys.exit(guarded(parse_and_run))


def _parse(config_type: type[Config], description: str) -> Config:
    import tyro

    return tyro.cli(config_type, description=description, config=(tyro.conf.FlagCreatePairsOff,))
