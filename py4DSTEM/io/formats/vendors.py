"""Formats read through RosettaSciIO: one row of a table each, one adapter for all.

RosettaSciIO is imported when such a file is opened, never before; what it warns of or logs becomes
notes in the metadata.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from py4DSTEM.errors import CorruptFile, FormatError
from py4DSTEM.io.format import Format, Match, ReadOptions, Signal, Source
from py4DSTEM.io.formats.axes import RawAxis
from py4DSTEM.io.formats.guarded import Guarded
from py4DSTEM.io.formats.hyperspylike import signal_from

_HDF5 = b"\x89HDF\r\n\x1a\n"
_UNBELIEVABLE = 1 << 30
"""Declared bytes beyond which a dataset must be backed by what is stored."""
_MAX_UNPACKED = 1 << 32
_SMALL_UNPACKED, _MAX_RATIO = 1 << 26, 500
"""More than this many times its stored size, only zeros would unpack to."""

Sniff = Callable[[Source], Match]
Check = Callable[[Source, ReadOptions], dict[str, Any]]


@dataclass(frozen=True)
class Vendor:
    """What distinguishes one format from the next.

    Parameters
    ----------
    module : str
        Reader in RosettaSciIO.
    sniff : callable
    check : callable
        Refuses what must not reach the reader; returns more arguments for it.
    fallback : mapping, optional
        Other arguments, where the first ones find nothing.
    """

    module: str
    sniff: Sniff
    check: Check
    fallback: Mapping[str, Any] | None = None


class _ViaRosettaSciIO(Format):
    """Base of the formats in the table."""

    vendor: ClassVar[Vendor]

    def sniff(self, source: Source) -> Match:
        return self.vendor.sniff(source)

    def open(self, source: Source, options: ReadOptions) -> Mapping[str, Any]:
        arguments = self.vendor.check(source, options)
        found, notes = _read(self.vendor.module, source, {"lazy": True} | arguments)
        if not found and self.vendor.fallback is not None:
            found, notes = _read(self.vendor.module, source, {"lazy": True, **self.vendor.fallback})
        return _signals(source, self.name, found, notes)


# ---- adapter -------------------------------------------------------------------------------------
def _read(
    module: str, source: Source, arguments: Mapping[str, Any]
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    with _quiet() as said:
        reader = importlib.import_module(f"rsciio.{module}")
        found = list(reader.file_reader(os.fspath(source.path), **arguments))
    return found, tuple(dict.fromkeys(said))


class _Notes(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


@contextmanager
def _quiet() -> Iterator[list[str]]:
    """Collect warnings and log messages instead of showing them."""
    said: list[str] = []
    logger, handler = logging.getLogger("rsciio"), _Notes(said)
    propagate = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield said
        said += [str(w.message) for w in caught if issubclass(w.category, UserWarning)]
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _signals(
    source: Source, format: str, found: list[dict[str, Any]], notes: tuple[str, ...]
) -> dict[str, Signal]:
    signals: dict[str, Signal] = {}
    for one in found:
        data = one["data"]
        if getattr(data, "dtype", None) is None or data.dtype.kind not in "buifc" or not data.ndim:
            continue
        general = one.get("metadata", {}).get("General", {})
        name = str(general.get("title") or source.path.stem)
        base, n = name, 1
        while name in signals:
            n += 1
            name = f"{base} {n}"
        signals[name] = _signal(source, format, name, one, notes)
    return signals


def _signal(
    source: Source, format: str, name: str, one: dict[str, Any], notes: tuple[str, ...]
) -> Signal:
    """One of RosettaSciIO's dictionaries as a signal of ours."""
    data, axes = one["data"], one.get("axes") or []
    raw, navigate = [], []
    for i in range(data.ndim):
        axis = axes[i] if len(axes) == data.ndim else {}
        unit = axis.get("units")
        scale = axis.get("scale", None if "axis" in axis else 1.0)
        unit = None if unit is None else str(unit)
        raw.append(RawAxis(str(axis.get("name") or f"dim{i}"), scale, axis.get("offset"), unit))
        navigate.append(bool(axis.get("navigate", i < data.ndim - 2)))
    tree, original = _dict(one.get("metadata")), _dict(one.get("original_metadata"))
    if hasattr(data, "compute"):
        data = Guarded(source.path, format, data)
    return signal_from(name, data, raw, navigate, tree, original, notes=notes)


def _dict(tree: Any) -> dict[str, Any]:
    to_dict = getattr(tree, "to_dict", None) or getattr(tree, "as_dictionary", None)
    tree = to_dict() if callable(to_dict) else tree
    return dict(tree) if isinstance(tree, Mapping) else {}


# ---- what must not reach a reader ----------------------------------------------------------------
def _check_hdf5(
    arguments: Mapping[str, Any], source: Source, options: ReadOptions
) -> dict[str, Any]:
    """Refuse links and datasets that lead out of the folder, and sizes that nothing backs."""
    import h5py

    from py4DSTEM.io.hdf5 import check_dataset, find, open_h5, storage_ok

    with open_h5(source.path) as file:
        todo: list[tuple[str, Any, int]] = [("", file["/"], 0)]
        seen: set[int] = set()
        while todo:
            path, node, depth = todo.pop()
            address = int(h5py.h5o.get_info(node.id).addr)
            if address in seen:
                continue
            seen.add(address)
            if isinstance(node, h5py.Dataset):
                check_dataset(node, allow_external=options.allow_external)
                report = storage_ok(node)
                if report.logical > _UNBELIEVABLE and not report.ok:
                    raise _unbacked(source, path, report.logical, report.stored)
            elif isinstance(node, h5py.Group):
                if depth > 64:
                    raise CorruptFile("its groups are nested too deeply", path=source.path)
                for name in node:
                    link = node.get(name, getlink=True)
                    if isinstance(link, h5py.HardLink):
                        todo.append((f"{path}/{name}", node[name], depth + 1))
                    elif isinstance(link, h5py.ExternalLink):
                        find(file, f"{path}/{name}", allow_external=options.allow_external)
    return dict(arguments)


