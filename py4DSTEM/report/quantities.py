"""Numbers that tell whether a result makes sense: the names of ``[qc]`` in a recipe.

=============================  ====  =============================================================
name                           unit  meaning
=============================  ====  =============================================================
bragg_peaks_median             1     peaks per scan position, median
positions_without_peaks        1     share of the scan positions that have none
unfitted_fraction              1     share of the scan without a lattice, or without strain
strain_residual_px             px    distance of peaks from their lattice, median over the scan
lattice_chi2_median            1     reduced χ² of the lattice, median
several_lattices_fraction      1     share of the scan where another lattice lies beside the first
e_xx_median, e_yy_median …     1     median of a component of strain (theta in rad)
e_xx_spread, e_yy_spread …     1     half of the range that holds 68 % of the scan
strain_sigma_median            1     one-sigma uncertainty of e_xx and e_yy, median, the larger
origin_unmeasured_fraction     1     share of the scan where the origin could not be measured
origin_residual_px             px    distance of measured origins from their surface, rms
origin_outlier_fraction        1     share of the origins that the surface leaves out
probe_radius_px                px    radius of the unscattered disk
probe_edge_px                  px    blur of its edge
ellipse_ratio                  1     long over short axis of the distortion
pixel_size_A                   Å⁻¹   size of a detector pixel
rotation_deg                   deg   between scan and detector
rotation_confidence            1     of that
image_mean, image_std          —     of all pixels of an image that are defined
undefined_fraction             1     share of the pixels of an image that are not
=============================  ====  =============================================================

Entries of a `QualityReport`, and plain numbers in the ``report`` of any result, have names too:
``dose_per_pattern``, ``positions``; see `numbers_of`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["QUANTITIES", "Quantity", "known_name", "numbers_of", "slug"]

Float = NDArray[np.float64]
Number = Callable[[Any], float]


@dataclass(frozen=True)
class Quantity:
    """A number that results of some types have.

    Parameters
    ----------
    name, unit, about : str
    of : mapping of str to function
        Type, as ``"module:Class"`` below ``py4DSTEM`` → the number of a value of it.
    """

    name: str
    unit: str
    about: str
    of: Mapping[str, Number]


# ---- the table -----------------------------------------------------------------------------------
def _finite(values: Any) -> Float:
    array = np.asarray(values, np.float64).ravel()
    return array[np.isfinite(array)]


def _median(values: Any) -> float:
    kept = _finite(values)
    return float(np.median(kept)) if kept.size else math.nan


def _share(mask: Any) -> float:
    array = np.asarray(mask, bool)
    return float(array.mean()) if array.size else math.nan


def _spread(values: Any) -> float:
    kept = _finite(values)
    if not kept.size:
        return math.nan
    low, high = np.percentile(kept, [15.865, 84.135])
    return float(high - low) / 2


def _residual_px(fit: Any) -> float:
    """The residual in detector pixels, whatever unit the lattice has."""
    x, y = fit.calibration.Q
    if fit.unit != "px" and not (x.unit == y.unit == fit.unit):
        return math.nan
    pixel = 1.0 if fit.unit == "px" else math.sqrt(x.step * y.step)
    return _median(fit.residual[fit.mask]) / pixel


def _image(number: Callable[[Any], Any]) -> Number:
    def of_image(image: Any) -> float:
        data = np.asarray(image.data)
        if data.dtype.kind not in "buif":
            return math.nan
        kept = _finite(data)
        return float(number(kept)) if kept.size else math.nan

    return of_image


def _undefined(image: Any) -> float:
    data = np.asarray(image.data)
    return math.nan if data.dtype.kind not in "buifc" else _share(~np.isfinite(data))


def _sigma(strain: Any) -> float:
    return max(_median(strain.sigma(name)) for name in ("e_xx", "e_yy"))


def _pixel_size(measured: Any) -> float:
    return float(measured.value)


_POINTS, _LATTICE = "core.points:PointTable", "process.bragg.lattice:LatticeFit"
_STRAIN, _SLICE = "process.strain:StrainMap", "core.slices:Slice"
_ORIGIN, _SURFACE = (f"process.calibrate.origin_fit:Origin{n}" for n in ("Measurement", "Fit"))
_PROBE = "process.probe:Probe"
_ELLIPSE = "process.calibrate.ellipse:EllipseMeasurement"
_PIXEL = "process.calibrate.pixel_size:PixelSizeMeasurement"
_ROTATION = "process.calibrate.rotation:RotationMeasurement"


def _component(name: str, number: Number) -> Number:
    return lambda strain: number(getattr(strain, name))


def _strain_quantities() -> Iterator[Quantity]:
    for name, unit in (("e_xx", "1"), ("e_yy", "1"), ("e_xy", "1"), ("theta", "rad")):
        middle, spread = _component(name, _median), _component(name, _spread)
        yield Quantity(f"{name}_median", unit, f"median of {name} over the scan", {_STRAIN: middle})
        about = f"half of the range that holds 68 % of {name}"
        yield Quantity(f"{name}_spread", unit, about, {_STRAIN: spread})
    yield Quantity("strain_sigma_median", "1", "uncertainty of strain, median", {_STRAIN: _sigma})


def _all_quantities() -> Iterator[Quantity]:
    yield Quantity("bragg_peaks_median", "1", "peaks per scan position, median",
                   {_POINTS: lambda p: _median(p.counts)})  # fmt: skip
    yield Quantity("positions_without_peaks", "1", "share of the scan that has none",
                   {_POINTS: lambda p: _share(p.counts == 0)})  # fmt: skip
    yield Quantity("unfitted_fraction", "1", "share of the scan without a lattice or strain",
                   dict.fromkeys((_LATTICE, _STRAIN), lambda fit: _share(~fit.mask)))  # fmt: skip
    yield Quantity("strain_residual_px", "px", "distance of peaks from the lattice, median",
                   {_LATTICE: _residual_px})  # fmt: skip
    yield Quantity("lattice_chi2_median", "1", "reduced χ² of the lattice, median",
                   {_LATTICE: lambda fit: _median(fit.chi2[fit.mask])})  # fmt: skip
    yield Quantity("several_lattices_fraction", "1", "share of the scan with another lattice",
                   {_LATTICE: lambda fit: _share(fit.several)})  # fmt: skip
    yield from _strain_quantities()
    yield Quantity("origin_unmeasured_fraction", "1", "share of the scan without an origin",
                   {_ORIGIN: lambda m: _share(~m.mask)})  # fmt: skip
    yield Quantity("origin_residual_px", "px", "distance of origins from their surface, rms",
                   {_SURFACE: lambda fit: math.hypot(*fit.residual_px)})  # fmt: skip
    yield Quantity("origin_outlier_fraction", "1", "share of the origins left out",
                   {_SURFACE: lambda fit: _share(fit.outliers)})  # fmt: skip
    yield Quantity("probe_radius_px", "px", "radius of the unscattered disk",
                   {_PROBE: lambda p: float(p.radius_px)})  # fmt: skip
    yield Quantity("probe_edge_px", "px", "blur of the edge of the unscattered disk",
                   {_PROBE: lambda p: float(p.edge_px)})  # fmt: skip
    yield Quantity("ellipse_ratio", "1", "long over short axis of the distortion",
                   {_ELLIPSE: lambda m: float(m.ratio)})  # fmt: skip
    yield Quantity("pixel_size_A", "A^-1", "size of a detector pixel", {_PIXEL: _pixel_size})
    yield Quantity("rotation_deg", "deg", "between scan and detector",
                   {_ROTATION: lambda m: float(m.rotation_deg)})  # fmt: skip
    yield Quantity("rotation_confidence", "1", "of the rotation",
                   {_ROTATION: lambda m: float(m.confidence)})  # fmt: skip
    yield Quantity("image_mean", "", "mean of the pixels that are defined",
                   {_SLICE: _image(np.mean)})  # fmt: skip
    yield Quantity("image_std", "", "standard deviation of the pixels that are defined",
                   {_SLICE: _image(np.std)})  # fmt: skip
    yield Quantity("undefined_fraction", "1", "share of the pixels that are not defined",
                   {_SLICE: _undefined})  # fmt: skip


QUANTITIES: Mapping[str, Quantity] = {quantity.name: quantity for quantity in _all_quantities()}
"""All quantities by name."""


# ---- of a result ---------------------------------------------------------------------------------
def numbers_of(value: Any) -> dict[str, float]:
    """Every number that a result has: quantities of the table, and entries of its report.

    Parameters
    ----------
    value : object
        Any result; of one that has no numbers the answer is empty.

    Returns
    -------
    dict of str to float
        NaN where a quantity has no value (no peaks, nothing fitted).

    Examples
    --------
    >>> from py4DSTEM import RealSlice
    >>> numbers_of(RealSlice(np.array([[1.0, 3.0, np.nan]])))["image_mean"]
    2.0
    """
    found = dict(_report_entries(value))
    kinds = {
        f"{c.__module__}:{c.__qualname__}".removeprefix("py4DSTEM.") for c in type(value).__mro__
    }
    for quantity in QUANTITIES.values():
        for kind in kinds & quantity.of.keys():
            found[quantity.name] = quantity.of[kind](value)
    return found


def known_name(name: str, results: Mapping[str, str] | None = None) -> bool:
    """Whether a name of ``[qc]`` can mean something: in the table, or ``result.entry``.

    Parameters
    ----------
    name : str
    results : mapping, optional
        Names of the results that there will be; None: any.
    """
    result, dot, entry = name.rpartition(".")
    if not dot:
        return entry in QUANTITIES
    return bool(entry) and (results is None or result in results)


def slug(text: str) -> str:
    """A name as a key: ``"dose per pattern"`` → ``"dose_per_pattern"``.

    >>> slug("noise of the sum / Poisson")
    'noise_of_the_sum_poisson'
    """
    return re.sub(r"[^0-9a-z]+", "_", text.lower()).strip("_")


def _report_entries(value: Any) -> Iterator[tuple[str, float]]:
    for entry in getattr(value, "entries", None) or ():
        name = getattr(entry, "name", None)
        if isinstance(name, str) and _is_number(getattr(entry, "value", None)):
            yield slug(name), float(entry.value)
    report = getattr(value, "report", None)
    report = report() if callable(report) else report
    if isinstance(report, Mapping):
        yield from _numbers_in(report, "")


def _numbers_in(report: Mapping[Any, Any], before: str) -> Iterator[tuple[str, float]]:
    for key, item in report.items():
        name = slug(f"{before} {key}")
        if isinstance(item, Mapping):
            yield from _numbers_in(item, name)
        elif name and _is_number(item):
            yield name, float(item)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
