"""The solve of several frames at once, in float32 on any device; the same energy as `tracker.problem`."""
