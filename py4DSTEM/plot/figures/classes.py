"""Classes of scan positions: where they are, what their patterns look like, how sure they are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.axis import Axis
from py4DSTEM.plot.figures import canvas

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

    from py4DSTEM.process.classes.agreement import ClassAgreement
    from py4DSTEM.process.classes.features import FeatureBlock, Features
    from py4DSTEM.process.classes.result import Classes
    from py4DSTEM.process.classes.suggest import ClassNumbers

__all__ = [
    "class_colors",
    "show_class_agreement",
    "show_class_numbers",
    "show_classes",
    "show_features",
]

_FIRST = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can tell apart."""
_GREY = "#bdbdbd"
_COLUMNS = 6
_MOST = 12
"""Classes, or maps, of which pictures are drawn; the rest is in the map and in the legend."""
_PANEL = 2.0


def class_colors(count: int) -> list[str]:
    """A colour for each of `count` classes.

    >>> class_colors(2)
    ['#0072B2', '#E69F00']
    """
    if count <= len(_FIRST):
        return list(_FIRST[:count])
    from matplotlib import colormaps
    from matplotlib.colors import to_hex

    steps = (np.arange(count - len(_FIRST)) * 0.618034) % 1.0  # neighbours differ much
    return [*_FIRST, *(to_hex(colormaps["turbo"](step)) for step in steps)]


def show_classes(classes: Classes, *, power: float = 0.5, weights: bool | None = None) -> Figure:
    """Draw the map of classes with its legend, their mean patterns and their weights.

    Parameters
    ----------
    classes : Classes
        With patterns where `class_patterns` has made them.
    power : float
        Of the intensity of the patterns: 1 as it is, 0.5 its root.
    weights : bool, optional
        Draw the map of each weight; None: where they are not only 0 and 1.

    Returns
    -------
    Figure
        Positions without class are light grey.

    Examples
    --------
    >>> import matplotlib; matplotlib.use("Agg")
    >>> from py4DSTEM.process.classes.result import classes_of
    >>> figure = show_classes(classes_of([[0, 0, 1], [0, 1, -1]]))
    >>> len(figure.axes)  # the map, and the legend
    2
    """
    soft = _soft(classes) if weights is None else weights
    count = min(classes.n, _MOST)
    rows = math.ceil(count / _COLUMNS)
    above = canvas.map_height(classes.R_shape, classes.calibration, 3.2)
    parts = [above + 0.4]
    parts += [rows * (_PANEL + 0.1)] if classes.patterns is not None else []
    parts += [rows * (_PANEL + 0.1)] if soft else []
    figure = canvas.new_figure(max(_COLUMNS, 4) * _PANEL * 0.9, sum(parts))
    blocks = iter(figure.subfigures(len(parts), 1, height_ratios=parts, squeeze=False)[:, 0])
    _label_map(next(blocks), classes)
    if classes.patterns is not None:
        _patterns(next(blocks), classes, count, power)
    if soft:
        _weights(next(blocks), classes, count)
    return figure


def _soft(classes: Classes) -> bool:
    known = classes.weights[np.isfinite(classes.weights)]
    return bool(np.any((known != 0) & (known != 1)))


def _label_map(part: SubFigure, classes: Classes) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    has = np.isfinite(classes.mean_silhouette)
    axes = part.subplots(1, 3 if has else 2, squeeze=False)[0]
    colors = class_colors(classes.n)
    x, y = classes.calibration.R
    axes[0].imshow(
        np.ma.masked_less(classes.labels, 0),
        cmap=ListedColormap(colors).with_extremes(bad=_GREY),
        vmin=-0.5,
        vmax=classes.n - 0.5,
        interpolation="nearest",
        aspect=x.step / y.step if x.unit == y.unit else 1.0,
    )
    canvas.plain_axes(axes[0], "")
    axes[0].set_title(f"{classes.name}, {classes.method}".rstrip(", "), parse_math=False)
    if has:
        image = np.asarray(classes.silhouette)
        drawn = canvas.scan_map(
            axes[1], image, classes.calibration, f"silhouette, mean {classes.mean_silhouette:.2f}",
            limits=(-1.0, 1.0), cmap="RdBu",
        )  # fmt: skip
        canvas.color_bar(drawn, axes[1], "")
    sizes = classes.sizes
    handles = [
        Patch(
            facecolor=colors[k], label=f"{classes.names[k]}: {sizes[k] / classes.labels.size:.1%}"
        )
        for k in range(min(classes.n, 2 * _MOST))
    ]
    left = int((~classes.classified).sum())
    if left:
        words = f"not classified: {left / classes.labels.size:.1%}"
        handles.append(Patch(facecolor=_GREY, label=words))
    axes[-1].set_axis_off()
    legend = axes[-1].legend(handles=handles, loc="center left", fontsize="small", frameon=False,
                             ncols=1 if len(handles) <= _MOST else 2)  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)


def _patterns(part: SubFigure, classes: Classes, count: int, power: float) -> None:
    """Mean patterns, all on one scale of intensity."""
    patterns = np.asarray(classes.patterns)[:count]
    limits = canvas.between(patterns, 1.0, 99.8)
    for k, ax in enumerate(_grid(part, count)):
        canvas.picture(
            ax, patterns[k], classes.calibration.Q, "", limits=limits, power=power,
            bar=k == 0 and classes.calibration.Q[1].calibrated,
        )  # fmt: skip
        _titled(ax, classes.names[k], class_colors(classes.n)[k])


def _weights(part: SubFigure, classes: Classes, count: int) -> None:
    for k, ax in enumerate(_grid(part, count)):
        image = np.asarray(classes.weights[..., k], np.float64)
        canvas.scan_map(ax, image, classes.calibration, "", limits=canvas.between(image))
        _titled(ax, f"weight, {classes.names[k]}", class_colors(classes.n)[k])


