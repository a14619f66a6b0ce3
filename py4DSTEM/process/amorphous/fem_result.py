"""Normalised variances of nanodiffraction, in the definitions that are in use, with their noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result

__all__ = ["METHODS", "FEMMethod", "FEMResult", "RingMeans", "resampled", "ring_variances"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Range = tuple[float, float]
FEMMethod = Literal[
    "annular-mean", "mean-of-rings", "ring-ensemble", "ratio-of-means", "variance-image"
]
METHODS: tuple[FEMMethod, ...] = (
    "annular-mean", "mean-of-rings", "ring-ensemble", "ratio-of-means", "variance-image",
)  # fmt: skip
_AT_ONCE = 20  # resampled scans whose weights are held at a time


class RingMeans(NamedTuple):
    """What the ring definitions need of P positions and k rings.

    Attributes
    ----------
    mean, square, noise : (P, k) float64
        Mean and mean square of the pixels of each ring, and the variance that counting gives a
        pixel there; NaN where a position has no such ring.
    size : (k,) float64
        Independent pixels in each ring.
    """

    mean: Float
    square: Float
    noise: Float
    size: Float

    @property
    def valid(self) -> Bool:
        """Rings with intensity, of positions that have them."""
        known: Bool = np.isfinite(self.mean) & np.isfinite(self.square)
        return known & (np.nan_to_num(self.mean) > 0)

    @property
    def bessel(self) -> Float:
        """Share of the noise of a pixel that is left in the variance within a ring, (k,)."""
        share: Float = 1 - 1 / np.maximum(self.size, 1.0)
        return share

    def within(self) -> tuple[Float, Float]:
        """Normalised variance within each ring of each position and its noise, (P, k) each."""
        mean = np.where(self.valid, self.mean, np.nan)
        return self.square / mean**2 - 1, self.noise * self.bessel / mean**2


def ring_variances(rings: RingMeans, weights: Float) -> tuple[Float, Float]:
    """The four definitions that look at rings, for positions that count with `weights`.

    Parameters
    ----------
    rings : RingMeans
    weights : (B, P) float64
        How often each position counts, B times.

    Returns
    -------
    variances, noise : (B, 4, k) float64
        In the order of `METHODS`; the noise is still in the variances.  NaN where fewer than two
        positions have the ring.
    """
    valid, size = rings.valid, np.maximum(rings.size, 1.0)
    variance, own = rings.within()
    columns = (rings.mean, rings.square, rings.mean**2, rings.noise, variance, own)
    table = np.stack([np.where(valid, c, 0.0) for c in columns], axis=1)
    count = weights @ valid.astype(np.float64)
    sums = np.tensordot(weights, table, axes=(1, 0))
    enough = count > 1
    count = np.where(enough, count, np.nan)
    first, square, first2, noise, ring, ring_noise = np.moveaxis(sums / count[:, None], 1, 0)
    among = (first2 / first**2 - 1) * count / (count - 1)
    values = [among, ring, square / first**2 - 1, square / first2 - 1]
    noises = [
        noise / size / first**2,
        ring_noise,
        noise * (1 - 1 / (size * count)) / first**2,
        noise * rings.bessel / first2,
    ]
    return np.stack(values, axis=1), np.stack(noises, axis=1)


def resampled(rings: RingMeans, samples: int, seed: int) -> Float:
    """Corrected ring variances of scans drawn again from the same positions, (samples, 4, k)."""
    rng = np.random.default_rng(seed)
    positions = len(rings.mean)
    found = []
    for start in range(0, samples, _AT_ONCE):
        several = min(_AT_ONCE, samples - start)
        draws = rng.integers(0, positions, (several, positions))
        weights = np.stack([np.bincount(row, minlength=positions) for row in draws])
        value, noise = ring_variances(rings, weights.astype(np.float64))
        found.append(value - noise)
    return np.concatenate(found)


@dataclass(frozen=True, eq=False)
class FEMResult:
    """Normalised variance of a scan of nanodiffraction patterns, ring by ring.

    Parameters
    ----------
    mean : (k,) float64
        Mean intensity per pixel of each ring, over the positions that count.
    variances, sigmas, noise : (5, k) float64
        By the definitions of `METHODS`: normalised variance without the noise of counting, its
        standard deviation (over positions drawn again; of the image, over sectors), and the noise
        that was subtracted.
    method : str
        The definition that ``.variance`` gives.
    ring_mean, ring_square, ring_noise : (Rx, Ry, k) float64
        Mean and mean square of the pixels of each ring of each position, the latter without the
        slope of the mean profile across the ring where that was asked for, and the variance of
        counting; NaN where a position has no such ring or does not count.
    size : (k,) float64
        Independent pixels in each ring.
    image : (Qx, Qy) float64
        Variance over the positions of each pixel, normalised, without noise; NaN where unknown.
    sectors : (s, k) float64
        The mean of `image` over rings, by pairs of opposite sectors.
    kept : (Rx, Ry) bool
        Positions that count.
    axis : Axis
        Ring k lies at ``k * axis.step`` in ``axis.unit``.
    step_px : float
        The same in detector pixels.
    """

    mean: Float
    variances: Float
    sigmas: Float
    noise: Float
    method: FEMMethod
    ring_mean: Float
    ring_square: Float
    ring_noise: Float
    size: Float
    image: Float
    sectors: Float
    kept: Bool
    axis: Axis
    step_px: float
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "fluctuation microscopy"

    @property
    def q(self) -> Float:
        """Radii in `units`, (k,)."""
        return self.axis.coordinates(len(self.mean))

    @property
    def units(self) -> str:
        """Unit of `q`."""
        return self.axis.unit

    @property
    def variance(self) -> Float:
        """V(q) by `method`, without the noise of counting, (k,)."""
        chosen: Float = self.variances[METHODS.index(self.method)]
        return chosen

    @property
    def variance_sigma(self) -> Float:
        """Its standard deviation, (k,)."""
        chosen: Float = self.sigmas[METHODS.index(self.method)]
        return chosen

    @property
    def shot_noise(self) -> Float:
        """What was subtracted from it, (k,)."""
        chosen: Float = self.noise[METHODS.index(self.method)]
        return chosen

    @property
    def rings(self) -> RingMeans:
        """The rings of the positions that count."""
        kept = self.kept
        return RingMeans(
            self.ring_mean[kept], self.ring_square[kept], self.ring_noise[kept], self.size
        )

    @property
    def variance_image(self) -> DiffractionSlice:
        """Normalised variance of each pixel, patterns aligned to whole pixels."""
        return DiffractionSlice(
            self.image, self.calibration, self.history, "normalised variance", units=""
        )

    def by(self, method: FEMMethod) -> FEMResult:
        """The same with another definition chosen."""
        if method not in METHODS:
            raise ParameterError(f"no definition {method!r}, only {', '.join(METHODS)}")
        return replace(self, method=method)

    def window(self, q_range: Range) -> Bool:
        """Rings between two radii in `units` whose variance is known, (k,)."""
        low, high = q_range
        inside: Bool = (self.q >= low) & (self.q <= high) & np.isfinite(self.variance)
        if not inside.any():
            raise ParameterError(
                f"no usable ring lies between {low:g} and {high:g} {self.units}; there are rings "
                f"from 0 to {self.q[-1]:.4g} {self.units}"
            )
        return inside

    def map(self, q_range: Range) -> RealSlice:
        """Variance around the rings of each position, over those between two radii.

        Parameters
        ----------
        q_range : (float, float)
            In `units`.

        Returns
        -------
        RealSlice
            ``(⟨I²⟩/⟨I⟩² − 1)`` without the noise of counting, rings weighted by their pixels; NaN
            for positions that do not count.

        Raises
        ------
        ParameterError
            No usable ring in the range.
        """
        inside = self.window(q_range)
        shape = self.ring_mean.shape
        mean, square, noise = (
            a.reshape(-1, shape[2])[:, inside]
            for a in (self.ring_mean, self.ring_square, self.ring_noise)
        )
        rings = RingMeans(mean, square, noise, self.size[inside])
        value, own = rings.within()
        usable = rings.valid & self.kept.reshape(-1, 1)
        weight = np.where(usable, rings.size, 0.0)
        total = weight.sum(axis=1)
        sums = (np.where(usable, value - own, 0.0) * weight).sum(axis=1)
        image = np.divide(sums, total, out=np.full(len(sums), np.nan), where=total > 0)
        low, high = q_range
        name = f"variance, {low:.4g} to {high:.4g} {self.units}"
        return RealSlice(image.reshape(shape[:2]), self.calibration, self.history, name, units="")

    def __repr__(self) -> str:
        return (
            f"<FEMResult {self.method!r} of {int(self.kept.sum())} positions, {len(self.mean)} "
            f"rings, 0 … {self.q[-1]:.4g} {self.units}>"
        )


def _to_parts(result: FEMResult) -> dict[str, Any]:
    axis = {"name": result.axis.name, "step": result.axis.step, "unit": result.axis.unit}
    plain = {name: getattr(result, name) for name in FEMResult.__dataclass_fields__}
    return {**plain, "axis": axis, "history": result.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> FEMResult:
    history = History.from_dict(parts["history"])
    return FEMResult(**{**parts, "axis": Axis(**parts["axis"]), "history": history})


register_result("fem", FEMResult, _to_parts, _from_parts)
