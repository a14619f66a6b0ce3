"""Scans of disks at known places, the Cramér-Rao bound of a disk, and how peaks compare."""

from dataclasses import dataclass

import numpy as np
from scipy.special import erfc

from py4DSTEM import DataCube
from py4DSTEM.process.probe import synthetic_probe

NODES, WEIGHTS = np.polynomial.legendre.leggauss(5)
BLUR = 0.5


def disk(shape, center, radius, ramp=(0.0, 0.0), blur=BLUR):
    """A disk of unit height, sloping by `ramp` over its radius, blurred, and summed over pixels.

    Blur of a slope: ``(p f) * G = p (f * G) + blur² ∇(f * G)``.
    """
    x = (np.arange(shape[0])[:, None] + NODES / 2 - center[0])[:, None, :, None]
    y = (np.arange(shape[1])[:, None] + NODES / 2 - center[1])[None, :, None, :]
    r = np.hypot(x, y)
    level = 0.5 * erfc((r - radius) / (np.sqrt(2) * blur))
    slope = (ramp[0] * x + ramp[1] * y) / radius
    edge = np.exp(-(((r - radius) / blur) ** 2) / 2) / (np.sqrt(2 * np.pi) * r)
    inside = level * (1 + slope) - blur * slope * edge
    return np.einsum("ijkl,k,l->ij", inside, WEIGHTS, WEIGHTS) / 4


def add(image, center, height, radius, ramp=(0.0, 0.0)):
    """Add a disk where it is not negligible."""
    half = int(radius + 5)
    lows = [max(0, round(c) - half) for c in center]
    part = image[tuple(slice(a, round(c) + half + 1) for a, c in zip(lows, center, strict=True))]
    if part.size:
        part += height * disk(part.shape, np.subtract(center, lows), radius, ramp)


def bound(radius, height, background, gain=1.0, read=0.0):
    """Least possible standard deviation (px) of the centre of a disk, averaged over its phases.

    From the Fisher information ``F_ab = Σ ∂_a λ ∂_b λ / var`` of the noise-free pattern, with
    height and background known, and with both to be found too.
    """
    side, step, variances = 2 * int(radius + 8) + 1, 1e-3, []
    for x, y in np.random.default_rng(0).uniform(-0.5, 0.5, (8, 2)) + side // 2:
        shape = (side, side)
        t = disk(shape, (x, y), radius)
        tx = disk(shape, (x + step, y), radius) - disk(shape, (x - step, y), radius)
        ty = disk(shape, (x, y + step), radius) - disk(shape, (x, y - step), radius)
        d = np.stack([height * tx / (2 * step), height * ty / (2 * step), t, np.ones(shape)])
        d = d.reshape(4, -1)
        fisher = (d / (gain * (height * t + background).ravel() + read**2)) @ d.T
        known = np.trace(np.linalg.inv(fisher[:2, :2])) / 2
        variances.append((known, np.trace(np.linalg.inv(fisher)[:2, :2]) / 2))
    return np.sqrt(np.mean(variances, axis=0))


@dataclass
class Scan:
    """Noise-free patterns (n, Qx, Qy), true centres (n, k, 2), and what was put in."""

    expected: np.ndarray
    centers: np.ndarray
    ramps: np.ndarray
    radius: float

    @property
    def probe(self):
        return synthetic_probe(self.expected.shape[1:], self.radius, np.hypot(BLUR, 12**-0.5))

    def counts(self, seed=1, gain=1.0, read=0.0, dtype="u2"):
        rng = np.random.default_rng(seed)
        counts = gain * rng.poisson(self.expected)
        if read:
            counts = counts + rng.normal(0, read, counts.shape)
        return counts.astype(dtype)

    def cube(self, **camera):
        return as_cube(self.counts(**camera))


def as_cube(frames):
    rows = next(r for r in (4, 3, 2, 1) if len(frames) % r == 0)
    return DataCube(frames.reshape(rows, -1, *frames.shape[1:]))


def grid_scan(radius, height, background, n=12, pitch=None, side=4, ramp=0.0, seed=0):
    """Disks on a square grid, each moved by up to half a pixel, with random slopes up to `ramp`."""
    rng = np.random.default_rng(seed)
    pitch = np.ceil(4 * radius + 2) if pitch is None else pitch
    shape = (int(pitch * side) + 3, int(pitch * side))
    nodes = np.stack(np.mgrid[:side, :side], -1).reshape(-1, 2)
    centers = pitch * (nodes + 0.5) + rng.uniform(-0.5, 0.5, (n, side**2, 2))
    angle, size = rng.uniform(0, 2 * np.pi, (n, side**2)), rng.uniform(0, ramp, (n, side**2))
    ramps = size[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    expected = np.full((n, *shape), float(background))
    heights = np.broadcast_to(height, (n, side**2))
    for p in range(n):
        for k in range(side**2):
            add(expected[p], centers[p, k], heights[p, k], radius, ramps[p, k])
    return Scan(expected, centers, ramps, radius)


@dataclass
class Compared:
    """Peaks that belong to true disks: errors and pulls (m, 2), indices (m, 2) of the disks."""

    errors: np.ndarray
    pulls: np.ndarray
    which: np.ndarray
    false: int
    points: np.ndarray

    @property
    def rms(self):
        return float(np.sqrt((self.errors**2).mean()))


def compare(peaks, centers, within=1.5):
    centers = np.asarray(centers).reshape(-1, *np.shape(centers)[-2:])
    errors, which, points, false = [], [], [], 0
    for p, true in enumerate(centers):
        found = peaks.points[peaks.offsets[p] : peaks.offsets[p + 1]]
        xy = np.stack([found["qx"], found["qy"]], -1)
        apart = np.linalg.norm(xy[:, None] - true[None], axis=-1)
        if not len(found):
            continue
        k, near = apart.argmin(1), apart.min(1) < within
        false += int((~near).sum())
        errors.append((xy - true[k])[near])
        which.append(np.stack([np.full(near.sum(), p), k[near]], -1))
        points.append(found[near])
    errors, which, points = (np.concatenate(v) for v in (errors, which, points))
    sigma = np.stack([points["sigma_qx"], points["sigma_qy"]], -1)
    return Compared(errors, errors / sigma, which, false, points)
