"""Make the pictures of the documentation: python docs/images/make.py"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
HERE = Path(__file__).parent
OF_THE_DEMO = {
    "patterns": "demo",
    "strain": "strain",
    "bragg_vector_map": "bragg_vector_map",
    "origin": "origin",
    "ellipse": "ellipse",
    "pixel_size": "pixel_size",
    "errors": "errors",
}
DEFORMATIONS = {
    "e_xx > 0": [[1.25, 0], [0, 1]],
    "e_yy > 0": [[1, 0], [0, 1.25]],
    "e_xy > 0": [[1, 0.18], [0.18, 1]],
    "theta > 0": [[np.cos(0.25), -np.sin(0.25)], [np.sin(0.25), np.cos(0.25)]],
}


def from_demo() -> None:
    """What the demo draws."""
    from py4DSTEM.demo import run_demo

    with tempfile.TemporaryDirectory() as folder:
        run_demo(Path(folder))
        for source, name in OF_THE_DEMO.items():
            shutil.copy(Path(folder) / f"{source}.png", HERE / f"{name}.png")


def preview() -> None:
    """A preview of a scan with few electrons, so that something is left out."""
    import py4DSTEM

    scan = py4DSTEM.simulate.strained_lattice((24, 32), (128, 128), dose=8000, seed=2)
    found = scan.cube.preview_bragg_disks(
        scan.truth.probe.data, positions=[(3, 4), (12, 16), (20, 28)]
    )
    figure, _ = py4DSTEM.show(found)
    figure.savefig(HERE / "preview.png", dpi=90)


def signs() -> None:
    """What positive strain and rotation do to a square lattice; x down, y to the right."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 4, figsize=(10, 2.9), layout="constrained")
    x, y = (a.ravel() for a in np.mgrid[-1:2, -1:2])
    for ax, (name, gradient) in zip(axes, DEFORMATIONS.items(), strict=True):
        moved = np.array(gradient) @ np.stack([x, y])
        corners = np.array(gradient) @ [[-1, -1, 1, 1, -1], [-1, 1, 1, -1, -1]]
        ax.plot([-1, 1, 1, -1, -1], [-1, -1, 1, 1, -1], color="0.75", linewidth=1)
        ax.plot(y, x, "o", color="0.75", markersize=5)
        ax.plot(corners[1], corners[0], color="#D55E00", linewidth=1)
        ax.plot(moved[1], moved[0], "o", color="#D55E00", markersize=6)
        ax.set(xlim=(-1.8, 1.8), ylim=(1.8, -1.8), title=name, xticks=[], yticks=[], aspect="equal")
    for end, label in (((-1.65, -0.75), "x"), ((-0.75, -1.65), "y")):
        axes[0].annotate("", end, (-1.65, -1.65), arrowprops={"arrowstyle": "-|>"})
        axes[0].text(end[0] + 0.12, end[1] + 0.12, label, fontstyle="italic", va="center")
    figure.savefig(HERE / "strain_signs.png", dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    from_demo()
    preview()
    signs()
