"""Make the picture of pair distributions in the documentation: python docs/images/pdf.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
HERE = Path(__file__).parent


def main() -> None:
    """A simulated glass of copper."""
    import py4DSTEM

    scan = py4DSTEM.simulate.amorphous((12, 10), (128, 128), factors="tables", seed=2)
    cube = scan.cube.with_calibration(scan.truth.calibration)
    found = cube.pair_distribution("Cu", density_A3=scan.truth.density_A3, noise="positions")
    py4DSTEM.show_pair_distribution(found).savefig(HERE / "pair_distribution.png", dpi=80)


if __name__ == "__main__":
    main()
