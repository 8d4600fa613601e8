"""Compiled inner loops of the solver on the CPU; each has a torch twin that tests compare it with."""
