"""What deflects the beam: electric field and charge, or magnetic induction, with their units.

The centre of mass gives the mean deflection ``<k>`` (Å⁻¹, no 2π), along the axes of the scan.  All
fields are projected along the beam, and averaged over the probe.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import CalibrationMissing, ParameterError
from py4DSTEM.process.idpc import steps_A
from py4DSTEM.units import ELEMENTARY_CHARGE_C, PLANCK_J_S, interaction_constant_rad_per_VA

__all__ = ["charge_density", "electric_field", "magnetic_induction", "projected_potential"]

Float = NDArray[np.float64]
VACUUM_PERMITTIVITY_F_M = 8.8541878128e-12
_PERMITTIVITY_E_PER_VA = VACUUM_PERMITTIVITY_F_M / ELEMENTARY_CHARGE_C * 1e-10
_FLUX_TNM = PLANCK_J_S / ELEMENTARY_CHARGE_C * 1e10 * 1e9
"""h/e in T·m², times Å⁻¹, in T·nm."""


def electric_field(deflection: RealSlice) -> RealSlice:
    """Electric field times thickness, from the deflection of the beam.

    Parameters
    ----------
    deflection : RealSlice
        Stack "x", "y", (2, Rx, Ry), Å⁻¹ along the axes of the scan, as ``DPCResult.deflection``.

    Returns
    -------
    RealSlice
        Stack "x", "y" in V (V/Å times Å), float64.

    Raises
    ------
    CalibrationMissing
        The energy of the beam is not known.

    Notes
    -----
    ``E = −∇V = −2π <k> / σ`` with the interaction constant σ (Müller et al.,
    doi:10.1038/ncomms6653); electrons are deflected against it.

    Examples
    --------
    >>> from py4DSTEM import Calibration
    >>> known = Calibration().replace(energy_eV=300e3)
    >>> k = RealSlice(np.full((2, 1, 1), 1e-3), known, labels=("x", "y"), units="A^-1")
    >>> electric_field(k).data.ravel().round(3).tolist()
    [-9.628, -9.628]
    """
    sigma = _interaction(deflection)
    field = -2 * np.pi / sigma * _vectors(deflection)
    return _stack(deflection, field, "electric-field", "V")


def magnetic_induction(deflection: RealSlice) -> RealSlice:
    """Magnetic induction times thickness, from the deflection of the beam.

    Parameters
    ----------
    deflection : RealSlice
        Stack "x", "y", (2, Rx, Ry), Å⁻¹ along the axes of the scan, as ``DPCResult.deflection``.

    Returns
    -------
    RealSlice
        Stack "x", "y" in T nm, float64: the components across the beam.

    Notes
    -----
    The Lorentz force gives ``B_x t = (h/e) k_y``, ``B_y t = −(h/e) k_x`` where x points down, y to
    the right and the beam into the image (Chapman, doi:10.1088/0022-3727/17/4/003).  Electric
    fields deflect too, such as that at the rim of a specimen: only two scans, with the specimen
    turned over or its magnetisation reversed, tell them apart.

    Examples
    --------
    >>> k = RealSlice(np.array([[[0.0]], [[1e-3]]]), labels=("x", "y"), units="A^-1")
    >>> magnetic_induction(k).data.ravel().round(2).tolist()
    [41.36, 0.0]
    """
    x, y = _vectors(deflection)
    return _stack(deflection, _FLUX_TNM * np.stack([y, 0.0 - x]), "magnetic-induction", "T nm")


def charge_density(deflection: RealSlice, smooth_A: float = 0.0) -> RealSlice:
    """Charge per area, from the divergence of the deflection.

    Parameters
    ----------
    deflection : RealSlice
        Stack "x", "y", (2, Rx, Ry), Å⁻¹ along the axes of the scan, as ``DPCResult.deflection``.
    smooth_A : float
        Standard deviation (Å) of a Gaussian that the field is smoothed with before.

    Returns
    -------
    RealSlice
        (Rx, Ry) float64 in e/Å², positive for nuclei; NaN beside unknown positions.

    Raises
    ------
    CalibrationMissing
        Scan step or energy are not known.

    Notes
    -----
    Gauss: ``ρ = ε0 ∇·E = −(2π ε0 / σ) ∇·<k>``, by differences of fourth order (of second order
    beside the edge, one-sided on it); in a scan of one row only what varies along it.

    Examples
    --------
    >>> from py4DSTEM import Calibration
    >>> known = Calibration().replace(energy_eV=3e5, R_pixel_size=0.5, R_pixel_units="A")
    >>> x, y = np.indices((5, 6)) * 0.5
    >>> k = RealSlice(np.stack([-1e-3 * x, -2e-3 * y]), known, labels=("x", "y"), units="A^-1")
    >>> charge_density(k).data[2].round(4).tolist()
    [0.1596, 0.1596, 0.1596, 0.1596, 0.1596, 0.1596]
    """
    field = electric_field(deflection).data
    steps = steps_A(deflection.calibration)
    if not (np.isfinite(smooth_A) and smooth_A >= 0):
        raise ParameterError(f"smooth_A is a length and not negative, not {smooth_A!r}")
    if smooth_A > 0:
        field = np.stack([_smoothed(f, (smooth_A / steps[0], smooth_A / steps[1])) for f in field])
    total = _derivative(field[0], steps[0], 0) + _derivative(field[1], steps[1], 1)
    history = deflection.history.then("charge-density", {"smooth_A": smooth_A})
    data = _PERMITTIVITY_E_PER_VA * total
    return RealSlice(data, deflection.calibration, history, "charge density", units="e/A^2")


def projected_potential(phase: RealSlice) -> RealSlice:
    """Potential times thickness of a thin specimen without magnetic field: ``V = φ / σ``.

    Parameters
    ----------
    phase : RealSlice
        (Rx, Ry), rad.

    Returns
    -------
    RealSlice
        (Rx, Ry) float64, V Å; its zero is that of the phase.

    Raises
    ------
    CalibrationMissing
        The energy of the beam is not known.

    Examples
    --------
    >>> from py4DSTEM import Calibration
    >>> phase = RealSlice(np.ones((1, 1)), Calibration().replace(energy_eV=300e3), units="rad")
    >>> round(float(projected_potential(phase).data[0, 0]), 1)
    1532.3
    """
    data = np.asarray(phase.data, np.float64) / _interaction(phase)
    history = phase.history.then("projected-potential", {})
    return RealSlice(data, phase.calibration, history, "projected potential", units="V A")


# ---- parts ---------------------------------------------------------------------------------------
def _interaction(image: RealSlice) -> float:
    energy = image.calibration.energy_eV
    if energy is None:
        raise CalibrationMissing("energy", "with_calibration(energy_eV=...) keeps it")
    return interaction_constant_rad_per_VA(energy)


def _vectors(deflection: RealSlice) -> Float:
    if deflection.data.ndim != 3 or len(deflection.data) != 2 or deflection.units != "A^-1":
        raise ParameterError(
            "a deflection is a stack of x and y in A^-1, such as dpc(cube).deflection, not "
            f"{deflection.shape} in {deflection.units!r}"
        )
    return np.asarray(deflection.data, dtype=np.float64)


def _stack(source: RealSlice, field: Float, kind: str, units: str) -> RealSlice:
    history = source.history.then(kind, {})
    name = kind.replace("-", " ")
    return RealSlice(field, source.calibration, history, name, ("x", "y"), units=units)


def _smoothed(image: Float, sigma_px: tuple[float, float]) -> Float:
    """Smoothed by a Gaussian over the known positions; NaN stays NaN."""
    from scipy import ndimage  # slow to import

    known = np.isfinite(image)
    filled = ndimage.gaussian_filter(np.where(known, image, 0.0), sigma_px, mode="nearest")
    share = ndimage.gaussian_filter(known.astype(np.float64), sigma_px, mode="nearest")
    result: Float = np.where(known, filled / np.maximum(share, 1e-12), np.nan)
    return result


def _derivative(image: Float, step: float, axis: int) -> Float:
    """Along `axis`; zero in a scan of one position along it."""
    v = np.moveaxis(image, axis, 0)
    if len(v) < 2:
        return np.where(np.isfinite(image), 0.0, np.nan)
    slope = np.gradient(v, step, axis=0, edge_order=2 if len(v) > 2 else 1)
    if len(v) > 4:
        slope[2:-2] = (8 * (v[3:-1] - v[1:-3]) - (v[4:] - v[:-4])) / (12 * step)
    return np.moveaxis(slope, 0, axis)
