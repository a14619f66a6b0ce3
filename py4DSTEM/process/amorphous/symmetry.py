"""Angular correlation: which rotational symmetry the speckles of a pattern have."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector, Disk
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.amorphous.around import Around, AroundPlan
from py4DSTEM.process.diffraction import mean_of
from py4DSTEM.process.radial import Units, as_detector
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Output, Parts, PerScan, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = [
    "AngularCorrelation",
    "AngularCorrelationResult",
    "Symmetry",
    "SymmetryResult",
    "angular_correlation",
    "symmetry",
]

Float = NDArray[np.float64]
Orders = tuple[int, ...]
_FRAMES = 32  # whose polar bins are held at a time
_LEAST_OVERLAP = 0.1  # of the bins of a ring: lags with less are not known


# ---- one pattern ---------------------------------------------------------------------------------
def _correlations(plan: AroundPlan, tile: Tile, read: float, kernels: Kernels) -> Iterator[Any]:
    """By groups of patterns: C(Δ) without noise (n, n_r, n_phi), noise of C(Δ), ring means."""
    for start in range(0, len(tile.frames), _FRAMES):
        values = plan.means(tile, slice(start, start + _FRAMES), kernels)
        there = np.isfinite(values)
        count = there.sum(axis=2, keepdims=True)
        mean = np.where(there, values, 0.0).sum(axis=2, keepdims=True)
        mean = np.divide(mean, count, out=np.full(mean.shape, np.nan), where=count > 0)
        mean = np.where(mean > 0, mean, np.nan)
        pairs = _autocorrelation(there.astype(np.float64))
        pairs = np.where(pairs > _LEAST_OVERLAP * values.shape[2], pairs, np.nan)
        product = _autocorrelation(np.where(there, values - np.nan_to_num(mean), 0.0))
        noise = (plan.gain / mean + read / mean**2) * plan.covariance
        yield product / pairs / mean**2 - noise, noise, mean[..., 0]


def _autocorrelation(values: Float) -> Float:
    """``Σ_l v_l v_l+Δ`` around each ring, by Fourier transform."""
    from scipy.fft import irfft, rfft

    found: Float = irfft(np.abs(rfft(values, axis=-1)) ** 2, values.shape[-1], axis=-1)
    return found


def _powers(correlation: Float, orders: Orders) -> Float:
    """``(1/N) Σ_Δ C(Δ) cos nΔ`` for each n, (..., orders); NaN where a lag is not known."""
    n_phi = correlation.shape[-1]
    lag = 2 * np.pi / n_phi * np.arange(n_phi)
    found: Float = correlation @ np.cos(np.outer(lag, orders)) / n_phi
    return found


# ---- averaged over the scan ----------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class AngularCorrelationResult:
    """Correlation of the intensity around rings, averaged over a scan.

    Parameters
    ----------
    correlation, sigma : (k, m) float64
        C(q, Δ) without the noise of counting, and the standard deviation of its mean by the scatter
        of the positions; lag l is ``2π l / m``.  NaN where unknown.
    power, power_sigma : (k, orders) float64
        Its Fourier coefficients: the mean n-fold power relative to the mean intensity squared.
    noise : (k, orders) float64
        What counting would add to them.
    orders : tuple of int
    count : (k,) float64
        Positions that have the ring.
    axis : Axis
        Of the middles of the rings.
    """

    correlation: Float
    sigma: Float
    power: Float
    power_sigma: Float
    noise: Float
    orders: Orders
    count: Float
    axis: Axis
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "angular correlation"

    @property
    def q(self) -> Float:
        """Radii in `units`, (k,)."""
        return self.axis.coordinates(len(self.count))

    @property
    def units(self) -> str:
        """Unit of `q`."""
        return self.axis.unit

    @property
    def lag_rad(self) -> Float:
        """Angles between the two places, (m,)."""
        size = self.correlation.shape[1]
        lags: Float = 2 * np.pi / size * np.arange(size)
        return lags

    @property
    def width_rad(self) -> Float:
        """Angular width of a speckle: where C falls to half of C(0), twice; NaN without, (k,)."""
        widths = [_half_width(row, self.lag_rad) for row in self.correlation]
        return np.array(widths, dtype=np.float64)

    @property
    def speckle_size(self) -> Float:
        """Width of a speckle along the ring, in `units`, (k,)."""
        size: Float = self.width_rad * self.q
        return size

    def __repr__(self) -> str:
        return (
            f"<AngularCorrelationResult {self.correlation.shape[0]} rings, orders "
            f"{self.orders[0]} to {self.orders[-1]}, {self.q[0]:.4g} … {self.q[-1]:.4g} "
            f"{self.units}>"
        )


def _half_width(row: Float, lag: Float) -> float:
    half = len(row) // 2 + 1
    known = row[:half]
    below = np.flatnonzero(known < known[0] / 2)
    if not (np.isfinite(known).all() and known[0] > 0 and len(below)):
        return float("nan")
    k = int(below[0])
    share = (known[k - 1] - known[0] / 2) / (known[k - 1] - known[k])
    return float(2 * (lag[k - 1] + share * (lag[1] - lag[0])))


def _to_parts(result: Any) -> dict[str, Any]:
    axis = result.axis
    plain = {name: getattr(result, name) for name in type(result).__dataclass_fields__}
    stored = {"name": axis.name, "step": axis.step, "offset": axis.offset, "unit": axis.unit}
    return {**plain, "axis": stored, "history": result.history.to_dict()}


def _read_parts(parts: Mapping[str, Any]) -> dict[str, Any]:
    plain = {"axis": Axis(**parts["axis"]), "history": History.from_dict(parts["history"])}
    return {**parts, **plain, "orders": tuple(map(int, parts["orders"]))}


register_result(
    "angular-correlation", AngularCorrelationResult, _to_parts,
    lambda parts: AngularCorrelationResult(**_read_parts(parts)),
)  # fmt: skip


class _Orders(Around):
    """Which symmetries are looked for."""

    orders: Orders = Field(
        tuple(range(2, 13)), min_length=1, description="Orders n of the n-fold symmetries."
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if not all(1 <= n <= self.n_phi // 4 for n in self.orders):
            raise ValueError(f"orders go from 1 to n_phi / 4 = {self.n_phi // 4}")
        return self

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [
            cls(n_phi=48, r_range=(1.0, 6.0)),
            cls(center=(8.2, 10.1), n_phi=40, mask=Disk(8.0), r_step_px=2.0, orders=(2, 4)),
        ]


def _add(whole: Float, part: Float) -> Float:
    whole += part
    return whole


class AngularCorrelation(_Orders, kind="angular-correlation", version=1):
    """Correlation of the intensity with itself around each ring, averaged over the positions.

    ``C(q, Δ) = ⟨I(q, φ) I(q, φ + Δ)⟩φ / ⟨I(q, φ)⟩φ² − 1`` less the noise of counting.
    """

    cites: ClassVar[tuple[str, ...]] = ("10.1073/pnas.0905337106",)
    outputs: ClassVar[Mapping[str, Output]] = {"sums": Reduced(_add)}

    def step(self, plan: AroundPlan, tile: Tile, kernels: Kernels) -> Parts:
        n_r, n_phi = plan.covariance.shape
        size = n_phi + len(self.orders)
        sums = np.zeros((4, n_r, size))
        weights = np.ones(len(tile.frames)) if tile.weights is None else tile.weights
        start = 0
        for correlation, noise, _ in _correlations(plan, tile, self.read_variance, kernels):
            w = weights[start : start + len(correlation), None, None]
            start += len(correlation)
            own = _powers(noise, self.orders)
            values = np.concatenate([correlation, _powers(correlation, self.orders)], axis=2)
            other = np.concatenate([np.zeros_like(correlation), own], axis=2)
            known = np.isfinite(values) & np.isfinite(other) & (w > 0)
            values, other = np.where(known, values, 0.0), np.where(known, other, 0.0)
            for k, one in enumerate((values, values**2, other, known.astype(np.float64))):
                sums[k] += (w * one).sum(axis=0)
        return {"sums": sums}

    def finish(
        self, cube: Cube, plan: AroundPlan, parts: Parts, history: History
    ) -> AngularCorrelationResult:
        total, squares, noise, count = parts["sums"]
        if not (count > 0).any():
            raise ParameterError(
                "no ring of any pattern has intensity all around: check the origin, the radii and "
                "the mask"
            )
        mean, own = mean_of(total, count), mean_of(noise, count)
        several = np.where(count > 1, count, np.nan)
        spread = np.sqrt(np.maximum(squares / several - mean**2, 0.0) / (several - 1))
        m = self.n_phi
        return AngularCorrelationResult(
            mean[:, :m], spread[:, :m], mean[:, m:], spread[:, m:], own[:, m:], self.orders,
            count[:, 0], plan.axis, cube.calibration, history,
        )  # fmt: skip


# ---- maps ----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class SymmetryResult:
    """How strong each n-fold symmetry is in the pattern of every position.

    Parameters
    ----------
    power, sigma : (Rx, Ry, orders) float64
        Mean of ``|a_n|²/a_0²`` over the rings, a_n the Fourier coefficient of the intensity around
        a ring, without the noise of counting; and the standard deviation that counting gives it.
        NaN where no ring is known all around.
    orders : tuple of int
    axis : Axis
        Of the middles of the rings.
    rings : int
    """

    power: Float
    sigma: Float
    orders: Orders
    axis: Axis
    rings: int
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "symmetry"

    def _index(self, order: int) -> int:
        if order not in self.orders:
            raise ParameterError(f"no {order}-fold power here, only {self.orders}")
        return self.orders.index(order)

    def map(self, order: int) -> RealSlice:
        """Power of one symmetry at every position."""
        return RealSlice(
            self.power[..., self._index(order)], self.calibration, self.history,
            f"{order}-fold power", units="",
        )  # fmt: skip

    def significance(self, order: int) -> RealSlice:
        """The same in standard deviations of counting; NaN where these are none."""
        k = self._index(order)
        sigma = self.sigma[..., k]
        known = np.nan_to_num(sigma) > 0
        ratio = np.divide(self.power[..., k], sigma, out=np.full(sigma.shape, np.nan), where=known)
        return RealSlice(
            ratio, self.calibration, self.history, f"{order}-fold power / sigma", units="sigma"
        )

    @property
    def mean(self) -> Float:
        """Power of each order, averaged over the positions that have one, (orders,)."""
        known = np.isfinite(self.power)
        total = np.where(known, self.power, 0.0).sum(axis=(0, 1))
        return mean_of(total, known.sum(axis=(0, 1)).astype(np.float64))

    def __repr__(self) -> str:
        return (
            f"<SymmetryResult {self.power.shape[:2]} positions, orders {self.orders[0]} to "
            f"{self.orders[-1]}, {self.rings} rings>"
        )


register_result(
    "symmetry", SymmetryResult, _to_parts, lambda parts: SymmetryResult(**_read_parts(parts))
)


class Symmetry(_Orders, kind="symmetry", version=1):
    """Power of every n-fold symmetry in the speckles of each pattern, and its noise."""

    cites: ClassVar[tuple[str, ...]] = ("10.1073/pnas.0905337106",)
    outputs: ClassVar[Mapping[str, Output]] = {
        "power": PerScan(np.float64),
        "sigma": PerScan(np.float64),
    }

    def step(self, plan: AroundPlan, tile: Tile, kernels: Kernels) -> Parts:
        powers, sigmas = [], []
        for correlation, noise, _ in _correlations(plan, tile, self.read_variance, kernels):
            power, own = _powers(correlation, self.orders), _powers(noise, self.orders)
            known = np.isfinite(power) & np.isfinite(own)
            weight = np.where(known, plan.pixels[:, None], 0.0)
            own = np.where(known, np.maximum(own, 0.0), 0.0)
            power = np.where(known, power, 0.0)
            # Of a complex amplitude with noise of power s: |a|² − s varies by √(s² + 2 s |a|²).
            variance = own**2 + 2 * own * np.maximum(power, 0.0)
            total = weight.sum(axis=1)
            powers.append(mean_of((weight * power).sum(axis=1), total))
            sigmas.append(mean_of(np.sqrt((weight**2 * variance).sum(axis=1)), total))
        return {"power": np.concatenate(powers), "sigma": np.concatenate(sigmas)}

    def finish(
        self, cube: Cube, plan: AroundPlan, parts: Parts, history: History
    ) -> SymmetryResult:
        return SymmetryResult(
            parts["power"], parts["sigma"], self.orders, plan.axis, len(plan.pixels),
            cube.calibration, history,
        )  # fmt: skip


# ---- the public functions ------------------------------------------------------------------------
def angular_correlation(
    cube: Cube,
    r_range: tuple[float, float] | None = None,
    *,
    units: Units = "px",
    r_step_px: float = 1.0,
    n_phi: int = 180,
    orders: tuple[int, ...] = tuple(range(2, 13)),
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    gain: float | None = None,
    read_variance: float = 0.0,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> AngularCorrelationResult:
    """Correlation of the intensity around each ring with itself, averaged over a scan.

    Parameters
    ----------
    cube : DataCube
        With an origin, unless `center` is given.
    r_range : (float, float), optional
        Inner and outer radius in `units`; None: from the origin to the nearest edge.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Unit of `r_range`.
    r_step_px : float
        Width of the rings in detector pixels.
    n_phi : int
        Bins around a ring.
    orders : tuple of int
        Orders of the symmetries whose power is computed; at most ``n_phi / 4``.
    center : (float, float), optional
        Origin (qx, qy) in pixels; None: as calibrated, for each position where it varies.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    follow_origin : bool, optional
        Whether to use the origin of each position; None: where the calibration holds one.
    gain : float, optional
        Counts per electron; None: 1 for integers, and no noise for floats.
    read_variance : float
        Variance of a pixel without electrons, in counts².
    where : (Rx, Ry) bool or float, optional
        Positions that count, or their weights.
    options : RunOptions, optional

    Returns
    -------
    AngularCorrelationResult
        ``.correlation`` (rings, lags) ± ``.sigma``; ``.power`` (rings, orders) ± ``.power_sigma``;
        ``.speckle_size``.

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.
    ParameterError
        No usable pixel between the radii, or no pattern with intensity there.

    Notes
    -----
    ``C(q, Δ) = ⟨I(φ) I(φ + Δ)⟩φ/⟨I⟩φ² − 1`` over bins that pixels are shared between by area; bins
    without pixels are left out of numerator and denominator.  Counting adds ``gain/⟨I⟩`` times the
    covariance of bins that share pixels, which is subtracted at every lag.  The n-fold power is
    ``(1/N) Σ C(Δ) cos nΔ = |a_n|²/a_0²`` (doi:10.1073/pnas.0905337106).  Patterns of thin samples
    obey Friedel's law: then odd powers vanish.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> x, y = np.indices((32, 32)) - 15.5
    >>> sixfold = 100 * (1 + 0.5 * np.cos(6 * np.arctan2(y, x)))
    >>> cube = DataCube(np.broadcast_to(sixfold, (2, 3, 32, 32)))
    >>> found = angular_correlation(cube, (8, 14), center=(15.5, 15.5))
    >>> best = found.orders[found.power.mean(axis=0).argmax()]
    >>> best, round(float(found.power[3, 4]), 2)
    (6, 0.06)
    """
    operation = AngularCorrelation(
        r_range=r_range, units=units, r_step_px=r_step_px, n_phi=n_phi, orders=tuple(orders),
        center=center, mask=as_detector(mask), follow_origin=follow_origin, gain=gain,
        read_variance=read_variance,
    )  # fmt: skip
    result: AngularCorrelationResult = run(operation, cube, where=where, options=options)
    return result


def symmetry(
    cube: Cube,
    r_range: tuple[float, float] | None = None,
    *,
    units: Units = "px",
    r_step_px: float = 1.0,
    n_phi: int = 180,
    orders: tuple[int, ...] = tuple(range(2, 13)),
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    gain: float | None = None,
    read_variance: float = 0.0,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> SymmetryResult:
    """Maps of the power of every n-fold symmetry in the speckles of each pattern.

    Parameters
    ----------
    cube : DataCube
    r_range : (float, float), optional
        Radii of the rings that are averaged, in `units`; None: from the origin to the nearest edge.
    units, r_step_px, n_phi, orders, center, mask, follow_origin, gain, read_variance
        As for `angular_correlation`.
    where : (Rx, Ry) bool, optional
        Positions to compute; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    SymmetryResult
        ``.map(n)``, ``.significance(n)``; ``.power`` and ``.sigma`` (Rx, Ry, orders).

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.
    ParameterError
        No usable pixel between the radii.

    Notes
    -----
    The power ``|a_n|²/a_0²`` of each ring (see `angular_correlation`), averaged with the number of
    their pixels.  `sigma` is that of counting alone: ``√(s² + 2 s P)`` for rings of noise power s,
    taken as independent.  Speckles of a structure without any symmetry have power in all even
    orders too, so compare orders and positions with one another.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> x, y = np.indices((32, 32)) - 15.5
    >>> fourfold = 100 * (1 + 0.5 * np.cos(4 * np.arctan2(y, x)))
    >>> cube = DataCube(np.random.default_rng(1).poisson(fourfold, (2, 3, 32, 32)))
    >>> found = symmetry(cube, (8, 14), center=(15.5, 15.5))
    >>> bool(found.significance(4).data.min() > 10), bool(found.significance(6).data.max() < 6)
    (True, True)
    """
    operation = Symmetry(
        r_range=r_range, units=units, r_step_px=r_step_px, n_phi=n_phi, orders=tuple(orders),
        center=center, mask=as_detector(mask), follow_origin=follow_origin, gain=gain,
        read_variance=read_variance,
    )  # fmt: skip
    result: SymmetryResult = run(operation, cube, where=where, options=options)
    return result
