"""A phase against the truth, without what a reconstruction cannot know.

A phase image is known up to a constant; up to a plane, which is a shift of the patterns; and, where
probe and object are both unknown, up to a shift.  Those are fitted and removed; the scale is fitted
and told, but never hidden in the error.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.parameters import numbers
from py4DSTEM.errors import ParameterError, ShapeError

__all__ = ["Agreement", "agreement", "on_grid"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Pair = tuple[float, float]
_ROUNDS = 8


@dataclass(frozen=True, eq=False)
class Agreement:
    """How a phase agrees with the truth.

    Parameters
    ----------
    correlation : float
        Pearson's, of what is left after constant, plane and shift are removed.
    scale : float
        Slope of the phase against the truth; 1 where it is quantitative.
    rms_error_rad : float
        Root mean square of the difference, **without** dividing by `scale`.
    rms_truth_rad : float
        Of the truth, constant and plane removed: what an empty image would be wrong by.
    shift_A : (float, float)
        The phase lies so far beside the truth, along x and y.
    offset_rad, ramp_rad_per_A : float, (float, float)
        Removed from the phase; the offset at pixel (0, 0).
    resolution_A : float or None
        Both were limited to spatial frequencies below its inverse.
    phase, truth, window : (nx, ny) float64
        What was compared, both times the window.
    """

    correlation: float
    scale: float
    rms_error_rad: float
    rms_truth_rad: float
    shift_A: Pair
    offset_rad: float
    ramp_rad_per_A: Pair
    resolution_A: float | None
    phase: Float
    truth: Float
    window: Float


def agreement(
    phase: ArrayLike,
    truth: ArrayLike,
    sampling_A: float | Pair,
    *,
    mask: ArrayLike | None = None,
    resolution_A: float | None = None,
    max_shift_A: float | None = None,
) -> Agreement:
    """Compare a phase with the truth, both on the same grid.

    Parameters
    ----------
    phase, truth : (nx, ny) float
        rad; `on_grid` brings them onto one grid.  NaN does not count.
    sampling_A : float or (float, float)
        Pixel.
    mask : (nx, ny) bool, optional
        Where they are compared, such as the scanned area; its rim is softened by half the
        resolution (at least two pixels) inwards.
    resolution_A : float, optional
        Compare only spatial frequencies below ``1 / resolution_A``; None: all of them.
    max_shift_A : float, optional
        Longest shift that is looked for; 0: none.  None: the resolution, at least two pixels.

    Returns
    -------
    Agreement

    Raises
    ------
    ParameterError
        Fewer than 16 pixels to compare, or a truth that is constant there.
    ShapeError
        Shapes that differ.

    Notes
    -----
    ``w (φ − a − b·r) = c w t(r − s) + w ε`` is solved by least squares for the constant a, the
    plane b, the scale c and the shift s, with the window w; then both sides are limited in
    frequency with a soft edge of a tenth, and correlated.

    Examples
    --------
    >>> x, y = np.indices((40, 50)) * 0.2
    >>> truth = np.sin(2.1 * x) * np.cos(1.7 * y) + 0.3 * np.sin(0.9 * x * y)
    >>> found = agreement(0.9 * truth + 0.1 * x - 3, truth, 0.2)
    >>> round(found.correlation, 6), round(found.scale, 4), round(found.ramp_rad_per_A[0], 4)
    (1.0, 0.9, 0.1)
    """
    measured, true = np.asarray(phase, np.float64), np.asarray(truth, np.float64)
    if measured.ndim != 2 or measured.shape != true.shape:
        raise ShapeError(f"two images of one shape, not {measured.shape} and {true.shape}")
    step = _pair("sampling_A", sampling_A)
    known = _known(measured, mask), np.isfinite(true)
    soft = max((resolution_A or 0.0) / 2, 2 * max(step))
    longest = max(resolution_A or 0.0, 2 * max(step)) if max_shift_A is None else max_shift_A
    measured, true = (np.where(np.isfinite(a), a, 0.0) for a in (measured, true))
    window = _window(known[0] & known[1], step, soft)
    shift_px: Pair = (0.0, 0.0)
    if longest > 0:
        longest_px = (longest / step[0], longest / step[1])
        start = _coarse(measured, true, window, longest_px)
        # What the shift brings in from beside the truth must not count.
        window = _window(known[0] & _seen(known[1], start), step, soft)
        shift_px = _refined(measured, true, window, start, longest_px)
    moved = _moved(true, shift_px)
    offset, ramp = _plane(measured, moved, window)
    # The plane of the truth itself is as invisible as that of the phase.
    ours = _band(_residual(measured, window), step, resolution_A)
    theirs = _band(_residual(moved, window), step, resolution_A)
    return _judged(ours, theirs, window, shift_px, (offset, ramp), step, resolution_A)


def on_grid(
    image: ArrayLike,
    sampling_A: float | Pair,
    shape: tuple[int, int],
    *,
    grid_A: float | Pair,
    origin_A: Pair = (0.0, 0.0),
    matrix: ArrayLike | None = None,
    periodic: bool = False,
) -> Float:
    """An image sampled on another grid, which may be turned or mirrored against it.

    Parameters
    ----------
    image : (mx, my) float
    sampling_A : float or (float, float)
        Pixel of the image.
    shape : (int, int)
    grid_A : float or (float, float)
        Pixel of the new grid.
    origin_A : (float, float)
        Where its pixel (0, 0) lies, measured from that of the image in the axes of the image.
    matrix : (2, 2) float, optional
        From vectors in axes of the new grid to those of the image, such as a rotation.
    periodic : bool
        The image repeats; otherwise what lies beside it is NaN.

    Returns
    -------
    (nx, ny) float64

    Notes
    -----
    Cubic splines; first, what a coarser grid could not hold is cut off.

    Examples
    --------
    >>> image = np.arange(12.0).reshape(3, 4)
    >>> on_grid(image, 1.0, (2, 2), grid_A=1.0, origin_A=(1.0, 2.0)).round(6).tolist()
    [[6.0, 7.0], [10.0, 11.0]]
    """
    from scipy.ndimage import map_coordinates  # slow to import

    values = np.asarray(image, np.float64)
    old, new = _pair("sampling_A", sampling_A), _pair("grid_A", grid_A)
    index = np.moveaxis(np.indices(shape), 0, -1) * np.array(new)
    turn = np.eye(2) if matrix is None else np.asarray(matrix, np.float64)
    at = np.moveaxis((index @ turn.T + np.array(origin_A)) / np.array(old), -1, 0)
    if max(new) > min(old):
        values = _cut(values, old, 1 / (2 * max(new)), periodic=periodic)
    mode = "grid-wrap" if periodic else "mirror"
    sampled: Float = map_coordinates(values, at, order=3, mode=mode)
    if periodic:
        return sampled
    top = np.array(values.shape).reshape(2, 1, 1) - 1
    return np.where(((at > -1e-9) & (at < top + 1e-9)).all(axis=0), sampled, np.nan)


def _pair(name: str, value: float | Pair) -> Pair:
    x, y = numbers(name, value, 2) if np.ndim(value) else numbers(name, value, 1) * 2
    if min(x, y) <= 0:
        raise ParameterError(f"{name} must be positive, not {value!r}")
    return x, y


# ---- window and band -----------------------------------------------------------------------------
def _known(phase: Float, mask: ArrayLike | None) -> Bool:
    known = np.isfinite(phase)
    if mask is None:
        return known
    wanted = np.asarray(mask, bool)
    if wanted.shape != known.shape:
        raise ShapeError(f"the mask is {wanted.shape}, the images are {known.shape}")
    both: Bool = known & wanted
    return both


def _seen(known: Bool, shift_px: Pair) -> Bool:
    """What is still known after a shift of so many whole pixels, and one more to each side."""
    from scipy.ndimage import binary_erosion, shift

    moved = shift(known.astype(np.uint8), shift_px, order=0, cval=0) > 0
    inner: Bool = np.asarray(binary_erosion(moved, np.ones((3, 3), bool)), np.bool_)
    return inner


def _window(known: Bool, step: Pair, soft: float) -> Float:
    """One well inside, falling to zero over `soft` Å to the rim of what counts."""
    from scipy.ndimage import distance_transform_edt

    if known.sum() < 16:
        raise ParameterError(f"only {known.sum()} pixels to compare: at least 16 are needed")
    depth = distance_transform_edt(np.pad(known, 1), sampling=step)[1:-1, 1:-1]
    window: Float = np.sin(np.pi / 2 * np.clip(depth / soft, 0, 1)) ** 2
    return window


def _band(image: Float, step: Pair, resolution_A: float | None) -> Float:
    return image if resolution_A is None else _cut(image, step, 1 / resolution_A, periodic=False)


def _cut(image: Float, step: Pair, edge: float, *, periodic: bool) -> Float:
    """Without frequencies above `edge` (Å⁻¹); the edge is soft, a tenth to both sides."""
    from scipy.fft import dctn, fft2, idctn, ifft2

    if periodic:
        kx, ky = (
            np.asarray(np.fft.fftfreq(n, s), np.float64)
            for n, s in zip(image.shape, step, strict=True)
        )
        cut: Float = ifft2(fft2(image) * _pass(kx, ky, edge)).real
        return cut
    # The cosine transform mirrors at the borders: no jump there that would ring.
    kx, ky = (np.arange(n) / (2 * n * s) for n, s in zip(image.shape, step, strict=True))
    mirrored: Float = idctn(dctn(image) * _pass(kx, ky, edge))
    return mirrored


def _pass(kx: Float, ky: Float, edge: float) -> Float:
    k = np.hypot(kx[:, None], ky[None])
    soft: Float = np.cos(np.pi / 2 * np.clip((k / edge - 0.9) / 0.2, 0, 1)) ** 2
    return soft


# ---- what a reconstruction cannot know -----------------------------------------------------------
def _columns(truth: Float, window: Float) -> Float:
    """Truth, constant and plane as columns, all times the window."""
    x, y = np.indices(truth.shape)
    return np.stack([(window * c).ravel() for c in (truth, np.ones_like(truth), x, y)], axis=1)


def _plane(phase: Float, truth: Float, window: Float) -> tuple[float, Pair]:
    """Constant and plane (rad per pixel) beside the truth at its best scale."""
    columns = _columns(truth, window)
    _, offset, x, y = np.linalg.lstsq(columns, (window * phase).ravel(), rcond=None)[0]
    return float(offset), (float(x), float(y))


def _residual(phase: Float, window: Float) -> Float:
    """The phase without the constant and plane that fit it best, times the window."""
    columns = _columns(phase, window)[:, 1:]
    seen = (window * phase).ravel()
    left: Float = seen - columns @ np.linalg.lstsq(columns, seen, rcond=None)[0]
    return left.reshape(phase.shape)


def _refined(phase: Float, truth: Float, window: Float, start: Pair, longest: Pair) -> Pair:
    """How far the phase lies beside the truth: Gauss–Newton from the correlation's peak."""
    shift = np.array(start, np.float64)
    for _ in range(_ROUNDS):
        moved = _moved(truth, (shift[0], shift[1]))
        slopes = [(window * -g).ravel() for g in np.gradient(moved)]
        columns = np.column_stack([_columns(moved, window), *slopes])
        found = np.linalg.lstsq(columns, (window * phase).ravel(), rcond=None)[0]
        if found[0] == 0:
            break
        change = np.clip(found[4:] / found[0], -0.5, 0.5)
        shift = np.clip(shift + change, np.negative(longest), longest)
        if np.abs(change).max() < 1e-4:
            break
    return float(shift[0]), float(shift[1])


