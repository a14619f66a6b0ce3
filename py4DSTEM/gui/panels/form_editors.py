"""What each kind of parameter is edited with: one widget per kind, all with the same three ways."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from pydantic import TypeAdapter
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.core.detector import AnyDetector, Detector
from py4DSTEM.core.slices import Slice
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.state.forms import FormField, typed

__all__ = ["Editor", "editor_of"]

_WORDS = {None: "automatic", True: "yes", False: "no", "auto": "automatic"}
_FAR = 1e15
_DETECTOR: TypeAdapter[Any] = TypeAdapter(AnyDetector)


class Editor(QtWidgets.QWidget):
    """Edits one value: `value`, `set_value`, and `edited` when the user has changed it."""

    edited = QtCore.Signal()

    def __init__(self, field: FormField, session: Session) -> None:
        super().__init__()
        self.field, self.session = field, session
        row = QtWidgets.QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(4)
        self.row = row

    def add(self, *widgets: QtWidgets.QWidget) -> None:
        """Put widgets beside each other; the tooltip is the help of the field."""
        for widget in widgets:
            widget.setToolTip(_tip(self.field))
            self.row.addWidget(widget, 1)

    def value(self) -> Any:
        """What is chosen now."""
        raise NotImplementedError

    def set_value(self, value: Any) -> None:
        """Show a value; `edited` is not told."""
        raise NotImplementedError

    def refresh(self) -> None:
        """The project has changed: what may be chosen may have, too."""

    @property
    def follows(self) -> bool:
        """Whether the value may change with the project, as a detector that is dragged does."""
        return False


def editor_of(field: FormField, session: Session) -> Editor:
    """The editor of a field, with a tick for "automatic" where there is such a thing."""
    own = _EDITORS.get(field.kind, TextEditor)
    made = own(field, session)
    ticked = field.automatic and field.kind in ("number", "whole", "numbers")
    return AutoEditor(field, session, made) if ticked else made


def _tip(field: FormField) -> str:
    unit = f" [{field.unit}]" if field.unit else ""
    limits = _limits(field)
    return "\n".join(filter(None, (f"{field.label}{unit}", field.help, limits)))


def _limits(field: FormField) -> str:
    low = "" if field.low is None else f"{'above' if field.open_low else 'at least'} {field.low:g}"
    high = ""
    if field.high is not None:
        high = f"{'below' if field.open_high else 'at most'} {field.high:g}"
    return ", ".join(filter(None, (low, high)))


class FlagEditor(Editor):
    """A tick."""

    def __init__(self, field: FormField, session: Session) -> None:
        super().__init__(field, session)
        self.box = QtWidgets.QCheckBox()
        self.box.clicked.connect(lambda *_: self.edited.emit())
        self.add(self.box)

    def value(self) -> bool:
        return bool(self.box.isChecked())

    def set_value(self, value: Any) -> None:
        self.box.setChecked(bool(value))


class NumberBox(QtWidgets.QDoubleSpinBox):
    """A spin box that shows as many digits as a number has, of any size, or that none is given."""

    blank = False

    def __init__(self, field: FormField) -> None:
        super().__init__()
        self.setDecimals(12)
        self.setRange(-_FAR if field.low is None else field.low,
                      _FAR if field.high is None else field.high)  # fmt: skip
        self.setStepType(QtWidgets.QAbstractSpinBox.StepType.AdaptiveDecimalStepType)
        self.setSuffix(f" {field.unit}" if field.unit else "")
        self.setKeyboardTracking(False)
        self.setMinimumWidth(88)

    def textFromValue(self, value: float) -> str:
        return "" if self.blank else f"{value:.7g}"

    def wheelEvent(self, event: Any) -> None:
        """A form that is scrolled must not change the numbers under the mouse."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


LEAST_WHOLE, MOST_WHOLE = -(2**31), 2**31 - 1
"""What a spin box of Qt can hold."""


class WholeBox(QtWidgets.QSpinBox):
    """A spin box for whole numbers, as `NumberBox`."""

    blank = False

    def textFromValue(self, value: int) -> str:
        return "" if self.blank else str(value)

    def __init__(self, field: FormField) -> None:
        super().__init__()
        low, high = LEAST_WHOLE, MOST_WHOLE
        if field.low is not None:
            low = max(low, math.ceil(field.low))
        if field.high is not None:
            high = min(high, math.floor(field.high))
        self.setRange(low, high)
        self.setSuffix(f" {field.unit}" if field.unit else "")
        self.setKeyboardTracking(False)
        self.setMinimumWidth(88)

    def wheelEvent(self, event: Any) -> None:
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()


