"""What all simulations share: the pair of scan and truth, counting statistics, coordinates."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.calibration import rotation_matrix as rotation
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.units import electron_wavelength_A

__all__ = [
    "Seed",
    "SimulatedPattern",
    "SimulatedScan",
    "as_cube",
    "counted",
    "detector_px",
    "optics",
    "origin_wander",
    "positive",
    "rotation",
    "shape_2d",
    "to_float32",
]

Float = NDArray[np.float64]
Seed = int | np.random.Generator
T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class SimulatedScan(Generic[T]):
    """A scan and the truth behind it.

    Parameters
    ----------
    cube : DataCube
        Knows what an experimenter knows: pixel sizes, beam energy, convergence angle.
    truth
        Everything else, named and with units; ``truth.calibration`` is complete.
    """

    cube: Cube
    truth: T


@dataclass(frozen=True, eq=False)
class SimulatedPattern(Generic[T]):
    """A single pattern and the truth behind it.

    Parameters
    ----------
    pattern : DiffractionSlice
        Knows no more than an experimenter does.
    truth
        Everything else, named and with units; ``truth.calibration`` is complete.
    """

    pattern: DiffractionSlice
    truth: T


def positive(**values: float) -> None:
    """Refuse what is not a positive, finite number; the keywords name the parameters."""
    for name, value in values.items():
        if not (math.isfinite(value) and value > 0):
            raise ParameterError(f"{name} must be a positive number, not {value!r}")


def shape_2d(name: str, shape: tuple[int, int], smallest: int = 1) -> tuple[int, int]:
    """Check a (rows, columns) shape and return it as plain integers."""
    if len(shape) != 2 or any(int(n) != n or n < smallest for n in shape):
        raise ParameterError(f"{name} must be two whole numbers >= {smallest}, not {shape!r}")
    return int(shape[0]), int(shape[1])


def optics(
    *,
    step_A: float,
    Q_pixel_size_A: float,
    energy_eV: float,
    probe_radius_px: float | None = None,
) -> Calibration:
    """Calibration with square pixels; the convergence angle follows from the disk radius."""
    positive(step_A=step_A, Q_pixel_size_A=Q_pixel_size_A, energy_eV=energy_eV)
    semiangle = None
    if probe_radius_px is not None:
        positive(probe_radius_px=probe_radius_px)
        semiangle = 1e3 * probe_radius_px * Q_pixel_size_A * electron_wavelength_A(energy_eV)
    return Calibration(
        R=(Axis("Rx", step_A, unit="A"), Axis("Ry", step_A, unit="A")),
        Q=(Axis("Qx", Q_pixel_size_A, unit="A^-1"), Axis("Qy", Q_pixel_size_A, unit="A^-1")),
        energy_eV=energy_eV,
        semiangle_mrad=semiangle,
        probe_radius_px=probe_radius_px,
    )


def detector_px(vectors: Float, calibration: Calibration) -> Float:
    """Detector pixels, relative to the origin, of vectors ``(..., 2)`` in calibrated axes.

    The steps of the calibration undone in reverse: rotate by −rotation_rad, exchange x and y where
    flipped, divide by the pixel size, distort by the ellipse.
    """
    q = vectors @ rotation(calibration.rotation_rad or 0.0)  # row vectors: the inverse rotation
    if calibration.flip:
        q = q[..., ::-1]
    q = q / (calibration.Q[0].step, calibration.Q[1].step)
    if calibration.ellipse is None:
        return q
    return q @ np.linalg.inv(calibration.ellipse.correction()).T


def origin_wander(
    scan_shape: tuple[int, int],
    Q_shape: tuple[int, int],
    wander_px: float,
    rng: np.random.Generator,
) -> Float:
    """Origin per position (Rx, Ry, 2): a plane and a bow of ±`wander_px`, and a tenth of it jitter.

    Imperfect descan moves the pattern linearly with the beam, and lens errors bend that plane.
    """
    if not (math.isfinite(wander_px) and wander_px >= 0):
        raise ParameterError(f"wander_px must not be negative, not {wander_px!r}")
    u, v = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in scan_shape)
    x = 0.6 * u[:, None] - 0.3 * v[None, :] + 0.1 * u[:, None] ** 2
    y = 0.2 * u[:, None] + 0.7 * v[None, :] - 0.1 * v[None, :] ** 2
    jitter = 0.1 * rng.standard_normal((*scan_shape, 2))
    center = (Q_shape[0] / 2 + 0.3, Q_shape[1] / 2 - 0.4)  # never exactly on a pixel
    return np.array(center) + wander_px * (np.stack([x, y], axis=-1) + jitter)


def counted(
    mean: Float, dose: float | None, rng: np.random.Generator
) -> NDArray[np.uint16] | NDArray[np.float32]:
    """Poisson counts of `mean` electrons, or the mean itself where `dose` is None."""
    if dose is None:
        return to_float32(mean)
    return np.minimum(rng.poisson(mean), 65535).astype(np.uint16)


def to_float32(values: NDArray[Any]) -> NDArray[np.float32]:
    """Noise-free intensities, in single precision."""
    return values.astype(np.float32)


def as_cube(
    data: NDArray[Any], truth: Calibration, kind: str, parameters: Mapping[str, Any]
) -> Cube:
    """The scan as an experimenter would have it: origin, ellipse and rotation still unknown."""
    # The public class has every verb; it is found by its public name, as a user would.
    from py4DSTEM import DataCube

    known = replace(
        truth, origin_px=None, ellipse=None, rotation_rad=None, flip=None, probe_radius_px=None
    )
    history = History().then(f"simulate-{kind}", _plain(parameters))
    metadata = Metadata(
        title=f"simulated {kind.replace('-', ' ')}",
        energy_eV=truth.energy_eV,
        semiangle_mrad=truth.semiangle_mrad,
        notes=("simulated data",),
    )
    return DataCube(data, known, kind.replace("-", " "), history, metadata)


def _plain(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Only what JSON can hold; a generator as seed, for one, cannot be written down."""
    plain = (int, float, str, bool, tuple, dict, type(None))
    return {name: value for name, value in parameters.items() if isinstance(value, plain)}
