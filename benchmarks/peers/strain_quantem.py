"""Worker that measures quantem: BraggVectors to StrainMap, from peak lists and from a raw scan.

Its ellipse needs detected spots of a polycrystal, which the rings of the scan are not: it is given
the true one. Strain is the deformation gradient minus one.
"""

from __future__ import annotations

import warnings

import numpy as np
from strain import BEAM_RANGE_PX, Found, PeakLists, Scan, serve_strain

warnings.filterwarnings("ignore")


def workflow(scan_array: np.ndarray):
    """BraggVectors of a scan."""
    from quantem.core.datastructures import Dataset4dstem
    from quantem.diffraction import BraggVectors

    return BraggVectors.from_dataset(Dataset4dstem.from_array(scan_array))


def strain_from(vectors, max_shift: float, known=None) -> dict[str, np.ndarray]:
    """Basis, lattices and strain; `known` gives the reference for a basis."""
    vectors.compute_bvm()
    vectors.choose_basis_vectors(plot=False, min_spacing=8.0)
    vectors.index_peaks(plot=False)
    vectors.fit_lattice(plot=False, progressbar=False, max_peak_shift=max_shift)
    g1, g2 = known(np.array([vectors.g1, vectors.g2])) if known else (None, None)
    strain = vectors.calculate_strain_map(g1_ref=g1, g2_ref=g2)
    names = {"e_xx": "e_rr", "e_yy": "e_cc", "e_xy": "e_rc", "theta": "phi"}
    return {name: np.asarray(getattr(strain, own).array) for name, own in names.items()}


def from_lists(lists: PeakLists):
    """Basis, fit and strain are timed."""
    from quantem.core.datastructures import Vector

    vectors = workflow(np.zeros((*lists.shape, 128, 128), np.uint8))
    table = np.concatenate([lists.positions, lists.intensities[..., None]], -1)
    fields = ["q_row", "q_col", "intensity"]
    vectors.peaks = Vector.from_data([list(row) for row in table], fields=fields)
    return lambda: Found(strain_from(vectors, 6.0), "deformation")


def undistorted(vectors, scan: Scan, center: np.ndarray) -> None:
    """Undo the true ellipse in the peaks, about their common origin."""
    flat = vectors.peaks.numpy().astype(np.float64)
    flat[:, :2] = center + (flat[:, :2] - center) @ np.linalg.inv(scan.distortion).T
    vectors.peaks.set_flattened(flat)


def from_scan(scan: Scan, method: str):
    """Everything from the array in memory to the strain is timed."""
    raw = workflow(scan.arrays["data"])
    subpixel, _, high_pass = method.partition("-")
    middle = tuple(np.array(scan.arrays["data"].shape[2:]) / 2)

    def run() -> Found:
        raw.make_template_from_probe(scan.arrays["vacuum_probe"].astype(np.float32))
        raw.detect_disks(
            subpixel=subpixel,
            upsample_factor=16,
            min_abs_intensity=scan.minimum,
            min_spacing=2 * scan.radius,
            edge_boundary=int(scan.radius),
            background_sigma="auto" if high_pass else None,
            max_num_peaks=70,
            progressbar=False,
        )
        origins = raw.measure_origins(search_radius=BEAM_RANGE_PX, center=middle)
        vectors = raw.correct_peak_origins(origins)
        undistorted(vectors, scan, origins.mean((0, 1)))
        strain = strain_from(vectors, 6.0, lambda g: scan.known_lattice(g, 1.0))
        figures = {"rms_origin_px": float(np.sqrt(np.mean((origins - scan.origin) ** 2)))}
        return Found(strain, "deformation", lambda: raw_points(raw), figures=figures)

    return run


def raw_points(vectors) -> list[np.ndarray]:
    """Disks of every pattern."""
    flat = np.asarray(vectors.peaks.flatten())[:, :2]
    return np.split(flat, np.cumsum(np.asarray(vectors.peaks.row_counts()).ravel())[:-1])


if __name__ == "__main__":
    packages = ("quantem", "torch", "numpy")
    serve_strain(
        __doc__, packages, from_lists, from_scan, ("upsample", "parabolic", "upsample-highpass")
    )
