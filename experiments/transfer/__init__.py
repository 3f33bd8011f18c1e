"""Arch-Graph and its rivals, each task in turn the target and the others its sources."""
