"""The optics of a scan as phase retrieval needs them: grids, apertures, probes, positions.

Everything here is in detector axes: the wave is sampled on the grid that belongs to the detector,
and scan positions are turned into those axes (the inverse of the calibrated rotation and flip), so
that patterns are never interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import CalibrationMissing, ParameterError
from py4DSTEM.units import (
    electron_wavelength_A,
    is_length,
    unit_factor,
)

__all__ = ["Optics"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]


@dataclass(frozen=True)
class Optics:
    """Energy, convergence, sampling, scan step, and how the scan lies on the detector.

    Parameters
    ----------
    Q_shape : (int, int)
    Q_steps_A : (float, float)
        Detector pixel along x and y, Å⁻¹ (no 2π).
    energy_eV, semiangle_mrad : float
    R_steps_A : (float, float)
        Scan step along x and y, Å.
    rotation_rad, flip : float, bool
        From detector to scan axes: exchange x and y if flipped, then rotate x towards y.

    Examples
    --------
    >>> optics = Optics((64, 64), (0.0375, 0.0375), 80e3, 20.0, (0.8, 0.8))
    >>> [round(s, 4) for s in optics.sampling_A], round(optics.semiangle_px, 2)
    ([0.4167, 0.4167], 12.77)
    """

    Q_shape: tuple[int, int]
    Q_steps_A: tuple[float, float]
    energy_eV: float
    semiangle_mrad: float
    R_steps_A: tuple[float, float]
    rotation_rad: float = 0.0
    flip: bool = False

    @classmethod
    def of(
        cls,
        calibration: Calibration,
        Q_shape: tuple[int, int],
        *,
        rotation_rad: float | None = None,
        flip: bool | None = None,
    ) -> Optics:
        """The optics that a calibration tells.

        Parameters
        ----------
        calibration : Calibration
        Q_shape : (int, int)
        rotation_rad, flip : float, bool, optional
            Instead of those of the calibration; not known anywhere: 0 and False.

        Raises
        ------
        CalibrationMissing
            Energy, detector pixel size, scan step or convergence angle are not known.
        """
        steps = calibration.Q_steps("A^-1")
        wavelength = calibration.wavelength_A
        radius_px = calibration.semiangle_px()
        semiangle = radius_px * math.sqrt(math.prod(steps)) * wavelength * 1e3
        turned, swapped = calibration.rotation_rad or 0.0, bool(calibration.flip)
        assumed = cls(
            (int(Q_shape[0]), int(Q_shape[1])),
            steps,
            float(calibration.energy_eV or 0.0),
            semiangle,
            _scan_steps_A(calibration),
            turned if rotation_rad is None else float(rotation_rad),
            swapped if flip is None else bool(flip),
        )
        return assumed

    def __post_init__(self) -> None:
        positive = (*self.Q_steps_A, *self.R_steps_A, self.energy_eV, self.semiangle_mrad)
        if not all(math.isfinite(v) and v > 0 for v in positive):
            raise ParameterError(f"steps, energy and convergence angle are positive: {self!r}")

    # ---- lengths ---------------------------------------------------------------------------------
    @property
    def wavelength_A(self) -> float:
        return electron_wavelength_A(self.energy_eV)

    @property
    def sampling_A(self) -> tuple[float, float]:
        """Pixel of the wave in real space, ``1 / (N Δk)``."""
        (nx, ny), (sx, sy) = self.Q_shape, self.Q_steps_A
        return 1 / (nx * sx), 1 / (ny * sy)

    @property
    def window_A(self) -> tuple[float, float]:
        """Edge of the real-space window of a pattern, ``1 / Δk``."""
        return 1 / self.Q_steps_A[0], 1 / self.Q_steps_A[1]

    @property
    def semiangle_px(self) -> float:
        """Radius of the bright disk in (geometric mean) detector pixels."""
        mrad = self.wavelength_A * 1e3 * math.sqrt(math.prod(self.Q_steps_A))
        return self.semiangle_mrad / mrad

    def padded(self, Q_shape: tuple[int, int]) -> Optics:
        """The same on a detector of another size, with the same pixels."""
        return replace(self, Q_shape=(int(Q_shape[0]), int(Q_shape[1])))

    # ---- grids -----------------------------------------------------------------------------------
    def k(self) -> tuple[Float, Float]:
        """Scattering vectors (Å⁻¹) along x, (nx, 1), and y, (1, ny); zero at pixel (0, 0)."""
        (nx, ny), (sx, sy) = self.Q_shape, self.Q_steps_A
        kx: Float = np.fft.fftfreq(nx, 1 / (nx * sx))[:, None].astype(np.float64)
        ky: Float = np.fft.fftfreq(ny, 1 / (ny * sy))[None].astype(np.float64)
        return kx, ky

    def aperture(self) -> Float:
        """1 within the aperture, a ramp of one pixel at its rim; (nx, ny), zero at pixel (0, 0)."""
        kx, ky = self.k()
        (sx, sy), edge = self.Q_steps_A, self.semiangle_mrad * 1e-3 / self.wavelength_A
        radius = np.hypot(kx, ky)
        # Width of a pixel along the radius, so that the rim is smooth where pixels are not square.
        with np.errstate(invalid="ignore"):
            width = np.where(radius > 0, np.hypot(kx * sx, ky * sy) / radius, min(sx, sy))
        inside: Float = np.clip((edge - radius) / width + 0.5, 0.0, 1.0)
        return inside

    def chi_phase(self, aberrations: Aberrations) -> Complex:
        """``exp(−2πi χ(k)/λ)``, (nx, ny), zero at pixel (0, 0)."""
        kx, ky = self.k()
        wavelength = self.wavelength_A
        chi = aberrations.chi(wavelength * kx, wavelength * ky)
        phase: Complex = np.exp(-2j * np.pi / wavelength * chi)
        return phase

    def probe(self, aberrations: Aberrations, amplitude: Float | None = None) -> Complex:
        """Probe in real space, (nx, ny), centred on pixel (0, 0); ``Σ|ψ|² = 1``.

        Parameters
        ----------
        aberrations : Aberrations
        amplitude : (nx, ny) float64, optional
            Modulus of its Fourier transform, zero at pixel (0, 0), as the root of a vacuum pattern
            gives it; None: the aperture.
        """
        modulus = self.aperture() if amplitude is None else np.asarray(amplitude, np.float64)
        if modulus.shape != self.Q_shape or not np.isfinite(modulus).all() or not modulus.any():
            raise ParameterError(
                f"the amplitude of a probe is finite, not zero everywhere, and {self.Q_shape}"
            )
        wave = np.fft.ifft2(modulus * self.chi_phase(aberrations))
        probe: Complex = wave / math.sqrt(float((np.abs(wave) ** 2).sum()))
        return probe

    # ---- positions -------------------------------------------------------------------------------
    def to_detector(self) -> Float:
        """Matrix (2, 2) from scan axes to detector axes, for vectors (x, y)."""
        c, s = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        back = np.array([[c, s], [-s, c]])
        return back[::-1].copy() if self.flip else back

    def positions_A(self, R_shape: tuple[int, int]) -> Float:
        """Scan positions in detector axes, (Rx, Ry, 2) Å; position (0, 0) at 0."""
        at = np.moveaxis(np.indices(R_shape), 0, -1) * np.array(self.R_steps_A)
        positions: Float = at @ self.to_detector().T
        return positions


def _scan_steps_A(calibration: Calibration) -> tuple[float, float]:
    if not all(is_length(axis.unit) and axis.calibrated for axis in calibration.R):
        raise CalibrationMissing(
            "scan step", 'with_calibration(R_pixel_size=..., R_pixel_units="A") keeps it'
        )
    x, y = (abs(axis.step) * unit_factor(axis.unit, "A") for axis in calibration.R)
    return x, y
