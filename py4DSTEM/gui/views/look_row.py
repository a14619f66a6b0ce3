"""The row above an image: what is shown, scale, colours, limits."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.gui.state.project import Look
from py4DSTEM.gui.views.colors import COLOR_MAPS, swatch
from py4DSTEM.gui.views.elided import ElidedLabel

__all__ = ["LookRow"]

_SCALES: tuple[tuple[str, Any], ...] = (
    ("lin", "linear"),
    ("√", "sqrt"),
    ("log", "log"),
    ("γ", 0.3),
)
_TITLES = {"diffraction": "Diffraction", "real": "Real space", "result": "Result"}


class LookRow(QtWidgets.QWidget):
    """Compact widgets that show and change a `Look`."""

    lookChanged = QtCore.Signal(object)
    chosen = QtCore.Signal(str)
    autoWanted = QtCore.Signal()
    lockWanted = QtCore.Signal(bool)

    def __init__(self, name: str, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self._look = Look()
        self._heading = _TITLES.get(name, name)
        self.title = ElidedLabel(self._heading)
        self.chip = QtWidgets.QLabel("uncalibrated")
        self.what = QtWidgets.QComboBox()
        self.scale = QtWidgets.QComboBox()
        self.gamma = QtWidgets.QDoubleSpinBox()
        self.colors = QtWidgets.QComboBox()
        self.auto = QtWidgets.QToolButton()
        self.lock = QtWidgets.QToolButton()
        self._fill()
        self._lay_out()
        self._connect()

    def _fill(self) -> None:
        for text, value in _SCALES:
            self.scale.addItem(text, value)
        self.scale.setToolTip("How values become brightness: linear, square root, log, power")
        self.gamma.setRange(0.05, 5.0)
        self.gamma.setSingleStep(0.05)
        self.gamma.setValue(0.3)
        self.gamma.setToolTip("Exponent γ: brightness = valueᵞ")
        self.gamma.hide()
        self.colors.setIconSize(QtCore.QSize(48, 12))
        for name, meaning in COLOR_MAPS.items():
            self.colors.addItem(swatch(name), name, name)
            self.colors.setItemData(
                self.colors.count() - 1, meaning, QtCore.Qt.ItemDataRole.ToolTipRole
            )
        self.colors.setToolTip("Colour map")
        self.auto.setText("auto")
        self.auto.setToolTip("Limits chosen by the image (percentiles 0.1 and 99.9)")
        self.lock.setText("lock")
        self.lock.setCheckable(True)
        self.lock.setToolTip("Keep these limits, whatever image follows")
        self.what.setToolTip("What is shown here")
        self.what.hide()
        self.chip.setStyleSheet(
            "border: 1px solid palette(mid); border-radius: 6px; padding: 0px 5px;"
        )
        self.chip.setToolTip("The pixel size is not known: axes read pixels")
        self.chip.hide()

    def _lay_out(self) -> None:
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(2, 0, 2, 0)
        row.setSpacing(4)
        font = self.title.font()
        font.setBold(True)
        self.title.setFont(font)
        row.addWidget(self.title, 1)
        self.what.setMaximumWidth(170)
        narrow = QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        self.colors.setSizeAdjustPolicy(narrow)
        self.colors.setMinimumContentsLength(5)
        widgets = (self.chip, self.what, self.scale, self.gamma, self.colors, self.auto, self.lock)
        for widget in widgets:
            row.addWidget(widget)
            widget.setFocusPolicy(QtCore.Qt.FocusPolicy.TabFocus)

    def _connect(self) -> None:
        self.what.activated.connect(lambda k: self.chosen.emit(self.what.itemData(k)))
        self.scale.activated.connect(lambda k: self._set_scale(self.scale.itemData(k)))
        self.gamma.valueChanged.connect(lambda value: self._set_scale(float(value)))
        self.colors.activated.connect(
            lambda k: self._tell(self._look.replace(colors=self.colors.itemData(k)))
        )
        self.auto.clicked.connect(lambda _: self.autoWanted.emit())
        self.lock.clicked.connect(self.lockWanted)

    # ---- what is shown ---------------------------------------------------------------------------
    def set_choices(self, names: Sequence[str], current: str, texts: Sequence[str] = ()) -> None:
        """Fill the list of what may be shown."""
        known = [self.what.itemData(k) for k in range(self.what.count())]
        if known != list(names):
            self.what.clear()
            for name, text in zip(names, texts or names, strict=True):
                self.what.addItem(text, name)
        self.what.setCurrentIndex(self.what.findData(current))
        self.what.setVisible(len(names) > 1)

    def set_title(self, title: str) -> None:
        """Say what is shown."""
        text = title or self._heading
        if text != self.title.text():
            self.title.setText(text)
            self.title.setToolTip(text)

    def set_calibrated(self, calibrated: bool) -> None:
        """Whether the axes have a unit."""
        self.chip.setVisible(not calibrated)

    def set_colored(self, colored: bool) -> None:
        """Whether the image has colours of its own, to which no look applies."""
        for widget in (self.scale, self.gamma, self.colors, self.auto, self.lock):
            if widget.isEnabled() == colored:
                widget.setEnabled(not colored)

    def show_look(self, look: Look, colors: str) -> None:
        """Set the widgets to a look; `colors` is the map that it comes to."""
        self._look = look
        place = self.scale.findData(look.scale)
        gamma = place < 0 or not isinstance(look.scale, str)
        self.scale.setCurrentIndex(len(_SCALES) - 1 if gamma else place)
        if not isinstance(look.scale, str):
            with QtCore.QSignalBlocker(self.gamma):
                self.gamma.setValue(float(look.scale))
        self.gamma.setVisible(gamma)
        self.colors.setCurrentIndex(self.colors.findData(colors))
        self.lock.setChecked(look.limits is not None)

    # ---- what is wished --------------------------------------------------------------------------
    def cycle_scale(self) -> None:
        """Linear, square root, logarithm, and again."""
        names = [value for _, value in _SCALES if isinstance(value, str)]
        known = names.index(self._look.scale) if self._look.scale in names else -1
        self._set_scale(names[(known + 1) % len(names)])

    def _set_scale(self, scale: Any) -> None:
        self._tell(self._look.replace(scale=scale))

    def _tell(self, look: Look) -> None:
        if look != self._look:
            self._look = look
            self.lookChanged.emit(look)
