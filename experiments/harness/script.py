"""Runs an experiment script: parses its options, turns errors into one line, writes its summary."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from ncp_jax import checks
from ncp_jax.commands.command import Verbosity, has_work
from ncp_jax.console import guarded, prepare_jax
from ncp_jax.files import expand_home

Config = TypeVar("Config", bound=Verbosity)


@dataclasses.dataclass(frozen=True)
class ExperimentConfig(Verbosity):
    """Options of every experiment. Several names for one option have spaces or commas between them.

    Attributes:
      out: folder for config.json, records.jsonl, summary.json and figures.
      seeds: number of repetitions, with seeds 0, 1, ….
      smoke: run a small version that ends within a minute; its numbers mean nothing.
      resume: continue an interrupted run in ``out``, or a finished one with more seeds.
    """

    out: Path = Path("out")
    seeds: int = 1
    smoke: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        checks.integer("--seeds", self.seeds, least=1, remedy="try --seeds 1")
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple) and all(isinstance(name, str) for name in value):
                split = tuple(part for name in value for part in name.split(","))
                object.__setattr__(self, field.name, split)  # the class is frozen

    def settings(self) -> dict[str, Any]:
        """Returns the options that determine the results, JSON-ready: all but where they go and what is shown."""
        left_out = ("out", "resume", "quiet", "verbose")
        return {f.name: _to_json(getattr(self, f.name)) for f in dataclasses.fields(self) if f.name not in left_out}


def _to_json(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple | list):
        return [_to_json(v) for v in value]
    return value


def run_main(config_type: type[Config], run: Callable[[Config], Any], description: str) -> None:
    """Runs an experiment as a program: parses the command line, calls ``run``, exits with a status."""
    config: Config | None = None

    def parse_and_run() -> None:
        nonlocal config
        config = _parse(config_type, description)
        config.start()
        # A persistent cache of compiled programs makes the second run of an experiment start at once.
        prepare_jax()
        run(config)

    def keeps_work() -> bool:
        folder = getattr(config, "out", None)
        return folder is not None and has_work(folder)

    sys.exit(guarded(parse_and_run, keeps_work=keeps_work))


@contextlib.contextmanager
def compiled_fast(wanted: bool) -> Iterator[None]:
    """Makes programs compile in a third of the time within the block, and run slower: for smoke runs."""
    import jax

    before = jax.config.read("jax_disable_most_optimizations")
    jax.config.update("jax_disable_most_optimizations", before or wanted)
    try:
        yield
    finally:
        jax.config.update("jax_disable_most_optimizations", before)


def _parse(config_type: type[Config], description: str) -> Config:
    import tyro

    return expand_home(tyro.cli(config_type, description=description, config=(tyro.conf.FlagCreatePairsOff,)))


def write_summary(
    folder: Path,
    script: str,
    results: Mapping[str, Any],
    settings: Mapping[str, Any],
    *,
    versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Writes summary.json: its schema, the results, the settings, versions and device.

    Args:
      folder: the experiment's ``out``.
      script: name of the script; the schema is ``script/1``.
      results: JSON-ready results.
      settings: the settings in config.json.
      versions: versions of packages that the run card does not list.

    Returns:
      What was written.
    """
    from ncp_jax.records.journal import write_json
    from ncp_jax.records.run_card import run_card

    card = run_card()
    card["versions"] |= versions or {}
    summary = {"schema": f"{script}/1", **results, "config": settings, **card}
    write_json(folder / "summary.json", summary)
    return summary
