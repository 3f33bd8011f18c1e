"""Writes the report of a study (``ncp-jax report``)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from tyro.conf import Positional

from ncp_jax.commands.command import FileCommand, notify_written


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(FileCommand):
    """Turn a study's records into one HTML page, a summary, CSV files and figures.

    The report is made from the records alone. It can be made while the study still runs.

    Attributes:
      folder: Folder of the study, with study.json and records*.jsonl.
      json: Print report.json instead of the main table.
      out: Folder for report.html, report.json, CSV and PNG files; by default the study's own folder.
    """

    folder: Positional[Path]

    def run(self) -> None:
        """Writes the report and prints its main table."""
        from ncp_jax.reports import describe, write_report

        report = write_report(self.folder, self.out)
        self.show(report.to_json, lambda: describe(report))
        notify_written(report.paths)
