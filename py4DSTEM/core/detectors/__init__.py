"""Detector shapes, one kind per module; `core.detector` has them all."""
