"""Ptychography as one step: read, start, iterate, judge."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError, Py4DSTEMWarning, ShapeError
from py4DSTEM.kernels.fft import make_plan
from py4DSTEM.kernels.ptycho import Model, State
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.array_steps import ArraySteps
from py4DSTEM.process.phase.ptychography.arrays import namespace
from py4DSTEM.process.phase.ptychography.constraints import Constraints, orthogonal
from py4DSTEM.process.phase.ptychography.engines import GradientSteps, PositionSteps, Wave
from py4DSTEM.process.phase.ptychography.geometry import Geometry, affine_part, turned_by
from py4DSTEM.process.phase.ptychography.pace import moved
from py4DSTEM.process.phase.ptychography.patterns import (
    Patterns,
    are_electrons,
    read_patterns,
)
from py4DSTEM.process.phase.ptychography.planes import (
    from_object,
    from_spectra,
    to_object,
    to_spectra,
    turned,
)
from py4DSTEM.process.phase.ptychography.projections import ProjectionSteps
from py4DSTEM.process.phase.ptychography.refine import Positions, with_positions
from py4DSTEM.process.phase.ptychography.refine_tilt import Tilts
from py4DSTEM.process.phase.ptychography.result import PtychographyResult
from py4DSTEM.process.phase.ptychography.settings import (
    IterationSettings,
    ObjectSettings,
    ProbeSettings,
    RefineSettings,
)
from py4DSTEM.process.phase.ptychography.start import (
    centre_ramp,
    continued,
    first_object,
    first_probe,
    flight,
)
from py4DSTEM.solve.driver import Solution, Solver, Stop, iterate
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

if TYPE_CHECKING:
    from py4DSTEM.process.phase.ptychography.search import OpticsSearch

__all__ = ["Ptychography", "ptychography"]

LEAST_OVERLAP = 0.3
PROBE_FROM = 8
"""First iteration that changes the probe of several slices: earlier it takes up their errors."""
FLOOR = 1e-5
"""Of the mean counts in a pixel: what is added before anything is divided by an intensity."""
FLOOR_OF_COUNTS = {"gradient": 5e-4, "epie": 5e-3, "dm": 0.0, "raar": 0.0}
"""The same, in electrons, where counts are whole: one of them where the model has nearly none must
not change everything, least of all where a single pattern makes a step."""


@dataclass(frozen=True, eq=False)
class Problem:
    """All that is known before the first iteration."""

    patterns: Patterns
    geometry: Geometry
    aberrations: Aberrations
    poisson: float
    few: float = 0.0
    """Electrons that are next to nothing, where counts are electrons."""
    notes: tuple[str, ...] = ()
    """What is doubtful about the start."""

    def model(self) -> Model:
        """For the kernels."""
        n0, n1 = self.patterns.shape
        ramps = self.geometry.ramps()
        wave = flight(self.patterns, self.geometry.slice_A, self.geometry.tilt_rad)
        floor = _floor(self.patterns, self.few)
        return Model(
            make_plan(n0),
            make_plan(n1),
            self.patterns.amplitudes,
            self.geometry.corners,
            *ramps,
            *self.geometry.bends(),
            np.stack([turned(wave.real), turned(wave.imag)]),
            np.float32(self.poisson),
            np.float32(floor),
        )


class Ptychography(
    RefineSettings, ProbeSettings, ObjectSettings, IterationSettings, Analysis,
    kind="ptychography", version=1,
):  # fmt: skip
    """Object and probe from overlapping patterns, by iteration."""

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
        start: PtychographyResult | None = None,
        **measured: Any,
    ) -> PtychographyResult:
        """Reconstruct a scan; `measured` are vacuum, mask, positions_A and folder."""
        self.check(value)
        vacuum = measured.pop("vacuum", None)
        problem = self.problem(value, options, start=start, **measured)
        wave = self.start(problem, vacuum) if start is None else self._continued(problem, start)
        before = () if start is None else start.errors
        solved = self.solved(problem, wave, options, before)
        return self._result(value, problem, solved, start)

    def solved(
        self,
        problem: Problem,
        wave: Wave,
        options: RunOptions | None = None,
        before: tuple[float, ...] = (),
    ) -> Solution[Wave]:
        """Iterate from a start."""
        stop, solver = Stop(self.iterations, self.tolerance), self.solver(problem, wave)
        return iterate(solver, wave, stop, options, label="ptychography", before=before)

    # ---- parts -----------------------------------------------------------------------------------
    def problem(
        self,
        cube: Cube,
        options: RunOptions | None = None,
        *,
        start: PtychographyResult | None = None,
        mask: ArrayLike | None = None,
        positions_A: ArrayLike | None = None,
        folder: str | Path | None = None,
    ) -> Problem:
        """Read and check all that the iteration needs."""
        if min(cube.R_shape) < 2:
            raise ShapeError(
                f"ptychography needs overlap in two directions, not a scan of {cube.R_shape}"
            )
        known = start is not None and len(start.object) == self.slices
        if self.slices > 1 and self.slice_thickness_A is None and not known:
            raise ParameterError("several slices need slice_thickness_A, from one to the next")
        if self.slices > 1 and self.method in ("dm", "raar"):
            raise ParameterError("projections know one slice: several need gradient or epie")
        if self.slices == 1 and self.refine_tilt:
            raise ParameterError("a tilt is that of several slices: give slices")
        seen = None if mask is None else np.asarray(mask, bool)
        if seen is not None and seen.shape != cube.Q_shape:
            raise ShapeError(f"a mask is {cube.Q_shape}, True where measured, not {seen.shape}")
        calibration, aberrations, notes = self.calibrated(cube, options, start, seen)
        optics = Optics.of(calibration, cube.Q_shape)
        _check_sampling(optics, aberrations)
        kept = None if folder is None else Path(folder)
        patterns = read_patterns(cube, optics, mask=seen, folder=kept, options=options)
        given = None if positions_A is None else np.asarray(positions_A, dtype=np.float64)
        if start is not None and given is None:
            geometry = _same_grid(start, patterns, cube.R_shape)
        else:
            geometry = Geometry.of(patterns.optics, cube.R_shape, given)
        if self.slices > 1:
            geometry = geometry.sliced(*self._flight(patterns.optics, start))
        if patterns.descan_px is not None:
            geometry = geometry.descanned(patterns.descan_px)
        few = FLOOR_OF_COUNTS[self.method]
        return Problem(patterns, geometry, aberrations, self.poisson, few, notes)

    def _flight(
        self, optics: Optics, start: PtychographyResult | None
    ) -> tuple[float, tuple[float, float]]:
        """Distance of slices and tilt in detector axes; those of a start where none are given."""
        known = None if start is None or len(start.object) != self.slices else start
        thickness, tilt = self.slice_thickness_A, self.tilt_rad
        if known is not None:
            thickness = known.slice_thickness_A if thickness is None else thickness
            tilt = known.tilt_rad if tilt == (0.0, 0.0) else tilt
        x, y = optics.to_detector() @ np.array(tilt)
        return float(thickness or 0.0), (float(x), float(y))

    def calibrated(
        self,
        cube: Cube,
        options: RunOptions | None,
        start: PtychographyResult | None,
        mask: NDArray[np.bool_] | None = None,
    ) -> tuple[Calibration, Aberrations, tuple[str, ...]]:
        """Calibration with rotation and flip, and aberrations, measured where not known; doubts."""
        known = cube.calibration
        if start is not None:
            there = start.optics
            turned = known.replace(rotation_rad=there.rotation_rad, flip=there.flip)
            return turned, start.aberrations, ()
        rotation = known.rotation_rad if self.rotation_rad is None else self.rotation_rad
        flip = known.flip if self.flip is None else self.flip
        defocus = self.defocus_A
        notes: tuple[str, ...] = ()
        if rotation is None or defocus is None:
            found = self._searched(cube, options, mask)
            rotation, flip, notes = found.rotation_rad, found.flip, found.notes
            # The first slice stands for the middle of its slab.
            defocus = found.defocus_A + self._depth_A / 2 if defocus is None else defocus
        for note in notes:
            warnings.warn(f"ptychography: {note}", Py4DSTEMWarning, stacklevel=2)
        aberrations = Aberrations({"C10": -defocus, **self.aberrations})
        return known.replace(rotation_rad=rotation, flip=bool(flip)), aberrations, notes

    @property
    def _depth_A(self) -> float:
        """From the first slice to the last."""
        return (self.slices - 1) * (self.slice_thickness_A or 0.0)

    def _searched(
        self, cube: Cube, options: RunOptions | None, mask: NDArray[np.bool_] | None
    ) -> OpticsSearch:
        from py4DSTEM.process.phase.ptychography.search import SearchOptics  # which tries with this

        thickness = self.slices * (self.slice_thickness_A or 0.0) if self.slices > 1 else None
        middle = None if self.defocus_A is None else self.defocus_A - self._depth_A / 2
        search = SearchOptics(
            defocus_sign=0.0 if middle is None else float(np.sign(middle)),
            rotation_rad=self.rotation_rad,
            flip=self.flip,
            thickness_A=thickness,
        )
        return search.apply(cube, options, mask=mask)

    def start(self, problem: Problem, vacuum: ArrayLike | None = None) -> Wave:
        """The first object and probe."""
        probe = first_probe(problem.patterns, problem.aberrations, modes=self.modes, vacuum=vacuum)
        object_ = first_object(problem.geometry, self.slices)
        return _wave(problem, object_, probe)

    def _continued(self, problem: Problem, start: PtychographyResult) -> Wave:
        """Object and probe of a result, with as many slices and modes as are wanted now."""
        ramp = centre_ramp(problem.patterns)
        object_, probe = continued(start.object, start.probe, self.slices, self.modes)
        return _wave(problem, object_, probe / ramp)

    def solver(self, problem: Problem, wave: Wave) -> Solver[Wave]:
        """Steps, and all that follows each of them."""
        optics = problem.patterns.optics
        thickness = problem.geometry.slice_A
        first = from_spectra(wave.planes.probe, problem.patterns.shape)
        constraints = Constraints.of(
            self, self, optics, slice_thickness_A=thickness, first_probe=first
        )
        positions = None
        if self.refine_positions != "no":
            positions = Positions(
                problem.geometry,
                self.max_move_A or 0.5 * min(optics.R_steps_A),
                problem.patterns.expected,
                self.refine_positions,
                self.positions_from,
                self.positions_every,
            )
        tilts = self._tilts(problem)
        alone = not constraints.active and positions is None and tilts is None
        power = problem.patterns.power
        shrink = self.shrink if self.method in ("gradient", "epie") else 1.0
        return Rounds(self._steps(alone=alone), constraints, positions, tilts, power, shrink)

    def _tilts(self, problem: Problem) -> Tilts | None:
        """What moves the tilt, where it is sought."""
        if not self.refine_tilt:
            return None
        return Tilts(problem.patterns, self.identical_slices, self.tilt_from, self.tilt_every)

    def _steps(self, *, alone: bool = True) -> Steps:
        """Steps of the method; `alone` says that nothing else changes the state between them."""
        common: dict[str, Any] = {
            name: getattr(self, name) for name in ("object_step", "probe_step", "seed")
        }
        late = 1 if self.slices == 1 else PROBE_FROM
        common["probe_from"] = late if self.probe_from is None else self.probe_from
        if self.method == "gradient":
            common |= {name: getattr(self, name) for name in ("batch", "momentum", "blend")}
            elsewhere = self._elsewhere()
            if elsewhere is None:
                return GradientSteps(**common)
            return ArraySteps(*elsewhere, reread=not alone, **common)
        if self.device == "cuda" or self.precision == "double":
            raise ParameterError(
                f"device={self.device!r} and precision={self.precision!r} need method='gradient', "
                f"not {self.method!r}"
            )
        if self.method == "epie":
            return PositionSteps(blend=self.blend, **common)
        beta = 1.0 if self.method == "dm" else self.relaxation
        return ProjectionSteps(beta, common["probe_from"], self.probe_step, self.poisson)

    def _elsewhere(self) -> tuple[Any, Any] | None:
        """Array library and precision; None: the compiled kernels do it."""
        xp = namespace(self.device)
        if xp is np and self.precision == "single":
            return None
        return xp, (np.complex64 if self.precision == "single" else np.complex128)

    def _result(
        self,
        cube: Cube,
        problem: Problem,
        solved: Solution[Wave],
        start: PtychographyResult | None,
    ) -> PtychographyResult:
        patterns, geometry = problem.patterns, solved.state.geometry
        modes = from_spectra(solved.state.planes.probe, patterns.shape) * centre_ramp(patterns)
        modes, _ = orthogonal(modes)
        power = (np.abs(modes) ** 2).sum(axis=(1, 2))
        optics = patterns.optics
        if self.refine_positions != "no":
            optics = _as_moved(optics, geometry)
        tilts = self._tilts(problem)
        sigma = (0.0, 0.0) if tilts is None else tilts.sigma(solved.state)
        back = optics.to_detector().T
        tilt, spread = back @ np.array(geometry.tilt_rad), np.sqrt(back**2 @ np.square(sigma))
        return PtychographyResult(
            object=from_object(solved.state.planes.object),
            probe=modes[np.argsort(-power)].astype(np.complex64),
            positions_px=geometry.positions_px.reshape(*cube.R_shape, 2),
            errors=solved.errors,
            expected_error=patterns.expected / patterns.power,
            status=solved.status,
            reason=solved.reason,
            aberrations=problem.aberrations,
            slice_thickness_A=geometry.slice_A,
            position_errors=_shares_of(solved.state.errors, patterns.counts, cube.R_shape),
            optics=optics,
            calibration=cube.calibration.replace(
                rotation_rad=optics.rotation_rad, flip=optics.flip
            ),
            history=self.history(cube.history if start is None else start.history),
            notes=(*problem.notes, *patterns.notes),
            tilt_rad=(float(tilt[0]), float(tilt[1])),
            tilt_sigma_rad=(float(spread[0]), float(spread[1])),
        )


Steps = GradientSteps | PositionSteps | ProjectionSteps | ArraySteps


@dataclass(frozen=True, eq=False)
class Rounds:
    """A step, then constraints, then positions; the error is a share of all counts."""

    steps: Steps
    constraints: Constraints
    positions: Positions | None
    tilts: Tilts | None
    power: float
    shrink: float = 1.0

    def update(self, state: Wave, iteration: int) -> tuple[Wave, float]:
        """One round."""
        # Where positions began: a part of the object that stays the same while they move.
        first = state.geometry if self.positions is None else self.positions.first
        middle = (..., *first.middle)
        before = state.planes.object[middle].copy()
        wave, error = self.steps.update(state, iteration)
        wave = self.constraints.apply(wave, iteration)
        if not np.isfinite(wave.planes.object).all() or not np.isfinite(wave.planes.probe).all():
            # The error is that of the state before: of what this step made, say so at once.
            return wave, math.inf
        if self.shrink < 1:
            move = moved(before, wave.planes.object[middle])
            wave = replace(wave, pace=wave.pace.after(move, error, self.shrink))
        if self.positions is not None and self.positions.due(iteration):
            wave = with_positions(wave, self.positions.moved(wave))
        if self.tilts is not None and self.tilts.due(iteration):
            wave = self.tilts.moved(wave)
        return wave, error / self.power

    def kept(self, state: Wave) -> Wave:
        """A copy of a state."""
        return self.steps.kept(state)


def _wave(problem: Problem, object_: NDArray[Any], probe: NDArray[Any]) -> Wave:
    planes = State(to_object(object_), to_spectra(probe))
    errors = np.zeros(len(problem.patterns.counts))
    return Wave(planes, errors, problem.model(), problem.geometry)


def _floor(patterns: Patterns, few: float) -> float:
    """What is added to intensities; more where counts are electrons than where they are not."""
    least = FLOOR * patterns.power / patterns.amplitudes.size
    return max(least, few) if are_electrons(patterns.amplitudes) else least


def _shares_of(
    errors: NDArray[np.float64], counts: NDArray[np.float64], R_shape: tuple[int, int]
) -> NDArray[np.float64]:
    """Errors as shares of counts; NaN where a pattern is empty."""
    known = counts > 0
    shares = np.where(known, errors / np.where(known, counts, 1.0), np.nan)
    return shares.reshape(R_shape)


def _as_moved(optics: Optics, geometry: Geometry) -> Optics:
    """With the rotation that the positions have now, which is no matter of the scan's shape."""
    there = geometry.positions_px * np.array(geometry.sampling_A)
    first = optics.positions_A(geometry.R_shape).reshape(-1, 2)
    turn = turned_by(affine_part(first, there))
    # To the detector is the way back, and an exchange of axes turns it round.
    rotation = optics.rotation_rad + (turn if optics.flip else -turn)
    return replace(optics, rotation_rad=math.remainder(rotation, 2 * math.pi))


