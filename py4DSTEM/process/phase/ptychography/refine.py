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

__all__ = ["Positions", "fit_aberrations"]

Float = NDArray[np.float64]
PROBE_PX = 0.25
"""By how much a position is moved to see how its error changes."""
LONGEST_PX = 0.5
"""A single move goes no further: the error is a parabola only nearby."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Scan positions that follow the error of their patterns.

    Parameters
    ----------
    first : Geometry
        Where they were said to be.
    longest_A : float
        How far one may go from there.
    kind : "affine" or "free"
        All together by scale, shear and rotation, or each for itself.
    begin, every : int
        First iteration that moves them, and from one to the next.
    """

    first: Geometry
    longest_A: float
    kind: Literal["affine", "free"] = "free"
    begin: int = 5
    every: int = 2

    def due(self, iteration: int) -> bool:
        """Whether positions move after this iteration."""
        return iteration >= self.begin and (iteration - self.begin) % self.every == 0

    def moved(self, wave: Wave) -> Geometry:
        """Geometry with better positions; their mean stays, which object and probe share."""
        now = wave.geometry.positions_px
        wanted = now + newton_moves(wave.model, wave.planes, wave.geometry)
        if self.kind == "affine":
            wanted = affine(self.first.positions_px, wanted, wave.errors)
        away = wanted - self.first.positions_px
        away -= away.mean(axis=0)
        steps = np.array(self.first.sampling_A)
        length = np.linalg.norm(away * steps, axis=1, keepdims=True)
        away *= np.minimum(1.0, self.longest_A / np.maximum(length, 1e-30))
        return self.first.moved(self.first.positions_px + away)


def newton_moves(model: Model, planes: State, geometry: Geometry) -> Float:
    """How far each position should move, (P, 2) px: one Newton step along x, and one along y.

    The error of each pattern is computed a quarter of a pixel to both sides; where it is no
    parabola with a minimum, the position stays.
    """
    middle = errors_at(model, planes, geometry, (0.0, 0.0))
    moves = np.zeros((len(middle), 2))
    for axis in range(2):
        shift = (PROBE_PX, 0.0) if axis == 0 else (0.0, PROBE_PX)
        after = errors_at(model, planes, geometry, shift)
        before = errors_at(model, planes, geometry, (-shift[0], -shift[1]))
        slope = (after - before) / (2 * PROBE_PX)
        bend = (after - 2 * middle + before) / PROBE_PX**2
        # A pattern with hardly any structure must not jump: its parabola is noise.
        least = 0.1 * np.median(np.maximum(bend, 0))
        safe = np.maximum(bend, max(least, 1e-30))
        moves[:, axis] = np.where(bend > 0, -slope / safe, 0.0)
    return np.clip(moves, -LONGEST_PX, LONGEST_PX)


def errors_at(
    model: Model, planes: State, geometry: Geometry, shift_px: tuple[float, float]
) -> Float:
    """Error of each pattern if its position were so far from where it is, (P,)."""
    other = geometry.shifted_ramps(shift_px)
    moved = model._replace(ramps_x=other[0], ramps_y=other[1])
    shares = np.array_split(np.arange(len(model.corners)), SHARES)
    found = in_threads(
        lambda chosen: run_positions(moved, planes, chosen, with_probe=False).errors,
        [share for share in shares if len(share)],
    )
    errors: Float = np.concatenate(found)
    return errors


def affine(first: Float, wanted: Float, errors: Float) -> Float:
    """The affine map of the first positions that comes closest to the wanted ones, (P, 2)."""
    middle = first.mean(axis=0)
    columns = np.column_stack([first - middle, np.ones(len(first))])
    weights = 1 / np.sqrt(np.maximum(errors, 1e-3 * max(float(errors.max()), 1e-30)))
    for _ in range(2):
        weighted = weights[:, None]
        found = np.linalg.lstsq(columns * weighted, wanted * weighted, rcond=None)[0]
        # Positions that went astray must not turn all the others.
        rest = np.linalg.norm(wanted - columns @ found, axis=1)
        weights = weights / (1 + (rest / (3 * np.median(rest) + 1e-12)) ** 2)
    fitted: Float = columns @ found
    return fitted


# ---- aberrations ---------------------------------------------------------------------------------
def fit_aberrations(
    probe: NDArray[np.complexfloating[Any, Any]],
    optics: Optics,
    start: Aberrations,
    names: tuple[str, ...] = ("C10", "C12", "C21", "C23", "C30"),
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
    return Aberrations.from_cartesian({**known, **values}), left


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
