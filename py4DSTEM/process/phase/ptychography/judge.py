"""Whether to believe a reconstruction: noise, halves of the data, probe, positions, ambiguities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.phase.frc import RingCorrelation, fourier_ring_correlation
from py4DSTEM.process.phase.ptychography.noise import expected_misfit
from py4DSTEM.process.phase.ptychography.result import PtychographyResult
from py4DSTEM.stream.options import RunOptions

__all__ = ["PtychographyJudgement", "judge_ptychography", "model_intensities", "raster_height"]

Float = NDArray[np.float64]
Pair = tuple[float, float]
_SAMPLE = 128
"""Positions whose patterns are modelled to learn how much counting noise there is."""
_MISFIT, _OVERFIT = 1.05, 0.9
_STILL = 0.05
"""Of what lies above the noise: a fall over five iterations that says it was not the end."""
_EDGE, _BESIDE, _SCALED = 0.02, 0.1, 0.15
_OUTLIER_Z, _RASTER = 6.0, 6.0


@dataclass(frozen=True, eq=False)
class PtychographyJudgement:
    """What speaks for and against a reconstruction.

    Parameters
    ----------
    errors : (n,) float64
        ``Σ (√I_measured − √I)² / Σ I_measured`` before every iteration.
    expected_error : float
        What counting noise alone gives, from the patterns of the model.
    halves : RingCorrelation or None
        Of reconstructions of two halves of the data; None where the data were not asked.
    edge_share : float
        Share of the probe in the outermost eighth of its window: it wraps around where this is not
        small.
    beside_share : float
        Share of the probe's spectrum more than a tenth beyond the aperture.
    center_A : (float, float)
        Centre of mass of the probe from the middle of its window, detector axes.
    mode_shares : (modes,) float64
    outliers : (n, 2) int64
        Scan positions whose error lies far above those of the others.
    moved_A : float
        Root mean square distance of the positions from a regular grid.
    ramp_rad_per_A : (float, float)
        Mean slope of the phase, scan axes.
    transmission : float
        Mean modulus of the object over the scanned area.
    raster : float
        Height of the spectrum of the phase at the frequencies of the scan over its surroundings.
    warnings : tuple of str
        In words; empty: nothing speaks against it.
    """

    errors: Float
    expected_error: float
    halves: RingCorrelation | None
    edge_share: float
    beside_share: float
    center_A: Pair
    mode_shares: Float
    outliers: NDArray[np.int64]
    moved_A: float
    ramp_rad_per_A: Pair
    transmission: float
    raster: float
    warnings: tuple[str, ...]
    history: History = field(default_factory=History)
    name: str = "judgement of ptychography"

    @property
    def error_ratio(self) -> float:
        """Last error over what noise alone gives."""
        return float(self.errors[-1] / self.expected_error) if len(self.errors) else math.nan

    @property
    def resolution_A(self) -> float:
        """By half a bit between halves of the data; NaN where these were not compared."""
        return math.nan if self.halves is None else self.halves.resolution_A

    def text(self) -> str:
        """A few lines for a report."""
        last = self.errors[-1] if len(self.errors) else math.nan
        lines = [f"error {last:.4g}, {self.error_ratio:.2f} x that of counting noise alone"]
        if math.isfinite(self.resolution_A) and self.halves is not None:
            found = self.halves.resolutions["half-bit"]
            better = " or better" if found.reached_edge else f" ± {found.sigma_A:.2g} Å"
            lines.append(f"resolution {found.resolution_A:.3g} Å{better} (halves of the data)")
        lines += [f"WARNING: {words}" for words in self.warnings]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<PtychographyJudgement: {self.text().splitlines()[0]}, {len(self.warnings)} warnings>"
        )


def judge_ptychography(
    result: PtychographyResult,
    cube: Cube | None = None,
    *,
    vacuum: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> PtychographyJudgement:
    """Ask a reconstruction whether it is to be believed.

    Parameters
    ----------
    result : PtychographyResult
    cube : DataCube, optional
        The scan it was made from: both halves of a checkerboard of its positions are reconstructed
        on their own, with the parameters of `result`, and compared.
    vacuum, mask : array, optional
        As they were given to `ptychography`.
    options : RunOptions, optional

    Returns
    -------
    PtychographyJudgement
        ``.warnings`` says what is wrong; ``.resolution_A`` needs `cube`.

    Raises
    ------
    ParameterError
        `cube` is not the scan that `result` was made from.

    Notes
    -----
    The expected error is ``Σ E(√n − √λ)² / Σ λ`` for Poisson counts n of the model's patterns λ,
    exact also where λ is small.  Halves share systematic errors (positions, probe model), so that
    the resolution is at best that of the noise (doi:10.1016/j.jsb.2005.05.009).

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> from py4DSTEM.process.phase.ptychography.reconstruct import ptychography
    >>> scan = simulate.phase_object((8, 8), (48, 48), seed=1)
    >>> found = judge_ptychography(ptychography(scan.cube, defocus_A=100.0, rotation_rad=0.3))
    >>> len(found.errors), bool(0.5 < found.error_ratio < 2)
    (30, True)
    """
    halves = None if cube is None else _halves(result, cube, vacuum, mask, options)
    phase = result.phase
    probe = _probe(result)
    errors = np.array(result.errors, np.float64)
    judged = PtychographyJudgement(
        errors=errors,
        expected_error=_expected(result),
        halves=halves,
        **probe,
        mode_shares=result.mode_shares,
        outliers=_outliers(result.position_errors),
        moved_A=_moved_A(result),
        ramp_rad_per_A=_ramp(result),
        transmission=float(np.abs(result.object[:, result.seen()]).mean()),
        raster=raster_height(phase.data, phase.calibration.R[0].step, result.optics.R_steps_A),
        warnings=(),
        history=result.history.then("judge-ptychography", {"halves": cube is not None}),
    )
    return replace(judged, warnings=tuple(_words(judged, result)))


# ---- noise ---------------------------------------------------------------------------------------
def model_intensities(result: PtychographyResult, chosen: NDArray[np.int64]) -> Float:
    """Patterns that object and probe make, (chosen, n0, n1) counts, zero frequency first.

    Parameters
    ----------
    result : PtychographyResult
    chosen : (n,) int64
        Flat numbers of scan positions.
    """
    at = result.positions_px.reshape(-1, 2)[chosen]
    n0, n1 = result.probe.shape[1:]
    first = np.rint(at).astype(int) - np.array([n0 // 2, n1 // 2])
    kx, ky = np.fft.fftfreq(n0)[:, None], np.fft.fftfreq(n1)[None]
    spectrum = np.fft.fft2(result.probe)
    optics = result.optics
    x, y = optics.k()
    tilt = optics.to_detector() @ np.array(result.tilt_rad)
    bent = optics.wavelength_A * (x**2 + y**2) - 2 * (x * tilt[0] + y * tilt[1])
    flight = np.exp(-1j * np.pi * result.slice_thickness_A * bent)
    out = np.empty((len(chosen), n0, n1))
    for number, ((i, j), (fx, fy)) in enumerate(zip(first, at - np.rint(at), strict=True)):
        wave = np.fft.ifft2(spectrum * np.exp(-2j * np.pi * (kx * fx + ky * fy)))
        for s, slice_ in enumerate(result.object):
            wave = wave if s == 0 else np.fft.ifft2(np.fft.fft2(wave) * flight)
            wave = wave * slice_[i : i + n0, j : j + n1]
        out[number] = (np.abs(np.fft.fft2(wave)) ** 2).sum(axis=0)
    return out


def _expected(result: PtychographyResult) -> float:
    count = math.prod(result.positions_px.shape[:2])
    chosen = np.unique(np.linspace(0, count - 1, _SAMPLE).astype(np.int64))
    counts = model_intensities(result, chosen)
    return float(expected_misfit(counts).sum() / counts.sum())


def _outliers(errors: Float) -> NDArray[np.int64]:
    known = errors[np.isfinite(errors)]
    if known.size < 8:
        return np.empty((0, 2), np.int64)
    middle = float(np.median(known))
    spread = 1.4826 * float(np.median(np.abs(known - middle))) + 0.01 * middle
    return np.argwhere(errors > middle + _OUTLIER_Z * spread)


# ---- halves --------------------------------------------------------------------------------------
def _halves(
    result: PtychographyResult,
    cube: Cube,
    vacuum: ArrayLike | None,
    mask: ArrayLike | None,
    options: RunOptions | None,
) -> RingCorrelation:
    from py4DSTEM.process.phase.ptychography.halves import both_halves

    if cube.R_shape != result.positions_px.shape[:2]:
        raise ParameterError(
            f"the scan has {cube.R_shape} positions, the result {result.positions_px.shape[:2]}"
        )
    one, other = both_halves(result, cube, vacuum=vacuum, mask=mask, options=options)
    return fourier_ring_correlation(one, other)


# ---- probe, positions, ambiguities ---------------------------------------------------------------
def _probe(result: PtychographyResult) -> dict[str, Any]:
    power = (np.abs(result.probe.astype(np.complex128)) ** 2).sum(axis=0)
    power /= power.sum()
    n = np.array(power.shape)
    x, y = (np.arange(m) - m // 2 for m in n)
    center = (float((power.sum(axis=1) * x).sum()), float((power.sum(axis=0) * y).sum()))
    inner = tuple(slice(m // 16, m - m // 16) for m in n)
    spectrum = (np.abs(np.fft.fft2(result.probe)) ** 2).sum(axis=0)
    kx, ky = result.optics.k()
    edge = result.optics.semiangle_mrad * 1e-3 / result.optics.wavelength_A
    width = max(0.1 * edge, 1.5 * max(result.optics.Q_steps_A))
    beside = np.hypot(kx, ky) > edge + width
    return {
        "edge_share": float(1 - power[inner].sum()),
        "beside_share": float(spectrum[beside].sum() / spectrum.sum()),
        "center_A": (center[0] * result.sampling_A[0], center[1] * result.sampling_A[1]),
    }


def _moved_A(result: PtychographyResult) -> float:
    """From the regular grid that fits best, shifted only."""
    Rx, Ry = result.positions_px.shape[:2]
    grid = result.optics.positions_A((Rx, Ry))
    away = result.positions_px * np.array(result.sampling_A) - grid
    away = away - away.mean(axis=(0, 1))
    return float(np.sqrt((away**2).sum(axis=2).mean()))


def _ramp(result: PtychographyResult) -> Pair:
    """Mean slope of the phase in scan axes, rad/Å, from neighbouring pixels, which do not wrap."""
    whole = np.prod(result.object.astype(np.complex128), axis=0)
    seen = result.seen()
    slopes = []
    for axis in (0, 1):
        both = seen & np.roll(seen, -1, axis)
        product = (np.roll(whole, -1, axis) * whole.conj())[both].sum()
        slopes.append(float(np.angle(product)) / result.sampling_A[axis])
    x, y = result.optics.to_detector().T @ np.array(slopes)
    return float(x), float(y)


def raster_height(phase: ArrayLike, step_A: float, R_steps_A: Pair) -> float:
    """How far the spectrum of a phase rises at the frequencies of the scan.

    Parameters
    ----------
    phase : (nx, ny) float
        In scan axes.
    step_A : float
        Its pixel.
    R_steps_A : (float, float)
        Scan step.

    Returns
    -------
    float
        Largest modulus at ``(1/step, 0)``, ``(0, 1/step)`` and their sums, over the median around;
        NaN where the pixel is too coarse to hold them, or the scan too small to tell.

    Examples
    --------
    >>> rng = np.random.default_rng(1)
    >>> flat = rng.normal(size=(64, 60))
    >>> grid = flat + np.cos(2 * np.pi * np.arange(64) / 4)[:, None]
    >>> raster_height(flat, 0.2, (0.8, 0.8)) < 5 < raster_height(grid, 0.2, (0.8, 0.8))
    True
    """
    image = np.asarray(phase, np.float64)
    window = np.hanning(image.shape[0])[:, None] * np.hanning(image.shape[1])
    spectrum = np.abs(np.fft.fft2((image - image.mean()) * window))
    heights = []
    for order in ((1, 0), (0, 1), (1, 1), (1, -1)):
        at = [o * n * step_A / s for o, n, s in zip(order, image.shape, R_steps_A, strict=True)]
        if all(abs(a) + 1 < n / 2 for a, n in zip(at, image.shape, strict=True)):
            heights.append(_over_surroundings(spectrum, np.rint(at).astype(int)))
    return max(heights, default=math.nan)


def _over_surroundings(spectrum: Float, at: NDArray[Any]) -> float:
    """The largest of 3 x 3 values over the median of those around."""
    x, y = (np.fft.fftfreq(n, 1 / n) for n in spectrum.shape)
    away = np.maximum(np.abs(x - at[0])[:, None], np.abs(y - at[1])[None])
    around = spectrum[(away > 2) & (away <= 6)]
    low = float(np.median(around)) if around.size > 20 else math.nan
    return float(spectrum[away <= 1].max()) / low if low > 0 else math.nan


# ---- words ---------------------------------------------------------------------------------------
def _words(judged: PtychographyJudgement, result: PtychographyResult) -> list[str]:
    found: Mapping[str, bool] = {
        f"the iteration {result.status}: {result.reason}": result.status == "diverged",
        **_of_the_error(judged),
        f"{judged.edge_share:.1%} of the probe lies at the edge of its window: a wrong defocus, or "
        "detector pixels too large": judged.edge_share > _EDGE,
        f"{judged.beside_share:.0%} of the probe lies beyond the aperture: wrong convergence "
        "angle, pixel size or positions": judged.beside_share > _BESIDE,
        f"{len(judged.outliers)} patterns are explained much worse than the others, the first at "
        f"{tuple(judged.outliers[0].tolist()) if len(judged.outliers) else ()}: damaged, or out "
        "of place": len(judged.outliers) > 0,
        **_ambiguities(judged, result),
        "halves of the data agree at no resolution: what is seen is noise, or wrong": (
            judged.halves is not None and math.isnan(judged.resolution_A)
        ),
    }
    return [words for words, true in found.items() if true]


def _of_the_error(judged: PtychographyJudgement) -> dict[str, bool]:
    ratio, errors = judged.error_ratio, judged.errors
    above = max(float(errors[-1]) - judged.expected_error, 0.0) if len(errors) else 0.0
    fell = float(errors[-6] - errors[-1]) if len(errors) > 5 else 0.0
    return {
        f"the error is {ratio:.2f} x what counting noise explains: more modes or slices, other "
        "positions, rotation or defocus, or counts that are no electrons": ratio > _MISFIT,
        f"the error is {ratio:.2f} x what counting noise gives: noise is fitted, or counts are "
        "no electrons": ratio < _OVERFIT,
        "the error was still falling: more iterations": fell > max(
            _STILL * above, 0.01 * float(errors[-1]) if len(errors) else 0.0
        ),
    }  # fmt: skip


def _ambiguities(judged: PtychographyJudgement, result: PtychographyResult) -> dict[str, bool]:
    """What object and probe, or object and scan, can exchange without a change of the patterns."""
    extent = (np.array(result.positions_px.shape[:2]) - 1) * np.array(result.optics.R_steps_A)
    across = float(np.abs(np.array(judged.ramp_rad_per_A) * extent).max())
    away = math.hypot(*judged.center_A)
    width = 0.61 * result.optics.wavelength_A / (result.optics.semiangle_mrad * 1e-3)
    return {
        f"the phase is a ramp of {across:.2g} rad across the image, as an origin of the patterns "
        "that is wrong makes it": across > math.pi,
        f"the object lets {judged.transmission:.2f} of the amplitude through: object and probe are "
        "known but for a factor, and shared power between them": abs(judged.transmission - 1)
        > 0.15,
        f"the probe lies {away:.2g} Å beside the middle of its window, and the object is displaced "
        "by as much": away > width,
        f"the spectrum of the phase rises {judged.raster:.1f} times at the frequencies of the "
        "scan: a raster artefact, unless the specimen has that period": judged.raster > _RASTER,
    }


def _to_parts(judged: PtychographyJudgement) -> dict[str, Any]:
    halves = judged.halves
    return {
        **vars(judged),
        "warnings": list(judged.warnings),
        "halves": None if halves is None else {**vars(halves), "history": halves.history.to_dict()},
        "history": judged.history.to_dict(),
    }


def _from_parts(parts: Mapping[str, Any]) -> PtychographyJudgement:
    halves = parts["halves"]
    if halves is not None:
        halves = RingCorrelation(**{**halves, "history": History.from_dict(halves["history"])})
    changed = {
        "warnings": tuple(parts["warnings"]),
        "center_A": tuple(parts["center_A"]),
        "ramp_rad_per_A": tuple(parts["ramp_rad_per_A"]),
        "halves": halves,
        "history": History.from_dict(parts["history"]),
    }
    return PtychographyJudgement(**{**parts, **changed})


register_result("ptychography-judgement", PtychographyJudgement, _to_parts, _from_parts)
