"""Ragged lists of points, one per scan position, as one flat table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration, Measured, updated
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError, ShapeError

__all__ = ["FARTHEST_PX", "PointTable"]

FARTHEST_PX = 1e6
"""Positions beyond this are no places on a detector."""


@dataclass(frozen=True, eq=False)
class PointTable:
    """All points of a scan in one structured array.

    Parameters
    ----------
    points : (n,) structured
        Every point, position after position in C order; fields such as ``qx, qy, intensity``.
    offsets : (Rx * Ry + 1,) int64
        Position p holds ``points[offsets[p] : offsets[p + 1]]``.
    shape : (int, int)
        Scan shape.
    report : mapping
        How the points were found and calibrated, in plain numbers.

    Examples
    --------
    >>> import numpy as np
    >>> one = np.array([(1.0, 2.0)], dtype=[("qx", "f8"), ("qy", "f8")])
    >>> table = PointTable.from_lists([[one, one[:0]]])
    >>> table[0, 0]["qx"], len(table[0, 1])
    (array([1.]), 0)
    """

    points: NDArray[Any]
    offsets: NDArray[np.int64]
    shape: tuple[int, int]
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "points"
    Q_shape: tuple[int, int] | None = None
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        offsets = np.asarray(self.offsets, np.int64)
        count = self.shape[0] * self.shape[1]
        if offsets.shape != (count + 1,):
            raise ShapeError(
                f"a scan of {self.shape} needs {count + 1} offsets, not {offsets.shape}"
            )
        if offsets[0] != 0 or offsets[-1] != len(self.points) or (np.diff(offsets) < 0).any():
            raise ShapeError("offsets must rise from 0 to the number of points")
        object.__setattr__(self, "offsets", offsets)

    @classmethod
    def from_lists(cls, rows: Sequence[Sequence[NDArray[Any]]], **values: Any) -> PointTable:
        """Build from ``rows[rx][ry]``, each a structured array of the same dtype."""
        flat = [np.asarray(cell) for row in rows for cell in row]
        lengths = np.array([0, *map(len, flat)], np.int64)
        points = np.concatenate(flat) if flat else np.empty(0)
        return cls(points, np.cumsum(lengths), (len(rows), len(rows[0]) if rows else 0), **values)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.points.dtype

    @property
    def counts(self) -> NDArray[np.int64]:
        """Points per scan position, (Rx, Ry)."""
        return np.diff(self.offsets).reshape(self.shape)

    @property
    def positions(self) -> NDArray[np.int64]:
        """Scan position of every point, (n, 2) as (rx, ry)."""
        flat = np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))
        return np.stack(np.divmod(flat, max(self.shape[1], 1)), axis=-1)

    @property
    def positions_px(self) -> NDArray[np.float64]:
        """Raw detector position (qx, qy) of every point, (n, 2) float64.

        NaN where there is none: a coordinate that is not finite, or a million pixels away.

        Raises
        ------
        ParameterError
            There are no fields ``qx, qy`` that hold numbers.
        """
        names = self.dtype.names or ()
        if not all(name in names and self.dtype[name].kind in "iuf" for name in ("qx", "qy")):
            raise ParameterError(
                f"points need fields qx and qy that hold numbers; these have {self.dtype}"
            )
        raw = np.empty((len(self), 2))
        raw[:, 0], raw[:, 1] = self.points["qx"], self.points["qy"]
        if len(raw) and not np.abs(raw).max() < FARTHEST_PX:  # NaN compares as beyond
            raw[~(np.abs(raw) < FARTHEST_PX).all(axis=1)] = np.nan
        return raw

    def vectors(self, unit: str | None = None) -> NDArray[np.float64]:
        """Calibrated scattering vectors of every point, (n, 2) float64.

        Origin, ellipse, pixel size, flip and rotation in the order of `Calibration`; `unit` is
        that of the calibration unless given (``"px"``, ``"mrad"``, ``"A^-1"`` …).  NaN where the
        origin of a position is not known.

        Raises
        ------
        CalibrationMissing
            There is no origin, or no pixel size for a physical `unit`.
        """
        unit = self.vector_unit if unit is None else unit
        rx, ry = self.positions.T
        origin = self.calibration.origins(self.shape)[rx, ry]
        offsets = self.positions_px - origin
        calibrated: NDArray[np.float64] = offsets @ self.calibration.Q_matrix(unit).T
        return calibrated

    @property
    def vector_unit(self) -> str:
        """The unit of `vectors`: of the calibrated detector axes, else ``"px"``."""
        axis = self.calibration.Q[0]
        return axis.unit if axis.calibrated else "px"

    def select(self, keep: NDArray[np.bool_]) -> Self:
        """The points for which ``keep`` (n,) is True, at the same positions."""
        keep = np.asarray(keep)
        if keep.shape != (len(self),) or keep.dtype != bool:
            raise ShapeError(f"keep must be {len(self)} bools, one per point, not {keep.shape}")
        kept = np.concatenate([[0], np.cumsum(keep)])[self.offsets]
        return replace(self, points=self.points[keep], offsets=kept)

    def with_calibration(self, *known: Calibration | Measured, **changes: Any) -> Self:
        """The same points with a new calibration, or parts of it (as for `DataCube`)."""
        calibration = updated(self.calibration, *known, **changes)
        origin = calibration.origin_px
        if origin is not None and origin.ndim == 3 and origin.shape[:2] != tuple(self.shape):
            raise ShapeError(
                f"an origin for {origin.shape[:2]} positions; the scan is {self.shape}"
            )
        return replace(self, calibration=calibration)

    def __getitem__(self, position: tuple[int, int]) -> NDArray[Any]:
        rx, ry = position
        nx, ny = self.shape
        if not (-nx <= rx < nx and -ny <= ry < ny):
            raise IndexError(f"position {position} is outside the scan of {self.shape}")
        p = (rx % nx) * ny + ry % ny
        return self.points[self.offsets[p] : self.offsets[p + 1]]

    def __len__(self) -> int:
        return len(self.points)

    def __repr__(self) -> str:
        fields = ", ".join(self.dtype.names or ())
        kind = type(self).__name__
        return f"<{kind} {self.name!r} {self.shape}, {len(self)} points ({fields})>"

    def _repr_html_(self) -> str:
        from py4DSTEM.core.html import points_html

        return points_html(self)
