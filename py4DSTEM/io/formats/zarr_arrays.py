"""Zarr folders: arrays (with axes, as `save` writes them) and simulations of abTEM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.zarr_array import ZarrScan, zarr_errors

_MOST_FACTS = 16 << 20


def _attributes(folder: Path) -> dict[str, Any]:
    """Attributes of a group or array, of Zarr 2 or 3; empty where there are none."""
    for name, key in (("zarr.json", "attributes"), (".zattrs", None)):
        path = folder / name
        try:
            if path.is_file() and path.stat().st_size <= _MOST_FACTS:
                facts = json.loads(path.read_text(encoding="utf-8"))
                found = facts.get(key, {}) if key else facts
                return found if isinstance(found, dict) else {}
        except (OSError, ValueError, AttributeError, RecursionError):
            continue
    return {}


def _is_array(folder: Path) -> bool:
    if (folder / ".zarray").is_file():
        return True
    try:
        facts = json.loads((folder / "zarr.json").read_text(encoding="utf-8"))
        return isinstance(facts, dict) and facts.get("node_type") == "array"
    except (OSError, ValueError, RecursionError):
        return False


def _opened(folder: Path) -> ZarrScan:
    import zarr

    with zarr_errors(folder, "Zarr array"):
        return ZarrScan(zarr.open_array(str(folder), mode="r"), folder)


class ZarrArray(Format):
    """One array in a folder."""

    name, title = "zarr", "Zarr array"
    extensions = (".zarr",)
    requires, extra = ("zarr",), "zarr"

    def sniff(self, source: Source) -> Match:
        return Match.MAYBE if source.is_directory and _is_array(source.path) else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        data = _opened(source.path)
        data.check_loadable(options.scan_shape)
        axes = saved_axes(_attributes(source.path).get("axes"), len(data.shape))
        name = source.path.stem
        calibration = saved_calibration(axes) if len(axes) == 4 else Calibration()
        return {
            name: Signal(
                name, data, calibration, Metadata(title=name, notes=data.notes()), axes=axes
            )
        }


def saved_axes(facts: Any, count: int) -> tuple[Axis, ...]:
    """Axes as `save` writes them; none where the attributes are anything else."""
    if not isinstance(facts, list) or len(facts) != count:
        return ()
    try:
        return tuple(
            Axis(str(f["name"]), float(f["scale"]), float(f["offset"]), str(f["units"]))
            for f in facts
        )
    except (KeyError, TypeError, ValueError, Py4DSTEMError):
        return ()


def saved_calibration(axes: tuple[Axis, ...]) -> Calibration:
    names = ("Rx", "Ry", "Qx", "Qy")
    rx, ry, qx, qy = (
        Axis(name, axis.step, axis.offset, axis.unit)
        for name, axis in zip(names, axes, strict=True)
    )
    return Calibration((rx, ry), (qx, qy))


class AbTEM(Format):
    """What ``to_zarr`` of abTEM writes: ``array0`` … with ``type0`` and ``kwargs0``."""

    name, title = "abtem", "abTEM (Zarr)"
    extensions = (".zarr",)
    requires, extra = ("zarr",), "zarr"

    def sniff(self, source: Source) -> Match:
        known = source.is_directory and {"type0", "kwargs0"} <= _attributes(source.path).keys()
        return Match.YES if known else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        facts = _attributes(source.path)
        signals = {}
        for k in range(len(facts)):
            if f"type{k}" in facts and (source.path / f"array{k}").is_dir():
                kind = str(facts[f"type{k}"])
                name = kind if kind not in signals else f"{kind}{k}"
                signals[name] = _abtem(source.path / f"array{k}", name, facts[f"kwargs{k}"])
        return signals


def _abtem(folder: Path, name: str, kwargs: Mapping[str, Any]) -> Signal:
    """An array whose first axes are the ensemble, and the last two an image or a pattern."""
    data = _opened(folder)
    facts = kwargs.get("metadata") or {}
    scan = [_ensemble_axis(a) for a in kwargs.get("ensemble_axes_metadata") or ()]
    axes = (*scan, *_image_axes(name, kwargs))
    axes = axes if len(axes) == len(data.shape) else ()
    notes = () if kwargs.get("fftshift", True) else ("patterns have the zero beam in the corner",)
    energy = facts.get("energy")
    calibration = saved_calibration(axes) if len(axes) == 4 else Calibration()
    if isinstance(energy, int | float) and energy > 0:
        calibration = calibration.replace(energy_eV=float(energy))
    metadata = Metadata(
        title=name, software="abTEM", energy_eV=calibration.energy_eV, notes=notes,
        original=dict(kwargs),
    )  # fmt: skip
    return Signal(name, data, calibration, metadata, axes=axes)


def _ensemble_axis(facts: Mapping[str, Any]) -> Axis:
    return _axis(
        str(facts.get("label") or "axis"), facts.get("sampling"), facts.get("units"),
        facts.get("offset"),
    )  # fmt: skip


def _image_axes(kind: str, kwargs: Mapping[str, Any]) -> tuple[Axis, Axis]:
    sampling = np.ravel(np.asarray(kwargs.get("sampling") or (1.0, 1.0), dtype=object)).tolist()
    reciprocal = kind.startswith("DiffractionPatterns")
    unit, names = ("A^-1", ("Qx", "Qy")) if reciprocal else ("A", ("Rx", "Ry"))
    x, y = (_axis(n, s, unit, 0.0) for n, s in zip(names, (sampling[0], sampling[-1]), strict=True))
    return x, y


def _axis(name: str, step: Any, unit: Any, offset: Any) -> Axis:
    if not isinstance(step, int | float) or not np.isfinite(step) or step <= 0:
        return Axis(name)
    start = float(offset) if isinstance(offset, int | float) and np.isfinite(offset) else 0.0
    return Axis(name, float(step), start, str(unit or "px"))


FORMATS = (ZarrArray, AbTEM)
