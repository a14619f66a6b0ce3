"""Worker that measures quantem: OrientationMap."""

from __future__ import annotations

import numpy as np
from orientation import COLUMNS, ENERGY_EV, K_MAX, ROWS, A, SpotLists, serve_orientation


def make(lists: SpotLists):
    """The plan is not timed."""
    from ase.build import bulk
    from quantem.core.datastructures import Vector
    from quantem.diffraction import Crystal, OrientationMap

    rows = [list(lists.lists[r * COLUMNS : (r + 1) * COLUMNS]) for r in range(ROWS)]
    vectors = Vector.from_data(rows, fields=["qx", "qy", "intensity"])
    crystal = Crystal.from_ase(bulk("Au", "fcc", a=A, cubic=True), verbose=False)
    crystal.calculate_structure_factors(K_MAX)
    matcher = OrientationMap.from_vectors(vectors, crystal, energy_ev=ENERGY_EV)
    matcher.build_plan(
        angle_step_zone_axis_deg=2.0, angle_step_in_plane_deg=5.0, verbose=False,
        progress_bar=False,
    )  # fmt: skip

    def run() -> np.ndarray:
        matcher.match_orientations(num_matches=1, progress_bar=False, min_number_peaks=3)
        w, x, y, z = np.asarray(matcher.quats).reshape(len(lists.lists), -1)[:, :4].T
        rows = [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
        return np.moveaxis(np.array(rows), -1, 0)

    return run


if __name__ == "__main__":
    serve_orientation(__doc__, ("quantem", "torch", "numpy"), make)
