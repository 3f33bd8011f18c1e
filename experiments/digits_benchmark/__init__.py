"""Support of make_benchmark.py: generates the digits benchmark."""
