"""How good a scan is: what was looked at, what to do about it, and where on the images."""

from __future__ import annotations

from typing import Any

from pyqtgraph.Qt import QtCore, QtGui, QtWidgets

from py4DSTEM.core.detector import Mask
from py4DSTEM.gui.panels.parts import JobLine, Note, button
from py4DSTEM.gui.session import Session
from py4DSTEM.gui.stage import Marks
from py4DSTEM.gui.state.commands import AddDetector
from py4DSTEM.gui.state.project import DetectorEntry, free_name
from py4DSTEM.process.clean import repair_pixels
from py4DSTEM.process.quality import Quality, QualityEntry, QualityReport

__all__ = ["QualityPanel"]

Qt = QtCore.Qt
SIGNS = {"ok": "✔", "warn": "▲", "bad": "✘"}
WORDS = {"ok": "good", "warn": "look at this", "bad": "bad"}
COLORS = {"ok": "#009E73", "warn": "#E69F00", "bad": "#D55E00"}
"""Of Okabe and Ito; sign and word say the same."""
HEAD = ("", "what", "value", "meaning")
OVERLAY = "quality"
_MOST_MARKS = 5000


class QualityPanel(QtWidgets.QWidget):
    """Runs the quality report and shows it; a click on an entry marks its places on the images."""

    def __init__(self, session: Session, parent: QtWidgets.QWidget | None = None) -> None:
        super().__init__(parent)
        self.session = session
        self.report: QualityReport | None = None
        self._make_widgets()
        self._lay_out()
        session.changed.connect(self._changed)
        session.opened.connect(self._changed)
        self._changed()

    def _make_widgets(self) -> None:
        self.verdict = QtWidgets.QLabel()
        self.verdict.setToolTip("The worst of all entries.")
        self.table = QtWidgets.QTableWidget(0, len(HEAD))
        self.table.setHorizontalHeaderLabels(HEAD)
        self.table.setEditTriggers(QtWidgets.QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionBehavior(QtWidgets.QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QtWidgets.QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setWordWrap(True)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        mode = QtWidgets.QHeaderView.ResizeMode
        across, down = self.table.horizontalHeader(), self.table.verticalHeader()
        if across is not None and down is not None:
            across.setSectionResizeMode(len(HEAD) - 1, mode.Stretch)
            for column, width in enumerate((26, 130, 112)):
                self.table.setColumnWidth(column, width)
            across.setHighlightSections(False)
            down.setSectionResizeMode(mode.ResizeToContents)
            down.hide()
        self.table.itemSelectionChanged.connect(self._mark)
        self.note = Note()
        self.jobs = JobLine(self.session)
        self.jobs.ended.connect(self._update)
        self.run_button = button(
            "Check the scan",
            "One pass over all patterns, as a job that can be cancelled.",
            self.run,
        )
        self.repair_button = button(
            "Repair pixels",
            "Open the scan once more with its hot, dead and undefined pixels replaced by the "
            "median of their neighbours; the file stays as it is.",
            self.repair,
        )
        self.mask_button = button(
            "Use as mask",
            "Add all other pixels as a detector, so that steps can be told to use only them.",
            self.use_as_mask,
        )
        self.save_button = button("Save…", "Save the report as text or HTML.", self.ask_save)

    def _lay_out(self) -> None:
        row = QtWidgets.QHBoxLayout()
        for one in (self.run_button, self.repair_button, self.mask_button, self.save_button):
            row.addWidget(one)
        row.addStretch(1)
        whole = QtWidgets.QVBoxLayout(self)
        whole.setContentsMargins(6, 6, 6, 6)
        whole.addWidget(self.verdict)
        whole.addWidget(self.table, 1)
        whole.addWidget(self.note)
        whole.addWidget(self.jobs)
        whole.addLayout(row)

    # ---- what is shown ---------------------------------------------------------------------------
    def _changed(self, *_: Any) -> None:
        scan = self.session.project.scan
        reports = [r.value for r in scan.results] if scan is not None else []
        found = next((v for v in reversed(reports) if isinstance(v, QualityReport)), None)
        if found is not self.report:
            self.show_report(found)
        self._update()

    def show_report(self, report: QualityReport | None) -> None:
        """Show a report, or none."""
        self.report = report
        self.session.stage.clear(OVERLAY)
        entries = () if report is None else report.entries
        self.table.setRowCount(len(entries))
        for row, entry in enumerate(entries):
            for column, item in enumerate(_items(entry)):
                self.table.setItem(row, column, item)
        if report is None:
            self.verdict.setText("")
        else:
            sign, word = SIGNS[report.verdict], WORDS[report.verdict]
            color = COLORS[report.verdict]
            self.verdict.setText(
                f'<b style="color:{color}">{sign} {word}</b>: {len(entries)} things looked at'
            )

    def _update(self) -> None:
        scan = self.session.project.scan
        ready = scan is not None and self.session.data(scan.key) is not None
        self.run_button.setEnabled(ready and not self.jobs.busy)
        bad = self.report is not None and bool(self.report.bad_pixels.any())
        self.repair_button.setEnabled(ready and bad)
        self.mask_button.setEnabled(ready and bad)
        self.save_button.setEnabled(self.report is not None)
        self.note.say("" if ready else "open a scan first")

    @property
    def entry(self) -> QualityEntry | None:
        """The entry that is chosen."""
        row = self.table.currentRow()
        chosen = self.report is not None and bool(self.table.selectedItems())
        return self.report.entries[row] if chosen and self.report is not None else None

    def _mark(self) -> None:
        """Mark the pixels or positions of the chosen entry."""
        self.session.stage.clear(OVERLAY)
        entry = self.entry
        places = None if entry is None or self.report is None else self.report.places(entry.name)
        if entry is None or places is None:
            return
        kind, points = places
        marks = Marks(
            points[:_MOST_MARKS].astype(float), symbol="s", color=COLORS[entry.verdict], size_px=9.0
        )
        where: Any = "diffraction" if kind == "pixels" else "real"
        self.session.stage.put(where, f"{OVERLAY}: {entry.name}", marks)

    # ---- acts ------------------------------------------------------------------------------------
    def run(self) -> None:
        """Look at the whole scan, as a job."""
        if self.session.project.scan is not None and not self.jobs.busy:
            self.jobs.follow(self.session.run_step(Quality(), name="quality"))
            self._update()

    def repair(self) -> None:
        """Open the scan once more, with its bad pixels repaired as it is read."""
        scan, report = self.session.project.scan, self.report
        cube = None if scan is None else self.session.cube(scan.key)
        if scan is not None and cube is not None and report is not None:
            repaired = repair_pixels(cube, report.bad_pixels)
            self.session.add_cube(repaired, f"{scan.name} repaired")

    def use_as_mask(self) -> None:
        """Add the pixels that are good as a detector that does not count by itself."""
        scan, report = self.session.project.scan, self.report
        if scan is not None and report is not None:
            name = free_name("usable", [entry.name for entry in scan.detectors])
            entry = DetectorEntry(name=name, shape=Mask(report.usable_pixels), shown=False)
            self.session.do(AddDetector(key=scan.key, entry=entry))

    def ask_save(self) -> None:
        """Ask where to, and save."""
        path, _ = QtWidgets.QFileDialog.getSaveFileName(
            self, "Save report", "quality.html", "HTML (*.html);;Text (*.txt)"
        )
        if path:
            self.save(path)

    def save(self, path: str) -> None:
        """Save the report as HTML or, with any other ending, as text."""
        report = self.report
        if report is None:
            return
        self.session.jobs.submit(
            f"save {path}",
            lambda _: _saved(path, report),
            done=lambda _: self.session.said.emit(f"saved {path}"),
            failed=lambda error: self.session.troubled.emit(f"save {path}", error),
            at_once=True,
        )

    def showEvent(self, event: Any) -> None:
        super().showEvent(event)
        self._mark()

    def hideEvent(self, event: Any) -> None:
        """Marks belong to what is looked at."""
        self.session.stage.clear(OVERLAY)
        super().hideEvent(event)


def _items(entry: QualityEntry) -> list[QtWidgets.QTableWidgetItem]:
    """One row of the table."""
    advice = f"\n→ {entry.advice}" if entry.advice else ""
    texts = (SIGNS[entry.verdict], entry.name, entry.shown, entry.explanation + advice)
    items = [QtWidgets.QTableWidgetItem(text) for text in texts]
    items[0].setForeground(QtGui.QColor(COLORS[entry.verdict]))
    for item in items:
        item.setToolTip(f"{WORDS[entry.verdict]}: {entry.name} {entry.shown}{advice}")
    return items


def _saved(path: str, report: QualityReport) -> None:
    from py4DSTEM.report import Figure, Page, Section, Table, Text, write_html

    if not path.lower().endswith((".html", ".htm")):
        with open(path, "w", encoding="utf-8") as file:
            file.write(report.text() + "\n")
        return
    from py4DSTEM.plot.raster import Raster

    rows = [(SIGNS[e.verdict], e.name, e.shown, e.explanation, e.advice) for e in report]
    table = Table(("", "what", "value", "meaning", "what to do"), rows)
    figure = Figure.of(Raster(report).figure(), "mean pattern and intensity of every position")
    verdict = Text(f"{SIGNS[report.verdict]} {WORDS[report.verdict]}")
    write_html(path, Page(report.name, (Section("Findings", (verdict, table, figure)),)))
