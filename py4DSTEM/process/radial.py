"""Radial profiles: mean intensity as a function of the distance from the origin."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Disk, Mask
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.diffraction import mean_of
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, PerScan, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels, RadialSums

__all__ = [
    "MeanRadialProfile",
    "RadialProfileResult",
    "RadialProfiles",
    "RingPlan",
    "Rings",
    "as_cube",
    "as_detector",
    "corrected_radius",
    "farthest_px",
    "mean_radial_profile",
    "radial_profiles",
    "ring_axis",
    "ring_metric",
]

Float = NDArray[np.float64]
Units = Literal["px", "mrad", "A^-1", "nm^-1"]
MOST_BINS = 100_000


@dataclass(frozen=True, eq=False)
class RadialProfileResult:
    """Mean intensity of rings around the origin.

    Parameters
    ----------
    data : (..., n_bins) float64
        Mean intensity per pixel; NaN for a ring without pixels.  ``(Rx, Ry, n_bins)`` for a scan.
    counts : (..., n_bins) float64
        Pixels (shared between neighbouring rings) in each ring: ``data * counts`` is the sum.
    axis : Axis
        Radii of the rings: ring k lies at ``k * axis.step`` in ``axis.unit``.
    step_px : float
        The same step in detector pixels.
    """

    data: Float
    counts: Float
    axis: Axis
    step_px: float
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "radial profiles"

    def __post_init__(self) -> None:
        if self.data.shape != self.counts.shape:
            raise ShapeError(f"profiles of {self.data.shape} with counts of {self.counts.shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def q(self) -> Float:
        """Radii in `units`, (n_bins,)."""
        return self.axis.coordinates(self.data.shape[-1])

    @property
    def q_px(self) -> Float:
        """Radii in detector pixels, (n_bins,)."""
        return self.step_px * np.arange(self.data.shape[-1], dtype=np.float64)

    @property
    def units(self) -> str:
        """Unit of `q`."""
        return self.axis.unit

    @property
    def sums(self) -> Float:
        """Intensity of each ring, (..., n_bins)."""
        return np.where(self.counts > 0, self.data, 0.0) * self.counts

    @property
    def mean(self) -> RadialProfileResult:
        """The profile of all positions together, every pixel with the same weight."""
        around = tuple(range(self.data.ndim - 1))
        known = np.isfinite(self.counts)
        counts = np.where(known, self.counts, 0.0).sum(around)
        total = np.where(known, self.sums, 0.0).sum(around)
        return replace(
            self, data=mean_of(total, counts), counts=counts, name=f"mean of {self.name}"
        )

    def __getitem__(self, position: tuple[int, int]) -> Float:
        """The profile of one scan position, (n_bins,)."""
        profile: Float = self.data[position]
        return profile

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name!r} {self.data.shape}, "
            f"0 … {self.q[-1]:.4g} {self.units}>"
        )


def _to_parts(result: RadialProfileResult) -> dict[str, Any]:
    axis = {"name": result.axis.name, "step": result.axis.step, "unit": result.axis.unit}
    return {
        "data": result.data,
        "counts": result.counts,
        "axis": axis,
        "step_px": result.step_px,
        "calibration": result.calibration,
        "history": result.history.to_dict(),
        "name": result.name,
    }


def _from_parts(parts: Mapping[str, Any]) -> RadialProfileResult:
    history = History.from_dict(parts["history"])
    return RadialProfileResult(**{**parts, "axis": Axis(**parts["axis"]), "history": history})


register_result("radial-profile", RadialProfileResult, _to_parts, _from_parts)


@dataclass(frozen=True, eq=False)
class RingPlan:
    """Rings around one origin, or what is needed to draw them around each position's own."""

    bins: int
    step_px: float
    rings: Any = None
    origins: Float | None = None
    metric: Float | None = None
    keep: NDArray[np.bool_] | None = None

    def sums(self, frames: NDArray[Any], origins: Float | None, kernels: Kernels) -> RadialSums:
        """Sums of patterns (n, Qx, Qy) over the rings, around origins (n, 2) where they vary."""
        if origins is None:
            return kernels.radial_sums(frames, self.rings)
        return kernels.radial_sums_centered(
            frames, origins, self.bins, self.step_px, ellipse=self.metric, mask=self.keep
        )


