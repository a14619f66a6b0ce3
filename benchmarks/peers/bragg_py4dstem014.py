"""Worker that measures py4DSTEM 0.14: find_Bragg_disks with the kernel of its tutorials.

``-sharp`` leaves out the smoothing of the correlation.
"""

from __future__ import annotations

from bragg import EDGE_PX, SMOOTHING_PX, UPSAMPLING, Patterns, serve_detector


def make(patterns: Patterns, options):
    """The sigmoid kernel, and the search."""
    import numpy as np

    import py4DSTEM

    cube = py4DSTEM.DataCube(data=patterns.cube)
    subpixel, _, sharp = options.method.partition("-")
    center, radius = patterns.size / 2, patterns.radius
    kernel = py4DSTEM.Probe(patterns.probe).get_kernel(
        mode="sigmoid", origin=(center, center), radii=(radius, 2 * radius)
    )

    def detect():
        return cube.find_Bragg_disks(
            template=kernel,
            corrPower=1,
            sigma_cc=0 if sharp else SMOOTHING_PX,
            subpixel=subpixel,
            upsample_factor=UPSAMPLING,
            minAbsoluteIntensity=patterns.minimum,
            minRelativeIntensity=0,
            minPeakSpacing=patterns.minimum_spacing,
            edgeBoundary=EDGE_PX,
            maxNumPeaks=70,
        )

    def points(vectors) -> list:
        raw = (vectors.raw[place] for place in np.ndindex(*patterns.cube.shape[:2]))
        return [np.stack([one.qx, one.qy], -1) for one in raw]

    return detect, points


if __name__ == "__main__":
    packages = ("py4DSTEM", "numpy", "scipy")
    serve_detector(__doc__, make, packages, ("multicorr", "poly", "poly-sharp"))
