"""A ring fitted to the profile of every pattern: radius, width, height and background."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.polar.bins import PolarLayout, RingBins
from py4DSTEM.process.radial import Units, as_detector
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["FitRings", "RingFitMap", "fit_rings"]

Float = NDArray[np.float64]
Shape = Literal["gaussian", "lorentzian"]
Noise = Literal["counts", "scatter"]
_PARAMETERS = 5
"""Radius, width, height, background at the middle of the window, and its slope."""
_ROUNDS = 60
_SETTLED = 1e-3
"""Of its standard deviation: a step of every parameter that ends a fit."""
_LEAST_HEIGHT = 3.0
"""Of its standard deviation: a smaller peak is noise."""
_MOST_WIDE = 2.0
"""Of the window: a wider peak cannot be told from the background."""
_LEAST_SHARE = 1e-3
"""Of the largest variance of a profile, below which none of its rings is trusted more."""


@dataclass(frozen=True, eq=False)
class RingFitMap:
    """A peak of the radial profile at every position.

    Parameters
    ----------
    radius_px, width_px : (Rx, Ry) float64
        Radius in corrected detector pixels; of a Gaussian the standard deviation, of a Lorentzian
        the half width at half maximum.  NaN where the fit failed.
    height, background : (Rx, Ry) float64
        Intensity per pixel: of the peak above the background, and of that below the peak.
    sigma_radius_px, sigma_width_px, sigma_height, sigma_background : (Rx, Ry) float64
        Standard deviations by the noise that was chosen.
    chi2 : (Rx, Ry) float64
        Reduced χ² of the fit: above one where the profile is no such peak, or where the
        intensities of a ring vary more than by the noise.
    pixel : Axis
        Size and unit of a corrected detector pixel.
    """

    radius_px: Float
    width_px: Float
    height: Float
    background: Float
    sigma_radius_px: Float
    sigma_width_px: Float
    sigma_height: Float
    sigma_background: Float
    chi2: Float
    pixel: Axis
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "ring fits"

    @property
    def units(self) -> str:
        """Unit of `radius` and `width`."""
        return self.pixel.unit

    @property
    def radius(self) -> RealSlice:
        """Radius in `units`, (Rx, Ry)."""
        return self._map(self.radius_px * self.pixel.step, "ring radius", self.units)

    @property
    def width(self) -> RealSlice:
        """Width in `units`, (Rx, Ry)."""
        return self._map(self.width_px * self.pixel.step, "ring width", self.units)

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """Positions that have a ring, (Rx, Ry)."""
        return np.isfinite(self.radius_px)

    def strain(self, reference: ArrayLike | float | None = None) -> RealSlice:
        """Mean of the two in-plane strains, from the radius alone: ``r0 / r − 1``.

        Parameters
        ----------
        reference : (Rx, Ry) bool or float, optional
            Positions whose median radius is unstrained, or that radius in pixels; None: the median
            of all positions.  `py4DSTEM.ring_strain` finds the three components, from the shape.

        Returns
        -------
        RealSlice
            (Rx, Ry): positive where distances are larger than in the reference.
        """
        return self._map(self._reference(reference) / self.radius_px - 1, "radial strain", "")

    def _reference(self, reference: ArrayLike | float | None) -> float:
        if isinstance(reference, int | float) and not isinstance(reference, bool):
            if not (np.isfinite(reference) and reference > 0):
                raise ParameterError(f"a reference radius is positive, not {reference!r}")
            return float(reference)
        chosen = self.fitted
        if reference is not None:
            mask = np.asarray(reference)
            if mask.shape != chosen.shape or mask.dtype != bool:
                raise ShapeError(
                    f"a reference is a bool map {chosen.shape}, not {mask.dtype} {mask.shape}"
                )
            chosen = chosen & mask
        if not chosen.any():
            raise ParameterError("no position of the reference has a ring")
        return float(np.median(self.radius_px[chosen]))

    def _map(self, data: Float, name: str, units: str) -> RealSlice:
        return RealSlice(data, self.calibration, self.history, name, units=units)

    def __repr__(self) -> str:
        found = self.fitted
        middle = np.median(self.radius_px[found]) if found.any() else np.nan
        return f"<RingFitMap {int(found.sum())} of {found.size} positions, median {middle:.5g} px>"


def _to_parts(fits: RingFitMap) -> dict[str, Any]:
    arrays = {name: getattr(fits, name) for name in _FITTED}
    pixel = {"name": fits.pixel.name, "step": fits.pixel.step, "unit": fits.pixel.unit}
    return {
        **arrays, "pixel": pixel, "calibration": fits.calibration,
        "history": fits.history.to_dict(), "name": fits.name,
    }  # fmt: skip


def _from_parts(parts: Mapping[str, Any]) -> RingFitMap:
    history = History.from_dict(parts["history"])
    return RingFitMap(**{**parts, "pixel": Axis(**parts["pixel"]), "history": history})


_FITTED = (
    "radius_px", "width_px", "height", "background", "sigma_radius_px", "sigma_width_px",
    "sigma_height", "sigma_background", "chi2",
)  # fmt: skip
register_result("ring-fit-map", RingFitMap, _to_parts, _from_parts)


class FitRings(RingBins, Operation, kind="fit-rings", version=1):
    """Fit a peak on a sloping background to the radial profile of every pattern.

    Weighted least squares (Levenberg-Marquardt) of ``I(r) = h p((r − r0)/w) + b + s (r − middle)``
    from `r_min` to `r_max`, which hold the ring and some background on both sides.
    """

    r_max: float = Field(gt=0, description="Outer edge of the ring's window, in `units`.")
    shape: Shape = Field("gaussian", description="Of the peak across the ring.")
    noise: Noise = Field(
        "counts",
        description="Variance of a pixel: its expected value, or the scatter in its ring.",
    )

    outputs: ClassVar[Mapping[str, Output]] = {name: PerScan(np.float64) for name in _FITTED}

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [
            cls(center=(8.2, 10.1), r_min=2.0, r_max=9.0, step_px=0.5),
            cls(r_min=1.0, r_max=8.0, shape="lorentzian", noise="scatter"),
        ]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.r_min < self.r_max:
            raise ValueError("r_min must be smaller than r_max")
        return self

    def prepare(self, cube: Cube, kernels: Kernels) -> PolarLayout:
        layout = self.layout(cube, kernels)
        usable = int((layout.area.sum(axis=1) > 0).sum())
        if usable <= _PARAMETERS:
            raise ParameterError(
                f"the window from {self.r_min:g} to {self.r_max:g} {self.units} has {usable} rings "
                f"on the detector, a fit needs more than {_PARAMETERS}: widen it or make step_px "
                "smaller"
            )
        return layout

    def step(self, plan: PolarLayout, tile: Tile, kernels: Kernels) -> Parts:
        rings = kernels.ring_moments(tile.frames, plan.plan, plan.local(tile))
        known = np.isfinite(rings.mean) & (rings.weight > 0)
        mean = np.where(known, rings.mean, 0.0)
        pixels = mean if self.noise == "counts" else np.where(known, rings.variance, 0.0)
        # A ring without counts is not known exactly.
        floor = _LEAST_SHARE * pixels.max(axis=1, keepdims=True) + 1e-300
        variance = np.maximum(pixels, floor) / np.where(known, rings.weight, 1.0)
        middle = float(plan.r_px.mean())
        t = _effective_radius(plan.r_px, self.step_px) - middle
        fit = _fit(t, mean, np.where(known, 1 / variance, 0.0), self.shape)
        # Rings that share pixels are alike: their residuals scatter less, but a smooth model takes
        # as much of it as it would of independent ones.
        alike = float(plan.squares.sum() / plan.area.sum())
        free = np.maximum(alike * known.sum(axis=1) - _PARAMETERS, 1.0)
        return _named(replace(fit, chi2=fit.chi2 / free), middle)

    def finish(self, cube: Cube, plan: PolarLayout, parts: Parts, history: History) -> RingFitMap:
        step = plan.r_axis.step / self.step_px
        pixel = Axis("q", step, 0.0, plan.r_axis.unit)
        return RingFitMap(**parts, pixel=pixel, calibration=cube.calibration, history=history)


def _effective_radius(r_px: Float, step_px: float) -> Float:
    """Where a smooth profile has its mean over a ring of pixels.

    A ring is larger outside than inside, which moves the mean by step²/12r; a pixel shared between
    rings blurs a circle, which shrinks it by 1/24r.
    """
    return r_px + (step_px**2 / 12 + 1 / 24) / np.maximum(r_px, 1.0)


# ---- the fit -------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Fit:
    """Parameters (n, 5), their covariance (n, 5, 5), χ² (n,); NaN where there is none."""

    parameters: Float
    covariance: Float
    chi2: Float


def _model(t: Float, p: Float, shape: Shape) -> tuple[Float, Float]:
    """Profiles (n, m) and their derivatives (n, 5, m)."""
    r0, w, h, b, slope = (p[:, k, None] for k in range(_PARAMETERS))
    u = (t - r0) / w
    if shape == "gaussian":
        peak = np.exp(-0.5 * u**2)
        steep = -u * peak
    else:
        peak = 1 / (1 + u**2)
        steep = -2 * u * peak**2
    basis = np.stack(
        [-h * steep / w, -h * steep * u / w, peak, np.ones_like(u), np.broadcast_to(t, u.shape)],
        axis=1,
    )
    return h * peak + b + slope * t, basis


def _start(t: Float, data: Float, weight: Float) -> Float:
    """A line between the ends of the window, and the peak by the moments of what is above it."""
    line = np.stack([np.ones_like(t), t])
    ends = weight * (np.abs(t) > 0.6 * np.abs(t).max())
    normal = np.einsum("im,nm,jm->nij", line, ends, line)
    normal += 1e-9 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(2) + 1e-300
    level = np.linalg.solve(normal, np.einsum("im,nm->ni", line, ends * data)[..., None])[..., 0]
    above = np.where(weight > 0, np.maximum(data - level @ line, 0.0), 0.0)
    top = np.argmax(above, axis=1)
    height = np.maximum(above.max(axis=1), 1e-300)
    inside = np.where(above > 0.3 * height[:, None], above, 0.0)
    total = np.maximum(inside.sum(axis=1), 1e-300)
    step = (t[-1] - t[0]) / (len(t) - 1)
    spread = np.sqrt((inside * (t - t[top][:, None]) ** 2).sum(axis=1) / total)
    width = np.clip(spread, step, (t[-1] - t[0]) / 2)
    return np.stack([t[top], width, height, level[:, 0], level[:, 1]], axis=1)


def _fit(t: Float, data: Float, weight: Float, shape: Shape) -> _Fit:
    """All patterns at once, each with a damping of its own."""
    p = _start(t, data, weight)
    damping = np.full(len(p), 1e-3)
    cost, normal, score = _normal(t, data, weight, p, shape)
    settled = np.zeros(len(p), bool)
    for _ in range(_ROUNDS):
        step = _damped_step(normal, score, damping)
        trial = p + step
        trial[:, 1] = np.abs(trial[:, 1])
        new_cost, new_normal, new_score = _normal(t, data, weight, trial, shape)
        better = (new_cost <= cost) & ~settled & np.isfinite(trial).all(axis=1)
        sigma = _sigma(normal)
        small = (np.abs(step) <= _SETTLED * sigma).all(axis=1)
        p = np.where(better[:, None], trial, p)
        cost = np.where(better, new_cost, cost)
        normal = np.where(better[:, None, None], new_normal, normal)
        score = np.where(better[:, None], new_score, score)
        damping = np.clip(np.where(better, damping / 5, damping * 8), 1e-12, 1e12)
        settled |= small
        if settled.all():
            break
    return _judged(t, data, weight, p, (cost, normal, settled))


def _normal(
    t: Float, data: Float, weight: Float, p: Float, shape: Shape
) -> tuple[Float, Float, Float]:
    """χ² (n,), normal matrices (n, 5, 5) and scores (n, 5)."""
    with np.errstate(all="ignore"):  # a step that goes astray is not taken
        model, basis = _model(t, p, shape)
        left = data - model
        cost = np.einsum("nm,nm->n", weight, left**2)
        weighted = basis * weight[:, None]
        normal = np.einsum("nim,njm->nij", weighted, basis)
        score = np.einsum("nim,nm->ni", weighted, left)
    return np.where(np.isfinite(cost), cost, np.inf), normal, score


def _damped_step(normal: Float, score: Float, damping: Float) -> Float:
    scale = np.sqrt(np.diagonal(normal, axis1=1, axis2=2))
    usable: NDArray[np.bool_] = np.asarray(
        np.isfinite(normal).all(axis=(1, 2)) & (scale > 0).all(axis=1)
    )
    step = np.zeros_like(score)
    outer = scale[usable, :, None] * scale[usable, None, :]
    scaled = normal[usable] / outer + (damping[usable, None, None] + 1e-14) * np.eye(_PARAMETERS)
    found = np.linalg.solve(scaled, (score[usable] / scale[usable])[..., None])[..., 0]
    step[usable] = found / scale[usable]
    return step


def _sigma(normal: Float) -> Float:
    """Standard deviations if the other parameters were known: a scale for steps."""
    diagonal = np.diagonal(normal, axis1=1, axis2=2)
    sigma: Float = 1 / np.sqrt(np.maximum(diagonal, 1e-300))
    return sigma


def _judged(
    t: Float,
    data: Float,
    weight: Float,
    p: Float,
    end: tuple[Float, Float, NDArray[np.bool_]],
) -> _Fit:
    """Without what is no ring within the window, or is not known at all."""
    cost, normal, settled = end
    used = (weight > 0).sum(axis=1)
    covariance = _inverse(normal)
    inside = (p[:, 0] > t[0]) & (p[:, 0] < t[-1])
    wide = p[:, 1] > _MOST_WIDE * (t[-1] - t[0])
    sigma_h = np.sqrt(covariance[:, 2, 2])
    good: NDArray[np.bool_] = np.asarray(
        settled & inside & ~wide & (p[:, 2] > _LEAST_HEIGHT * sigma_h) & (used > _PARAMETERS)
        & (data * (weight > 0)).any(axis=1)
    )  # fmt: skip
    return _Fit(
        np.where(good[:, None], p, np.nan),
        np.where(good[:, None, None], covariance, np.nan),
        np.where(good, cost, np.nan),
    )


def _inverse(normal: Float) -> Float:
    """Inverse of each matrix; NaN where it is singular."""
    scale = np.sqrt(np.diagonal(normal, axis1=1, axis2=2))
    usable: NDArray[np.bool_] = np.asarray(
        np.isfinite(normal).all(axis=(1, 2)) & (scale > 0).all(axis=1)
    )
    inverse = np.full_like(normal, np.nan)
    outer = scale[usable, :, None] * scale[usable, None, :]
    scaled = normal[usable] / outer
    good = np.linalg.cond(scaled) < 1e12
    inverse[np.flatnonzero(usable)[good]] = np.linalg.inv(scaled[good]) / outer[good]
    return inverse


def _named(fit: _Fit, middle: float) -> Parts:
    """The background is that below the peak, not in the middle of the window."""
    r0, w, h, b, slope = fit.parameters.T
    covariance = fit.covariance
    sigma = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2))
    at = np.stack([slope, np.zeros_like(b), np.zeros_like(b), np.ones_like(b), r0], axis=1)
    level = np.sqrt(np.einsum("ni,nij,nj->n", at, covariance, at))
    return {
        "radius_px": r0 + middle, "width_px": w, "height": h, "background": b + slope * r0,
        "sigma_radius_px": sigma[:, 0], "sigma_width_px": sigma[:, 1], "sigma_height": sigma[:, 2],
        "sigma_background": level, "chi2": fit.chi2,
    }  # fmt: skip


def fit_rings(
    cube: Cube,
    r_min: float,
    r_max: float,
    *,
    units: Units = "px",
    step_px: float = 1.0,
    shape: Shape = "gaussian",
    noise: Noise = "counts",
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    origin_parts: int = 8,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RingFitMap:
    """Radius, width and height of a ring at every scan position, with uncertainties.

    Parameters
    ----------
    cube : DataCube
    r_min, r_max : float
        Window around the ring, in `units`, with some background on both sides.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Unit of `r_min` and `r_max`.
    step_px : float
        Width of the rings of the profile in detector pixels.
    shape : "gaussian" or "lorentzian"
        Of the peak.
    noise : "counts" or "scatter"
        Variance of a pixel: its expected value (one count per electron), or the scatter of the
        pixels of its ring, which holds speckles too and any gain.
    center : (float, float), optional
        Origin (qx, qy) in pixels; None: as calibrated, for each position where it varies.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    follow_origin : bool, optional
        Whether to use the origin of each position; None: where the calibration holds one.
    origin_parts : int
        Origins of positions are rounded to so many parts of a pixel.
    where : (Rx, Ry) bool, optional
        Positions to fit; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    RingFitMap
        ``.radius_px .width_px .height .background`` with their sigmas, (Rx, Ry) each, NaN where
        there is no ring; ``.radius`` and ``.width`` calibrated; ``.strain(reference)``.

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.
    ParameterError
        The window is empty, beyond the detector, or has too few rings for a fit.

    Notes
    -----
    ``I(r) = h p((r − r0)/w) + b + s (r − r_middle)``, ``p = exp(−u²/2)`` or ``1/(1 + u²)``, by
    weighted least squares of the means of rings.  The width is that on the detector, widened by the
    rings and pixels themselves (its square by about ``(step_px² + 1)/12``).  An origin that is off
    by d widens the ring by about d/√2, and moves its radius by d²/4r only.  Patterns without
    counts, with a peak of less than three standard deviations or beyond the window, or whose fit
    did not settle are NaN.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> r = np.hypot(*(np.indices((64, 60)) - 30.2))
    >>> ring = np.exp(-(((r - 18) / 2) ** 2) / 2) * 400 + 20
    >>> cube = DataCube(np.random.default_rng(0).poisson(ring, (2, 3, 64, 60)))
    >>> fits = fit_rings(cube, 10, 26, center=(30.2, 30.2))
    >>> bool((abs(fits.radius_px - 18) < 5 * fits.sigma_radius_px + 0.02).all())
    True
    """
    operation = FitRings(
        r_min=r_min,
        r_max=r_max,
        units=units,
        step_px=step_px,
        shape=shape,
        noise=noise,
        center=center,
        mask=as_detector(mask),
        follow_origin=follow_origin,
        origin_parts=origin_parts,
    )
    result: RingFitMap = run(operation, cube, where=where, options=options)
    return result
