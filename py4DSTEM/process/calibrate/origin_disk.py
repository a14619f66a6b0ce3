"""The origin from the rim of the unscattered disk, fitted at every scan position."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.calibrate.origin_fit import OriginMeasurement, surface_terms
from py4DSTEM.stream.operation import Operation, Output, Parts, PerScan
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = [
    "COVERED",
    "EMPTY",
    "FAINT",
    "LOST",
    "REASONS",
    "DiskFits",
    "DiskOrigin",
    "OriginOperation",
    "Rim",
    "Windows",
    "coarse_disk",
    "expected_origins",
    "fit_disks",
    "kept_pixels",
    "windows",
]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

REASONS = (
    "",
    "no intensity",
    "too faint",
    "covered or off the detector",
    "not found near the beam",
)
"""Why a position has no origin, by the number that the operations give."""
EMPTY, FAINT, COVERED, LOST = 1, 2, 3, 4
_PLANE = ((0, 0), (1, 0), (0, 1))


# ---- what all methods share ----------------------------------------------------------------------
class OriginOperation(Operation):
    """Parameters of the operations that look for the origin near where it is expected."""

    center: tuple[float, float] = Field(
        description="Expected (qx, qy) in pixels, at the middle of the scan."
    )
    descan: tuple[tuple[float, float], tuple[float, float]] = Field(
        ((0.0, 0.0), (0.0, 0.0)),
        description="How far (qx, qy) moves from the middle row of the scan to the last, "
        "and from the middle column to the last, in pixels.",
    )
    search_px: float = Field(gt=0, description="Farthest that the origin may be from there.")
    mask: AnyDetector | None = Field(
        None, description="Pixels that count: where its weight is at least one half."
    )

    outputs: ClassVar[Mapping[str, Output]] = {
        "origin": PerScan(np.float64),
        "reason": PerScan(np.uint8),
    }
    method: ClassVar[str] = ""

    def finish(self, cube: Cube, plan: Any, parts: Parts, history: History) -> OriginMeasurement:
        values, sigma = parts["origin"][..., :2], parts["origin"][..., 2:]
        failed = np.isnan(values).any(-1)
        values, sigma = (np.where(failed[..., None], np.nan, a) for a in (values, sigma))
        codes = np.bincount(parts["reason"][failed], minlength=len(REASONS))
        reasons = {REASONS[k] or "not asked for": int(n) for k, n in enumerate(codes) if n}
        return OriginMeasurement(values, sigma, reasons, self.method, cube.calibration, history)


def expected_origins(
    R_shape: tuple[int, int],
    center: tuple[float, float],
    descan: tuple[tuple[float, float], tuple[float, float]],
) -> Float:
    """Origin of every position of a linear descan, (Rx, Ry, 2)."""
    plane: Float = surface_terms(R_shape, _PLANE) @ np.array([center, *descan])
    return plane.reshape(*R_shape, 2)


def check_near_detector(center: tuple[float, float], Q_shape: tuple[int, int]) -> None:
    """Raise `ParameterError` where a centre is farther beside the detector than that is wide."""
    if not all(-n <= c <= 2 * n for c, n in zip(center, Q_shape, strict=True)):
        raise ParameterError(
            f"center={tuple(center)} is far beside patterns of {tuple(Q_shape)} pixels: give "
            "(qx, qy) in detector pixels"
        )


def kept_pixels(
    mask: AnyDetector | None, Q_shape: tuple[int, int], calibration: Calibration
) -> Bool:
    """Pixels that count, (Qx, Qy)."""
    if mask is None:
        return np.ones(Q_shape, bool)
    keep: Bool = mask.weights(Q_shape, calibration) >= 0.5
    return keep


class Windows(NamedTuple):
    """Square parts of n patterns.

    Attributes
    ----------
    values : (n, w, w) float64
        0 where not known.
    known : (n, w, w) bool
        Finite, on the detector, and not masked.
    corner : (n, 2) int64
        Pixel of the first value.
    """

    values: Float
    known: Bool
    corner: NDArray[np.int64]


def windows(frames: NDArray[Any], centers: Float, half: int, keep: Bool) -> Windows:
    """The squares of ``2 half + 1`` pixels about the pixel nearest to each centre."""
    corner = np.rint(centers).astype(np.int64) - half
    span = np.arange(2 * half + 1)
    i, j = corner[:, 0, None] + span, corner[:, 1, None] + span
    inside_x, inside_y = (
        (index >= 0) & (index < n) for index, n in zip((i, j), frames.shape[1:], strict=True)
    )
    i, j = (np.clip(a, 0, n - 1)[..., None] for a, n in zip((i, j), frames.shape[1:], strict=True))
    j = np.swapaxes(j, 1, 2)
    values = frames[np.arange(len(frames))[:, None, None], i, j].astype(np.float64)
    known = inside_x[:, :, None] & inside_y[:, None, :] & keep[i, j] & np.isfinite(values)
    return Windows(np.where(known, values, 0.0), known, corner)


# ---- finding it ----------------------------------------------------------------------------------
def coarse_disk(
    frames: NDArray[Any], expected: Float, radius_px: float, search_px: float, keep: Bool
) -> Float:
    """The pixel about which the most intensity lies within a disk, (n, 2) float64.

    Single pixels that are far brighter than the disk can be count as four of its pixels.  NaN
    where there is no intensity.
    """
    reach = max(1, round(radius_px))
    half = math.ceil(search_px) + reach
    known: Bool = np.asarray(np.isfinite(expected).all(1))
    part = windows(frames, np.where(known[:, None], expected, -9.0 - half), half, keep)
    middle = np.quantile(part.values.reshape(len(frames), -1), 0.9, axis=1)
    limit = np.where(middle > 0, 4 * middle, np.inf)
    clipped = np.minimum(part.values, limit[:, None, None])
    sums = _disk_sums(clipped, reach)
    span = np.arange(sums.shape[1]) - (sums.shape[1] - 1) / 2
    far = np.hypot(span[:, None], span[None, :]) > search_px + 0.5
    sums = np.where(far, -np.inf, sums).reshape(len(frames), -1)
    best = np.stack(np.unravel_index(sums.argmax(axis=1), far.shape), axis=-1)
    found: Float = (part.corner + reach + best).astype(np.float64)
    found[(sums.max(axis=1) <= 0) | ~known] = np.nan
    return found


def _disk_sums(values: Float, reach: int) -> Float:
    """Sums over a disk of radius `reach` about each pixel that has it whole, (n, s, s)."""
    size = values.shape[1] - 2 * reach
    total = np.zeros((len(values), size, size))
    along = np.pad(values.cumsum(axis=2), ((0, 0), (0, 0), (1, 0)))
    for row in range(-reach, reach + 1):
        wide = math.floor(math.sqrt(reach**2 - row**2))
        rows = along[:, reach + row : reach + row + size]
        right, left = reach + wide + 1, reach - wide
        total += rows[:, :, right : right + size] - rows[:, :, left : left + size]
    return total


# ---- fitting it ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class Rim:
    """The unscattered disk as ``erfc((ρ - radius) / (√2 edge)) / 2``, and how it is fitted.

    Parameters
    ----------
    radius_px, edge_px : float
    counts : bool
        Whether values are electrons; otherwise their noise is taken from the residual.
    free_radius : bool
    """

    radius_px: float
    edge_px: float
    counts: bool = True
    free_radius: bool = False

    @property
    def half(self) -> int:
        """Half the edge of the window: a rim of background, short of the neighbouring disks."""
        margin = min(max(2.0, 0.45 * self.radius_px), 3.0 + 3 * self.edge_px)
        return math.ceil(self.radius_px + margin + 0.5)

    @property
    def degree(self) -> int:
        """Degree of the polynomial that describes the filling of the disk.

        In a small one a slope cannot be told from a shift of its few pixels of rim.
        """
        return 2 if self.radius_px >= 3 else 0


class DiskFits(NamedTuple):
    """What `fit_disks` found.

    Attributes
    ----------
    center, sigma : (n, 2) float64
    radius, chi2, contrast : (n,) float64
        chi2 is reduced; contrast is the step at the rim as a share of the brightness in the middle.
    reason : (n,) uint8
        Of `REASONS`.
    """

    center: Float
    sigma: Float
    radius: Float
    chi2: Float
    contrast: Float
    reason: NDArray[np.uint8]


_BLURS_PX = (1.6, 1.1, 0.8)
"""Edges of the first rounds: a blurred rim is found from further away."""
_ROUNDS = 6
_COEFFICIENTS = {0: 2, 2: 7}
"""Linear coefficients of a disk and its background, by the degree of the filling."""
_RIM_ERROR = 0.03
"""How well the model describes pixels in the middle of the rim, as a share of the disk's height."""
_TRUST, _REFUSE = 4.0, 8.0
"""Residuals, in sigma, from which on a pixel counts less, and not at all."""


