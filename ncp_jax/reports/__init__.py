"""Reports of studies: a page, a summary, CSV and figures from the records."""

from __future__ import annotations

from ncp_jax.reports.data import StudyData, load_study
from ncp_jax.reports.report import Report
from ncp_jax.reports.write import describe, write_report

__all__ = ["Report", "StudyData", "describe", "load_study", "write_report"]
