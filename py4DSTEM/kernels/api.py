"""The list of primitives: what every set of kernels offers, compiled or plain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError

Float = NDArray[np.float64]

BUCKETS = 16
"""Of `Kernels.bucket_counts`."""


class Measured(NamedTuple):
    """Sums of one pass over n patterns; None where nobody asked.

    Attributes
    ----------
    detectors : (n, K) float64
        Weighted sum of each pattern over each detector. NaN where none of the pixels of a detector
        is finite; 0 for a detector without pixels.
    total, moment_x, moment_y : (n,) float64
        Σ v, Σ i·v and Σ j·v of each pattern, i counting rows and j columns.
    sums, squares, valid : (Qx, Qy) float64
        Σ w·v, Σ w·v² and Σ w of each pixel, over the patterns where it is finite.
    maximum : (Qx, Qy), dtype of the frames
        Largest finite value of each pixel over the patterns with w > 0; where there is none, the
        lowest value of the dtype (-inf for floats).
    """

    detectors: Float | None = None
    total: Float | None = None
    moment_x: Float | None = None
    moment_y: Float | None = None
    sums: Float | None = None
    squares: Float | None = None
    valid: Float | None = None
    maximum: NDArray[Any] | None = None

    def get(self, *names: str) -> tuple[NDArray[Any], ...]:
        """Those of these names, which somebody must have asked for."""
        found = tuple(getattr(self, name) for name in names)
        if any(value is None for value in found):
            missing = [name for name, value in zip(names, found, strict=True) if value is None]
            raise ParameterError(f"{missing} were not measured: an operation asks in measures()")
        return found


class RadialSums(NamedTuple):
    """Sums over rings and what to divide them by for a mean.

    Attributes
    ----------
    sums : (n, n_bins) float64
    norms : (1, n_bins) float64, or (n, n_bins) where the patterns differ
    """

    sums: Float
    norms: Float


class RingMoments(NamedTuple):
    """Pixels of each ring, weighted by the area that they have of it; all (n, n_r) float64.

    Attributes
    ----------
    mean, square : Σ w v / Σ w and Σ w v² / Σ w; NaN for a ring without pixels
    weight : Σ w
    """

    mean: Float
    square: Float
    weight: Float

    @property
    def variance(self) -> Float:
        """``Σ w (v − mean)² / Σ w``."""
        return self.square - self.mean**2


class ThresholdCounts(NamedTuple):
    """How often pixels are at or above a limit, or not finite.

    Attributes
    ----------
    high, nonfinite : (n,) int64, by pattern
    pixel_high, pixel_nonfinite : (Qx, Qy) int64, by pixel
    """

    high: NDArray[np.int64]
    nonfinite: NDArray[np.int64]
    pixel_high: NDArray[np.int64]
    pixel_nonfinite: NDArray[np.int64]


class KeyRange(NamedTuple):
    """Smallest and largest key of each pixel, (Qx, Qy) uint64, and how many there are (int64).

    Where there are none, ``low`` is the largest uint64 and ``high`` is 0.
    """

    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    count: NDArray[np.int64]


class LatticeFits(NamedTuple):
    """Lattices of P positions with n points altogether; NaN where there is none.

    Attributes
    ----------
    parameters : (P, 6) float64
        ``o_x, o_y, g1_x, g1_y, g2_x, g2_y``.
    covariance : (P, 6, 6) float64
        Of the parameters.
    residual : (P,) float64
        Weighted rms distance of the points from the lattice.
    chi2 : (P,) float64
        Reduced χ²; NaN also where nothing is left over.
    count : (P,) int64
        Points on the lattice.
    reason : (P,) uint8
        0 where there is a fit; 1 no points, 2 too few on the lattice, 3 on one line, 4 too far from
        the start.
    beside : (P, 2) float64
        Share of the strength that is not on the lattice, and how many points.
    indices : (n, 2) int32
        h, k of every point.
    distance : (n,) float64
        From the lattice point, in standard deviations; NaN for points that are not on the lattice.
    """

    parameters: Float
    covariance: Float
    residual: Float
    chi2: Float
    count: NDArray[np.int64]
    reason: NDArray[np.uint8]
    beside: Float
    indices: NDArray[np.int32]
    distance: Float


DISK_FIELDS = (
    "qx",
    "qy",
    "intensity",
    "sigma_qx",
    "sigma_qy",
    "cov_qxqy",
    "background",
    "significance",
    "chi2",
    "slope_x",
    "slope_y",
    "sigma_slope",
    "coupling",
)
"""Columns of `FoundDisks.rows`."""

DISK_REJECTIONS = ("weak", "moved", "hidden", "close", "crowded")
"""Why a maximum is not a disk: columns of `FoundDisks.rejected`.

