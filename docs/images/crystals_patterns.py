"""Make the pictures of simulated patterns: python docs/images/crystals_patterns.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
HERE = Path(__file__).parent


def main() -> None:
    """Silicon along [110]: spots, beams against thickness, a convergent beam; rings of gold."""
    from matplotlib import pyplot as plt

    import py4DSTEM
    from py4DSTEM.plot.figures.spots import draw_spots

    silicon = py4DSTEM.Crystal.common("Si")
    along = {"zone_axis": [1, 1, 0], "x_hkl": [0, 0, 4], "energy_eV": 200e3}
    single = silicon.diffraction_pattern(**along, k_max_A=1.3, thickness_A=300)
    waves = silicon.bloch_waves(**along, thickness_A=np.arange(0, 1201, 5.0), k_max_A=2)
    disks = silicon.convergent_beam_pattern(
        **along, semiangle_mrad=3.0, thickness_A=900, Q_shape=(230, 230), Q_pixel_size_A=0.008,
        k_max_A=1.4,
    )  # fmt: skip
    figure = plt.figure(figsize=(9.6, 9.2), layout="constrained")
    axes = figure.subplots(2, 2).ravel()
    for ax, pattern, title in (
        (axes[0], single, "kinematic"),
        (axes[1], waves.pattern(300), "Bloch waves, 300 Å: 002 by double diffraction"),
    ):
        draw_spots(ax, pattern)
        ax.set(title=title, xlim=(-1.35, 1.35), ylim=(1.35, -1.35))
    extent = 115 * 0.008
    axes[2].imshow(disks.data**0.5, cmap="inferno", extent=(-extent, extent, extent, -extent))
    axes[2].set(title="convergent beam, 3 mrad, 900 Å", xlabel="$q_y$ (Å⁻¹)", ylabel="$q_x$ (Å⁻¹)")
    for hkl, label in (([0, 0, 0], "000"), ([1, -1, 1], "$1\\overline{1}1$"), ([2, -2, 0], "220"),
                       ([0, 0, 4], "004"), ([0, 0, 2], "002")):  # fmt: skip
        axes[3].plot(waves.thickness_A, waves.intensity_of(hkl), label=label)
    axes[3].set(title="beams against thickness", xlabel="thickness (Å)", ylabel="intensity")
    axes[3].legend(frameon=False)
    figure.savefig(HERE / "crystals_patterns.png", dpi=70)
    rings = py4DSTEM.Crystal.common("Au").powder_pattern(energy_eV=200e3, width_A=0.006)
    py4DSTEM.show_powder_pattern(rings).savefig(HERE / "crystals_rings.png", dpi=70)


if __name__ == "__main__":
    main()
