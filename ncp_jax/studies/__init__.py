"""Grids of runs, their records, statistics and figures."""
