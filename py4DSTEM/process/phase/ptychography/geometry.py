"""Where each pattern looks: windows in the object, the fraction of a pixel that is left, and how
the beam goes on from slice to slice."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import ParameterError
from py4DSTEM.kernels.fft import padded
from py4DSTEM.process.phase.optics import Optics

__all__ = ["Geometry", "affine_part", "turned_by"]

Float = NDArray[np.float64]
F32 = NDArray[np.float32]
LEAST_DESCAN_PX = 1e-3
"""Patterns that are less off are not moved."""


@dataclass(frozen=True, eq=False)
class Geometry:
    """Scan positions in an object that has room for all windows and for how far they may move.

    Parameters
    ----------
    positions_px : (P, 2) float64
        Middle of the probe in pixels of the object, detector axes.
    object_shape : (int, int)
    window : (int, int)
        Pixels of a pattern; the probe is centred on pixel (n0 // 2, n1 // 2) of it.
    sampling_A : (float, float)
    corner_A : (2,) float64
        Where pixel (0, 0) of the object lies from scan position (0, 0), detector axes.
    R_shape : (int, int)
    slice_A : float
        From one slice to the next; 0 where there is one.
    tilt_rad : (float, float)
        Columns run along ``(tilt_x, tilt_y, 1)``, detector axes.
    descan_px : (P, 2) float64, optional
        By how much the origin of each pattern is off from where that of all is taken to be.
    """

    positions_px: Float
    object_shape: tuple[int, int]
    window: tuple[int, int]
    sampling_A: tuple[float, float]
    corner_A: Float
    R_shape: tuple[int, int]
    slice_A: float = 0.0
    tilt_rad: tuple[float, float] = (0.0, 0.0)
    descan_px: Float | None = None

    @classmethod
    def of(
        cls,
        optics: Optics,
        R_shape: tuple[int, int],
        positions_A: Float | None = None,
        margin_px: int = 8,
    ) -> Geometry:
        """Of a regular scan, or of positions (Rx, Ry, 2) in Å that are given in scan axes."""
        sampling = np.array(optics.sampling_A)
        if positions_A is None:
            at = optics.positions_A(R_shape)
        else:
            given = np.asarray(positions_A, dtype=np.float64)
            if given.shape != (*R_shape, 2) or not np.isfinite(given).all():
                raise ParameterError(
                    f"positions_A are finite and (Rx, Ry, 2) = {(*R_shape, 2)}, not {given.shape}"
                )
            at = given @ optics.to_detector().T
        pixels = at.reshape(-1, 2) / sampling
        half = np.array(optics.Q_shape) // 2
        first = pixels.min(axis=0) - half - margin_px
        shape = np.ceil(pixels.max(axis=0) - first + half + margin_px + 1).astype(int)
        return cls(
            pixels - first,
            (int(shape[0]), int(shape[1])),
            optics.Q_shape,
            optics.sampling_A,
            first * sampling,
            R_shape,
        )

    def moved(self, positions_px: Float) -> Geometry:
        """The same with other positions, kept within the object."""
        half = np.array(self.window) // 2
        high = np.array(self.object_shape) - np.array(self.window) + half - 1
        return replace(self, positions_px=np.clip(positions_px, half, high))

    def sliced(self, slice_A: float, tilt_rad: tuple[float, float] = (0.0, 0.0)) -> Geometry:
        """The same with slices so far apart, and columns so tilted in detector axes."""
        return replace(self, slice_A=float(slice_A), tilt_rad=tilt_rad)

    @property
    def corners(self) -> NDArray[np.int64]:
        """First pixel of each window, (P, 2)."""
        half = np.array(self.window) // 2
        corners: NDArray[np.int64] = np.rint(self.positions_px).astype(np.int64) - half
        return corners

    @property
    def fractions(self) -> Float:
        """What is left of each position, (P, 2), within half a pixel."""
        fractions: Float = self.positions_px - np.rint(self.positions_px)
        return fractions

    def descanned(self, descan_px: Float) -> Geometry:
        """The same with patterns off by so much, if that is anything."""
        small = float(np.abs(descan_px).max()) < LEAST_DESCAN_PX
        return replace(self, descan_px=None if small else descan_px)

    def some(self, chosen: NDArray[Any]) -> Geometry:
        """The same with some of the positions."""
        descan = None if self.descan_px is None else self.descan_px[chosen]
        return replace(self, positions_px=self.positions_px[chosen], descan_px=descan)

    def bends(self) -> tuple[F32, F32]:
        """``exp(2πi d r / n)`` along x and y, as the kernels want them; empty without descan."""
        waves = []
        for n, off in zip(self.window, self._descan().T, strict=True):
            waves.append(_planes(np.exp(2j * np.pi / n * np.arange(n) * off[:, None])))
        return waves[0], waves[1]

    def bend(self, chosen: NDArray[Any]) -> NDArray[np.complex64] | np.float32:
        """The ramps on exit waves of some positions, (n, 1, n0, n1); 1 without descan."""
        if self.descan_px is None:
            return np.float32(1)
        x, y = (
            np.exp(2j * np.pi / n * np.arange(n) * off[:, None]).astype(np.complex64)
            for n, off in zip(self.window, self.descan_px[chosen].T, strict=True)
        )
        ramp: NDArray[np.complex64] = x[:, None, :, None] * y[:, None, None, :]
        return ramp

    def _descan(self) -> Float:
        return np.empty((0, 2)) if self.descan_px is None else self.descan_px

    def ramps(self) -> tuple[F32, F32]:
        """``exp(−2πi k f)`` along x and y, as the kernels want them."""
        return self.shifted_ramps((0.0, 0.0))

    def shifted_ramps(self, shift_px: tuple[float, float]) -> tuple[F32, F32]:
        """The same if all positions were so far from where they are, in the same windows."""
        x, y = self.fractions.T
        return _ramps(self.window[0], x + shift_px[0]), _ramps(self.window[1], y + shift_px[1])

    def covered(self) -> NDArray[np.bool_]:
        """Pixels of the object between the outermost positions, (rows, columns)."""
        covered = np.zeros(self.object_shape, bool)
        covered[self.middle] = True
        return covered

    @property
    def middle(self) -> tuple[slice, slice]:
        """Rows and columns of the object between the outermost positions."""
        first = np.floor(self.positions_px.min(axis=0)).astype(int)
        last = np.ceil(self.positions_px.max(axis=0)).astype(int) + 1
        return slice(first[0], last[0]), slice(first[1], last[1])


def affine_part(first: Float, last: Float) -> Float:
    """The matrix (2, 2) that takes points (P, 2) to others best, their means apart.

    >>> at = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 2.0]])
    >>> (affine_part(at, 3.0 + at @ np.diag([1.1, 0.9])).round(3) + 0.0).tolist()
    [[1.1, 0.0], [0.0, 0.9]]
    """
    a, b = first - first.mean(axis=0), last - last.mean(axis=0)
    matrix: Float = np.linalg.lstsq(a, b, rcond=None)[0].T
    return matrix


def turned_by(matrix: Float) -> float:
    """The rotation in a matrix (rad, x towards y), what is left being symmetric.

    >>> c, s = np.cos(0.2), np.sin(0.2)
    >>> round(turned_by(np.array([[c, -s], [s, c]]) @ np.diag([1.1, 0.9])), 6)
    0.2
    """
    left, _, right = np.linalg.svd(matrix)
    turn = left @ right
    return float(np.arctan2(turn[1, 0], turn[0, 0]))


def _ramps(n: int, shift: Float) -> F32:
    return _planes(np.exp(-2j * np.pi * np.fft.fftfreq(n) * shift[:, None]))


def _planes(waves: NDArray[np.complex128]) -> F32:
    """Waves (P, n) as cosines and sines, padded."""
    count, n = waves.shape
    planes = np.zeros((count, 2, padded(n)), np.float32)
    planes[:, 0, :n], planes[:, 1, :n] = waves.real, waves.imag
    return planes
