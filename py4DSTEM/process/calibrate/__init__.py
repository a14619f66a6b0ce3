"""Measure what a calibration holds: origin, ellipse, pixel size, rotation."""
