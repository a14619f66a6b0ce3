"""The HDF5 files of this family: our own, py4DSTEM 0.4 … 0.14, Prismatic, and Berkeley EMD."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import h5py

from py4DSTEM.errors import FormatError
from py4DSTEM.io.format import Format, Match, ReadOptions, Source
from py4DSTEM.io.hdf5.safety import external_links, is_hdf5, open_h5
from py4DSTEM.io.store.values import attribute, children

EXTENSIONS = (".h5", ".hdf5", ".emd", ".py4dstem")


def _generation(source: Source) -> str:
    """Which of the generations wrote a file; empty for any other file."""
    if source.is_directory or not source.head:
        return ""
    try:
        status = source.path.stat()
        return _looked_up(str(source.path), status.st_mtime_ns, status.st_size)
    except OSError:
        return ""


@lru_cache(maxsize=64)
def _looked_up(path: str, mtime_ns: int, size: int) -> str:
    """Opened once for all formats that ask."""
    try:
        if not is_hdf5(path):
            return ""
        with open_h5(path) as file:
            return _judged(file)
    except (FormatError, OSError, RuntimeError, ValueError, KeyError, TypeError):
        return ""


def _judged(file: h5py.File) -> str:
    from py4DSTEM.io.store.berkeley import emd_groups
    from py4DSTEM.io.store.experiment import is_experiment

    tops = [node for _, node in children(file) if isinstance(node, h5py.Group)]
    if any(is_experiment(top) for top in tops):
        return "experiment"
    roots = [top for top in tops if attribute(top, "emd_group_type") == "root"]
    if is_emd1(file):
        return "emd1"
    if roots:
        return "v013"
    return "berkeley" if next(emd_groups(file), None) is not None else ""


def is_emd1(file: h5py.File) -> bool:
    """Whether a file is in the layout EMD 1.0, as ours are."""
    if attribute(file, "emd_group_type") == "file":
        return True
    tops = (node for _, node in children(file) if isinstance(node, h5py.Group))
    roots = (top for top in tops if attribute(top, "emd_group_type") == "root")
    return any(attribute(root, "python_class") == "Root" for root in roots)


def _check_links(file: h5py.File) -> None:
    """Refuse links to other files, which no program of this family writes.

    Anything that a reader asks for by name would follow them, to wherever they lead.
    """
    outside = external_links(file, most=1)
    if outside:
        name = outside[0]
        target = file.get(name, getlink=True)
        raise FormatError(
            f"{name!r} is a link to another file, {target.filename}",
            path=file.filename,
            format="EMD",
            expected="everything in one file",
            hint=(
                f'If you trust it: read(path, format="hdf5", dataset={name!r}, allow_external=True)'
            ),
        )


class _Generation(Format):
    """One generation; what differs is how its groups are read."""

    extensions = EXTENSIONS
    generation: str

    def sniff(self, source: Source) -> Match:
        return Match.YES if _generation(source) == self.generation else Match.NO

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        with open_h5(source.path) as file:
            _check_links(file)
            return self.read(file, str(source.path))

    @abstractmethod
    def read(self, file: h5py.File, path: str) -> Mapping[str, Any]:
        """Objects by name."""


class Emd(_Generation):
    """EMD 1.0: files of this package and of py4DSTEM 0.14."""

    name, title, generation = "emd", "py4DSTEM (EMD 1.0)", "emd1"

    def read(self, file: h5py.File, path: str) -> Mapping[str, Any]:
        from py4DSTEM.io.store.read import read_emd1

        return read_emd1(file, path)


class Py4DSTEM013(_Generation):
    """Files of py4DSTEM 0.13."""

    name, title, generation = "py4dstem-0.13", "py4DSTEM 0.13", "v013"

    def read(self, file: h5py.File, path: str) -> Mapping[str, Any]:
        from py4DSTEM.io.store.v013 import read_v013

        return read_v013(file, path)


class Experiment(_Generation):
    """Files of py4DSTEM 0.4 … 0.12 (4DSTEM_experiment) and of Prismatic (4DSTEM_simulation)."""

    name, title, generation = "py4dstem-0.12", "py4DSTEM 0.4-0.12, Prismatic", "experiment"

    def read(self, file: h5py.File, path: str) -> Mapping[str, Any]:
        from py4DSTEM.io.store.experiment import read_experiment

        return read_experiment(file, path)


class Berkeley(_Generation):
    """EMD 0.1 and 0.2."""

    name, title, generation = "emd-0.2", "EMD 0.2 (Berkeley)", "berkeley"

    def read(self, file: h5py.File, path: str) -> Mapping[str, Any]:
        from py4DSTEM.io.store.berkeley import read_berkeley

        return read_berkeley(file, path)


FORMATS = (Emd, Py4DSTEM013, Experiment, Berkeley)
