"""How good a scan is: detector, frames, dose, descan and beam in one pass."""

from __future__ import annotations

import html
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.beam import disk_of
from py4DSTEM.process.defects import counting_noise, dead_pixels, hot_pixels, neighbour_middle
from py4DSTEM.process.diffraction import merge_moments, tile_moments
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Measures, Operation, Output, Parts, PerScan, Reduced
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["DiskEstimate", "Quality", "QualityEntry", "QualityReport", "quality"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Verdict = Literal["ok", "warn", "bad"]
_ORDER: tuple[Verdict, ...] = ("ok", "warn", "bad")
_PLACES: dict[Literal["pixels", "positions"], dict[str, str]] = {
    "pixels": {
        "hot pixels": "hot",
        "dead pixels": "dead",
        "saturated pixels": "saturated",
        "pixels not finite": "not finite",
    },
    "positions": {
        "empty frames": "empty",
        "repeated frames": "repeated",
        "shifted frames": "shifted",
        "intensity outliers": "intensity",
    },
}
"""Entries of which there is a map, and its name."""


# ---- the report ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class QualityEntry:
    """One thing that was looked at.

    Parameters
    ----------
    name : str
    value : float, int or None
        None where it could not be determined.
    unit : str
    verdict : "ok", "warn" or "bad"
    explanation : str
        What was found, in words.
    advice : str
        What to do about it; empty where nothing needs to be done.
    uncertainty : float, optional
        One sigma, in the same unit.
    """

    name: str
    value: float | int | None
    unit: str
    verdict: Verdict
    explanation: str
    advice: str = ""
    uncertainty: float | None = None

    @property
    def shown(self) -> str:
        """Value, uncertainty and unit as text."""
        if self.value is None:
            return "unknown"
        number = f"{self.value}" if isinstance(self.value, int) else f"{self.value:.4g}"
        plus = "" if self.uncertainty is None else f" ± {self.uncertainty:.2g}"
        return f"{number}{plus} {self.unit}".rstrip()


@dataclass(frozen=True)
class DiskEstimate:
    """The unscattered disk in the mean pattern: centre and radius in pixels, with uncertainties."""

    center: tuple[float, float]
    radius_px: float
    sigma_center_px: float
    sigma_radius_px: float
    contrast: float


@dataclass(frozen=True, eq=False)
class QualityReport:
    """What `quality` found.

    Parameters
    ----------
    entries : tuple of QualityEntry
        ``report["hot pixels"]`` is one of them.
    pixels : mapping of name to (Qx, Qy) bool
        "hot", "dead", "saturated", "not finite".
    positions : mapping of name to (Rx, Ry) bool
        "empty", "repeated", "shifted", "intensity".
    total : (Rx, Ry) float64
        Intensity of each pattern.
    center_of_mass_px : (Rx, Ry, 2) float64
    mean : (Qx, Qy) float64
        Mean pattern.
    disk : DiskEstimate, optional
    """

    entries: tuple[QualityEntry, ...]
    pixels: Mapping[str, Bool]
    positions: Mapping[str, Bool]
    total: Float
    center_of_mass_px: Float
    mean: Float
    disk: DiskEstimate | None
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "quality"

    @property
    def verdict(self) -> Verdict:
        """The worst verdict of all entries."""
        return max((e.verdict for e in self.entries), key=_ORDER.index, default="ok")

    @property
    def bad_pixels(self) -> Bool:
        """Pixels to repair, (Qx, Qy) bool: hot, dead, or never finite."""
        return self.pixels["hot"] | self.pixels["dead"] | np.isnan(self.mean)

    @property
    def usable_pixels(self) -> Bool:
        """All others, (Qx, Qy) bool."""
        return ~self.bad_pixels

    def places(self, name: str) -> tuple[Literal["pixels", "positions"], NDArray[np.int64]] | None:
        """Which pixels (n, 2) or scan positions (n, 2) an entry is about; None: the whole scan.

        >>> from py4DSTEM import DataCube
        >>> counts = np.full((2, 3, 8, 8), 9, np.uint8)
        >>> counts[1, 2] = 0
        >>> quality(DataCube(counts)).places("empty frames")
        ('positions', array([[1, 2]]))
        """
        for kind, names in _PLACES.items():
            if name in names:
                maps: Mapping[str, Bool] = getattr(self, kind)
                found = maps.get(names[name])
                return None if found is None else (kind, np.argwhere(found))
        return None

    def __getitem__(self, name: str) -> QualityEntry:
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise KeyError(f"no entry {name!r}, only {[e.name for e in self.entries]}")

    def __iter__(self) -> Iterator[QualityEntry]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def text(self) -> str:
        """The report as plain text."""
        width = max((len(e.name) for e in self.entries), default=0)
        lines = [f"{self.name}: {self.verdict}"]
        for e in self.entries:
            lines.append(f"[{e.verdict:>4}] {e.name:<{width}}  {e.shown}: {e.explanation}")
            if e.advice:
                lines.append(f"{'':>7}{'':<{width}}  → {e.advice}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; maps as counts, defective pixels as a list of [qx, qy]."""
        return {
            "name": self.name,
            "verdict": self.verdict,
            "entries": [_entry_dict(e) for e in self.entries],
            "pixels": {k: np.argwhere(v).tolist()[:1000] for k, v in self.pixels.items()},
            "positions": {k: int(v.sum()) for k, v in self.positions.items()},
            "history": self.history.to_dict(),
        }

    def __repr__(self) -> str:
        return f"<QualityReport {self.verdict}: {len(self.entries)} entries>"

    def _repr_html_(self) -> str:
        rows = "".join(_row(e) for e in self.entries)
        return (
            "<table><thead><tr><th></th><th>what</th><th>value</th><th>meaning</th></tr></thead>"
            f"<tbody>{rows}</tbody></table>"
        )


def _entry_dict(entry: QualityEntry) -> dict[str, Any]:
    values = {name: getattr(entry, name) for name in QualityEntry.__dataclass_fields__}
    return {k: v if not isinstance(v, float) or math.isfinite(v) else None
            for k, v in values.items()}  # fmt: skip


def _row(entry: QualityEntry) -> str:
    mark = {"ok": "✔", "warn": "⚠", "bad": "✘"}[entry.verdict]
    color = {"ok": "#2e7d32", "warn": "#b26a00", "bad": "#b71c1c"}[entry.verdict]
    advice = f"<br><b>→</b> {html.escape(entry.advice)}" if entry.advice else ""
    return (
        f'<tr><td style="color:{color}" title="{entry.verdict}">{mark}</td>'
        f"<td>{html.escape(entry.name)}</td><td>{html.escape(entry.shown)}</td>"
        f'<td style="text-align:left">{html.escape(entry.explanation)}{advice}</td></tr>'
    )


# ---- in files ------------------------------------------------------------------------------------
def _to_parts(report: QualityReport) -> dict[str, Any]:
    maps = {f"pixels {name}": image for name, image in report.pixels.items()}
    maps |= {f"positions {name}": image for name, image in report.positions.items()}
    return {
        **maps,
        "total": report.total,
        "center_of_mass_px": report.center_of_mass_px,
        "mean": report.mean,
        "entries": [asdict(e) for e in report.entries],
        "disk": None if report.disk is None else asdict(report.disk),
        "calibration": report.calibration,
        "history": report.history.to_dict(),
        "name": report.name,
    }


def _from_parts(parts: Mapping[str, Any]) -> QualityReport:
    disk = parts["disk"]
    if disk is not None:
        disk = DiskEstimate(**{**disk, "center": tuple(disk["center"])})
    return QualityReport(
        entries=tuple(QualityEntry(**e) for e in parts["entries"]),
        pixels=_maps(parts, "pixels "),
        positions=_maps(parts, "positions "),
        total=parts["total"],
        center_of_mass_px=parts["center_of_mass_px"],
        mean=parts["mean"],
        disk=disk,
        calibration=parts["calibration"],
        history=History.from_dict(parts["history"]),
        name=parts["name"],
    )


def _maps(parts: Mapping[str, Any], prefix: str) -> dict[str, Bool]:
    return {
        name.removeprefix(prefix): np.asarray(part, dtype=bool)
        for name, part in parts.items()
        if name.startswith(prefix)
    }


register_result("quality-entry", QualityEntry)
register_result("quality-report", QualityReport, _to_parts, _from_parts)


# ---- the pass ------------------------------------------------------------------------------------
def _merge(whole: tuple[Any, ...], part: tuple[Any, ...]) -> tuple[Any, ...]:
    moments, maximum = whole
    return merge_moments(moments, part[0]), np.maximum(maximum, part[1], out=maximum)


class Quality(Operation, kind="quality", version=1):
    """Look for defects of detector, frames and scan, and describe dose, descan and beam.

    One pass over the scan.  Every number comes with a verdict, an explanation and advice.
    """

    outputs: ClassVar[Mapping[str, Output]] = {
        "moments": PerScan(np.float64),
        "images": Reduced(_merge),
    }

    def measures(self, plan: Any) -> Measures:
        return Measures(moments=True, sums=True, squares=True, maximum=True)

    def step(self, plan: Any, tile: Tile, kernels: Kernels) -> Parts:
        m = tile.measured
        if m is None:
            raise ParameterError("quality runs in the engine, which measures its tiles")
        moments = np.stack(m.get("total", "moment_x", "moment_y"), axis=-1)
        images = tile_moments(*m.get("sums", "squares", "valid")), m.maximum
        return {"moments": moments, "images": images}

    def finish(self, cube: Cube, plan: Any, parts: Parts, history: History) -> QualityReport:
        scan = _Scan.of(cube, parts)
        entries: list[QualityEntry] = []
        pixels = _pixel_maps(scan)
        entries += _pixel_entries(scan, pixels)
        positions = _position_maps(scan)
        entries += _frame_entries(scan, positions)
        entries += _dose_entries(scan, positions)
        entries += _descan_entries(scan, positions)
        disk = _disk(np.where(pixels["hot"] | pixels["dead"], _around(scan.mean), scan.mean))
        entries += _disk_entries(scan, disk)
        return QualityReport(
            tuple(entries), pixels, positions, scan.total, scan.com, scan.mean, disk,
            cube.calibration, history, f"quality of {cube.name}",
        )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Scan:
    """What the pass collected."""

    cube: Cube
    seen: Bool
    moments: Float
    valid: Float
    mean: Float
    std: Float
    maximum: NDArray[Any]

    @classmethod
    def of(cls, cube: Cube, parts: Parts) -> _Scan:
        (count, mean, m2), maximum = parts["images"]
        known = count > 0
        std = np.sqrt(np.divide(m2, count, out=np.zeros_like(m2), where=known))
        seen = np.isfinite(parts["moments"]).all(-1)
        return cls(cube, seen, parts["moments"], count, np.where(known, mean, np.nan), std, maximum)

    @property
    def counts(self) -> bool:
        """Whether values are whole counts."""
        return self.cube.dtype.kind in "bui"

    @property
    def positions(self) -> int:
        return int(self.seen.sum())

    @property
    def total(self) -> Float:
        total: Float = self.moments[..., 0]
        return total

    @property
    def com(self) -> Float:
        """Centre of mass, (Rx, Ry, 2); NaN where there is no intensity."""
        lit = self.seen & (self.total > 0)
        out = np.full((*self.total.shape, 2), np.nan)
        out[lit] = self.moments[lit][:, 1:] / self.total[lit][:, None]
        return out


def _entry(
    name: str, value: float | int | None, unit: str, levels: tuple[float, float] | None,
    explanation: str, advice: str = "", uncertainty: float | None = None,
) -> QualityEntry:  # fmt: skip
    """An entry with the verdict from two levels, above which it is to be warned of, and bad."""
    verdict: Verdict = "ok"
    if levels is not None and value is not None:
        verdict = _ORDER[int(value > levels[0]) + int(value > levels[1])]
    advice = "" if verdict == "ok" else advice
    return QualityEntry(name, value, unit, verdict, explanation, advice, uncertainty)


# ---- detector ------------------------------------------------------------------------------------
def _pixel_maps(scan: _Scan) -> dict[str, Bool]:
    n = scan.positions
    floor = counting_noise(np.nan_to_num(scan.mean), n, scan.counts)
    noise = neighbour_middle(scan.std) / math.sqrt(n)
    level = _saturation_level(scan)
    saturated = np.zeros(scan.mean.shape, bool)
    if level is not None:
        saturated = scan.maximum >= level
    return {
        "hot": hot_pixels(scan.mean, 8.0, np.maximum(floor, noise)),
        "dead": dead_pixels(scan.mean, scan.std, n, scan.counts),
        "saturated": saturated,
        "not finite": scan.valid < n,
    }


def _saturation_level(scan: _Scan) -> float | None:
    """Where counting ends: the counter depth, the end of the dtype, or a pile-up of maxima."""
    if not scan.counts or scan.cube.dtype.kind == "b":
        return None
    largest = int(scan.maximum.max())
    depth = scan.cube.metadata.counter_depth_bits
    limits = [int(np.iinfo(scan.cube.dtype).max)]
    if depth is not None and largest <= 2**depth - 1:
        limits.append(2**depth - 1)
    if largest >= min(limits):
        return float(min(limits))
    return float(largest) if _piled_up(scan.maximum, largest) else None


def _piled_up(maximum: NDArray[Any], largest: int) -> bool:
    """Many pixels that reach exactly the same maximum, and none that comes near it."""
    at = int((maximum == largest).sum())
    near = int(((maximum >= 0.9 * largest) & (maximum < largest)).sum())
    return largest >= 64 and at >= 4 and at > 4 * near


def _pixel_entries(scan: _Scan, pixels: Mapping[str, Bool]) -> Iterator[QualityEntry]:
    size = scan.mean.size
    advice = "replace them: cube.repair_pixels(report.bad_pixels)"
    for name, what in (
        ("hot", "far brighter than all their neighbours"),
        ("dead", "never change while their neighbours count"),
    ):
        count = int(pixels[name].sum())
        yield _entry(f"{name} pixels", count, "px", (0, 0.01 * size),
                     f"{count} of {size} pixels are {what}" if name == "hot"
                     else f"{count} of {size} pixels {what}", advice)  # fmt: skip
    count = int(pixels["saturated"].sum())
    level = _saturation_level(scan)
    largest = scan.maximum.max()
    found = f"largest value {largest:g}"
    text = found if level is None else f"{found}: {count} pixels reach the limit of {level:g}"
    yield _entry("saturated pixels", count, "px", (0, 0.001 * size), text,
                 "counts there are too low: measure with less beam current or dwell time, and do "
                 "not use them for quantities")  # fmt: skip
    lost = float((scan.positions - scan.valid).sum())
    count = int(pixels["not finite"].sum())
    yield _entry("pixels not finite", count, "px", (0, 0.01 * size),
                 f"{count} pixels hold {lost:.0f} values that are NaN or infinite",
                 "they are left out of all sums; repair or mask them")  # fmt: skip


# ---- frames --------------------------------------------------------------------------------------
def _position_maps(scan: _Scan) -> dict[str, Bool]:
    empty = scan.seen & (scan.total == 0)
    lit = scan.seen & ~empty
    return {
        "empty": empty,
        "repeated": _repeated(scan, lit),
        "shifted": _shifted(scan.com, lit, scan.mean.shape),
        "intensity": _odd(scan.total, lit, 0.3 * float(np.median(np.abs(scan.total[lit]))))
        if lit.any()
        else empty & False,
    }


def _repeated(scan: _Scan, lit: Bool) -> Bool:
    """The same pattern as the position recorded before: same sum and same first moments."""
    flat, seen = scan.moments.reshape(-1, 3), lit.ravel()
    same = np.zeros(len(flat), bool)
    same[1:] = (flat[1:] == flat[:-1]).all(1) & seen[1:] & seen[:-1]
    # Few electrons can agree by accident; noise-free floats that agree are no less repeated.
    enough = (flat[:, 0] >= 50) if scan.counts else True
    return (same & enough).reshape(lit.shape)


def _shifted(com: Float, lit: Bool, Q_shape: tuple[int, ...]) -> Bool:
    least = max(1.0, 0.02 * min(Q_shape))
    return _odd(com[..., 0], lit, least) | _odd(com[..., 1], lit, least)


def _odd(values: Float, known: Bool, least: float) -> Bool:
    """Positions unlike all their neighbours: beyond ten robust sigmas, and beyond `least`."""
    from scipy import ndimage  # slow to import

    if known.sum() < 9:
        return np.zeros(values.shape, bool)
    filled = np.where(known, values, np.median(values[known]))
    off = np.abs(filled - ndimage.median_filter(filled, 3, mode="nearest"))
    sigma = 1.4826 * float(np.median(off[known]))
    odd: Bool = known & (off > max(10 * sigma, least))
    return odd


def _row_jumps(com: Float, lit: Bool, Q_shape: tuple[int, ...]) -> int:
    """Rows of the scan that begin elsewhere on the detector than the row before."""
    rows = [np.median(row[ok], axis=0) for row, ok in zip(com, lit, strict=True) if ok.any()]
    if len(rows) < 5:
        return 0
    steps = np.diff(np.array(rows), axis=0)
    steps = np.hypot(*(steps - np.median(steps, axis=0)).T)
    sigma = 1.4826 * float(np.median(steps))
    return int((steps > max(10 * sigma, 1.0, 0.02 * min(Q_shape))).sum())


def _frame_entries(scan: _Scan, positions: Mapping[str, Bool]) -> Iterator[QualityEntry]:
    n = scan.positions
    for name, key, what, advice in (
        ("empty frames", "empty", "hold nothing at all",
         "the detector dropped them, or the beam was off: leave them out with where="),
        ("repeated frames", "repeated", "are exactly the frame before",
         "the read-out repeated them: leave them out with where="),
        ("shifted frames", "shifted", "have a centre of mass far from all around them",
         "look at them: shifted read-out, a jump of the beam, or strong local diffraction"),
        ("intensity outliers", "intensity", "have an intensity far from all around them",
         "look at the sum image: beam interruptions, charging, or a feature of one pixel"),
    ):  # fmt: skip
        count = int(positions[key].sum())
        text = f"{count} of {n} patterns {what}"
        yield _entry(name, count, "patterns", (0, 0.01 * n), text, advice)
    lit = scan.seen & ~positions["empty"]
    jumps = _row_jumps(scan.com, lit, scan.mean.shape)
    yield _entry("scan row jumps", jumps, "rows", (0, 2),
                 f"the beam jumps on the detector before {jumps} scan rows",
                 "the scan slipped or the sample moved: check flyback and sync_offset")  # fmt: skip


# ---- dose ----------------------------------------------------------------------------------------
def _dose_entries(scan: _Scan, positions: Mapping[str, Bool]) -> Iterator[QualityEntry]:
    lit = scan.seen & ~positions["empty"]
    totals = scan.total[lit]
    mean, std = (float(totals.mean()), float(totals.std())) if totals.size else (0.0, 0.0)
    unit = "counts" if scan.counts else "intensity"
    yield QualityEntry("dose per pattern", mean, unit, "ok" if mean > 0 else "bad",
                       "mean and standard deviation over the scan",
                       "" if mean > 0 else "there is no intensity at all", std)  # fmt: skip
    gain = scan.cube.metadata.gain
    if gain:
        yield QualityEntry("electrons per pattern", mean / gain, "e", "ok",
                           f"with {gain:g} counts per electron", "", std / gain)  # fmt: skip
    yield _poisson_entry(scan, lit & ~positions["intensity"], mean)


def _poisson_entry(scan: _Scan, lit: Bool, mean: float) -> QualityEntry:
    """Noise of the sum from position to position; differences leave slow changes out."""
    pairs = lit[:, 1:] & lit[:, :-1]
    if pairs.sum() < 10 or mean <= 0:
        return QualityEntry("noise of the sum / Poisson", None, "", "ok", "too few patterns")
    steps = np.diff(scan.total, axis=1)[pairs]
    ratio = (1.4826 * float(np.median(np.abs(steps)))) ** 2 / 2 / mean
    name, sigma = "noise of the sum / Poisson", ratio * math.sqrt(2 / pairs.sum()) * 1.64
    if not scan.counts:
        text = "variance over mean; 1 only if the values are electrons"
        return QualityEntry(name, ratio, "", "ok", text, "", sigma)
    if ratio < 0.5:
        return QualityEntry(name, ratio, "", "warn", "quieter than counted electrons can be",
                            "the data were scaled, filtered or clipped, or hardly any electron "
                            "misses the detector: no Poisson statistics", sigma)  # fmt: skip
    if ratio > 3:
        return QualityEntry(name, ratio, "", "warn", "noisier than counted electrons",
                            "counts per electron above one, an unsteady beam, or a sample that "
                            "changes from pixel to pixel", sigma)  # fmt: skip
    return QualityEntry(name, ratio, "", "ok", "as expected of counted electrons", "", sigma)


# ---- descan --------------------------------------------------------------------------------------
def _plane(values: Float, use: Bool) -> tuple[Float, Float]:
    """Least-squares plane through (Rx, Ry, 2), and what it leaves; outliers taken out once."""
    x, y = np.indices(values.shape[:2])
    design = np.stack([np.ones(x.size), x.ravel(), y.ravel()], axis=1)
    keep = use.ravel()
    flat = values.reshape(-1, 2)
    for _ in range(2):
        solution, *_ = np.linalg.lstsq(design[keep], flat[keep], rcond=None)
        left = flat - design @ solution
        size = np.hypot(*left.T)
        keep = keep & (size <= 5 * max(1.4826 * float(np.median(size[keep])), 1e-9))
    return (design @ solution).reshape(values.shape), left.reshape(values.shape)


def _descan_entries(scan: _Scan, positions: Mapping[str, Bool]) -> Iterator[QualityEntry]:
    use = np.isfinite(scan.com).all(-1) & ~positions["shifted"]
    if use.sum() < 6:
        yield QualityEntry("descan", None, "px", "ok", "too few patterns to tell")
        return
    plane, left = _plane(scan.com, use)
    across = np.hypot(*np.ptp(plane, axis=(0, 1)))
    residual = float(np.sqrt(np.mean(left[use] ** 2) * 2))
    size = min(scan.mean.shape)
    yield _entry("descan", float(across), "px", (0.5, 0.1 * size),
                 f"a plane through the centres of mass moves by {across:.3g} px over the scan"
                 + _calibrated(scan, float(across)),
                 "measure the origin of each position: calibrate_origin(cube), and let detectors "
                 "follow it")  # fmt: skip
    yield _entry("centre of mass scatter", residual, "px", None,
                 "rms distance from that plane: diffraction contrast, fields and noise"
                 + _calibrated(scan, residual))  # fmt: skip


def _calibrated(scan: _Scan, value_px: float) -> str:
    axis = scan.cube.calibration.Q[0]
    return f" ({value_px * axis.step:.3g} {axis.unit})" if axis.calibrated else ""


# ---- beam ----------------------------------------------------------------------------------------
def _around(image: Float) -> Float:
    return neighbour_middle(np.nan_to_num(image))


def _disk(mean: Float) -> DiskEstimate | None:
    """Centre and radius of the brightest disk, at half of its height above what surrounds it."""
    pattern = np.nan_to_num(mean, posinf=0.0, neginf=0.0)
    if min(pattern.shape) < 8 or pattern.max() <= 0:
        return None
    first = disk_of(pattern)
    radius = max(first.radius_px, 1.0)
    i, j = np.indices(pattern.shape)
    far = np.hypot(i - first.center[0], j - first.center[1])
    ring = pattern[(far > 1.6 * radius + 1) & (far < 2.5 * radius + 3)]
    floor = float(np.median(ring)) if ring.size else 0.0
    plateau = float(np.median(pattern[far <= max(0.7 * radius, 1.0)]))
    if plateau <= floor:
        return None
    levels = [floor + f * (plateau - floor) for f in (0.35, 0.5, 0.65)]
    (c0, r0), (center, r), (c1, r1) = (_above(pattern, first.center, radius, v) for v in levels)
    outside = pattern[far > 1.6 * radius + 1]
    dark = float(np.median(outside)) if outside.size else 0.0
    return DiskEstimate(
        center=(float(center[0]), float(center[1])),
        radius_px=r,
        sigma_center_px=max(float(np.hypot(*(c0 - c1))) / 2, 0.02),
        sigma_radius_px=max(abs(r0 - r1) / 2, 0.05),
        contrast=plateau / dark if dark > 0 else math.inf,
    )


def _above(
    pattern: Float, center: tuple[float, float], radius: float, level: float
) -> tuple[Float, float]:
    """Centroid and area radius of the connected region above a level, on a grid of 1/4 px."""
    from scipy import ndimage  # slow to import

    reach = 1.5 * radius + 2
    axes = [np.arange(max(0.0, c - reach), min(n - 1.0, c + reach) + 1e-9, 0.25)
            for c, n in zip(center, pattern.shape, strict=True)]  # fmt: skip
    fine = ndimage.map_coordinates(pattern, np.meshgrid(*axes, indexing="ij"), order=1)
    labels, _ = ndimage.label(fine > level)
    middle = tuple(int(np.abs(a - c).argmin()) for a, c in zip(axes, center, strict=True))
    label = labels[middle] or int(np.bincount(labels[labels > 0]).argmax() if labels.any() else 0)
    i, j = np.nonzero(labels == label)
    area = len(i) / 16
    return np.array([axes[0][i].mean(), axes[1][j].mean()]), math.sqrt(area / math.pi)


def _disk_entries(scan: _Scan, disk: DiskEstimate | None) -> Iterator[QualityEntry]:
    if disk is None:
        yield QualityEntry("disk radius", None, "px", "warn", "no disk in the mean pattern",
                           "give detectors a center and a radius yourself, or measure them: "
                           "measure_origin(cube) by symmetry, measure_probe(vacuum)")  # fmt: skip
        return
    qx, qy = disk.center
    yield _entry("disk radius", disk.radius_px, "px", None,
                 "of the direct beam in the mean pattern, at half of its height"
                 + _calibrated(scan, disk.radius_px), uncertainty=disk.sigma_radius_px)  # fmt: skip
    yield _entry("disk centre x", qx, "px", None, "row of the direct beam",
                 uncertainty=disk.sigma_center_px)  # fmt: skip
    yield _entry("disk centre y", qy, "px", None, "column of the direct beam",
                 uncertainty=disk.sigma_center_px)  # fmt: skip
    yield _entry("pattern contrast", disk.contrast, "", None,
                 "brightness of the direct beam over the median of all outside it")  # fmt: skip


def quality(cube: Cube, *, options: RunOptions | None = None) -> QualityReport:
    """Examine a scan: defects, dose, descan and beam, each with a verdict and advice.

    Parameters
    ----------
    cube : DataCube
    options : RunOptions, optional

    Returns
    -------
    QualityReport
        ``report.text()``, ``report["dose per pattern"].value``, ``report.bad_pixels`` …

    Notes
    -----
    One pass.  Saturation is judged by the dtype, by the counter depth in the metadata, and by a
    pile-up of pixels at one largest value.  A frame counts as repeated where its sum and its first
    moments are exactly those of the frame before.  The noise of the sum is taken from differences
    between neighbours along the scan rows, so that slow changes of the sample do not count.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> counts = np.random.default_rng(0).poisson(5, (8, 8, 16, 16)).astype(np.uint16)
    >>> counts[:, :, 3, 4] = 0
    >>> report = quality(DataCube(counts))
    >>> report["dead pixels"].value, report["hot pixels"].verdict
    (1, 'ok')
    """
    report: QualityReport = run(Quality(), cube, options=options)
    return report
