"""Make the pictures of fluctuations and orientation: python docs/images/disorder_fem.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
HERE = Path(__file__).parent


def main() -> None:
    """A glass without and with crystals; a film of chains around a defect."""
    import matplotlib.pyplot as plt

    import py4DSTEM
    from py4DSTEM import simulate

    figure, axes = plt.subplots(1, 2, figsize=(9.5, 3.6), layout="constrained", width_ratios=(3, 2))
    for crystals, name in ((0, "glass"), (5, "with crystals of 1.6 nm")):
        scan = simulate.amorphous(
            (12, 13), (64, 64), element="Pd", diameter_A=2.75, crystals=crystals, seed=1
        )
        found = scan.cube.with_calibration(scan.truth.calibration).fem(r_max=0.92, units="A^-1")
        shown = slice(6, None)
        q, v, s = (a[shown] for a in (found.q, found.variance, found.variance_sigma))
        (line,) = axes[0].plot(q, v, label=name)
        axes[0].fill_between(q, v - s, v + s, color=line.get_color(), alpha=0.25, linewidth=0)
    axes[0].set_xlabel("radius (Å⁻¹)")
    axes[0].set_ylabel("normalised variance")
    axes[0].legend()
    image = found.map((0.68, 0.76))
    axes[1].imshow(image.data, cmap="viridis")
    axes[1].set_title("of each position, 0.68 to 0.76 Å⁻¹", fontsize="medium")
    axes[1].set_axis_off()
    figure.savefig(HERE / "fem.png", dpi=80)
    film = simulate.fibers((24, 26), seed=2)
    cube = film.cube.with_calibration(film.truth.calibration)
    found = cube.orientation_distribution((0.18, 0.32), units="A^-1", across=True)
    py4DSTEM.show_orientation(found).savefig(HERE / "orientation.png", dpi=80)


if __name__ == "__main__":
    main()
