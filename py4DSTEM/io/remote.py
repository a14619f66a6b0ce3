"""Files behind a URL, of which only those parts are fetched that are used.

HDF5 by range requests and Zarr by its chunks, through fsspec: ``https://``, ``s3://``, ``gs://``
and whatever else it knows. Other formats must be copied to a disk first.
"""

from __future__ import annotations

import gc
import hashlib
import math
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.errors import (
    DependencyMissing,
    FileMissing,
    FormatError,
    ParameterError,
    Py4DSTEMError,
    UnknownFormat,
)
from py4DSTEM.io.format import ReadOptions, Signal
from py4DSTEM.io.formats.emd import is_emd1
from py4DSTEM.io.formats.zarr_arrays import saved_axes, saved_calibration
from py4DSTEM.io.hdf5.safety import external_links
from py4DSTEM.io.store.read import read_emd1

__all__ = ["RemoteHdf5", "is_url", "read_url", "remote_fingerprint"]

_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZARR_MARKS = ("zarr.json", ".zmetadata", ".zgroup", ".zarray")
_PIECE_BYTES = 1 << 20
_BLOCK_BYTES = 1 << 20
_BLOCKS = 64
_MOST_OBJECTS = 20_000
_MAX_DEPTH = 32


def is_url(path: object) -> bool:
    """Whether a path is the address of something that is not on a disk.

    >>> is_url("https://data.org/scan.h5"), is_url("C:/scan.h5"), is_url("scan.h5")
    (True, False, False)
    """
    return isinstance(path, str) and _SCHEME.match(path) is not None


def read_url(
    url: str,
    options: ReadOptions,
    *,
    cube_type: type[Cube],
    finish: Callable[[Any, ReadOptions, type[Cube]], Any],
) -> Any:
    """What is behind a URL, or name → object where there are several; see `read_file`.

    Raises
    ------
    DependencyMissing
        fsspec, or what it needs for this kind of URL, is not installed.
    FormatError
        There is nothing, or nothing that can be read in parts.
    """
    fs, place = _file_system(url)
    with _remote(url):
        head = _head(fs, place)
    if head == _HDF5:
        name, found = _hdf5_signals(url, options)
    elif head is None and any(_exists(fs, f"{place.rstrip('/')}/{mark}") for mark in _ZARR_MARKS):
        name, found = "zarr-group", _zarr_signals(url, options)
    elif head is None:
        raise FileMissing("there is no such file", path=url, hint="Look at its spelling")
    else:
        raise UnknownFormat(
            "only HDF5 and Zarr can be read over a network",
            path=url,
            hint="Copy it to a disk first",
        )
    objects = {
        key: _marked(finish(value, options, cube_type), url, name) for key, value in found.items()
    }
    return next(iter(objects.values())) if len(objects) == 1 else objects


def remote_fingerprint(url: str) -> str:
    """What tells an input from a changed one: size, version, first and last MiB.

    Raises
    ------
    FormatError
        It cannot be reached.
    """
    fs, place = _file_system(url)
    with _remote(url):
        if _head(fs, place) is None:
            base = place.rstrip("/")
            marks = [f"{base}/{mark}" for mark in _ZARR_MARKS]
            described = [fs.cat_file(mark) for mark in marks if _exists(fs, mark)]
            if not described:
                raise FileMissing("there is no such file", path=url, hint="Look at its spelling")
            return f"zarr:{hashlib.sha256(b''.join(described)).hexdigest()}"
        about = fs.info(place)
        size = int(about.get("size") or 0)
        digest = hashlib.sha256(fs.cat_file(place, start=0, end=min(size, _PIECE_BYTES)))
        digest.update(fs.cat_file(place, start=max(0, size - _PIECE_BYTES), end=size))
    stamp = next((str(about[k]) for k in ("ETag", "etag", "mtime") if about.get(k)), "")
    return f"{size}:{stamp}:{digest.hexdigest()}"


# ---- the other side ------------------------------------------------------------------------------
def _file_system(url: str) -> tuple[Any, str]:
    try:
        import fsspec
    except ImportError:
        raise DependencyMissing("fsspec", f"reading {url}", "remote") from None
    try:
        fs, place = fsspec.core.url_to_fs(url)
    except ImportError as error:
        package = str(error.name or error)
        raise DependencyMissing(package, f"reading {urlsplit(url).scheme}:// URLs", None) from error
    except ValueError as error:
        raise ParameterError(f"{url}: {error}") from error
    return fs, str(place)


def _head(fs: Any, place: str) -> bytes | None:
    """The first bytes of a file; None where there is no file (a folder of a store, or nothing)."""
    try:
        return bytes(fs.cat_file(place, start=0, end=len(_HDF5)))
    except (FileNotFoundError, IsADirectoryError):
        return None


def _exists(fs: Any, place: str) -> bool:
    return bool(fs.exists(place))


