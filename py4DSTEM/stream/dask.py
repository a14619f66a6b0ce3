"""A pass over a scan on a Dask cluster: the same tiles, the same step, folded in the same order.

Imported by the engine when ``RunOptions(client=...)`` is given.
"""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import LazyArray
from py4DSTEM.errors import Cancelled, ClusterError, DependencyMissing, ParameterError
from py4DSTEM.stream.engine import read_tile, reported, source_of, tile_context, tiles_within
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Block, Tile

__all__ = ["NO_WORKER_S", "cluster_tiles"]

T = TypeVar("T")

NO_WORKER_S = 300.0
"""How long a cluster may be without any worker (a queue of jobs, a restart) before we give up."""
POLL_S = 0.2
"""How often cancel is looked at while no result comes."""
TASKS_PER_THREAD = 8
"""A pass is cut into about as many tasks for each thread: small enough for an even share."""
MOST_TILES = 16
"""Tiles of one task at most, so that cancel and the loss of a worker cost little."""
AHEAD = 3
"""Tasks per thread that are with the scheduler at a time."""
COUNT_S = 5.0
"""How often the threads of the cluster are counted."""
FETCH_S = 20.0
"""How long a result may be on its way before we look whether its worker is still there."""
SMALL_BYTES = 1 << 20
"""Arrays of a cube up to this size travel with its description."""
MOST_DESCRIPTION = 8 << 20
ATTEMPTS = 4
"""How often a task is given to the cluster whose scheduler has forgotten it."""


