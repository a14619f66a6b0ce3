"""Worker that measures this package: lattice fit and strain, from peak lists and a raw scan."""

from __future__ import annotations

import numpy as np
from strain import COMPONENTS, Found, PeakLists, Scan, serve_strain


def peaks_of(lists: PeakLists):
    """The peak lists as BraggPeaks with their uncertainties and a calibrated origin."""
    from py4DSTEM import BraggPeaks, Calibration
    from py4DSTEM.process.bragg.peaks import PEAK_DTYPE

    n = lists.positions.shape[2]
    rows = np.zeros(lists.intensities.size, PEAK_DTYPE)
    rows["qx"], rows["qy"] = lists.positions.reshape(-1, 2).T
    rows["intensity"] = lists.intensities.ravel()
    rows["sigma_qx"] = rows["sigma_qy"] = lists.sigma_px
    offsets = np.arange(lists.shape[0] * lists.shape[1] + 1) * n
    calibration = Calibration(origin_px=lists.origin)
    return BraggPeaks(rows, offsets, lists.shape, calibration)


def found_of(strain, **more) -> Found:
    """Components and uncertainties of a strain map."""
    return Found(
        {name: getattr(strain, name) for name in COMPONENTS},
        sigmas={name: strain.sigma(name) for name in COMPONENTS},
        **more,
    )


def from_lists(lists: PeakLists):
    """Basis, fit and strain with uncertainties are timed."""
    import py4DSTEM

    peaks = peaks_of(lists)
    return lambda: found_of(py4DSTEM.strain_map(py4DSTEM.fit_lattice(peaks)))


def from_scan(scan: Scan, method: str):
    """Everything from the array in memory to the strain is timed; defaults throughout."""
    import py4DSTEM

    cube = py4DSTEM.DataCube(scan.arrays["data"])
    run_options = py4DSTEM.RunOptions(workers=1, progress=False)

    def run() -> Found:
        probe = py4DSTEM.measure_probe(scan.arrays["vacuum_probe"])
        peaks = py4DSTEM.find_bragg_disks(cube, probe, subpixel=method, options=run_options)
        peaks = py4DSTEM.calibrate_origin(peaks)
        ellipse = py4DSTEM.measure_ellipse(scan.arrays["calibration"]).ellipse
        lattice = py4DSTEM.fit_lattice(peaks.with_calibration(ellipse=ellipse))
        # The correction maps the ellipse to the circle of the minor axis.
        known = scan.known_lattice(lattice.basis, np.sqrt(ellipse.b / ellipse.a))
        strain = py4DSTEM.strain_map(lattice, known)
        origin = peaks.calibration.origin_px
        figures = {
            "ellipse_ratio": ellipse.a / ellipse.b,
            "ellipse_deg": float(np.rad2deg(ellipse.theta_rad) % 180),
            "rms_origin_px": float(np.sqrt(np.mean((origin - scan.origin) ** 2))),
        }
        return found_of(strain, points=lambda: raw_points(peaks), figures=figures)

    return run


def raw_points(peaks) -> list[np.ndarray]:
    """Disks of every pattern."""
    rows = (peaks[at] for at in np.ndindex(*peaks.shape[:2]))
    return [np.stack([one["qx"], one["qy"]], -1) for one in rows]


if __name__ == "__main__":
    packages = ("py4DSTEM", "numpy", "numba", "rocket-fft")
    serve_strain(__doc__, packages, from_lists, from_scan, ("fit", "dft", "parabola"))
