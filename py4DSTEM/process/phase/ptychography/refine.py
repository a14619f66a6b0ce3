"""What is refined besides object and probe: scan positions, and the aberrations of the probe."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import Aberrations, all_parts, basis
from py4DSTEM.errors import ParameterError
from py4DSTEM.kernels.ptycho import Model, State, run_positions
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.process.phase.ptychography.engines import SHARES, Wave
from py4DSTEM.process.phase.ptychography.geometry import Geometry
from py4DSTEM.stream.parallel import in_threads

__all__ = ["Positions", "fit_aberrations", "with_smooth_phase"]

Float = NDArray[np.float64]
PROBE_PX = 0.125
"""By how much a position is moved to see how its gradient changes."""
_ORDERS = ("C10", "C12", "C21", "C23", "C30")
FOR_ALL = 400
"""Positions that tell of all, where these move together: four numbers are sought."""
LONGEST_PX = 0.5
"""A single move goes no further: the error is a parabola only nearby."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Scan positions that follow what is minimised, as far as noise lets them.

    Parameters
    ----------
    first : Geometry
        Where they were said to be.
    longest_A : float
        How far one may go from there.
    expected : float
        Error of all patterns that counting noise alone gives.
    kind : "affine" or "free"
        All together by scale, shear and rotation, or each for itself.
    begin, every : int
        First iteration that moves them, and from one to the next.
    """

    first: Geometry
    longest_A: float
    expected: float
    kind: Literal["affine", "free"] = "free"
    begin: int = 5
    every: int = 2

    def due(self, iteration: int) -> bool:
        """Whether positions move after this iteration."""
        return iteration >= self.begin and (iteration - self.begin) % self.every == 0

    def moved(self, wave: Wave) -> Geometry:
        """Geometry with better positions; their mean stays, which object and probe share."""
        chosen = np.arange(len(self.first.positions_px))
        if self.kind == "affine" and len(chosen) > FOR_ALL:
            chosen = np.sort(np.random.default_rng(0).permutation(len(chosen))[:FOR_ALL])
        moves, bends = newton_moves(wave.model, wave.planes, wave.geometry, chosen)
        away = wave.geometry.positions_px[chosen] + moves - self.first.positions_px[chosen]
        away -= away.mean(axis=0)
        # What is minimised is half the logarithm of a likelihood if counts are electrons; what the
        # errors exceed or miss of those of electrons tells how far they are not.
        information = 2 * bends * self.expected / max(float(wave.errors.sum()), 1e-30)
        if self.kind == "affine":
            wanted: Float = affine(self.first.positions_px, chosen, away, information)
        else:
            wanted = shrunk(away, information)
        length = np.linalg.norm(wanted * np.array(self.first.sampling_A), axis=1, keepdims=True)
        share = np.minimum(1.0, self.longest_A / np.maximum(length, 1e-30))
        return self.first.moved(self.first.positions_px + share * wanted)


def newton_moves(
    model: Model, planes: State, geometry: Geometry, chosen: NDArray[np.int64]
) -> tuple[Float, Float]:
    """How far chosen positions should move, (n, 2) px, and second derivatives (n, 2, 2).

    A Newton step of what is minimised, with second derivatives from gradients an eighth of a pixel
    away; where they are those of no minimum, or where a pattern has hardly any structure, the step
    is short and downhill.
    """
    middle = slopes_at(model, planes, geometry, chosen, (0.0, 0.0))
    bends = np.empty((len(middle), 2, 2))
    bends[:, 0] = slopes_at(model, planes, geometry, chosen, (PROBE_PX, 0.0)) - middle
    bends[:, 1] = slopes_at(model, planes, geometry, chosen, (0.0, PROBE_PX)) - middle
    bends = (bends + bends.swapaxes(1, 2)) / (2 * PROBE_PX)
    values, axes = np.linalg.eigh(bends)
    values = np.maximum(np.abs(values), 0.2 * np.median(np.abs(values)) + 1e-30)
    moves = -np.einsum("pij,pj,pkj,pk->pi", axes, 1 / values, axes, middle)
    length = np.linalg.norm(moves, axis=1, keepdims=True)
    moves *= np.minimum(1.0, LONGEST_PX / np.maximum(length, 1e-30))
    return moves, np.einsum("pij,pj,pkj->pik", axes, values, axes)


def shrunk(away: Float, information: Float) -> Float:
    """Moves less what is noise in them: their most likely values if all come from one Gaussian.

    The variance of that Gaussian is what the moves have more than their noise would give.
    """
    noise = np.linalg.inv(information).trace(axis1=1, axis2=2) / 2
    spread = float((away**2).mean() - np.median(noise))
    narrow = np.eye(2) / max(spread, 1e-3 * float((away**2).mean()), 1e-12)
    likely = np.linalg.solve(information + narrow, information @ away[..., None])[..., 0]
    return np.asarray(likely - likely.mean(axis=0), np.float64)


def slopes_at(
    model: Model,
    planes: State,
    geometry: Geometry,
    chosen: NDArray[np.int64],
    shift_px: tuple[float, float],
) -> Float:
    """Derivatives of what is minimised if positions were so far from where they are, (n, 2)."""
    ramps_x, ramps_y = geometry.shifted_ramps(shift_px)
    moved = model._replace(ramps_x=ramps_x, ramps_y=ramps_y)
    shares = np.array_split(chosen, SHARES)
    found = in_threads(
        lambda part: run_positions(moved, planes, part).positions,
        [share for share in shares if len(share)],
    )
    slopes: Float = np.concatenate(found)
    return slopes


def affine(first: Float, chosen: NDArray[np.int64], away: Float, information: Float) -> Float:
    """The scale, shear and rotation of all first positions, (P, 2), that explain moves of some."""
    at = first - first[chosen].mean(axis=0)
    table = np.zeros((len(at), 2, 4))
    table[:, 0, :2], table[:, 1, 2:] = at, at
    some = table[chosen]
    matrix = np.einsum("pia,pij,pjb->ab", some, information, some)
    vector = np.einsum("pia,pij,pj->a", some, information, away)
    fitted: Float = table @ np.linalg.lstsq(matrix, vector, rcond=None)[0]
    return np.asarray(fitted - fitted.mean(axis=0), np.float64)


# ---- aberrations ---------------------------------------------------------------------------------
def fit_aberrations(
    probe: NDArray[np.complexfloating[Any, Any]],
    optics: Optics,
    start: Aberrations,
    names: tuple[str, ...] = _ORDERS,
) -> tuple[Aberrations, float]:
    """The aberrations of a probe, from the phase of its strongest mode in the aperture.

    Parameters
    ----------
    probe : (n0, n1) complex
        In real space, centred on pixel (n0 // 2, n1 // 2).
    optics : Optics
    start : Aberrations
        Near enough that phases differ by less than half a turn from pixel to pixel.
    names : tuple of str
        Coefficients that are fitted; others of `start` stay.

    Returns
    -------
    Aberrations, float
        And the rms phase (rad) that they leave, weighted by intensity.

    Notes
    -----
    The phase left over is fitted through its differences between neighbouring pixels first, which
    wrap late, then by itself; a constant and a tilt (a shift of the probe) are free.
    """
    if probe.shape != optics.Q_shape:
        raise ParameterError(f"the probe is {optics.Q_shape}, not {probe.shape}")
    spectrum = np.fft.fft2(np.fft.ifftshift(probe))
    values, known, _, left = _explained(spectrum, optics, start, names)
    return Aberrations.from_cartesian({**known, **values}), left


def with_smooth_phase(
    probe: NDArray[np.complex64], optics: Optics, share: float
) -> NDArray[np.complex64]:
    """A probe whose phase in the aperture is (a share of the way to) that of aberrations.

    Parameters
    ----------
    probe : (n0, n1) complex64
        In real space, centred on pixel (n0 // 2, n1 // 2).
    optics : Optics
    share : float
        1: C10, C12, C21, C23, C30, a constant and a shift are all that is left of the phase.
    """
    spectrum = np.fft.fft2(np.fft.ifftshift(probe))
    # The phases of a probe that fits into its window differ by less than half a turn from pixel to
    # pixel, so that they are followed from no aberrations at all.
    *_, rest, _ = _explained(spectrum, optics, Aberrations({}), _ORDERS)
    spectrum = spectrum * np.exp(-1j * share * rest)
    smooth: NDArray[np.complex64] = np.fft.fftshift(np.fft.ifft2(spectrum)).astype(np.complex64)
    return smooth


def _explained(
    spectrum: NDArray[np.complex128], optics: Optics, start: Aberrations, names: tuple[str, ...]
) -> tuple[dict[Any, float], dict[Any, float], Float, float]:
    """Fitted parts, others, what is left of the phase in the aperture (0 beside it), its rms."""
    kx, ky = optics.k()
    x, y = np.broadcast_arrays(optics.wavelength_A * kx, optics.wavelength_A * ky)
    inside = np.hypot(x, y) < 0.97e-3 * optics.semiangle_mrad
    parts = all_parts(names)
    waves = -2 * np.pi / optics.wavelength_A
    columns = [waves * basis(name, part, x, y) for name, part in parts]
    columns += [np.ones_like(x), x / x.max(), y / y.max()]
    table = np.stack(columns, axis=-1)
    known = {key: value for key, value in start.cartesian.items() if key not in parts}
    found = np.array([start.cartesian.get(part, 0.0) for part in parts] + [0.0] * 3)
    fixed = Aberrations.from_cartesian(known).chi(x, y) * waves
    for between in (True, True, False, False):
        rest = spectrum * np.exp(-1j * (fixed + table @ found))
        change, left = _fitted(rest, table, inside, between=between)
        found = found + change
    values = dict(zip(parts, found[:-3], strict=True))
    rest = spectrum * np.exp(-1j * (fixed + table @ found))
    return values, known, np.where(inside, np.angle(rest), 0.0), left


def _fitted(
    rest: NDArray[np.complex128], table: Float, inside: NDArray[np.bool_], *, between: bool
) -> tuple[Float, float]:
    """Least squares of a phase, or of its differences between neighbours; what it leaves, rms."""
    rows, seen, weights = [], [], []
    if between:
        for axis in (0, 1):
            pair = inside & np.roll(inside, -1, axis)
            product = np.roll(rest, -1, axis) * rest.conj()
            rows.append((np.roll(table, -1, axis) - table)[pair])
            seen.append(np.angle(product[pair]))
            weights.append(np.sqrt(np.abs(product[pair])))
    else:
        middle = np.exp(-1j * np.angle(rest[inside].sum()))
        rows.append(table[inside])
        seen.append(np.angle(rest[inside] * middle) - np.angle(middle))
        weights.append(np.abs(rest[inside]))
    columns, phases, weight = (np.concatenate(v) for v in (rows, seen, weights))
    scale = np.abs(columns).max(axis=0)
    scale[scale == 0] = 1.0
    change, *_ = np.linalg.lstsq(columns / scale * weight[:, None], phases * weight, rcond=None)
    change = change / scale
    left = phases - columns @ change
    return change, float(np.sqrt((weight**2 * left**2).sum() / (weight**2).sum()))


def with_positions(wave: Wave, geometry: Geometry) -> Wave:
    """The same state with other positions, in its model too."""
    ramps_x, ramps_y = geometry.ramps()
    model = wave.model._replace(corners=geometry.corners, ramps_x=ramps_x, ramps_y=ramps_y)
    return replace(wave, model=model, geometry=geometry)
