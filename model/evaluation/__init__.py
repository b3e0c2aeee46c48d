"""Measures of how good propagated labels are. `metrics` is torch-free; importing this package imports nothing."""
