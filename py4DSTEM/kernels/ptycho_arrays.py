"""The forward model of `kernels.ptycho` in plain arrays, of whichever library and precision.

What it computes lies where its arguments lie, numpy on the processor or cupy on a card, in
complex64 or complex128; it defines what the compiled kernel does.  Waves are complex, (n0, n1), the
zero frequency first where they are spectra, and many positions are worked on at once: a call takes
``(slices + 3) · modes · n0 · n1`` complex numbers a position.
"""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np

from .fft import padded
from .ptycho import Model, State

__all__ = [
    "Gradients", "Scene", "Waves", "adjoint", "cost", "forward", "from_planes", "gradients",
    "namespace_of", "ramps", "scene_of", "to_planes",
]  # fmt: skip

Array = Any
"""Of numpy or cupy."""


class Scene(NamedTuple):
    """What does not change while positions are worked on; `kernels.ptycho.Model` in arrays.

    Parameters
    ----------
    amplitudes : (P, n0, n1) real
        Roots of the measured patterns, zero frequency first; below zero: not measured.
    corners : (P, 2) int
        First row and column of each window in the object.
    ramps_x, ramps_y : (P, n0) and (P, n1) complex
        ``exp(−2πi k f)`` for the shift f of the probe within a pixel: `ramps`.
    descan_x, descan_y : (P, n0) and (P, n1) complex, or P = 0
        ``exp(2πi d r / n)`` where patterns lie d pixels off.
    flight : (n0, n1) complex
        Propagator from one slice to the next, over n0·n1.
    poisson : float
        0: least squares of amplitudes; 1: likelihood of counts; between: both.
    floor : float
        Added to intensities before anything is divided by them.
    """

    amplitudes: Array
    corners: Array
    ramps_x: Array
    ramps_y: Array
    descan_x: Array
    descan_y: Array
    flight: Array
    poisson: float
    floor: float


class Waves(NamedTuple):
    """Waves that meet the slices (slices, n, modes, n0, n1); at the detector (n, modes, n0, n1)."""

    met: Array
    far: Array


class Gradients(NamedTuple):
    """What positions ask of object, probe and themselves; as `kernels.ptycho.Gradient`.

    Parameters
    ----------
    object : (slices, rows, columns) complex
        Minus the derivative of the cost by the conjugate object, over n0·n1.
    intensity : (slices, rows, columns) real
        ``Σ |ψ|²`` of the waves that met each slice.
    probe : (modes, n0, n1) complex
        As `object`, of the spectra of the probe.
    errors : (n,) real
        ``Σ (√I_measured − √I)²`` of each position.
    positions : (n, 2) real
        Derivative of the cost by the shift of the probe, per pixel along x and y.
    """

    object: Array
    intensity: Array
    probe: Array
    errors: Array
    positions: Array


def namespace_of(array: Array) -> Any:
    """The library that an array is of."""
    return sys.modules[type(array).__module__.partition(".")[0]]


def ramps(length: int, shifts: Array) -> Array:
    """``exp(−2πi k f)`` (P, length) for shifts (P,) in pixels, in the precision of these."""
    xp = namespace_of(shifts)
    k = xp.fft.fftfreq(length).astype(shifts.dtype)
    return xp.exp(-2j * np.pi * shifts[:, None] * k)


def forward(scene: Scene, object_: Array, probe: Array, chosen: Array) -> Waves:
    """Carry the probe through the slices to the detector.

    Parameters
    ----------
    scene : Scene
    object_ : (slices, rows, columns) complex
    probe : (modes, n0, n1) complex
        Spectra.
    chosen : (n,) int
    """
    xp = namespace_of(object_)
    spectra = probe[None] * _ramp(scene, chosen)[:, None]
    wave = xp.fft.ifft2(spectra, norm="forward")
    rows, columns = _windows(scene, chosen)
    met = []
    for number, slice_ in enumerate(object_):
        if number:
            wave = _flown(wave, scene.flight)
        met.append(wave)
        wave = wave * slice_[rows, columns][:, None]
    return Waves(xp.stack(met), xp.fft.fft2(_bent(scene, wave, chosen, back=False)))


def adjoint(
    scene: Scene, object_: Array, probe: Array, met: Array, change: Array, chosen: Array
) -> tuple[Array, Array, Array]:
    """Carry a change at the detector back: the adjoint of the derivative of `forward`.

    Parameters
    ----------
    scene, object_, probe, chosen
        As of `forward`.
    met : (slices, n, modes, n0, n1) complex
        Of `forward`.
    change : (n, modes, n0, n1) complex

    Returns
    -------
    object, probe : complex
        As the arguments, summed over positions.
    positions : (n, 2) real
        ``Re Σ conj(∂far / ∂f) change`` by the shifts f in pixels.
    """
    xp = namespace_of(object_)
    wave = _bent(scene, xp.fft.ifft2(change, norm="forward"), chosen, back=True)
    rows, columns = _windows(scene, chosen)
    sums = xp.zeros_like(object_)
    for s in range(len(object_) - 1, -1, -1):
        xp.add.at(sums[s], (rows, columns), (met[s].conj() * wave).sum(axis=1))
        wave = wave * object_[s][rows, columns][:, None].conj()
        if s:
            wave = _flown(wave, scene.flight.conj())
    back = xp.fft.fft2(wave) * _ramp(scene, chosen)[:, None].conj()
    turned = (back.conj() * probe[None]).imag.sum(axis=1)
    n0, n1 = turned.shape[-2:]
    kx, ky = xp.fft.fftfreq(n0).astype(turned.dtype), xp.fft.fftfreq(n1).astype(turned.dtype)
    along = xp.stack([turned.sum(axis=2) @ kx, turned.sum(axis=1) @ ky], axis=1)
    return sums, back.sum(axis=0), 2 * np.pi * along


