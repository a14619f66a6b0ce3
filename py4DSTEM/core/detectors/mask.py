"""Any weights, pixel by pixel."""

from __future__ import annotations

import base64
import math
import zlib
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import PlainSerializer, PlainValidator

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detectors.base import Detector, Float
from py4DSTEM.errors import ParameterError, ShapeError

__all__ = ["Mask", "MaskArray", "decoded"]


def _encode(array: NDArray[Any]) -> dict[str, Any]:
    raw = np.ascontiguousarray(array, dtype="<f8")
    packed = base64.b64encode(zlib.compress(raw.tobytes())).decode("ascii")
    return {"shape": list(raw.shape), "zlib_f8": packed}


def decoded(value: ArrayLike | dict[str, Any]) -> Float:
    """A 2D array of finite weights that cannot be written, also from its packed form."""
    if isinstance(value, dict):
        value = _unpacked(value)
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise ParameterError(f"a mask is a 2D array of weights, not {value!r}") from None
    if array.ndim != 2 or not np.isfinite(array).all():
        raise ParameterError("a mask is a 2D array of finite weights")
    array.flags.writeable = False
    return array


def _unpacked(value: dict[str, Any]) -> Float:
    if not value.keys() >= {"shape", "zlib_f8"}:
        raise ParameterError(f"a packed mask has shape and zlib_f8, not {', '.join(value)}")
    shape = tuple(map(int, value["shape"]))
    size = math.prod(shape) * 8
    try:
        raw = zlib.decompressobj().decompress(base64.b64decode(value["zlib_f8"]), size + 1)
    except (ValueError, zlib.error) as error:
        raise ParameterError(f"the packed mask cannot be unpacked: {error}") from None
    if len(raw) != size:
        raise ParameterError(f"the packed mask holds {len(raw)} bytes, not the {size} of {shape}")
    return np.frombuffer(raw, "<f8").reshape(shape)


MaskArray = Annotated[Any, PlainValidator(decoded), PlainSerializer(_encode)]


@dataclass(frozen=True, eq=False)
class Mask(Detector):
    """Any weights.

    Parameters
    ----------
    data : (Qx, Qy) bool or float
        Negative weights are allowed.
    """

    data: MaskArray
    center: None = None
    units: Literal["px"] = "px"
    kind: Literal["mask"] = "mask"

    def __post_init__(self) -> None:
        object.__setattr__(self, "data", decoded(self.data))

    def signed_distance(self, x: Float, y: Float) -> Float:
        raise NotImplementedError("a mask has no edge")

    def center_px(self, calibration: Calibration) -> tuple[float, float]:
        return (self.data.shape[0] - 1) / 2, (self.data.shape[1] - 1) / 2

    def weights(self, Q_shape: tuple[int, int], calibration: Calibration) -> Float:
        if self.data.shape != tuple(Q_shape):
            raise ShapeError(f"a mask of {self.data.shape} does not fit patterns of {Q_shape}")
        return np.array(self.data)

    def weights_at(
        self, points_px: Float, calibration: Calibration, centers_px: Float | None = None
    ) -> Float:
        """Weight of the pixel that each position lies in; 0 beside the mask."""
        weights = np.zeros(len(points_px))
        known = np.isfinite(points_px).all(axis=1)
        i, j = np.floor(points_px[known] + 0.5).astype(np.int64).T
        inside = (i >= 0) & (j >= 0) & (i < self.data.shape[0]) & (j < self.data.shape[1])
        weights[np.flatnonzero(known)[inside]] = self.data[i[inside], j[inside]]
        return weights

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mask) and np.array_equal(self.data, other.data)

    __hash__ = None  # type: ignore[assignment]
