"""Wigner distribution deconvolution, as weights of the detector pixels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.process.phase.direct_stack import BrightStack
from py4DSTEM.process.phase.direct_sums import cycles_of, frequencies, grouped, waves_of
from py4DSTEM.process.phase.optics import Optics

__all__ = ["deconvolved"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex64]


def deconvolved(
    stack: BrightStack, optics: Optics, aberrations: Aberrations, epsilon: float
) -> tuple[Complex, Complex]:
    """Sums over pixels of G times the conjugate of Γ deconvolved by itself.

    ``W = F⁻¹[F Γ / (|F Γ|² + ε)]`` with the transform F over the detector.  The deconvolved
    distribution is needed at one place only, which is why a sum is enough.

    Returns
    -------
    sums : (nx, ny, 2) complex64
        ``Σ W₁* G`` and ``Σ W₂* G``.
    transfer : (nx, ny, 2, 2) complex64
        ``Σ W_i* Γ_j``: what they would be of O(Q) and O*(−Q).

    Raises
    ------
    MemoryBudgetError
        The transforms do not fit into memory.
    """
    from scipy import fft  # slow to import

    waves = np.concatenate(
        grouped(waves_of, np.array_split(stack.whole(), 8), stack.options.worker_count())
    )
    grid = _Grid.of(stack, optics, aberrations)
    starts, step = frequencies(optics, stack.R_shape)
    ny = waves.shape[2]
    sums = np.zeros((len(starts), ny, 2), np.complex64)
    transfer = np.zeros((len(starts), ny, 2, 2), np.complex64)

    def row(i: int) -> None:
        q = starts[i] + np.arange(ny)[:, None] * step
        near = np.flatnonzero(np.hypot(*q.T) < 2 * stack.aperture[0])
        if not len(near):
            return
        seen = waves[:, i, near].T
        gammas = grid.gammas(q[near])
        own = [gamma[:, grid.rows, grid.columns] for gamma in gammas]
        for side, gamma in enumerate(gammas):
            transform = fft.fft2(gamma, grid.padded, workers=1)
            filtered = transform / (np.abs(transform) ** 2 + np.float32(epsilon))
            weights = fft.ifft2(filtered, workers=1, overwrite_x=True)
            kept = np.conj(weights[:, grid.rows, grid.columns])
            sums[i, near, side] = (kept * seen).sum(axis=1)
            for other in range(2):
                transfer[i, near, side, other] = (kept * own[other]).sum(axis=1)

    grouped(row, range(len(starts)), stack.options.worker_count())
    return sums / np.float32(stack.total), transfer


class _Grid:
    """The part of the detector that holds the bright disk, and Ψ on it and beside it."""

    def __init__(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        from scipy import fft  # slow to import

        self.rows, self.columns = rows, columns
        nx, ny = int(rows.max()) + 1, int(columns.max()) + 1
        # The object's own spread beside the disk must not come round to its other side.
        self.padded = fft.next_fast_len(2 * nx), fft.next_fast_len(2 * ny)
        self.x = self.y = np.zeros((nx, ny))
        self.aperture = self.cycles = np.zeros(0)

    @classmethod
    def of(cls, stack: BrightStack, optics: Optics, aberrations: Aberrations) -> _Grid:
        places = stack.rows_columns()
        places = places - places.min(axis=0)
        grid = cls(places[:, 0], places[:, 1])
        # k is linear in row and column: a plane through the pixels gives it everywhere.
        design = np.column_stack([places, np.ones(len(places))])
        plane = np.linalg.lstsq(design, stack.k, rcond=None)[0]
        i, j = np.indices(grid.x.shape)
        grid.x, grid.y = (plane[0, a] * i + plane[1, a] * j + plane[2, a] for a in (0, 1))
        grid.aperture = stack.aperture
        grid.cycles = cycles_of(aberrations, optics.wavelength_A)
        return grid

    def gammas(self, q: Float) -> tuple[Complex, Complex]:
        """Γ₁ and Γ₂ of so many Q, (n, nx, ny)."""
        qx, qy = q[:, 0, None, None], q[:, 1, None, None]
        here = self._wave(self.x, self.y)
        below, above = self._wave(self.x - qx, self.y - qy), self._wave(self.x + qx, self.y + qy)
        return np.conj(here) * below, here * np.conj(above)

    def _wave(self, x: Float, y: Float) -> Complex:
        edge, sx, sy, share = self.aperture
        radius = np.hypot(x, y)
        width = np.hypot(x * sx, y * sy) / np.maximum(radius, 1e-300)
        inside = np.clip((edge - radius) / np.maximum(width, 1e-300) + 0.5, 0.0, 1.0)
        cycles = np.polynomial.polynomial.polyval2d(x, y, self.cycles)
        turns = 2 * np.pi * (cycles - np.rint(cycles)).astype(np.float32)
        height = np.sqrt(inside * share).astype(np.float32)
        wave: Complex = height * np.exp(-1j * turns)
        return wave.astype(np.complex64)
