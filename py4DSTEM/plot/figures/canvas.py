"""What the figures of results share: maps over the scan, curves with their measured values."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.plot import contrast, decorate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

__all__ = [
    "ACCENT", "COLORS", "SECOND", "axis_arrows", "between", "color_bar", "hatch_unknown",
    "hatched_legend", "map_height", "new_figure", "note", "picture", "plain_axes", "pm", "scan_map",
    "symmetric_limit",
]  # fmt: skip

Float = NDArray[np.float64]
ACCENT, SECOND = "#D55E00", "#0072B2"
"""Of what was fitted, and of what was measured: Okabe and Ito's vermilion and blue."""
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_GREY, _LINES = "#8c8c8c", "#202020"
"""Of pixels without a value, and of the lines over them."""
_LINES_ACROSS = 60
"""Of the hatching, along the longer side of a map."""


def new_figure(width: float, height: float) -> Figure:
    """An empty figure (inches) that arranges what is drawn on it."""
    import matplotlib.pyplot as plt

    return plt.figure(figsize=(width, height), layout="constrained")


def map_height(shape: Sequence[int], calibration: Calibration, width: float) -> float:
    """Height (inches) of a map over the scan that is `width` wide; not extreme."""
    x, y = calibration.R
    ratio = shape[0] * x.step / (shape[1] * y.step) if x.unit == y.unit else shape[0] / shape[1]
    return width * min(max(ratio, 0.25), 2.5)


def between(values: Float, low: float = 1.0, high: float = 99.0) -> tuple[float, float]:
    """Two percentiles of the finite values, never equal."""
    return contrast.limits(np.asarray(values, np.float64), (low, high), signed=False)


def symmetric_limit(*maps: Float, percentile: float = 99.5) -> float:
    """The modulus that nearly all finite values of all maps stay below; positive."""
    values = np.abs(np.concatenate([np.ravel(m) for m in maps]).astype(np.float64))
    finite = values[np.isfinite(values)]
    limit = float(np.percentile(finite, percentile)) if finite.size else 0.0
    return limit if limit > 0 else 1.0


def scan_map(
    ax: Axes,
    image: NDArray[Any],
    calibration: Calibration,
    title: str,
    *,
    limits: tuple[float, float] | None = None,
    cmap: str = "viridis",
    bar: bool = False,
) -> AxesImage:
    """A map over the scan, undefined positions grey; `bar`: with a scale bar."""
    return picture(ax, image, calibration.R, title, limits=limits, cmap=cmap, bar=bar)


def picture(
    ax: Axes,
    image: NDArray[Any],
    axes: tuple[Axis, Axis],
    title: str,
    *,
    limits: tuple[float, float] | None = None,
    cmap: str = "inferno",
    bar: bool = False,
    power: float = 1.0,
) -> AxesImage:
    """An image without ticks; x down, y to the right, as wide and high as its axes say."""
    import matplotlib as mpl

    values = np.ma.masked_invalid(np.asarray(image, np.float64))
    low, high = between(np.asarray(image)) if limits is None else limits
    x, y = axes
    drawn = ax.imshow(
        values,
        norm=contrast.norm(low, high, power),
        cmap=mpl.colormaps[cmap].with_extremes(bad=_GREY),
        interpolation="nearest",
        aspect=x.step / y.step if x.unit == y.unit else 1.0,
    )
    plain_axes(ax, title)
    if bar:
        decorate.scale_bar(ax, (image.shape[0], image.shape[1]), y)
    return drawn


def hatch_unknown(ax: Axes, image: NDArray[Any]) -> int:
    """Hatch the pixels of a picture that hold no number; how many there are.

    Lines rather than matplotlib's hatching: that takes a minute for many small regions.
    """
    from matplotlib.collections import LineCollection

    unknown = ~np.isfinite(np.asarray(image, np.float64))
    if not unknown.any():
        return 0
    step = max(unknown.shape) / _LINES_ACROSS
    sums = np.arange(step / 2, sum(unknown.shape), step) - 1.0
    pieces = np.concatenate([_hatched(unknown, at) for at in sums])
    ax.add_collection(LineCollection(pieces, colors=_LINES, linewidths=0.5), autolim=False)  # type: ignore[arg-type]
    return int(unknown.sum())


