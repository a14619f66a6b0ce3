"""From a path to cubes, slices and arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice, RealSlice
from py4DSTEM.errors import (
    CorruptFile,
    DependencyMissing,
    FormatError,
    ParameterError,
    Py4DSTEMError,
    Py4DSTEMWarning,
    UnknownFormat,
)
from py4DSTEM.io.format import (
    Format,
    RawLayout,
    ReadOptions,
    Signal,
    Source,
    detect,
    format_named,
)
from py4DSTEM.io.frames import MemoryFrames
from py4DSTEM.io.remote import is_url, read_url
from py4DSTEM.io.scan import arrange
from py4DSTEM.units import is_angle, is_length, is_reciprocal

__all__ = ["from_signal", "open_signals", "read_file"]


def read_file(
    path: str | os.PathLike[str],
    options: ReadOptions,
    *,
    format: str | None = None,
    cube_type: type[Cube] = Cube,
) -> Any:
    """Read one object, or a mapping of name → object where the file holds several."""
    if is_url(path):
        found = read_url(str(path), options, cube_type=cube_type, finish=_valued)
        several = isinstance(found, dict)
        binned = {n: _binned(v, options) for n, v in (found if several else {"": found}).items()}
        return binned if several else binned[""]
    source = Source.of(path)
    fmt, signals = open_signals(source, options, format)
    chosen = _choose(signals, options.dataset, source)
    objects = {
        name: _finished(value, options, source, fmt, cube_type) for name, value in chosen.items()
    }
    return next(iter(objects.values())) if len(objects) == 1 else objects


def open_signals(
    source: Source, options: ReadOptions, format: str | None = None
) -> tuple[Format, Mapping[str, Any]]:
    """The format of a file and its data sets; only headers are read.

    Raises
    ------
    FormatError
        The file is unknown, damaged or unreadable; names path, format, offset and remedy.
    """
    if format is None and options.layout is not None:
        format = "raw"
    candidates = [format_named(format)] if format else list(detect(source))
    failures: list[str] = []
    for fmt in candidates:
        try:
            return fmt, _guarded_open(fmt, source, options)
        except FormatError as error:
            if len(candidates) == 1:
                raise
            failures.append(f"{fmt.name}: {error}")
    raise UnknownFormat(
        "it looks like several formats and could be read as none: " + "; ".join(failures),
        path=source.path,
    )


def _guarded_open(fmt: Format, source: Source, options: ReadOptions) -> Mapping[str, Any]:
    """Open, turning whatever a reader stumbles over into an error that names the file."""
    if not fmt.available():
        raise DependencyMissing(" and ".join(fmt.requires), f"reading {fmt.title}", fmt.extra)
    try:
        signals = fmt.open(source, options)
    except (Py4DSTEMError, KeyboardInterrupt):
        raise
    except MemoryError as error:
        raise CorruptFile(
            "its header asks for more memory than there is", path=source.path, format=fmt.name
        ) from error
    except Exception as error:
        raise CorruptFile(
            f"cannot be read ({type(error).__name__}: {error})",
            path=source.path,
            format=fmt.name,
            hint="The file is damaged, or of a variant that is not supported: please report it",
        ) from error
    if not signals:
        raise CorruptFile("it holds no data", path=source.path, format=fmt.name)
    return signals


def _choose(signals: Mapping[str, Any], dataset: str | None, source: Source) -> Mapping[str, Any]:
    """The asked data set, or the scans, or everything."""
    if dataset is not None:
        if dataset not in signals:
            raise ParameterError(
                f"{source.path} has no data set {dataset!r}, only {', '.join(map(repr, signals))}"
            )
        return {dataset: signals[dataset]}
    return signals


# ---- signals become values -----------------------------------------------------------------------
def _finished(
    value: Any, options: ReadOptions, source: Source, fmt: Format, cube_type: type[Cube]
) -> Any:
    value = _valued(value, options, cube_type)
    if isinstance(value, Cube):
        metadata = replace(value.metadata, source=str(source.path), format=fmt.name)
        value = value.replace(metadata=metadata)
    if hasattr(value, "history"):
        history = value.history
        known = dict(history.source) or fingerprint(source, fmt.name)
        value = replace(value, history=replace(history, source=known))
    return _binned(value, options)


def _valued(value: Any, options: ReadOptions, cube_type: type[Cube]) -> Any:
    """What a format has found as a value, arranged as the user wants it."""
    if isinstance(value, Signal):
        value = from_signal(value, options, cube_type)
    elif isinstance(value, Cube):
        value = _rearranged(value, options)
    return _as_type(value, cube_type) if isinstance(value, Cube) else value


def _binned(value: Any, options: ReadOptions) -> Any:
    """A scan with the pixels summed that the user wants to have as one."""
    if options.bin_Q == 1 or not isinstance(value, Cube):
        return value
    return value.bin(Q=options.bin_Q)


def _as_type(cube: Cube, cube_type: type[Cube]) -> Cube:
    if type(cube) is cube_type:
        return cube
    return cube_type(
        cube.data, cube.calibration, cube.name, cube.history, cube.metadata, cube.report
    )


def fingerprint(source: Source, format: str) -> dict[str, Any]:
    """What identifies an input: path, size, time of change."""
    status = os.stat(source.path)
    return {
        "path": str(source.path),
        "format": format,
        "bytes": int(status.st_size),
        "mtime_ns": int(status.st_mtime_ns),
    }


def from_signal(signal: Signal, options: ReadOptions, cube_type: type[Cube] = Cube) -> Any:
    """Turn a data set into a cube, a slice or an array, by its dimensions."""
    dims = len(signal.data.shape)
    if dims == 3 and (signal.stream or options.scan_shape is not None):
        return _scan(signal, options, cube_type)
    if dims == 4 and _is_real(signal):
        cube = cube_type(signal.data, signal.calibration, signal.name, metadata=signal.metadata)
        return _rearranged(cube, options)
    if dims == 2 and _is_real(signal) and _is_image(signal):
        return _slice(signal)
    return ArrayResult(_array(signal.data), _axes(signal), History(), signal.name)


def _is_real(signal: Signal) -> bool:
    return np.dtype(signal.data.dtype).kind in "buif"


def _is_image(signal: Signal) -> bool:
    """Whether both axes are of space: a list of spectra is an array."""
    units = [a.unit for a in signal.axes]
    return all(u == "px" or is_length(u) or is_reciprocal(u) or is_angle(u) for u in units)


def _rearranged(cube: Cube, options: ReadOptions) -> Cube:
    """A 4D scan whose order the user corrects (shape, offset, flyback)."""
    if options.sync_offset or options.flyback:
        raise ParameterError(
            "sync_offset and flyback are for streams of frames; this file holds a 4D scan: use "
            ".crop(R=...) and .reshape_scan(...)"
        )
    if options.scan_shape in (None, cube.R_shape):
        return cube
    return cube.reshape_scan(options.scan_shape)


def _scan(signal: Signal, options: ReadOptions, cube_type: type[Cube]) -> Cube:
    frames = signal.data if hasattr(signal.data, "read_frames") else MemoryFrames(signal.data)
    arranged = arrange(
        frames,
        scan_shape=options.scan_shape,
        known=signal.scan_shape,
        known_reason=signal.scan_reason,
        sync_offset=options.sync_offset,
        flyback=options.flyback,
    )
    metadata = replace(signal.metadata, frames=int(frames.shape[0])).with_notes(*arranged.notes)
    if arranged.doubtful:
        warnings.warn("; ".join(arranged.notes), Py4DSTEMWarning, stacklevel=5)
    return cube_type(arranged.data, signal.calibration, signal.name, metadata=metadata)


def _slice(signal: Signal) -> RealSlice | DiffractionSlice:
    """An image; a pattern where its axes are reciprocal or angles."""
    axes = signal.axes or signal.calibration.Q
    unit = axes[0].unit
    reciprocal = is_reciprocal(unit) or is_angle(unit) or signal.calibration.Q[0].calibrated
    kind = DiffractionSlice if reciprocal else RealSlice
    calibration = signal.calibration
    if signal.axes:
        names = ("Qx", "Qy") if reciprocal else ("Rx", "Ry")
        x, y = (replace(a, name=n) for a, n in zip(axes, names, strict=True))
        calibration = (
            replace(calibration, Q=(x, y)) if reciprocal else replace(calibration, R=(x, y))
        )
    return kind(_array(signal.data), calibration, History(), signal.name)


def _array(data: Any) -> Any:
    if isinstance(data, np.ndarray):
        return data
    if hasattr(data, "read_frames") and len(data.shape) == 3:
        return data.read_frames(0, int(data.shape[0]))
    if hasattr(data, "compute"):
        return data.compute(scheduler="synchronous")
    return np.asarray(data[...])


def _axes(signal: Signal) -> tuple[Axis, ...]:
    return signal.axes if len(signal.axes) == len(signal.data.shape) else ()


def layout_from(
    dtype: str, Q_shape: tuple[int, int], offset_bytes: int = 0, gap_bytes: int = 0
) -> RawLayout:
    """A raw layout from plain values (for the command line)."""
    return RawLayout(dtype=dtype, Q_shape=Q_shape, offset_bytes=offset_bytes, gap_bytes=gap_bytes)
