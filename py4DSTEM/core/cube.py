"""The scan: a lazy array with its calibration, history and metadata."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from py4DSTEM.core import geometry
from py4DSTEM.core.calibration import Calibration, Ellipse, Measured, updated
from py4DSTEM.core.geometry import Pairs
from py4DSTEM.core.history import History
from py4DSTEM.core.lazy import Cast, LazyArray
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError

__all__ = ["Cube", "check_cube"]

_EVERYTHING: Pairs = ((None, None), (None, None))


@dataclass(frozen=True, eq=False, repr=False)
class Cube:
    """A 4D-STEM scan ``(Rx, Ry, Qx, Qy)``: scan row and column, detector row and column.

    Nothing is read before it is used, and every geometry operation moves array and calibration
    together and returns a new cube.

    Parameters
    ----------
    data : LazyArray
        numpy, memmap, h5py, zarr or dask array, or one of the package's readers.
    calibration : Calibration, optional
    name : str
    history : History, optional
    metadata : Metadata, optional
    report : mapping
        How good the steps were that calibrated it, in plain numbers, by the quantity calibrated.
    """

    data: LazyArray
    calibration: Calibration = field(default_factory=Calibration)
    name: str = "datacube"
    history: History = field(default_factory=History)
    metadata: Metadata = field(default_factory=Metadata)
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.calibration is None:
            object.__setattr__(self, "calibration", Calibration())
        if not hasattr(self.data, "shape"):
            object.__setattr__(self, "data", np.asarray(self.data))
        if len(self.data.shape) != 4:
            raise ShapeError(
                f"a DataCube is 4D (Rx, Ry, Qx, Qy), not {tuple(self.data.shape)}: reshape a stack "
                "of patterns first, or read it with scan_shape=(rows, columns)"
            )
        if min(self.data.shape) < 1:
            raise ShapeError(f"a scan of shape {tuple(self.data.shape)} holds no data")
        if self.data.dtype.kind not in "buif":
            raise ParameterError(f"a DataCube holds real numbers, not {self.data.dtype}")
        self._check_origin()

    def _check_origin(self) -> None:
        origin = self.calibration.origin_px
        if origin is not None and origin.ndim == 3 and origin.shape[:2] != self.R_shape:
            raise ShapeError(
                f"the calibration holds an origin for each of {origin.shape[:2]} positions, "
                f"the scan has {self.R_shape}"
            )

    # ---- what it is ------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int, int, int]:
        a, b, c, d = map(int, self.data.shape)
        return a, b, c, d

    @property
    def R_shape(self) -> tuple[int, int]:
        """Scan shape (Rx, Ry)."""
        return self.shape[:2]

    @property
    def Q_shape(self) -> tuple[int, int]:
        """Pattern shape (Qx, Qy)."""
        return self.shape[2:]

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    @property
    def nbytes(self) -> int:
        """Size in memory if it were loaded."""
        return math.prod(self.shape) * self.dtype.itemsize

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} {self.name!r} {self.shape} {self.dtype}, "
            f"{self.nbytes / 1e9:.3g} GB>"
        )

    def _repr_html_(self) -> str:
        from py4DSTEM.core.html import cube_html

        return cube_html(self)

    # ---- parts -----------------------------------------------------------------------------------
    def __getitem__(self, position: tuple[int, int]) -> DiffractionSlice:
        """The pattern of one scan position; reads that pattern only."""
        if not (isinstance(position, tuple) and len(position) == 2):
            raise ParameterError("cube[rx, ry] gives one pattern; use .crop(...) for a region")
        rx, ry = position
        for index, size in zip(position, self.R_shape, strict=True):
            if not isinstance(index, int | np.integer) or not -size <= index < size:
                raise IndexError(f"position {position} is outside the scan of {self.R_shape}")
        rx, ry = rx % self.R_shape[0], ry % self.R_shape[1]
        pattern = self.data[rx, ry]
        if hasattr(pattern, "compute"):
            pattern = pattern.compute(scheduler="synchronous")
        calibration = self.calibration
        if calibration.origin_varies and calibration.origin_px is not None:
            local = calibration.origin_px[rx, ry]
            known = bool(np.isfinite(local).all())
            calibration = replace(calibration, origin_px=local if known else None)
        return DiffractionSlice(
            np.array(pattern), calibration, self.history, f"{self.name}[{rx}, {ry}]"
        )

    def replace(self, **changes: Any) -> Self:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def _moved(self, moved: geometry.Moved, kind: str, parameters: dict[str, Any]) -> Self:
        data, calibration = moved
        history = self.history.then(kind, parameters)
        return replace(self, data=data, calibration=calibration, history=history)

    # ---- geometry --------------------------------------------------------------------------------
    def crop(self, R: Pairs = _EVERYTHING, Q: Pairs = _EVERYTHING) -> Self:
        """Keep ``((x0, x1), (y0, y1))`` of the scan and of the patterns (lazy).

        Bounds are those of a slice: None or negative numbers count as usual.
        """
        moved = geometry.crop(self.data, self.calibration, R, Q)
        return self._moved(moved, "crop", {"R": R, "Q": Q})

    def bin(self, R: int | tuple[int, int] = 1, Q: int | tuple[int, int] = 1) -> Self:
        """Sum neighbouring positions (`R`) and pixels (`Q`) (lazy); sums never overflow."""
        moved = geometry.bin_scan(self.data, self.calibration, R, Q)
        return self._moved(moved, "bin", {"R": R, "Q": Q})

    def pad(
        self, Q: int | tuple[int, int] | tuple[tuple[int, int], tuple[int, int]], value: float = 0
    ) -> Self:
        """Add a border of constant `value` around every pattern (lazy)."""
        moved = geometry.pad(self.data, self.calibration, Q, value)
        return self._moved(moved, "pad", {"Q": Q, "value": value})

    def swap_Q(self) -> Self:
        """Exchange the detector axes; a known flip is toggled with it."""
        return self._moved(geometry.swap_Q(self.data, self.calibration), "swap_Q", {})

    def swap_R(self) -> Self:
        """Exchange the scan axes."""
        return self._moved(geometry.swap_R(self.data, self.calibration), "swap_R", {})

    def reshape_scan(self, scan_shape: tuple[int, int]) -> Self:
        """Arrange the positions, in recording order, as ``(Rx, Ry)``."""
        moved = geometry.reshape_scan(self.data, self.calibration, scan_shape)
        return self._moved(moved, "reshape_scan", {"scan_shape": scan_shape})

    def astype(self, dtype: DTypeLike) -> Self:
        """The same scan in another dtype (lazy); a value that would not fit is an error."""
        moved = Cast(self.data, dtype), self.calibration
        return self._moved(moved, "astype", {"dtype": str(np.dtype(dtype))})

    def load(self) -> Self:
        """The same cube with its data in memory."""
        array: NDArray[Any] = np.asarray(self.data[...])
        return replace(self, data=array)

    def with_calibration(
        self,
        *known: Calibration | Measured,
        origin: Measured | None = None,
        ellipse: Measured | Ellipse | Sequence[float] | None = None,
        pixel_size: Measured | None = None,
        rotation: Measured | None = None,
        R_pixel_size: float | Sequence[float] | None = None,
        R_pixel_units: str | None = None,
        Q_pixel_size: float | Sequence[float] | None = None,
        Q_pixel_units: str | None = None,
        origin_px: ArrayLike | None = None,
        rotation_rad: float | None = None,
        flip: bool | None = None,
        energy_eV: float | None = None,
        semiangle_mrad: float | None = None,
        probe_radius_px: float | None = None,
    ) -> Self:
        """A cube with a new calibration, or with some of its quantities changed.

        What `measure_origin`, `measure_ellipse`, `measure_pixel_size`, `measure_rotation` and
        `measure_probe` return may be given as it is, by position or by name.  Pixel sizes may be
        one number or ``(x, y)``; ``origin_px`` is ``(qx, qy)`` or (Rx, Ry, 2); ``ellipse`` may be
        ``(a, b, theta_rad)``.  What is left out stays as it was.
        """
        changed = updated(
            self.calibration,
            *known,
            origin=origin,
            ellipse=ellipse,
            pixel_size=pixel_size,
            rotation=rotation,
            R_pixel_size=R_pixel_size,
            R_pixel_units=R_pixel_units,
            Q_pixel_size=Q_pixel_size,
            Q_pixel_units=Q_pixel_units,
            origin_px=origin_px,
            rotation_rad=rotation_rad,
            flip=flip,
            energy_eV=energy_eV,
            semiangle_mrad=semiangle_mrad,
            probe_radius_px=probe_radius_px,
        )
        return replace(self, calibration=changed)


def check_cube(value: object, purpose: str) -> None:
    """Raise `ParameterError` unless `value` is a scan."""
    if not isinstance(value, Cube):
        raise ParameterError(
            f"{purpose} works on a scan, not on {type(value).__name__}: use read(path), or "
            "DataCube(array) of an array (Rx, Ry, Qx, Qy)"
        )
