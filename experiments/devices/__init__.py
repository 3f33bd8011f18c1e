"""Predicts the latencies of a device from few measurements and from other devices."""
