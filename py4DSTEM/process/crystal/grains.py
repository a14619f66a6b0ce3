"""Grains of an orientation map: regions whose neighbours are misoriented by little."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.classes.grains import Grains, described, without_small
from py4DSTEM.process.crystal.interop import Layers, layers_of
from py4DSTEM.process.crystal.phase_result import PhaseMap
from py4DSTEM.process.crystal.result import OrientationMap, misorientation_deg
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = [
    "BOUNDARY_FIELDS", "OrientationGrains", "SegmentOrientations", "mean_orientation",
    "segment_orientations",
]  # fmt: skip

Float = NDArray[np.float64]
Ints = NDArray[np.int64]
Bool = NDArray[np.bool_]
HalfTurn = Literal["join", "part"]
_CHUNK = 65_536
"""Pairs of orientations that are compared at once: bounds memory."""
_ROUNDS = 4
"""Of a mean orientation: each takes the equivalents nearest to the last."""
_SIGMA_3_DEG = 15 / math.sqrt(3)
"""How far from 60° about <111> a boundary may be: Brandon's criterion."""
_WITH_TWINS = (12, 24)
"""Rotations of the Laue groups m-3 and m-3m."""
_DIAGONALS = ((1.0, 1.0, 1.0), (1.0, -1.0, -1.0), (-1.0, 1.0, -1.0), (-1.0, -1.0, 1.0))

