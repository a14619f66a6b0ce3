"""Open HDF5 files that somebody else wrote.

A file can name other files: external links, raw external storage and virtual
datasets. Detector masters need the first and the last, always next to the
master; everything that leaves the folder of the opened file is refused unless
the caller allows it, because it would read any file of the user's as data.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from os import PathLike
from typing import Any, NamedTuple, NoReturn, TypeAlias

import h5py
import numpy as np

from py4DSTEM.errors import CorruptFile, FormatError, UnknownFormat
from py4DSTEM.io.hdf5.heaps import check_heaps

__all__ = [
    "DatasetInfo",
    "StorageReport",
    "check_attribute",
    "check_dataset",
    "external_links",
    "find",
    "is_hdf5",
    "open_dataset",
    "open_h5",
    "storage_ok",
    "walk_datasets",
]

Node: TypeAlias = "h5py.Group | h5py.Dataset | h5py.Datatype"
_Link: TypeAlias = "h5py.HardLink | h5py.SoftLink | h5py.ExternalLink | None"

_SIGNATURE = b"\x89HDF\r\n\x1a\n"
_MAX_HOPS = 32  # links followed on the way to one object
_MAX_NESTING = 8  # virtual datasets made of virtual datasets
_MAX_ATTRIBUTE = 16 << 20  # bytes in memory
_ALLOW = "If you trust the file, pass allow_external=True"
_LOW_LEVEL = (OSError, RuntimeError, ValueError, KeyError, TypeError, UnicodeError)


# ---------------------------------------------------------------- open


def open_h5(path: str | PathLike[str], *, allow_external: bool = False) -> h5py.File:
    """Open an HDF5 file for reading; never blocks and never creates anything.

    Parameters
    ----------
    path : path
        A regular file.
    allow_external : bool
        Accepted so that readers can pass one set of options on. Opening a file reads
        no other file; `find`, `check_dataset` and `walk_datasets` do the checking.

    Raises
    ------
    UnknownFormat
        The file is not HDF5.
    CorruptFile
        It is, and is truncated or damaged.
    FormatError
        It is missing, not readable, not a regular file or locked by a writer.
    """
    name = os.fspath(path)
    if not is_hdf5(name):
        raise UnknownFormat("not an HDF5 file", path=name, hint="The signature is missing")
    check_heaps(name)
    try:
        return h5py.File(name, "r", locking="best-effort")
    except _LOW_LEVEL as error:
        _refuse(name, error)


def is_hdf5(path: str | PathLike[str]) -> bool:
    """Whether a regular file has the HDF5 signature where the format allows it.

    Raises
    ------
    FormatError
        The path is not a readable regular file.
    """
    name = os.fspath(path)
    try:
        _regular(name)
        with open(name, "rb") as file:
            size, place = os.fstat(file.fileno()).st_size, 0
            while place + len(_SIGNATURE) <= size:
                file.seek(place)
                if file.read(len(_SIGNATURE)) == _SIGNATURE:
                    return True
                place = max(512, 2 * place)
    except FormatError:
        raise
    except PermissionError:
        raise FormatError("no permission to read it", path=name, hint="Check its owner") from None
    except FileNotFoundError:
        raise FormatError("no such file", path=name, hint="Check the name") from None
    except (OSError, ValueError) as error:
        raise FormatError(f"cannot be read: {error}", path=repr(name)) from None
    return False


def _regular(name: str) -> None:
    mode = os.stat(name).st_mode
    if stat.S_ISDIR(mode):
        raise FormatError("a folder, not a file", path=name, hint="Name a file in it")
    if not stat.S_ISREG(mode):
        raise FormatError("a device or pipe, not a file", path=name, hint="Copy it to a file")


def _refuse(name: str, error: Exception) -> NoReturn:
    """Translate what HDF5 says about a file that it cannot open."""
    text = str(error)
    found = re.search(r"truncated file: eof = (\d+).*stored_eof = (\d+)", text)
    if found:
        raise CorruptFile(
            "truncated",
            path=name,
            format="HDF5",
            expected=f"{found[2]} bytes",
            got=f"{found[1]} bytes",
            hint="Copy it again from where it was recorded",
        ) from error
    if "lock" in text:
        raise FormatError(
            "locked by a program that writes it",
            path=name,
            format="HDF5",
            hint="Close that program, or wait until the recording has ended",
        ) from error
    raise CorruptFile(
        f"cannot be opened: {text}", path=name, format="HDF5", hint="Try h5dump or a fresh copy"
    ) from error


@contextlib.contextmanager
def open_dataset(
    path: str | PathLike[str], name: str, *, allow_external: bool = False
) -> Iterator[h5py.Dataset]:
    """A checked dataset of a file, which may lie in another file that a link names.

    Raises
    ------
    FormatError
        As `open_h5`, `find` and `check_dataset`; also when `name` is not a dataset.
    """
    with open_h5(path) as file:
        node = find(file, name, allow_external=allow_external)
        owner = node.file
        try:
            if not isinstance(node, h5py.Dataset):
                raise FormatError(f"{name!r} is not a dataset", path=os.fspath(path), format="HDF5")
            check_dataset(node, root=_folder(file), allow_external=allow_external)
            yield node
        finally:
            owner.close()


# ---------------------------------------------------------------- links


def find(file: h5py.File, name: str, *, allow_external: bool = False) -> Node:
    """The object called `name`, following each link by hand.

    Parameters
    ----------
    file : h5py.File
    name : str
        Path from the root of the file.
    allow_external : bool
        Follow links to files outside the folder tree of `file`.

    Returns
    -------
    group, dataset or datatype
        An object behind an external link lives in another file, which stays open as
        long as the object.

    Raises
    ------
    CorruptFile
        A link leads nowhere, in circles, or to a damaged object.
    FormatError
        There is no such object, or it is outside the folder tree.
    """
    node: Node = file["/"]
    todo = deque(_parts(name))
    root, hops = _folder(file), 0
    while todo:
        part = todo.popleft()
        link = _link(node, part)
        if link is None:
            _missing(node, part, name, dangling=hops > 0)
        if isinstance(link, h5py.HardLink):
            node = _child(node, part)
            continue
        hops += 1
        if hops > _MAX_HOPS:
            raise _corrupt(node, f"the links to {name!r} lead in circles")
        if isinstance(link, h5py.ExternalLink):
            target = _allowed(node.file, link.filename, root, allow_external, f"link {part!r}")
            node = open_h5(target)["/"]
        elif link.path.startswith("/"):
            node = node.file["/"]
        todo.extendleft(reversed(_parts(link.path)))
    return node


def _parts(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


def _link(node: Node, part: str) -> _Link:
    """The link called `part`; None where there is none."""
    if not isinstance(node, h5py.Group):
        return None
    try:
        link: _Link = node.get(part, getlink=True)
    except KeyError:
        return None
    except _LOW_LEVEL as error:
        raise _corrupt(node, f"a link {part!r} of unknown kind or damaged: {error}") from error
    return link


def _child(node: Node, part: str) -> Node:
    try:
        return node[part]
    except _LOW_LEVEL as error:
        raise _corrupt(node, f"object {part!r} cannot be opened: {error}") from error


def _corrupt(node: Node, what: str) -> CorruptFile:
    return CorruptFile(what, path=node.file.filename, format="HDF5")


def _missing(node: Node, part: str, name: str, *, dangling: bool) -> NoReturn:
    if dangling:
        raise _corrupt(node, f"a link to {name!r} leads nowhere: there is no {part!r}")
    near = ", ".join(_some_names(node))
    raise FormatError(
        f"no object {name!r}",
        path=node.file.filename,
        format="HDF5",
        hint=f"{node.name!r} holds {near}" if near else None,
    )


def _some_names(node: Node, most: int = 8) -> list[str]:
    names: list[str] = []
    if isinstance(node, h5py.Group):
        with contextlib.suppress(*_LOW_LEVEL):
            for name in node:
                names.append(name)
                if len(names) == most:
                    return [*names, "…"]
    return names


def _folder(file: h5py.File) -> str:
    return os.path.dirname(os.path.realpath(str(file.filename)))


def _allowed(file: h5py.File, target: str, root: str, allow_external: bool, what: str) -> str:
    """The real path of a file that `file` names, refused when outside of `root` or absent."""
    path = os.path.realpath(os.path.join(_folder(file), target))
    if os.path.isabs(target) and not os.path.exists(path):
        beside = os.path.join(_folder(file), os.path.basename(target))
        path = os.path.realpath(beside) if os.path.exists(beside) else path
    if not allow_external and os.path.commonpath((root, path)) != root:
        raise FormatError(
            f"{what} leads outside its folder, to {target}",
            path=file.filename,
            format="HDF5",
            hint=_ALLOW,
        )
    if not os.path.exists(path):
        raise CorruptFile(
            f"{what} needs the file {target}, which is missing",
            path=file.filename,
            format="HDF5",
            hint=f"Put it at {path}",
        )
    return path


# ---------------------------------------------------------------- check


def check_dataset(
    dataset: h5py.Dataset, *, root: str | None = None, allow_external: bool = False
) -> None:
    """Refuse a dataset whose values come from places that they should not.

    Parameters
    ----------
    dataset : h5py.Dataset
    root : str, optional
        The folder that may be read; that of the dataset's file unless given.
    allow_external : bool
        Accept raw external storage, and sources outside of `root`.

    Raises
    ------
    FormatError
        It uses raw external storage, a virtual source outside of `root`, or an open-ended
        series of sources.
    CorruptFile
        A virtual source is missing: HDF5 would return fill values in silence.
    """
    folder = _folder(dataset.file) if root is None else os.path.realpath(root)
    _check(dataset, folder, allow_external, set(), 0)


_Seen: TypeAlias = "set[tuple[str, str]]"


def _check(dataset: h5py.Dataset, root: str, allow_external: bool, seen: _Seen, depth: int) -> None:
    if dataset.external and not allow_external:
        raise FormatError(
            f"dataset {dataset.name!r} keeps its values in the raw file {dataset.external[0][0]}",
            path=dataset.file.filename,
            format="HDF5",
            hint=_ALLOW,
        )
    if not dataset.is_virtual:
        return
    if depth == _MAX_NESTING:
        raise _corrupt(dataset, "virtual datasets nested too deeply")
    for source in _sources(dataset):
        if source not in seen:
            seen.add(source)
            _check_source(dataset, *source, root, allow_external, seen, depth)


def _sources(dataset: h5py.Dataset) -> list[tuple[str, str]]:
    """The distinct (file, dataset) that a virtual dataset is made of."""
    here = os.path.realpath(dataset.file.filename)
    try:
        parts = dataset.virtual_sources()
    except _LOW_LEVEL as error:
        raise _corrupt(dataset, f"damaged virtual dataset: {error}") from error
    pairs = ((here if p.file_name == "." else p.file_name, p.dset_name) for p in parts)
    return list(dict.fromkeys(pairs))


def _check_source(
    dataset: h5py.Dataset,
    file: str,
    name: str,
    root: str,
    allow_external: bool,
    seen: _Seen,
    depth: int,
) -> None:
    what = f"virtual dataset {dataset.name!r}"
    if "%" in file + name:  # a numbered series: which files it will read is not known
        if not allow_external:
            series = f"{what} is made of a numbered series, {file}:{name}"
            raise FormatError(series, path=dataset.file.filename, format="HDF5", hint=_ALLOW)
        return
    path = _allowed(dataset.file, file, root, allow_external, what)
    with open_h5(path) as source:
        node = find(source, name, allow_external=allow_external)
        if isinstance(node, h5py.Dataset):
            _check(node, root, allow_external, seen, depth + 1)


# ---------------------------------------------------------------- size


class StorageReport(NamedTuple):
    """Declared against stored size of a dataset, in bytes."""

    logical: int
    stored: int
    ok: bool


def storage_ok(dataset: h5py.Dataset, *, max_ratio: int = 1 << 15) -> StorageReport:
    """Whether the declared size is believable for the bytes that are stored.

    Parameters
    ----------
    dataset : h5py.Dataset
    max_ratio : int
        Compression that real data never reach.

    Returns
    -------
    StorageReport
        Not ok: mostly unwritten, or a bomb; do not load it as a whole. A virtual dataset
        stores nothing itself and counts as ok.
    """
    logical = logical_bytes(dataset)
    stored = int(dataset.id.get_storage_size())
    return StorageReport(logical, stored, dataset.is_virtual or logical <= stored * max_ratio)


def logical_bytes(dataset: h5py.Dataset) -> int:
    """Number of elements times the stored item size; cannot overflow."""
    count = 0 if dataset.shape is None else 1
    for n in dataset.shape or ():
        count *= int(n)
    return count * int(dataset.id.get_type().get_size())


def check_attribute(node: Node, name: str) -> None:
    """Refuse an attribute whose type or shape asks for more memory than any text or number needs.

    Raises
    ------
    CorruptFile
        It declares more than 16 MiB.
    KeyError
        There is none of that name.
    """
    found = node.attrs.get_id(name)
    size = int(found.get_type().get_size())
    for n in found.shape or ():
        size *= int(n)
    if size > _MAX_ATTRIBUTE:
        raise _corrupt(node, f"attribute {name!r} declares {size} bytes")


# ---------------------------------------------------------------- walk


@dataclass(frozen=True, slots=True)
class DatasetInfo:
    """What is known about a dataset without reading it.

    Attributes
    ----------
    name : str
        Path in the file that was walked.
    path : str
        The file that holds it; another one behind an external link.
    dataset : str
        Path inside that file.
    shape : tuple of int
    dtype : numpy.dtype or None
        None for a type that numpy cannot express.
    chunks : tuple of int or None
    logical : int
        Declared bytes.
    stored : int
        Allocated bytes.
    """

    name: str
    path: str
    dataset: str
    shape: tuple[int, ...]
    dtype: np.dtype[np.generic] | None
    chunks: tuple[int, ...] | None
    logical: int
    stored: int


def walk_datasets(
    file: h5py.File,
    *,
    allow_external: bool = False,
    max_objects: int = 1_000_000,
    max_depth: int = 64,
) -> Iterator[tuple[str, DatasetInfo]]:
    """Every dataset of a file, each once, without reading values.

    Soft links are not followed: what they name is found by its own name. External links
    are followed inside the folder tree of the file; one that leads outside, or nowhere,
    is passed over (`find` says why).

    Parameters
    ----------
    file : h5py.File
    allow_external : bool
        Follow external links everywhere.
    max_objects, max_depth : int
        Bounds on the number of links and on the nesting.

    Yields
    ------
    (str, DatasetInfo)

    Raises
    ------
    CorruptFile
        A bound is exceeded.
    """
    todo: list[tuple[str, Node, int]] = [("", file["/"], 0)]
    seen: set[tuple[str, int]] = set()
    count = 0
    while todo:
        name, node, depth = todo.pop()
        if not _first_time(node, seen):
            continue
        if isinstance(node, h5py.Dataset):
            if node.shape is not None:
                yield name, _info(name, node)
            continue
        if not isinstance(node, h5py.Group):
            continue
        if depth == max_depth:
            raise _corrupt(file, f"groups nested more than {max_depth} deep")
        children = list(_children(file, name, node, allow_external))
        count += len(children)
        if count > max_objects:
            raise _corrupt(file, f"more than {max_objects} objects")
        todo.extend((child, found, depth + 1) for child, found in reversed(children))


def external_links(file: h5py.File, most: int = 100) -> list[str]:
    """Names of the links to other files, none of which is followed; `most` of them at most."""
    found: list[str] = []

    def look(name: bytes, info: Any) -> bool | None:
        if info.type == h5py.h5l.TYPE_EXTERNAL:
            found.append(name.decode("utf-8", "surrogateescape"))
        return True if len(found) == most else None

    file.id.links.visit(look, info=True)
    return found


def _first_time(node: Node, seen: set[tuple[str, int]]) -> bool:
    place = (node.file.filename, int(h5py.h5o.get_info(node.id).addr))
    new = place not in seen
    seen.add(place)
    return new


def _children(
    file: h5py.File, name: str, group: h5py.Group, allow_external: bool
) -> Iterator[tuple[str, Node]]:
    """The members of a group that can be opened."""
    for part in group:
        with contextlib.suppress(FormatError):
            link = _link(group, part)
            path = f"{name}/{part}"
            if isinstance(link, h5py.HardLink):
                yield path, _child(group, part)
            elif isinstance(link, h5py.ExternalLink):
                yield path, find(file, path, allow_external=allow_external)


def _info(name: str, dataset: h5py.Dataset) -> DatasetInfo:
    try:
        dtype = dataset.dtype
    except _LOW_LEVEL:
        dtype = None
    return DatasetInfo(
        name,
        dataset.file.filename,
        dataset.name or name,
        tuple(int(n) for n in dataset.shape),
        dtype,
        dataset.chunks,
        logical_bytes(dataset),
        int(dataset.id.get_storage_size()),
    )
