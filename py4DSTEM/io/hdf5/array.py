"""`Hdf5Array`: a dataset of an HDF5 file as a lazy array."""

from __future__ import annotations

import functools
import math
import os
import threading
from os import PathLike

import h5py
import numpy as np
from numpy.typing import DTypeLike

from py4DSTEM.errors import CorruptFile, FormatError, ShapeError
from py4DSTEM.io.hdf5.chunks import ChunkGrid, build_index
from py4DSTEM.io.hdf5.codecs import Pipeline, filters_of
from py4DSTEM.io.hdf5.safety import open_dataset
from py4DSTEM.io.hdf5.select import Key, Span, parse_key
from py4DSTEM.io.hdf5.sources import Array, Layout, Mapped, RawFile, Source, ThroughHdf5, ViaChunks

__all__ = ["Hdf5Array"]

_MANY_CHUNKS = 50_000  # an index of more is not built for the sake of a few chunks
_FEW_CHUNKS = 64


class Hdf5Array:
    """One dataset of an HDF5 file, read on demand.

    Opening reads the description only. Values come back in native byte order. Chunks are
    read and decoded outside of HDF5, so several threads decode at the same time; contiguous
    datasets are memory-mapped; whatever is unusual is read through `h5py`. An array can be
    pickled: it opens the file anew.

    Parameters
    ----------
    path : path
        The file.
    dataset : str
        Path of the dataset in it; may lead through links.
    allow_external : bool
        Accept values from other files outside the folder tree of `path`.

    Attributes
    ----------
    path, dataset : str
        Where the values are; the target where `dataset` led through an external link.
    shape : tuple of int
    dtype : numpy.dtype
        In native byte order.
    chunks : tuple of int or None
        Storage chunks; blocks that align with them are read once.

    Raises
    ------
    FormatError
        The file or the dataset cannot be read; see `open_dataset`.

    Examples
    --------
    >>> array = Hdf5Array("scan.h5", "entry/data")  # doctest: +SKIP
    >>> array[3, 4].shape  # doctest: +SKIP
    (128, 128)
    """

    def __init__(
        self, path: str | PathLike[str], dataset: str, *, allow_external: bool = False
    ) -> None:
        with open_dataset(path, dataset, allow_external=allow_external) as found:
            self._layout = _layout(found, os.fspath(path))
            self.chunks: tuple[int, ...] | None = found.chunks
        self._allow_external = allow_external
        self._lock = threading.Lock()
        self._source: Source | None = None
        self._through = ThroughHdf5(self._layout)

    @property
    def path(self) -> str:
        """The file that holds the values."""
        return self._layout.path

    @property
    def dataset(self) -> str:
        """Path of the dataset in its file."""
        return self._layout.dataset

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self._layout.shape

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Type of the values, in native byte order."""
        return self._layout.native

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Size of all values when decoded."""
        return self.size * self.dtype.itemsize

    def __len__(self) -> int:
        return self.shape[0]

    def __repr__(self) -> str:
        return f"Hdf5Array({self.path!r}, {self.dataset!r}, shape={self.shape}, dtype={self.dtype})"

    def __reduce__(self) -> tuple[object, ...]:
        make = functools.partial(Hdf5Array, allow_external=self._allow_external)
        return make, (self.path, self.dataset)

    def __getitem__(self, key: Key) -> Array:
        """Values for integers, slices of any step and an ellipsis; never written to.

        Raises
        ------
        IndexError
            Any other key, or one out of bounds.
        CorruptFile
            A chunk is damaged.
        """
        selection = parse_key(key, self.shape)
        values: Array = self._for(selection.spans).read(selection.spans)[selection.finish]
        return values

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> Array:
        values = self[...]
        return np.array(values, dtype) if copy else np.asarray(values, dtype)

    def read_block(self, rx: slice, ry: slice, out: Array | None = None) -> Array:
        """Whole patterns of a block of scan positions; may be called from several threads.

        Parameters
        ----------
        rx, ry : slice
            Of the first and second axis of a 4-D dataset.
        out : (n, Qx, Qy) dtype, optional
            Contiguous; receives the patterns.

        Returns
        -------
        (n, Qx, Qy) dtype
            Patterns in C order of the positions; possibly a read-only view of the file.

        Raises
        ------
        ShapeError
            The dataset is not 4-D, or `out` does not fit.
        CorruptFile
            A chunk is damaged.
        """
        return self._frames(4, (rx, ry), out)

    def read_frames(self, start: int, stop: int, out: Array | None = None) -> Array:
        """Frames ``start … stop-1`` of a 3-D dataset; otherwise as `read_block`."""
        return self._frames(3, (slice(start, stop),), out)

    def close(self) -> None:
        """Let go of the file; the next read opens it again."""
        with self._lock:
            source, self._source = self._source, None
        if source is not None:
            source.close()
        self._through.close()

    def _frames(self, ndim: int, key: tuple[slice, ...], out: Array | None) -> Array:
        if self.ndim != ndim:
            raise ShapeError(f"dataset {self.dataset!r} has {self.ndim} axes, not {ndim}")
        selection = parse_key(key, self.shape)
        frames = (math.prod(selection.shape[:-2]), *self.shape[-2:])
        target = None if out is None else _target(out, frames, self.dtype, selection.shape)
        source = self._source or self._fastest()
        values: Array = source.read(selection.spans, target)[selection.finish]
        return values.reshape(frames)

    def _for(self, spans: tuple[Span, ...]) -> Source:
        """The source for one request: not worth a huge index if it touches a few chunks."""
        if self._source is not None:
            return self._source
        if self.chunks is not None and self._only_few(self.chunks, spans):
            return self._through
        return self._fastest()

    def _only_few(self, chunks: tuple[int, ...], spans: tuple[Span, ...]) -> bool:
        if ChunkGrid.of(self.shape, chunks).size <= _MANY_CHUNKS:
            return False
        touched = (
            min(s.count, -(-(s.stop - s.start) // c) + 1)
            for s, c in zip(spans, chunks, strict=True)
        )
        return math.prod(touched) <= _FEW_CHUNKS

    def _fastest(self) -> Source:
        with self._lock:
            if self._source is None:
                self._source = self._make_source()
            return self._source

    def _make_source(self) -> Source:
        with open_dataset(self.path, self.dataset, allow_external=self._allow_external) as dataset:
            if _layout(dataset, self.path) != self._layout or dataset.chunks != self.chunks:
                raise self._layout.corrupt("the file has been replaced by another")
            if not _is_plain(dataset):
                return self._through
            if dataset.chunks is not None:
                return _via_chunks(dataset, self._layout, self._through)
            offset = dataset.id.get_offset()
            return self._through if offset is None else Mapped(self._layout, int(offset))


def _layout(dataset: h5py.Dataset, path: str) -> Layout:
    if dataset.shape is None or dataset.dtype.hasobject:
        raise FormatError(
            f"dataset {dataset.name!r} is not an array of numbers", path=path, format="HDF5"
        )
    path = os.path.abspath(dataset.file.filename)
    return Layout(path, dataset.name, tuple(int(n) for n in dataset.shape), dataset.dtype)


def _is_plain(dataset: h5py.Dataset) -> bool:
    """Whether the stored bytes are the values: numbers that numpy has, in this file."""
    if dataset.is_virtual or dataset.external or dataset.dtype.kind not in "biufc":
        return False
    return bool(dataset.id.get_type().equal(h5py.h5t.py_create(dataset.dtype, logical=True)))


def _via_chunks(dataset: h5py.Dataset, layout: Layout, through: Source) -> Source:
    chunks: tuple[int, ...] = dataset.chunks
    grid = ChunkGrid.of(layout.shape, chunks)
    pipeline = Pipeline(filters_of(dataset), math.prod(chunks) * layout.stored.itemsize)
    if not pipeline.supported or grid.size >= 1 << 62 or not hasattr(dataset.id, "chunk_iter"):
        return through
    file = RawFile(layout.path)
    index = build_index(dataset, grid, file.size)
    return ViaChunks(layout, chunks, index, pipeline, fill_value(dataset), file, through)


def fill_value(dataset: h5py.Dataset) -> np.generic:
    """What unwritten chunks hold; zero where HDF5 was told never to fill.

    Raises
    ------
    CorruptFile
        Its description contradicts itself: HDF5 crashes when it is asked nevertheless.
    """
    layout = dataset.id.get_create_plist()
    try:
        layout.fill_value_defined()
    except (ValueError, RuntimeError) as error:
        raise CorruptFile(
            f"the fill value of {dataset.name!r} makes no sense: {error}",
            path=dataset.file.filename, format="HDF5",
        ) from error  # fmt: skip
    never = layout.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
    value: np.generic = dataset.dtype.type(0) if never else dataset.fillvalue
    return value


def _target(
    out: Array, frames: tuple[int, ...], dtype: np.dtype[np.generic], shape: tuple[int, ...]
) -> Array:
    """`out` in the shape of the selection, without a copy."""
    if out.shape != frames or out.dtype != dtype or not out.flags.c_contiguous:
        raise ShapeError(f"out must be a contiguous {frames} array of {dtype}")
    return out.reshape(shape)
