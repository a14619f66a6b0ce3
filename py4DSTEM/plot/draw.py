"""One function that draws anything."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.contrast import Scale
from py4DSTEM.errors import ParameterError
from py4DSTEM.plot import contrast, decorate
from py4DSTEM.plot.figures import figure_maker
from py4DSTEM.plot.panels import Panel, panels_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.colors import Colormap
    from matplotlib.figure import Figure

__all__ = ["show"]

_MOST_PANELS = 36


@dataclass(frozen=True, eq=False)
class _Style:
    """How every panel is drawn."""

    scale: Scale | None
    clip: tuple[float, float]
    cmap: str | Colormap | None
    scalebar: bool
    cbar: bool
    overlays: object
    ticks: bool


def show(
    obj: object,
    *,
    scale: str | float | None = None,
    clip: tuple[float, float] = (0.1, 99.9),
    cmap: str | Colormap | None = None,
    scalebar: bool = True,
    cbar: bool = False,
    overlays: object = (),
    ax: Axes | Sequence[Axes] | NDArray[Any] | None = None,
    title: str | None = None,
) -> tuple[Figure, Any]:
    """Draw a slice, a stack, a scan, points, an array, a list or mapping of them, or a result.

    Parameters
    ----------
    obj : RealSlice, DiffractionSlice, DataCube, PointTable, ArrayResult, array, list or mapping
        A cube is shown by at most 144 of its patterns: their sums as a coarse scan image, and
        their mean.  Points alone are shown as their number per position.  Results that have a
        figure of their own (a probe, Bragg peaks, a lattice, a strain map, what calibration has
        measured) get that; its options are those of `show_strain`, `show_probe` …
    scale : {"linear", "sqrt", "log"} or float, optional
        How values become brightness; a number is an exponent.  None: ``"sqrt"`` for diffraction,
        ``"linear"`` for everything else.
    clip : (float, float)
        Percentiles that become the darkest and the brightest colour.
    cmap : str or Colormap, optional
        None: gray for images, inferno for patterns, red to blue around zero for signed values.
    scalebar, cbar : bool
        Draw a scale bar of round length; a colour bar.
    overlays : Detector, PointTable, (n, 2) points, or a sequence or mapping of them
        Drawn on diffraction patterns (points on any image), in pixels, at the calibrated origin;
        names of a mapping become a legend.
    ax : Axes or sequence of Axes, optional
        Where to draw, one per picture; None: a new figure.
    title : str, optional
        None: the name of what is shown.

    Returns
    -------
    (Figure, Axes or ndarray of Axes)
        One Axes for a single picture.

    Notes
    -----
    x (rows) points down, y (columns) to the right; data coordinates are pixels, tick labels are
    calibrated.  Complex values: hue is the phase, brightness the modulus.  Undefined pixels have a
    colour of their own.  Nothing is shown on the screen and no setting of matplotlib is changed.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> import numpy as np
    >>> from py4DSTEM import Calibration, DiffractionSlice, Disk, show
    >>> pattern = DiffractionSlice(np.eye(32), Calibration().replace(origin_px=(15, 16)))
    >>> fig, ax = show(pattern, overlays={"bf": Disk(5)})
    >>> ax.get_title()
    'slice'
    """
    maker = figure_maker(obj) if ax is None else None
    if maker is not None:
        figure = maker(obj)
        if title is not None:
            figure.suptitle(title, parse_math=False)
        return figure, np.array(figure.axes, dtype=object)
    panels = panels_of(obj, title)
    checked = None if scale is None else contrast.check_scale(scale)
    style = _Style(
        checked, contrast.check_clip(clip), cmap, scalebar, cbar, overlays, len(panels) == 1
    )
    figure, places = _canvas(len(panels), ax)
    chosen = np.linspace(0, len(panels) - 1, len(places)).round().astype(int)
    for place, k in zip(places, chosen, strict=True):
        _draw(place, panels[k], style)
    if len(panels) > 1 and (title is not None or len(places) < len(panels)):
        count = f"{len(places)} of {len(panels)}" if len(places) < len(panels) else ""
        figure.suptitle(" · ".join(filter(None, (title, count))), parse_math=False)
    return figure, places[0] if len(panels) == 1 else np.array(places, dtype=object)


def _canvas(
    count: int, ax: Axes | Sequence[Axes] | NDArray[Any] | None
) -> tuple[Figure, list[Axes]]:
    """The axes to draw in: the caller's, or those of a new figure."""
    if count == 0:
        raise ParameterError("there is nothing to show in an empty list, mapping or stack")
    if ax is not None:
        given = list(np.atleast_1d(np.asarray(ax, dtype=object)).ravel())
        if len(given) < count:
            raise ParameterError(f"{count} pictures need as many axes, not {len(given)}")
        return given[0].figure, given[:count]
    import matplotlib.pyplot as plt

    shown = min(count, _MOST_PANELS)
    columns = math.ceil(math.sqrt(shown))
    rows = math.ceil(shown / columns)
    size = (4.8, 4.4) if shown == 1 else (min(3.4 * columns, 14), min(3.5 * rows, 14))
    figure, grid = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    places = list(grid.ravel())
    for spare in places[shown:]:
        spare.remove()
    return figure, places[:shown]


