"""Grains: connected regions of a scan that show the same Bragg spots, and their statistics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import MemoryBudgetError, ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.classes.bragg_classes import connected
from py4DSTEM.process.classes.result import Classes
from py4DSTEM.process.classes.watershed import basins, otsu
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = [
    "GRAIN_FIELDS", "Grains", "SegmentGrains", "described", "segment_grains", "without_small",
]  # fmt: skip

Float = NDArray[np.float64]
Labels = NDArray[np.int32]
Ints = NDArray[np.int64]
Small = Literal["drop", "merge"]
NO_GRAIN = -1
_MOST_SEGMENTS = 20_000
_VOTES = 0.5
"""Share of the images of a grain that must show a position for it to belong to the grain."""
_ALIKE = 0.5
"""Mean Jaccard index of regions of different images that are one grain."""

GRAIN_FIELDS = np.dtype(
    [
        ("positions", "i8"), ("area", "f8"), ("sigma_area", "f8"), ("diameter", "f8"),
        ("sigma_diameter", "f8"), ("rx", "f8"), ("ry", "f8"), ("border", "i8"),
        ("neighbours", "i8"), ("images", "i8"), ("at_edge", "?"),
    ]
)  # fmt: skip
"""Of a row of `Grains.table`."""


@dataclass(frozen=True, eq=False)
class Grains:
    """Grains of a scan, the largest first.

    Parameters
    ----------
    labels : (Rx, Ry) int32
        Grain of each position, 0 … n − 1; −1: in none.
    table : (n,) structured
        ``positions``; ``area, sigma_area`` in `unit`²; ``diameter, sigma_diameter`` of the circle
        of that area in `unit`; ``rx, ry`` the middle (scan positions); ``border``, edges between
        positions of this grain and others; ``neighbours``, how many grains it touches; ``images``
        that show it; ``at_edge``, whether the scan cuts it.
    contacts : (m, 3) int64
        Two grains that touch, and the edges between positions along which they do.
    members : (n, K) bool
        Which images (or classes) show each grain.
    image_names : tuple of str
        Of the columns of `members`.
    unit : str
        Of lengths: that of the scan axes, or ``"px"``.
    """

    labels: Labels
    table: NDArray[np.void]
    contacts: Ints
    members: NDArray[np.bool_]
    image_names: tuple[str, ...]
    unit: str = "px"
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "grains"

    def __post_init__(self) -> None:
        n = len(self.table)
        if self.labels.ndim != 2 or int(self.labels.max(initial=NO_GRAIN)) >= n:
            raise ShapeError(f"labels (Rx, Ry) below {n}, not {self.labels.shape}")
        if self.members.shape != (n, len(self.image_names)):
            raise ShapeError(f"members of {self.members.shape} for {n} grains")

    def __len__(self) -> int:
        return len(self.table)

    @property
    def label_map(self) -> RealSlice:
        """The labels as an image; NaN where there is no grain."""
        image = np.where(self.labels >= 0, self.labels, np.nan)
        return RealSlice(image, self.calibration, self.history, self.name)

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Grains that the edge of the scan does not cut, (n,)."""
        return np.asarray(~self.table["at_edge"])

    @property
    def mean_diameter(self) -> tuple[float, float]:
        """Mean diameter of the whole grains and its standard error, `unit`; NaN without any."""
        found = self.table["diameter"][self.whole]
        if not len(found):
            return math.nan, math.nan
        error = float(found.std(ddof=1)) / math.sqrt(len(found)) if len(found) > 1 else math.nan
        return float(found.mean()), error

    def mask(self, which: int) -> NDArray[np.bool_]:
        """Positions of one grain, (Rx, Ry); goes into ``where=`` of any step."""
        if not 0 <= which < len(self):
            raise ParameterError(f"there is no grain {which!r} among {len(self)}")
        return np.asarray(self.labels == which)

    def neighbours(self, which: int) -> list[int]:
        """Grains that touch one, that with the longest border first."""
        self.mask(which)
        rows = self.contacts[(self.contacts[:, :2] == which).any(axis=1)]
        rows = rows[np.argsort(-rows[:, 2], kind="stable")]
        return [int(b if a == which else a) for a, b, _ in rows]

    def text(self) -> str:
        """A few lines for a report."""
        share = float((self.labels >= 0).mean()) if self.labels.size else 0.0
        mean, error = self.mean_diameter
        spread = f" ± {error:.2g}" if math.isfinite(error) else ""
        unit = "Å" if self.unit == "A" else self.unit
        size = f"{mean:.4g}{spread} {unit}" if math.isfinite(mean) else "not known"
        return (
            f"{self.name}: {len(self)} grains on {share:.1%} of the scan, {int(self.whole.sum())} "
            f"of them whole; mean diameter of those {size}"
        )

    def __repr__(self) -> str:
        return f"<Grains {self.labels.shape} {self.text()}>"