def fit_disks(frames: NDArray[Any], start: Float, rim: Rim, keep: Bool) -> DiskFits:
    """Fit the unscattered disk of each pattern: rim, uneven filling and background.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
    start : (n, 2) float64
        Centres to within two pixels; NaN gives NaN.
    rim : Rim
    keep : (Qx, Qy) bool

    Notes
    -----
    ``I(p) = P(p) S(|p - c|) + b`` with a polynomial P, so that only the rim S tells the centre c.
    Fisher scoring of the Poisson likelihood; pixels that lie beyond eight sigma (hot ones, for
    instance) are left out.  Where many electrons have been counted, the shape of the rim limits the
    model and not their noise: its 3 % are added to the variance, or the rim itself would be left
    out.  The sigma are those of the likelihood, times the root of the reduced χ² where that is
    above one.
    """
    usable: Bool = np.asarray(np.isfinite(start).all(1))
    data = _Data.of(frames, np.where(usable[:, None], start, 0.0), rim, keep)
    state = _first(data, np.where(usable[:, None], start, 0.0), rim)
    for edge in (*(max(rim.edge_px, blur) for blur in _BLURS_PX), *[rim.edge_px] * _ROUNDS):
        state = _improved(data, state, rim, edge)
    return _judged(data, state, rim, usable)


