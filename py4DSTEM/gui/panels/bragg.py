"""Tuning the search for Bragg disks on live previews, and running it on the whole scan."""

from __future__ import annotations

import weakref
from functools import partial
from typing import Any

import numpy as np
from pyqtgraph.Qt import QtCore, QtWidgets

from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.gui.jobs.lane import Answer, Lane
from py4DSTEM.gui.panels.bragg_controls import RANGES, ProbePicker, sliders
from py4DSTEM.gui.panels.bragg_tiles import FOUND, REASON_COLORS, Bars, TileView
from py4DSTEM.gui.panels.bragg_work import Bench, Shown, Wish, measured_probe, probe_step
from py4DSTEM.gui.panels.parts import JobLine, Note, button, copy_text
from py4DSTEM.gui.panels.step_code import code_of_step, recipe_with
from py4DSTEM.gui.panels.step_form import StepForm
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.stage import Marks
from py4DSTEM.gui.state.forms import fields_of
from py4DSTEM.gui.state.project import Made, Scan
from py4DSTEM.process.bragg.detect import FindBraggDisks
from py4DSTEM.process.bragg.preview import REASONS, spread_positions
from py4DSTEM.process.probe import MeasureProbe, Probe

__all__ = ["BraggPanel"]

Qt = QtCore.Qt
COUNT = 9
OVERLAY = "bragg: previews"
_HERE = "#00d0ff"
MORE = tuple(f.name for f in fields_of(FindBraggDisks) if f.name not in {"probe", *RANGES})
"""Parameters without a slider."""


