"""How good the optimum is that inversion finds: exhaustive search, rivals at equal wall time."""
