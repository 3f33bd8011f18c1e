"""Ordering solver on the published instances."""
