"""Kendall's tau of predictors on architectures that they have not seen."""
