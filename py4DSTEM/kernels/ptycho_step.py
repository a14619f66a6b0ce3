"""Ptychography: the step that the gradients of a batch ask for, in one pass over the object.

Threads that share a batch have sums of their own, each of the rows that its positions touch.  They
are added up, followed and cleared while they are in the cache.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ShapeError
from ._jit import njit
from ._simd import LANES, LINE, address, larger, largest, load, spread, store
from .fft import INNER
from .ptycho import Shares, State

__all__ = ["Rates", "strongest", "take_step"]

F32 = NDArray[np.float32]
FLOAT = 4  # bytes


class Rates(NamedTuple):
    """How far a step goes.

    Parameters
    ----------
    object : float
        Share of what the curvature suggests.
    probe : float
        Factor of the summed gradient; 0 keeps the probe.
    blend : float
        The curvature of the object is ``(1 − blend) I + blend max I``, I the summed intensity.
    kept : float
        Share of the last step that is taken again.
    """

    object: float
    probe: float
    blend: float
    kept: float


@njit(nogil=True, cache=True, error_model="numpy")
def _strongest(plane):
    n = plane.shape[1]
    whole = n - n % LANES
    re, im = address(plane), address(plane) + FLOAT * n
    tops = spread(np.float32(0))
    for at in range(0, FLOAT * whole, LINE):
        tops = larger(tops, load(re + at) * load(re + at) + load(im + at) * load(im + at))
    top = largest(tops)
    for i in range(whole, n):
        top = max(top, plane[0, i] * plane[0, i] + plane[1, i] * plane[1, i])
    return top


def strongest(state: State) -> float:
    """Largest ``|O|²`` of the first slice."""
    return float(_strongest(state.object[0].reshape(2, -1)))


@njit(**INNER)
def _add(to, source, size):
    """Add `size` float32 to others, and clear them."""
    zero, whole = spread(np.float32(0)), size - size % LANES
    for at in range(0, FLOAT * whole, LINE):
        store(to + at, load(to + at) + load(source + at))
        store(source + at, zero)
    return whole


@njit(**INNER)
def _merge(whole, part, first, last):
    """Rows from first to last of a plane: the part is added to the whole, and cleared."""
    width = whole.shape[1]
    begin, end = first * width, last * width
    there, here = whole.reshape(whole.size), part.reshape(part.size)
    if end > begin:
        at = FLOAT * begin
        done = begin + _add(address(there) + at, address(here) + at, end - begin)
        for i in range(done, end):
            there[i] += here[i]
            here[i] = 0


@njit(nogil=True, cache=True, error_model="numpy")
def _gathered(sums):
    """All shares in the first, the others cleared; rows that are not zero."""
    object_, beam, probe, bands = sums
    top, end = bands[0, 0], bands[0, 1]
    for k in range(1, len(object_)):
        first, last = bands[k]
        if first == last:
            continue
        for s in range(object_.shape[1]):
            _merge(object_[0, s, 0], object_[k, s, 0], first, last)
            _merge(object_[0, s, 1], object_[k, s, 1], first, last)
            _merge(beam[0, s], beam[k, s], first, last)
        for m in range(probe.shape[1]):
            _merge(probe[0, m], probe[k, m], 0, 2)
        top, end = (first, last) if top == end else (min(top, first), max(end, last))
    bands[:] = 0
    return top, end


@njit(**INNER)
def _brightest(beam, first, last):
    """Largest of some rows."""
    flat = beam.reshape(beam.size)
    begin, end = first * beam.shape[1], last * beam.shape[1]
    whole = end - (end - begin) % LANES
    tops = spread(np.float32(0))
    for at in range(address(flat) + FLOAT * begin, address(flat) + FLOAT * whole, LINE):
        tops = larger(tops, load(at))
    top = largest(tops)
    for i in range(whole, end):
        top = max(top, flat[i])
    return top


@njit(**INNER)
def _follow(object_, moved, sums, beam, rates, top):
    """``moved = kept · moved + rate · sum / curvature`` and ``O += moved``; clears the sums.

    All are (2, n) but the intensity, (n,).
    """
    n = beam.size
    whole = n - n % LANES
    rate, kept, share, most = rates
    zero, rate_, kept_ = spread(np.float32(0)), spread(rate), spread(kept)
    share_, most_ = spread(share), spread(most * top)
    there, last, sum_, light = address(object_), address(moved), address(sums), address(beam)
    imaginary = FLOAT * n
    for at in range(0, FLOAT * whole, LINE):
        step = rate_ / (share_ * load(light + at) + most_)
        store(light + at, zero)
        for part in range(0, 2 * imaginary, imaginary):
            i = at + part
            move = kept_ * load(last + i) + step * load(sum_ + i)
            store(last + i, move)
            store(sum_ + i, zero)
            store(there + i, load(there + i) + move)
    for i in range(whole, n):
        step = rate / (share * beam[i] + most * top)
        beam[i] = 0
        for part in range(2):
            moved[part, i] = kept * moved[part, i] + step * sums[part, i]
            sums[part, i] = 0
            object_[part, i] += moved[part, i]


@njit(nogil=True, cache=True, error_model="numpy")
def _take(state, moved, sums, object_rates, probe_rates):
    top, end = _gathered(sums)
    slices, _, rows, width = state.object.shape
    size = rows * width
    for s in range(slices):
        beam = sums.intensity[0, s]
        most = _brightest(beam, top, end) + np.float32(1e-30)
        _follow(
            state.object[s].reshape(2, size), moved.object[s].reshape(2, size),
            sums.object[0, s].reshape(2, size), beam.reshape(size), object_rates, most,
        )  # fmt: skip
    rate, kept = probe_rates
    probe, change, last = state.probe, sums.probe[0], moved.probe
    if rate > 0:
        for m in range(len(probe)):
            for part in range(2):
                for i in range(probe.shape[2]):
                    move = kept * last[m, part, i] + rate * change[m, part, i]
                    last[m, part, i] = move
                    probe[m, part, i] += move
    change[:] = 0


def take_step(state: State, moved: State, sums: Shares, rates: Rates) -> None:
    """Follow what the shares of a batch have found, in place, and clear it.

    Parameters
    ----------
    state : State
        Object and probe; changed.
    moved : State
        The last step of both, of the same shapes; becomes this one.
    sums : Shares
        As `ptycho.run_positions` filled them; zero afterwards.
    rates : Rates

    Raises
    ------
    ShapeError
        Arrays do not fit together.
    """
    for there, last, sum_ in zip(state, moved, (sums.object[0], sums.probe[0]), strict=True):
        if not there.shape == last.shape == sum_.shape:
            raise ShapeError(f"a step of {last.shape} by {sum_.shape} does not fit {there.shape}")
    single = np.float32
    _take(
        state, moved, sums,
        (single(rates.object), single(rates.kept), single(1 - rates.blend), single(rates.blend)),
        (single(rates.probe), single(rates.kept)),
    )  # fmt: skip
