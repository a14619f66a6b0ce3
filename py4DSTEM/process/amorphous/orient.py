"""Orientation of fibre-like samples: arcs on a ring of every pattern."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Detector
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.amorphous.arcs import find_arcs
from py4DSTEM.process.amorphous.around import Around, AroundPlan
from py4DSTEM.process.radial import Units, as_detector
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["Orientation", "OrientationResult", "orientation_distribution"]

Float = NDArray[np.float64]
_FRAMES = 64
_FIELDS = ("angle", "sigma", "strength", "significance", "width")


@dataclass(frozen=True, eq=False)
class OrientationResult:
    """Directions in which the pattern of every position has arcs.

    Parameters
    ----------
    angle_rad, sigma_rad : (Rx, Ry, arcs) float64
        Direction of each arc from x towards y of the calibrated axes, from 0 to π, strongest first,
        and its uncertainty by counting; NaN where there is none.
    strength : (Rx, Ry, arcs) float64
        Share of the intensity of the ring above its background that is in the arc, 0 to 1.
    significance : (Rx, Ry, arcs) float64
        Intensity of the arc over its uncertainty.
    width_rad : (Rx, Ry, arcs) float64
        Full width at half maximum.
    order : (Rx, Ry) float64
        S = ⟨cos 2(φ − φ₁)⟩ of the intensity above the background about the strongest arc: 1 all in
        one direction, 0 in none.  NaN without an arc.
    herman : (Rx, Ry) float64
        (3⟨cos² χ⟩ − 1)/2 about the same axis, for fibre symmetry.
    mean : (Rx, Ry) float64
        Mean intensity per pixel of the ring.
    histogram : (m,) float64
        Intensity of all arcs of the scan by direction, m bins from 0 to π; its sum is one.
    turned : bool
        Whether the angles are those of the sample's direction across the scattering vectors.
    """

    angle_rad: Float
    sigma_rad: Float
    strength: Float
    significance: Float
    width_rad: Float
    order: Float
    herman: Float
    mean: Float
    histogram: Float
    turned: bool
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "orientation"

    @property
    def count(self) -> NDArray[np.int64]:
        """Arcs of each position, (Rx, Ry)."""
        found: NDArray[np.int64] = np.isfinite(self.angle_rad).sum(axis=2)
        return found

    @property
    def director(self) -> Float:
        """Unit vector along the strongest arc, (Rx, Ry, 2) in x and y; its sign means nothing."""
        angle = self.angle_rad[..., 0]
        return np.stack([np.cos(angle), np.sin(angle)], axis=-1)

    @property
    def histogram_rad(self) -> Float:
        """Middles of the bins of the histogram, (m,)."""
        size = len(self.histogram)
        return (np.arange(size) + 0.5) * np.pi / size

    @property
    def angle(self) -> RealSlice:
        """Direction of the strongest arc, a map in rad."""
        return self._map(self.angle_rad[..., 0], "orientation", "rad")

    @property
    def order_map(self) -> RealSlice:
        """The order parameter S as a map."""
        return self._map(self.order, "order parameter", "")

    def _map(self, values: Float, name: str, units: str) -> RealSlice:
        return RealSlice(values, self.calibration, self.history, name, units=units)

    def __repr__(self) -> str:
        found = int((self.count > 0).sum())
        return f"<OrientationResult {self.count.shape}, arcs at {found} of {self.count.size}>"


register_result("orientation", OrientationResult)


class Orientation(Around, kind="orientation-distribution", version=1):
    """Arcs of a ring in each pattern: their directions, and how well the sample is aligned."""

    r_range: tuple[float, float] = Field(description="Inner and outer radius, in `units`.")
    most: int = Field(3, ge=1, le=20, description="Most arcs per position.")
    min_significance: float = Field(5.0, gt=0, description="Least intensity over its uncertainty.")
    min_separation_rad: float = Field(
        0.2, gt=0, lt=math.pi / 2, description="Least angle between two arcs."
    )
    smoothing_rad: float = Field(
        0.05,
        ge=0,
        lt=0.8,
        description="Standard deviation of the smoothing in which arcs are found.",
    )
    across: bool = Field(
        False, description="Give the direction across the scattering vectors, as of fibres that "
        "scatter by the distance between their chains.",
    )  # fmt: skip
    bins: int = Field(90, ge=4, le=3600, description="Of the histogram of directions.")

    cites: ClassVar[tuple[str, ...]] = ("10.1016/j.micron.2016.05.008",)
    outputs: ClassVar[Mapping[str, Output]] = {
        "arcs": PerScan(np.float64),
        "ring": PerScan(np.float64),
    }

    @classmethod
    def examples(cls) -> list[Self]:
        """Instances for the conformance tests."""
        return [cls(r_range=(2.0, 6.0), n_phi=72), cls(r_range=(3.0, 7.0), most=1, across=True)]

    @model_validator(mode="after")
    def _even(self) -> Self:
        if self.n_phi % 2:
            raise ValueError("n_phi must be even: opposite bins belong together")
        return self

    def step_of(self, low: float, high: float) -> float:
        """One ring."""
        return high - low

    def step(self, plan: AroundPlan, tile: Tile, kernels: Kernels) -> Parts:
        arcs, rings = [], []
        for start in range(0, len(tile.frames), _FRAMES):
            values = plan.means(tile, slice(start, start + _FRAMES), kernels)[:, 0]
            profile, noise = _folded(values, plan.middle.area[0], plan.gain, self.read_variance)
            found, order = find_arcs(
                profile, noise, most=self.most, min_significance=self.min_significance,
                separation=self.min_separation_rad, smoothing=self.smoothing_rad,
            )  # fmt: skip
            arcs.append(found)
            rings.append(order)
        return {"arcs": np.concatenate(arcs), "ring": np.concatenate(rings)}

    def finish(
        self, cube: Cube, plan: AroundPlan, parts: Parts, history: History
    ) -> OrientationResult:
        named = dict(zip(_FIELDS, np.moveaxis(parts["arcs"], -1, 0), strict=True))
        angle = _in_axes(named["angle"], cube.calibration) + (np.pi / 2 if self.across else 0.0)
        angle = np.mod(angle, np.pi)
        angle = np.where(angle >= np.pi, 0.0, angle)
        order, herman, mean = np.moveaxis(parts["ring"], -1, 0)
        return OrientationResult(
            angle_rad=angle,
            sigma_rad=named["sigma"],
            strength=named["strength"],
            significance=named["significance"],
            width_rad=named["width"],
            order=order,
            herman=herman,
            mean=mean,
            histogram=_histogram(angle, named["strength"], self.bins),
            turned=self.across,
            calibration=cube.calibration,
            history=history,
        )


def _folded(values: Float, area: Float, gain: float, read: float) -> tuple[Float, Float]:
    """Mean of opposite bins, and its variance by counting, (n, n_phi / 2) each.

    The variance of a bin is that of as many independent pixels as it has area: neighbours that
    share pixels have part of their noise in common, and what is summed over an arc counts once.
    """
    area = np.where(np.isfinite(values), area, 0.0)
    half = values.shape[1] // 2
    both = area[:, :half] + area[:, half:]
    sums = np.where(area > 0, values, 0.0) * area
    known = both > 0
    blank = np.full(both.shape, np.nan)
    mean = np.divide(sums[:, :half] + sums[:, half:], both, out=blank.copy(), where=known)
    variance = gain * np.maximum(mean, 0.0) + read
    return mean, np.divide(variance, both, out=blank, where=known)


def _in_axes(angle: Float, calibration: Calibration) -> Float:
    """Angles around the corrected ring as those in calibrated axes."""
    flipped = np.pi / 2 - angle if calibration.flip else angle
    return flipped + (calibration.rotation_rad or 0.0)


def _histogram(angle: Float, strength: Float, bins: int) -> Float:
    known = np.isfinite(angle) & np.isfinite(strength)
    place = np.minimum((angle[known] * (bins / np.pi)).astype(np.intp), bins - 1)
    counts = np.bincount(place, strength[known], bins).astype(np.float64)
    total = float(counts.sum())
    share: Float = counts / total if total > 0 else counts
    return share


def orientation_distribution(
    cube: Cube,
    r_range: tuple[float, float],
    *,
    units: Units = "px",
    n_phi: int = 180,
    most: int = 3,
    min_significance: float = 5.0,
    min_separation_rad: float = 0.2,
    smoothing_rad: float = 0.05,
    across: bool = False,
    bins: int = 90,
    center: tuple[float, float] | None = None,
    mask: Detector | ArrayLike | None = None,
    follow_origin: bool | None = None,
    gain: float | None = None,
    read_variance: float = 0.0,
    where: ArrayLike | None = None,
    options: RunOptions | None = None,
) -> OrientationResult:
    """Directions of the arcs on a ring of every pattern, as fibres and polymers have.

    Parameters
    ----------
    cube : DataCube
        With an origin, unless `center` is given.
    r_range : (float, float)
        Inner and outer radius of the ring, in `units`.
    units : "px", "mrad", "A^-1" or "nm^-1"
        Unit of `r_range`.
    n_phi : int
        Bins around the ring; even.
    most : int
        Most arcs per position.
    min_significance : float
        Least intensity of an arc above the background, over its uncertainty.
    min_separation_rad, smoothing_rad : float
        Least angle between two arcs; standard deviation of the smoothing in which they are found.
    across : bool
        Turn the angles by a quarter: the direction across the scattering vectors.
    bins : int
        Of the histogram of directions, from 0 to π.
    center : (float, float), optional
        Origin (qx, qy) in pixels; None: as calibrated, for each position where it varies.
    mask : Detector or (Qx, Qy) array, optional
        Pixels that count: those with a weight of at least one half.
    follow_origin : bool, optional
        Whether to use the origin of each position; None: where the calibration holds one.
    gain : float, optional
        Counts per electron; None: 1 for integers, and no noise for floats.
    read_variance : float
        Variance of a pixel without electrons, in counts².
    where : (Rx, Ry) bool, optional
        Positions to compute; others are NaN.
    options : RunOptions, optional

    Returns
    -------
    OrientationResult
        ``.angle_rad`` ± ``.sigma_rad``, ``.order`` (S), ``.herman``, ``.histogram``;
        `flow_lines` follows the directions through the scan.

    Raises
    ------
    CalibrationMissing
        There is no origin, and no `center` was given.
    ParameterError
        No usable pixel between the radii.

    Notes
    -----
    Opposite directions count as one.  The background is the median of the lower half of the
    angular profile.  Arcs are maxima of the smoothed profile; an arc reaches to where the profile
    has its minimum on either side, and its direction is half the argument of ``Σ (I − b) e^{2iφ}``
    there, with the uncertainty that counting gives that sum.  ``S = ⟨cos 2(φ − φ₁)⟩`` and Herman's
    ``(3⟨cos² χ⟩ − 1)/2``, with sin χ as the weight of a ring cut from a fibre pattern, are means
    over all intensity above the background (doi:10.1016/j.micron.2016.05.008).  Angles are in
    calibrated axes: with the rotation and flip of the calibration, those of the scan.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import DataCube
    >>> x, y = np.indices((40, 40)) - 19.5
    >>> arcs = 5 + 60 * np.exp(6 * (np.cos(2 * (np.arctan2(y, x) - 0.6)) - 1))
    >>> cube = DataCube(np.random.default_rng(1).poisson(arcs, (2, 3, 40, 40)))
    >>> found = orientation_distribution(cube, (9, 15), center=(19.5, 19.5))
    >>> bool(np.abs(found.angle_rad[..., 0] - 0.6).max() < 0.05), bool(found.order.min() > 0.7)
    (True, True)
    """
    operation = Orientation(
        r_range=r_range, units=units, n_phi=n_phi, most=most, min_significance=min_significance,
        min_separation_rad=min_separation_rad, smoothing_rad=smoothing_rad, across=across,
        bins=bins, center=center, mask=as_detector(mask), follow_origin=follow_origin, gain=gain,
        read_variance=read_variance,
    )  # fmt: skip
    result: OrientationResult = run(operation, cube, where=where, options=options)
    return result
