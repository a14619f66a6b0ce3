"""Orientations in the text files of crystallographers: .ang (EDAX) and .ctf (Oxford)."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.history import History
from py4DSTEM.errors import CorruptFile, FileMissing, ParameterError, UnknownFormat
from py4DSTEM.process.crystal.euler import euler_from_matrices, matrices_from_euler
from py4DSTEM.process.crystal.interop import Layers, laue_of, layers_of, orientation_map
from py4DSTEM.process.crystal.result import OrientationMap
from py4DSTEM.units import is_length, unit_factor

__all__ = ["read_orientations", "save_ang", "save_ctf"]

Float = NDArray[np.float64]
CrystalX = Literal["a", "a*"]
_UM_A = 1e4
_RIGHT_UP_OUT = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
"""Columns: right, up and out of the screen, in our x (down), y (right), z (out)."""
_NONE_ANG = 4 * np.pi
_LAST = 1_000
"""Lines that a header may have."""


# ---- writing -------------------------------------------------------------------------------------
def save_ang(path: str | PathLike[str], orientations: Any) -> None:
    """Write orientations of one or several phases as an .ang file (EDAX OIM).

    Parameters
    ----------
    path : path
        Replaced if it exists; whole or not at all.
    orientations : OrientationMap or PhaseMap

    Raises
    ------
    StoreError
        Writing failed.

    Notes
    -----
    Bunge's Euler angles in rad, from the axes A1 (down), A2 (right), A3 (out of the screen), which
    are the package's x, y and z, to Cartesian axes of the crystal with a along x and c* along z.
    The x column runs along the columns of the scan and y down its rows, in µm; in pixels where the
    scan step is not known, which the header says.  Image quality holds the score, the confidence
    index the reliability (−1: not indexed), the detector signal the number of matched peaks, and
    fit the one-sigma error in degrees.

    Examples
    --------
    >>> import tempfile
    >>> from py4DSTEM.process.crystal.interop import orientation_map
    >>> known = orientation_map(np.broadcast_to(np.eye(3), (2, 3, 3, 3)), "Au")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_ang(f"{folder}/gold.ang", known)
    ...     back = read_orientations(f"{folder}/gold.ang", "Au")
    >>> float(back.misorientation_deg(np.eye(3)).max()) < 1e-6
    True
    """
    layers = layers_of(orientations)
    inside = layers.labels >= 0
    angles = np.where(inside[..., None], euler_from_matrices(layers.matrices), _NONE_ANG)
    columns = [
        *np.moveaxis(angles, -1, 0),
        *_places_um(layers),
        _known(layers.take([one.score[:, :, 0] for one in layers.maps])),
        np.where(
            inside, _known(layers.take([one.reliability[:, :, 0] for one in layers.maps])), -1
        ),
        np.where(inside, layers.labels + 1, 0),
        layers.take([one.n_matched[:, :, 0] for one in layers.maps]),
        np.where(inside, _known(layers.take([one.sigma_deg[:, :, 0] for one in layers.maps])), 180),
    ]
    formats = ["%.9f"] * 3 + ["%.8f"] * 2 + ["%.4f", "%.6f", "%d", "%d", "%.6f"]
    _write(path, _ang_head(layers), columns, formats, " ")


def save_ctf(
    path: str | PathLike[str], orientations: Any, *, crystal_x: CrystalX = "a"
) -> None:  # fmt: skip
    """Write orientations of one or several phases as a .ctf file (Oxford, Channel text file).

    Parameters
    ----------
    path : path
        Replaced if it exists; whole or not at all.
    orientations : OrientationMap or PhaseMap
    crystal_x : "a" or "a*"
        Which axis of the crystal its Cartesian x is.  "a*" (with z along c) is what some programs
        expect of hexagonal crystals; files do not say.

    Raises
    ------
    StoreError
        Writing failed.

    Notes
    -----
    Bunge's Euler angles in degrees, from the axes X (right), Y (up) and Z (out of the screen):
    those of the package turned by 90° about z.  The columns X and Y are places in µm, to the right
    and down.  Bands holds the number of matched peaks, MAD the one-sigma error in degrees and BC
    the reliability times 255; a phase of 0 and an error of 3 mean that nothing is indexed.
    """
    layers = layers_of(orientations)
    inside = layers.labels >= 0
    turned = np.array(layers.matrices) @ _RIGHT_UP_OUT
    for k, one in enumerate(layers.maps):
        turned[layers.labels == k] = _axes(one.crystal, crystal_x) @ turned[layers.labels == k]
    angles = np.where(inside[..., None], np.degrees(euler_from_matrices(turned)), 0.0)
    trust = _known(layers.take([one.reliability[:, :, 0] for one in layers.maps]))
    sigma = _known(layers.take([one.sigma_deg[:, :, 0] for one in layers.maps]))
    columns = [
        np.where(inside, layers.labels + 1, 0),
        *_places_um(layers),
        layers.take([one.n_matched[:, :, 0] for one in layers.maps]),
        np.where(inside, 0, 3),
        *np.moveaxis(angles, -1, 0),
        sigma,
        np.rint(255 * np.clip(trust, 0, 1)),
        np.zeros(inside.shape),
    ]
    formats = ["%d", "%.8f", "%.8f", "%d", "%d", "%.8f", "%.8f", "%.8f", "%.6f", "%d", "%d"]
    _write(path, _ctf_head(layers), columns, formats, "\t")


def _axes(crystal: Crystal, crystal_x: CrystalX) -> Float:
    """Rows: Cartesian axes of the crystal that a file uses, in ours."""
    if crystal_x not in ("a", "a*"):
        raise ParameterError(f'crystal_x is "a" or "a*", not {crystal_x!r}')
    if crystal_x == "a":
        return np.eye(3)
    x, z = crystal.reciprocal_A[0], crystal.lattice_A[2]
    x, z = x / np.linalg.norm(x), z / np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z])


def _known(values: Float) -> Float:
    return np.where(np.isfinite(values), values, 0.0)


def _steps(layers: Layers) -> tuple[float, float, str]:
    """Steps along rows and columns, and their unit: µm, or px."""
    x, y = layers.calibration.R
    if is_length(x.unit) and is_length(y.unit):
        return (
            x.step * unit_factor(x.unit, "A") / _UM_A,
            y.step * unit_factor(y.unit, "A") / _UM_A,
            "um",
        )
    return x.step, y.step, "px"


def _places_um(layers: Layers) -> tuple[Float, Float]:
    """To the right and down, of each position."""
    down, right, _ = _steps(layers)
    rows, columns = np.indices(layers.labels.shape)
    return np.asarray(columns * right), np.asarray(rows * down)


def _ang_head(layers: Layers) -> list[str]:
    down, right, unit = _steps(layers)
    rows, columns = layers.labels.shape
    lines = ["# HEADER: Start", "# Orientations from transmission, written by py4DSTEM",
             "# Axes of Euler angles: A1 down, A2 right, A3 out of the screen",
             f"# Unit of x, y and steps: {unit}", "#"]  # fmt: skip
    for k, (one, name) in enumerate(zip(layers.maps, layers.names, strict=True)):
        cell = " ".join(f"{value:.6f}" for value in one.crystal.cell)
        lines += [f"# Phase {k + 1}", f"# MaterialName  \t{_plain(name)}",
                  f"# Formula     \t{_formula(one.crystal)}", "# Info",
                  f"# Symmetry              {laue_of(one.crystal).edax}",
                  f"# LatticeConstants      {cell}", "# NumberFamilies        0", "#"]  # fmt: skip
    return [*lines, "# GRID: SqrGrid", f"# XSTEP: {right:.9f}", f"# YSTEP: {down:.9f}",
            f"# NCOLS_ODD: {columns}", f"# NCOLS_EVEN: {columns}", f"# NROWS: {rows}", "#",
            "# HEADER: End"]  # fmt: skip


def _ctf_head(layers: Layers) -> list[str]:
    down, right, unit = _steps(layers)
    rows, columns = layers.labels.shape
    energy = layers.calibration.energy_eV
    about = ["Euler angles refer to Sample Coordinate system (CS0)!", "Mag", "0", "Coverage", "100",
             "Device", "0", "KV", f"{(energy or 0) / 1e3:g}", "TiltAngle", "0",
             "TiltAxis", "0"]  # fmt: skip
    lines = ["Channel Text File", f"Prj\tpy4DSTEM, places in {unit}", "Author\tpy4DSTEM",
             "JobMode\tGrid", f"XCells\t{columns}", f"YCells\t{rows}", f"XStep\t{right:.9f}",
             f"YStep\t{down:.9f}", "AcqE1\t0", "AcqE2\t0", "AcqE3\t0", "\t".join(about),
             f"Phases\t{len(layers.maps)}"]  # fmt: skip
    for one, name in zip(layers.maps, layers.names, strict=True):
        cell = [f"{value:.6f}" for value in one.crystal.cell]
        lines.append("\t".join((";".join(cell[:3]), ";".join(cell[3:]), _plain(name),
                                str(laue_of(one.crystal).oxford),
                                str(one.crystal.space_group_number))))  # fmt: skip
    return [*lines, "Phase\tX\tY\tBands\tError\tEuler1\tEuler2\tEuler3\tMAD\tBC\tBS"]


def _formula(crystal: Crystal) -> str:
    """Elements in their smallest whole numbers, as in Cu2O."""
    counts: dict[str, float] = {}
    for element, share in zip(crystal.elements, crystal.occupancy, strict=True):
        counts[element] = counts.get(element, 0.0) + float(share)
    whole = [round(n) for n in counts.values()]
    least = math.gcd(*whole) if np.allclose(whole, list(counts.values())) else 1
    return "".join(e if n == least else f"{e}{n / least:.4g}" for e, n in counts.items())


def _plain(text: str) -> str:
    """A name that no reader stumbles over."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split()) or "crystal"