def _hatched(unknown: NDArray[np.bool_], total: float) -> Float:
    """Parts of the line row + column = `total` over unknown pixels, (n, 2, 2) of (x, y)."""
    rows, columns = unknown.shape
    low, high = max(-0.5, total - columns + 0.5), min(rows - 0.5, total + 0.5)
    if low >= high:
        return np.empty((0, 2, 2))
    # Where the line passes from one pixel to the next.
    ends = np.concatenate([np.arange(rows + 1) - 0.5, total - np.arange(columns + 1) + 0.5])
    ends = np.unique(ends[(ends > low) & (ends < high)])
    ends = np.concatenate([[low], ends, [high]])
    middle = (ends[1:] + ends[:-1]) / 2
    i = np.clip(np.rint(middle), 0, rows - 1).astype(np.int64)
    j = np.clip(np.rint(total - middle), 0, columns - 1).astype(np.int64)
    edges = np.diff(unknown[i, j].astype(np.int8), prepend=0, append=0)
    row = np.stack([ends[edges == 1], ends[edges == -1]], axis=1)
    return np.stack([total - row, row], axis=2)


def hatched_legend(figure: Figure, words: str) -> None:
    """Say below a figure what is hatched."""
    from matplotlib.patches import Patch

    patch = Patch(facecolor=_GREY, edgecolor=_LINES, hatch="/////", linewidth=0.0, label=words)
    figure.legend(
        handles=[patch], loc="outside lower left", fontsize="small", frameon=False,
        handlelength=2.4, handleheight=1.2,
    )  # fmt: skip


def plain_axes(ax: Axes, title: str) -> None:
    """A titled picture without ticks."""
    ax.set_xticks([])
    ax.set_yticks([])
    ax.set_title(title, fontsize="medium")


def color_bar(drawn: AxesImage, axes: Axes | Sequence[Axes], label: str) -> None:
    """A colour bar beside one picture, or one for several."""
    from matplotlib.ticker import ScalarFormatter

    first = axes[0] if isinstance(axes, Sequence) else axes
    bar = first.figure.colorbar(drawn, ax=axes, shrink=0.8, pad=0.02, aspect=25)
    if isinstance(bar.formatter, ScalarFormatter):
        bar.formatter.set_powerlimits((-3, 4))
    bar.set_label(label, parse_math=False)
    bar.outline.set_visible(False)


def note(ax: Axes, text: str, *, x: float = 0.97, y: float = 0.96) -> None:
    """Words in a corner of a plot of curves."""
    ax.text(
        x, y, text, transform=ax.transAxes, fontsize="small", linespacing=1.4, parse_math=False,
        ha="right" if x > 0.5 else "left", va="top" if y > 0.5 else "bottom",
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 2},
    )  # fmt: skip


def axis_arrows(ax: Axes, angle_rad: float, names: tuple[str, str] = ("x", "y")) -> None:
    """Arrows along x and y as they lie on the screen, turned by `angle_rad` from x towards y.

    With no turn x points down (rows) and y to the right (columns).
    """
    import matplotlib as mpl

    ax.set_axis_off()
    ax.set_aspect("equal")
    ax.set_xlim(-1.5, 1.5)
    ax.set_ylim(1.5, -1.5)
    directions = (
        (math.sin(angle_rad), math.cos(angle_rad)),
        (math.cos(angle_rad), -math.sin(angle_rad)),
    )
    for (column, row), name in zip(directions, names, strict=True):
        ax.annotate(
            "", (column, row), (0.0, 0.0), annotation_clip=False,
            arrowprops={"arrowstyle": "-|>", "color": mpl.rcParams["text.color"], "linewidth": 1.4,
                        "shrinkA": 0, "shrinkB": 0, "mutation_scale": 12},
        )  # fmt: skip
        ax.text(1.28 * column, 1.28 * row, name, ha="center", va="center", fontsize="medium",
                fontstyle="italic", parse_math=False)  # fmt: skip


def pm(value: float, sigma: float, unit: str = "") -> str:
    """A value with its uncertainty, to the digits that this leaves.

    >>> pm(6.0213, 0.0042, "px"), pm(12.3, float("nan"))
    ('6.0213 ± 0.0042 px', '12.3')
    """
    text = f"{value:.5g}"
    if math.isfinite(sigma) and sigma > 0:
        digits = max(0, 1 - math.floor(math.log10(sigma)))
        text = f"{value:.{digits}f} ± {sigma:.{digits}f}"
    return f"{text} {decorate.unit_text(unit)}".rstrip()
