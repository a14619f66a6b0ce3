"""Patterns and peak lists of a crystal with a known strain, and the Cramér–Rao bound on them.

    python bragg_data.py --out FOLDER [--patterns 1000]

Writes

``disks128.npz``, ``disks256.npz``
    ``data`` (n, Q, Q) uint16 counts; ``positions`` (n, disks, 2), true centres (x = rows) in
    pixels; ``amplitudes`` (n, disks), counts per pixel inside the disk; ``background`` (2,), peak
    (counts) and standard deviation (px); ``centers`` (n, 2), where the background is centred;
    ``probe`` (Q, Q), noise-free; ``radius``, ``spacing``.
``peaks.npz``
    Peak lists of a 128 x 128 scan: ``positions`` (Rx, Ry, 21, 2) with 0.05 px of noise,
    ``intensities`` (Rx, Ry, 21), ``sigma_px``, ``origin`` (2,), true ``g1``, ``g2`` (Rx, Ry, 2).

The disks are flat, with an edge that falls linearly over one pixel:
``m(rho) = clip(radius - rho + 1/2, 0, 1)`` at pixel centres. 21 of them lie inside a pattern, with
a smooth strain of up to 2 %. All counts are Poisson distributed, seeds are fixed. Needs numpy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

SEED = 4200
SPACING_PX, RADIUS_PX, REACH_PX = 19.0, 5.0, 51.0  # for 128 pixels
ANGLE_DEG = 7.0
PEAK_NOISE_PX = 0.05


def strained_vectors(u: np.ndarray, v: np.ndarray, spacing: float) -> np.ndarray:
    """Reciprocal lattice vectors g1, g2 as rows, (n, 2, 2), of positions u, v in [0, 1)."""
    stretch = np.array([[0.02 * np.sin(2 * np.pi * u), 0.008 * np.sin(2 * np.pi * (u + v))]] * 2)
    stretch[1, 0], stretch[1, 1] = stretch[0, 1], -0.015 * np.cos(2 * np.pi * v)
    matrix = np.eye(2) + np.moveaxis(stretch, (0, 1), (1, 2))
    angle = np.deg2rad(ANGLE_DEG + np.cos(2 * np.pi * u))
    c, s = np.cos(angle), np.sin(angle)
    square = spacing * np.moveaxis(np.array([[c, s], [-s, c]]), (0, 1), (1, 2))
    return square @ matrix


def lattice_indices(spacing: float, reach: float) -> np.ndarray:
    """Indices (n, 2) of a square lattice within `reach`, the direct beam first."""
    n = int(reach / spacing) + 1
    hk = np.stack(np.meshgrid(*[np.arange(-n, n + 1)] * 2, indexing="ij"), -1).reshape(-1, 2)
    hk = hk[np.hypot(*hk.T) * spacing <= reach]
    return hk[np.argsort((hk**2).sum(1), kind="stable")]


def soft_disk(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """A flat disk whose edge falls from 1 to 0 over one pixel."""
    return np.clip(radius - np.hypot(dx, dy) + 0.5, 0, 1)


def windows(positions: np.ndarray, radius: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each row of (n, 2) centres the pixel indices i (m, 1) and j (1, m) around it."""
    reach = int(radius) + 2
    offsets = np.arange(-reach, reach + 1)
    for x, y in np.rint(positions).astype(int):
        yield (x + offsets)[:, None], (y + offsets)[None, :]


def expected_pattern(
    size: int, center: np.ndarray, positions: np.ndarray, amplitudes: np.ndarray, facts: dict
) -> np.ndarray:
    """Noise-free pattern (size, size)."""
    i, j = np.ogrid[:size, :size]
    peak, width = facts["background"]
    r2 = (i - center[0]) ** 2 + (j - center[1]) ** 2
    pattern = peak * np.exp(-r2 / (2 * width**2))
    where = windows(positions, facts["radius"])
    for (x, y), a, (i, j) in zip(positions, amplitudes, where, strict=True):
        pattern[i, j] += a * soft_disk(i - x, j - y, facts["radius"])
    return pattern


def make_disks(path: Path, size: int, n: int) -> None:
    """Write the patterns of one size; larger ones are the same, finer sampled."""
    rng = np.random.default_rng([SEED, size])
    scale = size / 128
    radius, spacing = RADIUS_PX * scale, SPACING_PX * scale
    facts = {"radius": radius, "background": np.array([0.5 / scale, size / 5])}
    u, v = np.arange(n) % 40 / 40, np.arange(n) // 40 / 25
    hk = lattice_indices(spacing, REACH_PX * scale)
    centers = size / 2 + rng.uniform(-1.5, 1.5, (n, 2))
    positions = centers[:, None] + np.einsum("dk,nkc->ndc", hk, strained_vectors(u, v, spacing))
    # Nearly as many counts per disk at every size.
    amplitudes = 12 / scale * np.exp(-(hk**2).sum(1) / 5) * rng.uniform(0.5, 1.5, (n, len(hk)))
    amplitudes[:, 0] = 60 / scale
    data = np.empty((n, size, size), np.uint16)
    for k in range(n):
        truth = expected_pattern(size, centers[k], positions[k], amplitudes[k], facts)
        data[k] = rng.poisson(truth)
    i, j = np.ogrid[:size, :size]
    probe = soft_disk(i - size / 2, j - size / 2, radius)
    np.savez(
        path,
        data=data,
        positions=positions,
        amplitudes=amplitudes,
        centers=centers,
        probe=probe,
        spacing=spacing,
        **facts,
    )


