"""What all fuzz targets share: a file in memory, the rules of a reader, seeds, replay.

A target is a function of bytes that returns quietly or raises an error of the package; anything
else is a find.  Run a target as a script: ``python fuzz/fuzz_mib.py corpus/ -max_total_time=60``.
``--collect=FOLDER`` keeps one input of every kind of find there, instead of stopping at the first.
Without atheris, ``python fuzz/fuzz_mib.py --replay FILE …`` still runs it on files.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

Target = Callable[[bytes], None]

MEMORY = Path("/dev/shm")
MOST_BYTES = 1 << 22
"""Cubes above this are only looked at in three places."""


def scratch() -> Path:
    """A folder in memory for this process, emptied by whoever uses it."""
    parent = MEMORY if MEMORY.is_dir() and os.access(MEMORY, os.W_OK) else None
    return Path(tempfile.mkdtemp(prefix="fuzz-", dir=parent))


class Reader:
    """Feeds one format with files made of bytes.

    Parameters
    ----------
    format : str
        Name of the format; it is opened without the net that `read` spreads below every reader:
        raw exceptions are finds.
    name : str
        Of the file that receives the bytes.
    beside : name → bytes
        Other files of the folder.
    options : mapping
        Of `ReadOptions`, tried one after the other: with and without `allow_truncated`.
    """

    def __init__(
        self, format: str, name: str, beside: Mapping[str, bytes] | None = None, **options: Any
    ) -> None:
        self.format, self.folder, self.options = format, scratch(), options
        self.path = self.folder / name
        for other, content in (beside or {}).items():
            place = self.folder / other
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)

    def __call__(self, data: bytes) -> None:
        if not data:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_bytes(data)
        for truncated in (False, True):
            read_quietly(self.root, self.format, allow_truncated=truncated, **self.options)

    @property
    def root(self) -> Path:
        """What is opened: the file."""
        return self.path


class FolderReader(Reader):
    """The bytes become one file of a folder that is opened as a whole (Zarr)."""

    @property
    def root(self) -> Path:
        return self.folder


def read_quietly(path: Path, format: str, **options: Any) -> None:
    """Open a file with one format and look at its numbers; errors of the package are fine."""
    from py4DSTEM.errors import Py4DSTEMError
    from py4DSTEM.io.format import Match, ReadOptions, Signal, Source, format_named
    from py4DSTEM.io.read import from_signal

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            source, chosen = Source.of(path), ReadOptions(**options)
            reader = format_named(format)
            if reader.sniff(source) is Match.NO and options.get("layout") is None:
                return
            for value in reader.open(source, chosen).values():
                look(from_signal(value, chosen) if isinstance(value, Signal) else value)
        except Py4DSTEMError:
            return


def look(value: Any) -> None:
    """Touch the numbers of whatever was read."""
    data = getattr(value, "data", None)
    if data is None or not hasattr(data, "shape"):
        return
    if np.prod(data.shape, dtype=object) * np.dtype(data.dtype).itemsize <= MOST_BYTES:
        np.asarray(data[...])
    elif len(data.shape) == 4 and data.shape[2] * data.shape[3] <= MOST_BYTES:
        last = (data.shape[0] - 1, data.shape[1] - 1)
        for place in ((0, 0), last):
            np.asarray(data[place])


def fuzz(make: Callable[[], Target], seeds: Callable[[], Iterable[bytes]], modules: str) -> None:
    """Run as a script.

    Parameters
    ----------
    make : callable
        Makes the target, after its modules were instrumented.
    seeds : callable
        Small valid inputs, written to the first corpus folder where it is empty.
    modules : str
        Packages to instrument for coverage, separated by spaces.
    """
    if "--replay" in sys.argv:
        target = make()
        for name in sys.argv[sys.argv.index("--replay") + 1 :]:
            target(Path(name).read_bytes())
        return
    atheris = importlib.import_module("atheris")
    planted = list(seeds())
    for name in [n for n in sys.modules if n.startswith("py4DSTEM")]:
        del sys.modules[name]  # imported again, instrumented
    with atheris.instrument_imports(include=modules.split()):
        target = make()
        for seed in planted:
            target(seed)
    folders = [Path(a) for a in sys.argv[1:] if not a.startswith("-")]
    if folders:
        plant(folders[0], planted)
    kept = [a.removeprefix("--collect=") for a in sys.argv if a.startswith("--collect=")]
    if kept:
        sys.argv = [a for a in sys.argv if not a.startswith("--collect=")]
        target = collecting(target, Path(kept[0]))
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()


def collecting(target: Target, folder: Path) -> Target:
    """A target that keeps the first input of every kind of find, and goes on."""
    folder.mkdir(parents=True, exist_ok=True)
    seen: set[str] = set()

    def collect(data: bytes) -> None:
        try:
            target(data)
        except Exception as error:
            own = [f for f in traceback.extract_tb(error.__traceback__) if "py4DSTEM" in f.filename]
            where = f"{Path(own[-1].filename).stem}-{own[-1].lineno}" if own else "outside"
            kind = f"{type(error).__name__}-{where}"
            if kind not in seen:
                seen.add(kind)
                (folder / kind).write_bytes(data)
                sys.stderr.write(f"FOUND {kind}: {error}\n")

    return collect


def plant(folder: Path, seeds: Iterable[bytes]) -> None:
    """Write seeds into a corpus folder that has none."""
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        return
    for number, seed in enumerate(seeds):
        (folder / f"seed{number:03d}").write_bytes(seed)


def made_by(write: Callable[[Path], object], name: str = "seed") -> bytes:
    """The bytes of a file that a function writes."""
    folder = scratch()
    try:
        write(folder / name)
        return (folder / name).read_bytes()
    finally:
        shutil.rmtree(folder)


def tests_io() -> Any:
    """The tiny writers of the tests."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "io"))
    return importlib.import_module("synthetic")