def _check_nexus(source: Source, options: ReadOptions) -> dict[str, Any]:
    return _check_hdf5({"nxdata_only": options.dataset is None}, source, options)


def _unbacked(source: Source, path: str, declared: int, stored: int) -> FormatError:
    return CorruptFile(
        f"dataset {path!r} claims a size that nothing in the file backs", path=source.path,
        format="HDF5", expected=f"{declared} bytes", got=f"{stored} bytes stored",
        hint="The recording was probably never written",
    )  # fmt: skip


def _check_zip(source: Source, options: ReadOptions) -> dict[str, Any]:
    """Numbers in a zip file: mapped where they are stored plainly, else read up to a limit."""
    try:
        with zipfile.ZipFile(source.path) as archive:
            parts = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CorruptFile(
            f"its zip directory cannot be read: {error}", path=source.path, format="prz",
            hint="The file is damaged or was not copied completely",
        ) from error  # fmt: skip
    total = sum(part.file_size for part in parts)
    plain = all(part.compress_type == zipfile.ZIP_STORED for part in parts)
    limit = min(_MAX_UNPACKED, max(_SMALL_UNPACKED, _MAX_RATIO * source.size))
    limit = source.size if plain else limit
    if total > limit:
        raise CorruptFile(
            "it claims to unpack to more than is believable", path=source.path, format="prz",
            expected=f"at most {limit} bytes", got=f"{total}",
        )  # fmt: skip
    return {} if plain else {"lazy": False}


# ---- sniffing ------------------------------------------------------------------------------------
def _inside_hdf5(look: Callable[[Any, Source], Match], source: Source) -> Match:
    if not source.head.startswith(_HDF5):
        return Match.NO
    from py4DSTEM.io.hdf5 import open_h5

    try:
        with open_h5(source.path) as file:
            return look(file, source)
    except Exception:  # another format says what is wrong with the file
        return Match.NO


def _is_velox(file: Any, source: Source) -> Match:
    data = file.get("Data", getclass=True) is not None and "Version" in file
    return Match.YES if data and "emd_group_type" not in file.attrs else Match.NO


def _is_nexus(file: Any, source: Source) -> Match:
    def kind(node: Any) -> str:
        value = node.attrs.get("NX_class", "")
        return value.decode("latin-1") if isinstance(value, bytes) else str(value)

    names = list(file)[:100]
    entries = any(kind(file[n]) == "NXentry" for n in names if file.get(n, getclass=True))
    if not entries:
        return Match.NO
    return Match.YES if source.suffix == ".nxs" else Match.MAYBE


def _is_pantarhei(source: Source) -> Match:
    zipped = source.head.startswith(b"PK\x03\x04")
    return Match.YES if zipped and source.suffix == ".prz" else Match.NO


# ---- the table -----------------------------------------------------------------------------------
class Velox(_ViaRosettaSciIO):
    """Images, stacks and maps saved by Thermo Fisher Velox."""

    name = "velox"
    title = "Velox EMD"
    extensions = (".emd",)
    requires = ("rsciio",)
    vendor = Vendor("emd", partial(_inside_hdf5, _is_velox), partial(_check_hdf5, {}))


class Nexus(_ViaRosettaSciIO):
    """NXdata groups of a NeXus file; all datasets where there are none, or one is asked for."""

    name = "nexus"
    title = "NeXus"
    extensions = (".nxs",)
    requires = ("rsciio",)
    vendor = Vendor(
        "nexus", partial(_inside_hdf5, _is_nexus), _check_nexus,
        fallback={"nxdata_only": False},
    )  # fmt: skip


class PantaRhei(_ViaRosettaSciIO):
    """CEOS Panta Rhei; descriptions that are pickles are not read."""

    name = "prz"
    title = "CEOS Panta Rhei"
    extensions = (".prz",)
    requires = ("rsciio",)
    vendor = Vendor("pantarhei", _is_pantarhei, _check_zip)


def _is_dens(source: Source) -> Match:
    first = source.head.lstrip().split(b"\n", 1)[0]
    return Match.YES if first.rstrip().endswith(b"\tDigiheater 3.1") else Match.NO


def _check_dens(source: Source, options: ReadOptions) -> dict[str, Any]:
    """A log is text of a few megabytes; the reader takes it as a whole."""
    if source.size > _UNBELIEVABLE:
        raise CorruptFile(
            "a heater log of this size is not believable", path=source.path, format="dens",
            expected=f"at most {_UNBELIEVABLE} bytes", got=f"{source.size}",
        )  # fmt: skip
    return {"lazy": False}


class Dens(_ViaRosettaSciIO):
    """Temperature against time of a DENSsolutions heating holder; an `ArrayResult`."""

    name = "dens"
    title = "DENSsolutions heater log"
    extensions = (".dens",)
    requires = ("rsciio",)
    lazy = False
    vendor = Vendor("dens", _is_dens, _check_dens)


FORMATS = (Velox, Nexus, PantaRhei, Dens)
