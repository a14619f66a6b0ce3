"""Detector pixel size from rings or Bragg peaks of a known crystal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass, field, replace
from typing import Any, ClassVar

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
    ReferenceLines,
    ReferenceModel,
    plain_reference,
    reference_lines,
)
from py4DSTEM.process.calibrate.indexing import known_rings
from py4DSTEM.process.calibrate.ringfit import Lines, RingFit, fit_rings
from py4DSTEM.process.calibrate.ringsource import RingSource, ring_source
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["LINE_DTYPE", "MeasurePixelSize", "PixelSizeMeasurement", "measure_pixel_size"]

Float = NDArray[np.float64]
LINE_DTYPE = np.dtype(
    [
        ("d_A", "f8"),
        ("q_A", "f8"),
        ("radius_px", "f8"),
        ("sigma_px", "f8"),
        ("residual", "f8"),
        ("label", "U8"),
    ]
)
"""Fields of `PixelSizeMeasurement.lines`."""

WRONG = 0.01
"""Relative deviation of the rings (rms) above which they are not those of the reference."""


@dataclass(frozen=True, eq=False)
class PixelSizeMeasurement:
    """A measured detector pixel size.

    Parameters
    ----------
    pixel_size_A : (float, float)
        Along x and y in Å⁻¹, to be used after the ellipse correction of `calibration`.
    sigma_A : (float, float)
        One-sigma uncertainties, without that of the reference.
    lines : (k,) structured
        ``d_A``, ``q_A``: the reference; ``radius_px``, ``sigma_px``: the ring, fitted by itself,
        and its uncertainty (large where it is not resolved, infinite where nothing is there);
        ``residual``: relative deviation of the ring from the common fit; ``label``.
    residual : float
        Root mean square of the relative deviations, weighted with their uncertainties.
    chi2 : float
        Mean square of deviation over uncertainty: near 1 for the right reference; where it is
        larger, the uncertainties have been multiplied by its root.
    ratio : float
        What is left of an ellipse: large over small semi-axis of the corrected rings.
    sigma_ratio : float
    tilt2_A2 : float
        Mean square component of the scattering vectors along the beam (Å⁻²), found from how the
        rings shrink at small radius; 0 where it was not fitted.
    center : (float, float)
        Of the rings, raw detector pixels; for peaks relative to the origins of their calibration.
    reference : str
    inflation : float
        As in `EllipseMeasurement`.
    ellipse : Ellipse, optional
        The ellipse of the rings (detector pixels) where `calibration` had none and they are no
        circles: `calibration_changes` then gives it together with the pixel size that belongs to
        it.
    """

    pixel_size_A: tuple[float, float]
    sigma_A: tuple[float, float]
    lines: NDArray[np.void]
    residual: float
    chi2: float
    ratio: float
    sigma_ratio: float
    tilt2_A2: float
    center: tuple[float, float]
    reference: str
    inflation: float
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "pixel size"
    ellipse: Ellipse | None = None

    @property
    def value(self) -> float:
        """Pixel size in Å⁻¹; the geometric mean of those along x and y."""
        return math.sqrt(math.prod(self.pixel_size_A))

    @property
    def sigma(self) -> float:
        """One-sigma uncertainty of `value`, Å⁻¹ (as if x and y were independent)."""
        if self.pixel_size_A[0] == self.pixel_size_A[1]:
            return self.sigma_A[0]
        relative = [s / v for s, v in zip(self.sigma_A, self.pixel_size_A, strict=True)]
        return self.value * math.hypot(*relative) / 2

    @property
    def mean_size_A(self) -> float:
        """Pixel size that a distortion of determinant one would leave, Å⁻¹.

        The ellipse correction of a calibration shrinks the large semi-axis to the small one;
        where a distortion is described with its area kept, this is the pixel size.
        """
        ellipse = self.calibration.ellipse
        return self.value * (1.0 if ellipse is None else math.sqrt(ellipse.b / ellipse.a))

    def calibration_changes(self) -> dict[str, Any]:
        """Pixel size and unit, for `with_calibration`; with the ellipse where one was found.

        The ellipse correction keeps the small semi-axis, so that pixels become larger by
        ``sqrt(a / b)`` with it: the two are only right together.
        """
        x, y = self.pixel_size_A
        if self.ellipse is None:
            return {"Q_pixel_size": x if x == y else (x, y), "Q_pixel_units": "A^-1"}
        stretch = math.sqrt(self.ellipse.a / self.ellipse.b)
        return {
            "Q_pixel_size": x * stretch if x == y else (x * stretch, y * stretch),
            "Q_pixel_units": "A^-1",
            "ellipse": self.ellipse,
        }

    def __repr__(self) -> str:
        return f"<PixelSizeMeasurement {self._values()}>"

    def _values(self) -> str:
        sizes = zip(self.pixel_size_A, self.sigma_A, strict=True)
        texts = [f"{v:.6f} ± {s:.6f}" for v, s in sizes]
        value = texts[0] if texts[0] == texts[1] else " x ".join(texts)
        return f"{value} A^-1 ({self.reference}, {len(self.lines)} lines)"

    def text(self) -> str:
        """A few lines for a terminal, and the table of lines."""
        head = (
            f"pixel size {self._values()}\n"
            f"residual   {self.residual:.2e} relative, chi2 {self.chi2:.3g}\n"
            f"ellipse    a/b {self.ratio:.5f} ± {self.sigma_ratio:.5f} left\n"
            f"{'line':>8} {'d / A':>9} {'radius / px':>20} {'deviation':>10}"
        )
        rows = [
            f"{row['label'] or '-':>8} {row['d_A']:9.4f} {row['radius_px']:10.3f} ± "
            f"{row['sigma_px']:7.3f} {row['residual']:10.1e}"
            for row in self.lines
        ]
        return "\n".join([head, *rows])


def _to_parts(result: PixelSizeMeasurement) -> dict[str, Any]:
    lines = {name: result.lines[name] for name in LINE_DTYPE.names or () if name != "label"}
    return {
        **{name: getattr(result, name) for name in result.__dataclass_fields__},
        **{name: list(getattr(result, name)) for name in ("pixel_size_A", "sigma_A", "center")},
        "lines": np.stack(list(lines.values())),
        "labels": result.lines["label"].tolist(),
        "history": result.history.to_dict(),
        "ellipse": [] if result.ellipse is None else list(astuple(result.ellipse)),
    }


def _from_parts(parts: Mapping[str, Any]) -> PixelSizeMeasurement:
    values = dict(parts)
    values["ellipse"] = Ellipse(*values["ellipse"]) if len(values.get("ellipse", ())) else None
    lines = np.empty(values["lines"].shape[1], LINE_DTYPE)
    for name, column in zip(LINE_DTYPE.names or (), values["lines"], strict=False):
        lines[name] = column
    lines["label"] = values.pop("labels")
    pairs = {name: tuple(values[name]) for name in ("pixel_size_A", "sigma_A", "center")}
    history = History.from_dict(values["history"])
    return PixelSizeMeasurement(**{**values, **pairs, "lines": lines, "history": history})


register_result("pixel-size-measurement", PixelSizeMeasurement, _to_parts, _from_parts)


class MeasurePixelSize(Analysis, kind="measure-pixel-size", version=1):
    """Measure the detector pixel size with a known crystal."""

    reference: ReferenceModel = Field(
        description="Name of a standard, {a_A, centring}, {d_A} or {q_A}, or d spacings in A."
    )
    approximate: float | None = Field(
        None, gt=0, description="Pixel size in 1/A that is right within 15 %; None: anything."
    )
    per_axis: bool = Field(False, description="One pixel size along x, another along y.")
    center: tuple[float, float] | None = Field(
        None, description="Centre (qx, qy) in px, held; None: fitted."
    )
    inner_px: float | None = Field(None, ge=0, description="Smallest radius to look at.")
    outer_px: float | None = Field(None, gt=0, description="Largest radius to look at.")

    accepts: ClassVar[tuple[type, ...]] = (Cube, DiffractionSlice, PointTable)

    def apply(
        self, value: Cube | DiffractionSlice | PointTable, options: RunOptions | None = None
    ) -> PixelSizeMeasurement:
        self.check(value)
        reference = reference_lines(self.reference)
        source = ring_source(
            value,
            center=self.center,
            inner_px=self.inner_px,
            outer_px=self.outer_px,
            corrected=True,
            options=options,
        )
        start, found = source.found
        rings = known_rings(source, start, found, reference, self.approximate)
        lines = rings.lines
        if self.per_axis:
            lines = replace(lines, fix=(*lines.fix, 3))
        fit = fit_rings(rings.data, start, lines)
        history = self.history(source.history)
        measured = _measurement(source, fit, lines, rings.reference, self.per_axis, history)
        if not lines.foreshortened or measured.chi2 <= 1:
            return measured
        level = fit_rings(rings.data, start, replace(lines, foreshortened=False))
        return _less_sure(measured, float(fit.free[4] / level.free[4]) - 1)


def _less_sure(measured: PixelSizeMeasurement, change: float) -> PixelSizeMeasurement:
    """Where lines disagree, the uncertainty holds how much the foreshortening moves the scale.

    `change` is relative.  It counts by the share of χ² that the uncertainties do not explain: such
    lines (merging rings of disks, few grains) are no evidence of a foreshortening.
    """
    doubt = abs(change) * math.sqrt(1 - 1 / measured.chi2)
    sigmas = zip(measured.sigma_A, measured.pixel_size_A, strict=True)
    x, y = (math.hypot(sigma, size * doubt) for sigma, size in sigmas)
    return replace(measured, sigma_A=(x, y))


def _measurement(
    source: RingSource,
    fit: RingFit,
    lines: Lines,
    used: ReferenceLines,
    per_axis: bool,
    history: History,
) -> PixelSizeMeasurement:
    distortion, sigmas = fit.distortion, fit.sigmas
    size = float(used.q_A[0] / (lines.radii[0] * fit.free[4]))
    table = _table(fit, used)
    deviation, weight = table["residual"], (fit.radii / table["sigma_px"]) ** 2
    chi2 = float((deviation**2 * weight)[weight > 0].mean())
    residual = math.sqrt(float(np.average(deviation**2, weights=weight)))
    if not residual < WRONG:
        raise SolveError(
            f"the rings are not those of {used.name}: they deviate by {residual:.1%} (rms)"
        )
    # Lines that disagree by more than their uncertainties make the scale as uncertain (Birge).
    birge = math.sqrt(max(1.0, chi2))
    corrected = source.calibration.ellipse is not None
    if per_axis:
        sizes, errors = _sizes_per_axis(fit, size, birge)
    else:
        sizes, errors = (size, size), (_size_error(fit, size, birge, corrected),) * 2
    tilt2 = float(fit.free[5]) * size**2 if lines.foreshortened else 0.0
    sigma_ratio = 2 * distortion.ratio * float(np.hypot(*sigmas[2:4])) / math.sqrt(2)
    round_rings = per_axis or distortion.ratio - 1 < 3 * sigma_ratio
    ellipse = None
    if not corrected and not round_rings:
        ellipse = distortion.ellipse(float(fit.radii[0]))
    return PixelSizeMeasurement(
        sizes,
        errors,
        table,
        residual,
        chi2,
        1.0 if per_axis else distortion.ratio,
        0.0 if per_axis else sigma_ratio,
        tilt2,
        source.to_detector((distortion.cx, distortion.cy)),
        used.name,
        fit.inflation,
        source.calibration,
        history,
        ellipse=ellipse,
    )


def _sizes_per_axis(
    fit: RingFit, size: float, birge: float
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Sizes along x and y and their errors: the scales are s e^(-p) and s e^p."""
    p = fit.distortion.p
    sizes = (size * math.exp(-p), size * math.exp(p))
    both = fit.covariance[np.ix_((2, 4), (2, 4))]
    x, y = (
        v * birge * math.sqrt(both[1, 1] + both[0, 0] + 2 * sign * both[0, 1])
        for v, sign in zip(sizes, (1, -1), strict=True)
    )
    return sizes, (x, y)


