"""Opening what does not open by itself: layout, scan shape, offsets, with the result in view."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.contrast import fast_limits
from py4DSTEM.core.pixels import color_numbers, sampled
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.machine import size
from py4DSTEM.gui.panels.parts import Note, button, copy_text
from py4DSTEM.gui.session import Session
from py4DSTEM.io.format import RawLayout, ReadOptions
from py4DSTEM.io.guess import DTYPES, Fit, Guess, fit_layout
from py4DSTEM.io.look import FileLook, ScanLook, look_at, preview

__all__ = ["ImportAssistant"]

Qt = QtCore.Qt
RAW = "raw"
_THUMB = 116
_MOST = 2**31 - 1
_FACTORS = (2, 4, 8)


@dataclass(frozen=True)
class _Look:
    """Asked of the lane: what could the file be?"""

    path: str


@dataclass(frozen=True)
class _Preview:
    """Asked of the lane: what would it show, read like this?"""

    path: str
    options: ReadOptions
    format: str | None


@dataclass(frozen=True, eq=False)
class _Shown:
    """What a file would show, and its pictures as 8-bit grey."""

    look: ScanLook
    pictures: tuple[tuple[str, NDArray[Any]], ...]


def _answered(request: _Look | _Preview) -> Any:
    """The work of the lane."""
    if isinstance(request, _Look):
        return look_at(request.path)
    return _shown(request)


def _shown(request: _Preview) -> Iterator[_Shown]:
    for look in preview(request.path, request.options, request.format):
        pictures = [(f"pattern {x}, {y}", _grey(p, "sqrt")) for (x, y), p in look.patterns]
        if look.coarse is not None:
            pictures.append(("scan", _grey(look.coarse, "linear")))
        yield _Shown(look, tuple(pictures))


def _grey(image: NDArray[Any], scale: Any) -> NDArray[Any]:
    some = sampled(image)
    return color_numbers(some, *fast_limits(some, scale=scale), scale)


class Thumbnail(QtWidgets.QLabel):
    """A small picture with its name below."""

    def __init__(self, tip: str) -> None:
        super().__init__()
        self.numbers: NDArray[Any] | None = None
        self.setFixedSize(_THUMB, _THUMB)
        self.setAlignment(Qt.AlignmentFlag.AlignCenter)
        self.setFrameShape(QtWidgets.QFrame.Shape.StyledPanel)
        self.setToolTip(tip)

    def show_numbers(self, numbers: NDArray[Any] | None) -> None:
        """Show 8-bit grey, or nothing."""
        self.numbers = numbers
        if numbers is None:
            self.clear()
            return
        rows, columns = numbers.shape
        grey = QtGui.QImage.Format.Format_Grayscale8
        image = QtGui.QImage(numbers.tobytes(), columns, rows, columns, grey)
        self.setPixmap(
            QtGui.QPixmap.fromImage(image).scaled(
                _THUMB - 4, _THUMB - 4, Qt.AspectRatioMode.KeepAspectRatio,
                Qt.TransformationMode.FastTransformation,
            )
        )  # fmt: skip


class ImportAssistant(QtWidgets.QWidget):
    """Says what a file could be, lets everything be corrected, and shows what comes of it."""

    looked = QtCore.Signal()
    """What the file could be is known now."""
    previewed = QtCore.Signal(bool)
    """Pictures, or why there are none, belong to what is set now; True: with the scan."""

    def __init__(self, session: Session, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.path = ""
        self.file: FileLook | None = None
        self.scan: ScanLook | None = None
        """What the file shows as it is set now; None while that is not known."""
        self._filling = False
        self._shape_typed = False
        self._make_widgets()
        self._lay_out()
        self._connect()
        self._lane = lane = Lane(_answered, "import")
        lane.answered.connect(self._take)
        weakref.finalize(self, lane.stop)
        self._enable()

    # ---- widgets ---------------------------------------------------------------------------------
    def _make_widgets(self) -> None:
        self.name = QtWidgets.QLabel("no file")
        self.name.setTextFormat(Qt.TextFormat.PlainText)
        self.name.setWordWrap(True)
        self.why, self.problem = Note(), Note(error=True)
        self.format, self.guesses = QtWidgets.QComboBox(), QtWidgets.QComboBox()
        self.format.setToolTip("How the file is read; the likeliest first.")
        self.guesses.setToolTip("Layouts that fit the size of the file; the likeliest first.")
        policy = QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        for box in (self.format, self.guesses):
            box.setSizeAdjustPolicy(policy)
            box.setMinimumContentsLength(8)
        self.dtype = QtWidgets.QComboBox()
        self.dtype.setEditable(True)
        self.dtype.addItems(DTYPES)
        self.dtype.setToolTip("Type of the numbers, as NumPy writes it: <u2 is 16 bits, low first.")
        self.qx, self.qy = _spin(1, 65536, "Rows of a pattern"), _spin(1, 65536, "Its columns")
        self.offset = _spin(0, _MOST, "Bytes before the first pattern", " B")
        self.gap = _spin(0, _MOST, "Bytes between two patterns: footer and header", " B")
        self.rx, self.ry = _spin(1, _MOST, "Rows of the scan"), _spin(1, _MOST, "Its columns")
        self.flyback = _spin(0, 65536, "Patterns after every row that belong to no position")
        self.sync = _spin(
            -_MOST, _MOST, "Patterns before the first position; negative: so many are missing"
        )
        self.truncated = QtWidgets.QCheckBox("take what is there")
        self.truncated.setToolTip("Read the whole patterns of a file that ends early.")
        self.bin = QtWidgets.QComboBox()
        self.bin.addItem("no", 1)
        for factor in _FACTORS:
            self.bin.addItem(f"{factor} × {factor}", factor)
        self.bin.setToolTip(
            "Sum so many detector pixels into one, whenever patterns are read; the pixel size "
            "grows with them.  The file stays as it is."
        )
        self.binned = QtWidgets.QLabel()
        self.binned.setToolTip("Patterns as they will be: rows × columns, and type of the numbers")
        self.fit = QtWidgets.QLabel()
        self.fit.setWordWrap(True)
        self.fit.setToolTip("What layout and scan need, and what the file has")
        tips = ("The first pattern", "A pattern in the middle of the scan", "The last pattern",
                "Sums of patterns on a coarse grid of the scan")  # fmt: skip
        self.thumbs = [Thumbnail(tip) for tip in tips]
        self.captions = [QtWidgets.QLabel() for _ in tips]
        self.notes = Note()
        self.map, self.load = (QtWidgets.QRadioButton() for _ in range(2))
        self.map.setChecked(True)
        self.map.setToolTip("Patterns are read from the file when they are needed.")
        self.load.setToolTip("The whole scan is read into memory when it is opened.")
        self.copy = button("Copy Python", "Copy the line that opens it like this.", self.code)
        self.cancel = button("Close", "Leave everything as it is.", self.dismiss)
        self.ok = button("Open", "Open the file as it is set here.", self.open)
        self.choose_button = button("Choose…", "Choose a file.", self.choose)

    def _lay_out(self) -> None:
        head = QtWidgets.QHBoxLayout()
        head.addWidget(self.name, 1)
        head.addWidget(self.choose_button)
        form = QtWidgets.QFormLayout()
        form.addRow("Format", self.format)
        form.addRow("Layouts", self.guesses)
        self.raw = QtWidgets.QWidget()
        inner = QtWidgets.QFormLayout(self.raw)
        inner.setContentsMargins(0, 0, 0, 0)
        inner.addRow("Numbers", self.dtype)
        inner.addRow("Pattern", _beside(self.qx, QtWidgets.QLabel("×"), self.qy))
        inner.addRow("Header, gap", _beside(self.offset, self.gap))
        form.addRow(self.raw)
        form.addRow("Scan", _beside(self.rx, QtWidgets.QLabel("×"), self.ry))
        form.addRow("Flyback, offset", _beside(self.flyback, self.sync))
        form.addRow("Bin", _beside(self.bin, self.binned))
        form.addRow("Size", self.fit)
        form.addRow("", self.truncated)
        pictures = QtWidgets.QGridLayout()
        for k, (thumb, caption) in enumerate(zip(self.thumbs, self.captions, strict=True)):
            row, column = (k // 2) * 2, k % 2
            pictures.addWidget(thumb, row, column)
            pictures.addWidget(caption, row + 1, column)
        pictures.setColumnStretch(2, 1)
        whole = QtWidgets.QVBoxLayout()
        for part in (head, self.why, form, self.problem, pictures, self.notes, self.map, self.load):
            (whole.addLayout if isinstance(part, QtWidgets.QLayout) else whole.addWidget)(part)
        whole.addStretch(1)
        whole.addWidget(_beside(self.copy, self.cancel, self.ok))
        self._scrolled(whole)

    def _scrolled(self, layout: QtWidgets.QLayout) -> None:
        """Small screens can still reach the buttons."""
        inside, area = QtWidgets.QWidget(), QtWidgets.QScrollArea()
        inside.setLayout(layout)
        area.setWidget(inside)
        area.setWidgetResizable(True)
        area.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        area.setFrameShape(QtWidgets.QFrame.Shape.NoFrame)
        outer = QtWidgets.QVBoxLayout(self)
        outer.setContentsMargins(0, 0, 0, 0)
        outer.addWidget(area)
        self.setMinimumWidth(320)

    def _connect(self) -> None:
        self.format.activated.connect(lambda *_: self._format_chosen())
        self.guesses.activated.connect(lambda *_: self._guess_chosen())
        self.dtype.currentTextChanged.connect(lambda *_: self._edited())
        for spin in (self.qx, self.qy, self.offset, self.gap, self.flyback, self.sync):
            spin.valueChanged.connect(lambda *_: self._edited())
        for spin in (self.rx, self.ry):
            spin.valueChanged.connect(lambda *_: self._edited(shape=True))
        self.truncated.toggled.connect(lambda *_: self._edited())
        self.bin.currentIndexChanged.connect(lambda *_: self._edited())

    # ---- the file --------------------------------------------------------------------------------
    def choose(self) -> None:
        """Ask for a file, without holding the program up."""
        dialog = QtWidgets.QFileDialog(self, "Import")
        dialog.setFileMode(QtWidgets.QFileDialog.FileMode.ExistingFile)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.fileSelected.connect(self.look)
        dialog.open()

    def look(self, path: str, why: str = "") -> None:
        """Take a file, and say why it did not open by itself."""
        self.path, self.file, self.scan = str(path), None, None
        self.name.setText(str(Path(path).name))
        self.name.setToolTip(self.path)
        self.why.say(why)
        self.problem.say("")
        self.notes.say("looking at the file …")
        self._shape_typed = False
        for thumb in self.thumbs:
            thumb.show_numbers(None)
        self._enable()
        self._lane.ask(_Look(self.path))

    def dismiss(self) -> None:
        """Forget the file and hide."""
        self.path, self.file, self.scan = "", None, None
        self.name.setText("no file")
        self._enable()
        dock = self.parentWidget()
        if isinstance(dock, QtWidgets.QDockWidget):
            dock.close()

    def open(self) -> None:
        """Open the file as it is set."""
        if self.ok.isEnabled():
            self.session.open(self.path, self.options(), load=self.load.isChecked())

    def code(self) -> None:
        """Copy the line of Python that opens the file as it is set."""
        copy_text(self.python())
        self.session.said.emit("the Python is on the clipboard")

    def python(self) -> str:
        """The line of Python that opens the file as it is set."""
        from py4DSTEM.gui.state.literal import Imports, call, literal

        imports = Imports()
        options = {name: literal(value, imports) for name, value in self.options().items()}
        loaded = ".load()" if self.load.isChecked() else ""
        line = call("py4DSTEM.read", [literal(self.path, imports)], options)
        return f"{imports.text()}\n\ncube = {line}{loaded}\n"

    # ---- what is set -----------------------------------------------------------------------------
    @property
    def is_raw(self) -> bool:
        """Whether the layout is given by hand."""
        return bool(self.format.currentData() == RAW)

    def layout_of_raw(self) -> RawLayout:
        """The layout as it is set; `ParameterError` where it makes no sense."""
        return RawLayout(
            dtype=self.dtype.currentText().strip(),
            Q_shape=(self.qx.value(), self.qy.value()),
            offset_bytes=self.offset.value(),
            gap_bytes=self.gap.value(),
        )

    def options(self) -> dict[str, Any]:
        """What `py4DSTEM.read` is to be called with; only what is not usual."""
        given: dict[str, Any] = {}
        if self.is_raw:
            given["layout"] = self.layout_of_raw()
        elif self.format.currentIndex() > 0:
            given["format"] = self.format.currentData()
        if self.is_raw or self._shape_typed:
            given["scan_shape"] = (self.rx.value(), self.ry.value())
        given |= {"flyback": self.flyback.value()} if self.flyback.value() else {}
        given |= {"sync_offset": self.sync.value()} if self.sync.value() else {}
        given |= {"allow_truncated": True} if self.truncated.isChecked() else {}
        given |= {"bin_Q": self.bin.currentData()} if self.bin.currentIndex() > 0 else {}
        return given

    def size_fit(self) -> Fit | None:
        """How the layout agrees with the size of the file; None for known formats."""
        if self.file is None or not self.is_raw:
            return None
        return fit_layout(
            self.file.size_bytes, self.layout_of_raw(), (self.rx.value(), self.ry.value()),
            flyback=self.flyback.value(), sync_offset=self.sync.value(),
        )  # fmt: skip

    # ---- acts of the user ------------------------------------------------------------------------
    def _format_chosen(self) -> None:
        self._shape_typed = False
        self._edited()

    def _guess_chosen(self) -> None:
        guess = self.guesses.currentData()
        if isinstance(guess, Guess):
            self._fill(guess)
            self._edited()

    def _fill(self, guess: Guess) -> None:
        layout, scan = guess.layout, guess.scan_shape
        self._filling = True
        self.dtype.setCurrentText(layout.dtype)
        values = (*layout.Q_shape, layout.offset_bytes, layout.gap_bytes, *scan, guess.flyback, 0)
        spins = (self.qx, self.qy, self.offset, self.gap, self.rx, self.ry, self.flyback, self.sync)
        for spin, value in zip(spins, values, strict=True):
            spin.setValue(value)
        self._filling = False

    def _edited(self, *, shape: bool = False) -> None:
        """Something was set: say at once whether it fits, and ask for the pictures."""
        if self._filling or self.file is None:
            return
        self._shape_typed = self._shape_typed or shape
        self.scan = None
        self._enable()
        try:
            self._show_fit()
            format = None if self.is_raw else self.format.currentData()
            options = {k: v for k, v in self.options().items() if k != "format"}
            wish = _Preview(self.path, ReadOptions(**options), format)
        except Py4DSTEMError as error:
            self._refuse(str(error))
            return
        self._lane.ask(wish)

    def _refuse(self, why: str) -> None:
        """Say inline what is wrong; there is nothing to open then."""
        self.scan = None
        self.problem.say(why.removeprefix(f"{self.path}: "))
        self.notes.say("")
        for thumb in self.thumbs:
            thumb.show_numbers(None)
        self._enable()
        self.previewed.emit(False)

    def _show_fit(self) -> None:
        fit = self.size_fit()
        self.fit.setText("" if fit is None else _fit_text(fit))
        self.fit.setProperty("error", fit is not None and not fit.exact)
        style = self.fit.style()
        if style is not None:  # the colour follows the property only when asked to
            style.unpolish(self.fit)
            style.polish(self.fit)

    def _enable(self) -> None:
        known = self.file is not None
        for widget in (self.format, self.guesses, self.raw, self.rx, self.ry, self.flyback,
                       self.sync, self.truncated, self.bin, self.map, self.load):  # fmt: skip
            widget.setEnabled(known)
        if self.scan is None:
            self.binned.setText("")
        self.raw.setVisible(self.is_raw)
        self.guesses.setEnabled(known and self.is_raw and self.guesses.count() > 0)
        for one in (self.ok, self.copy):
            one.setEnabled(self.scan is not None)

    # ---- answers ---------------------------------------------------------------------------------
    def _take(self, answer: Answer) -> None:
        if answer.number != self._lane.number or answer.request.path != self.path:
            return
        if answer.error is not None:
            if not isinstance(answer.error, Py4DSTEMError | OSError):
                self.session.troubled.emit(f"look at {self.path}", answer.error)
            self._refuse(str(answer.error))
            return
        if isinstance(answer.value, FileLook):
            self._take_file(answer.value)
        elif isinstance(answer.value, _Shown):
            self._take_scan(answer.value)

    def _take_file(self, look: FileLook) -> None:
        self.file = look
        self.format.clear()
        for name, title in look.formats.items():
            self.format.addItem(title, name)
        if look.size_bytes and RAW not in look.formats:
            self.format.addItem("raw numbers, described by hand", RAW)
        self.guesses.clear()
        for guess in look.guesses:
            self.guesses.addItem(_guess_text(guess), guess)
        if look.guesses:
            self._fill(look.guesses[0])
        self._enable()
        self.looked.emit()
        if self.format.count():
            self._edited()
        else:
            self._refuse("no format recognises this folder")

    def _take_scan(self, shown: _Shown) -> None:
        look = self.scan = shown.look
        self.problem.say("")
        self._show_pictures(shown.pictures, scan=look.coarse is not None)
        if not self._shape_typed and not self.is_raw:
            self._filling = True
            self.rx.setValue(look.shape[0])
            self.ry.setValue(look.shape[1])
            self._filling = False
        if not self.is_raw:
            self.fit.setText(_frames_text(look))
        self.notes.say("\n".join(look.notes))
        self.binned.setText(f"{look.shape[2]} × {look.shape[3]} {look.dtype}")
        self._show_memory(look)
        self._enable()
        self.previewed.emit(look.coarse is not None)

    def _show_pictures(self, pictures: tuple[tuple[str, NDArray[Any]], ...], *, scan: bool) -> None:
        """Patterns in the first three places, the scan in the last."""
        patterns = pictures[:-1] if scan else pictures
        last = pictures[-1:] if scan else ()
        places = list(zip(self.thumbs, self.captions, strict=True))
        for (thumb, caption), found in zip(places[:3], _padded(patterns, 3), strict=True):
            caption.setText(found[0] if found else "")
            thumb.show_numbers(found[1] if found else None)
        for (thumb, caption), (name, numbers) in zip(places[3:], last, strict=False):
            caption.setText(name)
            thumb.show_numbers(numbers)

    def _show_memory(self, look: ScanLook) -> None:
        from py4DSTEM.stream.options import available_memory_bytes

        free = available_memory_bytes()
        self.map.setText("read from the file as needed")
        self.load.setText(f"load into memory ({size(look.nbytes)} of {size(free)} free)")
        self.load.setEnabled(look.nbytes < free)
        if not self.load.isEnabled():
            self.map.setChecked(True)


def _padded(found: tuple[Any, ...], count: int) -> tuple[Any, ...]:
    return tuple(found[k] if k < len(found) else None for k in range(count))


def _fit_text(fit: Fit) -> str:
    """
    >>> _fit_text(Fit(2000, 2100, 10, 10))
    '✗ expected 2000 B, the file has 2100 B: 100 B too many'
    """
    if fit.exact:
        return f"✓ expected {fit.expected_bytes} B = the file, {fit.frames} patterns"
    by = fit.difference_bytes
    how = f"{by} B too many" if by > 0 else f"{-by} B missing"
    return f"✗ expected {fit.expected_bytes} B, the file has {fit.actual_bytes} B: {how}"


def _frames_text(look: ScanLook) -> str:
    if look.doubtful:
        return f"✗ {'; '.join(look.doubtful)}"
    return f"✓ {look.frames} patterns for {look.shape[0]} × {look.shape[1]} positions"


def _guess_text(guess: Guess) -> str:
    layout = guess.layout
    more = [f"header {layout.offset_bytes}"] if layout.offset_bytes else []
    more += [f"gap {layout.gap_bytes}"] if layout.gap_bytes else []
    shape = f"{layout.Q_shape[0]} × {layout.Q_shape[1]} {layout.dtype}"
    return f"{guess.likelihood:.0%}  {', '.join([shape, *more])}; {guess.reason}"


def _spin(low: int, high: int, tip: str, suffix: str = "") -> QtWidgets.QSpinBox:
    spin = QtWidgets.QSpinBox()
    spin.setRange(low, high)
    spin.setToolTip(tip)
    spin.setSuffix(suffix)
    spin.setKeyboardTracking(False)
    spin.setMinimumWidth(64)  # large numbers are rare: the range would ask for more
    return spin


def _beside(*widgets: QtWidgets.QWidget) -> QtWidgets.QWidget:
    row = QtWidgets.QWidget()
    layout = QtWidgets.QHBoxLayout(row)
    layout.setContentsMargins(0, 0, 0, 0)
    for widget in widgets:
        layout.addWidget(widget, 0 if isinstance(widget, QtWidgets.QLabel) else 1)
    return row
