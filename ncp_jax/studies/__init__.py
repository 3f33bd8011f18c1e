"""Studies of searchers: a grid (searcher × settings × benchmark × seed), its plan, its runner, its records."""

from __future__ import annotations

from ncp_jax.studies.grid import Grid, read_grid
from ncp_jax.studies.runner import RunnerOptions, StudyResult, run_study

__all__ = ["Grid", "RunnerOptions", "StudyResult", "read_grid", "run_study"]