class Rings(Operation):
    """Parameters of rings, shared by the operations below."""

    step_px: float = Field(1.0, gt=0, description="Distance between rings in detector pixels.")
    r_max: float | None = Field(
        None, gt=0, description="Largest radius, in `units`; None: the farthest corner."
    )
    units: Units = Field("px", description="Unit of r_max.")
    center: tuple[float, float] | None = Field(
        None, description="Origin (qx, qy) in pixels; None: as calibrated."
    )
    mask: AnyDetector | None = Field(
        None, description="Pixels that count: where its weight is at least one half."
    )
    follow_origin: bool | None = Field(
        None, description="Use the origin of each position; None: where the calibration has them."
    )

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [cls(), cls(center=(8.2, 10.1), step_px=1.5, r_max=9.0, mask=Disk(8.0))]

    def prepare(self, cube: Cube, kernels: Kernels) -> RingPlan:
        calibration = cube.calibration
        metric = ring_metric(calibration)
        keep = self._keep(cube)
        if self._follows(calibration):
            origins = np.asarray(calibration.origin_px)
            bins = self._bins(calibration, cube.Q_shape, metric, origins)
            return RingPlan(bins, self.step_px, None, origins, metric, keep)
        origin = np.array(self.center or calibration.mean_origin_px)
        radius = _radius(cube.Q_shape, origin, metric)
        bins = self._bins(calibration, cube.Q_shape, metric, origin)
        radius = np.where(keep, radius, np.nan)
        return RingPlan(bins, self.step_px, kernels.radial_plan(radius, bins, self.step_px))

    def _follows(self, calibration: Calibration) -> bool:
        if self.center is not None:
            if self.follow_origin:
                raise ParameterError("center and follow_origin=True exclude each other")
            return False
        if self.follow_origin and not calibration.origin_varies:
            raise CalibrationMissing(
                "origin per scan position", "calibrate_origin(cube) measures it"
            )
        return calibration.origin_varies and self.follow_origin is not False

    def _keep(self, cube: Cube) -> NDArray[np.bool_]:
        if self.mask is None:
            return np.ones(cube.Q_shape, bool)
        return self.mask.weights(cube.Q_shape, cube.calibration) >= 0.5

    def _bins(
        self, calibration: Calibration, Q_shape: tuple[int, int], metric: Float, origins: Float
    ) -> int:
        if self.r_max is not None:
            largest = self.r_max / math.sqrt(math.prod(calibration.Q_steps(self.units)))
        else:
            largest = farthest_px(Q_shape, metric, origins)
        # One ring more takes the outer share of the last pixels, so that no intensity is lost.
        extra = 1 if self.r_max is not None else 2
        bins = math.floor(largest / self.step_px + 1e-9) + extra
        if bins > MOST_BINS:
            raise ParameterError(f"step_px={self.step_px} asks for {bins} rings: make it larger")
        return bins

    def _sums(self, plan: RingPlan, tile: Tile, kernels: Kernels) -> RadialSums:
        origins = None if plan.origins is None else tile.local(plan.origins)
        return plan.sums(tile.frames, origins, kernels)


class RadialProfiles(Rings, kind="radial-profiles", version=1):
    """Mean intensity of each pattern as a function of the distance from the origin.

    ``I(r) = Σ w I / Σ w``, each pixel shared linearly between the two rings nearest to its radius,
    so that intensity is conserved; radii are corrected for the calibrated ellipse.
    """

    outputs: ClassVar[Mapping[str, Output]] = {
        "sums": PerScan(np.float64),
        "norms": PerScan(np.float64),
    }

    def step(self, plan: RingPlan, tile: Tile, kernels: Kernels) -> Parts:
        sums, norms = self._sums(plan, tile, kernels)
        return {"sums": sums, "norms": np.broadcast_to(norms, sums.shape)}

    def finish(
        self, cube: Cube, plan: RingPlan, parts: Parts, history: History
    ) -> RadialProfileResult:
        return _result(cube, plan, parts["sums"], parts["norms"], history, "radial profiles")