def _to_parts(grains: Grains) -> dict[str, Any]:
    return {**vars(grains), "history": grains.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> Grains:
    whole = {**parts, "history": History.from_dict(parts["history"])}
    return Grains(**{**whole, "image_names": tuple(parts["image_names"])})


register_result("grains", Grains, _to_parts, _from_parts)


@dataclass(frozen=True, eq=False)
class _Segment:
    """A region of one image: its pixels (flat) and how strong they are, 1 at the peak."""

    image: int
    pixels: Ints
    strength: Float


class SegmentGrains(Analysis, kind="segment-grains", version=1):
    """Grains from dark-field images, or the connected regions of classes.

    Each image is smoothed, thresholded and parted by a watershed; regions of different images that
    cover the same positions are one grain; a position belongs to the grain that most of the
    strength there speaks for.
    """

    smooth_px: float = Field(
        0.7, ge=0, description="Gaussian smoothing of the images, in scan positions."
    )
    threshold: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="Share of the brightest of an image (99.5th percentile) that a grain exceeds; "
        "None: Otsu's threshold of each image.",
    )
    least: float = Field(
        0.0, ge=0, description="Least intensity of a position in a grain, in units of the images."
    )
    prominence: float = Field(
        0.3,
        ge=0,
        le=1,
        description="Two peaks of an image are two grains where the lower stands so much of its "
        "height above the saddle between.",
    )
    min_positions: int = Field(4, ge=1, description="Smaller grains are removed.")
    min_images: int = Field(1, ge=1, description="Fewest images that show a grain.")
    small: Small = Field(
        "drop", description="What becomes of small grains: nothing, or part of a neighbour."
    )

    accepts: ClassVar[tuple[type, ...]] = (RealSlice, Classes)
    cites: ClassVar[tuple[str, ...]] = ("10.1109/TSMC.1979.4310076",)

    def apply(self, value: Any, options: RunOptions | None = None) -> Grains:
        """The grains of a stack of images or of classes; `options` are not needed."""
        self.check(value)
        if isinstance(value, Classes):
            labels, of = connected(value.labels)
            members = np.asarray(of[:, None] == np.arange(value.n))
            names = value.names
        else:
            images = value.data if value.data.ndim == 3 else value.data[None]
            names = value.labels or (value.name,)
            labels, members = self._of_images(np.asarray(images, np.float64))
        labels, kept = without_small(labels, self.min_positions, self.small)
        history = self.history(value.history)
        return described(labels, members[kept], tuple(names), value.calibration, history)

    def _of_images(self, images: Float) -> tuple[Labels, NDArray[np.bool_]]:
        shape = (images.shape[1], images.shape[2])
        segments = [s for k, image in enumerate(images) for s in self._segments(k, image)]
        groups = [g for g in together(segments, math.prod(shape)) if len(g) >= self.min_images]
        members = np.zeros((len(groups), len(images)), bool)
        score = np.zeros(math.prod(shape))
        labels = np.full(math.prod(shape), NO_GRAIN, np.int32)
        for k, group in enumerate(groups):
            votes, strength = np.zeros((2, math.prod(shape)))
            for s in group:
                votes[segments[s].pixels] += 1
                strength[segments[s].pixels] += segments[s].strength
                members[k, segments[s].image] = True
            mine = (votes >= _VOTES * len(group)) & (strength > score)
            labels[mine], score[mine] = k, strength[mine]
        return labels.reshape(shape), members

    def _segments(self, index: int, image: Float) -> list[_Segment]:
        """Regions of one image."""
        smooth = _smoothed(image, self.smooth_px)
        known = smooth[np.isfinite(smooth)]
        if not known.size or not known.max() > known.min():
            return []  # an image without contrast shows no grain
        limit = otsu(smooth)
        if self.threshold is not None:
            limit = self.threshold * float(np.percentile(known, 99.5))
        with np.errstate(invalid="ignore"):  # NaN is no grain
            inside = smooth > max(limit, self.least, 0.0)
        parts = basins(smooth, inside, self.prominence)
        flat, values = parts.ravel(), smooth.ravel()
        found = []
        for k in range(int(parts.max()) + 1):
            pixels = np.flatnonzero(flat == k)
            if len(pixels) >= min(self.min_positions, 2):
                found.append(_Segment(index, pixels, values[pixels] / values[pixels].max()))
        return found


