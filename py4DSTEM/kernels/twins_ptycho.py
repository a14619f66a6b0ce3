"""Twins of the kernels of ptychography, in double precision."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .ptycho import Gradient, Model, State
from .ptycho_arrays import gradients, scene_of, to_planes
from .ptycho_step import Rates


def run_positions(
    model: Model, state: State, chosen: NDArray[np.int64], *, with_probe: bool = True
) -> Gradient:
    """Twin of `py4DSTEM.kernels.ptycho.run_positions`."""
    scene, object_, probe = scene_of(model, state)
    found = gradients(scene, object_, probe, chosen)
    spectra, positions = to_planes(found.probe), found.positions
    if not with_probe:
        spectra, positions = np.zeros_like(spectra), np.full_like(positions, np.nan)
    return Gradient(
        np.stack([found.object.real, found.object.imag], axis=1).astype(np.float32),
        found.intensity.astype(np.float32),
        spectra,
        found.errors,
        positions,
    )


def follow_positions(
    model: Model,
    state: State,
    chosen: NDArray[np.int64],
    *,
    object_rate: float,
    probe_rate: float,
    blend: float = 1.0,
) -> NDArray[np.float64]:
    """Twin of `py4DSTEM.kernels.ptycho.follow_positions`."""
    scene, object_, probe = scene_of(model, state)
    n0, n1 = scene.flight.shape
    errors = np.empty(len(chosen))
    for k, p in enumerate(chosen):
        found = gradients(scene, object_, probe, chosen[k : k + 1])
        row, column = model.corners[p]
        window = np.s_[:, row : row + n0, column : column + n1]
        strongest = (np.abs(object_[0][window[1:]]) ** 2).max()
        beam = found.intensity[window]
        top = beam.max(axis=(1, 2), keepdims=True)
        object_[window] += object_rate * found.object[window] / ((1 - blend) * beam + blend * top)
        probe += probe_rate * found.probe / (n0 * n1 * strongest)
        errors[k] = found.errors[0]
    state.object[:, 0], state.object[:, 1] = object_.real, object_.imag
    state.probe[:] = to_planes(probe)
    return errors


def take_step(
    state: State, moved: State, model: Model, chosen: NDArray[np.int64], rates: Rates
) -> None:
    """Twin of `py4DSTEM.kernels.ptycho_step.take_step`, of the sums of these positions."""
    found = run_positions(model, state, chosen)
    beam = found.intensity[:, None].astype(np.float64)
    top = beam.max(axis=(2, 3), keepdims=True)
    step = rates.object * found.object / ((1 - rates.blend) * beam + rates.blend * top)
    moved.object[:] = rates.kept * moved.object + step
    state.object[:] += moved.object
    if rates.probe:
        moved.probe[:] = rates.kept * moved.probe + rates.probe * found.probe
        state.probe[:] += moved.probe
