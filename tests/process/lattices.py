"""Tables of peaks with known errors, for the tests of lattice and strain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from py4DSTEM import BraggPeaks, Calibration, PointTable, simulate
from py4DSTEM.process.bragg.peaks import PEAK_DTYPE
from py4DSTEM.simulate.lattice import LatticeTruth

Float = NDArray[np.float64]
FIELDS = [("qx", "f8"), ("qy", "f8"), ("intensity", "f8")]


def noisy_peaks(
    scan_shape: tuple[int, int] = (24, 25),
    *,
    seed: int = 0,
    scatter_px: float = 0.0,
    wild: float = 0.0,
    slopes: bool = False,
    prior: float | None = None,
    **options: object,
) -> tuple[BraggPeaks, LatticeTruth]:
    """True disks of a simulated scan with errors drawn from the covariances that they state.

    With `slopes`, position and slope of each disk are drawn from their joint Gaussian, about slopes
    that vary smoothly; `prior` is what the fit of the disks assumed about these.
    """
    rng = np.random.default_rng(seed)
    truth = simulate.strained_lattice(scan_shape, seed=3, dose=None, **options).truth
    positions = truth.positions_px()
    inside = np.linalg.norm(positions - truth.origin_px[:, :, None], axis=-1).max((0, 1)) < 55
    positions, hk = positions[:, :, inside], truth.hk[inside]
    table = np.full(positions.shape[:3], np.nan, PEAK_DTYPE)
    intensity = np.broadcast_to(truth.fractions[inside] * 5e4, table.shape)
    x = 3 / np.sqrt(intensity) * rng.uniform(0.8, 1.25, table.shape)
    y = x * rng.uniform(0.8, 1.2, table.shape)
    mixed = 0.3 * x * y
    root = np.linalg.cholesky(np.array([[x**2, mixed], [mixed, y**2]]).transpose(2, 3, 4, 0, 1))
    errors = (root @ rng.normal(size=(*table.shape, 2, 1)))[..., 0]
    errors += scatter_px * rng.normal(size=errors.shape)
    if slopes:
        smooth = _smooth_slopes(scan_shape, hk, rng)
        width = 2 / np.sqrt(intensity)
        fitted = smooth + width[..., None] * rng.normal(size=smooth.shape)
        posterior = 1 / (width**-2 + (0.0 if prior is None else prior**-2))
        fitted *= (posterior / width**2)[..., None]
        coupling = 1.5
        errors += coupling * (fitted - smooth)
        x, y = (np.sqrt(s**2 + coupling**2 * posterior) for s in (x, y))
        table["slope_x"], table["slope_y"] = fitted[..., 0], fitted[..., 1]
        table["sigma_slope"], table["coupling"] = np.sqrt(posterior), coupling
    stray = rng.random(table.shape) < wild
    errors[stray] += rng.normal(size=(int(stray.sum()), 2))
    table["qx"], table["qy"] = (
        positions[..., 0] + errors[..., 0],
        positions[..., 1] + errors[..., 1],
    )
    table["intensity"], table["sigma_qx"], table["sigma_qy"] = intensity, x, y
    table["cov_qxqy"] = mixed
    offsets = np.arange(scan_shape[0] * scan_shape[1] + 1) * len(hk)
    report = {} if prior is None else {"slope_prior": prior}
    peaks = BraggPeaks(table.ravel(), offsets, scan_shape, truth.calibration, report=report)
    return peaks, truth


def _smooth_slopes(shape: tuple[int, int], hk: Float, rng: np.random.Generator) -> Float:
    u, v = np.meshgrid(*(np.arange(n) / n for n in shape), indexing="ij")
    phase = hk @ rng.normal(size=(2, 2))
    x = 0.1 * np.sin(4 * u[..., None] + phase[:, 0])
    y = 0.1 * np.cos(3 * v[..., None] + phase[:, 1])
    return np.stack([x, y], -1) + 0.01 * rng.normal(size=(*shape, len(hk), 2))


def lattice_peaks(
    lattice: Float,
    shape: tuple[int, int] = (5, 6),
    *,
    hk: Float | None = None,
    center: tuple[float, float] = (64.0, 65.0),
    noise: float = 0.03,
    stray: int = 0,
    weak: float = 1.0,
    calibrated: bool = True,
    seed: int = 0,
) -> PointTable:
    """Disks of a lattice (2, 2), or one for each position, on a detector of 128 x 128.

    `weak` is the intensity of reflections with an odd index; `stray` peaks lie anywhere.
    """
    rng = np.random.default_rng(seed)
    lattice = np.broadcast_to(lattice, (*shape, 2, 2))
    if hk is None:
        hk = np.stack([a.ravel() for a in np.mgrid[-12:13, -12:13]], -1).astype(float)
    strength = np.exp(-(hk**2).sum(1) / 20) * np.where((hk % 2).any(1), weak, 1.0)
    strength[~hk.any(1)] = 5.0
    rows = []
    for i in range(shape[0]):
        cells = []
        for j in range(shape[1]):
            points = center + hk @ lattice[i, j] + rng.normal(0, noise, hk.shape)
            here = ((points > 4) & (points < 124)).all(1)
            cell = np.zeros(int(here.sum()) + stray, FIELDS)
            cell["qx"], cell["qy"] = np.vstack([points[here], rng.uniform(4, 124, (stray, 2))]).T
            cell["intensity"] = [*strength[here], *rng.uniform(0.02, 0.1, stray)]
            cells.append(cell)
        rows.append(cells)
    known = Calibration().replace(origin_px=center) if calibrated else Calibration()
    return PointTable.from_lists(rows, calibration=known)


def turn(angle_rad: float | Float) -> Float:
    """Matrix (..., 2, 2) that turns row vectors from x towards y."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    return np.moveaxis(np.array([[c, s], [-s, c]]), (0, 1), (-2, -1))
