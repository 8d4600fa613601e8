"""MICA: one picture of a face to the 300 shape coefficients of its FLAME head, in metric size.

Source: Zielonka, Bolkart and Thies, Towards Metrical Reconstruction of Human Faces, ECCV 2022. Networks, key lists and
formulas were written down from the public program's files and checked against its numbers; the weights (mica.tar) have
a licence of their own and are not part of this project.
"""
