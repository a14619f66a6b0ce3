"""Undo the filters of HDF5 chunks without holding HDF5's lock or the GIL.

The decompressors are the ones that `hdf5plugin` and `h5py` ship, called through
`ctypes`; deflate and bzip2 are Python's own and the byte shuffle is numpy. Each decoder is told
the size of its output and checks every length that a header declares before a
byte is decoded, so that a damaged chunk raises `DecodeError` and never writes,
or reads, beyond its buffers.

A filter that has no decoder here makes `Pipeline.supported` false; the caller
then reads through HDF5 itself.
"""

from __future__ import annotations

import bz2
import ctypes
import functools
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import h5py
import hdf5plugin
import numpy as np
from numpy.typing import NDArray

__all__ = ["DecodeError", "Filter", "Pipeline", "Scratch", "filters_of"]

Bytes: TypeAlias = NDArray[np.uint8]
Decoder: TypeAlias = Callable[[Bytes, Bytes], None]

DEFLATE, SHUFFLE, FLETCHER32, BZIP2 = 1, 2, 3, 307
LZF, BLOSC, LZ4, BITSHUFFLE, ZSTD = 32000, 32001, 32004, 32008, 32015

_WIDEST = 64  # bytes of an element that are worth a loop
_KEEP = 64 << 20  # scratch buffers above this are not kept between chunks


class DecodeError(ValueError):
    """The stored bytes of a chunk are damaged."""


class Filter(NamedTuple):
    """One entry of a filter pipeline: the registered number and its parameters."""

    id: int
    params: tuple[int, ...]


def filters_of(dataset: h5py.Dataset) -> tuple[Filter, ...]:
    """The filters of a dataset, in the order in which they were applied."""
    plist = dataset.id.get_create_plist()
    entries = (plist.get_filter(k) for k in range(plist.get_nfilters()))
    return tuple(Filter(int(e[0]), tuple(int(v) for v in e[2])) for e in entries)


class Scratch:
    """Buffers that one thread reuses from chunk to chunk."""

    def __init__(self) -> None:
        self._buffers: dict[str, Bytes] = {}

    def get(self, name: str, nbytes: int) -> Bytes:
        """A buffer of exactly `nbytes` bytes with undefined content."""
        buffer = self._buffers.get(name)
        if buffer is None or buffer.size < nbytes:
            buffer = np.empty(nbytes, np.uint8)
            if nbytes <= _KEEP:
                self._buffers[name] = buffer
        return buffer[:nbytes]


@dataclass(frozen=True)
class _Step:
    decoder: Decoder | None  # None: a checksum to verify and strip
    size: int | None  # of the output; None: that of the input
    last: bool = False  # nothing but checksums follow


class Pipeline:
    """Decodes the chunks of one dataset.

    Parameters
    ----------
    filters : sequence of Filter
        In the order in which they were applied.
    nbytes : int
        Size of a decoded chunk.
    """

    def __init__(self, filters: Sequence[Filter], nbytes: int) -> None:
        self.nbytes = nbytes
        self.filters = tuple(filters)
        self._decoders = tuple(_decoder(f) for f in self.filters)
        self._plans: dict[int, tuple[_Step, ...] | None] = {}

    @property
    def supported(self) -> bool:
        """Whether every filter can be undone here."""
        return self.decodes(0)

    def decodes(self, mask: int) -> bool:
        """Whether chunks with this filter mask can be decoded here."""
        return self._plan(mask) is not None

    def decode(self, source: Bytes, mask: int, out: Bytes, scratch: Scratch) -> None:
        """Decode one chunk.

        Parameters
        ----------
        source : (stored,) uint8
            Writable, though it is not written to.
        mask : int
            Bit k set: filter k was not applied to this chunk.
        out : (nbytes,) uint8
            Receives the result; must be contiguous.
        scratch : Scratch
            Of the calling thread.

        Raises
        ------
        DecodeError
            The stored bytes are damaged.
        """
        steps = self._plan(mask)
        if steps is None:
            raise DecodeError("a filter that cannot be undone")
        data = source
        for k, step in enumerate(steps):
            if step.decoder is None:
                data = _verified(data)
                continue
            size = data.size if step.size is None else step.size
            target = out if step.last and size == out.size else scratch.get(f"step{k & 1}", size)
            step.decoder(data, target)
            data = target
        if data.size != out.size:
            raise DecodeError(f"{data.size} bytes where the chunk has {out.size}")
        if data is not out:
            out[:] = data

    def _plan(self, mask: int) -> tuple[_Step, ...] | None:
        if mask not in self._plans:
            self._plans[mask] = self._make_plan(mask)
        return self._plans[mask]

    def _make_plan(self, mask: int) -> tuple[_Step, ...] | None:
        """The steps that undo the filters; None when one of them is out of reach."""
        size: int | None = self.nbytes
        steps: list[_Step] = []
        for k, (filt, decoder) in enumerate(zip(self.filters, self._decoders, strict=True)):
            if mask >> k & 1:
                continue
            if filt.id == FLETCHER32:
                steps.append(_Step(None, None))
                size = None if size is None else size + 4
            elif decoder is None:
                return None
            elif filt.id == SHUFFLE:
                steps.append(_Step(decoder, None))
            elif size is None:  # below another compressor
                return None
            else:
                steps.append(_Step(decoder, size))
                size = None
        return _marked(tuple(reversed(steps)))


