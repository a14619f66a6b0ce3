"""Worker that measures this package: orientations from spot lists."""

from __future__ import annotations

import sys

import numpy as np
from orientation import BASIS, COLUMNS, ENERGY_EV, ROWS, A, SpotLists, serve_orientation


def peaks_of(lists: SpotLists):
    """The lists as Bragg peaks, calibrated; x and y exchanged, since our z points the other way."""
    import py4DSTEM

    counts = np.array([len(one) for one in lists.lists])
    spots = np.concatenate(lists.lists)
    rx, ry = np.divmod(np.repeat(np.arange(len(counts)), counts), COLUMNS)
    columns = {"rx": rx, "ry": ry, "qx": spots[:, 1], "qy": spots[:, 0], "intensity": spots[:, 2]}
    return py4DSTEM.BraggPeaks.from_columns(columns, (ROWS, COLUMNS)).with_calibration(
        origin_px=(0.0, 0.0), Q_pixel_size=1.0, Q_pixel_units="A^-1", energy_eV=ENERGY_EV
    )


def make(lists: SpotLists):
    """Plan and all that is learnt from the scan are timed, unless they are asked for before."""
    import py4DSTEM
    from py4DSTEM.process.crystal import orientation as steps

    peaks = peaks_of(lists)
    gold = py4DSTEM.Crystal.from_lattice([A], [("Au", tuple(place)) for place in BASIS])
    options = py4DSTEM.RunOptions(workers=1)
    wanted = steps.MatchOrientations(crystal=gold, step_deg=2.0)

    def whole() -> np.ndarray:
        return wanted.apply(peaks, options).matrices.reshape(-1, 3, 3)

    if "--prepared" not in sys.argv:
        return whole
    found = steps.match_crystal(peaks, gold, wanted, options)

    def matching() -> np.ndarray:
        again = steps.match_table(found.table, found.tuned, found.tuned.settings, options)
        return again.matrices[:, 0]

    return matching


if __name__ == "__main__":
    serve_orientation(__doc__, ("py4DSTEM", "numpy", "numba"), make)
