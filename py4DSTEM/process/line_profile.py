"""Values of an image along a line."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import ArrayResult, Slice
from py4DSTEM.errors import ParameterError

__all__ = ["LineProfile", "line_profile"]

Float = NDArray[np.float64]
Pair = tuple[float, float]
_MOST_SAMPLES = 100_000
_MOST_WIDTH_PX = 1000.0


@dataclass(frozen=True, eq=False)
class LineProfile:
    """Values of an image along a line.

    Parameters
    ----------
    data : (n,) float64
        NaN beside the image.
    axis : Axis
        Distances from the start.
    start, stop : (float, float)
        In pixels.
    """

    data: Float
    axis: Axis
    start: Pair
    stop: Pair
    history: History = field(default_factory=History)
    name: str = "line profile"

    @property
    def distance(self) -> Float:
        """From the start, in the unit of `axis`, (n,)."""
        return self.axis.coordinates(len(self.data))


def line_profile(
    image: Slice | ArrayResult, start: Pair, stop: Pair, *, width_px: float = 1.0
) -> LineProfile:
    """Values of an image along a line, interpolated between pixels.

    Parameters
    ----------
    image : RealSlice, DiffractionSlice or ArrayResult
        One image (n0, n1).
    start, stop : (float, float)
        Ends ``(x, y)`` in pixels, row first; they may lie beside the image.
    width_px : float
        Average over so many pixels across the line, at most 1000.

    Returns
    -------
    LineProfile
        About one sample per pixel from start to stop, both of them included; distances in the unit
        of the axes where they have the same one.

    Raises
    ------
    ParameterError
        A stack, or ends that are no finite, different places.

    Notes
    -----
    Linear interpolation between the four pixels around each sample.  What lies beside the image, or
    is no number there, is left out of averages and gives NaN where nothing is left.

    Examples
    --------
    >>> from py4DSTEM.core.slices import RealSlice
    >>> image = RealSlice(np.arange(12.0).reshape(3, 4))
    >>> line_profile(image, (0, 0), (0, 3)).data.tolist()
    [0.0, 1.0, 2.0, 3.0]
    """
    values = np.asarray(image.data)
    if values.ndim != 2 or values.dtype.kind not in "biuf":
        raise ParameterError(f"a line profile is taken of one real image, not of {image!r}")
    length = math.hypot(stop[0] - start[0], stop[1] - start[1])
    if not 0 < length <= _MOST_SAMPLES or not 0 < width_px <= _MOST_WIDTH_PX:
        raise ParameterError(
            f"a line runs between two different places, at most {_MOST_SAMPLES} px apart, and is "
            f"up to {_MOST_WIDTH_PX:g} px wide; not from {start} to {stop}, {width_px} px wide"
        )
    count = max(2, math.ceil(length) + 1)
    x, y = (np.linspace(a, b, count) for a, b in zip(start, stop, strict=True))
    across = math.ceil(width_px)
    offsets = ((np.arange(across) + 0.5) / across - 0.5) * width_px if across > 1 else np.zeros(1)
    normal = (-(stop[1] - start[1]) / length, (stop[0] - start[0]) / length)
    samples = _interpolated(
        values.astype(np.float64),
        x[:, None] + offsets * normal[0],
        y[:, None] + offsets * normal[1],
    )
    axis = _distances(image.axes, start, stop, count)
    history = image.history.then(
        "line-profile", {"start": list(start), "stop": list(stop), "width_px": width_px}
    )
    return LineProfile(_mean_of_known(samples), axis, start, stop, history)


def _interpolated(values: Float, x: Float, y: Float) -> Float:
    """Linear between pixels; NaN beside the image."""
    rows, columns = values.shape
    inside = (x >= 0) & (x <= rows - 1) & (y >= 0) & (y <= columns - 1)
    x, y = np.where(inside, x, 0.0), np.where(inside, y, 0.0)
    i = np.minimum(np.floor(x).astype(np.int64), max(rows - 2, 0))
    j = np.minimum(np.floor(y).astype(np.int64), max(columns - 2, 0))
    i1, j1 = np.minimum(i + 1, rows - 1), np.minimum(j + 1, columns - 1)
    out = np.zeros(x.shape)
    for row, column, weight in (
        (i, j, (1 - (x - i)) * (1 - (y - j))),
        (i1, j, (x - i) * (1 - (y - j))),
        (i, j1, (1 - (x - i)) * (y - j)),
        (i1, j1, (x - i) * (y - j)),
    ):
        # A pixel that does not count must not spoil the others, even if it is no number.
        out += np.where(weight > 0, values[row, column] * weight, 0.0)
    return np.where(inside, out, np.nan)


def _mean_of_known(samples: Float) -> Float:
    known = np.isfinite(samples)
    total, count = np.where(known, samples, 0.0).sum(axis=1), known.sum(axis=1)
    mean: Float = np.divide(total, count, out=np.full(len(samples), np.nan), where=count > 0)
    return mean


def _distances(axes: tuple[Axis, ...], start: Pair, stop: Pair, count: int) -> Axis:
    x, y = axes
    same = x.unit == y.unit
    steps = (x.step, y.step) if same else (1.0, 1.0)
    length = math.hypot(*((b - a) * s for a, b, s in zip(start, stop, steps, strict=True)))
    return Axis("distance", length / (count - 1), 0.0, x.unit if same else "px")