@dataclass(frozen=True, eq=False)
class _Data:
    """Pixels of all windows: values and known (n, m), offsets x, y (m,) from their middle."""

    values: Float
    known: Bool
    x: Float
    y: Float
    middle: Float
    filling: Float

    @classmethod
    def of(cls, frames: NDArray[Any], start: Float, rim: Rim, keep: Bool) -> _Data:
        part = windows(frames, start, rim.half, keep)
        span = np.arange(-rim.half, rim.half + 1, dtype=np.float64)
        round_ = np.hypot(span[:, None], span[None, :]) <= rim.half + 0.5
        x, y = (a[round_] for a in np.meshgrid(span, span, indexing="ij"))
        powers = [(i, d - i) for d in range(rim.degree + 1) for i in range(d, -1, -1)]
        u, v = x / rim.radius_px, y / rim.radius_px
        filling = np.stack([u**i * v**j for i, j in powers])
        middle = (part.corner + rim.half).astype(np.float64)
        return cls(part.values[:, round_], part.known[:, round_], x, y, middle, filling)


@dataclass(frozen=True, eq=False)
class _State:
    """Where the fit is: offsets (n, 2), radii (n,), linear coefficients (n, k), and its quality."""

    offset: Float
    radius: Float
    linear: Float
    covariance: Float
    chi2: Float


def _first(data: _Data, start: Float, rim: Rim) -> _State:
    n, inside = len(start), np.hypot(data.x, data.y) < 0.7 * rim.radius_px
    inside = inside if inside.any() else np.hypot(data.x, data.y) < 1
    outside = np.hypot(data.x, data.y) > rim.radius_px + 1
    linear = np.zeros((n, len(data.filling) + 1))
    high, low = (_middle(data.values, data.known & part) for part in (inside, outside))
    linear[:, 0], linear[:, -1] = np.maximum(high - low, 0.0), low
    nothing = np.full((n, 2, 2), np.nan)
    return _State(start - data.middle, np.full(n, rim.radius_px), linear, nothing, np.zeros(n))