@contextmanager
def _remote(url: str) -> Iterator[None]:
    """Failures of the network, of which every protocol has its own, as errors that name the URL."""
    try:
        yield
    except (Py4DSTEMError, IndexError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise FileMissing("there is no such file", path=url, hint=str(error)) from error
    except Exception as error:
        raise FormatError(
            f"cannot be read ({type(error).__name__}: {error})", path=url,
            hint="Is the server there, and does it answer range requests?",
        ) from error  # fmt: skip


def _marked(value: Any, url: str, format: str) -> Any:
    """The value with its source in metadata and history."""
    if isinstance(value, Cube):
        value = value.replace(metadata=replace(value.metadata, source=url, format=format))
    if not hasattr(value, "history"):
        return value
    known = dict(value.history.source)
    known = known or {"path": url, "format": format, "fingerprint": remote_fingerprint(url)}
    return replace(value, history=replace(value.history, source=known))


# ---- Zarr ----------------------------------------------------------------------------------------
def _zarr_signals(url: str, options: ReadOptions) -> Mapping[str, Signal]:
    try:
        import zarr
    except ImportError:
        raise DependencyMissing("zarr", "reading Zarr", "zarr") from None
    with _remote(url):
        store = zarr.storage.FsspecStore.from_url(url, read_only=True)
        if options.dataset is not None:
            arrays = {options.dataset: zarr.open(store, mode="r", path=options.dataset)}
        else:
            root = zarr.open(store, mode="r")
            arrays = dict(root.arrays()) if hasattr(root, "arrays") else {_stem(url): root}
        scans = _scans(url, arrays, options).items()
        return {name: _zarr_signal(name, url, array) for name, array in scans}


def _zarr_signal(name: str, url: str, array: Any) -> Signal:
    data, attributes = _RemoteZarr(url, array), dict(array.attrs)
    axes = saved_axes(attributes.get("axes"), data.ndim)
    if not axes:
        return Signal(name, data, metadata=_told(attributes))
    calibration = saved_calibration(axes) if data.ndim == 4 else Calibration()
    return Signal(name, data, calibration, Metadata(original=attributes), axes=axes)


def _scans(url: str, arrays: Mapping[str, Any], options: ReadOptions) -> dict[str, Any]:
    """The asked array, the 4D ones of real numbers, else the 3D ones."""
    if options.dataset is not None:
        return dict(arrays)
    for dims in (4, 3):
        found = {
            name: a
            for name, a in arrays.items()
            if len(a.shape) == dims and np.dtype(a.dtype).kind in "buif" and 0 not in a.shape
        }
        if found:
            return found
    listed = "; ".join(f"{name} {a.shape}" for name, a in list(arrays.items())[:20])
    raise UnknownFormat(
        "without a 4D or 3D array of real numbers", path=url, got=listed or "no array at all",
        hint='dataset="group/name" names one; a server may not list what it has',
    )  # fmt: skip


class _RemoteZarr:
    """An array of a Zarr store behind a URL; can be pickled: it is opened anew."""

    def __init__(self, url: str, array: Any) -> None:
        self._url, self._array = url, array
        self.shape: tuple[int, ...] = tuple(map(int, array.shape))
        self.dtype: np.dtype[Any] = np.dtype(array.dtype).newbyteorder("=")
        stored = getattr(array, "shards", None) or array.chunks
        self.chunks: tuple[int, ...] = tuple(map(int, stored))

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        with _remote(self._url):
            return np.asarray(self._array[key], self.dtype)

    def __reduce__(self) -> tuple[object, ...]:
        return _zarr_again, (self._url, str(self._array.path))


def _zarr_again(url: str, name: str) -> _RemoteZarr:
    import zarr

    with _remote(url):
        store = zarr.storage.FsspecStore.from_url(url, read_only=True)
        return _RemoteZarr(url, zarr.open_array(store, mode="r", path=name))


# ---- HDF5 ----------------------------------------------------------------------------------------
def _hdf5_signals(url: str, options: ReadOptions) -> tuple[str, Mapping[str, Any]]:
    """The format, and what is in the file."""
    with _undisturbed(), _remote(url), _opened(url) as file:
        if is_emd1(file):
            return "emd", _asked(url, _emd1(file, url), options.dataset)
        found = _datasets(file)
        if options.dataset is not None:
            name = options.dataset.strip("/")
            if name not in found:
                listed = ", ".join(map(repr, list(found)[:20]))
                raise ParameterError(f"{url} has no data set {name!r}, only {listed}")
        names = _scans(url, found, options if options.dataset is None else ReadOptions())
        if options.dataset is not None:
            names = {name: found[name]}
        told = {name: _told(_plain(found[name])) for name in names}
    return "hdf5", {n: Signal(n, RemoteHdf5(url, n), Calibration(), told[n]) for n in names}


def _emd1(file: h5py.File, url: str) -> Mapping[str, Any]:
    """What a file of this package holds, with its calibrations; scans are lazy."""
    if any(not _is_here(node) for _, node in _walked(file)) or external_links(file, most=1):
        raise FormatError("its values lie in other files", path=url, format="EMD",
                          expected="everything in one file")  # fmt: skip
    return read_emd1(file, url, lambda _, name: RemoteHdf5(url, name.strip("/")))


def _asked(url: str, found: Mapping[str, Any], dataset: str | None) -> Mapping[str, Any]:
    if dataset is None:
        return found
    if dataset not in found:
        listed = ", ".join(map(repr, list(found)[:20]))
        raise ParameterError(f"{url} has no data set {dataset!r}, only {listed}")
    return {dataset: found[dataset]}


def _datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """By name; no link is followed, as it could lead to a file of the machine that reads."""
    return {
        path: node
        for path, node in _walked(file)
        if node.shape is not None and not node.dtype.hasobject and _is_here(node)
    }


def _walked(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset]]:
    todo: list[tuple[str, h5py.Group]] = [("", file["/"])]
    count = 0
    # Not `visititems`: it asks for sizes, for which HDF5 reads the whole index of every dataset.
    while todo:
        place, group = todo.pop()
        for name in group:
            count += 1
            if count > _MOST_OBJECTS or place.count("/") > _MAX_DEPTH:
                return
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                continue
            node, path = group[name], f"{place}/{name}".strip("/")
            if isinstance(node, h5py.Group):
                todo.append((path, node))
            elif isinstance(node, h5py.Dataset):
                yield path, node