def cluster_tiles(
    cube: Cube,
    work: Callable[[Tile], T],
    *,
    weights: NDArray[np.float64] | None = None,
    options: RunOptions,
    label: str = "scan",
) -> Iterator[tuple[Block, T]]:
    """As `stream_tiles`, on the workers of ``options.client``.

    Parameters
    ----------
    cube : Cube
        What a file holds is read on the workers, which must see the file under the same path;
        tiles of what is in memory are read here and sent.
    work : callable
        Pure and picklable; its results too.
    weights : (Rx, Ry) float64, optional
    options : RunOptions
    label : str

    Yields
    ------
    block, result
        In tile order, whoever finished first.

    Raises
    ------
    Cancelled, ClusterError, ParameterError
        And whatever `work` raises.
    """
    client = _checked(options.client)
    plan = tiles_within(cube, options.budget_bytes())
    blocks = [b for b in plan if weights is None or weights[b.rx, b.ry].any()]
    travels = _travels(cube.data)
    share = _Share(
        work, cube.data if travels else None, weights, source_of(cube), version("py4DSTEM")
    )
    most = MOST_TILES if travels else 1
    threads = _threads(client)
    parts = _cut(blocks, min(most, len(blocks) // (threads * TASKS_PER_THREAD)))

    def frames(part: Sequence[Block]) -> list[NDArray[Any]] | None:
        if travels:
            return None
        with tile_context(source_of(cube), part[0]):
            return [read_tile(cube.data, block, None).frames for block in part]

    spread = _Spread(client, share, parts, frames, options, label)
    spread.window = max(2, threads * AHEAD)
    return reported(spread.results(), len(blocks), options, label)


def _checked(client: Any) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise DependencyMissing("distributed", "a run on a cluster", "cluster") from None
    if not isinstance(client, Client):
        raise ParameterError(
            f"client must be a distributed.Client, not {type(client).__name__}: "
            "client = Client(address)"
        )
    if client.asynchronous:
        raise ParameterError("client is asynchronous: make it with Client(address), without await")
    if client.status != "running":
        raise ClusterError(f"the client is {client.status}: connect to the scheduler again")
    return client


def _cut(blocks: Sequence[Block], size: int) -> list[Sequence[Block]]:
    size = max(1, size)
    return [blocks[k : k + size] for k in range(0, len(blocks), size)]


def _threads(client: Any) -> int:
    return max(1, sum(map(int, client.nthreads().values())))


# ---- what travels --------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Share:
    """What all tasks of a pass have in common; `data` is None where tiles are sent."""

    work: Callable[[Tile], Any]
    data: LazyArray | None
    weights: NDArray[np.float64] | None
    source: str
    version: str


def _travels(data: Any) -> bool:
    """Whether an array can be sent as the description of how it is opened."""
    if _is_bulk(data):
        return False
    from distributed.protocol.pickle import dumps

    try:
        # Anything may be wrong with an array that is not ours: it is then read here.
        return len(dumps(data)) <= MOST_DESCRIPTION
    except Exception:
        return False


def _is_bulk(value: Any) -> bool:
    """Whether values, and not only their place, are in an array or in what it is a view of."""
    if isinstance(value, np.ndarray):
        return value.nbytes > SMALL_BYTES or isinstance(value, np.memmap)
    if hasattr(value, "__dask_graph__"):
        return True
    if isinstance(value, list | tuple):
        return any(map(_is_bulk, value))
    kind = type(value)
    if not kind.__module__.startswith("py4DSTEM.") or _says_how(kind):
        return False
    state = value.__getstate__()
    return isinstance(state, dict) and any(map(_is_bulk, state.values()))


def _says_how(kind: type) -> bool:
    """Whether objects describe themselves by how they are made, and not by what they hold."""
    return any("__reduce__" in vars(base) for base in kind.__mro__[:-1])


# ---- on a worker ---------------------------------------------------------------------------------
def _keep(share: _Share) -> _Share:
    """Make the share a result of its own: kept once per worker, made again when that is lost."""
    return share


def _work_on(
    share: _Share, blocks: Sequence[Block], frames: list[NDArray[Any]] | None
) -> list[Any]:
    """The results of a few tiles."""
    here = version("py4DSTEM")
    if here != share.version:
        raise ClusterError(
            f"a worker has py4DSTEM {here}, this process {share.version}: install the same version"
        )
    results = []
    for k, block in enumerate(blocks):
        with tile_context(share.source, block):
            results.append(share.work(_tile(share, block, None if frames is None else frames[k])))
    return results


def _tile(share: _Share, block: Block, frames: NDArray[Any] | None) -> Tile:
    if frames is None:
        try:
            return read_tile(share.data, block, share.weights)  # type: ignore[arg-type]
        except FileNotFoundError as error:
            error.add_note(
                "the file must have the same path on every worker (a shared file system)"
            )
            raise
    weights = None if share.weights is None else share.weights[block.rx, block.ry].ravel()
    return Tile(block, frames, weights)


# ---- tasks in order ------------------------------------------------------------------------------
class _Spread:
    """Tasks given to the scheduler a few at a time, results taken in order."""

    def __init__(
        self,
        client: Any,
        share: _Share,
        parts: list[Sequence[Block]],
        frames: Callable[[Sequence[Block]], list[NDArray[Any]] | None],
        options: RunOptions,
        label: str,
    ) -> None:
        self._client, self._share, self._parts, self._frames = client, share, parts, frames
        self._options, self._label = options, label
        self._name = f"py4dstem-{uuid.uuid4().hex}"
        self._ended: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        self._running: dict[int, Any] = {}
        self._early: dict[int, list[Any]] = {}
        self._lost: dict[int, int] = {}
        self._shared: Any = None
        self._taken, self.window, self._counted = 0, 2, time.monotonic()

    def results(self) -> Generator[tuple[Block, Any], None, None]:
        """Blocks and what was made of them."""
        try:
            self._send_share()
            given = 0
            for position, part in enumerate(self._parts):
                while given < min(position + self._ahead(), len(self._parts)):
                    self._give(given)
                    given += 1
                yield from zip(part, self._take(position), strict=True)
                self._taken += len(part)
        finally:
            self._stop()

    def _ahead(self) -> int:
        """Tasks that may be with the scheduler; counted now and then, as workers come and go."""
        now = time.monotonic()
        if now - self._counted > COUNT_S:
            self._counted, self.window = now, max(2, _threads(self._client) * AHEAD)
        return self.window

    def _send_share(self) -> None:
        with _cluster_errors("the operation and its parameters cannot be sent to the workers"):
            self._shared = self._submit(_keep, self._share, key=f"{self._name}-share")

    def _give(self, position: int) -> None:
        part = self._parts[position]
        attempt = self._lost.get(position, 0)
        # A name of its own: the scheduler may still remember the attempt that was lost.
        key = f"{self._name}-{position}-{attempt}"
        future = self._submit(_work_on, self._shared, list(part), self._frames(part), key=key)
        self._running[position] = future
        future.add_done_callback(lambda done: self._ended.put((position, done)))

    def _submit(self, function: Callable[..., Any], *values: Any, key: str) -> Any:
        with warnings.catch_warnings():
            # Dask advises to scatter; what is scattered is lost with its worker, arguments are not.
            warnings.filterwarnings("ignore", "Sending large graph", UserWarning)
            return self._client.submit(function, *values, key=key, pure=False)

    def _take(self, position: int) -> list[Any]:
        last = time.monotonic()
        while position not in self._early:
            try:
                ended, future = self._ended.get(timeout=POLL_S)
            except Empty:
                last = self._watch(last)
                continue
            last = time.monotonic()
            if self._running.get(ended) is future:
                self._receive(ended, future)
        return self._early.pop(position)

    def _receive(self, position: int, future: Any) -> None:
        from concurrent.futures import CancelledError

        try:
            with _cluster_errors(f"the tiles from {self._parts[position][0]}"):
                self._early[position] = future.result(timeout=FETCH_S)
        except CancelledError as error:
            self._again(position, error)
            return
        except TimeoutError:
            if future.status == "error":
                raise
            # Its worker is gone and another makes it again, or it is very large.
            future.add_done_callback(lambda done: self._ended.put((position, done)))
            return
        del self._running[position]

    def _again(self, position: int, error: BaseException) -> None:
        """Give a task once more that the scheduler has forgotten, with all that it depends on."""
        lost = self._lost[position] = self._lost.get(position, 0) + 1
        if self._client.status != "running" or lost >= ATTEMPTS:
            raise ClusterError(
                f"{self._label}: the scheduler at {self._client.scheduler.address} was lost; start "
                "it again and run again"
            ) from error
        if self._shared.status in ("cancelled", "lost"):
            self._name += "+"
            self._send_share()
        self._give(position)

    def _watch(self, since: float) -> float:
        """While nothing comes: hear cancel, and give up where there is nobody to wait for."""
        options = self._options
        if options.cancel is not None and options.cancel.is_set():
            raise Cancelled(f"{self._label} was cancelled after {self._taken} tiles")
        if self._client.status not in ("running", "connecting"):
            raise ClusterError(f"{self._label}: the connection to the scheduler is closed")
        waited = time.monotonic() - since
        if waited < min(NO_WORKER_S, 5.0):
            return since
        if self._client.status == "running" and self._client.nthreads():
            return time.monotonic()
        if waited > NO_WORKER_S:
            raise ClusterError(
                f"{self._label}: no worker for {waited:.0f} s; start workers for the scheduler at "
                f"{self._client.scheduler.address}"
            )
        return since

    def _stop(self) -> None:
        """Nothing of this pass stays in the cluster; what is released is forgotten there."""
        rest = list(self._running.values())
        self._running.clear()
        self._shared = None
        if rest and self._client.status == "running":
            self._client.cancel(rest, force=True, reason="py4DSTEM needs no more of it")


@contextmanager
def _cluster_errors(what: str) -> Iterator[None]:
    """Failures of the cluster, not of the work, as errors of ours."""
    from distributed import KilledWorker

    try:
        yield
    except KilledWorker as error:
        raise ClusterError(
            f"workers died while they worked on {what}: probably out of memory; give them more, or "
            f"make tiles smaller with RunOptions(memory=...) ({error})"
        ) from error
    except TypeError as error:
        if "serialize" not in str(error):
            raise
        raise ClusterError(f"{what}: {error}") from error