def cost(scene: Scene, far: Array, chosen: Array) -> Array:
    """What is minimised, of each position (n,).

    ``(1 − w) Σ (A − √I)² + w Σ (I − A² ln I) / 2`` with the share w of Poisson's likelihood, over
    measured pixels; `Scene.floor` is part of I.
    """
    xp = namespace_of(far)
    known = scene.amplitudes[chosen]
    intensity = (xp.abs(far) ** 2).sum(axis=1) + scene.floor
    amplitudes = (known - xp.sqrt(intensity)) ** 2
    counts = intensity - known**2 * xp.log(intensity)
    both = (1 - scene.poisson) * amplitudes + 0.5 * scene.poisson * counts
    return xp.where(known < 0, 0, both).sum(axis=(1, 2))


def gradients(scene: Scene, object_: Array, probe: Array, chosen: Array) -> Gradients:
    """Errors and gradients of some positions; arguments as of `forward`."""
    xp = namespace_of(object_)
    met, far = forward(scene, object_, probe, chosen)
    known = scene.amplitudes[chosen]
    intensity = (xp.abs(far) ** 2).sum(axis=1)
    ratio = known / xp.sqrt(intensity + scene.floor)
    step = (1 - scene.poisson) * (ratio - 1) + 0.5 * scene.poisson * (ratio**2 - 1)
    step = xp.where(known < 0, 0, step)
    errors = xp.where(known < 0, 0, (known - xp.sqrt(intensity)) ** 2).sum(axis=(1, 2))
    sums, spectra, along = adjoint(scene, object_, probe, met, far * step[:, None], chosen)
    beam = xp.zeros(object_.shape, intensity.dtype)
    rows, columns = _windows(scene, chosen)
    for s in range(len(object_)):
        xp.add.at(beam[s], (rows, columns), (xp.abs(met[s]) ** 2).sum(axis=1))
    pixels = known.shape[1] * known.shape[2]
    return Gradients(sums / pixels, beam, spectra / pixels, errors, -2 * along)


def _ramp(scene: Scene, chosen: Array) -> Array:
    return scene.ramps_x[chosen][:, :, None] * scene.ramps_y[chosen][:, None, :]


def _bent(scene: Scene, wave: Array, chosen: Array, *, back: bool) -> Array:
    """The exit waves times the ramps that move their patterns, or their conjugates."""
    if not len(scene.descan_x):
        return wave
    ramp = scene.descan_x[chosen][:, None, :, None] * scene.descan_y[chosen][:, None, None, :]
    return wave * (ramp.conj() if back else ramp)


def _windows(scene: Scene, chosen: Array) -> tuple[Array, Array]:
    """Rows (n, n0, 1) and columns (n, 1, n1) of the object."""
    xp = namespace_of(scene.corners)
    n0, n1 = scene.flight.shape
    first = scene.corners[chosen]
    return (
        first[:, 0, None, None] + xp.arange(n0)[:, None],
        first[:, 1, None, None] + xp.arange(n1),
    )


def _flown(wave: Array, flight: Array) -> Array:
    xp = namespace_of(wave)
    return xp.fft.ifft2(xp.fft.fft2(wave) * flight, norm="forward")


# ---- to and from the planes of the compiled kernel -----------------------------------------------
def to_planes(spectra: Array) -> Array:
    """Spectra (…, n0, n1) complex as turned planes (…, 2, plane) float32."""
    n0, n1 = spectra.shape[-2:]
    planes = np.zeros((*spectra.shape[:-2], 2, padded(n1), padded(n0)), np.float32)
    turned = np.swapaxes(spectra, -1, -2)
    planes[..., 0, :n1, :n0], planes[..., 1, :n1, :n0] = turned.real, turned.imag
    return planes.reshape(*spectra.shape[:-2], 2, -1)


def from_planes(planes: Array, shape: tuple[int, int], dtype: Any = np.complex128) -> Array:
    """The inverse of `to_planes`."""
    n0, n1 = shape
    turned = planes.reshape(*planes.shape[:-1], padded(n1), padded(n0))[..., :n1, :n0]
    parts = np.swapaxes(turned, -1, -2)
    return (parts[..., 0, :, :] + 1j * parts[..., 1, :, :]).astype(dtype)


def scene_of(
    model: Model, state: State, *, xp: Any = np, dtype: Any = np.complex128
) -> tuple[Scene, Array, Array]:
    """Model and state of the compiled kernel as scene, object and probe.

    Parameters
    ----------
    model : Model
    state : State
    xp : module
        numpy or cupy.
    dtype : complex64 or complex128
    """
    shape = (model.rows.length, model.columns.length)
    real = np.empty(0, dtype).real.dtype
    measured = from_planes(
        np.stack([model.amplitudes, np.zeros_like(model.amplitudes)], axis=1), shape
    ).real.astype(real)
    pairs = (model.ramps_x, model.ramps_y, model.descan_x, model.descan_y)
    waves = (
        xp.asarray((r[:, 0, :n] + 1j * r[:, 1, :n]).astype(dtype))
        for r, n in zip(pairs, 2 * shape, strict=True)
    )
    scene = Scene(
        xp.asarray(measured), xp.asarray(model.corners), *waves,
        xp.asarray(from_planes(model.flight, shape, dtype)), float(model.poisson),
        float(model.floor),
    )  # fmt: skip
    object_ = (state.object[:, 0] + 1j * state.object[:, 1]).astype(dtype)
    probe = from_planes(state.probe, shape, dtype)
    return scene, xp.asarray(object_), xp.asarray(probe)
