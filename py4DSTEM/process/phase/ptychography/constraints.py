"""What object and probe may be: small parts that change a state between iterations.

A part takes complex arrays in their natural layout and gives new ones.  Only those that were asked
for are made, and without any nothing is converted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import fft as sp_fft

from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.engines import Wave
from py4DSTEM.process.phase.ptychography.planes import (
    from_object,
    from_spectra,
    to_object,
    to_spectra,
)
from py4DSTEM.process.phase.ptychography.refine import with_smooth_phase
from py4DSTEM.process.phase.ptychography.settings import ObjectSettings, ProbeSettings

__all__ = [
    "Constraints",
    "flattened",
    "kz_filtered",
    "limited",
    "orthogonal",
    "positive",
    "with_modulus",
    "without_slow_phase",
]

Complex = NDArray[np.complex64]
Real = NDArray[np.floating[Any]]
Part = Callable[[Complex], Complex]
BUTTERWORTH = 2
TV_STEPS = 5


@dataclass(frozen=True, eq=False)
class Constraints:
    """All that is asked of object and probe.

    Parameters
    ----------
    objects, probes : sequence of callables
        Applied in turn to (slices, rows, columns) and to (modes, n0, n1) complex64 in real space.
    window : (int, int)
        Of a pattern.
    center : bool
        Probe and object are moved together until the probe is in the middle.
    every : int
        Iterations from one change of the object to the next.
    """

    objects: Sequence[Part]
    probes: Sequence[Part]
    window: tuple[int, int]
    center: bool = False
    every: int = 1

    @classmethod
    def of(
        cls,
        of_object: ObjectSettings,
        of_probe: ProbeSettings,
        optics: Optics,
        *,
        slice_thickness_A: float,
        first_probe: Complex,
    ) -> Constraints:
        """Those that the settings ask for."""
        return cls(
            object_parts(of_object, optics.sampling_A, slice_thickness_A),
            probe_parts(of_probe, optics, first_probe),
            optics.Q_shape,
            of_probe.center_probe,
            of_object.object_every,
        )

    @property
    def active(self) -> bool:
        """Whether anything is asked for, besides modes that are orthogonal."""
        return bool(self.objects) or bool(self.probes) or self.center

    def apply(self, wave: Wave, iteration: int) -> Wave:
        """The state after one more iteration, constrained in place; its momentum stays."""
        object_, probe = wave.planes
        if len(probe) > 1 and wave.here is None:
            _orthogonalised(wave)
        if self.probes or self.center:
            modes = from_spectra(probe, self.window)
            for part in self.probes:
                modes = part(modes)
            if self.center:
                modes, moved = centred(modes, from_object(object_))
                object_[:] = to_object(moved)
            probe[:] = to_spectra(modes)
        if self.objects and (iteration + 1) % self.every == 0:
            slices = from_object(object_)
            for part in self.objects:
                slices = part(slices)
            object_[:] = to_object(slices)
        return wave


def object_parts(
    settings: ObjectSettings, sampling_A: tuple[float, float], slice_thickness_A: float
) -> list[Part]:
    """Smoothing first, since what limits values must hold at the end."""
    parts: list[Part] = []
    if settings.low_pass_A is not None or settings.blur_A > 0:
        low, blur = settings.low_pass_A, settings.blur_A
        parts.append(lambda slices: smoothed(slices, sampling_A, low, blur))
    if settings.high_pass_A is not None:
        longest = settings.high_pass_A
        parts.append(lambda slices: without_slow_phase(slices, sampling_A, longest))
    if settings.kz_weight > 0 and slice_thickness_A > 0:
        steps, weight = (slice_thickness_A, *sampling_A), settings.kz_weight
        parts.append(lambda slices: kz_filtered(slices, steps, weight))
    if settings.identical_slices:
        parts.append(lambda slices: np.broadcast_to(slices.mean(axis=0), slices.shape))
    if settings.tv_weight > 0:
        parts.append(lambda slices: flattened(slices, settings.tv_weight))
    if settings.positivity:
        parts.append(positive)
    if settings.object_type == "pure phase":
        parts.append(lambda slices: limited(slices, 1.0, 1.0))
    elif settings.max_amplitude is not None:
        top = settings.max_amplitude
        parts.append(lambda slices: limited(slices, 0.0, top))
    return parts


def probe_parts(settings: ProbeSettings, optics: Optics, first: Complex) -> list[Part]:
    """Support in real space, then in that of frequencies, then the modulus there."""
    parts: list[Part] = []
    if settings.probe_radius_A is not None:
        disk = _disk(optics, settings.probe_radius_A)
        parts.append(lambda modes: modes * disk)
    if settings.probe_aperture is not None:
        kx, ky = optics.k()
        edge = settings.probe_aperture * optics.semiangle_mrad * 1e-3 / optics.wavelength_A
        width = max(optics.Q_steps_A)
        passed = np.clip((edge - np.hypot(kx, ky)) / width + 0.5, 0, 1).astype(np.float32)
        parts.append(lambda modes: _filtered(modes, passed))
    if settings.fix_probe_modulus > 0:
        known = np.sqrt((np.abs(sp_fft.fft2(first)) ** 2).sum(axis=0)).astype(np.float32)
        share = settings.fix_probe_modulus
        parts.append(lambda modes: with_modulus(modes, known, share))
    if settings.smooth_probe_phase > 0:
        much = settings.smooth_probe_phase
        parts.append(
            lambda modes: np.stack([with_smooth_phase(modes[0], optics, much), *modes[1:]])
        )
    return parts


# ---- parts of the object -------------------------------------------------------------------------
def limited(slices: Complex, least: float, most: float) -> Complex:
    """Moduli brought between two values; phases stay.

    >>> limited(np.array([[[2j, 0.5, 0]]], np.complex64), 1.0, 1.0).tolist()
    [[[1j, (1+0j), (1+0j)]]]
    """
    modulus = np.abs(slices)
    safe = np.where(modulus > 0, modulus, 1)
    unit = np.where(modulus > 0, slices, 1)
    changed: Complex = (unit * (np.clip(modulus, least, most) / safe)).astype(np.complex64)
    return np.where((modulus > 0) | (least > 0), changed, slices)


def positive(slices: Complex) -> Complex:
    """Negative phases become zero; those below −π/2 count as large positive ones.

    >>> positive(np.array([[[1 + 2j, 3 - 4j, -1 - 1j]]])).tolist()
    [[[(1+2j), (5+0j), (-1-1j)]]]
    """
    negative = (slices.imag < 0) & (slices.real >= 0)
    return np.where(negative, np.abs(slices), slices).astype(np.complex64)


def smoothed(
    slices: Complex, sampling_A: tuple[float, float], low_pass_A: float | None, blur_A: float
) -> Complex:
    """Without details finer than a length, and blurred."""
    square = _k_square(slices.shape[1:], sampling_A)
    passed = np.exp(-2 * np.pi**2 * blur_A**2 * square)
    if low_pass_A is not None:
        passed /= 1 + (square * low_pass_A**2) ** BUTTERWORTH
    return _filtered(slices, passed.astype(np.float32))


def without_slow_phase(
    slices: Complex, sampling_A: tuple[float, float], longest_A: float
) -> Complex:
    """Phases that vary over more than a length are turned back; moduli stay."""
    square = _k_square(slices.shape[1:], sampling_A)
    slow = (1 / (1 + (square * longest_A**2) ** BUTTERWORTH)).astype(np.float32)
    middle = np.exp(-1j * np.angle(slices.sum(axis=(1, 2), keepdims=True)))
    phase = np.angle(slices * middle).astype(np.float32)
    turned = sp_fft.ifft2(sp_fft.fft2(phase, workers=2) * slow, workers=2).real
    back: Complex = (slices * middle * np.exp(-1j * turned)).astype(np.complex64)
    return back


def kz_filtered(slices: Complex, steps_A: tuple[float, float, float], weight: float) -> Complex:
    """Details along the beam that are too fine for their width are damped.

    ``1 − 2/π · arctan((w |kz| / |k⊥|)²)`` on the transform of the slices and their mirror image,
    so that the last slice is no neighbour of the first (doi:10.1126/science.abg2533).
    """
    both = np.concatenate([slices, slices[::-1]])
    kz = np.abs(np.fft.fftfreq(len(both), steps_A[0]))[:, None, None]
    across = np.sqrt(_k_square(slices.shape[1:], steps_A[1:]))
    angle = np.arctan2((weight * kz) ** 2, across**2)
    passed = (1 - 2 / np.pi * angle).astype(np.float32)
    filtered = sp_fft.ifftn(sp_fft.fftn(both, workers=2) * passed, workers=2)
    kept: Complex = filtered[: len(slices)].astype(np.complex64)
    return kept


def flattened(slices: Complex, weight: float, steps: int = TV_STEPS) -> Complex:
    """Less total variation: a few steps of Chambolle's dual iteration, slice by slice.

    ``min_u ½ |u − O|² + w Σ |∇u|`` with the gradient of the complex transmission, so that phases
    need not be unwrapped (doi:10.1023/B:JMIV.0000011325.36760.1e).
    """
    scaled = slices / np.float32(weight)
    down, right = np.zeros_like(slices), np.zeros_like(slices)
    for _ in range(steps):
        rest = _divergence(down, right) - scaled
        gx, gy = np.zeros_like(slices), np.zeros_like(slices)
        gx[:, :-1] = rest[:, 1:] - rest[:, :-1]
        gy[:, :, :-1] = rest[:, :, 1:] - rest[:, :, :-1]
        size = 1 + np.float32(0.25) * np.sqrt(np.abs(gx) ** 2 + np.abs(gy) ** 2)
        down = (down + np.float32(0.25) * gx) / size
        right = (right + np.float32(0.25) * gy) / size
    flat: Complex = (slices - np.float32(weight) * _divergence(down, right)).astype(np.complex64)
    return flat


def _divergence(down: Complex, right: Complex) -> Complex:
    """Minus the adjoint of the forward differences."""
    sum_ = down + right
    sum_[:, 1:] -= down[:, :-1]
    sum_[:, :, 1:] -= right[:, :, :-1]
    return sum_


# ---- parts of the probe --------------------------------------------------------------------------
def orthogonal(modes: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Modes (m, …) of the same mixture that are orthogonal, the strongest first; and the matrix.

    The eigenvectors of their overlaps turn them: ``Σ_m |ψ_m|²`` and every pattern stay the same.
    """
    flat = modes.reshape(len(modes), -1)
    overlaps = (flat.conj() @ flat.T).astype(np.complex128)
    _, turn = np.linalg.eigh(overlaps)
    matrix = turn[:, ::-1].T
    turned = (matrix.astype(flat.dtype) @ flat).reshape(modes.shape)
    return turned, matrix


