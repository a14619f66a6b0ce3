"""Iterations: one driver owns the loop, its end, progress, cancel, and the last good state."""