def _marked(steps: tuple[_Step, ...]) -> tuple[_Step, ...]:
    """The same steps, the last one that writes knowing that it is."""
    last = max((k for k, s in enumerate(steps) if s.decoder is not None), default=-1)
    return tuple(replace(step, last=k == last) for k, step in enumerate(steps))


def _decoder(filt: Filter) -> Decoder | None:
    make = _MAKERS.get(filt.id)
    return None if make is None else make(filt.params)


def _address(data: Bytes) -> int:
    """Of a writable buffer; several times quicker than ``data.ctypes``."""
    return ctypes.addressof(_BYTE.from_buffer(data.data)) if data.size else 0


_BYTE = ctypes.c_char


# ---------------------------------------------------------------- checksum


def _verified(data: Bytes) -> Bytes:
    """Strip the Fletcher-32 checksum from the end of `data` after comparing it."""
    if data.size < 4:
        raise DecodeError("too short for its checksum")
    body = data[:-4]
    stored = int.from_bytes(data[-4:].tobytes(), "little")
    computed = fletcher32(body)
    swapped = (computed & 0x00FF00FF) << 8 | computed >> 8 & 0x00FF00FF  # of old HDF5
    if stored not in (computed, swapped):
        raise DecodeError(f"checksum {computed:#010x} where the file has {stored:#010x}")
    return body


def fletcher32(data: Bytes) -> int:
    """Fletcher's checksum over big-endian 16-bit words, as HDF5 stores it.

    Parameters
    ----------
    data : (n,) uint8
        An odd last byte counts as the high half of a word.
    """
    even = data.size & ~1
    words = data[:even].view(">u2")
    first = second = 0
    for start in range(0, words.size, 1 << 16):
        block = words[start : start + (1 << 16)]
        sums = np.cumsum(block, dtype=np.uint64)
        second += block.size * first + int(sums.sum())
        first += int(sums[-1])
    if data.size > even:
        first += int(data[-1]) << 8
        second += first
    return _fold(second) << 16 | _fold(first)


def _fold(value: int) -> int:
    """Reduce modulo 65535; a multiple of it other than zero stays 65535."""
    return (value - 1) % 65535 + 1 if value else 0


# ---------------------------------------------------------------- zlib and numpy


def _deflate(params: tuple[int, ...]) -> Decoder:
    return _inflate


def _inflate(source: Bytes, out: Bytes) -> None:
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(source.data, out.size + 1)
    except zlib.error as error:
        raise DecodeError(f"deflate: {error}") from None
    if not engine.eof or len(data) != out.size:
        raise DecodeError("deflate: not the size of the chunk")
    out[:] = np.frombuffer(data, np.uint8)


def _bzip2(params: tuple[int, ...]) -> Decoder:
    return _bunzip


def _bunzip(source: Bytes, out: Bytes) -> None:
    """Python's bzip2: the HDF5 plugin never returns from a stream that was cut short."""
    engine = bz2.BZ2Decompressor()
    try:
        data = engine.decompress(source.data, out.size + 1)
    except OSError as error:
        raise DecodeError(f"bzip2: {error}") from None
    if not engine.eof or len(data) != out.size:
        raise DecodeError("bzip2: not the size of the chunk")
    out[:] = np.frombuffer(data, np.uint8)


