"""A search for disks on a few patterns, with the reason for everything it does."""

from __future__ import annotations

import math
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.cube import Cube, check_cube
from py4DSTEM.core.detector import Detector
from py4DSTEM.core.parameters import numbers
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.kernels import compiled
from py4DSTEM.kernels.twins_disks import DISK, Candidate, correlation
from py4DSTEM.process.bragg.detect import FindBraggDisks, Subpixel, as_mask, peaks_of_rows
from py4DSTEM.process.bragg.search import Memo, Search, anew, plan_search, sample_patterns
from py4DSTEM.process.bragg.spot import Spot
from py4DSTEM.process.bragg.spots import measure_spot_width
from py4DSTEM.process.probe import Probe
from py4DSTEM.process.probe_kernels import KernelKind
from py4DSTEM.stream.options import RunOptions

__all__ = ["REASONS", "Preview", "Previews", "preview_bragg_disks", "spread_positions"]

Float = NDArray[np.float64]
T = TypeVar("T")
_KEPT = 64
"""Values that `Previews` remember: patterns looked at, samples, probes."""

REASONS = {
    "weak": "intensity not significant",
    "moved": "the fit left the maximum",
    "hidden": "too few usable pixels",
    "close": "on top of a brighter disk",
    "crowded": "more than max_peaks",
    "near": "within min_spacing_px of a higher maximum",
    "faint": "below min_intensity or min_relative_intensity",
}
"""What the verdicts on candidates mean."""


