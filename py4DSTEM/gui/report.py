"""All results of a scan as one page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from py4DSTEM.core.cube import Cube
from py4DSTEM.errors import Py4DSTEMError
from py4DSTEM.plot.raster import Raster
from py4DSTEM.report import (
    Figure,
    Page,
    Section,
    Table,
    Text,
    history_section,
    versions_section,
)

__all__ = ["results_page"]


def results_page(title: str, cube: Cube, values: Mapping[str, Any]) -> Page:
    """A section for the scan and one for every value, with its figure and how it was made.

    Parameters
    ----------
    title : str
    cube : Cube
        The calibrated scan.
    values : mapping
        Results by name.
    """
    sections = [_scan(cube), *(_value(name, value) for name, value in values.items())]
    return Page(title, (*sections, versions_section()), subtitle="py4DSTEM")


def _scan(cube: Cube) -> Section:
    facts = (
        ("file", str(cube.metadata.source or "in memory")),
        ("shape", " × ".join(map(str, cube.shape))),
        ("type", str(cube.dtype)),
        ("notes", "\n".join(cube.metadata.notes)),
    )
    calibration = Text(repr(cube.calibration), mono=True)
    return Section("Scan", (Table(("", ""), [f for f in facts if f[1]]), calibration))


def _value(name: str, value: Any) -> Section:
    history = getattr(value, "history", None)
    parts: list[Any] = list(_figure(value))
    words = getattr(value, "text", None)
    if callable(words):
        parts.append(Text(str(words()), mono=True))
    if history is not None and history.steps:
        parts += history_section(history).parts
    return Section(name, tuple(parts) or (Text(repr(value), mono=True),))


def _figure(value: Any) -> Iterator[Figure]:
    """The figure, where the value has one."""
    try:
        yield Figure.of(Raster(value).figure())
    except (Py4DSTEMError, TypeError):  # numbers and tables have no figure
        return
