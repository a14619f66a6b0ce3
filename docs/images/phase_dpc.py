"""Make the picture of DPC in the documentation: python docs/images/phase_dpc.py"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl

mpl.use("Agg")
HERE = Path(__file__).parent


def main() -> None:
    """A simulated layer with vacancies, in focus."""
    import py4DSTEM

    scan = py4DSTEM.simulate.phase_object(
        (48, 56), step_A=0.4, defocus_A=0.0, semiangle_mrad=25.0, dose=2e5, seed=4
    )
    figure = py4DSTEM.show_dpc(scan.cube.dpc(high_pass=0.02), smooth_A=0.3)
    figure.savefig(HERE / "dpc.png", dpi=80)


if __name__ == "__main__":
    main()