def _shuffle(params: tuple[int, ...]) -> Decoder | None:
    if not params or params[0] < 1:
        return None
    return functools.partial(_unshuffle, params[0])


def _unshuffle(width: int, source: Bytes, out: Bytes) -> None:
    """Gather the bytes of each element, which the filter stored plane by plane."""
    count = source.size // width
    planes = source[: count * width].reshape(width, count)
    elements = out[: count * width].reshape(count, width)
    if width <= _WIDEST:
        for k in range(width):
            elements[:, k] = planes[k]
    else:  # no number is that wide: a damaged width must not become a long loop
        elements[...] = planes.T
    out[count * width :] = source[count * width :]


# ---------------------------------------------------------------- shared libraries


@functools.cache
def _library(name: str) -> ctypes.CDLL | None:
    """A filter library of hdf5plugin, or h5py's own for LZF."""
    try:
        return ctypes.CDLL(_library_path(name))
    except (OSError, AttributeError):
        return None


def _library_path(name: str) -> str:
    if name == "lzf":
        return str(h5py.h5z.__file__)
    suffix = hdf5plugin.get_config().build_config.filter_file_extension
    return os.path.join(hdf5plugin.PLUGIN_PATH, f"libh5{name}{suffix}")


_Native: TypeAlias = Callable[..., int]


@functools.cache
def _native(library: str, symbol: str, result: type, *arguments: type) -> _Native | None:
    """A function of a library; None where the build does not export it."""
    loaded = _library(library)
    function = None if loaded is None else getattr(loaded, symbol, None)
    if function is None:
        return None
    function.restype = result
    function.argtypes = arguments
    return function  # type: ignore[no-any-return]


_PTR, _SIZE, _INT, _UINT = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint


def _lzf(params: tuple[int, ...]) -> Decoder | None:
    unpack = _native("lzf", "lzf_decompress", _UINT, _PTR, _UINT, _PTR, _UINT)
    if unpack is None:
        return None

    def decode(source: Bytes, out: Bytes) -> None:
        if source.size == 0:  # the library reads a byte before it looks at the size
            raise DecodeError("LZF: nothing stored")
        if unpack(_address(source), source.size, _address(out), out.size) != out.size:
            raise DecodeError("LZF: not the size of the chunk")

    return decode


def _lz4_function(library: str) -> _Native | None:
    return _native(library, "LZ4_decompress_safe", _INT, _PTR, _PTR, _INT, _INT)


def _lz4(params: tuple[int, ...]) -> Decoder | None:
    """Big-endian u64 size, u32 block size, then per block u32 stored size and bytes."""
    unpack = _lz4_function("lz4")
    if unpack is None:
        return None

    def decode(source: Bytes, out: Bytes) -> None:
        size, block = _header(source, ">QI", "LZ4")
        _expect("LZ4", size, out.size)
        if block == 0 and size:
            raise DecodeError("LZ4: a block size of zero")
        place = 12
        for start in range(0, size, block or 1):
            target = out[start : start + block]
            stored = _stored(source, place, "LZ4")
            data = source[place + 4 : place + 4 + stored]
            place += 4 + stored
            if stored == target.size:
                target[:] = data
            elif unpack(_address(data), _address(target), stored, target.size) != target.size:
                raise DecodeError("LZ4: a damaged block")

    return decode


def _zstd(params: tuple[int, ...]) -> Decoder | None:
    unpack = _native("zstd", "ZSTD_decompress", _SIZE, _PTR, _SIZE, _PTR, _SIZE)
    if unpack is None:
        return None

    def decode(source: Bytes, out: Bytes) -> None:
        if unpack(_address(out), out.size, _address(source), source.size) != out.size:
            raise DecodeError("Zstandard: not the size of the chunk, or damaged")

    return decode


def _blosc(params: tuple[int, ...]) -> Decoder | None:
    unpack = _native("blosc", "blosc_decompress_ctx", _INT, _PTR, _PTR, _SIZE, _INT)
    check = _native("blosc", "blosc_cbuffer_validate", _INT, _PTR, _SIZE, ctypes.POINTER(_SIZE))
    if unpack is None or check is None:
        return None

    def decode(source: Bytes, out: Bytes) -> None:
        _header(source, "<IIII", "Blosc")
        declared = _SIZE()
        if check(_address(source), source.size, ctypes.byref(declared)) < 0:
            raise DecodeError("Blosc: a damaged header")
        _expect("Blosc", declared.value, out.size)
        if unpack(_address(source), _address(out), out.size, 1) != out.size:
            raise DecodeError("Blosc: damaged")

    return decode


