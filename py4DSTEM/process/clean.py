"""Lazy cleaning: bad pixels, dark and gain, background; applied to each block as it is read."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import LazyArray, View, read_block
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.defects import counting_noise, hot_pixels, neighbour_middle, sharpness_sigma
from py4DSTEM.process.diffraction import MeanPattern, StdPattern
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.options import RunOptions

__all__ = [
    "BackgroundMethod",
    "Filtered",
    "FrameFilter",
    "HotPixels",
    "apply_gain",
    "dark_gain",
    "detect_hot_pixels",
    "repair_pixels",
    "subtract_background",
    "subtract_dark",
]

Array = NDArray[Any]
Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
C = TypeVar("C", bound=Cube)
BackgroundMethod = Literal["radial", "flat"]


def _kernels() -> Any:
    from py4DSTEM import kernels

    return kernels.compiled()


# ---- the view ------------------------------------------------------------------------------------
class FrameFilter(ABC):
    """Something done to every pattern on its own; frozen, so that it can be shared and pickled."""

    @abstractmethod
    def dtype(self, source: np.dtype[Any]) -> np.dtype[Any]:
        """Dtype of the filtered patterns."""

    @abstractmethod
    def apply(self, frames: Array) -> Array:
        """Filtered copies of patterns (n, Qx, Qy); called from several threads."""


class Filtered(View):
    """A scan seen through a filter, which acts on each block when it is read."""

    def __init__(self, source: LazyArray, filter: FrameFilter) -> None:
        super().__init__(source)
        self._filter = filter

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._filter.dtype(self._source.dtype)

    def read_block(self, rx: slice, ry: slice) -> Array:
        return self._filter.apply(read_block(self._source, rx, ry))


@dataclass(frozen=True, eq=False)
class _Repair(FrameFilter):
    pixels: NDArray[np.int64]
    neighbours: NDArray[np.int64]

    def dtype(self, source: np.dtype[Any]) -> np.dtype[Any]:
        return source.newbyteorder("=")

    def apply(self, frames: Array) -> Array:
        repaired: Array = _kernels().repair_pixels(frames, self.pixels, self.neighbours)
        return repaired


@dataclass(frozen=True, eq=False)
class _ToFloat(FrameFilter):
    """Base of filters whose result is float32, with negative values cut off if wanted."""

    clip_negative: bool

    def dtype(self, source: np.dtype[Any]) -> np.dtype[Any]:
        return np.dtype(np.float32)

    def apply(self, frames: Array) -> Array:
        out = self.corrected(frames)
        return np.maximum(out, np.float32(0), out=out) if self.clip_negative else out

    @abstractmethod
    def corrected(self, frames: Array) -> NDArray[np.float32]:
        """The patterns before clipping, float32."""


@dataclass(frozen=True, eq=False)
class _DarkGain(_ToFloat):
    dark: Float | None
    gain: Float | None

    def corrected(self, frames: Array) -> NDArray[np.float32]:
        out: NDArray[np.float32] = _kernels().apply_dark_gain(frames, self.dark, self.gain)
        return out


@dataclass(frozen=True, eq=False)
class _Background(_ToFloat):
    rings: Any
    quantile: float

    def corrected(self, frames: Array) -> NDArray[np.float32]:
        subtract = _kernels().subtract_radial_background
        out: NDArray[np.float32] = subtract(frames, self.rings, self.quantile)
        return out


def _through(cube: C, filter: FrameFilter, kind: str, parameters: dict[str, Any]) -> C:
    history = cube.history.then(kind, parameters)
    return cube.replace(data=Filtered(cube.data, filter), history=history)


# ---- bad pixels ----------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class HotPixels:
    """Where a detector is too bright; use it as a mask.

    Parameters
    ----------
    mask : (Qx, Qy) bool
    sigma : (Qx, Qy) float64
        By how many sigma each pixel exceeds its neighbours.
    threshold_sigma : float
    """

    mask: Bool
    sigma: Float
    threshold_sigma: float

    @property
    def positions(self) -> list[tuple[int, int]]:
        """(qx, qy) of each hot pixel."""
        return [(int(x), int(y)) for x, y in np.argwhere(self.mask)]

    def __len__(self) -> int:
        return int(self.mask.sum())

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self.mask, dtype=dtype, copy=copy)

    def text(self) -> str:
        """One line per hot pixel."""
        head = f"{len(self)} hot pixels above {self.threshold_sigma:g} sigma"
        lines = [f"  ({x}, {y}): {self.sigma[x, y]:.1f} sigma" for x, y in self.positions]
        return "\n".join([head, *lines])

    def __repr__(self) -> str:
        return f"<HotPixels {len(self)} of {self.mask.size}>"


register_result("hot-pixels", HotPixels)


def detect_hot_pixels(
    data: Cube | DiffractionSlice | ArrayLike,
    threshold_sigma: float = 8.0,
    *,
    options: RunOptions | None = None,
) -> HotPixels:
    """Find pixels that are far brighter than all their neighbours.

    Parameters
    ----------
    data : DataCube, DiffractionSlice or (Qx, Qy) array
        Of a scan the mean pattern is examined (one pass).
    threshold_sigma : float
        How far above the noise a pixel must be.
    options : RunOptions, optional

    Returns
    -------
    HotPixels
        ``.mask`` (Qx, Qy) bool, ``.positions``, ``.text()``.

    Examples
    --------
    >>> import numpy as np
    >>> pattern = np.random.default_rng(0).poisson(5.0, (32, 32)); pattern[4, 9] = 300
    >>> detect_hot_pixels(pattern).positions
    [(4, 9)]
    """
    if not threshold_sigma > 0:
        raise ParameterError(f"threshold_sigma must be positive, not {threshold_sigma!r}")
    image, floor = _image_of(data, options)
    mask = hot_pixels(image, threshold_sigma, floor)
    if min(image.shape) < 3:
        return HotPixels(mask, np.zeros(image.shape), threshold_sigma)
    excess, sigma = sharpness_sigma(np.nan_to_num(image), floor)
    ratio = np.divide(excess, sigma, out=np.zeros_like(excess), where=sigma > 0)
    return HotPixels(mask, ratio, threshold_sigma)


def _image_of(
    data: Cube | DiffractionSlice | ArrayLike, options: RunOptions | None
) -> tuple[Float, Float]:
    """The image to examine, and the counting noise that it has at least."""
    if isinstance(data, Cube):
        mean, std = run([MeanPattern(), StdPattern()], data, options=options)
        positions = data.R_shape[0] * data.R_shape[1]
        image, counts = mean.data, data.dtype.kind in "bui"
        noise = neighbour_middle(np.nan_to_num(std.data)) / np.sqrt(positions)
    else:
        array = np.asarray(data)
        positions, counts = 1, array.dtype.kind in "bui"
        image = array.astype(np.float64)
        noise = np.zeros_like(image)
    if image.ndim != 2:
        raise ShapeError(f"hot pixels are looked for in one pattern, not in {image.shape}")
    return image, np.maximum(noise, counting_noise(np.nan_to_num(image), positions, counts))


def repair_pixels(cube: C, mask: ArrayLike | HotPixels, *, neighbours: int = 8) -> C:
    """Replace bad pixels of every pattern by the median of their valid neighbours (lazy).

    Parameters
    ----------
    cube : DataCube
    mask : (Qx, Qy) bool, or HotPixels
        True where a pixel is bad.
    neighbours : int
        How many of the nearest good pixels to use.

    Returns
    -------
    DataCube
        Same shape and dtype; nothing is read yet.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> data = np.full((2, 2, 5, 5), 3, np.uint8); data[:, :, 2, 2] = 255
    >>> bad = np.zeros((5, 5), bool); bad[2, 2] = True
    >>> int(repair_pixels(DataCube(data), bad)[0, 0].data.max())
    3
    """
    from py4DSTEM.kernels.clean import neighbour_table

    bad = np.asarray(mask)
    if bad.shape != cube.Q_shape:
        raise ShapeError(f"a mask of {bad.shape} does not fit patterns of {cube.Q_shape}")
    if bad.dtype.kind != "b":
        raise ParameterError(f"the mask must be boolean (True: bad), not {bad.dtype}")
    if bad.all():
        raise ParameterError("the mask says that every pixel is bad: none is left to repair from")
    if not 1 <= neighbours <= 64:
        raise ParameterError(f"neighbours must be between 1 and 64, not {neighbours!r}")
    parameters = {"pixels": np.argwhere(bad).tolist(), "neighbours": neighbours}
    return _through(cube, _Repair(*neighbour_table(bad, neighbours)), "repair-pixels", parameters)


# ---- dark and gain -------------------------------------------------------------------------------
def subtract_dark(cube: C, dark: DiffractionSlice | ArrayLike, *, clip_negative: bool = False) -> C:
    """Subtract a dark pattern from every pattern; lazy.

    Parameters
    ----------
    cube : DataCube
    dark : DiffractionSlice or (Qx, Qy) array
    clip_negative : bool
        Set what is negative to zero.

    Returns
    -------
    DataCube
        float32; nothing is computed before it is needed.
    """
    return dark_gain(cube, dark, None, clip_negative=clip_negative)


def apply_gain(cube: C, gain: DiffractionSlice | ArrayLike, *, clip_negative: bool = False) -> C:
    """Multiply every pattern by a gain image; lazy.

    Parameters
    ----------
    cube : DataCube
    gain : DiffractionSlice or (Qx, Qy) array
    clip_negative : bool
        Set what is negative to zero.

    Returns
    -------
    DataCube
        float32; nothing is computed before it is needed.
    """
    return dark_gain(cube, None, gain, clip_negative=clip_negative)


def dark_gain(
    cube: C,
    dark: DiffractionSlice | ArrayLike | None = None,
    gain: DiffractionSlice | ArrayLike | None = None,
    *,
    clip_negative: bool = False,
) -> C:
    """Correct every pattern for dark signal and gain: ``(I − dark) · gain`` (lazy).

    Parameters
    ----------
    cube : DataCube
    dark, gain : DiffractionSlice or (Qx, Qy) array, optional
        Finite; 0 and 1 where not given.
    clip_negative : bool
        Set what falls below zero to zero (this biases weak signals).

    Returns
    -------
    DataCube
        float32; nothing is read yet.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> cube = DataCube(np.full((1, 1, 2, 2), 10, np.uint16))
    >>> float(dark_gain(cube, np.full((2, 2), 4), np.full((2, 2), 0.5))[0, 0].data[0, 0])
    3.0
    """
    if dark is None and gain is None:
        raise ParameterError("give a dark pattern, a gain image, or both")
    images = {"dark": _image(cube, dark, "dark"), "gain": _image(cube, gain, "gain")}
    stored = {name: _fingerprint(image) for name, image in images.items() if image is not None}
    parameters = {**stored, "clip_negative": clip_negative}
    return _through(cube, _DarkGain(clip_negative, **images), "dark-gain", parameters)


def _image(cube: Cube, image: DiffractionSlice | ArrayLike | None, name: str) -> Float | None:
    if image is None:
        return None
    array = np.array(image, dtype=np.float64)
    if array.shape != cube.Q_shape:
        raise ShapeError(f"a {name} image of {array.shape} does not fit patterns of {cube.Q_shape}")
    if not np.isfinite(array).all():
        raise ParameterError(f"the {name} image holds values that are not finite: repair it first")
    array.flags.writeable = False
    return array


def _fingerprint(image: Float) -> dict[str, Any]:
    """What identifies an image in the history without storing all of it."""
    return {
        "shape": list(image.shape),
        "mean": float(image.mean()),
        "sha256": hashlib.sha256(np.ascontiguousarray(image, "<f8").tobytes()).hexdigest(),
    }


# ---- background ----------------------------------------------------------------------------------
def subtract_background(
    cube: C,
    method: BackgroundMethod = "radial",
    *,
    percentile: float = 50.0,
    step_px: float = 1.0,
    center: tuple[float, float] | None = None,
    clip_negative: bool = False,
) -> C:
    """Subtract from each pattern the background that it has itself (lazy).

    Parameters
    ----------
    cube : DataCube
    method : "radial" or "flat"
        The percentile of each ring around the origin, or of the whole pattern.
    percentile : float
        50 is the median, which peaks on less than half of a ring do not change.
    step_px : float
        Distance between rings.
    center : (float, float), optional
        (qx, qy) in pixels; None: the calibrated origin (its mean over the scan).
    clip_negative : bool
        Set what falls below zero to zero.

    Returns
    -------
    DataCube
        float32; nothing is read yet.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> cube = DataCube(np.full((1, 1, 8, 8), 10, np.uint16))
    >>> float(abs(subtract_background(cube, center=(3.5, 3.5))[0, 0].data).max())
    0.0
    """
    if not 0 <= percentile <= 100:
        raise ParameterError(f"a percentile lies between 0 and 100, not {percentile!r}")
    if method not in ("radial", "flat"):
        raise ParameterError(f'method is "radial" or "flat", not {method!r}')
    if method == "radial":
        radius, bins = _radii(cube, center, step_px)
    else:
        radius, bins = np.zeros(cube.Q_shape), 1
    rings = _kernels().radial_plan(radius, bins, step_px)
    filter = _Background(clip_negative, rings, percentile / 100)
    parameters = {"method": method, "percentile": percentile, "step_px": step_px,
                  "center": center, "clip_negative": clip_negative}  # fmt: skip
    return _through(cube, filter, "subtract-background", parameters)


def _radii(cube: Cube, center: tuple[float, float] | None, step_px: float) -> tuple[Float, int]:
    from py4DSTEM.process.radial import corrected_radius

    if not (np.isfinite(step_px) and step_px > 0):
        raise ParameterError(f"step_px must be a positive number, not {step_px!r}")
    radius = corrected_radius(cube.Q_shape, center or cube.calibration.mean_origin_px,
                              cube.calibration)  # fmt: skip
    return radius, int(radius.max() / step_px) + 2
