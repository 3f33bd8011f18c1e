"""Support of solve_orderings.py."""
