"""Conformance of file formats: whole files, and damaged ones.

A package that adds a format can test it with three lines::

    from py4DSTEM.testing.formats import check_file, survey_damage
    check_file("sample.cam")
    assert survey_damage("sample.cam", count=200).failures == []
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import struct
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.lazy import read_block
from py4DSTEM.errors import DependencyMissing, FormatError, Py4DSTEMError
from py4DSTEM.io.format import Match, ReadOptions, Source, registered_formats
from py4DSTEM.io.read import read_file

__all__ = ["Damage", "DamageReport", "check_file", "mutations", "survey_damage"]

ADDRESS_SPACE = 6 * 1024**3
SECONDS = 8
WHOLE_BYTES = 64 * 1024**2


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
    """Truncations, flipped bits, planted integers and zeroed tails of a file."""
    rng = random.Random(seed)
    size = len(content)
    head = min(size, 8192)
    for k in range(count):
        kind = k % 4
        if kind == 0:
            # Half of the cuts within the header, where structure is, half anywhere.
            at = rng.randrange(head) if k % 8 == 0 else rng.randrange(size)
            yield Damage(f"cut at {at}", content[:at], shorter=True)
        elif kind == 1:
            at = rng.randrange(head if k % 8 == 1 else size)
            flipped = bytes([content[at] ^ (1 << rng.randrange(8))])
            yield Damage(f"bit flipped at {at}", content[:at] + flipped + content[at + 1 :])
        elif kind == 2:
            yield _planted(content, rng, head)
        else:
            at = rng.randrange(size)
            yield Damage(f"zeros from {at}", content[:at] + bytes(size - at))


def _planted(content: bytes, rng: random.Random, head: int) -> Damage:
    value = rng.choice([0, 1, -1, 2**31 - 1, 2**31, 2**40, 65535, 10**9])
    code = rng.choice(["<i", ">i", "<q", ">q", "<h"])
    width = struct.calcsize(code)
    at = rng.randrange(max(1, head - width))
    wrapped = (value & (256**width - 1)).to_bytes(width, "little" if code[0] == "<" else "big")
    return Damage(
        f"{value} planted at {at} as {code}", content[:at] + wrapped + content[at + width :]
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


def survey_damage(
    path: str | os.PathLike[str], count: int = 45, seed: int = 0, companions: bool = True
) -> DamageReport:
    """Read `count` damaged versions of a file, each in a child process with limits.

    Outcomes: ``refused`` (an error of the package, naming the file), ``same``, ``said`` (differs,
    with a warning or note), ``changed`` (damaged values, which nothing can detect), and the
    failures ``silent`` (a shortened file read as something else without a word), ``raw`` (a foreign
    exception), ``crash``, ``hang``.
    """
    original = Path(path)
    content = original.read_bytes()
    report = DamageReport(str(original))
    with tempfile.TemporaryDirectory() as folder:
        if companions:
            _link_companions(original, Path(folder))
        target = Path(folder) / original.name
        target.write_bytes(content)
        outcome, truth = _in_child(target, None)
        if outcome not in ("same", "skipped"):
            raise AssertionError(f"{path}: the whole file cannot be read: {outcome} {truth}")
        for damage in mutations(content, count, seed):
            target.unlink()
            target.write_bytes(damage.content)
            outcome, detail = _in_child(target, truth, shorter=damage.shorter)
            report.outcomes[outcome] += 1
            if outcome in ("silent", "raw", "crash", "hang"):
                report.failures.append(f"{original.name}, {damage.name}: {outcome} {detail}")
    return report


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


def _in_child(path: Path, truth: str | None, *, shorter: bool = False) -> tuple[str, str]:
    """Read a file in a forked child with a time and a memory limit; (outcome, digest or detail)."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:  # the child never returns
        os.close(read_end)
        try:
            _limit()
            message = _attempt(path, truth, shorter)
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
        return ("hang", f"over {SECONDS} s") if number == signal.SIGALRM else ("crash", str(number))
    outcome, _, detail = text.partition("|")
    return outcome, detail


def _limit() -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(SECONDS)


def _attempt(path: Path, truth: str | None, shorter: bool) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            digest, notes = _digest(read_file(path, ReadOptions()))
        except DependencyMissing as error:
            return f"skipped|{error}"
        except FormatError as error:
            named = str(path) in str(error) or path.name in str(error)
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
