"""Builds the generic head, `assets/generic_head.npz`, from the FaceMesh topology (docs/generic_head.md).

Inside this package lengths are millimetres (the anatomical constants read better); the written file has metres.
Axes are head space: x to the subject's left, y up, z out of the face.
"""
