"""Loads tables of architectures and their metrics, from published benchmarks or a user's own files."""

from __future__ import annotations

from ncp_jax.benchmarks.arrays import TableArrays
from ncp_jax.benchmarks.catalogue import list_tables
from ncp_jax.benchmarks.epoch_guard import EpochGuard
from ncp_jax.benchmarks.fetch import Fetched, fetch_tables
from ncp_jax.benchmarks.guard import BudgetExceeded, QueryGuard
from ncp_jax.benchmarks.registry import load_arrays, load_table
from ncp_jax.benchmarks.sources import Source, all_sources
from ncp_jax.benchmarks.store import DataRow, FileCheck, cache_path, list_files, verify_files
from ncp_jax.benchmarks.table import MetricSpec, Table, join

__all__ = [
    "BudgetExceeded",
    "DataRow",
    "EpochGuard",
    "Fetched",
    "FileCheck",
    "MetricSpec",
    "QueryGuard",
    "Source",
    "Table",
    "TableArrays",
    "all_sources",
    "cache_path",
    "fetch_tables",
    "join",
    "list_files",
    "list_tables",
    "load_arrays",
    "load_table",
    "verify_files",
]
