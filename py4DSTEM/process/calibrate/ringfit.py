"""Least-squares fits of concentric distorted rings to pixels and to Bragg peaks."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import SolveError
from py4DSTEM.process.calibrate.rings import (
    SECTORS,
    Distortion,
    Ints,
    RingPixels,
    RingPoints,
    Rings,
)

__all__ = ["Lines", "RingFit", "fit_pixels", "fit_points", "fit_rings"]

Float = NDArray[np.float64]
_GEOMETRY, _SHAPE = 4, 4
_EXPONENT = (math.log(1.1), math.log(8.0))


@dataclass(frozen=True, eq=False)
class Lines:
    """Rings to fit and what is free.

    Parameters
    ----------
    radii : (k,) float64
        Radii to start from.
    groups : (k,) int64
        Rings of one group keep the ratios of their radii: one scale is fitted for each group.
    width : float
        Full width at half height to start from, px.
    broad : bool
        Amorphous rings: two-sided Gaussians of one intensity all around, on one smooth background.
        Else lines of one shape, whose intensity and background may differ from sector to sector.
    foreshortened : bool
        Whether ``R = s R₀ - κ / (2 R₀)`` with one κ for all, the mean square of the component of
        the scattering vectors along the beam: a thin film shows planes that are tilted away from
        the Bragg condition, whose rings are too small.
    fix : tuple of int
        Which of cx, cy, p, q are held at their start.
    """

    radii: Float
    groups: Ints
    width: float
    broad: bool = False
    foreshortened: bool = False
    fix: tuple[int, ...] = ()

    def linear_map(self, shape: bool) -> Float:
        """B (all, free): every parameter is its start plus B times the free ones.

        All: cx, cy, p, q, radii, and with `shape` also ln(left width), ln(right width), growth of
        the width with the radius, ln(exponent).  Free: what is not held of the first four, the
        scales, κ, and the shape.
        """
        geometry = np.delete(np.eye(_GEOMETRY), self.fix, axis=1)
        radial = np.zeros((len(self.radii), int(self.groups.max()) + 1))
        radial[np.arange(len(radial)), self.groups] = self.radii
        if self.foreshortened:
            radial = np.column_stack([radial, -0.5 / self.radii])
        blocks = [geometry, radial]
        if shape:
            blocks.append(self._free_shape())
        rows, columns = (sum(b.shape[axis] for b in blocks) for axis in (0, 1))
        whole, i, j = np.zeros((rows, columns)), 0, 0
        for block in blocks:
            whole[i : i + block.shape[0], j : j + block.shape[1]] = block
            i, j = i + block.shape[0], j + block.shape[1]
        return whole

    def _free_shape(self) -> Float:
        if self.broad:
            return np.eye(_SHAPE)[:, :2]
        both = np.array([[1.0, 1.0, 0.0, 0.0]]).T
        growth, exponent = np.eye(_SHAPE)[:, 2:3], np.eye(_SHAPE)[:, 3:]
        several = np.ptp(self.radii) > 0.3 * self.radii.max()
        return np.hstack([both, growth, exponent] if several else [both, exponent])

    def apart(self, radii: Float) -> Lines:
        """The same lines at `radii`, each free to move alone."""
        return replace(self, radii=radii, groups=np.arange(len(radii)), foreshortened=False)

    @property
    def unknowns(self) -> int:
        """cx, cy, p, q, scales and κ."""
        return _GEOMETRY + int(self.groups.max()) + 1 + self.foreshortened

    def start(self, distortion: Distortion) -> Float:
        """All parameters at the start, with the shape."""
        width = math.log(self.width / 2.355)
        return np.concatenate([distortion.values(), self.radii, [width, width, 0.0, math.log(2.0)]])


@dataclass(frozen=True, eq=False)
class RingFit:
    """Fitted rings.

    Parameters
    ----------
    distortion : Distortion
    radii : (k,) float64
        Undistorted radii, px; the geometric means of the semi-axes.
    free : (m,) float64
        cx, cy, p, q, the scale of each group (1 at the start) and κ in px², if it was fitted.
    covariance : (m, m) float64
        Of `free`; zero for what was held.
    offsets, sigma_offsets : (k,) float64
        How far each ring lies from its place in the fit when every ring may move, px; zero and
        infinite for a ring without a pixel or point.
    strengths : (k,) float64
        Mean height of each ring, or the number of its points.
    widths : (k,) float64
        Full width at half height of each ring, px.
    residual : float
        Root mean square of what the model leaves, in units of the expected noise (pixels) or in
        pixels of radius (points).
    inflation : float
        Factor on the covariance: variance of the scores of independent patches of the rings over
        that expected from the residuals of single pixels, near 1 without texture.
    count : int
        Pixels or points used.
    """

    distortion: Distortion
    radii: Float
    free: Float
    covariance: Float
    offsets: Float
    sigma_offsets: Float
    strengths: Float
    widths: Float
    residual: float
    inflation: float
    count: int

    @property
    def sigmas(self) -> Float:
        """One-sigma uncertainties of `free`, (m,)."""
        return np.sqrt(np.diag(self.covariance))


def fit_rings(data: Rings, start: Distortion, lines: Lines) -> RingFit:
    """Fit rings to pixels or to Bragg peaks; see `fit_pixels` and `fit_points`."""
    if isinstance(data, RingPixels):
        return fit_pixels(data, start, lines)
    return fit_points(data, start, lines)


# ---- pixels --------------------------------------------------------------------------------------
class _PixelModel:
    """Residuals of lines on a background, intensities eliminated (variable projection).

    In each sector the intensities of lines and background are linear and solved for at every step;
    the Jacobian is that of Kaufman (doi:10.1007/BF01932995).
    """

    def __init__(self, data: RingPixels, lines: Lines, start: Distortion, weight: Float) -> None:
        self.data, self.lines, self.weight = data, lines, weight
        self.reference = float(np.exp(np.log(lines.radii).mean()))
        self.background = _background(start.radii(data.xy), lines)
        azimuth = np.arctan2(*start.undistorted(data.xy).T[::-1])
        self.sectors = _sectors(azimuth, 1 if lines.broad else self._sector_count())
        self.seen: tuple[bytes, Float, Float] = (b"", np.empty(0), np.empty(0))

    def _sector_count(self) -> int:
        unknowns = len(self.lines.radii) + self.background.shape[1]
        return int(np.clip(len(self.data) // (8 * unknowns), 6, SECTORS))

    def at(self, values: Float) -> tuple[Float, Float]:
        """Weighted residuals (n,) and their derivatives by all parameters (n, all)."""
        if self.seen[0] != values.tobytes():
            self.seen = (values.tobytes(), *self._evaluate(values))
        return self.seen[1], self.seen[2]

    def _evaluate(self, values: Float) -> tuple[Float, Float]:
        distortion = Distortion(*values[:_GEOMETRY].tolist())
        radii, slopes = distortion.radii(self.data.xy), distortion.radial_slopes(self.data.xy)
        residual, jacobian = np.empty(len(self.data)), np.empty((len(self.data), len(values)))
        for part in self.sectors:
            weight = self.weight[part, None]
            shape, by = _line_shapes(radii[part], values, len(self.lines.radii), self.reference)
            basis, inverse, heights = self._solve(part, shape, weight)
            residual[part] = basis @ heights - self.data.counts[part] * weight[:, 0]
            slope = _slopes(shape * heights[: shape.shape[1]], by, slopes[part]) * weight
            jacobian[part] = slope - basis @ (inverse @ (basis.T @ slope))
        return residual, jacobian

    def _solve(self, part: Ints, shape: Float, weight: Float) -> tuple[Float, Float, Float]:
        """Weighted linear part of one sector, its inverse normal matrix, and the solution."""
        basis = np.hstack([shape, self.background[part]]) * weight
        # A line beyond the edge of the detector has no column: the pseudo-inverse leaves it at 0.
        inverse = np.linalg.pinv(basis.T @ basis, rcond=1e-10, hermitian=True)
        solved = inverse @ (basis.T @ (self.data.counts[part] * weight[:, 0]))
        return basis, np.asarray(inverse, np.float64), solved

    def heights(self, values: Float) -> Float:
        """Mean height of each line over the sectors, (k,)."""
        radii = Distortion(*values[:_GEOMETRY].tolist()).radii(self.data.xy)
        total = np.zeros(len(self.lines.radii))
        for part in self.sectors:
            shape, _ = _line_shapes(radii[part], values, len(total), self.reference)
            total += self._solve(part, shape, self.weight[part, None])[2][: len(total)]
        return total / len(self.sectors)


def _line_shapes(radii: Float, values: Float, count: int, reference: float) -> tuple[Float, Float]:
    """Lines (n, k), and their logarithmic derivatives by r, R and the shape (6, n, k).

    ``f = sqrt(R / r) exp(-|t|^β / 2)`` with ``t = (r - R) / w``: for β = 2 the profile of a thin
    ring that was blurred by a Gaussian in the plane of the detector; β > 2 resembles a ring of
    disks, β < 2 has tails.
    """
    centers = np.maximum(values[_GEOMETRY : _GEOMETRY + count], 1e-3)
    left, right, growth, log_exponent = values[_GEOMETRY + count :]
    radii, exponent = np.maximum(radii[:, None], 1e-3), math.exp(np.clip(log_exponent, *_EXPONENT))
    offset, stretch = radii - centers, np.log(centers / reference)
    inside = offset < 0
    width = np.exp(np.where(inside, left, right) + growth * stretch)
    t = np.maximum(np.abs(offset) / width, 1e-9)
    power = np.minimum(t**exponent, 200.0)
    shape = np.sqrt(centers / radii) * np.exp(-power / 2)
    by_width = exponent / 2 * power
    steep = by_width / t * np.sign(offset) / width
    by = np.stack([
        -steep - 0.5 / radii,
        steep + (0.5 + growth * by_width) / centers,
        np.where(inside, by_width, 0.0),
        np.where(inside, 0.0, by_width),
        by_width * stretch,
        -by_width * np.log(t),
    ])  # fmt: skip
    return shape, by


def _slopes(lines: Float, by: Float, radial: Float) -> Float:
    """Derivatives of a sum of lines (n, k) by all parameters, (n, all)."""
    geometry = (lines * by[0]).sum(1, keepdims=True) * radial
    shape = (lines * by[2:]).sum(2).T
    return np.hstack([geometry, lines * by[1], shape])


def _background(radii: Float, lines: Lines) -> Float:
    """Smooth functions of the radius for what lies under the lines, (n, b)."""
    low, high = float(radii.min()), float(radii.max())
    if lines.broad:
        t = (2 * radii - low - high) / max(high - low, 1e-9)
        return np.stack([np.ones_like(t), t, t * t], axis=1)
    centers = np.sort(lines.radii)
    gaps = np.flatnonzero(np.diff(centers) > 3 * lines.width)
    middle = (centers[gaps] + centers[gaps + 1]) / 2
    knots = np.concatenate([[low], middle, [high]])
    # Piecewise linear, bent only between rings, so that it cannot imitate one.
    return np.stack([np.interp(radii, knots, hat) for hat in np.eye(len(knots))], axis=1)


def _sectors(azimuth: Float, count: int) -> list[Ints]:
    """Pixel numbers of each of `count` equal sectors."""
    number = ((azimuth / (2 * math.pi) + 0.5) * count).astype(np.int64) % count
    order = np.argsort(number, kind="stable")
    return [p for p in np.split(order, np.searchsorted(number[order], range(1, count))) if len(p)]


def fit_pixels(data: RingPixels, start: Distortion, lines: Lines) -> RingFit:
    """Fit rings to pixels by weighted least squares.

    The variance of a pixel is ``a m + b m²`` of the expected intensity m (counting noise, and the
    texture of rings made of few grains); a, b come from the residuals, over a few rounds in which
    pixels that deviate by more than six sigma are left out.

    Raises
    ------
    SolveError
        The fit does not converge or leaves the rings.
    """
    expected = _expected(data, start)
    variance, values = expected, lines.start(start)
    for last in (False, False, True):
        model = _PixelModel(data, lines, start, 1 / np.sqrt(variance))
        values = _least_squares(model, values, lines.linear_map(shape=True))
        residual, jacobian = model.at(values)
        if not last:
            deviation = residual * np.sqrt(variance)
            expected = np.maximum(data.counts + deviation, _floor(expected))
            variance = _variance(deviation, expected)
            keep = deviation**2 < 36 * variance
            data, expected, variance = data.select(keep), expected[keep], variance[keep]
    return _pixel_fit(model, values, residual, jacobian)


def _expected(data: RingPixels, distortion: Distortion) -> Float:
    """What the radial profile says about every pixel; above zero."""
    profile = data.profile(distortion, 0.5)
    mean = np.interp(distortion.radii(data.xy), profile.radius, profile.mean)
    return np.maximum(mean, _floor(mean))


def _floor(expected: Float) -> float:
    """Smallest expectation that weights believe, so that dark pixels do not rule."""
    typical = float(np.maximum(expected, 0).mean())
    if not typical > 0:
        raise SolveError("no rings: the pattern is empty where they should be")
    return 0.02 * typical


def _variance(deviation: Float, expected: Float) -> Float:
    """``a m + b m²`` fitted to squared deviations, each limited to what is not an outlier."""
    from scipy.optimize import nnls  # slow to import

    guess = expected + np.median(deviation**2 / expected) * expected
    square = np.minimum(deviation**2, 25 * guess)
    columns = np.stack([expected, expected**2], axis=1) / guess[:, None]
    scale, _ = nnls(columns, square / guess)
    variance: Float = columns @ scale * guess
    return np.maximum(variance, 1e-6 * float(variance.max()))


def _least_squares(model: _PixelModel, start: Float, free: Float) -> Float:
    from scipy.optimize import least_squares  # slow to import

    count = len(model.lines.radii)
    solution = least_squares(
        lambda u: model.at(start + free @ u)[0],
        np.zeros(free.shape[1]),
        jac=lambda u: model.at(start + free @ u)[1] @ free,
        method="lm",
        x_scale="jac",
        max_nfev=100,
        xtol=1e-7,
        ftol=1e-8,
    )
    values: Float = start + free @ solution.x
    moved = np.abs(values[_GEOMETRY : _GEOMETRY + count] / model.lines.radii - 1)
    if not solution.success or not np.isfinite(values).all() or moved.max() > 0.2:
        raise SolveError("the fit of the rings did not converge: give inner_px= and outer_px=")
    return values


def _pixel_fit(model: _PixelModel, values: Float, residual: Float, jacobian: Float) -> RingFit:
    lines, count = model.lines, len(model.lines.radii)
    distortion, radii = (
        Distortion(*values[:_GEOMETRY].tolist()),
        values[_GEOMETRY : _GEOMETRY + count],
    )
    undistorted = distortion.undistorted(model.data.xy)
    nearest = np.abs(np.hypot(*undistorted.T)[:, None] - radii).argmin(1)
    patch = _patches(undistorted, nearest, count)
    free = lines.linear_map(shape=True)
    covariance, inflation = _covariance(jacobian @ free, residual, patch)
    alone = jacobian @ lines.apart(radii).linear_map(shape=True)
    offsets, sigma_offsets = _alone(alone, residual, lines, radii, inflation)
    left, right, growth, log_exponent = values[_GEOMETRY + count :]
    width = (math.exp(left) + math.exp(right)) / 2 * (radii / model.reference) ** growth
    exponent = math.exp(np.clip(log_exponent, *_EXPONENT))
    return RingFit(
        distortion,
        radii,
        _free_values(lines, distortion, radii),
        _with_held(covariance, lines),
        offsets,
        sigma_offsets,
        model.heights(values),
        2 * width * (2 * math.log(2)) ** (1 / exponent),
        math.sqrt(float((residual**2).mean())),
        inflation,
        len(residual),
    )


def _free_values(lines: Lines, distortion: Distortion, radii: Float) -> Float:
    """cx, cy, p, q, scales and κ of fitted rings."""
    block = replace(lines, fix=()).linear_map(shape=False)[_GEOMETRY:, _GEOMETRY:]
    moved = np.linalg.lstsq(block, radii - lines.radii, rcond=None)[0]
    moved[: int(lines.groups.max()) + 1] += 1
    return np.concatenate([distortion.values(), moved])


def _alone(
    jacobian: Float, residual: Float, lines: Lines, radii: Float, inflation: float
) -> tuple[Float, Float]:
    """How far each ring would move if it were free of the others, and its uncertainty, px."""
    normal = jacobian.T @ jacobian
    inverse = _inverse(normal)
    ring = slice(_GEOMETRY - len(lines.fix), _GEOMETRY - len(lines.fix) + len(radii))
    offsets = -(inverse @ (jacobian.T @ residual))[ring] * radii
    sigmas = np.sqrt(np.maximum(np.diag(inverse)[ring] * inflation, 0)) * radii
    missing = np.diag(normal)[ring] <= 1e-9 * np.diag(normal)[ring].max()
    return np.where(missing, 0.0, offsets), np.where(missing, np.inf, sigmas)


def _patches(undistorted: Float, ring: Ints, rings: int) -> Ints:
    """Number of the piece of a ring, one per ring and sector, that each pixel belongs to."""
    azimuth = np.arctan2(undistorted[:, 1], undistorted[:, 0]) / (2 * math.pi) + 0.5
    sector = (azimuth * SECTORS).astype(np.int64) % SECTORS
    patch: Ints = sector * rings + ring
    return patch


def _covariance(jacobian: Float, residual: Float, patch: Ints) -> tuple[Float, float]:
    """Inverse normal matrix times the variance of the scores of patches; and that factor.

    Residuals of neighbouring pixels of a spot are not independent, those of patches are: with
    ``g`` the gradient of a patch, ``tr(H⁻¹ Σ g gᵀ) / p`` is what reduced χ² is for independent
    residuals.
    """
    free = jacobian.shape[1]
    inverse = _inverse(jacobian.T @ jacobian)
    gradient = np.zeros((int(patch.max()) + 1, free))
    np.add.at(gradient, patch, jacobian * residual[:, None])
    filled = len(np.unique(patch))
    if filled <= free:
        raise SolveError(f"{filled} pieces of rings cannot determine {free} unknowns")
    meat = gradient.T @ gradient * filled / (filled - free)
    factor = float(np.einsum("ij,ji->", inverse, meat)) / free
    return inverse * factor, factor


def _inverse(normal: Float) -> Float:
    """Pseudo-inverse of a normal matrix whose unknowns differ much in scale."""
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    both = np.outer(scale, scale)
    inverse: Float = np.linalg.pinv(normal / both, rcond=1e-13, hermitian=True) / both
    return inverse


def _with_held(covariance: Float, lines: Lines) -> Float:
    """Covariance of cx, cy, p, q, scales and κ: zero for what was held."""
    size = lines.unknowns
    free = np.delete(np.arange(size), lines.fix)
    whole = np.zeros((size, size))
    whole[np.ix_(free, free)] = covariance[: len(free), : len(free)]
    return whole


# ---- points --------------------------------------------------------------------------------------
def fit_points(data: RingPoints, start: Distortion, lines: Lines) -> RingFit:
    """Fit rings to Bragg peaks: every peak belongs to the nearest ring or to none.

    Robust: peaks that lie farther from their ring than four times the scatter of all (found from
    the median deviation) are left out, in rounds until the choice stays.

    Raises
    ------
    SolveError
        Too few peaks lie on rings.
    """
    free = lines.linear_map(shape=False)
    values = lines.start(start)[: len(free)]
    reach, before = max(1.5 * lines.width, 0.75), np.zeros(len(data), bool)
    for _ in range(20):
        state = _PointState.at(values, data, reach, free.shape[1])
        slope, target = state.system(data, len(lines.radii))
        values = values - free @ np.linalg.lstsq(slope @ free, target, rcond=1e-10)[0]
        if np.array_equal(before, state.kept):
            break
        before = state.kept
        typical = float(np.median(data.sigma[state.kept]))
        reach = min(reach, 4 * max(state.scatter, typical, 1e-6))
    return _point_fit(_PointState.at(values, data, reach, free.shape[1]), data, lines, values)


@dataclass(frozen=True, eq=False)
class _PointState:
    """Peaks at one stage of the fit: nearest ring, distance from it, whether it counts."""

    distortion: Distortion
    ring: Ints
    offset: Float
    kept: NDArray[np.bool_]
    scatter: float

    @classmethod
    def at(cls, values: Float, data: RingPoints, reach: float, unknowns: int) -> _PointState:
        distortion = Distortion(*values[:_GEOMETRY].tolist())
        offset = distortion.radii(data.xy)[:, None] - values[_GEOMETRY:]
        ring = np.abs(offset).argmin(1)
        offset = offset[np.arange(len(data)), ring]
        kept = np.abs(offset) <= reach
        if kept.sum() < 2 * unknowns:
            raise SolveError(
                f"{kept.sum()} peaks lie on rings; {unknowns} unknowns need at least "
                f"{2 * unknowns}: use more patterns"
            )
        scatter = 1.4826 * float(np.median(np.abs(offset[kept])))
        return cls(distortion, ring, offset, kept, scatter)

    def system(self, data: RingPoints, count: int) -> tuple[Float, Float]:
        """Weighted derivatives (kept, all) and weighted distances (kept,)."""
        offset, sigma = self.offset[self.kept], data.sigma[self.kept]
        # Grains scatter by more than the peaks' own uncertainty: the rest is common to all.
        excess = max(0.0, float((offset**2).mean() - (sigma**2).mean()))
        sigma = np.maximum(np.sqrt(sigma**2 + excess), 1e-9)
        own = -(self.ring[self.kept, None] == np.arange(count)).astype(np.float64)
        slopes = np.hstack([self.distortion.radial_slopes(data.xy[self.kept]), own])
        return slopes / sigma[:, None], offset / sigma


def _point_fit(state: _PointState, data: RingPoints, lines: Lines, values: Float) -> RingFit:
    radii, count = values[_GEOMETRY:], len(lines.radii)
    slope, target = state.system(data, count)
    patch = _patches(
        state.distortion.undistorted(data.xy[state.kept]), state.ring[state.kept], count
    )
    covariance, inflation = _covariance(slope @ lines.linear_map(shape=False), target, patch)
    alone = slope @ lines.apart(radii).linear_map(shape=False)
    offsets, sigma_offsets = _alone(alone, target, lines, radii, inflation)
    strengths = np.bincount(state.ring[state.kept], minlength=count).astype(np.float64)
    return RingFit(
        state.distortion,
        radii,
        _free_values(lines, state.distortion, radii),
        _with_held(covariance, lines),
        offsets,
        sigma_offsets,
        strengths,
        np.full(count, 2.355 * state.scatter),
        float(np.sqrt((state.offset[state.kept] ** 2).mean())),
        inflation,
        int(state.kept.sum()),
    )
