"""Strain from the shape of an amorphous ring in every pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Mask
from py4DSTEM.core.history import History
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.radial import mean_radial_profile
from py4DSTEM.process.strain import StrainMap
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["RingFitResult", "RingFits", "RingStrain", "ring_strain"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
_STEP_PX = 0.5  # of the table of the ring's profile
_MARGIN = 0.15  # of the radii: a strained ring is looked up beyond its own edges
_BATCH = 1  # patterns fitted at once: their scratch stays in the cache, each ends when it is done
_ROUNDS = 15
_SECTORS = 16  # pairs of opposite ones: speckles are alike in both
_PARAMETERS = 7  # amplitude, background, e_xx, e_yy, e_xy, shift x, shift y
_EVEN_PARAMETERS = 5  # all but the shift: those that a pair of opposite sectors tells about
_LARGEST = 0.2
_SETTLED = 0.1  # of the uncertainty by counting, which is the least there is
_STILL = 1e-3  # of the same: a step that ends the fit
_WORST_CONDITION = 1e10


@dataclass(frozen=True, eq=False)
class _Plan:
    """Pixels near the ring, and how the detector maps to calibrated axes."""

    pixels: tuple[NDArray[np.intp], NDArray[np.intp]]
    places: Float
    origins: Float
    axes: Float
    profile: Float
    slope: Float


@dataclass(frozen=True, eq=False)
class RingFitResult:
    """A ring fitted to every pattern.

    Parameters
    ----------
    strain : (Rx, Ry, 3) float64
        e_xx, e_yy, e_xy against the profile, calibrated axes; NaN where the fit failed.
    covariance : (Rx, Ry, 3, 3) float64
        By counting alone.
    inflation : (Rx, Ry, 3) float64
        Variance by the scatter of sectors over that by counting.
    """

    strain: Float
    covariance: Float
    inflation: Float
    calibration: Calibration
    history: History
    name: str = "ring fits"


register_result("ring-fits", RingFitResult)


class RingFits(Operation, kind="ring-fits", version=1):
    """Fit a ring of known profile, distorted by a strain, to each pattern.

    ``I(q) = a p(|(1 + e)(q − δ)|) + b`` by weighted least squares (Gauss-Newton) with amplitude a,
    background b, strain e and displacement δ.
    """

    profile: tuple[float, ...] = Field(
        min_length=4, description="Mean intensity against radius, from 0 in steps of step_px."
    )
    step_px: float = Field(_STEP_PX, gt=0, description="Step of the profile in detector pixels.")
    inner_px: float = Field(gt=0, description="Inner edge of the ring in detector pixels.")
    outer_px: float = Field(gt=0, description="Outer edge of the ring in detector pixels.")
    mask: AnyDetector | None = Field(None, description="Pixels that count: weight >= 1/2.")

    outputs: ClassVar[Mapping[str, Output]] = {
        "strain": PerScan(np.float64),
        "covariance": PerScan(np.float64),
        "inflation": PerScan(np.float64),
    }

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        profile = tuple(5 + 20 * math.exp(-((r / 2 - 5) ** 2) / 4) for r in range(40))
        return [cls(profile=profile, inner_px=2.0, outer_px=8.0)]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        calibration = cube.calibration
        origins = np.asarray(calibration.origins(cube.R_shape))
        mean = np.array(calibration.mean_origin_px)
        axes = _unit_axes(calibration)
        keep = np.ones(cube.Q_shape, bool)
        if self.mask is not None:
            keep = self.mask.weights(cube.Q_shape, calibration) >= 0.5
        reach = np.nanmax(np.linalg.norm(origins - mean, axis=-1)) * np.linalg.norm(axes, 2)
        places = np.moveaxis(np.indices(cube.Q_shape, dtype=np.float64), 0, -1)
        radius = np.linalg.norm((places - mean) @ axes.T, axis=-1)
        near = keep & (radius > self.inner_px - reach) & (radius < self.outer_px + reach)
        if near.sum() < 10 * _PARAMETERS:
            raise ParameterError(
                f"the ring from {self.inner_px} to {self.outer_px} px has {near.sum()} usable "
                "pixels, too few for a fit: check the radii, the origin and the mask"
            )
        profile = np.asarray(self.profile)
        slope = np.gradient(profile, self.step_px)
        rows, columns = np.nonzero(near)
        return _Plan((rows, columns), places[near], origins, axes, profile, slope)

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        origins = tile.local(plan.origins)
        frames = tile.frames[:, plan.pixels[0], plan.pixels[1]]
        fits = [
            self._fit(plan, frames[i : i + _BATCH].astype(np.float64), origins[i : i + _BATCH])
            for i in range(0, len(frames), _BATCH)
        ]
        strain, covariance, inflation = (np.concatenate(part) for part in zip(*fits, strict=True))
        return {"strain": strain, "covariance": covariance, "inflation": inflation}

    def _fit(self, plan: _Plan, data: Float, origins: Float) -> tuple[Float, Float, Float]:
        """Strain (n, 3), covariance (n, 3, 3) by counting, and variance above that (n, 3)."""
        q = (plan.places[None] - origins[:, None]) @ plan.axes.T
        radius = np.linalg.norm(q, axis=-1)
        weight = (radius >= self.inner_px) & (radius <= self.outer_px) & np.isfinite(data)
        data = np.where(weight, data, 0.0)
        q = np.where(weight[..., None], q, 0.0)  # a position without an origin has no ring
        fit = np.zeros((len(data), _PARAMETERS))
        fit[:, 0] = _ratio(data, np.where(weight, self._at(plan.profile, radius), 0.0))
        for _ in range(_ROUNDS):
            model, basis = self._model(plan, q, fit)
            variance = np.maximum(model, 0.05 * model.max(axis=1, keepdims=True) + 1e-12)
            w = weight / variance
            normal = np.einsum("nip,nqp->niq", basis * w[:, None], basis)
            score = np.einsum("nip,np->ni", basis, w * (data - model))
            inverse = _inverse(normal)
            change = np.einsum("nij,nj->ni", inverse, score)
            fit = fit + np.where(np.isfinite(change), change, np.nan)
            counting = np.sqrt(np.diagonal(inverse, axis1=1, axis2=2))
            # Of nothing known, no step is larger than anything: a hopeless fit ends here too.
            if not (np.abs(change) > _STILL * counting).any():
                break
        settled = (np.abs(change[:, 2:5]) < _SETTLED * counting[:, 2:5]).all(axis=1)
        usable = settled & (np.abs(fit[:, 2:5]).max(axis=1) < _LARGEST) & (fit[:, 0] > 0)
        scores = _sector_scores(q, basis, w * (data - model))
        robust = inverse @ scores @ inverse
        inflation = np.diagonal(robust, axis1=1, axis2=2) / np.diagonal(inverse, axis1=1, axis2=2)
        fit[~usable] = np.nan
        return fit[:, 2:5], inverse[:, 2:5, 2:5], inflation[:, 2:5]

    def _model(self, plan: _Plan, q: Float, fit: Float) -> tuple[Float, Float]:
        """Intensity (n, pixels) and its derivatives (n, parameters, pixels)."""
        a, b, e_xx, e_yy, e_xy, shift_x, shift_y = (c[:, None] for c in fit.T)
        x, y = q[..., 0] - shift_x, q[..., 1] - shift_y
        gx, gy = x + e_xx * x + e_xy * y, y + e_xy * x + e_yy * y
        radius = np.maximum(np.hypot(gx, gy), 1e-9)
        ring, steep = self._at(plan.profile, radius), a * self._at(plan.slope, radius) / radius
        basis = np.stack(
            [
                ring,
                np.ones_like(ring),
                steep * gx * x,
                steep * gy * y,
                steep * (gx * y + gy * x),
                -steep * (gx * (1 + e_xx) + gy * e_xy),
                -steep * (gy * (1 + e_yy) + gx * e_xy),
            ],
            axis=1,
        )
        return a * ring + b, basis

    def _at(self, table: Float, radius: Float) -> Float:
        """Linear interpolation of a table over the radius."""
        place = np.nan_to_num(radius / self.step_px)
        index = np.clip(place.astype(np.intp), 0, len(table) - 2)
        share = np.clip(place - index, 0, 1)
        value: Float = table[index] * (1 - share) + table[index + 1] * share
        return value

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> RingFitResult:
        return RingFitResult(**parts, calibration=cube.calibration, history=history)


def _ratio(data: Float, profile: Float) -> Float:
    total = profile.sum(axis=1)
    ratio: Float = np.divide(data.sum(axis=1), total, out=np.zeros(len(data)), where=total > 0)
    return ratio


def _inverse(normal: Float) -> Float:
    """Inverse of each matrix, scaled to a unit diagonal meanwhile; NaN where it is singular."""
    scale = np.sqrt(np.diagonal(normal, axis1=1, axis2=2))
    usable: Bool = np.asarray(np.isfinite(normal).all(axis=(1, 2)) & (scale > 0).all(axis=1))
    inverse = np.full_like(normal, np.nan)
    outer = scale[usable, :, None] * scale[usable, None, :]
    scaled = normal[usable] / outer
    good = np.linalg.cond(scaled) < _WORST_CONDITION
    inverse[np.flatnonzero(usable)[good]] = np.linalg.inv(scaled[good]) / outer[good]
    return inverse


def _sector_scores(q: Float, basis: Float, residual: Float) -> Float:
    """Sum over sectors of the outer product of their scores, (n, parameters, parameters).

    Speckles make neighbouring pixels err together, and opposite ones too; pairs of opposite sectors
    are independent of one another.
    """
    turn = np.arctan2(q[..., 1], q[..., 0]) % np.pi
    sector = np.minimum((turn * (_SECTORS / np.pi)).astype(np.intp), _SECTORS - 1)
    place = (np.arange(len(q))[:, None] * _SECTORS + sector).ravel()
    size = len(q) * _SECTORS
    sums = [np.bincount(place, (b * residual).ravel(), size) for b in np.moveaxis(basis, 1, 0)]
    scores = np.stack(sums, axis=-1).reshape(len(q), _SECTORS, _PARAMETERS)
    total: Float = np.einsum("nsi,nsj->nij", scores, scores)
    return total * (_SECTORS / (_SECTORS - _EVEN_PARAMETERS))


def _unit_axes(calibration: Calibration) -> Float:
    """Matrix from detector offsets to calibrated axes, in pixels of the same area."""
    x, y = calibration.Q
    unit = x.unit if x.calibrated and x.unit == y.unit else "px"
    matrix = calibration.Q_matrix(unit)
    scaled: Float = matrix / math.sqrt(abs(float(np.linalg.det(matrix))))
    return scaled


class RingStrain(Analysis, kind="ring-strain", version=1):
    """Strain from the shape of an amorphous ring."""

    inner_px: float = Field(gt=0, description="Inner edge of the ring in detector pixels.")
    outer_px: float = Field(gt=0, description="Outer edge of the ring in detector pixels.")
    reference: tuple[tuple[bool, ...], ...] | None = Field(
        None, description="Scan positions that count as unstrained; None: all."
    )
    mask: AnyDetector | None = Field(None, description="Pixels that count: weight >= 1/2.")

    cites: ClassVar[tuple[str, ...]] = ("10.1038/nmat1266",)
    accepts: ClassVar[tuple[type, ...]] = (Cube,)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.inner_px < self.outer_px:
            raise ValueError("inner_px must be smaller than outer_px")
        return self

    def apply(self, value: Cube, options: RunOptions | None = None) -> StrainMap:
        self.check(value)
        if value.calibration.origin_px is None:
            raise CalibrationMissing(
                "origin", "measure_origin(cube) finds it; find_beam(cube) for a first look"
            )
        chosen = self._reference(value)
        ring = mean_radial_profile(
            value,
            step_px=_STEP_PX,
            r_max=self.outer_px * (1 + _MARGIN) + 2,
            mask=self.mask,
            where=chosen,
            options=options,
        )
        fits: RingFitResult = run(
            RingFits(
                profile=tuple(_filled(ring.data).tolist()),
                inner_px=self.inner_px,
                outer_px=self.outer_px,
                mask=self.mask,
            ),
            value,
            options=options,
        )
        return _strain_map(fits, chosen, self.history(value.history))

    def _reference(self, cube: Cube) -> Bool:
        if self.reference is None:
            return np.ones(cube.R_shape, bool)
        chosen = np.array(self.reference, bool)
        if chosen.shape != cube.R_shape:
            raise ShapeError(f"a reference of {chosen.shape} does not fit a scan of {cube.R_shape}")
        if not chosen.any():
            raise ParameterError("the reference holds no position")
        return chosen


def _filled(profile: Float) -> Float:
    """Rings without pixels filled from their neighbours."""
    known = np.isfinite(profile)
    if known.sum() < 4:
        raise ParameterError("the reference has no intensity in the ring: check origin and radii")
    radii = np.arange(len(profile))
    filled: Float = np.interp(radii, radii[known], profile[known])
    return filled


def _strain_map(fits: RingFitResult, chosen: Bool, history: History) -> StrainMap:
    """Strain less that of the reference, with the scatter of the sectors in its uncertainty."""
    strain, counting = fits.strain, fits.covariance
    mask: Bool = np.asarray(np.isfinite(strain).all(axis=-1))
    known = mask & chosen
    if not known.any():
        raise ParameterError(
            "no pattern of the reference could be fitted: check radii, origin and counts"
        )
    inflation = fits.inflation[mask].mean(axis=0)
    scale = np.sqrt(inflation)
    offset = np.median(strain[known], axis=0)
    covariance = np.full((*mask.shape, 4, 4), np.nan)
    covariance[..., :3, :3] = counting * scale[:, None] * scale
    covariance[~mask] = np.nan
    shared = np.zeros((4, 4))
    # A median of n values is known to sqrt(pi / 2n) of their spread.
    shared[:3, :3] = np.pi / 2 / known.sum() * covariance[known][:, :3, :3].mean(axis=0)
    e_xx, e_yy, e_xy = np.moveaxis(np.where(mask[..., None], strain - offset, np.nan), -1, 0)
    return StrainMap(
        e_xx=e_xx,
        e_yy=e_yy,
        e_xy=e_xy,
        theta=np.full(mask.shape, np.nan),
        covariance=covariance,
        mask=mask,
        reference=np.full((2, 2), np.nan),
        reference_covariance=shared,
        method="ring",
        calibration=fits.calibration,
        history=history,
        name="ring strain",
        report={
            "reference": f"median of {int(known.sum())} positions",
            "reference_strain": tuple(offset.tolist()),
            "variance_over_counting": tuple(inflation.tolist()),
            "left_out": {"not fitted": int((~mask).sum())},
        },
    )


def ring_strain(
    cube: Cube,
    inner_px: float,
    outer_px: float,
    *,
    reference: ArrayLike | None = None,
    mask: Detector | ArrayLike | None = None,
    options: RunOptions | None = None,
) -> StrainMap:
    """Strain of a glass from the ellipse that its ring becomes in every pattern.

    Parameters
    ----------
    cube : DataCube
        With an origin (to a pixel or two: the displacement is fitted along).
    inner_px, outer_px : float
        Edges of the ring in detector pixels, ellipse undone; both flanks belong inside.
    reference : (Rx, Ry) bool, optional
        Positions that count as unstrained; None: all, by their median.
    mask : Detector or (Qx, Qy) array, optional
        Detector pixels that count: those with a weight of at least one half.
    options : RunOptions, optional

    Returns
    -------
    StrainMap
        ``e_xx, e_yy, e_xy`` in calibrated axes, positive where distances are larger than in the
        reference (smaller rings); ``theta`` is NaN: a ring does not tell.  Positions that could not
        be fitted are masked and counted in ``report``.

    Raises
    ------
    CalibrationMissing
        There is no origin.
    ParameterError
        The ring has too few pixels, or no position of the reference could be fitted.
    ShapeError
        The reference has another shape than the scan.

    Notes
    -----
    ``I(q) = a p(|(1 + e)(q − δ)|) + b``, because ``g = (1 − e) g0``: p is the mean profile of the
    reference, and amplitude, background, displacement δ and strain e follow for each pattern by
    least squares weighted with the counts, with covariance in closed form.  Its variances are
    multiplied by what the scatter of the residuals in pairs of opposite sectors shows, in the
    mean over the scan: speckles of a glass are much more noise than the counts.

    The strain of the reference is subtracted, and with it an ellipse that is not calibrated.
    Poulsen et al., doi:10.1038/nmat1266.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> x, y = np.indices((48, 48)) - 24.0
    >>> def ring(e_xx):
    ...     return 100 * np.exp(-(np.hypot((1 + e_xx) * x, y) - 15) ** 2 / 8)
    >>> cube = DataCube(np.stack([[ring(0.0), ring(0.0), ring(0.02)]]))
    >>> strain = ring_strain(cube.with_calibration(origin_px=(24, 24)), 8, 22)
    >>> strain.e_xx.round(2).tolist()
    [[0.0, 0.0, 0.02]]
    """
    chosen = None
    if reference is not None:
        array = np.asarray(reference, bool)
        if array.ndim != 2:
            raise ShapeError(f"a reference is (Rx, Ry) bool, not of shape {array.shape}")
        chosen = tuple(map(tuple, array.tolist()))
    weights = mask if mask is None or isinstance(mask, Detector) else Mask(np.asarray(mask))
    analysis = RingStrain(inner_px=inner_px, outer_px=outer_px, reference=chosen, mask=weights)
    return analysis.apply(cube, options)
