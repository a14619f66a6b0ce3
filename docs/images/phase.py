"""Make the pictures of ptychography in the documentation: python docs/images/phase.py"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
HERE = Path(__file__).parent


def true_phase(truth: Any, phase: Any, known: Any) -> Any:
    """A true phase on the grid of a reconstruction, both in scan axes, shifted to lie alike."""
    from py4DSTEM.process.phase.compare import agreement, on_grid

    step = phase.calibration.R[0].step
    middle = truth.positions_A.reshape(-1, 2).mean(axis=0)
    first = middle - (np.array(phase.shape) - 1) * step / 2
    there = on_grid(known, truth.sampling_A, phase.shape, grid_A=step, origin_A=tuple(first))
    return there, agreement(phase.data, there, step, max_shift_A=1.0)


def pictures(rows: Any, path: Path, labels: Any, width: float = 2.5) -> None:
    """Rows of images, each row with its own colours."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(
        len(rows), len(rows[0]), figsize=(width * len(rows[0]), (width + 0.25) * len(rows)),
        layout="constrained", squeeze=False,
    )  # fmt: skip
    for row, names, images in zip(axes, labels, rows, strict=True):
        flat = [image - np.median(image) for image in images]
        low, high = np.percentile(flat[0], [0.5, 99.7])
        for ax, name, image in zip(row, names, flat, strict=True):
            drawn = ax.imshow(image, cmap="inferno", vmin=low, vmax=high)
            ax.set_title(name, fontsize="medium")
            ax.set_axis_off()
        figure.colorbar(drawn, ax=row[-1], label="rad")
    figure.savefig(path, dpi=80)


def thin() -> None:
    """A sheet with vacancies: truth, and three doses, nothing known but the optics."""
    import py4DSTEM
    from py4DSTEM import simulate

    images, names = [], []
    for dose in (1e5, 1e4, 1500):
        scan = simulate.phase_object((44, 50), step_A=0.6, defocus_A=110.0, dose=dose, seed=4)
        cube = scan.cube.with_calibration(scan.cube.ssb())
        result = cube.ptychography(defocus_A=110.0, object_type="pure phase", iterations=40)
        there, found = true_phase(scan.truth, result.phase, scan.truth.phase)
        images, names = images or [there], names or ["truth"]
        images.append(result.phase.data)
        names.append(f"{dose:.0f} electrons: {found.correlation:.3f}")
        if dose == 1e4:
            py4DSTEM.show_ptychography(result).savefig(HERE / "ptychography.png", dpi=70)
            judged = py4DSTEM.judge_ptychography(result, cube)
            py4DSTEM.show(judged)[0].savefig(HERE / "ptychography_judged.png", dpi=70)
    pictures([images], HERE / "ptychography_truth.png", [names], 2.9)


def thick() -> None:
    """A crystal with defects at known depths: true slabs above, reconstructed ones below."""
    from py4DSTEM import simulate

    slabs, thickness = 5, 97.625
    scan = simulate.thick_object(
        (20, 20), (64, 64), thickness_A=thickness, source_size_A=0.15, dose=1e5, seed=6
    )
    truth, slab = scan.truth, thickness / slabs
    cube = scan.cube.with_calibration(truth.calibration)
    result = cube.ptychography(
        slices=slabs, slice_thickness_A=slab, modes=3, batch=32, iterations=30,
        defocus_A=truth.defocus_A - slab / 2, object_type="pure phase",
    )  # fmt: skip
    found = [phase.data for phase in result.slice_phases]
    pairs = [
        true_phase(truth, phase, known)
        for phase, known in zip(result.slice_phases, truth.slabs(slabs), strict=True)
    ]
    names = [f"{k * slab:.0f} to {(k + 1) * slab:.0f} Å" for k in range(slabs)]
    told = [f"found: {match.correlation:.3f}" for _, match in pairs]
    pictures([[known for known, _ in pairs], found], HERE / "ptychography_slices.png",
             [[f"true, {n}" for n in names], told], 2.1)  # fmt: skip


if __name__ == "__main__":
    thin()
    thick()
