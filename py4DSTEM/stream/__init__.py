"""Tiles, operations and the engine: the only loop over a scan in the package."""