def _same_grid(start: PtychographyResult, patterns: Patterns, R_shape: tuple[int, int]) -> Geometry:
    """The geometry of a result, whose positions may have moved."""
    ours, theirs = patterns.optics, start.optics
    steps = np.allclose(ours.Q_steps_A, theirs.Q_steps_A, rtol=1e-6)
    if start.positions_px.shape[:2] != R_shape or ours.Q_shape != theirs.Q_shape or not steps:
        raise ParameterError(
            f"start is of {start.positions_px.shape[:2]} positions and patterns of "
            f"{theirs.Q_shape} px of {theirs.Q_steps_A} Å⁻¹, this scan of {R_shape}, "
            f"{ours.Q_shape} and {ours.Q_steps_A}: only the same scan and grid can be continued"
        )
    rows, columns = start.object.shape[1:]
    at = start.positions_px.reshape(-1, 2)
    corner = -at[0] * np.array(ours.sampling_A)
    return Geometry(at, (rows, columns), ours.Q_shape, ours.sampling_A, corner, R_shape)


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
    method: Literal["gradient", "epie", "dm", "raar"] = "gradient",
    iterations: int = 30,
    defocus_A: float | None = None,
    slices: int = 1,
    slice_thickness_A: float | None = None,
    modes: int = 1,
    vacuum: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    positions_A: ArrayLike | None = None,
    start: PtychographyResult | None = None,
    folder: str | Path | None = None,
    options: RunOptions | None = None,
    **more: Any,
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
    method : "gradient", "epie", "dm" or "raar"
        Preconditioned gradients of batches with momentum; a step after every position; or
        projections of all exit waves, which take memory.
    iterations : int
        Passes over all positions, at most.
    defocus_A : float, optional
        ``−C10`` of the first probe, underfocus positive; None: measured by `parallax`.
    slices, slice_thickness_A : int, float
        Of a thick object.
    modes : int
        Probe modes.
    vacuum : (Qx, Qy) array or DiffractionSlice, optional
        Counts without specimen: the modulus of the probe.
    mask : (Qx, Qy) bool, optional
        True where the detector measures.
    positions_A : (Rx, Ry, 2) array, optional
        Measured scan positions in scan axes, instead of the regular grid.
    start : PtychographyResult, optional
        To go on from, with its probe, positions and rotation; more slices share its phase.
    folder : path, optional
        On a fast disk, for patterns that do not fit into memory.
    options : RunOptions, optional
        Progress, cancel (gives what was reached), workers.
    **more
        Of the iteration: aberrations, rotation_rad, flip, batch, object_step, probe_step,
        probe_from, momentum, shrink, blend, relaxation, poisson, tolerance, seed, device,
        precision.  Of the object: object_type, max_amplitude, positivity, tv_weight, low_pass_A,
        high_pass_A, blur_A, kz_weight, identical_slices, object_every.  Of the probe:
        probe_radius_A, probe_aperture, fix_probe_modulus, smooth_probe_phase, center_probe.  Of
        positions: refine_positions, positions_from, positions_every, max_move_A.  Of slices:
        tilt_rad, refine_tilt, tilt_from, tilt_every.  `Ptychography` describes each.

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
    ePIE: doi:10.1016/j.ultramic.2009.05.012; rPIE: doi:10.1364/OPTICA.4.000736; difference map:
    doi:10.1126/science.1158573; mixed states: doi:10.1038/s41467-020-16688-6; several slices:
    doi:10.1364/JOSAA.29.001606.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((8, 8), (48, 48), seed=1)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> result = ptychography(cube, defocus_A=100.0, iterations=3)
    >>> result.status, result.errors[0] > result.errors[-1]
    ('iterations', True)
    """
    step = Ptychography(
        method=method,
        iterations=iterations,
        defocus_A=defocus_A,
        slices=slices,
        slice_thickness_A=slice_thickness_A,
        modes=modes,
        **more,
    )
    known = {"vacuum": vacuum, "mask": mask, "positions_A": positions_A, "folder": folder}
    return step.apply(cube, options, start=start, **known)
