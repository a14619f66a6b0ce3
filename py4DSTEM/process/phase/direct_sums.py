"""Fourier transforms over the scan, and what direct ptychography sums of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import ORDERS, Aberrations, basis
from py4DSTEM.kernels.api import Overlaps
from py4DSTEM.process.phase.direct_stack import BrightStack
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.stream.parallel import in_threads

__all__ = ["cycles_of", "frequencies", "grouped", "overlaps", "waves_of"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex64]
GROUPS = 8
"""Parts of the pixels that are summed on their own: always as many, whatever the workers."""
BLOCK_BYTES = 1 << 22
"""Of Fourier transforms that are made and summed while they are in the cache."""
T = TypeVar("T")
R = TypeVar("R")


def frequencies(optics: Optics, R_shape: tuple[int, int]) -> tuple[Float, Float]:
    """Q (Å⁻¹, detector axes) of ``rfft2`` of a scan: of column 0 (Rx, 2), and from one to the next.

    Parameters
    ----------
    optics : Optics
    R_shape : (int, int)
    """
    to_detector = optics.to_detector()
    rows = np.stack([np.fft.fftfreq(R_shape[0], optics.R_steps_A[0]), np.zeros(R_shape[0])], -1)
    return rows @ to_detector.T, to_detector @ (0.0, 1 / (R_shape[1] * optics.R_steps_A[1]))


def cycles_of(aberrations: Aberrations, wavelength_A: float) -> Float:
    """χ/λ as a polynomial of k: (p, p) coefficients of ``k_x^a k_y^b``."""
    degree = max((ORDERS[name][0] + 1 for name in aberrations.names), default=0)
    coefficients = np.zeros((degree + 1, degree + 1))
    for (name, part), value in aberrations.cartesian.items():
        order = ORDERS[name][0] + 1
        # A form of degree n is known from its values at n + 1 directions.
        angles = np.arange(order + 1) * math.pi / (order + 1) + 0.1
        x, y = np.cos(angles), np.sin(angles)
        powers = np.arange(order + 1)
        design = x[:, None] ** (order - powers) * y[:, None] ** powers
        form = np.linalg.solve(design, basis(name, part, x, y))
        for b, of_form in enumerate(form):
            coefficients[order - b, b] += value * of_form * wavelength_A ** (order - 1)
    return coefficients


def waves_of(images: NDArray[np.float32]) -> Complex:
    """Fourier transform over the scan, per position, (n, Rx, Ry // 2 + 1) complex64."""
    from scipy import fft  # slow to import

    waves: Complex = fft.rfft2(images, workers=1, norm="forward")
    return waves


@dataclass(frozen=True, eq=False)
class _Sums:
    """What is needed to sum some pixels."""

    images: NDArray[np.float32]
    k: Float
    weights: NDArray[np.float32]
    geometry: tuple[Float, Float, Float, Float]
    both: bool

    def of(self, group: NDArray[np.intp]) -> Overlaps:
        """Over a run of pixels, a few transforms at a time."""
        from py4DSTEM.kernels import compiled

        starts, step, aperture, cycles = self.geometry
        nx, ny = self.images.shape[1:]
        height = max(1, BLOCK_BYTES // (8 * nx * ny))
        found = Overlaps.zeros((nx, ny // 2 + 1))
        end = int(group[-1]) + 1
        for first in range(int(group[0]), end, height):
            few = slice(first, min(first + height, end))
            more = compiled().overlap_sums(
                waves_of(self.images[few]), self.k[few], starts, step, aperture, cycles,
                self.weights[few], both=self.both,
            )  # fmt: skip
            _add(found, more)
        return found


def overlaps(
    stack: BrightStack, optics: Optics, aberrations: Aberrations, weights: Float, *, both: bool
) -> Overlaps:
    """Sums of `kernels.overlap.overlap_sums` over all pixels, in shares of the beam."""
    cycles = cycles_of(aberrations, optics.wavelength_A)
    geometry = (*frequencies(optics, stack.R_shape), stack.aperture, cycles)
    total = Overlaps.zeros((stack.R_shape[0], stack.R_shape[1] // 2 + 1))
    for part, images in stack.blocks():
        sums = _Sums(images, stack.k[part], weights[part].astype(np.float32), geometry, both)
        groups = [g for g in np.array_split(np.arange(len(images)), GROUPS) if len(g)]
        for found in grouped(sums.of, groups, stack.options.worker_count()):
            _add(total, found)
    return Overlaps(total.sums / np.float32(stack.total), total.norms, total.cross)


def grouped(work: Callable[[T], R], parts: Sequence[T], workers: int) -> list[R]:
    """``[work(part) for part in parts]`` in so many threads."""
    shares = np.array_split(np.arange(len(parts)), max(1, min(workers, len(parts))))
    done = in_threads(lambda share: [work(parts[i]) for i in share], shares)
    return [result for few in done for result in few]


def _add(total: Overlaps, more: Overlaps) -> None:
    np.add(total.sums, more.sums, out=total.sums)
    np.add(total.norms, more.norms, out=total.norms)
    np.add(total.cross, more.cross, out=total.cross)
