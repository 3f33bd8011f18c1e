"""Statistics of finished runs, with NumPy and SciPy only."""
