"""The image whose gradient a map of vectors is: Fourier, least squares, and by iteration.

Gradients are (2, Rx, Ry) float64 in units of the image per length, NaN where not known; steps are
the distances of neighbours along x and y.  Images are (Rx, Ry) float64 of mean zero over the known
positions, NaN where no known neighbour ties a position to others.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import Cancelled, ParameterError
from py4DSTEM.stream.options import RunOptions

__all__ = [
    "Boundary",
    "Integral",
    "Smoothing",
    "by_fourier",
    "by_iteration",
    "by_least_squares",
    "noise_gain",
]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Complex = NDArray[np.complex128]
Pair = tuple[float, float]
Boundary = Literal["mirror", "periodic", "zero"]
_MEANS = (
    np.array([-1.0, 13.0, 13.0, -1.0]) / 24,
    np.array([11.0, -93.0, 802.0, 802.0, -93.0, 11.0]) / 1440,
)
"""Weights of samples: the mean between the middle two, exact for polynomials of degree 3 and 5."""
_SOLVER_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Smoothing:
    """What is damped, as frequencies in cycles per length.

    Parameters
    ----------
    high_pass : float
        Waves slower than this are damped, by ``k² / (k² + k0²)``.
    low_pass : float
        Waves faster than this are damped, by ``1 / (1 + k²/k1²)``; infinite: none.

    Notes
    -----
    Least squares of the gradient with ``(2π k0)² φ²`` and ``(Δφ / 2π k1)²`` added: Tikhonov's
    regularisation of the height and of the curvature.
    """

    high_pass: float = 0.0
    low_pass: float = math.inf

    def filtered(self, square: Float) -> Float:
        """``1 / (λ + a + b λ²)`` for eigenvalues λ of −Δ; 0 for none."""
        bottom = square + (2 * math.pi * self.high_pass) ** 2 + (self.bend * square) * square
        inverse: Float = np.divide(1.0, bottom, out=np.zeros_like(bottom), where=square > 0)
        return inverse

    @property
    def bend(self) -> float:
        """Weight of the squared curvature."""
        return (2 * math.pi * self.low_pass) ** -2


@dataclass(frozen=True, eq=False)
class Integral:
    """An image, and how well its gradient is that which was given.

    Parameters
    ----------
    image : (Rx, Ry) float64
    residual : (2, Rx, Ry) float64
        What was given less the gradient of the image; NaN where not known.
    errors : (n,) float64
        After each iteration: what is left, as a share (rms) of what was given.
    converged : bool
    """

    image: Float
    residual: Float
    errors: Float
    converged: bool = True


# ---- Fourier -------------------------------------------------------------------------------------
def by_fourier(
    gradient: Float, steps: Pair, boundary: Boundary = "mirror", smoothing: Smoothing | None = None
) -> Integral:
    """The image nearest in least squares, of all that the discrete Fourier transform holds.

    Frankot and Chellappa, doi:10.1109/34.3909: ``F = −i (ω_x G_x + ω_y G_y) / (ω_x² + ω_y²)``.
    Unknown gradients count as zero.  `boundary` is what lies beyond the scan: its mirror image, the
    scan again, or a specimen without any phase gradient.
    """
    known = _known(gradient)
    field = np.where(known, gradient, 0.0)
    shape = (field.shape[1], field.shape[2])
    whole = _extended(field, boundary)
    waves = _Waves.of((whole.shape[1], whole.shape[2]), steps)
    image = waves.integral(whole, (smoothing or Smoothing()).filtered(waves.square))
    left = (whole - waves.gradient(image))[:, : shape[0], : shape[1]]
    there = waves.image(image)[: shape[0], : shape[1]]
    return _found(there, known, known, left, np.array([_share(left, field)]))


def _extended(field: Float, boundary: Boundary) -> Float:
    if boundary == "periodic":
        return field
    _, nx, ny = field.shape
    if boundary == "zero":
        return np.pad(field, ((0, 0), (0, nx), (0, ny)))
    signs = np.array([-1.0, 1.0])[:, None, None]
    down = np.concatenate([field, signs * field[:, ::-1]], axis=1)
    whole: Float = np.concatenate([down, -signs * down[:, :, ::-1]], axis=2)
    return whole


@dataclass(frozen=True, eq=False)
class _Waves:
    """The Fourier waves of a periodic grid; images are kept as their half spectrum.

    Parameters
    ----------
    shape : (int, int)
    slope_x, slope_y : (nx, 1), (1, ny // 2 + 1) float64
        Angular frequencies; zero where the samples do not see the slope.
    square : (nx, ny // 2 + 1) float64
    """

    shape: tuple[int, int]
    slope_x: Float
    slope_y: Float
    square: Float

    @classmethod
    def of(cls, shape: tuple[int, int], steps: Pair) -> _Waves:
        from scipy import fft  # slow to import

        wx = 2 * np.pi * fft.fftfreq(shape[0], steps[0])[:, None]
        wy = 2 * np.pi * fft.rfftfreq(shape[1], steps[1])[None, :]
        square = wx**2 + wy**2
        if shape[0] % 2 == 0:
            wx[shape[0] // 2] = 0.0
        if shape[1] % 2 == 0:
            wy[:, -1] = 0.0
        return cls(shape, wx, wy, square)

    def divergence(self, field: Float) -> Complex:
        """−div of a field (2, nx, ny), the transpose of `gradient`; a half spectrum."""
        from scipy import fft  # slow to import

        x, y = fft.rfft2(field)
        spectrum: Complex = -1j * (self.slope_x * x + self.slope_y * y)
        return spectrum

    def integral(self, field: Float, inverse: Float) -> Complex:
        """Half spectrum of the image whose gradient is nearest to a field (2, nx, ny)."""
        return self.divergence(field) * inverse

    def gradient(self, spectrum: Complex) -> Float:
        """(2, nx, ny)."""
        from scipy import fft  # slow to import

        both = np.stack([1j * self.slope_x * spectrum, 1j * self.slope_y * spectrum])
        field: Float = fft.irfft2(both, s=self.shape)
        return field

    def image(self, spectrum: Complex) -> Float:
        from scipy import fft  # slow to import

        values: Float = fft.irfft2(spectrum, s=self.shape)
        return values

    def product(self, one: Complex, other: Complex) -> float:
        """Sum over the positions of the product of two images."""
        parts = (one * other.conj()).real
        twice = 2 * parts.sum() - parts[:, 0].sum()
        if self.shape[1] % 2 == 0:
            twice -= parts[:, -1].sum()
        return float(twice) / (self.shape[0] * self.shape[1])


# ---- least squares on the grid -------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Edges:
    """Differences between neighbours along one axis, and how much each counts."""

    differences: Float
    weights: Float


def by_least_squares(
    gradient: Float,
    steps: Pair,
    smoothing: Smoothing | None = None,
    weights: Float | None = None,
    options: RunOptions | None = None,
) -> Integral:
    """The image whose differences between neighbours are nearest to the integrals of the gradient.

    Nothing is assumed about what lies beyond the scan: differences across its edge do not occur.
    Between two positions the gradient is integrated by the polynomial through six of them, near the
    edge and unknown ones by the cubic through four (``(−g₋₁ + 13 g₀ + 13 g₁ − g₂) / 24``) or by the
    trapezium.  Waves of four positions per period keep 96 % of their height, of three 84 %.
    The normal equations are a Poisson equation with Neumann's condition, which the discrete cosine
    transform solves at once; with unknown positions or `weights` (Rx, Ry) it preconditions
    conjugate gradients.
    """
    smooth = smoothing or Smoothing()
    known = _known(gradient)
    field = np.where(known, gradient, 0.0)
    shape = (field.shape[1], field.shape[2])
    w: Float = known.astype(np.float64) if weights is None else np.where(known, weights, 0.0)
    edges = [_edges(field[k], w, steps[k], k) for k in range(2)]
    poisson = _Poisson.of(shape, steps, smooth)
    right = _divergence(edges, steps)
    if weights is None and known.all():
        image, errors, converged = poisson.solved(right), np.empty(0), True
    else:
        image, errors, converged = _conjugate(edges, steps, right, poisson, smooth, options)
    left: Float = (field - _slopes(image, known, steps)) * known
    errors = errors if errors.size else np.array([_share(left, field)])
    return _found(image, known & _tied(edges), known, left, errors, converged)


def _edges(gradient: Float, weights: Float, step: float, axis: int) -> _Edges:
    """Along `axis`: ∫g between neighbours, and the harmonic mean of their weights."""
    g = np.moveaxis(gradient, axis, 0)
    w = np.moveaxis(weights, axis, 0)
    n = len(g)
    if n < 2:
        nothing = np.moveaxis(np.zeros((0, *g.shape[1:])), 0, axis)
        return _Edges(nothing, nothing)
    mean = (g[:-1] + g[1:]) / 2
    for stencil in _MEANS:
        size, beside = len(stencil), len(stencil) // 2 - 1
        if n < size:
            break
        at = slice(beside, n - 1 - beside)
        finer = sum(c * g[k : n + 1 - size + k] for k, c in enumerate(stencil))
        all_ = np.min([w[k : n + 1 - size + k] for k in range(size)], axis=0)
        # None that should count for less.
        usable = (all_ > 0) & (all_ >= 0.5 * np.minimum(w[:-1], w[1:])[at])
        mean[at] = np.where(usable, finer, mean[at])
    total = w[:-1] + w[1:]
    both = np.divide(2 * w[:-1] * w[1:], total, out=np.zeros_like(total), where=total > 0)
    return _Edges(np.moveaxis(step * mean, 0, axis), np.moveaxis(both, 0, axis))


def _divergence(edges: list[_Edges], steps: Pair) -> Float:
    """Dᵀ W d: what the normal equations have on their right."""
    parts = [
        _transposed(edge.weights * edge.differences / step**2, axis)
        for axis, (edge, step) in enumerate(zip(edges, steps, strict=True))
    ]
    total: Float = parts[0] + parts[1]
    return total


def _transposed(values: Float, axis: int) -> Float:
    """Transpose of the differences between neighbours."""
    widths = [(1, 1) if k == axis else (0, 0) for k in range(2)]
    return -np.diff(np.pad(values, widths), axis=axis)


def _laplacian(image: Float, edges: list[_Edges], steps: Pair) -> Float:
    """Dᵀ W D φ."""
    parts = [
        _transposed(edge.weights * np.diff(image, axis=axis) / step**2, axis)
        for axis, (edge, step) in enumerate(zip(edges, steps, strict=True))
    ]
    total: Float = parts[0] + parts[1]
    return total


@dataclass(frozen=True, eq=False)
class _Poisson:
    """The cosine waves of a grid, and what the smoothing leaves of each.

    Parameters
    ----------
    square : (Rx, Ry) float64
        Eigenvalues of −Δ.
    inverse : (Rx, Ry) float64
    """

    square: Float
    inverse: Float

    @classmethod
    def of(cls, shape: tuple[int, int], steps: Pair, smoothing: Smoothing) -> _Poisson:
        x, y = ((2 - 2 * np.cos(np.pi * np.arange(n) / n)) / s**2
                for n, s in zip(shape, steps, strict=True))  # fmt: skip
        square = x[:, None] + y[None, :]
        return cls(square, smoothing.filtered(square))

    def solved(self, right: Float) -> Float:
        """``(−Δ + a + b Δ²)⁻¹ right``, mean zero."""
        return self._through(right, self.inverse)

    def smoothing_of(self, image: Float, smoothing: Smoothing) -> Float:
        """``(a + b Δ²) image``."""
        weight = (2 * math.pi * smoothing.high_pass) ** 2 + smoothing.bend * self.square**2
        return self._through(image, weight)

    def _through(self, image: Float, factor: Float) -> Float:
        from scipy import fft  # slow to import

        waves = fft.dctn(image, type=2, norm="ortho")
        result: Float = fft.idctn(waves * factor, type=2, norm="ortho")
        return result


def _conjugate(
    edges: list[_Edges],
    steps: Pair,
    right: Float,
    poisson: _Poisson,
    smoothing: Smoothing,
    options: RunOptions | None,
) -> tuple[Float, Float, bool]:
    """Conjugate gradients with the Poisson equation of the whole grid before them."""
    smooths = smoothing.high_pass > 0 or smoothing.bend > 0

    def normal(image: Float) -> Float:
        left = _laplacian(image, edges, steps)
        return left + poisson.smoothing_of(image, smoothing) if smooths else left

    size = right.size
    most = min(2000, 20 + 4 * int(math.sqrt(size)))
    return conjugate_gradients(normal, right, poisson.solved, most, _SOLVER_TOLERANCE, options)


def conjugate_gradients(
    normal: Callable[[Float], Float],
    right: Float,
    before: Callable[[Float], Float],
    most: int,
    tolerance: float,
    options: RunOptions | None = None,
) -> tuple[Float, Float, bool]:
    """Solve ``normal(x) = right``; the solution, the shares of the residual, whether they fell.

    `before` is an approximate inverse.  Both may have the constant as their null space.
    """
    image = np.zeros_like(right)
    left = right.copy()
    whole = float(np.abs((left * before(left)).sum()))
    if whole == 0:
        return image, np.zeros(1), True
    errors: list[float] = []
    direction, last = np.zeros_like(right), 1.0
    for turn in range(most):
        _stop_if_asked(options, turn)
        towards = before(left)
        power = float((left * towards).sum())
        errors.append(math.sqrt(max(power, 0.0) / whole))
        if errors[-1] <= tolerance or power <= 0:
            break
        direction = towards + (power / last if turn else 0.0) * direction
        bent = normal(direction)
        step = power / float((direction * bent).sum())
        image = image + step * direction
        left = left - step * bent
        last = power
    return image, np.array(errors), errors[-1] <= max(tolerance, 1e-6)


def _tied(edges: list[_Edges]) -> Bool:
    """Positions with a difference to a neighbour that counts."""
    x, y = (edge.weights > 0 for edge in edges)
    tied = np.zeros((y.shape[0], x.shape[1]), bool)
    tied[:-1] |= x
    tied[1:] |= x
    tied[:, :-1] |= y
    tied[:, 1:] |= y
    return tied


def _slopes(image: Float, known: Bool, steps: Pair) -> Float:
    """Gradient of an image at its positions: of fourth order where four neighbours are known."""
    return np.stack([_slope(image, known, steps[axis], axis) for axis in range(2)])


def _slope(image: Float, known: Bool, step: float, axis: int) -> Float:
    v, k = np.moveaxis(image, axis, 0), np.moveaxis(known, axis, 0)
    if len(v) < 2:
        return np.zeros_like(image)
    after = np.diff(v, axis=0) / step
    after[~(k[1:] & k[:-1])] = np.nan
    padded = np.pad(after, ((2, 2), (0, 0)), constant_values=np.nan)
    two_before, before, behind, two_behind = (padded[n : n + len(v)] for n in range(4))
    slope = _first_known(
        (before + behind) / 2, 1.5 * behind - 0.5 * two_behind, 1.5 * before - 0.5 * two_before,
        behind, before,
    )  # fmt: skip
    if len(v) > 4:
        fine = (8 * (v[3:-1] - v[1:-3]) - (v[4:] - v[:-4])) / (12 * step)
        whole = k[:-4] & k[1:-3] & k[3:-1] & k[4:]
        slope[2:-2] = np.where(whole, fine, slope[2:-2])
    return np.moveaxis(slope, 0, axis)


def _first_known(*choices: Float) -> Float:
    """At each position the first of the choices that is a number; 0 where none is."""
    result = np.zeros_like(choices[0])
    for choice in reversed(choices):
        result = np.where(np.isfinite(choice), choice, result)
    return result


# ---- by iteration --------------------------------------------------------------------------------
def by_iteration(
    gradient: Float,
    steps: Pair,
    smoothing: Smoothing | None = None,
    *,
    max_iterations: int = 64,
    tolerance: float = 1e-3,
    options: RunOptions | None = None,
) -> Integral:
    """The image of least squares on a wider periodic grid, where only the known gradients count.

    What lies beyond the scan, and at unknown positions, is left free instead of being mirrored or
    repeated.  Conjugate gradients with the Fourier integral of what is left as their step; they
    stop where an iteration takes less than `tolerance` of the residual away, where no more than a
    hundredth of `tolerance` is left of the whole, or at `max_iterations`.
    Stopping early damps what the edges leave undetermined.
    """
    known = _known(gradient)
    shape = (gradient.shape[1], gradient.shape[2])
    wide = tuple(_wider(n) for n in shape)
    widths = [(0, w - n) for w, n in zip(wide, shape, strict=True)]
    there = np.pad(known, widths)
    left = np.pad(np.where(known, gradient, 0.0), [(0, 0), *widths])
    waves = _Waves.of((wide[0], wide[1]), steps)
    spectrum, left, errors, converged = _descent(
        waves, left, there, smoothing or Smoothing(), (max_iterations, tolerance), options
    )
    image = waves.image(spectrum)[: shape[0], : shape[1]]
    return _found(image, known, known, left[:, : shape[0], : shape[1]], errors, converged)


def _wider(count: int) -> int:
    from scipy import fft  # slow to import

    return 1 if count == 1 else int(fft.next_fast_len(math.ceil(1.25 * count) + 4, real=True))


def _descent(
    waves: _Waves,
    left: Float,
    known: Bool,
    smoothing: Smoothing,
    stop: tuple[int, float],
    options: RunOptions | None,
) -> tuple[Complex, Float, Float, bool]:
    """Half spectrum, what is left of the gradients, its share after each iteration, converged."""
    inverse = smoothing.filtered(waves.square)
    height = (2 * math.pi * smoothing.high_pass) ** 2 + smoothing.bend * waves.square**2
    spectrum: Complex = np.zeros(waves.square.shape, np.complex128)
    direction, last = np.zeros_like(spectrum), 1.0
    whole = float((left**2).sum())
    errors = [1.0 if whole > 0 else 0.0]
    for turn in range(stop[0]):
        _stop_if_asked(options, turn)
        uphill = waves.divergence(left) - height * spectrum
        towards = inverse * uphill
        power = waves.product(uphill, towards)
        if not power > 1e-24 * whole:
            return spectrum, left, np.array(errors), True
        direction = towards + (power / last if turn else 0.0) * direction
        bent = waves.gradient(direction) * known
        step = power / (float((bent**2).sum()) + waves.product(direction, height * direction))
        spectrum = spectrum + step * direction
        left = left - step * bent
        last = power
        errors.append(math.sqrt(float((left**2).sum()) / whole))
        if errors[-2] - errors[-1] <= stop[1] * errors[-1] or errors[-1] <= 0.01 * stop[1]:
            return spectrum, left, np.array(errors), True
    return spectrum, left, np.array(errors), whole == 0


# ---- shared --------------------------------------------------------------------------------------
def _known(gradient: Float) -> Bool:
    known: Bool = np.asarray(np.isfinite(gradient).all(axis=0))
    return known


def _stop_if_asked(options: RunOptions | None, turn: int) -> None:
    if options is not None and options.cancel is not None and options.cancel.is_set():
        raise Cancelled(f"the integration was cancelled after {turn} iterations")


def _share(left: Float, given: Float) -> float:
    """rms of what is left over rms of what was given; 0 of nothing."""
    whole = float(np.nansum(given**2))
    return math.sqrt(float(np.nansum(left**2)) / whole) if whole > 0 else 0.0


def _found(
    image: Float, tied: Bool, known: Bool, left: Float, errors: Float, converged: bool = True
) -> Integral:
    """The image of mean zero where it is `tied`, NaN elsewhere."""
    if not tied.any():
        raise ParameterError("no two neighbours have a gradient: there is nothing to integrate")
    centred = np.where(tied, image - image[tied].mean(), np.nan)
    return Integral(centred, np.where(known, left, np.nan), errors, converged)


def noise_gain(shape: tuple[int, ...], steps: Pair, smoothing: Smoothing) -> Float:
    """Sigma of an image of mean zero by that of both components of its gradient, (Rx, Ry).

    For white noise and least squares with free edges: the cosine wave of eigenvalue λ of −Δ gets
    the variance ``λ / (λ + a + b λ²)²``.
    """
    from scipy import fft  # slow to import

    poisson = _Poisson.of((shape[0], shape[1]), steps, smoothing)
    variance = poisson.square * poisson.inverse**2
    x, y = (fft.dct(np.eye(n), axis=1, norm="ortho") ** 2 for n in shape)
    gain: Float = np.sqrt(x @ variance @ y.T)
    return gain
