"""Defocus, rotation and flip of a scan: measured, then tried by short reconstructions.

One slice explains a scan twice, exactly as well: complex conjugates of object and aberrations turn
its patterns by half a turn.  Only what is known of objects (atoms are bright) tells the two apart.
Several slices explain one of them alone, as the beam passes them in one direction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, NonNegativeFloat, field_validator

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.calibrate.rotation import measure_rotation
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.parallax import parallax
from py4DSTEM.process.phase.ptychography.geometry import Geometry
from py4DSTEM.process.phase.ptychography.reconstruct import Problem, Ptychography
from py4DSTEM.solve.driver import Stop, iterate
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["OpticsSearch", "SearchOptics", "search_optics"]

Float = NDArray[np.float64]
THICKNESSES_A = (60.0, 120.0, 240.0)
"""That are tried where one slice does not explain the patterns, and none is known."""
SLICES = 4
EXPLAINED = 1.5
"""Times the noise: what one slice may leave, few iterations and one probe mode granted."""
BETTER, DECIDED, SIGMAS = 0.85, 1.05, 2.0
"""Share of the error that several slices may leave to be believed; ratio of the errors of two half
turns; sigmas of what is scattered beyond the disk that tell them apart."""
REACH = 2.0
"""Radii of the bright disk to the edge of the detector: what is scattered less far is an image with
a contrast of its own, which in crystals may be that of holes."""
APART_RAD = math.radians(5.0)
"""Between two measured rotations that are not the same."""
CLEAR = 0.01
"""Share by which the error of the best defocus lies below the median of all, to be believed."""
GRID = 9


@dataclass(frozen=True, eq=False)
class OpticsSearch:
    """Defocus, rotation and flip that explain a scan, and what was tried.

    Parameters
    ----------
    defocus_A : float
        −C10 for the middle of the specimen: half its thickness less than at its entrance.
    rotation_rad, flip : float, bool
        From detector to scan axes.
    thickness_A : float
        Of the model that explains most; 0: one slice does.
    half_turn_by : str
        What tells this solution from the opposite aberrations and half a turn more:
        "calibration", "slices", "defocus", "dark field" or "skewness".
    half_turn_z : float
        By how many sigma; infinite where it is known, or only one of both explains the patterns.
    tried : (n, 4) float64
        Defocus (Å), rotation (rad), flip (0 or 1) and thickness (Å) of each trial.
    errors : (n,) float64
        ``Σ (√I_measured − √I)² / Σ I_measured`` of each at its end.
    expected_error : float
        What counting noise alone gives, where counts are electrons.
    notes : tuple of str
        What is doubtful.
    """

    defocus_A: float
    rotation_rad: float
    flip: bool
    thickness_A: float
    half_turn_by: str
    half_turn_z: float
    tried: Float
    errors: Float
    expected_error: float
    notes: tuple[str, ...] = ()
    history: History = field(default_factory=History)
    name: str = "search of optics"

    @property
    def entrance_defocus_A(self) -> float:
        """−C10 for the entrance surface."""
        return self.defocus_A + self.thickness_A / 2

    @property
    def rotation_deg(self) -> float:
        return math.degrees(self.rotation_rad)

    @property
    def error_ratio(self) -> float:
        """Smallest error of a trial over that of counting noise; NaN without trials."""
        return float(self.errors.min() / self.expected_error) if len(self.errors) else math.nan

    def calibration_changes(self) -> dict[str, Any]:
        """What it tells a calibration: rotation and flip."""
        return {"rotation_rad": self.rotation_rad, "flip": self.flip}

    def text(self) -> str:
        """A few lines for a report."""
        where = f" in the middle of {self.thickness_A:.0f} Å" if self.thickness_A else ""
        sure = "known" if math.isinf(self.half_turn_z) else f"{self.half_turn_z:.1f} sigma"
        return "\n".join(
            [
                f"defocus {self.defocus_A:.4g} Å{where}",
                f"rotation {self.rotation_deg:.2f}°, flip {self.flip}; half turn by "
                f"{self.half_turn_by}: {sure}",
                f"{len(self.errors)} trials, the best {self.error_ratio:.2f} x counting noise",
                *(f"NOTE: {note}" for note in self.notes),
            ]
        )

    def __repr__(self) -> str:
        return f"<OpticsSearch: {'; '.join(self.text().splitlines()[:2])}>"


def _to_parts(found: OpticsSearch) -> dict[str, Any]:
    return {**vars(found), "notes": list(found.notes), "history": found.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> OpticsSearch:
    changed = {"notes": tuple(parts["notes"]), "history": History.from_dict(parts["history"])}
    return OpticsSearch(**{**parts, **changed})


register_result("optics-search", OpticsSearch, _to_parts, _from_parts)


@dataclass(frozen=True)
class _Place:
    """Defocus in the middle, rotation, flip; how the half turn was told; what is still open."""

    defocus_A: float | None
    rotation_rad: float
    flip: bool
    z: float
    by: str

    @property
    def open(self) -> bool:
        """Whether half a turn more, with the opposite defocus, may be right as well."""
        return math.isfinite(self.z)

    def turned(self) -> _Place:
        """The solution that one slice cannot tell from this one."""
        defocus = None if self.defocus_A is None else -self.defocus_A
        return replace(self, defocus_A=defocus, rotation_rad=self.rotation_rad + math.pi)


class SearchOptics(Analysis, kind="search-optics", version=1):
    """Defocus, rotation and flip of a scan, by parallax and by short reconstructions."""

    defocus_A: tuple[float, float] | None = Field(
        None,
        description="Least and largest defocus to be tried, for the middle of the specimen; none: "
        "by parallax, and about focus where that fails.",
    )
    defocus_sign: float = Field(
        0.0, ge=-1, le=1, description="1: underfocus, −1: overfocus; 0: not known."
    )
    rotation_rad: float | None = Field(
        None, description="From detector to scan axes, after the flip; none: known or measured."
    )
    flip: bool | None = Field(
        None, description="Whether x and y of the detector are exchanged; none: known or measured."
    )
    thickness_A: NonNegativeFloat | None = Field(
        None, description="Of the specimen; 0: thin. None: thick ones are tried where need be."
    )
    turn_rad: NonNegativeFloat = Field(
        0.0, description="How far the rotation is looked for by trial, to both sides."
    )
    positions: int = Field(
        12, ge=4, le=64, description="Scan positions along the edge of the part that is tried."
    )
    iterations: int = Field(6, ge=2, le=100, description="Of each trial.")

    accepts: ClassVar[tuple[type, ...]] = (Cube,)
    cites: ClassVar[tuple[str, ...]] = ("10.48550/arXiv.2309.05250", "10.1364/JOSAA.29.001606")

    @field_validator("defocus_A")
    @classmethod
    def _range(cls, given: tuple[float, float] | None) -> tuple[float, float] | None:
        if given is not None and not given[0] < given[1]:
            raise ValueError(f"a range (least, largest), not {given!r}")
        return given

    def apply(
        self,
        value: Cube,
        options: RunOptions | None = None,
        *,
        vacuum: ArrayLike | None = None,
        mask: ArrayLike | None = None,
    ) -> OpticsSearch:
        """Search; `vacuum` and `mask` as for ptychography."""
        self.check(value)
        places = self._begin(value, options)
        part = _richest(value, self.positions)
        trials = _Trials(part, vacuum, mask, self.iterations, options)
        begin, notes = self._best(trials, places)
        place, thickness, doubts = self._decided(trials, begin)
        notes += doubts
        place = self._refined(trials, place, thickness)
        if thickness and self.thickness_A is None:
            notes.append(
                f"one slice does not explain the patterns, several over about {thickness:.0f} Å do "
                "better: give slices and slice_thickness_A"
            )
        return OpticsSearch(
            defocus_A=place.defocus_A or 0.0,
            rotation_rad=math.remainder(place.rotation_rad, 2 * math.pi),
            flip=place.flip,
            thickness_A=thickness,
            half_turn_by=place.by,
            half_turn_z=place.z,
            tried=np.array(trials.tried, np.float64).reshape(-1, 4),
            errors=np.array(trials.errors, np.float64),
            expected_error=trials.expected,
            notes=tuple(notes),
            history=self.history(value.history),
        )

    # ---- where to begin --------------------------------------------------------------------------
    def _begin(self, cube: Cube, options: RunOptions | None) -> list[_Place]:
        """By parallax, and by the symmetry of patterns where it fails or these contradict it."""
        known = cube.calibration
        rotation = known.rotation_rad if self.rotation_rad is None else self.rotation_rad
        flip = known.flip if self.flip is None and rotation is not None else self.flip
        if rotation is not None:
            cube = cube.with_calibration(rotation_rad=rotation, flip=bool(flip))
        defocus: float | None = None
        measured: _Place | None = None
        if self.defocus_A is None:
            measured = self._by_parallax(cube, options)
            defocus = None if measured is None else measured.defocus_A
        if rotation is not None:
            return [_Place(defocus, rotation, bool(flip), math.inf, "calibration")]
        rings = self._by_rings(cube, options)
        found = [rings] if measured is None else _agreed(measured, rings)
        if _reach(cube) >= REACH:
            return found
        return [replace(p, z=min(p.z, 0.99 * SIGMAS)) if p.open else p for p in found]

    def _by_rings(self, cube: Cube, options: RunOptions | None) -> _Place:
        """Rotation and flip from the symmetry of patterns."""
        found = measure_rotation(cube, method="symmetry", flip=self.flip, options=options)
        return _Place(None, found.rotation_rad, found.flip, found.half_turn_z, found.half_turn_by)

    def _by_parallax(self, cube: Cube, options: RunOptions | None) -> _Place | None:
        sign = {1: "under", -1: "over"}.get(round(self.defocus_sign))
        try:
            found = parallax(cube, flip=self.flip, defocus=sign, options=options)  # type: ignore[arg-type]
        except (SolveError, ShapeError):
            return None  # in focus, or too small a scan
        z, by = found.half_turn_z, found.half_turn_by
        return _Place(found.defocus_A, found.rotation_rad, found.flip, z, by)

    # ---- what explains the patterns --------------------------------------------------------------
    def _decided(self, trials: _Trials, begin: _Place) -> tuple[_Place, float, list[str]]:
        """The place that explains the patterns, thickness of its model, and what is doubtful."""
        thin = trials.error(begin, 0.0)
        doubts = _undecided(begin)
        if self.thickness_A == 0 or trials.explained(thin):
            begin, more = self._as_good_as_beside(trials, begin, thin)
            return begin, 0.0, doubts + more
        thick = THICKNESSES_A if self.thickness_A is None else (self.thickness_A,)
        found = {
            (half, t): trials.error(begin.turned() if half else begin, t)
            for half in ((False, True) if begin.open else (False,))
            for t in thick
        }
        half, thickness = min(found, key=lambda key: found[key])
        best = found[half, thickness]
        if best > BETTER * thin:
            return begin, 0.0, [*doubts, *trials.unexplained(min(best, thin))]
        place = begin.turned() if half else begin
        if not begin.open:
            return place, thickness, []
        other = min(found[not half, t] for t in thick)
        if other < DECIDED * best:
            words = f"the half turn of the rotation is not decided: {other / best:.3f} x the error"
            return replace(place, by="slices", z=0.0), thickness, [words]
        return replace(place, by="slices", z=math.inf), thickness, []

    def _best(self, trials: _Trials, places: list[_Place]) -> tuple[_Place, list[str]]:
        """Of several beginnings the one that explains more; what is doubtful about it."""
        found = [self._with_defocus(trials, place) for place in places]
        if len(found) == 1:
            return found[0]
        one, other = (trials.error(place, 0.0) for place, _ in found)
        best, notes = found[0 if one <= other else 1]
        ratio = max(one, other) / min(one, other)
        if ratio < 1 + CLEAR:
            notes = [
                *notes,
                "parallax and the symmetry of patterns find different rotations, "
                + " and ".join(f"{math.degrees(p.rotation_rad):.0f}°" for p in places)
                + f", and trials do not decide ({ratio:.3f} x the error): give rotation_rad",
            ]
        return best, notes

    def _as_good_as_beside(
        self, trials: _Trials, place: _Place, error: float
    ) -> tuple[_Place, list[str]]:
        """The place, or where an error beside it is lower, the best of all: noise misled it."""
        depth, defocus = trials.depth_A, place.defocus_A or 0.0
        beside = (replace(place, defocus_A=defocus + k * depth / 2) for k in (-1, 1))
        if min(trials.error(one, 0.0) for one in beside) * (1 + CLEAR) > error:
            return place, []
        return self._with_defocus(trials, replace(place, defocus_A=None))

    def _with_defocus(self, trials: _Trials, begin: _Place) -> tuple[_Place, list[str]]:
        """Of a range, or about focus, the defocus that one slice explains best."""
        if begin.defocus_A is not None:
            return begin, []
        depth = trials.depth_A
        low, high = (-2 * depth, 2 * depth) if self.defocus_A is None else self.defocus_A
        grid = np.linspace(low, high, GRID)
        errors = [trials.error(replace(begin, defocus_A=float(d)), 0.0) for d in grid]
        place = int(np.argmin(errors))
        if not math.isfinite(errors[place]) or place in (0, GRID - 1):
            raise ParameterError(
                f"the smallest error is at {grid[place]:.4g} Å, an end of the range "
                f"({low:.4g}, {high:.4g}): search further there, by defocus_A=(least, largest)"
            )
        step = float(grid[1] - grid[0])
        defocus = _lowest(lambda d: trials.error(replace(begin, defocus_A=d), 0.0),
                          float(grid[place]), step / 2)  # fmt: skip
        clear = float(np.median(errors)) / errors[place] - 1 > CLEAR
        notes = [] if clear else [
            f"the defocus is hardly decided: {errors[place]:.4g} is the error at {defocus:.4g} Å, "
            f"{float(np.median(errors)):.4g} elsewhere; give defocus_A"
        ]  # fmt: skip
        return replace(begin, defocus_A=defocus), notes

    def _refined(self, trials: _Trials, place: _Place, thickness: float) -> _Place:
        """By parabolas through the errors of neighbours, where parallax has not done so."""

        def at(defocus: float) -> float:
            return trials.error(replace(place, defocus_A=defocus), thickness)

        def at_turn(rotation: float) -> float:
            return trials.error(replace(place, rotation_rad=rotation), thickness)

        if self.turn_rad > 0:
            rotation = _lowest(at_turn, place.rotation_rad, self.turn_rad)
            rotation = _lowest(at_turn, rotation, self.turn_rad / 4)
            place = replace(place, rotation_rad=rotation)
        if self.defocus_A is not None:
            step = (self.defocus_A[1] - self.defocus_A[0]) / (GRID - 1) / 2
        elif thickness > 0:
            step = thickness / 4
        else:
            return place
        defocus = place.defocus_A or 0.0
        for width in (step, step / 2):
            defocus = _lowest(at, defocus, width)
        return replace(place, defocus_A=defocus)


def _agreed(measured: _Place, rings: _Place) -> list[_Place]:
    """What parallax found, with the half turn that tells more clearly; both if they disagree."""
    between = math.cos(2 * (rings.rotation_rad - measured.rotation_rad))
    if rings.flip != measured.flip or between < math.cos(2 * APART_RAD):
        return [measured, rings]
    if not measured.open or rings.z <= measured.z:
        return [measured]
    away = math.cos(rings.rotation_rad - measured.rotation_rad) < 0
    turned = measured.turned() if away else measured
    return [replace(turned, z=rings.z, by=rings.by)]


def _reach(cube: Cube) -> float:
    """Where the detector ends, in radii of the bright disk."""
    return min(cube.Q_shape) / 2 / Optics.of(cube.calibration, cube.Q_shape).semiangle_px


def _undecided(place: _Place) -> list[str]:
    if place.z >= SIGMAS:
        return []
    return [
        f"the half turn of the rotation is not decided ({place.z:.1f} sigma by {place.by}): with "
        "it go the opposite defocus and a phase of the opposite sign; give rotation_rad"
    ]


class _Trials:
    """Reads a part of a scan once and reconstructs it with one optics after the other."""

    def __init__(
        self,
        cube: Cube,
        vacuum: ArrayLike | None,
        mask: ArrayLike | None,
        iterations: int,
        options: RunOptions | None,
    ) -> None:
        self.cube, self.vacuum, self.mask = cube, vacuum, mask
        self.iterations, self.options = iterations, options
        self.problem: Problem | None = None
        self.tried: list[tuple[float, float, float, float]] = []
        self.errors: list[float] = []

    @property
    def depth_A(self) -> float:
        """Depth of focus, ``λ/α²``."""
        optics = Optics.of(self.cube.calibration, self.cube.Q_shape)
        return optics.wavelength_A / (optics.semiangle_mrad * 1e-3) ** 2

    @property
    def expected(self) -> float:
        """Error that counting noise alone gives."""
        if self.problem is None:
            return math.nan
        return self.problem.patterns.expected / self.problem.patterns.power

    def explained(self, error: float) -> bool:
        """Whether an error is that of noise, as far as a short trial can tell."""
        return error < EXPLAINED * self.expected

    def unexplained(self, error: float) -> list[str]:
        """Words for errors of no trial's explaining."""
        if self.explained(error) or not self.errors:
            return []
        return [
            f"no start explains the patterns: the best leaves {error / self.expected:.1f} x the "
            "counting noise; give defocus_A and rotation_rad, or check the calibration"
        ]

    def error(self, place: _Place, thickness_A: float) -> float:
        """At the end of a short reconstruction; infinite where there is none."""
        step = self._step(place, thickness_A)
        try:
            if self.problem is None:
                self.problem = step.problem(self.cube, self.options, mask=self.mask)
            problem = self._with(step, self.problem)
        except ParameterError:
            if self.problem is None:
                raise
            return math.inf
        wave = step.start(problem, self._modulus(thickness_A))
        solver = step.solver(problem, wave)
        solved = iterate(solver, wave, Stop(self.iterations), self.options, label="try optics")
        defocus = place.defocus_A or 0.0
        self.tried.append((defocus, place.rotation_rad, float(place.flip), thickness_A))
        self.errors.append(min(solved.errors[-1], solved.errors[0]))
        return self.errors[-1]

    def _modulus(self, thickness_A: float) -> ArrayLike | None:
        """Of the probe: a thin specimen hardly changes the mean pattern."""
        if self.vacuum is not None or thickness_A > 0:
            return self.vacuum
        patterns = np.asarray(self.cube.data[...], np.float64)
        if self.mask is not None:
            patterns = np.where(np.asarray(self.mask, bool), patterns, 0.0)
        mean: Float = np.nanmean(np.maximum(patterns, 0), axis=(0, 1))
        return mean

    def _step(self, place: _Place, thickness_A: float) -> Ptychography:
        slices = SLICES if thickness_A > 0 else 1
        between = thickness_A / slices
        return Ptychography(
            # Of the first slice, which stands for the middle of its slab.
            defocus_A=(place.defocus_A or 0.0) + (slices - 1) / 2 * between,
            rotation_rad=place.rotation_rad,
            flip=place.flip,
            slices=slices,
            slice_thickness_A=between or None,
            iterations=self.iterations,
            # A probe that may change takes up what another defocus would explain.
            probe_step=0.5 if slices > 1 else 0.0,
            probe_from=2,
            # Long steps would end in noise, of which narrow probes leave less.
            object_step=0.5 if slices > 1 else 0.2,
            momentum=0.5 if slices > 1 else 0.0,
            # Small steps: what has not settled yet would favour wide probes.
            batch=max(8, math.prod(self.cube.R_shape) // 9),
        )

    def _with(self, step: Ptychography, problem: Problem) -> Problem:
        """The same patterns with other optics."""
        calibration, aberrations = step.calibrated(self.cube, self.options, None)[:2]
        optics = Optics.of(calibration, problem.patterns.shape)
        patterns = replace(problem.patterns, optics=optics)
        geometry = Geometry.of(optics, self.cube.R_shape)
        if step.slices > 1:
            geometry = geometry.sliced(step.slice_thickness_A or 0.0, (0.0, 0.0))
        return replace(problem, patterns=patterns, geometry=geometry, aberrations=aberrations)


def _richest(cube: Cube, edge: int) -> Cube:
    """Of five parts of a scan the one whose patterns differ most from each other, beyond noise."""
    m, n = (min(edge, size) for size in cube.R_shape)
    room = (cube.R_shape[0] - m, cube.R_shape[1] - n)
    shares = ((2, 2), (1, 1), (1, 3), (3, 1), (3, 3))
    starts = sorted({(room[0] * a // 4, room[1] * b // 4) for a, b in shares})
    middle = (room[0] // 2, room[1] // 2)
    parts = {at: cube.crop(R=((at[0], at[0] + m), (at[1], at[1] + n))) for at in starts}
    if len(parts) == 1 or math.prod(cube.R_shape) < 4 * m * n:
        return cube.crop(R=((middle[0], middle[0] + m), (middle[1], middle[1] + n)))
    return max(parts.values(), key=_variety)


def _variety(part: Cube) -> float:
    """Variance of patterns from place to place less that of counting, over the mean."""
    patterns = np.asarray(part.data[...], np.float64)
    mean = np.nanmean(patterns, axis=(0, 1))
    excess = np.nanvar(patterns, axis=(0, 1)) - mean
    return float(np.nansum(excess) / max(float(np.nansum(mean)) ** 2, 1e-30))


def _lowest(error: Callable[[float], float], start: float, step: float) -> float:
    """Where the parabola through three places is lowest, at most a step from the middle one."""
    left, middle, right = (error(start + k * step) for k in (-1, 0, 1))
    bend = left - 2 * middle + right
    if not math.isfinite(bend) or bend <= 0:
        return start + step * (int(np.argmin([left, middle, right])) - 1)
    return start + step * float(np.clip((left - right) / (2 * bend), -1, 1))


def search_optics(
    cube: Cube,
    defocus_A: tuple[float, float] | None = None,
    *,
    vacuum: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    rotation_rad: float | None = None,
    flip: bool | None = None,
    thickness_A: float | None = None,
    turn_rad: float = 0.0,
    options: RunOptions | None = None,
) -> OpticsSearch:
    """Find defocus, rotation and flip of a scan, and say how far the data decide them.

    What `ptychography` begins with, where these are not known.

    Parameters
    ----------
    cube : DataCube
        With energy, convergence angle, pixel size and scan step in its calibration.
    defocus_A : (float, float), optional
        Least and largest that are tried, for the middle of the specimen; None: by parallax, and
        about focus where that fails.
    vacuum : (Qx, Qy) array or DiffractionSlice, optional
        Counts without specimen; None: a thin specimen hardly changes the mean pattern.
    mask : (Qx, Qy) bool, optional
        True where the detector measures.
    rotation_rad, flip : float, bool, optional
        None: those of the calibration, else measured.
    thickness_A : float, optional
        Of the specimen, 0: thin.  None: 60, 120 and 240 Å are tried where one slice fails.
    turn_rad : float
        How far the rotation is looked for by trial, to both sides.
    options : RunOptions, optional

    Returns
    -------
    OpticsSearch
        ``cube.with_calibration(found)`` keeps rotation and flip; ``.notes`` says what is doubtful.

    Raises
    ------
    ParameterError
        The smallest error lies at an end of the range of defocus.

    Notes
    -----
    Parallax (or, in focus, the symmetry of patterns under mirrors) begins; trials are short
    reconstructions of at most 12 × 12 positions, where patterns differ most.  One slice explains a
    scan twice, exactly as well, whatever its strength: ``O*`` with the opposite aberrations gives
    the patterns turned by half a turn.  Of a thin specimen the half turn is therefore told by what
    is scattered beyond the disk, which needs a detector of two of its radii or more.  Where one
    slice leaves more than half as much again as counting noise, four slices are tried with both
    half turns: in a thick specimen they explain only one of them.

    References
    ----------
    Varnavides et al., doi:10.48550/arXiv.2309.05250 (parallax); Maiden, Humphry & Rodenburg,
    doi:10.1364/JOSAA.29.001606 (several slices).

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((14, 15), (40, 40), Q_pixel_size_A=0.06, dose=1e5, seed=1)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> found = search_optics(cube, (20.0, 180.0))
    >>> abs(found.defocus_A - 100) < 10
    True
    """
    step = SearchOptics(
        defocus_A=defocus_A,
        rotation_rad=rotation_rad,
        flip=flip,
        thickness_A=thickness_A,
        turn_rad=turn_rad,
    )
    return step.apply(cube, options, vacuum=vacuum, mask=mask)
