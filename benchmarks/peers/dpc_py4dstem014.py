"""Worker that measures py4DSTEM 0.14: its DPC class, rotation given or searched for."""

from __future__ import annotations

import warnings

import numpy as np
from dpc import Scan, serve_dpc

# 0.14 draws a figure in every step; what it warns of is its own.
warnings.filterwarnings("ignore")


def ways(scan: Scan):
    """Ways to the phase: rotation known or measured, 64 iterations."""
    import matplotlib as mpl

    mpl.use("Agg")
    import py4DSTEM

    cube = py4DSTEM.DataCube(data=scan.data)
    cube.calibration.set_R_pixel_size(scan.step_A)
    cube.calibration.set_R_pixel_units("A")
    cube.calibration.set_Q_pixel_size(scan.pixel_per_A)
    cube.calibration.set_Q_pixel_units("A^-1")

    def run(**choices):
        found = py4DSTEM.process.phase.DPC(energy=scan.energy_eV, datacube=cube, verbose=False)
        found.preprocess(plot_rotation=False, plot_center_of_mass=False, **choices)
        found.reconstruct(max_iter=64, stopping_criterion=0.0, progress_bar=False)
        phase = np.asarray(found.object_phase)
        return {"phase": phase, "rotation_deg": np.array(np.rad2deg(found._rotation_best_rad))}

    known = {"force_com_rotation": scan.rotation_deg, "force_com_transpose": False}
    return {"64-iterations": lambda: run(**known), "measured": run}


if __name__ == "__main__":
    serve_dpc(__doc__, ("py4DSTEM", "numpy", "scipy"), ways)
