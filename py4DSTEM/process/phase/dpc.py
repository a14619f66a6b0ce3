"""Differential phase contrast: the phase, the fields and the charge behind the centre of mass."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Mask
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.calibrate.origin_fit import surface_terms
from py4DSTEM.process.calibrate.rotation import MeasureRotation, RotationMeasurement
from py4DSTEM.process.calibrate.symmetry import ring_images
from py4DSTEM.process.com import center_of_mass
from py4DSTEM.process.idpc import check_centers, deflections, steps_A
from py4DSTEM.process.phase import fields, integrate
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["DPCResult", "DifferentialPhaseContrast", "dpc"]

Float = NDArray[np.float64]
Method = Literal["least-squares", "frankot-chellappa", "iterative"]
Descan = Literal["auto", "none", "constant", "plane", "bilinear", "parabola"]
_FEWEST_POSITIONS = 4
"""Along both axes, to measure a rotation from."""
_DESCAN: Mapping[str, tuple[tuple[int, int], ...]] = {
    "constant": ((0, 0),),
    "plane": ((0, 0), (1, 0), (0, 1)),
    "bilinear": ((0, 0), (1, 0), (0, 1), (1, 1)),
    "parabola": ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2)),
}
"""Exponents of u and v, which run from −1 to 1 over the rows and the columns of the scan."""


@dataclass(frozen=True, eq=False)
class DPCResult:
    """The phase that the deflection of the beam tells, and what the deflection is made of.

    Parameters
    ----------
    phase : RealSlice
        (Rx, Ry) float64, rad, mean zero; a positive projected potential is a positive phase.  NaN
        where there is none.
    deflection : RealSlice
        Stack "x", "y", (2, Rx, Ry) float64, Å⁻¹ along the axes of the scan, descan removed.
    residual : RealSlice
        What the phase leaves of it: ``<k> − ∇φ/2π``, stack "x", "y", Å⁻¹.
    phase_sigma_rad : (Rx, Ry) float64
        One-sigma uncertainty of the phase relative to its mean, from the curl of the deflection,
        which is noise; NaN in a scan of one row.
    com : RealSlice
        Stack "x", "y" of centres of mass, raw detector pixels.
    rotation_rad, flip : float, bool
        From detector to scan axes: exchange x and y if flipped, then rotate x towards y.
    rotation_sigma_rad : float
        0 where the rotation was given or known.
    flip_confidence : float
        What the other flip leaves over what this one leaves; NaN where it was given or known.
    half_turn_z : float
        How many sigma tell the rotation from the one that differs by 180°; NaN where known.
    rotation_by : str
        "given", "calibration", "symmetry" or "curl".
    errors : (n,) float64
        rms of the residual as a share of the deflection (of the normal equations where unknown
        positions are left out by "least-squares"), after each iteration.
    converged : bool
    method : str
    """

    phase: RealSlice
    deflection: RealSlice
    residual: RealSlice
    phase_sigma_rad: Float
    com: RealSlice
    rotation_rad: float
    flip: bool
    rotation_sigma_rad: float
    flip_confidence: float
    half_turn_z: float
    rotation_by: str
    errors: Float
    converged: bool
    method: str
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "dpc"

    # ---- fields ----------------------------------------------------------------------------------
    @property
    def field(self) -> RealSlice:
        """Electric field times thickness, stack "x", "y" in V; `electric_field`."""
        return fields.electric_field(self.deflection)

    @property
    def magnetic_induction(self) -> RealSlice:
        """Induction times thickness, stack "x", "y" in T nm, for magnetic specimens."""
        return fields.magnetic_induction(self.deflection)

    @property
    def charge_density(self) -> RealSlice:
        """Projected charge, (Rx, Ry) in e/Å²; `charge_density` smooths."""
        return fields.charge_density(self.deflection)

    @property
    def projected_potential(self) -> RealSlice:
        """Potential times thickness, (Rx, Ry) in V Å."""
        return fields.projected_potential(self.phase)

    # ---- views -----------------------------------------------------------------------------------
    @property
    def vectors(self) -> RealSlice:
        """The deflection as ``x + i y``, (Rx, Ry) complex128, Å⁻¹: what a colour wheel shows."""
        x, y = self.deflection.data
        return replace(self.deflection, data=x + 1j * y, labels=(), name="deflection")

    @property
    def rotation_deg(self) -> float:
        return math.degrees(self.rotation_rad)

    @property
    def residual_share(self) -> float:
        """rms of the residual over rms of the deflection."""
        left, whole = (np.nansum(s.data**2) for s in (self.residual, self.deflection))
        return math.sqrt(left / whole) if whole > 0 else 0.0

    def calibration_changes(self) -> dict[str, Any]:
        """What it tells a calibration: rotation and flip."""
        return {"rotation_rad": self.rotation_rad, "flip": self.flip}

    def text(self) -> str:
        """A few lines for a report."""
        turn = f"rotation {self.rotation_deg:.2f}°"
        if self.rotation_sigma_rad > 0:
            turn += f" ± {math.degrees(self.rotation_sigma_rad):.2f}°"
        lines = [f"{turn}, flip {self.flip} ({self.rotation_by})"]
        if math.isfinite(self.flip_confidence):
            half = f"by {self.half_turn_z:.1f} sigma"
            half = half if math.isfinite(self.half_turn_z) else "as given"
            lines.append(f"the other flip leaves {self.flip_confidence:.2f} x; half turn {half}")
        known = np.isfinite(self.phase.data)
        lines.append(
            f"phase {np.ptp(self.phase.data[known]):.3g} rad from least to most, "
            f"± {np.nanmedian(self.phase_sigma_rad):.2g} rad, at {int(known.sum())} of {known.size}"
        )
        state = "" if self.converged else ", NOT converged"
        lines.append(
            f"{self.method}: {self.residual_share:.3g} of the deflection is no gradient "
            f"({len(self.errors)} iterations{state})"
        )
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<DPCResult {self.phase.shape} by {self.method}: {self.text().splitlines()[0]}>"


def _to_parts(result: DPCResult) -> dict[str, Any]:
    return {**vars(result), "history": result.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> DPCResult:
    return DPCResult(**{**parts, "history": History.from_dict(parts["history"])})


register_result("dpc", DPCResult, _to_parts, _from_parts)


# ---- the step ------------------------------------------------------------------------------------
class DifferentialPhaseContrast(Analysis, kind="dpc", version=1):
    """Phase and fields from the centre of mass: rotation, descan, integration."""

    method: Method = Field(
        "least-squares",
        description="How the deflection is integrated: least squares with free edges, Fourier, or "
        "conjugate gradients on a wider grid.",
    )
    rotation_rad: float | None = Field(
        None, description="From detector to scan axes, after the flip; None: known or measured."
    )
    flip: bool | None = Field(
        None, description="Whether x and y of the detector are exchanged; None: known or measured."
    )
    rotation_by: Literal["auto", "symmetry", "curl"] = Field(
        "auto",
        description="What measures the rotation; auto: nothing where the calibration knows it, "
        "else symmetry for a scan and curl for a centre of mass.",
    )
    near_deg: float | None = Field(
        None, description="Rough rotation, to choose between the two that differ by 180 degrees."
    )
    descan: Descan = Field(
        "auto",
        description="Surface through the centres of mass that is no deflection; auto: their mean "
        "where the origin is calibrated, else a plane.",
    )
    boundary: integrate.Boundary = Field(
        "mirror", description="For frankot-chellappa: what lies beyond the scan."
    )
    high_pass: NonNegativeFloat = Field(
        0.0, description="Spatial frequency below which waves are damped, cycles per Å."
    )
    low_pass: PositiveFloat | None = Field(
        None, description="Spatial frequency above which waves are damped, cycles per Å."
    )
    max_iterations: int = Field(64, ge=1, le=10_000, description="For iterative.")
    tolerance: PositiveFloat = Field(
        1e-3, description="For iterative: the share that an iteration must take away to go on."
    )
    mask: AnyDetector | None = Field(None, description="Weights for the centre of mass.")

    accepts: ClassVar[tuple[type, ...]] = (Cube, RealSlice)
    cites: ClassVar[tuple[str, ...]] = (
        "10.1016/j.ultramic.2015.10.011",
        "10.1038/ncomms6653",
        "10.1109/34.3909",
    )

    def apply(self, value: Cube | RealSlice, options: RunOptions | None = None) -> DPCResult:
        """Of a scan, or of the stack that `center_of_mass` gives."""
        self.check(value)
        self._check_calibration(value)
        com, turn = self._rotation(value, options)
        turned = com.calibration.replace(rotation_rad=turn.rotation_rad, flip=turn.flip)
        seen = com.with_calibration(turned)
        measured, steps, _ = deflections(seen)
        measured = measured - self._descan(measured, com.calibration)
        gradient = 2 * math.pi * measured
        integral = self._integral(gradient, steps, options)
        history = self.history(value.history)
        image: dict[str, Any] = {"calibration": turned, "history": history}
        vectors: dict[str, Any] = {**image, "labels": ("x", "y"), "units": "A^-1"}
        return DPCResult(
            phase=RealSlice(integral.image, name="phase", units="rad", **image),
            deflection=RealSlice(measured, name="deflection", **vectors),
            residual=RealSlice(integral.residual / (2 * math.pi), name="residual", **vectors),
            phase_sigma_rad=_phase_sigma(gradient, integral, steps, self._smoothing),
            com=com,
            **vars(turn),
            errors=integral.errors,
            converged=integral.converged,
            method=self.method,
            calibration=turned,
            history=history,
        )

    def _check_calibration(self, value: Cube | RealSlice) -> None:
        value.calibration.Q_steps("A^-1")
        steps_A(value.calibration)
        if isinstance(value, RealSlice):
            check_centers(value)

    # ---- rotation --------------------------------------------------------------------------------
    def _rotation(
        self, value: Cube | RealSlice, options: RunOptions | None
    ) -> tuple[RealSlice, _Turn]:
        """Centre of mass, and how the detector lies to the scan; one pass where it can be."""
        known = self._known_turn(value.calibration)
        if known is not None:
            return self._centers(value, options), known
        shape = value.R_shape if isinstance(value, Cube) else value.shape[1:]
        if min(shape) < _FEWEST_POSITIONS:
            raise ParameterError(
                f"the rotation cannot be measured in a scan of {shape[0]} x {shape[1]} positions "
                f"({_FEWEST_POSITIONS} x {_FEWEST_POSITIONS} is the least): give rotation_rad and "
                "flip"
            )
        by = self.rotation_by
        if by == "auto":
            by = "symmetry" if isinstance(value, Cube) else "curl"
        step = MeasureRotation(method=by, flip=self.flip, near_deg=self.near_deg, mask=self.mask)
        if by == "curl" or not isinstance(value, Cube):
            measured = step.apply(value, options)  # refuses symmetry without a scan
            return self._centers(value, options), _Turn.measured(measured, self.flip)
        images = ring_images(value, self.mask, options)
        measured = step.of_rings(images, value.history)
        return images.com, _Turn.measured(measured, self.flip)

    def _known_turn(self, calibration: Calibration) -> _Turn | None:
        if self.rotation_rad is not None:
            flip = calibration.flip if self.flip is None else self.flip
            return _Turn(float(self.rotation_rad), bool(flip), "given")
        if self.rotation_by != "auto" or calibration.rotation_rad is None:
            return None
        if self.flip is not None and self.flip != bool(calibration.flip):
            return None  # the calibrated rotation belongs to the other flip
        return _Turn(calibration.rotation_rad, bool(calibration.flip), "calibration")

    def _centers(self, value: Cube | RealSlice, options: RunOptions | None) -> RealSlice:
        if isinstance(value, RealSlice):
            return value
        return center_of_mass(value, self.mask, options=options)

    # ---- descan and integration ------------------------------------------------------------------
    def _descan(self, vectors: Float, calibration: Calibration) -> Float:
        """The surface through the deflections that belongs to the microscope, (2, Rx, Ry)."""
        kind: str = self.descan
        if kind == "auto":
            kind = "plane" if calibration.origin_px is None else "constant"
        if kind == "none":
            return np.zeros_like(vectors)
        shape = (vectors.shape[1], vectors.shape[2])
        design = surface_terms(shape, _DESCAN[kind])
        flat = vectors.reshape(2, -1).T
        known = np.isfinite(flat).all(axis=1)
        if not known.any():
            raise ParameterError("no position has a centre of mass: there is nothing to integrate")
        used = design[known]
        terms = np.linalg.pinv(used.T @ used, hermitian=True) @ (used.T @ flat[known])
        surface: Float = (design @ terms).T.reshape(vectors.shape)
        return surface

    @property
    def _smoothing(self) -> integrate.Smoothing:
        return integrate.Smoothing(
            self.high_pass, math.inf if self.low_pass is None else self.low_pass
        )

    def _integral(
        self, gradient: Float, steps: tuple[float, float], options: RunOptions | None
    ) -> integrate.Integral:
        if self.method == "least-squares":
            return integrate.by_least_squares(gradient, steps, self._smoothing, options=options)
        if self.method == "iterative":
            return integrate.by_iteration(
                gradient,
                steps,
                self._smoothing,
                max_iterations=self.max_iterations,
                tolerance=self.tolerance,
                options=options,
            )
        return integrate.by_fourier(gradient, steps, self.boundary, self._smoothing)


@dataclass(frozen=True)
class _Turn:
    """How the detector lies to the scan, with the names of the result."""

    rotation_rad: float
    flip: bool
    rotation_by: str
    rotation_sigma_rad: float = 0.0
    flip_confidence: float = math.nan
    half_turn_z: float = math.nan

    @classmethod
    def measured(cls, found: RotationMeasurement, flip: bool | None) -> _Turn:
        confidence = found.confidence if flip is None else math.nan
        return cls(
            found.rotation_rad, found.flip, found.method, found.sigma_rad, confidence,
            found.half_turn_z,
        )  # fmt: skip


def _phase_sigma(
    gradient: Float,
    integral: integrate.Integral,
    steps: tuple[float, float],
    smoothing: integrate.Smoothing,
) -> Float:
    """What the noise of the gradient makes of the phase, (Rx, Ry).

    A field of N positions has N unknowns: the curl of 2 N noisy values is the noise of N.
    """
    known = np.isfinite(integral.image)
    if min(known.shape) < 2:
        return np.full(known.shape, math.nan)
    plain = integrate.by_least_squares(gradient, steps)  # without smoothing, which is no noise
    curl = integrate.by_fourier(plain.residual, steps).residual
    noise = math.sqrt(float(np.nansum(curl**2)) / int(np.isfinite(curl[0]).sum()))
    gain = integrate.noise_gain((known.shape[0], known.shape[1]), steps, smoothing)
    return np.where(known, noise * gain, math.nan)


# ---- the public function -------------------------------------------------------------------------
def dpc(
    source: Cube | RealSlice,
    *,
    method: Method = "least-squares",
    rotation_rad: float | None = None,
    flip: bool | None = None,
    rotation_by: Literal["auto", "symmetry", "curl"] = "auto",
    near_deg: float | None = None,
    descan: Descan = "auto",
    boundary: integrate.Boundary = "mirror",
    high_pass: float = 0.0,
    low_pass: float | None = None,
    max_iterations: int = 64,
    tolerance: float = 1e-3,
    mask: Detector | ArrayLike | None = None,
    options: RunOptions | None = None,
) -> DPCResult:
    """Phase, fields and charge density from the centre of mass of every pattern (DPC, iCoM).

    Parameters
    ----------
    source : DataCube, or RealSlice stack "x", "y"
        A scan with the pixel sizes of scan and detector, or its centre of mass in raw detector
        pixels as `center_of_mass` gives it.
    method : "least-squares", "frankot-chellappa" or "iterative"
        "least-squares": the phase whose differences between neighbours are nearest to the
        deflection; nothing is assumed beyond the scan, unknown positions are left out.
        "frankot-chellappa": its Fourier transform divided by that of the gradient; `boundary`
        counts.  "iterative": least squares of the band-limited phase on a wider grid by conjugate
        gradients, stopped early.
    rotation_rad, flip : float, bool, optional
        From detector to scan axes, the flip first; None: what the calibration knows, else measured.
        Of a given rotation without flip the flip is the calibrated one, or none.
    rotation_by : "auto", "symmetry" or "curl"
        See `measure_rotation`.  "auto" measures only what is not known: by "symmetry", which is
        several times more precise, where the scan is given.
    near_deg : float, optional
        The rotation, known to better than 90°: chooses the half turn.
    descan : "auto", "none", "constant", "plane", "bilinear" or "parabola"
        Surface through the centres of mass that is taken for a movement of the beam.  "auto": their
        mean where the calibration holds the origin, which is subtracted always, else a plane.
        "none" keeps a mean deflection, which is a ramp of the phase.
    boundary : "mirror", "periodic" or "zero"
        For "frankot-chellappa": beyond the scan lies its mirror image, the scan again, or nothing.
    high_pass, low_pass : float
        Spatial frequencies k0, k1 (cycles per Å) beyond which waves are damped:
        ``k² / (k² + k0² + k⁴/k1²)`` (Tikhonov's regularisation of height and curvature).
    max_iterations, tolerance : int, float
        For "iterative": it stops where an iteration takes less than this share of the residual.
    mask : Detector or (Qx, Qy) array, optional
        Weights for the centre of mass.
    options : RunOptions, optional

    Returns
    -------
    DPCResult
        ``.phase`` (rad), ``.deflection`` (Å⁻¹), ``.field`` (V), ``.charge_density`` (e/Å²),
        ``.magnetic_induction`` (T nm), ``.rotation_rad`` and ``.flip`` with their confidence,
        ``.residual``, ``.errors``.  All maps are in the axes of the scan.

    Raises
    ------
    CalibrationMissing
        A pixel size of scan or detector is not known.
    ParameterError
        No position has a centre of mass; the centres are the same everywhere; or a scan of less
        than 4 rows or columns without `rotation_rad`.

    Notes
    -----
    The centre of mass of the pattern of a thin specimen is ``<k> = ∇φ / 2π``, averaged over the
    probe (Lazić, Bosch and Lazar, doi:10.1016/j.ultramic.2015.10.011); its field is
    ``E = −2π<k>/σ`` (Müller et al., doi:10.1038/ncomms6653), its charge ``ε0 ∇·E``.  The phase is
    known but for a constant, and long waves carry most of its noise: ``phase_sigma_rad`` tells how
    much.  In one row only the slope along it is integrated.  Fourier: doi:10.1109/34.3909.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((20, 24), step_A=0.5, rotation_rad=0.3, dose=None, seed=1)
    >>> found = dpc(scan.cube, near_deg=20)
    >>> found.phase.shape, found.phase.units, round(found.rotation_rad, 1), found.flip
    ((20, 24), 'rad', 0.3, False)
    """
    weights = mask if mask is None or isinstance(mask, Detector) else Mask(np.asarray(mask))
    step = DifferentialPhaseContrast(
        method=method,
        rotation_rad=rotation_rad,
        flip=flip,
        rotation_by=rotation_by,
        near_deg=near_deg,
        descan=descan,
        boundary=boundary,
        high_pass=high_pass,
        low_pass=low_pass,
        max_iterations=max_iterations,
        tolerance=tolerance,
        mask=weights,
    )
    return step.apply(source, options)
