"""Conformance of file formats: whole files, and damaged ones.

A package that adds a format can test it with a few lines::

    from py4DSTEM.testing.formats import check_file, survey_damage, survey_places
    check_file("sample.cam")
    assert survey_damage("sample.cam", count=200).failures == []
    assert survey_places("sample.cam").failures == []
"""

from __future__ import annotations

import contextlib
import importlib
import os
import random
import re
import shutil
import signal
import struct
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import read_block
from py4DSTEM.errors import DependencyMissing, FormatError, Py4DSTEMError
from py4DSTEM.io.format import Format, Match, ReadOptions, Source, registered_formats
from py4DSTEM.io.read import read_file

__all__ = [
    "Damage",
    "DamageReport",
    "check_file",
    "check_format",
    "mutations",
    "survey_damage",
    "survey_places",
]

ADDRESS_SPACE = 6 * 1024**3
SECONDS = 5
"""Seconds of processor time after which a reader counts as hanging."""
WALL_SECONDS = 30
"""Seconds of the clock: for those that wait without working; other programs may slow the reader."""
GROWTH_BYTES = 64 * 1024**2
"""A reader may use this much memory and twice the size of the file."""
WHOLE_BYTES = 16 * 1024**2
HEAVY = (
    *("h5py", "hdf5plugin", "zarr", "dask.array", "xml.parsers.expat"),
    *(f"py4DSTEM.io.{name}" for name in ("hdf5", "store.read", "store.experiment", "store.v013")),
)
"""Imported before the children start, which would import them one after the other."""
FAILURES = ("silent", "raw", "crash", "hang", "memory")
"""Outcomes that no reader may have."""


# ---- whole files ---------------------------------------------------------------------------------
def check_file(path: str | os.PathLike[str], **options: Any) -> None:
    """Check what every reader promises about a file that is whole.

    Recognised by content by at least one format; opening is repeatable; any part of the lazy array
    equals that part of all of it; threads read the same.

    Raises
    ------
    AssertionError
        Says which promise was broken.
    """
    source = Source.of(path)
    claims = [f.name for f in registered_formats().values() if f.sniff(source) > Match.NO]
    if not claims and "layout" not in options:
        raise AssertionError(f"{path}: no format recognises it")
    value = read_file(path, ReadOptions(**options))
    for name, obj in _objects(value).items():
        if isinstance(obj, Cube):
            _check_cube(obj, f"{path} [{name}]")


