"""Statistics of speckles: how strongly intensity varies, and by which law."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.diffraction import mean_of
from py4DSTEM.process.radial import Rings, Units, as_detector, corrected_radius
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Output, Parts, PerScan, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["LAWS", "SpeckleStatistics", "Speckles", "speckle_statistics"]

Float = NDArray[np.float64]
LAWS = ("negative-binomial", "exponential", "poisson")
_MOST_COUNTS = 4096
_BINS = 200  # of floats, from 0 to 10 times the mean
_FROM_MEAN = 10.0


@dataclass(frozen=True, eq=False)
class SpeckleStatistics:
    """How the intensity of pixels on some rings is distributed.

    Parameters
    ----------
    values : (m,) float64
        Lower edge of each bin: counts, or for floats the intensity over the mean of its ring.
    observed : (m,) float64
        Share of the pixels in each bin; the last holds all that is above.
    expected : (3, m) float64
        The same by the laws of `LAWS`.
    contrast, contrast_sigma : float
        Standard deviation of the intensity over its mean, without the noise of counting, and its
        uncertainty by the scatter of the patterns.
    mean : float
        Mean intensity per pixel.
    pixels : int
        Values that were counted.
    distance : (3,) float64
        Largest difference of the cumulative distributions (Kolmogorov–Smirnov), by law.
    counts : bool
        Whether `values` are counts.
    """

    values: Float
    observed: Float
    expected: Float
    contrast: float
    contrast_sigma: float
    mean: float
    pixels: int
    distance: Float
    counts: bool
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "speckle statistics"

    @property
    def modes(self) -> float:
        """M = 1/contrast²: independent patterns that each pixel averages; inf without contrast."""
        return 1 / self.contrast**2 if self.contrast > 0 else math.inf

    @property
    def best(self) -> str:
        """The law that lies nearest."""
        return LAWS[int(np.argmin(self.distance))]

    def __repr__(self) -> str:
        return (
            f"<SpeckleStatistics contrast {self.contrast:.3f} ± {self.contrast_sigma:.2g}, "
            f"{self.best}, {self.pixels} pixels>"
        )


register_result("speckle-statistics", SpeckleStatistics)


@dataclass(frozen=True, eq=False)
class _Plan:
    """Where the rings are about the mean origin, and how far each pattern lies from it."""

    origin: tuple[float, float]
    shifts: NDArray[np.int64]
    known: NDArray[np.bool_]
    keep: NDArray[np.bool_]
    calibration: Calibration
    first: int
    rings: int
    gain: float
    counts: bool


def _add(whole: Any, part: Any) -> Any:
    whole += part
    return whole


class Speckles(Rings, kind="speckle-statistics", version=1):
    """Contrast of the speckles on some rings, and the law that their intensity follows."""

    r_min: float = Field(ge=0, description="Smallest radius, in `units`.")
    r_max: float = Field(gt=0, description="Largest radius, in `units`.")
    gain: float | None = Field(
        None, ge=0, description="Counts per electron; None: 1 for integers, no noise for floats."
    )
    read_variance: float = Field(0.0, ge=0, description="Variance of a pixel without electrons.")

    outputs: ClassVar[Mapping[str, Output]] = {
        "histogram": Reduced(_add),
        "contrast": PerScan(np.float64),
    }

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [cls(r_min=2.0, r_max=6.0), cls(r_min=3.0, r_max=7.0, center=(8.2, 10.1), gain=1.0)]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:  # type: ignore[override]
        calibration = cube.calibration
        follows = self._follows(calibration)
        origin = calibration.mean_origin_px if self.center is None else self.center
        shifts, known = np.zeros((*cube.R_shape, 2), np.int64), np.ones(cube.R_shape, bool)
        if follows:
            origins = np.asarray(calibration.origin_px)
            known = np.isfinite(origins).all(axis=-1)
            shifts = np.rint(np.where(known[..., None], origins - origin, 0.0)).astype(np.int64)
        scale = math.sqrt(math.prod(calibration.Q_steps(self.units))) * self.step_px
        first, last = math.ceil(self.r_min / scale - 1e-9), math.floor(self.r_max / scale + 1e-9)
        if last < first:
            raise ParameterError(
                f"no ring lies between {self.r_min:g} and {self.r_max:g} {self.units}"
            )
        gain = self.gain
        if gain is None:
            gain = 1.0 if cube.dtype.kind in "biu" else 0.0
        plan = _Plan(
            origin, shifts, known, self._keep(cube), calibration, first, last - first + 1, gain,
            cube.dtype.kind in "biu",
        )  # fmt: skip
        if not len(self._pixels(plan, np.zeros(2, np.int64))[0]):
            raise ParameterError(
                f"no usable pixel lies between {self.r_min:g} and {self.r_max:g} {self.units}: "
                "check the radii, the origin and the mask"
            )
        return plan

    def _pixels(
        self, plan: _Plan, shift: NDArray[np.int64]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Pixels on the rings of patterns that lie `shift` away, and the ring of each."""
        place = (plan.origin[0] + int(shift[0]), plan.origin[1] + int(shift[1]))
        radius = corrected_radius(plan.keep.shape, place, plan.calibration)
        ring = np.rint(radius / self.step_px).astype(np.intp) - plan.first
        pixels = np.flatnonzero(plan.keep & (ring >= 0) & (ring < plan.rings))
        return pixels, ring.ravel()[pixels]

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        flat = tile.frames.reshape(len(tile.frames), -1)
        shifts, usable = tile.local(plan.shifts), tile.local(plan.known)
        wanted = usable if tile.weights is None else usable & (tile.weights > 0)
        histogram = np.zeros((plan.rings, _MOST_COUNTS), np.int64)
        contrast = np.full(len(flat), np.nan)
        for shift in np.unique(shifts, axis=0):
            same = np.flatnonzero((shifts == shift).all(axis=1) & usable)
            pixels, ring = self._pixels(plan, shift)
            values = flat[np.ix_(same, pixels)].astype(np.float64)
            mean, contrast[same] = self._ring_contrast(plan, values, ring)
            counted = np.isfinite(values) & wanted[same, None]
            if not plan.counts:
                values = values / mean[:, ring] * (_BINS / _FROM_MEAN)
                counted &= np.isfinite(values)
            bins = np.clip(np.where(counted, values, 0.0), 0, _MOST_COUNTS - 1).astype(np.int64)
            place = (ring * _MOST_COUNTS + bins)[counted]
            histogram += np.bincount(place, minlength=histogram.size).reshape(histogram.shape)
        return {"histogram": histogram, "contrast": contrast}

    def _ring_contrast(
        self, plan: _Plan, values: Float, ring: NDArray[np.intp]
    ) -> tuple[Float, Float]:
        """Mean of each ring (n, rings), and the squared contrast of each pattern (n,)."""
        belongs = (ring[:, None] == np.arange(plan.rings)).astype(np.float64)
        known = np.isfinite(values)
        seen = np.where(known, values, 0.0)
        count = known @ belongs
        mean = mean_of(seen @ belongs, count)
        mean = np.where(mean > 0, mean, np.nan)
        several = np.where(count > 1, count, np.nan)
        variance = (mean_of((seen * seen) @ belongs, count) - mean**2) * several / (several - 1)
        squared = (variance - plan.gain * mean - self.read_variance) / mean**2
        usable = np.isfinite(squared)
        weights = np.where(usable, count, 0.0)
        total = (np.where(usable, squared, 0.0) * weights).sum(axis=1)
        return mean, mean_of(total, weights.sum(axis=1))

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> SpeckleStatistics:
        histogram, each = parts["histogram"].astype(np.float64), parts["contrast"]
        each = each[np.isfinite(each)]
        if not histogram.any() or not len(each):
            raise ParameterError("no pixel on these rings has intensity in any pattern")
        if plan.counts:
            squared, mean = self._of_counts(plan, histogram)
            values = np.arange(
                max(8, int(np.flatnonzero(histogram.any(axis=0))[-1]) + 2), dtype=float
            )
        else:
            squared, mean = float(each.mean()), 1.0
            values = np.arange(_BINS + 1) * (_FROM_MEAN / _BINS)
        size = len(values)
        total = histogram.sum()
        observed = histogram.sum(axis=0)
        observed = np.append(observed[: size - 1], observed[size - 1 :].sum()) / total
        expected = _expected(histogram, values, squared, plan.counts)
        distance = np.abs(np.cumsum(expected - observed, axis=1)).max(axis=1)
        spread = float(each.std(ddof=1)) / math.sqrt(len(each)) if len(each) > 1 else math.nan
        contrast = math.sqrt(max(squared, 0.0))
        return SpeckleStatistics(
            values=values,
            observed=observed,
            expected=expected,
            contrast=contrast,
            contrast_sigma=spread / (2 * contrast) if contrast > 0 else math.nan,
            mean=mean,
            pixels=int(total),
            distance=distance,
            counts=plan.counts,
            calibration=cube.calibration,
            history=history,
        )

    def _of_counts(self, plan: _Plan, histogram: Float) -> tuple[float, float]:
        """Squared contrast over all pixels of each ring, and the mean intensity."""
        mean, variance, count = _ring_moments(histogram)
        usable = mean > 0
        own = variance - plan.gain * mean - self.read_variance
        squared = np.divide(own, mean**2, out=np.zeros_like(mean), where=usable)
        weight = np.where(usable, count, 0.0)
        if not weight.any():
            raise ParameterError("no pixel on these rings has intensity in any pattern")
        return float((squared * weight).sum() / weight.sum()), float(
            (mean * count).sum() / count.sum()
        )


