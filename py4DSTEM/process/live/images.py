"""Virtual images of detectors that move, from a detector-major cache."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.errors import Cancelled, MemoryBudgetError, ParameterError, ShapeError
from py4DSTEM.process.live.sums import Known, Shells, Term, Way, by_rows, shell_numbers
from py4DSTEM.stream.detector_major import DetectorMajor
from py4DSTEM.stream.options import RunOptions, available_memory_bytes
from py4DSTEM.stream.parallel import in_threads, parts_of

__all__ = ["LiveImages"]

Float = NDArray[np.float64]
TOLERANCE = 1e-13
"""Of the largest value of an image: what rounding may add to that of a plain sum."""
REMEMBERED = 4
"""Images of earlier detectors that are kept, so that several may be dragged in turn."""


class LiveImages:
    """Virtual images for any weights, each from whatever is cheapest to read.

    That is all pixels of the detector; or what changed since one of the last images; or sampled
    sums along rows; or sums over shells about a centre — each with single pixels for what is left
    over.  All give the same numbers to 1e-12 of the largest; whole weights of whole numbers are
    exact.  Calls must not overlap.

    Parameters
    ----------
    cache : DetectorMajor

    Examples
    --------
    >>> from py4DSTEM import DataCube
    >>> from py4DSTEM.stream.detector_major import detector_major
    >>> cube = DataCube(np.arange(24, dtype=np.uint16).reshape(2, 3, 2, 2))
    >>> live = LiveImages(detector_major(cube))
    >>> live.images([[[0, 1], [0, 0]]]).tolist()
    [[[1.0, 5.0, 9.0], [13.0, 17.0, 21.0]]]
    """

    def __init__(self, cache: DetectorMajor) -> None:
        self.cache = cache
        self._shells: Shells | None = None
        self._known: dict[int, list[Known]] = {}
        self._top = _top(cache)

    @property
    def exact(self) -> bool:
        """Whether these are the images of the scan: all of it, with nothing masked."""
        return self.cache.complete and self.cache.finite

    def images(self, weights: ArrayLike) -> Float:
        """Images of K detectors, (K, rows, columns) float64.

        Parameters
        ----------
        weights : (K, Qx, Qy) float
            Any weights; moments such as ``w·x`` too.
        """
        flat = self._checked(weights)
        K, n = len(flat), self.cache.data.shape[2]
        known = self._known.setdefault(K, [])
        for way in sorted(self._ways(flat, known), key=lambda way: way.cost):
            images, error = way.images(K, n)
            if error == 0 or error < TOLERANCE * float(np.abs(images).max(initial=0)):
                break
        self._remember(known, way.base, Known(flat, images, error))
        return images.reshape(K, *self.cache.grid_shape).copy()

    def _checked(self, weights: ArrayLike) -> Float:
        array = np.array(weights, dtype=np.float64)
        if array.ndim != 3 or array.shape[1:] != self.cache.Q_shape:
            raise ShapeError(
                f"weights are (K, {', '.join(map(str, self.cache.Q_shape))}), not {array.shape}"
            )
        if not np.isfinite(array).all():
            raise ParameterError("the weights of a detector are finite")
        if self.cache.closed:
            raise ParameterError("the cache is closed: make another with detector_major(cube)")
        return array.reshape(len(array), -1)

    def _ways(self, weights: Float, known: list[Known]) -> list[Way]:
        """All ways to the image; the last one, all pixels, is always good."""
        table = self.cache.data.reshape(-1, self.cache.data.shape[2])
        ways = [Way((Term.of(table, weights - k.weights),), k) for k in known]
        sums = by_rows(self.cache, weights, self._rounding(weights))
        ways += [] if sums is None else [sums]
        ways += [] if self._shells is None else [self._shells.way(self.cache, weights)]
        return [*ways, Way((Term.of(table, weights),))]

    def _rounding(self, weights: Float) -> float:
        """Largest sampled sum, where not all is whole numbers."""
        whole = self.cache.data.dtype.kind != "f" and not (weights % 1).any()
        return 0.0 if whole else self._top

    def _remember(self, known: list[Known], used: Known | None, new: Known) -> None:
        """The image that was built on, or the oldest, makes room."""
        if used is not None:
            known[:] = [k for k in known if k is not used]
        known.append(new)
        del known[:-REMEMBERED]

    def use_shells(self, center: tuple[float, float], options: RunOptions | None = None) -> None:
        """Prepare for rings about `center` whose radii will change: one pass over the cache.

        Parameters
        ----------
        center : (float, float)
            ``(qx, qy)`` in pixels.
        options : RunOptions, optional
            For its `cancel`.

        Raises
        ------
        MemoryBudgetError
            The sums would take more than half of what is free.
        """
        shell = shell_numbers(self.cache.Q_shape, center)
        count, n = int(shell.max()) + 1, self.cache.data.shape[2]
        if count * n * 8 > available_memory_bytes() // 2:
            raise MemoryBudgetError(
                f"{count} shells of {n} positions take {count * n * 8e-9:.2f} GB, more than half "
                "of what is free: go without, or use a coarser scan"
            )
        sums = self._shell_sums(shell, count, options or RunOptions())
        self._shells = Shells(sums, shell, float(np.abs(sums).max(initial=0)))

    def _shell_sums(self, shell: NDArray[np.intp], count: int, options: RunOptions) -> Float:
        from py4DSTEM.kernels import compiled

        add, table = compiled().add_weighted, self.cache.data.reshape(shell.size, -1)
        sums = np.zeros((count, table.shape[1]))
        order = np.argsort(shell, kind="stable")
        groups = np.split(order, np.searchsorted(shell[order], np.arange(1, count)))
        for k, rows in enumerate(groups):
            if options.cancel is not None and options.cancel.is_set():
                raise Cancelled(f"the shells were cancelled after {k} of {count}")
            sums[k] = sums[k - 1] if k else 0
            _add_all(add, table, rows, sums[k : k + 1])
        return sums


def _add_all(add: Any, table: NDArray[Any], rows: NDArray[np.intp], out: Float) -> None:
    ones = np.ones((1, len(rows)))
    in_threads(lambda part: add(table, rows, ones, out, part), parts_of(table.shape[1]))


def _top(cache: DetectorMajor) -> float:
    """A bound of the sampled sums that is cheap to find."""
    if cache.prefix is None:
        return 0.0
    whole_rows = cache.prefix[:, -1]

    def top(part: slice) -> float:
        return float(np.abs(whole_rows[:, part]).max(initial=0))

    return max(in_threads(top, parts_of(whole_rows.shape[1])), default=0.0)
