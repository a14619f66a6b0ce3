"""Lispix ripple files: numbers in ``.raw``, their description in ``.rpl``."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, FileMissing, Py4DSTEMWarning
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis, iso_date, iso_time, positive
from py4DSTEM.io.formats.hyperspylike import signal_from
from py4DSTEM.io.frames import FileFrames

_KINDS = {"signed": "i", "unsigned": "u", "float": "f"}
_ORDERS = {"big-endian": ">", "little-endian": "<", "dont-care": "<"}
_MAX_BYTES = 1 << 20


class Ripple(Format):
    """A stack of images, or a map of spectra, described by a short table."""

    name = "ripple"
    title = "Lispix ripple"
    extensions = (".rpl",)

    def sniff(self, source: Source) -> Match:
        if source.suffix != ".rpl" or b"\0" in source.head:
            return Match.NO
        keys = set(_table(source.head.decode("latin-1")))
        return Match.YES if {"width", "height", "data-type"} <= keys else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        if source.size > _MAX_BYTES:
            raise CorruptFile("too long for a description", path=source.path, format="ripple")
        text = source.path.read_text("latin-1")
        table = _table(text)
        raw = _partner(source.path)
        names, shape, dtype, offset = _layout(source, table)
        if len(shape) == 3:
            data: Any = FileFrames(raw, (shape[0], shape[1], shape[2]), dtype, offset=offset,
                                   format="ripple")  # fmt: skip
        else:
            frames = FileFrames(raw, (1, shape[0], shape[1]), dtype, offset=offset,
                                format="ripple")  # fmt: skip
            data = frames.read_frames(0, 1)[0]
        axes = [
            RawAxis(table.get(f"{n}-name", n), table.get(f"{n}-scale", 1.0),
                    table.get(f"{n}-origin", 0.0), table.get(f"{n}-units"))
            for n in names
        ]  # fmt: skip
        navigate = [True, *[False] * (len(shape) - 1)]
        signal = signal_from(source.path.stem, data, axes, navigate, {}, {})
        signal = _with_metadata(signal, table)
        if not text.endswith("\n"):
            _warn(source, "the description ends in the middle of a line: it may be cut off")
        need, size = offset + math.prod(shape) * dtype.itemsize, raw.stat().st_size
        if size > need:
            _warn(source, f"{raw.name} holds {size} bytes, of which {need} are described")
        return {signal.name: signal}


def _warn(source: Source, what: str) -> None:
    warnings.warn(f"{source.path}: {what}", Py4DSTEMWarning, stacklevel=6)


def _table(text: str) -> dict[str, str]:
    """Two columns: key and value; comments start with a semicolon."""
    lines = (line.split(";")[0].strip() for line in text.splitlines())
    pairs = (line.split(None, 1) for line in lines if line)
    return {p[0].lower(): p[1].strip() if len(p) > 1 else "" for p in pairs}


def _partner(path: Path) -> Path:
    for suffix in (".raw", ".RAW"):
        if path.with_suffix(suffix).is_file():
            return path.with_suffix(suffix)
    raise FileMissing(
        f"its numbers, {path.with_suffix('.raw').name}, are not beside it", path=path,
        format="ripple",
    )  # fmt: skip


def _layout(
    source: Source, table: Mapping[str, str]
) -> tuple[list[str], tuple[int, ...], np.dtype[Any], int]:
    try:
        sizes = {n: int(table.get(n) or 1) for n in ("width", "height", "depth")}
        length, offset = int(table["data-length"]), int(table.get("offset") or 0)
        kind = _KINDS[table["data-type"].lower()]
        order = _ORDERS[table.get("byte-order", "dont-care").lower() or "dont-care"]
        dtype = np.dtype(f"{order}{kind}{length}")
    except (KeyError, ValueError, TypeError) as error:
        raise CorruptFile(
            f"its description makes no sense: {error}", path=source.path, format="ripple",
            expected="width, height, data-length, data-type",
        ) from error  # fmt: skip
    vector = table.get("record-by", "").lower() == "vector"
    order_of = ("height", "width", "depth") if vector else ("depth", "height", "width")
    names = [n for n in order_of if sizes[n] != 1 or n != "depth"]
    shape = tuple(sizes[n] for n in names)
    if min(shape) < 1 or offset < 0 or math.prod(shape) >= 1 << 62:
        raise CorruptFile("impossible sizes", path=source.path, format="ripple", got=shape)
    return names, shape, dtype, offset


def _with_metadata(signal: Signal, table: Mapping[str, str]) -> Signal:
    metadata = Metadata(
        title=table.get("title") or signal.name,
        date=iso_date(table.get("date")),
        time=iso_time(table.get("time")),
        energy_eV=positive(table.get("beam-energy"), 1e3),
        semiangle_mrad=positive(table.get("convergence-angle")),
        notes=signal.metadata.notes,
        original=dict(table),
    )
    return replace(signal, metadata=metadata)


FORMATS = (Ripple,)