def _ring_moments(histogram: Float) -> tuple[Float, Float, Float]:
    """Mean, variance and number of pixels of each ring."""
    k = np.arange(histogram.shape[1])
    count = histogram.sum(axis=1)
    safe = np.maximum(count, 1.0)
    mean = histogram @ k / safe
    variance = (histogram @ k**2 / safe - mean**2) * safe / np.maximum(safe - 1, 1.0)
    return mean, variance, count


def _expected(histogram: Float, values: Float, squared: float, counts: bool) -> Float:
    """Shares of the pixels in each bin by the laws of `LAWS`; the last bin holds the rest."""
    if not counts:
        return np.stack([_gamma(values, s) for s in (squared, 1.0, 0.0)])
    mean, _, count = _ring_moments(histogram)
    shares = count / count.sum()
    used = shares > 0
    return np.stack([shares[used] @ _binomial(values, mean[used], s) for s in (squared, 1.0, 0.0)])


def _binomial(values: Float, mean: Float, squared: float) -> Float:
    """Negative binomial of each mean (rings, m) for 1/squared modes; Poisson for none."""
    from scipy.stats import nbinom, poisson

    mu = mean[:, None]
    if squared <= 1e-9:
        below = poisson.cdf(values, mu)
    else:
        below = nbinom.cdf(values, 1 / squared, 1 / (1 + mu * squared))
    below[:, -1] = 1.0
    shares: Float = np.diff(below, axis=1, prepend=0.0)
    return shares


