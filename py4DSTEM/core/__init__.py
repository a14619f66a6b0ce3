"""Values: axes, calibration, cubes, slices, points, detectors, metadata and history."""
