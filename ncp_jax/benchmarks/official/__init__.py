"""Reads the files that benchmarks are published as, and keeps them as tables (``ncp-jax data import``)."""
