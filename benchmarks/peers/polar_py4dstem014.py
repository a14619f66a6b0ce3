"""Worker that measures PolarDatacube of py4DSTEM 0.14."""

from __future__ import annotations

import warnings

import numpy as np
import polar


def make(patterns: polar.Patterns) -> dict:
    import matplotlib as mpl

    mpl.use("Agg")
    warnings.filterwarnings("ignore")
    import py4DSTEM

    count = len(patterns.data)
    scan = (count // 20, 20)
    cube = py4DSTEM.DataCube(data=patterns.data.reshape(*scan, 256, 256))
    cube.calibration.set_origin(tuple(np.full(scan, place) for place in patterns.origin))
    found = py4DSTEM.PolarDatacube(
        cube, qmin=0.5, qmax=polar.RINGS + 0.5, qstep=1.0, n_annular=polar.ANGLES, ellipse=False
    )

    def radial() -> dict:
        found.calculate_radial_statistics(progress_bar=False)
        return {"radial": found.radial_all.reshape(count, -1)}

    def variance() -> dict:
        mean, spread = found.calculate_FEM_local(
            plot_normalized_variance=False, return_values=True, progress_bar=False
        )
        return {"radial": mean.reshape(count, -1), "variance": spread.reshape(count, -1)}

    def image() -> dict:
        runs = [found.data[p // 20, p % 20] for p in range(count)]
        return {"polar": np.stack([np.asarray(run).T for run in runs])}

    return {"radial": radial, "variance": variance, "polar": image}


polar.serve(make, ("py4DSTEM", "numpy"))
