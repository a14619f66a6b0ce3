"""The report of a run: one page that opens anywhere, tables, methods and what to cite."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from py4DSTEM import __version__
from py4DSTEM.batch import previews
from py4DSTEM.batch.overview import PREVIEW
from py4DSTEM.batch.rundir import RunDirectory
from py4DSTEM.batch.summary import (
    FileSummary,
    errors_csv,
    summaries,
    summary_csv,
    write_text,
)
from py4DSTEM.core.history import environment
from py4DSTEM.recipe.model import all_steps
from py4DSTEM.report import bibtex, methods_text
from py4DSTEM.report.methods import steps_of
from py4DSTEM.report.page import Figure, Mark, Page, Section, Table, Text, write_html

if TYPE_CHECKING:
    from py4DSTEM.batch.series import Series

__all__ = ["OVERVIEW", "citations", "methods", "report_page", "write_report"]

OVERVIEW = "scan"
"""Head of the column with the picture of the input itself."""
IMAGE_BYTES = 13_000_000
"""For all thumbnails together; as text they take a third more, and the page stays below 20 MB."""
_WIDTHS_PX = (520, 360, 240, 180, 130, 90)
_LEAST_BYTES_PER_PX2 = 0.1
"""Of a thumbnail, by the square of its width; smaller ones need not be tried."""
_LONGEST = 400
_KINDS: Mapping[str, Literal["good", "fair", "bad"]] = {
    "ok": "good", "yellow": "fair", "red": "bad",
}  # fmt: skip


def write_report(out: str | os.PathLike[str], *, series: Series | None = None) -> Path:
    """Write the report of a run into its folder; the run may still be at work.

    Besides ``report.html`` there are ``summary.csv`` (a row per file, with all numbers),
    ``errors.csv``, ``methods.txt`` and ``CITATION.bib``; with `series` also ``series.csv``.

    Parameters
    ----------
    out : path
        The folder of the run.
    series : Series, optional
        What changes from file to file: adds trends.

    Returns
    -------
    Path
        Of ``report.html``: one file without links, at most 20 MB for 100 inputs.

    Raises
    ------
    ParameterError
        The folder holds no run.
    StoreError
        A file cannot be written.
    """
    run = RunDirectory(out)
    found = summaries(run)
    folder = run.path
    write_text(folder / "summary.csv", summary_csv(found))
    write_text(folder / "errors.csv", errors_csv(found))
    write_text(folder / "methods.txt", methods(found) + "\n")
    write_text(folder / "CITATION.bib", citations(found))
    if series is not None:
        write_text(folder / "series.csv", series.trends(found).csv())
    return write_html(folder / "report.html", report_page(run, found, series))


def report_page(
    run: RunDirectory, found: Sequence[FileSummary], series: Series | None = None
) -> Page:
    """The report as a value; see `write_report`."""
    recipe = run.recipe
    trends = () if series is None else (series.trends(found).section(),)
    sections = (
        Section("Files", (Text(_counted(found)), _files_table(run, found))),
        *_troubles(found),
        *trends,
        *_limits_section(found),
        _times_section(found),
        Section("Methods", (Text(methods(found), mono=True),
                            Text("To cite:"), Text(citations(found), mono=True))),
        Section("Recipe", (Text(run.recipe_text, mono=True),), folded=True),
        _versions_section(found),
    )  # fmt: skip
    return Page(recipe.name or run.path.name, sections, recipe.about)


# ---- files ---------------------------------------------------------------------------------------
def _counted(found: Sequence[FileSummary]) -> str:
    states = Counter(summary.row.state for summary in found)
    levels = Counter(summary.level for summary in found if summary.level)
    words = [f"{states[name]} {name}" for name in ("done", "failed", "running", "waiting")
             if states[name]]  # fmt: skip
    doubtful = [f"{levels[name]} {name}" for name in ("yellow", "red") if levels[name]]
    quality = f" Quality limits: {', '.join(doubtful)}." if doubtful else ""
    return f"{len(found)} files: {', '.join(words) or 'none'}.{quality}"


def _files_table(run: RunDirectory, found: Sequence[FileSummary]) -> Table:
    pictures = _Pictures(run, found)
    head = ("file", "state", "quality", "time (s)", "memory (MB)", *pictures.columns)
    rows = [(_name(s), _state(s), _quality(s), "" if s.seconds is None else round(s.seconds, 2),
             _megabytes(s.rss_bytes), *pictures.row(s)) for s in found]  # fmt: skip
    return Table(head, rows, pictures.caption())


def _name(summary: FileSummary) -> str:
    return os.path.basename(summary.row.source.rstrip("/")) or summary.row.name


def _megabytes(size: int | None) -> float | str:
    return "" if size is None else round(size / 1e6)


def _state(summary: FileSummary) -> Mark:
    row = summary.row
    kinds: Mapping[str, Literal["good", "bad"]] = {"done": "good", "failed": "bad"}
    tries = f"tried {row.attempts} times" if row.attempts > 1 else ""
    note = "; ".join(filter(None, (row.cause, row.note, tries, *summary.problems)))
    return Mark(row.state, kinds.get(row.state, "soft"), _short(note))


def _quality(summary: FileSummary) -> Mark | str:
    if summary.level is None:
        return ""
    beyond = [v.message for v in summary.verdicts if v.level != "ok"]
    return Mark(summary.level, _KINDS[summary.level], _short("; ".join(beyond)))


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


class _Pictures:
    """Thumbnails of every file, each as large as the page can bear."""

    def __init__(self, run: RunDirectory, found: Sequence[FileSummary]) -> None:
        self._run = run
        self._paths = {s.row.name: dict(self._found(s)) for s in found}
        self.columns = tuple(dict.fromkeys(c for paths in self._paths.values() for c in paths))
        self._count = max(1, sum(map(len, self._paths.values())))
        self._left_out = 0

    def _found(self, summary: FileSummary) -> Iterator[tuple[str, Path]]:
        """Column → picture.  A result of the name of the column of the scan takes its place."""
        places = [(OVERVIEW, self._run.folder(summary.row) / PREVIEW)]
        places += [(step.name, step.path / PREVIEW) for step in summary.row.steps
                   if step.name in summary.records]  # fmt: skip
        return ((name, path) for name, path in places if path.is_file())

    def row(self, summary: FileSummary) -> list[Figure | str]:
        """The cells of a file."""
        paths = self._paths[summary.row.name]
        return [self._cell(paths.get(c), f"{_name(summary)}: {c}") for c in self.columns]

    def _cell(self, path: Path | None, caption: str) -> Figure | str:
        if path is None:
            return ""
        most = IMAGE_BYTES // self._count
        try:
            whole = path.read_bytes()
            for width in _WIDTHS_PX:
                if width > _WIDTHS_PX[-1] and most < width**2 * _LEAST_BYTES_PER_PX2:
                    continue
                small = previews.thumbnail(whole, width)
                if len(small) <= most:
                    return Figure(small, caption)
        except OSError:  # half a picture is no reason to have no report
            return "damaged picture"
        self._left_out += 1
        return "see folder"

    def caption(self) -> str:
        """What is missing; to be called after the rows."""
        return f"{self._left_out} pictures left out for size" if self._left_out else ""


# ---- what went wrong -----------------------------------------------------------------------------
def _troubles(found: Sequence[FileSummary]) -> Iterator[Section]:
    failed = [s for s in found if s.row.state == "failed"]
    if failed:
        rows = [(_name(s), Mark(s.row.cause or "failed", "bad"), s.row.error) for s in failed]
        yield Section("Errors", (Table(("file", "cause", "what happened"), rows),))
    warned = [(_name(s), step, text) for s in found for step, record in s.records.items()
              for text in record.get("warnings", ())]  # fmt: skip
    if warned:
        table = Table(("file", "step", "warning"), list(dict.fromkeys(warned)))
        yield Section("Warnings", (table,), folded=True)


def _limits_section(found: Sequence[FileSummary]) -> Iterator[Section]:
    """Every number that has a limit."""
    names = tuple(dict.fromkeys(v.name for s in found for v in s.verdicts))
    if not names:
        return
    rows = []
    for summary in found:
        verdicts = {v.name: v for v in summary.verdicts}
        if verdicts:
            rows.append((_name(summary), *(_judgement(verdicts.get(name)) for name in names)))
    yield Section("Quality limits", (Table(("file", *names), rows),), folded=True)


def _judgement(verdict: Any) -> Mark | str:
    if verdict is None:
        return ""
    shown = "unknown" if verdict.value is None else f"{verdict.value:.6g}"
    return Mark(shown, _KINDS[verdict.level])


# ---- how it was made -----------------------------------------------------------------------------
def _times_section(found: Sequence[FileSummary]) -> Section:
    taken: dict[str, list[float]] = {}
    for summary in found:
        for step in summary.row.steps:
            if step.state == "done" and step.seconds is not None:
                taken.setdefault(step.name, []).append(step.seconds)
    rows = [(name, len(s), round(median(s), 3), round(max(s), 3)) for name, s in taken.items()]
    table = Table(("step", "files", "median (s)", "longest (s)"), rows,
                  "Steps that share one pass over the scan each count the whole pass.")  # fmt: skip
    return Section("Time", (table,), folded=True)


def methods(found: Sequence[FileSummary]) -> str:
    """What was done, in words.

    Parameters
    ----------
    found : sequence of FileSummary
        The steps are those of the first file that is done; where parameters differ from file to
        file, that is said.
    """
    done = [s for s in found if s.row.state == "done" and s.records]
    steps = steps_of(done[0].histories) if done else ()
    used = next((h.environment for s in done for h in s.histories if h.environment), environment())
    known = {step.kind: all_steps()[step.kind] for step in steps if step.kind in all_steps()}
    about = {kind: _summary_line(cls) for kind, cls in known.items()}
    text = methods_text(steps, used, about=about,
                        defaults={kind: _defaults(cls) for kind, cls in known.items()})  # fmt: skip
    others = sum(_chosen(s) != _chosen(done[0]) for s in done[1:])
    more = f" {others} other files had other parameters: see their step.json." if others else ""
    return text + more


def _chosen(summary: FileSummary) -> dict[str, Any]:
    return {name: record.get("step") for name, record in summary.records.items()}


def _summary_line(cls: Any) -> str:
    return " ".join(str(cls.__doc__ or "").strip().partition("\n\n")[0].split())


def _defaults(cls: Any) -> dict[str, Any]:
    """Parameters as they are when nothing is chosen; without those that must be."""
    fields = cls.model_fields.items()
    given = {name: field.get_default(call_default_factory=True) for name, field in fields
             if not field.is_required()}  # fmt: skip
    made = cls.model_construct(**given)
    return {n: v for n, v in made.model_dump(mode="json", warnings=False).items() if n in given}


def citations(found: Sequence[FileSummary]) -> str:
    """BibTeX of the program and of all methods used."""
    dois = dict.fromkeys(doi for s in found for h in s.histories for doi in h.cite())
    return bibtex(dois, version=__version__)


def _versions_section(found: Sequence[FileSummary]) -> Section:
    """Versions in use, as the records say; several where a run was resumed elsewhere."""
    words: dict[str, dict[str, None]] = {}
    for summary in found:
        for record in summary.records.values():
            for name in ("package", "python", "numpy", "system", "host"):
                if record.get(name):
                    words.setdefault(name, {})[str(record[name])] = None
            for name, version in dict(record.get("history", {}).get("environment", {})).items():
                words.setdefault(name, {})[str(version)] = None
    rows = [(name, ", ".join(values)) for name, values in words.items()]
    stamps = [(_name(s), s.row.source, s.row.stamp) for s in found if s.row.stamp]
    parts = (Table(("what", "version"), rows), Table(("file", "from", "fingerprint"), stamps))
    return Section("Versions and inputs", parts, folded=True)
