"""Make the picture of direct ptychography: python docs/images/phase_direct.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from scipy.ndimage import map_coordinates

mpl.use("Agg")
HERE = Path(__file__).parent


def main() -> None:
    """The truth beside the three methods, few electrons, nothing known but the optics."""
    import matplotlib.pyplot as plt

    from py4DSTEM import simulate

    scan = simulate.phase_object((80, 88), step_A=0.4, defocus_A=120.0, dose=4000, seed=4)
    truth = scan.truth
    places = np.moveaxis(truth.positions_A / truth.sampling_A, -1, 0)
    true = map_coordinates(truth.phase, places, order=3, mode="wrap")
    lens = scan.cube.ssb()
    cube = scan.cube.with_calibration(lens)
    images = {"truth": true - true.mean()}
    for method in ("ssb", "obf", "wdd"):
        found = cube.direct_ptychography(method=method, aberrations=lens.aberrations)
        images[method] = found.phase.data
    figure, axes = plt.subplots(1, 4, figsize=(11.5, 2.9), layout="constrained")
    for ax, (name, image) in zip(axes, images.items(), strict=True):
        drawn = ax.imshow(image, cmap="inferno", vmin=-0.12, vmax=0.3)
        ax.set_title(name)
        ax.set_axis_off()
    figure.colorbar(drawn, ax=axes[-1], label="phase (rad)")
    words = lens.text().replace("\n", "; ")
    figure.suptitle(words.replace("direct ptychography (ssb)", "found from nothing:"))
    figure.savefig(HERE / "direct.png", dpi=80)


if __name__ == "__main__":
    main()
