"""Runs the command line as ``python -m ncp_jax``."""

from ncp_jax.cli import main

main()
