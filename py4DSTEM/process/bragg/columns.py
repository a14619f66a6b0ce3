"""Tables of peaks as plain columns, for data frames and text files."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.parameters import numbers
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError, ShapeError

__all__ = ["ragged", "to_columns", "to_csv"]

POSITION = ("rx", "ry")
MOST_POSITIONS = 1 << 28
"""A larger scan is a mistake in the columns, and its offsets would fill the memory."""


def to_columns(peaks: PointTable) -> dict[str, NDArray[Any]]:
    """One array (n,) per column: scan position ``rx, ry`` and the fields of the peaks.

    What ``pandas.DataFrame``, ``pyarrow.table`` (and so Parquet) and ``polars`` take.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import PointTable
    >>> from py4DSTEM.process.bragg.columns import to_columns
    >>> spots = np.array([(10.0, 16.0)], [("qx", "f8"), ("qy", "f8")])
    >>> columns = to_columns(PointTable.from_lists([[spots[:0], spots]]))
    >>> {name: column.tolist() for name, column in columns.items()}
    {'rx': [0], 'ry': [1], 'qx': [10.0], 'qy': [16.0]}
    """
    rx, ry = peaks.positions.T
    columns = {"rx": np.ascontiguousarray(rx), "ry": np.ascontiguousarray(ry)}
    return columns | {n: np.ascontiguousarray(peaks.points[n]) for n in peaks.dtype.names or ()}


def to_csv(peaks: PointTable, path: str | PathLike[str]) -> None:
    """Write one line per peak, headed by the names of the columns.

    Numbers are written so that they read back exactly.  The file appears whole or not at all.

    Raises
    ------
    StoreError
        Writing failed; what was there before is unharmed.
    """
    from py4DSTEM.io.export import write_csv
    from py4DSTEM.io.store.atomic import replacing

    with replacing(path) as part:
        write_csv(part, peaks)


def ragged(
    columns: Mapping[str, ArrayLike], shape: tuple[int, int] | None, dtype: np.dtype[Any]
) -> tuple[NDArray[Any], NDArray[np.int64], tuple[int, int]]:
    """Points, offsets and scan shape of columns in any order.

    Parameters
    ----------
    columns : mapping
        ``rx, ry, qx, qy`` and any others, each (n,).
    shape : (int, int), optional
        Of the scan; None: as far as the positions go.
    dtype : dtype
        Fields of the result; those that `columns` lack are NaN.  Further columns are appended.

    Raises
    ------
    ParameterError
        A column is missing, or a position is not in the scan.
    ShapeError
        The columns differ in length.
    """
    if not hasattr(columns, "items"):
        raise ParameterError(
            f"columns are a mapping of names to arrays, or a data frame, not {type(columns)}"
        )
    arrays = {name: np.atleast_1d(np.asarray(column)) for name, column in columns.items()}
    if missing := [name for name in (*POSITION, "qx", "qy") if name not in arrays]:
        raise ParameterError(
            f"peaks need the columns rx, ry, qx, qy: {', '.join(missing)} missing of "
            f"{', '.join(arrays) or 'none'}"
        )
    if {a.shape for a in arrays.values()} != {(len(arrays["rx"]),)}:
        lengths = ", ".join(f"{name} {a.shape}" for name, a in arrays.items())
        raise ShapeError(f"columns are 1D and of one length, not {lengths}")
    for name, array in arrays.items():
        if array.dtype.kind not in "biuf" and name in {"qx", "qy", *(dtype.names or ())}:
            raise ParameterError(f"column {name!r} must hold real numbers, not {array.dtype}")
    position = np.stack([_whole(arrays[name], name) for name in POSITION], axis=-1)
    reached = position.max(axis=0, initial=-1) + 1
    nx, ny = map(int, reached if shape is None else numbers("shape", shape, 2))
    if nx * ny > MOST_POSITIONS:
        raise ParameterError(
            f"a scan of {nx} x {ny} positions is more than {MOST_POSITIONS}: check rx, ry and shape"
        )
    if (position < 0).any() or (reached > (nx, ny)).any():
        raise ParameterError(f"some positions (rx, ry) are outside the scan of {(nx, ny)}")
    flat = position @ np.array([ny, 1], np.int64)
    order = np.argsort(flat, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(flat, minlength=nx * ny))])
    return _records(arrays, order, dtype), offsets.astype(np.int64), (nx, ny)


def _whole(values: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Positions as integers; data frames with gaps hold them as floats."""
    if values.dtype.kind not in "iuf" or not np.array_equal(values, np.trunc(values)):
        raise ParameterError(f"{name} must hold whole numbers: the scan position of each peak")
    return values.astype(np.int64)


def _records(
    arrays: Mapping[str, NDArray[Any]], order: NDArray[np.int64], dtype: np.dtype[Any]
) -> NDArray[Any]:
    known = dtype.names or ()
    more = [(n, a.dtype) for n, a in arrays.items() if n not in known and n not in POSITION]
    points = np.zeros(len(order), [(n, dtype[n]) for n in known] + more)
    for name in points.dtype.names or ():
        points[name] = arrays[name][order] if name in arrays else np.nan
    return points