def _orthogonalised(wave: Wave) -> None:
    """The same for planes, and for the momentum of the probe, which lives in the same space."""
    probe = wave.planes.probe
    turned, matrix = orthogonal(probe[:, 0] + 1j * probe[:, 1])
    probe[:, 0], probe[:, 1] = turned.real, turned.imag
    if wave.momentum:
        carried = wave.momentum[1]
        moved = matrix.astype(np.complex64) @ (carried[:, 0] + 1j * carried[:, 1])
        carried[:, 0], carried[:, 1] = moved.real, moved.imag


def with_modulus(modes: Complex, known: Real, share: float) -> Complex:
    """Modes whose sum of intensities at the detector has (a share of) a known modulus."""
    spectra = sp_fft.fft2(modes, workers=2)
    modulus = np.sqrt((np.abs(spectra) ** 2).sum(axis=0))
    least = 1e-6 * float(modulus.max())
    factor = 1 - share + share * known / np.maximum(modulus, least)
    waves: Complex = sp_fft.ifft2(spectra * factor, workers=2).astype(np.complex64)
    return waves


def centred(modes: Complex, slices: Complex) -> tuple[Complex, Complex]:
    """Probe and object moved together until the centre of mass of the probe is in the middle."""
    intensity = (np.abs(modes.astype(np.complex128)) ** 2).sum(axis=0)
    move = []
    for axis, n in enumerate(intensity.shape):
        profile = intensity.sum(axis=1 - axis)
        move.append(n // 2 - float((profile * np.arange(n)).sum() / profile.sum()))
    return _moved(modes, move), _moved(slices, move)


def _moved(images: Complex, move_px: Sequence[float]) -> Complex:
    n0, n1 = images.shape[1:]
    ramp = np.exp(
        -2j * np.pi * (np.fft.fftfreq(n0)[:, None] * move_px[0] + np.fft.fftfreq(n1) * move_px[1])
    )
    moved: Complex = sp_fft.ifft2(sp_fft.fft2(images) * ramp).astype(np.complex64)
    return moved


# ---- helpers -------------------------------------------------------------------------------------
def _filtered(images: Complex, passed: Real) -> Complex:
    filtered: Complex = sp_fft.ifft2(sp_fft.fft2(images, workers=2) * passed, workers=2)
    return filtered


def _k_square(shape: tuple[int, ...], steps_A: tuple[float, ...]) -> NDArray[np.float64]:
    kx, ky = (np.fft.fftfreq(n, s) for n, s in zip(shape, steps_A, strict=True))
    square: NDArray[np.float64] = kx[:, None] ** 2 + ky**2
    return square


def _disk(optics: Optics, radius_A: float) -> NDArray[np.float32]:
    """1 within a radius about pixel (n0 // 2, n1 // 2), falling to 0 over a tenth of it."""
    axes = (
        (np.arange(n) - n // 2) * s for n, s in zip(optics.Q_shape, optics.sampling_A, strict=True)
    )
    x, y = axes
    rim = max(0.1 * radius_A, max(optics.sampling_A))
    inside: NDArray[np.float32] = np.clip(
        (radius_A - np.hypot(x[:, None], y)) / rim + 0.5, 0, 1
    ).astype(np.float32)
    return inside
