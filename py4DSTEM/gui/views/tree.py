"""The project as a tree: scans, what the images may show, calibrations, results."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.commands import RenameResult, SwitchLayer
from py4DSTEM.gui.state.project import Layer, Project, Result, Scan

__all__ = ["ProjectTree"]

_ITEM = QtCore.Qt.ItemDataRole.UserRole
_CHECKED, _UNCHECKED = QtCore.Qt.CheckState.Checked, QtCore.Qt.CheckState.Unchecked
_FLAGS = QtCore.Qt.ItemFlag

MENUS = {
    "scan": ("show", "copy name", "export", "close"),
    "view": ("show",),
    "layer": ("show", "form", "remove"),
    "result": ("show", "figure", "rename", "form", "export", "remove"),
}
WORDS = {
    "show": "Show",
    "figure": "Show as figure",
    "copy name": "Copy name",
    "rename": "Rename",
    "form": "Form that made it",
    "export": "Export…",
    "remove": "Remove",
    "close": "Close",
}


class ProjectTree(QtWidgets.QTreeWidget):
    """Shows the project; what is asked of its entries is told by `asked`."""

    asked = QtCore.Signal(str, str, str)
    """(what, key of the scan, name): such as ("remove", "scan1", "result:strain")."""

    def __init__(self, session: Session, parent: Any = None) -> None:
        super().__init__(parent)
        self._session = session
        self._shown: Any = None
        self._filling = False
        self.setHeaderHidden(True)
        self.setIndentation(14)
        self.setUniformRowHeights(True)
        self.setEditTriggers(QtWidgets.QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setContextMenuPolicy(QtCore.Qt.ContextMenuPolicy.CustomContextMenu)
        self.setMinimumWidth(120)
        self.customContextMenuRequested.connect(self._menu)
        self.itemDoubleClicked.connect(lambda item, _: self._ask("show", item))
        self.itemChanged.connect(self._edited)
        session.changed.connect(lambda _, after: self.refresh(after))
        self.refresh(session.project)

    # ---- what it shows ---------------------------------------------------------------------------
    def refresh(self, project: Project) -> None:
        """Draw the tree anew where something in it has changed."""
        now = _signature(project)
        if now == self._shown:
            return
        self._shown, self._filling = now, True
        closed, chosen = self._state()
        self.clear()
        for scan in project.scans:
            self._add_scan(scan, scan.key == project.current)
        if not project.scans:
            hint = QtWidgets.QTreeWidgetItem(self, ["Drop files here, or Ctrl+O"])
            hint.setDisabled(True)
        self._restore(closed, chosen)
        self._filling = False

    def _add_scan(self, scan: Scan, current: bool) -> None:
        top = self._item(self, scan.name, ("scan", scan.key, ""), scan.source.path or "in memory")
        font = top.font(0)
        font.setBold(current)
        top.setFont(0, font)
        views = self._item(top, "views", ("group", scan.key, "views"))
        for panel, text, tip in (
            ("real", "image of the detectors", "What the detectors give, in real space"),
            ("diffraction", "pattern of the selection", "The pattern of the selected positions"),
        ):
            shown = " ◂" if getattr(scan, panel) == "" else ""
            self._item(views, text + shown, ("view", scan.key, f"view:{panel}"), tip)
        known = any(layer.enabled for layer in scan.layers)
        group = self._item(
            top, f"calibration{' ✓' if known else ''}", ("group", scan.key, "calibration"),
            "Measured calibrations; switch them on and off without loss",
        )  # fmt: skip
        for layer in scan.layers:
            self._add_layer(group, scan, layer)
        results = self._item(top, "results", ("group", scan.key, "results"))
        for result in scan.results:
            self._add_result(results, scan, result)

    def _add_layer(self, group: Any, scan: Scan, layer: Layer) -> None:
        item = self._item(group, layer.name, ("layer", scan.key, f"layer:{layer.name}"))
        item.setFlags(item.flags() | _FLAGS.ItemIsUserCheckable)
        item.setCheckState(0, _CHECKED if layer.enabled else _UNCHECKED)
        item.setToolTip(0, layer.made.kind if layer.made else "by hand")

    def _add_result(self, group: Any, scan: Scan, result: Result) -> None:
        shown = [getattr(scan, panel).partition("/")[0] for panel in ("real", "diffraction")]
        mark = " ◂" if result.name in shown else ""
        item = self._item(
            group, result.name + mark, ("result", scan.key, f"result:{result.name}"),
            f"{type(result.value).__name__}"
            + (f", made by {result.made.kind}" if result.made else ""),
        )  # fmt: skip
        item.setFlags(item.flags() | _FLAGS.ItemIsEditable)

    def _item(
        self, parent: Any, text: str, data: tuple[str, str, str], tip: str = ""
    ) -> QtWidgets.QTreeWidgetItem:
        item = QtWidgets.QTreeWidgetItem(parent, [text])
        item.setData(0, _ITEM, data)
        item.setToolTip(0, tip or text)
        item.setExpanded(True)
        return item

    # ---- what is open and chosen -----------------------------------------------------------------
    def _all(self) -> list[QtWidgets.QTreeWidgetItem]:
        walk = QtWidgets.QTreeWidgetItemIterator(self)
        found = []
        while walk.value() is not None:
            found.append(walk.value())
            walk += 1
        return found

    def item(self, key: str, name: str = "") -> QtWidgets.QTreeWidgetItem | None:
        """The entry of a scan, or of something in it ("result:strain")."""
        matches = (i for i in self._all() if (i.data(0, _ITEM) or ("", "", ""))[1:] == (key, name))
        return next(matches, None)

    def _state(self) -> tuple[set[Any], Any]:
        closed = {i.data(0, _ITEM) for i in self._all() if i.childCount() and not i.isExpanded()}
        current = self.currentItem()
        return closed, None if current is None else current.data(0, _ITEM)

    def _restore(self, closed: set[Any], chosen: Any) -> None:
        for item in self._all():
            data = item.data(0, _ITEM)
            item.setExpanded(data not in closed)
            if data is not None and data == chosen:
                self.setCurrentItem(item)

    # ---- what is done with it --------------------------------------------------------------------
    def _ask(self, what: str, item: Any) -> None:
        kind, key, name = item.data(0, _ITEM) or ("", "", "")
        if what not in MENUS.get(kind, ()):
            return
        if what == "rename":
            self._rename(item)
        else:
            self.asked.emit(what, key, name)

    def _rename(self, item: Any) -> None:
        self._filling = True
        item.setText(0, item.data(0, _ITEM)[2].removeprefix("result:"))
        self._filling = False
        self.editItem(item, 0)

    def _menu(self, at: QtCore.QPoint) -> None:
        item = self.itemAt(at)
        if item is not None:
            menu = self.menu_of(item)
            menu.setAttribute(QtCore.Qt.WidgetAttribute.WA_DeleteOnClose)
            menu.popup(self.viewport().mapToGlobal(at))

    def menu_of(self, item: QtWidgets.QTreeWidgetItem) -> QtWidgets.QMenu:
        """What can be done with an entry."""
        menu = QtWidgets.QMenu(self)
        kind = (item.data(0, _ITEM) or ("",))[0]
        for what in MENUS.get(kind, ()):
            action = menu.addAction(WORDS[what])
            action.triggered.connect(lambda _=False, what=what: self._ask(what, item))
        return menu

    def _edited(self, item: QtWidgets.QTreeWidgetItem, column: int) -> None:
        if self._filling or item.data(0, _ITEM) is None:
            return
        kind, key, name = item.data(0, _ITEM)
        inner = name.partition(":")[2]
        self._shown = None  # whatever comes of it, draw what the project says
        if kind == "layer":
            enabled = item.checkState(0) == _CHECKED
            self._session.do(SwitchLayer(key=key, name=inner, enabled=enabled))
        elif kind == "result":
            wish = item.text(0).strip()
            if wish and wish != inner:
                self._session.do(RenameResult(key=key, name=inner, to=wish))
        QtCore.QTimer.singleShot(0, lambda: self.refresh(self._session.project))

    def keyPressEvent(self, event: QtGui.QKeyEvent | None) -> None:
        """Delete, F2 and Return act on the entry that is chosen."""
        keys = QtCore.Qt.Key
        acts = {keys.Key_Delete: "remove", keys.Key_F2: "rename", keys.Key_Return: "show"}
        item = self.currentItem()
        if event is not None and item is not None and event.key() in acts:
            self._ask(acts[event.key()], item)
            return
        super().keyPressEvent(event)


def _signature(project: Project) -> Any:
    """What the tree shows of a project."""
    return project.current, tuple(
        (
            scan.key, scan.name, scan.real, scan.diffraction,
            tuple((layer.name, layer.enabled) for layer in scan.layers),
            tuple((result.name, id(result.value)) for result in scan.results),
        )
        for scan in project.scans
    )  # fmt: skip