def _middle(values: Float, use: Bool) -> Float:
    """Mean of the chosen pixels of each row, the brightest and darkest tenth left out."""
    chosen = np.sort(np.where(use, values, np.inf), axis=1)
    count = use.sum(axis=1)
    rank = np.arange(values.shape[1])
    cut = count // 10
    kept = (rank >= cut[:, None]) & (rank < (count - cut)[:, None])
    middle: Float = np.where(kept, chosen, 0.0).sum(axis=1) / np.maximum(kept.sum(axis=1), 1)
    return middle


def _improved(data: _Data, state: _State, rim: Rim, edge: float) -> _State:
    """One round of Fisher scoring; steps are limited, so that a bad start cannot run away."""
    model, slopes = _model(data, state, rim, edge)
    weight, chi2 = _weights(data, model, state.linear, rim, slopes.shape[1])
    weighted = slopes * weight[:, None, :]
    normal = weighted @ slopes.transpose(0, 2, 1)
    # What no pixel tells must not move: a small ridge in the scale of each parameter.
    size = np.einsum("nkk->nk", normal)
    largest = size.max(axis=1, initial=0.0, keepdims=True)
    ridge = 1e-9 * size + 1e-12 * largest + np.where(largest > 0, 0.0, 1.0)
    normal = normal + ridge[:, :, None] * np.eye(normal.shape[1])
    gradient = np.einsum("nkm,nm->nk", weighted, data.values - model)
    inverse = np.linalg.inv(normal)
    step = np.einsum("nij,nj->ni", inverse, gradient)
    first = 3 if rim.free_radius else 2
    radius = state.radius
    if rim.free_radius:
        radius = np.clip(radius + np.clip(step[:, 2], -0.5, 0.5), 0.5, 1.5 * rim.radius_px)
    return _State(
        state.offset + np.clip(step[:, :2], -0.7, 0.7), radius,
        state.linear + step[:, first:], inverse[:, :2, :2], chi2,
    )  # fmt: skip


def _model(data: _Data, state: _State, rim: Rim, edge: float) -> tuple[Float, Float]:
    """Expected values (n, m) and their derivatives (n, k, m)."""
    dx, dy = data.x - state.offset[:, :1], data.y - state.offset[:, 1:]
    r = np.hypot(dx, dy)
    shape, slope = _soft_edge((r - state.radius[:, None]) / edge)
    background = np.ones((len(r), 1, r.shape[1]))
    filling = np.concatenate([data.filling[None] * shape[:, None], background], axis=1)
    model = np.einsum("nk,nkm->nm", state.linear, filling)
    outward = (state.linear[:, :-1] @ data.filling) * slope / edge
    away = np.divide(outward, r, out=np.zeros_like(r), where=r > 1e-9)
    moved = [dx * away, dy * away, *([outward] if rim.free_radius else [])]
    return model, np.concatenate([np.stack(moved, axis=1), filling], axis=1)


def _soft_edge(t: Float) -> tuple[Float, Float]:
    """``erfc(t / √2) / 2`` and minus its derivative."""
    from scipy.special import erfc  # slow to import

    return erfc(t / math.sqrt(2)) / 2, np.exp(-(t**2) / 2) / math.sqrt(2 * math.pi)


