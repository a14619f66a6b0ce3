"""Make the picture of polar patterns in the documentation: python docs/images/disorder_polar.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
HERE = Path(__file__).parent


def main() -> None:
    import matplotlib.pyplot as plt

    from py4DSTEM import simulate

    scan = simulate.amorphous((6, 7), (96, 96), dose=200_000, seed=1)
    glass = scan.cube.with_calibration(scan.truth.calibration)
    polar = glass.polar_transform(n_phi=60, r_min=0.15, r_max=1.4, units="A^-1")
    one, rings = polar.pattern(2, 3), glass.azimuthal_statistics(r_max=1.4, units="A^-1")
    figure, axes = plt.subplots(1, 3, figsize=(11, 3.4), layout="constrained")
    pattern = np.asarray(glass[2, 3].data, float)
    axes[0].imshow(pattern**0.4, cmap="inferno", vmax=np.percentile(pattern**0.4, 99.6))
    axes[0].set_title("one pattern", fontsize="medium")
    axes[0].set_axis_off()
    shown = (0, 360, one.q[-1], one.q[0])
    axes[1].imshow(one.data**0.4, cmap="inferno", aspect="auto", extent=shown)
    axes[1].set_title("in polar coordinates", fontsize="medium")
    axes[1].set_xlabel("angle from x towards y (°)")
    axes[1].set_ylabel("q (Å⁻¹)")
    mean, variance = (np.nanmean(a, axis=(0, 1)) for a in (rings.mean, rings.variance))
    for values, style, name in (
        (mean, "-", "mean of rings (and variance of counts alone)"),
        (variance, "-", "variance of pixels"),
    ):
        far = rings.q > 0.2
        axes[2].plot(rings.q[far], values[far], style, label=name)
    axes[2].set_yscale("log")
    axes[2].set_xlabel("q (Å⁻¹)")
    axes[2].legend(fontsize="small")
    figure.savefig(HERE / "disorder_polar.png", dpi=110)


if __name__ == "__main__":
    main()
