"""Least-squares fit of a soft-edged, possibly elliptical disk to a pattern."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Ellipse
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.process.defects import counting_noise, hot_pixels

__all__ = ["RimFit", "fit_rim", "rim_radius", "soft_disk"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

SIGNIFICANT_CHI2 = 11.83
"""χ² of two parameters that chance exceeds as seldom as three sigma of one."""
STRUCTURE = 0.12
"""Relative contrast (rms) inside the disk above which the probe counts as patterned."""
LEAST_HEIGHT_RATIO = 7.0
"""Height of the disk over its own uncertainty below which there is no beam."""
LEAST_COUNTS = 100
"""Electrons in the disk below which there is no beam."""
_SOFTEST = 2.0
"""Edge over radius of what is no disk; a Gaussian has about one."""
_PASSES = 4
_STEPS = 60
"""Most steps of a fit: a disk takes 5 to 30; what is no disk would take hundreds, for nothing."""
_ENOUGH_PIXELS = 2048
"""Of a window, by which a fit finds its way; the last steps use them all."""


@dataclass(frozen=True, eq=False)
class RimFit:
    """A soft-edged disk ``background + height (1 + ramp·p/R) erfc((ρ − R)/(√2 σ)) / 2``.

    Parameters
    ----------
    center, radius_px, edge_px, rim
        As of a `Probe`.
    height, background : float
        Of the disk and beside it, in the units of the pattern.
    ramp : (float, float)
        Relative change of the height from the centre to the rim along x and y.
    sigma_center, sigma_radius_px, sigma_edge_px
        One-sigma uncertainties: covariance times reduced χ².
    chi2 : float
        Reduced χ² before that; near one by construction of the weights, see `fit_rim`.
    misfit : float
        Rms by which the rim differs from the model beyond counting noise, over the height.
    structure : float
        Rms contrast inside the disk beyond counting noise, over the height.
    patterned : bool
        Whether that is the pattern of a structured aperture.
    used : (Qx, Qy) bool
        Pixels that were fitted.
    """

    center: tuple[float, float]
    radius_px: float
    edge_px: float
    rim: Ellipse
    height: float
    background: float
    ramp: tuple[float, float]
    sigma_center: tuple[float, float]
    sigma_radius_px: float
    sigma_edge_px: float
    chi2: float
    misfit: float
    structure: float
    patterned: bool
    used: Bool


# ---- the model -----------------------------------------------------------------------------------
def rim_radius(x: ArrayLike, y: ArrayLike, rim: Ellipse) -> Float:
    """Distance of offsets (x, y) from the centre in the metric of the rim.

    ``ρ = √(ab) √((u/a)² + (v/b)²)``, u along the semi-axis a: on the rim ρ is the geometric mean of
    the semi-axes; areas are kept.
    """
    metric = rim.correction() * math.sqrt(rim.a / rim.b)
    x, y = np.asarray(x, float), np.asarray(y, float)
    u, v = metric[0, 0] * x + metric[0, 1] * y, metric[1, 0] * x + metric[1, 1] * y
    radius: Float = np.hypot(u, v)
    return radius


def soft_disk(rho: ArrayLike, radius_px: float, edge_px: float) -> Float:
    """``erfc((ρ − R)/(√2 σ)) / 2``: one inside, one half on the rim, zero outside."""
    from scipy.special import erfc  # slow to import

    disk: Float = 0.5 * erfc((np.asarray(rho, float) - radius_px) / (math.sqrt(2) * edge_px))
    return disk


def _ellipse(radius_px: float, stretch: Float) -> Ellipse:
    """Semi-axes ``R e^{±ε}`` with ``(ε cos 2θ, ε sin 2θ) = stretch``."""
    strength = math.hypot(*stretch)
    theta = 0.5 * math.atan2(stretch[1], stretch[0]) % math.pi if strength else 0.0
    factor = math.exp(strength)
    return Ellipse(radius_px * factor, radius_px / factor, theta)


# Order of the parameters: centre, radius, log edge, height, background, ramp, stretch.
_CX, _CY, _R, _LOG_EDGE, _HEIGHT, _BACK, _RX, _RY, _E1, _E2 = range(10)


def _model(p: Float, i: Float, j: Float) -> Float:
    x, y = i - p[_CX], j - p[_CY]
    rho = rim_radius(x, y, _ellipse(p[_R], p[_E1:]))
    level = p[_HEIGHT] * (1 + (p[_RX] * x + p[_RY] * y) / p[_R])
    model: Float = p[_BACK] + level * soft_disk(rho, p[_R], math.exp(p[_LOG_EDGE]))
    return model


def _slopes(p: Float, i: Float, j: Float) -> Float:
    """Derivatives of the model by its parameters, (pixels, 10).

    With ``(ε₁, ε₂)`` the stretch and ``ε`` its length,
    ``ρ² = cosh(2ε) (x² + y²) − sinh(2ε)/ε (ε₁ (x² − y²) + 2 ε₂ x y)``.
    """
    x, y = i - p[_CX], j - p[_CY]
    radius, edge, (e1, e2) = p[_R], math.exp(p[_LOG_EDGE]), p[_E1:]
    even, odd, odder = _stretching(math.hypot(e1, e2))
    square, cross = x * x - y * y, 2 * x * y
    rho = np.sqrt(
        np.maximum(even * (x * x + y * y) - odd * (e1 * square + e2 * cross), 1e-12 * radius**2)
    )
    shift = 1 + (p[_RX] * x + p[_RY] * y) / radius
    disk = soft_disk(rho, radius, edge)
    fall = np.exp(-0.5 * ((rho - radius) / edge) ** 2) / (math.sqrt(2 * math.pi) * edge)
    rim = p[_HEIGHT] * shift * fall  # minus the derivative by ρ
    along = (2 * odd * (x * x + y * y) - odder * (e1 * square + e2 * cross)) / (2 * rho)
    slopes = np.empty((len(i), 10))
    height = p[_HEIGHT] / radius * disk
    slopes[:, _CX] = rim * ((even - odd * e1) * x - odd * e2 * y) / rho - p[_RX] * height
    slopes[:, _CY] = rim * ((even + odd * e1) * y - odd * e2 * x) / rho - p[_RY] * height
    slopes[:, _R] = rim - (shift - 1) * height
    slopes[:, _LOG_EDGE] = rim * (rho - radius)
    slopes[:, _HEIGHT] = shift * disk
    slopes[:, _BACK] = 1.0
    slopes[:, _RX], slopes[:, _RY] = height * x, height * y
    slopes[:, _E1] = rim * (odd * square / (2 * rho) - e1 * along)
    slopes[:, _E2] = rim * (odd * cross / (2 * rho) - e2 * along)
    return slopes


def _stretching(strength: float) -> tuple[float, float, float]:
    """``cosh(2ε)``, ``sinh(2ε)/ε`` and the derivative of the latter over ε."""
    even = math.cosh(2 * strength)
    if strength < 1e-3:  # series: the quotients lose digits
        return even, 2 + 4 / 3 * strength**2, 8 / 3 + 16 / 15 * strength**2
    odd = math.sinh(2 * strength) / strength
    return even, odd, (2 * even - odd) / strength**2


# ---- a first guess -------------------------------------------------------------------------------
def _spikes(values: Float, known: Bool) -> Bool:
    """Pixels far above or below all eight neighbours: no disk that is resolved has them."""
    from scipy import ndimage  # slow to import

    ring = np.ones((3, 3), bool)
    ring[1, 1] = False
    # Beyond the border there is nothing: a pixel there must not be its own neighbour.
    top = ndimage.maximum_filter(
        np.where(known, values, -np.inf), footprint=ring, mode="constant", cval=-np.inf
    )
    low = ndimage.minimum_filter(
        np.where(known, values, np.inf), footprint=ring, mode="constant", cval=np.inf
    )
    top, low = np.where(np.isfinite(top), top, 0.0), np.where(np.isfinite(low), low, 0.0)
    noise = 5 * np.sqrt(np.maximum(np.abs(top), np.abs(low)))
    hot = (values > 2 * np.abs(top) + noise) & known
    dead = (values < low / 2 - noise) & known
    spikes: Bool = hot | dead
    return spikes


def _guess(values: Float, gain: float | None) -> tuple[float, float, float, float]:
    """Centre, radius and height of the brightest disk; a rim cut by the detector is completed."""
    from scipy import ndimage  # slow to import

    for width in (0.7, 1.4, 2.8, 5.6):
        smooth = ndimage.gaussian_filter(values, width)
        counts = smooth.max() * 4 * math.pi * width**2 / (gain or 1.0)
        if gain is None or counts > 100:  # enough for a half level that noise does not cross
            break
    if smooth.max() <= 0:
        raise ParameterError(
            "no beam in an empty pattern: give a pattern with the unscattered disk"
        )
    peak = np.unravel_index(int(smooth.argmax()), smooth.shape)
    level = 0.5 * float(smooth[peak])
    for _ in range(3):
        region = _around(smooth > level, peak)
        level = min(0.5 * float(np.median(smooth[region])), 0.99 * float(smooth[peak]))
    region = _closed(smooth > level, peak)
    cx, cy, radius = _circle(region)
    return cx, cy, radius, 2 * level


def _around(bright: Bool, peak: tuple[np.intp, ...]) -> Bool:
    from scipy import ndimage  # slow to import

    labels, _ = ndimage.label(bright)
    region: Bool = labels == labels[peak]
    return region if bright[peak] else np.zeros_like(bright)


def _closed(bright: Bool, peak: tuple[np.intp, ...]) -> Bool:
    """The region of the peak, joined over the dark rings and spokes of a structured aperture.

    A larger region is taken where it is as round as a disk; two disks together are not.
    """
    from scipy import ndimage  # slow to import

    region: Bool = ndimage.binary_fill_holes(_around(bright, peak))
    for _ in range(8):
        reach = max(1, round(0.35 * math.sqrt(region.sum() / math.pi)))
        # Closing by a circle: all within reach of the region, but what is in reach of the rest.
        within = ndimage.distance_transform_edt(~np.pad(bright | region, reach)) <= reach
        joined = (ndimage.distance_transform_edt(within) > reach)[reach:-reach, reach:-reach]
        larger = ndimage.binary_fill_holes(_around(joined, peak))
        if larger.sum() <= 1.05 * region.sum() or _roundness(larger) < 0.8:
            break
        region = larger
    return region


def _roundness(region: Bool) -> float:
    """Area over that of the circle about it; one for a disk."""
    i, j = np.nonzero(region)
    farthest = float(np.hypot(i - i.mean(), j - j.mean()).max()) + 0.5
    return len(i) / (math.pi * farthest**2)


def _circle(region: Bool) -> tuple[float, float, float]:
    """Circle through the outline of a region, where that is not the border of the detector."""
    from scipy import ndimage  # slow to import

    outline = region & ~ndimage.binary_erosion(region, border_value=1)
    i, j = (a.astype(float) for a in np.nonzero(outline))
    area_radius = math.sqrt(region.sum() / math.pi)
    middle = [float(a.mean()) for a in np.nonzero(region)]
    if len(i) < 6:
        return middle[0], middle[1], max(area_radius, 0.6)
    matrix = np.stack([i - middle[0], j - middle[1], np.ones_like(i)], axis=1)
    right = (matrix[:, :2] ** 2).sum(axis=1)
    a, b, c = np.linalg.lstsq(matrix, right, rcond=None)[0]
    radius = math.sqrt(max(c + (a * a + b * b) / 4, 0.36))
    return middle[0] + a / 2, middle[1] + b / 2, radius + 0.4  # outline pixels lie inside


# ---- the fit -------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Window:
    """Pixels near the disk, those that count, and how noisy they are."""

    i: Float
    j: Float
    values: Float
    ceiling: float
    shape: tuple[int, int]
    index: tuple[NDArray[np.intp], NDArray[np.intp]]

    def residual(self, p: Float) -> Float:
        """Data minus model; a saturated pixel tells only when the model is below it."""
        difference = self.values - _model(p, self.i, self.j)
        return np.where((self.values >= self.ceiling) & (difference < 0), 0.0, difference)

    def slopes(self, p: Float) -> Float:
        """Derivatives of the residual, (pixels, 10)."""
        difference = self.values - _model(p, self.i, self.j)
        blind = (self.values >= self.ceiling) & (difference < 0)
        return np.where(blind[:, None], 0.0, -_slopes(p, self.i, self.j))

    def rho(self, p: Float) -> Float:
        return rim_radius(self.i - p[_CX], self.j - p[_CY], _ellipse(p[_R], p[_E1:]))

    def select(self, keep: Bool) -> _Window:
        index = (self.index[0][keep], self.index[1][keep])
        return replace(self, i=self.i[keep], j=self.j[keep], values=self.values[keep], index=index)

    def thinned(self) -> _Window:
        """No more than `_ENOUGH_PIXELS`, spread evenly (by the golden ratio)."""
        count = len(self.values)
        if count <= _ENOUGH_PIXELS:
            return self
        order = np.arange(count) * (0.5 * (math.sqrt(5) - 1)) % 1
        return self.select(order < _ENOUGH_PIXELS / count)


def _no_disk(why: str) -> ParameterError:
    return ParameterError(
        f"no disk in the pattern: {why}; give a pattern with the unscattered disk"
    )


def _window(values: Float, known: Bool, p: Float, ceiling: float) -> _Window:
    """Pixels within the rim and a margin that holds the edge but not the neighbouring disks."""
    i, j = np.indices(values.shape, dtype=np.float64)
    rho = rim_radius(i - p[_CX], j - p[_CY], _ellipse(p[_R], p[_E1:]))
    margin = max(3.0, 0.35 * p[_R], 4 * math.exp(p[_LOG_EDGE]))
    near: Bool = known & (rho < p[_R] + margin)
    if not near.any():
        raise _no_disk("every pixel of its brightest region is unknown")
    rows, columns = np.nonzero(near)
    shape = (values.shape[0], values.shape[1])
    where = (rows, columns)
    return _Window(rows.astype(float), columns.astype(float), values[near], ceiling, shape, where)


def _ceiling(values: Float, known: Bool, height: float) -> float:
    """Level at which the detector saturates; infinite where it does not show."""
    top = float(values[known].max())
    plateau = int((values[known] == top).sum())
    disk = int((values[known] > 0.5 * height).sum())
    return top if top > 100 and plateau >= max(5, 0.25 * disk) else math.inf


def _bounds(p: Float, shape: tuple[int, int], free: Bool) -> tuple[Float, Float]:
    radius, height = p[_R], abs(p[_HEIGHT])
    low = np.array(
        [p[_CX] - radius, p[_CY] - radius, 0.3, math.log(0.08), 1e-3 * height, -height,
         -1.5, -1.5, -0.3, -0.3]
    )  # fmt: skip
    high = np.array(
        [p[_CX] + radius, p[_CY] + radius, 2.0 * max(shape), math.log(radius + 1), 50 * height,
         2 * height, 1.5, 1.5, 0.3, 0.3]
    )  # fmt: skip
    return low[free], high[free]


def _solve(window: _Window, p: Float, noise: Float, free: Bool, loss: str) -> tuple[Float, Float]:
    """Parameters and covariance (free ones, before scaling)."""
    from scipy.optimize import least_squares  # slow to import

    if not p[_HEIGHT] > 0:
        raise _no_disk("its brightest region is not brighter than what surrounds it")

    def whole(part: Float) -> Float:
        q = p.copy()
        q[free] = part
        return q

    def scaled(part: Float) -> tuple[Float, Float]:
        q = whole(part)
        return window.residual(q) / noise, window.slopes(q)[:, free] / noise[:, None]

    problem = _Compressed(scaled, _softened if loss == "soft_l1" else _as_is)
    low, high = _bounds(p, window.shape, free)
    start = np.clip(p[free], low + 1e-9 * (high - low), high - 1e-9 * (high - low))
    scale = np.array([1, 1, 1, 0.3, p[_HEIGHT], p[_HEIGHT], 1, 1, 0.1, 0.1])[free]
    found = least_squares(
        problem.residual, start, problem.slopes, (low, high), x_scale=scale, max_nfev=_STEPS
    )
    if not np.isfinite(found.x).all():
        raise SolveError("the fit of the disk met numbers that are not finite")
    residual, slopes = scaled(found.x)
    if loss == "soft_l1":  # curvature of the loss
        slopes = slopes * (1 + residual**2)[:, None] ** -0.75
    covariance = np.asarray(np.linalg.pinv(slopes.T @ slopes), np.float64)
    return whole(found.x), covariance


Problem = Callable[[Float], tuple[Float, Float]]
Loss = Callable[[Float, Float], tuple[Float, Float]]


class _Compressed:
    """A problem of least squares over many pixels as one with as many rows as unknowns, plus one.

    With ``J = QR`` the rows ``(Qᵀf, |f − QQᵀf|)`` have the same sum of squares as the residuals f,
    and with ``(R, 0)`` for derivatives the same steps, without a decomposition of all pixels.
    """

    def __init__(self, problem: Problem, loss: Loss) -> None:
        self._problem, self._loss = problem, loss
        self._last: tuple[bytes, Float, Float] = (b"", np.empty(0), np.empty((0, 0)))

    def residual(self, x: Float) -> Float:
        return self._at(x)[1]

    def slopes(self, x: Float) -> Float:
        return self._at(x)[2]

    def _at(self, x: Float) -> tuple[bytes, Float, Float]:
        if self._last[0] != x.tobytes():
            self._last = (x.tobytes(), *_compressed(*self._loss(*self._problem(x))))
        return self._last


def _compressed(residual: Float, slopes: Float) -> tuple[Float, Float]:
    normal, gradient = slopes.T @ slopes, slopes.T @ residual
    if not (np.isfinite(normal).all() and np.isfinite(gradient).all()):
        raise SolveError("the fit of the disk met numbers that are not finite")
    size = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    values, vectors = np.linalg.eigh(normal / size / size[:, None])
    seen = values > 1e-14 * len(size)
    root = np.sqrt(np.where(seen, values, 1.0))
    along = np.where(seen, vectors.T @ (gradient / size) / root, 0.0)
    across = math.sqrt(max(float(residual @ residual - along @ along), 0.0))
    triangle = np.where(seen, root, 0.0)[:, None] * vectors.T * size
    return np.append(along, across), np.vstack([triangle, np.zeros(len(size))])


def _as_is(residual: Float, slopes: Float) -> tuple[Float, Float]:
    return residual, slopes


def _softened(residual: Float, slopes: Float) -> tuple[Float, Float]:
    """Outliers count less: the square of ``f`` becomes ``2 (√(1 + f²) − 1)``."""
    root = np.sqrt(1 + residual**2)
    # √(1 + f²) − 1 = f² / (√(1 + f²) + 1), without loss of digits
    share = np.sqrt(2 / (root + 1))
    return residual * share, slopes * (1 / (root * share))[:, None]


@dataclass(frozen=True)
class _Noise:
    """Variance ``gain * model + (misfit * A)² * near the rim + (structure * A)² * inside``."""

    gain: float
    misfit: float
    structure: float

    def sigma(self, window: _Window, p: Float) -> Float:
        least = max(2e-3 * p[_HEIGHT], 0.05 * self.gain)
        model = np.maximum(_model(p, window.i, window.j), least)
        share = soft_disk(window.rho(p), p[_R], math.exp(p[_LOG_EDGE]))
        model_error = (self.misfit + self.structure * share) * p[_HEIGHT]
        never_zero = 1e-4 * p[_HEIGHT]
        sigma: Float = np.sqrt(self.gain * model + model_error**2 + never_zero**2)
        return sigma


def _solve_few(
    window: _Window, p: Float, noise: _Noise, free: Bool, loss: str
) -> tuple[Float, Float]:
    """`_solve` with some of the pixels, where there are many."""
    few = window.thinned()
    return _solve(few, p, noise.sigma(few, p), free, loss)


def _solve_in_two(
    window: _Window, p: Float, noise: _Noise, free: Bool, loss: str
) -> tuple[Float, Float]:
    """`_solve` with all pixels, which takes few steps from where some of them led."""
    sigma = noise.sigma(window, p)
    if len(window.values) > _ENOUGH_PIXELS:
        p, _ = _solve_few(window, p, noise, free, loss)
    return _solve(window, p, sigma, free, loss)


def _noise(window: _Window, p: Float, gain: float | None) -> _Noise:
    """Noise as the residuals show it; `gain` where it is known."""
    residual, rho, edge = window.residual(p), window.rho(p), math.exp(p[_LOG_EDGE])
    inside = rho < p[_R] - 2.5 * edge - 0.5
    structure, white = _structure(window, residual, inside)
    if gain is None:
        gain = white / p[_HEIGHT]
    near = np.abs(rho - p[_R]) < 2.5 * edge + 0.5
    expected = gain * np.maximum(_model(p, window.i, window.j), 0)
    beyond = np.clip(residual, -0.5 * p[_HEIGHT], 0.5 * p[_HEIGHT]) ** 2 - expected
    misfit = math.sqrt(max(float(beyond[near].mean()) if near.any() else 0.0, 0.0)) / float(
        p[_HEIGHT]
    )
    structure = math.sqrt(structure) / float(p[_HEIGHT])
    return _Noise(gain, misfit, structure if structure > STRUCTURE else 0.0)


def _structure(window: _Window, residual: Float, inside: Bool) -> tuple[float, float]:
    """Variance inside the disk that neighbouring pixels share, and what is left: white noise.

    A smooth surface (second order) is no structure.  The covariance of neighbours does not contain
    counting noise, whatever the gain; below five times its own uncertainty it counts as zero.
    """
    if inside.sum() < 12:
        return 0.0, 0.0
    i, j = window.i[inside], window.j[inside]
    x, y = i - i.mean(), j - j.mean()
    surface = np.stack([np.ones_like(x), x, y, x * x, x * y, y * y], axis=1)
    rest = residual[inside] - surface @ np.linalg.lstsq(surface, residual[inside], rcond=None)[0]
    image = np.full(window.shape, np.nan)
    image[i.astype(int), j.astype(int)] = rest
    pairs = np.concatenate(
        [(image[1:] * image[:-1]).ravel(), (image[:, 1:] * image[:, :-1]).ravel()]
    )
    pairs = pairs[np.isfinite(pairs)]
    total = float((rest**2).sum() / max(len(rest) - 6, 1))
    if len(pairs) < 12:
        return 0.0, total
    shared = float(pairs.mean())
    if shared < 5 * total / math.sqrt(len(pairs)):
        return 0.0, total
    return shared, max(total - shared, 0.0)


def fit_rim(pattern: ArrayLike, *, gain: float | None = None) -> RimFit:
    """Fit the brightest disk of a pattern.

    Parameters
    ----------
    pattern : (Qx, Qy) real
        NaN and infinite pixels are left out.
    gain : float, optional
        Variance over mean of the counting noise; None: one for integers, else as the inside of the
        disk shows it.

    Raises
    ------
    ShapeError
        Not one pattern.
    ParameterError
        No intensity, no disk, or no rim within the pattern.
    SolveError
        The fit met numbers that are not finite.

    Notes
    -----
    Weighted least squares over the pixels of the disk and a margin.  The variance of a pixel is
    ``gain * model + (misfit * height)²``: what the residuals at the rim show beyond counting noise
    (an edge that is not Gaussian) is added to it, so that high doses do not turn the shape of the
    edge into a bias.
    """
    values, known, gain = _checked(pattern, gain)
    known &= ~_spikes(values, known)
    # Two hot pixels side by side are no spikes.
    floor = counting_noise(values, 1, True) * math.sqrt(gain or 1.0)
    known &= ~hot_pixels(np.where(known, values, np.nan), floor=floor)
    p, ceiling = _rough(values, known, gain)
    whole = np.ones(10, bool)
    whole[_RX:_E1] = math.isinf(ceiling)  # a plateau hides the slope
    fit = _refined(values, known, p, ceiling, whole, gain)
    structure = fit.noise.structure
    if structure:
        fit = _outermost(fit, gain)
    if not _elliptical(fit):
        fit = _circular(fit)
    return _result(fit, gain, structure)


@dataclass(frozen=True, eq=False)
class _Fit:
    """Where the fit stands: pixels, parameters, which are free, their covariance, the noise."""

    window: _Window
    p: Float
    free: Bool
    covariance: Float
    noise: _Noise

    def scale(self) -> float:
        """Reduced χ² of the disk and its rim; pixels that see next to nothing would dilute it."""
        p, window = self.p, self.window
        lit = window.rho(p) < p[_R] + 2 * math.exp(p[_LOG_EDGE]) + 0.5
        chi2 = float(((window.residual(p) / self.noise.sigma(window, p))[lit] ** 2).sum())
        return chi2 / max(int(lit.sum()) - int(self.free.sum()), 1)


def _rough(values: Float, known: Bool, gain: float | None) -> tuple[Float, float]:
    """Parameters of a level circle, and the level of saturation."""
    cx, cy, radius, height = _guess(_filled(values, known), gain)
    _check_inside(cx, cy, radius, values.shape)
    p = np.array([cx, cy, radius, math.log(max(0.5, 0.1 * radius)), height, 0, 0, 0, 0, 0], float)
    ceiling = _ceiling(values, known, height)
    free = np.arange(10) < _RX
    window = _window(values, known, p, ceiling).thinned()
    p, _ = _solve(window, p, np.full(len(window.i), 0.1 * height), free, "soft_l1")
    _check_inside(p[_CX], p[_CY], p[_R], values.shape)
    return p, ceiling


def _refined(
    values: Float, known: Bool, p: Float, ceiling: float, whole: Bool, gain: float | None
) -> _Fit:
    """Weighted fits, each with the window, the outliers and the noise of the one before."""
    for k in range(_PASSES):
        last, free = k == _PASSES - 1, whole & (np.arange(10) < (_E1 if k == 0 else 10))
        window = _window(values, known, p, ceiling)
        window = window.select(_believable(window, p, _noise(window, p, gain)))
        noise = _noise(window, p, gain)
        solve = _solve_in_two if last else _solve_few
        p, covariance = solve(window, p, noise, free, "linear")
    return _Fit(window, p, free, covariance, noise)


def _outermost(fit: _Fit, gain: float | None) -> _Fit:
    """The fit of the outermost ring of a structured disk, whose mean is not the height of its rim.

    Spokes are outliers there, which a robust loss bears.
    """
    window, p, noise = fit.window, fit.p, fit.noise
    for solve in (_solve_few, _solve_in_two):
        ring = window.rho(p) > p[_R] - 2 * math.exp(p[_LOG_EDGE]) - 1.0
        part = window.select(ring)
        p = p.copy()
        bright = np.percentile(part.values, 80) if ring.any() else -math.inf
        p[_HEIGHT] = bright - p[_BACK]
        noise = replace(noise, structure=0.0, misfit=0.1)
        p, covariance = solve(part, p, noise, fit.free, "soft_l1")
    return _Fit(part, p, fit.free, covariance, noise)


def _circular(fit: _Fit) -> _Fit:
    free = fit.free & (np.arange(10) < _E1)
    p = np.where(np.arange(10) < _E1, fit.p, 0.0)
    p, covariance = _solve_in_two(fit.window, p, fit.noise, free, "linear")
    return _Fit(fit.window, p, free, covariance, fit.noise)


def _checked(pattern: ArrayLike, gain: float | None) -> tuple[Float, Bool, float | None]:
    array = np.asarray(pattern)
    if array.ndim != 2 or min(array.shape, default=0) < 4:
        raise ShapeError(f"a probe is measured in one pattern (Qx, Qy), not {array.shape}")
    if array.dtype.kind not in "buif":
        raise ParameterError(f"a pattern holds real numbers, not {array.dtype}")
    values = array.astype(np.float64)
    known = np.isfinite(values)
    if not known.any():
        raise ParameterError("no pixel of the pattern is finite: choose another pattern")
    if array.dtype.kind in "bui" and gain is None:
        gain = 1.0
    return np.where(known, values, 0.0), known, gain


def _filled(values: Float, known: Bool) -> Float:
    """Unknown pixels replaced by the median of their neighbours."""
    from scipy import ndimage  # slow to import

    return np.where(known, values, ndimage.median_filter(np.where(known, values, 0.0), 5))


def _check_inside(cx: float, cy: float, radius: float, shape: tuple[int, ...]) -> None:
    """An eighth of the rim must lie on the detector, which must not be smaller than the disk."""
    angle = np.linspace(0, 2 * math.pi, 180, endpoint=False)
    x, y = cx + radius * np.cos(angle), cy + radius * np.sin(angle)
    seen = (x > 0) & (x < shape[0] - 1) & (y > 0) & (y < shape[1] - 1)
    if 2 * radius > max(shape) or seen.mean() < 0.125:
        raise ParameterError(
            f"no rim of a disk within the pattern of {shape} pixels (radius {radius:.3g} px about "
            f"({cx:.3g}, {cy:.3g})): there is no beam, it is larger than the detector, or "
            "saturated patterns hide it; use a vacuum pattern that shows the whole disk"
        )


def _believable(window: _Window, p: Float, noise: _Noise) -> Bool:
    """Pixels that are no outliers: neither defects nor parts of another disk."""
    # One electron where none is expected is no outlier.
    ratio = window.residual(p) / np.hypot(noise.sigma(window, p), noise.gain)
    typical = max(1.0, 1.4826 * float(np.median(np.abs(ratio))))
    keep: Bool = np.abs(ratio) < 6 * typical
    return keep


def _elliptical(fit: _Fit) -> bool:
    stretch, block = fit.p[_E1:], fit.covariance[-2:, -2:] * fit.scale()
    return bool(stretch @ np.linalg.pinv(block) @ stretch > SIGNIFICANT_CHI2)


def _saturated(window: _Window) -> str:
    return "" if math.isinf(window.ceiling) else f" and saturated at {window.ceiling:.4g}"


def _result(fit: _Fit, gain: float | None, structure: float) -> RimFit:
    window, p = fit.window, fit.p
    scale = fit.scale()
    sigma = np.full(10, np.nan)
    sigma[fit.free] = np.sqrt(np.maximum(np.diag(fit.covariance) * scale, 0))
    _check_inside(p[_CX], p[_CY], p[_R], window.shape)
    _check_significant(fit, sigma, gain)
    edge = math.exp(p[_LOG_EDGE])
    if edge > _SOFTEST * p[_R]:
        raise ParameterError(
            f"no rim of a disk in the pattern: its brightest region fades over {edge:.3g} px, and "
            f"is {p[_R]:.3g} px in radius; for spots use find_spots, else synthetic_probe"
        )
    used = np.zeros(window.shape, bool)
    used[window.index] = True
    return RimFit(
        center=(float(p[_CX]), float(p[_CY])),
        radius_px=float(p[_R]),
        edge_px=edge,
        rim=_ellipse(float(p[_R]), p[_E1:]),
        height=float(p[_HEIGHT]),
        background=float(p[_BACK]),
        ramp=(float(p[_RX]), float(p[_RY])),
        sigma_center=(float(sigma[_CX]), float(sigma[_CY])),
        sigma_radius_px=float(sigma[_R]),
        sigma_edge_px=float(sigma[_LOG_EDGE] * edge),
        chi2=scale,
        misfit=fit.noise.misfit,
        structure=structure,
        patterned=structure > 0,
        used=used,
    )


def _check_significant(fit: _Fit, sigma: Float, gain: float | None) -> None:
    height, p = fit.p[_HEIGHT], fit.p
    counts = math.pi * p[_R] ** 2 * height / gain if gain else math.inf
    if height > LEAST_HEIGHT_RATIO * sigma[_HEIGHT] and counts > LEAST_COUNTS:
        return
    raise ParameterError(
        f"no beam that can be measured: the brightest spot is {height:.3g} ± "
        f"{sigma[_HEIGHT]:.2g} high, {p[_R]:.3g} px in radius{_saturated(fit.window)}; use a "
        "pattern with more counts that is not saturated, such as the mean of a vacuum scan"
    )