def _coarse(phase: Float, truth: Float, window: Float, longest: Pair) -> Pair:
    """Whole pixels at the peak of the correlation within the longest shifts."""
    phase, truth = (_residual(image, window) for image in (phase, truth))
    shape = [2 * n for n in phase.shape]
    spectrum = np.fft.rfft2(phase, shape) * np.fft.rfft2(truth, shape).conj()
    correlation = np.fft.irfft2(spectrum, shape)
    x, y = (np.fft.fftfreq(n, 1 / n) for n in shape)
    near = (np.abs(x)[:, None] <= longest[0]) & (np.abs(y)[None] <= longest[1])
    i, j = np.unravel_index(np.where(near, correlation, -np.inf).argmax(), near.shape)
    return float(x[i]), float(y[j])


def _moved(image: Float, shift_px: Pair) -> Float:
    from scipy.ndimage import shift

    if shift_px == (0.0, 0.0):
        return image
    moved: Float = shift(image, shift_px, order=3, mode="mirror")
    return moved


def _judged(
    ours: Float,
    theirs: Float,
    window: Float,
    shift_px: Pair,
    surface: tuple[float, Pair],
    step: Pair,
    resolution_A: float | None,
) -> Agreement:
    energy, cross = float((theirs**2).sum()), float((ours * theirs).sum())
    if energy <= 1e-30 * max(theirs.size, 1):
        raise ParameterError("the truth is constant where it is compared")
    norm = math.sqrt(energy * float((ours**2).sum()))
    count = int((window > 0).sum())
    return Agreement(
        correlation=cross / norm if norm else 0.0,
        scale=cross / energy,
        rms_error_rad=math.sqrt(float(((ours - theirs) ** 2).sum()) / count),
        rms_truth_rad=math.sqrt(energy / count),
        shift_A=(shift_px[0] * step[0], shift_px[1] * step[1]),
        offset_rad=surface[0],
        ramp_rad_per_A=(surface[1][0] / step[0], surface[1][1] / step[1]),
        resolution_A=resolution_A,
        phase=ours,
        truth=theirs,
        window=window,
    )
