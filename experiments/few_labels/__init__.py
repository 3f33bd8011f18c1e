"""Predictors that learn from few labels, inverted and compared with the table, for all seeds at once."""
