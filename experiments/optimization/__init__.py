"""How well inversion maximizes a predictor: against exhaustive search, and against other optimizers in equal time."""
