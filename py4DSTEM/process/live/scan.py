"""An open scan under the hand: first look, coarse images, live images, whatever its size."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube, check_cube
from py4DSTEM.core.detector import Disk
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.beam import Beam, disk_of, sampled_mean
from py4DSTEM.process.live.images import LiveImages
from py4DSTEM.stream.detector_major import DetectorMajor, coarse_grid, detector_major
from py4DSTEM.stream.options import RunOptions

__all__ = ["FirstLook", "LiveResult", "LiveScan"]

Float = NDArray[np.float64]
Index = NDArray[np.intp]

COARSE_POSITIONS = 4096
COARSE_BYTES = 256 * 1000**2
LEVELS = (64, 1024, COARSE_POSITIONS)
"""Positions of the images that come one after the other when a scan is opened."""
LOOK_BYTES = 64 * 1000**2
"""Read for the first look, at most, but for one pattern."""
BEAM_PIXELS = 512
"""The beam is looked for in patterns of at most so many rows and columns, binned."""


@dataclass(frozen=True, eq=False)
class FirstLook:
    """What is known of a scan a moment after it was opened.

    Parameters
    ----------
    mean : DiffractionSlice
        Of a few patterns spread over the scan.
    beam : Beam, optional
        The brightest disk; None in an empty pattern.
    detector : Disk, optional
        A bright-field detector on it.
    """

    mean: DiffractionSlice
    beam: Beam | None
    detector: Disk | None


@dataclass(frozen=True, eq=False)
class LiveResult:
    """Images at a grid of scan positions.

    Parameters
    ----------
    images : (K, rows, columns) float64
    rows, columns : intp arrays
        The scan positions.
    exact : bool
        Whether this is what the engine would give for the whole scan; False for a coarse grid and
        where values that are NaN or infinite were left out.
    """

    images: Float
    rows: Index
    columns: Index
    exact: bool


@dataclass(eq=False)
class _Caches:
    """Caches of one scan, shared by all calibrations of it."""

    coarse: LiveImages | None = None
    full: LiveImages | None = None
    fraction: float = 0.0
    users: int = 1
    lock: threading.RLock = field(default_factory=threading.RLock)

    def replace(self, name: str, new: LiveImages | None) -> None:
        """Exchange a cache; nobody reads the old one meanwhile."""
        with self.lock:
            old: LiveImages | None = getattr(self, name)
            if self.users == 0 and new is not None:
                new.cache.close()
                return
            setattr(self, name, new)
            if old is not None:
                old.cache.close()


class LiveScan:
    """A scan with the caches that let detectors be dragged over it.

    Nothing is read before it is asked for.  `images` may be called from one thread while another
    one runs `build` or `coarse`.

    Parameters
    ----------
    cube : DataCube
    memory_bytes : int, optional
        Most that the full cache may take in memory; None: half of what is free.
    folder : path, optional
        Where a larger cache goes as a temporary file.

    Examples
    --------
    >>> from py4DSTEM import Calibration, DataCube, Disk
    >>> cube = DataCube(np.ones((3, 4, 16, 20), np.uint16))
    >>> weights = Disk(3, center=(8, 9)).weights(cube.Q_shape, Calibration())
    >>> with LiveScan(cube) as live:
    ...     live.build()
    ...     result = live.images(weights[None])
    >>> result.images.shape, result.exact, round(float(result.images[0, 0, 0]), 1)
    ((1, 3, 4), True, 28.3)
    """

    def __init__(
        self,
        cube: Cube,
        *,
        memory_bytes: int | None = None,
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        check_cube(cube, "LiveScan")
        self.cube = cube
        self._memory_bytes, self._folder = memory_bytes, folder
        self._caches = _Caches()
        self._closed = False

    def __enter__(self) -> LiveScan:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # ---- first look ------------------------------------------------------------------------------
    def first_look(self, samples: int = 64) -> FirstLook:
        """Mean of a few patterns, and the beam in it; reads single patterns only.

        Parameters
        ----------
        samples : int
            Patterns, spread over the scan; fewer where they are large.

        Returns
        -------
        FirstLook
        """
        size = max(1, math.prod(self.cube.Q_shape) * self.cube.dtype.itemsize)
        with np.errstate(all="ignore"):
            mean = sampled_mean(self.cube, max(1, min(samples, LOOK_BYTES // size)))
        beam = _beam_of(mean)
        shown = DiffractionSlice(
            mean, self.cube.calibration, self.cube.history, "mean of a few patterns"
        )
        detector = None if beam is None else Disk(max(beam.radius_px, 0.5), center=beam.center)
        return FirstLook(shown, beam, detector)

    # ---- caches ----------------------------------------------------------------------------------
    @property
    def cache_fraction(self) -> float:
        """How much of the full cache is there, 0 … 1."""
        return self._caches.fraction

    @property
    def cache_bytes(self) -> int:
        """What the caches take."""
        caches = self._caches
        return sum(c.cache.nbytes for c in (caches.coarse, caches.full) if c is not None)

    def coarse(self, options: RunOptions | None = None, positions: int | None = None) -> None:
        """Build the cache of a coarse grid of positions: a few hundred milliseconds.

        Parameters
        ----------
        options : RunOptions, optional
        positions : int, optional
            At most; None: 4096, fewer for large patterns.
        """
        self._check_open()
        rows, columns = coarse_grid(self.cube.R_shape, self._coarse_positions(positions))
        room = max(2 * COARSE_BYTES, 16 * math.prod(self.cube.Q_shape))
        cache = detector_major(
            self.cube, rows=rows, columns=columns, memory_bytes=room, options=options
        )
        self._caches.replace("coarse", LiveImages(cache))

    def _coarse_positions(self, positions: int | None) -> int:
        size = max(1, math.prod(self.cube.Q_shape) * self.cube.dtype.itemsize)
        return max(1, min(positions or COARSE_POSITIONS, COARSE_POSITIONS, COARSE_BYTES // size))

    def coarse_images(
        self, weights: ArrayLike, options: RunOptions | None = None
    ) -> Iterator[LiveResult]:
        """Images at ever more positions, 8 x 8, 32 x 32, 64 x 64 or alike.

        Parameters
        ----------
        weights : (K, Qx, Qy) float
        options : RunOptions, optional

        Yields
        ------
        LiveResult
        """
        most = min(self._coarse_positions(None), math.prod(self.cube.R_shape))
        for level in sorted({min(level, most) for level in LEVELS}):
            self.coarse(options, level)
            yield self.images(weights)

    def build(self, options: RunOptions | None = None) -> None:
        """Build the cache of the whole scan, in memory or in a file.

        Parameters
        ----------
        options : RunOptions, optional
            Progress and cancel; nothing is left behind by a build that was cancelled.

        Raises
        ------
        MemoryBudgetError, StoreError
            There is no room for it: the coarse cache goes on.
        """
        self._check_open()
        caches, options = self._caches, options or RunOptions()
        told = options.progress

        def hook(done: int, total: int, label: str) -> None:
            caches.fraction = 0.99 * done / max(1, total)
            if callable(told):
                told(done, total, label)

        try:
            cache = detector_major(
                self.cube,
                memory_bytes=self._memory_bytes,
                folder=self._folder,
                options=options if told is True else replace(options, progress=hook),
            )
        except BaseException:
            caches.fraction = 0.0 if caches.full is None else 1.0
            raise
        caches.replace("full", LiveImages(cache))
        caches.fraction = 1.0 if caches.full is not None else 0.0

    def use_shells(self, center: tuple[float, float], options: RunOptions | None = None) -> None:
        """Prepare the full cache for rings about `center` whose radii will change."""
        with self._caches.lock:
            full = self._caches.full
        if full is not None:
            full.use_shells(center, options)

    # ---- images ----------------------------------------------------------------------------------
    def images(self, weights: ArrayLike) -> LiveResult:
        """Images of K detectors from the best cache there is.

        Parameters
        ----------
        weights : (K, Qx, Qy) float
            As `Detector.weights` gives them; any others too.

        Returns
        -------
        LiveResult
            Of the whole scan once `build` is done, else of a coarse grid, which is built now where
            it is not there yet.
        """
        self._check_open()
        if self._caches.full is None and self._caches.coarse is None:
            self.coarse(positions=LEVELS[1])
        with self._caches.lock:
            self._check_open()
            source = self._caches.full or self._caches.coarse
            if source is None:
                raise ParameterError("the caches were closed")
            cache: DetectorMajor = source.cache
            return LiveResult(source.images(weights), cache.rows, cache.columns, source.exact)

    def center_of_mass(self, weights: ArrayLike | None = None) -> LiveResult:
        """Centre of mass of every pattern, as `py4DSTEM.center_of_mass` gives it.

        Parameters
        ----------
        weights : (Qx, Qy) float, optional
            Multiplied into every pattern; None: all alike.

        Returns
        -------
        LiveResult
            Images ``(2, rows, columns)``: x, then y, in raw detector pixels, no origin subtracted;
            NaN where the weighted sum is not above zero.
        """
        shape = self.cube.Q_shape
        w = np.ones(shape) if weights is None else np.asarray(weights, dtype=np.float64)
        if w.shape != shape:
            raise ParameterError(f"weights are {shape}, not {w.shape}")
        i, j = np.indices(shape, dtype=np.float64)
        sums = self.images(np.stack([w, w * i, w * j]))
        total, moments = sums.images[0], sums.images[1:]
        usable = np.broadcast_to(np.isfinite(total) & (total > 0), moments.shape)
        centers = np.divide(moments, total, out=np.full(moments.shape, np.nan), where=usable)
        return replace(sums, images=centers)

    # ---- life ------------------------------------------------------------------------------------
    def recalibrated(self, cube: Cube) -> LiveScan:
        """The same caches for the same data with another calibration.

        Parameters
        ----------
        cube : DataCube
            Its ``data`` is that of this scan.

        Returns
        -------
        LiveScan
            The caches go when both are closed.
        """
        self._check_open()
        if cube.data is not self.cube.data:
            raise ParameterError("recalibrated needs a cube of the same data: make a new LiveScan")
        other = LiveScan(cube, memory_bytes=self._memory_bytes, folder=self._folder)
        with self._caches.lock:
            self._caches.users += 1
        other._caches = self._caches
        return other

    def close(self) -> None:
        """Let go of the caches; safe at any time and more than once."""
        if self._closed:
            return
        self._closed = True
        caches = self._caches
        with caches.lock:
            caches.users -= 1
        if caches.users == 0:
            caches.fraction = 0.0
            caches.replace("coarse", None)
            caches.replace("full", None)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    def _check_open(self) -> None:
        if self._closed:
            raise ParameterError("this LiveScan is closed: make another one")


def _beam_of(mean: Float) -> Beam | None:
    """The beam, looked for in a binned pattern where it is large; None where there is none."""
    factor = max(1, -(-max(mean.shape) // BEAM_PIXELS))
    qx, qy = (max(1, n // factor) for n in mean.shape)
    fx, fy = min(factor, mean.shape[0]), min(factor, mean.shape[1])
    with np.errstate(all="ignore"):
        small = mean[: qx * fx, : qy * fy].reshape(qx, fx, qy, fy).mean(axis=(1, 3))
        try:
            found = disk_of(small)
        except ParameterError:
            return None
    center = tuple((c + 0.5) * f - 0.5 for c, f in zip(found.center, (fx, fy), strict=True))
    radius = found.radius_px * math.sqrt(fx * fy)
    if not all(map(math.isfinite, (*center, radius))):
        return None
    return Beam((center[0], center[1]), radius, mean)
