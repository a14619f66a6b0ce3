"""To HyperSpy signals and back; its conventions are converted here and nowhere else.

HyperSpy's array order (scan row, scan column, detector row, detector column) is ours.  It has no
field for the position of the beam: the offsets of its signal axes put zero there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration, Ellipse
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import chunks_of
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.core.slices import DiffractionSlice, RealSlice, Slice
from py4DSTEM.errors import DependencyMissing, ParameterError, ShapeError
from py4DSTEM.io.format import ReadOptions
from py4DSTEM.io.formats.axes import RawAxis
from py4DSTEM.io.formats.hyperspylike import signal_from
from py4DSTEM.io.read import from_signal

__all__ = ["from_hyperspy", "to_hyperspy"]

_NODE = "py4DSTEM"
_BLOCK_BYTES = 1 << 25
_KEPT = ("rotation_rad", "flip", "probe_radius_px")


# ---- to ------------------------------------------------------------------------------------------
def to_hyperspy(value: Cube | Slice) -> Any:
    """A HyperSpy ``Signal2D`` of a scan, a map or a pattern.

    Parameters
    ----------
    value : DataCube, RealSlice or DiffractionSlice
        Data that are not in memory become a lazy signal; nothing is read.

    Returns
    -------
    hyperspy.signals.Signal2D or its lazy variant
        Axes ``y x ky kx`` with names, scales, offsets and units; zero of ``ky`` and ``kx`` at the
        mean origin where it is known.  The rest of the calibration is in ``metadata.py4DSTEM``.

    Raises
    ------
    DependencyMissing
        HyperSpy is not installed.

    Examples
    --------
    >>> signal = to_hyperspy(cube)  # doctest: +SKIP
    """
    try:
        from hyperspy.signals import Signal2D
    except ImportError as error:
        raise DependencyMissing("hyperspy", "to_hyperspy", "hyperspy") from error
    if isinstance(value, Cube):
        axes = [*_axes(value.calibration.R, True), *_centred(value.calibration)]
        metadata, original = value.metadata, dict(value.metadata.original)
    elif isinstance(value, Slice):
        pair = (
            _centred(value.calibration)
            if isinstance(value, DiffractionSlice)
            else _axes(value.calibration.R, False)
        )
        axes = [{"name": "image", "navigate": True}, *pair] if value.data.ndim == 3 else pair
        metadata, original = Metadata(title=value.name), {}
    else:
        raise ParameterError(
            f"to_hyperspy takes a DataCube, a RealSlice or a DiffractionSlice, not "
            f"{type(value).__name__}"
        )
    data = _in_memory_or_dask(value.data)
    axes = [axis | {"size": int(n)} for axis, n in zip(axes, data.shape, strict=True)]
    signal = Signal2D(
        data,
        axes=axes,
        metadata=_tree(value, metadata),
        original_metadata=original,
    )
    return signal if isinstance(data, np.ndarray) else signal.as_lazy()


def _axes(pair: tuple[Axis, Axis], navigate: bool) -> list[dict[str, Any]]:
    return [_axis(axis, name, navigate) for axis, name in zip(pair, ("y", "x"), strict=True)]


def _centred(calibration: Calibration) -> list[dict[str, Any]]:
    """Signal axes; a known origin wins over the offsets of the axes."""
    x, y = calibration.Q
    if calibration.origin_px is not None:
        qx, qy = calibration.mean_origin_px
        x, y = replace(x, offset=-qx * x.step), replace(y, offset=-qy * y.step)
    return [_axis(x, "ky", False), _axis(y, "kx", False)]


def _axis(axis: Axis, name: str, navigate: bool) -> dict[str, Any]:
    return {
        "name": name,
        "scale": axis.step,
        "offset": axis.offset,
        "units": _unit(axis.unit),
        "navigate": navigate,
    }


def _unit(unit: str) -> str:
    """Our names as HyperSpy and pint write them."""
    if unit.endswith("^-1"):
        return f"1/{_unit(unit.removesuffix('^-1'))}"
    return {"A": "Å", "um": "µm", "px": "px"}.get(unit, unit)


def _in_memory_or_dask(data: Any) -> Any:
    if isinstance(data, np.ndarray) and not isinstance(data, np.memmap):
        return data
    import dask.array

    if isinstance(data, dask.array.Array):
        return data
    return dask.array.from_array(data, chunks=_blocks(data), asarray=False, name=False)


def _blocks(data: Any) -> tuple[int, ...]:
    """Whole patterns, about 32 MB of them, in multiples of what is stored together."""
    shape = tuple(map(int, data.shape))
    if len(shape) != 4:
        return shape
    stored = chunks_of(data) or (1, 1, *shape[2:])
    pattern = max(1, shape[2] * shape[3] * np.dtype(data.dtype).itemsize)
    wanted = max(1, _BLOCK_BYTES // pattern)
    columns = min(shape[1], max(stored[1], wanted))
    rows = min(shape[0], max(stored[0], wanted // columns, 1))
    return (rows, columns, *shape[2:])


def _tree(value: Cube | Slice, metadata: Metadata) -> dict[str, Any]:
    calibration = value.calibration
    tem = {
        "beam_energy": None if calibration.energy_eV is None else calibration.energy_eV / 1e3,
        "convergence_angle": calibration.semiangle_mrad,
        "camera_length": metadata.camera_length_mm,
        "magnification": metadata.magnification,
        "microscope": metadata.microscope,
    }
    general = {"title": value.name, "date": metadata.date, "time": metadata.time}
    return {
        "General": _known(general),
        "Acquisition_instrument": {"TEM": _known(tem)},
        _NODE: _known(_rest(value)),
    }


def _rest(value: Cube | Slice) -> dict[str, Any]:
    """What HyperSpy has no place for."""
    calibration = value.calibration
    rest: dict[str, Any] = {name: getattr(calibration, name) for name in _KEPT}
    if calibration.origin_px is not None:
        rest["origin_px"] = np.array(calibration.origin_px)
        rest["Q_offsets"] = [axis.offset for axis in calibration.Q]
    if calibration.ellipse is not None:
        e = calibration.ellipse
        rest["ellipse"] = [e.a, e.b, e.theta_rad]
    if isinstance(value, Slice):
        rest["kind"] = "diffraction" if isinstance(value, DiffractionSlice) else "real"
        rest["labels"] = list(value.labels) or None
    return rest


def _known(tree: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if value is not None}


# ---- from ----------------------------------------------------------------------------------------
def from_hyperspy(signal: Any, cube_type: type[Cube] = Cube) -> Any:
    """A scan, a map or a pattern from a HyperSpy signal (or one of pyxem).

    Parameters
    ----------
    signal : hyperspy.signals.Signal2D
        Two navigation and two signal axes for a scan, two signal axes for an image.  A lazy signal
        stays lazy.
    cube_type : type
        Class of the scan.

    Returns
    -------
    Cube, RealSlice or DiffractionSlice
        An image is a pattern where its axes are inverse lengths or angles.

    Raises
    ------
    ShapeError
        Other dimensions.
    """
    axes = list(signal.axes_manager._axes)
    navigate = [bool(axis.navigate) for axis in axes]
    if navigate not in ([True, True, False, False], [False, False], [True, False, False]):
        raise ShapeError(
            f"a scan has two navigation and two signal axes, an image two signal axes, not "
            f"{navigate.count(True)} and {navigate.count(False)}: use signal.transpose(...)"
        )
    raw = [_raw(axis) for axis in axes]
    tree = signal.metadata.as_dictionary()
    kept = tree.get(_NODE, {})
    original = signal.original_metadata.as_dictionary()
    name = str(tree.get("General", {}).get("title") or "datacube")
    found = signal_from(name, signal.data, raw, navigate, tree, original)
    found = replace(found, calibration=_restored(found.calibration, kept))
    if len(axes) == 3:
        return _stack(signal, found, kept)
    made = from_signal(found, ReadOptions(), cube_type)
    if len(axes) == 2 and kept.get("kind") == "real" and isinstance(made, DiffractionSlice):
        return RealSlice(made.data, replace(made.calibration, R=made.calibration.Q), name=made.name)
    return made


def _raw(axis: Any) -> RawAxis:
    """An axis; one that is a table of positions has no scale."""
    unit = axis.units if isinstance(axis.units, str) else None
    return RawAxis(str(axis.name), getattr(axis, "scale", None), getattr(axis, "offset", 0.0), unit)


def _restored(calibration: Calibration, kept: Mapping[str, Any]) -> Calibration:
    """The calibration with what `to_hyperspy` had put aside."""
    changes: dict[str, Any] = {name: kept[name] for name in _KEPT if name in kept}
    if "ellipse" in kept:
        changes["ellipse"] = Ellipse(*map(float, kept["ellipse"]))
    if "origin_px" in kept:
        changes["origin_px"] = np.asarray(kept["origin_px"], np.float64)
    if "Q_offsets" in kept:
        x, y = (replace(a, offset=float(o))
                for a, o in zip(calibration.Q, kept["Q_offsets"], strict=True))  # fmt: skip
        changes["Q"] = (x, y)
    return replace(calibration, **changes)


def _stack(signal: Any, found: Any, kept: Mapping[str, Any]) -> Slice:
    """A labelled stack of images."""
    if "kind" not in kept:
        raise ShapeError(
            "a stack of patterns is not a scan yet: reshape its navigation axis to two, for "
            "example with signal.data.reshape(rows, columns, ...)"
        )
    data = signal.data
    data = data.compute() if hasattr(data, "compute") else data
    labels = tuple(map(str, kept.get("labels") or range(len(data))))
    x, y = found.axes[1:]
    if kept["kind"] == "diffraction":
        Q = (replace(x, name="Qx"), replace(y, name="Qy"))
        return DiffractionSlice(data, replace(found.calibration, Q=Q), name=found.name,
                                labels=labels)  # fmt: skip
    R = (replace(x, name="Rx"), replace(y, name="Ry"))
    return RealSlice(data, replace(found.calibration, R=R), name=found.name, labels=labels)
