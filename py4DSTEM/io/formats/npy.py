"""numpy ``.npy`` files, mapped into memory."""

from __future__ import annotations

import io
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.lib import format as npy

from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import CorruptFile
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.frames import FileFrames

MAGIC = b"\x93NUMPY"


class Npy(Format):
    """Arrays saved by `numpy.save`, of any real dtype; object arrays (pickles) are refused."""

    name = "npy"
    title = "numpy array"
    extensions = (".npy",)

    def sniff(self, source: Source) -> Match:
        return Match.YES if source.head.startswith(MAGIC) else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        shape, fortran, dtype, offset = _header(source)
        if dtype.hasobject or dtype.names:
            raise CorruptFile(
                "it holds Python objects or records, not numbers",
                path=source.path, format="npy", got=str(dtype),
            )  # fmt: skip
        _check_size(source, shape, dtype, offset)
        data = _data(source, shape, fortran, dtype, offset)
        name = source.path.stem
        return {name: Signal(name, data, metadata=Metadata(title=name))}


def _header(source: Source) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    try:
        head = io.BytesIO(source.head)
        version = npy.read_magic(head)
        reader = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = reader(head, max_header_size=len(source.head))
    except Exception as error:  # numpy parses Python syntax: tokens, recursion, memory …
        raise CorruptFile(
            f"its header cannot be read: {error}", path=source.path, format="npy", offset=0
        ) from error
    if any(not isinstance(n, int) or n < 0 for n in shape):
        raise CorruptFile("impossible shape", path=source.path, format="npy", got=shape)
    return shape, fortran, dtype, head.tell()


def _check_size(source: Source, shape: tuple[int, ...], dtype: np.dtype[Any], offset: int) -> None:
    need = offset + math.prod(shape) * dtype.itemsize
    if source.size < need or math.prod(shape) == 0:
        raise CorruptFile(
            "the file is shorter than its header says",
            path=source.path,
            format="npy",
            offset=source.size,
            expected=f"{need} bytes for {shape} {dtype}",
            got=f"{source.size} bytes",
            hint="It was probably not written or copied completely",
        )


def _data(
    source: Source, shape: tuple[int, ...], fortran: bool, dtype: np.dtype[Any], offset: int
) -> Any:
    if len(shape) in (3, 4) and not fortran:
        frames = (math.prod(shape[:-2]), shape[-2], shape[-1])
        stack = FileFrames(source.path, frames, dtype, offset=offset, format="npy")
        return stack if len(shape) == 3 else stack_as_scan(stack, shape[:2])
    mode: Any = "r"
    order: Any = "F" if fortran else "C"
    return np.memmap(os.fspath(source.path), dtype, mode, offset, shape, order)


def stack_as_scan(stack: FileFrames, scan_shape: tuple[int, ...]) -> Any:
    """A 4D scan over frames whose shape the file knows."""
    from py4DSTEM.core.lazy import ScanOfFrames

    return ScanOfFrames(stack, (int(scan_shape[0]), int(scan_shape[1])))


FORMATS = (Npy,)
