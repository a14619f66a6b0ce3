"""Two reconstructions from two halves of a scan, which share no noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.phase.compare import agreement
from py4DSTEM.process.phase.frc import checkerboard
from py4DSTEM.process.phase.ptychography.planes import from_object
from py4DSTEM.process.phase.ptychography.reconstruct import Problem, Ptychography
from py4DSTEM.process.phase.ptychography.result import PtychographyResult
from py4DSTEM.stream.options import RunOptions

__all__ = ["both_halves"]

FARTHEST_A = 2.0
"""Between the two objects: each may lie a little beside the other, with its probe."""


def both_halves(
    result: PtychographyResult,
    cube: Cube,
    *,
    vacuum: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> tuple[RealSlice, RealSlice]:
    """Phases from both halves of a checkerboard of the positions, registered, in scan axes.

    Parameters
    ----------
    result : PtychographyResult
        Whose parameters, positions and rotation are taken; object and probe start anew.
    cube : DataCube
    vacuum, mask : array, optional
        As they were given to `ptychography`.
    options : RunOptions, optional

    Returns
    -------
    two RealSlice
        The second is shifted onto the first.
    """
    step = _again(result)
    problem = step.problem(cube, options, start=result, mask=mask)
    one, other = (
        _phase(step, _part(problem, half.ravel()), result, vacuum, options)
        for half in checkerboard(cube.R_shape)
    )
    pixel = one.calibration.R[0].step
    found = agreement(other.data, one.data, pixel, max_shift_A=FARTHEST_A)
    back = (-found.shift_A[0] / pixel, -found.shift_A[1] / pixel)
    return one, replace(other, data=ndimage.shift(other.data, back, order=3, mode="nearest"))


def _again(result: PtychographyResult) -> Ptychography:
    """The step that made a result, with its positions and as many iterations as it had in all."""
    last = next((s for s in reversed(result.history.steps) if s.kind == "ptychography"), None)
    if last is None:
        raise ParameterError("the history of the result does not tell how it was made")
    known = dict(last.parameters)
    known |= {"refine_positions": "no", "iterations": max(len(result.errors), 1)}
    known |= {"refine_tilt": False, "tilt_rad": result.tilt_rad}
    return Ptychography(**known)


def _part(problem: Problem, chosen: NDArray[np.bool_]) -> Problem:
    """The same with some of the positions."""
    patterns, geometry = problem.patterns, problem.geometry
    fewer = replace(
        patterns, amplitudes=patterns.amplitudes[chosen], counts=patterns.counts[chosen]
    )
    return replace(problem, patterns=fewer, geometry=geometry.some(chosen))


def _phase(
    step: Ptychography,
    problem: Problem,
    result: PtychographyResult,
    vacuum: ArrayLike | None,
    options: RunOptions | None,
) -> RealSlice:
    wave = step.start(problem, vacuum)
    solved = step.solved(problem, wave, options)
    return replace(result, object=from_object(solved.state.planes.object)).phase
