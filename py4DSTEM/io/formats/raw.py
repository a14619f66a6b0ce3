"""Raw binary files with a layout that the user describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile, ParameterError
from py4DSTEM.io.format import Format, Match, RawLayout, ReadOptions, Signal, Source
from py4DSTEM.io.frames import FileFrames


class Raw(Format):
    """Numbers without a header worth the name; never guessed, always described."""

    name = "raw"
    title = "raw binary"
    extensions = (".raw", ".bin", ".dat")

    def sniff(self, source: Source) -> Match:
        return Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        if options.layout is None:
            raise ParameterError(
                "a raw file says nothing of itself: give layout=RawLayout(dtype='uint16', "
                "Q_shape=(256, 256)) and scan_shape=(rows, columns)"
            )
        frames = _frames(source, options.layout, options.allow_truncated)
        name = source.path.stem
        return {name: Signal(name, frames, metadata=Metadata(title=name), stream=True)}


def _frames(source: Source, layout: RawLayout, allow_truncated: bool) -> FileFrames:
    dtype = _dtype(layout.dtype)
    pattern = layout.Q_shape[0] * layout.Q_shape[1] * dtype.itemsize
    if pattern <= 0:
        raise ParameterError(f"Q_shape must be positive, not {layout.Q_shape}")
    stride = pattern + layout.gap_bytes
    count, rest = divmod(source.size - layout.offset_bytes + layout.gap_bytes, stride)
    # The gap after the last pattern may or may not have been written.
    whole = rest in (0, layout.gap_bytes)
    if count < 1 or not (whole or allow_truncated):
        raise CorruptFile(
            "the file does not hold a whole number of patterns",
            path=source.path,
            format="raw",
            expected=f"{layout.offset_bytes} + n * {stride} bytes",
            got=f"{source.size} bytes, {count} patterns and {rest} bytes",
            hint="Check dtype, Q_shape, offset_bytes and gap_bytes, or allow_truncated=True",
        )
    return FileFrames(
        source.path, (count, *layout.Q_shape), dtype,
        offset=layout.offset_bytes, stride_bytes=stride,
    )  # fmt: skip


def _dtype(name: str) -> np.dtype[Any]:
    try:
        dtype = np.dtype(name)
    except TypeError as error:
        raise ParameterError(f"no dtype {name!r}: use 'uint16', '>u2', 'float32' …") from error
    if dtype.kind not in "buif":
        raise ParameterError(f"patterns are real numbers, not {dtype}")
    return dtype


FORMATS = (Raw,)