class BraggPanel(QtWidgets.QWidget):
    """Nine patterns with the disks that a search finds in them, as its parameters change."""

    previewed = QtCore.Signal(object)
    """A `Shown`: what the panel shows now belongs to its parameters."""

    def __init__(self, session: Session, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.positions: tuple[tuple[int, int], ...] = ()
        self.shown: Shown | None = None
        """What is shown, where it belongs to the parameters as they are."""
        self._of: Any = None
        self._cube: Any = None
        self._next = 0
        self._wanted: Any = None
        self._make_controls()
        self._make_previews()
        self._lay_out()
        self._lane = lane = Lane(Bench(), "bragg")
        lane.answered.connect(self._answered)
        weakref.finalize(self, lane.stop)
        session.changed.connect(self._changed)
        session.opened.connect(self._changed)
        session.stage.clicked.connect(self._clicked)
        self._changed()

    def _make_controls(self) -> None:
        self.probe = ProbePicker(self.session)
        self.probe.edited.connect(self.ask)
        self.probe.measureWanted.connect(self.measure)
        self.sliders = sliders(fields_of(FindBraggDisks), self.session)
        for editor in self.sliders.values():
            editor.set_value(editor.field.default)
            editor.edited.connect(self.ask)
        self.more = StepForm(FindBraggDisks, self.session, only=MORE)
        self.more.edited.connect(self.ask)
        self.more_button = QtWidgets.QToolButton()
        self.more_button.setText("more parameters")
        self.more_button.setCheckable(True)
        self.more_button.setArrowType(Qt.ArrowType.RightArrow)
        self.more_button.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.more_button.setAutoRaise(True)
        self.more_button.setProperty("quiet", True)
        self.more_button.setToolTip("Refinement, kernel, camera, mask, and how defaults are found.")
        self.more_button.toggled.connect(self._show_more)
        self.run_button = button("Run all", "Search the whole scan, as a job.", self.run)
        self.selected_tick = QtWidgets.QCheckBox("selected positions only")
        self.selected_tick.setToolTip(
            "Search only the positions that are selected on the real-space image; the others are "
            "not read and have no disks."
        )
        self.selected_tick.toggled.connect(
            lambda on: self.run_button.setText("Run selected" if on else "Run all")
        )
        self.copy_button = button("Copy as Python", "Copy the line that does this.", self.copy)
        self.recipe_button = button(
            "→ recipe",
            "Copy the recipe of this scan with this search as its last step.",
            self.recipe,
        )
        self.reset_button = button("Defaults", "Put all parameters back.", self.reset)
        self.jobs = JobLine(self.session)
        self.jobs.ended.connect(self._update)

    def _make_previews(self) -> None:
        self.tiles = [TileView() for _ in range(COUNT)]
        tip = (
            "A pattern of the scan: circles are disks, crosses are maxima that were left out; hold "
            "the mouse over one to read why.\nClick on the real-space image to look elsewhere."
        )
        for view in self.tiles:
            view.setToolTip(tip)
        self.images = {name: TileView(64) for name in ("probe", "template")}
        self.images["probe"].setToolTip("The disk that is looked for.")
        self.images["template"].setToolTip("What patterns are correlated with: disk, trench, blur.")
        self.bars = Bars()
        self.legend = QtWidgets.QLabel()
        self.legend.setWordWrap(True)
        self.legend.setTextFormat(Qt.TextFormat.RichText)
        self.cost = QtWidgets.QLabel()
        self.cost.setWordWrap(True)
        self.cost.setToolTip("Estimated with all cores, without the time to read the file.")
        self.note = Note(error=True)

    def _lay_out(self) -> None:
        head = QtWidgets.QHBoxLayout()
        for view in self.images.values():
            view.setFixedSize(72, 72)
            head.addWidget(view)
        summary = QtWidgets.QVBoxLayout()
        summary.addWidget(self.bars)
        summary.addWidget(self.cost)
        head.addLayout(summary, 1)
        grid = QtWidgets.QGridLayout()
        grid.setSpacing(2)
        for k, view in enumerate(self.tiles):
            grid.addWidget(view, k // 3, k % 3)
        form = QtWidgets.QFormLayout()
        form.setVerticalSpacing(2)
        form.addRow("probe", self.probe)
        for editor in self.sliders.values():
            label = QtWidgets.QLabel(editor.field.label)
            label.setToolTip(editor.field.help)
            form.addRow(label, editor)
        form.addRow(self.more_button)
        self.more_scroll = QtWidgets.QScrollArea()
        self.more_scroll.setWidgetResizable(True)
        self.more_scroll.setMinimumHeight(150)
        self.more_scroll.setWidget(self.more)
        self.more_scroll.hide()
        row = QtWidgets.QHBoxLayout()
        for one in (self.run_button, self.copy_button, self.recipe_button, self.reset_button):
            row.addWidget(one)
        row.addStretch(1)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(6, 6, 6, 6)
        whole.addLayout(head)
        whole.addLayout(grid, 3)
        whole.addWidget(self.legend)
        whole.addLayout(form)
        whole.addWidget(self.more_scroll, 2)
        whole.addWidget(self.note)
        whole.addWidget(self.jobs)
        whole.addWidget(self.selected_tick)
        whole.addLayout(row)

    def _show_more(self, shown: bool) -> None:
        arrow = Qt.ArrowType.DownArrow if shown else Qt.ArrowType.RightArrow
        self.more_button.setArrowType(arrow)
        self.more_scroll.setVisible(shown)

    # ---- the scan --------------------------------------------------------------------------------
    def _changed(self, *_: Any) -> None:
        """Follow the scan that is shown, and its calibration."""
        scan = self.session.project.scan
        data = None if scan is None else self.session.data(scan.key)
        of = None if scan is None or data is None else (scan.key, data.cube, scan.layers)
        self.probe.refresh()
        if of is not None and self._of is not None and of[1] is self._of[1]:
            same = of[2] is self._of[2]
        else:
            same = of is None and self._of is None
            self._take(scan if data is not None else None)
        if not same:
            self._of = of
            self._cube = None if of is None else self.session.cube(of[0])
            self.ask()
        self._update()

    def _take(self, scan: Scan | None) -> None:
        """Look at positions all over a new scan."""
        data = None if scan is None else self.session.data(scan.key)
        shape = (0, 0) if data is None else data.cube.R_shape
        self.positions = tuple(spread_positions(shape, COUNT)) if data is not None else ()
        self._next = 0
        if data is not None:
            least = min(data.cube.Q_shape)
            self.sliders["min_spacing_px"].set_reach(0.0, least / 2)
            self.sliders["edge_px"].set_reach(0.0, least / 4)
        for view in (*self.tiles, *self.images.values()):
            view.show_tile(None)
        self._mark()

    def _update(self) -> None:
        ready = self._cube is not None
        self.run_button.setEnabled(ready and not self.jobs.busy)
        for one in (self.copy_button, self.recipe_button):
            one.setEnabled(ready and self.shown is not None)
        if not ready:
            self.note.say("open a scan first")

    # ---- positions -------------------------------------------------------------------------------
    def _clicked(self, panel: str, x: float, y: float) -> None:
        """A click on the scan: look there; on a position that is looked at: no longer."""
        if panel != "real" or self._cube is None or not self.isVisible():
            return
        place = (round(x), round(y))
        if not all(0 <= at < size for at, size in zip(place, self._cube.R_shape, strict=True)):
            return
        positions = list(self.positions)
        if place in positions:
            if len(positions) > 1:
                positions.remove(place)
        elif len(positions) < COUNT:
            positions.append(place)
        else:
            positions[self._next % COUNT] = place
            self._next += 1
        self.set_positions(tuple(positions))

    def set_positions(self, positions: tuple[tuple[int, int], ...]) -> None:
        """Look at these positions, nine at most."""
        self.positions = positions[:COUNT]
        self._mark()
        self.ask()

    def _mark(self) -> None:
        """Number the positions on the image of the scan."""
        marks = None
        if self.positions and self.isVisible():
            labels = tuple(str(k + 1) for k in range(len(self.positions)))
            points = np.array(self.positions, np.float64)
            marks = Marks(points, labels, symbol="s", color=_HERE, size_px=9.0)
        self.session.stage.put("real", OVERLAY, marks)

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._mark()
        self.ask()

    def hideEvent(self, event: Any) -> None:
        super().hideEvent(event)
        self.session.stage.put("real", OVERLAY, None)

    # ---- previews --------------------------------------------------------------------------------
    def values(self) -> dict[str, Any]:
        """All parameters but the probe."""
        return self.more.values() | {name: e.value() for name, e in self.sliders.items()}

    def ask(self, *_: Any) -> None:
        """Ask for a preview with the parameters as they are."""
        self.shown = None
        if self._cube is None:
            self._lane.ask(Wish(None))
        elif self.isVisible():
            for view in self.tiles:
                view.set_stale(True)
            self._lane.ask(Wish(self._cube, self.probe.wish(), self.positions, self.values()))
        self._update()

    def _answered(self, answer: Answer) -> None:
        if answer.number != self._lane.number:
            # Along a drag every answer is shown, so that the picture follows; it stays pale.
            if isinstance(answer.value, Shown) and answer.request.cube is self._cube:
                self._draw(answer.value, stale=True)
            return
        wanted, self._wanted = self._wanted, None
        if isinstance(answer.error, Py4DSTEMError):
            self.note.say(str(answer.error))
        elif answer.error is not None:
            self.session.troubled.emit("preview the search for disks", answer.error)
        elif answer.value is not None:
            self.shown = answer.value
            self.note.say("")
            self._draw(answer.value, stale=False)
            if wanted is not None:
                wanted(answer.value)
        self._update()
        if self.shown is not None:
            self.previewed.emit(self.shown)

    def _draw(self, shown: Shown, *, stale: bool) -> None:
        tiles = (*shown.tiles, *(None,) * (COUNT - len(shown.tiles)))
        for view, one in zip(self.tiles, tiles, strict=True):
            view.show_tile(one)
            view.set_stale(stale)
        for name, view in self.images.items():
            view.show_tile(shown.images.get(name))
        for name, (value, why) in shown.preview.chosen.items():
            if name in self.sliders:
                self.sliders[name].show_chosen(value)
                self.sliders[name].inner.setToolTip(f"chosen: {value:.4g}: {why}")
        numbers, edges = shown.preview.histogram()
        self.bars.show_histogram(numbers.tolist(), edges[0], edges[-1])
        self.cost.setText(f"whole scan: {_duration(shown.preview.seconds)}")
        self.legend.setText(_legend(shown))

    # ---- acts ------------------------------------------------------------------------------------
    def reset(self) -> None:
        """Put all parameters back to their defaults."""
        for editor in self.sliders.values():
            editor.set_value(editor.field.default)
        self.more.reset()
        self.ask()

    def _with_search(self, act: Any) -> None:
        """Do something with the search that is shown, or will be as soon as it is known."""
        if self.shown is not None:
            act(self.shown)
        elif self._cube is not None:
            self._wanted = act
            self.ask()

    def run(self) -> None:
        """Search the whole scan."""
        if not self.jobs.busy:
            self._with_search(self._start)

    def _start(self, shown: Shown) -> None:
        search, where = shown.search, self.where
        self.jobs.follow(self.session.run_step(search, name=self._name(), where=where))
        self._update()

    @property
    def where(self) -> Any:
        """The selected positions, where only those are to be searched."""
        scan = self.session.project.scan
        return scan.selection if scan is not None and self.selected_tick.isChecked() else None

    def _name(self) -> str:
        return "spots" if self.probe.kind == "spots" else "bragg"

    def copy(self) -> None:
        """Copy the Python that does the same."""
        self._with_search(
            lambda shown: self._copied(code_of_step(shown.search, where=self.where), "Python")
        )

    def recipe(self) -> None:
        """Copy the recipe that does the same."""
        self._with_search(
            lambda shown: self._copied(
                recipe_with(self.session.project, shown.search, self._name()), "recipe"
            )
        )

    def _copied(self, text: str, what: str) -> None:
        copy_text(text)
        self.session.said.emit(f"copied as {what}")

    # ---- probes ----------------------------------------------------------------------------------
    def measure(self, where: str) -> None:
        """Measure a probe in the selected positions (""), in a scan (its key), or in a file."""
        path = ""
        if where == "file":
            path, _ = QtWidgets.QFileDialog.getOpenFileName(self, "Probe or vacuum scan")
            if not path:
                return
        self.measure_in(where, path)

    def measure_in(self, where: str, path: str = "") -> None:
        """As `measure`, with the path of the file."""
        scan = self.session.project.scan
        if scan is None or self._cube is None or self.jobs.busy:
            return
        cube: Any = self._cube
        if where == "file":
            step, chosen = None, None
            made = Made(kind="read", parameters={"path": path})
        elif where == "":
            step, chosen = probe_step(scan.selection, cube.R_shape)
            made = scan.made_by(step, where=chosen)
        else:
            cube, (step, chosen) = self.session.cube(where), (MeasureProbe(), None)
            made = _made_elsewhere(self.session.project.get(where))
        self.jobs.follow(
            self.session.jobs.submit(
                "measure the probe",
                lambda options: (
                    Probe.from_file(path)
                    if step is None
                    else measured_probe(cube, step, chosen, options)
                ),
                done=partial(self._have_probe, scan.key, made),
                failed=lambda error: self.session.troubled.emit("measure the probe", error),
                at_once=True,
            )
        )
        self._update()

    def _have_probe(self, key: str, made: Made | None, probe: Probe) -> None:
        name = self.session.keep("probe", probe, made, key)
        if name and key == self.session.project.current:
            self.probe.choose(name)


def _made_elsewhere(scan: Scan) -> Made | None:
    """A probe of another scan: steps know only their own, but a search takes a file as well."""
    source = scan.source
    if source.path is None:
        return None
    return Made(kind="read", parameters={"path": source.path, **source.options})


def _duration(seconds: float) -> str:
    """
    >>> _duration(0.2), _duration(38.4), _duration(600.0)
    ('under a second', 'about 38 s', 'about 10 min')
    """
    if seconds < 1:
        return "under a second"
    return f"about {seconds:.0f} s" if seconds < 120 else f"about {seconds / 60:.0f} min"


def _legend(shown: Shown) -> str:
    """How many disks, and how many maxima were left out, by reason."""
    preview = shown.preview
    left_out: dict[str, int] = {}
    for k in range(len(preview.patterns)):
        for reason, number in preview.left_out(k).items():
            left_out[reason] = left_out.get(reason, 0) + number
    found = sum(map(len, preview.peaks))
    parts = [f'<span style="color:{FOUND}">○</span> {found} disks']
    parts += [
        f'<span style="color:{REASON_COLORS[reason]}">✕</span> {number} {REASONS[reason]}'
        for reason, number in left_out.items()
    ]
    return " &nbsp; ".join(parts)