def _add(whole: tuple[Float, Float], part: tuple[Float, Float]) -> tuple[Float, Float]:
    return whole[0] + part[0], whole[1] + part[1]


class MeanRadialProfile(Rings, kind="mean-radial-profile", version=1):
    """Mean intensity of all patterns together as a function of the distance from the origin.

    As `RadialProfiles`, averaged over the positions (or with the weights that `where` gives), each
    around its own origin where the calibration holds one.
    """

    outputs: ClassVar[Mapping[str, Output]] = {"rings": Reduced(_add)}

    def step(self, plan: RingPlan, tile: Tile, kernels: Kernels) -> Parts:
        sums, norms = self._sums(plan, tile, kernels)
        weights = np.ones(len(sums)) if tile.weights is None else tile.weights
        known = np.asarray(np.isfinite(sums).all(axis=1))  # NaN: a position without an origin
        sums = np.where(known[:, None], sums, 0.0)
        norms = np.where(known[:, None], norms, 0.0)
        return {"rings": (weights @ sums, weights @ norms)}

    def finish(
        self, cube: Cube, plan: RingPlan, parts: Parts, history: History
    ) -> RadialProfileResult:
        sums, norms = parts["rings"]
        return _result(cube, plan, sums, norms, history, "mean radial profile")


def _result(
    cube: Cube, plan: RingPlan, sums: Float, counts: Float, history: History, name: str
) -> RadialProfileResult:
    axis = ring_axis(cube.calibration, plan.step_px)
    data = mean_of(sums, counts)
    return RadialProfileResult(data, counts, axis, plan.step_px, cube.calibration, history, name)


def ring_axis(calibration: Calibration, step_px: float) -> Axis:
    """Radii of rings that lie `step_px` apart, in the unit of the detector axes."""
    x, y = calibration.Q
    unit = x.unit if x.unit == y.unit else "px"
    scale = math.sqrt(x.step * y.step) if unit != "px" else 1.0
    return Axis("q", step_px * scale, 0.0, unit)


# ---- radii ---------------------------------------------------------------------------------------
def ring_metric(calibration: Calibration) -> Float:
    """Matrix from pixel offsets to corrected ones, in pixels of the same area, (2, 2)."""
    x, y = calibration.Q
    same = x.unit == y.unit and x.unit != "px"
    steps = np.array([x.step, y.step]) if same else np.ones(2)
    metric = np.diag(steps / math.sqrt(math.prod(steps)))
    if calibration.ellipse is None:
        return metric
    corrected: Float = metric @ calibration.ellipse.correction()
    return corrected


def _radius(Q_shape: tuple[int, int], origin: Float, metric: Float) -> Float:
    i, j = np.indices(Q_shape, dtype=np.float64)
    x, y = i - origin[0], j - origin[1]
    radius: Float = np.hypot(
        metric[0, 0] * x + metric[0, 1] * y, metric[1, 0] * x + metric[1, 1] * y
    )
    return radius


def corrected_radius(
    Q_shape: tuple[int, int], origin: tuple[float, float], calibration: Calibration
) -> Float:
    """Pixels between `origin` and each pixel, ellipse and oblong pixels undone, (Qx, Qy)."""
    return _radius(Q_shape, np.array(origin), ring_metric(calibration))


