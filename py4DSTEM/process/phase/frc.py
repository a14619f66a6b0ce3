"""Fourier ring correlation: up to which spatial frequency two independent images agree."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.history import History
from py4DSTEM.core.parameters import numbers
from py4DSTEM.core.slices import ArrayResult, Slice
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.units import is_length, unit_factor

__all__ = ["Resolution", "RingCorrelation", "checkerboard", "fourier_ring_correlation"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Pair = tuple[float, float]
_LEAST_RINGS = 2
"""To each side of a crossing, for the line that finds it."""


@dataclass(frozen=True)
class Resolution:
    """Where a curve of correlations falls below a criterion.

    Parameters
    ----------
    criterion : str
    resolution_A, sigma_A : float
        NaN where the curve never lies above it; the sigma is that of the noise in the curve.
    reached_edge : bool
        The curve stays above it: the resolution is that of the pixels or better.
    """

    criterion: str
    resolution_A: float
    sigma_A: float
    reached_edge: bool


@dataclass(frozen=True, eq=False)
class RingCorrelation:
    """Correlation of two images ring by ring in frequency.

    Parameters
    ----------
    k_A : (n,) float64
        Mean frequency of each ring, Å⁻¹.
    correlation, sigma : (n,) float64
        And its standard deviation.
    count : (n,) float64
        Independent values in each ring.
    history : History
    """

    k_A: Float
    correlation: Float
    sigma: Float
    count: Float
    history: History = field(default_factory=History)
    name: str = "Fourier ring correlation"

    @property
    def thresholds(self) -> dict[str, Float]:
        """``"1/7"``, ``"half-bit"`` and ``"3-sigma"``, (n,) each."""
        root = np.sqrt(self.count)
        return {
            "1/7": np.full(len(root), 1 / 7),
            "half-bit": (0.2071 + 1.9102 / root) / (1.2071 + 0.9102 / root),
            "3-sigma": np.minimum(3 / root, 1.0),
        }

    @property
    def resolutions(self) -> dict[str, Resolution]:
        """By each criterion."""
        return {
            name: _crossing(name, self.k_A, self.correlation - limit, self.sigma)
            for name, limit in self.thresholds.items()
        }

    @property
    def resolution_A(self) -> float:
        """By the half-bit criterion."""
        return self.resolutions["half-bit"].resolution_A

    def __repr__(self) -> str:
        found = ", ".join(
            f"{r.resolution_A:.3g} ± {r.sigma_A:.2g} Å ({name})"
            for name, r in self.resolutions.items()
        )
        return f"<RingCorrelation {len(self.k_A)} rings: {found}>"


register_result("fourier-ring-correlation", RingCorrelation)


def checkerboard(R_shape: tuple[int, int]) -> tuple[Bool, Bool]:
    """Positions of a scan in two halves that lie everywhere side by side.

    Parameters
    ----------
    R_shape : (int, int)

    Returns
    -------
    two (Rx, Ry) bool
        One is what the other is not.

    Examples
    --------
    >>> black, white = checkerboard((2, 3))
    >>> black.astype(int).tolist()
    [[1, 0, 1], [0, 1, 0]]
    """
    i, j = np.indices(R_shape)
    black = np.asarray((i + j) % 2 == 0)
    return black, ~black


def fourier_ring_correlation(
    first: Slice | ArrayResult | ArrayLike,
    second: Slice | ArrayResult | ArrayLike,
    sampling_A: float | Pair | None = None,
    *,
    mask: ArrayLike | None = None,
    taper: float = 0.125,
) -> RingCorrelation:
    """Up to which spatial frequency two independent images of the same agree.

    Parameters
    ----------
    first, second : RealSlice, ArrayResult or (nx, ny) array
        Real or complex images on one grid, such as reconstructions of the two halves of a scan
        (`checkerboard`).  NaN does not count.
    sampling_A : float or (float, float), optional
        Pixel along x and y; None: that of the images.
    mask : (nx, ny) bool, optional
        Compare only there.
    taper : float
        Soft rim of the window, in parts of the shorter edge; from 0 to 0.5.

    Returns
    -------
    RingCorrelation

    Raises
    ------
    ParameterError
        Images without structure, fewer than 8 pixels along an edge, a wrong taper.
    ShapeError
        Images of different shapes.
    CalibrationMissing
        `sampling_A` is not given and the images do not know their pixel.

    Notes
    -----
    ``FRC(k) = Re Σ F₁ F₂* / √(Σ|F₁|² Σ|F₂|²)`` over rings of the width of one Fourier pixel, of the
    images times a window, a constant and a plane removed.  With n independent values in a ring (the
    window makes neighbours depend on each other) ``sigma = (1 − FRC²)/√n``.  Criteria: 1/7
    (doi:10.1016/j.jmb.2003.07.013); half a bit of information per value in both images together,
    ``(0.2071 + 1.9102/√n)/(1.2071 + 0.9102/√n)``, and three standard deviations of noise, ``3/√n``
    (doi:10.1016/j.jsb.2005.05.009).  The resolution is one over the frequency where the curve falls
    below for two rings, after it was above for two, from a straight line through the rings around.
    Two images with the same errors (raster, drift, a filter in common) agree without being right.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> x, y = np.indices((64, 60)) - 30.2
    >>> scene = 9 * np.exp(-(x**2 + y**2) / 8)
    >>> one, other = (scene + rng.standard_normal(scene.shape) for _ in range(2))
    >>> found = fourier_ring_correlation(one, other, 0.5)
    >>> bool(1.0 < found.resolution_A < 8.0)
    True
    """
    a, b = _image(first), _image(second)
    if a.shape != b.shape:
        raise ShapeError(f"two images of one shape, not {a.shape} and {b.shape}")
    if not 0 <= taper <= 0.5:
        raise ParameterError(f"taper is 0 to 0.5, not {taper!r}")
    step = _sampling(first, sampling_A)
    window = _window(_known(a, b, mask), taper)
    k, correlation, count = _rings(_flat(a, window), _flat(b, window), step, _share(window))
    sigma = np.maximum(1 - correlation**2, 0.0) / np.sqrt(count)
    past = first.history if isinstance(first, Slice | ArrayResult) else History()
    history = past.then("fourier-ring-correlation", {"sampling_A": list(step), "taper": taper})
    return RingCorrelation(k, correlation, sigma, count, history)


# ---- input ---------------------------------------------------------------------------------------
def _image(given: Slice | ArrayResult | ArrayLike) -> NDArray[np.complex128]:
    values = np.asarray(given.data if isinstance(given, Slice | ArrayResult) else given)
    if values.ndim != 2 or min(values.shape) < 8 or values.dtype.kind not in "biufc":
        raise ParameterError(
            f"a ring correlation needs images (nx, ny) of 8 pixels or more, not {values.shape}"
        )
    return values.astype(np.complex128)


def _sampling(given: Slice | ArrayResult | ArrayLike, sampling_A: float | Pair | None) -> Pair:
    if sampling_A is None:
        axes = given.axes if isinstance(given, Slice | ArrayResult) else ()
        x, y = (_step_A(axis) for axis in axes) if len(axes) == 2 else (math.nan, math.nan)
    else:
        several = np.ndim(sampling_A) > 0
        x, y = (
            numbers("sampling_A", sampling_A, 2)
            if several
            else (numbers("sampling_A", sampling_A, 1) * 2)
        )
        if min(x, y) <= 0:
            raise ParameterError(f"sampling_A must be positive, not {sampling_A!r}")
    if not (math.isfinite(x) and math.isfinite(y)):
        raise CalibrationMissing("pixel size of the images", "sampling_A= tells it")
    return x, y


def _step_A(axis: Axis) -> float:
    known = is_length(axis.unit) and axis.calibrated
    return abs(axis.step) * unit_factor(axis.unit, "A") if known else math.nan


def _known(a: NDArray[np.complex128], b: NDArray[np.complex128], mask: ArrayLike | None) -> Bool:
    known: Bool = np.isfinite(a) & np.isfinite(b)
    if mask is not None:
        wanted = np.asarray(mask, bool)
        if wanted.shape != known.shape:
            raise ShapeError(f"the mask is {wanted.shape}, the images are {known.shape}")
        known &= wanted
    if known.sum() < 64:
        raise ParameterError(f"only {known.sum()} pixels to compare: at least 64 are needed")
    return known


def _window(known: Bool, taper: float) -> Float:
    """One inside, falling to zero towards what is not known, and towards the borders."""
    if taper == 0:
        return known.astype(np.float64)
    from scipy.ndimage import distance_transform_edt  # slow to import

    depth = distance_transform_edt(np.pad(known, 1))[1:-1, 1:-1] - 0.5
    window: Float = np.sin(np.pi / 2 * np.clip(depth / (taper * min(known.shape)), 0, 1)) ** 2
    return window * known


def _share(window: Float) -> float:
    """Independent values per Fourier pixel: less than one where the window makes them alike."""
    return float((window**2).sum() ** 2 / (window.size * (window**4).sum()))


def _flat(image: NDArray[np.complex128], window: Float) -> NDArray[np.complex128]:
    """Without constant and plane, times the window."""
    x, y = np.indices(image.shape) / np.array(image.shape).reshape(2, 1, 1) - 0.5
    columns = np.stack([(window * c).ravel() for c in (np.ones(image.shape), x, y)], axis=1)
    seen = (window * np.where(window > 0, image, 0.0)).ravel()
    left = seen - columns @ np.linalg.lstsq(columns.astype(complex), seen, rcond=None)[0]
    if float(np.linalg.norm(left)) <= 1e-12 * max(float(np.linalg.norm(seen)), 1e-300):
        raise ParameterError("an image without structure: nothing can agree")
    flat: NDArray[np.complex128] = left.reshape(image.shape)
    return flat


# ---- rings ---------------------------------------------------------------------------------------
def _rings(
    a: NDArray[np.complex128], b: NDArray[np.complex128], step: Pair, share: float
) -> tuple[Float, Float, Float]:
    """Frequency, correlation and number of independent values of each whole ring but the first."""
    kx, ky = (np.fft.fftfreq(n, s) for n, s in zip(a.shape, step, strict=True))
    k = np.hypot(kx[:, None], ky[None])
    width = float(1 / np.min(np.multiply(a.shape, step)))
    ring = np.rint(k / width).astype(np.int64)
    last = int(0.5 / max(step) / width + 1e-9)
    first, second = np.fft.fft2(a), np.fft.fft2(b)

    def total(values: NDArray[np.float64]) -> Float:
        sums = np.bincount(ring.ravel(), values.ravel(), last + 1)
        return np.asarray(sums[1 : last + 1], np.float64)

    power = np.sqrt(total(np.abs(first) ** 2) * total(np.abs(second) ** 2))
    cross = total((first * second.conj()).real)
    correlation = np.divide(cross, power, out=np.zeros(last), where=power > 0)
    size = total(np.ones(ring.shape))
    # Of a complex image all values count, each with two parts; a real one repeats half of them.
    parts = 2.0 if a.imag.any() or b.imag.any() else 1.0
    return total(k) / size, correlation, np.maximum(parts * share * size, 1.0)


def _crossing(name: str, k: Float, excess: Float, sigma: Float) -> Resolution:
    """Where the curve falls below for good, once it has been above."""
    above = excess >= 0
    twice = above[:-1] & above[1:]
    if not twice.any():
        return Resolution(name, math.nan, math.nan, False)
    start = int(twice.argmax())
    lost = ~above & np.append(~above[1:], True)
    lost[:start] = False
    if not lost.any():
        return Resolution(name, float(1 / k[-1]), math.nan, True)
    index = int(lost.argmax())
    # A single ring is noise: a line through those around tells where the curve crosses.
    reach = max(_LEAST_RINGS, index // 5)
    span = slice(max(index - reach, start), index + reach)
    slope, level = (float(c) for c in np.polyfit(k[span] - k[index], excess[span], 1))
    if slope >= 0:
        return Resolution(name, float(1 / k[index]), math.nan, False)
    at = float(np.clip(k[index] - level / slope, k[span][0], k[span][-1]))
    spread = math.sqrt(float((sigma[span] ** 2).sum())) / len(k[span]) / abs(slope)
    return Resolution(name, 1 / at, spread / at**2, False)
