"""Every format that can be read or written here, as rows of one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from py4DSTEM.io.format import Format, registered_formats

__all__ = ["FormatRow", "formats"]


@dataclass(frozen=True)
class FormatRow:
    """One format.

    Parameters
    ----------
    name : str
        For ``read(path, format=name)``.
    title : str
    extensions : tuple of str
        In lower case, with the dot; recognition is by content.
    reads, writes : bool
        What the package can do with it.
    available : bool
        Whether all packages that it needs are installed.
    install : str
        What ``pip install`` would add where it is not available; otherwise empty.
    """

    name: str
    title: str
    extensions: tuple[str, ...]
    reads: bool
    writes: bool
    available: bool = True
    install: str = ""


NATIVE = ("emd", (".h5", ".hdf5", ".emd", ".py4dstem"))
"""Name of the package's own format, and its extensions."""

WRITTEN = {".npy": "npy", ".tif": "tiff", ".tiff": "tiff", ".hspy": "hspy"}
"""Exports that a reader of the package reads back, by extension; the others have a row below."""

EXPORT_ONLY = {
    ".png": ("png", "PNG image", None),
    ".csv": ("csv", "table of comma-separated values", None),
    ".zarr": ("zarr", "Zarr array", "zarr"),
}
"""Extension → name, title and the package that writing needs."""


def formats() -> tuple[FormatRow, ...]:
    """List the formats, those that can be read first.

    Returns
    -------
    tuple of FormatRow

    Examples
    --------
    >>> import py4DSTEM
    >>> row = next(row for row in py4DSTEM.formats() if row.name == "npy")
    >>> row.extensions, row.reads, row.writes
    (('.npy',), True, True)
    """
    from py4DSTEM.io.export import EXPORTS

    readers = registered_formats()
    written = {WRITTEN[suffix] for suffix in EXPORTS if suffix in WRITTEN} | {NATIVE[0]}
    rows = [_reader_row(fmt, fmt.name in written) for fmt in readers.values()]
    return (*rows, *_export_rows(readers, set(EXPORTS)))


def _reader_row(fmt: Format, writes: bool) -> FormatRow:
    available = fmt.available()
    install = "" if available else _install(fmt.requires, fmt.extra)
    return FormatRow(fmt.name, fmt.title, fmt.extensions, True, writes, available, install)


def _export_rows(readers: Mapping[str, Format], exports: set[str]) -> Iterator[FormatRow]:
    """Formats that are written, and that no reader covers."""
    for suffix, (name, title, package) in EXPORT_ONLY.items():
        if suffix not in exports or name in readers:
            continue
        available = package is None or find_spec(package) is not None
        install = "" if available else _install((package or "",), package)
        yield FormatRow(name, title, (suffix,), False, True, available, install)


def _install(packages: tuple[str, ...], extra: str | None) -> str:
    return f'"py4DSTEM[{extra}]"' if extra else " ".join(packages)
