"""The options of ncp_cross_task.py."""

from __future__ import annotations

import dataclasses

from harness.script import ExperimentConfig


@dataclasses.dataclass(frozen=True)
class Config(ExperimentConfig):
    """Options.

    Attributes:
      seeds: number of runs on complete tables, with seeds 0, 1, ….
      spaces: nas-bench-mr, micro, macro (TransNAS-Bench-101), nas-bench-201 or digits; by default all that are on this
        machine (nas-bench-201 with --on-test), and digits.
      targets: tasks that are searched; by default all, but for those that are only sources.
      sources: tasks that are sources; by default all others of a target.
      labels: numbers of labels of the target, from 10 to 500.
      source_budget: number of architectures that a search of a source pays for, whose codes are starts.
      source_labels: number of random labels that a source's networks learn; 0 for its complete table.
      ensembles: number of pairs of ensembles on nas-bench-mr, with seeds 0, 1, ….
      members: networks of each of these ensembles.
      codes: starts of each inversion on nas-bench-mr.
      on_test: allow tables of test values (nas-bench-201); records say so.
    """

    seeds: int = 20
    spaces: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    labels: tuple[int, ...] = (10, 20, 50, 100, 200, 500)
    source_budget: int = 100
    source_labels: int = 0
    ensembles: int = 5
    members: int = 4
    codes: int = 1024
    on_test: bool = False
