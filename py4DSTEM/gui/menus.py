"""Menus and keys, made from the table of actions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.errors import ParameterError
from py4DSTEM.gui.state.actions import ACTIONS, MENUS, Action, by_id, keys

__all__ = ["Actions"]

MISSING = "this part of the program is not installed in this version"


class Actions(QtCore.QObject):
    """The table of actions as things that can be clicked and typed.

    Parameters
    ----------
    window : MainWindow
    changed : mapping
        Keys of actions that the user has chosen.
    """

    def __init__(self, window: Any, changed: Mapping[str, Sequence[str]]) -> None:
        super().__init__(window)
        self._window = window
        self._rooms: dict[str, Any] = {}
        self._enabled_for: bool | None = None
        self.made = {action.id: self._make(action) for action in ACTIONS}
        self.menus: dict[str, QtWidgets.QMenu] = {}
        self._fill_menus()
        self.rebind(changed)

    def _make(self, action: Action) -> QtGui.QAction:
        made = QtGui.QAction(action.text, self)
        made.setObjectName(action.id)
        made.setStatusTip(action.help)
        made.setCheckable(action.checkable)
        made.setMenuRole(_role(action))
        contexts = QtCore.Qt.ShortcutContext
        images = action.where == "images"
        made.setShortcutContext(
            contexts.WidgetWithChildrenShortcut if images else contexts.WindowShortcut
        )
        made.triggered.connect(partial(self._run, action))
        for widget in self._window.images() if images else (self._window,):
            widget.addAction(made)
        return made

    def _fill_menus(self) -> None:
        bar = self._window.menuBar()
        for name in MENUS:
            self.menus[name] = bar.addMenu(f"&{name}")
            self.menus[name].setToolTipsVisible(True)
        for action in ACTIONS:
            if action.menu:
                menu = self._menu(action.menu)
                if action.separated and not menu.isEmpty():
                    menu.addSeparator()
                menu.addAction(self.made[action.id])

    def _menu(self, path: str) -> QtWidgets.QMenu:
        if path not in self.menus:
            above, _, name = path.rpartition("/")
            self.menus[path] = self._menu(above).addMenu(name)
            self.menus[path].setToolTipsVisible(True)
        return self.menus[path]

    def submenu(self, menu: str, text: str, *, before: str) -> QtWidgets.QMenu:
        """A menu that is filled when it opens, before an action of another menu."""
        made = QtWidgets.QMenu(text, self._window)
        self.menus[menu].insertMenu(self.made[before], made)
        return made

    # ---- what they do ----------------------------------------------------------------------------
    def trigger(self, id: str) -> None:
        """As if the action had been clicked; one that is disabled does nothing."""
        self.made[by_id(id).id].trigger()

    def _run(self, action: Action, checked: bool = False) -> None:
        try:
            self.handler(action)()
        except Exception as error:  # whatever it is, the user is told and the program goes on
            self._window.troubles.show(_spoken(action), error)

    def handler(self, action: Action) -> Callable[[], None]:
        """The method behind an action; its module is imported when first needed."""
        found: Callable[[], None] = getattr(self.room(action.module), action.method)
        return found

    def room(self, name: str) -> Any:
        """The handlers of one module."""
        if name not in self._rooms:
            try:
                module = import_module(f"py4DSTEM.gui.handlers.{name}")
            except ModuleNotFoundError as error:
                raise ParameterError(f"{MISSING} ({error})") from error
            self._rooms[name] = module.Handlers(self._window)
        return self._rooms[name]

    # ---- how they look ---------------------------------------------------------------------------
    def rebind(self, changed: Mapping[str, Sequence[str]]) -> None:
        """Give the actions their keys: those of the table, or those the user has chosen."""
        for id, found in keys(changed).items():
            made, action = self.made[id], by_id(id)
            made.setShortcuts([QtGui.QKeySequence(key) for key in found])
            shown = f" ({', '.join(found)})" if found else ""
            made.setToolTip(f"{action.help}{shown}")

    def enable(self, scan: bool, undo: str, redo: str) -> None:
        """What can be done now."""
        if scan is not self._enabled_for:
            self._enabled_for = scan
            for action in ACTIONS:
                self.made[action.id].setEnabled(scan or not action.needs_scan)
        for id, label in (("edit.undo", undo), ("edit.redo", redo)):
            self.made[id].setEnabled(bool(label))
            self.made[id].setText(f"{by_id(id).text} {label}".strip())


def _spoken(action: Action) -> str:
    """As part of a sentence: could not …"""
    text = action.text.removesuffix("…")
    return text[:1].lower() + text[1:] if text[1:2].islower() else text


def _role(action: Action) -> Any:
    """Where macOS puts it."""
    roles = QtGui.QAction.MenuRole
    known = {
        "file.quit": roles.QuitRole,
        "edit.preferences": roles.PreferencesRole,
        "help.about": roles.AboutRole,
    }
    return known.get(action.id, roles.NoRole)
