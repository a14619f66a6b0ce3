"""The gradient method in plain arrays: in double precision, and on cards."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.errors import MemoryBudgetError
from py4DSTEM.process.phase.ptychography.arrays import (
    Scene,
    gradients,
    scene_of,
    to_host,
    to_planes,
)
from py4DSTEM.process.phase.ptychography.engines import Wave, batches

__all__ = ["ArraySteps", "OnDevice"]

AT_ONCE_BYTES = 2**28
"""Waves that are worked on together take about so much."""


@dataclass(eq=False)
class OnDevice:
    """A state where it is worked on.

    Parameters
    ----------
    scene : Scene
        Of the model of the `Wave` that this belongs to.
    object, probe : (slices, rows, columns), (modes, n0, n1) complex
        With all columns of `State`; the probe as spectra.
    momentum : pair of the same, or None
    """

    scene: Scene
    object: Any
    probe: Any
    momentum: tuple[Any, Any] | None = None

    def copy(self) -> OnDevice:
        """A copy that shares the scene only."""
        carried = None
        if self.momentum is not None:
            carried = (self.momentum[0].copy(), self.momentum[1].copy())
        return OnDevice(self.scene, self.object.copy(), self.probe.copy(), carried)


@dataclass(frozen=True, eq=False)
class ArraySteps:
    """`GradientSteps` with the arrays of a library, in a precision.

    Parameters
    ----------
    xp : module
        numpy or cupy.
    dtype : complex64 or complex128
    object_step, probe_step, batch, momentum, blend, probe_from, seed
        As of `GradientSteps`.
    reread : bool
        Others change the planes between steps: constraints do.
    """

    xp: Any
    dtype: Any
    object_step: float = 0.5
    probe_step: float = 0.5
    batch: int = 64
    momentum: float = 0.5
    blend: float = 1.0
    probe_from: int = 1
    seed: int = 0
    reread: bool = False

    def update(self, wave: Wave, iteration: int) -> tuple[Wave, float]:
        """One pass over all positions; the error is that which each met on its way."""
        rng = np.random.default_rng([self.seed, iteration])
        with_probe = iteration >= self.probe_from and self.probe_step > 0
        here = self._here(wave)
        for chosen in batches(len(wave.errors), self.batch, rng):
            wave.errors[chosen] = self._step(here, chosen, with_probe, wave.pace.share)
        object_ = to_host(here.object)
        wave.planes.object[:, 0], wave.planes.object[:, 1] = object_.real, object_.imag
        wave.planes.probe[:] = to_planes(to_host(here.probe))
        return replace(wave, here=here), float(wave.errors.sum())

    def kept(self, wave: Wave) -> Wave:
        """A copy of a state."""
        return wave.copy()

    def _here(self, wave: Wave) -> OnDevice:
        """The state in arrays, as far as it has to be brought there."""
        here: OnDevice | None = wave.here
        if here is None:
            self._fits(wave)
            return OnDevice(*scene_of(wave.model, wave.planes, xp=self.xp, dtype=self.dtype))
        if self.reread:
            bare = wave.model._replace(amplitudes=wave.model.amplitudes[:0])
            scene, object_, probe = scene_of(bare, wave.planes, xp=self.xp, dtype=self.dtype)
            scene = scene._replace(amplitudes=here.scene.amplitudes)
            return OnDevice(scene, object_, probe, here.momentum)
        return here

    def _fits(self, wave: Wave) -> None:
        """Patterns and a batch of waves fit onto the card."""
        if self.xp is np:
            return
        free = int(self.xp.cuda.runtime.memGetInfo()[0])
        needed = wave.model.amplitudes.size * np.dtype(self.dtype).itemsize // 2 + 2 * AT_ONCE_BYTES
        if needed > free:
            raise MemoryBudgetError(
                f"the patterns take {needed / 1e9:.2f} GB on the card and {free / 1e9:.2f} GB are "
                'free: bin or crop them, use precision="single", or device="cpu"'
            )

    def _step(
        self, here: OnDevice, chosen: NDArray[np.int64], with_probe: bool, share: float
    ) -> Any:
        """A share of one step of a batch; its errors."""
        found = self._gradients(here, chosen)
        beam = found[1]
        top = beam.max(axis=(1, 2), keepdims=True) + 1e-30
        step = found[0] * (share * self.object_step / ((1 - self.blend) * beam + self.blend * top))
        strongest = float((self.xp.abs(here.object[0]) ** 2).max())
        pixels = here.probe.shape[1] * here.probe.shape[2]
        move = found[2] * (
            share * self.probe_step * with_probe / (pixels * len(chosen) * strongest)
        )
        if self.momentum:
            if here.momentum is not None:
                step = step + self.momentum * here.momentum[0]
                move = move + self.momentum * here.momentum[1] * with_probe
            here.momentum = (step, move)
        here.object = here.object + step
        here.probe = here.probe + move
        return to_host(found[3])

    def _gradients(self, here: OnDevice, chosen: NDArray[np.int64]) -> tuple[Any, ...]:
        """Sums over a batch: of the object, the beam, and the probe; and errors."""
        slices, modes = len(here.object), len(here.probe)
        each = (slices + 3) * modes * here.probe[0].size * np.dtype(self.dtype).itemsize
        count = -(-len(chosen) * each // AT_ONCE_BYTES)
        parts = [
            gradients(here.scene, here.object, here.probe, self.xp.asarray(some))
            for some in np.array_split(chosen, max(1, count))
        ]
        first = parts[0]
        sums = [sum((p[k] for p in parts[1:]), first[k]) for k in range(3)]
        return (*sums, self.xp.concatenate([p.errors for p in parts]))
