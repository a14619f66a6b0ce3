"""Rotation and flip between detector and scan axes, from the scan itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, model_validator

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Mask, MaskArray
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import DiffractionSlice, RealSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.beam import Beam, find_beam
from py4DSTEM.process.calibrate.curl import DeflectionField, LeastCurl
from py4DSTEM.process.calibrate.parallax import Parallax, measure_parallax
from py4DSTEM.process.calibrate.shadow import Shadow, match_shadow
from py4DSTEM.process.calibrate.symmetry import MirrorSymmetry, RingImages, ring_images
from py4DSTEM.process.com import center_of_mass
from py4DSTEM.process.virtual import virtual_images
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["MeasureRotation", "RotationMeasurement", "measure_rotation"]

Float = NDArray[np.float64]
_CURVE_STEPS = 181
_DARK_FIELD_RADII = 1.3  # inner edge in radii of the bright disk: clear of its blurred rim
_UNDECIDED = 2.0
_FEWEST_POSITIONS = 4


@dataclass(frozen=True, eq=False)
class RotationMeasurement:
    """Rotation from detector to scan axes, and whether x and y are exchanged before it.

    Parameters
    ----------
    rotation_rad : float
        In (−π, π]; a detector vector becomes ``R(rotation) swap(v)`` in scan axes, with
        ``R = [[cos, −sin], [sin, cos]]`` on (x, y) and the swap where `flip`.
    flip : bool
    sigma_rad : float
        One-sigma uncertainty of the rotation, the flip taken for granted.
    confidence : float
        Residual of the flip that was rejected over the residual of this one: near 1 nothing is
        decided.
    half_turn_z : float
        How many sigma tell the rotation from the one that differs by 180°.
    half_turn_by : str
        What told them apart: "dark field", "skewness", "near", "defocus" or "deflection".
    residual : float
        What is left, as a share of the whole (rms): of the curl for "curl", of the shifts of the
        images for "shadow", or of the contrast of the shadow image.
    method : str
    curve : mapping of str to array
        ``angles_rad`` (n,), and for both flips (False, True) ``curl_rms`` and ``div_rms`` (2, n)
        for "curl", ``misfit_rms`` (2, n) for "shadow"; each as a share of the whole.
    defocus_A, sigma_defocus_A : float
        From "shadow" where pixel sizes and energy are calibrated; else NaN.
    calibration : Calibration
        Of the scan, as it was.
    """

    rotation_rad: float
    flip: bool
    sigma_rad: float
    confidence: float
    half_turn_z: float
    half_turn_by: str
    residual: float
    method: str
    curve: Mapping[str, Float]
    defocus_A: float = math.nan
    sigma_defocus_A: float = math.nan
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "rotation"

    @property
    def rotation_deg(self) -> float:
        return math.degrees(self.rotation_rad)

    def calibration_changes(self) -> dict[str, Any]:
        """What it tells a calibration: rotation and flip."""
        return {"rotation_rad": self.rotation_rad, "flip": self.flip}

    def text(self) -> str:
        """A few lines for a report."""
        lines = [
            f"rotation {self.rotation_deg:.2f} ± {math.degrees(self.sigma_rad):.2f}°, "
            f"flip {self.flip} (by {self.method})",
            f"the other flip leaves {self.confidence:.2f} x the residual of {self.residual:.3f}",
            f"half turn by {self.half_turn_by}: {self.half_turn_z:.1f} sigma",
        ]
        if self.confidence < 1.1:
            lines.append("the flip is NOT decided: give it, or use more positions")
        if self.half_turn_z < _UNDECIDED:
            lines.append("the half turn is NOT decided: give near_deg")
        if math.isfinite(self.defocus_A):
            lines.append(f"defocus {self.defocus_A:.0f} ± {self.sigma_defocus_A:.0f} Å")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<RotationMeasurement {self.text().splitlines()[0]}>"


def _to_parts(result: RotationMeasurement) -> dict[str, Any]:
    parts = {**vars(result), "curve": dict(result.curve)}
    return {**parts, "history": result.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> RotationMeasurement:
    return RotationMeasurement(**{**parts, "history": History.from_dict(parts["history"])})


register_result("rotation", RotationMeasurement, _to_parts, _from_parts)


class MeasureRotation(Analysis, kind="measure-rotation", version=1):
    """Rotation and flip between detector and scan axes."""

    method: Literal["curl", "shadow", "symmetry"] = Field(
        "curl",
        description="Curl of the centre of mass, shifts of the bright-field images, or the "
        "symmetry of rings of the detector under mirrors.",
    )
    flip: bool | None = Field(None, description="Whether x and y are exchanged; None: measured.")
    near_deg: float | None = Field(
        None, description="Rough rotation, to choose between the two that differ by 180 degrees."
    )
    defocus: Literal["under", "over"] | None = Field(
        None, description="Sign of the defocus where known; chooses the half turn for shadow."
    )
    shadow: MaskArray | None = Field(
        None,
        description="For shadow: one defocused pattern; none: the scan itself is defocused.",
    )
    mask: AnyDetector | None = Field(None, description="Weights for the centre of mass.")

    cites: ClassVar[tuple[str, ...]] = (
        "10.1016/j.ultramic.2015.10.011",
        "10.1017/S1431927621000477",
    )
    accepts: ClassVar[tuple[type, ...]] = (Cube, RealSlice)

    @model_validator(mode="after")
    def _one_method(self) -> Self:
        if self.shadow is not None and self.method != "shadow":
            raise ValueError("a shadow image is for method='shadow'")
        return self

    def apply(
        self, value: Cube | RealSlice, options: RunOptions | None = None
    ) -> RotationMeasurement:
        self.check(value)
        if self.method == "curl":
            return self._curl(value, options)
        if not isinstance(value, Cube):
            raise ParameterError(
                f"method={self.method!r} needs the scan: a DataCube, not a centre of mass"
            )
        if self.method == "symmetry":
            return self.of_rings(ring_images(value, self.mask, options), value.history)
        return self._shadow(value, options)

    def of_rings(self, images: RingImages, before: History) -> RotationMeasurement:
        """The rotation by "symmetry" from the images of one pass (`ring_images`)."""
        com = _checked(images.com)
        weighted, best, other = MirrorSymmetry.of(images).decided(self.flip)
        turn = self._half_turn_of(com, best.flip, best.angle, images.dark)
        residual = math.sqrt(best.residual)
        return RotationMeasurement(
            rotation_rad=_wrapped(best.angle + (math.pi if turn.turned else 0.0)),
            flip=best.flip,
            sigma_rad=weighted.sigma(best),
            confidence=math.sqrt(other.residual) / max(residual, 1e-12),
            half_turn_z=turn.z,
            half_turn_by=turn.by,
            residual=residual,
            method="symmetry",
            curve=weighted.curve(_curve_angles()),
            calibration=com.calibration,
            history=self.history(before),
        )

    def _half_turn_of(
        self, com: RealSlice, flip: bool, angle: float, dark: Float | None
    ) -> _HalfTurn:
        if self.near_deg is not None:
            return _nearest(angle, math.radians(self.near_deg))
        weighted, curl, _ = DeflectionField.of(com).decided(flip)
        here = LeastCurl(flip, angle, curl.residual)
        if dark is None:
            return _HalfTurn.of(weighted.skewness_z(here), "skewness")
        return _HalfTurn.of(weighted.likeness_z(here, dark), "dark field")

    def _curl(self, value: Cube | RealSlice, options: RunOptions | None) -> RotationMeasurement:
        deflection = DeflectionField.of(_deflection(value, self.mask, options))
        weighted, best, other = deflection.decided(self.flip)
        turn = self._half_turn(value, weighted, best, options)
        residual = math.sqrt(best.residual)
        return RotationMeasurement(
            rotation_rad=_wrapped(best.angle + (math.pi if turn.turned else 0.0)),
            flip=best.flip,
            sigma_rad=weighted.sigma(best),
            confidence=math.sqrt(other.residual) / max(residual, 1e-12),
            half_turn_z=turn.z,
            half_turn_by=turn.by,
            residual=residual,
            method="curl",
            curve=weighted.curve(_curve_angles()),
            calibration=value.calibration,
            history=self.history(value.history),
        )

    def _half_turn(
        self,
        value: Cube | RealSlice,
        weighted: DeflectionField,
        best: LeastCurl,
        options: RunOptions | None,
    ) -> _HalfTurn:
        if self.near_deg is not None:
            return _nearest(best.angle, math.radians(self.near_deg))
        dark = _dark_field(value, options) if isinstance(value, Cube) else None
        if dark is None:
            return _HalfTurn.of(weighted.skewness_z(best), "skewness")
        return _HalfTurn.of(weighted.likeness_z(best, dark), "dark field")

    def _shadow(self, cube: Cube, options: RunOptions | None) -> RotationMeasurement:
        found = self._found(cube, options)
        flip = found.mirrored if self.flip is None else self.flip
        angle, sigma = found.rotation(flip)
        turn = self._shadow_half_turn(cube, angle, flip, options)
        defocus, sigma_defocus = found.defocus_A(flip)
        sign = -1.0 if turn.turned else 1.0
        residuals = found.misfit(False), found.misfit(True)
        return RotationMeasurement(
            rotation_rad=_wrapped(angle + (math.pi if turn.turned else 0.0)),
            flip=flip,
            sigma_rad=sigma,
            confidence=residuals[not flip] / max(residuals[flip], 1e-12),
            half_turn_z=turn.z,
            half_turn_by=turn.by,
            residual=residuals[flip],
            method="shadow",
            curve=found.curve(_curve_angles()),
            defocus_A=sign * defocus,
            sigma_defocus_A=sigma_defocus,
            calibration=cube.calibration,
            history=self.history(cube.history),
        )

    def _found(self, cube: Cube, options: RunOptions | None) -> Parallax | Shadow:
        """What turns detector offsets into displacements of the image, for underfocus."""
        if self.shadow is None:
            return measure_parallax(cube, options=options)
        return match_shadow(cube, self.shadow, self.flip, options=options)

    def _shadow_half_turn(
        self, cube: Cube, angle: float, flip: bool, options: RunOptions | None
    ) -> _HalfTurn:
        """`angle` belongs to underfocus."""
        if self.defocus is not None:
            return _HalfTurn(self.defocus == "over", math.inf, "defocus")
        if self.near_deg is not None:
            return _nearest(angle, math.radians(self.near_deg))
        by_curl = MeasureRotation(method="curl", flip=flip, mask=self.mask).apply(cube, options)
        nearest = _nearest(angle, by_curl.rotation_rad)
        return _HalfTurn(nearest.turned, by_curl.half_turn_z, "deflection")


# ---- the half turn -------------------------------------------------------------------------------
@dataclass(frozen=True)
class _HalfTurn:
    """Whether 180° must be added, how sure that is, and who says so."""

    turned: bool
    z: float
    by: str

    @classmethod
    def of(cls, z: float, by: str) -> _HalfTurn:
        return cls(z < 0, abs(z), by)


def _nearest(angle: float, near: float) -> _HalfTurn:
    return _HalfTurn(math.cos(angle - near) < 0, math.inf, "near")


def _wrapped(angle: float) -> float:
    """The same angle in (−π, π]."""
    return math.pi - (math.pi - angle) % (2 * math.pi)


def _dark_field(cube: Cube, options: RunOptions | None) -> Float | None:
    """What is scattered beyond the bright disk, (Rx, Ry); None where there is nothing of it."""
    beam: Beam = find_beam(cube)
    i, j = np.indices(cube.Q_shape, dtype=np.float64)
    radius = np.hypot(i - beam.center[0], j - beam.center[1])
    outside = radius > _DARK_FIELD_RADII * beam.radius_px
    if outside.sum() < 0.05 * outside.size:
        return None
    image = virtual_images(cube, {"dark field": Mask(outside)}, options=options)["dark field"]
    data = np.nan_to_num(image.data, nan=float(np.nanmean(image.data)))
    return data if data.std() > 0 else None


# ---- inputs --------------------------------------------------------------------------------------
def _deflection(
    value: Cube | RealSlice, mask: Detector | None, options: RunOptions | None
) -> RealSlice:
    com = center_of_mass(value, mask, options=options) if isinstance(value, Cube) else value
    return _checked(com)


def _checked(com: RealSlice) -> RealSlice:
    if com.labels != ("x", "y"):
        raise ShapeError(
            f"a centre of mass is a stack of maps 'x' and 'y', not {com.labels or com.shape}: "
            "center_of_mass(cube) makes one"
        )
    if min(com.shape[1:]) < _FEWEST_POSITIONS:
        raise ShapeError(
            f"a scan of {com.shape[1]} x {com.shape[2]} positions is too small to take a curl of: "
            f"{_FEWEST_POSITIONS} x {_FEWEST_POSITIONS} is the least"
        )
    return com


def _pattern(shadow: DiffractionSlice | ArrayLike) -> Float:
    image = np.asarray(shadow.data if isinstance(shadow, DiffractionSlice) else shadow, np.float64)
    if image.ndim != 2:
        raise ShapeError(f"a shadow image is one pattern (Qx, Qy), not of shape {image.shape}")
    if not np.isfinite(image).all():
        raise ParameterError("the shadow image holds values that are NaN or infinite: repair them")
    return image


def _curve_angles() -> Float:
    return np.linspace(-math.pi / 2, math.pi / 2, _CURVE_STEPS)


# ---- the public function -------------------------------------------------------------------------
def measure_rotation(
    source: Cube | RealSlice,
    *,
    method: Literal["curl", "shadow", "symmetry"] = "curl",
    flip: bool | None = None,
    near_deg: float | None = None,
    defocus: Literal["under", "over"] | None = None,
    shadow: DiffractionSlice | ArrayLike | None = None,
    mask: Detector | ArrayLike | None = None,
    options: RunOptions | None = None,
) -> RotationMeasurement:
    """Rotation and flip between detector and scan axes.

    Parameters
    ----------
    source : DataCube, or RealSlice stack "x", "y"
        A scan, or its centre of mass in raw detector pixels (for "curl" only).
    method : "curl", "shadow" or "symmetry"
        "curl": the deflection by a potential has no curl: the rotation and flip that leave the
        least.  "shadow": in a defocused scan the image seen by a bright-field pixel k is displaced
        by ``λ defocus k``: the rotation and flip that turn k into the displacements.  Or, with
        `shadow`, where one defocused pattern shows what the image of the scan shows.
        "symmetry": harmonics of rings of the detector; several times more precise than "curl".
    flip : bool, optional
        Whether x and y are exchanged before the rotation; None: measured.
    near_deg : float, optional
        The rotation, known to better than 90°: chooses the half turn.
    defocus : "under" or "over", optional
        For "shadow": its sign (underfocus, C10 < 0: crossover behind the entrance surface), which
        chooses the half turn; of the scan, or of the pattern `shadow`.
    shadow : DiffractionSlice or (Qx, Qy) array, optional
        A pattern taken in the scanned area with a strongly defocused probe: its bright disk is a
        shadow image of the specimen.  The scan is then the one in focus; `method` is "shadow".
    mask : Detector or (Qx, Qy) array, optional
        Weights for the centre of mass.
    options : RunOptions, optional

    Returns
    -------
    RotationMeasurement
        ``.rotation_rad``, ``.flip``, ``.sigma_rad``, ``.confidence``, ``.residual``, ``.curve``;
        ``cube.with_calibration(measured)`` puts it into the calibration.

    Raises
    ------
    ShapeError
        The scan is smaller than 4 x 4, `source` is no stack of "x" and "y", or `shadow` has another
        shape than the patterns.
    ParameterError
        The centre of mass does not vary, or is unknown at more than half of the positions; or the
        bright disk spans too few pixels for "shadow".
    SolveError
        "shadow": the displacements are not those of a defocus, or the shadow image looks like no
        place of the scan in particular.

    Notes
    -----
    The rotation acts from detector to scan axes, after the flip, as in `Calibration`:
    ``v_scan = R(θ) v``, positive from x (rows, down) towards y (columns, right).

    "curl": for a given flip, curl C and divergence D turn into one another, so that the least
    ``⟨(C cos θ + D sin θ)²⟩`` is at ``θ = atan2(−2⟨C D⟩, ⟨D²⟩ − ⟨C²⟩) / 2``, in closed form.  A
    plane is removed first (descan), the edges are windowed, and the frequencies weighted by what
    they tell.  sigma is a jackknife over blocks of the scan.

    Shadow image: underfocus (positive `defocus`) shows the place ``R0 − λ defocus R(θ) k`` in pixel
    k, upside down, overfocus upright.  Image and shadow are compared at all angles, scales and
    places and for both flips, by their normalised correlation, then by least squares; the shadow
    must span a third of the scan or more, with the same contrast (not that of a dark field).
    Without a sign of the defocus the half turn is that of the curl.

    "symmetry": where the probe is round (no astigmatism or coma) a wave q of a thin specimen makes
    patterns that are their own mirror image about q: the sums ``Σ I cos mφ``, ``Σ I sin mφ`` over
    rings of the bright disk, m = 1, 2, 3, have no part across q.  sigma: jackknife over them.

    Curl and displacement leave the half turn open.  For a scan it is chosen so that the phase is
    bright where electrons are scattered beyond the bright disk ("dark field"); without such pixels
    so that ``−div`` has peaks rather than holes ("skewness"): electrons bend towards atoms.  In
    thick specimens (beyond about 10 nm of a crystal on a zone axis) the deflection may reverse:
    there give `near_deg`, or use "shadow" with a known `defocus`.
    Lazić, Bosch & Lazar, doi:10.1016/j.ultramic.2015.10.011 (deflection and its curl);
    Savitzky et al., doi:10.1017/S1431927621000477 (rotation by least curl).

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((24, 24), step_A=0.5, rotation_rad=0.3, dose=None, seed=1)
    >>> measured = measure_rotation(scan.cube, near_deg=20)
    >>> round(measured.rotation_rad, 1), measured.flip
    (0.3, False)
    """
    weights = mask if mask is None or isinstance(mask, Detector) else Mask(np.asarray(mask))
    analysis = MeasureRotation(
        method=method if shadow is None else "shadow",
        flip=flip,
        near_deg=near_deg,
        defocus=defocus,
        shadow=None if shadow is None else _pattern(shadow),
        mask=weights,
    )
    return analysis.apply(source, options)
