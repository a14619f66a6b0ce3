"""One pass over patterns for everything that is a sum: detectors, moments, mean, maximum."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from ..errors import ShapeError
from ._arrays import fit_frames
from ._fused import fused_pass, weighted_images
from .api import Float, Measured, lowest
from .detectors import LANES, CompiledDetectors, compile_detectors

GROUP_BYTES = 1 << 18
"""Patterns are worked on together while one band of all of them fits in the second cache."""

MOST_TOGETHER = 8


class _Tables(NamedTuple):
    """Numbers of every pattern; without rows if not wanted."""

    detectors: Float
    seen: Float
    moments: Float

    @classmethod
    def of(cls, n: int, count: int, moments: bool) -> _Tables:
        return cls(np.zeros((n, count)), np.zeros((n, count)), np.zeros((n * moments, 4)))


class _Images(NamedTuple):
    """Flattened images over the patterns; empty if not wanted."""

    sums: Float
    valid: Float
    squares: Float
    maximum: np.ndarray

    @classmethod
    def of(
        cls,
        pixels: int,
        dtype: np.dtype[Any],
        low: Any,
        sums: bool,
        squares: bool,
        maximum: bool,
    ) -> _Images:
        return cls(
            np.zeros(pixels * sums),
            np.zeros(pixels * sums),
            np.zeros(pixels * squares),
            np.full(pixels * maximum, low, dtype=dtype),
        )

    def without_sums(self) -> _Images:
        none = np.zeros(0)
        return _Images(none, none, none, self.maximum)


def measure(
    frames: ArrayLike,
    detectors: CompiledDetectors | None = None,
    *,
    moments: bool = False,
    sums: bool = False,
    squares: bool = False,
    maximum: bool = False,
    weights: Float | None = None,
) -> Measured:
    """Detector sums, moments, mean, variance and maximum of patterns in one pass.

    Parameters
    ----------
    frames : (n, Qx, Qy) real
        Any dtype, byte order and strides; copied only if not already native and contiguous.
    detectors : CompiledDetectors, optional
        From `compile_detectors`.
    moments : bool
        Fill ``total``, ``moment_x`` and ``moment_y``.
    sums, squares, maximum : bool
        Fill these images over the patterns; either of the first two brings ``valid``.
    weights : (n,) float64, optional
        Finite weight of each pattern in the images, 1 by default. Detectors and moments ignore it.

    Returns
    -------
    Measured

    Raises
    ------
    ShapeError
        If frames, detectors and weights do not fit together.
    ParameterError
        If the frames are not real numbers.

    Notes
    -----
    Integers are added exactly and rounded to float64 at the end, so results below 2**53 are exact;
    sums of 64-bit integers must fit in 64 bits. Pixels that are NaN or infinite count as masked:
    they add nothing. What is not asked for costs nothing.

    Examples
    --------
    >>> import numpy as np
    >>> frames = np.arange(8, dtype=np.uint16).reshape(2, 2, 2)
    >>> corner = compile_detectors(np.array([[[1, 0], [0, 0]]]))
    >>> measured = measure(frames, corner, sums=True)
    >>> measured.detectors.tolist(), measured.sums.tolist()
    ([[0.0], [4.0]], [[4.0, 6.0], [8.0, 10.0]])
    """
    dtype = np.asarray(frames).dtype.newbyteorder("=")
    fit = fit_frames(frames)
    shape = fit.shape[1:]
    plan = _no_detectors(shape) if detectors is None else detectors
    counts = _checked(fit, plan, weights)
    pixels = shape[0] * shape[1]
    keep_sums = sums or (squares and fit.dtype.kind == "f")
    images = _Images.of(pixels, fit.dtype, lowest(dtype), keep_sums, squares, maximum)
    tables = _Tables.of(len(fit), plan.count, moments)
    if fit.size:
        _fill(fit, plan, counts, tables, images)
    valid = (
        images.valid
        if fit.dtype.kind == "f"
        else np.full(fit.shape[1] * fit.shape[2], counts.sum())
    )
    found, total = _with_nan(tables, plan, fit.dtype), tables.moments.T
    return Measured(
        detectors=None if detectors is None else found,
        total=total[0] if moments else None,
        moment_x=total[1] if moments else None,
        moment_y=total[2] if moments else None,
        sums=images.sums.reshape(shape) if sums else None,
        squares=images.squares.reshape(shape) if squares else None,
        valid=valid.reshape(shape) if sums or squares else None,
        maximum=images.maximum.reshape(shape).astype(dtype, copy=False) if maximum else None,
    )


@lru_cache(maxsize=16)
def _no_detectors(shape: tuple[int, int]) -> CompiledDetectors:
    return compile_detectors(np.empty((0, *shape)))


def _checked(fit: np.ndarray, plan: CompiledDetectors, weights: Float | None) -> Float:
    """Weights of the patterns, after a look whether everything fits together."""
    if plan.shape != fit.shape[1:]:
        raise ShapeError(f"detectors made for {plan.shape} do not fit patterns of {fit.shape[1:]}")
    if weights is None:
        return np.ones(len(fit))
    given = np.ascontiguousarray(weights, dtype=np.float64)
    if given.shape != fit.shape[:1]:
        raise ShapeError(f"weights need one number for each of {len(fit)} patterns: {given.shape}")
    return given


def _fill(
    fit: np.ndarray, plan: CompiledDetectors, weights: Float, tables: _Tables, images: _Images
) -> None:
    """Run the compiled pass; weights other than 0 and 1 take a pass of their own."""
    flat = fit.reshape(-1)
    plain = bool(((weights == 0) | (weights == 1)).all())
    fused_pass(
        flat,
        plan.shape,
        plan.band_rows,
        plan.pieces,
        _together(fit[0], plan.band_rows),
        np.flatnonzero(weights > 0),
        _strip_masks(plan.shape[1]),
        plan.parts,
        np.zeros(plan.room, fit.dtype),
        *tables,
        *(images if plain else images.without_sums()),
    )
    if not plain and (images.sums.size or images.squares.size):
        weighted_images(flat, weights, *images[:3])


def _strip_masks(columns: int) -> np.ndarray:
    """(2, 32) int8: all columns of a strip, and those that whole strips leave over at the right."""
    masks = np.full((2, LANES), -1, dtype=np.int8)
    masks[1, : LANES - columns % LANES] = 0
    return masks


def _together(pattern: np.ndarray, band_rows: int) -> int:
    return max(1, min(MOST_TOGETHER, GROUP_BYTES // pattern[:band_rows].nbytes))


def _with_nan(tables: _Tables, plan: CompiledDetectors, dtype: np.dtype[Any]) -> Float:
    """Detector sums, NaN where a detector saw no finite pixel."""
    sums = tables.detectors
    if dtype.kind == "f":
        sums[(tables.seen == 0) & (plan.support > 0)] = np.nan
    return sums
