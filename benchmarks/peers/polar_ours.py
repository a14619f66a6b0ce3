"""Worker that measures polar transform and statistics of rings of this package, one thread."""

from __future__ import annotations

import numpy as np
import polar


def make(patterns: polar.Patterns) -> dict:
    from py4DSTEM import DataCube, RunOptions

    data = patterns.data.reshape(len(patterns.data) // 20, 20, 256, 256)
    cube = DataCube(data).with_calibration(origin_px=patterns.origin)
    one = RunOptions(workers=1)

    def rings() -> dict:
        found = cube.azimuthal_statistics(r_max=polar.RINGS, options=one)
        flat = (a.reshape(-1, polar.RINGS) for a in (found.mean, found.variance))
        return dict(zip(("radial", "variance"), flat, strict=True))

    def image() -> dict:
        found = cube.polar_transform(r_max=polar.RINGS, n_phi=polar.ANGLES)
        return {"polar": np.asarray(found.data[...]).reshape(-1, polar.RINGS, polar.ANGLES)}

    return {"radial": lambda: {"radial": rings()["radial"]}, "variance": rings, "polar": image}


polar.serve(make, ("py4DSTEM", "numpy", "numba"))