BOUNDARY_FIELDS = np.dtype(
    [
        ("first", "i8"), ("second", "i8"), ("rx", "f8"), ("ry", "f8"), ("angle_deg", "f8"),
        ("ux", "f8"), ("uy", "f8"), ("uz", "f8"), ("twin", "?"),
    ]
)  # fmt: skip
"""Of a row of `OrientationGrains.boundaries`."""


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class OrientationGrains(Grains):
    """Grains of an orientation map, with the statistics of `Grains` and their orientations.

    Parameters
    ----------
    labels, table, contacts, members, image_names, unit
        As in `Grains`; members say of which phase each grain is, image_names are the phases.
    matrices : (Rx, Ry, 3, 3) float64
        Orientation at each position of a grain: of the equivalent ones, and of an ambiguous match
        and its alternative, that nearest to the grain's mean.  NaN elsewhere.
    orientations : (n, 3, 3) float64
        Mean of each grain.
    spread_deg : (n,) float64
        Mean misorientation between the positions of a grain and its mean (grain orientation
        spread).
    sigma_deg : (n,) float64
        Standard error of the mean, degrees, from that spread; of a single position the match's.
    deviation_deg : (Rx, Ry) float64
        Misorientation from the mean of the grain.
    kernel_deg : (Rx, Ry) float64
        Mean misorientation between a position and its (up to four) neighbours in the same grain.
    half_turned : (Rx, Ry) bool
        Where the alternative of an ambiguous match was taken.
    boundaries : (m,) structured
        Edges between positions of two grains: ``first, second`` grain; ``rx, ry`` the middle (scan
        positions); ``angle_deg`` and ``ux, uy, uz``, the smallest misorientation and its axis
        (Cartesian, in the crystal); ``twin``, within 8.66° of 60° about <111> of a cubic crystal
        (Σ3, Brandon's criterion).  NaN between phases.
    crystals : tuple of Crystal
        Of the phases.
    """

    matrices: Float
    orientations: Float
    spread_deg: Float
    sigma_deg: Float
    deviation_deg: Float
    kernel_deg: Float
    half_turned: Bool
    boundaries: NDArray[np.void]
    crystals: tuple[Crystal, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        n, shape = len(self.table), self.labels.shape
        shapes = {
            "matrices": (*shape, 3, 3), "orientations": (n, 3, 3), "spread_deg": (n,),
            "sigma_deg": (n,), "deviation_deg": shape, "kernel_deg": shape, "half_turned": shape,
        }  # fmt: skip
        for name, expected in shapes.items():
            if getattr(self, name).shape != expected:
                raise ShapeError(f"{name} is {expected}, not {getattr(self, name).shape}")

    @property
    def phase(self) -> Ints:
        """Phase of each grain, (n,): an index into `crystals`."""
        return np.asarray(self.members.argmax(axis=1), np.int64)

    @property
    def twin_share(self) -> float:
        """Share of the edges between grains of one phase that are Σ3 twins; NaN without any."""
        known = np.isfinite(self.boundaries["angle_deg"])
        return float(self.boundaries["twin"][known].mean()) if known.any() else math.nan

    def to_slice(self) -> RealSlice:
        """Deviation from the mean, and the kernel average, as one labelled stack."""
        maps = {"deviation (deg)": self.deviation_deg, "kernel average (deg)": self.kernel_deg}
        return RealSlice(np.stack(list(maps.values())), self.calibration, self.history, self.name,
                         tuple(maps), "deg")  # fmt: skip

    def text(self) -> str:
        """A few lines for a report."""
        lines = [super().text()]
        if len(self):
            lines.append(f"misorientation within grains: mean {self.spread_deg.mean():.2g}°")
        known = np.isfinite(self.boundaries["angle_deg"])
        if known.any():
            angle = np.median(self.boundaries["angle_deg"][known])
            lines.append(f"boundaries: median {angle:.3g}°, Σ3 twins {self.twin_share:.1%}")
        return "\n".join(lines)


def _to_parts(value: OrientationGrains) -> dict[str, Any]:
    return {
        **vars(value),
        "crystals": [one.plain() for one in value.crystals],
        "history": value.history.to_dict(),
    }


def _from_parts(parts: Mapping[str, Any]) -> OrientationGrains:
    return OrientationGrains(**{
        **parts,
        "crystals": tuple(Crystal.of(one) for one in parts["crystals"]),
        "history": History.from_dict(parts["history"]),
        "image_names": tuple(parts["image_names"]),
    })  # fmt: skip


register_result("orientation-grains", OrientationGrains, _to_parts, _from_parts)


class SegmentOrientations(Analysis, kind="segment-orientations", version=1):
    """Grains of an orientation map, their mean orientations, and the boundaries between them.

    Neighbouring positions of one phase that are misoriented by no more than a threshold belong to
    one grain.
    """

    threshold_deg: float = Field(
        5.0, gt=0, le=60, description="Misorientation of neighbours above which grains part."
    )
    min_reliability: float = Field(
        0.0, ge=0, le=1, description="Positions of less reliability belong to no grain."
    )
    half_turn: HalfTurn = Field(
        "join",
        description="Whether an ambiguous position may be turned by half a turn about its zone "
        "axis to fit its neighbours.",
    )
    min_positions: int = Field(4, ge=1, description="Smaller grains are removed.")

    accepts: ClassVar[tuple[type, ...]] = (OrientationMap, PhaseMap)
    cites: ClassVar[tuple[str, ...]] = ("10.2514/1.28949",)

    def apply(self, value: Any, options: RunOptions | None = None) -> OrientationGrains:
        """The grains of an orientation map or of several phases; `options` are not needed."""
        self.check(value)
        layers = layers_of(value)
        spots = _Spots.of(layers, self.min_reliability, self.half_turn == "join")
        labels = _components(spots, self.threshold_deg)
        labels, _ = without_small(labels, self.min_positions, "drop")
        members = _phases_of(labels, layers)
        history = self.history(layers.history)
        base = described(labels, members, layers.names, layers.calibration, history)
        return OrientationGrains(**{
            **vars(base),
            **_oriented(spots, labels, members),
            "name": f"grains of {value.name}",
        })  # fmt: skip


def segment_orientations(
    orientations: OrientationMap | PhaseMap,
    *,
    threshold_deg: float = 5.0,
    min_reliability: float = 0.0,
    half_turn: HalfTurn = "join",
    min_positions: int = 4,
) -> OrientationGrains:
    """Grains of an orientation map, their mean orientations, and the boundaries between them.

    Parameters
    ----------
    orientations : OrientationMap or PhaseMap
    threshold_deg : float
        Neighbours (edges shared) misoriented by more belong to different grains, unless others
        connect them.
    min_reliability : float
        Positions of less reliability belong to no grain.
    half_turn : "join" or "part"
        "join": a position whose match is ambiguous may be turned by half a turn about its zone
        axis to fit its neighbours, and its grain.
    min_positions : int
        Smaller grains are removed.

    Returns
    -------
    OrientationGrains

    Raises
    ------
    ParameterError
        Not an orientation map.

    Notes
    -----
    The misorientation of A and B is the smallest angle of ``S A Bᵀ`` over the proper rotations S
    of the Laue group.  The mean of a grain maximises the sum of ``tr(Mᵀ R)`` over the equivalents
    R nearest to it: that is the average of quaternions, Markley et al., J. Guid. Control Dyn. 30,
    1193 (2007), doi:10.2514/1.28949.

    Examples
    --------
    >>> from py4DSTEM.process.crystal.euler import matrices_from_euler
    >>> from py4DSTEM.process.crystal.interop import orientation_map
    >>> angles = np.zeros((4, 6, 3))
    >>> angles[:, 3:, 0] = np.radians(20)
    >>> grains = segment_orientations(orientation_map(matrices_from_euler(angles), "Au"))
    >>> len(grains), set(grains.boundaries["angle_deg"].round(6).tolist())
    (2, {20.0})
    """
    step = SegmentOrientations(
        threshold_deg=threshold_deg,
        min_reliability=min_reliability,
        half_turn=half_turn,
        min_positions=min_positions,
    )
    return step.apply(orientations)


# ---- what is compared ----------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Spots:
    """Positions one after the other: orientations, alternatives (or NaN), phase (−1: none)."""

    shape: tuple[int, int]
    first: Float
    second: Float
    phase: Ints
    trust: Float
    sigma_deg: Float
    crystals: tuple[Crystal, ...]

    @classmethod
    def of(cls, layers: Layers, least: float, half_turn: bool) -> _Spots:
        shape = (layers.labels.shape[0], layers.labels.shape[1])
        trust = layers.take([one.reliability[:, :, 0] for one in layers.maps]).ravel()
        phase = layers.labels.ravel().copy()
        # What is not known (orientations from elsewhere) is no reason to leave a position out.
        phase[np.nan_to_num(trust, nan=1.0) < least] = -1
        second = layers.take([one.alternative[:, :, 0] for one in layers.maps]).reshape(-1, 3, 3)
        unsure = layers.take([one.ambiguous[:, :, 0] for one in layers.maps]).ravel()
        second[~unsure if half_turn else slice(None)] = np.nan
        sigma = layers.take([one.sigma_deg[:, :, 0] for one in layers.maps]).ravel()
        return cls(shape, layers.matrices.reshape(-1, 3, 3), second, phase,
                   np.nan_to_num(trust) - unsure, sigma,
                   tuple(one.crystal for one in layers.maps))  # fmt: skip

    def pairs(self) -> tuple[Ints, Ints]:
        """Neighbours of one phase."""
        at = np.arange(self.phase.size).reshape(self.shape)
        a = np.concatenate([at[:-1].ravel(), at[:, :-1].ravel()])
        b = np.concatenate([at[1:].ravel(), at[:, 1:].ravel()])
        both = (self.phase[a] >= 0) & (self.phase[a] == self.phase[b])
        return a[both], b[both]

    def angles_deg(self, a: Ints, b: Ints) -> Float:
        """Smallest misorientation of pairs of positions, alternatives too."""
        apart = self.between(self.first[a], self.first[b], self.phase[a])
        tries = ((self.second, self.first), (self.first, self.second), (self.second, self.second))
        for one, other in tries:
            able = np.flatnonzero(np.isfinite(one[a, 0, 0]) & np.isfinite(other[b, 0, 0]))
            found = self.between(one[a[able]], other[b[able]], self.phase[a[able]])
            apart[able] = np.minimum(apart[able], found)
        return apart

    def between(self, one: Float, other: Float, phase: Ints) -> Float:
        """Misorientation of matrices (m, 3, 3) of phases (m,)."""
        out = np.full(len(one), np.nan)
        for part, k in _by_phase(phase, len(self.crystals)):
            out[part] = misorientation_deg(one[part], other[part], self.crystals[k])
        return out


def _by_phase(phase: Ints, count: int) -> Iterator[tuple[Ints, int]]:
    """Indices of each phase, in parts of bounded size."""
    for k in range(count):
        mine = np.flatnonzero(phase == k)
        for begin in range(0, len(mine), _CHUNK):
            yield mine[begin : begin + _CHUNK], k


def _components(spots: _Spots, threshold_deg: float) -> NDArray[np.int32]:
    """Label of each position: connected by misorientations up to a threshold; −1: none."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    a, b = spots.pairs()
    alike = spots.angles_deg(a, b) <= threshold_deg
    size = spots.phase.size
    links = coo_array((np.ones(int(alike.sum()), np.int8), (a[alike], b[alike])), (size, size))
    _, labels = connected_components(links, directed=False)
    labels = np.where(spots.phase >= 0, labels, -1)
    _, compact = np.unique(labels, return_inverse=True)
    return np.asarray(compact - int((labels < 0).any()), np.int32).reshape(spots.shape)


def _phases_of(labels: NDArray[np.int32], layers: Layers) -> Bool:
    """Which phase each grain is of, (n, K)."""
    members = np.zeros((int(labels.max(initial=-1)) + 1, len(layers.maps)), bool)
    inside = labels >= 0
    members[labels[inside], layers.labels[inside]] = True
    return members


# ---- orientations of grains ----------------------------------------------------------------------
def _oriented(spots: _Spots, labels: NDArray[np.int32], members: Bool) -> dict[str, Any]:
    """What `OrientationGrains` holds beside regions."""
    n, flat = len(members), labels.ravel()
    inside = np.flatnonzero(flat >= 0)
    of = flat[inside].astype(np.int64)
    matrices, turned = np.full((flat.size, 3, 3), np.nan), np.zeros(flat.size, bool)
    means = _seeds(spots, inside, of, n)
    for _ in range(_ROUNDS):
        matrices[inside], turned[inside] = _nearest(spots, inside, means[of])
        means = _means(matrices[inside], of, n)
    deviation = np.full(flat.size, np.nan)
    deviation[inside] = _angle_deg(matrices[inside], means[of])
    count = np.bincount(of, minlength=n)
    spread = np.bincount(of, deviation[inside], n) / np.maximum(count, 1)
    square = np.bincount(of, deviation[inside] ** 2, n)
    alone = np.bincount(of, spots.sigma_deg[inside], n)
    error = np.sqrt(square / np.maximum(count * (count - 1), 1))
    whole = spots.shape
    grains = matrices.reshape(*whole, 3, 3)
    return {
        "matrices": grains, "orientations": means, "spread_deg": spread,
        "sigma_deg": np.where(count > 1, error, alone),
        "deviation_deg": deviation.reshape(whole),
        "kernel_deg": _kernel_average(grains, labels),
        "half_turned": turned.reshape(whole),
        "boundaries": _boundaries(grains, labels, members.argmax(axis=1), spots.crystals),
        "crystals": spots.crystals,
    }  # fmt: skip


def _seeds(spots: _Spots, inside: Ints, of: Ints, n: int) -> Float:
    """The most reliable orientation of each grain, unambiguous before ambiguous, (n, 3, 3)."""
    order = np.argsort(-spots.trust[inside], kind="stable")
    _, best = np.unique(of[order], return_index=True)
    return spots.first[inside[order[best]]] if n else np.empty((0, 3, 3))


def _nearest(spots: _Spots, where: Ints, means: Float) -> tuple[Float, Bool]:
    """Of the equivalents of each position, and of its alternative, those nearest to a mean."""
    out, turned = np.empty((len(where), 3, 3)), np.zeros(len(where), bool)
    for part, k in _by_phase(spots.phase[where], len(spots.crystals)):
        rotations = spots.crystals[k].rotations
        here = where[part]
        out[part], score = _equivalent(spots.first[here], means[part], rotations)
        other, score_other = _equivalent(spots.second[here], means[part], rotations)
        with np.errstate(invalid="ignore"):  # NaN: no alternative
            better = score_other > score + 1e-12
        out[part[better]], turned[part] = other[better], better
    return out, turned


def _equivalent(matrices: Float, means: Float, rotations: Float) -> tuple[Float, Float]:
    """``S R`` nearest to each mean, (m, 3, 3), and ``tr(Mᵀ S R)``, (m,)."""
    traces = np.einsum("kij,nji->nk", rotations, matrices @ means.swapaxes(1, 2))
    best = traces.argmax(axis=1)
    return rotations[best] @ matrices, traces[np.arange(len(best)), best]


def _means(matrices: Float, of: Ints, n: int) -> Float:
    """Rotation nearest to all of each group, (n, 3, 3)."""
    sums = np.stack([np.bincount(of, column, n) for column in matrices.reshape(-1, 9).T], axis=-1)
    u, _, vh = np.linalg.svd(sums.reshape(n, 3, 3))
    u[:, :, 2] *= np.sign(np.linalg.det(u @ vh))[:, None]
    return np.asarray(u @ vh)


def _angle_deg(one: Float, other: Float) -> Float:
    """Angle between orientations as they are, (...)."""
    sine = np.sqrt(((one - other) ** 2).sum(axis=(-1, -2)) / 8)
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(sine, 1.0))))


def mean_orientation(matrices: Any, crystal: Crystal | str) -> Float:
    """Mean of orientations of a crystal, over its symmetry.

    Parameters
    ----------
    matrices : (..., 3, 3) float64
        NaN is left out.  They should lie within some degrees of each other.
    crystal : Crystal or str

    Returns
    -------
    (3, 3) float64
        NaN without any.

    Notes
    -----
    As in `segment_orientations`; the equivalents are those nearest to the first.

    Examples
    --------
    >>> from py4DSTEM.process.crystal.euler import matrices_from_euler
    >>> two = matrices_from_euler(np.radians([[1.0, 0, 0], [93.0, 0, 0]]))  # 1° and 3°, for gold
    >>> bool(np.allclose(mean_orientation(two, "Au"), matrices_from_euler(np.radians([2.0, 0, 0]))))
    True
    """
    R = np.asarray(matrices, np.float64)
    if R.ndim < 2 or R.shape[-2:] != (3, 3):
        raise ShapeError(f"orientations are (..., 3, 3), not {R.shape}")
    R = R.reshape(-1, 3, 3)
    R = R[np.asarray(np.isfinite(R).all(axis=(1, 2)))]
    if not len(R):
        return np.full((3, 3), np.nan)
    rotations, mean = Crystal.of(crystal).rotations, R[:1]
    for _ in range(_ROUNDS):
        near, _ = _equivalent(R, np.broadcast_to(mean, R.shape), rotations)
        mean = _means(near, np.zeros(len(R), np.int64), 1)
    return np.asarray(mean[0])


def _kernel_average(matrices: Float, labels: NDArray[np.int32]) -> Float:
    """Mean misorientation to neighbours in the same grain; NaN without any."""
    total, count = np.zeros(labels.shape), np.zeros(labels.shape, np.int64)
    for a, b in _neighbours():
        same = (labels[a] == labels[b]) & (labels[a] >= 0)
        apart = np.where(same, _angle_deg(matrices[a], matrices[b]), 0.0)
        for side in (a, b):
            total[side] += apart
            count[side] += same
    blank = np.full(labels.shape, np.nan)
    return np.asarray(np.divide(total, count, out=blank, where=count > 0))


def _neighbours() -> Iterator[tuple[Any, Any]]:
    """Slices of an image and of the same shifted by one, along rows and columns."""
    whole = slice(None)
    yield (slice(None, -1), whole), (slice(1, None), whole)
    yield (whole, slice(None, -1)), (whole, slice(1, None))


# ---- boundaries ----------------------------------------------------------------------------------
def _boundaries(
    matrices: Float, labels: NDArray[np.int32], phase: Ints, crystals: tuple[Crystal, ...]
) -> NDArray[np.void]:
    """One row per edge between positions of two grains."""
    at = np.asarray(np.indices(labels.shape))
    ends = []
    for a, b in _neighbours():
        edge = (labels[a] != labels[b]) & (labels[a] >= 0) & (labels[b] >= 0)
        ends.append((at[(slice(None), *a)][:, edge], at[(slice(None), *b)][:, edge]))
    one = np.concatenate([first for first, _ in ends], axis=1)
    other = np.concatenate([second for _, second in ends], axis=1)
    out = np.zeros(one.shape[1], BOUNDARY_FIELDS)
    out["first"], out["second"] = labels[tuple(one)], labels[tuple(other)]
    out["rx"], out["ry"] = (one + other) / 2
    for name in ("angle_deg", "ux", "uy", "uz"):
        out[name] = np.nan
    kind = np.where(phase[out["first"]] == phase[out["second"]], phase[out["first"]], -1)
    for part, k in _by_phase(kind, len(crystals)):
        A, B = (matrices[tuple(side[:, part])] for side in (one, other))
        out["angle_deg"][part] = misorientation_deg(A, B, crystals[k])
        axes = _axes(_equivalent(B, A, crystals[k].rotations)[0] @ A.swapaxes(1, 2))
        out["ux"][part], out["uy"][part], out["uz"][part] = axes.T
        out["twin"][part] = _twins(A, B, crystals[k])
    return out


def _axes(between: Float) -> Float:
    """Axis of rotations (m, 3, 3), unit; NaN of none."""
    # The vector of the quaternion: also right near half a turn, unlike the antisymmetric part.
    from scipy.spatial.transform import Rotation

    vector = Rotation.from_matrix(between).as_rotvec() if len(between) else np.empty((0, 3))
    length = np.linalg.norm(vector, axis=1, keepdims=True)
    return np.asarray(np.divide(vector, length, out=np.full_like(vector, np.nan),
                                where=length > 1e-9))  # fmt: skip


def _twins(A: Float, B: Float, crystal: Crystal) -> Bool:
    """Whether pairs are 60° about <111> apart; no crystal that is not cubic has these twins."""
    if len(crystal.rotations) not in _WITH_TWINS or len(set(crystal.cell[:3])) != 1:
        return np.zeros(len(A), bool)
    from scipy.spatial.transform import Rotation

    axes = np.array(_DIAGONALS) / math.sqrt(3)
    turns = Rotation.from_rotvec(axes * math.radians(60)).as_matrix()
    apart = [misorientation_deg(A, turn @ B, crystal) for turn in turns]
    return np.asarray(np.min(apart, axis=0) <= _SIGMA_3_DEG)