def _write(
    path: str | PathLike[str],
    head: Sequence[str],
    columns: Sequence[NDArray[Any]],
    formats: Sequence[str],
    between: str,
) -> None:
    from py4DSTEM.io.store.atomic import replacing

    table = np.column_stack([np.asarray(one, np.float64).ravel() for one in columns])
    with replacing(path) as part, part.open("w", encoding="utf-8", newline="\n") as file:
        file.write("\n".join(head) + "\n")
        np.savetxt(file, table, fmt=list(formats), delimiter=between)


# ---- reading -------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Table:
    """What a file holds: one row per position."""

    euler_rad: Float
    x: Float
    y: Float
    phase: NDArray[np.int64]
    trust: Float
    sigma_deg: Float
    steps: tuple[float, float] | None
    unit: str
    names: dict[int, str]


def read_orientations(
    path: str | PathLike[str],
    crystal: Crystal | str,
    *,
    phase: int | str | None = None,
    crystal_x: CrystalX = "a",
) -> OrientationMap:
    """Read the orientations of one phase from an .ang or .ctf file.

    Parameters
    ----------
    path : path
    crystal : Crystal or str
        What the phase is, or what `Crystal.of` takes: the files do not say where its atoms are.
    phase : int or str, optional
        Number (from 1) or name in the file; None: the only one.
    crystal_x : "a" or "a*"
        Axes of the crystal in the file; see `save_ctf`.

    Returns
    -------
    OrientationMap
        NaN where the file has another phase or none.  `reliability` is the confidence index of an
        .ang file, or the band contrast of a .ctf file over 255; the error is its fit or MAD.

    Raises
    ------
    FileMissing, UnknownFormat, CorruptFile
        What is wrong, and in which file.
    ParameterError
        Several phases and no `phase`, or one that is not there.

    Notes
    -----
    Axes of the sample are those of `save_ang` and `save_ctf`.
    """
    path = Path(path)
    if not path.is_file():
        raise FileMissing("there is no such file", path=path)
    readers: dict[str, Callable[[Path], _Table]] = {".ang": _read_ang, ".ctf": _read_ctf}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise UnknownFormat("orientations are read from .ang and .ctf files", path=path)
    table = reader(path)
    known = Crystal.of(crystal)
    chosen = _chosen(table, phase, path)
    matrices = _axes(known, crystal_x).T @ matrices_from_euler(table.euler_rad)
    if path.suffix.lower() == ".ctf":
        matrices = matrices @ _RIGHT_UP_OUT.T
    matrices[table.phase != chosen] = np.nan
    order, shape = _grid(table, path)
    found = orientation_map(
        matrices[order].reshape(*shape, 3, 3),
        known,
        calibration=_calibration(table, shape),
        reliability=table.trust[order].reshape(shape),
        sigma_deg=table.sigma_deg[order].reshape(shape),
        name=path.stem,
    )
    history = History().then("read-orientations", {"path": str(path), "phase": chosen})
    return OrientationMap(**{**vars(found), "history": history})


