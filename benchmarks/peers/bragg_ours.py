"""Worker that measures this package: disks with each of its subpixel methods.

Spacing, edge and smoothing are the settings of all peers; what counts as a disk is the default of
the package, a significance. Probe and patterns are there before the clock starts.

With ``--repeats`` the patterns are searched so often over, as one scan: choosing defaults costs the
same for a scan of any size, and few scans have only a thousand positions.
"""

from __future__ import annotations

from bragg import EDGE_PX, SMOOTHING_PX, Patterns, serve_detector


def make(patterns: Patterns, options):
    """The probe measured from its pattern, and the search."""
    import numpy as np

    import py4DSTEM

    cube = py4DSTEM.DataCube(np.tile(patterns.cube, (options.repeats, 1, 1, 1)))
    rows = len(patterns.cube)
    probe = py4DSTEM.measure_probe(patterns.probe)
    run = py4DSTEM.RunOptions(workers=options.workers, progress=False)

    def detect():
        return py4DSTEM.find_bragg_disks(
            cube,
            probe,
            subpixel=options.method,
            sigma_cc_px=SMOOTHING_PX,
            min_spacing_px=patterns.minimum_spacing,
            edge_px=EDGE_PX,
            options=run,
        )

    def points(peaks) -> list:
        return [
            np.stack([peaks[place]["qx"], peaks[place]["qy"]], -1)
            for place in np.ndindex(rows, cube.R_shape[1])
        ]

    return detect, points


if __name__ == "__main__":
    packages = ("py4DSTEM", "numpy", "numba", "rocket-fft")
    serve_detector(__doc__, make, packages, ("fit", "parabola", "dft", "pixel"))
