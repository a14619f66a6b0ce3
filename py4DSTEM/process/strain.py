"""Strain and rotation of every scan position from its lattice, with uncertainties."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PositiveFloat

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.detector import MaskArray
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import CalibrationMissing, ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.bragg.lattice import LatticeFit
from py4DSTEM.process.resolution import edge_resolution_A, with_unresolved
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.units import unit_factor

__all__ = ["COMPONENTS", "MapStrain", "StrainMap", "strain_map"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Method = Literal["infinitesimal", "polar"]
AxisOf = float | Literal["g1", "g2"] | tuple[int, int]

COMPONENTS = ("e_xx", "e_yy", "e_xy", "theta")
"""Names and order of the components of a strain map."""
SAME_LATTICE = 0.2
"""How far indices, or stretches, of a known lattice may be from whole numbers, or from one."""
LARGEST = {"infinitesimal": (0.2, 0.2), "polar": (0.3, math.pi)}
"""Stretch and turn (rad) from the reference up to which a method takes a lattice for the same.

A turn of 0.2 adds 2 % to infinitesimal strain.
"""


@dataclass(frozen=True, eq=False)
class StrainMap:
    """Strain and rotation of every scan position.

    Parameters
    ----------
    e_xx, e_yy, e_xy : (Rx, Ry) float64
        Strain of the crystal (positive: longer than the reference) along the axes; NaN where
        `mask` is False.
    theta : (Rx, Ry) float64
        Rotation in rad, positive from x towards y.
    covariance : (Rx, Ry, 4, 4) float64
        Of (e_xx, e_yy, e_xy, theta) at each position; NaN where it is not known.
    mask : (Rx, Ry) bool
        True where there is a value.
    reference : (2, 2) float64
        g1 and g2 (rows) of the lattice that counts as unstrained, in calibrated axes.
    reference_covariance : (4, 4) float64
        Of the error that the uncertainty of the reference gives to (e_xx, e_yy, e_xy, theta) of
        all positions alike; not part of `covariance`.  Zero for a known reference.
    axis_angle_rad : float
        Angle from the calibrated x to the x axis of the components, positive towards y.
    method : str
        ``"infinitesimal"`` or ``"polar"`` from lattices; others from other measurements.
    report : mapping
        What was used as the reference, and counts.
    """

    e_xx: Float
    e_yy: Float
    e_xy: Float
    theta: Float
    covariance: Float
    mask: Bool
    reference: Float
    reference_covariance: Float = field(default_factory=lambda: np.zeros((4, 4)))
    axis_angle_rad: float = 0.0
    method: str = "infinitesimal"
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "strain"
    report: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = self.mask.shape
        for name in COMPONENTS:
            if getattr(self, name).shape != shape:
                raise ShapeError(
                    f"{name} has the shape {getattr(self, name).shape}, the mask {shape}"
                )
        if self.covariance.shape != (*shape, 4, 4):
            raise ShapeError(
                f"covariance must have the shape {(*shape, 4, 4)}, not {self.covariance.shape}"
            )

    # ---- uncertainties ---------------------------------------------------------------------------
    def sigma(self, component: str) -> Float:
        """One-sigma uncertainty (Rx, Ry) of a component, without that of the reference."""
        index = COMPONENTS.index(component)
        root: Float = np.sqrt(self.covariance[..., index, index])
        return root

    @property
    def sigma_e_xx(self) -> Float:
        """One-sigma uncertainty of `e_xx`, (Rx, Ry)."""
        return self.sigma("e_xx")

    @property
    def sigma_e_yy(self) -> Float:
        """One-sigma uncertainty of `e_yy`, (Rx, Ry)."""
        return self.sigma("e_yy")

    @property
    def sigma_e_xy(self) -> Float:
        """One-sigma uncertainty of `e_xy`, (Rx, Ry)."""
        return self.sigma("e_xy")

    @property
    def sigma_theta(self) -> Float:
        """One-sigma uncertainty of `theta` in rad, (Rx, Ry)."""
        return self.sigma("theta")

    @property
    def sigma_reference(self) -> Float:
        """One-sigma error (4,) that all positions share because the reference was measured."""
        root: Float = np.sqrt(np.diagonal(self.reference_covariance))
        return root

    # ---- views -----------------------------------------------------------------------------------
    @property
    def shape(self) -> tuple[int, int]:
        """Scan shape."""
        return self.mask.shape[0], self.mask.shape[1]

    def components(self) -> dict[str, Float]:
        """``e_xx, e_yy, e_xy, theta`` by name."""
        return {name: getattr(self, name) for name in COMPONENTS}

    def to_slice(self, *, sigmas: bool = False) -> RealSlice:
        """The components (and their uncertainties) as one labelled stack."""
        maps = self.components()
        if sigmas:
            maps |= {f"sigma_{name}": self.sigma(name) for name in COMPONENTS}
        return RealSlice(
            np.stack(list(maps.values())),
            self.calibration,
            self.history,
            self.name,
            tuple(maps),
            "",
        )

    def rotated(self, angle_rad: float) -> Self:
        """The same strain in axes turned by `angle_rad` from x towards y; theta stays.

        ``e' = A e Aᵀ`` with ``A = [[cos, sin], [−sin, cos]]``; covariances follow.
        """
        turn = turned_axes(angle_rad)
        strain = np.stack([self.e_xx, self.e_yy, self.e_xy], axis=-1)
        e_xx, e_yy, e_xy = np.moveaxis(strain @ turn[:3, :3].T, -1, 0)
        return replace(
            self,
            e_xx=e_xx,
            e_yy=e_yy,
            e_xy=e_xy,
            covariance=_turned(self.covariance, turn),
            reference_covariance=turn @ self.reference_covariance @ turn.T,
            axis_angle_rad=self.axis_angle_rad + angle_rad,
        )

    def text(self) -> str:
        """Median, spread and typical uncertainty of every component, one per line."""
        lines = [
            f"{self.name}: {int(self.mask.sum())} of {self.mask.size} positions, {self.method}, "
            f"x at {math.degrees(self.axis_angle_rad):.2f}° of the calibrated x"
        ]
        lines += [self._line(k, name) for k, name in enumerate(COMPONENTS)]
        return "\n".join(lines)

    def _line(self, index: int, name: str) -> str:
        if not self.mask.any():
            return f"{name}: no values"
        values, sigma = getattr(self, name)[self.mask], self.sigma(name)[self.mask]
        low, middle, high = np.percentile(values, [16, 50, 84])
        known = sigma[np.isfinite(sigma)]
        typical = f"{np.median(known):.1e}" if known.size else "unknown"
        return (
            f"{name}: median {middle:+.3e}, 68 % within [{low:+.3e}, {high:+.3e}], sigma {typical} "
            f"(reference {self.sigma_reference[index]:.1e})"
        )

    def __repr__(self) -> str:
        return (
            f"<StrainMap {self.name!r} {self.shape}, {int(self.mask.sum())} usable, {self.method}>"
        )


def turned_axes(angle_rad: float) -> Float:
    """Matrix (4, 4) from (e_xx, e_yy, e_xy, theta) to those in axes turned by `angle_rad`."""
    c, s = math.cos(angle_rad), math.sin(angle_rad)
    return np.array(
        [
            [c * c, s * s, 2 * s * c, 0.0],
            [s * s, c * c, -2 * s * c, 0.0],
            [-s * c, s * c, c * c - s * s, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ]
    )


def _turned(covariance: Float, turn: Float) -> Float:
    """Covariances (..., 4, 4) in turned axes; strain stays known where theta is not."""
    unknown = np.isnan(covariance)
    unknown[..., :3, :3] |= unknown[..., :3, :3].any(axis=(-2, -1), keepdims=True)
    return np.where(unknown, np.nan, turn @ np.nan_to_num(covariance) @ turn.T)


def _to_parts(strain: StrainMap) -> dict[str, Any]:
    return {**vars(strain), "history": strain.history.to_dict(), "report": dict(strain.report)}


def _from_parts(parts: Mapping[str, Any]) -> StrainMap:
    return StrainMap(**{**parts, "history": History.from_dict(parts["history"])})


register_result("strain-map", StrainMap, _to_parts, _from_parts)


# ---- from lattices -------------------------------------------------------------------------------
class MapStrain(Analysis, kind="strain-map", version=1):
    """Strain and rotation of the lattice of every position relative to a reference."""

    reference: MaskArray | None = Field(
        None, description="(Rx, Ry) of true and false: the unstrained positions; None: all."
    )
    reference_vectors: tuple[tuple[float, float], tuple[float, float]] | None = Field(
        None, description="g1 and g2 of the unstrained lattice, instead of positions."
    )
    axis: AxisOf | None = Field(
        None, description='Direction of x: angle in rad, "g1", "g2" or (h, k); None: calibrated x.'
    )
    method: Method = Field("infinitesimal", description="For small or for large strain.")
    mask: MaskArray | None = Field(None, description="(Rx, Ry) positions to keep; None: all.")
    resolution_A: Literal["auto"] | PositiveFloat | None = Field(
        "auto",
        description="Width (standard deviation, Å) over which the measurement averages, for its "
        "part in the uncertainty; auto: from the probe; None: left out.",
    )

    accepts: ClassVar[tuple[type, ...]] = (LatticeFit,)
    cites: ClassVar[tuple[str, ...]] = ("10.1017/S1431927621000477",)

    def apply(self, value: Any, options: RunOptions | None = None) -> StrainMap:
        """The strain of a lattice fit; `options` are not needed."""
        self.check(value)
        mask = value.mask & _bools("mask", self.mask, value.shape)
        if not mask.any():
            raise ParameterError(
                f"no position of {value.name!r} has a usable lattice ({dict(_why(value))}): there "
                "is nothing to map"
            )
        reference, common, report = self.unstrained(value)
        alike = same_lattice(value.vectors, reference, self.method)
        report |= {"positions of another lattice": int((mask & ~alike).sum())}
        mask = mask & alike
        if not mask.any():
            stretch, turn = LARGEST[self.method]
            raise ParameterError(
                f"no lattice of {value.name!r} is the reference, stretched by less than "
                f"{stretch:.0%} and turned by less than {turn:.2g} rad: choose another reference, "
                'or method="polar" for large turns'
            )
        values, jacobian = _STRAINS[self.method](reference, value.vectors.reshape(-1, 2, 2))
        covariance = _carried(jacobian, value.covariance)
        off = ~mask.ravel()
        values[off], covariance[off] = np.nan, np.nan
        maps = np.ascontiguousarray(values.T).reshape(4, *mask.shape)
        covariance, resolution = self._unresolved(
            maps, covariance.reshape(*mask.shape, 4, 4), value.calibration
        )
        strain = StrainMap(
            **dict(zip(COMPONENTS, maps, strict=True)),
            covariance=covariance,
            mask=mask,
            reference=reference,
            reference_covariance=common,
            method=self.method,
            calibration=value.calibration,
            history=self.history(value.history),
            report={**report, "positions": int(mask.sum()), "resolution (A)": resolution},
        )
        return strain if self.axis is None else strain.rotated(axis_angle_of(self.axis, reference))

    def _unresolved(
        self, maps: Float, covariance: Float, calibration: Calibration
    ) -> tuple[Float, Any]:
        """Covariances with what changes within the resolution, and the resolution in Å."""
        if self.resolution_A is None:
            return covariance, "left out"
        try:
            steps_A = [axis.step * unit_factor(axis.unit, "A") for axis in calibration.R]
            auto = self.resolution_A == "auto"
            width_A = edge_resolution_A(calibration) if auto else float(self.resolution_A)
        except (CalibrationMissing, ParameterError) as error:
            return covariance, f"left out: {error}"
        x, y = (width_A / step for step in steps_A)
        return with_unresolved(maps, covariance, (x, y)), width_A

    def unstrained(self, lattice: LatticeFit) -> tuple[Float, Float, dict[str, Any]]:
        """The reference in `lattice`, and what is known of it.

        g1 and g2 (2, 2), the covariance (4, 4) of the components from it, where it is from.
        """
        if self.reference_vectors is not None:
            if self.reference is not None:
                raise ParameterError("reference and reference_vectors exclude each other")
            known = _in_terms_of(lattice, np.array(self.reference_vectors))
            return known, np.zeros((4, 4)), {"reference": "given lattice vectors"}
        region = _bools("reference", self.reference, lattice.shape) & lattice.mask
        if not region.any():
            raise ParameterError(
                f"the reference region holds no usable lattice ({dict(_why(lattice))}): choose "
                "another region, or give g1 and g2"
            )
        everywhere, covariances = lattice.vectors[region], lattice.covariance[region]
        alike = same_lattice(everywhere, lattice.basis, self.method)
        kept = alike if alike.any() else ~alike
        vectors, covariance = _median_lattice(everywhere[kept], lattice.basis)
        if kept.sum() == 1:
            _, jacobian = infinitesimal(vectors, vectors[None])
            covariance = _carried(jacobian, covariances[kept])[0]
        which = "all positions" if self.reference is None else "region"
        report = {"reference": f"median of {which}", "reference positions": int(kept.sum())}
        return vectors, covariance, report


def strain_map(
    lattice: LatticeFit,
    reference: ArrayLike | Sequence[Any] | None = None,
    *,
    axis: AxisOf | None = None,
    method: Method = "infinitesimal",
    mask: ArrayLike | None = None,
    resolution_A: Literal["auto"] | float | None = "auto",
) -> StrainMap:
    """Strain and rotation of every scan position relative to a reference lattice.

    Parameters
    ----------
    lattice : LatticeFit
    reference : (Rx, Ry) bool, ((x0, x1), (y0, y1)), (g1, g2) or None
        What counts as unstrained: the lattice of median strain and rotation among the positions of
        a mask, or of rows x0 to x1 and columns y0 to y1 (ends excluded; four integers), or all
        (None); or any basis of a known lattice (floats, in ``lattice.unit``, calibrated axes),
        which gives absolute strain.
    axis : float, "g1", "g2" or (h, k), optional
        Direction of the x axis of the components: an angle in rad from the calibrated x towards y,
        or along the reference lattice vector ``h g1 + k g2``; None: the calibrated x.
    method : "infinitesimal" or "polar"
        For small strain and rotation (up to 0.2 rad); or exact for large ones.
    mask : (Rx, Ry) bool, optional
        Positions to map; others, and those without a usable lattice, are NaN; so are those of
        another lattice (stretched by more than 20 %, polar 30 %: another phase or zone axis), which
        ``report`` counts.
    resolution_A : "auto", float or None
        Standard deviation (Å) of the Gaussian over which a measurement averages the strain, for
        its part in the uncertainty; "auto": ``0.86 / q_r`` from the radius of the probe, where
        that, the pixel size and the scan step are calibrated; None: left out.

    Returns
    -------
    StrainMap

    Raises
    ------
    ParameterError
        The reference holds no usable position, spans no lattice or one that is not that of the
        fit, or no position is left.
    ShapeError
        A mask has not the shape of the scan.

    Notes
    -----
    With the lattice vectors as rows, ``g = g0 β``.  Infinitesimal: ``e_xx = 1 − β_xx``,
    ``e_yy = 1 − β_yy``, ``e_xy = −(β_xy + β_yx) / 2``, ``theta = (β_xy − β_yx) / 2``, positive from
    x towards y; its error is of second order in strain and rotation.  Polar: the deformation
    gradient of the crystal is ``F = β⁻¹ = R U`` with the rotation R by theta and the symmetric
    stretch U; the strain is ``U − 1``, in the axes of the unrotated crystal.

    ``covariance`` is that of the lattice, carried to the components to first order, plus what the
    measurement cannot resolve: it is an average over the probe and its surroundings, and differs
    from the strain at the position where that changes within the resolution.  Where the map changes
    clearly when it is averaged once more, the square of the difference, less its noise, is added.
    The error of
    the reference moves all positions alike and is kept apart, in ``reference_covariance`` (from the
    scatter of its positions: true variation inside the reference counts; zero for a lattice that is
    given).

    Method: doi:10.1017/S1431927621000477.

    Examples
    --------
    >>> import py4DSTEM
    >>> scan = py4DSTEM.simulate.strained_lattice((8, 8), strain=None, seed=1)
    >>> lattice = py4DSTEM.fit_lattice(scan.truth.peaks())
    >>> strain = strain_map(lattice, scan.truth.reference)
    >>> bool(abs(strain.e_xx - scan.truth.e_xx).max() < 1e-12)
    True
    """
    region, vectors = reference_of(reference, lattice)
    return MapStrain(
        reference=region,
        reference_vectors=vectors,
        axis=axis,
        method=method,
        mask=mask,
        resolution_A=resolution_A,
    ).apply(lattice)


def reference_of(reference: Any, lattice: LatticeFit) -> tuple[Bool | None, Any]:
    """A mask, or vectors, from any way to say what the reference is."""
    if reference is None:
        return None, None
    array = np.asarray(reference)
    if array.dtype == bool:
        return _bools("reference", array, lattice.shape), None
    if array.shape != (2, 2):
        raise ParameterError(
            "a reference is a mask of bools, ((x0, x1), (y0, y1)) of integers, or (g1, g2) of "
            f"floats, not an array {array.shape} of {array.dtype}"
        )
    if array.dtype.kind in "iu":
        region = np.zeros(lattice.shape, np.bool_)
        (x0, x1), (y0, y1) = array.tolist()
        region[x0:x1, y0:y1] = True
        return region, None
    return None, tuple(tuple(row) for row in array.astype(np.float64).tolist())


def _bools(name: str, mask: Any, shape: tuple[int, int]) -> Bool:
    if mask is None:
        return np.ones(shape, np.bool_)
    array: Bool = np.asarray(np.asarray(mask) != 0)
    if array.shape != tuple(shape):
        raise ShapeError(f"{name} has the shape {array.shape}, the scan {tuple(shape)}")
    return array


def _why(lattice: LatticeFit) -> Mapping[str, Any]:
    counts: Mapping[str, Any] = lattice.report.get("positions", {})
    return counts


def _check_lattice(vectors: Float) -> None:
    lengths = np.linalg.norm(vectors, axis=1)
    area = abs(np.linalg.det(vectors))
    if not (np.isfinite(vectors).all() and area > 1e-6 * lengths.prod()):
        raise ParameterError(
            f"the reference g1 = {vectors[0].tolist()}, g2 = {vectors[1].tolist()} spans no lattice"
        )


def same_lattice(vectors: Float, reference: Float, method: Method) -> Bool:
    """Where lattices (Rx, Ry, 2, 2) are the reference (2, 2), strained and turned a little.

    Another phase, another zone axis, or other vectors of the same lattice are no strain.  Turns
    may be as large as the method allows.
    """
    i, v = np.linalg.inv(reference), vectors
    a, b, c, d = (i[m, 0] * v[..., 0, n] + i[m, 1] * v[..., 1, n] for m in (0, 1) for n in (0, 1))
    # Singular values of a 2 x 2 matrix are the sum and the difference of these two.
    even, odd = np.hypot(a + d, b - c) / 2, np.hypot(a - d, b + c) / 2
    most_stretch, most_turn = LARGEST[method]
    alike: Bool = (even + odd < 1 + most_stretch) & (even - odd > 1 - most_stretch)
    alike &= abs(np.arctan2(b - c, a + d)) <= most_turn
    return alike


def _in_terms_of(lattice: LatticeFit, known: Float) -> Float:
    """The given lattice (2, 2) spanned by the vectors that correspond to those of the fit."""
    _check_lattice(known)
    indices = lattice.basis @ np.linalg.inv(known)
    whole: Float = np.rint(indices)
    if abs(indices - whole).max() < SAME_LATTICE and math.isclose(abs(np.linalg.det(whole)), 1):
        return whole @ known
    # Far from whole numbers a turn may be why: then the pairs must correspond as they are.
    stretch = np.linalg.svd(np.linalg.solve(known, lattice.basis), compute_uv=False)
    if abs(stretch - 1).max() < SAME_LATTICE:
        return known
    raise ParameterError(
        f"the reference g1 = {known[0].tolist()}, g2 = {known[1].tolist()} and the fitted lattice, "
        f"g1 = {lattice.basis[0].round(5).tolist()}, g2 = {lattice.basis[1].round(5).tolist()} "
        f"{lattice.unit}, are not the same: fit with g1= and g2= of the reference, and check its "
        "unit and rotation"
    )


def _median_lattice(vectors: Float, start: Float) -> tuple[Float, Float]:
    """The lattice (2, 2) of median stretch and rotation among (n, 2, 2), and its covariance.

    Not the median of the vectors: a spread of rotations would shorten these.
    """
    reference = start
    _check_lattice(reference)
    for _ in range(2):
        e_xx, e_yy, e_xy, theta = np.median(polar_values(reference, vectors)[0], axis=0)
        turn = np.array([[math.cos(theta), -math.sin(theta)], [math.sin(theta), math.cos(theta)]])
        stretch = np.array([[1 + e_xx, e_xy], [e_xy, 1 + e_yy]])
        reference = reference @ np.linalg.inv(turn @ stretch)
    return reference, _covariance_of_median(polar_values(reference, vectors)[0])


def _covariance_of_median(values: Float) -> Float:
    """Of the median of rows (n, 4): π/2 times that of the mean, with a robust scatter."""
    n = len(values)
    deviation = values - np.median(values, axis=0)
    scatter = 1.4826 * np.median(abs(deviation), axis=0)
    # Correlations of the plain kind, widths that a few outliers do not change.
    spread = np.maximum(deviation.std(0), np.finfo(float).tiny)
    correlation = (deviation / spread).T @ (deviation / spread) / n
    covariance: Float = np.pi / 2 / n * correlation * np.outer(scatter, scatter)
    return covariance


def axis_angle_of(axis: AxisOf, reference: Float) -> float:
    """Angle of an axis from the calibrated x."""
    if isinstance(axis, int | float):
        if not math.isfinite(axis):
            raise ParameterError(f"axis must be a finite angle, not {axis!r}")
        return float(axis)
    hk = {"g1": (1, 0), "g2": (0, 1)}.get(axis, axis) if isinstance(axis, str) else axis
    if not any(hk):
        raise ParameterError("axis=(0, 0) is no direction; give the indices of a lattice vector")
    x, y = np.asarray(hk, float) @ reference
    return math.atan2(y, x)


# ---- components and their derivatives ------------------------------------------------------------
def infinitesimal(reference: Float, vectors: Float) -> tuple[Float, Float]:
    """Components (n, 4) and their derivatives (4, 4) by (g1x, g1y, g2x, g2y)."""
    inverse = np.linalg.inv(reference)
    linear = np.array([[-1, 0, 0, 0], [0, 0, 0, -1], [0, -0.5, -0.5, 0], [0, 0.5, -0.5, 0]])
    jacobian = linear @ np.kron(inverse, np.eye(2))
    values = vectors.reshape(-1, 4) @ jacobian.T + [1.0, 1.0, 0.0, 0.0]
    return values, jacobian


def _carried(jacobian: Float, covariance: Float) -> Float:
    """``J C Jᵀ`` (n, 4, 4) of covariances (..., 4, 4), for one J (4, 4) or n of them."""
    flat = covariance.reshape(-1, 4, 4)
    if jacobian.ndim == 2:  # one product of matrices instead of n small ones
        whole: Float = (flat.reshape(-1, 16) @ np.kron(jacobian, jacobian).T).reshape(-1, 4, 4)
        return whole
    return jacobian @ flat @ np.swapaxes(jacobian, -1, -2)


def _polar(reference: Float, vectors: Float) -> tuple[Float, Float]:
    """Components (n, 4) and their derivatives (n, 4, 4) by (g1x, g1y, g2x, g2y)."""
    values, F = polar_values(reference, vectors)
    inverse = np.linalg.inv(reference)
    difference, total = F[:, 1, 0] - F[:, 0, 1], F[:, 0, 0] + F[:, 1, 1]
    square = difference**2 + total**2
    cos, sin = np.cos(values[:, 3]), np.sin(values[:, 3])
    back = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], -2)  # R transposed
    quarter = np.array([[0.0, -1.0], [1.0, 0.0]])  # dR / dtheta = quarter R
    jacobian = np.empty((len(vectors), 4, 4))
    for k in range(4):
        change = np.zeros(4)
        change[k] = 1.0
        dF = -F @ (inverse @ change.reshape(2, 2)) @ F
        d_difference, d_total = dF[:, 1, 0] - dF[:, 0, 1], dF[:, 0, 0] + dF[:, 1, 1]
        d_theta = (total * d_difference - difference * d_total) / square
        d_stretch = back @ (dF - d_theta[:, None, None] * (quarter @ F))
        jacobian[:, :, k] = np.stack(
            [d_stretch[:, 0, 0], d_stretch[:, 1, 1], d_stretch[:, 0, 1], d_theta], axis=-1
        )
    return values, jacobian


def polar_values(reference: Float, vectors: Float) -> tuple[Float, Float]:
    """Components (n, 4) of ``F = β⁻¹ = R U``, and F (n, 2, 2)."""
    beta = vectors.reshape(-1, 4) @ np.kron(np.linalg.inv(reference), np.eye(2)).T
    a, b, c, d = beta.T
    det = a * d - b * c
    F = np.stack([d, -b, -c, a], -1) / np.where(det == 0, np.nan, det)[:, None]
    theta = np.arctan2(F[:, 2] - F[:, 1], F[:, 0] + F[:, 3])
    cos, sin = np.cos(theta), np.sin(theta)
    values = [
        cos * F[:, 0] + sin * F[:, 2] - 1,
        cos * F[:, 3] - sin * F[:, 1] - 1,
        cos * F[:, 1] + sin * F[:, 3],
        theta,
    ]
    return np.stack(values, -1), F.reshape(-1, 2, 2)


_STRAINS = {"infinitesimal": infinitesimal, "polar": _polar}
