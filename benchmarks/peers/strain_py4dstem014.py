"""Worker that measures py4DSTEM 0.14: StrainMap, from peak lists and from a raw scan.

The scan is taken through its own tools: kernel from the vacuum probe, find_Bragg_disks, origin and
its plane, ellipse of one gold ring, StrainMap. Its theta has the other sign.
"""

from __future__ import annotations

import warnings

import numpy as np
from strain import Found, PeakLists, Scan, serve_strain

# 0.14 draws a figure in every step; what it warns of is its own.
warnings.filterwarnings("ignore")
GOLD_A = 4.0782
RING = np.sqrt(8.0)  # 220, well apart from its neighbours


def braggvectors(lists: PeakLists):
    """The peak lists as BraggVectors with a calibrated origin."""
    from emdfile import PointListArray

    import py4DSTEM

    dtype = [("qx", float), ("qy", float), ("intensity", float)]
    table = PointListArray(dtype=dtype, shape=lists.shape)
    for at in np.ndindex(*lists.shape):
        rows = np.zeros(lists.positions.shape[2], dtype)
        rows["qx"], rows["qy"] = lists.positions[at].T
        rows["intensity"] = lists.intensities[at]
        table[at].add(rows)
    vectors = py4DSTEM.BraggVectors(lists.shape, (128, 128))
    vectors.set_raw_vectors(table)
    origin = tuple(np.full(lists.shape, value) for value in lists.origin)
    vectors.calibration.set_origin(origin)
    vectors.setcal(center=True, pixel=False, ellipse=False, rotate=False)
    return vectors


def components(strainmap) -> dict[str, np.ndarray]:
    """Components in the detector axes, NaN where there is no fit."""
    mask = strainmap.get_slice("mask").data.astype(bool)
    names = ("e_xx", "e_yy", "e_xy", "theta")
    maps = {name: np.where(mask, strainmap.get_slice(name).data, np.nan) for name in names}
    return maps | {"theta": -maps["theta"]}


def strain_from(vectors, known=None):
    """StrainMap with the steps of its tutorial; `known` gives the reference for a basis."""
    import matplotlib.pyplot as plt

    import py4DSTEM

    strain = py4DSTEM.StrainMap(braggvectors=vectors)
    strain.choose_basis_vectors(minSpacing=8, edgeBoundary=4, maxNumPeaks=40)
    strain.fit_basis_vectors(max_peak_spacing=6)
    reference = tuple(known(np.array([strain.g1, strain.g2]))) if known else None
    strain.get_strain(gvects=reference)
    plt.close("all")
    return components(strain.strainmap_g1g2)


def from_lists(lists: PeakLists):
    """Basis, fit and strain are timed."""
    vectors = braggvectors(lists)
    return lambda: Found(strain_from(vectors))


def ring_ellipse(scan: Scan, center: tuple[float, float]) -> tuple[float, ...]:
    """(x0, y0, a, b, theta) of one gold ring, near where the nominal pixel size puts it."""
    from py4DSTEM.process.calibration import fit_ellipse_1D

    ring = RING / GOLD_A / scan.facts["detector_pixel_1_per_A_nominal"]
    return fit_ellipse_1D(scan.arrays["calibration"], center, (0.93 * ring, 1.1 * ring))


def detect(cube, scan: Scan, method: str):
    """Disks with the kernel of the tutorials, with or without the default smoothing."""
    from py4DSTEM.process.calibration import get_probe_size

    import py4DSTEM

    subpixel, _, smooth = method.partition("-")
    radius, *center = get_probe_size(scan.arrays["vacuum_probe"])
    kernel = py4DSTEM.Probe(scan.arrays["vacuum_probe"].astype(float)).get_kernel(
        mode="sigmoid", origin=tuple(center), radii=(radius, 2 * radius)
    )
    return cube.find_Bragg_disks(
        template=kernel,
        corrPower=1,
        sigma_cc=2 if smooth else 0,
        subpixel=subpixel,
        upsample_factor=16,
        minAbsoluteIntensity=scan.minimum,
        minRelativeIntensity=0,
        minPeakSpacing=2 * radius,
        edgeBoundary=int(radius),
        maxNumPeaks=70,
    )


def from_scan(scan: Scan, method: str):
    """Everything from the array in memory to the strain is timed."""
    import py4DSTEM

    cube = py4DSTEM.DataCube(data=scan.arrays["data"])

    def run() -> Found:
        vectors = detect(cube, scan, method)
        vectors.measure_origin()
        vectors.fit_origin(fitfunction="plane", plot=False)
        origin = np.stack(vectors.calibration.get_origin(), -1)
        ellipse = ring_ellipse(scan, tuple(origin.mean((0, 1))))
        vectors.calibration.set_p_ellipse(ellipse)
        vectors.setcal(center=True, ellipse=True, pixel=False, rotate=False)
        _, _, a, b, theta = ellipse
        # Its correction maps the ellipse to the circle of the minor axis.
        strain = strain_from(vectors, lambda g: scan.known_lattice(g, np.sqrt(b / a)))
        figures = {
            "ellipse_ratio": a / b,
            "ellipse_deg": float(np.rad2deg(theta) % 180),
            "rms_origin_px": float(np.sqrt(np.mean((origin - scan.origin) ** 2))),
        }
        return Found(strain, points=lambda: raw_points(vectors), figures=figures)

    return run


def raw_points(vectors) -> list[np.ndarray]:
    """Disks of every pattern."""
    raw = (vectors.raw[at] for at in np.ndindex(*vectors.Rshape))
    return [np.stack([one.qx, one.qy], -1) for one in raw]


if __name__ == "__main__":
    packages = ("py4DSTEM", "numpy", "scipy")
    serve_strain(
        __doc__, packages, from_lists, from_scan, ("multicorr", "poly", "multicorr-smooth")
    )