class NumberEditor(Editor):
    """A spin box with unit and limits; empty, and None, until a number is given."""

    def __init__(self, field: FormField, session: Session) -> None:
        super().__init__(field, session)
        self.box: Any = WholeBox(field) if field.kind == "whole" else NumberBox(field)
        self.box.valueChanged.connect(self._give)
        self.box.lineEdit().textEdited.connect(self._type)
        self.add(self.box)
        self.set_value(None)

    def _give(self, *_: Any) -> None:
        self.box.blank = False
        self.edited.emit()

    def _type(self, text: str) -> None:
        # Typing the number that the box holds anyway changes no value: it is given all the same.
        if self.box.blank and any(c.isdigit() for c in text):
            self._give()

    def value(self) -> float | int | None:
        return None if self.box.blank else self.box.value()

    def set_value(self, value: Any) -> None:
        given = isinstance(value, int | float)
        self.box.blockSignals(True)
        self.box.blank = not given
        self.box.setValue(value if given else self.box.value())
        self.box.lineEdit().setText(
            self.box.prefix() + self.box.textFromValue(self.box.value()) + self.box.suffix()
        )
        self.box.blockSignals(False)


class ChoiceEditor(Editor):
    """A list to choose from."""

    def __init__(self, field: FormField, session: Session) -> None:
        super().__init__(field, session)
        self.box = QtWidgets.QComboBox()
        for choice in field.choices:
            known = choice is None or isinstance(choice, bool)
            self.box.addItem(_WORDS[choice] if known else str(choice), choice)
        self.box.activated.connect(lambda *_: self.edited.emit())
        self.add(self.box)

    def value(self) -> Any:
        return self.field.choices[max(self.box.currentIndex(), 0)]

    def set_value(self, value: Any) -> None:
        for k, choice in enumerate(self.field.choices):
            if choice is value or (choice == value and type(choice) is type(value)):
                self.box.setCurrentIndex(k)


class TextEditor(Editor):
    """A line of text; JSON or numbers with commas where anything may be given."""

    def __init__(self, field: FormField, session: Session) -> None:
        super().__init__(field, session)
        self.box = QtWidgets.QLineEdit()
        hint = " | ".join(map(str, field.choices))
        self.box.setPlaceholderText(
            hint or ("" if field.kind == "text" else "word, number or JSON; empty: none")
        )
        self.box.textEdited.connect(lambda *_: self.edited.emit())
        self.add(self.box)

    def value(self) -> Any:
        text = self.box.text()
        return text if self.field.kind == "text" else typed(text)

    def set_value(self, value: Any) -> None:
        self.box.setText("" if value is None else _as_text(value))


def _as_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    try:
        return json.dumps(value)
    except TypeError:
        return str(value)


class NumbersEditor(Editor):
    """Several numbers in a row, or rows of them."""

    def __init__(self, field: FormField, session: Session) -> None:
        super().__init__(field, session)
        self.parts = [editor_of(part, session) for part in field.parts]
        lines = any(part.kind == "numbers" for part in field.parts)
        place = QtWidgets.QVBoxLayout() if lines else QtWidgets.QHBoxLayout()
        place.setSpacing(2 if lines else 4)
        self.row.addLayout(place, 1)
        for part in self.parts:
            part.edited.connect(self.edited)
            place.addWidget(part, 1)
            for box in part.findChildren(QtWidgets.QWidget):
                box.setToolTip(f"{part.field.label}: {_tip(field)}")

    def value(self) -> tuple[Any, ...] | None:
        found = tuple(part.value() for part in self.parts)
        return found if any(one is not None for one in found) else None

    def set_value(self, value: Any) -> None:
        given = value if isinstance(value, list | tuple) else [None] * len(self.parts)
        for part, one in zip(self.parts, given, strict=False):
            part.set_value(one)


