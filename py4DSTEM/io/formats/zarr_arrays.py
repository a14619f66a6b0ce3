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
    """What ``to_zarr`` of abTEM 1.0 writes: ``array0`` …, described by ``metadata0`` …

    abTEM's x is the first axis of its arrays, as ours is; nothing is exchanged.
    """

    name, title = "abtem", "abTEM (Zarr)"
    extensions = (".zarr",)
    requires, extra = ("zarr",), "zarr"

    def sniff(self, source: Source) -> Match:
        if not source.is_directory:
            return Match.NO
        first = _attributes(source.path).get("metadata0")
        ours = isinstance(first, dict) and str(first.get("data_origin", "")).startswith("abTEM")
        return Match.YES if ours else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        facts = _attributes(source.path)
        signals = {}
        for k in range(len(facts)):
            about, folder = facts.get(f"metadata{k}"), source.path / f"array{k}"
            if isinstance(about, dict) and folder.is_dir():
                kind = str(about.get("type", "array"))
                name = kind if kind not in signals else f"{kind}{k}"
                signals[name] = _abtem(folder, name, about)
        return signals


def _abtem(folder: Path, name: str, about: Mapping[str, Any]) -> Signal:
    """An array with its axes, beam energy and convergence; the zero beam where the axes have it."""
    data = _opened(folder)
    axes = _abtem_axes(about.get("axes"), len(data.shape))
    calibration = _centred(saved_calibration(axes)) if len(axes) == 4 else Calibration()
    energy, semiangle = (_positive(about.get(k)) for k in ("energy", "semiangle_cutoff"))
    calibration = calibration.replace(energy_eV=energy, semiangle_mrad=semiangle)
    metadata = Metadata(
        title=name, software=str(about.get("data_origin", "abTEM")), energy_eV=energy,
        semiangle_mrad=semiangle, notes=data.notes(), original=dict(about),
    )  # fmt: skip
    return Signal(name, data, calibration, metadata, axes=axes)


def _abtem_axes(facts: Any, count: int) -> tuple[Axis, ...]:
    """Axes ``axis_0`` …; an axis without a usable step counts pixels."""
    if not isinstance(facts, dict) or len(facts) != count:
        return ()
    about = [facts.get(f"axis_{k}") for k in range(count)]
    return tuple(_axis(f"axis{k}", a if isinstance(a, dict) else {}) for k, a in enumerate(about))


def _axis(name: str, facts: Mapping[str, Any]) -> Axis:
    name, step, offset = str(facts.get("label") or name), facts.get("sampling"), facts.get("offset")
    if _positive(step) is None:
        return Axis(name)
    start = float(offset) if isinstance(offset, int | float) and np.isfinite(offset) else 0.0
    return Axis(name, float(step or 1), start, str(facts.get("units") or "px"))


def _centred(calibration: Calibration) -> Calibration:
    """With the origin at the pixel where the detector axes read zero."""
    qx, qy = (-axis.offset / axis.step for axis in calibration.Q)
    return calibration.replace(origin_px=(qx, qy)) if qx or qy else calibration


def _positive(value: Any) -> float | None:
    good = isinstance(value, int | float) and np.isfinite(value) and value > 0
    return float(value) if good else None


FORMATS = (ZarrArray, AbTEM)