def _size_error(fit: RingFit, size: float, birge: float, corrected: bool) -> float:
    """That of one size; what a calibrated ellipse leaves is its error, and as much of one of it."""
    relative = birge * float(fit.sigmas[4] / fit.free[4])
    if not corrected:
        return size * relative
    return size * math.hypot(relative, (fit.distortion.ratio - 1) / 2)


def _table(fit: RingFit, used: ReferenceLines) -> NDArray[np.void]:
    table = np.empty(len(used), LINE_DTYPE)
    table["q_A"], table["d_A"] = used.q_A, 1 / used.q_A
    table["radius_px"], table["sigma_px"] = fit.radii + fit.offsets, fit.sigma_offsets
    table["residual"], table["label"] = fit.offsets / fit.radii, used.labels
    return table


def measure_pixel_size(
    source: Cube | DiffractionSlice | PointTable | ArrayLike,
    reference: Reference,
    *,
    approximate: float | None = None,
    per_axis: bool = False,
    center: tuple[float, float] | None = None,
    inner_px: float | None = None,
    outer_px: float | None = None,
    options: RunOptions | None = None,
) -> PixelSizeMeasurement:
    """Measure the detector pixel size with the rings or peaks of a known crystal.

    Parameters
    ----------
    source : DataCube, DiffractionSlice, (Qx, Qy) array, BraggPeaks or PointTable
        A pattern with rings (a cube: its mean pattern), or peaks of many grains.  The ellipse of
        its calibration is undone first: measure the ellipse before the pixel size.
    reference : str, mapping or sequence of float
        - a standard: ``"Au"``, ``"Al"``, ``"Si"``, ``"MgO"``, ``"graphite"``, …
          (`py4DSTEM.process.calibrate.dspacings.STANDARDS`);
        - ``dict(a_A=4.0782, centring="F")`` (``"P"``, ``"I"``, ``"F"``, ``"diamond"``), or
          ``dict(a_A=2.456, c_A=6.696, centring="hcp")``;
        - ``dict(d_A=[...])`` in Å or ``dict(q_A=[...])`` in Å⁻¹, optionally with ``weights=[...]``,
          how strong each line is; or spacings in Å alone.
    approximate : float, optional
        Pixel size in Å⁻¹ known to 15 %, where the rings alone leave a choice (the calibrated pixel
        size settles it otherwise).
    per_axis : bool
        One pixel size along x and another along y.  An ellipse along the axes cannot be told from
        oblong pixels: what the calibrated ellipse leaves along x and y goes to the pixel sizes.
    center : (float, float), optional
        Centre in raw pixels, held (for peaks: relative to their origins); None: fitted.
    inner_px, outer_px : float, optional
        Radii between which rings are looked for.
    options : RunOptions, optional
        For the mean pattern of a cube.

    Returns
    -------
    PixelSizeMeasurement
        ``.value ± .sigma`` in Å⁻¹ and a table of lines; ``with_calibration(pixel_size=...)`` takes
        it.

    Raises
    ------
    SolveError
        There are no rings, or they are not those of the reference, or several scales fit.
    ParameterError, ShapeError
        `source`, `reference` or a parameter makes no sense.

    Notes
    -----
    All lines of the reference are fitted at once, with one scale, the centre, what is left of the
    ellipse, one line shape (as in `measure_ellipse`) and, given three lines,
    ``R = s q - κ / (2 s q)``: thin crystals also diffract off the Bragg condition, where the vector
    seen is ``sqrt(q² - q_z²)``.  Where the lines disagree by more than their uncertainties, as the
    merging rings of large disks do, what κ does to the scale is part of its uncertainty: the peaks
    of `find_bragg_disks` then tell it far better than the rings.

    The ellipse correction T of a calibration keeps the small semi-axis and shrinks the large one to
    it, so that ``|Q_matrix (p - origin)| = 1 / d`` all around a ring needs a pixel size larger by
    ``sqrt(a / b)`` than that of a distortion that keeps areas; `mean_size_A` gives the latter.
    Without a calibrated ellipse both are the same, the geometric mean over the ring.
    ``q`` is taken as proportional to the radius, which holds to ``θ²`` for scattering angles 2θ.

    Examples
    --------
    >>> import numpy as np
    >>> r = np.hypot(*(np.indices((96, 96)) - 47.5))
    >>> rings = [np.sqrt(n) / 4.0782 / 0.025 for n in (3, 4, 8, 11, 12)]
    >>> clean = 4 + sum(200 * np.exp(-((r - q) ** 2)) for q in rings)
    >>> found = measure_pixel_size(np.random.default_rng(0).poisson(clean), "Au")
    >>> round(found.value, 4)
    0.025
    """
    analysis = MeasurePixelSize(
        reference=plain_reference(reference),
        approximate=approximate,
        per_axis=per_axis,
        center=center,
        inner_px=inner_px,
        outer_px=outer_px,
    )
    if not isinstance(source, Cube | PointTable | DiffractionSlice):
        source = DiffractionSlice(np.asarray(source))
    return analysis.apply(source, options)