def _objects(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {"": value}


def _check_cube(cube: Cube, what: str) -> None:
    everything = np.asarray(cube.data[...])
    if everything.shape != cube.shape or everything.dtype != cube.dtype:
        raise AssertionError(f"{what}: {everything.shape} {everything.dtype} is not as declared")
    nx, ny = cube.R_shape
    for key in ((0, 0), (nx - 1, ny - 1), (slice(None, None, 2), ny // 2), (nx // 2, slice(1, ny))):
        if not np.array_equal(np.asarray(cube.data[key]), everything[key], equal_nan=_floats(cube)):
            raise AssertionError(f"{what}: data[{key}] differs from that part of all the data")
    rows = [slice(x, x + 1) for x in range(nx)]
    with ThreadPoolExecutor(3) as pool:
        blocks = list(pool.map(lambda r: read_block(cube.data, r, slice(0, ny)), rows))
    threaded = np.concatenate(blocks).reshape(everything.shape)
    if not np.array_equal(threaded, everything, equal_nan=_floats(cube)):
        raise AssertionError(f"{what}: threads read something else")


def _floats(cube: Cube) -> bool:
    return cube.dtype.kind == "f"


# ---- damaged files -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Damage:
    """One way to damage a file."""

    name: str
    content: bytes
    shorter: bool = False


def mutations(content: bytes, count: int, seed: int = 0) -> Iterator[Damage]:
    """Truncations, flipped bits, planted integers, zeroed tails, lost blocks, changed digits."""
    rng = random.Random(seed)
    size = len(content)
    head = min(size, 8192)
    for k in range(count if size else 0):
        # Half of the cuts and flips within the header, where structure is, half anywhere.
        at = rng.randrange(head if k % 12 < 6 else size)
        match k % 6:
            case 0:
                yield _cut(content, at)
            case 1:
                flipped = bytes([content[at] ^ (1 << rng.randrange(8))])
                yield Damage(f"bit flipped at {at}", content[:at] + flipped + content[at + 1 :])
            case 2:
                yield _planted(content, rng, head)
            case 3:
                at = rng.randrange(size)
                yield Damage(f"zeros from {at}", content[:at] + bytes(size - at))
            case 4:
                yield _lost(content, at, rng)
            case _:
                yield _digits(content, rng)


def _cut(content: bytes, at: int) -> Damage:
    return Damage(f"cut at {at}", content[:at], shorter=True)


def _lost(content: bytes, at: int, rng: random.Random) -> Damage:
    until = min(len(content), at + rng.choice([1, 2, 4, 64, 512, 4096]))
    return Damage(f"bytes {at} to {until} lost", content[:at] + content[until:], shorter=True)


def _planted(content: bytes, rng: random.Random, head: int) -> Damage:
    value = rng.choice([0, 1, -1, 2**31 - 1, 2**31, 2**40, 65535, 10**9])
    code = rng.choice(["<i", ">i", "<q", ">q", "<h"])
    width = struct.calcsize(code)
    at = rng.randrange(max(1, head - width))
    wrapped = (value & (256**width - 1)).to_bytes(width, "little" if code[0] == "<" else "big")
    return Damage(
        f"{value} planted at {at} as {code}", content[:at] + wrapped + content[at + width :]
    )


def _digits(content: bytes, rng: random.Random) -> Damage:
    """A number written as text (in a header, an XML file, metadata) becomes another one."""
    numbers = [m.span() for m in re.finditer(rb"\d+", content[:65536])]
    if not numbers:
        return _planted(content, rng, min(len(content), 8192))
    start, stop = rng.choice(numbers)
    text = rng.choice([b"9" * (stop - start), b"0" * (stop - start), b"-1", b"1e9", b"nan", b""])
    return Damage(
        f"number at {start} became {text.decode()!r}", content[:start] + text + content[stop:]
    )


@dataclass(frozen=True)
class DamageReport:
    """What became of the damaged versions of one file."""

    path: str
    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        return sum(self.outcomes.values())

    def add(self, what: str, outcome: str, detail: str) -> bool:
        """Count one case; whether it failed."""
        self.outcomes[outcome] += 1
        failed = outcome in FAILURES
        if failed:
            self.failures.append(f"{Path(self.path).name}, {what}: {outcome} {detail}".rstrip())
        return failed


def survey_damage(
    path: str | os.PathLike[str],
    count: int = 45,
    seed: int = 0,
    companions: bool = True,
    *,
    cuts: Iterable[int] = (),
    keep: str | os.PathLike[str] | None = None,
    unreadable: bool = False,
) -> DamageReport:
    """Read `count` damaged versions of a file, each in a child process with limits.

    Outcomes: ``refused`` (an error of the package, naming the file), ``same``, ``said`` (differs,
    with a warning or note), ``changed`` (damaged values, which nothing can detect), ``skipped`` (a
    package is missing), and the failures ``silent`` (a shortened file read as something else
    without a word), ``raw`` (a foreign exception), ``crash``, ``hang`` (over 5 s), ``memory``
    (grew by more than 64 MiB and twice the size of the file).

    Parameters
    ----------
    path : path
        A file, or a directory that is one (Zarr): then each time one of its files is damaged.
    count, seed : int
    companions : bool
        Other files of the folder are there as well (headers, data files).
    cuts : offsets, optional
        Also cut there: where structures begin and end.
    keep : folder, optional
        Versions that failed are copied to it.
    unreadable : bool
        The file may be one that is refused as it is.

    Raises
    ------
    AssertionError
        The file cannot be read before it is damaged.
    """
    original = Path(path)
    report = DamageReport(str(original))
    _warm_up()
    with tempfile.TemporaryDirectory() as folder:
        target = _copied(original, Path(folder), companions)
        whole_is, truth = _in_child(lambda: _attempt(target, None, False), _size(target))
        if whole_is not in ("same", "skipped") and not (unreadable and whole_is == "refused"):
            raise AssertionError(f"{path} cannot be read before it is damaged: {whole_is} {truth}")
        for part, damage in _damages(target, count, seed, cuts):
            whole = part.read_bytes()
            part.write_bytes(damage.content)
            shorter = damage.shorter
            outcome, detail = _in_child(
                lambda shorter=shorter: _attempt(target, truth, shorter), _size(target)
            )
            if report.add(damage.name, outcome, detail) and keep is not None:
                _keep(target, Path(keep), f"{report.count:04d}_{outcome}")
            part.write_bytes(whole)
    return report


def _copied(original: Path, folder: Path, companions: bool) -> Path:
    target = folder / original.name
    if original.is_dir():
        shutil.copytree(original, target)
        return target
    if companions:
        _link_companions(original, folder)
    shutil.copyfile(original, target)
    return target


def _link_companions(original: Path, folder: Path) -> None:
    """Files that belong to it (headers, data files) share the folder or the stem."""
    for other in original.parent.iterdir():
        if other != original and other.is_file():
            _linked(other.resolve(), folder / other.name)


def _linked(source: Path, target: Path) -> None:
    """A hard link or a copy: a symbolic link would lead outside of the folder, which is refused."""
    try:
        os.link(source, target)
    except OSError:
        if source.stat().st_size > WHOLE_BYTES:
            os.symlink(source, target)
        else:
            shutil.copyfile(source, target)


def _size(path: Path) -> int:
    if path.is_dir():
        return sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
    return path.stat().st_size


def _damages(
    target: Path, count: int, seed: int, cuts: Iterable[int]
) -> Iterator[tuple[Path, Damage]]:
    """Which file is damaged, and how."""
    if target.is_dir():
        rng = random.Random(seed)
        parts = sorted(p for p in target.rglob("*") if p.is_file() and p.stat().st_size)
        for k in range(count):
            part = rng.choice(parts)
            *_, damage = mutations(part.read_bytes(), 1 + k % 6, seed + k)
            name = f"{part.relative_to(target)}: {damage.name}"
            yield part, Damage(name, damage.content, damage.shorter)
        return
    content = target.read_bytes()
    for damage in mutations(content, count, seed):
        yield target, damage
    for at in cuts:
        if 0 <= at < len(content):
            yield target, _cut(content, at)


def _keep(target: Path, folder: Path, prefix: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    place = folder / f"{prefix}_{target.name}"
    if target.is_dir():
        shutil.copytree(target, place, dirs_exist_ok=True)
    else:
        shutil.copyfile(target, place)


# ---- wrong places --------------------------------------------------------------------------------
def survey_places(path: str | os.PathLike[str], companions: bool = True) -> DamageReport:
    """Read a file under every other known extension, and things of its name that are no file.

    Right data or an error that names the file are expected; outcomes as in `survey_damage`.
    """
    original = Path(path)
    report = DamageReport(str(original))
    _warm_up()
    with tempfile.TemporaryDirectory() as folder:
        target = _copied(original, Path(folder), companions)
        truth = _in_child(lambda: _attempt(target, None, False), _size(target))[1]
        for suffix in _other_suffixes(original):
            other = target.with_suffix(suffix)
            if os.path.lexists(other):
                continue
            target.rename(other)
            outcome = _in_child(lambda other=other: _attempt(other, truth, True), _size(other))
            report.add(f"named {suffix}", *outcome)
            other.rename(target)
    for what, make in _PLACES.items():
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder) / original.name
            if make(place):
                outcome = _in_child(lambda place=place: _attempt(place, "", True), 0)
                report.add(what, *outcome)
                place.chmod(0o700) if what == "no permission" else None
    return report


def _other_suffixes(original: Path) -> list[str]:
    known = {e for f in registered_formats().values() for e in f.extensions}
    return sorted({*known, ".txt", ""} - {original.suffix.lower()})


def _empty(place: Path) -> bool:
    place.write_bytes(b"")
    return True


def _directory(place: Path) -> bool:
    place.mkdir()
    return True


def _fifo(place: Path) -> bool:
    os.mkfifo(place)
    return True


def _circle(place: Path) -> bool:
    place.symlink_to(place)
    return True


def _dangling(place: Path) -> bool:
    place.symlink_to(place.with_name("nothing"))
    return True


def _closed(place: Path) -> bool:
    """The superuser may read everything: nothing to test then."""
    place.write_bytes(b"closed")
    place.chmod(0)
    return os.geteuid() != 0


_PLACES: dict[str, Callable[[Path], bool]] = {
    "0 bytes": _empty,
    "a directory": _directory,
    "a FIFO": _fifo,
    "a link to itself": _circle,
    "a link to nothing": _dangling,
    "no permission": _closed,
    "missing": lambda place: True,
}


# ---- one attempt, in a child process -------------------------------------------------------------
def _warm_up() -> None:
    registered_formats()
    for module in HEAVY:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)


def _in_child(attempt: Callable[[], str], size: int) -> tuple[str, str]:
    """Run it in a forked child with a time and a memory limit; (outcome, digest or detail)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child never returns
        os.close(read_end)
        try:
            message = _measured(attempt, size)
        except BaseException as error:
            message = f"raw|{type(error).__name__}: {error}"
        os.write(write_end, message.encode("utf-8", "replace")[:4000])
        os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end, "rb") as pipe:
        text = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        late = number in (signal.SIGALRM, signal.SIGXCPU)
        return ("hang", f"over {SECONDS} s") if late else ("crash", signal.Signals(number).name)
    outcome, _, detail = text.partition("|")
    return outcome, detail


def _measured(attempt: Callable[[], str], size: int) -> str:
    """What came out, unless it took too much memory."""
    _limit()
    before = _peak_bytes()
    message = attempt()
    growth = _peak_bytes() - before
    if growth > GROWTH_BYTES + 2 * size:
        outcome = message.partition("|")[0]
        return f"memory|grew by {growth >> 20} MiB ({outcome}; the file has {size} bytes)"
    return message


def _peak_bytes() -> int:
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS + 1))
    for number in (signal.SIGALRM, signal.SIGXCPU):
        signal.signal(number, signal.SIG_DFL)
    signal.alarm(WALL_SECONDS)


def _attempt(path: Path, truth: str | None, shorter: bool) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            digest, notes = _digest(read_file(path, ReadOptions()))
        except DependencyMissing as error:
            return f"skipped|{error}"
        except FormatError as error:
            # It, or the file beside it that does not fit.
            named = path.stem in str(error) or str(path.parent) in str(error)
            return "refused|" if named else f"raw|the error does not name the file: {error}"
        except Py4DSTEMError as error:
            return f"refused|{error}"
    if truth is None or digest == truth:
        return f"same|{digest}"
    if notes or caught:
        return "said|"
    return "silent|" if shorter else "changed|"


def _digest(value: Any) -> tuple[str, bool]:
    """What was read, as text that is equal for equal data, and whether anything was said."""
    import hashlib

    hasher = hashlib.sha256()
    notes = False
    for name, obj in sorted(_objects(value).items()):
        hasher.update(f"{name} {type(obj).__name__} {getattr(obj, 'shape', '')}".encode())
        if isinstance(obj, Cube):
            notes |= bool(obj.metadata.notes)
            for array in _samples(obj):
                hasher.update(np.ascontiguousarray(array).tobytes())
        elif hasattr(obj, "points"):
            hasher.update(np.ascontiguousarray(obj.points).tobytes())
        elif hasattr(obj, "data") and getattr(obj.data, "nbytes", 0) <= WHOLE_BYTES:
            array = np.asarray(obj.data)
            hasher.update(repr(array).encode() if array.dtype.hasobject else array.tobytes())
    return hasher.hexdigest(), notes


def _samples(cube: Cube) -> Iterator[Any]:
    if cube.nbytes <= WHOLE_BYTES:
        yield np.asarray(cube.data[...])
        return
    nx, ny = cube.R_shape
    if int(np.prod(cube.Q_shape, dtype=object)) * cube.dtype.itemsize <= WHOLE_BYTES:
        for position in ((0, 0), (nx // 2, ny // 2), (nx - 1, ny - 1)):
            yield np.asarray(cube.data[position])


def timed_survey(
    path: str | os.PathLike[str], count: int, seed: int = 0
) -> tuple[DamageReport, float]:
    """`survey_damage` and the seconds it took."""
    start = time.perf_counter()
    report = survey_damage(path, count, seed)
    return report, time.perf_counter() - start


# ---- formats without a file ----------------------------------------------------------------------
def check_format(fmt: Format) -> None:
    """Check what every format promises before it has seen a file of its own.

    It has a name, a title and lower-case extensions; sniffing foreign content never raises and
    never claims it; opening foreign content is refused in words that name the file.

    Raises
    ------
    AssertionError
        Says which promise was broken.
    """
    if not (fmt.name and fmt.title and fmt.name == fmt.name.strip()):
        raise AssertionError(f"{type(fmt).__name__}: a format has a name and a title")
    if any(e != e.lower() or not e.startswith(".") for e in fmt.extensions):
        raise AssertionError(f"{fmt.name}: extensions are lower case and begin with a dot")
    with tempfile.TemporaryDirectory() as folder:
        for content in _FOREIGN:
            path = Path(folder) / f"foreign{(fmt.extensions or ('.x',))[0]}"
            path.write_bytes(content)
            _check_foreign(fmt, Source.of(path))


_FOREIGN = (b"\x00" * 4096, b"\xff" * 777, bytes(range(256)) * 9, b"a line of text\n" * 50, b"\x7f")


def _check_foreign(fmt: Format, source: Source) -> None:
    if fmt.sniff(source) is Match.YES:
        raise AssertionError(f"{fmt.name}: is sure of a file that is not its own")
    if not fmt.available():
        return
    try:
        read_file(source.path, ReadOptions(), format=fmt.name)
    except FormatError as error:
        if source.path.name not in str(error):
            raise AssertionError(f"{fmt.name}: the refusal does not name the file") from error
    except Py4DSTEMError:
        return  # asks for something that only the user knows, such as a layout
    else:
        if fmt.sniff(source) is Match.NO:
            raise AssertionError(f"{fmt.name}: reads a file that it does not recognise")