def _titled(ax: Any, words: str, color: str) -> None:
    """A title, and a frame in the colour of the class."""
    ax.set_title(words, fontsize="medium", parse_math=False)
    for spine in ax.spines.values():
        spine.set(visible=True, color=color, linewidth=2.5)


def _grid(part: SubFigure, count: int) -> list[Any]:
    """Axes for `count` pictures, those that are too many switched off."""
    columns = min(count, _COLUMNS)
    axes = part.subplots(math.ceil(count / columns), columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.set_axis_off()
    return list(axes[:count])


# ---- features ------------------------------------------------------------------------------------
def show_features(features: Features) -> Figure:
    """Draw what the features are: the mean and the spread of patterns and profiles, and maps.

    Parameters
    ----------
    features : Features

    Returns
    -------
    Figure
        A row per block, of maps at most six.
    """
    figure = canvas.new_figure(_COLUMNS * _PANEL * 0.9, len(features.blocks) * (_PANEL + 0.6))
    parts = figure.subfigures(len(features.blocks), 1, squeeze=False)[:, 0]
    for part, block in zip(parts, features.blocks, strict=True):
        part.suptitle(f"{block.name} ({block.size} features)", fontsize="medium", parse_math=False)
        values = np.asarray(features.data[:, features.columns(block)], np.float64)
        known = np.isfinite(values).any(axis=0)
        mean, spread = (np.full(block.size, np.nan) for _ in range(2))
        mean[known], spread[known] = np.nanmean(values[:, known], 0), np.nanstd(values[:, known], 0)
        if block.kind in ("patterns", "vectors"):
            _draw_pattern(part, block, mean, spread)
        elif block.kind == "profile":
            _draw_profile(part, block, mean, spread)
        else:
            _draw_maps(part, features, block, values)
    return figure


def _draw_pattern(
    part: SubFigure, block: FeatureBlock, mean: NDArray[Any], spread: NDArray[Any]
) -> None:
    axes = (Axis("x"), Axis("y"))
    for ax, row, words in zip(part.subplots(1, 2), (mean, spread), ("mean", "spread"), strict=True):
        canvas.picture(ax, row.reshape(block.shape), axes, words, power=0.5)


def _draw_profile(
    part: SubFigure, block: FeatureBlock, mean: NDArray[Any], spread: NDArray[Any]
) -> None:
    ax = part.subplots()
    radius = block.step * np.arange(block.size)
    ax.plot(radius, mean, color=canvas.SECOND)
    ax.fill_between(radius, mean - spread, mean + spread, color=canvas.SECOND, alpha=0.25)
    ax.set_xlabel(f"distance from the origin ({block.unit})", parse_math=False)
    ax.set_ylabel("intensity per pixel")


def _draw_maps(
    part: SubFigure, features: Features, block: FeatureBlock, values: NDArray[Any]
) -> None:
    names = block.names[:_COLUMNS]
    axes: Sequence[Any] = part.subplots(1, max(len(names), 3))
    for k, ax in enumerate(axes):
        if k >= len(names):
            ax.set_axis_off()
            continue
        image = values[:, k].reshape(features.R_shape)
        canvas.scan_map(ax, image, features.calibration, "")
        ax.set_title(names[k], fontsize="medium", parse_math=False)


# ---- how many, and how alike ---------------------------------------------------------------------
def show_class_numbers(found: ClassNumbers) -> Figure:
    """Draw what speaks for each number of classes.

    Parameters
    ----------
    found : ClassNumbers

    Returns
    -------
    Figure
        Silhouette and stability against the number; the line is the suggestion.
    """
    figure = canvas.new_figure(6.4, 4.0)
    ax = figure.subplots()
    ax.plot(found.n, found.silhouette, "o-", color=canvas.SECOND, label="mean silhouette")
    if np.isfinite(found.stability).any():
        ax.plot(found.n, found.stability, "s--", color=canvas.ACCENT, label="stability")
    ax.axvline(found.best, color="0.5", linewidth=0.8)
    ax.set_ylim(top=1.05)
    ax.set_xticks(found.n)
    ax.set_xlabel("number of classes")
    ax.set_title(f"{found.name} by {found.method}: {found.best} suggested", parse_math=False)
    ax.legend(fontsize="small", framealpha=0.8)
    return figure


def show_class_agreement(found: ClassAgreement) -> Figure:
    """Draw how many positions each pair of classes shares.

    Parameters
    ----------
    found : ClassAgreement

    Returns
    -------
    Figure
        Rows and columns that belong together stand in the diagonal.
    """
    rows, columns = found.counts.shape
    pairs = dict(found.matches)
    order = sorted(range(rows), key=lambda i: (i not in pairs, i))
    across = [pairs[i] for i in order if i in pairs]
    across += [j for j in range(columns) if j not in across]
    table = found.counts[np.ix_(order, across)]
    figure = canvas.new_figure(2.4 + 0.6 * columns, 1.6 + 0.5 * rows)
    ax = figure.subplots()
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (i, j), number in np.ndenumerate(table):
        color = "white" if shares[i, j] > 0.5 else "black"
        ax.text(j, i, str(number), ha="center", va="center", color=color, fontsize="small")
    names = [found.others[j] for j in across]
    ax.set_xticks(range(columns), names, rotation=30, ha="right", parse_math=False)
    ax.set_yticks(range(rows), [found.names[i] for i in order], parse_math=False)
    ax.set_title(f"adjusted Rand index {found.adjusted_rand:.3f}", fontsize="medium")
    return figure
