"""Worker that measures py4DSTEM 0.14: Crystal.match_orientations."""

from __future__ import annotations

import warnings

import numpy as np
from orientation import BASIS, COLUMNS, ENERGY_EV, K_MAX, ROWS, A, SpotLists, serve_orientation

warnings.filterwarnings("ignore")


def make(lists: SpotLists):
    """The plan is not timed."""
    from emdfile import PointListArray

    import py4DSTEM

    crystal = py4DSTEM.process.diffraction.Crystal(BASIS, 79, A)
    crystal.calculate_structure_factors(K_MAX)
    crystal.orientation_plan(
        angle_step_zone_axis=2.0, angle_step_in_plane=2.0,
        zone_axis_range=np.array([[0, 1, 1], [1, 1, 1]]), accel_voltage=ENERGY_EV,
        corr_kernel_size=0.08, sigma_excitation_error=0.02, progress_bar=False,
    )  # fmt: skip
    dtype = [("qx", float), ("qy", float), ("intensity", float)]
    table = PointListArray(dtype=dtype, shape=(ROWS, COLUMNS))
    for k, one in enumerate(lists.lists):
        rows = np.zeros(len(one), dtype)
        rows["qx"], rows["qy"], rows["intensity"] = one.T
        table[divmod(k, COLUMNS)].add(rows)
    vectors = py4DSTEM.BraggVectors((ROWS, COLUMNS), (256, 256))
    vectors.set_raw_vectors(table)
    zero = np.zeros((ROWS, COLUMNS))
    vectors.calibration.set_origin((zero, zero))
    vectors.calibration.set_Q_pixel_size(1.0)
    vectors.calibration.set_Q_pixel_units("A^-1")
    vectors.setcal(center=True, pixel=True, ellipse=False, rotate=False)

    def run() -> np.ndarray:
        found = crystal.match_orientations(
            vectors, num_matches_return=1, min_number_peaks=3, progress_bar=False
        )
        return found.matrix[:, :, 0].reshape(-1, 3, 3).transpose(0, 2, 1)

    return run


if __name__ == "__main__":
    serve_orientation(__doc__, ("py4DSTEM", "numpy"), make)
