"""The calibration dictionary of published py4DSTEM files, both ways."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.units import canonical_unit, is_angle, is_reciprocal, unit_factor

__all__ = ["from_keys", "plain_unit", "same_keys", "to_keys"]


def plain_unit(unit: Any) -> str:
    """A unit without the brackets and underscores of EMD 0.1: ``[n_m^-1]`` → ``nm^-1``.

    >>> plain_unit("[1_/_n_m]"), plain_unit("[n_m]"), plain_unit("[pix]")
    ('nm^-1', 'nm', 'px')
    """
    text = str(unit or "").strip()
    if text.startswith("[") and text.endswith("]"):
        text = text[1:-1].replace("_", "")
    return canonical_unit(text)


# ---- from a file ---------------------------------------------------------------------------------
def from_keys(
    keys: Mapping[str, Any], R_shape: tuple[int, int] | None = None
) -> tuple[Calibration, tuple[str, ...]]:
    """A calibration from the keys of a file, and what could not be used.

    Parameters
    ----------
    keys : mapping
        Such as ``Q_pixel_size``, ``qx0``, ``a``; missing ones are not known.
    R_shape : (int, int), optional
        An origin per scan position must have this shape.
    """
    notes: list[str] = []
    changes: dict[str, Any] = {
        "R": _axes(keys, "R", notes),
        "Q": _axes(keys, "Q", notes),
        "origin_px": _origin(keys, R_shape, notes),
        "ellipse": _ellipse(keys, notes),
        "rotation_rad": _rotation(keys),
        "flip": _flag(keys.get("QR_flip")),
        "energy_eV": _positive(keys, "energy", "energy_eV", "accelerating_voltage"),
        "semiangle_mrad": _positive(keys, "convergence_semiangle_mrad"),
        "probe_radius_px": _positive(keys, "probe_semiangle", "convergence_semiangle_pixels"),
    }
    calibration = Calibration()
    for name, value in changes.items():
        if value is None:
            continue
        try:
            calibration = replace(calibration, **{name: value})
        except Py4DSTEMError as error:
            notes.append(f"calibration: {name} not used ({error})")
    return calibration, tuple(notes)


def _number(value: Any) -> float | None:
    if isinstance(value, np.ndarray) and value.size == 1:
        value = value.reshape(-1)[0]
    if isinstance(value, tuple | list) and len(value) == 1:
        value = value[0]
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _positive(keys: Mapping[str, Any], *names: str) -> float | None:
    for name in names:
        number = _number(keys.get(name))
        if number is not None and number > 0:
            return number
    return None


def _flag(value: Any) -> bool | None:
    if isinstance(value, str):
        return {"true": True, "false": False}.get(value.lower())
    return None if value is None else bool(np.all(value))


def _axes(keys: Mapping[str, Any], space: str, notes: list[str]) -> tuple[Axis, Axis]:
    size, unit = keys.get(f"{space}_pixel_size"), plain_unit(keys.get(f"{space}_pixel_units"))
    steps = np.asarray(size, float).ravel().tolist() if _is_pair(size) else [_number(size)] * 2
    if size is not None and not all(s is not None and math.isfinite(s) and s > 0 for s in steps):
        notes.append(f"calibration: {space}_pixel_size = {size!r} not used")
        steps, unit = [None, None], "px"
    x, y = (
        Axis(f"{space}{name}", 1.0 if s is None else s, 0.0, unit if size is not None else "px")
        for name, s in zip("xy", steps, strict=True)
    )
    return x, y


def _is_pair(value: Any) -> bool:
    return isinstance(value, np.ndarray | tuple | list) and np.size(value) == 2


def _origin(
    keys: Mapping[str, Any], R_shape: tuple[int, int] | None, notes: list[str]
) -> NDArray[np.float64] | None:
    qx, qy = (_plane(keys.get(name)) for name in ("qx0", "qy0"))
    if qx is not None and qy is not None and qx.shape == qy.shape:
        if qx.ndim == 2 and R_shape in (None, qx.shape):
            return np.stack([qx, qy], axis=-1)
        if qx.ndim == 2:
            notes.append(f"calibration: origins of {qx.shape} positions averaged for {R_shape}")
        mean = np.array([np.nanmean(qx), np.nanmean(qy)])
        return mean if np.isfinite(mean).all() else None
    x, y = (_number(keys.get(name)) for name in ("qx0_mean", "qy0_mean"))
    return None if x is None or y is None else np.array([x, y])


def _plane(value: Any) -> NDArray[np.float64] | None:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        return None
    if value is None or not np.isfinite(array).any():
        return None
    return array if array.ndim == 2 else array.reshape(-1)[:1]


def _ellipse(keys: Mapping[str, Any], notes: list[str]) -> Ellipse | None:
    a, b, theta = (_number(keys.get(name)) for name in ("a", "b", "theta"))
    if a is None or b is None or theta is None:
        return None
    if min(a, b) <= 0:
        notes.append(f"calibration: ellipse a={a}, b={b} not used")
        return None
    return Ellipse(a, b, theta)


def _rotation(keys: Mapping[str, Any]) -> float | None:
    rotation = _number(keys.get("QR_rotation"))
    if rotation is not None:
        return rotation
    degrees = _number(keys.get("QR_rotation_degrees"))
    return None if degrees is None else math.radians(degrees)


# ---- into a file ---------------------------------------------------------------------------------
def to_keys(calibration: Calibration) -> dict[str, Any]:
    """What py4DSTEM 0.14 can know of a calibration: one pixel size, Å⁻¹ or mrad."""
    q_size, q_unit = _detector_scale(calibration)
    keys: dict[str, Any] = {
        "Q_pixel_size": q_size,
        "Q_pixel_units": q_unit,
        "R_pixel_size": float(calibration.R[0].step),
        "R_pixel_units": _file_unit(calibration.R[0].unit),
        "QR_flip": calibration.flip,
        "probe_semiangle": calibration.probe_radius_px,
        "convergence_semiangle_mrad": calibration.semiangle_mrad,
        **_rotation_keys(calibration.rotation_rad),
        **_origin_keys(calibration.origin_px),
    }
    if calibration.ellipse is not None:
        ellipse = calibration.ellipse
        keys |= {"a": ellipse.a, "b": ellipse.b, "theta": ellipse.theta_rad}
    return {
        name: float(v) if type(v) in (int, np.float64) else v
        for name, v in keys.items() if v is not None
    }  # fmt: skip


def _file_unit(unit: str) -> str:
    return "pixels" if unit == "px" else unit


def _detector_scale(calibration: Calibration) -> tuple[float, str]:
    axis = calibration.Q[0]
    for test, target in ((is_reciprocal, "A^-1"), (is_angle, "mrad")):
        if test(axis.unit):
            return axis.step * unit_factor(axis.unit, target), target
    return axis.step, _file_unit(axis.unit)


def _rotation_keys(rotation_rad: float | None) -> dict[str, float]:
    if rotation_rad is None:
        return {}
    return {"QR_rotation": rotation_rad, "QR_rotation_degrees": math.degrees(rotation_rad)}


def _origin_keys(origin: NDArray[np.float64] | None) -> dict[str, Any]:
    if origin is None:
        return {}
    if origin.ndim == 1:
        qx, qy = map(float, origin)
        return {"qx0": qx, "qy0": qy, "qx0_mean": qx, "qy0_mean": qy}
    keys: dict[str, Any] = {}
    for k, name in enumerate(("qx0", "qy0")):
        plane = np.ascontiguousarray(origin[..., k])
        known = np.isfinite(plane)
        mean = float(plane[known].mean()) if known.any() else math.nan
        keys |= {name: plane, f"{name}_mean": mean, f"{name}_shift": plane - mean}
    return keys


def same_keys(keys: Mapping[str, Any], calibration: Calibration) -> bool:
    """Whether a file's keys still say what `calibration` was written as.

    Where another program has changed them since, they are right and our exact copy is stale.
    """
    expected = to_keys(calibration)
    names = {name for name in (*keys, *expected) if not name.startswith("_")}
    return all(_same(keys.get(name), expected.get(name)) for name in names)


def _same(a: Any, b: Any) -> bool:
    if a is None or b is None:
        return a is b
    if isinstance(a, str) or isinstance(b, str):
        return bool(a == b)
    a, b = np.asarray(a), np.asarray(b)
    return a.shape == b.shape and bool(np.array_equal(a, b, equal_nan=True))
