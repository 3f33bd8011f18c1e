"""Predictors that learn from few labels of a complete table, inverted for all seeds at once or under hard limits."""
