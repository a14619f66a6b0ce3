"""How accurate a strain map is, and whether its uncertainties are honest: this package alone.

    python accuracy.py [--scan FOLDER] [--seeds 5] [--page FILE]

First scans of ``py4DSTEM.simulate.strained_lattice`` with the settings of ``py4dstem demo``:
uniform disks on a diffuse background, Poisson counts, descan with jitter, an ellipse. Then,
with ``--scan``, one scan with multislice physics, in the layout of ``Scan`` in ``peers/strain.py``.
Defaults throughout; origin, ellipse, pixel size and probe are measured, nothing is given but the
material. No times are taken: the same version gives the same numbers anywhere.

Columns of the tables of strain: standard deviation of the error, and 1.4826 times its median
modulus, after a common offset (the median) was removed; typical one-sigma uncertainty; shares of
the errors inside one and two of them; mean error against the known lattice, nothing removed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent / "peers"))

import common
from strain import COMPONENTS, Scan, infinitesimal

HEADINGS = ("", "scatter 1e-3", "robust 1e-3", "sigma 1e-3", "inside 1 sigma", "inside 2 sigma",
            "mean error 1e-3")  # fmt: skip
EDGE_WIDTH = 0.86


def component_row(label: str, error: np.ndarray, sigma: np.ndarray, absolute: float) -> list[Any]:
    """One line of a table of strain."""
    rest = error - np.nanmedian(error)
    known = np.isfinite(rest)
    pull = np.abs(rest / sigma)[known]
    return [
        label,
        1e3 * rest[known].std(),
        1e3 * 1.4826 * np.median(np.abs(rest[known])),
        1e3 * np.median(sigma[known]),
        f"{np.mean(pull < 1):.1%}",
        f"{np.mean(pull < 2):.1%}",
        1e3 * absolute,
    ]


# ---- uniform disks -------------------------------------------------------------------------------
def simulated(seeds: int) -> str:
    """Scans of the demo, seeds pooled."""
    from py4DSTEM.demo import strain, whole
    from py4DSTEM.simulate import powder_rings

    errors: dict[str, list[list[Any]]] = {name: [] for name in COMPONENTS}
    steps: dict[str, list[float]] = {}
    for seed in range(seeds):
        scan = whole.simulated(seed=seed)
        gold = powder_rings(scan.cube.Q_shape, ellipse=scan.truth.calibration.ellipse, seed=seed)
        hot = np.zeros(scan.cube.Q_shape, bool)
        hot[tuple(scan.truth.hot_pixels.T)] = True
        vacuum = scan.truth.probe.data
        found = strain.map_strain(scan.cube, vacuum, gold.pattern, hot, scan.truth)
        for check in strain.checks(found, scan.truth, gold.truth):
            if check.name.split(":")[0] not in COMPONENTS:
                steps.setdefault(check.name, [check.expected]).append(check.value)
        for name in COMPONENTS:
            true = getattr(scan.truth, name)
            errors[name].append(
                [
                    getattr(found.strain, name) - true,
                    found.strain.sigma(name),
                    np.mean(getattr(found.absolute, name) - true),
                ]
            )
    rows = []
    for name, parts in errors.items():
        error, sigma, absolute = zip(*parts, strict=True)
        rows.append(component_row(name, np.stack(error), np.stack(sigma), np.mean(absolute)))
    measured = [
        [name, *(f"{v:.5g}" for v in (values[0], min(values[1:]), max(values[1:])))]
        for name, values in steps.items()
    ]
    return (
        f"### Uniform disks, {seeds} scans\n\n"
        f"{common.table(('', 'truth', 'smallest', 'largest'), measured)}\n\n"
        f"{common.table(HEADINGS, rows)}\n"
    )


# ---- multislice ----------------------------------------------------------------------------------
def multislice(folder: Path) -> str:
    """The scan with physics."""
    import py4DSTEM

    scan = Scan(folder, 100)
    cube = py4DSTEM.DataCube(scan.arrays["data"])
    step_A = float(scan.facts["scan_step_A"])
    cube = cube.with_calibration(R_pixel_size=step_A, R_pixel_units="A")
    gold = py4DSTEM.DiffractionSlice(scan.arrays["calibration"])
    probe = py4DSTEM.measure_probe(scan.arrays["vacuum_probe"])
    ellipse = py4DSTEM.measure_ellipse(gold)
    size = py4DSTEM.measure_pixel_size(gold.with_calibration(ellipse), "Au")
    raw = cube.find_bragg_disks(probe)
    origin = raw.measure_origin()
    peaks = raw.with_calibration(origin, ellipse, size)
    # Of the centred cell only h + k even is seen: its primitive cell.
    pixel = float(scan.facts["detector_pixel_1_per_A"])
    known = np.array([[1, 1], [-1, 1]]) @ scan.reference * pixel
    lattice = py4DSTEM.fit_lattice(peaks, *known.tolist())
    strain = py4DSTEM.strain_map(lattice, known)
    counted = py4DSTEM.strain_map(lattice, known, resolution_A=None)
    restored = py4DSTEM.restore_strain(strain)
    true = infinitesimal(scan.vectors, scan.reference)
    width_A = EDGE_WIDTH / (probe.radius_px * pixel)
    rows = []
    for name in COMPONENTS:
        error = getattr(strain, name) - true[name]
        mean = float(np.nanmean(error))
        rows.append(component_row(f"{name}", error, strain.sigma(name), mean))
        rows.append(component_row("… sigma from counts alone", error, counted.sigma(name), mean))
        averaged = getattr(strain, name) - blurred(true[name], width_A / step_A)
        label = f"… against the truth averaged over {width_A:.1f} Å"
        rows.append(component_row(label, averaged, counted.sigma(name), mean))
        error = getattr(restored, name) - true[name]
        mean = float(np.nanmean(error))
        rows.append(component_row("… restored", error, restored.sigma(name), mean))
    recall = scan.detection(points_of(raw))["recall"]
    by_rim = cube.measure_origin()
    measured = [
        ["share found of the disks with 100 counts or more", 1.0, f"{recall:.5f}"],
        ["share of finds on a lattice point", 1.0, f"{on_lattice(raw, scan):.5f}"],
        ["origin by peaks, rms error (px)", 0.0, rms(origin.origin_px - scan.origin)],
        ["origin by the rim of the direct beam, rms error (px)", 0.0,
         rms(by_rim.origin_px - scan.origin)],
        ["ellipse a / b", f"{scan.facts['ellipse_ratio_a_over_b']:.5f}",
         f"{ellipse.ratio:.5f} ± {ellipse.sigma_ratio:.5f}"],
        ["detector pixel (Å⁻¹)", f"{pixel:.6f}", f"{size.mean_size_A:.6f} ± {size.sigma:.6f}"],
        ["positions mapped", 1.0, float(strain.mask.mean())],
    ]  # fmt: skip
    return (
        f"### Multislice: {scan.facts['material']}\n\n"
        f"{common.table(('', 'truth', 'measured'), measured)}\n\n{common.table(HEADINGS, rows)}\n"
    )


def on_lattice(peaks: Any, scan: Scan) -> float:
    """Share of the disks within a third of a radius of a lattice point that is not forbidden."""
    rx, ry = peaks.positions.T
    place = np.stack([peaks.points["qx"], peaks.points["qy"]], -1) - scan.origin[rx, ry]
    # Of the centred cell only h + k even is seen: its primitive cell.
    vectors = np.array([[1, 1], [-1, 1]]) @ scan.vectors[rx, ry] @ scan.distortion.T
    indices = np.rint(np.linalg.solve(vectors.swapaxes(1, 2), place[..., None]))
    distance = np.linalg.norm(place - (vectors.swapaxes(1, 2) @ indices)[..., 0], axis=1)
    return float((distance < scan.radius / 3).mean())


def points_of(peaks: Any) -> list[np.ndarray]:
    """Disks of every pattern, (n, 2) each."""
    rows = (peaks[at] for at in np.ndindex(*peaks.shape))
    return [np.stack([one["qx"], one["qy"]], -1) for one in rows]


def rms(error: np.ndarray) -> float:
    """Root mean square of what is known."""
    return float(np.sqrt(np.nanmean(error**2)))


def blurred(image: np.ndarray, width: float) -> np.ndarray:
    """A map averaged with a Gaussian of `width` positions."""
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(image, width, mode="nearest")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scan", type=Path, help="folder with a multislice scan and its truth")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--page", type=Path, help="where to write the tables")
    options = parser.parse_args()
    parts = [simulated(options.seeds)]
    if options.scan:
        parts.append(multislice(options.scan))
    print("\n".join(parts))
    if options.page:
        options.page.write_text("\n".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
