"""The one loop over the scan: tiles in, parts folded in order, results out."""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube, check_cube
from py4DSTEM.core.lazy import LazyArray, read_block
from py4DSTEM.core.selection import selected, selection_table
from py4DSTEM.errors import Cancelled, ParameterError, ShapeError
from py4DSTEM.stream.operation import Measures, Operation, Parts, PerScan, Ragged, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.progress import reporter
from py4DSTEM.stream.tile import MIN_PATTERNS, Block, Tile, TilePlan, plan_tiles

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels, Measured

__all__ = ["run", "stream_tiles"]

T = TypeVar("T")

TILES_AHEAD = 3
"""Finished tiles that may wait, per worker, for an earlier one that is slow."""
COPIES = 3
"""Tiles' worth of memory that a worker may take: what it reads, a contiguous copy, its results."""
_LONGEST_SELECTION = 1 << 16
"""Characters of a selection that a history still holds: every result carries them."""


def run(
    operations: Operation | Sequence[Operation],
    cube: Cube,
    *,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> Any:
    """Run one or several operations together, each tile read once for all of them.

    Parameters
    ----------
    operations : Operation or sequence of Operation
        Those that need several passes share them with the others.
    cube : Cube
    where : (Rx, Ry) bool or float, optional
        Scan positions that count, or their weights; tiles without any are not read.
    options : RunOptions, optional

    Returns
    -------
    object or tuple
        What the operation's `finish` gives; a tuple for a sequence of operations.

    Raises
    ------
    Cancelled
        ``options.cancel`` was set.

    Notes
    -----
    Parts are merged in tile order, so the bits are the same for any number of workers.
    """
    single = isinstance(operations, Operation)
    ops = [operations] if isinstance(operations, Operation) else list(operations)
    if not ops:
        raise ParameterError("run needs at least one operation")
    check_cube(cube, ops[0].kind)
    options = options or RunOptions()
    kernels = _kernels()
    weights = None if where is None else _position_weights(where, cube.R_shape)
    waiting = {k: _Job(op, op.prepare_at(cube, kernels, weights)) for k, op in enumerate(ops)}
    results: dict[int, Any] = {}
    while waiting:
        wholes = _one_pass(list(waiting.values()), cube, weights, options, kernels)
        for (k, job), whole in zip(list(waiting.items()), wholes, strict=True):
            plan = job.op.again(job.plan, whole)
            if plan is not None:
                waiting[k] = _Job(job.op, plan)
                continue
            del waiting[k]
            results[k] = job.op.finish(cube, job.plan, whole, _history(cube, job.op, where))
    return results[0] if single else tuple(results[k] for k in range(len(ops)))


def _one_pass(
    jobs: Sequence[_Job],
    cube: Cube,
    weights: NDArray[np.float64] | None,
    options: RunOptions,
    kernels: Kernels,
) -> list[Parts]:
    """Every tile once, for all jobs; the assembled parts of each."""
    work = _Pass(tuple(jobs), _Request.of(jobs, cube, kernels))
    folders = [_Folder(job.op, cube.R_shape) for job in jobs]
    label = ", ".join(job.op.kind for job in jobs)
    for block, parts in _tiles_of(options)(
        cube, work, weights=weights, options=options, label=label
    ):
        for folder, part in zip(folders, parts, strict=True):
            folder.add(block, part)
    return [folder.result(weights) for folder in folders]


def _tiles_of(options: RunOptions) -> Callable[..., Iterator[tuple[Block, list[Parts]]]]:
    """Where the tiles are worked on: in threads of this process, or on a cluster."""
    if options.client is None:
        return stream_tiles
    from py4DSTEM.stream.dask import cluster_tiles

    return cluster_tiles


def _kernels() -> Kernels:
    from py4DSTEM import kernels

    return kernels.compiled()


def _history(cube: Cube, op: Operation, where: ArrayLike | None) -> Any:
    parameters = op.parameters()
    if where is not None:
        parameters["where"] = _chosen(np.asarray(where))
    return cube.history.then(op.kind, parameters, op.version, op.cites)


def _chosen(mask: NDArray[Any]) -> dict[str, Any]:
    """How many positions counted, and which, so that it can be done again; not any weights."""
    found = {"positions": int(np.count_nonzero(mask)), "of": int(mask.size)}
    if not np.isin(mask, (0, 1)).all():
        return found
    table = selection_table(selected(mask != 0))
    return found | ({"selection": table} if len(str(table)) <= _LONGEST_SELECTION else {})


def _position_weights(where: ArrayLike, R_shape: tuple[int, int]) -> NDArray[np.float64]:
    try:
        weights = np.asarray(where, dtype=np.float64)
    except (TypeError, ValueError):
        raise ParameterError(f"where must hold bools or weights, not {where!r}") from None
    if weights.shape != R_shape:
        raise ShapeError(f"where has shape {weights.shape}, the scan {R_shape}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ParameterError("where must hold finite weights that are not negative")
    if not weights.any():
        raise ParameterError("where selects no scan position")
    return weights


# ---- what the operations ask for -----------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Job:
    op: Operation
    plan: Any


@dataclass(frozen=True, eq=False)
class _Request:
    """The measures of all operations as one call of the fused kernel."""

    asked: tuple[Measures | None, ...]
    detectors: Any
    moments: bool
    sums: bool
    squares: bool
    maximum: bool

    @classmethod
    def of(cls, jobs: Sequence[_Job], cube: Cube, kernels: Kernels) -> _Request:
        asked = tuple(job.op.measures(job.plan) for job in jobs)
        wanted = [m for m in asked if m is not None]
        stacks = [m.detectors for m in wanted if m.detectors is not None]
        for stack in stacks:
            if stack.ndim != 3 or stack.shape[1:] != cube.Q_shape:
                raise ShapeError(f"detectors of {stack.shape[1:]} on patterns of {cube.Q_shape}")
        compiled = kernels.compile_detectors(np.concatenate(stacks)) if stacks else None
        flags = {
            name: any(getattr(m, name) for m in wanted)
            for name in ("moments", "sums", "squares", "maximum")
        }
        return cls(asked, compiled, **flags)

    def measure(self, tile: Tile, kernels: Kernels) -> list[Measured | None]:
        """Measure a tile once and hand each operation its own part."""
        if not any(m is not None for m in self.asked):
            return [None] * len(self.asked)
        full = kernels.measure(
            tile.frames,
            self.detectors,
            moments=self.moments,
            sums=self.sums,
            squares=self.squares,
            maximum=self.maximum,
            weights=tile.weights,
        )
        return list(self._share(full))

    def _share(self, full: Measured) -> Iterator[Measured | None]:
        """What each one asked for, in arrays of its own: merging may work in place."""
        start, given = 0, set[str]()
        for asked in self.asked:
            if asked is None:
                yield None
                continue
            count = 0 if asked.detectors is None else len(asked.detectors)
            own: dict[str, Any] = {}
            for name in _names(asked):
                array = getattr(full, name)
                own[name] = array.copy() if name in given else array
            given.update(own)
            if full.detectors is not None and asked.detectors is not None:
                own["detectors"] = full.detectors[:, start : start + count]
            yield type(full)(**own)
            start += count


@dataclass(frozen=True, eq=False)
class _Pass:
    """What is done with a tile; holds no code, so that it can be sent to another process."""

    jobs: tuple[_Job, ...]
    request: _Request

    def __call__(self, tile: Tile) -> list[Parts]:
        kernels = _kernels()
        measured = self.request.measure(tile, kernels)
        return [
            job.op.step(job.plan, replace(tile, measured=m), kernels)
            for job, m in zip(self.jobs, measured, strict=True)
        ]


def _names(asked: Measures) -> Iterator[str]:
    """Fields of `Measured` that answer a request, apart from the detectors."""
    if asked.moments:
        yield from ("total", "moment_x", "moment_y")
    for name in ("sums", "squares", "maximum"):
        if getattr(asked, name):
            yield name
    if asked.sums or asked.squares:
        yield "valid"


# ---- tiles through a pool ------------------------------------------------------------------------
def stream_tiles(
    cube: Cube,
    work: Callable[[Tile], T],
    *,
    weights: NDArray[np.float64] | None = None,
    options: RunOptions | None = None,
    label: str = "scan",
    least_patterns: int = MIN_PATTERNS,
) -> Iterator[tuple[Block, T]]:
    """Apply `work` to every tile, in threads; yield results in tile order.

    Bounded: fewer workers run where their tiles would not fit into the budget, and at most a few
    finished results per worker wait for their turn.  Closing the iterator stops the workers.
    A tile holds `least_patterns` where the budget allows.
    """
    options = options or RunOptions()
    budget = options.budget_bytes()
    plan = tiles_within(cube, budget, least_patterns)
    workers = max(1, min(options.worker_count(), budget // (COPIES * plan.tile_bytes)))
    ahead = max(workers, min(workers * TILES_AHEAD, budget // plan.tile_bytes))
    blocks = [b for b in plan if weights is None or weights[b.rx, b.ry].any()]

    def job(block: Block) -> T:
        with tile_context(source_of(cube), block):
            return work(read_tile(cube.data, block, weights))

    source = _inline(job, blocks) if workers == 1 else _pooled(job, blocks, workers, ahead)
    return reported(source, len(blocks), options, label)


def tiles_within(cube: Cube, budget_bytes: int, least_patterns: int = MIN_PATTERNS) -> TilePlan:
    """The tiles of a scan for a memory budget.

    They must not depend on the number of workers, or sums would round differently.
    """
    return plan_tiles(cube.data, budget_bytes // COPIES, least_patterns)


def reported(
    source: Generator[tuple[Block, T], None, None], total: int, options: RunOptions, label: str
) -> Iterator[tuple[Block, T]]:
    """Pass results of `total` tiles on, with progress and cancel; closes `source` at the end."""
    with reporter(options.progress) as report:
        report(0, total, label)
        try:
            for done, (block, result) in enumerate(source, start=1):
                if options.cancel is not None and options.cancel.is_set():
                    raise Cancelled(f"{label} was cancelled after {done} of {total} tiles")
                yield block, result
                report(done, total, label)
        finally:
            source.close()


def read_tile(data: LazyArray, block: Block, weights: NDArray[np.float64] | None) -> Tile:
    """The patterns of a block, contiguous and in native byte order."""
    frames = read_block(data, block.rx, block.ry)
    native = np.ascontiguousarray(frames, dtype=frames.dtype.newbyteorder("="))
    return Tile(block, native, None if weights is None else weights[block.rx, block.ry].ravel())


def source_of(cube: Cube) -> str:
    """What a scan is called in messages."""
    return str(cube.metadata.source or cube.name)


@contextmanager
def tile_context(source: str, block: Block) -> Iterator[None]:
    """Errors say in which part of which scan they happened."""
    try:
        yield
    except Exception as error:
        error.add_note(f"while processing scan block {block} of {source}")
        raise


def _inline(
    job: Callable[[Block], T], blocks: Sequence[Block]
) -> Generator[tuple[Block, T], None, None]:
    for block in blocks:
        yield block, job(block)


def _pooled(
    job: Callable[[Block], T], blocks: Sequence[Block], workers: int, ahead: int
) -> Generator[tuple[Block, T], None, None]:
    pool = _Pool(job, blocks, ahead)
    threads = [
        threading.Thread(target=pool.work, name=f"py4DSTEM-{k}", daemon=True)
        for k in range(min(workers, len(blocks)))
    ]
    try:
        for thread in threads:
            thread.start()
        for position, block in enumerate(blocks):
            yield block, pool.take(position)
    finally:
        pool.stop(len(threads))
        for thread in threads:
            if thread.is_alive():
                thread.join()


class _Pool(Generic[T]):
    """Workers that take the next tile from a queue; no barrier, no spinning.

    Only as many tiles are in the queue as may be ahead of the one that is waited for.  Ctrl-C may
    interrupt the calling thread anywhere, also within a `threading.Condition`, which is then left
    locked for ever; `SimpleQueue` is safe.
    """

    def __init__(self, job: Callable[[Block], T], blocks: Sequence[Block], ahead: int) -> None:
        self._job, self._blocks, self._ahead = job, blocks, ahead
        self._todo: SimpleQueue[int | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, T | BaseException]] = SimpleQueue()
        self._early: dict[int, T | BaseException] = {}
        self._stopped = False
        for position in range(min(ahead, len(blocks))):
            self._todo.put(position)

    def work(self) -> None:
        while (position := self._todo.get()) is not None and not self._stopped:
            try:
                result: T | BaseException = self._job(self._blocks[position])
            except BaseException as error:  # handed to the caller, who raises it
                result = error
            self._done.put((position, result))

    def take(self, position: int) -> T:
        """Wait for one result, in order."""
        while position not in self._early:
            finished, result = self._done.get()
            self._early[finished] = result
        if position + self._ahead < len(self._blocks):
            self._todo.put(position + self._ahead)
        result = self._early.pop(position)
        if isinstance(result, BaseException):
            raise result
        return result

    def stop(self, workers: int) -> None:
        self._stopped = True
        for _ in range(workers):
            self._todo.put(None)


# ---- parts into whole ----------------------------------------------------------------------------
class _Folder:
    """Places, folds and concatenates the parts of one operation."""

    def __init__(self, op: Operation, R_shape: tuple[int, int]) -> None:
        self._outputs, self._R_shape = op.outputs, R_shape
        self._whole: Parts = {}

    def add(self, block: Block, parts: Parts) -> None:
        for name, output in self._outputs.items():
            if isinstance(output, PerScan):
                self._place(name, output, block, parts[name])
            elif isinstance(output, Reduced):
                known = name in self._whole
                whole = output.merge(self._whole[name], parts[name]) if known else parts[name]
                self._whole[name] = whole
            else:
                self._whole.setdefault(name, []).append((block, *parts[name]))

    def _place(self, name: str, output: PerScan, block: Block, part: NDArray[Any]) -> None:
        if name not in self._whole:
            shape = (*self._R_shape, *part.shape[1:])
            self._whole[name] = _blank(shape, np.dtype(output.dtype))
        self._whole[name][block.rx, block.ry] = part.reshape(*block.shape, *part.shape[1:])

    def result(self, weights: NDArray[np.float64] | None) -> Parts:
        out = dict(self._whole)
        for name, output in self._outputs.items():
            if isinstance(output, Ragged):
                out[name] = _concatenate(out.get(name, []), output, self._R_shape)
            elif isinstance(output, PerScan) and weights is not None:
                out[name][weights == 0] = _outside(out[name].dtype)
        return out


def _outside(dtype: np.dtype[Any]) -> Any:
    return np.nan if dtype.kind in "fc" else 0


def _blank(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    return np.full(shape, _outside(dtype), dtype)


def _concatenate(
    parts: list[tuple[Block, NDArray[Any], NDArray[np.int64]]],
    output: Ragged,
    R_shape: tuple[int, int],
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Rows in C order of the scan, and offsets (Rx * Ry + 1,)."""
    counts = np.zeros(R_shape, np.int64)
    for block, _, n in parts:
        counts[block.rx, block.ry] = np.asarray(n).reshape(block.shape)
    offsets = np.concatenate([[0], np.cumsum(counts.ravel())]).astype(np.int64)
    rows = np.empty(int(offsets[-1]), output.dtype)
    for block, values, n in parts:
        rows[_destinations(block, np.asarray(n), offsets, R_shape[1])] = values
    return rows, offsets


def _destinations(
    block: Block, counts: NDArray[np.int64], offsets: NDArray[np.int64], width: int
) -> NDArray[np.int64]:
    x, y = np.mgrid[block.rx, block.ry]
    starts = offsets[(x * width + y).ravel()]
    within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
    places: NDArray[np.int64] = np.repeat(starts, counts) + within
    return places