# ---------------------------------------------------------------- bitshuffle


def _bitshuffle(params: tuple[int, ...]) -> Decoder | None:
    """Parameters: version (2), element size, block size, compressor (0, 2 LZ4, 3 Zstandard)."""
    if len(params) < 3 or params[2] < 1:
        return None
    width, block = params[2], params[3] if len(params) > 3 else 0
    compressor = params[4] if len(params) > 4 else 0
    if compressor == 0:
        return _bitshuffle_plain(width, block)
    symbol = {2: "bshuf_decompress_lz4", 3: "bshuf_decompress_zstd"}.get(compressor)
    return None if symbol is None else _bitshuffle_packed(width, symbol)


def _bshuf_function(symbol: str) -> _Native | None:
    return _native("bshuf", symbol, ctypes.c_int64, _PTR, _PTR, _SIZE, _SIZE, _SIZE)


def _bitshuffle_plain(width: int, block: int) -> Decoder | None:
    unshuffle = _bshuf_function("bshuf_bitunshuffle")
    if unshuffle is None:
        return None

    def decode(source: Bytes, out: Bytes) -> None:
        _expect("bitshuffle", source.size, out.size)
        count = out.size // width
        if out.size % width:
            raise DecodeError("bitshuffle: the chunk is not a whole number of elements")
        if unshuffle(_address(source), _address(out), count, width, block) < 0:
            raise DecodeError("bitshuffle: damaged")

    return decode


def _bitshuffle_packed(width: int, symbol: str) -> Decoder | None:
    """Big-endian u64 size, u32 block size in bytes, then blocks of u32 stored size and bytes."""
    unpack = _bshuf_function(symbol)
    if unpack is None:
        return None

    def decode(source: Bytes, out: Bytes) -> None:
        size, block_bytes = _header(source, ">QI", "bitshuffle")
        _expect("bitshuffle", size, out.size)
        count, block = out.size // width, block_bytes // width
        if out.size % width or block < 8 or block % 8:
            raise DecodeError("bitshuffle: an impossible block size")
        _check_blocks(source, count, block, width)
        body = source[12:]
        if unpack(_address(body), _address(out), count, width, block) != body.size:
            raise DecodeError("bitshuffle: a damaged block")

    return decode


def _check_blocks(source: Bytes, count: int, block: int, width: int) -> None:
    """Refuse stored block sizes that lead beyond the end of the chunk.

    The library trusts them. Elements beyond a multiple of eight are stored as they are.
    """
    blocks = count // block + (count % block >= 8)
    view, place, end = source.data, 12, source.size
    read = _U32.unpack_from
    try:
        for _ in range(blocks):
            place += 4 + read(view, place)[0]
    except struct.error:
        raise DecodeError("bitshuffle: a block beyond the end of the chunk") from None
    _expect("bitshuffle", place + count % 8 * width, end)


_U32 = struct.Struct(">I")


def _header(source: Bytes, layout: str, name: str) -> tuple[int, ...]:
    try:
        return struct.unpack_from(layout, source.data)
    except struct.error:
        raise DecodeError(f"{name}: shorter than its header") from None


def _stored(source: Bytes, place: int, name: str) -> int:
    """The u32 block size at `place`, checked against the end of the data."""
    size = int.from_bytes(source[place : place + 4].tobytes(), "big")
    if place + 4 + size > source.size:
        raise DecodeError(f"{name}: a block beyond the end of the chunk")
    return size


def _expect(name: str, got: int, expected: int) -> None:
    if got != expected:
        raise DecodeError(f"{name}: {got} bytes where {expected} belong")


_MAKERS: dict[int, Callable[[tuple[int, ...]], Decoder | None]] = {
    DEFLATE: _deflate,
    SHUFFLE: _shuffle,
    BZIP2: _bzip2,
    LZF: _lzf,
    BLOSC: _blosc,
    LZ4: _lz4,
    BITSHUFFLE: _bitshuffle,
    ZSTD: _zstd,
}
