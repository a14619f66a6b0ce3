"""Patterns in polar coordinates: transforms, statistics of rings, ring fits."""
