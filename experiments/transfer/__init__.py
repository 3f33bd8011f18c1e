"""Arch-Graph and baselines, with each task in turn as the target and the others as its sources."""