def make_peaks(path: Path, size: int = 128) -> None:
    """Write the peak lists of a scan of size x size positions."""
    rng = np.random.default_rng([SEED, 5])
    u, v = (x.ravel() / size for x in np.indices((size, size)))
    g = strained_vectors(u, v, SPACING_PX)
    hk = lattice_indices(SPACING_PX, REACH_PX)
    origin = np.array([64.0, 64.0])
    positions = origin + np.einsum("dk,nkc->ndc", hk, g)
    positions += rng.normal(0, PEAK_NOISE_PX, positions.shape)
    intensities = np.exp(-(hk**2).sum(1) / 6) * rng.uniform(0.7, 1.3, (len(g), len(hk)))
    intensities[:, 0] = 5.0
    shape = (size, size)
    np.savez(
        path,
        positions=positions.reshape(*shape, -1, 2),
        intensities=1e3 * intensities.reshape(*shape, -1),
        sigma_px=PEAK_NOISE_PX,
        origin=origin,
        g1=g[:, 0].reshape(*shape, 2),
        g2=g[:, 1].reshape(*shape, 2),
    )


def cramer_rao_px(disks: dict[str, np.ndarray]) -> float:
    """Smallest root mean square error of one coordinate that an unbiased method can reach, px.

    For every disk the Fisher information of its two coordinates is
    ``F = sum (a dm/dx)(a dm/dx)^T / (a m + b)`` over pixels, with its true amplitude ``a``, the
    noise-free soft-edged template ``m`` at its true place and the true background ``b``, all
    known. (Amplitude and background that must be found too cost almost nothing: by symmetry they
    are not correlated with the position.) The bound is the root of the mean of ``diag(F^-1)`` over
    both coordinates and all disks.
    """
    radius, (peak, width) = float(disks["radius"]), disks["background"]
    variances, step = [], 1e-4
    for k, places in enumerate(disks["positions"]):
        x, y = (places[:, c, None, None] for c in (0, 1))
        grid = list(windows(places, radius))
        i, j = np.stack([w[0] for w in grid]), np.stack([w[1] for w in grid])
        a = disks["amplitudes"][k][:, None, None]
        r2 = (i - disks["centers"][k][0]) ** 2 + (j - disks["centers"][k][1]) ** 2
        expected = a * soft_disk(i - x, j - y, radius) + peak * np.exp(-r2 / (2 * width**2))
        slopes = a * np.stack(
            [
                soft_disk(i - x - step, j - y, radius) - soft_disk(i - x + step, j - y, radius),
                soft_disk(i - x, j - y - step, radius) - soft_disk(i - x, j - y + step, radius),
            ]
        )
        slopes /= 2 * step
        information = np.einsum("adij,bdij->dab", slopes, slopes / expected)
        variances.append(np.linalg.inv(information)[:, [0, 1], [0, 1]])
    return float(np.sqrt(np.mean(variances)))


def likely_px(disks: dict[str, np.ndarray], patterns: int = 100) -> float:
    """Root mean square error (px) of the best possible fit of the first patterns.

    Maximum likelihood over the two coordinates, with the true template, amplitude and background:
    what nobody knows. A soft edge of one pixel on few counts is not smooth enough for the
    Cramér–Rao bound to be reached; this says what can be.
    """
    radius, (peak, width) = float(disks["radius"]), disks["background"]
    errors = []
    for k, places in enumerate(disks["positions"][:patterns]):
        amplitudes, center = disks["amplitudes"][k], disks["centers"][k]
        grid = windows(places, radius)
        for place, a, (i, j) in zip(places, amplitudes, grid, strict=True):
            counts = disks["data"][k][i, j].astype(float)
            r2 = (i - center[0]) ** 2 + (j - center[1]) ** 2
            background = peak * np.exp(-r2 / (2 * width**2))
            shift, reach = np.zeros(2), 0.8
            while reach > 2e-3:
                tried = (shift + reach * np.stack(np.mgrid[-4:5, -4:5], -1) / 4).reshape(-1, 2)
                x, y = (place + tried).T[:, :, None, None]
                expected = a * soft_disk(i - x, j - y, radius) + background
                misfit = (expected - counts * np.log(expected)).sum((1, 2))
                shift, reach = tried[misfit.argmin()], reach / 3
            errors.append(shift)
    return float(np.sqrt(np.mean(np.square(errors))))


def ensure(folder: Path, patterns: int) -> None:
    """Make what is not in the folder yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for size in (128, 256):
        path = folder / f"disks{size}.npz"
        if not path.exists():
            make_disks(path, size, patterns)
    if not (folder / "peaks.npz").exists():
        make_peaks(folder / "peaks.npz")


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patterns", type=int, default=1000)
    options = parser.parse_args()
    ensure(options.out, options.patterns)


if __name__ == "__main__":
    main()
