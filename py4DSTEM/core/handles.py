"""Points by which detectors and selections are held, and what dragging them gives.

All functions are pure: they give new shapes, for any position that a mouse can have.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import singledispatch
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detector import (
    Annulus,
    Detector,
    Disk,
    DiskLattice,
    EllipseDisk,
    Mask,
    Point,
    Polygon,
    Rectangle,
    Segment,
)
from py4DSTEM.core.detectors.lattice import shortest
from py4DSTEM.core.edges import frame_of
from py4DSTEM.core.selection import (
    DiskSelection,
    MaskSelection,
    PointSelection,
    PolygonSelection,
    RectangleSelection,
    Selection,
)
from py4DSTEM.errors import ParameterError

__all__ = ["LEAST_PX", "grown", "handles", "moved", "shifted", "with_vertex", "without_vertex"]

Float = NDArray[np.float64]
Pair = tuple[float, float]
Shape = TypeVar("Shape", Detector, Selection)
LEAST_PX = 0.5
"""Smallest size, in pixels, that dragging gives."""
_FURTHEST_PX = 1e6
_LEAST_RAD = 0.01
# Just under a whole turn: rounding must not make it more than one.
_MOST_RAD = math.tau - 1e-9


def handles(shape: Detector | Selection, calibration: Calibration | None = None) -> dict[str, Pair]:
    """Points by which a detector or a selection is held.

    Parameters
    ----------
    shape : Detector or Selection
    calibration : Calibration, optional
        As for `outline`.

    Returns
    -------
    dict of str to (float, float)
        In pixels, by name: ``"center"`` and those of the shape, ``"radius"``, ``"inner"``,
        ``"outer"``, ``"start"``, ``"stop"``, ``"corner"``, ``"height"``, ``"width"``, ``"a"``,
        ``"b"``, ``"g1"``, ``"g2"``, ``"vertex0"`` …  A mask has none.

    Examples
    --------
    >>> handles(Disk(3, center=(5, 6)))
    {'center': (5.0, 6.0), 'radius': (5.0, 9.0)}
    """
    if isinstance(shape, Selection):
        return {name: _pair(np.array(at)) for name, at in _selection_handles(shape).items()}
    if isinstance(shape, Mask):
        return {}
    frame = frame_of(shape, calibration)
    local = {"center": (0.0, 0.0), **_detector_handles(shape)}
    return {name: _pair(frame.pixels(np.array(at))) for name, at in local.items()}


def moved(shape: Shape, handle: str, to: Pair, calibration: Calibration | None = None) -> Shape:
    """The shape after dragging one of its handles.

    Sizes stay above half a pixel and inner radii below outer ones; a drag that cannot be followed
    leaves the shape as it is.

    Parameters
    ----------
    shape : Detector or Selection
    handle : str
        A name that `handles` gives.  Dragging ``"center"`` gives a detector without one its own.
    to : (float, float)
        Where it is dragged to, in pixels; it may lie outside of the frame.
    calibration : Calibration, optional
        As for `outline`.

    Returns
    -------
    Detector or Selection
        Of the same kind.

    Raises
    ------
    ParameterError
        The shape has no such handle.

    Examples
    --------
    >>> moved(Disk(3, center=(5, 6)), "radius", (9, 6)).radius
    4.0
    """
    known = handles(shape, calibration)
    # A hole that has just closed may be opened again by the same drag.
    if handle not in known and not (handle == "inner" and isinstance(shape, Annulus | Segment)):
        has = f"the handles {', '.join(known)}" if known else "no handles"
        raise ParameterError(f"a shape of kind {shape.kind!r} has {has}, not {handle!r}")
    at = np.asarray(to, dtype=np.float64)
    if not np.isfinite(at).all():
        return shape
    at = np.clip(at, -_FURTHEST_PX, _FURTHEST_PX)
    if isinstance(shape, Selection):
        selection: Shape = _dragged_selection(shape, handle, at)
        return selection
    if handle == "center":
        return _replaced(shape, center=_pair(at))
    frame = frame_of(shape, calibration)
    x, y = frame.to_units @ (at - frame.center)
    dragged: Shape = _dragged(shape, handle, (float(x), float(y)), LEAST_PX * frame.unit_per_px)
    return dragged


def shifted(shape: Shape, by: Pair, calibration: Calibration | None = None) -> Shape:
    """The shape moved as a whole.

    Parameters
    ----------
    shape : Detector or Selection
    by : (float, float)
        ``(dx, dy)`` in pixels.  What lies on whole pixels (masks, selected positions) moves by
        whole ones.
    calibration : Calibration, optional
        Origin of a detector without a centre of its own, which then has one.

    Returns
    -------
    Detector or Selection
        Of the same kind; a mask that would leave the frame stays.

    Examples
    --------
    >>> shifted(Disk(3, center=(5, 6)), (0.5, -1)).center
    (5.5, 5.0)
    """
    if not np.isfinite(by).all():
        return shape
    if isinstance(shape, Mask | MaskSelection):
        data = _shifted_pixels(shape.data, by)
        return _replaced(shape, data=data) if data.any() else shape
    held = handles(shape, calibration)["center"]
    return moved(shape, "center", (held[0] + by[0], held[1] + by[1]), calibration)


def grown(
    shape: Shape, by_px: float, which: str = "outer", calibration: Calibration | None = None
) -> Shape:
    """The shape made larger, or smaller.

    Parameters
    ----------
    shape : Detector or Selection
    by_px : float
        Added to its radius, in pixels; negative: taken away.
    which : "outer" or "inner"
        The radius of a ring that changes; what has no inner one stays as it is.
    calibration : Calibration, optional
        As for `outline`.

    Returns
    -------
    Detector or Selection
        Of the same kind; points and masks stay as they are.

    Examples
    --------
    >>> grown(Annulus(2, 5, center=(8, 8)), 1, "inner").inner
    3.0
    """
    if which not in ("outer", "inner"):
        raise ParameterError(f'which must be "outer" or "inner", not {which!r}')
    if not math.isfinite(by_px) or isinstance(shape, Mask | MaskSelection | Point | PointSelection):
        return shape
    by = float(np.clip(by_px, -_FURTHEST_PX, _FURTHEST_PX))
    pixel = 1.0 if isinstance(shape, Selection) else frame_of(shape, calibration).unit_per_px
    if isinstance(shape, Annulus | Segment):
        larger: Shape = _grown_ring(shape, by * pixel, which, LEAST_PX * pixel)
    elif which == "outer":
        larger = _grown(shape, by * pixel, LEAST_PX * pixel)
    else:
        larger = shape
    return larger


def with_vertex(shape: Shape, at: Pair, calibration: Calibration | None = None) -> Shape:
    """A polygon with one more vertex, on the edge that is nearest to a place.

    Parameters
    ----------
    shape : Detector or Selection
    at : (float, float)
        In pixels; the new vertex lies there.
    calibration : Calibration, optional
        As for `outline`.

    Returns
    -------
    Detector or Selection
        What is no polygon stays as it is.

    Examples
    --------
    >>> with_vertex(Polygon(((0, 0), (0, 4), (4, 0)), center=(5, 5)), (7, 7.5)).vertices
    ((0.0, 0.0), (0.0, 4.0), (2.0, 2.5), (4.0, 0.0))
    """
    if not isinstance(shape, Polygon | PolygonSelection) or not np.isfinite(at).all():
        return shape
    place = np.asarray(at, dtype=np.float64)
    if isinstance(shape, Polygon):
        frame = frame_of(shape, calibration)
        place = frame.to_units @ (place - frame.center)
    start = np.array(shape.vertices)
    along = np.roll(start, -1, axis=0) - start
    length2 = np.maximum((along**2).sum(axis=1), 1e-300)
    part = np.clip(((place - start) * along).sum(axis=1) / length2, 0.0, 1.0)
    away = np.hypot(*(start + part[:, None] * along - place).T)
    known: tuple[Pair, ...] = shape.vertices
    after: int = int(away.argmin()) + 1
    return _replaced(shape, vertices=(*known[:after], _pair(place), *known[after:]))


def without_vertex(shape: Shape, handle: str) -> Shape:
    """A polygon without the vertex of a handle; one of three stays as it is.

    >>> without_vertex(Polygon(((0, 0), (0, 4), (4, 4), (4, 0))), "vertex1").vertices
    ((0.0, 0.0), (4.0, 4.0), (4.0, 0.0))
    """
    if not isinstance(shape, Polygon | PolygonSelection) or not handle.startswith("vertex"):
        return shape
    vertices: tuple[Pair, ...] = shape.vertices
    if len(vertices) <= 3:
        return shape
    k: int = int(handle.removeprefix("vertex"))
    try:
        return _replaced(shape, vertices=(*vertices[:k], *vertices[k + 1 :]))
    except ParameterError:  # those that are left lie on a line
        return shape


def _pair(at: Float) -> Pair:
    return float(at[0]), float(at[1])


def _replaced(shape: Shape, **changes: Any) -> Shape:
    new: Shape = replace(shape, **changes)  # type: ignore[type-var]  # all shapes are dataclasses
    return new


def _shifted_pixels(data: Float, by: Pair) -> Float:
    out = np.zeros_like(data)
    taken, given = [], []
    for step, size in zip(by, data.shape, strict=True):
        d = int(np.clip(np.floor(step + 0.5), -size, size))
        taken.append(slice(max(-d, 0), size - max(d, 0)))
        given.append(slice(max(d, 0), size - max(-d, 0)))
    out[tuple(given)] = data[tuple(taken)]
    return out


# ---- handles of detectors, in their own unit, around their centre --------------------------------
@singledispatch
def _detector_handles(detector: Detector) -> dict[str, Pair]:
    return {}


@_detector_handles.register
def _(detector: Disk) -> dict[str, Pair]:
    return {"radius": (0.0, detector.radius)}


@_detector_handles.register
def _(detector: Annulus) -> dict[str, Pair]:
    # On opposite sides, so that those of a thin ring do not lie on each other.
    inner = {"inner": (0.0, -detector.inner)} if detector.inner > 0 else {}
    return {"outer": (0.0, detector.outer), **inner}


@_detector_handles.register
def _(detector: Rectangle) -> dict[str, Pair]:
    x, y = detector.height / 2, detector.width / 2
    return {"corner": (x, y), "height": (x, 0.0), "width": (0.0, y)}


@_detector_handles.register
def _(detector: Segment) -> dict[str, Pair]:
    d = detector
    middle, between = (d.start_rad + d.stop_rad) / 2, (d.inner + d.outer) / 2
    held = {"outer": _polar(d.outer, middle)}
    if d.inner > 0:
        held["inner"] = _polar(d.inner, middle)
    return held | {"start": _polar(between, d.start_rad), "stop": _polar(between, d.stop_rad)}


@_detector_handles.register
def _(detector: EllipseDisk) -> dict[str, Pair]:
    d = detector
    return {"a": _polar(d.a, d.theta_rad), "b": _polar(d.b, d.theta_rad + math.pi / 2)}


@_detector_handles.register
def _(detector: Polygon) -> dict[str, Pair]:
    return {f"vertex{k}": vertex for k, vertex in enumerate(detector.vertices)}


@_detector_handles.register
def _(detector: DiskLattice) -> dict[str, Pair]:
    d = detector
    return {"radius": (d.g1[0], d.g1[1] + d.radius), "g1": d.g1, "g2": d.g2}


def _polar(radius: float, angle: float) -> Pair:
    return radius * math.cos(angle), radius * math.sin(angle)


# ---- dragged detectors; `at` in their own unit, around their centre ------------------------------
@singledispatch
def _dragged(detector: Any, handle: str, at: Pair, least: float) -> Any:
    return detector


@_dragged.register
def _(detector: Disk, handle: str, at: Pair, least: float) -> Disk:
    return replace(detector, radius=max(math.hypot(*at), least))


@_dragged.register
def _(detector: Annulus, handle: str, at: Pair, least: float) -> Annulus:
    ring: Annulus = _with_radius(detector, handle, math.hypot(*at), least)
    return ring


def _with_radius(ring: Any, which: str, radius: float, least: float) -> Any:
    if which == "inner":
        # A ring that is thinner than two steps has no room for a hole of one.
        inner = min(max(radius, least), ring.outer - least)
        return replace(ring, inner=max(inner, 0.0))
    return replace(ring, outer=max(radius, ring.inner + least))


@_dragged.register
def _(detector: Rectangle, handle: str, at: Pair, least: float) -> Rectangle:
    height, width = (max(2 * abs(v), least) for v in at)
    if handle == "height":
        return replace(detector, height=height)
    if handle == "width":
        return replace(detector, width=width)
    return replace(detector, height=height, width=width)


@_dragged.register
def _(detector: Segment, handle: str, at: Pair, least: float) -> Segment:
    if handle in ("inner", "outer"):
        ring: Segment = _with_radius(detector, handle, math.hypot(*at), least)
        return ring
    angle = math.atan2(at[1], at[0])
    start, stop = detector.start_rad, detector.stop_rad
    turn = stop - angle if handle == "start" else angle - start
    span = turn % math.tau
    if not _LEAST_RAD < span < _MOST_RAD:  # where both directions meet it stays what it was
        span = _LEAST_RAD if stop - start < math.pi else _MOST_RAD
    first = (stop - span if handle == "start" else start) % math.tau
    return replace(detector, start_rad=first, stop_rad=first + span)


@_dragged.register
def _(detector: EllipseDisk, handle: str, at: Pair, least: float) -> EllipseDisk:
    if handle == "a":
        length = math.hypot(*at)
        angle = math.atan2(at[1], at[0]) if length > least else detector.theta_rad
        return replace(detector, a=max(length, least), theta_rad=angle)
    across = at[1] * math.cos(detector.theta_rad) - at[0] * math.sin(detector.theta_rad)
    return replace(detector, b=max(abs(across), least))


@_dragged.register
def _(detector: Polygon, handle: str, at: Pair, least: float) -> Polygon:
    return replace(detector, vertices=_with_vertex(detector.vertices, handle, at))


def _with_vertex(vertices: tuple[Pair, ...], handle: str, at: Pair) -> tuple[Pair, ...]:
    k: int = int(handle.removeprefix("vertex"))
    return (*vertices[:k], at, *vertices[k + 1 :])


@_dragged.register
def _(detector: DiskLattice, handle: str, at: Pair, least: float) -> DiskLattice:
    if handle == "radius":
        radius = max(math.hypot(at[0] - detector.g1[0], at[1] - detector.g1[1]), least)
        return replace(detector, radius=min(radius, shortest(detector.g1, detector.g2) / 2))
    vectors = {"g1": detector.g1, "g2": detector.g2, handle: at}
    try:
        spacing = shortest(vectors["g1"], vectors["g2"])
    except ParameterError:
        return detector
    if spacing < 2 * least:
        return detector
    radius = min(detector.radius, spacing / 2)
    return replace(detector, radius=radius, g1=vectors["g1"], g2=vectors["g2"])


# ---- grown shapes --------------------------------------------------------------------------------
def _grown_ring(ring: Any, by: float, which: str, least: float) -> Any:
    if which == "outer":
        return _with_radius(ring, "outer", ring.outer + by, least)
    return replace(ring, inner=max(min(ring.inner + by, ring.outer - least), 0.0))


@singledispatch
def _grown(shape: Any, by: float, least: float) -> Any:
    return shape


@_grown.register
def _(shape: Disk | DiskSelection, by: float, least: float) -> Any:
    return replace(shape, radius=max(shape.radius + by, least))


@_grown.register
def _(shape: Rectangle, by: float, least: float) -> Rectangle:
    height, width = (max(v + 2 * by, least) for v in (shape.height, shape.width))
    return replace(shape, height=height, width=width)


@_grown.register
def _(shape: EllipseDisk, by: float, least: float) -> EllipseDisk:
    return replace(shape, a=max(shape.a + by, least), b=max(shape.b + by, least))


@_grown.register
def _(shape: Polygon | PolygonSelection, by: float, least: float) -> Any:
    vertices = np.array(shape.vertices)
    middle = vertices.mean(axis=0)
    radius = float(np.hypot(*(vertices - middle).T).mean())
    if radius == 0:
        return shape
    factor = max(radius + by, least) / radius
    return replace(shape, vertices=_pairs(middle + factor * (vertices - middle)))


@_grown.register
def _(shape: DiskLattice, by: float, least: float) -> DiskLattice:
    most = shortest(shape.g1, shape.g2) / 2
    return replace(shape, radius=min(max(shape.radius + by, least), most))


@_grown.register
def _(shape: RectangleSelection, by: float, least: float) -> RectangleSelection:
    d, s = math.floor(by + 0.5), shape
    x0, y0 = min(s.x0 - d, (s.x0 + s.x1 - 1) // 2), min(s.y0 - d, (s.y0 + s.y1 - 1) // 2)
    return RectangleSelection(x0, max(s.x1 + d, x0 + 1), y0, max(s.y1 + d, y0 + 1))


def _pairs(points: Float) -> tuple[Pair, ...]:
    return tuple(_pair(point) for point in points)


# ---- selections ----------------------------------------------------------------------------------
@singledispatch
def _selection_handles(selection: Selection) -> dict[str, Pair]:
    return {}


@_selection_handles.register
def _(selection: PointSelection) -> dict[str, Pair]:
    return {"center": selection.middle()}


@_selection_handles.register
def _(selection: RectangleSelection) -> dict[str, Pair]:
    s = selection
    corners = {"corner": (s.x1 - 0.5, s.y1 - 0.5), "corner0": (s.x0 - 0.5, s.y0 - 0.5)}
    return {"center": s.middle(), **corners}


@_selection_handles.register
def _(selection: DiskSelection) -> dict[str, Pair]:
    x, y = selection.center
    return {"center": (x, y), "radius": (x, y + selection.radius)}


@_selection_handles.register
def _(selection: PolygonSelection) -> dict[str, Pair]:
    vertices = {f"vertex{k}": vertex for k, vertex in enumerate(selection.vertices)}
    return {"center": selection.middle(), **vertices}


@singledispatch
def _dragged_selection(selection: Any, handle: str, at: Float) -> Any:
    return selection


@_dragged_selection.register
def _(selection: PointSelection, handle: str, at: Float) -> PointSelection:
    return PointSelection(*_rounded(at))


@_dragged_selection.register
def _(selection: RectangleSelection, handle: str, at: Float) -> RectangleSelection:
    s = selection
    if handle == "center":
        dx, dy = _rounded(at - np.array(s.middle()))
        return RectangleSelection(s.x0 + dx, s.x1 + dx, s.y0 + dy, s.y1 + dy)
    x, y = _rounded(at + 0.5)
    if handle == "corner":
        return replace(s, x1=max(x, s.x0 + 1), y1=max(y, s.y0 + 1))
    return replace(s, x0=min(x, s.x1 - 1), y0=min(y, s.y1 - 1))


@_dragged_selection.register
def _(selection: DiskSelection, handle: str, at: Float) -> DiskSelection:
    if handle == "center":
        return replace(selection, center=_pair(at))
    radius = math.hypot(*(at - np.array(selection.center)))
    return replace(selection, radius=max(radius, LEAST_PX))


@_dragged_selection.register
def _(selection: PolygonSelection, handle: str, at: Float) -> PolygonSelection:
    if handle == "center":
        step = at - np.array(selection.middle())
        return PolygonSelection(_pairs(np.array(selection.vertices) + step))
    return PolygonSelection(_with_vertex(selection.vertices, handle, _pair(at)))


def _rounded(at: Float) -> tuple[int, int]:
    x, y = np.floor(at + 0.5)
    return int(x), int(y)
