"""Defocus and rotation of a scan by trial: short reconstructions, the smallest error wins."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.geometry import Geometry
from py4DSTEM.process.phase.ptychography.reconstruct import Problem, Ptychography
from py4DSTEM.solve.driver import Stop, iterate
from py4DSTEM.stream.options import RunOptions

__all__ = ["OpticsSearch", "search_optics"]

Float = NDArray[np.float64]
LARGEST = 20
"""Positions along an edge of the part of the scan that is tried."""


@dataclass(frozen=True, eq=False)
class OpticsSearch:
    """What a search found, and what it tried.

    Parameters
    ----------
    defocus_A, rotation_rad, flip
        Of the smallest error.
    tried : (n, 3) float64
        Defocus (Å), rotation (rad) and flip (0 or 1) of each trial.
    errors : (n,) float64
        ``Σ (√I_measured − √I)² / Σ I_measured`` of each at its end.
    """

    defocus_A: float
    rotation_rad: float
    flip: bool
    tried: Float
    errors: Float

    def __repr__(self) -> str:
        return (
            f"<OpticsSearch: defocus {self.defocus_A:.4g} Å, rotation "
            f"{math.degrees(self.rotation_rad):.2f}°, flip {self.flip}, of {len(self.errors)} "
            "trials>"
        )


def search_optics(
    cube: Cube,
    defocus_A: tuple[float, float],
    *,
    vacuum: ArrayLike,
    rotation_rad: float | None = None,
    flip: bool | None = None,
    turn_rad: float = 0.1,
    iterations: int = 12,
    options: RunOptions | None = None,
) -> OpticsSearch:
    """Find defocus, sign of defocus, and rotation by short reconstructions with a fixed probe.

    Parameters
    ----------
    cube : DataCube
        Calibrated; a part of at most 20 × 20 positions from its middle is used.
    defocus_A : (float, float)
        Least and largest that are tried, both of the same sign or not.
    vacuum : (Qx, Qy) array or DiffractionSlice
        Counts without specimen.  Without it a fixed probe fits no pattern, and errors say little.
    rotation_rad, flip : float, bool, optional
        To begin with; None: those of the calibration.  The other half turn is tried too.
    turn_rad : float
        How far the rotation is looked for to both sides; 0 keeps it.
    iterations : int
        Of each trial.
    options : RunOptions, optional

    Returns
    -------
    OpticsSearch

    Raises
    ------
    ParameterError
        The smallest error lies at an end of the range of defocus.

    Notes
    -----
    Nine values of defocus for each half turn; then parabolas through the smallest error and its
    neighbours, of defocus, rotation, and defocus again.  Defocus −D with the rotation turned by
    half a turn explains a weak object nearly as well: where both are in the range, the smaller
    error decides, by little.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((10, 10), (40, 40), Q_pixel_size_A=0.06, dose=None, seed=1)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> found = search_optics(cube, (50.0, 150.0), vacuum=scan.truth.vacuum, turn_rad=0.0)
    >>> abs(found.defocus_A - 100) < 10
    True
    """
    low, high = (float(v) for v in defocus_A)
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ParameterError(f"defocus_A is a range (least, largest), not {defocus_A!r}")
    known = cube.calibration
    turned = (known.rotation_rad or 0.0) if rotation_rad is None else rotation_rad
    swapped = bool(known.flip) if flip is None else flip
    trial = _Trials(_middle(cube), vacuum, swapped, iterations, options)
    grid = np.linspace(low, high, 9)
    halves = [[trial.error(d, turned + half) for d in grid] for half in (0.0, math.pi)]
    half = int(np.argmin([min(errors) for errors in halves]))
    place = int(np.argmin(halves[half]))
    if place in (0, len(grid) - 1):
        raise ParameterError(
            f"the smallest error is at {grid[place]:.4g} Å, an end of the range {defocus_A}: "
            "search further there"
        )
    turned, step = turned + half * math.pi, float(grid[1] - grid[0])
    best = _lowest(lambda d: trial.error(d, turned), float(grid[place]), step)
    if turn_rad > 0:
        turned = _lowest(lambda r: trial.error(best, r), turned, turn_rad)
        turned = _lowest(lambda r: trial.error(best, r), turned, turn_rad / 4)
    best = _lowest(lambda d: trial.error(d, turned), best, step / 2)
    best = _lowest(lambda d: trial.error(d, turned), best, step / 4)
    wrapped = math.remainder(turned, 2 * math.pi)
    return OpticsSearch(best, wrapped, swapped, np.array(trial.tried), np.array(trial.errors))


class _Trials:
    """Reads a scan once and reconstructs it with one defocus and rotation after the other."""

    def __init__(
        self,
        cube: Cube,
        vacuum: ArrayLike,
        flip: bool,
        iterations: int,
        options: RunOptions | None,
    ) -> None:
        self.cube, self.vacuum, self.flip = cube, vacuum, flip
        self.iterations, self.options = iterations, options
        self.problem: Problem | None = None
        self.tried: list[tuple[float, float, float]] = []
        self.errors: list[float] = []

    def error(self, defocus_A: float, rotation_rad: float) -> float:
        """At the end of a short reconstruction."""
        step = Ptychography(
            defocus_A=defocus_A,
            rotation_rad=rotation_rad,
            flip=self.flip,
            iterations=self.iterations,
            probe_step=0.0,
            # Small steps: what has not settled yet would favour wide probes.
            batch=max(8, math.prod(self.cube.R_shape) // 8),
        )
        if self.problem is None:
            self.problem = step.problem(self.cube, self.options)
        problem = self._with(step, self.problem)
        wave = step.start(problem, self.vacuum)
        solver = step.solver(problem, wave)
        solved = iterate(solver, wave, Stop(self.iterations), self.options, label="try optics")
        self.tried.append((defocus_A, rotation_rad, float(self.flip)))
        self.errors.append(solved.errors[-1])
        return solved.errors[-1]

    def _with(self, step: Ptychography, problem: Problem) -> Problem:
        """The same patterns with other optics."""
        calibration, aberrations = step.calibrated(self.cube, self.options, None)
        optics = Optics.of(calibration, problem.patterns.shape)
        patterns = replace(problem.patterns, optics=optics)
        geometry = Geometry.of(optics, self.cube.R_shape)
        return replace(problem, patterns=patterns, geometry=geometry, aberrations=aberrations)


def _middle(cube: Cube) -> Cube:
    """A part from the middle of a scan, as large as is tried."""
    firsts = [max(0, (n - LARGEST) // 2) for n in cube.R_shape]
    (a, b), (m, n) = firsts, (min(n, LARGEST) for n in cube.R_shape)
    return cube.crop(R=((a, a + m), (b, b + n)))


def _lowest(error: Callable[[float], float], start: float, step: float) -> float:
    """Where the parabola through three places is lowest, at most a step from the middle one."""
    left, middle, right = (error(start + k * step) for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    if bend <= 0:
        return start + step * (int(np.argmin([left, middle, right])) - 1)
    return start + step * float(np.clip((left - right) / (2 * bend), -1, 1))
