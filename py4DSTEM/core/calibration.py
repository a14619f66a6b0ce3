"""What is known about the coordinates of a scan, as one frozen value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.units import electron_wavelength_A, is_angle, is_reciprocal, unit_factor

__all__ = ["Calibration", "Ellipse", "Measured", "rotation_matrix", "updated"]

Pair = tuple[float, float]


@dataclass(frozen=True)
class Ellipse:
    """Elliptic distortion: a ring becomes an ellipse with semi-axis `a` along `theta_rad` from x.

    Parameters
    ----------
    a, b : float
        Semi-axes in one unit (pixels); only their ratio matters for the correction.
    theta_rad : float
        Direction of `a`, from x towards y.
    """

    a: float
    b: float
    theta_rad: float

    def __post_init__(self) -> None:
        if (
            not all(map(math.isfinite, (self.a, self.b, self.theta_rad)))
            or min(self.a, self.b) <= 0
        ):
            raise ParameterError(f"an ellipse needs positive, finite semi-axes, not {self!r}")

    def correction(self) -> NDArray[np.float64]:
        """Matrix T (2, 2) that maps measured (qx, qy) to undistorted ones.

        ``T = [[e s² + c², s c (1 − e)], [s c (1 − e), s² + e c²]]`` with ``e = b / a`` and
        ``s, c = sin, cos(θ − π/2)``: the convention of published py4DSTEM files.
        """
        e = self.b / self.a
        s, c = math.sin(self.theta_rad - math.pi / 2), math.cos(self.theta_rad - math.pi / 2)
        off = s * c * (1 - e)
        return np.array([[e * s * s + c * c, off], [off, s * s + e * c * c]])

    def swapped(self) -> Ellipse:
        """The same ellipse after exchanging x and y."""
        return replace(self, theta_rad=math.pi / 2 - self.theta_rad)

    def scaled(self, factor: float) -> Ellipse:
        """The same ellipse measured in pixels that are `1 / factor` as large."""
        return replace(self, a=self.a * factor, b=self.b * factor)


def _axes(first: str, second: str) -> tuple[Axis, Axis]:
    return Axis(first), Axis(second)


@dataclass(frozen=True, eq=False)
class Calibration:
    """Coordinates of a scan; travels with the array and moves with it.

    Applied to a raw detector position in this order: subtract the origin of that scan position,
    undo the ellipse, multiply by the pixel size, exchange x and y if `flip`, rotate by
    ``+rotation_rad`` (from detector to scan axes).  ``None`` means "not known".

    Parameters
    ----------
    R, Q : pair of Axis
        Scan and detector axes, x (rows) first.
    origin_px : (2,) or (Rx, Ry, 2) float64, optional
        Position of the unscattered beam in detector pixels, one for all or one per scan position.
    ellipse : Ellipse, optional
    rotation_rad, flip : optional
        Rotation from detector to scan axes; whether x and y are exchanged first.
    energy_eV, semiangle_mrad : float, optional
        Beam energy and convergence semi-angle.
    probe_radius_px : float, optional
        Radius of the unscattered disk on the detector.
    """

    R: tuple[Axis, Axis] = field(default_factory=lambda: _axes("Rx", "Ry"))
    Q: tuple[Axis, Axis] = field(default_factory=lambda: _axes("Qx", "Qy"))
    origin_px: NDArray[np.float64] | None = None
    ellipse: Ellipse | None = None
    rotation_rad: float | None = None
    flip: bool | None = None
    energy_eV: float | None = None
    semiangle_mrad: float | None = None
    probe_radius_px: float | None = None

    def __post_init__(self) -> None:
        for name in ("energy_eV", "semiangle_mrad", "probe_radius_px"):
            _check_positive(name, getattr(self, name))
        if self.rotation_rad is not None and not math.isfinite(self.rotation_rad):
            raise ParameterError(f"rotation_rad must be finite, not {self.rotation_rad!r}")
        if self.origin_px is not None:
            object.__setattr__(self, "origin_px", _frozen_origin(self.origin_px))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Calibration):
            return NotImplemented
        return all(
            _same(getattr(self, f.name), getattr(other, f.name)) for f in fields(Calibration)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        from py4DSTEM.core.html import calibration_state

        state = calibration_state(self)
        known = ", ".join(f"{name} {value}" for name, value in state.items() if value is not None)
        return f"<Calibration {known or 'of nothing yet'}>"

    def _repr_html_(self) -> str:
        from py4DSTEM.core.html import calibration_html

        return calibration_html(self)

    # ---- lookups ---------------------------------------------------------------------------------
    @property
    def Q_pixel_size(self) -> float:
        """Detector pixel size (in `Q_pixel_units`) where x and y agree."""
        return _single_step(self.Q)

    @property
    def R_pixel_size(self) -> float:
        """Scan step (in `R_pixel_units`) where x and y agree."""
        return _single_step(self.R)

    @property
    def Q_pixel_units(self) -> str:
        return self.Q[0].unit

    @property
    def R_pixel_units(self) -> str:
        return self.R[0].unit

    @property
    def wavelength_A(self) -> float:
        """Electron wavelength in Å."""
        if self.energy_eV is None:
            raise CalibrationMissing("beam energy", "use with_calibration(energy_eV=...)")
        return electron_wavelength_A(self.energy_eV)

    @property
    def origin_varies(self) -> bool:
        """Whether there is one origin per scan position."""
        return self.origin_px is not None and self.origin_px.ndim == 3

    @property
    def mean_origin_px(self) -> Pair:
        """The origin, averaged over the scan where it varies (positions without one left out)."""
        if self.origin_px is None:
            raise _origin_missing()
        known = self.origin_px[np.isfinite(self.origin_px).all(-1)]
        if not len(known):
            raise CalibrationMissing("origin", "none could be measured at any scan position")
        qx, qy = known.reshape(-1, 2).mean(axis=0)
        return float(qx), float(qy)

    def Q_steps(self, unit: str) -> Pair:
        """Detector pixel sizes along x and y expressed in `unit` (``px``, ``mrad``, ``A^-1`` …)."""
        return self._Q_step(self.Q[0], unit), self._Q_step(self.Q[1], unit)

    def _Q_step(self, axis: Axis, unit: str) -> float:
        if unit == "px":
            return 1.0
        if not axis.calibrated:
            raise CalibrationMissing(
                "detector pixel size",
                "measure_pixel_size(...) finds it from a known structure; "
                'with_calibration(Q_pixel_size=..., Q_pixel_units="A^-1") keeps it',
            )
        if is_angle(axis.unit) and is_reciprocal(unit):
            rad = axis.step * unit_factor(axis.unit, "rad")
            return rad / self.wavelength_A * unit_factor("A^-1", unit)
        if is_reciprocal(axis.unit) and is_angle(unit):
            per_A = axis.step * unit_factor(axis.unit, "A^-1")
            return per_A * self.wavelength_A * unit_factor("rad", unit)
        return axis.step * unit_factor(axis.unit, unit)

    def semiangle_px(self) -> float:
        """Radius of the unscattered disk in detector pixels."""
        if self.probe_radius_px is not None:
            return self.probe_radius_px
        if self.semiangle_mrad is None:
            raise CalibrationMissing(
                "convergence angle",
                "measure_probe(...) finds the radius; with_calibration(probe) or "
                "with_calibration(probe_radius_px=...) keeps it, or semiangle_mrad=... with a "
                "pixel size",
            )
        return self.semiangle_mrad / math.sqrt(math.prod(self.Q_steps("mrad")))

    # ---- coordinates -----------------------------------------------------------------------------
    def Q_matrix(self, unit: str = "px") -> NDArray[np.float64]:
        """Matrix M (2, 2) from detector offsets to calibrated vectors: ``v = M (p - origin)``.

        Ellipse, pixel size, flip and rotation in the order of the class; what is not known is left
        out (a missing pixel size only where `unit` is ``"px"``).

        Raises
        ------
        CalibrationMissing
            `unit` is physical and the pixel size is not known.
        """
        matrix = np.diag(self.Q_steps(unit))
        if self.ellipse is not None:
            matrix = matrix @ self.ellipse.correction()
        if self.flip:
            matrix = matrix[::-1]
        if self.rotation_rad:
            matrix = rotation_matrix(self.rotation_rad) @ matrix
        return matrix

    def origins(self, R_shape: Pair | tuple[int, int]) -> NDArray[np.float64]:
        """The origin of every scan position, (Rx, Ry, 2) float64; NaN where there is none."""
        if self.origin_px is None:
            raise _origin_missing()
        whole: NDArray[np.float64] = np.broadcast_to(self.origin_px, (*map(int, R_shape), 2))
        return whole

    # ---- changes ---------------------------------------------------------------------------------
    def replace(
        self,
        *,
        R_pixel_size: float | Sequence[float] | None = None,
        R_pixel_units: str | None = None,
        Q_pixel_size: float | Sequence[float] | None = None,
        Q_pixel_units: str | None = None,
        origin_px: ArrayLike | None = None,
        ellipse: Ellipse | Sequence[float] | None = None,
        rotation_rad: float | None = None,
        flip: bool | None = None,
        energy_eV: float | None = None,
        semiangle_mrad: float | None = None,
        probe_radius_px: float | None = None,
    ) -> Self:
        """A copy with the given quantities changed; what is left out stays as it is.

        ``ellipse`` may be ``(a, b, theta_rad)``; a pixel size may be one number or ``(x, y)``.
        """
        changes: dict[str, Any] = {
            name: value
            for name, value in (
                ("origin_px", origin_px),
                ("rotation_rad", rotation_rad),
                ("flip", flip),
                ("energy_eV", energy_eV),
                ("semiangle_mrad", semiangle_mrad),
                ("probe_radius_px", probe_radius_px),
            )
            if value is not None
        }
        if ellipse is not None:
            changes["ellipse"] = ellipse if isinstance(ellipse, Ellipse) else Ellipse(*ellipse)
        changes["R"] = _rescaled(self.R, R_pixel_size, R_pixel_units)
        changes["Q"] = _rescaled(self.Q, Q_pixel_size, Q_pixel_units)
        return replace(self, **changes)


@runtime_checkable
class Measured(Protocol):
    """A measured quantity that knows which entries of a calibration it gives."""

    def calibration_changes(self) -> dict[str, Any]:
        """Keyword arguments of `Calibration.replace`."""


def updated(
    calibration: Calibration, *known: Calibration | Measured, **changes: Any
) -> Calibration:
    """`calibration` with what was measured, in the order given, and then `changes`.

    A `Calibration` among `known` replaces everything before it.  The values of `changes` may be
    measured ones too; ``origin``, ``rotation`` and ``pixel_size`` must be.
    """
    for value in known:
        if isinstance(value, Calibration):
            calibration = value
        elif isinstance(value, Measured):
            calibration = calibration.replace(**value.calibration_changes())
        else:
            raise ParameterError(
                f"a calibration is made of Calibration or measured values, not {value!r}"
            )
    plain = {}
    for name, value in changes.items():
        if isinstance(value, Measured):
            calibration = calibration.replace(**value.calibration_changes())
        elif name in ("origin", "rotation", "pixel_size") and value is not None:
            remedy = {
                "origin": "origin_px",
                "rotation": "rotation_rad",
                "pixel_size": "Q_pixel_size",
            }
            raise ParameterError(f"{name}= takes a measured value; numbers go to {remedy[name]}=")
        elif value is not None:
            plain[name] = value
    return calibration.replace(**plain)


def _origin_missing() -> CalibrationMissing:
    return CalibrationMissing(
        "origin",
        "measure_origin(cube) finds it at every position (find_beam(cube) for a first look); "
        "with_calibration(origin_px=(qx, qy)) keeps it",
    )


def _check_positive(name: str, value: float | None) -> None:
    if value is not None and not (math.isfinite(value) and value > 0):
        raise ParameterError(f"{name} must be a positive number, not {value!r}")


def _frozen_origin(origin: ArrayLike) -> NDArray[np.float64]:
    array = np.array(origin, dtype=np.float64)
    if array.shape != (2,) and not (array.ndim == 3 and array.shape[2] == 2):
        raise ShapeError(
            f"an origin is (qx, qy) or an array (Rx, Ry, 2), not an array of shape {array.shape}"
        )
    if array.ndim == 1 and not np.isfinite(array).all():
        raise ParameterError(f"the origin must be finite, not {tuple(array.tolist())}")
    array.flags.writeable = False
    return array


def _single_step(axes: tuple[Axis, Axis]) -> float:
    x, y = axes
    if not math.isclose(x.step, y.step, rel_tol=1e-9):
        raise ParameterError(
            f"the pixels are not square ({x.step} x {y.step} {x.unit}): use the axes themselves"
        )
    return x.step


def _rescaled(
    axes: tuple[Axis, Axis], size: float | Sequence[float] | None, unit: str | None
) -> tuple[Axis, Axis]:
    if size is None and unit is None:
        return axes
    steps = [a.step for a in axes] if size is None else np.broadcast_to(size, 2).tolist()
    units = [a.unit for a in axes] if unit is None else [unit, unit]
    x, y = (
        # The origin of the axis is kept in pixels: a new scale must not move pixel 0.
        replace(a, step=float(s), unit=u, offset=a.offset / a.step * float(s))
        for a, s, u in zip(axes, steps, units, strict=True)
    )
    return x, y


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return (
            isinstance(a, np.ndarray)
            and isinstance(b, np.ndarray)
            and np.array_equal(a, b, equal_nan=True)
        )
    return a == b


def rotation_matrix(angle_rad: float) -> NDArray[np.float64]:
    """Matrix (2, 2) that rotates x towards y: ``v' = R v``."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return np.array([[c, -s], [s, c]])
