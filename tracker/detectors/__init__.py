"""Detectors of faces and landmarks behind small classes of our own; the heavy libraries are imported on use."""
