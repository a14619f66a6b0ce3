"""Steps: gradients of batches of positions, or one position after the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.kernels.ptycho import (
    Gradient,
    Model,
    Room,
    State,
    follow_positions,
    make_rooms,
    run_positions,
)
from py4DSTEM.kernels.ptycho_step import Rates, strongest, take_step
from py4DSTEM.process.phase.ptychography.geometry import Geometry
from py4DSTEM.process.phase.ptychography.pace import Pace
from py4DSTEM.stream.parallel import in_threads

__all__ = ["GradientSteps", "PositionSteps", "Wave", "batches"]

F32 = NDArray[np.float32]
SHARES = 4
"""Parts of a batch that are summed apart: as many threads may share it, with the same bits."""


@dataclass(eq=False)
class Wave:
    """What is being sought, with what the steps keep from one to the next.

    Parameters
    ----------
    planes : State
        Object and probe; changed in place.
    errors : (P,) float64
        Of each position when it was last worked on.
    model : Model
        What was measured, and where; another one when positions move.
    geometry : Geometry
        The positions that `model` has.
    momentum : tuple of arrays
        Of object and probe, where the steps have one.
    exits : (P, modes, n0, n1) complex64, optional
        Exit waves, where the steps keep them.
    here : object, optional
        The state in other arrays, where the steps work on those; it knows how to copy itself.
    pace : Pace
        How long steps are by now.
    """

    planes: State
    errors: NDArray[np.float64]
    model: Model
    geometry: Geometry
    momentum: tuple[Any, ...] = field(default_factory=tuple)
    exits: NDArray[np.complex64] | None = None
    here: Any = None
    pace: Pace = field(default_factory=Pace)

    def copy(self) -> Wave:
        """A copy that shares only what nobody changes.

        Exit waves are left out: who goes back to a state goes back to its object and probe.
        """
        planes = State(*(part.copy() for part in self.planes))
        kept = tuple(m.copy() for m in self.momentum)
        here = None if self.here is None else self.here.copy()
        errors = self.errors.copy()
        return Wave(planes, errors, self.model, self.geometry, kept, None, here, self.pace)


def batches(count: int, size: int, rng: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """All positions once, in random groups of about one size, each in the order of the scan."""
    order = rng.permutation(count)
    for part in np.array_split(order, max(1, round(count / max(1, size)))):
        yield np.sort(part).astype(np.int64)


@dataclass(frozen=True, eq=False)
class GradientSteps:
    """Steepest descent of the error over batches, with momentum.

    Parameters
    ----------
    object_step, probe_step : float
        Share of the step that the curvature suggests.
    batch : int
        Positions of a step.
    momentum : float
        Share of the last step that is taken again; 0 ≤ momentum < 1.
    blend : float
        The curvature of the object is ``(1 − blend) I + blend max I`` with the intensity I of the
        beam there: small values reach dimly lit places sooner, and their noise.
    probe_from : int
        First iteration that changes the probe.
    seed : int
    """

    object_step: float = 0.5
    probe_step: float = 0.5
    batch: int = 64
    momentum: float = 0.5
    blend: float = 0.1
    probe_from: int = 1
    seed: int = 0

    def update(self, wave: Wave, iteration: int) -> tuple[Wave, float]:
        """One pass over all positions; the error is that which each met on its way."""
        rng = np.random.default_rng([self.seed, iteration])
        with_probe = iteration >= self.probe_from and self.probe_step > 0
        if not wave.momentum:
            wave.momentum = tuple(np.zeros_like(part) for part in wave.planes)
        order = list(batches(len(wave.errors), self.batch, rng))
        most = -(-max(map(len, order)) // SHARES)
        sums, rooms = make_rooms(wave.model, wave.planes, most, SHARES)
        for chosen in order:
            wave.errors[chosen] = gradient(wave.planes, chosen, with_probe, rooms)
            rates = self._rates(wave, len(chosen), with_probe)
            take_step(wave.planes, State(*wave.momentum), sums, rates)
        return wave, float(wave.errors.sum())

    def _rates(self, wave: Wave, count: int, with_probe: bool) -> Rates:
        """The curvature of the probe is the strongest transmission, once for every position."""
        probe_rate, share = 0.0, wave.pace.share
        if with_probe:
            pixels = wave.model.rows.length * wave.model.columns.length
            probe_rate = share * self.probe_step / (pixels * count * strongest(wave.planes))
        return Rates(share * self.object_step, probe_rate, self.blend, self.momentum)

    def kept(self, wave: Wave) -> Wave:
        """A copy of a state."""
        return wave.copy()


def gradient(
    planes: State, chosen: NDArray[np.int64], with_probe: bool, rooms: list[Room]
) -> NDArray[np.float64]:
    """The gradient of a batch, by several threads, added to their rooms; the errors.

    The shares, and so the bits, are the same for any number of threads.
    """

    def share(part: tuple[NDArray[np.int64], Room]) -> Gradient:
        return run_positions(part[1].model, planes, part[0], with_probe=with_probe, room=part[1])

    shares = [part for part in np.array_split(chosen, len(rooms)) if len(part)]
    parts = in_threads(share, list(zip(shares, rooms, strict=False)))
    return np.concatenate([part.errors for part in parts])


@dataclass(frozen=True, eq=False)
class PositionSteps:
    """ePIE and rPIE: a step after every position, in random order.

    Parameters
    ----------
    object_step, probe_step : float
    blend : float
        1: ePIE; less: rPIE.
    probe_from, seed : int
    """

    object_step: float = 0.9
    probe_step: float = 0.5
    blend: float = 1.0
    probe_from: int = 1
    seed: int = 0

    def update(self, wave: Wave, iteration: int) -> tuple[Wave, float]:
        """One pass over all positions; the error is that which each met on its way."""
        rng = np.random.default_rng([self.seed, iteration])
        order = rng.permutation(len(wave.errors)).astype(np.int64)
        probe_step = self.probe_step if iteration >= self.probe_from else 0.0
        wave.errors[order] = follow_positions(
            wave.model,
            wave.planes,
            order,
            object_rate=wave.pace.share * self.object_step,
            probe_rate=wave.pace.share * probe_step,
            blend=self.blend,
        )
        return wave, float(wave.errors.sum())

    def kept(self, wave: Wave) -> Wave:
        """A copy of a state."""
        return wave.copy()
