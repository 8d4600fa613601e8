"""Benchmarks: medians with the machine recorded; run as `python -m benchmarks.<name>`."""