class AutoEditor(Editor):
    """Another editor beside a tick that lets the library choose."""

    def __init__(self, field: FormField, session: Session, inner: Editor) -> None:
        super().__init__(field, session)
        self.inner = inner
        self.tick = QtWidgets.QCheckBox("auto")
        self.tick.setToolTip("Let the library choose, or leave it out.\n" + _tip(field))
        self.tick.clicked.connect(self._ticked)
        inner.edited.connect(self.edited)
        self.row.addWidget(inner, 1)
        self.row.addWidget(self.tick)

    def _ticked(self, automatic: bool) -> None:
        self.inner.setEnabled(not automatic)
        self.edited.emit()

    def value(self) -> Any:
        return self.field.automatic[0] if self.tick.isChecked() else self.inner.value()

    def set_value(self, value: Any) -> None:
        automatic = value is None or value == self.field.automatic[0]
        self.tick.setChecked(automatic)
        self.inner.setEnabled(not automatic)
        if not automatic:
            self.inner.set_value(value)


# ---- things of the project -----------------------------------------------------------------------
class PickEditor(Editor):
    """A list of things of the project, by name; `Other` is kept where it is none of them."""

    none = "automatic"

    def __init__(self, field: FormField, session: Session) -> None:
        super().__init__(field, session)
        self.box = QtWidgets.QComboBox()
        self.box.setSizeAdjustPolicy(
            QtWidgets.QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon
        )
        self.box.setMinimumContentsLength(10)
        self.text = QtWidgets.QLineEdit()
        self.text.setPlaceholderText("JSON")
        self.text.textEdited.connect(lambda *_: self.edited.emit())
        self.other: tuple[str, Any] | None = None
        self.items: list[tuple[str, Callable[[], Any]]] = []
        self.add(self.box, self.text)
        self.box.activated.connect(self._picked)
        self.refresh()

    def offers(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        """Names of what may be picked, and what gives the value of each."""
        raise NotImplementedError

    def refresh(self) -> None:
        wanted = self.box.currentText()
        self.items = list(self.offers())
        if self.other is not None:
            self.items.append((self.other[0], partial(_same, self.other[1])))
        names = [name for name, _ in self.items]
        if names != [self.box.itemText(k) for k in range(self.box.count())]:
            self.box.clear()
            self.box.addItems(names)
            self.box.setCurrentIndex(names.index(wanted) if wanted in names else 0)
        self._show_text()

    def _picked(self, *_: Any) -> None:
        self._show_text()
        self.edited.emit()

    def _show_text(self) -> None:
        self.text.setVisible(self.box.currentText() == _TEXT)

    def value(self) -> Any:
        if self.box.currentText() == _TEXT:
            return typed(self.text.text())
        index = self.box.currentIndex()
        return self.items[index][1]() if 0 <= index < len(self.items) else None

    def set_value(self, value: Any) -> None:
        for k, (name, give) in enumerate(self.items):
            if name not in (_TEXT, _FILE) and _equal(give(), value):
                self.box.setCurrentIndex(k)
                self._show_text()
                return
        self.keep(_title(value), value)

    def keep(self, name: str, value: Any) -> None:
        """Offer one more value, and choose it."""
        self.other = (name, value)
        self.refresh()
        self.box.setCurrentText(name)
        self._show_text()

    @property
    def follows(self) -> bool:
        return bool(self.box.currentIndex() > 0 or self.field.required)

    @property
    def scan(self) -> Any:
        """The scan that is shown, or None."""
        return self.session.project.scan


_TEXT, _FILE = "as text …", "from a file …"


def _same(value: Any) -> Any:
    return value


def _equal(one: Any, other: Any) -> bool:
    if one is other:
        return True
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return False
    return isinstance(one, Detector | dict) and type(one) is type(other) and bool(one == other)


def _title(value: Any) -> str:
    kind = getattr(value, "kind", None) or type(value).__name__
    name = getattr(value, "name", "")
    return f"as given: {name or kind}"


class DetectorEditor(PickEditor):
    """A detector of the scan, or one given as text."""

    def offers(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        if not self.field.required:
            yield "none: all pixels", partial(_same, None)
        for entry in self.scan.detectors if self.scan else ():
            yield f"{entry.name}: {entry.shape.kind}", partial(_same, entry.shape)
        yield _TEXT, partial(_same, None)

    def set_value(self, value: Any) -> None:
        if isinstance(value, dict):
            self.box.setCurrentText(_TEXT)
            self.text.setText(json.dumps(value))
            self._show_text()
            return
        super().set_value(value)


class DetectorsEditor(PickEditor):
    """All detectors of the scan that are shown, or one of them, or any as text."""

    def offers(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        entries = self.scan.detectors if self.scan else ()
        shown = {entry.name: entry.shape for entry in entries if entry.shown}
        if shown:
            yield f"all shown: {', '.join(shown)}", partial(_same, shown)
        for entry in entries:
            yield f"{entry.name}: {entry.shape.kind}", partial(_same, {entry.name: entry.shape})
        yield _TEXT, partial(_same, {})

    def set_value(self, value: Any) -> None:
        if isinstance(value, dict) and not any(_equal(give(), value) for _, give in self.items):
            self.box.setCurrentText(_TEXT)
            self.text.setText(json.dumps(_plain_detectors(value)))
            self._show_text()
            return
        if value is not None:
            super().set_value(value)


def _plain_detectors(value: dict[str, Any]) -> dict[str, Any]:
    return {
        name: _DETECTOR.dump_python(shape, mode="json") if isinstance(shape, Detector) else shape
        for name, shape in value.items()
    }


class FileEditor(PickEditor):
    """Something of the project, or from a file, which is read off the GUI thread."""

    def _picked(self, *_: Any) -> None:
        if self.box.currentText() != _FILE:
            super()._picked()
            return
        path, _ = QtWidgets.QFileDialog.getOpenFileName(self, f"File for {self.field.label}")
        self.box.setCurrentIndex(0)
        if path:
            self.read(path)

    def read(self, path: str) -> None:
        """Read a value from a file as a job."""
        self.session.jobs.submit(
            f"read {path}",
            lambda _: _from_file(path),
            done=partial(self._have, path),
            failed=lambda error: self.session.troubled.emit(f"read {path}", error),
            at_once=True,
        )

    def _have(self, path: str, value: Any) -> None:
        self.keep(path, value)
        self.edited.emit()


def _from_file(path: str) -> Any:
    """The array or the object of a file; several objects are a mapping."""
    import py4DSTEM

    if path.lower().endswith(".npy"):
        return np.load(path, allow_pickle=False)
    value = py4DSTEM.read(path)
    if isinstance(value, dict) and len(value) == 1:
        (value,) = value.values()
    return value


class ArrayEditor(FileEditor):
    """A mask of scan positions from the selection, an image among the results, or a file."""

    def offers(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        if not self.field.required:
            yield "none: all" if self.field.per_position else "none", partial(_same, None)
        if self.field.per_position and self.scan is not None:
            yield "selected positions", self._selected
        for result in self.scan.results if self.scan else ():
            for name, image in _images(result):
                yield name, partial(_same, image)
        yield _FILE, partial(_same, None)

    def _selected(self) -> Any:
        data = None if self.scan is None else self.session.data(self.scan.key)
        return None if data is None else self.scan.selection.mask(data.cube.R_shape)


def _images(result: Any) -> Iterator[tuple[str, Any]]:
    """The images of a result: of a stack each one."""
    value = result.value
    if isinstance(value, Slice) and value.labels:
        for label in value.labels:
            yield f"{result.name}/{label}", value[label].data
    elif isinstance(value, Slice):
        yield result.name, value.data
    elif isinstance(value, np.ndarray) and value.ndim == 2:
        yield result.name, value


class ValueEditor(FileEditor):
    """A result of this scan or another one, of a type that fits, or a file."""

    def offers(self) -> Iterator[tuple[str, Callable[[], Any]]]:
        if not self.field.required:
            yield self.none, partial(_same, None)
        project = self.session.project
        for scan in project.scans:
            here = scan.key == project.current
            for result in scan.results:
                if self._fits(result.value):
                    name = result.name if here else f"{scan.name}: {result.name}"
                    yield name, partial(_same, result.value)
        yield _FILE, partial(_same, None)

    def _fits(self, value: Any) -> bool:
        names = {cls.__name__ for cls in type(value).__mro__}
        return not self.field.accepts or bool(names & set(self.field.accepts))


_EDITORS: dict[str, type[Editor]] = {
    "flag": FlagEditor,
    "whole": NumberEditor,
    "number": NumberEditor,
    "choice": ChoiceEditor,
    "text": TextEditor,
    "numbers": NumbersEditor,
    "detector": DetectorEditor,
    "detectors": DetectorsEditor,
    "array": ArrayEditor,
    "value": ValueEditor,
    "json": TextEditor,
}
