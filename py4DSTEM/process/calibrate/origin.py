"""The origin: where the unscattered beam meets the detector at every scan position."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Mask
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError, SolveError
from py4DSTEM.process.calibrate.origin_disk import (
    DiskOrigin,
    check_near_detector,
    kept_pixels,
)
from py4DSTEM.process.calibrate.origin_fit import OriginFit, OriginMeasurement, Surface
from py4DSTEM.process.calibrate.origin_moments import MomentOrigin
from py4DSTEM.process.calibrate.origin_peaks import origin_of_peaks
from py4DSTEM.process.calibrate.origin_symmetry import FriedelOrigin, RadialOrigin, symmetry_track
from py4DSTEM.process.calibrate.origin_track import Samples, Track, track_disk
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation
from py4DSTEM.stream.options import RunOptions

__all__ = ["CalibrateOrigin", "MeasureOrigin", "calibrate_origin", "measure_origin"]

Method = Literal["auto", "disk", "com", "friedel", "radial", "peaks"]
Pair = tuple[float, float]
Scan = TypeVar("Scan", Cube, PointTable)

LEAST_FOUND = 0.6
"""Share of the sampled patterns that must show a disk for `auto` to rely on it."""
LEAST_RADIUS_PX = 1.5
"""Smaller than this the beam is a spot without a rim: its centre of mass is what can be had."""
SPOT_PX = 3.0


class MeasureOrigin(Analysis, kind="measure-origin", version=1):
    """Where the unscattered beam is at every scan position, with uncertainties."""

    method: Method = Field(
        "auto",
        description="disk: rim of the unscattered disk; com: centre of mass; friedel: inversion "
        "symmetry, also behind a beam stop; radial: rings; peaks: Bragg peaks.",
    )
    center: Pair | None = Field(None, description="Rough (qx, qy) in pixels; None: found.")
    radius_px: float | None = Field(
        None, gt=0, description="Radius of the unscattered disk (com: of the disk around the beam "
        "that counts; None: the whole pattern). None: measured.",
    )  # fmt: skip
    search_px: float | None = Field(
        None,
        gt=0,
        description="Farthest that the beam may be from a straight descan; None: chosen.",
    )
    mask: AnyDetector | None = Field(
        None, description="Pixels that count: where its weight is at least one half."
    )

    accepts: ClassVar[tuple[type, ...]] = (Cube, PointTable)
    cites: ClassVar[tuple[str, ...]] = ("10.1017/S1431927621000477",)

    def apply(self, value: Any, options: RunOptions | None = None) -> OriginMeasurement:
        return self.measured(value, None, options)

    def measured(
        self, value: Cube | PointTable, where: ArrayLike | None, options: RunOptions | None
    ) -> OriginMeasurement:
        """The origins of the positions in `where`."""
        self.check(value)
        history = self.history(value.history)
        if isinstance(value, PointTable):
            if self.method not in ("auto", "peaks"):
                raise ParameterError(f"method={self.method!r} needs the patterns, not their peaks")
            found = origin_of_peaks(value, self.center, self.search_px, where)
        else:
            operation = self._operation(value, _chosen(where, value.R_shape))
            found = run(operation, value, where=where, options=options)
            history = replace(history, steps=(*history.steps, found.history.steps[-1]))
        return replace(found, history=history, name=f"origin of {value.name}")

    def _operation(self, cube: Cube, where: NDArray[np.bool_] | None) -> Operation:
        self._check_lengths(cube.Q_shape)
        keep = kept_pixels(self.mask, cube.Q_shape, cube.calibration)
        samples = Samples.of(cube, where)
        method = self.method
        if method == "peaks":
            raise ParameterError("method='peaks' needs Bragg peaks: find_bragg_disks(cube, probe)")
        if method in ("auto", "disk"):
            track = self._disk(cube, samples, keep)
            if track is not None and self._beside(track, cube, samples, keep):
                track = None
            if track is not None and track.radius_px < LEAST_RADIUS_PX:
                return MomentOrigin(**self._near(track), radius_px=SPOT_PX)
            if track is not None:
                return DiskOrigin(
                    **self._near(track), radius_px=track.radius_px, edge_px=track.edge_px
                )
            method = "friedel"
        if method == "com":
            track = self._beam(cube, samples, keep)
            return MomentOrigin(**self._near(track), radius_px=self.radius_px)
        center = self.center or _calibrated(cube)
        track = symmetry_track(samples, cube.R_shape, keep, method, center, self.search_px)
        kind = FriedelOrigin if method == "friedel" else RadialOrigin
        return kind(**self._near(track))

    def _check_lengths(self, Q_shape: tuple[int, int]) -> None:
        """Lengths beyond the detector are mistakes, and would need windows that fill the memory."""
        size = math.hypot(*Q_shape)
        for name in ("radius_px", "search_px"):
            length = getattr(self, name)
            if length is not None and length > size:
                raise ParameterError(f"{name}={length!r} is larger than patterns of {Q_shape}")
        if self.center is not None:
            check_near_detector(self.center, Q_shape)

    def _disk(self, cube: Cube, samples: Samples, keep: NDArray[np.bool_]) -> Track | None:
        """The track of the disk; None where `auto` had better look for something else."""
        try:
            track = track_disk(
                samples, cube.R_shape, keep, center=self.center, radius_px=self.radius_px,
                search_px=self.search_px,
            )  # fmt: skip
        except (SolveError, ParameterError):
            if self.method == "disk":
                raise
            return None
        return track if self.method == "disk" or track.found >= LEAST_FOUND else None

    def _beside(self, track: Track, cube: Cube, samples: Samples, keep: NDArray[np.bool_]) -> bool:
        """Whether `auto` found another disk, as the mask hides the unscattered one.

        Then the disk is not where the centre of symmetry is.
        """
        if self.method != "auto" or self.center is not None or keep.all():
            return False
        try:
            found = symmetry_track(samples, cube.R_shape, keep, "friedel", None, None)
        except SolveError:
            return False
        away = np.hypot(*np.subtract(found.center, track.center))
        return bool(away > track.radius_px + 1)

    def _beam(self, cube: Cube, samples: Samples, keep: NDArray[np.bool_]) -> Track:
        """Where the centre of mass of a disk begins; for whole patterns it does not matter."""
        if self.radius_px is None:
            middle = (cube.Q_shape[0] - 1) / 2, (cube.Q_shape[1] - 1) / 2
            return Track(self.center or middle, ((0.0, 0.0), (0.0, 0.0)), max(cube.Q_shape))
        return track_disk(samples, cube.R_shape, keep, center=self.center, search_px=self.search_px)

    def _near(self, track: Track) -> dict[str, Any]:
        return {
            "center": track.center, "descan": track.descan, "search_px": track.search_px,
            "mask": self.mask,
        }  # fmt: skip


def _chosen(where: ArrayLike | None, R_shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    if where is None:
        return None
    chosen = np.asarray(where)
    if chosen.shape != R_shape:
        raise ShapeError(f"where has shape {chosen.shape}, the scan {R_shape}")
    if not chosen.any():
        raise ParameterError("where selects no scan position")
    return chosen.astype(bool)


def _calibrated(cube: Cube) -> Pair | None:
    try:
        return cube.calibration.mean_origin_px
    except CalibrationMissing:
        return None


def _described(name: str, default: Any, **limits: Any) -> Any:
    """A parameter that both steps have, in the same words."""
    words = MeasureOrigin.model_fields[name].description
    return Field(default, description=words, **limits)


class CalibrateOrigin(Analysis, kind="calibrate-origin", version=1):
    """Measure the origin of every scan position, and calibrate with a smooth surface through it."""

    model: Surface = Field("plane", description="Surface through the origins; none: as measured.")
    blend: bool = Field(
        False, description="Add the share of what is left that the uncertainties do not explain."
    )
    method: Method = _described("method", "auto")
    center: Pair | None = Field(None, description="Rough (qx, qy) in pixels; None: found.")
    radius_px: float | None = _described("radius_px", None, gt=0)
    search_px: float | None = _described("search_px", None, gt=0)
    mask: AnyDetector | None = _described("mask", None)

    accepts: ClassVar[tuple[type, ...]] = (Cube, PointTable)

    def apply(self, value: Any, options: RunOptions | None = None) -> Any:
        self.check(value)
        return self.calibrated(value, value, None, options)

    def calibrated(
        self,
        value: Scan,
        measured_in: Cube | PointTable,
        where: ArrayLike | None,
        options: RunOptions | None,
    ) -> Scan:
        """`value` with the origin that is measured in `measured_in`."""
        shared = set(MeasureOrigin.model_fields)
        measure = MeasureOrigin(**{k: getattr(self, k) for k in shared})
        measured = measure.measured(measured_in, where, options)
        fit = measured.fit(self.model, blend=self.blend)
        report = {**value.report, "origin": origin_report(measured, fit)}
        changed = value.with_calibration(fit)
        return replace(changed, history=self.history(value.history), report=report)


def origin_report(measured: OriginMeasurement, fit: OriginFit) -> Mapping[str, Any]:
    """Plain numbers on how good measurement and fit are."""
    failed = {"failed": dict(measured.reasons), "method": measured.method}
    return {**fit.report(), **failed}


def measure_origin(
    source: Cube | PointTable | DiffractionSlice,
    *,
    method: Method = "auto",
    center: Pair | None = None,
    radius_px: float | None = None,
    search_px: float | None = None,
    mask: Detector | ArrayLike | None = None,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> OriginMeasurement:
    """Where the unscattered beam is at every scan position, with uncertainties.

    Parameters
    ----------
    source : DataCube, BraggPeaks or DiffractionSlice
        A single pattern counts as a scan of one position.
    method : str
        - ``"disk"``: centre of the unscattered disk, fitted to its rim.  Uneven filling,
          neighbouring disks, hot pixels and a beam stop beside it do not move it.  A spot of less
          than 1.5 px radius has no rim: there, the centre of mass about it.
        - ``"com"``: centre of mass of the pattern, or (with `radius_px`) of a disk about the beam.
        - ``"friedel"``: centre of the inversion symmetry of the pattern, over the pixels that are
          known on both sides: works behind a beam stop that is masked.
        - ``"radial"``: centre about which the intensity of rings varies least.
        - ``"peaks"``: of Bragg peaks: the direct one, and the middle of all pairs q, −q.
        - ``"auto"``: peaks of peaks; of patterns the disk where there is one, otherwise friedel;
          friedel too where a mask leaves a disk only beside the centre of symmetry: without the
          mask of its beam stop, another disk of a pattern would be taken for the unscattered one.
    center : (float, float), optional
        Rough (qx, qy) in pixels at the middle of the scan; None: found in a few patterns.
    radius_px : float, optional
        Radius of the unscattered disk; None: measured.  For ``"com"`` the radius of the disk that
        counts; None: the whole pattern.
    search_px : float, optional
        Farthest that the beam may be from a straight descan; None: from a few patterns.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    where : (Rx, Ry) bool, optional
        Positions to measure; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    OriginMeasurement
        ``.origin_px`` and ``.sigma_px`` (Rx, Ry, 2) in raw detector pixels, x (rows) first;
        ``.reasons`` counts the positions that failed; ``.fit("plane")`` smooths.

    Raises
    ------
    SolveError
        No beam was found in any of the patterns that were looked at.

    Notes
    -----
    About 64 patterns tell the descan, the radius and the blur of the rim; then one pass.  An
    electric or magnetic field in the sample, and a change of the mean potential across the probe,
    truly deflect the beam: what is measured is where it is.

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.strained_lattice((4, 5), (64, 64), seed=3)
    >>> origin = measure_origin(scan.cube)
    >>> bool(abs(origin.origin_px - scan.truth.origin_px).max() < 0.2)
    True
    """
    shape = mask if mask is None or isinstance(mask, Detector) else Mask(np.asarray(mask))
    analysis = MeasureOrigin(
        method=method, center=center, radius_px=radius_px, search_px=search_px, mask=shape
    )
    scan = _as_cube(source) if isinstance(source, DiffractionSlice) else source
    return analysis.measured(scan, where, options)


def _as_cube(pattern: DiffractionSlice) -> Cube:
    if pattern.data.ndim != 2:
        raise ShapeError(f"{pattern.name!r} is a stack: choose one pattern of it")
    return Cube(pattern.data[None, None], pattern.calibration, pattern.name, pattern.history)


def calibrate_origin(
    scan: Scan,
    peaks: PointTable | None = None,
    *,
    model: Surface = "plane",
    method: Method = "auto",
    blend: bool = False,
    center: Pair | None = None,
    radius_px: float | None = None,
    search_px: float | None = None,
    mask: Detector | ArrayLike | None = None,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> Scan:
    """A scan (or its peaks) calibrated with a smooth surface through its measured origins.

    Parameters
    ----------
    scan : DataCube or BraggPeaks
        What is calibrated.
    peaks : BraggPeaks, optional
        Peaks of the same scan to measure the origin from; None: from `scan` itself.
    model : "plane", "constant", "bilinear", "parabola", "auto" or "none"
        See `fit_origin`.
    blend : bool
        Add the share of what is left that the uncertainties do not explain (see `fit_origin`).
    method, center, radius_px, search_px, mask, where, options
        As for `measure_origin`.

    Returns
    -------
    DataCube or BraggPeaks
        What was given, with ``calibration.origin_px`` (Rx, Ry, 2); ``.report["origin"]`` says how
        good the fit is: rms residual, jitter and sigma (px, along x and y), outliers, failures.

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.strained_lattice((6, 5), (64, 64), seed=3, wander_px=0.5)
    >>> cube = calibrate_origin(scan.cube)
    >>> cube.calibration.origin_px.shape, cube.report["origin"]["outliers"]
    ((6, 5, 2), 0)
    """
    shape = mask if mask is None or isinstance(mask, Detector) else Mask(np.asarray(mask))
    analysis = CalibrateOrigin(
        model=model, method=method, blend=blend, center=center, radius_px=radius_px,
        search_px=search_px, mask=shape,
    )  # fmt: skip
    analysis.check(scan)
    source = scan if peaks is None else peaks
    analysis.check(source)
    shape_of = source.shape[:2]
    if tuple(shape_of) != tuple(scan.shape[:2]):
        raise ShapeError(f"peaks of a scan of {shape_of} do not belong to one of {scan.shape[:2]}")
    return analysis.calibrated(scan, source, where, options)