def _chosen(table: _Table, phase: int | str | None, path: Path) -> int:
    if phase is None and len(table.names) == 1:
        return next(iter(table.names))
    for number, name in table.names.items():
        if phase in (number, name):
            return number
    known = ", ".join(f"{n} ({name})" for n, name in table.names.items()) or "none"
    raise ParameterError(f"{path}: choose a phase by phase=, of {known}; not {phase!r}")


def _calibration(table: _Table, shape: tuple[int, int]) -> Calibration:
    steps = table.steps
    if steps is None:
        right, down = (np.unique(v.round(9)) for v in (table.x, table.y))
        if len(right) < 2 or len(down) < 2:
            return Calibration()
        steps = (float(np.diff(down).mean()), float(np.diff(right).mean()))
    if table.unit != "um" or not min(steps) > 0:
        return Calibration()
    return Calibration().replace(R_pixel_size=[s * _UM_A for s in steps], R_pixel_units="A")


def _grid(table: _Table, path: Path) -> tuple[NDArray[np.int64], tuple[int, int]]:
    """Order of the rows of a file along the scan, and its shape."""
    if table.steps is None:
        columns = np.unique(table.x.round(9), return_inverse=True)[1]
        rows = np.unique(table.y.round(9), return_inverse=True)[1]
    else:
        down, right = (s if s > 0 else 1.0 for s in table.steps)
        columns = np.rint((table.x - table.x.min()) / right).astype(np.int64)
        rows = np.rint((table.y - table.y.min()) / down).astype(np.int64)
    shape = (int(rows.max()) + 1, int(columns.max()) + 1)
    if shape[0] * shape[1] != len(rows):
        raise CorruptFile(
            f"{len(rows)} positions fill no rectangle of {shape[0]} x {shape[1]}", path=path,
            hint="Hexagonal grids and parts of scans are not read: export a square grid",
        )  # fmt: skip
    flat = rows * shape[1] + columns
    order = np.argsort(flat, kind="stable")
    if not np.array_equal(flat[order], np.arange(len(rows))):
        raise CorruptFile("positions are listed twice", path=path)
    return order, shape