def _is_here(dataset: h5py.Dataset) -> bool:
    """Whether the values are in this file, or there are none."""
    return dataset.shape is None or not (dataset.external or dataset.is_virtual)


def _plain(dataset: h5py.Dataset) -> dict[str, Any]:
    attributes = {}
    for name, value in dataset.attrs.items():
        if isinstance(value, str | np.generic) or np.size(value) < 100:
            attributes[name] = value.tolist() if isinstance(value, np.generic) else str(value)
    return attributes


_PAUSE = threading.Lock()
_pauses = 0


@contextmanager
def _undisturbed() -> Iterator[None]:
    """No garbage is collected meanwhile.

    HDF5 holds its lock while the stream under it waits for the thread of the network; if that
    thread collected an object of HDF5, it would wait for the lock, and both for ever.
    """
    global _pauses
    with _PAUSE:
        was_on = _pauses > 0 or gc.isenabled()
        _pauses += was_on
        gc.disable()
    try:
        yield
    finally:
        with _PAUSE:
            _pauses -= was_on
            if was_on and _pauses == 0:
                gc.enable()


def _told(original: dict[str, Any]) -> Metadata:
    note = "read from a URL: calibrations in the file are not read; set them with_calibration"
    return Metadata(notes=(note,), original=original)


@contextmanager
def _opened(url: str) -> Iterator[h5py.File]:
    fs, place = _file_system(url)
    options = {"cache_type": "blockcache", "block_size": _BLOCK_BYTES}
    limits = {"maxblocks": _BLOCKS}
    with (
        fs.open(place, "rb", cache_options=limits, **options) as stream,
        h5py.File(stream, "r") as file,
    ):
        yield file


class RemoteHdf5:
    """One dataset of an HDF5 file behind a URL; can be pickled: it is opened anew.

    Parameters
    ----------
    url : str
    dataset : str
        In this file; virtual and external datasets are refused.
    """

    def __init__(self, url: str, dataset: str) -> None:
        self.url, self.dataset = url, dataset
        self._lock = threading.Lock()
        self._context: Any = None
        self._values: Any = None
        with self._lock, _undisturbed():
            values = self._open()
        self.shape: tuple[int, ...] = tuple(map(int, values.shape))
        self.dtype: np.dtype[Any] = np.dtype(values.dtype).newbyteorder("=")
        self.chunks: tuple[int, ...] | None = values.chunks

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __repr__(self) -> str:
        return f"RemoteHdf5({self.url!r}, {self.dataset!r}, shape={self.shape})"

    def __reduce__(self) -> tuple[object, ...]:
        return RemoteHdf5, (self.url, self.dataset)

    def __getitem__(self, key: Any, /) -> NDArray[Any]:
        """Values for integers and slices.

        Raises
        ------
        FormatError
            The server does not answer, or what it sends makes no sense.
        """
        # HDF5 reads one thing at a time, and so does the stream under it.
        with self._lock, _undisturbed(), _remote(self.url):
            return np.asarray(self._open()[key], self.dtype)

    def close(self) -> None:
        """Let go of the connection; the next read opens it again."""
        with self._lock:
            context, self._context, self._values = self._context, None, None
        if context is not None:
            with _undisturbed():
                context.__exit__(None, None, None)

    def __del__(self) -> None:
        if getattr(self, "_context", None) is not None:
            self.close()

    def _open(self) -> Any:
        if self._values is None:
            with _remote(self.url):
                context = _opened(self.url)
                found = _datasets(context.__enter__())
                self._context = context
                if self.dataset not in found:
                    raise FormatError(f"has no dataset {self.dataset!r}", path=self.url)
                self._values = found[self.dataset]
        return self._values


def _stem(url: str) -> str:
    return PurePosixPath(urlsplit(url).path).stem or "data"
