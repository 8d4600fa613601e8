"""Exporters: what other programs load, made from a tracked subject's output folder."""
