"""Write values to an HDF5 file: streamed, compressed by the caller's threads, verified, atomic."""

from __future__ import annotations

import contextlib
import errno
import math
import os
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any, Protocol, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import LazyArray, Shape4, View, chunks_of, read_block
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError, StoreError
from py4DSTEM.io.hdf5.safety import open_h5
from py4DSTEM.io.store import atomic
from py4DSTEM.io.store.calib import to_keys
from py4DSTEM.io.store.encode import Compression, EncodedChunk
from py4DSTEM.io.store.plain import dumps
from py4DSTEM.io.store.ragged import read_ragged, row_dtype, write_ragged
from py4DSTEM.io.store.schema import (
    EXTRAS,
    SCHEMA,
    Node,
    flatten,
    payload_bytes,
    safe_name,
    tree_of,
)
from py4DSTEM.io.store.values import attribute, children, write_item

__all__ = ["Aligned", "Streamer", "WriteSettings", "scan_chunks", "write_store"]

T = TypeVar("T")
Array = NDArray[Any]

MODES = ("w", "a", "ao")
CHUNK_BYTES = 128 * 1024
"""Small patterns are stored several to a chunk of about this size."""
CONTIGUOUS_BYTES = 4096
"""Smaller arrays are neither chunked nor compressed."""
BYTES_PER_CHUNK = 200
"""What HDF5 writes about a chunk, at most."""


class Block(Protocol):
    """Where a tile lies in the scan."""

    @property
    def rx(self) -> slice: ...
    @property
    def ry(self) -> slice: ...


class Streamer(Protocol):
    """Applies a function to every tile of a scan, in threads, and gives the results in order."""

    def __call__(
        self, cube: Cube, work: Callable[[Block, Array], T], label: str, /
    ) -> Iterator[tuple[Block, T]]: ...


@dataclass(frozen=True)
class WriteSettings:
    """How to write.

    Parameters
    ----------
    mode : str
        ``"w"`` a new file, or the old one replaced; ``"a"`` added to the file; ``"ao"`` added,
        replacing objects of the same name.
    compression : Compression
    chunks : (int, int, int, int), optional
        Chunk shape of scans; None: whole patterns, about 128 kB.
    """

    mode: str = "w"
    compression: Compression = field(default_factory=Compression)
    chunks: tuple[int, int, int, int] | None = None

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise ParameterError(f"mode is one of {', '.join(map(repr, MODES))}, not {self.mode!r}")
        if self.chunks is not None and (len(self.chunks) != 4 or min(self.chunks) < 1):
            raise ParameterError(f"chunks is (Rx, Ry, Qx, Qy), all positive, not {self.chunks!r}")


def write_store(
    path: str | PathLike[str],
    objects: Mapping[str, Any],
    stream: Streamer,
    settings: WriteSettings | None = None,
) -> None:
    """Write objects to a file that appears complete or not at all.

    Parameters
    ----------
    path : path
    objects : mapping
        Name → value; nested mappings are groups.
    stream : Streamer
        The loop over the scan.
    settings : WriteSettings, optional

    Raises
    ------
    StoreError
        Nothing was changed; the message says what to do.

    Notes
    -----
    The file is written beside the target, closed, read back (every stored chunk is compared with
    the checksum of what was compressed), synchronised and renamed.  Its old content therefore
    stays readable while it is being replaced: a cube may be saved onto the file it comes from.
    """
    settings = settings or WriteSettings()
    target = Path(os.path.realpath(os.path.expanduser(path)))
    flat = flatten(objects)
    if not flat:
        raise ParameterError("there is nothing to save")
    append = settings.mode != "w" and target.exists()
    tree = tree_of(flat, _count(target) if append else 0)
    _check_not_input(target, flat)
    with atomic.replacing(target) as part:
        needed = _estimate(tree, flat, settings) + (target.stat().st_size if append else 0)
        guard = atomic.Guard(part, target, _reserve(tree, settings))
        guard.check(int(needed * 1.05))
        if append:
            atomic.copy_file(target, part)
        writer = _Writer(part, guard, settings, stream)
        writer.write(tree, append)
        _verify(part, target, writer.checks)


