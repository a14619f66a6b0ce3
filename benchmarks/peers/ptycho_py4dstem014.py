"""Worker that measures py4DSTEM 0.14: gradient descent, single-slice, multislice, mixed-state."""

from __future__ import annotations

import argparse
import warnings

import numpy as np
from ptycho import Peer, Scan, serve_ptychography

# 0.14 draws figures and warns of its own.
warnings.filterwarnings("ignore")


def make(scan: Scan, options: argparse.Namespace) -> Peer:
    """The class that fits the model, preprocessed."""
    import matplotlib as mpl

    mpl.use("Agg")
    import py4DSTEM

    cube = py4DSTEM.DataCube(data=scan.data)
    cube.calibration.set_R_pixel_size(scan.step_A)
    cube.calibration.set_R_pixel_units("A")
    cube.calibration.set_Q_pixel_size(scan.pixel_per_A)
    cube.calibration.set_Q_pixel_units("A^-1")
    known = {
        "datacube": cube, "energy": scan.energy_eV, "semiangle_cutoff": scan.semiangle_mrad,
        "defocus": scan.defocus_A, "verbose": False, "device": "cpu",
    }  # fmt: skip
    phase = py4DSTEM.process.phase
    if scan.slices > 1:
        found = phase.MultislicePtychography(
            num_slices=scan.slices, slice_thicknesses=scan.slice_A, **known
        )
    elif scan.modes > 1:
        found = phase.MixedstatePtychography(num_probes=scan.modes, **known)
    else:
        found = phase.SingleslicePtychography(**known)
    found.preprocess(
        plot_rotation=False, plot_center_of_mass=False, plot_probe_overlaps=False,
        force_com_rotation=0, force_com_transpose=False,
    )  # fmt: skip

    def passes(count: int) -> None:
        found.reconstruct(
            num_iter=count, max_batch_size=options.batch, progress_bar=False, reset=False,
            seed_random=0, reconstruction_method="gradient-descent", step_size=0.5,
        )  # fmt: skip

    def angle() -> np.ndarray:
        image = np.angle(np.asarray(found.object))
        return image.sum(axis=0) if image.ndim == 3 else image

    return Peer(passes, angle)


if __name__ == "__main__":
    serve_ptychography(__doc__, ("py4DSTEM", "numpy", "scipy"), make, ("py4DSTEM",))
