"""Ptychography, position by position in the cache: exit waves, their errors, and their gradients.

One forward model over slices and probe modes.  For position p and mode m the probe, kept as its
Fourier transform, is shifted to where the beam was; it passes the slices with free flight between
them; the patterns of the modes add up.  The adjoint carries the change that the measured pattern
asks for back through the slices to the probe.

Waves are planes as in `kernels.fft`: (n0, n1) in real space, turned in Fourier space.  Of every
plane the padding stays zero, since all that is done to it is linear or a product.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ._jit import njit
from ._simd import LANES, load, masked, root, spread, store, total
from .fft import Plan, transform

__all__ = ["Gradient", "Model", "State", "follow_positions", "run_positions"]

F32 = NDArray[np.float32]
FORTH, BACK = np.float32(1), np.float32(-1)


class Model(NamedTuple):
    """What does not change while positions are worked on.

    Parameters
    ----------
    rows, columns : Plan
        Of n0 and n1.
    amplitudes : (P, plane) float32
        Roots of the measured patterns, zero frequency first, turned; below zero: not measured.
    corners : (P, 2) int64
        First row and column of each window in the object.
    ramps : (P, 2, n0 padded) float32, and (P, 2, n1 padded)
        ``exp(−2πi k f)`` along x and y (cosine, then sine) for the shift f of the probe within a
        pixel.
    flight : (2, plane) float32
        Propagator from one slice to the next, turned.
    poisson : float32
        0: least squares of amplitudes; 1: likelihood of counts; between: both.
    floor : float32
        Added to intensities before anything is divided by them.
    """

    rows: Plan
    columns: Plan
    amplitudes: F32
    corners: NDArray[np.int64]
    ramps_x: F32
    ramps_y: F32
    flight: F32
    poisson: np.float32
    floor: np.float32


class State(NamedTuple):
    """What is sought: the object, (slices, 2, rows, columns), and the probe, (modes, 2, plane).

    The probe is the turned Fourier transform of its modes.  The columns of the object are followed
    by `LANES` more, which windows at its edge touch.
    """

    object: F32
    probe: F32


@njit(nogil=True, cache=True)
def _shifted(spectrum, ramp_x, ramp_y, n1, tall, sign, out_r, out_i):
    """A turned spectrum times ``exp(∓2πi k f)``."""
    flip = spread(sign)
    for y in range(n1):
        ur, ui = spread(ramp_y[0, y]), spread(ramp_y[1, y]) * flip
        for x in range(0, tall, LANES):
            at = y * tall + x
            vr, vi = load(ramp_x[0], x), load(ramp_x[1], x) * flip
            wr, wi = ur * vr - ui * vi, ur * vi + ui * vr
            sr, si = load(spectrum[0], at), load(spectrum[1], at)
            store(out_r, at, sr * wr - si * wi)
            store(out_i, at, sr * wi + si * wr)


@njit(nogil=True, cache=True)
def _through(slice_r, slice_i, first, across, n0, wide, wave_r, wave_i, out_r, out_i):
    """A wave times the window of a slice."""
    for x in range(n0):
        for y in range(0, wide, LANES):
            at, there = x * wide + y, first + x * across + y
            ar, ai = load(wave_r, at), load(wave_i, at)
            br, bi = load(slice_r, there), load(slice_i, there)
            store(out_r, at, ar * br - ai * bi)
            store(out_i, at, ar * bi + ai * br)


@njit(nogil=True, cache=True)
def _multiplied(re, im, by_r, by_i, sign, size):
    """A wave times another, or (sign −1) its conjugate, in place."""
    flip = spread(sign)
    for at in range(0, size, LANES):
        ar, ai = load(re, at), load(im, at)
        br, bi = load(by_r, at), load(by_i, at) * flip
        store(re, at, ar * br - ai * bi)
        store(im, at, ar * bi + ai * br)


@njit(nogil=True, cache=True)
def _changes(waves, amplitude, poisson, floor, scale, size):
    """Replace waves at the detector by their change towards the measured pattern; the error.

    ``ψ (A/√I − 1)`` for amplitudes and ``ψ (A²/I − 1) / 2`` for counts, times `scale`.
    """
    error, modes = 0.0, len(waves)
    zero, one, low = spread(np.float32(0)), spread(np.float32(1)), spread(floor)
    part, other = spread(np.float32(0.5) * poisson), spread(np.float32(1) - poisson)
    factor = spread(scale)
    for at in range(0, size, LANES):
        sum_ = zero
        for m in range(modes):
            r, i = load(waves[m, 0], at), load(waves[m, 1], at)
            sum_ = sum_ + r * r + i * i
        known = load(amplitude, at)
        modulus = root(sum_ + low)
        ratio = known / modulus
        step = other * (ratio - one) + part * (ratio * ratio - one)
        step = masked(known, zero, step) * factor
        miss = masked(known, zero, known - root(sum_))
        error += total(miss * miss)
        for m in range(modes):
            store(waves[m, 0], at, load(waves[m, 0], at) * step)
            store(waves[m, 1], at, load(waves[m, 1], at) * step)
    return error


@njit(nogil=True, cache=True)
def _add_conjugate(change_r, change_i, wave_r, wave_i, first, across, n0, wide, sum_r, sum_i):
    """``sum[window] += conj(wave) · change``."""
    for x in range(n0):
        for y in range(0, wide, LANES):
            at, there = x * wide + y, first + x * across + y
            ar, ai = load(change_r, at), load(change_i, at)
            br, bi = load(wave_r, at), load(wave_i, at)
            store(sum_r, there, load(sum_r, there) + (ar * br + ai * bi))
            store(sum_i, there, load(sum_i, there) + (ai * br - ar * bi))


@njit(nogil=True, cache=True)
def _add_intensity(wave_r, wave_i, first, across, n0, wide, sum_):
    for x in range(n0):
        for y in range(0, wide, LANES):
            at, there = x * wide + y, first + x * across + y
            ar, ai = load(wave_r, at), load(wave_i, at)
            store(sum_, there, load(sum_, there) + ar * ar + ai * ai)


@njit(nogil=True, cache=True)
def _back_through(slice_r, slice_i, first, across, n0, wide, wave_r, wave_i):
    """A wave times the conjugate of the window of a slice, in place."""
    for x in range(n0):
        for y in range(0, wide, LANES):
            at, there = x * wide + y, first + x * across + y
            ar, ai = load(wave_r, at), load(wave_i, at)
            br, bi = load(slice_r, there), load(slice_i, there)
            store(wave_r, at, ar * br + ai * bi)
            store(wave_i, at, ai * br - ar * bi)


@njit(nogil=True, cache=True)
def _fly(model, wave, turned, sign, buffer):
    """Free flight over the distance between two slices, or (sign −1) back."""
    size = wave.shape[1]
    transform(
        wave[0], wave[1], turned[0], turned[1], model.rows, model.columns, buffer[0], buffer[1]
    )
    _multiplied(turned[0], turned[1], model.flight[0], model.flight[1], sign, size)
    transform(
        turned[1], turned[0], wave[1], wave[0], model.columns, model.rows, buffer[0], buffer[1]
    )


@njit(nogil=True, cache=True)
def _add(wave, sums):
    for at in range(0, wave.shape[1], LANES):
        store(sums[0], at, load(sums[0], at) + load(wave[0], at))
        store(sums[1], at, load(sums[1], at) + load(wave[1], at))


@njit(nogil=True, cache=True)
def _copy(wave, out):
    for at in range(0, wave.shape[1], LANES):
        store(out[0], at, load(wave[0], at))
        store(out[1], at, load(wave[1], at))


@njit(nogil=True, cache=True)
def _forward(model, object_, probe, p, incident, far, wave, buffer):
    """Waves that meet each slice (slices, modes, 2, plane), and those at the detector."""
    n0, n1 = model.rows.length, model.columns.length
    wide, tall = -(-n1 // LANES) * LANES, -(-n0 // LANES) * LANES
    slices, across = object_.shape[0], object_.shape[3]
    first = model.corners[p, 0] * across + model.corners[p, 1]
    flat = object_.reshape(slices, 2, -1)
    for m in range(len(probe)):
        _shifted(
            probe[m], model.ramps_x[p], model.ramps_y[p], n1, tall, FORTH, far[m, 0], far[m, 1]
        )
        transform(
            far[m, 1], far[m, 0], incident[0, m, 1], incident[0, m, 0],
            model.columns, model.rows, buffer[0], buffer[1],
        )  # fmt: skip
        for s in range(slices):
            at = incident[s, m]
            _through(
                flat[s, 0], flat[s, 1], first, across, n0, wide, at[0], at[1], wave[0], wave[1]
            )
            if s < slices - 1:
                _fly(model, wave, far[m], FORTH, buffer)
                _copy(wave, incident[s + 1, m])
        transform(
            wave[0], wave[1], far[m, 0], far[m, 1], model.rows, model.columns,
            buffer[0], buffer[1],
        )  # fmt: skip


@njit(nogil=True, cache=True)
def _backward(model, object_, p, incident, far, sums, intensity, spectra, with_probe, wave, buffer):
    """Carry the changes at the detector back; add to the gradients of object and probe."""
    n0, n1 = model.rows.length, model.columns.length
    wide, tall = -(-n1 // LANES) * LANES, -(-n0 // LANES) * LANES
    slices, across = object_.shape[0], object_.shape[3]
    first = model.corners[p, 0] * across + model.corners[p, 1]
    flat, out = object_.reshape(slices, 2, -1), sums.reshape(slices, 2, -1)
    beam = intensity.reshape(slices, -1)
    for m in range(far.shape[0]):
        transform(
            far[m, 1], far[m, 0], wave[1], wave[0], model.columns, model.rows,
            buffer[0], buffer[1],
        )  # fmt: skip
        for s in range(slices - 1, -1, -1):
            met = incident[s, m]
            _add_conjugate(
                wave[0], wave[1], met[0], met[1], first, across, n0, wide, out[s, 0], out[s, 1]
            )
            _add_intensity(met[0], met[1], first, across, n0, wide, beam[s])
            if s == 0 and not with_probe:
                break
            _back_through(flat[s, 0], flat[s, 1], first, across, n0, wide, wave[0], wave[1])
            if s > 0:
                _fly(model, wave, far[m], BACK, buffer)
        if with_probe:
            transform(
                wave[0], wave[1], far[m, 0], far[m, 1], model.rows, model.columns,
                buffer[0], buffer[1],
            )  # fmt: skip
            _shifted(far[m], model.ramps_x[p], model.ramps_y[p], n1, tall, BACK, wave[0], wave[1])
            _add(wave, spectra[m])


@njit(nogil=True, cache=True)
def _largest(values, row, column, n0, n1):
    top = np.float32(0)
    for x in range(row, row + n0):
        for y in range(column, column + n1):
            top = max(top, values[x, y])
    return top


@njit(nogil=True, cache=True)
def _step_object(slice_, sums, beam, row, column, n0, n1, rate, blend):
    """``O += rate · sum / ((1 − blend) I + blend max I)`` in a window; clears what was summed."""
    top = _largest(beam, row, column, n0, n1) * blend + np.float32(1e-30)
    for x in range(row, row + n0):
        for y in range(column, column + n1):
            step = rate / ((np.float32(1) - blend) * beam[x, y] + top)
            slice_[0, x, y] += step * sums[0, x, y]
            slice_[1, x, y] += step * sums[1, x, y]
            sums[0, x, y] = sums[1, x, y] = beam[x, y] = 0


@njit(nogil=True, cache=True)
def _step_probe(probe, spectra, rate):
    for m in range(probe.shape[0]):
        for part in range(2):
            for at in range(probe.shape[2]):
                probe[m, part, at] += rate * spectra[m, part, at]
                spectra[m, part, at] = 0


@njit(nogil=True, cache=True)
def _strongest(slice_, row, column, n0, n1):
    top = np.float32(0)
    for x in range(row, row + n0):
        for y in range(column, column + n1):
            top = max(top, slice_[0, x, y] ** 2 + slice_[1, x, y] ** 2)
    return top


@njit(nogil=True, cache=True)
def _run(model, object_, probe, chosen, sums, intensity, spectra, errors, rates):
    """Work on the chosen positions; with `rates`, follow the gradient after each of them."""
    n0, n1 = model.rows.length, model.columns.length
    slices, modes, plane = object_.shape[0], probe.shape[0], model.amplitudes.shape[1]
    incident = np.zeros((slices, modes, 2, plane), np.float32)
    far, wave = np.zeros((modes, 2, plane), np.float32), np.zeros((2, plane), np.float32)
    longest = -(-max(n0, n1) // LANES) * LANES
    buffer = np.zeros((2, 3 * LANES * longest), np.float32)
    scale = np.float32(1.0 / (n0 * n1))
    object_rate, probe_rate, blend, with_probe = rates
    for k in range(len(chosen)):
        p = chosen[k]
        _forward(model, object_, probe, p, incident, far, wave, buffer)
        errors[k] = _changes(far, model.amplitudes[p], model.poisson, model.floor, scale, plane)
        _backward(
            model, object_, p, incident, far, sums, intensity, spectra, with_probe, wave, buffer
        )
        if object_rate > 0:
            row, column = model.corners[p]
            strength = _strongest(object_[0], row, column, n0, n1)
            for s in range(slices):
                _step_object(
                    object_[s], sums[s], intensity[s], row, column, n0, n1, object_rate, blend
                )
            if with_probe:
                _step_probe(probe, spectra, probe_rate * scale / strength)


class Gradient(NamedTuple):
    """What positions ask of object and probe.

    Parameters
    ----------
    object : (slices, 2, rows, columns) float32
        ``Σ conj(ψ) χ``: minus the gradient of the error with respect to the conjugate object.
    intensity : (slices, rows, columns) float32
        ``Σ |ψ|²`` of the waves that met each slice.
    probe : (modes, 2, plane) float32
        ``Σ`` of the turned transforms of ``conj(O) χ``, shifted back.
    errors : (n,) float64
        ``Σ (√I_measured − √I)²`` of each position.
    """

    object: F32
    intensity: F32
    probe: F32
    errors: NDArray[np.float64]


_NO_STEP = (np.float32(0), np.float32(0), np.float32(1))


def run_positions(
    model: Model, state: State, chosen: NDArray[np.int64], *, with_probe: bool = True
) -> Gradient:
    """Errors and gradients of some positions; nothing of the state changes.

    Parameters
    ----------
    model : Model
    state : State
    chosen : (n,) int64
    with_probe : bool
        False saves two transforms a position.
    """
    object_, probe = state
    found = Gradient(
        np.zeros_like(object_),
        np.zeros((object_.shape[0], *object_.shape[2:]), np.float32),
        np.zeros_like(probe),
        np.empty(len(chosen)),
    )
    _run(model, object_, probe, chosen, *found, (*_NO_STEP, with_probe))
    return found


def follow_positions(
    model: Model,
    state: State,
    chosen: NDArray[np.int64],
    *,
    object_rate: float,
    probe_rate: float,
    blend: float = 1.0,
) -> NDArray[np.float64]:
    """ePIE and rPIE: object and probe change after each position, in place; the errors (n,).

    Parameters
    ----------
    object_rate, probe_rate : float
        Share of the step that a position asks for; a `probe_rate` of 0 keeps the probe.
    blend : float
        1 divides by the largest intensity of the beam (ePIE), less by more of the local one (rPIE).
    """
    object_, probe = state
    errors = np.empty(len(chosen))
    sums = np.zeros_like(object_)
    intensity = np.zeros((object_.shape[0], *object_.shape[2:]), np.float32)
    rates = (*(np.float32(v) for v in (object_rate, probe_rate, blend)), probe_rate > 0)
    _run(model, object_, probe, chosen, sums, intensity, np.zeros_like(probe), errors, rates)
    return errors
