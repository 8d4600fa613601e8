"""Parametric head models behind one interface (`HeadModel`) and their loaders."""
