"""Controllable multi-task models: one trained model, whose widths are chosen from a budget and preferences."""