def _gamma(values: Float, squared: float) -> Float:
    """Gamma distribution of mean one, of 1/squared modes; a step for none."""
    from scipy.stats import gamma

    if squared <= 1e-9:
        below = (values >= 1.0).astype(np.float64)
    else:
        below = gamma.cdf(values, 1 / squared, scale=squared)
    shares: Float = np.diff(np.append(below, 1.0))
    return shares


def speckle_statistics(
    cube: Cube,
    r_min: float,
    r_max: float,
    *,
    step_px: float = 1.0,
    units: Units = "px",
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    gain: float | None = None,
    read_variance: float = 0.0,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> SpeckleStatistics:
    """Contrast of the speckles between two radii, and the law that their intensity follows.

    Parameters
    ----------
    cube : DataCube
        With an origin, unless `center` is given.
    r_min, r_max : float
        Radii in `units`.
    step_px : float
        Width of the rings within which the mean intensity counts as constant.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Unit of the radii.
    center : (float, float), optional
        Origin (qx, qy) in pixels; None: as calibrated, for each position where it varies.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    follow_origin : bool, optional
        Whether to use the origin of each position, to a pixel; None: where there is one.
    gain : float, optional
        Counts per electron; None: 1 for integers, and no noise for floats.
    read_variance : float
        Variance of a pixel without electrons, in counts².
    where : (Rx, Ry) bool, optional
        Positions that count.
    options : RunOptions, optional

    Returns
    -------
    SpeckleStatistics
        ``.contrast`` ± ``.contrast_sigma``, ``.modes``, ``.observed`` and ``.expected``, ``.best``.

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.
    ParameterError
        No usable pixel between the radii, or no intensity there.

    Notes
    -----
    Squared contrast ``K² = (⟨I²⟩ − ⟨I⟩²)/⟨I⟩² − noise`` of the pixels of each ring in all patterns,
    rings weighted by their pixels; for floats within the ring of each pattern.  A fully developed
    speckle pattern has K = 1 and intensities that follow an exponential law; where each pixel
    averages M = 1/K² such patterns, counts follow a negative binomial law with M modes (floats a
    gamma law), and without speckles a Poisson law.  Counts above 4094 fall into one bin.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> rng = np.random.default_rng(1)
    >>> speckles = rng.poisson(rng.exponential(4.0, (5, 6, 24, 24))).astype(np.uint16)
    >>> found = speckle_statistics(DataCube(speckles), 3, 10, center=(11.5, 11.5))
    >>> abs(found.contrast - 1) < 0.05, found.best != "poisson"
    (True, True)
    """
    operation = Speckles(
        r_min=r_min, r_max=r_max, step_px=step_px, units=units, center=center,
        mask=as_detector(mask), follow_origin=follow_origin, gain=gain,
        read_variance=read_variance,
    )  # fmt: skip
    result: SpeckleStatistics = run(operation, cube, where=where, options=options)
    return result
