"""What was fitted to every pattern, as maps over the scan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from py4DSTEM.process.cepstrum import CepstralPlaces
    from py4DSTEM.process.ring_strain import RingFitResult

__all__ = ["show_cepstral_places", "show_ring_fits"]

Float = NDArray[np.float64]
_PANEL = 2.9


def show_ring_fits(fits: RingFitResult) -> Figure:
    """Draw the distortion of a ring at every position, and its uncertainty by counting.

    Parameters
    ----------
    fits : RingFitResult

    Returns
    -------
    Figure
        Strain in % above, sigma in % below.
    """
    sigma = np.sqrt(np.diagonal(fits.covariance, axis1=-2, axis2=-1))
    names = ("$e_{xx}$", "$e_{yy}$", "$e_{xy}$")
    values = {name: 100 * fits.strain[..., k] for k, name in enumerate(names)}
    sigmas = {f"σ, {name}": 100 * sigma[..., k] for k, name in enumerate(names)}
    return _two_rows(fits.name, values, sigmas, fits.calibration, "strain (%)", "σ (%)")


def show_cepstral_places(peaks: CepstralPlaces) -> Figure:
    """Draw where two peaks of the cepstrum are at every position, less the median.

    Parameters
    ----------
    peaks : CepstralPlaces

    Returns
    -------
    Figure
        Changes of x and y of each peak above, sigma below, in 10⁻³ cycles per detector pixel.
    """
    sigma = np.sqrt(np.diagonal(peaks.covariances, axis1=-2, axis2=-1))
    values, sigmas = {}, {}
    for k in (0, 1):
        for axis, name in enumerate("xy"):
            place = peaks.places[..., k, axis]
            middle = float(np.median(place[np.isfinite(place)])) if np.isfinite(place).any() else 0
            values[f"peak {k + 1}, {name} − {middle:.4f}"] = 1e3 * (place - middle)
            sigmas[f"σ, peak {k + 1}, {name}"] = 1e3 * sigma[..., k, axis]
    unit = "(10⁻³ cycles / px)"
    return _two_rows(peaks.name, values, sigmas, peaks.calibration, f"change {unit}", f"σ {unit}")


def _two_rows(
    title: str,
    values: Mapping[str, Float],
    sigmas: Mapping[str, Float],
    calibration: Calibration,
    label: str,
    sigma_label: str,
) -> Figure:
    """Values on one scale around zero, and under them their sigmas on another."""
    shape = next(iter(values.values())).shape
    height = canvas.map_height(shape, calibration, _PANEL) + 0.4
    figure = canvas.new_figure(len(values) * _PANEL + 1.2, 2 * height + 0.3)
    figure.suptitle(title, parse_math=False)
    above, below = figure.subplots(2, len(values))
    limit = canvas.symmetric_limit(*values.values())
    high = canvas.symmetric_limit(*sigmas.values())
    rows = (
        (above, values, (-limit, limit), "RdBu_r", label),
        (below, sigmas, (0.0, high), "viridis", sigma_label),
    )
    for axes, maps, limits, cmap, words in rows:
        for ax, (name, image) in zip(axes, maps.items(), strict=True):
            drawn = canvas.scan_map(
                ax, image, calibration, name, limits=limits, cmap=cmap, bar=ax is above[0]
            )
        canvas.color_bar(drawn, list(axes), words)
    return figure