def _draw(ax: Axes, panel: Panel, style: _Style) -> None:
    # matplotlib's own wrapping takes the title out of the layout, and so out of the figure.
    title = textwrap.fill(panel.title, 46 if style.ticks else 34)
    ax.set_title(title, fontsize="medium", parse_math=False)
    if panel.image.size == 0:
        ax.text(0.5, 0.5, "empty", ha="center", va="center", transform=ax.transAxes)
        ax.set_axis_off()
    elif panel.image.ndim == 1:
        _curve(ax, panel)
    else:
        _picture(ax, panel, style)


def _curve(ax: Axes, panel: Panel) -> None:
    axis = panel.axes[0]
    ax.plot(axis.coordinates(len(panel.image)), np.real(panel.image))
    ax.set_xlabel(f"{axis.name} ({decorate.unit_text(axis.unit)})", parse_math=False)
    ax.set_ylabel(panel.units, parse_math=False)


def _picture(ax: Axes, panel: Panel, style: _Style) -> None:
    if panel.image.dtype.kind == "c":
        _complex_image(ax, panel, style)
    else:
        _real_image(ax, panel, style)
    shape = (panel.image.shape[0], panel.image.shape[1])
    if style.ticks:
        decorate.label_axes(ax, panel)
    else:
        ax.set_xticks([])
        ax.set_yticks([])
    if style.scalebar:
        decorate.scale_bar(ax, shape, panel.axes[1])
    decorate.draw_overlays(ax, panel, style.overlays)


def _aspect(panel: Panel) -> float:
    """Height of a pixel by its width, where both have the same unit."""
    x, y = panel.axes
    return x.step / y.step if x.unit == y.unit else 1.0


def _real_image(ax: Axes, panel: Panel, style: _Style) -> None:
    values = panel.image.astype(np.float64)
    values[np.isinf(values)] = np.nan  # neither has a colour
    signed = contrast.is_signed(values)
    scale = style.scale or ("sqrt" if panel.reciprocal and not signed else "linear")
    low, high = contrast.limits(values, style.clip, signed, scale)
    norm = contrast.norm(low, high, scale)
    picture = ax.imshow(
        np.ma.masked_invalid(values),
        norm=norm,
        cmap=contrast.color_map(style.cmap, signed, panel.reciprocal),
        interpolation="nearest",
        aspect=_aspect(panel),
    )
    if style.cbar:
        bar = ax.figure.colorbar(picture, ax=ax, shrink=0.85)
        bar.set_label(panel.units, parse_math=False)


def _complex_image(ax: Axes, panel: Panel, style: _Style) -> None:
    """Colours by phase and modulus; the wheel takes the place of the colour bar."""
    modulus: NDArray[np.float64] = np.abs(panel.image).astype(np.float64)
    _, high = contrast.limits(modulus, style.clip, signed=False)
    power = {"sqrt": 0.5}.get(str(style.scale), 1.0)
    if isinstance(style.scale, float):
        power = style.scale
    colors = contrast.complex_colors(panel.image, high, power)
    ax.imshow(colors, interpolation="nearest", aspect=_aspect(panel))
    decorate.color_wheel(ax, high, panel.units)