def segment_grains(
    images: RealSlice | Classes,
    *,
    smooth_px: float = 0.7,
    threshold: float | None = None,
    least: float = 0.0,
    prominence: float = 0.3,
    min_positions: int = 4,
    min_images: int = 1,
    small: Small = "drop",
) -> Grains:
    """Grains from dark-field images by a watershed, or the connected regions of classes.

    Parameters
    ----------
    images : RealSlice or Classes
        One image or a stack (`dark_field_images`), brighter where a grain is; or classes, of which
        only `min_positions` and `small` are asked.
    smooth_px : float
        Gaussian smoothing, in scan positions.
    threshold : float, optional
        Share of the brightest of an image that a grain exceeds; None: Otsu's threshold.
    least : float
        Least intensity of a position in a grain: keeps images of noise from showing any.
    prominence : float
        Two peaks of an image are two grains where the lower stands so much of its height above the
        saddle between.
    min_positions : int
        Smaller grains are removed.
    min_images : int
        Fewest images that show a grain; 2 or more leaves out what a single spot shows.
    small : "drop" or "merge"
        What becomes of small grains: nothing, or part of the neighbour with the longest border.

    Returns
    -------
    Grains
        None (length 0) where no image has contrast.

    Notes
    -----
    Regions of different images are one grain where their mean Jaccard index (average linkage)
    exceeds 0.5.  The area of n positions has ``σ² = b/12``, b the positions along its border, each
    of which is filled by any share; the diameter is ``√(4 A / π)``.

    Examples
    --------
    >>> from py4DSTEM import RealSlice
    >>> i, j = np.indices((20, 30))
    >>> image = np.exp(-((i - 9) ** 2 + (j - 7) ** 2) / 20)
    >>> image += 0.8 * np.exp(-((i - 10) ** 2 + (j - 20) ** 2) / 20)
    >>> grains = segment_grains(RealSlice(image), threshold=0.3)
    >>> len(grains), grains.table["at_edge"].tolist()
    (2, [False, False])
    """
    step = SegmentGrains(
        smooth_px=smooth_px,
        threshold=threshold,
        least=least,
        prominence=prominence,
        min_positions=min_positions,
        min_images=min_images,
        small=small,
    )
    return step.apply(images)


def _smoothed(image: Float, sigma: float) -> Float:
    """Gaussian smoothing that leaves unknown pixels out, and unknown."""
    from scipy import ndimage  # slow to import

    if sigma == 0:
        return image
    known = np.isfinite(image)
    filled = ndimage.gaussian_filter(np.where(known, image, 0.0), sigma, mode="nearest")
    share = ndimage.gaussian_filter(known.astype(np.float64), sigma, mode="nearest")
    out = np.full(image.shape, np.nan)
    np.divide(filled, share, out=out, where=known)
    return out


# ---- regions of several images -------------------------------------------------------------------
def together(segments: Sequence[_Segment], size: int) -> list[list[int]]:
    """Groups of segments that cover the same positions, the largest number of segments first."""
    from scipy.cluster.hierarchy import fcluster, linkage
    from scipy.sparse import csr_array
    from scipy.spatial.distance import squareform

    if len(segments) < 2:
        return [[k] for k in range(len(segments))]
    if len(segments) > _MOST_SEGMENTS:
        raise MemoryBudgetError(
            f"{len(segments)} regions in all images: raise prominence, smooth_px or min_positions, "
            "or give fewer images"
        )
    lengths = [len(s.pixels) for s in segments]
    ends = np.cumsum([0, *lengths])
    columns = np.concatenate([s.pixels for s in segments])
    table = csr_array((np.ones(len(columns)), columns, ends), shape=(len(segments), size))
    common = (table @ table.T).toarray()
    area = np.array(lengths, np.float64)
    apart = 1 - common / (area[:, None] + area - common)
    np.fill_diagonal(apart, 0.0)
    number = fcluster(
        linkage(squareform(np.maximum(apart, 0.0), checks=False), "average"),
        1 - _ALIKE,
        "distance",
    )
    groups = [np.flatnonzero(number == k).tolist() for k in range(1, int(number.max()) + 1)]
    return sorted(groups, key=lambda g: (-len(g), g[0]))


