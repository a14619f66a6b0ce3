"""Crystallinity: how much of the scattering of every position is in Bragg spots."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Disk, Mask
from py4DSTEM.core.history import History
from py4DSTEM.core.points import PointTable
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = [
    "BraggCounts",
    "CrystallinityMap",
    "MapCrystallinity",
    "bragg_counts",
    "crystallinity",
]

Float = NDArray[np.float64]
_BEAM_RADII = 2.0
"""Radii of the unscattered disk within which nothing counts, unless it is told."""


@dataclass(frozen=True, eq=False)
class CrystallinityMap:
    """Share of the scattered electrons in Bragg spots, position by position.

    Parameters
    ----------
    fraction : (Rx, Ry) float64
        ``bragg / (bragg + diffuse)``; NaN where nothing is scattered into the rings.
    sigma : (Rx, Ry) float64
        Its standard deviation by counting.
    bragg : (Rx, Ry) float64
        Counts above the background of the rings.
    diffuse : (Rx, Ry) float64
        Counts of that background.
    inner_px, outer_px : float
        Radii of the rings that count.
    """

    fraction: Float
    sigma: Float
    bragg: Float
    diffuse: Float
    inner_px: float
    outer_px: float
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "crystallinity"

    def __post_init__(self) -> None:
        shapes = {a.shape for a in (self.fraction, self.sigma, self.bragg, self.diffuse)}
        if len(shapes) != 1 or self.fraction.ndim != 2:
            raise ShapeError(f"maps of one shape (Rx, Ry), not {sorted(shapes)}")

    @property
    def amorphous(self) -> Float:
        """Share of the scattered electrons that is not in Bragg spots, (Rx, Ry)."""
        return 1.0 - self.fraction

    @property
    def maps(self) -> RealSlice:
        """``"fraction", "sigma", "bragg", "diffuse"`` as a stack of images."""
        stack = np.stack([self.fraction, self.sigma, self.bragg, self.diffuse])
        labels = ("fraction", "sigma", "bragg", "diffuse")
        return RealSlice(stack, self.calibration, self.history, self.name, labels)

    def text(self) -> str:
        """A few lines for a report."""
        known = np.isfinite(self.fraction)
        if not known.any():
            return f"{self.name}: nothing is scattered into the rings"
        low, middle, high = np.percentile(self.fraction[known], (5, 50, 95))
        return (
            f"{self.name}: {middle:.1%} of the scattering from {self.inner_px:.4g} to "
            f"{self.outer_px:.4g} px is in Bragg spots (median; 5 % of the positions below "
            f"{low:.1%}, 5 % above {high:.1%}); σ by counting {np.median(self.sigma[known]):.1%}"
        )

    def __repr__(self) -> str:
        return f"<CrystallinityMap {self.fraction.shape} {self.text()}>"


def _to_parts(found: CrystallinityMap) -> dict[str, Any]:
    return {**vars(found), "history": found.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> CrystallinityMap:
    return CrystallinityMap(**{**parts, "history": History.from_dict(parts["history"])})


register_result("crystallinity", CrystallinityMap, _to_parts, _from_parts)


@dataclass(frozen=True, eq=False)
class _Plan:
    origins: Float
    metric: Float
    keep: NDArray[np.bool_]
    first: int
    stop: int
    half: int


class MapCrystallinity(Operation, kind="crystallinity", version=1):
    """Share of the scattered electrons of each pattern that is in Bragg spots.

    Rings of one pixel about the origin, ellipse undone; the background of each is the mean of its
    pixels without those that stand out, alone (from the median on) or with their neighbours in a
    window as wide as the disk; what is above it is in spots.
    """

    inner_px: float | None = Field(
        None, ge=0, description="Radius within which nothing counts; None: twice that of the beam."
    )
    outer_px: float | None = Field(
        None, gt=0, description="Largest radius; None: the farthest ring that is whole everywhere."
    )
    clip: float = Field(
        3.0, gt=0, description="Standard deviations by which a spot stands out of its ring."
    )
    gain: float = Field(1.0, gt=0, description="Counts per electron: variance over mean.")
    mask: AnyDetector | None = Field(
        None, description="Pixels that count: where its weight is at least one half."
    )

    outputs: ClassVar[Mapping[str, Output]] = {"sums": PerScan(np.float64)}

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [cls(inner_px=2.0), cls(inner_px=1.0, outer_px=7.0, clip=2.5, mask=Disk(9.0))]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        calibration = cube.calibration
        origins = np.asarray(calibration.origins(cube.R_shape), np.float64)
        keep = np.ones(cube.Q_shape, bool)
        if self.mask is not None:
            keep = self.mask.weights(cube.Q_shape, calibration) >= 0.5
        metric = np.eye(2)
        if calibration.ellipse is not None:
            metric = calibration.ellipse.correction()
        inner = self._inner(calibration)
        outer = self.outer_px or _whole(origins, cube.Q_shape)
        if not inner + 1 <= outer:
            raise ParameterError(
                f"no ring lies between inner_px={inner:g} and outer_px={outer:g}: give radii "
                "between the beam and the edge of the detector"
            )
        half = max(1, round((calibration.probe_radius_px or 0.0) / 2))
        return _Plan(origins, metric, keep, math.ceil(inner), math.floor(outer) + 1, half)

    def _inner(self, calibration: Calibration) -> float:
        if self.inner_px is not None:
            return self.inner_px
        if calibration.probe_radius_px is None:
            raise ParameterError(
                "inner_px keeps the unscattered beam out: give it, or calibrate with the radius of "
                "the disk (measure_probe)"
            )
        return _BEAM_RADII * calibration.probe_radius_px

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        from py4DSTEM.kernels.ring_levels import ring_levels

        rings = ring_levels(
            tile.frames,
            tile.local(plan.origins),
            plan.stop,
            half=plan.half,
            clip=self.clip,
            gain=self.gain,
            metric=plan.metric,
            mask=plan.keep,
        )
        level, used, bright, count, total = (part[:, plan.first :] for part in rings)
        level = np.where(used > 0, level, 0.0)
        # Pixels of the level itself give just that: the noise of the spots is that of the others.
        shared = np.zeros_like(level)
        np.divide((count - used) ** 2 * level, used, out=shared, where=used > 0)
        parts = (total - count * level, count * level, bright, shared, count)
        return {"sums": np.stack([part.sum(axis=1) for part in parts], axis=-1)}

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> CrystallinityMap:
        bragg, diffuse, bright, doubt, count = np.moveaxis(parts["sums"], -1, 0)
        seen = count > 0
        bragg, diffuse = (np.where(seen, part, np.nan) for part in (bragg, diffuse))
        whole = bragg + diffuse
        fraction = np.full(whole.shape, np.nan)
        np.divide(bragg, whole, out=fraction, where=whole > 0)
        variance = self.gain * np.maximum(bright + doubt, 0.0)
        background = self.gain * np.maximum(diffuse, 0.0)
        spread = np.full(whole.shape, np.nan)
        # f = P / (P + D): D² var P + P² var D over the fourth power of the sum.
        power = diffuse**2 * variance + bragg**2 * background
        np.divide(np.sqrt(np.maximum(power, 0.0)), whole**2, out=spread, where=whole > 0)
        return CrystallinityMap(
            fraction,
            spread,
            bragg,
            diffuse,
            float(plan.first),
            float(plan.stop - 1),
            cube.calibration,
            history,
        )


def _whole(origins: Float, Q_shape: tuple[int, int]) -> float:
    """Radius of the largest circle that lies on the detector at all positions."""
    known = origins[np.isfinite(origins).all(axis=-1)]
    if not len(known):
        return 0.0
    far = np.array(Q_shape) - 1 - known
    return float(min(known.min(), far.min()))


def crystallinity(
    cube: Cube,
    *,
    inner_px: float | None = None,
    outer_px: float | None = None,
    clip: float = 3.0,
    gain: float = 1.0,
    mask: Detector | ArrayLike | None = None,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> CrystallinityMap:
    """Map the share of the scattered electrons that is in Bragg spots.

    Parameters
    ----------
    cube : DataCube
        With a calibrated origin.
    inner_px : float, optional
        Radius within which nothing counts (the beam and its tails); None: twice the radius of the
        unscattered disk.
    outer_px : float, optional
        Largest radius; None: the largest circle on the detector.
    clip : float
        Standard deviations by which a spot stands out of its ring.
    gain : float
        Counts per electron: variance over mean.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half (hot pixels are spots to it).
    where : (Rx, Ry) bool, optional
        Positions to compute; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    CrystallinityMap
        ``.fraction``, ``.sigma``, ``.bragg``, ``.diffuse``, ``.amorphous``, each (Rx, Ry).

    Raises
    ------
    CalibrationMissing
        The origin is not known.
    ParameterError
        There is no ring between the radii, or the radius of the beam is not known.

    Notes
    -----
    ``f = P / (P + D)`` with ``D = Σ_r n_r B_r`` the background and ``P = Σ I − D``; B_r is the
    mean of the pixels of ring r that do not stand out by `clip` standard deviations, alone or as a
    window of the width of the disk.  It is a share of electrons, not of volume: thermal diffuse
    scattering of a crystal counts as diffuse, crystals off any zone axis scatter less into spots,
    and spots below the noise of a window count as diffuse.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.polycrystal((3, 4), (96, 96), grains=2, seed=1)
    >>> found = crystallinity(scan.cube.with_calibration(scan.truth.calibration))
    >>> bool(found.fraction[0, 0] > 0.9), bool(found.sigma.max() < 0.02)
    (True, True)
    """
    shape = mask if mask is None or isinstance(mask, Detector) else Mask(mask)
    operation = MapCrystallinity(
        inner_px=inner_px, outer_px=outer_px, clip=clip, gain=gain, mask=shape
    )
    found: CrystallinityMap = run(operation, cube, where=where, options=options)
    return found


class BraggCounts(Analysis, kind="bragg-counts", version=1):
    """Number and summed intensity of the Bragg peaks of each position, the direct beam left out."""

    inner_px: float | None = Field(
        None, ge=0, description="Peaks nearer to the origin are the beam; None: 1.5 disk radii."
    )
    min_intensity: float = Field(0.0, ge=0, description="Peaks below do not count.")

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)

    def apply(self, value: Any, options: RunOptions | None = None) -> RealSlice:
        """Stack "peaks", "intensity" of a table of peaks; `options` are not needed."""
        self.check(value)
        inner = self.inner_px
        if inner is None:
            inner = 1.5 * (value.calibration.probe_radius_px or 1.0)
        intensity = np.ones(len(value))
        if "intensity" in (value.dtype.names or ()):
            intensity = value.points["intensity"].astype(np.float64)
        with np.errstate(invalid="ignore"):  # NaN is no peak
            far = np.hypot(*value.vectors("px").T) > inner
            kept = far & (intensity >= self.min_intensity)
        size = len(value.offsets) - 1
        position = np.repeat(np.arange(size), np.diff(value.offsets))[kept]
        number = np.bincount(position, minlength=size).astype(np.float64)
        sums = np.bincount(position, intensity[kept], minlength=size)
        stack = np.stack([number, sums]).reshape(2, *value.shape)
        history = self.history(value.history)
        labels = ("peaks", "intensity")
        return RealSlice(stack, value.calibration, history, "Bragg counts", labels)


def bragg_counts(
    peaks: PointTable, *, inner_px: float | None = None, min_intensity: float = 0.0
) -> RealSlice:
    """Count the Bragg peaks of each position: a second measure of crystallinity.

    Parameters
    ----------
    peaks : BraggPeaks
        With a calibrated origin.
    inner_px : float, optional
        Peaks nearer to the origin are the direct beam; None: one and a half disk radii.
    min_intensity : float
        Peaks below do not count.

    Returns
    -------
    RealSlice
        Stack ``"peaks"`` (number), ``"intensity"`` (sum), (2, Rx, Ry) float64.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.polycrystal((3, 4), (96, 96), grains=2, seed=1)
    >>> bragg_counts(scan.truth.peaks())["peaks"].shape
    (3, 4)
    """
    return BraggCounts(inner_px=inner_px, min_intensity=min_intensity).apply(peaks)
