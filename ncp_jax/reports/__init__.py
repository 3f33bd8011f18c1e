"""From a study's records to a page, a summary and CSV."""

from __future__ import annotations

from ncp_jax.reports.data import StudyData, load_study
from ncp_jax.reports.write import Report, describe, write_report

__all__ = ["Report", "StudyData", "describe", "load_study", "write_report"]
