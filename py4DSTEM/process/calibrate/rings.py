"""Rings: where they are, how elliptic they are, and around which centre.

One model serves powder rings, amorphous rings and Bragg peaks of many grains.  A detector offset
``d = (x, y) - c`` has the undistorted radius ``r = |W d|`` with the symmetric matrix of
determinant one ``W = exp(-[[p, q], [q, -p]])``; ``(p, q) = h (cos 2θ, sin 2θ)`` is smooth where a
circle makes θ undefined, and ``exp(2 h)`` is the ratio of the semi-axes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.errors import ShapeError, SolveError

__all__ = [
    "Distortion",
    "FoundRings",
    "Profile",
    "RingPixels",
    "RingPoints",
    "Rings",
    "find_rings",
    "sharpest",
]

Float = NDArray[np.float64]
Ints = NDArray[np.int64]

SECTORS = 36
"""Azimuthal sectors in which a textured ring has an intensity of its own."""
MOST_PIXELS = 70_000
"""Pixels that the search for a start looks at; the fit itself uses all."""
LARGEST_LOG = 0.09
"""Largest h of the search: semi-axes that differ by 20 %."""


# ---- geometry ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Distortion:
    """Centre and elliptic distortion ``(p, q)`` of a set of concentric rings."""

    cx: float
    cy: float
    p: float = 0.0
    q: float = 0.0

    @property
    def log_stretch(self) -> float:
        """h: half the logarithm of the ratio of the semi-axes."""
        return math.hypot(self.p, self.q)

    @property
    def ratio(self) -> float:
        """Large over small semi-axis."""
        return math.exp(2 * self.log_stretch)

    @property
    def theta_rad(self) -> float:
        """Direction of the large semi-axis from x, in (-π/2, π/2]."""
        return math.atan2(self.q, self.p) / 2

    def matrix(self) -> Float:
        """W (2, 2): from offsets to undistorted ones of the same area."""
        h = self.log_stretch
        slope = math.sinh(h) / h if h > 1e-12 else 1.0
        stretch = np.array([[self.p, self.q], [self.q, -self.p]])
        matrix: Float = math.cosh(h) * np.eye(2) - slope * stretch
        return matrix

    def undistorted(self, xy: Float) -> Float:
        """Vectors from the centre with the distortion undone, (n, 2)."""
        vectors: Float = (xy - (self.cx, self.cy)) @ self.matrix()
        return vectors

    def radii(self, xy: Float) -> Float:
        """Undistorted radii, (n,)."""
        radii: Float = np.hypot(*self.undistorted(xy).T)
        return radii

    def ellipse(self, radius: float) -> Ellipse:
        """The ellipse that a circle of `radius` has become."""
        h = self.log_stretch
        return Ellipse(radius * math.exp(h), radius * math.exp(-h), self.theta_rad)

    def values(self) -> Float:
        return np.array([self.cx, self.cy, self.p, self.q])

    def radial_slopes(self, xy: Float) -> Float:
        """Derivatives of `radii` by cx, cy, p, q, (n, 4)."""
        step, columns = 1e-5, []
        for k in range(4):
            shift = step * np.eye(4)[k]
            more, less = (Distortion(*(self.values() + s * shift)).radii(xy) for s in (1, -1))
            columns.append((more - less) / (2 * step))
        return np.stack(columns, axis=1)


# ---- what is measured ----------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class RingPixels:
    """Pixels of a pattern between two radii: positions (n, 2) and intensities (n,)."""

    xy: Float
    counts: Float

    def __len__(self) -> int:
        return len(self.counts)

    def select(self, keep: NDArray[np.bool_]) -> RingPixels:
        return RingPixels(self.xy[keep], self.counts[keep])

    def between(self, distortion: Distortion, inner: float, outer: float) -> RingPixels:
        """The pixels with an undistorted radius in [inner, outer]."""
        radii = distortion.radii(self.xy)
        return self.select((radii >= inner) & (radii <= outer))

    @classmethod
    def of(cls, pattern: Float) -> RingPixels:
        """All finite pixels of a pattern (Qx, Qy)."""
        if pattern.ndim != 2:
            raise ShapeError(f"rings are measured in one pattern (Qx, Qy), not in {pattern.shape}")
        known = np.isfinite(pattern)
        return cls(np.argwhere(known).astype(np.float64), pattern[known].astype(np.float64))

    def profile(self, distortion: Distortion, step: float) -> Profile:
        """Mean intensity as a function of the undistorted radius."""
        position = distortion.radii(self.xy) / step
        low = position.astype(np.int64)
        share = position - low
        size = int(low.max(initial=0)) + 2

        def sums(values: Float) -> Float:
            shares = ((low, 1 - share), (low + 1, share))
            total: Float = np.sum([np.bincount(i, f * values, size) for i, f in shares], axis=0)
            return total

        norm, total, square = map(sums, (np.ones(len(self)), self.counts, self.counts**2))
        mean = np.divide(total, norm, out=np.zeros(size), where=norm > 0)
        spread = np.divide(square, norm, out=np.zeros(size), where=norm > 0) - mean**2
        error = np.sqrt(np.maximum(spread, 0) / np.maximum(norm, 1))
        return Profile(step * np.arange(size, dtype=np.float64), mean, error, norm)

    def sharpness(self, distortion: Distortion) -> float:
        """Share of the variance of the (square rooted) intensity that the radius explains."""
        profile = self.profile(distortion, 1.0)
        known = profile.norm > 0
        center = np.average(profile.mean[known], weights=profile.norm[known])
        between = float((profile.norm * (profile.mean - center) ** 2)[known].sum())
        total = float(((self.counts - self.counts.mean()) ** 2).sum())
        return between / total if total > 0 else 0.0


@dataclass(frozen=True, eq=False)
class RingPoints:
    """Bragg peaks: positions (n, 2) about their origins and radial uncertainties (n,)."""

    xy: Float
    sigma: Float

    def __len__(self) -> int:
        return len(self.xy)

    def select(self, keep: NDArray[np.bool_]) -> RingPoints:
        return RingPoints(self.xy[keep], self.sigma[keep])

    def between(self, distortion: Distortion, inner: float, outer: float) -> RingPoints:
        """The points with an undistorted radius in [inner, outer]."""
        radii = distortion.radii(self.xy)
        return self.select((radii >= inner) & (radii <= outer))

    def profile(self, distortion: Distortion, step: float) -> Profile:
        """Points per ring of width `step`, counted with soft edges of half a pixel."""
        from scipy.ndimage import gaussian_filter1d  # slow to import

        radii = distortion.radii(self.xy)
        size = int(radii.max(initial=0) / step) + 8
        counted = np.bincount(np.rint(radii / step).astype(np.int64), minlength=size)
        width = max(0.3, float(np.median(self.sigma))) / step
        smooth = gaussian_filter1d(counted.astype(np.float64), width, mode="constant")
        error = np.sqrt(np.maximum(smooth, 1e-9) / (2 * math.sqrt(math.pi) * width))
        radius = step * np.arange(size, dtype=np.float64)
        return Profile(radius, smooth, error, 2 * math.pi * radius * step)

    def sharpness(self, distortion: Distortion) -> float:
        """How much the radii crowd: the mean density of points at a point."""
        profile = self.profile(distortion, 0.25)
        return float((profile.mean**2).sum() / len(self))


@dataclass(frozen=True, eq=False)
class Profile:
    """A radial profile: radii, mean, its standard error and pixels, each (n,)."""

    radius: Float
    mean: Float
    error: Float
    norm: Float


Rings = RingPixels | RingPoints


# ---- a start -------------------------------------------------------------------------------------
def sharpest(data: Rings, start: Distortion, *, fix_center: bool = False) -> Distortion:
    """The distortion that makes the radial profile sharpest, searched around `start`.

    Grids over the centre and over (p, q) find the valley, a simplex its bottom, so that no ring
    need be known and neighbouring rings that an ellipse mixes come apart.
    """
    from scipy.optimize import minimize  # slow to import

    few = data.select(np.arange(len(data)) % max(1, len(data) // MOST_PIXELS) == 0)
    if not fix_center:
        start = max(_moved(start), key=few.sharpness)
    axis = np.linspace(-LARGEST_LOG, LARGEST_LOG, 13).tolist()
    grid = [replace(start, p=p, q=q) for p in axis for q in axis if math.hypot(p, q) < 0.1]
    best = max([start, *grid], key=few.sharpness)
    free = [2, 3] if fix_center else [0, 1, 2, 3]
    steps = np.array([0.7, 0.7, 0.007, 0.007])[free]

    def moved(t: Float) -> Distortion:
        values = best.values()
        values[free] += steps * t
        return Distortion(*values.tolist())

    corners = np.vstack([np.zeros(len(free)), np.eye(len(free))])
    options = {"initial_simplex": corners, "xatol": 0.02, "fatol": 1e-7, "maxfev": 400}
    found = minimize(
        lambda t: -few.sharpness(moved(t)), corners[0], method="Nelder-Mead", options=options
    )
    return moved(found.x)


def _moved(start: Distortion) -> list[Distortion]:
    """The start and places around it, which an offset of some pixels needs."""
    steps = (0.0, -1.5, 1.5, -3.0, 3.0)
    return [replace(start, cx=start.cx + dx, cy=start.cy + dy) for dx in steps for dy in steps]


@dataclass(frozen=True, eq=False)
class FoundRings:
    """Maxima of a radial profile, inside out: radii, full widths at half height, heights (k,).

    ``inner`` and ``outer`` bound what can be modelled: from the minimum before the first ring to
    where the detector ends.
    """

    radii: Float
    widths: Float
    heights: Float
    inner: float
    outer: float


def find_rings(data: Rings, distortion: Distortion, inner: float, outer: float) -> FoundRings:
    """Rings of a radial profile that stand out of its noise.

    Raises
    ------
    SolveError
        There is none.
    """
    step = 0.5 if isinstance(data, RingPixels) else 0.25
    profile = data.profile(distortion, step)
    covered = profile.norm > 0.25 * 2 * math.pi * profile.radius * step
    use = np.flatnonzero((profile.radius >= inner) & (profile.radius <= outer) & covered)
    if len(use) < 5:
        raise SolveError(
            f"no rings: nothing is measured between {inner:.4g} and {outer:.4g} px of the centre"
        )
    # A ring on a steep tail is a maximum only after the tail is flattened.
    for power in (0, 1, 2):
        found = _maxima(profile, use[0], use[-1] + 1, power)
        if found is not None:
            return found
    raise SolveError(
        "no rings stand out of the pattern: give the mean of more patterns, inner_px= and "
        "outer_px= around the rings, or center="
    )


def _maxima(profile: Profile, start: int, stop: int, power: int) -> FoundRings | None:
    from scipy.ndimage import gaussian_filter1d  # slow to import
    from scipy.signal import find_peaks, peak_widths

    radius, part = profile.radius[start:stop], slice(start, stop)
    signal = gaussian_filter1d(profile.mean[part], 1.0) * radius**power
    noise = profile.error[part] * radius**power
    peaks, about = find_peaks(signal, prominence=4 * noise + 0.03 * np.abs(signal))
    # One weak ring beside strong ones is more often a ripple than a ring.
    strong = about["prominences"] > 3e-3 * about["prominences"].max(initial=0)
    if not strong.any():
        return None
    peaks, bases = peaks[strong], about["left_bases"][strong]
    step = radius[1] - radius[0]
    widths = peak_widths(signal, peaks)[0] * step
    return FoundRings(
        radius[peaks],
        np.maximum(widths, 2.4 * step),
        about["prominences"][strong] / radius[peaks] ** power,
        float(radius[bases[0]]),
        float(radius[-1]),
    )
