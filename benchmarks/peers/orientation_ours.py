"""Worker that measures this package: orientations from spot lists, all that it learns included."""

from __future__ import annotations

import numpy as np
from orientation import BASIS, COLUMNS, ENERGY_EV, ROWS, A, SpotLists, serve_orientation


def make(lists: SpotLists):
    """Everything is timed: plan, what is learnt from the scan, and matching with uncertainties."""
    import py4DSTEM
    from py4DSTEM.core.crystal import Crystal

    counts = np.array([len(one) for one in lists.lists])
    spots = np.concatenate(lists.lists)
    rx, ry = np.divmod(np.repeat(np.arange(len(counts)), counts), COLUMNS)
    columns = {"rx": rx, "ry": ry, "qx": spots[:, 1], "qy": spots[:, 0], "intensity": spots[:, 2]}
    peaks = py4DSTEM.BraggPeaks.from_columns(columns, (ROWS, COLUMNS)).with_calibration(
        origin_px=(0.0, 0.0), Q_pixel_size=1.0, Q_pixel_units="A^-1", energy_eV=ENERGY_EV
    )
    gold = Crystal.from_lattice([A], [("Au", tuple(place)) for place in BASIS])
    options = py4DSTEM.RunOptions(workers=1)

    def run() -> np.ndarray:
        found = py4DSTEM.match_orientations(peaks, gold, step_deg=2.0, options=options)
        return found.matrices.reshape(-1, 3, 3)

    return run


if __name__ == "__main__":
    serve_orientation(__doc__, ("py4DSTEM", "numpy", "numba"), make)
