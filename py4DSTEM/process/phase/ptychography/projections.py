"""Difference map and RAAR: projections of all exit waves between two sets they must lie in."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sp_fft

from py4DSTEM.errors import MemoryBudgetError, ParameterError
from py4DSTEM.process.phase.ptychography.engines import SHARES, Wave
from py4DSTEM.process.phase.ptychography.geometry import Geometry
from py4DSTEM.process.phase.ptychography.patterns import are_electrons
from py4DSTEM.process.phase.ptychography.planes import (
    from_object,
    from_spectra,
    to_object,
    to_spectra,
    unturned,
)
from py4DSTEM.stream.options import available_memory_bytes
from py4DSTEM.stream.parallel import in_threads

__all__ = ["ProjectionSteps"]

Complex = NDArray[np.complex64]
SOFT = 16.0
"""How much the waves that come in weigh against counts of electrons, whose roots alone are too
small: a phase of 0.65 of its height, not 0.37, from 10 000 electrons per pattern."""
GROUP = 16
"""Positions whose waves are transformed together: they fit into the cache."""


@dataclass(frozen=True, eq=False)
class ProjectionSteps:
    """Relaxed averaged alternating reflections of the exit waves; the difference map where β = 1.

    ``x ← β x + (1 − 2β) P_F x + β P_O (2 P_F x − x)``: P_F gives the waves the measured moduli,
    P_O makes them products of one object and one probe.

    Parameters
    ----------
    relaxation : float
        β.
    probe_from : int
        First iteration that changes the probe.
    probe_step : float
        0 keeps the probe; otherwise it is what P_O finds.
    poisson : float
        Above 0, where counts are electrons, P_F is the proximal map of their likelihood: moduli a
        from b and counts n that make ``a² − n ln a² + w (a − b)² / 2`` least, w = 16 times it.

    References
    ----------
    doi:10.1126/science.1158573 (difference map), doi:10.1088/0266-5611/21/1/004 (RAAR).
    """

    relaxation: float = 0.8
    probe_from: int = 1
    probe_step: float = 0.5
    poisson: float = 0.0

    def update(self, wave: Wave, iteration: int) -> tuple[Wave, float]:
        """One round of projections; the error is that of the object and probe that came in."""
        shape = wave.geometry.window
        probe = from_spectra(wave.planes.probe, shape)
        object_ = from_object(wave.planes.object)[0]
        if wave.exits is None:
            wave.exits = _room(len(wave.errors), probe.shape)
            self._overlap(wave, object_, probe, whole=True)
        reflected = self._reflected(wave, object_, probe)
        with_probe = iteration >= self.probe_from and self.probe_step > 0
        object_, probe = _joined(wave.geometry, reflected, object_, probe, with_probe=with_probe)
        self._overlap(wave, object_, probe)
        wave.planes.object[:] = to_object(object_[None])
        wave.planes.probe[:] = to_spectra(probe)
        return wave, float(wave.errors.sum())

    def kept(self, wave: Wave) -> Wave:
        """A copy of a state, without its exit waves."""
        return wave.copy()

    def _reflected(self, wave: Wave, object_: Complex, probe: Complex) -> Complex:
        """``2 P_F x − x``; the exit waves become ``β x + (1 − 2β) P_F x``."""
        exits, beta = _kept(wave), np.float32(self.relaxation)
        soft = SOFT * self.poisson if are_electrons(wave.model.amplitudes) else 0.0
        reflected = np.empty_like(exits)

        def work(chosen: NDArray[np.int64]) -> None:
            for some in _groups(chosen):
                known = unturned(wave.model.amplitudes[some], wave.geometry.window)
                model = sp_fft.fft2(_products(wave.geometry, some, object_, probe))
                modulus = np.sqrt((np.abs(model) ** 2).sum(axis=1))
                miss = np.where(known < 0, 0, known - modulus)
                wave.errors[some] = (miss.astype(np.float64) ** 2).sum(axis=(1, 2))
                moduli = _with_moduli(exits[some], known, np.float32(soft))
                reflected[some] = 2 * moduli - exits[some]
                exits[some] = beta * exits[some] + (1 - 2 * beta) * moduli

        in_threads(work, _shares(len(exits)))
        return reflected

    def _overlap(
        self, wave: Wave, object_: Complex, probe: Complex, *, whole: bool = False
    ) -> None:
        """Add ``β`` times the products of object and probe to the exit waves."""
        exits, beta = _kept(wave), np.float32(1.0 if whole else self.relaxation)

        def work(chosen: NDArray[np.int64]) -> None:
            for some in _groups(chosen):
                exits[some] += beta * _products(wave.geometry, some, object_, probe)

        in_threads(work, _shares(len(exits)))


def _room(count: int, probe_shape: tuple[int, ...]) -> Complex:
    size = 8 * count * math.prod(probe_shape)
    free = available_memory_bytes()
    # What is reflected takes the same room again.
    if 2 * size > 0.8 * free:
        raise MemoryBudgetError(
            f"projections keep all exit waves twice: {count} x {probe_shape} take "
            f"{2 * size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; method='gradient' keeps "
            "none, fewer modes or a crop of the scan keep fewer"
        )
    return np.zeros((count, *probe_shape), np.complex64)


def _kept(wave: Wave) -> Complex:
    if wave.exits is None:
        raise ParameterError("this state has no exit waves: it is not one of projections")
    return wave.exits


def _shares(count: int) -> list[NDArray[np.int64]]:
    return [part for part in np.array_split(np.arange(count), SHARES) if len(part)]


def _groups(chosen: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    return np.array_split(chosen, max(1, -(-len(chosen) // GROUP)))


def _ramp(geometry: Geometry, some: NDArray[np.int64]) -> Complex:
    """What shifts the spectrum of a probe to the fraction of a pixel, (n, 1, n0, n1)."""
    n0, n1 = geometry.window
    x, y = geometry.fractions[some].T
    waves = [np.exp(-2j * np.pi * np.fft.fftfreq(n) * f[:, None]) for n, f in ((n0, x), (n1, y))]
    ramp: Complex = (waves[0][:, :, None] * waves[1][:, None]).astype(np.complex64)
    return ramp[:, None]


def _windows(geometry: Geometry, some: NDArray[np.int64], object_: Complex) -> Complex:
    """The object where the beam was, with what moves the pattern, (n, 1, n0, n1)."""
    n0, n1 = geometry.window
    corners = geometry.corners[some]
    windows = np.stack([object_[x : x + n0, y : y + n1] for x, y in corners])[:, None]
    return np.asarray(windows * geometry.bend(some))


def _products(
    geometry: Geometry, some: NDArray[np.int64], object_: Complex, probe: Complex
) -> Complex:
    """Object times probe at some positions, (n, modes, n0, n1)."""
    shifted = sp_fft.ifft2(sp_fft.fft2(probe) * _ramp(geometry, some))
    products: Complex = shifted * _windows(geometry, some, object_)
    return products


def _with_moduli(exits: Complex, known: NDArray[np.float32], soft: np.float32) -> Complex:
    """P_F: the waves with the measured moduli, (n, modes, n0, n1), or near what they are."""
    far = sp_fft.fft2(exits)
    modulus = np.sqrt((np.abs(far) ** 2).sum(axis=1))
    pulled = soft * modulus
    root = np.sqrt(pulled**2 + 8 * (2 + soft) * np.maximum(known, 0) ** 2)
    wanted = (pulled + root) / (2 * (2 + soft))
    factor = np.where(known < 0, 1, wanted / np.maximum(modulus, np.float32(1e-12)))
    waves: Complex = sp_fft.ifft2(far * factor[:, None].astype(np.float32))
    return waves


def _joined(
    geometry: Geometry, waves: Complex, object_: Complex, probe: Complex, *, with_probe: bool
) -> tuple[Complex, Complex]:
    """P_O: object, then probe, whose products come closest to the waves."""
    parts = in_threads(
        lambda chosen: _object_sums(geometry, chosen, waves, probe, object_.shape),
        _shares(len(waves)),
    )
    change, beam = (np.sum([part[k] for part in parts], axis=0) for k in (0, 1))
    # Where hardly any beam was, the object stays what it is.
    weak = np.float32(1e-3) * beam.max()
    object_ = ((change + weak * object_) / (beam + weak)).astype(np.complex64)
    if not with_probe:
        return object_, probe
    sums = in_threads(
        lambda chosen: _probe_sums(geometry, chosen, waves, object_), _shares(len(waves))
    )
    change, seen = (np.sum([part[k] for part in sums], axis=0) for k in (0, 1))
    probe = (change / np.maximum(seen, np.float32(1e-3) * seen.max())).astype(np.complex64)
    return object_, probe


def _object_sums(
    geometry: Geometry,
    chosen: NDArray[np.int64],
    waves: Complex,
    probe: Complex,
    shape: tuple[int, ...],
) -> tuple[Complex, NDArray[np.float32]]:
    change, beam = np.zeros(shape, np.complex64), np.zeros(shape, np.float32)
    n0, n1 = geometry.window
    for some in _groups(chosen):
        shifted = sp_fft.ifft2(sp_fft.fft2(probe) * _ramp(geometry, some))
        straight = waves[some] * np.conj(geometry.bend(some))
        asked = (shifted.conj() * straight).sum(axis=1)
        light = (np.abs(shifted) ** 2).sum(axis=1)
        for (x, y), one, bright in zip(geometry.corners[some], asked, light, strict=True):
            change[x : x + n0, y : y + n1] += one
            beam[x : x + n0, y : y + n1] += bright
    return change, beam


def _probe_sums(
    geometry: Geometry, chosen: NDArray[np.int64], waves: Complex, object_: Complex
) -> tuple[Complex, NDArray[np.float32]]:
    spectra = np.zeros(waves.shape[1:], np.complex64)
    seen = np.zeros(waves.shape[2:], np.float32)
    for some in _groups(chosen):
        windows = _windows(geometry, some, object_)
        back = sp_fft.fft2(windows.conj() * waves[some]) * _ramp(geometry, some).conj()
        spectra += back.sum(axis=0)
        seen += (np.abs(windows[:, 0]) ** 2).sum(axis=0)
    summed: Complex = sp_fft.ifft2(spectra)
    return summed, seen