def _weights(
    data: _Data, model: Float, linear: Float, rim: Rim, parameters: int
) -> tuple[Float, Float]:
    """Weight of each pixel (n, m), and the reduced χ² (n,)."""
    height = np.maximum(linear[:, :1], 0.0)
    floor = np.maximum(0.02 * height, 0.2 if rim.counts else 1e-12)
    share = np.clip((model - linear[:, -1:]) / np.maximum(height, floor), 0.0, 1.0)
    rim_error = _RIM_ERROR * height * 4 * share * (1 - share)
    variance = np.maximum(model, floor) + rim_error**2
    scaled = np.abs(data.values - model) / np.sqrt(variance)
    # Half the residuals of a normal distribution are below 0.6745 sigma.
    spread = 1.4826 * np.median(np.where(data.known, scaled, 0.0), axis=1, keepdims=True)
    spread = np.maximum(spread, 1.0 if rim.counts else 1e-9)
    scaled = scaled / spread
    trust = np.where(scaled < _TRUST, 1.0, _TRUST / np.maximum(scaled, _TRUST))
    trust = np.where(data.known & (scaled < _REFUSE), trust, 0.0)
    freedom = np.maximum((trust > 0).sum(axis=1) - parameters, 1)
    chi2 = (trust * scaled**2).sum(axis=1) * spread[:, 0] ** 2 / freedom
    return trust / variance, chi2


def _judged(data: _Data, state: _State, rim: Rim, usable: Bool) -> DiskFits:
    """Values with uncertainties, and NaN with a reason where there is no disk."""
    variance = np.einsum("nkk->nk", state.covariance)
    scale = np.maximum(state.chi2, 1.0) if rim.counts else state.chi2
    sigma = np.sqrt(variance * scale[:, None])
    under = np.hypot(data.x, data.y) <= rim.radius_px
    reason = np.zeros(len(usable), np.uint8)
    moved = np.abs(state.offset).max(axis=1) > max(3.0, rim.radius_px)
    reason[moved | ~np.isfinite(state.offset).all(1)] = LOST
    reason[~(sigma.max(axis=1) < 0.3 * rim.radius_px) | (state.linear[:, 0] <= 0)] = FAINT
    reason[data.known[:, under].mean(axis=1) < 0.5] = COVERED
    reason[~usable] = EMPTY
    center = np.where((reason > 0)[:, None], np.nan, state.offset + data.middle)
    sigma = np.where((reason > 0)[:, None], np.nan, sigma)
    return DiskFits(center, sigma, state.radius, state.chi2, _contrast(state.linear), reason)


def _contrast(linear: Float) -> Float:
    """Step at the rim, averaged around it, over the brightness in the middle; 0 without any."""
    middle = linear[:, 0] + np.maximum(linear[:, -1], 0.0)
    step = linear[:, 0]
    if linear.shape[1] == _COEFFICIENTS[2]:
        step = step + (linear[:, 3] + linear[:, 5]) / 2  # x² and y² at the rim
    return np.divide(step, middle, out=np.zeros_like(step), where=middle > 0)


# ---- the pass ------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Plan:
    expected: Float
    keep: Bool
    rim: Rim


class DiskOrigin(OriginOperation, kind="disk-origin", version=1):
    """Centre of the unscattered disk of each pattern, from its rim.

    The filling of the disk is a polynomial of its own at each position, so that what happens
    inside the disk does not move its centre.
    """

    radius_px: float = Field(gt=0, description="Radius of the disk at half of its height.")
    edge_px: float = Field(0.5, gt=0, description="Standard deviation of the blur of its rim.")

    method: ClassVar[str] = "disk"

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [cls(center=(8.7, 10.4), search_px=3.0, radius_px=5.0)]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        expected = expected_origins(cube.R_shape, self.center, self.descan)
        keep = kept_pixels(self.mask, cube.Q_shape, cube.calibration)
        counts = cube.dtype.kind in "bui"
        return _Plan(expected, keep, Rim(self.radius_px, self.edge_px, counts))

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        expected = tile.local(plan.expected)
        start = coarse_disk(tile.frames, expected, self.radius_px, self.search_px, plan.keep)
        fits = fit_disks(tile.frames, start, plan.rim, plan.keep)
        far = np.hypot(*(fits.center - expected).T) > self.search_px + 1
        reason = np.where(far, np.uint8(LOST), fits.reason)
        center = np.where(far[:, None], np.nan, fits.center)
        return {"origin": np.concatenate([center, fits.sigma], axis=1), "reason": reason}