def _numbers(lines: Sequence[str], least: int, path: Path) -> Float:
    """A table of numbers; decimal commas are read as points."""
    try:
        rows = [[float(word) for word in line.replace(",", ".").split()] for line in lines]
        table = np.array(rows, np.float64)
    except ValueError as error:
        raise CorruptFile(f"what should be numbers is not: {error}", path=path) from None
    if table.ndim != 2 or not len(table) or table.shape[1] < least:
        raise CorruptFile(f"no table of at least {least} columns was found", path=path)
    if not np.isfinite(table[:, :least]).all():
        raise CorruptFile("the table holds what is no number", path=path)
    return table


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text("utf-8", "replace").splitlines() if line.strip()]


def _read_ang(path: Path) -> _Table:
    lines = _lines(path)
    head = [line for line in lines[:_LAST] if line.startswith("#")]
    text = "\n".join(head)
    if "HexGrid" in text:
        raise UnknownFormat("hexagonal grids are not read", path=path,
                            hint="Export the scan as a square grid")  # fmt: skip
    table = _numbers([line for line in lines if not line.startswith("#")], 8, path)
    numbers = [int(n) for n in re.findall(r"^#\s*Phase[ \t]+(\d+)", text, re.MULTILINE)]
    names = re.findall(r"^#\s*MaterialName[ \t]+(.*\S)", text, re.MULTILINE)
    phases = dict(zip(numbers, names, strict=False)) or {1: path.stem}
    phase = table[:, 7].astype(np.int64)
    if len(phases) == 1 and set(np.unique(phase)) == {0}:
        phase = np.full(len(phase), next(iter(phases)))  # of one phase some programs write 0
    angles, trust = table[:, :3], table[:, 6]
    outside = (trust == -1) | (np.abs(angles) > 2 * np.pi + 0.01).any(axis=1)
    steps = [re.search(rf"^#\s*{n}:\s*(\S+)", text, re.MULTILINE) for n in ("YSTEP", "XSTEP")]
    return _Table(
        angles, table[:, 3], table[:, 4], np.where(outside, 0, phase),
        np.where(trust < 0, np.nan, trust),
        table[:, 9] if table.shape[1] > 9 else np.full(len(table), np.nan),
        _pair(steps), "px" if "steps: px" in text else "um", phases,
    )  # fmt: skip


def _pair(found: Sequence[re.Match[str] | None]) -> tuple[float, float] | None:
    try:
        first, second = (float(one.group(1).replace(",", ".")) for one in found if one)
    except ValueError:
        return None
    return (first, second) if np.isfinite([first, second]).all() else None


def _read_ctf(path: Path) -> _Table:
    lines = _lines(path)
    start = next((i for i, li in enumerate(lines[:_LAST]) if re.match(r"Phase\s+X\s+Y\s", li)), -1)
    if start < 0 or not lines[0].startswith("Channel Text File"):
        raise CorruptFile("this is no Channel text file: its table has no heading", path=path)
    head = lines[:start]
    begin = next((i for i, line in enumerate(head) if line.startswith("Phases")), len(head))
    listed = [line.split("\t") for line in head[begin + 1 :]]
    table = _numbers(lines[start + 1 :], 8, path)
    text = "\n".join(head)
    steps = [re.search(rf"^{n}\s+(\S+)", text, re.MULTILINE) for n in ("YStep", "XStep")]
    names = {k + 1: parts[2] for k, parts in enumerate(listed) if len(parts) > 2}
    blank = np.full(len(table), np.nan)
    return _Table(
        np.radians(table[:, 5:8]), table[:, 1], table[:, 2], table[:, 0].astype(np.int64),
        table[:, 9] / 255 if table.shape[1] > 9 else blank,
        table[:, 8] if table.shape[1] > 8 else blank,
        _pair(steps), "px" if "places in px" in text else "um", names or {1: path.stem},
    )  # fmt: skip
