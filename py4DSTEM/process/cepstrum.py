"""Cepstra of diffraction patterns, and the strain that their peaks show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import ArrayResult, DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.diffraction import mean_pattern
from py4DSTEM.process.radial import as_cube
from py4DSTEM.process.strain import StrainMap
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Operation, Output, Parts, PerScan, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = [
    "CepstralPeaks",
    "CepstralPlaces",
    "CepstralStrain",
    "MeanCepstrum",
    "cepstral_strain",
    "cepstrum",
]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Bool = NDArray[np.bool_]
Pair = tuple[float, float]
_BATCH = 16  # patterns transformed at once: some tens of MB of scratch
_NEAREST_BINS = 4.0  # from the centre: what lies nearer is the shape of disks and background
_GRID = np.arange(-1.5, 1.51, 0.25)  # bins around the expected peak
_ROUNDS = 3
_FARTHEST_BINS = 2.0
_SIGNIFICANT = 4.0
_LEAST_ANGLE_DEG = 25.0
_MANY = 300  # counts from which on the logarithm is linear over the noise
_RATES = np.concatenate([[0.0], np.geomspace(1e-3, 1e4, 150)])


# ---- the logarithm -------------------------------------------------------------------------------
def _window(Q_shape: tuple[int, int]) -> Float:
    """A Hann window over the detector, nowhere zero."""
    x, y = (np.hanning(n + 2)[1:-1] for n in Q_shape)
    window: Float = np.outer(x, y).astype(np.float64)
    return window


def _flat_log(frames: NDArray[np.generic], epsilon: float, window: Float) -> Float:
    """``w (log(I + ε) − mean)`` of each pattern; pixels that are no number count as the mean."""
    raw = np.asarray(frames, np.float64)
    known = np.isfinite(raw)
    logs = np.log(np.maximum(np.where(known, raw, 0.0), 0.0) + epsilon)
    weight = known * window
    total = weight.sum(axis=(1, 2), keepdims=True)
    mean = np.divide((logs * weight).sum(axis=(1, 2), keepdims=True), total,
                     out=np.zeros_like(total), where=total > 0)  # fmt: skip
    flat: Float = (logs - mean) * weight
    return flat


def _default_epsilon(pattern: Float) -> float:
    """The mean intensity: below it, noise would be more than the disks."""
    known = pattern[np.isfinite(pattern)]
    mean = float(known.mean()) if known.size else 0.0
    if not (math.isfinite(mean) and mean > 0):
        raise ParameterError("the patterns have no intensity: their logarithm shows nothing")
    return mean


class _Logarithm(Operation):
    """The parameter shared by the operations below."""

    epsilon: float = Field(1.0, gt=0, description="Added to the intensity before the logarithm.")


class MeanCepstrum(_Logarithm, kind="mean-cepstrum", version=1):
    """Exit-wave power cepstrum ``|FFT(w (log(I + ε) − mean))|``, averaged over the scan."""

    cites: ClassVar[tuple[str, ...]] = ("10.1016/j.ultramic.2020.112994",)
    outputs: ClassVar[Mapping[str, Output]] = {"total": Reduced(np.add), "count": Reduced(np.add)}

    def prepare(self, cube: Cube, kernels: Kernels) -> Float:
        return _window(cube.Q_shape)

    def step(self, window: Float, tile: Tile, kernels: Kernels) -> Parts:
        from scipy import fft  # slow to import

        weights = np.ones(len(tile.frames)) if tile.weights is None else tile.weights
        total = np.zeros(window.shape)
        for start in range(0, len(tile.frames), _BATCH):
            batch = slice(start, start + _BATCH)
            waves = fft.fft2(_flat_log(tile.frames[batch], self.epsilon, window), workers=1)
            total += np.einsum("n,nxy->xy", weights[batch], np.abs(waves))
        return {"total": total, "count": float(weights.sum())}

    def finish(self, cube: Cube, plan: Float, parts: Parts, history: History) -> ArrayResult:
        mean = np.fft.fftshift(parts["total"] / max(parts["count"], 1e-300))
        axes = _real_axes(cube.Q_shape, cube.calibration)
        return ArrayResult(mean, axes, history, "cepstrum")


def _real_axes(Q_shape: tuple[int, int], calibration: Calibration) -> tuple[Axis, Axis]:
    """Distances along the detector's axes (ellipse and rotation not undone)."""
    unit, length = _units(calibration)
    steps = calibration.Q_steps(unit)
    x, y = (
        Axis(name, 1 / (n * s), -(n // 2) / (n * s), length)
        for name, n, s in zip(("x", "y"), Q_shape, steps, strict=True)
    )
    return x, y


def _units(calibration: Calibration) -> tuple[str, str]:
    """Units of Q and of the distances: those of the calibration, or pixels and their inverse."""
    calibrated = all(axis.calibrated for axis in calibration.Q)
    return ("A^-1", "A") if calibrated else ("px", "px")


def cepstrum(
    data: Cube | DiffractionSlice,
    *,
    epsilon: float | None = None,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> ArrayResult:
    """Exit-wave power cepstrum (EWPC) of a pattern, or its mean over a scan.

    Parameters
    ----------
    data : DataCube or DiffractionSlice
    epsilon : float, optional
        Added to the intensity before the logarithm; None: the mean intensity.
    where : (Rx, Ry) bool or float, optional
        Positions to average, or their weights.
    options : RunOptions, optional

    Returns
    -------
    ArrayResult
        ``(Qx, Qy)`` float64 with distance zero at pixel ``(Qx // 2, Qy // 2)`` and axes in Å (in
        cycles per detector pixel where the pixel size is not known), along the detector's x and y.

    Raises
    ------
    ParameterError
        The patterns have no intensity.

    Notes
    -----
    ``|FFT(w (log(I + ε) − mean))|`` with a Hann window w: peaks at vectors between atom columns,
    hardly moved by a tilt of the crystal, which multiplies the pattern by something smooth.
    Padgett et al., doi:10.1016/j.ultramic.2020.112994.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.strained_lattice((2, 2), (64, 64), Q_pixel_size_A=0.028)
    >>> image = cepstrum(scan.cube)
    >>> image.shape, image.axes[0].unit
    ((64, 64), 'A')
    """
    cube = as_cube(data) if isinstance(data, DiffractionSlice) else data
    if epsilon is None:
        epsilon = _default_epsilon(mean_pattern(cube, where=where, options=options).data)
    result: ArrayResult = run(MeanCepstrum(epsilon=epsilon), cube, where=where, options=options)
    return result


# ---- peaks of every position ---------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Plan:
    """Window, pixel coordinates from the centre, and the noise of a logarithm of counts."""

    window: Float
    x: Float
    y: Float
    variances: Float


@dataclass(frozen=True, eq=False)
class CepstralPlaces:
    """Two peaks of the cepstrum at every position.

    Parameters
    ----------
    places : (Rx, Ry, 2, 2) float64
        Peak, then (x, y), in cycles per detector pixel, detector axes; NaN where there is none.
    covariances : (Rx, Ry, 2, 2, 2) float64
        Of each place, from counting noise.
    """

    places: Float
    covariances: Float
    calibration: Calibration
    history: History
    name: str = "cepstral peaks"


register_result("cepstral-peaks", CepstralPlaces)


class CepstralPeaks(_Logarithm, kind="cepstral-peaks", version=1):
    """Place of two peaks in the cepstrum of each pattern, to a small part of a pixel.

    The maximum of ``|S(n)|²``, ``S(n) = Σ w (log(I + ε) − mean) exp(−2πi n·q)`` is found on a fine
    grid near the expected place and refined by Newton steps on the exact sum.  The covariance is
    that which counting noise gives to the place of the maximum.
    """

    spots: tuple[Pair, Pair] = Field(
        description="Expected places in cycles per detector pixel, detector axes."
    )

    cites: ClassVar[tuple[str, ...]] = ("10.1016/j.ultramic.2020.112994",)
    outputs: ClassVar[Mapping[str, Output]] = {
        "places": PerScan(np.float64),
        "covariances": PerScan(np.float64),
    }

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [cls(spots=((0.25, 0.02), (-0.03, 0.3)))]

    def prepare(self, cube: Cube, kernels: Kernels) -> _Plan:
        x, y = (np.arange(n, dtype=np.float64) - (n - 1) / 2 for n in cube.Q_shape)
        return _Plan(_window(cube.Q_shape), x, y, _log_variances(self.epsilon))

    def step(self, plan: _Plan, tile: Tile, kernels: Kernels) -> Parts:
        starts = range(0, len(tile.frames), _BATCH)
        fits = [self._fit(plan, tile.frames[i : i + _BATCH]) for i in starts]
        places, covariances = (np.concatenate(part) for part in zip(*fits, strict=True))
        return {"places": places, "covariances": covariances}

    def _fit(self, plan: _Plan, frames: NDArray[np.generic]) -> tuple[Float, Float]:
        logs = _flat_log(frames, self.epsilon, plan.window)
        noise = plan.window**2 * _noise(frames, plan.variances)
        fits = [_refined(plan, logs, noise, np.array(spot)) for spot in self.spots]
        places, covariances = (np.stack(part, axis=1) for part in zip(*fits, strict=True))
        return places, covariances

    def finish(self, cube: Cube, plan: _Plan, parts: Parts, history: History) -> CepstralPlaces:
        return CepstralPlaces(parts["places"], parts["covariances"], cube.calibration, history)


def _log_variances(epsilon: float) -> Float:
    """Variance of ``log(k + ε)`` for Poisson counts k at the rates of `_RATES`."""
    from scipy import stats  # slow to import

    rates = _RATES[_RATES < _MANY]
    counts = np.arange(2 * _MANY)
    chance = stats.poisson.pmf(counts, rates[:, None])
    logs = np.log(counts + epsilon)
    mean = chance @ logs
    exact = np.maximum(chance @ logs**2 - mean**2, 0)
    large = _RATES[len(rates) :]
    variances: Float = np.concatenate([exact, large / (large + epsilon) ** 2])
    return variances


def _noise(frames: NDArray[np.generic], variances: Float) -> Float:
    """Variance of the logarithm in each pixel, the rate from the pixels around it."""
    from scipy import ndimage  # slow to import

    raw = np.nan_to_num(np.asarray(frames, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    rate = ndimage.uniform_filter(np.maximum(raw, 0), size=(1, 3, 3))
    variance: Float = np.interp(rate, _RATES, variances)
    return variance


def _refined(plan: _Plan, logs: Float, noise: Float, spot: Float) -> tuple[Float, Float]:
    """Place (n, 2) and covariance (n, 2, 2) of one peak; NaN where there is none."""
    bins = 1 / np.array(logs.shape[1:])
    place = _coarse(plan, logs, spot, bins)
    for _ in range(_ROUNDS):
        near = _Near.of(plan, logs, place)
        place = place - _solved(near.curvature, near.gradient)
    near = _Near.of(plan, logs, place)
    covariance, significance = near.uncertainty(plan, noise)
    astray = np.abs((place - spot) / bins).max(axis=1) > _FARTHEST_BINS
    saddle = (near.curvature[:, 0, 0] >= 0) | (np.linalg.det(near.curvature) <= 0)
    lost = astray | saddle | ~(significance > _SIGNIFICANT)
    place[lost], covariance[lost] = np.nan, np.nan
    return place, covariance


def _coarse(plan: _Plan, logs: Float, spot: Float, bins: Float) -> Float:
    """The best of a fine grid about `spot`, (n, 2)."""
    x, y = (spot[axis] + _GRID * bins[axis] for axis in (0, 1))
    waves_x = np.exp(-2j * np.pi * np.outer(x, plan.x))
    waves_y = np.exp(-2j * np.pi * np.outer(plan.y, y))
    power = np.abs(waves_x @ _times(logs, waves_y)) ** 2
    best = power.reshape(len(logs), -1).argmax(axis=1)
    return np.stack([x[best // len(y)], y[best % len(y)]], axis=1)


@dataclass(frozen=True, eq=False)
class _Near:
    """S (n,) and its slope (n, 2) at some place; gradient and curvature of ``|S|²`` there."""

    waves: tuple[Complex, Complex]
    value: Complex
    slope: Complex
    gradient: Float
    curvature: Float

    @classmethod
    def of(cls, plan: _Plan, logs: Float, place: Float) -> _Near:
        turn = -2j * np.pi
        x = np.exp(turn * place[:, :1] * plan.x)
        y = np.exp(turn * place[:, 1:] * plan.y)
        powers_x = np.stack([(turn * plan.x) ** k * x for k in range(3)], axis=1)
        powers_y = np.stack([(turn * plan.y) ** k * y for k in range(3)], axis=2)
        m = powers_x @ _times(logs, powers_y)
        value, slope = m[:, 0, 0], np.stack([m[:, 1, 0], m[:, 0, 1]], axis=1)
        bend = np.stack([m[:, 2, 0], m[:, 1, 1], m[:, 1, 1], m[:, 0, 2]], axis=1)
        gradient = 2 * (value.conj()[:, None] * slope).real
        outer = slope[:, :, None] * slope.conj()[:, None, :]
        curvature = 2 * ((value.conj()[:, None] * bend).reshape(-1, 2, 2) + outer).real
        return cls((x, y), value, slope, gradient, curvature)

    def uncertainty(self, plan: _Plan, noise: Float) -> tuple[Float, Float]:
        """Covariance of the maximum (n, 2, 2), and amplitude over its noise (n,).

        With H the curvature, ``δn = −H⁻¹ δ∇|S|²`` and
        ``δ∇|S|² = 2 Σ_q Re[(−2πi q S* + ∇S*) exp(−2πi n·q)] δf(q)``.
        """
        turn = -2j * np.pi
        wave = self.waves[0][:, :, None] * self.waves[1][:, None, :]
        value, slope = self.value.conj()[:, None, None], self.slope.conj()
        along_x = value * (turn * plan.x[None, :, None]) + slope[:, 0, None, None]
        along_y = value * (turn * plan.y[None, None, :]) + slope[:, 1, None, None]
        score = 2 * np.stack([(wave * along_x).real, (wave * along_y).real], axis=1)
        spread = np.einsum("naxy,nxy,nbxy->nab", score, noise, score, optimize=True)
        usable = np.abs(np.linalg.det(self.curvature)) > 0
        inverse = _inverse(np.where(usable[:, None, None], self.curvature, np.eye(2)))
        level = np.sqrt(noise.sum(axis=(1, 2)))
        amplitude = np.abs(self.value)
        significance = np.divide(amplitude, level, out=np.zeros_like(level), where=level > 0)
        return inverse @ spread @ inverse, significance


def _times(logs: Float, waves: Complex) -> Complex:
    """``logs @ waves`` without making the real factor complex."""
    product: Complex = (logs @ waves.real) + 1j * (logs @ waves.imag)
    return product


def _solved(curvature: Float, gradient: Float) -> Float:
    """Newton steps (n, 2); none where the curvature is singular."""
    usable = np.abs(np.linalg.det(curvature)) > 0
    safe = np.where(usable[:, None, None], curvature, np.eye(2))
    step = np.linalg.solve(safe, gradient[..., None])[..., 0]
    usual: Float = np.where(usable[:, None], step, 0.0)
    return usual


# ---- strain --------------------------------------------------------------------------------------
class CepstralStrain(Analysis, kind="cepstral-strain", version=1):
    """Strain from two peaks in the cepstrum of every pattern."""

    vectors: tuple[Pair, Pair] | None = Field(
        None, description="Two lattice vectors in calibrated axes (A); None: the strongest peaks."
    )
    reference: tuple[tuple[bool, ...], ...] | None = Field(
        None, description="Scan positions that count as unstrained; None: all."
    )
    epsilon: float | None = Field(
        None, gt=0, description="Added to the intensity before the logarithm; None: its mean."
    )

    cites: ClassVar[tuple[str, ...]] = ("10.1016/j.ultramic.2020.112994",)
    accepts: ClassVar[tuple[type, ...]] = (Cube,)

    def apply(self, value: Cube, options: RunOptions | None = None) -> StrainMap:
        self.check(value)
        chosen = _chosen(self.reference, value)
        epsilon = self.epsilon
        if epsilon is None:
            epsilon = _default_epsilon(mean_pattern(value, options=options).data)
        unit, _ = _units(value.calibration)
        # Phases 2π n·q are the same in all axes: r = M⁻ᵀ n where q_calibrated = M q.
        axes = value.calibration.Q_matrix(unit)
        if self.vectors is None:
            mean = run(MeanCepstrum(epsilon=epsilon), value, where=chosen, options=options)
            spots = _strongest(mean.data)
        else:
            spots = np.asarray(self.vectors) @ axes
        _check_spots(spots)
        (ax, ay), (bx, by) = spots.tolist()
        peaks = CepstralPeaks(epsilon=epsilon, spots=((ax, ay), (bx, by)))
        found: CepstralPlaces = run(peaks, value, options=options)
        return _strain_map(found, _inverse(axes), chosen, self.history(value.history))


def _inverse(matrix: Float) -> Float:
    """With the type that `np.linalg` does not state."""
    inverse: Float = np.asarray(np.linalg.inv(matrix), np.float64)
    return inverse


def _chosen(reference: tuple[tuple[bool, ...], ...] | None, cube: Cube) -> Bool:
    if reference is None:
        return np.ones(cube.R_shape, bool)
    chosen = np.array(reference, bool)
    if chosen.shape != cube.R_shape:
        raise ShapeError(f"a reference of {chosen.shape} does not fit a scan of {cube.R_shape}")
    if not chosen.any():
        raise ParameterError("the reference holds no position")
    return chosen


def _check_spots(spots: Float) -> None:
    lengths = np.linalg.norm(spots, axis=1)
    if not np.isfinite(spots).all() or lengths.min() == 0 or np.abs(spots).max() >= 0.5:
        raise ParameterError(
            f"the lattice vectors lie at {spots.round(3).tolist()} cycles per detector pixel: "
            "expected finite ones within 0.5"
        )
    area = abs(float(np.linalg.det(spots)))
    if area < math.sin(math.radians(_LEAST_ANGLE_DEG)) / 4 * math.prod(lengths.tolist()):
        raise ParameterError("the two lattice vectors are parallel, or nearly so")


def _strongest(cepstrum: Float) -> Float:
    """The strongest peak and the strongest not along it, (2, 2), cycles per detector pixel."""
    from scipy import ndimage  # slow to import

    shape = np.array(cepstrum.shape)
    peak = ndimage.maximum_filter(cepstrum, 5) == cepstrum
    offset = np.argwhere(peak) - shape // 2
    height = cepstrum[peak]
    far = np.linalg.norm(offset, axis=1) >= _NEAREST_BINS
    inside = (np.abs(offset) < shape // 2 - 2).all(axis=1)
    half = (offset[:, 0] > 0) | ((offset[:, 0] == 0) & (offset[:, 1] > 0))
    kept = far & inside & half
    order = np.argsort(-height[kept], kind="stable")
    spots = (offset[kept] / shape)[order]
    for second in spots[1:]:
        sine = abs(np.linalg.det(np.stack([spots[0], second])))
        sine /= np.linalg.norm(spots[0]) * np.linalg.norm(second)
        if sine > math.sin(math.radians(_LEAST_ANGLE_DEG)):
            pair: Float = np.stack([spots[0], second])
            return pair
    raise ParameterError("the cepstrum shows no two lattice vectors: give vectors=(r1, r2)")


def _strain_map(found: CepstralPlaces, to_real: Float, chosen: Bool, history: History) -> StrainMap:
    """From places in cycles per pixel to ``r = r0 Fᵀ`` (rows), and to F."""
    vectors = found.places @ to_real
    covariances = to_real.T @ found.covariances @ to_real
    mask: Bool = np.asarray(np.isfinite(vectors).all(axis=(2, 3)))
    known = mask & chosen
    if not known.any():
        raise ParameterError(
            "no pattern of the reference shows both peaks in its cepstrum: give vectors=(r1, r2), "
            "a reference with crystal in it, or sum positions for more counts"
        )
    unstrained = np.median(vectors[known], axis=0)
    linear = _linear(unstrained)
    change = (vectors - unstrained).reshape(*mask.shape, 4)
    e_xx, e_yy, e_xy, theta = np.moveaxis(change @ linear.T, -1, 0)
    both = np.zeros((*mask.shape, 4, 4))
    both[..., :2, :2], both[..., 2:, 2:] = covariances[..., 0, :, :], covariances[..., 1, :, :]
    both[~mask] = np.nan
    covariance = linear @ both @ linear.T
    return StrainMap(
        e_xx=np.where(mask, e_xx, np.nan),
        e_yy=np.where(mask, e_yy, np.nan),
        e_xy=np.where(mask, e_xy, np.nan),
        theta=np.where(mask, theta, np.nan),
        covariance=covariance,
        mask=mask,
        reference=_inverse(unstrained).T,
        # A median of n values is known to sqrt(pi / 2n) of their spread.
        reference_covariance=np.pi / 2 / known.sum() * covariance[known].mean(axis=0),
        method="cepstral",
        calibration=found.calibration,
        history=history,
        name="cepstral strain",
        report={
            "reference": f"median of {int(known.sum())} positions",
            "r1": tuple(unstrained[0].tolist()),
            "r2": tuple(unstrained[1].tolist()),
            "units": _units(found.calibration)[1],
            "left_out": {"no peak": int((~mask).sum())},
        },
    )


def _linear(unstrained: Float) -> Float:
    """Matrix (4, 4) from changes of (r1x, r1y, r2x, r2y) to (e_xx, e_yy, e_xy, theta)."""
    inverse = _inverse(unstrained)  # Fᵀ − 1 = inverse @ change
    f = np.einsum("ik,jl->ijkl", inverse, np.eye(2)).reshape(2, 2, 4)
    e_xy, theta = (f[0, 1] + f[1, 0]) / 2, (f[0, 1] - f[1, 0]) / 2
    return np.stack([f[0, 0], f[1, 1], e_xy, theta])


def cepstral_strain(
    cube: Cube,
    vectors: Sequence[Pair] | ArrayLike | None = None,
    *,
    reference: ArrayLike | None = None,
    epsilon: float | None = None,
    options: RunOptions | None = None,
) -> StrainMap:
    """Strain from two peaks in the cepstrum of every pattern.

    Parameters
    ----------
    cube : DataCube
    vectors : (2, 2) array, optional
        Two vectors between atom columns (rows) in calibrated axes, in Å (in cycles per detector
        pixel where the pixel size is not known), to about two pixels of the cepstrum; None: the
        strongest peaks of the mean cepstrum of the reference.
    reference : (Rx, Ry) bool, optional
        Positions that count as unstrained; None: all, by the median of their vectors.
    epsilon : float, optional
        Added to the intensity before the logarithm; None: the mean intensity.
    options : RunOptions, optional

    Returns
    -------
    StrainMap
        In calibrated axes, positive where the lattice is larger than the reference; theta in rad,
        positive from x towards y.  Positions without both peaks are masked and counted in
        ``report``, which also holds the vectors found.

    Raises
    ------
    ParameterError
        No intensity, no peaks, or vectors that are (nearly) parallel.
    ShapeError
        The reference has another shape than the scan.

    Notes
    -----
    Distances deform with the material, ``r = F r0``, where reciprocal vectors do so with its
    inverse: ``e = (F + Fᵀ)/2 − 1`` and ``theta = (F_yx − F_xy)/2``.  See `cepstrum`; no origin is
    needed, because the modulus does not see a displacement of the pattern.

    The covariance is that of Poisson counts, carried through logarithm and peak: for data in
    counts.  What thickness, tilt and composition do to the intensities of the disks is not in it.
    Padgett et al., doi:10.1016/j.ultramic.2020.112994.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import simulate
    >>> e_xx = np.array([[0.0, 0.0, 0.02]])
    >>> scan = simulate.strained_lattice((1, 3), strain={"e_xx": e_xx}, dose=None)
    >>> strain = cepstral_strain(scan.cube)
    >>> bool(np.allclose(strain.e_xx, e_xx, atol=2e-3))
    True
    """
    chosen = None
    if reference is not None:
        array = np.asarray(reference, bool)
        if array.ndim != 2:
            raise ShapeError(f"a reference is (Rx, Ry) bool, not of shape {array.shape}")
        chosen = tuple(map(tuple, array.tolist()))
    pair = None
    if vectors is not None:
        try:
            given = np.asarray(vectors, np.float64)
        except (TypeError, ValueError):
            raise ParameterError(f"vectors are two rows (x, y), not {vectors!r}") from None
        if given.shape != (2, 2):
            raise ShapeError(f"vectors are two rows (x, y), not an array of {given.shape}")
        pair = tuple(map(tuple, given.tolist()))
    analysis = CepstralStrain(vectors=pair, reference=chosen, epsilon=epsilon)
    return analysis.apply(cube, options)
