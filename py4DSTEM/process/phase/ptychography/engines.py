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
    make_room,
    run_positions,
)
from py4DSTEM.process.phase.ptychography.geometry import Geometry
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
    """

    planes: State
    errors: NDArray[np.float64]
    model: Model
    geometry: Geometry
    momentum: tuple[Any, ...] = field(default_factory=tuple)
    exits: NDArray[np.complex64] | None = None
    here: Any = None

    def copy(self) -> Wave:
        """A copy that shares only what nobody changes.

        Exit waves are left out: who goes back to a state goes back to its object and probe.
        """
        planes = State(*(part.copy() for part in self.planes))
        kept = tuple(m.copy() for m in self.momentum)
        here = None if self.here is None else self.here.copy()
        return Wave(planes, self.errors.copy(), self.model, self.geometry, kept, None, here)


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
        if self.momentum and not wave.momentum:
            wave.momentum = tuple(np.zeros_like(part) for part in wave.planes)
        order = list(batches(len(wave.errors), self.batch, rng))
        most = -(-max(map(len, order)) // SHARES)
        rooms = [make_room(wave.model, wave.planes, most) for _ in range(SHARES)]
        for chosen in order:
            found = gradient(wave.planes, chosen, with_probe, rooms)
            wave.errors[chosen] = found.errors
            self._step(wave, found, len(chosen), with_probe)
        return wave, float(wave.errors.sum())

    def _step(self, wave: Wave, found: Gradient, count: int, with_probe: bool) -> None:
        object_, probe = wave.planes
        beam = found.intensity[:, None]
        top = beam.max(axis=(2, 3), keepdims=True) + np.float32(1e-30)
        step = found.object
        step *= np.float32(self.object_step) / (
            (1 - np.float32(self.blend)) * beam + np.float32(self.blend) * top
        )
        strongest = float((object_[0, 0] ** 2 + object_[0, 1] ** 2).max())
        pixels = wave.model.rows.length * wave.model.columns.length
        move = found.probe * np.float32(self.probe_step / (pixels * count * strongest))
        if wave.momentum:
            step, move = self._carried(wave, step, move, with_probe)
        object_ += step
        if with_probe:
            probe += move

    def _carried(self, wave: Wave, step: F32, move: F32, with_probe: bool) -> tuple[F32, F32]:
        kept = np.float32(self.momentum)
        object_, probe = wave.momentum
        object_ *= kept
        object_ += step
        if with_probe:
            probe *= kept
            probe += move
        return object_, probe

    def kept(self, wave: Wave) -> Wave:
        """A copy of a state."""
        return wave.copy()


def gradient(
    planes: State, chosen: NDArray[np.int64], with_probe: bool, rooms: list[Room]
) -> Gradient:
    """The gradient of a batch, by several threads; the same bits for any number of them.

    It lies in the first of the rooms, until the next call.
    """

    def share(part: tuple[NDArray[np.int64], Room]) -> Gradient:
        return run_positions(part[1].model, planes, part[0], with_probe=with_probe, room=part[1])

    shares = [part for part in np.array_split(chosen, len(rooms)) if len(part)]
    parts = in_threads(share, list(zip(shares, rooms, strict=False)))
    first = parts[0]
    for other in parts[1:]:
        for sum_, more in zip(first[:3], other[:3], strict=True):
            sum_ += more
    return first._replace(errors=np.concatenate([part.errors for part in parts]))


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
            object_rate=self.object_step,
            probe_rate=probe_step,
            blend=self.blend,
        )
        return wave, float(wave.errors.sum())

    def kept(self, wave: Wave) -> Wave:
        """A copy of a state."""
        return wave.copy()
