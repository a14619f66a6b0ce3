"""The form of the preferences."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtWidgets

from py4DSTEM.errors import Py4DSTEMError

__all__ = ["PreferencesDialog"]

THEMES = ("system", "dark", "light")


class PreferencesDialog(QtWidgets.QDialog):
    """Theme, memory, folder of caches, threads; what makes no sense is said and not taken."""

    def __init__(self, window: Any) -> None:
        super().__init__(window)
        self.setWindowTitle("Preferences")
        self.setModal(False)
        self._window = window
        self.theme = QtWidgets.QComboBox()
        self.memory, self.cache = QtWidgets.QLineEdit(), QtWidgets.QLineEdit()
        self.workers, self.autosave = QtWidgets.QSpinBox(), QtWidgets.QSpinBox()
        self.problem = QtWidgets.QLabel()
        self._fill()
        self._lay_out()

    def _fill(self) -> None:
        known = self._window.preferences
        self.theme.addItems(THEMES)
        self.theme.setCurrentText(known.theme)
        self.theme.setToolTip("Dark, light, or as the desktop")
        self.memory.setText(known.memory)
        self.memory.setPlaceholderText("half of what is free")
        self.memory.setToolTip('Kept in memory for dragging, such as "4 GB"; for scans opened next')
        self.cache.setText(known.cache_folder)
        self.cache.setPlaceholderText("the system's folder for temporary files")
        self.cache.setToolTip("Where what does not fit into memory is kept while a scan is open")
        self.workers.setRange(0, 1024)
        self.workers.setValue(known.workers)
        self.workers.setSpecialValueText("all cores")
        self.workers.setToolTip("Threads for one job; from the next start on")
        self.autosave.setRange(0, 3600)
        self.autosave.setValue(known.autosave_s)
        self.autosave.setSuffix(" s")
        self.autosave.setSpecialValueText("never")
        self.autosave.setToolTip("Time between two savings, should the program end badly")
        self.problem.setProperty("error", True)
        self.problem.setWordWrap(True)

    def _lay_out(self) -> None:
        browse = QtWidgets.QToolButton()
        browse.setText("…")
        browse.setToolTip("Choose a folder")
        browse.clicked.connect(self._browse)
        folder = QtWidgets.QHBoxLayout()
        folder.addWidget(self.cache)
        folder.addWidget(browse)
        form = QtWidgets.QFormLayout(self)
        form.addRow("Theme", self.theme)
        form.addRow("Memory", self.memory)
        form.addRow("Cache folder", folder)
        form.addRow("Threads", self.workers)
        form.addRow("Autosave every", self.autosave)
        form.addRow(self.problem)
        buttons = QtWidgets.QDialogButtonBox.StandardButton
        self.buttons = QtWidgets.QDialogButtonBox(buttons.Ok | buttons.Cancel)
        self.buttons.accepted.connect(self.accept)
        self.buttons.rejected.connect(self.reject)
        form.addRow(self.buttons)

    def _browse(self) -> None:
        path = QtWidgets.QFileDialog.getExistingDirectory(self, "Cache folder")
        if path:
            self.cache.setText(path)

    def accept(self) -> None:
        """Take them, if they make sense."""
        try:
            wish = self._window.preferences.replace(
                theme=self.theme.currentText(),
                memory=self.memory.text().strip(),
                cache_folder=self.cache.text().strip(),
                workers=self.workers.value(),
                autosave_s=self.autosave.value(),
            )
            self._window.prefer(wish)
        except (Py4DSTEMError, OSError) as error:
            self.problem.setText(str(error))
            return
        super().accept()
