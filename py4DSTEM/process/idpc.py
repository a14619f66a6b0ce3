"""The phase whose gradient the centre of mass is: integrated differential phase contrast."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.units import is_length, unit_factor

__all__ = [
    "IntegrateCenterOfMass",
    "check_centers",
    "deflections",
    "integrate_center_of_mass",
    "steps_A",
]

Float = NDArray[np.float64]


class IntegrateCenterOfMass(Analysis, kind="integrate-center-of-mass", version=1):
    """The phase whose gradient the centre of mass is (iCoM, iDPC)."""

    boundary: Literal["mirror", "periodic"] = Field(
        "mirror", description="What lies beyond the scan: its mirror image, or the scan again."
    )
    high_pass: float = Field(
        0.0,
        ge=0,
        description="Spatial frequency below which noise is damped: cycles per Å, or per scan "
        "pixel where the pixel sizes are not known.",
    )
    keep_ramp: bool = Field(
        False, description="Keep the mean deflection, a ramp of the phase (mirror only)."
    )

    cites: ClassVar[tuple[str, ...]] = ("10.1016/j.ultramic.2015.10.011",)
    accepts: ClassVar[tuple[type, ...]] = (RealSlice,)

    def apply(self, value: Any, options: RunOptions | None = None) -> RealSlice:
        """The phase of the stack that `center_of_mass` gives; `options` are not needed."""
        check_centers(value)
        field, steps, units = deflections(value)
        known = np.isfinite(field).all(axis=0)
        if not known.any():
            raise ParameterError("no position has a centre of mass: there is nothing to integrate")
        if not self.keep_ramp:
            field = field - field[:, known].mean(axis=1)[:, None, None]
        field = np.where(known, field, 0.0)
        shape = field.shape[1:]
        whole = _mirrored(field) if self.boundary == "mirror" else field
        scale = 2 * math.pi if units == "rad" else 1.0
        # rad: <k> is ∇φ / 2π; pixels: the centre of mass is the gradient itself
        phase = scale * _integrated(whole, steps, self.high_pass)[: shape[0], : shape[1]]
        history = self.history(value.history)
        return RealSlice(phase - phase.mean(), value.calibration, history, "iCoM", units=units)


def integrate_center_of_mass(
    com: RealSlice,
    *,
    boundary: Literal["mirror", "periodic"] = "mirror",
    high_pass: float = 0.0,
    keep_ramp: bool = False,
) -> RealSlice:
    """Integrate centres of mass to the phase of the specimen (iCoM, iDPC).

    Parameters
    ----------
    com : RealSlice
        Stack of "x" and "y", (2, Rx, Ry), in raw detector pixels, as `center_of_mass` gives it.
        NaN counts as no deflection.
    boundary : "mirror" or "periodic"
        What lies beyond the scan: its mirror image, or the scan again (exact for a specimen that
        is periodic in it).
    high_pass : float
        Spatial frequency k0 (cycles per Å, or per scan pixel where the pixel sizes are not known)
        below which noise, which integration raises, is damped by ``k²/(k² + k0²)``.
    keep_ramp : bool
        Keep the mean deflection, which is a ramp of the phase, instead of subtracting it.  Only
        for ``boundary="mirror"``: there is no periodic ramp.

    Returns
    -------
    RealSlice
        ``(Rx, Ry)`` float64 of mean zero: in rad where the pixel sizes of scan and detector are
        known, else in detector pixels times scan pixels.

    Raises
    ------
    ParameterError
        Not the centre of mass of a scan, or an option that makes no sense.

    Notes
    -----
    The centre of mass of the pattern of a thin specimen is ``<k> = ∇φ / 2π``, averaged over the
    probe (Lazić, Bosch and Lazar, doi:10.1016/j.ultramic.2015.10.011).  Origin, ellipse, pixel
    size, flip and rotation of the calibration turn pixels into k along the axes of the scan; what
    is not known is left out.  The φ nearest to that in least squares is
    ``FFT(φ) = −i k·FFT(<k>) / (k² + k0²)``.  A positive projected potential has a positive phase;
    electrons are deflected towards it.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.arange(16) * 2 * np.pi / 16
    >>> slope = np.stack([np.tile(np.cos(x)[:, None], 8), np.zeros((16, 8))])
    >>> com = RealSlice(slope, labels=("x", "y"))
    >>> phase = integrate_center_of_mass(com, boundary="periodic")
    >>> bool(np.allclose(phase.data[:, 0], 16 / (2 * np.pi) * np.sin(x)))
    True
    """
    step = IntegrateCenterOfMass(boundary=boundary, high_pass=high_pass, keep_ramp=keep_ramp)
    return step.apply(com)


def check_centers(com: RealSlice) -> None:
    """Raise `ParameterError` unless this is the stack that `center_of_mass` gives."""
    if not isinstance(com, RealSlice) or com.data.ndim != 3 or len(com.data) != 2:
        raise ParameterError(
            "the stack of x and y that center_of_mass gives is needed, not "
            f"{type(com).__name__} {getattr(com, 'shape', '')}"
        )


def deflections(com: RealSlice) -> tuple[Float, tuple[float, float], str]:
    """k along the axes of the scan (2, Rx, Ry), steps of the scan, and the unit of the integral."""
    calibration = com.calibration
    field = np.array(com.data, dtype=np.float64)
    if calibration.origin_px is not None:
        origins = calibration.origins((field.shape[1], field.shape[2]))
        if origins.shape[:2] != field.shape[1:]:
            raise ShapeError(f"origins of {origins.shape[:2]} positions, {field.shape[1:]} centres")
        field = field - np.moveaxis(origins, -1, 0)
    try:
        matrix, unit = calibration.Q_matrix("A^-1"), "rad"
        steps = steps_A(calibration)
    except CalibrationMissing:
        matrix, unit, steps = calibration.Q_matrix("px"), "px^2", (1.0, 1.0)
    with np.errstate(invalid="ignore"):
        turned: Float = np.einsum("ab,bxy->axy", matrix, field)
    return turned, steps, unit


def steps_A(calibration: Calibration) -> tuple[float, float]:
    """Steps of the scan along x and y in Å; `CalibrationMissing` where they are no lengths."""
    if not all(is_length(axis.unit) for axis in calibration.R):
        raise CalibrationMissing("scan pixel size", "with_calibration(R_pixel_size=...) keeps it")
    x, y = (axis.step * unit_factor(axis.unit, "A") for axis in calibration.R)
    return x, y


def _mirrored(field: Float) -> Float:
    """The deflections of a phase that is mirrored at the edges of the scan, (2, 2 Rx, 2 Ry)."""
    signs = np.array([-1.0, 1.0])[:, None, None]
    down = np.concatenate([field, signs * field[:, ::-1]], axis=1)
    whole: Float = np.concatenate([down, -signs * down[:, :, ::-1]], axis=2)
    return whole


def _integrated(field: Float, steps: tuple[float, float], high_pass: float) -> Float:
    """φ with the gradient nearest to `field` (cycles per length when it is <k>)."""
    from scipy import fft  # slow to import

    shape = field.shape[1:]
    kx, ky = (fft.fftfreq(n, s) for n, s in zip(shape, steps, strict=True))
    square = kx[:, None] ** 2 + ky**2 + high_pass**2
    for k, n in zip((kx, ky), shape, strict=True):
        if n % 2 == 0:
            k[n // 2] = 0.0  # the slope of the highest frequency is not seen at the samples
    x, y = fft.fft2(field)
    slope = kx[:, None] * x + ky * y
    waves = np.divide(-1j * slope, square, out=np.zeros_like(slope), where=square > 0)
    phase: Float = fft.ifft2(waves).real / (2 * math.pi)
    return phase
