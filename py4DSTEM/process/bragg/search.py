"""From what the user asked for to what the kernel needs: every default has a reason.

A few patterns, spread over the scan, tell the probe, the distance between disks, the noise and how
uneven the disks are.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.cube import Cube, check_cube
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.kernels.api import DISK_FIELDS, DiskPlan, FoundDisks
from py4DSTEM.kernels.twins_disks import correlation
from py4DSTEM.process.bragg.spot import Spot
from py4DSTEM.process.bragg.template import Template, make_template
from py4DSTEM.process.defects import counting_noise, dead_pixels, hot_pixels
from py4DSTEM.process.probe import Probe, measure_probe
from py4DSTEM.process.probe_kernels import KernelKind

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels
    from py4DSTEM.process.bragg.detect import FindBraggDisks

__all__ = ["Memo", "Search", "anew", "plan_search", "sample_patterns"]

Float = NDArray[np.float64]
T = TypeVar("T")
SUBPIXEL = {"pixel": 0, "parabola": 1, "dft": 2, "fit": 3}
_Z, _Z_ALONE = 4.0, 6.0
"""A maximum must stand so many standard deviations of noise above zero to be looked at.

The first where the fit decides, in the noise between disks; the second where nothing else tells
noise from disks, in the noise of the brighter parts.
"""
_FIRST_SLOPE = 0.1
"""Prior with which the unevenness is first measured: wide enough to let clear slopes through."""
_LEAST_SLOPE = 0.01
_SLOPE_ROUNDS = 4
_NOISE_ROUNDS = 3
_FEWEST_FOR_DEFECTS = 16
_SPOT_RADIUS_PX = 2.0
"""Smaller disks can look like single bright pixels."""
_LEAST_VISIBLE = 0.45
"""Share of a disk that must be on usable pixels."""
_CLEAR = 10.0
"""Significance of disks from which the noise and the unevenness are learned."""
_COLUMN = {name: k for k, name in enumerate(DISK_FIELDS)}


class Memo(Protocol):
    """What makes a value, or finds it again where it was made before under the same key."""

    def __call__(self, key: Hashable, make: Callable[[], T]) -> T: ...


def anew(key: Hashable, make: Callable[[], T]) -> T:
    """The memo that remembers nothing."""
    return make()


@dataclass(frozen=True, eq=False)
class Search:
    """A search for disks, ready to run.

    Parameters
    ----------
    plan : DiskPlan
        What the kernel needs.
    probe : Probe or Spot
    choices : mapping
        Name → (value, reason) of everything that was not given.
    """

    plan: DiskPlan
    probe: Probe | Spot
    choices: Mapping[str, tuple[float, str]] = field(default_factory=dict)

    def choose(self, name: str, value: float, reason: str) -> Search:
        """With one more choice on record."""
        return replace(self, choices={**self.choices, name: (value, reason)})

    @property
    def slope_prior(self) -> float:
        """Standard deviation (1/px) of the prior of the slopes."""
        return 1 / math.sqrt(self.plan.slope_information)


def sample_patterns(
    cube: Cube, samples: int, weights: Float | None = None
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    """About `samples` scan positions (n, 2), spread evenly, and their patterns (n, Qx, Qy).

    `weights` (Rx, Ry): only positions above zero, if there are any.
    """
    check_cube(cube, "the search for Bragg disks")
    side = max(1, math.isqrt(samples))
    xs, ys = (
        np.unique(np.linspace(0, n - 1, min(side, n)).round().astype(int)) for n in cube.R_shape
    )
    positions = np.array([(x, y) for x in xs for y in ys])
    if weights is not None and (weights > 0).any():
        allowed = np.argwhere(weights.reshape(cube.R_shape) > 0)
        every = np.linspace(0, len(allowed) - 1, min(samples, len(allowed))).round().astype(int)
        positions = allowed[np.unique(every)]
    return positions, np.stack([cube[int(x), int(y)].data for x, y in positions])


def plan_search(
    cube: Cube,
    wanted: FindBraggDisks,
    kernels: Kernels,
    weights: Float | None = None,
    *,
    memo: Memo = anew,
) -> Search:
    """Settle every parameter of a search.

    `memo` may remember what does not follow from the thresholds, for the next search in the same
    scan with the same `weights`.

    Raises
    ------
    ParameterError
        The probe cannot be measured in the scan, or does not fit on the detector.
    """
    _, patterns = memo(
        ("samples", wanted.samples), lambda: sample_patterns(cube, wanted.samples, weights)
    )
    search = _first_search(cube, wanted, patterns, memo)
    if wanted.spacing_px is None:
        search = _with_spacing(search, wanted, _disks_of(search, patterns, kernels), memo)
    else:
        search = _planned(search, wanted, wanted.spacing_px, memo)
    if wanted.subpixel == "fit":
        search = _with_noise(search, wanted, patterns, kernels)
        search = _with_slopes(search, wanted, patterns, kernels)
    return _with_threshold(search, wanted, patterns, memo)


# ---- probe and first plan ------------------------------------------------------------------------
def _first_search(cube: Cube, wanted: FindBraggDisks, patterns: NDArray[Any], memo: Memo) -> Search:
    probe, choices = wanted.probe, {}
    if probe is None:
        probe = memo(("probe", wanted.samples), lambda: _probe_of(patterns))
        choices["probe"] = (probe.radius_px, "radius of the direct beam in sampled patterns")
    _check_probe(probe, cube.Q_shape)
    mask = _mask(wanted, cube)
    if wanted.leave_out_defects:
        small = probe.radius_px < _SPOT_RADIUS_PX
        every = memo(("defects", wanted.samples, small), lambda: _defects(patterns, small))
        defects = every & (mask > 0)
        mask[defects] = 0
        why = "hot or dead in the sampled patterns: left out"
        choices |= {"defective pixels": (int(defects.sum()), why)} if defects.any() else {}
    gain = wanted.gain or _first_gain(patterns, mask, wanted.read_noise)
    empty = _bare_plan(cube, wanted, mask, gain)
    return _planned(Search(empty, probe, choices), wanted, None, memo)


def _probe_of(patterns: NDArray[Any]) -> Probe:
    """The direct beam, from the pattern, or the mean of all, in which its rim is described best.

    At a low dose only the mean tells the rim; where the beam wanders or its filling changes, some
    single pattern may do so better.
    """
    problems, best = [], None
    single = patterns[:: max(1, len(patterns) // 9)]
    for source in (Cube(patterns[:, None]), *single):
        try:
            probe = measure_probe(source)
        except (ParameterError, SolveError) as error:
            problems.append(str(error))
            continue
        if best is None or probe.sigma_radius_px < best.sigma_radius_px:
            best = probe
    if best is None:
        raise ParameterError(
            "no probe could be measured in this scan; give probe=measure_probe(vacuum) or "
            f"probe=synthetic_probe(cube.Q_shape, radius_px): {problems[0]}"
        )
    return best


def _check_probe(probe: Probe | Spot, Q_shape: tuple[int, int]) -> None:
    if 2 * probe.radius_px >= min(Q_shape):
        raise ParameterError(
            f"a probe of radius {probe.radius_px:.3g} px does not fit on patterns of {Q_shape}"
        )


def _mask(wanted: FindBraggDisks, cube: Cube) -> NDArray[np.float32]:
    if wanted.mask is None:
        return np.ones(cube.Q_shape, np.float32)
    weights = wanted.mask.weights(cube.Q_shape, cube.calibration)
    if weights.shape != cube.Q_shape:
        raise ShapeError(f"a mask of {weights.shape} for patterns of {cube.Q_shape}")
    if not (weights > 0.5).any():
        raise ParameterError("the mask leaves no pixel: it is True where pixels are to be used")
    return (weights > 0.5).astype(np.float32)


def _defects(patterns: NDArray[Any], small: bool) -> NDArray[np.bool_]:
    """Pixels (Qx, Qy) that are hot or dead in patterns from all over the scan."""
    count, counts = len(patterns), patterns.dtype.kind in "bui"
    if count < _FEWEST_FOR_DEFECTS or small:
        return np.zeros(patterns.shape[1:], np.bool_)
    values = np.where(np.isfinite(patterns), patterns, 0.0)
    mean, std = values.mean(axis=0), values.std(axis=0)
    hot = hot_pixels(mean, floor=counting_noise(mean, count, counts))
    return hot | dead_pixels(mean, std, count, counts)


def _first_gain(patterns: NDArray[Any], mask: NDArray[np.float32], read_noise: float) -> float:
    """Counts per electron, from how neighbouring pixels differ: 1 for integers that fit that.

    Smooth parts of a pattern differ from the mean of four neighbours by noise alone, whose variance
    is 5/4 gain times the mean.
    """
    if patterns.dtype.kind in "bui":
        return 1.0
    v = np.where(np.isfinite(patterns), patterns, 0.0).astype(np.float64) * mask
    around = 0.25 * (v[:, :-2, 1:-1] + v[:, 2:, 1:-1] + v[:, 1:-1, :-2] + v[:, 1:-1, 2:])
    difference = (v[:, 1:-1, 1:-1] - around) ** 2
    bright = around > 0.25 * np.percentile(around, 99)
    level = around[bright].mean() if bright.any() else 0.0
    if not level > 0:
        return 1.0
    # The median of squares of normal numbers is 0.455 of their mean, and disk edges do not count.
    variance = float(np.median(difference[bright])) / 0.455 / 1.25
    return max(variance - read_noise**2, 1e-3 * variance, 1e-12 * level**2) / level


def _bare_plan(
    cube: Cube, wanted: FindBraggDisks, mask: NDArray[np.float32], gain: float
) -> DiskPlan:
    """All of a plan that does not follow from the probe."""
    none = np.zeros(0, np.float32)
    whole = np.zeros(0, np.int64)
    nothing = np.zeros((0, 0), np.complex64)
    saturation = wanted.saturation if wanted.saturation is not None else np.finfo("f4").max
    return DiskPlan(
        fft_shape=_fft_shape(cube.Q_shape),
        template=nothing,
        smoothed=nothing,
        mask=mask,
        masked=int((mask == 0).any()),
        centers=mask,
        doubtful=int(wanted.saturation is not None or cube.dtype.kind == "f"),
        table=np.zeros((0, 0, 3, 0), np.float32),
        offset_x=whole,
        offset_y=whole,
        pixel_x=none,
        pixel_y=none,
        counts=none,
        core=none,
        ring=none,
        reach=0,
        area=0.0,
        edge_variance=0.0,
        subpixel=SUBPIXEL[wanted.subpixel],
        corr_power=float(wanted.corr_power),
        stabilise=int(wanted.stabilise),
        threshold=0.0,
        min_relative=float(wanted.min_relative_intensity),
        min_intensity=float(wanted.min_intensity),
        min_significance=float(wanted.min_significance),
        min_spacing_px=0.0,
        relative_to=int(wanted.relative_to),
        edge_px=0,
        max_peaks=int(wanted.max_peaks),
        gain=float(gain),
        read_variance=float(wanted.read_noise) ** 2,
        saturation=float(saturation),
        least_background=0.01 * float(gain),
        slope_information=0.0,
        steepest=0.0,
        max_shift_px=0.0,
        min_visible=0.0,
    )


def _fft_shape(Q_shape: tuple[int, int]) -> tuple[int, int]:
    """Lengths without large prime factors, and even along y."""
    from scipy.fft import next_fast_len  # slow to import

    x, y = next_fast_len(Q_shape[0]), next_fast_len(Q_shape[1], real=True)
    while y % 2:
        y = next_fast_len(y + 1, real=True)
    return x, y


# ---- the plan for a probe and a spacing ----------------------------------------------------------
def _planned(
    search: Search, wanted: FindBraggDisks, spacing_px: float | None, memo: Memo
) -> Search:
    """The plan for disks `spacing_px` apart (None: not known yet)."""
    plan, probe = search.plan, search.probe
    reach = _reach(probe, spacing_px)
    template = memo(("template", probe, reach), lambda: make_template(probe, reach))
    kind, plain = _kernel_kinds(wanted, probe)
    spectrum = _spectrum(probe.kernel(kind, spacing_px=spacing_px, Q_shape=plan.fft_shape))
    sharp = _spectrum(probe.kernel(plain, spacing_px=spacing_px, Q_shape=plan.fft_shape))
    search, widths = _widths(search, wanted)
    radius = probe.radius_px
    slope = _FIRST_SLOPE if wanted.slope == "auto" else wanted.slope
    plan = plan._replace(
        template=sharp.astype(np.complex64),
        smoothed=(spectrum * _gaussian(plan.fft_shape, widths["sigma_cc_px"])).astype(np.complex64),
        centers=_possible_centers(plan.mask, template),
        edge_variance=probe.edge_px**2,
        min_spacing_px=widths["min_spacing_px"],
        edge_px=math.ceil(widths["edge_px"]),
        slope_information=(radius / max(slope, 1e-4)) ** 2,
        steepest=1.5 / radius,
        max_shift_px=max(1.5, 0.5 * radius),
        min_visible=_LEAST_VISIBLE * float(template.exists.sum()),
        **_tabulated(template),
    )
    return _with_noise_floor(replace(search, plan=plan), wanted, 1.0)


def _widths(search: Search, wanted: FindBraggDisks) -> tuple[Search, dict[str, float]]:
    """Widths as they were given; those that were not, as the radius of the disks suggests."""
    radius = search.probe.radius_px
    # Whole pixels count: radii a little off a whole number must not differ by a row of disks.
    seen = (0.5 * radius if wanted.subpixel == "fit" else radius) - 0.25
    fifth = float(np.clip(0.2 * radius, 0.5, 3.0))
    suggested = {
        "sigma_cc_px": (fifth, "a fifth of the radius: joins the noisy top of a maximum"),
        "edge_px": (max(0.25, seen), "at least so much of a disk must be seen"),
        "min_spacing_px": (max(1.5 * radius, 2.0), "1.5 radii"),
    }
    widths: dict[str, float] = {}
    for name, (value, reason) in suggested.items():
        given = getattr(wanted, name)
        if given is None:
            search = search.choose(name, value, reason)
        widths[name] = value if given is None else float(given)
    return search, widths


def _tabulated(template: Template) -> dict[str, Any]:
    """The part of a plan that is the template."""
    return {
        "table": template.table,
        "offset_x": np.ascontiguousarray(template.offsets[:, 0]),
        "offset_y": np.ascontiguousarray(template.offsets[:, 1]),
        "pixel_x": template.offsets[:, 0].astype(np.float32),
        "pixel_y": template.offsets[:, 1].astype(np.float32),
        "counts": template.exists,
        "core": template.core.astype(np.float32),
        "ring": template.ring.astype(np.float32),
        "reach": int(np.abs(template.offsets).max()),
        "area": template.area,
    }


def _kernel_kinds(wanted: FindBraggDisks, probe: Probe | Spot) -> tuple[KernelKind, KernelKind]:
    """Kinds of kernel to look for maxima with, and to refine them with by the correlation.

    A trench makes the search blind to background, but its edges carry noise: without smoothing they
    cost precision.  Whitening suppresses the background by itself, and amplifies what is near the
    zeros of a kernel.
    """
    if wanted.kernel != "auto" or probe.patterned:
        return wanted.kernel, wanted.kernel
    return ("auto" if wanted.corr_power == 1 else "flat"), "flat"


def _spectrum(kernel: Float) -> NDArray[np.complex128]:
    """What the transform of a pattern is multiplied with; holds the scale of the inverse."""
    return np.asarray(np.conj(np.fft.rfft2(kernel)) / kernel.size, np.complex128)


def _possible_centers(mask: NDArray[np.float32], template: Template) -> NDArray[np.float32]:
    """1 where enough of a disk centred there is on usable pixels: seen from its middle."""
    if (mask > 0).all():
        return mask
    from scipy import ndimage  # slow to import

    inside = template.table[..., 0, :].mean(axis=(0, 1)) > 0.5
    x, y = (template.offsets[inside] + template.offsets.max()).T
    footprint = np.zeros((2 * template.offsets.max() + 1,) * 2)
    footprint[x, y] = 1 / inside.sum()
    visible = ndimage.correlate(mask.astype(np.float64), footprint, mode="nearest")
    return np.asarray(visible >= _LEAST_VISIBLE, np.float32)


def _reach(probe: Probe | Spot, spacing_px: float | None) -> float:
    """Far enough to see the background, and not into a neighbouring disk."""
    rim = probe.radius_px + 2 * probe.edge_px
    wide = rim + 2.2
    if spacing_px is None:
        return wide
    return max(min(wide, spacing_px - rim - 0.5), rim + 1.2)


def _gaussian(shape: tuple[int, int], sigma: float) -> Float:
    kx, ky = np.fft.fftfreq(shape[0]), np.fft.rfftfreq(shape[1])
    return np.exp(-2 * np.pi**2 * sigma**2 * (kx[:, None] ** 2 + ky[None, :] ** 2))


def _with_noise_floor(search: Search, wanted: FindBraggDisks, mean_counts: float) -> Search:
    """A threshold from the noise of white counts, unless one is given."""
    plan = search.plan
    if wanted.threshold is not None:
        return replace(search, plan=plan._replace(threshold=float(wanted.threshold)))
    kernel = np.fft.irfft2(plan.smoothed, s=plan.fft_shape)
    norm = math.sqrt(float((kernel**2).sum())) * math.prod(plan.fft_shape)
    if plan.stabilise:
        variance = _stabilised_variance(mean_counts + plan.read_variance / plan.gain**2)
    else:
        variance = mean_counts * plan.gain**2 + plan.read_variance
    threshold = _sigmas(wanted) * norm * math.sqrt(variance)
    return replace(search, plan=plan._replace(threshold=threshold))


def _sigmas(wanted: FindBraggDisks) -> float:
    return _Z if wanted.subpixel == "fit" else _Z_ALONE


def _stabilised_variance(mean: float) -> float:
    """Variance of √(n + 3/8) for Poisson counts n: 1/4 for many, less for few."""
    if mean > 50:
        return 0.25
    n = np.arange(200)
    log_factorials = np.concatenate([[0.0], np.cumsum(np.log(n[1:]))])
    p = np.exp(n * math.log(max(mean, 1e-9)) - mean - log_factorials)
    root = np.sqrt(n + 0.375)
    return float((p * root**2).sum() - (p * root).sum() ** 2)


# ---- what the samples tell -----------------------------------------------------------------------
def _disks_of(search: Search, patterns: NDArray[Any], kernels: Kernels) -> FoundDisks:
    """Disks by cross correlation, whose noise is known, whatever is asked for in the end."""
    return kernels.find_disks(patterns, search.plan._replace(corr_power=1.0))


def _with_spacing(search: Search, wanted: FindBraggDisks, found: FoundDisks, memo: Memo) -> Search:
    nearest = _nearest_distances(found)
    if len(nearest) < 3:
        reason = "too few neighbours in the sampled patterns to tell: a wide trench would do harm"
        return search.choose("spacing_px", np.nan, reason)
    spacing = float(np.percentile(nearest, 10))
    search = _planned(search, wanted, spacing, memo)
    return search.choose("spacing_px", spacing, "distance of nearest disks in sampled patterns")


def _nearest_distances(found: FoundDisks) -> Float:
    """Distance of every disk from the nearest other one of its pattern."""
    starts = np.concatenate([[0], np.cumsum(found.counts)])
    distances = []
    for start, stop in pairwise(starts):
        if stop - start < 2:
            continue
        xy = found.rows[start:stop, :2]
        apart = np.linalg.norm(xy[:, None] - xy[None], axis=-1)
        np.fill_diagonal(apart, np.inf)
        distances.append(apart.min(axis=0))
    return np.concatenate(distances) if distances else np.empty(0)


def _with_noise(
    search: Search, wanted: FindBraggDisks, patterns: NDArray[Any], kernels: Kernels
) -> Search:
    """Counts per electron, so that χ² is one: sigmas are honest for cameras that do not count."""
    if wanted.gain is not None:
        return search
    chi2 = np.nan
    for _ in range(_NOISE_ROUNDS):
        found = _disks_of(search, patterns, kernels)
        clear = found.rows[found.rows[:, _COLUMN["significance"]] > _CLEAR]
        if len(clear) < 5:
            return search.choose("gain", search.plan.gain, "too few clear disks to tell otherwise")
        chi2 = float(np.median(clear[:, _COLUMN["chi2"]]))
        if 0.8 < chi2 < 1.25 and search.plan.gain == 1:
            return search.choose("gain", 1.0, f"counts are electrons: χ² of disks is {chi2:.2f}")
        search = _with_gain(search, wanted, _gain_of_unit_chi2(search.plan, clear, chi2))
        if 0.9 < chi2 < 1.1:
            break
    return search.choose("gain", search.plan.gain, "variance over mean, so that χ² is 1")


def _gain_of_unit_chi2(plan: DiskPlan, clear: Float, chi2: float) -> float:
    """Solve ``gain level + read variance = χ² (old gain level + read variance)``."""
    half_high = 0.5 * clear[:, _COLUMN["intensity"]] / plan.area
    level = float(np.median(clear[:, _COLUMN["background"]] + half_high))
    return plan.gain * max(chi2 + (chi2 - 1) * plan.read_variance / (plan.gain * level), 0.1)


def _with_gain(search: Search, wanted: FindBraggDisks, gain: float) -> Search:
    plan = search.plan._replace(gain=gain, least_background=0.01 * gain)
    return _with_noise_floor(replace(search, plan=plan), wanted, 1.0)


def _with_slopes(
    search: Search, wanted: FindBraggDisks, patterns: NDArray[Any], kernels: Kernels
) -> Search:
    """How uneven disks are, beyond what noise makes of even ones: the prior of the slopes.

    Empirical Bayes: where disks are more uneven than the prior allows, it is widened and the disks
    are fitted again.
    """
    if wanted.slope != "auto":
        return search
    radius, spread = search.probe.radius_px, 0.0
    for _ in range(_SLOPE_ROUNDS):
        found = _disks_of(search, patterns, kernels)
        spread = _slope_spread(found, search.plan.slope_information) * radius
        if spread < search.slope_prior * radius:
            break
        search = _with_slope_prior(search, 1.5 * spread)
    reason = f"disks are uneven by ±{spread:.2g} across a radius"
    prior = max(spread, _LEAST_SLOPE)
    return _with_slope_prior(search, prior).choose(
        "slope", prior, reason if spread > _LEAST_SLOPE else "disks are even"
    )


def _with_slope_prior(search: Search, prior: float) -> Search:
    information = (search.probe.radius_px / prior) ** 2
    return replace(search, plan=search.plan._replace(slope_information=information))


def _slope_spread(found: FoundDisks, information: float) -> float:
    """Standard deviation (1/px) of the true slopes, from fitted ones and their uncertainties.

    Fitted slopes were drawn to zero by the loose prior; undone here.
    """
    slope = found.rows[:, [_COLUMN["slope_x"], _COLUMN["slope_y"]]]
    variance = found.rows[:, _COLUMN["sigma_slope"]] ** 2
    # Posterior precision 1/variance = data precision + information of the prior.
    data = np.maximum(1 / variance - information, 1e-3 * information)
    slope, variance = slope / (data * variance)[:, None], 1 / data
    clear = found.rows[:, _COLUMN["significance"]] > _CLEAR
    known = clear & np.isfinite(slope).all(axis=1) & np.isfinite(variance)
    if known.sum() < 5:
        return 0.0
    slope, variance = slope[known], variance[known, None]
    weights = 1 / (variance + np.median(variance)) ** 2
    total = 2 * float(weights.sum())
    excess = float((weights * (slope**2 - variance)).sum()) / total
    doubt = math.sqrt(2 * float((weights**2 * 2 * variance**2).sum())) / total
    return math.sqrt(excess) if excess > 3 * doubt else 0.0


def _with_threshold(
    search: Search, wanted: FindBraggDisks, patterns: NDArray[Any], memo: Memo
) -> Search:
    if wanted.threshold is not None:
        return search
    if wanted.corr_power != 1:
        level = _correlation_noise(search.plan, patterns)
        plan = search.plan._replace(threshold=_sigmas(wanted) * level)
        reason = (
            f"{_sigmas(wanted):g} standard deviations of the correlation where there are no disks"
        )
        return replace(search, plan=plan).choose("threshold", plan.threshold, reason)
    limit = search.plan.saturation
    mean = memo(
        ("mean", wanted.samples, limit, search.plan.mask.tobytes()),
        lambda: _mean_counts(patterns[:, search.plan.mask > 0].astype(np.float64), limit),
    )
    share = 50 if wanted.subpixel == "fit" else 95
    middle = float(np.percentile(mean, share)) if mean.size else 0.0
    level = max(middle / search.plan.gain, 1e-3)
    search = _with_noise_floor(search, wanted, level)
    reason = f"{_sigmas(wanted):g} standard deviations of noise at {level:.3g} electrons per pixel"
    return search.choose("threshold", search.plan.threshold, reason)


def _mean_counts(counts: Float, saturation: float) -> Float:
    """Mean of (n, pixels) over the values that are known, in pixels that have any."""
    known = np.isfinite(counts) & (np.abs(counts) < saturation)
    some = known.any(axis=0)
    mean: Float = np.where(known, counts, 0.0).sum(axis=0)[some] / known.sum(axis=0)[some]
    return mean


def _correlation_noise(plan: DiskPlan, patterns: NDArray[Any]) -> float:
    """Robust standard deviation of whitened correlations: most of a map is not disks."""
    levels = []
    for pattern in patterns[:: max(1, len(patterns) // 9)]:
        values = correlation(pattern, plan)
        levels.append(1.4826 * float(np.median(np.abs(values - np.median(values)))))
    return float(np.median(levels))
