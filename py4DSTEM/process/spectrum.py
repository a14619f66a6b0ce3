"""Which spacings an image of the scan holds."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.slices import ArrayResult, RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.units import is_length

__all__ = ["PowerSpectrum", "power_spectrum"]

Float = NDArray[np.float64]


class PowerSpectrum(Analysis, kind="power-spectrum", version=1):
    """Power spectrum of an image, with axes in cycles per length."""

    window: bool = Field(
        True, description="Taper the image to its edges, whose jump would else draw a cross."
    )

    accepts: ClassVar[tuple[type, ...]] = (RealSlice,)

    def apply(self, value: Any, options: RunOptions | None = None) -> ArrayResult:
        """The spectrum of one image; `options` are not needed."""
        if not isinstance(value, RealSlice) or value.data.ndim != 2:
            raise ParameterError(
                "power_spectrum takes one image of the scan: choose one of the stack"
            )
        values = np.asarray(value.data, dtype=np.float64)
        known = np.isfinite(values)
        if not known.any():
            raise ParameterError("the image holds no finite value")
        x, y = (np.hanning(n + 2)[1:-1] if self.window else np.ones(n) for n in values.shape)
        taper = np.outer(x, y) * known
        mean = float((np.where(known, values, 0.0) * taper).sum() / taper.sum())
        flat = np.where(known, values - mean, 0.0) * taper
        power = np.abs(np.fft.fftshift(np.fft.fft2(flat))) ** 2 / (taper**2).sum()
        history = self.history(value.history)
        return ArrayResult(power, _frequencies(value), history, "power spectrum")


def power_spectrum(image: RealSlice, *, window: bool = True) -> ArrayResult:
    """Power spectrum of an image, with axes in cycles per length.

    Parameters
    ----------
    image : RealSlice
        One image (Rx, Ry); NaN counts as the mean.
    window : bool
        Taper the image to its edges (Hann), whose jump would else draw a cross.

    Returns
    -------
    ArrayResult
        ``(Rx, Ry)`` float64, frequency zero at pixel ``(Rx // 2, Ry // 2)``; axes in 1/Å where the
        scan is in Å, 1/nm where it is in nm …, else in cycles per pixel (px).

    Raises
    ------
    ParameterError
        A stack, or an image without any finite value.

    Notes
    -----
    ``|FFT(w (I − mean))|² / Σw²``: white noise of variance σ² has the mean σ² at every frequency.

    Examples
    --------
    >>> rows = np.arange(32)[:, None]
    >>> spectrum = power_spectrum(RealSlice(np.cos(2 * np.pi * rows / 8 + np.zeros(20))))
    >>> peak = np.unravel_index(spectrum.data.argmax(), spectrum.shape)
    >>> abs(float(spectrum.axes[0].coordinates(32)[peak[0]]))
    0.125
    """
    return PowerSpectrum(window=window).apply(image)


def _frequencies(image: RealSlice) -> tuple[Axis, Axis]:
    """Axes in cycles per unit of the scan."""
    x, y = (
        Axis(name, 1 / (n * a.step), -(n // 2) / (n * a.step), _inverse(a.unit))
        for name, n, a in zip(("kx", "ky"), image.shape, image.axes, strict=True)
    )
    return x, y


def _inverse(unit: str) -> str:
    return f"{unit}^-1" if is_length(unit) else "px"
