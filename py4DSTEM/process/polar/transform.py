"""Patterns and scans in polar coordinates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector
from py4DSTEM.core.history import History
from py4DSTEM.core.lazy import LazyArray, View, read_block
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.diffraction import MeanPattern
from py4DSTEM.process.polar.bins import PolarBins, PolarLayout
from py4DSTEM.process.radial import Units, as_cube, as_detector
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.options import RunOptions

__all__ = ["PolarCube", "PolarPattern", "PolarTransform", "polar_transform"]

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class PolarPattern:
    """One pattern in polar coordinates.

    Parameters
    ----------
    data : (n_r, n_phi) float
        Mean intensity per pixel of each bin; NaN for a bin without pixels.
    area : (n_r, n_phi) float64
        Pixels in each bin, shared by area: ``data * area`` is the intensity.
    axes : (Axis, Axis)
        Middles of the bins: radius (calibrated) and angle (rad, from x towards y).
    calibration : Calibration
        Of the pattern that it was made of.
    """

    data: NDArray[np.floating[Any]]
    area: Float
    axes: tuple[Axis, Axis]
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "polar pattern"

    def __post_init__(self) -> None:
        if self.data.shape != self.area.shape or self.data.ndim != 2:
            raise ShapeError(f"a polar pattern of {self.data.shape}, areas of {self.area.shape}")

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    @property
    def q(self) -> Float:
        """Radii, (n_r,), in `units`."""
        return self.axes[0].coordinates(self.data.shape[0])

    @property
    def phi_rad(self) -> Float:
        """Angles from x towards y, (n_phi,)."""
        return self.axes[1].coordinates(self.data.shape[1])

    @property
    def units(self) -> str:
        """Unit of `q`."""
        return self.axes[0].unit

    @property
    def profile(self) -> Float:
        """Mean intensity of each ring, every pixel with the same weight, (n_r,)."""
        known = np.isfinite(self.data) & (self.area > 0)
        area = np.where(known, self.area, 0.0)
        total = (np.where(known, self.data, 0.0) * area).sum(axis=1)
        weight = area.sum(axis=1)
        profile: Float = np.full(len(total), np.nan)
        np.divide(total, weight, out=profile, where=weight > 0)
        return profile

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        return f"<PolarPattern {self.name!r} {_described(self.data.shape, self.q, self.units)}>"


def _described(shape: tuple[int, ...], q: Float, units: str) -> str:
    return f"{shape[-2]} rings {q[0]:.4g} … {q[-1]:.4g} {units} x {shape[-1]} angles"


@dataclass(frozen=True, eq=False)
class PolarCube:
    """A scan in polar coordinates; patterns are transformed when they are read.

    Parameters
    ----------
    data : LazyArray
        (Rx, Ry, n_r, n_phi) float32: mean intensity per pixel of each bin.
    area : (n_r, n_phi) float64
        Pixels in each bin; about the mean origin where origins vary.
    axes : (Axis, Axis)
        Middles of the bins: radius (calibrated) and angle (rad, from x towards y).
    calibration : Calibration
        Of the scan that it was made of.
    """

    data: LazyArray
    area: Float
    axes: tuple[Axis, Axis]
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "polar transform"

    def __post_init__(self) -> None:
        if len(self.data.shape) != 4 or tuple(self.data.shape[2:]) != self.area.shape:
            raise ShapeError(f"polar data of {self.data.shape} with areas of {self.area.shape}")

    @property
    def shape(self) -> tuple[int, int, int, int]:
        a, b, c, d = map(int, self.data.shape)
        return a, b, c, d

    @property
    def q(self) -> Float:
        """Radii, (n_r,), in `units`."""
        return self.axes[0].coordinates(self.shape[2])

    @property
    def phi_rad(self) -> Float:
        """Angles from x towards y, (n_phi,)."""
        return self.axes[1].coordinates(self.shape[3])

    @property
    def units(self) -> str:
        """Unit of `q`."""
        return self.axes[0].unit

    @property
    def cube(self) -> Cube:
        """The same as a scan, for everything that works on scans: its detector axes are q and φ."""
        calibration = Calibration(R=self.calibration.R, Q=self.axes)
        return Cube(self.data, calibration, self.name, self.history)

    def pattern(self, rx: int, ry: int) -> PolarPattern:
        """The transform of one pattern; reads that one only."""
        one = self.cube[rx, ry]
        return PolarPattern(
            one.data, self.area, self.axes, self.calibration, self.history, one.name
        )

    def mean(
        self, where: ArrayLike | None = None, options: RunOptions | None = None
    ) -> PolarPattern:
        """The mean over positions, each around its own origin; one pass.

        Parameters
        ----------
        where : (Rx, Ry) bool or float, optional
            Positions that count, or their weights.
        options : RunOptions, optional
        """
        mean = run(MeanPattern(), self.cube, where=where, options=options)
        return PolarPattern(
            mean.data, self.area, self.axes, self.calibration, mean.history, f"mean {self.name}"
        )

    def __repr__(self) -> str:
        shape = self.shape
        described = _described(shape, self.q, self.units)
        return f"<PolarCube {self.name!r} {shape[0]} x {shape[1]} positions, {described}>"


def _to_parts(polar: PolarCube) -> dict[str, Any]:
    return {
        "polar": polar.cube, "area": polar.area, "calibration": polar.calibration,
        "name": polar.name,
    }  # fmt: skip


def _from_parts(parts: Mapping[str, Any]) -> PolarCube:
    cube: Cube = parts["polar"]
    return PolarCube(
        cube.data, parts["area"], cube.calibration.Q, parts["calibration"], cube.history,
        parts["name"],
    )  # fmt: skip


def _pattern_parts(polar: PolarPattern) -> dict[str, Any]:
    axes = [{"name": a.name, "step": a.step, "offset": a.offset, "unit": a.unit}
            for a in polar.axes]  # fmt: skip
    return {
        "data": polar.data, "area": polar.area, "axes": axes, "calibration": polar.calibration,
        "history": polar.history.to_dict(), "name": polar.name,
    }  # fmt: skip


def _pattern_of(parts: Mapping[str, Any]) -> PolarPattern:
    r, phi = (Axis(**axis) for axis in parts["axes"])
    history = History.from_dict(parts["history"])
    return PolarPattern(**{**parts, "axes": (r, phi), "history": history})


register_result("polar-cube", PolarCube, _to_parts, _from_parts)
register_result("polar-pattern", PolarPattern, _pattern_parts, _pattern_of)


class _PolarView(View):
    """A scan seen in polar bins."""

    def __init__(self, source: LazyArray, layout: PolarLayout) -> None:
        super().__init__(source)
        self._layout = layout

    @property
    def shape(self) -> tuple[int, int, int, int]:
        rx, ry = map(int, self._source.shape[:2])
        n_r, n_phi = self._layout.area.shape
        return rx, ry, n_r, n_phi

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def _moved(self, chunks: tuple[int, ...]) -> tuple[int, ...]:
        return (*chunks[:2], *self.shape[2:])

    def read_block(self, rx: slice, ry: slice) -> NDArray[Any]:
        from py4DSTEM import kernels

        origins = self._layout.origins
        local = None if origins is None else origins[rx, ry].reshape(-1, 2)
        frames = read_block(self._source, rx, ry)
        means: NDArray[np.float32] = kernels.compiled().polar_means(
            frames, self._layout.plan, local
        )
        return means


class PolarTransform(PolarBins, Analysis, kind="polar-transform", version=1):
    """Mean intensity of each pattern in polar bins: rings of a width, cut into sectors.

    Pixels are shared between bins by the exact area that they cover of them, so that intensity is
    conserved; radii and angles are those without the calibrated ellipse.
    """

    accepts: ClassVar[tuple[type, ...]] = (Cube, DiffractionSlice)

    @classmethod
    def examples(cls) -> list[PolarTransform]:
        """Instances for tests."""
        return [cls(n_phi=12)]

    def apply(
        self, value: Cube | DiffractionSlice, options: RunOptions | None = None
    ) -> PolarCube | PolarPattern:
        from py4DSTEM import kernels

        self.check(value)
        cube = as_cube(value) if isinstance(value, DiffractionSlice) else value
        layout = self.layout(cube, kernels.compiled())
        polar = PolarCube(
            _PolarView(cube.data, layout),
            layout.area,
            (layout.r_axis, layout.phi_axis),
            cube.calibration,
            self.history(value.history),
            f"polar {value.name}",
        )
        return polar.pattern(0, 0) if isinstance(value, DiffractionSlice) else polar


def polar_transform(
    data: Cube | DiffractionSlice,
    *,
    n_phi: int = 180,
    step_px: float = 1.0,
    r_min: float = 0.0,
    r_max: float | None = None,
    units: Units = "px",
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    origin_parts: int = 8,
) -> Any:
    """Patterns in polar coordinates, pixels shared between bins by area.

    Parameters
    ----------
    data : DataCube or DiffractionSlice
        A scan, or one pattern.
    n_phi : int
        Sectors; the first begins along x (down), the next lies towards y (to the right).
    step_px : float
        Width of the rings in detector pixels.
    r_min, r_max : float
        Inner edge of the first ring and outer edge of the last, in `units`.  ``r_max=None``: the
        far corner of the detector, so that ``Σ data * area`` is the intensity of the pattern.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Unit of `r_min` and `r_max`.
    center : (float, float), optional
        Origin (qx, qy) in pixels; None: as calibrated, for each position where it varies.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    follow_origin : bool, optional
        Whether to use the origin of each position; None: where the calibration holds one.
    origin_parts : int
        Origins of positions are rounded to so many parts of a pixel, because a table of areas is
        made for each place within one: rings are off by half a part at most along x and y.

    Returns
    -------
    PolarCube or PolarPattern
        Of a scan a `PolarCube`, which is lazy: patterns are transformed when they are read, and
        `save` writes it tile by tile.  ``.data`` (Rx, Ry, n_r, n_phi) float32 is the mean
        intensity per pixel, NaN in bins without pixels; ``.area``, ``.q``, ``.phi_rad``,
        ``.pattern(rx, ry)``, ``.mean()``, ``.cube``.

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.
    ParameterError
        No ring fits between the radii, or the rings hold no usable pixel.

    Notes
    -----
    ``I(k, l) = Σ w v / Σ w``, w being the part of each pixel that lies in the sector from
    ``2π l / n_phi`` to ``2π (l + 1) / n_phi`` of ring k, exactly: a square pixel, or the
    parallelogram that undoing the ellipse and oblong pixels makes of it.  Weights are float32.
    Pixels that are NaN or infinite are left out of both sums.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> polar = polar_transform(DataCube(np.full((2, 3, 16, 17), 5.0)), center=(8, 8), n_phi=12)
    >>> polar.shape, bool(np.allclose(polar.pattern(1, 2).profile, 5))
    ((2, 3, 13, 12), True)
    """
    step = PolarTransform(
        n_phi=n_phi,
        step_px=step_px,
        r_min=r_min,
        r_max=r_max,
        units=units,
        center=center,
        mask=as_detector(mask),
        follow_origin=follow_origin,
        origin_parts=origin_parts,
    )
    return step.apply(data)
