"""What is drawn on top of an image: scale bar, ticks, detector outlines, points, colour wheel."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.detector import Detector, Mask
from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError
from py4DSTEM.plot.contrast import complex_colors
from py4DSTEM.plot.panels import Panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = [
    "color_wheel",
    "draw_overlays",
    "label_axes",
    "length_text",
    "nice_length",
    "outlined",
    "scale_bar",
    "unit_text",
]

# Okabe and Ito's colours, which colour-blind readers can tell apart; the brightest first.
_COLORS = ("#56B4E9", "#F0E442", "#009E73", "#E69F00", "#CC79A7", "#D55E00", "#0072B2")
_UNITS = {"A": "Å", "A^-1": "Å⁻¹", "nm^-1": "nm⁻¹", "um": "µm", "um^-1": "µm⁻¹", "deg": "°"}
_LARGER = {"pm": ("A", 100.0), "A": ("nm", 10.0), "nm": ("um", 1000.0), "um": ("mm", 1000.0)}
_MOST_POINTS = 5000


def unit_text(unit: str) -> str:
    """
    >>> unit_text("A^-1")
    'Å⁻¹'
    """
    return _UNITS.get(unit, unit)


def nice_length(largest: float) -> float:
    """The largest of 1, 2 or 5 times a power of ten that is not above `largest`.

    >>> nice_length(37.0), nice_length(0.6)
    (20.0, 0.5)
    """
    power = 10.0 ** math.floor(math.log10(largest))
    factor = max(f for f in (1, 2, 5) if f * power <= largest * (1 + 1e-9))
    return factor * power


def outlined() -> list[Any]:
    """Path effects of words that can be read on any image."""
    from matplotlib.patheffects import withStroke

    return [withStroke(linewidth=1.5, foreground="black")]


def length_text(length: float, unit: str) -> str:
    """
    >>> length_text(2000.0, "nm"), length_text(20.0, "A^-1")
    ('2000 nm', '20 Å⁻¹')
    """
    while unit in _LARGER and length >= 10 * _LARGER[unit][1]:
        unit, factor = _LARGER[unit]
        length /= factor
    return f"{length:g} {unit_text(unit)}"


def scale_bar(ax: Axes, shape: tuple[int, int], axis: Axis) -> None:
    """A bar of round length in the lower left corner, along the columns."""
    from matplotlib.patches import Rectangle

    length = nice_length(0.3 * shape[1] * axis.step)
    width, height = length / axis.step, 0.012 * shape[0]
    left, top = 0.04 * shape[1] - 0.5, 0.95 * shape[0] - 0.5
    bar = Rectangle(
        (left, top), width, height, facecolor="white", edgecolor="black", linewidth=0.6, zorder=5
    )
    bar.set_gid("scale bar")
    ax.add_patch(bar)
    ax.annotate(
        length_text(length, axis.unit),
        (left + width / 2, top),
        xytext=(0, 2),
        textcoords="offset points",
        color="white",
        ha="center",
        va="bottom",
        fontsize="small",
        zorder=5,
        path_effects=outlined(),
    )


def label_axes(ax: Axes, panel: Panel) -> None:
    """Ticks at round values in the unit of the axes, x down and y to the right."""
    x, y = panel.axes
    names = ("qx", "qy") if panel.reciprocal else ("x", "y")
    if not panel.reciprocal and not x.name.startswith("R"):
        names = (x.name, y.name)
    zero = panel.zero_px
    ax.set_yticks(*_ticks(panel.image.shape[0], x, zero[0]))
    ax.set_xticks(*_ticks(panel.image.shape[1], y, zero[1]))
    ax.set_ylabel(f"{names[0]} ({unit_text(x.unit)})", parse_math=False)
    ax.set_xlabel(f"{names[1]} ({unit_text(y.unit)})", parse_math=False)


def _ticks(size: int, axis: Axis, zero_px: float) -> tuple[NDArray[np.float64], list[str]]:
    """Pixel positions of about four round values, and their labels."""
    step = nice_length(max(size, 2) * axis.step / 3.5)
    first, last = (-zero_px * axis.step, (size - 1 - zero_px) * axis.step)
    multiples = range(math.ceil(first / step - 1e-9), math.floor(last / step + 1e-9) + 1)
    values = step * np.array(multiples, dtype=np.float64)
    return values / axis.step + zero_px, [f"{v:.6g}" for v in values + 0.0]


# ---- overlays ------------------------------------------------------------------------------------
def draw_overlays(ax: Axes, panel: Panel, overlays: object) -> None:
    """Detector outlines and points; names of a mapping become a legend."""
    named = False
    for k, (name, overlay) in enumerate(_overlays(overlays)):
        color = _COLORS[k % len(_COLORS)]
        named = named or bool(name)
        if isinstance(overlay, Detector):
            _outline(ax, panel, overlay, color)
        else:
            _points(ax, panel, _coordinates(overlay), color)
        ax.plot([], [], color=color, label=name or "_nolegend_")
    if named:
        legend = ax.legend(loc="upper right", fontsize="small", framealpha=0.7)
        for text in legend.get_texts():
            text.set_parse_math(False)


def _overlays(overlays: object) -> Iterator[tuple[str, object]]:
    """(name, overlay) of a mapping, a sequence, or a single one."""
    if isinstance(overlays, Mapping):
        yield from ((str(name), value) for name, value in overlays.items())
    elif isinstance(overlays, Sequence) and not _is_pair_list(overlays):
        yield from (("", value) for value in overlays)
    else:
        yield "", overlays


def _is_pair_list(value: Sequence[Any]) -> bool:
    """Whether a sequence is itself a list of points."""
    return len(value) > 0 and isinstance(value[0], Sequence) and np.ndim(value[0]) == 1


def _outline(ax: Axes, panel: Panel, detector: Detector, color: str) -> None:
    """Where the weights of a detector fall through one half: what is drawn is what is summed."""
    if not panel.reciprocal:
        raise ParameterError(
            f"a detector is drawn on a diffraction pattern, not on {panel.title!r}"
        )
    shape = (panel.image.shape[0], panel.image.shape[1])
    weights = np.abs(detector.weights(shape, panel.calibration))
    level = 0.5 * weights.max() if isinstance(detector, Mask) else 0.5
    if not (weights > level).any() or level == 0:
        return  # too small, or outside of the pattern
    padded = np.pad(weights, 1)  # so that outlines close at the edge
    rows, columns = np.arange(shape[0] + 2) - 1, np.arange(shape[1] + 2) - 1
    ax.contour(columns, rows, padded, levels=[level], colors=[color], linewidths=1.3, zorder=4)
    ax.set_xlim(-0.5, shape[1] - 0.5)
    ax.set_ylim(shape[0] - 0.5, -0.5)


def _coordinates(overlay: object) -> NDArray[np.float64]:
    """(n, 2) or (n, 3): x, y and, where known, an intensity."""
    table = overlay.points if isinstance(overlay, PointTable) else np.asarray(overlay)
    if table.dtype.names is not None:
        names = table.dtype.names
        pair = next((p for p in (("qx", "qy"), ("x", "y")) if set(p) <= set(names)), None)
        if pair is None:
            raise ParameterError(f"points need fields qx, qy (or x, y), not {', '.join(names)}")
        columns = [*pair, *(["intensity"] if "intensity" in names else [])]
        return np.stack([table[c].astype(np.float64).ravel() for c in columns], axis=-1)
    array = np.atleast_2d(np.asarray(table, dtype=np.float64))
    if array.ndim != 2 or array.shape[1] != 2:
        raise ParameterError(f"points have the shape (n, 2): x (rows), y; not {array.shape}")
    return array


def _points(ax: Axes, panel: Panel, points: NDArray[np.float64], color: str) -> None:
    """Rings at the points, larger where brighter; evenly thinned to a few thousand."""
    chosen = points[:: max(1, -(-len(points) // _MOST_POINTS))]
    chosen = chosen[np.isfinite(chosen).all(axis=1)]
    if len(chosen) == 0:
        return
    size: Any = 40.0 if len(chosen) <= 500 else 4.0
    if chosen.shape[1] == 3 and chosen[:, 2].max() > 0:
        size = size * (0.5 + 0.5 * np.sqrt(np.clip(chosen[:, 2] / chosen[:, 2].max(), 0, 1)))
    ax.scatter(chosen[:, 1], chosen[:, 0], s=size, facecolors="none", edgecolors=color, zorder=4)
    ax.set_xlim(-0.5, panel.image.shape[1] - 0.5)
    ax.set_ylim(panel.image.shape[0] - 0.5, -0.5)


def color_wheel(ax: Axes, high: float, units: str) -> None:
    """The legend of a complex image, beside it: phase around, modulus outwards."""
    from matplotlib.colorbar import make_axes

    wheel, _ = make_axes(ax, shrink=0.3, aspect=1.0, fraction=0.2, anchor=(0.0, 0.9))
    n = 101
    x = np.linspace(-1, 1, n)
    z = x[None, :] - 1j * x[:, None]
    rgba = np.ones((n, n, 4))
    rgba[..., :3] = complex_colors(z, 1.0)
    rgba[..., 3] = np.clip((1 - np.abs(z)) * n / 2 + 0.5, 0, 1)
    wheel.imshow(rgba, extent=(-1, 1, -1, 1))
    wheel.set_gid("colour wheel")
    wheel.set_xticks([])
    wheel.set_yticks([-1, 0, 1], ["−π/2", "0", "π/2"], fontsize="x-small")
    wheel.yaxis.tick_right()
    for side in wheel.spines.values():
        side.set_visible(False)
    wheel.set_xlabel(f"|z| ≤ {high:.3g}\n{units}".rstrip(), fontsize="x-small", parse_math=False)