Below the least significance; its fit left the maximum; too few usable pixels; as near to a
brighter disk as two cannot be; beyond the largest number per pattern.
"""


class DiskPlan(NamedTuple):
    """What `Kernels.find_disks` looks for; made once for a scan.

    Attributes
    ----------
    fft_shape : (int, int)
        Size of the transforms, at least that of the patterns.
    template, smoothed : complex64 (F0, F1 // 2 + 1)
        Conjugate transforms over F0 F1 of the kernels that maxima are refined with (dft) and, times
        the Gaussian, looked for with.
    mask : (Qx, Qy) float32
        1 for pixels to use, 0 for others.
    masked, doubtful : int
        Whether there are any of the latter; whether pixels may be saturated or not numbers.
    centers : (Qx, Qy) float32
        1 where enough of a disk is on usable pixels, 0 elsewhere.
    table : (S, S, 3, m) float32
        Template and its derivatives by the centre along x and y, for centres at S x S subpixel
        phases, at the m pixels around a disk.
    offset_x, offset_y : (m,) int64
        Those pixels relative to the one nearest to the centre.
    pixel_x, pixel_y, counts, core, ring : (m,) float32
        The offsets again; 1 for pixels that exist (m is padded); 1 well inside a disk; 1 beside it.
    reach : int
        Largest offset.
    area, edge_variance : float
        Sum of the template: intensity over height; variance (px²) of the blur of its edge.
    subpixel : int
        0 the pixel, 1 a parabola, 2 the maximum of the band-limited correlation, 3 the fit.
    corr_power : float
        1 cross correlation, 0 phase correlation.
    stabilise : int
        Whether the square root of the counts is correlated, which has the same noise everywhere.
    threshold, min_relative, min_intensity, min_significance, min_spacing_px : float
    relative_to, edge_px, max_peaks : int
    gain, read_variance, saturation : float
        Variance of a pixel is ``gain * expected + read_variance``; from `saturation` on it is not
        used.
    least_background, slope_information, steepest, max_shift_px, min_visible : float
        Bounds of the fit; one over the variance of the prior of the slope (px²).
    """

    fft_shape: tuple[int, int]
    template: NDArray[np.complex64]
    smoothed: NDArray[np.complex64]
    mask: NDArray[np.float32]
    masked: int
    doubtful: int
    centers: NDArray[np.float32]
    table: NDArray[np.float32]
    offset_x: NDArray[np.int64]
    offset_y: NDArray[np.int64]
    pixel_x: NDArray[np.float32]
    pixel_y: NDArray[np.float32]
    counts: NDArray[np.float32]
    core: NDArray[np.float32]
    ring: NDArray[np.float32]
    reach: int
    area: float
    edge_variance: float
    subpixel: int
    corr_power: float
    stabilise: int
    threshold: float
    min_relative: float
    min_intensity: float
    min_significance: float
    min_spacing_px: float
    relative_to: int
    edge_px: int
    max_peaks: int
    gain: float
    read_variance: float
    saturation: float
    least_background: float
    slope_information: float
    steepest: float
    max_shift_px: float
    min_visible: float


class FoundDisks(NamedTuple):
    """The disks of n patterns.

    Attributes
    ----------
    rows : (N, 13) float64
        All disks, pattern after pattern, the brightest first; columns are `DISK_FIELDS`.
    counts : (n,) int64
        Disks of each pattern.
    rejected : (n, 5) int64
        Maxima left out, by `DISK_REJECTIONS`.
    """

    rows: Float
    counts: NDArray[np.int64]
    rejected: NDArray[np.int64]


@dataclass(frozen=True)
class Kernels:
    """One set of primitives on bare arrays; no algorithm asks which set it was given.

    Frames are ``(n, Qx, Qy)`` of any real dtype, byte order and strides.

    Attributes
    ----------
    compile_detectors : (weights (K, Qx, Qy)) -> detectors
        Take detector weights apart once, for `measure` of the same set.
    measure : (frames, detectors=None, *, moments, sums, squares, maximum, weights) -> Measured
        Detector sums, moments, mean, variance and maximum in one pass.
    center_of_mass : (frames, weights=None) -> (n, 2) float64
        Intensity-weighted mean position of each pattern.
    shifted_sums : (frames, weights, shifts, margin=(0, 0)) -> (n, K) float64
        Sums over detectors that move with each pattern.
    radial_plan : (radius, n_bins, step=1.0) -> plan
        Sort pixels into rings once, for `radial_sums` and `subtract_radial_background`.
    radial_sums : (frames, plan) -> RadialSums
        Sums over rings.
    radial_sums_centered : (frames, origins, n_bins, step=1.0, *, ellipse, mask) -> RadialSums
        Sums over rings about an origin of each pattern's own.
    polar_plan : (Q_shape, origin, n_r, n_phi, *, r_min, r_step, ellipse, mask) -> PolarPlan
        Share the pixels between polar bins by area, once.
    polar_plans : (Q_shape, origins, n_r, n_phi, *, r_min, …, parts=8) -> PolarPlans
        The same about many origins, for `origins=` of the next four.
    polar_sums : (frames, plan, origins=None) -> (n, n_r, n_phi) float32
        Sums over polar bins.
    polar_means : (frames, plan, origins=None) -> (n, n_r, n_phi) float32
        Means over polar bins.
    ring_moments : (frames, plan, origins=None) -> RingMoments
        Mean and mean square of the pixels of every ring.
    ring_medians : (frames, plan, origins=None) -> (n, n_r) float64
        Medians of the pixels of every ring, by area.
    bin_frames : (frames, bx, by) -> (n, Qx // bx, Qy // by)
        Sums of blocks of pixels, in a dtype that holds them.
    ordered_uint : (frames) -> unsigned keys
        Integers in the same order as the values.
    histogram_digit : (keys, prefix, shift, histogram, *, skip_last=False) -> None
        One round of an exact median of every pixel over any number of patterns.
    key_range : (keys, above=None, *, skip_last=False) -> KeyRange
        Smallest and largest key of every pixel, and their number.
    bucket_counts : (keys, low, shift, *, skip_last=False) -> (Qx, Qy, 16) uint32
        Keys of every pixel in 16 buckets of its own: one round of an exact median in little memory.
    repair_pixels : (frames, pixels, neighbours) -> frames
        Bad pixels replaced by the median of neighbours.
    apply_dark_gain : (frames, dark=None, gain=None) -> float32 frames
        ``(v - dark)*gain``.
    threshold_counts : (frames, high) -> ThresholdCounts
        Saturated and non-finite pixels by pattern and by pixel.
    subtract_radial_background : (frames, plan, quantile=0.5) -> float32 frames
        Patterns less the quantile of each ring.
    fit_lattices : (points, covariances, strength, offsets, origins, matrix, starts, ...) \
            -> LatticeFits
        Points of every position indexed, and origin, g1, g2 fitted.
    turn_frames : (frames (n, P), out (P, N), start) -> bool
        Patterns put into a detector-major table.
    add_weighted : (table (P, n), rows, weights (K, m), out (K, n), part=None) -> None
        A weighted sum of rows of a table added.
    row_prefix : (data (Qx, Qy, n), prefix, part=None) -> None
        Running sums along the rows of a detector, sampled every 8 columns.
    gather_pixels : (frames (n, P), index (m,), shifts (n,), out (m, N), start) -> (n,) float64
        Some pixels of patterns put into a detector-major table; sums of the patterns.
    overlap_sums : (waves, k, starts, step, aperture, coefficients, weights, *, both) -> Overlaps
        Interference of the unscattered disk with those at ±Q, summed over pixels.
    """

    compile_detectors: Callable[..., Any]
    measure: Callable[..., Measured]
    center_of_mass: Callable[..., Float]
    shifted_sums: Callable[..., Float]
    radial_plan: Callable[..., Any]
    radial_sums: Callable[..., RadialSums]
    radial_sums_centered: Callable[..., RadialSums]
    polar_plan: Callable[..., Any]
    polar_plans: Callable[..., Any]
    polar_sums: Callable[..., NDArray[np.float32]]
    polar_means: Callable[..., NDArray[np.float32]]
    ring_moments: Callable[..., RingMoments]
    ring_medians: Callable[..., Float]
    bin_frames: Callable[..., NDArray[Any]]
    ordered_uint: Callable[..., NDArray[Any]]
    histogram_digit: Callable[..., None]
    key_range: Callable[..., KeyRange]
    bucket_counts: Callable[..., NDArray[np.uint32]]
    repair_pixels: Callable[..., NDArray[Any]]
    apply_dark_gain: Callable[..., NDArray[np.float32]]
    threshold_counts: Callable[..., ThresholdCounts]
    subtract_radial_background: Callable[..., NDArray[np.float32]]
    find_disks: Callable[..., FoundDisks]
    fit_lattices: Callable[..., LatticeFits]
    turn_frames: Callable[..., bool]
    add_weighted: Callable[..., None]
    row_prefix: Callable[..., None]
    gather_pixels: Callable[..., Float]
    overlap_sums: Callable[..., Any]


def lowest(dtype: np.dtype[Any]) -> Any:
    """The value below all others of a real dtype: False, the smallest integer, or -inf."""
    if dtype.kind == "b":
        return False
    return np.iinfo(dtype).min if dtype.kind in "ui" else -np.inf


def bin_dtype(dtype: np.dtype[Any] | type, factor: int) -> np.dtype[Any]:
    """The smallest dtype that surely holds the sum of ``factor`` values.

    Integers keep their sign and grow as needed, at most to 64 bits; bool counts as uint8 of at most
    1; float16 becomes float32, other floats stay.

    Examples
    --------
    >>> bin_dtype(np.uint8, 4), bin_dtype(np.uint16, 1), bin_dtype(np.float32, 100)
    (dtype('uint16'), dtype('uint16'), dtype('float32'))
    """
    dtype = np.dtype(dtype).newbyteorder("=")
    if dtype.kind == "f":
        return np.result_type(dtype, np.float32)
    top = 1 if dtype.kind == "b" else int(np.iinfo(dtype).max)
    low = 0 if dtype.kind == "b" else int(np.iinfo(dtype).min)
    kinds = [np.int8, np.int16, np.int32, np.int64] if low else [np.uint8, np.uint16, np.uint32]
    for kind in kinds:
        info = np.iinfo(kind)
        if info.min <= low * factor and top * factor <= info.max:
            return np.dtype(kind)
    return np.dtype(np.int64 if low else np.uint64)


class Overlaps(NamedTuple):
    """Sums over detector pixels, of Q = starts[i] + j·step.

    Attributes
    ----------
    sums : (2, nx, ny) complex64
        ``Σ w Γ₁* G`` and ``Σ w Γ₂* G``.
    norms : (2, nx, ny) float32
        ``Σ w |Γ₁|²`` and ``Σ w |Γ₂|²``.
    cross : (nx, ny) complex64
        ``Σ w Γ₁* Γ₂``; zero where pixels in both disks do not count.
    """

    sums: NDArray[np.complex64]
    norms: NDArray[np.float32]
    cross: NDArray[np.complex64]

    @classmethod
    def zeros(cls, shape: tuple[int, int]) -> Overlaps:
        """Nothing summed yet."""
        return cls(
            np.zeros((2, *shape), np.complex64),
            np.zeros((2, *shape), np.float32),
            np.zeros(shape, np.complex64),
        )
