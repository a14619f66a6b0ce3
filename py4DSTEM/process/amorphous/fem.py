"""Fluctuation electron microscopy: how much the scattering of a disordered sample varies."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector, Disk
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.amorphous.fem_result import (
    FEMMethod,
    FEMResult,
    RingMeans,
    resampled,
    ring_variances,
)
from py4DSTEM.process.diffraction import mean_of
from py4DSTEM.process.radial import (
    RingPlan,
    Rings,
    Units,
    as_detector,
    corrected_radius,
    ring_axis,
)
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Output, Parts, PerScan, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["FEMResult", "FluctuationMicroscopy", "fem"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Pair = tuple[float, float]
Slices = tuple[slice, ...]
_SECTORS = 12  # pairs of opposite ones, whose speckles are alike
_FRAMES = 16  # converted to float at a time, so that they stay in the cache


@dataclass(frozen=True, eq=False)
class _Plan:
    """Rings, where each pattern goes in the common image, and what is known of the noise."""

    rings: RingPlan
    bins: int
    origin: Pair
    shifts: NDArray[np.int64]
    gain: float
    signal: slice
    radius: Float
    kept: Bool | None = None


def _add(whole: Float, part: Float) -> Float:
    whole += part
    return whole


class FluctuationMicroscopy(Rings, kind="fem", version=1):
    """Normalised variance of the scattering of a disordered sample, ring by ring.

    All definitions in one pass, the noise of counting subtracted: among ring means, within rings,
    over all pixels of a ring, and pixel by pixel.

    With ⟨⟩φ the mean over the pixels of a ring and ⟨⟩R that over positions
    (doi:10.1016/j.ultramic.2010.05.010), annular-mean is ``⟨⟨I⟩φ²⟩R / ⟨⟨I⟩φ⟩R² − 1``, the variance
    among ring means.

    mean-of-rings is ``⟨⟨I²⟩φ / ⟨I⟩φ² − 1⟩R``, the variance within a ring, averaged: thickness
    cancels.

    ring-ensemble is ``⟨⟨I²⟩φ⟩R / ⟨⟨I⟩φ⟩R² − 1``, that of all pixels of a ring in all patterns.

    ratio-of-means is ``⟨⟨I²⟩φ⟩R / ⟨⟨I⟩φ²⟩R − 1``, that within rings, each pattern with the weight
    of its intensity.

    variance-image is ``⟨⟨I²⟩R / ⟨I⟩R² − 1⟩φ``, the variance of each pixel, averaged over the ring,
    so that an ellipse does not count as variance; patterns are aligned to whole pixels.

    Variances among N positions have the factor N/(N − 1).  Noise of counting is subtracted:
    ``(gain ⟨I⟩ + read_variance)/⟨I⟩²`` per pixel, with the number n of independent pixels of a ring
    as 1/n of it among ring means and 1 − 1/n within rings.  The slope of the mean profile m across
    a ring of radial variance w² makes ⟨I²⟩φ larger by ``1 + (m'/m)² w²``, which is divided out
    (`flatten`); a smaller `step_px` lessens it.  The standard deviation is that of `samples`
    bootstrap scans; of the variance image, that of 12 pairs of opposite sectors.
    """

    method: FEMMethod = Field("mean-of-rings", description="The definition that .variance gives.")
    gain: float | None = Field(
        None, ge=0, description="Counts per electron; None: 1 for integers, no noise for floats."
    )
    read_variance: float = Field(0.0, ge=0, description="Variance of a pixel without electrons.")
    normalize: bool = Field(
        False, description="Divide each pattern by its mean intensity in the range of `signal`."
    )
    signal: Pair | None = Field(
        None, description="Radii, in `units`, of the signal of thickness; None: the outer half."
    )
    keep: Pair = Field(
        (0.0, 100.0), description="Percentiles of the signal between which positions count."
    )
    flatten: bool = Field(
        True, description="Take the slope of the mean profile across a ring out of its variance."
    )
    samples: int = Field(200, ge=10, le=100_000, description="Scans drawn again for the sigma.")
    seed: int = Field(0, ge=0, description="Of the random numbers that draw them.")

    cites: ClassVar[tuple[str, ...]] = (
        "10.1016/j.ultramic.2010.05.010",
        "10.1016/S0304-3991(02)00155-9",
    )
    outputs: ClassVar[Mapping[str, Output]] = {
        "mean": PerScan(np.float64),
        "square": PerScan(np.float64),
        "noise": PerScan(np.float64),
        "signal": PerScan(np.float64),
        "image": Reduced(_add),
    }

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [
            cls(r_max=8.0),
            cls(center=(8.2, 10.1), mask=Disk(8.0), keep=(10.0, 90.0), normalize=True),
        ]

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not 0 <= self.keep[0] < self.keep[1] <= 100:
            raise ValueError("keep holds two rising percentiles from 0 to 100")
        if self.signal is not None and not 0 <= self.signal[0] < self.signal[1]:
            raise ValueError("signal holds two rising radii")
        return self

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:  # type: ignore[override]
        calibration = cube.calibration
        rings = super().prepare(cube, kernels)
        origin = calibration.mean_origin_px if self.center is None else self.center
        shifts = np.zeros((*cube.R_shape, 2), np.int64)
        if rings.origins is not None:
            # A position without an origin has no rings and is left out of the image below.
            shifts = np.rint(np.nan_to_num(rings.origins - origin)).astype(np.int64)
        gain = self.gain
        if gain is None:
            gain = 1.0 if cube.dtype.kind in "biu" else 0.0
        radius = np.where(
            self._keep(cube), corrected_radius(cube.Q_shape, origin, calibration), np.nan
        )
        signal = self._signal(calibration, rings.bins)
        return _Plan(rings, rings.bins, origin, shifts, gain, signal, radius)

    def _signal(self, calibration: Calibration, bins: int) -> slice:
        if self.signal is None:
            return slice(bins // 2, bins)
        step = math.sqrt(math.prod(calibration.Q_steps(self.units))) * self.step_px
        low, high = math.ceil(self.signal[0] / step - 1e-9), math.floor(self.signal[1] / step)
        if low >= min(high + 1, bins):
            raise ParameterError(
                f"no ring lies between the radii {self.signal} {self.units} of the signal"
            )
        return slice(low, min(high + 1, bins))

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        found = []
        for start in range(0, len(tile.frames), _FRAMES):
            some = slice(start, start + _FRAMES)
            frames = tile.frames[some].astype(np.float64)
            found.append(self._rings(plan, tile, some, frames, kernels))
        mean, square, signal = map(np.concatenate, zip(*found, strict=True))
        scale = np.where(signal > 0, signal, np.nan) if self.normalize else np.ones(len(signal))
        usable = self._wanted(plan, tile) & np.isfinite(scale) & np.isfinite(mean).any(axis=1)
        noise = (plan.gain * mean + self.read_variance) / scale[:, None] ** 2
        return {
            "mean": mean / scale[:, None],
            "square": square / scale[:, None] ** 2,
            "noise": noise,
            "signal": signal,
            "image": self._image(plan, tile, usable, scale, kernels),
        }

    def _wanted(self, plan: _Plan, tile: Tile) -> Bool:
        wanted = np.ones(len(tile.frames), bool)
        if tile.weights is not None:
            wanted &= tile.weights > 0
        if plan.kept is not None:
            wanted &= tile.local(plan.kept)
        return wanted

    def _rings(
        self, plan: _Plan, tile: Tile, some: slice, frames: Float, kernels: Kernels
    ) -> tuple[Float, Float, Float]:
        """Mean and mean square of rings (n, k), and the signal (n,), of some patterns of a tile."""
        origins = None if plan.rings.origins is None else tile.local(plan.rings.origins)[some]
        sums, norms = plan.rings.sums(frames, origins, kernels)
        squares, _ = plan.rings.sums(frames * frames, origins, kernels)
        norms = np.broadcast_to(norms, sums.shape)
        inside = norms[:, plan.signal].sum(axis=1)
        total = sums[:, plan.signal].sum(axis=1)
        level = np.divide(total, inside, out=np.full(len(total), np.nan), where=inside > 0)
        return _over(sums, norms), _over(squares, norms), level

    def _image(
        self, plan: _Plan, tile: Tile, usable: Bool, scale: Float, kernels: Kernels
    ) -> Float:
        """Σx, Σx², Σ of the noise and number, of patterns x moved by whole pixels, (4, Qx, Qy)."""
        image = np.zeros((4, *tile.frames.shape[1:]))
        shifts = tile.local(plan.shifts)
        for shift in np.unique(shifts[usable], axis=0):
            same = usable & (shifts == shift).all(axis=1)
            frames = tile.frames if same.all() else tile.frames[same]
            into, out = _overlap(image.shape[1:], shift)
            for k, values in enumerate(self._pixel_sums(plan, frames, scale[same], kernels)):
                image[k][into] += values[out]
        return image

    def _pixel_sums(
        self, plan: _Plan, frames: NDArray[Any], scale: Float, kernels: Kernels
    ) -> tuple[Float, Float, Float, Float]:
        plain = kernels.measure(frames, sums=True, squares=True)
        first, square, count = plain.get("sums", "squares", "valid")
        if not self.normalize:
            return first, square, plan.gain * first + self.read_variance * count, count
        (scaled,) = kernels.measure(frames, sums=True, weights=1 / scale).get("sums")
        twice = kernels.measure(frames, sums=True, squares=True, weights=scale**-2.0)
        first, square, inverse = twice.get("sums", "squares", "valid")
        return scaled, square, plan.gain * first + self.read_variance * inverse, count

    def again(self, plan: _Plan, parts: Parts) -> _Plan | None:
        """A second pass where only some positions count, which the first one has told."""
        if self.keep == (0.0, 100.0) or plan.kept is not None:
            return None
        return replace(plan, kept=self._kept(parts))

    def _kept(self, parts: Parts) -> Bool:
        level = parts["signal"]
        known = np.isfinite(level) & np.isfinite(parts["mean"]).any(axis=2)
        if not known.any():
            raise ParameterError(
                "no pattern has a usable ring: check the origin, the mask and the radii"
            )
        low, high = np.percentile(level[known], self.keep)
        kept: Bool = known & (np.nan_to_num(level) >= low) & (np.nan_to_num(level) <= high)
        return kept

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> FEMResult:
        kept = plan.kept if plan.kept is not None else self._kept(parts)
        # Back to counts where patterns were divided by their signal.
        unit = float(parts["signal"][kept].mean()) if self.normalize else 1.0
        mean, square, noise = (
            np.where(kept[..., None], parts[name] * unit**power, np.nan)
            for name, power in (("mean", 1), ("square", 2), ("noise", 2))
        )
        size, width = _independent(plan.radius / self.step_px, plan.bins)
        if self.flatten:
            square = _flattened(square, noise, _mean(mean[kept]), width)
        rings = RingMeans(mean[kept], square[kept], noise[kept], size)
        value, own = ring_variances(rings, np.ones((1, len(rings.mean))))
        spread = resampled(rings, self.samples, self.seed).std(axis=0, ddof=1)
        image, image_noise = _pixels(parts["image"])
        sectors, weights = self._sectors(image, cube, plan)
        around, sigma = _combined(sectors, weights)
        counting, _ = _combined(*self._sectors(image_noise, cube, plan))
        return FEMResult(
            mean=_mean(rings.mean),
            variances=np.concatenate([value[0] - own[0], around[None]]),
            sigmas=np.concatenate([spread, sigma[None]]),
            noise=np.concatenate([own[0], counting[None]]),
            method=self.method,
            ring_mean=mean,
            ring_square=square,
            ring_noise=noise,
            size=size,
            image=image,
            sectors=sectors,
            kept=kept,
            axis=ring_axis(cube.calibration, self.step_px),
            step_px=self.step_px,
            calibration=cube.calibration,
            history=history,
        )

    def _sectors(self, image: Float, cube: Cube, plan: _Plan) -> tuple[Float, Float]:
        """Mean of an image over rings by pairs of opposite sectors, and its weights, (s, k)."""
        x, y = np.indices(cube.Q_shape)
        turn = np.arctan2(y - plan.origin[1], x - plan.origin[0]) % np.pi
        sector = np.minimum((turn * (_SECTORS / np.pi)).astype(np.intp), _SECTORS - 1)
        sums, norms = np.zeros((2, _SECTORS * (plan.bins + 1)))
        for ring, share in _shares(plan.radius / self.step_px, plan.bins):
            known = np.isfinite(image) & (share > 0)
            place = (sector * (plan.bins + 1) + ring)[known]
            sums += np.bincount(place, (share * image)[known], len(sums))
            norms += np.bincount(place, share[known], len(norms))
        sums, norms = (a.reshape(_SECTORS, -1)[:, : plan.bins] for a in (sums, norms))
        return mean_of(sums, norms), norms


def _over(sums: Float, norms: Float) -> Float:
    ratio: Float = np.divide(sums, norms, out=np.full(sums.shape, np.nan), where=norms > 0)
    return ratio


def _shares(t: Float, bins: int) -> Iterator[tuple[NDArray[np.intp], Float]]:
    """Ring of each pixel and its share there, of the two rings that it is split between."""
    inside = (t >= 0) & (t < bins)
    lower = np.where(inside, t, 0.0).astype(np.intp)
    upper = np.where(inside, t - lower, 0.0)
    yield lower, np.where(inside, 1 - upper, 0.0)
    yield lower + 1, upper


def _independent(t: Float, bins: int) -> tuple[Float, Float]:
    """(Σw)²/Σw² of each ring, how many pixels its mean has the noise of; its width² in steps."""
    norm, square, first, second = np.zeros((4, bins + 1))
    for ring, share in _shares(t, bins):
        offset = np.where(share > 0, t - ring, 0.0)
        for total, values in (
            (norm, share), (square, share**2), (first, share * offset), (second, share * offset**2)
        ):  # fmt: skip
            total += np.bincount(ring.ravel(), values.ravel(), bins + 1)
    safe = np.where(norm > 0, norm, 1.0)
    size = np.divide(norm**2, square, out=np.zeros(bins + 1), where=square > 0)
    return size[:bins], (second / safe - (first / safe) ** 2)[:bins]


def _flattened(square: Float, noise: Float, profile: Float, width: Float) -> Float:
    """Mean squares of rings on which the mean profile is flat.

    Across a ring of variance w² the profile m(r) makes ``⟨I²⟩`` larger by ``1 + (m'/m)² w²``.
    """
    known = np.isfinite(profile) & (profile > 0)
    if known.sum() < 3:
        return square
    index = np.arange(len(profile))
    filled = np.interp(index, index[known], profile[known])
    excess = np.where(known, (np.gradient(filled) / filled) ** 2 * width, 0.0)
    flat: Float = (square - noise) / (1 + excess) + noise
    return flat


def _overlap(shape: tuple[int, ...], shift: NDArray[np.int64]) -> tuple[Slices, Slices]:
    """Where a pattern that lies `shift` away goes to, and which part of it that is."""
    into = tuple(slice(max(0, -s), n - max(0, s)) for n, s in zip(shape, shift, strict=True))
    out = tuple(slice(max(0, s), n - max(0, -s)) for n, s in zip(shape, shift, strict=True))
    return into, out


def _pixels(sums: Float) -> tuple[Float, Float]:
    """Normalised variance of each pixel without noise, and that noise; NaN where unknown."""
    total, squares, noise, count = sums
    usable = (count > 1) & (total > 0)
    n = np.where(usable, count, np.nan)
    mean = total / n
    own = noise / n / mean**2
    variance = (squares / n / mean**2 - 1) * n / (n - 1)
    return variance - own, own


def _combined(profiles: Float, weights: Float) -> tuple[Float, Float]:
    """Weighted mean over sectors, and its standard deviation by their scatter, (k,) each."""
    known = np.where(weights > 0, profiles, 0.0)
    total = weights.sum(axis=0)
    mean = mean_of((known * weights).sum(axis=0), total)
    count = (weights > 0).sum(axis=0)
    scatter = np.sqrt((weights**2 * (known - mean) ** 2).sum(axis=0))
    factor = np.sqrt(np.divide(count, count - 1, out=np.full(len(mean), np.nan), where=count > 1))
    return mean, mean_of(scatter, total) * factor


def _mean(values: Float) -> Float:
    known = np.isfinite(values)
    return mean_of(np.where(known, values, 0.0).sum(axis=0), known.sum(axis=0).astype(np.float64))


def fem(
    cube: Cube,
    *,
    method: FEMMethod = "mean-of-rings",
    step_px: float = 1.0,
    r_max: float | None = None,
    units: Units = "px",
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    gain: float | None = None,
    read_variance: float = 0.0,
    normalize: bool = False,
    signal: tuple[float, float] | None = None,
    keep: tuple[float, float] = (0.0, 100.0),
    flatten: bool = True,
    samples: int = 200,
    seed: int = 0,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> FEMResult:
    """Normalised variance of the scattering of a disordered sample, as a function of radius.

    Parameters
    ----------
    cube : DataCube
        With an origin, unless `center` is given; one per position is followed.
    method : str
        Which definition ``.variance`` gives; all are computed: ``"annular-mean"``,
        ``"mean-of-rings"``, ``"ring-ensemble"``, ``"ratio-of-means"``, ``"variance-image"``.
    step_px : float
        Distance between rings in detector pixels.
    r_max : float, optional
        Largest radius in `units`; None: the farthest corner of the detector.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Unit of `r_max` and `signal`.
    center : (float, float), optional
        Origin (qx, qy) in pixels; None: as calibrated.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    follow_origin : bool, optional
        Whether to use the origin of each position; None: where the calibration holds one.
    gain : float, optional
        Counts per electron, for the noise of counting; None: 1 for integers, and no noise for
        floats; 0: subtract nothing.
    read_variance : float
        Variance of a pixel without electrons, in counts².
    normalize : bool
        Divide each pattern by its mean intensity in the range of `signal`: a correction for
        thickness.
    signal : (float, float), optional
        Radii of the signal that tells thickness; None: the outer half of the rings.
    keep : (float, float)
        Percentiles of that signal between which positions count: the other correction for
        thickness.  Anything but (0, 100) takes a second pass.
    flatten : bool
        Take the slope of the mean profile across a ring out of the variance within it.
    samples, seed : int
        Scans drawn again from the positions for the standard deviation, and the seed.
    where : (Rx, Ry) bool, optional
        Positions that count.
    options : RunOptions, optional

    Returns
    -------
    FEMResult
        ``.q``, ``.variance``, ``.variance_sigma``, ``.shot_noise``, ``.mean``; ``.by(method)``
        another definition; ``.map((q0, q1))`` the variance of each position.

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.
    ParameterError
        No pattern has a usable ring; parameters that contradict each other.

    Notes
    -----
    Definitions, noise and uncertainties are those of `FluctuationMicroscopy`.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> rng = np.random.default_rng(1)
    >>> cube = DataCube(rng.poisson(20, (6, 7, 24, 24)).astype(np.uint16))
    >>> found = fem(cube, center=(11.5, 11.5), r_max=11)
    >>> bool(abs(found.shot_noise[5:].mean() * 20 - 1) < 0.02)
    True
    """
    operation = FluctuationMicroscopy(
        method=method, step_px=step_px, r_max=r_max, units=units, center=center,
        mask=as_detector(mask), follow_origin=follow_origin, gain=gain,
        read_variance=read_variance, normalize=normalize, signal=signal, keep=keep,
        flatten=flatten, samples=samples, seed=seed,
    )  # fmt: skip
    result: FEMResult = run(operation, cube, where=where, options=options)
    return result
