"""Orientations from and for other programs: plain matrices, and orix."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.history import History
from py4DSTEM.errors import DependencyMissing, ParameterError, ShapeError
from py4DSTEM.process.crystal.result import OrientationMap

__all__ = ["Laue", "Layers", "from_orix", "laue_of", "layers_of", "orientation_map", "to_orix"]

Float = NDArray[np.float64]
NOT_INDEXED = -1
_ROTATION = 1e-5
"""How far a matrix may be from a rotation that files round."""


class Laue(NamedTuple):
    """A Laue group: its symbol, and its numbers in .ang (EDAX) and .ctf files (Oxford)."""

    symbol: str
    edax: int
    oxford: int


_LAUE = (
    (2, Laue("-1", 1, 1)), (15, Laue("2/m", 20, 2)), (74, Laue("mmm", 22, 3)),
    (88, Laue("4/m", 4, 4)), (142, Laue("4/mmm", 42, 5)), (148, Laue("-3", 3, 6)),
    (167, Laue("-3m", 32, 7)), (176, Laue("6/m", 6, 8)), (194, Laue("6/mmm", 62, 9)),
    (206, Laue("m-3", 23, 10)), (230, Laue("m-3m", 43, 11)),
)  # fmt: skip
"""Last number of the space groups of each, and the group."""


def laue_of(crystal: Crystal) -> Laue:
    """The Laue group of a crystal."""
    number = crystal.space_group_number
    return next(laue for last, laue in _LAUE if number <= last)


# ---- plain matrices ------------------------------------------------------------------------------
def orientation_map(
    matrices: ArrayLike,
    crystal: Crystal | str,
    *,
    calibration: Calibration | None = None,
    reliability: ArrayLike | None = None,
    sigma_deg: ArrayLike | None = None,
    name: str = "orientations",
) -> OrientationMap:
    """An orientation map of orientations that are known from elsewhere.

    Parameters
    ----------
    matrices : (Rx, Ry, 3, 3) float64
        Columns are the sample axes x (rows, down), y (columns, right) and z = x × y in Cartesian
        axes of the crystal; NaN where there is none.
    crystal : Crystal or str
        Or what `Crystal.of` takes.
    calibration : Calibration, optional
        For the scan step.
    reliability : (Rx, Ry) float, optional
        From 0 to 1; None: not known (NaN).
    sigma_deg : (Rx, Ry) float, optional
        One-sigma angles of the errors, degrees; None: not known (NaN).
    name : str

    Returns
    -------
    OrientationMap
        What only a match with peaks gives (score, alternatives, peaks) is NaN or 0.

    Raises
    ------
    ShapeError
        Not (Rx, Ry, 3, 3).
    ParameterError
        A matrix that is no proper rotation.

    Examples
    --------
    >>> flat = orientation_map(np.broadcast_to(np.eye(3), (4, 5, 3, 3)), "Au")
    >>> flat.shape, int(flat.indexed.sum())
    ((4, 5), 20)
    """
    R = np.array(matrices, np.float64)
    if R.ndim != 4 or R.shape[2:] != (3, 3) or R.size == 0:
        raise ShapeError(f"orientations of a scan are (Rx, Ry, 3, 3), not {R.shape}")
    known = np.asarray(np.isfinite(R).all(axis=(2, 3)))
    R[~known] = np.nan
    apart = np.abs(R[known] @ R[known].swapaxes(1, 2) - np.eye(3)).max(initial=0.0)
    if apart > _ROTATION or (np.linalg.det(R[known]) < 0).any():
        raise ParameterError("an orientation is a proper rotation matrix: R Rᵀ = 1, det R = 1")
    blank = np.full((*R.shape[:2], 1), np.nan)
    trust = blank if reliability is None else _map_of(reliability, R.shape[:2], "reliability")
    sigma = blank if sigma_deg is None else _map_of(sigma_deg, R.shape[:2], "sigma_deg")
    variance = np.radians(sigma) ** 2 / 3
    return OrientationMap(
        matches=R[:, :, None],
        alternative=np.full((*R.shape[:2], 1, 3, 3), np.nan),
        score=blank.copy(), gap=blank.copy(), gap_alternative=blank.copy(),
        reliability=np.where(known[..., None], trust, np.nan),
        ambiguous=np.zeros(blank.shape, bool),
        covariance=np.where(known[..., None, None, None], variance[..., None, None], np.nan)
        * np.eye(3),
        n_matched=np.zeros(blank.shape, np.int64),
        share=blank.copy(), distance_A=blank.copy(),
        n_peaks=np.zeros(R.shape[:2], np.int64),
        reason=np.where(known, 0, 1).astype(np.uint8),
        crystal=Crystal.of(crystal),
        calibration=calibration or Calibration(),
        name=name,
    )  # fmt: skip


def _map_of(values: ArrayLike, shape: tuple[int, ...], what: str) -> Float:
    array = np.asarray(values, np.float64)
    if array.shape != shape:
        raise ShapeError(f"{what} is {shape}, not {array.shape}")
    return np.asarray(array[..., None])


# ---- one or several phases -----------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Layers:
    """Which phase is where, and the orientations of each: what one or several phases share.

    Parameters
    ----------
    labels : (Rx, Ry) int64
        Index into `maps`; −1 where there is no orientation.
    maps : tuple of OrientationMap
    calibration : Calibration
    history : History
        Of the whole.
    """

    labels: NDArray[np.int64]
    maps: tuple[OrientationMap, ...]
    calibration: Calibration
    history: History

    @property
    def names(self) -> tuple[str, ...]:
        """Of the crystals; numbered where two are alike."""
        names = [one.crystal.name for one in self.maps]
        return tuple(
            n if names.count(n) == 1 else f"{n} {k + 1}" for k, n in enumerate(names)
        )  # fmt: skip

    def take(self, values: Sequence[NDArray[Any]]) -> NDArray[Any]:
        """Of one map per phase (Rx, Ry, ...), what the phase of each position has."""
        out = np.array(values[0])
        for k, one in enumerate(values[1:], 1):
            out[self.labels == k] = one[self.labels == k]
        if out.dtype.kind == "f":
            out[self.labels < 0] = np.nan
        return out

    @property
    def matrices(self) -> Float:
        """Orientation at each position, (Rx, Ry, 3, 3)."""
        return self.take([one.matrices for one in self.maps])


def layers_of(value: Any) -> Layers:
    """The layers of an orientation map, or of what has ``labels`` and ``orientations``."""
    if isinstance(value, OrientationMap):
        labels = np.where(value.indexed, 0, NOT_INDEXED)
        return Layers(labels, (value,), value.calibration, value.history)
    maps = tuple(getattr(value, "orientations", ()) or ())
    labels = np.asarray(getattr(value, "labels", ()))
    if not maps or not all(isinstance(one, OrientationMap) for one in maps):
        raise ParameterError(
            f"this works on an OrientationMap or a PhaseMap, not on a {type(value).__name__}"
        )
    if any(one.shape != labels.shape for one in maps):
        raise ShapeError(f"labels are {labels.shape}, and orientations {maps[0].shape}")
    out = np.full(labels.shape, NOT_INDEXED)
    for k, one in enumerate(maps):
        out[(labels == k) & one.indexed] = k
    return Layers(out, maps, value.calibration, value.history)


# ---- orix ----------------------------------------------------------------------------------------
def import_orix(purpose: str) -> Any:
    """The package orix, or what to install."""
    try:
        import orix
    except ImportError as error:
        raise DependencyMissing("orix", purpose, "crystal") from error
    return orix


def to_orix(value: Any) -> Any:
    """Orientations as a crystal map of orix.

    Parameters
    ----------
    value : OrientationMap or PhaseMap

    Returns
    -------
    orix.crystal_map.CrystalMap
        x along columns and y along rows of the scan, in the unit of its axes; phases numbered from
        0, −1 where nothing is indexed; properties ``reliability``, ``sigma_deg``, ``score``.

    Raises
    ------
    DependencyMissing
        orix is not installed.

    Notes
    -----
    The rotation of orix turns vectors of the sample into those of the crystal, as the matrices of
    the map do.  Its sample axes stay x (rows, down), y (columns, right) and z (out of the screen),
    as in `.ang` files; crystals have a along x and c* along z in both.
    """
    import_orix("to_orix")
    from orix.crystal_map import CrystalMap
    from orix.quaternion import Rotation

    layers = layers_of(value)
    x, y = layers.calibration.R
    rows, columns = np.indices(layers.labels.shape)
    matrices = layers.matrices.reshape(-1, 3, 3)
    matrices = np.where(np.isfinite(matrices), matrices, np.eye(3))
    inside = {
        "reliability": layers.take([one.reliability[:, :, 0] for one in layers.maps]),
        "sigma_deg": layers.take([one.sigma_deg[:, :, 0] for one in layers.maps]),
        "score": layers.take([one.score[:, :, 0] for one in layers.maps]),
    }
    return CrystalMap(
        rotations=Rotation.from_matrix(matrices),
        phase_id=layers.labels.ravel(),
        x=y.offset + columns.ravel() * y.step,
        y=x.offset + rows.ravel() * x.step,
        phase_list=_phases([one.crystal for one in layers.maps], layers.names),
        prop={name: values.ravel() for name, values in inside.items()},
        scan_unit={"A": "angstrom"}.get(y.unit, y.unit),
    )


def _phases(crystals: Sequence[Crystal], names: Sequence[str]) -> Any:
    from orix.crystal_map import Phase, PhaseList

    return PhaseList(
        phases=[
            Phase(name=n, space_group=c.space_group_number, structure=_structure(c))
            for n, c in zip(names, crystals, strict=True)
        ],
        ids=list(range(len(names))),
    )


def _structure(crystal: Crystal) -> Any:
    from diffpy.structure import Atom, Lattice, Structure

    atoms = [
        Atom(e, xyz=list(p), occupancy=float(o))
        for e, p, o in zip(crystal.elements, crystal.positions, crystal.occupancy, strict=True)
    ]
    # In axes of its own the lattice would be turned by orix, and fractional places with it.
    return Structure(atoms=atoms, lattice=Lattice(base=crystal.lattice_A), title=crystal.name)


def from_orix(
    xmap: Any, crystal: Crystal | str | None = None, *, phase: int | str | None = None
) -> OrientationMap:
    """Orientations of one phase of a crystal map of orix.

    Parameters
    ----------
    xmap : orix.crystal_map.CrystalMap
        A whole rectangle of positions; of several rotations per position the first.
    crystal : Crystal or str, optional
        None: the structure of the phase, which must hold atoms.
    phase : int or str, optional
        Number or name; None: the only one.

    Returns
    -------
    OrientationMap
        NaN where another phase or none is.

    Raises
    ------
    ParameterError
        Several phases and no `phase`, one that is not there, or a structure without atoms.
    ShapeError
        The points are no rectangle.
    """
    ids = [i for i in xmap.phases.ids if i >= 0]
    chosen = [i for i in ids if phase is None or phase in (i, xmap.phases[i].name)]
    if len(chosen) != 1:
        known = ", ".join(f"{i} ({xmap.phases[i].name})" for i in ids) or "none"
        raise ParameterError(f"choose one phase by phase=: the map has {known}")
    one = xmap.phases[chosen[0]]
    if crystal is None and not len(one.structure):
        raise ParameterError(f"phase {one.name!r} lists no atoms: give crystal=")
    shape = tuple(xmap.shape)
    if len(shape) != 2 or xmap.size != shape[0] * shape[1]:
        raise ShapeError(f"{xmap.size} points of a crystal map of {shape} are no whole rectangle")
    rotations = xmap.rotations.data.reshape(xmap.size, -1, 4)[:, 0]
    matrices = _of_quaternions(rotations)
    matrices[xmap.phase_id != chosen[0]] = np.nan
    return orientation_map(
        matrices.reshape(*shape, 3, 3),
        Crystal.from_orix(one) if crystal is None else crystal,
        calibration=_steps(xmap),
        reliability=_property(xmap, "reliability", shape),
        sigma_deg=_property(xmap, "sigma_deg", shape),
        name=one.name or "orientations",
    )


def _property(xmap: Any, name: str, shape: tuple[int, ...]) -> Float | None:
    values = xmap.prop.get(name)
    return None if values is None else np.asarray(values, np.float64).reshape(shape)


def _steps(xmap: Any) -> Calibration:
    """Of the scan; orix knows no step of a single row."""
    unit = {"angstrom": "A", "um": "um", "nm": "nm"}.get(xmap.scan_unit, "px")
    if not (xmap.dx > 0 and xmap.dy > 0) or unit == "px":
        return Calibration()
    scale = 1e4 if unit == "um" else 1.0
    return Calibration().replace(
        R_pixel_size=(xmap.dy * scale, xmap.dx * scale),
        R_pixel_units="A" if unit == "um" else unit,
    )


def _of_quaternions(q: Float) -> Float:
    """Matrices that turn vectors as orix's unit quaternions (a, b, c, d) do, (n, 3, 3)."""
    from orix.quaternion import Rotation

    return np.array(Rotation(q).to_matrix(), np.float64)
