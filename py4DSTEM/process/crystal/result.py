"""What an orientation map is: one or more orientations of a crystal at every scan position."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.crystal import Crystal
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ShapeError
from py4DSTEM.io.store.schema import register_result

__all__ = ["REASONS", "OrientationMap", "misorientation_deg"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]

REASONS = ("indexed", "too few peaks", "no orientation explains them", "no origin")
"""Why a position has an orientation or none, by number."""


@dataclass(frozen=True, eq=False, repr=False)
class OrientationMap:
    """Orientations of a crystal at every scan position, the best match first.

    An orientation is a proper matrix R (3, 3) whose columns are the sample axes x (rows, down),
    y (columns, right) and z = x × y (against the electrons) in the Cartesian axes of the crystal:
    a vector g of the crystal has the components ``Rᵀ g`` along them.

    Parameters
    ----------
    matches : (Rx, Ry, n, 3, 3) float64
        NaN where there is none: never a guess.
    alternative : (Rx, Ry, n, 3, 3) float64
        The crystal turned by half a turn about its zone axis: a pattern of reflections of one zone
        looks the same, so that only the others tell.  NaN where symmetry makes it the same.
    score : (Rx, Ry, n) float64
        Logarithm of how much better the crystal explains the peaks than chance does (nats).
    gap, gap_alternative : (Rx, Ry, n) float64
        By how much it is better than the best that is neither the same nor `alternative`, and than
        `alternative`; inf where there is no other.
    reliability : (Rx, Ry, n) float64
        From 0 to 1: how probable it is that the orientation, or its alternative, is right.
    ambiguous : (Rx, Ry, n) bool
        The alternative explains the peaks nearly as well.
    covariance : (Rx, Ry, n, 3, 3) float64
        Of small rotations about the sample axes x, y, z, in rad².
    n_matched : (Rx, Ry, n) int64
        Peaks explained.
    share : (Rx, Ry, n) float64
        Share of the amplitude (root of intensity) of all scattered peaks that they have.
    distance_A : (Rx, Ry, n) float64
        Rms distance between these peaks and the crystal's, Å⁻¹.
    n_peaks : (Rx, Ry) int64
        Scattered peaks within reach.
    reason : (Rx, Ry) uint8
        A number of `REASONS`.
    crystal : Crystal
    calibration : Calibration
        With the pixel size and ellipse that fit the crystal, where these were refined.
    report : mapping
        What was chosen and found, counts, and doubts.
    """

    matches: Float
    alternative: Float
    score: Float
    gap: Float
    gap_alternative: Float
    reliability: Float
    ambiguous: Bool
    covariance: Float
    n_matched: NDArray[np.int64]
    share: Float
    distance_A: Float
    n_peaks: NDArray[np.int64]
    reason: NDArray[np.uint8]
    crystal: Crystal
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "orientations"
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.matches.ndim != 5 or self.matches.shape[3:] != (3, 3):
            raise ShapeError(f"orientations are (Rx, Ry, n, 3, 3), not {self.matches.shape}")
        whole = self.matches.shape[:3]
        tails = {"alternative": (3, 3), "covariance": (3, 3)}
        for name in ("alternative", "covariance", "score", "gap", "gap_alternative", "reliability",
                     "ambiguous", "n_matched", "share", "distance_A"):  # fmt: skip
            expected = (*whole, *tails.get(name, ()))
            if getattr(self, name).shape != expected:
                raise ShapeError(f"{name} is {expected}, not {getattr(self, name).shape}")
        for name in ("n_peaks", "reason"):
            if getattr(self, name).shape != whole[:2]:
                raise ShapeError(f"{name} is {whole[:2]}, not {getattr(self, name).shape}")

    # ---- the best match --------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int]:
        """Scan shape."""
        return self.matches.shape[0], self.matches.shape[1]

    @property
    def n_matches(self) -> int:
        """Orientations that a position may have."""
        return int(self.matches.shape[2])

    @property
    def matrices(self) -> Float:
        """The best match at each position, (Rx, Ry, 3, 3); NaN where there is none."""
        return self.matches[:, :, 0]

    @property
    def indexed(self) -> Bool:
        """Where there is an orientation, (Rx, Ry)."""
        return np.asarray(np.isfinite(self.matches[:, :, 0, 0, 0]))

    @property
    def sigma_deg(self) -> Float:
        """One-sigma angle of the error of every match, (Rx, Ry, n), degrees.

        Root of the trace of `covariance`: the rms angle between the match and the truth.
        """
        trace = np.trace(self.covariance, axis1=-2, axis2=-1)
        return np.asarray(np.degrees(np.sqrt(trace)))

    # ---- views -----------------------------------------------------------------------------------
    def directions(self, sample: ArrayLike = (0.0, 0.0, 1.0)) -> Float:
        """The crystal direction (unit, Cartesian) along a sample direction, (Rx, Ry, 3)."""
        along = np.asarray(sample, np.float64)
        if along.shape != (3,) or not np.linalg.norm(along) > 0:
            raise ShapeError(f"a sample direction is (x, y, z), not {sample!r}")
        return np.asarray(self.matrices @ (along / np.linalg.norm(along)))

    def misorientation_deg(self, other: ArrayLike) -> Float:
        """Smallest angle from the best match to orientations (..., 3, 3); see the function."""
        return misorientation_deg(self.matrices, other, self.crystal)

    def to_slice(self) -> RealSlice:
        """Score, reliability, sigma and number of matched peaks as one labelled stack."""
        maps = {
            "score": self.score[:, :, 0],
            "reliability": self.reliability[:, :, 0],
            "sigma (deg)": self.sigma_deg[:, :, 0],
            "matched peaks": self.n_matched[:, :, 0].astype(np.float64),
            "explained amplitude": self.share[:, :, 0],
        }
        return RealSlice(
            np.stack(list(maps.values())),
            self.calibration,
            self.history,
            self.name,
            tuple(maps),
            "",
        )

    def to_orix(self) -> Any:
        """A crystal map of orix; see `to_orix`."""
        from py4DSTEM.process.crystal.interop import to_orix  # knows this module

        return to_orix(self)

    def save_ang(self, path: str | PathLike[str]) -> None:
        """Write an .ang file (EDAX); see `save_ang`."""
        from py4DSTEM.process.crystal.ebsd_files import save_ang

        save_ang(path, self)

    def save_ctf(self, path: str | PathLike[str]) -> None:
        """Write a .ctf file (Oxford); see `save_ctf`."""
        from py4DSTEM.process.crystal.ebsd_files import save_ctf

        save_ctf(path, self)

    def text(self) -> str:
        """Counts and typical numbers, one per line."""
        found = self.indexed
        lines = [f"{self.name}: {int(found.sum())} of {found.size} positions, {self.crystal.name}"]
        if found.any():
            sigma, sure = self.sigma_deg[found][:, 0], self.reliability[found][:, 0]
            lines += [
                f"error: {np.median(sigma):.2g}° (median of the one-sigma angles)",
                f"reliability: median {np.median(sure):.3f}, {np.mean(sure > 0.95):.0%} above 0.95",
                f"ambiguous by half a turn: {int(self.ambiguous[found][:, 0].sum())}",
            ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<OrientationMap {self.name!r} {self.shape}, {self.crystal.name}, "
            f"{int(self.indexed.sum())} indexed>"
        )


def misorientation_deg(first: ArrayLike, second: ArrayLike, crystal: Crystal) -> Float:
    """Smallest rotation between orientations, over the symmetry of the crystal.

    Parameters
    ----------
    first, second : (..., 3, 3) float64
        Orientations as in `OrientationMap`; their leading shapes broadcast.
    crystal : Crystal

    Returns
    -------
    (...) float64
        Degrees; NaN where an orientation is.

    Notes
    -----
    ``min over S of 2 asin(|S A Bᵀ − 1| / √8)`` over the proper rotations S of the Laue group.

    Examples
    --------
    >>> gold = Crystal.common("Au")
    >>> quarter = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    >>> bool(misorientation_deg(np.eye(3), quarter, gold) < 1e-9)
    True
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape[-2:] != (3, 3) or b.shape[-2:] != (3, 3):
        raise ShapeError(f"orientations are (..., 3, 3), not {a.shape} and {b.shape}")
    between = a @ np.swapaxes(b, -1, -2)
    nearest = np.einsum("kij,...ji->...k", crystal.rotations, between).argmax(axis=-1)
    left = crystal.rotations[nearest] @ between - np.eye(3)
    # |R − 1| = 2√2 sin(θ/2): exact for small angles, where the trace is not.
    sine = np.sqrt((left**2).sum(axis=(-1, -2)) / 8)
    return np.asarray(np.degrees(2 * np.arcsin(np.minimum(sine, 1.0))))


def _to_parts(value: OrientationMap) -> dict[str, Any]:
    return {
        **vars(value),
        "crystal": value.crystal.plain(),
        "history": value.history.to_dict(),
        "report": dict(value.report),
    }


def _from_parts(parts: Mapping[str, Any]) -> OrientationMap:
    crystal, history = Crystal.of(parts["crystal"]), History.from_dict(parts["history"])
    return OrientationMap(**{**parts, "crystal": crystal, "history": history})


register_result("orientation-map", OrientationMap, _to_parts, _from_parts)
