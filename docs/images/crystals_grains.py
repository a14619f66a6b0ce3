"""Make the pictures of orientations and grains: python docs/images/crystals_grains.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
HERE = Path(__file__).parent


def main() -> None:
    """Grains of simulated gold; the pixel size is 1.5 % off at first."""
    import py4DSTEM

    scan = py4DSTEM.simulate.polycrystal(
        (30, 34), (128, 128), crystal="Au", grains=12, thickness_A=30, dose=30_000, seed=5
    )
    calibration = scan.truth.calibration.replace(Q_pixel_size=1.015 * 0.0235)
    peaks = scan.cube.with_calibration(calibration).find_bragg_disks(scan.truth.probe)
    found = py4DSTEM.match_orientations(peaks, "Au")
    py4DSTEM.show_orientations(found).savefig(HERE / "crystals_orientations.png", dpi=75)
    grains = py4DSTEM.segment_orientations(found)
    py4DSTEM.show_orientation_grains(grains).savefig(HERE / "crystals_grains.png", dpi=75)


if __name__ == "__main__":
    main()
