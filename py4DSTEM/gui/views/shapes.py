"""The shapes that lie on one canvas: which is active, and what mouse and keys do to them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from pyqtgraph.Qt import QtCore

from py4DSTEM.gui.views.canvas import Canvas
from py4DSTEM.gui.views.shape_item import BODY, ShapeItem

__all__ = ["Shapes"]

Pair = tuple[float, float]


class Shapes(QtCore.QObject):
    """Shape items by name on a canvas."""

    def __init__(self, canvas: Canvas) -> None:
        super().__init__(canvas)
        self._canvas = canvas
        self._items: dict[str, ShapeItem] = {}
        self._cursor: str | None = None
        canvas.key_users.append(self)
        canvas.hovered.connect(self._hover)

    def __iter__(self) -> Iterator[str]:
        return iter(tuple(self._items))

    def __contains__(self, name: str) -> bool:
        return name in self._items

    def __getitem__(self, name: str) -> ShapeItem:
        return self._items[name]

    def add(self, name: str, item: ShapeItem) -> ShapeItem:
        """Put a shape onto the canvas, in place of one of that name."""
        self.remove(name)
        self._items[name] = item
        self._canvas.box.addItem(item, ignoreBounds=True)
        item.clicked.connect(self._canvas.clicked)
        return item

    def remove(self, name: str) -> None:
        """Take a shape away, if it is there."""
        item = self._items.pop(name, None)
        if item is not None:
            self._canvas.box.removeItem(item)

    def activate(self, name: str | None) -> None:
        """Choose the shape that keys act on."""
        for known, item in self._items.items():
            item.set_active(known == name)

    # ---- keys and the mouse ----------------------------------------------------------------------
    def wants(self, ev: Any) -> bool:
        """Whether one of the shapes would use a key."""
        return any(item.wants(ev) for item in self._items.values())

    def press(self, ev: Any) -> bool:
        """Offer a key to the shapes; whether it was used."""
        return any(item.press(ev) for item in tuple(self._items.values()))

    def _hover(self, place: Pair | None) -> None:
        held: str | None = None
        for item in sorted(self._items.values(), key=lambda i: -i.zValue()):
            found = item.hover(None if held is not None else place)
            held = held or found
        if held != self._cursor:
            self._cursor = held
            shape = QtCore.Qt.CursorShape
            chosen = {None: shape.CrossCursor, BODY: shape.SizeAllCursor}
            self._canvas.viewport().setCursor(chosen.get(held, shape.PointingHandCursor))
