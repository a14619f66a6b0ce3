"""A copy of the patterns with the detector axes first: what a dragged detector reads."""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube, check_cube
from py4DSTEM.core.lazy import chunks_of, read_block
from py4DSTEM.errors import Cancelled, MemoryBudgetError, ParameterError, StoreError
from py4DSTEM.stream.engine import stream_tiles
from py4DSTEM.stream.options import RunOptions, available_memory_bytes
from py4DSTEM.stream.parallel import in_threads, parts_of
from py4DSTEM.stream.progress import reporter
from py4DSTEM.stream.tile import Tile

__all__ = ["DetectorMajor", "coarse_grid", "detector_major"]

Index = NDArray[np.intp]

LABEL = "live cache"
LEAST_PATTERNS = 64
"""Runs of positions of one pixel that are written together: whole cache lines."""
PAGE_BYTES = 4096
"""The same for a file, where a page that is written in two parts may be written twice."""
SPARE_BYTES = 512 * 1000**2
"""Left free on the disk."""
BATCH_BYTES = 16 * 1024**2
TOUCH_BYTES = 16 * 1024**2


class DetectorMajor:
    """Patterns at a grid of scan positions, detector axes first.

    Made by `detector_major`.

    Attributes
    ----------
    data : (Qx, Qy, n) ndarray or memmap
        Contiguous, native byte order; position ``i * len(columns) + j`` is
        ``(rows[i], columns[j])``.  What is NaN or infinite in the scan is 0 here.
    rows, columns : (…,) intp
    R_shape : (int, int)
        Of the whole scan.
    finite : bool
        No value had to be replaced by 0.
    prefix : (Qx, ceil(Qy / 8), n), optional
        ``prefix[x, b] = Σ data[x, : 8 (b + 1)]``; integers of up to 16 bits as integers of 32
        bits, others as float64.
    """

    def __init__(
        self,
        data: NDArray[Any],
        grid: tuple[Index, Index],
        R_shape: tuple[int, int],
        *,
        finite: bool = True,
        prefix: NDArray[Any] | None = None,
    ) -> None:
        self.data, self.prefix = data, prefix
        self.rows, self.columns = grid
        self.R_shape, self.finite = R_shape, finite

    @property
    def complete(self) -> bool:
        """Whether the grid is the whole scan."""
        return (len(self.rows), len(self.columns)) == self.R_shape

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of the grid."""
        return len(self.rows), len(self.columns)

    @property
    def Q_shape(self) -> tuple[int, int]:
        """Pattern shape (Qx, Qy)."""
        return self.data.shape[0], self.data.shape[1]

    @property
    def nbytes(self) -> int:
        """Memory or disk that it takes."""
        return self.data.nbytes + (0 if self.prefix is None else self.prefix.nbytes)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self.data.size == 0

    def close(self) -> None:
        """Let go of memory and file; the arrays are empty afterwards."""
        # Not unmapped by force: another thread may be reading it just now.
        self.data = np.empty((*self.Q_shape, 0), self.data.dtype)
        self.prefix = None

    def __repr__(self) -> str:
        return f"<DetectorMajor {self.data.shape} {self.data.dtype}, {self.nbytes / 1e9:.3g} GB>"


def coarse_grid(R_shape: tuple[int, int], positions: int = 4096) -> tuple[Index, Index]:
    """Rows and columns of a grid of at most `positions`, spread evenly over a scan.

    Parameters
    ----------
    R_shape : (int, int)
    positions : int

    Returns
    -------
    rows, columns : intp arrays

    Examples
    --------
    >>> rows, columns = coarse_grid((4, 100), 16)
    >>> rows.tolist(), columns.tolist()
    ([2], [3, 9, 15, 21, 28, 34, 40, 46, 53, 59, 65, 71, 78, 84, 90, 96])
    """
    nx, ny = R_shape
    if positions < 1:
        raise ParameterError(f"a grid needs at least one position, not {positions!r}")
    down = min(nx, positions, max(1, math.isqrt(positions * nx // ny)))
    across = min(ny, positions // down)
    down = min(nx, positions // across)
    return _spread(nx, down), _spread(ny, across)


def _spread(size: int, count: int) -> Index:
    return (np.arange(count) * 2 + 1) * size // (2 * count)


def detector_major(
    cube: Cube,
    *,
    rows: ArrayLike | None = None,
    columns: ArrayLike | None = None,
    memory_bytes: int | None = None,
    folder: str | os.PathLike[str] | None = None,
    options: RunOptions | None = None,
) -> DetectorMajor:
    """Copy a scan, or a grid of its positions, with the detector axes first.

    Parameters
    ----------
    cube : Cube
    rows, columns : sequence of int, optional
        The grid, ascending; None: all.  The whole scan is read tile by tile, a sparse grid by
        single positions.
    memory_bytes : int, optional
        Most that it may take in memory; None: half of what is free.
    folder : path, optional
        Where a temporary file goes if that is not enough; it vanishes with the object, and with
        the process.
    options : RunOptions, optional
        Cancel is looked at between tiles and between positions.

    Returns
    -------
    DetectorMajor

    Raises
    ------
    MemoryBudgetError
        It does not fit into memory, and there is no folder.
    StoreError
        There is not enough space in the folder either.
    Cancelled
        ``options.cancel`` was set; nothing is left behind.
    """
    from py4DSTEM.kernels._arrays import stored_dtype
    from py4DSTEM.kernels.live import STEP, prefix_dtype

    check_cube(cube, LABEL)
    options = options or RunOptions()
    grid = _grid(rows, cube.R_shape[0]), _grid(columns, cube.R_shape[1])
    (qx, qy), n = cube.Q_shape, len(grid[0]) * len(grid[1])
    dtype = stored_dtype(cube.dtype)
    sums = prefix_dtype(dtype, qy)
    shapes = [((qx, qy, n), dtype), ((qx, -(-qy // STEP), n), sums)]
    data, prefix = _rooms(shapes, memory_bytes, folder)
    whole = (len(grid[0]), len(grid[1])) == cube.R_shape
    table = data.reshape(qx * qy, n)
    _touch(data, options)
    fill = _fill_whole if whole else _fill_sparse
    finite = fill(cube, table, grid, options)
    if prefix is not None:
        _fill_prefix(data, prefix, options)
    return DetectorMajor(data, grid, cube.R_shape, finite=finite, prefix=prefix)


def _grid(index: ArrayLike | None, size: int) -> Index:
    if index is None:
        return np.arange(size, dtype=np.intp)
    array = np.asarray(index, dtype=np.intp).ravel()
    ordered = array.size > 0 and bool((np.diff(array) > 0).all())
    if not ordered or array[0] < 0 or array[-1] >= size:
        raise ParameterError(f"a grid is ascending positions within 0 … {size - 1}, not {index!r}")
    return array


# ---- room ----------------------------------------------------------------------------------------
def _rooms(
    shapes: list[tuple[tuple[int, int, int], np.dtype[Any]]],
    memory_bytes: int | None,
    folder: str | os.PathLike[str] | None,
) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Data and prefix sums in memory, else the data alone, else both in files."""
    sizes = [math.prod(shape) * dtype.itemsize for shape, dtype in shapes]
    limit = available_memory_bytes() // 2 if memory_bytes is None else memory_bytes
    if sum(sizes) <= limit:
        return _in_memory(*shapes[0]), _in_memory(*shapes[1])
    if folder is not None:
        _check_disk(sum(sizes), limit, folder)
        return _in_file(*shapes[0], folder), _in_file(*shapes[1], folder)
    if sizes[0] <= limit:
        return _in_memory(*shapes[0]), None
    raise MemoryBudgetError(
        f"the {LABEL} takes {sizes[0] / 1e9:.2f} GB and may take {limit / 1e9:.2f} GB: give it "
        "more memory or a folder with that much space, or bin the detector"
    )


