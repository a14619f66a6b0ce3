"""Make the picture of classes in the documentation: python docs/images/classes.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
HERE = Path(__file__).parent


def main() -> None:
    """Grains of a simulated film, by the patterns as they are."""
    import py4DSTEM

    scan = py4DSTEM.simulate.polycrystal((40, 44), (96, 96), crystal="Cu", grains=5, seed=2)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    found = cube.class_patterns(py4DSTEM.classify(cube.features(), method="gmm", n=5))
    py4DSTEM.show_classes(found, weights=False).savefig(HERE / "classes.png", dpi=70)


if __name__ == "__main__":
    main()
