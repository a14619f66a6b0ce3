"""The contract of a file format, and the registry of formats.

A format recognises its files by content (`sniff`) and opens them lazily (`open`).  It gives
`Signal` values, which `read` turns into cubes and slices, or finished values.
"""

from __future__ import annotations

import importlib
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.metadata import Metadata
from py4DSTEM.core.parameters import Parameters
from py4DSTEM.errors import (
    CorruptFile,
    FileMissing,
    FormatError,
    ParameterError,
    UnknownFormat,
)

__all__ = [
    "Format",
    "Match",
    "RawLayout",
    "ReadOptions",
    "Signal",
    "Source",
    "detect",
    "format_named",
    "registered_formats",
]

HEAD_BYTES = 4096
ENTRY_POINTS = "py4dstem.formats"


class Match(IntEnum):
    """How sure a format is that a file is its own."""

    NO = 0
    MAYBE = 1
    YES = 2


class RawLayout(Parameters):
    """Where the numbers are in a raw binary file.

    Parameters
    ----------
    dtype : str
        numpy name with byte order where it matters, such as ``"uint16"`` or ``">u2"``.
    Q_shape : (int, int)
        Rows and columns of a pattern.
    offset_bytes : int
        Header to skip at the start of the file.
    gap_bytes : int
        Bytes between the end of one pattern and the start of the next.
    """

    dtype: str
    Q_shape: tuple[int, int]
    offset_bytes: int = Field(0, ge=0)
    gap_bytes: int = Field(0, ge=0)


class ReadOptions(Parameters):
    """Options of `read`, the same for every format."""

    dataset: str | None = None
    scan_shape: tuple[int, int] | None = None
    sync_offset: int = 0
    flyback: int = Field(0, ge=0)
    layout: RawLayout | None = None
    allow_truncated: bool = False
    allow_external: bool = False
    bin_Q: int = Field(1, ge=1)


@dataclass(frozen=True)
class Source:
    """A file (or a directory that is one, such as Zarr) as a format sees it first."""

    path: Path
    head: bytes
    size: int
    is_directory: bool = False

    @property
    def suffix(self) -> str:
        """Extension in lower case, with the dot."""
        return self.path.suffix.lower()

    @classmethod
    def of(cls, path: str | os.PathLike[str]) -> Source:
        """Look at a path without ever blocking on it (FIFOs and devices are refused).

        Raises
        ------
        FormatError
            Missing, unreadable, empty or not a file.
        """
        where = Path(path).expanduser()
        try:
            status = os.stat(where)
        except FileNotFoundError:
            raise FileMissing("no such file", path=where, hint=_nearby(where)) from None
        except (OSError, ValueError) as error:
            raise FormatError(f"cannot be looked at: {error}", path=where) from error
        if stat.S_ISDIR(status.st_mode):
            return cls(where, b"", 0, is_directory=True)
        if not stat.S_ISREG(status.st_mode):
            raise FormatError("not a regular file", path=where, expected="a file on disk")
        if status.st_size == 0:
            raise CorruptFile("the file is empty", path=where, hint="Was it copied completely?")
        try:
            with open(where, "rb") as f:
                return cls(where, f.read(HEAD_BYTES), status.st_size)
        except OSError as error:
            hint = "Check its permissions" if isinstance(error, PermissionError) else None
            raise FormatError(f"cannot be read: {error.strerror}", path=where, hint=hint) from error


def _nearby(path: Path) -> str:
    """Name files in the same folder that are spelt alike."""
    import difflib

    if not path.parent.is_dir():
        return f"The folder {path.parent} does not exist either"
    try:
        names = [entry.name for entry in os.scandir(path.parent)]
    except OSError:
        return "Check the spelling"
    close = difflib.get_close_matches(path.name, names, n=3)
    return f"Did you mean {' or '.join(close)}?" if close else "Check the spelling"


