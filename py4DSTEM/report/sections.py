"""Sections that every report ends with: how long it took, how it was made, with what."""

from __future__ import annotations

from collections.abc import Mapping

from py4DSTEM.core.history import History, environment
from py4DSTEM.report.page import Section, Table, Text

__all__ = ["history_section", "timings_section", "versions_section"]


def timings_section(seconds: Mapping[str, float]) -> Section:
    """How long each part took."""
    total = sum(seconds.values())
    rows = [(name, f"{s:.2f} s") for name, s in [*seconds.items(), ("together", total)]]
    return Section("Time", (Table(("step", "duration"), rows),), folded=True)


def history_section(history: History, title: str = "How it was made") -> Section:
    """The steps with their parameters, and the papers behind them."""
    rows = [
        (k, step.kind, step.version, _parameters(step.parameters), step.time)
        for k, step in enumerate(history.steps, start=1)
    ]
    parts: list[Table | Text] = [Table(("", "step", "version", "parameters", "time"), rows)]
    if cited := history.cite():
        methods = "\n".join(f"https://doi.org/{doi}" for doi in cited)
        parts += [Text("Papers behind the methods used:"), Text(methods, mono=True)]
    return Section(title, tuple(parts))


def _parameters(parameters: Mapping[str, object]) -> str:
    text = ", ".join(f"{name}={value!r}" for name, value in parameters.items())
    return text if len(text) <= 600 else text[:599] + "…"


def versions_section() -> Section:
    """Versions of everything that numbers depend on."""
    rows = list(environment().items())
    return Section("Versions", (Table(("what", "version"), rows),), folded=True)