@dataclass(frozen=True, eq=False, repr=False)
class Preview:
    """What `find_bragg_disks` would find in n patterns of a scan, and why.

    Parameters
    ----------
    positions : (n, 2) int64
        Scan positions (rx, ry).
    patterns : (n, Qx, Qy), dtype of the scan
    correlations : (n, Qx, Qy) float64
        Smoothed correlation, of which maxima above `threshold` are candidates.
    peaks : tuple of n structured arrays
        The disks, as `BraggPeaks` holds them.
    candidates : tuple of n tuples of Candidate
        All maxima, disks or not: ``.pixel, .height, .verdict, .row``; verdicts are ``"disk"`` and
        the keys of `REASONS`.
    chosen : mapping
        Parameter → (value, reason) of everything that was automatic.
    probe_radius_px, threshold : float
    seconds : float
        Estimated duration of the whole scan with the default number of workers, without reading.
    """

    positions: NDArray[np.int64]
    patterns: NDArray[Any]
    correlations: Float
    peaks: tuple[NDArray[Any], ...]
    candidates: tuple[tuple[Candidate, ...], ...]
    chosen: Mapping[str, tuple[float, str]]
    probe_radius_px: float
    threshold: float
    seconds: float
    name: str = "preview"

    def __repr__(self) -> str:
        found = [len(p) for p in self.peaks]
        return f"<Preview of {len(found)} patterns: {min(found)}–{max(found)} disks each>"

    @property
    def counts(self) -> NDArray[np.int64]:
        """Disks in each pattern, (n,) int64."""
        return np.array([len(found) for found in self.peaks], np.int64)

    def histogram(self, most_bins: int = 12) -> tuple[NDArray[np.int64], Float]:
        """How many patterns hold how many disks: numbers (b,), and edges (b + 1,) of the bins."""
        low, high = int(self.counts.min()), int(self.counts.max()) + 1
        width = -(-(high - low) // most_bins)
        edges = np.arange(low, high + width, width, dtype=np.float64)
        return np.histogram(self.counts, edges)[0].astype(np.int64), edges

    def left_out(self, index: int) -> dict[str, int]:
        """How many candidates of a pattern are no disks, by reason."""
        return dict(Counter(c.verdict for c in self.candidates[index] if c.verdict != DISK))

    def text(self) -> str:
        """What was chosen and found, in words."""
        lines = [f"Bragg disks of radius {self.probe_radius_px:.2f} px", "", "Chosen:"]
        lines += [f"  {k} = {v:.4g}: {why}" for k, (v, why) in self.chosen.items()]
        lines += ["", "Found:"]
        for k, (rx, ry) in enumerate(self.positions):
            reasons = [f"{n} {REASONS[why]}" for why, n in self.left_out(k).items()]
            rest = f"; left out: {', '.join(reasons)}" if reasons else ""
            lines.append(f"  ({rx}, {ry}): {len(self.peaks[k])} disks{rest}")
        lines += ["", f"The whole scan takes about {self.seconds:.2g} s, and the time to read it."]
        return "\n".join(lines)


def _to_parts(preview: Preview) -> dict[str, Any]:
    """Lists of lists as one array each, with the number in each list."""
    candidates = [c for some in preview.candidates for c in some]
    return {
        **vars(preview),
        "peaks": np.concatenate(preview.peaks),
        "peak_counts": [len(found) for found in preview.peaks],
        "candidates": [(c.pixel, c.height, c.verdict) for c in candidates],
        "candidate_rows": np.array([c.row for c in candidates]).reshape(len(candidates), -1),
        "candidate_counts": [len(some) for some in preview.candidates],
    }


def _from_parts(parts: Mapping[str, Any]) -> Preview:
    known = dict(parts)
    rows, counts = known.pop("candidate_rows"), np.cumsum(known.pop("candidate_counts"))
    candidates = [
        Candidate(pixel, height, verdict, row)
        for (pixel, height, verdict), row in zip(known["candidates"], rows, strict=True)
    ]
    parts_of = zip([0, *counts], counts, strict=False)
    known["candidates"] = tuple(tuple(candidates[i:j]) for i, j in parts_of)
    known["peaks"] = tuple(np.split(known["peaks"], np.cumsum(known.pop("peak_counts"))[:-1]))
    return Preview(**known)


register_result("preview", Preview, _to_parts, _from_parts)


def preview_bragg_disks(
    cube: Cube, probe: Probe | Spot | str | ArrayLike | None = None, *,
    positions: Sequence[tuple[int, int]] | None = None,
    subpixel: Subpixel = "fit", kernel: KernelKind = "auto", corr_power: float = 1.0,
    stabilise: bool = True, sigma_cc_px: float | None = None, min_significance: float = 5.0,
    min_intensity: float = 0.0, min_relative_intensity: float = 0.0, relative_to: int = 0,
    min_spacing_px: float | None = None, spacing_px: float | None = None,
    edge_px: float | None = None, max_peaks: int = 100, threshold: float | None = None,
    slope: Literal["auto"] | float = "auto", gain: float | None = None, read_noise: float = 0.0,
    saturation: float | None = None, leave_out_defects: bool = True, samples: int = 49,
    mask: Detector | ArrayLike | None = None,
) -> Preview:  # fmt: skip
    """Search a few patterns for disks, as `find_bragg_disks` would, and tell why.

    Parameters
    ----------
    cube : DataCube
    probe : Probe, path or (Qx, Qy) array, optional
        The unscattered disk; None: measured in the scan.
    positions : sequence of (rx, ry), optional
        None: six that are spread over the scan.
    subpixel, kernel, corr_power, stabilise, sigma_cc_px
    min_significance, min_intensity, min_relative_intensity, relative_to
    min_spacing_px, spacing_px, edge_px, max_peaks, threshold, slope
    gain, read_noise, saturation, leave_out_defects, samples
        As of `find_bragg_disks`.
    mask : Detector or (Qx, Qy) bool, optional
        Pixels to use.

    Returns
    -------
    Preview
        ``.text()``; `show` draws it: circles around disks, crosses on what was left out.

    Raises
    ------
    ParameterError
        As `find_bragg_disks`; or a position is outside the scan.

    Examples
    --------
    >>> from py4DSTEM.simulate import strained_lattice
    >>> scan = strained_lattice((4, 4), (64, 64), probe_radius_px=3.0, seed=1)
    >>> preview = preview_bragg_disks(scan.cube, scan.truth.probe, positions=[(0, 0), (2, 3)])
    >>> len(preview.peaks), preview.chosen["slope"][1]
    (2, 'disks are even')
    """
    wanted = FindBraggDisks(
        probe=probe, mask=as_mask(mask), subpixel=subpixel, kernel=kernel, corr_power=corr_power,
        stabilise=stabilise, sigma_cc_px=sigma_cc_px, min_significance=min_significance,
        min_intensity=min_intensity, min_relative_intensity=min_relative_intensity,
        relative_to=relative_to, min_spacing_px=min_spacing_px, spacing_px=spacing_px,
        edge_px=edge_px, max_peaks=max_peaks, threshold=threshold, slope=slope, gain=gain,
        read_noise=read_noise, saturation=saturation, leave_out_defects=leave_out_defects,
        samples=samples,
    )  # fmt: skip
    places, patterns = _patterns(cube, positions, anew)
    return _previewed(cube, plan_search(cube, wanted, compiled()), places, patterns)


class Previews:
    """Previews of one scan, one after the other: what two of them share is made once.

    For sliders: a preview of nine patterns of 128 x 128 pixels takes about a tenth of a second.

    Parameters
    ----------
    cube : DataCube

    Examples
    --------
    >>> from py4DSTEM.simulate import strained_lattice
    >>> scan = strained_lattice((4, 4), (64, 64), probe_radius_px=3.0, seed=1)
    >>> previews = Previews(scan.cube)
    >>> wanted = FindBraggDisks(probe=scan.truth.probe, min_relative_intensity=0.5)
    >>> [len(peaks) for peaks in previews.preview(wanted, [(0, 0), (2, 3)]).peaks]
    [1, 1]
    """

    def __init__(self, cube: Cube) -> None:
        self._cube = cube
        self._known: OrderedDict[Hashable, Any] = OrderedDict()
        self._search: Search | None = None

    def preview(
        self, wanted: FindBraggDisks, positions: Sequence[tuple[int, int]] | None = None
    ) -> Preview:
        """What the search `wanted` finds at `positions`; see `preview_bragg_disks`."""
        places, patterns = _patterns(self._cube, positions, self._memo)
        self._search = plan_search(self._cube, wanted, compiled(), memo=self._memo)
        return _previewed(self._cube, self._search, places, patterns)

    def spot(self) -> Spot:
        """The spots of the scan, as `find_spots` measures them."""
        return Spot(self._memo("spot", lambda: measure_spot_width(self._cube)[0]))

    def images(self) -> dict[str, DiffractionSlice]:
        """Of the last preview: the "probe", and the "template" that patterns are correlated with.

        Both with the middle of the disk in the middle of the image.
        """
        if self._search is None:
            return {}
        shape, calibration = self._cube.Q_shape, self._cube.calibration
        middle = [n // 2 for n in shape]
        x, y = np.indices(shape, dtype=np.float64)
        probe = self._search.probe.height_at(x - middle[0], y - middle[1])
        template = np.fft.irfft2(np.conj(self._search.plan.smoothed), s=self._search.plan.fft_shape)
        template = np.roll(template, middle, (0, 1))[: shape[0], : shape[1]]
        named = {"probe": probe, "template": template}
        return {k: DiffractionSlice(v, calibration, name=k) for k, v in named.items()}

    def _memo(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self._known:
            self._known[key] = make()
        self._known.move_to_end(key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        known: T = self._known[key]
        return known


def spread_positions(R_shape: tuple[int, int], count: int = 9) -> list[tuple[int, int]]:
    """About `count` scan positions, spread evenly and away from the borders.

    >>> spread_positions((30, 60))
    [(5, 10), (5, 30), (5, 50), (15, 10), (15, 30), (15, 50), (25, 10), (25, 30), (25, 50)]
    >>> spread_positions((1, 5), 4)
    [(0, 1), (0, 3)]
    """
    side = max(1, math.isqrt(count))
    rows, columns = (sorted({(2 * k + 1) * n // (2 * side) for k in range(side)}) for n in R_shape)
    return [(x, y) for x in rows for y in columns]


def _previewed(
    cube: Cube, search: Search, places: NDArray[np.int64], patterns: NDArray[Any]
) -> Preview:
    from py4DSTEM.kernels.disk_reasons import examine_disks  # compiled: slow to import

    peaks, seconds = _searched(search, patterns)
    return Preview(
        positions=places,
        patterns=patterns,
        correlations=np.stack([correlation(pattern, search.plan) for pattern in patterns]),
        peaks=peaks,
        candidates=tuple(tuple(examine_disks(pattern, search.plan)) for pattern in patterns),
        chosen=search.choices,
        probe_radius_px=search.probe.radius_px,
        threshold=search.plan.threshold,
        seconds=seconds * cube.R_shape[0] * cube.R_shape[1] / RunOptions().worker_count(),
    )


def _patterns(
    cube: Cube, positions: Sequence[tuple[int, int]] | None, memo: Memo
) -> tuple[NDArray[np.int64], NDArray[Any]]:
    check_cube(cube, "the search for Bragg disks")
    if positions is None:
        spread, patterns = sample_patterns(cube, 25)
        six = np.unique(np.linspace(0, len(spread) - 1, 6).round().astype(int))
        return spread[six], patterns[six]
    if not len(positions):
        raise ParameterError("no positions to look at: give at least one (rx, ry)")
    for rx, ry in (numbers("a position", place, 2) for place in positions):
        if not (0 <= rx < cube.R_shape[0] and 0 <= ry < cube.R_shape[1]):
            raise ParameterError(f"position {(rx, ry)} is outside the scan of {cube.R_shape}")
    places = [(int(x), int(y)) for x, y in positions]
    single = [memo(("pattern", *place), partial(_pattern, cube, *place)) for place in places]
    return np.array(places), np.stack(single)


def _pattern(cube: Cube, rx: int, ry: int) -> NDArray[Any]:
    pattern: NDArray[Any] = cube[rx, ry].data
    return pattern


def _searched(search: Search, patterns: NDArray[Any]) -> tuple[tuple[NDArray[Any], ...], float]:
    """The disks of every pattern, and the seconds that one pattern takes."""
    find = compiled().find_disks
    find(patterns[:1], search.plan)  # compiled and in cache from here on
    start = time.perf_counter()
    found = find(patterns, search.plan)
    seconds = (time.perf_counter() - start) / len(patterns)
    parts = np.split(peaks_of_rows(found.rows), np.cumsum(found.counts)[:-1])
    return tuple(parts), seconds