# ---- small grains --------------------------------------------------------------------------------
def without_small(labels: Labels, least: int, small: Small) -> tuple[Labels, Ints]:
    """Labels of the grains that are large enough, the largest first, and their old numbers."""
    count = int(labels.max(initial=NO_GRAIN)) + 1
    while True:
        sizes = np.bincount(labels[labels >= 0], minlength=count)
        tiny = np.flatnonzero((sizes > 0) & (sizes < least))
        if not len(tiny):
            break
        to = _joined(labels, sizes, tiny) if small == "merge" else np.arange(count + 1)
        if (to[tiny] == tiny).all():
            to[tiny] = NO_GRAIN
        to[-1] = NO_GRAIN  # what −1 looks up
        labels = to[labels].astype(np.int32)
    order = np.argsort(-sizes, kind="stable")
    kept = order[sizes[order] > 0].astype(np.int64)
    number = np.full(len(sizes) + 1, NO_GRAIN, np.int32)  # the last is what −1 looks up
    number[kept] = np.arange(len(kept))
    return number[labels], kept


def _joined(labels: Labels, sizes: Ints, tiny: Ints) -> Ints:
    """What each grain becomes: a small one, the smallest first, its longest neighbour.

    One that should join a grain which itself moves waits for the next round.
    """
    to = np.arange(len(sizes) + 1)
    contacts = contacts_of(labels)
    first, second, edges = np.concatenate([contacts, contacts[:, [1, 0, 2]]]).T
    order = np.lexsort((second, edges, first))
    last = order[np.flatnonzero(np.diff(first[order], append=-1))]
    longest = dict(zip(first[last].tolist(), second[last].tolist(), strict=True))
    taken: set[int] = set()
    for k in tiny[np.argsort(sizes[tiny], kind="stable")].tolist():
        other = longest.get(k)
        if other is not None and k not in taken and to[other] == other:
            to[k] = other
            taken.add(other)
    return to


def contacts_of(labels: Labels) -> Ints:
    """Pairs of grains that share edges of positions, and how many, (m, 3)."""
    pairs = [
        np.stack([labels[:-1].ravel(), labels[1:].ravel()], axis=-1),
        np.stack([labels[:, :-1].ravel(), labels[:, 1:].ravel()], axis=-1),
    ]
    both = np.sort(np.concatenate(pairs), axis=1)
    both = both[(both[:, 0] >= 0) & (both[:, 0] != both[:, 1])]
    found, count = np.unique(both, axis=0, return_counts=True)
    return np.column_stack([found.reshape(-1, 2), count]).astype(np.int64)


# ---- statistics ----------------------------------------------------------------------------------
def described(
    labels: Labels,
    members: NDArray[np.bool_],
    names: tuple[str, ...],
    calibration: Calibration,
    history: History,
) -> Grains:
    """Statistics of the regions of a label image, whatever they were found by.

    Parameters
    ----------
    labels : (Rx, Ry) int32
        As `Grains` holds them.
    members : (n, K) bool
    names : tuple of str
        Of the columns of `members`.
    calibration : Calibration
        For the scan step.
    history : History
    """
    n = len(members)
    x, y = calibration.R
    same = x.unit == y.unit and x.unit != "px"
    cell, unit = (abs(x.step * y.step), x.unit) if same else (1.0, "px")
    contacts = contacts_of(labels)
    border, ragged = _borders(labels, n)
    inside = labels >= 0
    of = labels[inside]
    table = np.zeros(n, GRAIN_FIELDS)
    count = np.bincount(of, minlength=n)
    table["positions"], table["border"] = count, border
    table["area"], table["sigma_area"] = count * cell, np.sqrt(ragged / 12) * cell
    table["diameter"] = np.sqrt(4 * table["area"] / math.pi)
    table["sigma_diameter"] = table["diameter"] * table["sigma_area"] / (2 * table["area"])
    for name, place in zip(("rx", "ry"), np.nonzero(inside), strict=True):
        table[name] = np.bincount(of, place, n) / count
    table["neighbours"] = np.bincount(contacts[:, :2].ravel(), minlength=n)
    table["images"] = members.sum(axis=1)
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    table["at_edge"][np.unique(rim[rim >= 0])] = True
    return Grains(labels, table, contacts, members, names, unit, calibration, history)


def _borders(labels: Labels, n: int) -> tuple[Ints, Ints]:
    """Edges of each grain to what is not it, and how many of its positions have such an edge."""
    wide = np.pad(labels, 1, mode="edge")  # the edge of the scan is no border
    inner = wide[1:-1, 1:-1]
    others = [wide[:-2, 1:-1], wide[2:, 1:-1], wide[1:-1, :-2], wide[1:-1, 2:]]
    edges = np.sum([other != inner for other in others], axis=0)
    mine = labels >= 0
    border = np.bincount(labels[mine], edges[mine], n)
    ragged = np.bincount(labels[mine], edges[mine] > 0, n)
    return border.astype(np.int64), ragged.astype(np.int64)