def farthest_px(
    Q_shape: tuple[int, int], metric: Float, origins: Float, *, edge: float = 0.0
) -> float:
    """Largest corrected radius of any corner from any origin (..., 2).

    Corners are middles of pixels, or lie `edge` pixels farther out.
    """
    known = origins.reshape(-1, 2)
    known = known[np.isfinite(known).all(axis=1)]
    if not len(known):
        raise CalibrationMissing("origin", "none could be measured at any scan position")
    rows, columns = ((-edge, n - 1 + edge) for n in Q_shape)
    corners = np.array([(a, b) for a in rows for b in columns])
    box = np.array([(a, b) for a in (known[:, 0].min(), known[:, 0].max())
                    for b in (known[:, 1].min(), known[:, 1].max())])  # fmt: skip
    offsets = (corners[:, None] - box[None]).reshape(-1, 2) @ metric.T
    return float(np.hypot(*offsets.T).max())


# ---- the public functions ------------------------------------------------------------------------
def radial_profiles(
    cube: Cube,
    *,
    step_px: float = 1.0,
    r_max: float | None = None,
    units: Units = "px",
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RadialProfileResult:
    """Mean intensity of each pattern as a function of the distance from the origin.

    Parameters
    ----------
    cube : DataCube
    step_px : float
        Distance between rings in detector pixels.
    r_max : float, optional
        Largest radius in `units`; None: the farthest corner of the detector, so that
        ``Σ data * counts`` is the intensity of the pattern.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Unit of `r_max`.
    center : (float, float), optional
        Origin (qx, qy) in pixels; None: as calibrated, for each position where it varies.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    follow_origin : bool, optional
        Whether to use the origin of each position; None: where the calibration holds one.
    where : (Rx, Ry) bool, optional
        Positions to compute; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    RadialProfileResult
        ``.data`` (Rx, Ry, n_bins) float64, ``.q`` the radii in calibrated units, ``.counts``,
        ``.mean``.

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.

    Notes
    -----
    A pixel at radius r gives ``1 − f`` of itself to ring k and ``f`` to ring k + 1, where
    ``k + f = r / step``.  Pixels that are NaN or infinite count nowhere.  Radii are corrected for
    the ellipse and for pixels that are not square.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> cube = DataCube(np.full((2, 3, 16, 16), 5, np.uint16))
    >>> profiles = radial_profiles(cube, center=(7.5, 7.5), r_max=7)
    >>> profiles.shape, bool(np.allclose(profiles.data, 5))
    ((2, 3, 8), True)
    """
    operation = RadialProfiles(
        step_px=step_px,
        r_max=r_max,
        units=units,
        center=center,
        mask=as_detector(mask),
        follow_origin=follow_origin,
    )
    result: RadialProfileResult = run(operation, cube, where=where, options=options)
    return result


def mean_radial_profile(
    data: Cube | DiffractionSlice,
    *,
    step_px: float = 1.0,
    r_max: float | None = None,
    units: Units = "px",
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RadialProfileResult:
    """Radial profile ``(n_bins,)`` of a pattern, or of all patterns of a scan together.

    Parameters and result are as for `radial_profiles`; `where` may hold weights.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DiffractionSlice
    >>> profile = mean_radial_profile(DiffractionSlice(np.full((8, 9), 2.0)), center=(3, 4))
    >>> profile.shape, float(profile.data[3])
    ((7,), 2.0)
    """
    operation = MeanRadialProfile(
        step_px=step_px,
        r_max=r_max,
        units=units,
        center=center,
        mask=as_detector(mask),
        follow_origin=follow_origin,
    )
    cube = as_cube(data) if isinstance(data, DiffractionSlice) else data
    result: RadialProfileResult = run(operation, cube, where=where, options=options)
    return result


def as_detector(mask: Detector | ArrayLike | None) -> Detector | None:
    """A detector, or an array as one."""
    return mask if mask is None or isinstance(mask, Detector) else Mask(np.asarray(mask))


def as_cube(pattern: DiffractionSlice) -> Cube:
    """A scan of one position."""
    if pattern.data.ndim != 2:
        raise ShapeError(f"{pattern.name!r} is a stack: choose one pattern of it")
    calibration = pattern.calibration
    if calibration.origin_varies:
        calibration = calibration.replace(origin_px=calibration.mean_origin_px)
    return Cube(pattern.data[None, None], calibration, pattern.name, pattern.history)
