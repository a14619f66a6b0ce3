"""Ptychography as one step: read, start, iterate, judge."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, NonNegativeFloat, PositiveFloat

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.kernels.fft import make_plan
from py4DSTEM.kernels.ptycho import Model, State
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.engines import GradientSteps, PositionSteps, Wave
from py4DSTEM.process.phase.ptychography.geometry import Geometry
from py4DSTEM.process.phase.ptychography.patterns import Patterns, read_patterns
from py4DSTEM.process.phase.ptychography.planes import (
    from_object,
    from_spectra,
    to_object,
    to_spectra,
    turned,
)
from py4DSTEM.process.phase.ptychography.result import PtychographyResult
from py4DSTEM.process.phase.ptychography.start import first_object, first_probe, flight
from py4DSTEM.solve.driver import Solution, Stop, iterate
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["Ptychography", "ptychography"]

LEAST_OVERLAP = 0.3
FLOOR = 1e-3
"""Of the mean counts in a pixel: what is added before anything is divided by an intensity."""


@dataclass(frozen=True, eq=False)
class Problem:
    """All that is known before the first iteration."""

    patterns: Patterns
    geometry: Geometry
    aberrations: Aberrations
    slice_thickness_A: float
    poisson: float

    def model(self) -> Model:
        """For the kernels."""
        n0, n1 = self.patterns.shape
        ramps = self.geometry.ramps()
        wave = flight(self.patterns, self.slice_thickness_A)
        floor = FLOOR * self.patterns.power / self.patterns.amplitudes.size
        return Model(
            make_plan(n0),
            make_plan(n1),
            self.patterns.amplitudes,
            self.geometry.corners,
            *ramps,
            np.stack([turned(wave.real), turned(wave.imag)]),
            np.float32(self.poisson),
            np.float32(floor),
        )


class Ptychography(Analysis, kind="ptychography", version=1):
    """Object and probe from overlapping patterns, by iteration."""

    method: Literal["gradient", "epie"] = Field(
        "gradient",
        description="Gradients of batches of positions, or a step after every position (ePIE; "
        "rPIE where blend is below 1).",
    )
    iterations: int = Field(30, ge=1, le=100_000, description="Most passes over all positions.")
    defocus_A: float | None = Field(
        None,
        description="Of the first probe, −C10, underfocus positive; None: by parallax.",
    )
    aberrations: dict[str, float] = Field(
        default_factory=dict, description="Other aberrations of the first probe: C12, phi12 … in Å."
    )
    rotation_rad: float | None = Field(
        None, description="From detector to scan axes, after the flip; None: known or measured."
    )
    flip: bool | None = Field(
        None, description="Whether x and y of the detector are exchanged; None: known or measured."
    )
    slices: int = Field(1, ge=1, le=1000, description="Slices of the object along the beam.")
    slice_thickness_A: PositiveFloat | None = Field(
        None, description="From one slice to the next, where there are several."
    )
    modes: int = Field(1, ge=1, le=10, description="Probe modes, for partial coherence.")
    batch: int = Field(64, ge=1, description="Positions of a step of the gradient method.")
    object_step: PositiveFloat = Field(0.5, description="Share of the suggested step.")
    probe_step: NonNegativeFloat = Field(0.5, description="The same for the probe; 0 keeps it.")
    probe_from: int = Field(1, ge=0, description="First iteration that changes the probe.")
    momentum: float = Field(0.5, ge=0, lt=1, description="Share of the last step taken again.")
    blend: float = Field(
        0.1, gt=0, le=1, description="1: all of the object moves as where the beam is brightest."
    )
    poisson: float = Field(
        0.0, ge=0, le=1, description="0: least squares of amplitudes; 1: likelihood of counts."
    )
    tolerance: NonNegativeFloat = Field(
        0.0,
        description="Ends when the error falls by less than this in five iterations.",
    )
    seed: int = Field(0, description="Of the order of positions.")

    accepts: ClassVar[tuple[type, ...]] = (Cube,)
    cites: ClassVar[tuple[str, ...]] = (
        "10.1016/j.ultramic.2009.05.012",
        "10.1364/OPTICA.4.000736",
        "10.1038/s41467-020-16688-6",
    )

    def apply(
        self,
        value: Cube,
        options: RunOptions | None = None,
        *,
        vacuum: ArrayLike | None = None,
        mask: ArrayLike | None = None,
        positions_A: ArrayLike | None = None,
    ) -> PtychographyResult:
        """Reconstruct a scan."""
        self.check(value)
        problem = self.problem(value, options, mask=mask, positions_A=positions_A)
        wave = self.start(problem, vacuum)
        steps = self._steps(problem.model())
        stop = Stop(self.iterations, self.tolerance)
        power = problem.patterns.power
        solved = iterate(_Normed(steps, power), wave, stop, options, label="ptychography")
        return self._result(value, problem, solved)

    # ---- parts -----------------------------------------------------------------------------------
    def problem(
        self,
        cube: Cube,
        options: RunOptions | None = None,
        *,
        mask: ArrayLike | None = None,
        positions_A: ArrayLike | None = None,
    ) -> Problem:
        """Read and check all that the iteration needs."""
        if min(cube.R_shape) < 2:
            raise ShapeError(
                f"ptychography needs overlap in two directions, not a scan of {cube.R_shape}"
            )
        if self.slices > 1 and self.slice_thickness_A is None:
            raise ParameterError("several slices need slice_thickness_A, from one to the next")
        known, aberrations = self._calibrated(cube, options)
        optics = Optics.of(known, cube.Q_shape)
        _check_sampling(optics, aberrations)
        seen = None if mask is None else np.asarray(mask, bool)
        if seen is not None and seen.shape != cube.Q_shape:
            raise ShapeError(f"a mask is {cube.Q_shape}, True where measured, not {seen.shape}")
        patterns = read_patterns(cube, optics, mask=seen, options=options)
        given = None if positions_A is None else np.asarray(positions_A, dtype=np.float64)
        geometry = Geometry.of(patterns.optics, cube.R_shape, given)
        thickness = (self.slice_thickness_A or 0.0) if self.slices > 1 else 0.0
        return Problem(patterns, geometry, aberrations, thickness, self.poisson)

    def _calibrated(
        self, cube: Cube, options: RunOptions | None
    ) -> tuple[Calibration, Aberrations]:
        """Calibration with rotation and flip, and aberrations, measured where not known."""
        known = cube.calibration
        rotation = known.rotation_rad if self.rotation_rad is None else self.rotation_rad
        flip = known.flip if self.flip is None else self.flip
        defocus = self.defocus_A
        if rotation is None or defocus is None:
            from py4DSTEM.process.phase.parallax import parallax

            measured = parallax(cube, options=options)
            defocus = measured.aberrations.defocus_A if defocus is None else defocus
            if rotation is None:
                rotation, flip = measured.rotation_rad, measured.flip
        aberrations = Aberrations({"C10": -defocus, **self.aberrations})
        return known.replace(rotation_rad=rotation, flip=bool(flip)), aberrations

    def start(self, problem: Problem, vacuum: ArrayLike | None = None) -> Wave:
        """The first object and probe."""
        probe = first_probe(problem.patterns, problem.aberrations, modes=self.modes, vacuum=vacuum)
        object_ = first_object(problem.geometry, self.slices)
        planes = State(to_object(object_), to_spectra(probe))
        return Wave(planes, np.zeros(len(problem.patterns.counts)))

    def _steps(self, model: Model) -> GradientSteps | PositionSteps:
        common: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("object_step", "probe_step", "probe_from", "seed")
        }
        if self.method == "epie":
            return PositionSteps(model, blend=self.blend, **common)
        return GradientSteps(
            model, batch=self.batch, momentum=self.momentum, blend=self.blend, **common
        )

    def _result(self, cube: Cube, problem: Problem, solved: Solution[Wave]) -> PtychographyResult:
        patterns, geometry = problem.patterns, problem.geometry
        probe = _centred(from_spectra(solved.state.planes.probe, patterns.shape), patterns.rest_px)
        optics = patterns.optics
        return PtychographyResult(
            object=from_object(solved.state.planes.object),
            probe=probe,
            positions_px=geometry.positions_px.reshape(*cube.R_shape, 2),
            errors=solved.errors,
            expected_error=patterns.expected / patterns.power,
            status=solved.status,
            reason=solved.reason,
            aberrations=problem.aberrations,
            slice_thickness_A=problem.slice_thickness_A,
            position_errors=(solved.state.errors / patterns.counts).reshape(cube.R_shape),
            optics=optics,
            calibration=cube.calibration.replace(
                rotation_rad=optics.rotation_rad, flip=optics.flip
            ),
            history=self.history(cube.history),
        )


@dataclass(frozen=True, eq=False)
class _Normed:
    """Steps whose error is a share of all counts."""

    steps: GradientSteps | PositionSteps
    power: float

    def update(self, state: Wave, iteration: int) -> tuple[Wave, float]:
        wave, error = self.steps.update(state, iteration)
        return wave, error / self.power

    def kept(self, state: Wave) -> Wave:
        return self.steps.kept(state)


def _centred(probe: NDArray[np.complex64], rest_px: tuple[float, float]) -> NDArray[np.complex64]:
    """Modes by power, without the ramp of an origin between pixels."""
    (n0, n1), (rx, ry) = probe.shape[1:], rest_px
    x, y = np.arange(n0) - n0 // 2, np.arange(n1) - n1 // 2
    ramp = np.exp(-2j * np.pi * (rx * x[:, None] / n0 + ry * y / n1))
    power = (np.abs(probe) ** 2).sum(axis=(1, 2))
    ordered: NDArray[np.complex64] = (probe[np.argsort(-power)] * ramp).astype(np.complex64)
    return ordered


def _check_sampling(optics: Optics, aberrations: Aberrations) -> None:
    """The probe fits into its window, the disk onto the detector, and neighbours overlap."""
    angle = optics.semiangle_mrad * 1e-3
    radius_px = optics.semiangle_px
    if 2 * radius_px > min(optics.Q_shape):
        raise ParameterError(
            f"the bright disk (radius {radius_px:.1f} px) is larger than the detector "
            f"{optics.Q_shape}: check pixel size and convergence angle"
        )
    if radius_px < 2:
        raise ParameterError(
            f"the bright disk is {radius_px:.1f} px in radius: too few pixels for the convergence "
            "angle; check the pixel size, or use less binning"
        )
    width = 2 * abs(aberrations.defocus_A) * angle + 1.22 * optics.wavelength_A / angle
    if width > min(optics.window_A):
        raise ParameterError(
            f"a probe {width:.0f} Å wide (defocus {aberrations.defocus_A:.0f} Å) does not fit into "
            f"the window of {min(optics.window_A):.0f} Å that the detector pixel allows: check the "
            "defocus, or use a longer camera length (smaller pixels)"
        )
    step = max(optics.R_steps_A)
    if step > (1 - LEAST_OVERLAP) * width:
        raise ParameterError(
            f"the scan step of {step:.2f} Å leaves an overlap of {max(0.0, 1 - step / width):.0%} "
            f"between probes {width:.2f} Å wide, and {LEAST_OVERLAP:.0%} is the least: check step "
            "and defocus"
        )


def ptychography(
    cube: Cube,
    *,
    method: Literal["gradient", "epie"] = "gradient",
    iterations: int = 30,
    defocus_A: float | None = None,
    aberrations: dict[str, float] | None = None,
    rotation_rad: float | None = None,
    flip: bool | None = None,
    slices: int = 1,
    slice_thickness_A: float | None = None,
    modes: int = 1,
    batch: int = 64,
    object_step: float = 0.5,
    probe_step: float = 0.5,
    probe_from: int = 1,
    momentum: float = 0.5,
    blend: float = 0.1,
    poisson: float = 0.0,
    tolerance: float = 0.0,
    seed: int = 0,
    vacuum: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    positions_A: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> PtychographyResult:
    """Find the object and the probe that explain the patterns of a scan.

    One forward model for single and several slices, with one or several probe modes:
    ``I(k) = Σ_m |F{O_S · P_Δz … O_1 · ψ_m(r − R)}|²``; a positive projected potential gives a
    positive phase.

    Parameters
    ----------
    cube : DataCube
        With energy, convergence angle (or radius of the disk), pixel size and scan step in its
        calibration.
    method : "gradient" or "epie"
        Preconditioned gradients of batches with momentum, or a step after every position.
    iterations : int
        Passes over all positions, at most.
    defocus_A : float, optional
        ``−C10`` of the first probe, underfocus positive; None: measured by `parallax`.
    aberrations : dict, optional
        Others, Å and rad: ``{"C12": 20.0, "phi12": 0.3}``.
    rotation_rad, flip : float, bool, optional
        From detector to scan axes; None: from the calibration, else measured by `parallax`.
    slices, slice_thickness_A : int, float
        Of a thick object.
    modes : int
        Probe modes.
    batch, object_step, probe_step, probe_from, momentum, blend : optional
        Of the steps (see `Ptychography`).
    poisson : float
        0: ``Σ (√I_measured − √I)²`` falls; 1: the likelihood of the counts rises.
    tolerance : float
        Ends when the error falls by less than this share in five iterations; 0: never.
    seed : int
        Of the order of positions; the same seed gives the same bits, with any number of threads.
    vacuum : (n0, n1) array, optional
        Counts without specimen, zero frequency first, of the size of the padded detector.
    mask : (Qx, Qy) bool, optional
        True where the detector measures.
    positions_A : (Rx, Ry, 2) array, optional
        Measured scan positions in scan axes, instead of the regular grid.
    options : RunOptions, optional
        Progress, cancel (gives what was reached), workers.

    Returns
    -------
    PtychographyResult
        A status of "diverged" comes with the best state before.

    Raises
    ------
    CalibrationMissing
        What is missing is named.
    ParameterError
        The probe does not fit into its window, or neighbours do not overlap.
    MemoryBudgetError
        The patterns do not fit into memory.

    References
    ----------
    ePIE: Maiden & Rodenburg, doi:10.1016/j.ultramic.2009.05.012; rPIE: Maiden, Johnson & Li,
    doi:10.1364/OPTICA.4.000736; mixed states in electron microscopy: Chen et al.,
    doi:10.1038/s41467-020-16688-6.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((8, 8), (48, 48), seed=1)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> result = ptychography(cube, defocus_A=100.0, iterations=3)
    >>> result.status, result.errors[0] > result.errors[-1]
    ('iterations', True)
    """
    parameters = dict(locals())
    for name in ("cube", "vacuum", "mask", "positions_A", "options"):
        parameters.pop(name)
    parameters["aberrations"] = aberrations or {}
    step = Ptychography(**parameters)
    return step.apply(cube, options, vacuum=vacuum, mask=mask, positions_A=positions_A)
