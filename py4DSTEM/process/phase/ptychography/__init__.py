"""Iterative ptychography: one forward model over slices and probe modes.

`patterns` reads and prepares what was measured; `geometry` says where each pattern looks; `start`
makes the first object and probe; `engines` take steps; `constraints` and `refine` change a state
between them; `result` is what comes out; `reconstruct` puts them together.
"""
