"""Elliptic distortion of the detector plane, from rings or from Bragg peaks of many grains."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import SolveError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.calibrate.dspacings import (
    Reference,
    ReferenceModel,
    plain_reference,
    reference_lines,
)
from py4DSTEM.process.calibrate.indexing import known_rings
from py4DSTEM.process.calibrate.ringfit import Lines, RingFit, fit_rings
from py4DSTEM.process.calibrate.rings import SECTORS, Distortion, FoundRings, RingPixels, Rings
from py4DSTEM.process.calibrate.ringsource import RingSource, ring_source
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["EllipseMeasurement", "MeasureEllipse", "measure_ellipse"]

Float = NDArray[np.float64]
Method = Literal["auto", "rings", "amorphous"]
BROAD = 0.13
"""Full width over radius, of the relatively sharpest ring, above which rings are of a glass."""
SPOTTY = 0.3
"""Relative variation along a broad ring above which it is one of grains, not of a glass."""
LARGEST_SIGMA = 0.05
"""A ratio less certain than this was not measured."""
LARGEST_RATIO = 1.3
"""Of a / b; what looks more elliptical is no ring."""


@dataclass(frozen=True, eq=False)
class EllipseMeasurement:
    """A measured elliptic distortion.

    Parameters
    ----------
    ellipse : Ellipse
        Semi-axes `a` ≥ `b` (px) of the strongest ring, and the direction of `a` from x (rad).
    center : (float, float)
        Of the rings, raw detector pixels; for peaks relative to the origins of their calibration.
    sigma_ratio, sigma_theta_rad : float
        One-sigma uncertainties of ``a / b`` and of the direction.
    sigma_center : (float, float)
    covariance : (4, 4) float64
        Of center x, y and (p, q) = ln(a / b) / 2 · (cos 2θ, sin 2θ), which is Gaussian also where
        the ratio is so near one that the direction is not known.
    radii_px, widths_px : (k,) float64
        Rings used: geometric means of the semi-axes, and full widths at half height.
    residual : float
        Root mean square of what the model leaves: in units of the expected noise for pixels (near
        1), in pixels of radius for peaks.
    inflation : float
        Factor by which neighbouring residuals that are not independent (spotty rings) have
        increased the variances.
    method : str
        ``"rings"``, ``"amorphous"`` or ``"peaks"``.
    profile : (3, n) float64
        For a look: radius (px), mean intensity before, and after the correction.
    """

    ellipse: Ellipse
    center: tuple[float, float]
    sigma_ratio: float
    sigma_theta_rad: float
    sigma_center: tuple[float, float]
    covariance: Float
    radii_px: Float
    widths_px: Float
    residual: float
    inflation: float
    method: str
    profile: Float
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "ellipse"

    @property
    def ratio(self) -> float:
        """a / b, at least 1."""
        return self.ellipse.a / self.ellipse.b

    def calibration_changes(self) -> dict[str, Any]:
        """The ellipse, for `with_calibration`."""
        return {"ellipse": self.ellipse}

    def __repr__(self) -> str:
        return f"<EllipseMeasurement {self._values()}>"

    def _values(self) -> str:
        theta, sigma = math.degrees(self.ellipse.theta_rad), math.degrees(self.sigma_theta_rad)
        return (
            f"a/b {self.ratio:.5f} ± {self.sigma_ratio:.5f}, "
            f"theta {theta:.2f} ± {sigma:.2f}°, {len(self.radii_px)} rings ({self.method})"
        )

    def text(self) -> str:
        """A few lines for a terminal."""
        (x, y), (sx, sy) = self.center, self.sigma_center
        rings = ", ".join(f"{r:.2f}" for r in self.radii_px)
        return (
            f"ellipse    {self._values()}\n"
            f"center     ({x:.3f} ± {sx:.3f}, {y:.3f} ± {sy:.3f}) px\n"
            f"rings      {rings} px\n"
            f"residual   {self.residual:.3g}, variance inflated {self.inflation:.2f} times"
        )


def _to_parts(result: EllipseMeasurement) -> dict[str, Any]:
    ellipse = result.ellipse
    return {
        **{name: getattr(result, name) for name in result.__dataclass_fields__},
        "ellipse": [ellipse.a, ellipse.b, ellipse.theta_rad],
        "center": list(result.center),
        "sigma_center": list(result.sigma_center),
        "history": result.history.to_dict(),
    }


def _from_parts(parts: Mapping[str, Any]) -> EllipseMeasurement:
    return EllipseMeasurement(
        **{
            **parts,
            "ellipse": Ellipse(*parts["ellipse"]),
            "center": tuple(parts["center"]),
            "sigma_center": tuple(parts["sigma_center"]),
            "history": History.from_dict(parts["history"]),
        }
    )


register_result("ellipse-measurement", EllipseMeasurement, _to_parts, _from_parts)


class MeasureEllipse(Analysis, kind="measure-ellipse", version=1):
    """Measure the elliptic distortion of a ring pattern or of Bragg peaks."""

    center: tuple[float, float] | None = Field(
        None, description="Centre (qx, qy) in px, held; None: fitted."
    )
    inner_px: float | None = Field(None, ge=0, description="Smallest radius to look at.")
    outer_px: float | None = Field(None, gt=0, description="Largest radius to look at.")
    method: Method = Field("auto", description="Sharp rings, or one broad ring of a glass.")
    reference: ReferenceModel | None = Field(
        None, description="The crystal, as for measure_pixel_size; None: rings of any radii."
    )

    accepts: ClassVar[tuple[type, ...]] = (Cube, DiffractionSlice, PointTable)

    def apply(
        self, value: Cube | DiffractionSlice | PointTable, options: RunOptions | None = None
    ) -> EllipseMeasurement:
        self.check(value)
        source = ring_source(
            value,
            center=self.center,
            inner_px=self.inner_px,
            outer_px=self.outer_px,
            corrected=False,
            options=options,
        )
        start, found = source.found
        if self.reference is not None:
            known = known_rings(source, start, found, reference_lines(self.reference))
            data, lines = known.data, known.lines
        else:
            data, lines = _lines(source, start, found, self.method)
        fit, history = fit_rings(data, start, lines), self.history(source.history)
        if isinstance(data, RingPixels):
            return _measurement(source, fit, "amorphous" if lines.broad else "rings", history)
        return _measurement(source, fit, "peaks", history)


def _lines(
    source: RingSource, start: Distortion, found: FoundRings, method: Method
) -> tuple[Rings, Lines]:
    """What to fit, and to which values."""
    best = int(found.heights.argmax())
    if isinstance(source.data, RingPixels):
        clear = found.heights > 0.1 * found.heights[best]
        wide = (found.widths / found.radii)[clear].min() > BROAD
        smooth = wide and _texture(source.data, start, found, best) < SPOTTY
        if method == "amorphous" or (method == "auto" and smooth):
            return _one_broad(source, start, found, best)
    fix = (0, 1) if source.fixed_center else ()
    radii, width = found.radii, float(np.median(found.widths))
    lines = Lines(radii, np.arange(len(radii)), width, fix=fix)
    low = max(source.inner, found.inner, radii[0] - 3 * found.widths[0])
    high = min(source.outer, found.outer, radii[-1] + 3 * found.widths[-1])
    return source.data.between(start, low, high), lines


def _texture(data: RingPixels, start: Distortion, found: FoundRings, ring: int) -> float:
    """Relative standard deviation of the mean intensity of sectors of a ring."""
    radius, half = found.radii[ring], found.widths[ring] / 2
    near = data.between(start, radius - half, radius + half)
    azimuth = np.arctan2(*start.undistorted(near.xy).T[::-1]) / (2 * math.pi) + 0.5
    sector = (azimuth * SECTORS).astype(np.int64) % SECTORS
    total, pixels = np.bincount(sector, near.counts), np.bincount(sector)
    mean = total[pixels > 0] / pixels[pixels > 0]
    return float(mean.std() / mean.mean()) if mean.mean() > 0 else math.inf


def _one_broad(
    source: RingSource, start: Distortion, found: FoundRings, best: int
) -> tuple[Rings, Lines]:
    """The strongest ring alone, as far as the next one."""
    radius, width = found.radii[best], found.widths[best]
    low, high = max(source.inner, found.inner, radius - 1.3 * width), radius + 1.3 * width
    if best + 1 < len(found.radii):
        high = min(high, (radius + found.radii[best + 1]) / 2)
    lines = Lines(
        np.array([radius]),
        np.zeros(1, np.int64),
        float(width),
        broad=True,
        fix=(0, 1) if source.fixed_center else (),
    )
    return source.data.between(start, low, min(high, source.outer, found.outer)), lines


def _measurement(
    source: RingSource, fit: RingFit, method: str, history: History
) -> EllipseMeasurement:
    distortion, covariance = fit.distortion, fit.covariance[:4, :4]
    h = max(distortion.log_stretch, 1e-12)
    along = np.array([distortion.p, distortion.q]) / h
    across = np.array([-along[1], along[0]])
    sigma_h = math.sqrt(along @ covariance[2:, 2:] @ along)
    sigma_turn = math.sqrt(across @ covariance[2:, 2:] @ across) / (2 * h)
    sigma_ratio = 2 * distortion.ratio * sigma_h
    if distortion.ratio > LARGEST_RATIO:
        raise SolveError(
            f"what was taken for rings would need a / b = {distortion.ratio:.3g}, more than any "
            "lens distorts: the pattern may show no rings (a single crystal?), or the center is "
            "wrong; give center= and inner_px=, outer_px= around the rings"
        )
    if not sigma_ratio < LARGEST_SIGMA:
        raise SolveError(
            f"the rings do not determine an ellipse (a / b is uncertain by {sigma_ratio:.2g}): "
            "use more patterns, or rings that reach all around the centre"
        )
    strongest = float(fit.radii[fit.strengths.argmax()])
    return EllipseMeasurement(
        distortion.ellipse(strongest),
        (distortion.cx, distortion.cy),
        sigma_ratio,
        min(sigma_turn, math.pi / math.sqrt(12)),  # that of a direction not known at all
        (math.sqrt(covariance[0, 0]), math.sqrt(covariance[1, 1])),
        covariance,
        fit.radii,
        fit.widths,
        fit.residual,
        fit.inflation,
        method,
        _profiles(source.data, distortion, float(fit.radii[-1] + 3 * fit.widths[-1])),
        source.calibration,
        history,
    )


def _profiles(data: Rings, distortion: Distortion, outer: float) -> Float:
    """Radius and the mean intensity there, before and after the correction, (3, n)."""
    circle = Distortion(distortion.cx, distortion.cy)
    before, after = data.profile(circle, 0.5), data.profile(distortion, 0.5)
    size = min(len(before.radius), len(after.radius), int(outer / 0.5) + 1)
    return np.stack([after.radius[:size], before.mean[:size], after.mean[:size]])


def measure_ellipse(
    source: Cube | DiffractionSlice | PointTable | ArrayLike,
    *,
    center: tuple[float, float] | None = None,
    inner_px: float | None = None,
    outer_px: float | None = None,
    method: Method = "auto",
    reference: Reference | None = None,
    options: RunOptions | None = None,
) -> EllipseMeasurement:
    """Measure the elliptic distortion of the detector plane.

    Parameters
    ----------
    source : DataCube, DiffractionSlice, (Qx, Qy) array, BraggPeaks or PointTable
        A pattern with rings (a cube: its mean pattern), or the peaks of many grains, which lie on
        rings.
    center : (float, float), optional
        Centre (qx, qy) in raw detector pixels, held (for peaks of a calibrated scan: relative to
        their origins); None: fitted.
    inner_px, outer_px : float, optional
        Radii between which rings are looked for; None: outside the direct beam, and as far as at
        least a quarter of a ring lies on the detector.
    method : "auto", "rings" or "amorphous"
        Sharp rings, all fitted together, each with an intensity of its own in every sector of the
        pattern (so that spotty rings of few grains do not pull), or the strongest broad ring as a
        two-sided Gaussian on a smooth background.  Peaks need no choice.
    reference : str, mapping or sequence of float, optional
        The crystal, as for `measure_pixel_size`: all its lines are fitted, also those that are not
        resolved, which bias an ellipse where rings are spotty; a calibrated pixel size helps to
        index them.  None: rings at any radii.
    options : RunOptions, optional
        For the mean pattern of a cube.

    Returns
    -------
    EllipseMeasurement
        ``.ellipse``, ``.center`` with uncertainties; ``with_calibration(ellipse=...)`` takes it.

    Raises
    ------
    SolveError
        There are no rings, or they do not determine an ellipse.
    ParameterError, ShapeError
        `source` or a parameter makes no sense.

    Notes
    -----
    An offset d from the centre has the undistorted radius ``r = |W d|`` with
    ``W = exp(-[[p, q], [q, -p]])``, ``(p, q) = ln(a / b) / 2 · (cos 2θ, sin 2θ)``; all rings share
    it.  A ring is ``sqrt(R / r) exp(-|(r - R) / w|^β / 2)``, the first factor because a blurred
    ring is brighter inside.  Linear intensities are eliminated
    (doi:10.1007/BF01932995); the two-sided Gaussian is that of doi:10.1017/S1431927619015174.
    Residuals that are not independent (spots) are allowed for in the uncertainties.

    The correction in `Calibration` keeps the small semi-axis and shrinks the large one to it:
    measure the pixel size after the ellipse.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM.core.calibration import Ellipse
    >>> x, y = np.indices((64, 64)) - np.array([31.0, 32.5])[:, None, None]
    >>> t = Ellipse(1.04, 1.0, 0.5).correction()
    >>> r = np.hypot(t[0, 0] * x + t[0, 1] * y, t[1, 0] * x + t[1, 1] * y)
    >>> pattern = np.random.default_rng(0).poisson(5 + 200 * np.exp(-(((r - 20) / 1.5) ** 2)))
    >>> found = measure_ellipse(pattern)
    >>> round(found.ratio, 2), round(found.ellipse.theta_rad, 1)
    (1.04, 0.5)
    """
    analysis = MeasureEllipse(
        center=center,
        inner_px=inner_px,
        outer_px=outer_px,
        method=method,
        reference=None if reference is None else plain_reference(reference),
    )
    if not isinstance(source, Cube | PointTable | DiffractionSlice):
        source = DiffractionSlice(np.asarray(source))
    return analysis.apply(source, options)