def _in_memory(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    try:
        return np.empty(shape, dtype)
    except MemoryError as error:
        raise MemoryBudgetError(
            f"the system gives no memory for a {LABEL} of {shape} {dtype}: set a smaller budget "
            "and a folder for a file, or bin the detector"
        ) from error


def _check_disk(size: int, limit: int, folder: str | os.PathLike[str]) -> None:
    try:
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise _no_file(folder, error) from error
    if size + SPARE_BYTES > free:
        raise StoreError(
            f"the {LABEL} fits neither into {limit / 1e9:.2f} GB of memory nor on the disk",
            path=folder,
            expected=f"{(size + SPARE_BYTES) / 1e9:.2f} GB",
            got=f"{free / 1e9:.2f} GB free",
            hint="Give another folder or more memory, or bin the detector",
        )


def _in_file(
    shape: tuple[int, ...], dtype: np.dtype[Any], folder: str | os.PathLike[str]
) -> NDArray[Any]:
    """A file that has lost its name where the system allows, so that no crash leaves it behind."""
    size = math.prod(shape) * dtype.itemsize
    try:
        handle, path = tempfile.mkstemp(".live", "py4dstem-", os.fspath(folder))
        with os.fdopen(handle, "r+b") as file:
            try:
                _allocate(file.fileno(), size)
                array = np.memmap(file, dtype, "r+", 0, shape)
            finally:
                named = not _unlinked(path)
    except OSError as error:
        raise _no_file(folder, error) from error
    if named:
        weakref.finalize(array, _unlinked, path)
    return array


def _allocate(handle: int, size: int) -> None:
    """Take the space now: a full disk met later, by a mapped page, would end the process."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.truncate(handle, size)


def _unlinked(path: str) -> bool:
    with contextlib.suppress(OSError):
        os.unlink(path)
        return True
    return False


def _no_file(folder: str | os.PathLike[str], error: OSError) -> StoreError:
    return StoreError(
        f"no file can be made for the {LABEL}: {error.strerror or error}",
        path=folder,
        hint="Give another folder, or more memory",
    )


def _touch(data: NDArray[Any], options: RunOptions) -> None:
    """Ask the system for the pages of an array now, in steps between which cancel is heard.

    The first tile would ask for all of them, which can take seconds.
    """
    if isinstance(data, np.memmap):
        return
    pages = data.reshape(-1).view(np.uint8)[::PAGE_BYTES]
    step = TOUCH_BYTES // PAGE_BYTES
    for first in range(0, len(pages), step):
        _check_cancel(options, 0, data.shape[2])
        part = pages[first : first + step]
        in_threads(lambda half: half.fill(0), np.array_split(part, 2))


# ---- filling -------------------------------------------------------------------------------------
def _fill_whole(
    cube: Cube, table: NDArray[Any], grid: tuple[Index, Index], options: RunOptions
) -> bool:
    """Every tile read once and turned; whether all values were finite."""
    width = cube.R_shape[1]

    def work(tile: Tile) -> bool:
        block, frames = tile.block, _flat(tile.frames)
        across = block.shape[1]
        if across == width:
            return _turn(frames, table, block.rx.start * width)
        parts = [
            _turn(frames[i * across : (i + 1) * across], table, x * width + block.ry.start)
            for i, x in enumerate(range(block.rx.start, block.rx.stop))
        ]
        return all(parts)

    in_file = isinstance(table, np.memmap)
    least = PAGE_BYTES // table.dtype.itemsize if in_file else LEAST_PATTERNS
    tiles = stream_tiles(cube, work, options=options, label=LABEL, least_patterns=least)
    finite = True
    for _, part in tiles:
        finite &= part
    return finite


def _flat(frames: NDArray[Any]) -> NDArray[Any]:
    from py4DSTEM.kernels._arrays import fit_frames

    fit = fit_frames(frames)
    return fit.reshape(len(fit), -1)


def _turn(frames: NDArray[Any], table: NDArray[Any], start: int) -> bool:
    from py4DSTEM.kernels import compiled

    return compiled().turn_frames(frames, np.asarray(table), start)


def _fill_sparse(
    cube: Cube, table: NDArray[Any], grid: tuple[Index, Index], options: RunOptions
) -> bool:
    """Single positions read, and turned a few at a time."""
    most = max(1, BATCH_BYTES // max(1, table.shape[0] * table.dtype.itemsize))
    waiting: list[NDArray[Any]] = []
    finite, start, done, total = True, 0, 0, table.shape[1]
    with reporter(options.progress) as report:
        for frames in _positions(cube, grid):
            _check_cancel(options, done, total)
            waiting.append(_flat(frames))
            done += len(frames)
            if done - start >= most or done == total:
                finite &= _turn(np.concatenate(waiting), table, start)
                waiting, start = [], done
                report(done, total, LABEL)
    return finite


def _positions(cube: Cube, grid: tuple[Index, Index]) -> Iterator[NDArray[Any]]:
    """Patterns of the grid in order, those of one storage chunk read together."""
    rows, columns = grid
    chunks = chunks_of(cube.data)
    width = 1 if chunks is None else max(1, chunks[1])
    groups = np.split(columns, np.flatnonzero(np.diff(columns // width)) + 1)
    for x in map(int, rows):
        for group in groups:
            first, last = int(group[0]), int(group[-1])
            block = read_block(cube.data, slice(x, x + 1), slice(first, last + 1))
            yield block[group - first] if len(group) < len(block) else block


def _fill_prefix(data: NDArray[Any], prefix: NDArray[Any], options: RunOptions) -> None:
    """A band of detector rows at a time, so that cancel is heard."""
    plain, sums = np.asarray(data), np.asarray(prefix)
    height, parts = data.shape[0], parts_of(data.shape[2])
    rows = max(1, BATCH_BYTES // max(1, data.nbytes // height))
    for x in range(0, height, rows):
        _check_cancel(options, x, height)
        _sample(plain[x : x + rows], sums[x : x + rows], parts)


def _sample(data: NDArray[Any], prefix: NDArray[Any], parts: list[slice]) -> None:
    from py4DSTEM.kernels import compiled

    row_prefix = compiled().row_prefix
    in_threads(lambda part: row_prefix(data, prefix, part), parts)


def _check_cancel(options: RunOptions, done: int, total: int) -> None:
    if options.cancel is not None and options.cancel.is_set():
        raise Cancelled(f"{LABEL} was cancelled after {done} of {total}")
