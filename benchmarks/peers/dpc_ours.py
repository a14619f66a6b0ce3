"""Worker that measures this package: the phase of a scan in memory from its centres of mass."""

from __future__ import annotations

import numpy as np
from dpc import Scan, serve_dpc


def ways(scan: Scan):
    """Ways to the phase: rotation known or measured, every method."""
    from py4DSTEM import DataCube, RunOptions

    cube = DataCube(scan.data).with_calibration(
        R_pixel_size=scan.step_A, R_pixel_units="A", Q_pixel_size=scan.pixel_per_A,
        Q_pixel_units="A^-1", energy_eV=scan.energy_eV,
    )  # fmt: skip
    options = RunOptions(workers=1)
    known = {"rotation_rad": np.deg2rad(scan.rotation_deg), "flip": False}

    def run(**choices):
        found = cube.dpc(**choices, options=options)
        return {"phase": found.phase.data, "rotation_deg": np.array(found.rotation_deg)}

    return {
        "least-squares": lambda: run(**known),
        "iterative": lambda: run(method="iterative", **known),
        "high-pass": lambda: run(high_pass=0.1, **known),
        "measured": lambda: run(near_deg=scan.rotation_deg),
    }


if __name__ == "__main__":
    serve_dpc(__doc__, ("py4DSTEM", "numpy", "scipy", "numba"), ways)
