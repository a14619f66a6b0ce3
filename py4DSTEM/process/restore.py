"""The most probable strain, given that neighbouring positions are alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.errors import CalibrationMissing, ParameterError
from py4DSTEM.process.resolution import edge_resolution_A
from py4DSTEM.process.strain import COMPONENTS, StrainMap
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.units import unit_factor

__all__ = ["RestoreStrain", "restore_strain"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
FEWEST = 8
"""Positions along each axis that are needed to tell how strain varies."""
_FILL_ROUNDS = 20
_STARTS = (1.0, 4.0)
_LENGTHS = (0.05, 200.0)
_ROUGHNESS = (0.3, 8.0)


class RestoreStrain(Analysis, kind="restore-strain", version=1):
    """The most probable strain map, given that neighbouring positions are alike."""

    resolution_A: Literal["auto"] | PositiveFloat | None = Field(
        "auto",
        description="Width (standard deviation, Å) over which the measurement averaged, to be "
        "undone as far as the noise allows; auto: from the probe; None: left alone.",
    )

    accepts: ClassVar[tuple[type, ...]] = (StrainMap,)

    def apply(self, value: Any, options: RunOptions | None = None) -> StrainMap:
        """The restored map; `options` are not needed."""
        self.check(value)
        finite = np.isfinite([getattr(value, name) for name in COMPONENTS]).all(axis=0)
        strain: StrainMap = replace(value, mask=value.mask & finite)
        _check(strain)
        widths, resolution = _widths(strain.calibration, self.resolution_A)
        covariance = np.full_like(strain.covariance, np.nan)
        restored: dict[str, Any] = {}
        report: dict[str, Any] = {"resolution (A)": resolution}
        for index, name in enumerate(COMPONENTS):
            variance = _noise(strain.covariance[..., index, index], strain.mask)
            found = _restore(getattr(strain, name), variance, strain.mask, widths)
            restored[name] = np.where(strain.mask, found.values, np.nan)
            covariance[..., index, index] = np.where(strain.mask, found.variance, np.nan)
            report[name] = found.report
        off_diagonal = ~np.eye(4, dtype=bool)
        covariance[..., off_diagonal] = np.where(strain.mask[..., None], 0.0, np.nan)
        return replace(
            strain,
            **restored,
            covariance=covariance,
            method=f"{strain.method}, restored",
            history=self.history(strain.history),
            name=f"{strain.name}, restored",
            report={**strain.report, "restored": report},
        )


def restore_strain(
    strain: StrainMap, *, resolution_A: Literal["auto"] | float | None = "auto"
) -> StrainMap:
    """The most probable strain map, given that neighbouring positions are alike.

    Every position of a strain map is measured for itself; where strain varies slowly, neighbours
    measure nearly the same, and their noise averages out.  How alike they are is taken from the map
    itself; where it changes quickly, little is averaged.

    Parameters
    ----------
    strain : StrainMap
        With sigmas; at least 8 x 8 positions.
    resolution_A : "auto", float or None
        Standard deviation (Å) of the Gaussian over which each measurement averaged the strain:
        undone as far as the noise allows.  "auto": from the radius of the probe where that and the
        scan step are calibrated (`strain_map`); None: not undone.

    Returns
    -------
    StrainMap
        With the posterior mean and standard deviation, the same at all positions; components are
        taken as independent of each other.

    Raises
    ------
    ParameterError
        There are too few positions, or no sigmas.

    Notes
    -----
    Each component is modelled as a stationary Gaussian field e with the power spectrum
    ``P(k) = a (1 + (lx kx)² + (ly ky)²)^-(ν+1)`` (Matérn), measured through the resolution
    ``H(k) = exp(−w² k² / 2)`` with independent noise of the variance v = median sigma²; a, lx, ly,
    ν have the largest marginal likelihood.  In the cosine basis (DCT-II; mirror boundaries) all of
    this is diagonal: the posterior mean of a coefficient c is ``H P c / (H² P + v)``, Wiener's
    filter, its variance ``P v / (H² P + v)``.

    The sigma is that of this model: it holds for noise, not for errors that neighbours share (a
    tilt that changes slowly over the scan), and it is an average over the map, too large where the
    strain is flat and too small at a sharp edge.

    Rasmussen & Williams, Gaussian Processes for Machine Learning (2006), ch. 4 and 5.

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.strained_lattice((12, 12), (64, 64), seed=1)
    >>> lattice = py4DSTEM.fit_lattice(py4DSTEM.find_bragg_disks(scan.cube, scan.truth.probe))
    >>> strain = py4DSTEM.strain_map(lattice)
    >>> restored = restore_strain(strain, resolution_A=None)
    >>> bool(restored.sigma_theta.mean() < strain.sigma_theta.mean())
    True
    """
    return RestoreStrain(resolution_A=resolution_A).apply(strain)


def _check(strain: StrainMap) -> None:
    if min(strain.shape) < FEWEST:
        raise ParameterError(
            f"{strain.shape} positions are too few to tell how strain varies: at least "
            f"{FEWEST} x {FEWEST} are needed"
        )
    if strain.mask.mean() < 0.5:
        raise ParameterError("less than half of the positions have a strain: nothing to go by")


def _noise(variance: Float, mask: Bool) -> float:
    known = variance[mask & np.isfinite(variance)]
    if not known.size or not np.median(known) > 0:
        raise ParameterError("the strain map has no uncertainties: fit peaks that have some")
    # The median: what a sharp edge hides enlarges the sigma there, and is no noise.
    return float(np.median(known))


def _widths(
    calibration: Calibration, resolution_A: Literal["auto"] | float | None
) -> tuple[tuple[float, float], Any]:
    """Standard deviation of the resolution in scan positions along x and y, and in Å."""
    if resolution_A is None:
        return (0.0, 0.0), None
    try:
        width_A = edge_resolution_A(calibration) if resolution_A == "auto" else float(resolution_A)
        x, y = (width_A / (axis.step * unit_factor(axis.unit, "A")) for axis in calibration.R)
    except (CalibrationMissing, ParameterError) as error:
        if resolution_A != "auto":
            raise
        return (0.0, 0.0), f"not undone: {error}"
    return (x, y), width_A


# ---- one component -------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Restored:
    values: Float
    variance: float
    report: dict[str, float]


@dataclass(frozen=True, eq=False)
class _Model:
    """Transfer of the resolution, frequencies squared, and variance of the noise."""

    transfer: Float
    kx2: Float
    ky2: Float
    noise: float

    @classmethod
    def of(cls, shape: tuple[int, int], noise: float, widths: tuple[float, float]) -> _Model:
        kx2, ky2 = ((np.pi * np.arange(n) / n) ** 2 for n in shape)
        kx2, ky2 = kx2[:, None], ky2[None, :]
        transfer = np.exp(-0.5 * (widths[0] ** 2 * kx2 + widths[1] ** 2 * ky2))
        return cls(transfer, kx2, ky2, noise)

    def spectrum(self, p: Float) -> Float:
        """Power of the strain for the logarithms of mean power, lx, ly and ν."""
        power, lx, ly, roughness = np.exp(p)
        shape = (1 + lx**2 * self.kx2 + ly**2 * self.ky2) ** -(roughness + 1)
        spectrum: Float = power * shape / shape.mean()
        return spectrum

    def misfit(self, p: Float, squares: Float) -> float:
        """Negative logarithm of the marginal likelihood; the mean is not modelled."""
        total = self.transfer**2 * self.spectrum(p) + self.noise
        terms = np.log(total) + squares / total
        return 0.5 * float(terms.sum() - terms[0, 0])


def _restore(values: Float, noise: float, mask: Bool, widths: tuple[float, float]) -> _Restored:
    from scipy.fft import dctn, idctn  # slow to import

    model = _Model.of(mask.shape, noise, widths)
    mean = float(values[mask].mean())
    known = np.where(mask, values - mean, 0.0)
    filled = known
    # Positions without a value take what their neighbours predict, until that settles.
    for _ in range(1 if mask.all() else _FILL_ROUNDS):
        coefficients = dctn(filled, norm="ortho")
        p = _most_likely(model, coefficients**2)
        spectrum = model.spectrum(p)
        total = model.transfer**2 * spectrum + noise
        seen = idctn(model.transfer**2 * spectrum / total * coefficients, norm="ortho")
        change = np.abs(np.where(mask, known, seen) - filled).max()
        filled = np.where(mask, known, seen)
        if change < 0.01 * np.sqrt(noise):
            break
    restored = idctn(model.transfer * spectrum / total * coefficients, norm="ortho") + mean
    names = ("mean power", "length x (positions)", "length y (positions)", "smoothness")
    report = dict(zip(names, map(float, np.exp(p)), strict=True))
    return _Restored(restored, float((spectrum * noise / total).mean()), report)


def _most_likely(model: _Model, squares: Float) -> Float:
    """Logarithms of power, lengths and smoothness of the largest likelihood."""
    from scipy.optimize import minimize

    excess = max(float(squares.mean()) - model.noise, 1e-3 * model.noise)
    spread = np.log([1e-6 * excess, 1e3 * excess])
    bounds = [tuple(spread), np.log(_LENGTHS), np.log(_LENGTHS), np.log(_ROUGHNESS)]
    fits = []
    for length in _STARTS:
        start = np.log([excess, length, length, 1.3])
        fits.append(
            minimize(model.misfit, start, args=(squares,), method="L-BFGS-B", bounds=bounds)
        )
    best: Float = min(fits, key=lambda fit: float(fit.fun)).x
    return best
