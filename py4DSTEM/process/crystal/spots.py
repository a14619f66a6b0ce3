"""What a simulated diffraction pattern is: spots with places and intensities."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.units import electron_wavelength_A

__all__ = ["SpotPattern", "disks_of", "made_by"]

Float = NDArray[np.float64]
_MOST_SCATTERED = 0.2


@dataclass(frozen=True, eq=False, repr=False)
class SpotPattern:
    """Spots of a crystal in one orientation, the direct beam first, then by falling intensity.

    Parameters
    ----------
    hkl : (n, 3) int64
    q_A : (n, 2) float64
        Places along the sample axes x and y, from the direct beam, Å⁻¹ (no 2π).
    s_A : (n,) float64
        Excitation errors in Å⁻¹, positive inside the Ewald sphere; with precession that of the
        middle of the cone.
    intensity : (n,) float64
        In units of the incident beam.
    orientation : (3, 3) float64
        Columns are the sample axes in the crystal.
    crystal : Crystal
    energy_eV : float
    theory : str
        "kinematic" or "bloch": what the intensities were computed with.
    """

    hkl: NDArray[np.int64]
    q_A: Float
    s_A: Float
    intensity: Float
    orientation: Float
    crystal: Crystal
    energy_eV: float
    theory: str = "kinematic"
    history: History = field(default_factory=History)
    name: str = "pattern"

    def __post_init__(self) -> None:
        count = len(self.hkl)
        shapes = {"hkl": (count, 3), "q_A": (count, 2), "s_A": (count,), "intensity": (count,)}
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ShapeError(f"{name} is {shape}, not {getattr(self, name).shape}")

    def __len__(self) -> int:
        return len(self.hkl)

    def __repr__(self) -> str:
        return f"<SpotPattern {self.name!r}, {self.crystal.name}, {len(self)} spots>"

    @property
    def qx(self) -> Float:
        """Along x (rows, down), (n,), Å⁻¹."""
        return self.q_A[:, 0]

    @property
    def qy(self) -> Float:
        """Along y (columns, right), (n,), Å⁻¹."""
        return self.q_A[:, 1]

    @property
    def wavelength_A(self) -> float:
        return electron_wavelength_A(self.energy_eV)

    @property
    def is_direct(self) -> NDArray[np.bool_]:
        """Which spot is the direct beam, (n,)."""
        return np.asarray(~self.hkl.any(axis=1))

    @property
    def scattered(self) -> float:
        """Intensity of all spots but the direct beam; kinematic theory holds where it is small."""
        return float(self.intensity[~self.is_direct].sum())

    def positions_px(self, calibration: Calibration) -> Float:
        """Places on a detector, (n, 2) pixels.

        Parameters
        ----------
        calibration : Calibration
            With a pixel size in Å⁻¹ (or mrad and the energy) and an origin; ellipse, flip and
            rotation are undone.

        Raises
        ------
        CalibrationMissing
        """
        inverse = np.linalg.inv(calibration.Q_matrix("A^-1"))
        return np.asarray(self.q_A @ inverse.T + np.asarray(calibration.mean_origin_px))

    def image(
        self,
        Q_shape: tuple[int, int],
        *,
        Q_pixel_size_A: float | None = None,
        calibration: Calibration | None = None,
        radius_px: float = 3.0,
        direct_beam: bool = True,
    ) -> DiffractionSlice:
        """Draw every spot as a disk.

        Parameters
        ----------
        Q_shape : (int, int)
        Q_pixel_size_A : float, optional
            Å⁻¹ per pixel, with the direct beam at (Qx // 2, Qy // 2).
        calibration : Calibration, optional
            Instead: of a measured scan, whose patterns the picture then looks like.
        radius_px : float
            Of the disks; edges are a pixel wide.
        direct_beam : bool

        Returns
        -------
        DiffractionSlice
            (Qx, Qy) float64; a disk within the detector sums to the intensity of its spot.

        Raises
        ------
        ParameterError
            Neither or both of pixel size and calibration, sizes that are not positive.
        """
        if (Q_pixel_size_A is None) == (calibration is None):
            raise ParameterError("give either Q_pixel_size_A or a calibration")
        if calibration is None:
            centre = (Q_shape[0] // 2, Q_shape[1] // 2)
            calibration = Calibration().replace(
                Q_pixel_size=Q_pixel_size_A, Q_pixel_units="A^-1", origin_px=centre,
                energy_eV=self.energy_eV,
            )  # fmt: skip
        kept = np.ones(len(self), bool) if direct_beam else ~self.is_direct
        places = self.positions_px(calibration)[kept]
        drawn = disks_of(places, self.intensity[kept], Q_shape, radius_px)
        return DiffractionSlice(drawn, calibration, self.history, self.name)

    def text(self) -> str:
        """The strongest spots, one per line."""
        lines = [f"{self.name}: {self.crystal.name}, {len(self)} spots, {self.theory}"]
        for hkl, q, s, one in zip(
            self.hkl[:12], self.q_A[:12], self.s_A[:12], self.intensity[:12], strict=True
        ):
            indices = " ".join(map(str, hkl))
            lines.append(f"{indices:>10}  q {np.hypot(*q):.4f} 1/Å  s {s:+.4f} 1/Å  I {one:.3g}")
        if self.theory == "kinematic" and self.scattered > _MOST_SCATTERED:
            lines.append(
                f"{self.scattered:.2g} of the beam in scattered spots: too thick for kinematic "
                "theory, which leaves places and conditions true, not intensities; see bloch_waves"
            )
        return "\n".join(lines)


def made_by(
    kind: str, crystal: Crystal, parameters: Mapping[str, Any], cites: tuple[str, ...] = ()
) -> History:
    """The history of what was computed from a crystal, in plain values."""
    plain = {
        name: np.asarray(one).tolist() if isinstance(one, np.ndarray | Sequence | np.generic)
        and not isinstance(one, str) else one
        for name, one in parameters.items()
    }  # fmt: skip
    return History().then(kind, {**plain, "crystal": crystal.plain()}, 1, cites)


def disks_of(places_px: Float, weights: Float, Q_shape: tuple[int, int], radius_px: float) -> Float:
    """Soft-edged disks of given sums, (Qx, Qy); what lies beside the detector is left out."""
    if len(Q_shape) != 2 or min(Q_shape) < 1:
        raise ShapeError(f"Q_shape is two positive numbers of pixels, not {Q_shape!r}")
    if not (math.isfinite(radius_px) and radius_px > 0):
        raise ParameterError(f"radius_px is positive, not {radius_px!r}")
    image = np.zeros(Q_shape)
    reach = math.ceil(radius_px + 3)
    offsets = np.arange(-reach, reach + 1)
    for (x, y), weight in zip(places_px, weights, strict=True):
        rows, columns = offsets + round(float(x)), offsets + round(float(y))
        distance = np.hypot(rows[:, None] - x, columns[None] - y)
        disk = erfc((distance - radius_px) / 0.7)
        disk *= weight / disk.sum()
        inside = (rows >= 0) & (rows < Q_shape[0]), (columns >= 0) & (columns < Q_shape[1])
        image[np.ix_(rows[inside[0]], columns[inside[1]])] += disk[np.ix_(*inside)]
    return image


def _to_parts(value: SpotPattern) -> dict[str, Any]:
    crystal, history = value.crystal.plain(), value.history.to_dict()
    return {**vars(value), "crystal": crystal, "history": history}


def _from_parts(parts: Mapping[str, Any]) -> SpotPattern:
    crystal, history = Crystal.of(parts["crystal"]), History.from_dict(parts["history"])
    return SpotPattern(**{**parts, "crystal": crystal, "history": history})


register_result("spot-pattern", SpotPattern, _to_parts, _from_parts)
