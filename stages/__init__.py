"""The steps of a run: each reads the subject directory, calls `tracker`, and writes the subject directory.

A stage never imports another stage; they meet through `stages.subject` alone. `stages.pipeline` runs them in order.
"""
