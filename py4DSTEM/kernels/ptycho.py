"""Ptychography, position by position in the cache: exit waves, their errors, and their gradients.

One forward model over slices and probe modes.  For position p and mode m the probe, kept as its
Fourier transform, is shifted to where the beam was; it passes the slices with free flight between
them; the patterns of the modes add up.  The adjoint carries the change that the measured pattern
asks for back through the slices to the probe.  `ptycho_arrays` is the same in plain arrays.

Waves are planes as in `kernels.fft`: (n0, n1) in real space, turned, (ky, kx), in Fourier space.
Of every plane the padding stays zero, since all that is done to it is linear or a product.

A transform is two halves: along x, of as many columns as there are lanes, and along y, of as many
rows.  From slice to slice a wave is left half way, (kx, y): its columns come out of one transform
along x, meet the slice, and enter the next while they are in the first cache; so do the rows with
the flight between two transforms along y.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ParameterError, ShapeError
from ._jit import njit
from ._simd import (
    LANES,
    LINE,
    address,
    apart,
    larger,
    largest,
    load,
    masked,
    root,
    same,
    spread,
    store,
    total,
    turn,
)
from .fft import INNER, Plan, columns, padded

__all__ = [
    "Gradient",
    "Model",
    "Room",
    "Shares",
    "State",
    "follow_positions",
    "make_rooms",
    "run_positions",
]

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
    descan_x : (P, 2, n0 padded) float32, and (P, 2, n1 padded); or P = 0 of them
        ``exp(2πi d r / n)`` along x and y (cosine, then sine) where the pattern lies d pixels off;
        none at all where no pattern does.
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
    descan_x: F32
    descan_y: F32
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


class _Work(NamedTuple):
    """Arrays that one thread works in; all begin at a line of the cache."""

    wave: F32  # (2, plane) half way, (kx, y)
    met: F32  # (slices, modes, 2, plane): waves that meet a slice
    far: F32  # (modes, 2, plane) at the detector
    buffer: F32
    block: F32  # (2, ·) columns between two transforms along x
    other: F32  # (2, ·) and along y
    frequencies_x: F32  # cycles per pixel
    frequencies_y: F32
    inside: F32  # 1 for the columns of a window, 0 for what pads it

    @classmethod
    def of(cls, n0: int, n1: int, slices: int, modes: int) -> _Work:
        tall, wide, lines = padded(n0), padded(n1), padded(n1) // LANES
        # An odd number of lines spreads a column over the whole cache.
        plane = tall * (lines + 1 - lines % 2) * LANES
        work = cls(
            _aligned(2, plane),
            _aligned(slices, modes, 2, plane),
            _aligned(modes, 2, tall * wide),
            _aligned(4, LANES * max(n0, n1)),
            _aligned(2, LANES * tall),
            _aligned(2, LANES * wide),
            _aligned(tall),
            _aligned(wide),
            _aligned(wide),
        )
        work.frequencies_x[:n0] = np.fft.fftfreq(n0)
        work.frequencies_y[:n1] = np.fft.fftfreq(n1)
        work.inside[:n1] = 1
        return work


def _aligned(*shape: int) -> F32:
    """Zeros from the beginning of a line of the cache on."""
    size = math.prod(shape)
    room = np.zeros(size + LANES, np.float32)
    first = -(room.ctypes.data // 4) % LANES
    return room[first : first + size].reshape(shape)


class _Desk(NamedTuple):
    """Addresses of what a thread works with, and what lies how many bytes apart."""

    n0: int
    n1: int
    line: int  # of a vector
    rows: int  # plans of n0 and n1
    across: int
    wide: int  # of a row of a wave, and from its real to its imaginary part
    plane: int
    tall: int  # the same at the detector
    spectrum: int
    width: int  # the same of the object
    field: int
    high: int  # of a row of n1 float32, padded
    wave: int
    buffer: int
    block: int  # and its imaginary part
    block_im: int
    other: int
    other_im: int


@njit(**INNER)
def _desk(model, object_, work):
    n0, n1 = model.rows.length, model.columns.length
    tall, high = 4 * work.frequencies_x.size, 4 * work.frequencies_y.size
    block, other = address(work.block), address(work.other)
    return _Desk(
        n0, n1, LINE, address(model.rows.table), address(model.columns.table),
        work.wave.shape[1] // (tall // 4) * 4, work.wave.shape[1] * 4, tall, work.far.shape[2] * 4,
        object_.shape[3] * 4, object_.shape[2] * object_.shape[3] * 4, high,
        address(work.wave), address(work.buffer),
        block, block + work.block.shape[1] * 4, other, other + work.other.shape[1] * 4,
    )  # fmt: skip


# ---- halves of transforms ------------------------------------------------------------------------
@njit(**INNER, inline="always")
def _along_x(d, c):
    """From `block` to columns c of the wave."""
    at = d.wave + c
    columns(d.rows, d.block, d.block_im, d.line, at, at + d.plane, d.wide, d.buffer)


@njit(**INNER, inline="always")
def _back_along_x(d, c):
    """From columns c of the wave to `block`."""
    at = d.wave + c
    columns(d.rows, at + d.plane, at, d.wide, d.block_im, d.block, d.line, d.buffer)


@njit(**INNER, inline="always")
def _along_y(d, r):
    """From rows r of the wave to `other`, turned."""
    for c in range(0, d.high, d.line):
        at, to = d.wave + r * d.wide + c, c * LANES
        turn(at, d.wide, d.other + to, d.line)
        turn(at + d.plane, d.wide, d.other_im + to, d.line)
    columns(d.across, d.other, d.other_im, d.line, d.other, d.other_im, d.line, d.buffer)


@njit(**INNER, inline="always")
def _back_along_y(d, r):
    """From `other`, turned, to rows r of the wave."""
    columns(d.across, d.other_im, d.other, d.line, d.other_im, d.other, d.line, d.buffer)
    for c in range(0, d.high, d.line):
        at, to = d.wave + r * d.wide + c, c * LANES
        turn(d.other + to, d.line, at, d.wide)
        turn(d.other_im + to, d.line, at + d.plane, d.wide)


# ---- from the probe to the detector --------------------------------------------------------------
@njit(**INNER)
def _enter(d, probe, ramp_x, ramp_y):
    """The probe, times ``exp(−2πi k f)``, becomes the wave."""
    apart()
    for r in range(0, d.n0, LANES):
        vr, vi = load(ramp_x + 4 * r), load(ramp_x + d.tall + 4 * r)
        for y in range(d.n1):
            ur, ui = same(ramp_y + 4 * y), same(ramp_y + d.high + 4 * y)
            wr, wi = ur * vr - ui * vi, ur * vi + ui * vr
            at = probe + y * d.tall + 4 * r
            sr, si = load(at), load(at + d.spectrum)
            store(d.other + y * LINE, sr * wr - si * wi)
            store(d.other_im + y * LINE, sr * wi + si * wr)
        _back_along_y(d, r)


@njit(**INNER, inline="always")
def _descan(model, p, d):
    """Addresses of what bends the exit wave of a position along x and y; zeros: nothing does."""
    if len(model.descan_x) == 0:
        return 0, 0
    return address(model.descan_x) + p * 2 * d.tall, address(model.descan_y) + p * 2 * d.high


@njit(**INNER, inline="always")
def _bend(d, x, c, along_x, along_y):
    """The product of both ramps in row x and the columns from c on."""
    ur, ui = same(along_x + 4 * x), same(along_x + d.tall + 4 * x)
    vr, vi = load(along_y + c), load(along_y + d.high + c)
    return ur * vr - ui * vi, ur * vi + ui * vr


@njit(**INNER)
def _through(d, met, window, bend_x, bend_y):
    """The wave, kept as `met`, times a slice, and a ramp if there is one."""
    apart()
    for c in range(0, d.high, LINE):
        _back_along_x(d, c)
        for x in range(d.n0):
            at, to, there = x * LINE, met + x * d.wide + c, window + x * d.width + c
            ar, ai = load(d.block + at), load(d.block_im + at)
            br, bi = load(there), load(there + d.field)
            store(to, ar)
            store(to + d.plane, ai)
            ar, ai = ar * br - ai * bi, ar * bi + ai * br
            if bend_x != 0:
                br, bi = _bend(d, x, c, bend_x, bend_y)
                ar, ai = ar * br - ai * bi, ar * bi + ai * br
            store(d.block + at, ar)
            store(d.block_im + at, ai)
        _along_x(d, c)


@njit(**INNER)
def _fly(d, flight, sign):
    """Free flight over the distance between two slices, or (sign −1) back."""
    apart()
    flip = spread(sign)
    for r in range(0, d.n0, LANES):
        _along_y(d, r)
        for y in range(d.n1):
            at, there = y * LINE, flight + y * d.tall + 4 * r
            ar, ai = load(d.other + at), load(d.other_im + at)
            br, bi = load(there), load(there + d.spectrum) * flip
            store(d.other + at, ar * br - ai * bi)
            store(d.other_im + at, ar * bi + ai * br)
        _back_along_y(d, r)


@njit(**INNER)
def _leave(d, far):
    """The wave at the detector."""
    apart()
    for r in range(0, d.n0, LANES):
        _along_y(d, r)
        for y in range(d.n1):
            at, to = y * LINE, far + y * d.tall + 4 * r
            store(to, load(d.other + at))
            store(to + d.spectrum, load(d.other_im + at))


class _Likelihood(NamedTuple):
    """Numbers that the change of a wave at the detector is made of, in all lanes."""

    poisson: np.float32
    floor: np.float32
    factor: np.float32


@njit(**INNER, inline="always")
def _towards(known, strength, likelihood):
    """Factor that changes waves of some intensity towards a measured amplitude; the error's root.

    ``A/√I − 1`` for amplitudes and ``(A²/I − 1) / 2`` for counts, over n0 n1.
    """
    zero, one = spread(np.float32(0)), spread(np.float32(1))
    ratio = known / root(strength + spread(likelihood.floor))
    part = spread(np.float32(0.5) * likelihood.poisson)
    rest = spread(np.float32(1) - likelihood.poisson)
    step = rest * (ratio - one) + part * (ratio * ratio - one)
    step = masked(known, zero, step) * spread(likelihood.factor)
    return step, masked(known, zero, known - root(strength))


@njit(**INNER)
def _bounce(d, amplitude, likelihood):
    """`_leave`, `_changes` and `_return` of a single mode, while its rows are in the cache."""
    apart()
    error = 0.0
    for r in range(0, d.n0, LANES):
        _along_y(d, r)
        missed = spread(np.float32(0))
        for y in range(d.n1):
            at = y * LINE
            re, im = load(d.other + at), load(d.other_im + at)
            known = load(amplitude + y * d.tall + 4 * r)
            step, miss = _towards(known, re * re + im * im, likelihood)
            missed = missed + miss * miss
            store(d.other + at, re * step)
            store(d.other_im + at, im * step)
        error += total(missed)
        _back_along_y(d, r)
    return error


@njit(**INNER)
def _changes(d, far, modes, amplitude, likelihood):
    """Replace waves at the detector by their change towards the measured pattern; the error."""
    apart()
    error = 0.0
    for y in range(d.n1):
        missed = spread(np.float32(0))
        for at in range(y * d.tall, y * d.tall + d.tall, LINE):
            sum_ = spread(np.float32(0))
            for m in range(modes):
                wave = far + 2 * m * d.spectrum + at
                re, im = load(wave), load(wave + d.spectrum)
                sum_ = sum_ + re * re + im * im
            step, miss = _towards(load(amplitude + at), sum_, likelihood)
            missed = missed + miss * miss
            for m in range(modes):
                wave = far + 2 * m * d.spectrum + at
                store(wave, load(wave) * step)
                store(wave + d.spectrum, load(wave + d.spectrum) * step)
        error += total(missed)
    return error


# ---- and back ------------------------------------------------------------------------------------
@njit(**INNER)
def _return(d, far):
    """What is at the detector becomes the wave."""
    apart()
    for r in range(0, d.n0, LANES):
        for y in range(d.n1):
            at, to = far + y * d.tall + 4 * r, y * LINE
            store(d.other + to, load(at))
            store(d.other_im + to, load(at + d.spectrum))
        _back_along_y(d, r)


@njit(**INNER)
def _gather(d, met, window, sums, beam, on, bend_x, bend_y):
    """``sums += conj(met) · wave``, ``beam += |met|²``, and if it goes on times the slice.

    A ramp, if there is one, is taken off the wave before.
    """
    apart()
    for c in range(0, d.high, LINE):
        _back_along_x(d, c)
        for x in range(d.n0):
            at, there, shift = x * LINE, met + x * d.wide + c, x * d.width + c
            ar, ai = load(d.block + at), load(d.block_im + at)
            if bend_x != 0:
                br, bi = _bend(d, x, c, bend_x, bend_y)
                ar, ai = ar * br + ai * bi, ai * br - ar * bi
            br, bi = load(there), load(there + d.plane)
            sr, si = sums + shift, sums + d.field + shift
            store(sr, load(sr) + (ar * br + ai * bi))
            store(si, load(si) + (ai * br - ar * bi))
            store(beam + shift, load(beam + shift) + (br * br + bi * bi))
            if on:
                br, bi = load(window + shift), load(window + d.field + shift)
                store(d.block + at, ar * br + ai * bi)
                store(d.block_im + at, ai * br - ar * bi)
        if on:
            _along_x(d, c)


@njit(**INNER)
def _settle(d, probe, ramp_x, ramp_y, spectra, k_x, k_y):
    """Add the wave, shifted back, to `spectra`; what it says of the position.

    ``Σ k Im(conj(change) · probe)`` for x and y.
    """
    apart()
    along_x, along_y, zero = 0.0, 0.0, spread(np.float32(0))
    for r in range(0, d.n0, LANES):
        _along_y(d, r)
        vr, vi = load(ramp_x + 4 * r), load(ramp_x + d.tall + 4 * r)
        in_x, in_y = zero, zero
        for y in range(d.n1):
            ur, ui = same(ramp_y + 4 * y), same(ramp_y + d.high + 4 * y)
            wr, wi = ur * vr - ui * vi, ur * vi + ui * vr
            ar, ai = load(d.other + y * LINE), load(d.other_im + y * LINE)
            br, bi = ar * wr + ai * wi, ai * wr - ar * wi
            at = y * d.tall + 4 * r
            sr, si = spectra + at, spectra + d.spectrum + at
            store(sr, load(sr) + br)
            store(si, load(si) + bi)
            turned = br * load(probe + d.spectrum + at) - bi * load(probe + at)
            in_x = in_x + turned
            in_y = in_y + turned * same(k_y + 4 * y)
        along_x += total(in_x * load(k_x + 4 * r))
        along_y += total(in_y)
    return along_x, along_y


# ---- steps after a position ----------------------------------------------------------------------
@njit(**INNER)
def _strongest(d, window, inside):
    """Largest ``|O|²``."""
    apart()
    top = spread(np.float32(0))
    for x in range(d.n0):
        for c in range(0, d.high, LINE):
            at = window + x * d.width + c
            r, i = load(at), load(at + d.field)
            top = larger(top, (r * r + i * i) * load(inside + c))
    return largest(top)


@njit(**INNER)
def _step_object(d, window, sums, beam, rate, blend):
    """``O += rate · sum / ((1 − blend) I + blend max I)`` in a window; clears what was summed."""
    apart()
    zero, share = spread(np.float32(0)), spread(np.float32(1) - blend)
    top = zero
    for x in range(d.n0):
        for c in range(0, d.high, LINE):
            top = larger(top, load(beam + x * d.width + c))
    most, factor = spread(largest(top) * blend + np.float32(1e-30)), spread(rate)
    for x in range(d.n0):
        for c in range(0, d.high, LINE):
            at = x * d.width + c
            step = factor / (share * load(beam + at) + most)
            store(beam + at, zero)
            for part in range(2):
                place = at + part * d.field
                store(window + place, load(window + place) + step * load(sums + place))
                store(sums + place, zero)


@njit(**INNER)
def _step_probe(d, probe, spectra, modes, rate):
    apart()
    zero, factor = spread(np.float32(0)), spread(rate)
    for at in range(0, 2 * modes * d.spectrum, LINE):
        store(probe + at, load(probe + at) + factor * load(spectra + at))
        store(spectra + at, zero)


# ---- all of it -----------------------------------------------------------------------------------
@njit(**INNER, inline="always")
def _forward(d, p, model, state, work, first):
    object_, probe = state
    slices, modes = object_.shape[0], probe.shape[0]
    ramp_x = address(model.ramps_x) + p * 2 * d.tall
    ramp_y = address(model.ramps_y) + p * 2 * d.high
    bend_x, bend_y = _descan(model, p, d)
    for m in range(modes):
        _enter(d, address(probe) + 2 * m * d.spectrum, ramp_x, ramp_y)
        for s in range(slices):
            met = address(work.met) + 2 * (s * modes + m) * d.plane
            window = address(object_) + 2 * s * d.field + first
            if s < slices - 1:
                _through(d, met, window, 0, 0)
                _fly(d, address(model.flight), FORTH)
            else:
                _through(d, met, window, bend_x, bend_y)
        if modes > 1:
            _leave(d, address(work.far) + 2 * m * d.spectrum)


@njit(**INNER, inline="always")
def _backward(d, p, model, state, work, first, found, with_probe):
    object_, probe = state
    slices, modes = object_.shape[0], probe.shape[0]
    ramp_x = address(model.ramps_x) + p * 2 * d.tall
    ramp_y = address(model.ramps_y) + p * 2 * d.high
    k_x, k_y = address(work.frequencies_x), address(work.frequencies_y)
    bend_x, bend_y = _descan(model, p, d)
    along_x, along_y = 0.0, 0.0
    for m in range(modes):
        if modes > 1:
            _return(d, address(work.far) + 2 * m * d.spectrum)
        for s in range(slices - 1, -1, -1):
            there = 2 * s * d.field + first
            last = s == slices - 1
            _gather(
                d, address(work.met) + 2 * (s * modes + m) * d.plane, address(object_) + there,
                address(found.object) + there, address(found.intensity) + s * d.field + first,
                s > 0 or with_probe, bend_x if last else 0, bend_y if last else 0,
            )  # fmt: skip
            if s > 0:
                _fly(d, address(model.flight), BACK)
        if with_probe:
            at = 2 * m * d.spectrum
            x, y = _settle(
                d, address(probe) + at, ramp_x, ramp_y, address(found.probe) + at, k_x, k_y
            )
            along_x += x
            along_y += y
    return along_x, along_y


@njit(**INNER, inline="always")
def _meet(d, p, model, modes, work, likelihood):
    amplitude = address(model.amplitudes) + p * d.spectrum
    if modes == 1:
        return _bounce(d, amplitude, likelihood)
    return _changes(d, address(work.far), modes, amplitude, likelihood)


@njit(**INNER, inline="always")
def _step(d, state, work, first, found, rates):
    object_rate, probe_rate, blend = rates
    object_, probe = state
    strength = _strongest(d, address(object_) + first, address(work.inside))
    for s in range(object_.shape[0]):
        there = 2 * s * d.field + first
        _step_object(
            d, address(object_) + there, address(found.object) + there,
            address(found.intensity) + s * d.field + first, object_rate, blend,
        )  # fmt: skip
    if probe_rate > 0:
        rate = probe_rate / (d.n0 * d.n1 * max(strength, np.float32(1e-30)))
        _step_probe(d, address(probe), address(found.probe), probe.shape[0], np.float32(rate))


@njit(nogil=True, cache=True, error_model="numpy")
def _run(model, state, chosen, work, found, rates, with_probe):
    """Work on the chosen positions; with `rates`, follow the gradient after each of them."""
    d = _desk(model, state.object, work)
    unit = -4 * np.pi * d.n0 * d.n1
    likelihood = _Likelihood(model.poisson, model.floor, np.float32(1 / (d.n0 * d.n1)))
    for k in range(len(chosen)):
        p = chosen[k]
        first = model.corners[p, 0] * d.width + 4 * model.corners[p, 1]
        _forward(d, p, model, state, work, first)
        found.errors[k] = _meet(d, p, model, len(state.probe), work, likelihood)
        x, y = _backward(d, p, model, state, work, first, found, with_probe)
        if with_probe:
            found.positions[k, 0], found.positions[k, 1] = unit * x, unit * y
        if rates[0] > 0 or rates[1] > 0:
            _step(d, state, work, first, found, rates)


class Gradient(NamedTuple):
    """What positions ask of object, probe and themselves.

    Parameters
    ----------
    object : (slices, 2, rows, columns) float32
        ``Σ conj(ψ) χ``: minus the derivative of the errors by the conjugate object, over n0 n1.
    intensity : (slices, rows, columns) float32
        ``Σ |ψ|²`` of the waves that met each slice.
    probe : (modes, 2, plane) float32
        The same of the probe: ``Σ`` of the turned transforms of ``conj(O) χ``, shifted back.
    errors : (n,) float64
        ``Σ (√I_measured − √I)²`` of each position.
    positions : (n, 2) float64
        Derivative of what is minimised (with `Model.poisson`) by the shift of the probe, per pixel
        along x and y; NaN without the probe.
    """

    object: F32
    intensity: F32
    probe: F32
    errors: NDArray[np.float64]
    positions: NDArray[np.float64]


_NO_STEP = (np.float32(0), np.float32(0), np.float32(1))


class Room(NamedTuple):
    """What one thread works in and adds to, made once for many calls of `run_positions`.

    Parameters
    ----------
    model : Model
        That it was made for.
    work : arrays
    found : Gradient
        Of as many positions as a call may have; it lies in the `Shares` of all threads.
    band : (2,) int64
        First row of the object that was added to since the sums were taken, and the one after
        the last.
    """

    model: Model
    work: _Work
    found: Gradient
    band: NDArray[np.int64]


class Shares(NamedTuple):
    """Sums of several threads, side by side, which `ptycho_step.take_step` adds up and clears.

    Parameters
    ----------
    object : (shares, slices, 2, rows, columns) float32
    intensity : (shares, slices, rows, columns) float32
    probe : (shares, modes, 2, plane) float32
    bands : (shares, 2) int64
        Rows of the object that each has touched; all else is zero.
    """

    object: F32
    intensity: F32
    probe: F32
    bands: NDArray[np.int64]


def make_rooms(model: Model, state: State, count: int, shares: int) -> tuple[Shares, list[Room]]:
    """Rooms for calls of up to `count` positions of one model, and of states of one shape.

    Raises
    ------
    ShapeError, ParameterError
        Arrays do not fit together, or a window of any position leaves the object.
    """
    work = _checked(model, state, np.arange(len(model.amplitudes)))
    slices, _, rows, across = state.object.shape
    sums = Shares(
        np.zeros((shares, *state.object.shape), np.float32),
        np.zeros((shares, slices, rows, across), np.float32),
        np.zeros((shares, *state.probe.shape), np.float32),
        np.zeros((shares, 2), np.int64),
    )
    rooms = []
    for k in range(shares):
        errors, positions = np.empty(count), np.full((count, 2), np.nan)
        found = Gradient(sums.object[k], sums.intensity[k], sums.probe[k], errors, positions)
        rooms.append(Room(model, work, found, sums.bands[k]))
        work = _Work.of(model.rows.length, model.columns.length, slices, len(state.probe))
    return sums, rooms


def run_positions(
    model: Model,
    state: State,
    chosen: NDArray[np.int64],
    *,
    with_probe: bool = True,
    room: Room | None = None,
) -> Gradient:
    """Errors and gradients of some positions; nothing of the state changes.

    Parameters
    ----------
    model : Model
    state : State
    chosen : (n,) int64
    with_probe : bool
        False saves two transforms a position, and says nothing of probe and positions.
    room : Room, optional
        Of this model: what is found is added to what lies in it.  A room saves checks and memory,
        which for a few positions take as long as the work.

    Raises
    ------
    ShapeError, ParameterError
        Arrays do not fit together, or a window leaves the object.
    """
    if room is None:
        work, found = _checked(model, state, chosen), _nothing(state, len(chosen))
    else:
        work, found = room.work, _entered(room, model, state, chosen)
    _run(model, state, chosen, work, found, _NO_STEP, with_probe)
    return found


def _entered(room: Room, model: Model, state: State, chosen: NDArray[np.int64]) -> Gradient:
    """The sums of a room, if it was made for this."""
    found, count = room.found, len(chosen)
    if room.model is not model or count > len(found.errors):
        raise ParameterError(f"this room is for {len(found.errors)} positions of another model")
    for array, known in ((state.object, found.object), (state.probe, found.probe)):
        if array.shape != known.shape or array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ShapeError(f"this room is for float32 {known.shape}, not {array.shape}")
    if count and not 0 <= chosen.min() <= chosen.max() < len(model.amplitudes):
        raise ParameterError(f"positions are numbers from 0 to {len(model.amplitudes) - 1}")
    found.positions.fill(np.nan)
    if count:
        _widen(room.band, model.corners[chosen, 0], model.rows.length)
    return found._replace(errors=found.errors[:count], positions=found.positions[:count])


def _widen(band: NDArray[np.int64], first: NDArray[np.int64], height: int) -> None:
    """Let a band of rows hold windows of some height from these rows on."""
    top, end = first.min(), first.max() + height
    band[:] = (top, end) if band[0] == band[1] else (min(band[0], top), max(band[1], end))


def _nothing(state: State, count: int) -> Gradient:
    slices, _, rows, across = state.object.shape
    return Gradient(
        np.zeros_like(state.object),
        np.zeros((slices, rows, across), np.float32),
        np.zeros_like(state.probe),
        np.empty(count),
        np.full((count, 2), np.nan),
    )


def _checked(model: Model, state: State, chosen: NDArray[np.int64]) -> _Work:
    """What to work in; memory outside the arrays would be read and written without these checks."""
    n0, n1 = model.rows.length, model.columns.length
    plane, count = padded(n0) * padded(n1), len(model.amplitudes)
    slices, modes = len(state.object), len(state.probe)
    rows, across = state.object.shape[2:]
    bent = count if len(model.descan_x) else 0
    wanted = {
        "amplitudes": (model.amplitudes, (count, plane)),
        "ramps_x": (model.ramps_x, (count, 2, padded(n0))),
        "ramps_y": (model.ramps_y, (count, 2, padded(n1))),
        "descan_x": (model.descan_x, (bent, 2, padded(n0))),
        "descan_y": (model.descan_y, (bent, 2, padded(n1))),
        "flight": (model.flight, (2, plane)),
        "object": (state.object, (slices, 2, rows, across)),
        "probe": (state.probe, (modes, 2, plane)),
    }
    for name, (array, shape) in wanted.items():
        if array.shape != shape or array.dtype != np.float32 or not array.flags.c_contiguous:
            raise ShapeError(
                f"{name} is float32 {shape} without gaps, not {array.dtype} {array.shape}"
            )
    if model.corners.shape != (count, 2) or chosen.ndim != 1:
        raise ShapeError(f"corners are ({count}, 2), positions (n,), not {model.corners.shape}")
    if len(chosen) and not 0 <= chosen.min() <= chosen.max() < count:
        raise ParameterError(f"positions are numbers from 0 to {count - 1}")
    corners = model.corners[chosen]
    if (corners < 0).any() or (corners > (rows - n0, across - LANES - n1)).any():
        raise ParameterError("the windows of some positions are not within the object")
    return _Work.of(n0, n1, slices, modes)


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

    Raises
    ------
    ShapeError, ParameterError
        Arrays do not fit together, or a window leaves the object.
    """
    work = _checked(model, state, chosen)
    found = _nothing(state, len(chosen))
    rates = (np.float32(object_rate), np.float32(probe_rate), np.float32(blend))
    _run(model, state, chosen, work, found, rates, probe_rate > 0)
    return found.errors
