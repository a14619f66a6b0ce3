"""Dark and light: palettes of the whole program, changed while it runs."""

from __future__ import annotations

from typing import Any

import pyqtgraph as pg
from pyqtgraph.Qt import QtGui, QtWidgets

__all__ = ["apply", "is_dark"]

DARK = {
    "Window": "#26282b", "WindowText": "#dcdee0", "Base": "#1c1e20", "AlternateBase": "#222427",
    "Text": "#dcdee0", "Button": "#303337", "ButtonText": "#dcdee0", "BrightText": "#ffffff",
    "Highlight": "#3d6fa5", "HighlightedText": "#ffffff", "ToolTipBase": "#303337",
    "ToolTipText": "#dcdee0", "Link": "#6aa9e8", "Light": "#3a3d41", "Midlight": "#34373b",
    "Mid": "#1f2123", "Dark": "#17181a", "Shadow": "#7c8086",
}  # fmt: skip
LIGHT = {
    "Window": "#f1f2f3", "WindowText": "#1d2023", "Base": "#ffffff", "AlternateBase": "#f6f7f8",
    "Text": "#1d2023", "Button": "#e7e9eb", "ButtonText": "#1d2023", "BrightText": "#ffffff",
    "Highlight": "#2f6db3", "HighlightedText": "#ffffff", "ToolTipBase": "#ffffff",
    "ToolTipText": "#1d2023", "Link": "#1f5fa8", "Light": "#ffffff", "Midlight": "#f6f7f8",
    "Mid": "#c9ccd0", "Dark": "#a9adb2", "Shadow": "#7a7e83",
}  # fmt: skip
LARGEST_POINTS = 10
"""Of the font: a program with many small panels is read from near."""
FADED = {True: "#7c8086", False: "#9a9ea4"}

SHEET = """
QToolTip {{ color: {ToolTipText}; background: {ToolTipBase}; border: 1px solid {Dark}; }}
QDockWidget {{ font-weight: normal; }}
QDockWidget::title {{ padding: 3px 6px; background: {Midlight}; }}
QMainWindow::separator {{ background: {Mid}; width: 3px; height: 3px; }}
QLabel[chip="true"] {{ color: {WindowText}; border: 1px solid #b07c1c; border-radius: 7px;
                       padding: 0px 7px; }}
QCheckBox::indicator:unchecked, QTreeView::indicator:unchecked, QTableView::indicator:unchecked {{
    width: 11px; height: 11px; border: 1px solid {Shadow}; border-radius: 2px; background: {Base};
}}
QLabel[error="true"] {{ color: #d9583f; }}
QToolButton:checked {{ color: {HighlightedText}; background: {Highlight};
                       border: 1px solid {Highlight}; border-radius: 3px; padding: 2px 4px; }}
QToolButton[quiet="true"]:checked {{ color: {ButtonText}; background: transparent;
                                     border-color: transparent; }}
"""


def is_dark(wish: str) -> bool:
    """Whether a wish ("system", "dark", "light") means dark here."""
    if wish in ("dark", "light"):
        return wish == "dark"
    return _system_is_dark()


def apply(wish: str) -> None:
    """Show the whole program dark or light, now."""
    app: Any = QtWidgets.QApplication.instance()
    dark = is_dark(wish)
    colors = DARK if dark else LIGHT
    if app.style().objectName().lower() != "fusion":
        app.setStyle("Fusion")
    font = app.font()
    if font.pointSize() > LARGEST_POINTS:
        font.setPointSize(LARGEST_POINTS)
        app.setFont(font)
    app.setPalette(_palette(colors, FADED[dark]))
    app.setStyleSheet(SHEET.format(**colors))
    pg.setConfigOption("background", colors["Base"])
    pg.setConfigOption("foreground", colors["Text"])
    for widget in app.allWidgets():
        if isinstance(widget, pg.GraphicsView):
            _recolor(widget)


def _recolor(view: Any) -> None:
    """Axes and titles take the colours of now; they have kept those of when they were made."""
    for item in view.scene().items():
        if isinstance(item, pg.AxisItem):
            item.setPen()
            item.setTextPen()
        elif isinstance(item, pg.LabelItem):
            item.setText(item.text, color=pg.getConfigOption("foreground"))


def _palette(colors: dict[str, str], faded: str) -> QtGui.QPalette:
    palette = QtGui.QPalette()
    roles, groups = QtGui.QPalette.ColorRole, QtGui.QPalette.ColorGroup
    for name, color in colors.items():
        palette.setColor(getattr(roles, name), QtGui.QColor(color))
    palette.setColor(roles.PlaceholderText, QtGui.QColor(faded))
    for role in (roles.Text, roles.WindowText, roles.ButtonText):
        palette.setColor(groups.Disabled, role, QtGui.QColor(faded))
    return palette


def _system_is_dark() -> bool:
    """What the desktop says, where it does; else what its palette looks like."""
    hints: Any = QtGui.QGuiApplication.styleHints()
    if hasattr(hints, "colorScheme"):
        return str(hints.colorScheme()).endswith("Dark")
    app: Any = QtWidgets.QApplication.instance()
    base = app.style().standardPalette().color(QtGui.QPalette.ColorRole.Window)
    return bool(base.lightness() < 128)
