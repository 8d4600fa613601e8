"""Maths and models of the face tracker: head models, camera, shading, energy, solver, detectors.

Nothing in this package knows of subject directories, config files or progress bars (see docs/conventions.md).
"""
