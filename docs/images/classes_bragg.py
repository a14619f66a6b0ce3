"""Make the pictures of grains and crystallinity: python docs/images/classes_bragg.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
HERE = Path(__file__).parent
SHAPE = (46, 54)


def main() -> None:
    """Grains of copper in a film that scatters diffusely, with a hole in the copper."""
    import py4DSTEM

    scan = py4DSTEM.simulate.polycrystal(SHAPE, (96, 96), crystal="Cu", grains=14, seed=9)
    rows, columns = np.indices(SHAPE)
    hole = (rows - 21) ** 2 + ((columns - 30) / 1.4) ** 2 < 110
    radius = np.hypot(*(np.indices((96, 96)) - 47.5))
    ring = 2.0 * np.exp(-(((radius - 20) / 12) ** 2))
    film = np.random.default_rng(1).poisson(ring, (*SHAPE, 96, 96))
    disks = np.array(scan.cube.data)
    disks[hole] = 0.6 * scan.truth.probe.data / scan.truth.probe.data.sum() * 20_000
    cube = scan.cube.replace(data=(disks + film).astype(np.uint16))
    peaks = cube.find_bragg_disks(scan.truth.probe).calibrate_origin()
    grains = py4DSTEM.segment_grains(peaks.dark_field_images(peaks.common_spots()), min_images=2)
    py4DSTEM.show_grains(grains).savefig(HERE / "grains.png", dpi=80)
    share = cube.with_calibration(peaks.calibration).crystallinity()
    py4DSTEM.show_crystallinity(share).savefig(HERE / "crystallinity.png", dpi=80)


if __name__ == "__main__":
    main()