def _count(target: Path) -> int:
    """More than the number of any object in a file: what is added comes after them."""
    names: list[str] = []
    with open_h5(target) as file:
        file.visit(names.append)
    return len(names)


def _check_not_input(target: Path, objects: Mapping[str, Any]) -> None:
    """Windows cannot replace a file that is open; elsewhere the old content stays readable."""
    if os.name != "nt" or not target.exists():
        return
    for value in objects.values():
        source = getattr(getattr(value, "metadata", None), "source", None)
        if source and os.path.exists(source) and os.path.samefile(source, target):
            raise StoreError(
                "the data that are to be saved are still in this file",
                path=target,
                hint="Save under another name, or load the cube first: save(path, cube.load())",
            )


# ---- size ----------------------------------------------------------------------------------------
def _estimate(tree: Mapping[str, Node], flat: Mapping[str, Any], settings: WriteSettings) -> int:
    """Bytes of the file: in-memory values as they are, scans by the ratio of a few patterns."""
    total = sum(payload_bytes(node) for node in tree.values())
    for value in flat.values():
        if isinstance(value, Cube) and value.nbytes:
            total -= int(value.nbytes * (1 - _ratio(value, settings.compression)))
    return total


def _ratio(cube: Cube, compression: Compression) -> float:
    """Stored over original size, from five patterns."""
    if compression.name == "none" or not compression.direct:
        return 1.0
    stored = raw = 0
    for k in range(5):
        rx, ry = (n * (2 * k + 1) // 10 for n in cube.R_shape)
        frame = read_block(cube.data, slice(rx, rx + 1), slice(ry, ry + 1))
        native = np.ascontiguousarray(frame, frame.dtype.newbyteorder("="))
        stored += len(compression.encode((), native).data)
        raw += native.nbytes
    return stored / raw


def _reserve(tree: Mapping[str, Node], settings: WriteSettings) -> int:
    """What HDF5 may still write when it closes the file."""
    chunks = sum(_chunk_count(node, settings) for node in tree.values())
    return (1 << 20) + BYTES_PER_CHUNK * chunks


def _chunk_count(node: Node, settings: WriteSettings) -> int:
    own = 0
    if isinstance(node.payload, Cube):
        shape = scan_chunks(node.payload, settings.chunks)
        own = math.prod(-(-n // c) for n, c in zip(node.payload.shape, shape, strict=True))
    return own + sum(_chunk_count(child, settings) for child in node.children.values())


# ---- chunks --------------------------------------------------------------------------------------
def scan_chunks(cube: Cube, chunks: tuple[int, int, int, int] | None = None) -> Shape4:
    """Chunk shape of a scan: whole patterns, several of small ones along the scan row.

    Where the source has chunks of its own, they hold a whole number of ours or the reverse, so
    that nothing is decoded twice while it is copied.
    """
    _, b, c, d = cube.shape
    if chunks is not None:
        shape = tuple(max(1, min(n, k)) for n, k in zip(cube.shape, chunks, strict=True))
        return shape[0], shape[1], shape[2], shape[3]
    pattern = max(1, c * d * cube.dtype.itemsize)
    wanted = max(1, min(b, CHUNK_BYTES // pattern))
    source = chunks_of(cube.data)
    across = 1 if source is None else max(1, min(source[1], b))
    if across > 1 and wanted < across:
        wanted = max(k for k in range(1, wanted + 1) if across % k == 0)
    elif 1 < across < b:
        wanted = wanted // across * across
    elif wanted < b:
        wanted = -(-b // -(-b // wanted))  # the same number of chunks, with the least overhang
    return 1, wanted, max(1, c), max(1, d)


class Aligned(View):
    """The same scan, asking for tiles that hold whole chunks of the file to be written."""

    def __init__(self, source: LazyArray, chunks: Shape4) -> None:
        super().__init__(source)
        self._chunks = chunks

    @property
    def chunks(self) -> tuple[int, ...]:
        source = chunks_of(self._source) or (1, 1)
        pairs = zip(self._chunks[:2], source[:2], self.shape[:2], strict=True)
        return (*(min(n, math.lcm(k, max(1, s))) for k, s, n in pairs), *self.shape[2:])

    def read_block(self, rx: slice, ry: slice) -> Array:
        return read_block(self._source, rx, ry)


@dataclass(frozen=True)
class _ChunkCutter:
    """Turns tiles into encoded chunks; called from the threads of the stream."""

    shape: Shape4
    chunks: Shape4
    compression: Compression

    def __call__(self, block: Block, frames: Array) -> list[EncodedChunk]:
        rx, ry = block.rx, block.ry
        self._check(rx, ry)
        tile = frames.reshape(rx.stop - rx.start, ry.stop - ry.start, *frames.shape[1:])
        steps = self.chunks
        return [
            self._encode(tile, (rx.start, ry.start, 0, 0), (x, y, u, v))
            for x in range(rx.start, rx.stop, steps[0])
            for y in range(ry.start, ry.stop, steps[1])
            for u in range(0, self.shape[2], steps[2])
            for v in range(0, self.shape[3], steps[3])
        ]

    def _check(self, rx: slice, ry: slice) -> None:
        """A tile must hold whole chunks: half ones would be lost."""
        for part, step, size in zip((rx, ry), self.chunks, self.shape, strict=False):
            if part.start % step or (part.stop % step and part.stop != size):
                raise ParameterError(
                    f"chunks of {self.chunks} are too large for the memory budget: "
                    "give smaller chunks=, or RunOptions(memory='4 GB')"
                )

    def _encode(self, tile: Array, origin: Shape4, corner: Shape4) -> EncodedChunk:
        start = [c - o for c, o in zip(corner, origin, strict=True)]
        part = tile[tuple(slice(s, s + n) for s, n in zip(start, self.chunks, strict=True))]
        if part.shape != self.chunks:  # at the far edges chunks are stored whole
            gaps = [(0, n - m) for n, m in zip(self.chunks, part.shape, strict=True)]
            part = np.pad(part, gaps)
        return self.compression.encode(corner, part)


# ---- the file ------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Check:
    """What a dataset must hold when the file is read back."""

    shape: tuple[int, ...]
    chunks: dict[tuple[int, ...], int] | None = None
    crc: int | None = None


class _Writer:
    """Writes one file; lives as long as it is open."""

    def __init__(
        self, part: Path, guard: atomic.Guard, settings: WriteSettings, stream: Streamer
    ) -> None:
        self._part, self._guard, self._settings, self._stream = part, guard, settings, stream
        self._compression = settings.compression
        self.checks: dict[str, _Check] = {}

    def write(self, tree: Mapping[str, Node], append: bool) -> None:
        """Write a tree into a new file, or below the first root of an existing one."""
        mode = "r+" if append else "w"
        with _translated(self._guard.target):
            file = h5py.File(self._part, mode, rdcc_nbytes=0, locking=False)
        try:
            root, shared = self._root(file, tree, append)
            taken = set(root)
            for name, node in tree.items():
                self._add(root, name, node, shared, taken)
            with _translated(self._guard.target):
                file.flush()
        finally:
            with contextlib.suppress(OSError, RuntimeError, ValueError):
                file.close()

    # ---- roots -----------------------------------------------------------------------------------
    def _root(
        self, file: h5py.File, tree: Mapping[str, Node], append: bool
    ) -> tuple[h5py.Group, Calibration | None]:
        if append:
            root = _existing_root(file, self._guard.target)
            self._make_room(root, tree)
            # What the file says of its own calibration stays; ours is kept with each object.
            return root, None
        file.attrs.update(
            {"emd_group_type": "file", "version_major": 1, "version_minor": 0,
             "UUID": str(uuid.uuid4()), "authoring_program": "py4DSTEM", "authoring_user": ""}
        )  # fmt: skip
        first = next(iter(tree))
        root = file.create_group(f"{safe_name(first, set())}_root")
        root.attrs.update({"emd_group_type": "root", "python_class": "Root"})
        shared = _shared_calibration(tree)
        if shared is not None:
            self._calibration(root, shared, tree)
        return root, shared

    def _make_room(self, root: h5py.Group, tree: Mapping[str, Node]) -> None:
        for name in tree:
            existing = _named(root, name)
            if existing is None:
                continue
            if self._settings.mode != "ao":
                raise StoreError(
                    f"it already holds {name!r}",
                    path=self._guard.target,
                    hint='Use another name, or mode="ao" to replace it',
                )
            del root[existing]

    def _calibration(
        self, root: h5py.Group, calibration: Calibration, tree: Mapping[str, Node]
    ) -> None:
        bundle = _bundle(root)
        group = _metadata_group(bundle, "calibration", "Calibration")
        targets = [f"/{safe_name(name, set())}" for name in tree]
        keys = {**to_keys(calibration), "_root_treepath": "", "_target_paths": targets}
        for name, value in keys.items():
            write_item(group, name, value)
        self._extras(root, {"kind": "root", "calibration": calibration})

    # ---- nodes -----------------------------------------------------------------------------------
    def _add(
        self, parent: h5py.Group, name: str, node: Node, shared: Calibration | None, taken: set[str]
    ) -> None:
        safe = safe_name(name, taken)
        taken.add(safe)
        group = parent.create_group(safe)
        group.attrs.update({"emd_group_type": node.group_type, "python_class": node.python_class})
        self._payload(group, node)
        if node.extras or safe != name:
            facts = {"key": name, **node.extras}
            if node.calibration is not None:
                same = shared is not None and node.calibration == shared
                facts["calibration"] = "root" if same else node.calibration
            self._extras(group, facts)
        below = set(group)
        for child, inner in node.children.items():
            self._add(group, child, inner, shared, below)

    def _extras(self, group: h5py.Group, facts: Mapping[str, Any]) -> None:
        inner = _metadata_group(_bundle(group), EXTRAS, "Metadata")
        arrays: dict[str, Array] = {}
        text = dumps(facts, arrays)
        self._guard.check(len(text) + sum(a.nbytes for a in arrays.values()))
        write_item(inner, "schema", SCHEMA)
        write_item(inner, "json", text)
        for name, array in arrays.items():
            self._array(inner, name, array).attrs["type"] = "array"

    def _payload(self, group: h5py.Group, node: Node) -> None:
        payload = node.payload
        if isinstance(payload, Cube):
            self._scan(group, payload).attrs["units"] = node.units
            self._dims(group, node.dims, 0)
        elif isinstance(payload, PointTable):
            self._points(group, payload, node.group_type == "custom")
        elif node.group_type == "pointlist":
            for name in payload.dtype.names:
                column = self._array(group, name, np.ascontiguousarray(payload[name]))
                column.attrs["dtype"] = np.bytes_(str(payload.dtype[name]))
        elif payload is not None:
            self._array(group, "data", payload).attrs["units"] = node.units
            self._dims(group, node.dims, 0)
            self._labels(group, node.labels, len(node.dims))

    def _dims(self, group: h5py.Group, axes: Sequence[Axis], first: int) -> None:
        for k, axis in enumerate(axes, start=first):
            values = np.array([axis.offset, axis.offset + axis.step])
            dim = self._array(group, f"dim{k}", values)
            unit = "pixels" if axis.unit == "px" else axis.unit
            dim.attrs.update({"name": axis.name, "units": unit})

    def _labels(self, group: h5py.Group, labels: Sequence[str], number: int) -> None:
        if labels:
            data = np.array([label.encode() for label in labels], object)
            dim = group.create_dataset(f"dim{number}", data=data, dtype=h5py.string_dtype())
            dim.attrs["name"] = "_labels_"

    # ---- values ----------------------------------------------------------------------------------
    def _points(self, group: h5py.Group, table: PointTable, bragg: bool) -> None:
        if bragg:
            facts = _metadata_group(_bundle(group), "_braggvectors_shape", "Metadata")
            write_item(facts, "Rshape", tuple(table.shape))
            write_item(facts, "Qshape", tuple(map(int, table.Q_shape or ())))
            group = group.create_group("_v_uncal")
            group.attrs.update(
                {"emd_group_type": "custom_pointlistarray", "python_class": "PointListArray"}
            )
        points = np.ascontiguousarray(table.points, table.dtype.newbyteorder("="))
        self._guard.check(int(points.nbytes * 1.2) + 64 * len(table.offsets))
        with _translated(self._guard.target):
            dataset = group.create_dataset("data", table.shape, h5py.vlen_dtype(points.dtype))
            write_ragged(dataset, points, table.offsets)
        self.checks[dataset.name] = _Check(table.shape, crc=_crc(points))

    def _array(self, group: h5py.Group, name: str, array: Array) -> h5py.Dataset:
        """An array in memory: contiguous when small, else chunked as a scan is."""
        values = np.ascontiguousarray(array).reshape(array.shape)
        self._guard.check(values.nbytes)
        if values.nbytes <= CONTIGUOUS_BYTES or values.dtype.kind not in "biufc":
            with _translated(self._guard.target):
                dataset = group.create_dataset(name, data=values)
            self.checks[dataset.name] = _Check(values.shape, crc=_crc(values))
            return dataset
        chunks = _array_chunks(values.shape, values.dtype.itemsize)
        dataset = self._chunked(group, name, values.shape, values.dtype, chunks)
        counts = [-(-values.shape[k] // c) for k, c in enumerate(chunks)]
        for corner in np.ndindex(*counts):
            start = tuple(k * c for k, c in zip(corner, chunks, strict=True))
            part = values[tuple(slice(s, s + c) for s, c in zip(start, chunks, strict=True))]
            gaps = [(0, c - n) for c, n in zip(chunks, part.shape, strict=True)]
            self._put(dataset, start, np.pad(part, gaps) if any(g[1] for g in gaps) else part)
        return dataset

    def _scan(self, group: h5py.Group, cube: Cube) -> h5py.Dataset:
        dtype = cube.dtype.newbyteorder("=")
        if cube.nbytes == 0:
            return self._array(group, "data", np.zeros(cube.shape, dtype))
        chunks = scan_chunks(cube, self._settings.chunks)
        dataset = self._chunked(group, "data", cube.shape, dtype, chunks)
        tiles = cube.replace(data=Aligned(cube.data, chunks))
        cutter = _ChunkCutter(cube.shape, chunks, self._compression)
        work: Callable[[Block, Array], Any] = cutter if self._compression.direct else _as_they_are
        for block, pieces in self._stream(tiles, work, f"save {cube.name}"):
            if self._compression.direct:
                for chunk in pieces:
                    self._put_encoded(dataset, chunk)
            else:
                self._guard.check(pieces.nbytes)
                shape = (block.rx.stop - block.rx.start, -1, *cube.Q_shape)
                with _translated(self._guard.target):
                    dataset[block.rx, block.ry] = pieces.reshape(shape)
        return dataset

    def _chunked(
        self,
        group: h5py.Group,
        name: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        chunks: tuple[int, ...],
    ) -> h5py.Dataset:
        options = self._compression.dataset_options()
        with _translated(self._guard.target):
            dataset = group.create_dataset(name, shape, dtype, chunks=chunks, **options)
        stored: dict[tuple[int, ...], int] | None = {} if self._compression.direct else None
        self.checks[dataset.name] = _Check(shape, chunks=stored)
        return dataset

    def _put(self, dataset: h5py.Dataset, corner: tuple[int, ...], part: Array) -> None:
        if self._compression.direct:
            self._put_encoded(dataset, self._compression.encode(corner, part))
            return
        shape: tuple[int, ...] = dataset.shape
        area = tuple(
            slice(start, min(start + size, length))
            for start, size, length in zip(corner, part.shape, shape, strict=True)
        )
        self._guard.check(part.nbytes)
        with _translated(self._guard.target):
            dataset[area] = part[tuple(slice(0, a.stop - a.start) for a in area)]

    def _put_encoded(self, dataset: h5py.Dataset, chunk: EncodedChunk) -> None:
        self._guard.check(len(chunk.data))
        with _translated(self._guard.target):
            put_chunk(dataset, chunk)
        stored = self.checks[dataset.name].chunks
        if stored is not None:
            stored[chunk.corner] = zlib.crc32(chunk.data)


def put_chunk(dataset: h5py.Dataset, chunk: EncodedChunk) -> None:
    """Hand one encoded chunk to HDF5, which writes it at once."""
    dataset.id.write_direct_chunk(chunk.corner, chunk.data, chunk.mask)


def _as_they_are(block: Block, frames: Array) -> Array:
    return frames


@contextlib.contextmanager
def _translated(target: Path) -> Iterator[None]:
    """Failures of HDF5 as errors that name the file."""
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        raise atomic.as_store_error(error, target) from error
    except (RuntimeError, ValueError, KeyError, TypeError) as error:
        failure = OSError(errno.EIO, f"HDF5: {error}")
        raise atomic.as_store_error(failure, target) from error


def _array_chunks(shape: tuple[int, ...], itemsize: int) -> tuple[int, ...]:
    """Whole images where they fit into about a megabyte, else whole rows."""
    chunks = [1] * len(shape)
    room = max(1, (1 << 20) // itemsize)
    for k in reversed(range(len(shape))):
        chunks[k] = max(1, min(shape[k], room))
        room //= chunks[k]
    return tuple(chunks)


def _bundle(group: h5py.Group) -> h5py.Group:
    if "metadatabundle" not in group:
        group.create_group("metadatabundle").attrs["emd_group_type"] = "metadatabundle"
    return group["metadatabundle"]


def _metadata_group(bundle: h5py.Group, name: str, python_class: str) -> h5py.Group:
    group = bundle.create_group(name)
    group.attrs.update({"emd_group_type": "metadata", "python_class": python_class})
    return group


def _shared_calibration(tree: Mapping[str, Node]) -> Calibration | None:
    """The calibration that other programs see: that of the first cube, else of the first object."""
    known = [node for node in tree.values() if node.calibration is not None]
    known += [c for n in tree.values() for c in n.children.values() if c.calibration is not None]
    cubes = [node for node in known if isinstance(node.payload, Cube)]
    return next((node.calibration for node in [*cubes, *known]), None)


def _existing_root(file: h5py.File, target: Path) -> h5py.Group:
    if attribute(file, "emd_group_type") != "file":
        raise StoreError(
            "only files in the EMD 1.0 layout can be added to",
            path=target,
            hint="Read it, and save everything to a new file",
        )
    for _, node in children(file):
        if attribute(node, "emd_group_type") == "root":
            return node
    raise StoreError("it has no root group", path=target, hint="Save to a new file")


def _named(root: h5py.Group, name: str) -> str | None:
    """The group that holds the object called `name`, which may have another name in HDF5."""
    safe = safe_name(name, set())
    for member, node in children(root):
        if isinstance(node, h5py.Group) and member in (name, safe) and "metadata" not in member:
            return member
    return None


# ---- reading back --------------------------------------------------------------------------------
def _verify(part: Path, target: Path, checks: Mapping[str, _Check]) -> None:
    """Open the closed file again and compare every stored chunk with what was encoded."""
    try:
        with h5py.File(part, "r", locking=False) as file, open(part, "rb") as raw:
            for name, check in checks.items():
                _verify_dataset(file[name], check, raw)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise StoreError(
            f"reading the new file back failed: {error}",
            path=target,
            hint="The disk or the memory is not reliable; the previous file is untouched",
        ) from error


def _values(dataset: h5py.Dataset) -> Array:
    return np.asarray(dataset[()]) if row_dtype(dataset) is None else read_ragged(dataset)[0]


def _crc(array: Array) -> int:
    return zlib.crc32(array.tobytes())


def _verify_dataset(dataset: h5py.Dataset, check: _Check, raw: Any) -> None:
    if tuple(dataset.shape) != tuple(check.shape):
        raise ValueError(f"{dataset.name} has shape {dataset.shape}, not {check.shape}")
    if check.crc is not None and _crc(_values(dataset)) != check.crc:
        raise ValueError(f"{dataset.name} differs from what was written")
    if check.chunks is None:
        return
    places: list[Any] = []
    dataset.id.chunk_iter(places.append)
    if len(places) != len(check.chunks):
        raise ValueError(f"{dataset.name} has {len(places)} chunks, not {len(check.chunks)}")
    for place in sorted(places, key=lambda p: p.byte_offset):
        raw.seek(place.byte_offset)
        if zlib.crc32(raw.read(place.size)) != check.chunks[tuple(place.chunk_offset)]:
            raise ValueError(f"chunk {place.chunk_offset} of {dataset.name} differs")
