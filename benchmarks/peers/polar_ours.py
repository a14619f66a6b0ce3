"""Worker that measures polar transform and statistics of rings of this package, one thread."""

from __future__ import annotations

import numpy as np
import polar


def make(patterns: polar.Patterns) -> dict:
    from py4DSTEM import DataCube, RunOptions

    rows, columns = len(patterns.data) // 32, 32
    cube = DataCube(patterns.data.reshape(rows, columns, 256, 256)).with_calibration(
        origin_px=patterns.origin
    )
    one = RunOptions(workers=1)

    def rings() -> dict:
        found = cube.azimuthal_statistics(r_max=polar.RINGS, options=one)
        flat = (a.reshape(-1, polar.RINGS) for a in (found.mean, found.variance))
        return dict(zip(("radial", "variance"), flat, strict=True))

    def image() -> dict:
        found = cube.polar_transform(r_max=polar.RINGS, n_phi=polar.ANGLES).data
        # By blocks of 4 x 32 positions, as the engine reads it.
        blocks = [found.read_block(slice(i, i + 4), slice(0, 32)) for i in range(0, rows, 4)]
        return {"polar": np.concatenate(blocks)}

    return {"radial": lambda: {"radial": rings()["radial"]}, "variance": rings, "polar": image}


polar.serve(make, ("py4DSTEM", "numpy", "numba"))
