"""Intensity against the distance from the origin."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from py4DSTEM.plot import decorate
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from py4DSTEM.process.radial import RadialProfileResult

__all__ = ["show_profiles"]


def show_profiles(profiles: RadialProfileResult) -> Figure:
    """Draw the mean profile of a scan, and how much its positions differ.

    Parameters
    ----------
    profiles : RadialProfileResult
        Of a scan or of one pattern.

    Returns
    -------
    Figure
        The band holds 68 % of the positions.
    """
    figure = canvas.new_figure(6.4, 4.2)
    ax = figure.subplots()
    single = profiles.data.ndim == 1
    mean = profiles.data if single else profiles.mean.data
    ax.plot(profiles.q, mean, color=canvas.SECOND, label="mean")
    if not single:
        # Rings that a position does not have count as the mean of all.
        known = np.where(np.isfinite(profiles.data), profiles.data, mean)
        low, high = np.percentile(known.reshape(-1, len(mean)), [16, 84], axis=0)
        ax.fill_between(
            profiles.q, low, high, color=canvas.SECOND, alpha=0.25, linewidth=0, label="positions"
        )
        ax.legend(fontsize="small", framealpha=0.8)
    ax.set_title(profiles.name, parse_math=False)
    ax.set_xlabel(
        f"distance from the origin ({decorate.unit_text(profiles.units)})", parse_math=False
    )
    ax.set_ylabel("intensity per pixel")
    return figure
