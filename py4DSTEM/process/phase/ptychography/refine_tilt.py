"""The tilt of the columns of a thick object, refined."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sp_fft
from scipy import ndimage

from py4DSTEM.kernels.ptycho import Model, State
from py4DSTEM.kernels.ptycho_arrays import forward, scene_of
from py4DSTEM.process.phase.ptychography.engines import SHARES, Wave
from py4DSTEM.process.phase.ptychography.geometry import Geometry
from py4DSTEM.process.phase.ptychography.patterns import Patterns
from py4DSTEM.process.phase.ptychography.planes import from_object, to_object, turned
from py4DSTEM.process.phase.ptychography.start import flight
from py4DSTEM.stream.parallel import in_threads

__all__ = ["Tilts", "limited", "slope_of_columns", "with_flight"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex64]
POSITIONS = 64
"""Patterns that are asked, spread over the scan."""
TRIED_RAD = 2e-4
"""By how much the tilt is changed to see what patterns do."""
BEYOND = 1.8
"""Moves go so much further than the object as it is asks for, since it gives way as well; below 2
that converges wherever single moves would."""
LONGEST_RAD = 3e-3
"""A single move goes no further."""
ROUNDS = 4
BLOCKS = 4


@dataclass(frozen=True, eq=False)
class Tilts:
    """Tilt of columns that follows what is known of the slices.

    Parameters
    ----------
    patterns : Patterns
    alike : bool
        Slices are identical.
    begin, every : int
        First iteration that moves it, and from one to the next.

    Notes
    -----
    Patterns say nothing of a tilt that an object with free slices can take up, by slices that lie
    beside each other: what it took up is measured from them, given to the tilt, and the slices are
    moved back.  Identical slices cannot take it up: Fisher scoring with object and probe as they
    are, with changes of the patterns by finite differences, ``F = Σ ∂I ∂I / I`` and the score
    ``Σ ∂I (n / I − 1)``.
    """

    patterns: Patterns
    alike: bool = False
    begin: int = 10
    every: int = 2

    def due(self, iteration: int) -> bool:
        """Whether the tilt moves after this iteration."""
        return iteration >= self.begin and (iteration - self.begin) % self.every == 0

    def moved(self, wave: Wave) -> Wave:
        """The state with a better tilt; free slices are moved back."""
        there = wave.geometry
        if self.alike:
            score, information = self.scored(wave)
            move = limited(np.asarray(BEYOND * np.linalg.solve(information, score), np.float64))
        else:
            slices = from_object(wave.planes.object)
            slope_px, sigma_px = slope_of_columns(slices, there.covered())
            pixel = np.array(there.sampling_A) / there.slice_A
            # What is no more than its scatter is not believed.
            trust = slope_px**2 / (slope_px**2 + sigma_px**2 + 1e-30)
            move = limited(trust * slope_px * pixel)
            planes = State(to_object(sheared(slices, -move / pixel)), wave.planes.probe)
            wave = replace(wave, planes=planes, momentum=())
        tilt = (there.tilt_rad[0] + float(move[0]), there.tilt_rad[1] + float(move[1]))
        return with_flight(wave, there.sliced(there.slice_A, tilt), self.patterns)

    def scored(self, wave: Wave) -> tuple[Float, Float]:
        """Score (2,) and information (2, 2) of the tilt (rad, detector axes)."""
        there, count = wave.geometry, len(wave.errors)
        steps = ((0.0, 0.0), (TRIED_RAD, 0.0), (0.0, TRIED_RAD))
        ways = [
            _planes(
                flight(self.patterns, there.slice_A, (there.tilt_rad[0] + x, there.tilt_rad[1] + y))
            )
            for x, y in steps
        ]
        asked = np.unique(np.linspace(0, count - 1, POSITIONS).astype(np.int64))
        parts = in_threads(
            lambda chosen: _parts(wave.model, wave.planes, chosen, ways),
            [part for part in np.array_split(asked, SHARES) if len(part)],
        )
        # All of the scan says so many times more than the part of it that was asked.
        more = count / len(asked)
        score = more * np.sum([part[0] for part in parts], axis=0)
        return score, more * np.sum([part[1] for part in parts], axis=0)

    def sigma(self, wave: Wave) -> tuple[float, float]:
        """Standard deviation (rad, detector axes).

        By how much blocks of an object with free slices differ; of identical ones by counts, with
        object and probe known, which is the least that it can be.
        """
        if self.alike:
            found = np.sqrt(np.diag(np.linalg.inv(self.scored(wave)[1])))
        else:
            there, slices = wave.geometry, from_object(wave.planes.object)
            _, scatter = slope_of_columns(slices, there.covered())
            found = scatter * there.sampling_A / there.slice_A
        return float(found[0]), float(found[1])


def limited(move: Float) -> Float:
    """A move in its direction, no longer than may be.

    >>> limited(np.array([3.0, 4.0])).round(4).tolist()
    [0.0018, 0.0024]
    """
    length = float(np.linalg.norm(move))
    shorter: Float = move * min(1.0, LONGEST_RAD / max(length, 1e-30))
    return shorter


def with_flight(wave: Wave, geometry: Geometry, patterns: Patterns) -> Wave:
    """The same state with the way from slice to slice of a geometry, in its model too."""
    way = _planes(flight(patterns, geometry.slice_A, geometry.tilt_rad))
    return replace(wave, model=wave.model._replace(flight=way), geometry=geometry)


def _planes(wave: NDArray[np.complex128]) -> NDArray[np.float32]:
    return np.stack([turned(wave.real), turned(wave.imag)])


def _parts(
    model: Model,
    planes: State,
    chosen: NDArray[np.int64],
    ways: list[NDArray[np.float32]],
) -> tuple[Float, Float]:
    """Score and information of some positions."""
    asked = model._replace(
        amplitudes=model.amplitudes[chosen],
        corners=model.corners[chosen],
        ramps_x=model.ramps_x[chosen],
        ramps_y=model.ramps_y[chosen],
        descan_x=model.descan_x[chosen] if len(model.descan_x) else model.descan_x,
        descan_y=model.descan_y[chosen] if len(model.descan_y) else model.descan_y,
    )
    intensities = []
    for way in ways:
        scene, object_, probe = scene_of(asked._replace(flight=way), planes, dtype=np.complex64)
        far = forward(scene, object_, probe, np.arange(len(chosen))).far
        intensities.append((np.abs(far) ** 2).sum(axis=1).astype(np.float64) + scene.floor)
    first, seen = intensities[0], scene.amplitudes >= 0
    counts = np.where(seen, scene.amplitudes.astype(np.float64) ** 2, first)
    slopes = np.stack([(one - first) / TRIED_RAD for one in intensities[1:]]) * seen
    score = np.einsum("apxy,pxy->a", slopes, counts / first - 1)
    return score, np.einsum("apxy,bpxy,pxy->ab", slopes, slopes, 1 / first)


# ---- tilt as the object shows it -----------------------------------------------------------------
def sheared(slices: Complex, slope_px: Float) -> Complex:
    """Slice s moved by s times `slope_px` (2,), by Fourier transform."""
    kx, ky = (np.fft.fftfreq(n) for n in slices.shape[1:])
    ramp = np.exp(-2j * np.pi * (slope_px[0] * kx[:, None] + slope_px[1] * ky))
    depth = np.arange(len(slices))[:, None, None]
    # Vacuum stays vacuum at the rim, where the transform wraps.
    spectra = sp_fft.fft2(slices - 1, workers=2) * ramp**depth
    moved: Complex = (sp_fft.ifft2(spectra, workers=2) + 1).astype(np.complex64)
    return moved


def slope_of_columns(slices: Complex, seen: NDArray[np.bool_]) -> tuple[Float, Float]:
    """How far each slice lies beside the one before, on average, (2,) px, and its σ.

    Parameters
    ----------
    slices : (n, rows, columns) complex64
    seen : (rows, columns) bool
        Where the object is known.

    Notes
    -----
    Least squares of ``φ_s = φ̄ − (s − s̄) u·∇φ̄`` with the mean phase φ̄, again after the slices
    have been moved back; σ from the scatter between blocks of the object.
    """
    slope, sigma = np.zeros(2), np.zeros(2)
    for _ in range(ROUNDS):
        move, sigma = _slope_once(sheared(slices, -slope), seen)
        slope = slope + move
    return slope, sigma


def _slope_once(slices: Complex, seen: NDArray[np.bool_]) -> tuple[Float, Float]:
    middle = np.angle(slices[:, seen].sum(axis=1))[:, None, None]
    phase = ndimage.gaussian_filter(np.angle(slices * np.exp(-1j * middle)), (0, 1, 1))
    mean = phase.mean(axis=0)
    depth = np.arange(len(slices)) - (len(slices) - 1) / 2
    grows = np.tensordot(depth, phase, 1) / (depth**2).sum()
    down, right = np.gradient(mean)
    rows, columns = np.nonzero(seen)
    block = _block(rows) * BLOCKS + _block(columns)
    slopes = np.stack([down[seen], right[seen]])
    asks = np.stack([np.bincount(block, -g * grows[seen], BLOCKS**2) for g in slopes])
    matrix = slopes @ slopes.T
    found = np.linalg.solve(matrix, asks.sum(axis=1))
    # What each block asks beyond what was found; independent, since blocks hold many columns.
    parts = np.stack([[np.bincount(block, a * b, BLOCKS**2) for b in slopes] for a in slopes])
    rest = asks - np.einsum("abk,b->ak", parts, found)
    inverse = np.linalg.inv(matrix)
    spread = np.sqrt(np.diag(inverse @ (rest @ rest.T) @ inverse) * BLOCKS**2 / (BLOCKS**2 - 1))
    return found, spread


def _block(places: NDArray[np.int64]) -> NDArray[np.int64]:
    first, last = places.min(), places.max()
    blocks: NDArray[np.int64] = (places - first) * BLOCKS // (last - first + 1)
    return blocks
