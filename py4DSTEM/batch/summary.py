"""What came of every file of a run: state, verdicts, numbers, records; and as tables of text."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from py4DSTEM.batch.provenance import history_in, numbers_in
from py4DSTEM.batch.qc import Level, Verdict, judged, worst
from py4DSTEM.batch.rundir import FileRow, RunDirectory
from py4DSTEM.core.history import History
from py4DSTEM.errors import CorruptFile, ParameterError
from py4DSTEM.io.store import atomic

__all__ = ["FileSummary", "csv_text", "errors_csv", "summaries", "summary_csv", "write_text"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet would take a text for a formula by."""


@dataclass(frozen=True, eq=False)
class FileSummary:
    """One input of a run with everything that is known about it.

    Parameters
    ----------
    row : FileRow
    records : mapping of str to mapping
        Step → its ``step.json``, of the steps that are done.
    verdicts : tuple of Verdict
        Of the quality limits; () unless the file is done.
    problems : tuple of str
        Records that could not be read.
    """

    row: FileRow
    records: Mapping[str, Mapping[str, Any]]
    verdicts: tuple[Verdict, ...] = ()
    problems: tuple[str, ...] = field(default_factory=tuple)

    @property
    def level(self) -> Level | None:
        """The worst verdict; None where nothing was judged."""
        return worst([v.level for v in self.verdicts]) if self.verdicts else None

    @cached_property
    def numbers(self) -> dict[str, float | None]:
        """``"step.quantity"`` → number, of all steps."""
        return {
            f"{step}.{name}": value
            for step, record in self.records.items()
            for name, value in numbers_in(record).items()
        }

    @cached_property
    def seconds(self) -> float | None:
        """Time that its results took, also in earlier runs; steps of one pass count once."""
        passes = {r.get("started"): r.get("seconds") or 0.0 for r in self.records.values()}
        return sum(passes.values()) if passes else self.row.seconds

    @cached_property
    def rss_bytes(self) -> int | None:
        """Largest resident memory while its results were made."""
        return max((r.get("rss_bytes") or 0 for r in self.records.values()), default=0) or (
            self.row.rss_bytes
        )

    @cached_property
    def histories(self) -> tuple[History, ...]:
        """Of the results, in the order of the steps."""
        return tuple(map(history_in, self.records.values()))


def summaries(run: RunDirectory) -> tuple[FileSummary, ...]:
    """A summary of every input, in the order in which they were given.

    Parameters
    ----------
    run : RunDirectory
        May still be at work.
    """
    return tuple(_summary(run, row) for row in run.files())


def _summary(run: RunDirectory, row: FileRow) -> FileSummary:
    records: dict[str, Mapping[str, Any]] = {}
    problems = []
    for step in row.steps:
        if step.state == "done":
            try:
                records[step.name] = run.step_record(step)
            except CorruptFile as error:
                problems.append(f"{step.name}: {error}")
    found = FileSummary(row, records, (), tuple(problems))
    if row.state != "done":
        return found
    return FileSummary(row, records, judged(found.numbers, _limits(run, row)), tuple(problems))


def _limits(run: RunDirectory, row: FileRow) -> Mapping[str, Any]:
    try:
        return dict(run.recipe.for_file(row.source).qc)
    except ParameterError:  # the file has failed by that, with a better explanation
        return dict(run.recipe.qc)


# ---- text ----------------------------------------------------------------------------------------
def summary_csv(found: Sequence[FileSummary]) -> str:
    """One row per file: state, quality, time, memory, and every number as a column."""
    columns = dict.fromkeys(name for summary in found for name in summary.numbers)
    head = ["file", "source", "state", "quality", "cause", "error", "seconds", "rss_bytes",
            "attempts", "host", "fingerprint", *columns]  # fmt: skip
    return csv_text(head, (_summary_row(summary, columns) for summary in found))


def _summary_row(summary: FileSummary, columns: Iterable[str]) -> list[Any]:
    row = summary.row
    numbers = [summary.numbers.get(name) for name in columns]
    return [row.name, row.source, row.state, summary.level, row.cause, row.error, summary.seconds,
            summary.rss_bytes, row.attempts, row.host, row.stamp, *numbers]  # fmt: skip


def errors_csv(found: Sequence[FileSummary]) -> str:
    """One row per error, per limit that is not met, and per record that cannot be read."""
    return csv_text(("file", "source", "kind", "step", "cause", "message"), _errors(found))


def _errors(found: Sequence[FileSummary]) -> Iterator[list[Any]]:
    for summary in found:
        row = summary.row
        if row.state == "failed":
            steps = [step.name for step in row.steps if step.state == "failed"]
            yield [row.name, row.source, "failed", " ".join(steps), row.cause, row.error]
        for verdict in summary.verdicts:
            if verdict.level != "ok":
                yield [row.name, row.source, verdict.level, verdict.result, verdict.name,
                       verdict.message]  # fmt: skip
        for problem in summary.problems:
            yield [row.name, row.source, "record", problem.partition(":")[0], "damaged", problem]


def csv_text(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows under a head as CSV; no cell is a formula."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(_cell, head))
    writer.writerows(map(_cell, row) for row in rows)
    return text.getvalue()


def _cell(value: Any) -> Any:
    """Numbers as they are; text that a spreadsheet would compute is quoted."""
    if value is None:
        return ""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def write_text(path: str | os.PathLike[str], text: str) -> Path:
    """Write a text file whole or not at all.

    Raises
    ------
    StoreError
        Writing failed; what was there before is unharmed.
    """
    target = Path(path)
    with atomic.replacing(target) as part:
        atomic.write_bytes(part, text.encode("utf-8", "replace"))
    return target
