"""Classes of positions by which Bragg spots they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.points import PointTable
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.classes.result import NOT_CLASSIFIED, Classes, classes_of
from py4DSTEM.process.classes.spots import CommonSpots, FindCommonSpots, spot_matrix
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

if TYPE_CHECKING:
    from scipy.sparse import csr_array

__all__ = ["ClassifyBragg", "class_peaks", "classify_bragg"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Groups = list[NDArray[np.int64]]
Strength = Literal["root", "intensity", "presence"]

_ROUNDS = 6
"""Of merging, splitting and refining; each ends when nothing changes."""
_STILL = 1e-3
"""Largest change of a spectrum (of length one) after which refinement ends."""
_SHARE_OF_SPOTS = 0.5
"""Of the spots of a class that a position must have to say what the class looks like at first."""
_COMMON = 0.2
"""Share of the positions of a class that must have a spot for the spot to speak in a split."""
CLASS_PEAKS = np.dtype([("qx", "f8"), ("qy", "f8"), ("intensity", "f8"), ("share", "f8")])


@dataclass(frozen=True, eq=False)
class _Factors:
    """X ≈ amounts (positions, n) · spectra (n, spots), spectra of length one."""

    amounts: Float
    spectra: Float


class ClassifyBragg(Analysis, kind="bragg-classes", version=1):
    """Classes of positions by the Bragg spots that they share: grains and phases.

    Peaks are assigned to the common spots of the scan.  Spots that appear together start a class;
    the classes are refined as a non-negative factorisation of the strengths of the spots at all
    positions; those that are everywhere together are merged, those whose spots exclude each other
    are split.  Positions without the spots of any class are not classified.
    """

    n: int | None = Field(None, ge=1, description="Most classes; None: as many as there are.")
    tolerance_px: float | None = Field(
        None, gt=0, description="Farthest that a peak may be from its spot; None: chosen."
    )
    min_positions: int | None = Field(
        None, ge=1, description="Fewest positions with a spot, and in a class; None: chosen."
    )
    min_spots: int = Field(2, ge=1, description="Fewest spots of a class.")
    together: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Least co-occurrence of spots that start a class: positions with both over the "
        "geometric mean of those with either.",
    )
    strength: Strength = Field(
        "root",
        description="What of a spot counts: the root of its intensity, which all noise is alike "
        "in; the intensity; whether it is there.",
    )
    iterations: int = Field(40, ge=0, le=10_000, description="Rounds of each refinement.")
    merge_above: float = Field(
        0.75,
        gt=0,
        le=1,
        description="Classes are merged whose maps, or whose spots, have a cosine above this.",
    )
    split: bool = Field(True, description="Split classes whose spots exclude each other.")
    separate: bool = Field(
        False, description="Make every connected region a class of its own, such as twins apart."
    )
    least: float = Field(
        0.3,
        ge=0,
        le=1,
        description="A position belongs to a class that it holds so much of, relative to what is "
        "usual for the class.",
    )

    accepts: ClassVar[tuple[type, ...]] = (PointTable,)
    cites: ClassVar[tuple[str, ...]] = ("10.1587/transfun.E92.A.708",)

    def apply(self, value: Any, options: RunOptions | None = None) -> Classes:
        """The classes of a table of peaks; `options` are not needed."""
        self.check(value)
        spots = FindCommonSpots(
            tolerance_px=self.tolerance_px, min_positions=self.min_positions
        ).apply(value)
        if not len(spots):
            raise ParameterError(
                f"no place in diffraction space is common to positions ({len(value)} peaks at "
                f"{math.prod(value.shape)} positions): lower min_positions, enlarge tolerance_px, "
                "or find more peaks"
            )
        matrix = spot_matrix(value, spots)
        factors = self._factors(self._strengths(matrix), self._least_positions(value))
        labels = self._labels(factors).reshape(value.shape)
        return self._result(value, spots, factors, labels)

    # ---- what is counted ---------------------------------------------------------------------
    def _least_positions(self, peaks: PointTable) -> int:
        return self.min_positions or max(3, math.ceil(0.004 * math.prod(peaks.shape)))

    def _strengths(self, matrix: csr_array) -> csr_array:
        powers = {"root": 0.5, "intensity": 1.0, "presence": 0.0}
        strengths = matrix.copy()
        strengths.data = strengths.data ** powers[self.strength]
        # In one unit whatever the dose.
        strengths.data /= max(float(strengths.data.mean()), 1e-300) if strengths.nnz else 1.0
        return strengths

    # ---- start, refinement, merge and split --------------------------------------------------
    def _factors(self, x: csr_array, least: int) -> _Factors:
        groups = seeds(x, self.together, self.min_spots)
        groups = groups[: self.n]
        if not groups:
            raise ParameterError(
                f"no {self.min_spots} of {x.shape[1]} common spots appear together: lower "
                "together or min_spots"
            )
        factors = self._refined(x, start(x, groups))
        for _ in range(_ROUNDS):
            before = len(factors.spectra)
            factors = self._merged(x, factors)
            merged = len(factors.spectra)
            factors = self._split(x, factors, least)
            factors = self._without_small(x, factors, least)
            if before == merged == len(factors.spectra):
                break
        return factors

    def _refined(self, x: csr_array, factors: _Factors) -> _Factors:
        return refine(x, factors, self.iterations)

    def _merged(self, x: csr_array, factors: _Factors) -> _Factors:
        """The most alike pair made one, again and again."""
        merged = factors
        while len(merged.spectra) > 1:
            maps = merged.amounts / np.maximum(np.linalg.norm(merged.amounts, axis=0), 1e-300)
            alike = np.maximum(maps.T @ maps, merged.spectra @ merged.spectra.T)
            np.fill_diagonal(alike, 0.0)
            a, b = np.unravel_index(int(alike.argmax()), alike.shape)
            if alike[a, b] <= self.merge_above:
                break
            merged = _one_of(merged, int(a), int(b))
        return factors if merged is factors else self._refined(x, merged)

    def _split(self, x: csr_array, factors: _Factors, least: int) -> _Factors:
        """Classes whose common spots fall into groups that exclude each other."""
        if not self.split or (self.n is not None and len(factors.spectra) >= self.n):
            return factors
        labels = self._labels(factors)
        pieces: list[Float] = []
        for k, spectrum in enumerate(factors.spectra):
            groups = self._groups_within(x, np.flatnonzero(labels == k), least)
            pieces += groups if len(groups) > 1 else [spectrum]
        if len(pieces) == len(factors.spectra):
            return factors
        spectra = np.stack(pieces)[: self.n]
        return self._refined(x, project(x, spectra))

    def _groups_within(self, x: csr_array, rows: NDArray[np.int64], least: int) -> list[Float]:
        """Mean spectra of the groups of positions that one class falls into."""
        if len(rows) < 2 * least:
            return []
        part = x[rows]
        common = np.flatnonzero((part > 0).sum(axis=0) >= max(least, _COMMON * len(rows)))
        groups = [common[g] for g in seeds(part[:, common], self.together / 2, self.min_spots)]
        spectra = []
        for group in groups:
            there = np.flatnonzero(_share_of(part, group) >= _SHARE_OF_SPOTS)
            if len(there) >= least:
                spectra.append(_mean_row(part, there))
        return spectra

    def _without_small(self, x: csr_array, factors: _Factors, least: int) -> _Factors:
        labels = self._labels(factors)
        sizes = np.bincount(labels[labels >= 0], minlength=len(factors.spectra))
        keep = sizes >= min(least, int(sizes.max(initial=0)))
        if keep.all():
            return factors
        return self._refined(x, _Factors(factors.amounts[:, keep], factors.spectra[keep]))

    # ---- result ------------------------------------------------------------------------------
    def _labels(self, factors: _Factors) -> NDArray[np.int32]:
        """The class that a position holds most of; −1 where it holds little of any."""
        best = factors.amounts.argmax(axis=1)
        columns = enumerate(factors.amounts.T)
        usual = np.array([_usual(amount[best == k]) for k, amount in columns])
        most = factors.amounts[np.arange(len(best)), best]
        enough = (most > 0) & (most >= self.least * usual[best])
        return np.where(enough, best, NOT_CLASSIFIED).astype(np.int32)

    def _result(
        self, peaks: PointTable, spots: CommonSpots, factors: _Factors, labels: NDArray[np.int32]
    ) -> Classes:
        of = np.arange(len(factors.spectra))
        if self.separate:
            labels, of = connected(labels)
        amounts = factors.amounts.reshape(*labels.shape, -1)[..., of]
        if self.separate:
            amounts = np.where(labels[..., None] == np.arange(len(of)), amounts, 0.0)
        return classes_of(
            labels,
            amounts,
            components=factors.spectra[of],
            feature_names=spots.names,
            method="Bragg spots",
            calibration=peaks.calibration,
            history=self.history(peaks.history),
            name="Bragg classes",
            report={
                "spots_px": [[float(v) for v in row] for row in spots.vectors_px],
                "tolerance_px": float(spots.tolerance_px),
                "strength": self.strength,
            },
        )


def classify_bragg(
    peaks: PointTable,
    n: int | None = None,
    *,
    tolerance_px: float | None = None,
    min_positions: int | None = None,
    min_spots: int = 2,
    together: float = 0.5,
    strength: Strength = "root",
    iterations: int = 40,
    merge_above: float = 0.75,
    split: bool = True,
    separate: bool = False,
    least: float = 0.3,
) -> Classes:
    """Classes of positions by the Bragg spots that they share: grains and phases.

    Parameters
    ----------
    peaks : BraggPeaks
        With a calibrated origin.
    n : int, optional
        Most classes; None: as many as there are.
    tolerance_px : float, optional
        Farthest that a peak may be from its spot; None: half the radius of a disk, at least 1.
    min_positions : int, optional
        Fewest positions with a spot, and in a class; None: 0.4 % of the scan, at least 3.
    min_spots : int
        Fewest spots of a class.
    together : float
        Least co-occurrence ``n_ij / √(n_i n_j)`` of spots that start a class.
    strength : "root", "intensity" or "presence"
        What of a spot counts.
    iterations : int
        Rounds of each refinement.
    merge_above : float
        Classes are merged whose maps, or whose spots, have a cosine above this.
    split : bool
        Split classes whose spots exclude each other.
    separate : bool
        Make every connected region a class of its own.
    least : float
        A position belongs to a class that it holds so much of, relative to the median of the class.

    Returns
    -------
    Classes
        Label −1 where a position has the spots of no class (amorphous, vacuum).  ``weights`` are
        amounts, ``components`` (n, n_spots) the spots of each class; `class_peaks` lists them.

    Raises
    ------
    ParameterError
        No spots are common to positions, or none appear together.
    CalibrationMissing
        The origin is not known.

    Notes
    -----
    ``X ≈ W H``, X (positions, spots) the strengths, W, H ≥ 0, by hierarchical alternating least
    squares (doi:10.1587/transfun.E92.A.708) from the groups of spots that appear together.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.polycrystal((12, 10), (96, 96), grains=3, seed=3)
    >>> classes = classify_bragg(scan.truth.peaks())
    >>> classes.n, len({(int(a), int(b)) for a, b in zip(classes.labels.flat,
    ...     scan.truth.labels.flat)})
    (3, 3)
    """
    step = ClassifyBragg(
        n=n,
        tolerance_px=tolerance_px,
        min_positions=min_positions,
        min_spots=min_spots,
        together=together,
        strength=strength,
        iterations=iterations,
        merge_above=merge_above,
        split=split,
        separate=separate,
        least=least,
    )
    return step.apply(peaks)


def class_peaks(classes: Classes, which: int | str, *, least_share: float = 0.05) -> NDArray[Any]:
    """The Bragg spots of one class, the strongest first.

    Parameters
    ----------
    classes : Classes
        From `classify_bragg`.
    which : int or str
        Number or name of the class.
    least_share : float
        Spots with less than this share of the strongest are left out.

    Returns
    -------
    (n,) structured array
        ``qx, qy`` calibrated vectors in detector pixels, ``intensity`` relative to the strongest,
        ``share`` of the class in the spot, among all classes.

    Raises
    ------
    ParameterError
        The classes were not made from Bragg spots.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.polycrystal((12, 10), (96, 96), grains=3, seed=3)
    >>> spots = class_peaks(classify_bragg(scan.truth.peaks()), 0)
    >>> float(spots["intensity"][0])
    1.0
    """
    places = classes.report.get("spots_px")
    if places is None or classes.components is None:
        raise ParameterError("these classes know no Bragg spots: classify_bragg(peaks) makes some")
    powers = {"root": 2.0, "intensity": 1.0, "presence": 1.0}
    strengths = classes.components ** powers[str(classes.report["strength"])]
    mine = strengths[classes.index(which)]
    found = np.zeros(len(mine), CLASS_PEAKS)
    found["qx"], found["qy"] = np.asarray(places, np.float64).T
    found["intensity"] = mine / max(float(mine.max()), 1e-300)
    found["share"] = mine / np.maximum(strengths.sum(axis=0), 1e-300)
    kept = found[found["intensity"] >= max(least_share, 1e-12)]
    return kept[np.argsort(-kept["intensity"], kind="stable")]


# ---- groups of spots that appear together --------------------------------------------------------
def seeds(x: csr_array, together: float, min_spots: int) -> Groups:
    """Spots that appear together, the largest groups first.

    From the spot with the most company the group grows by the spot that is, on average, most often
    where its members are; a group ends where that falls below `together`.
    """
    there = (x > 0).astype(np.float64)
    both = (there.T @ there).toarray()
    alone = np.sqrt(np.maximum(np.diag(both), 1.0))
    company = both / alone[:, None] / alone
    np.fill_diagonal(company, 0.0)
    free = np.diag(both) > 0
    groups: Groups = []
    while free.any():
        weight = np.where(free, (company * (company >= together))[:, free].sum(axis=1), -1.0)
        group = _grown(company, int(weight.argmax()), free, together)
        free[group] = False
        groups.append(np.array(group, np.int64))
    kept = [g for g in groups if len(g) >= min_spots]
    return sorted(kept, key=lambda g: -float(both[np.ix_(g, g)].sum()))


def _grown(company: Float, first: int, free: Bool, together: float) -> list[int]:
    group, sums = [first], company[first].copy()
    open_ = free.copy()
    open_[first] = False
    while open_.any():
        nearest = int(np.where(open_, sums, -1.0).argmax())
        if sums[nearest] < together * len(group):
            break
        group.append(nearest)
        open_[nearest] = False
        sums += company[nearest]
    return group


def start(x: csr_array, groups: Sequence[NDArray[np.int64]]) -> _Factors:
    """Mean strengths of the positions that have most spots of each group."""
    spectra = []
    for group in groups:
        share = _share_of(x, group)
        spectra.append(_mean_row(x, np.flatnonzero(share >= min(_SHARE_OF_SPOTS, share.max()))))
    return project(x, np.stack(spectra))


def _share_of(x: csr_array, group: NDArray[np.int64]) -> Float:
    """Share of the spots of a group that each position has."""
    share: Float = np.asarray((x[:, group] > 0).sum(axis=1), np.float64).ravel() / len(group)
    return share


def _mean_row(x: csr_array, rows: NDArray[np.int64]) -> Float:
    mean: Float = np.asarray(x[rows].mean(axis=0), np.float64).ravel()
    return mean


# ---- factorisation -------------------------------------------------------------------------------
def project(x: csr_array, spectra: Float) -> _Factors:
    """Amounts that go with given spectra."""
    spectra = _of_length_one(spectra)[0]
    amounts = np.maximum(x @ spectra.T, 0.0)
    return _Factors(_half_step(amounts, x @ spectra.T, spectra @ spectra.T, rounds=10), spectra)


def refine(x: csr_array, factors: _Factors, iterations: int) -> _Factors:
    """Hierarchical alternating least squares from a start, until the spectra stand still."""
    amounts, spectra = factors.amounts, factors.spectra
    turned = x.T.tocsr()
    for _ in range(iterations):
        before = spectra
        amounts = _half_step(amounts, x @ spectra.T, spectra @ spectra.T)
        spectra = _half_step(spectra.T, turned @ amounts, amounts.T @ amounts).T
        spectra, length = _of_length_one(spectra)
        amounts = amounts * length
        if np.abs(spectra - before).max() < _STILL:
            break
    return _Factors(amounts, spectra)


def _half_step(factor: Float, target: Float, gram: Float, rounds: int = 1) -> Float:
    """Column after column of one factor by least squares, none below zero."""
    # One column after the other in memory, as they are worked on.
    out, aim = np.array(factor.T, order="C"), np.ascontiguousarray(target.T)
    for _ in range(rounds):
        for k in range(len(out)):
            change = (aim[k] - gram[k] @ out) / max(float(gram[k, k]), 1e-12)
            np.maximum(out[k] + change, 0.0, out=out[k])
    return out.T


def _of_length_one(spectra: Float) -> tuple[Float, Float]:
    length = np.linalg.norm(spectra, axis=1)
    return spectra / np.maximum(length, 1e-300)[:, None], length


def _one_of(factors: _Factors, a: int, b: int) -> _Factors:
    """Two classes as one: the sum of both."""
    weights = np.linalg.norm(factors.amounts[:, [a, b]], axis=0)
    spectrum = weights @ factors.spectra[[a, b]]
    spectrum /= max(float(np.linalg.norm(spectrum)), 1e-300)
    amount = factors.amounts[:, [a, b]] @ (factors.spectra[[a, b]] @ spectrum)
    rest = [k for k in range(len(factors.spectra)) if k not in (a, b)]
    return _Factors(
        np.column_stack([factors.amounts[:, rest], amount]),
        np.vstack([factors.spectra[rest], spectrum]),
    )


# ---- labels --------------------------------------------------------------------------------------
def _usual(amounts: Float) -> float:
    return float(np.median(amounts)) if len(amounts) else 0.0


def connected(labels: NDArray[np.int32]) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Connected regions (also across corners) of each class as classes, and of which class."""
    from scipy import ndimage  # slow to import

    out = np.full(labels.shape, NOT_CLASSIFIED, np.int32)
    of: list[int] = []
    for k in range(int(labels.max(initial=NOT_CLASSIFIED)) + 1):
        regions, count = ndimage.label(labels == k, np.ones((3, 3)))
        out[regions > 0] = regions[regions > 0] - 1 + len(of)
        of += [k] * int(count)
    return out, np.array(of or [0], np.int64)