@dataclass(frozen=True, eq=False)
class Signal:
    """One data set of a file, before it becomes a cube, a slice or an array.

    Parameters
    ----------
    name : str
    data : array-like or FrameSource
        2D … 5D lazy array, or a `FrameSource` (with ``read_frames``) for a stream of patterns.
    calibration : Calibration
    metadata : Metadata
    stream : bool
        A camera stream ``(n, Qx, Qy)``: always to be arranged as a scan.
    scan_shape : (int, int), optional
        What the file says of the scan.
    scan_reason : str
        Where `scan_shape` comes from, or what to say about it.
    axes : tuple of Axis
        For data that is neither a scan, a map nor a pattern.
    """

    name: str
    data: Any
    calibration: Calibration = field(default_factory=Calibration)
    metadata: Metadata = field(default_factory=Metadata)
    stream: bool = False
    scan_shape: tuple[int, int] | None = None
    scan_reason: str = ""
    axes: tuple[Axis, ...] = ()


class Format(ABC):
    """One file format.

    Subclass, give the class attributes, and add the class to the registry: a module in
    ``py4DSTEM.io.formats``, or an entry point ``py4dstem.formats`` of another package.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    extensions: ClassVar[tuple[str, ...]] = ()
    requires: ClassVar[tuple[str, ...]] = ()
    """Importable packages beyond the core that reading needs."""
    extra: ClassVar[str | None] = None
    """Name of the extra that installs them."""
    lazy: ClassVar[bool] = True
    generic: ClassVar[bool] = False
    """Reads what a more specific format may understand better: tried after those."""

    @abstractmethod
    def sniff(self, source: Source) -> Match:
        """Judge by content; cheap, and never raises for a foreign file."""

    @abstractmethod
    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        """Data sets by name: `Signal` values, or finished values; reads headers only.

        Raises
        ------
        CorruptFile
            The file is damaged; names offset, expectation and remedy.
        """

    @classmethod
    def available(cls) -> bool:
        """Whether the packages it needs are installed."""
        from importlib.util import find_spec

        return all(find_spec(package) is not None for package in cls.requires)


@cache
def registered_formats() -> Mapping[str, Format]:
    """All formats by name: our own modules first, then those of other packages."""
    from py4DSTEM.io import formats

    found: dict[str, Format] = {}
    for module in formats.MODULES:
        for cls in importlib.import_module(f"py4DSTEM.io.formats.{module}").FORMATS:
            found[cls.name] = cls()
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        plugin = entry.load()
        found.setdefault(plugin.name, plugin())
    return found


def format_named(name: str) -> Format:
    """The format called `name`."""
    formats = registered_formats()
    if name not in formats:
        raise ParameterError(f"no format {name!r}: one of {', '.join(sorted(formats))}")
    return formats[name]


def detect(source: Source) -> Sequence[Format]:
    """Formats that may read the file, most likely first.

    Raises
    ------
    UnknownFormat
        None recognises it; the message names what was looked for.
    """
    scored = [
        (_sniffed(fmt, source), source.suffix in fmt.extensions, fmt)
        for fmt in registered_formats().values()
    ]
    scored = [s for s in scored if s[0] > Match.NO]
    if not scored:
        raise _unknown(source)
    scored.sort(key=lambda s: (-s[0], s[2].generic, -int(s[1])))
    best = scored[0][0]
    # A format that is sure rules out those that merely cannot exclude the file.
    return [fmt for score, _, fmt in scored if score == best]


def _sniffed(fmt: Format, source: Source) -> int:
    """How sure a format is; one that fails on a foreign file must not hide the others."""
    try:
        return int(fmt.sniff(source))
    except Exception:
        return int(Match.NO)


def _unknown(source: Source) -> UnknownFormat:
    claimed = [f.title for f in registered_formats().values() if source.suffix in f.extensions]
    what = "no format recognises it"
    if claimed:
        what += f"; its content is not that of {' or '.join(claimed)}, as {source.suffix} suggests"
    start = source.head[:16].hex(" ") if not source.is_directory else "a directory"
    return UnknownFormat(
        what,
        path=source.path,
        got=start,
        hint=(
            "For raw numbers say how they lie: read(path, layout=RawLayout(dtype='uint16', "
            "Q_shape=(256, 256)), scan_shape=(rows, columns)); py4DSTEM.formats() lists the rest"
        ),
    )
