"""Parallax: tilt-corrected bright-field imaging of a defocused scan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, field_validator

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.phase.parallax_fit import Alignment, align, displacements_A
from py4DSTEM.process.phase.parallax_image import as_probed, phase_of, summed, upsampling_for
from py4DSTEM.process.phase.parallax_stack import BrightField, bright_field
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["DepthSection", "Parallax", "ParallaxResult", "depth_section", "parallax"]

Float = NDArray[np.float64]
_BLOCKS = 4  # along x and y, whose scatter tells how sure the half turn is
_UNDECIDED = 2.0


@dataclass(frozen=True, eq=False)
class ParallaxResult:
    """What parallax finds in a defocused scan.

    Parameters
    ----------
    image : RealSlice
        Aligned bright field over its mean, ``(upsampling Rx, upsampling Ry)`` float64, scan axes.
    phase : RealSlice
        Phase in rad, mean 0, of a weak phase object with that image; positive at atoms.
    aberrations : Aberrations
        Å and rad; ``.defocus_A`` is −C10.
    sigmas : mapping of str to float
        One-sigma uncertainties by the names of the coefficients, and of ``"rotation_rad"``.
    rotation_rad, flip : float, bool
        From detector to scan axes: exchange x and y if flipped, then rotate x towards y.
    half_turn_z : float
        How many sigma tell this solution from the one with the opposite aberrations and half a
        turn more.
    half_turn_by : str
        What told them apart: "calibration", "near", "defocus", "dark field" or "skewness".
    k_A : (n, 2) float64
        Place of each group of bright-field pixels, Å⁻¹ along the axes of the detector.
    shifts_A : (n, 2) float64
        Displacement of its image, along the axes of the scan, measured on its own; NaN at the
        rim, where too little of it tells.
    fitted_A : (n, 2) float64
        The same as the aberrations have it, ``−∂χ/∂α``.
    quality : (n,) float64
        Likeness of its image to the aligned one: near 1; NaN at the rim.
    upsampling : int
        Pixels of image and phase per scan step.
    residual : float
        Root of the share of the images' power that alignment does not explain (noise included).
    """

    image: RealSlice
    phase: RealSlice
    aberrations: Aberrations
    sigmas: Mapping[str, float]
    rotation_rad: float
    flip: bool
    half_turn_z: float
    half_turn_by: str
    k_A: Float
    shifts_A: Float
    fitted_A: Float
    quality: Float
    upsampling: int
    residual: float
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "parallax"

    @property
    def defocus_A(self) -> float:
        """−C10: positive is underfocus; of the middle of a thick specimen."""
        return self.aberrations.defocus_A

    @property
    def sigma_defocus_A(self) -> float:
        return self.sigmas["C10"]

    @property
    def rotation_deg(self) -> float:
        return math.degrees(self.rotation_rad)

    @property
    def errors_A(self) -> Float:
        """Measured less fitted displacements, (n, 2)."""
        return self.shifts_A - self.fitted_A

    def calibration_changes(self) -> dict[str, Any]:
        """What it tells a calibration: rotation and flip."""
        return {"rotation_rad": self.rotation_rad, "flip": self.flip}

    def text(self) -> str:
        """A few lines for a report."""
        turn = math.degrees(self.sigmas["rotation_rad"])
        lines = [
            f"defocus {self.defocus_A:.0f} ± {self.sigma_defocus_A:.0f} Å",
            f"rotation {self.rotation_deg:.2f} ± {turn:.2f}°, flip {self.flip}",
        ]
        for name in self.aberrations.names[1:]:
            value, sigma = self.aberrations.C(name), self.sigmas[name]
            angle = math.degrees(self.aberrations.angle(name))
            where = f" at {angle:.0f}°" if name.replace("C", "phi") in self.sigmas else ""
            lines.append(f"{name} {value:.4g} ± {sigma:.2g} Å{where}")
        lines.append(f"half turn by {self.half_turn_by}: {self.half_turn_z:.1f} sigma")
        if self.half_turn_z < _UNDECIDED:
            lines.append("the half turn is NOT decided: give defocus or near_deg")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<ParallaxResult {', '.join(self.text().splitlines()[:2])}>"


def _to_parts(result: ParallaxResult) -> dict[str, Any]:
    own = {"aberrations": dict(result.aberrations.coefficients), "sigmas": dict(result.sigmas)}
    return {**vars(result), **own}


def _from_parts(parts: Mapping[str, Any]) -> ParallaxResult:
    return ParallaxResult(**{**parts, "aberrations": Aberrations(parts["aberrations"])})


register_result("parallax", ParallaxResult, _to_parts, _from_parts)


class Parallax(Analysis, kind="parallax", version=1):
    """Aberrations, rotation, aligned bright field and phase of a defocused scan."""

    order: Literal[1, 2, 3] = Field(
        1,
        description="Aberrations to fit: 1 defocus and astigmatism, 2 also coma and three-fold "
        "astigmatism, 3 also the spherical aberration C30.",
    )
    upsampling: int | None = Field(
        None, ge=1, le=16, description="Pixels per scan step; None: what the aperture resolves."
    )
    flip: bool | None = Field(
        None, description="Whether x and y are exchanged; None: as calibrated, else measured."
    )
    near_deg: float | None = Field(
        None, description="Rough rotation, to choose between the two that differ by 180 degrees."
    )
    defocus: Literal["under", "over"] | None = Field(
        None, description="Sign of the defocus where known; chooses the half turn."
    )
    ctf: Literal["wiener", "flip"] = Field(
        "wiener", description="How the phase is made: a Wiener filter, or phases flipped only."
    )

    cites: ClassVar[tuple[str, ...]] = (
        "10.48550/arXiv.2309.05250",
        "10.1111/jmi.12372",
    )
    accepts: ClassVar[tuple[type, ...]] = (Cube,)

    def apply(self, value: Cube, options: RunOptions | None = None) -> ParallaxResult:
        self.check(value)
        stack = bright_field(value, options=options)
        flip = self.flip
        if flip is None and value.calibration.rotation_rad is not None:
            flip = bool(value.calibration.flip)
        found = align(stack, self.order, flip)
        shifts = found.displacements_A(stack.alpha)
        upsampling = self.upsampling or upsampling_for(stack, shifts)
        image = summed(stack, shifts, upsampling)
        phase = phase_of(image, stack.optics, found.aberrations, found.to_detector, self.ctf)
        turned, z, by = self._half_turn(value.calibration, found, stack, phase, upsampling)
        if turned:
            found, phase = found.turned(), -phase
        history = self.history(value.history)
        fine = _finer(value.calibration, upsampling)
        return ParallaxResult(
            image=RealSlice(image.image + 1.0, fine, history, "aligned bright field"),
            phase=RealSlice(phase, fine, history, "parallax phase", units="rad"),
            aberrations=found.aberrations,
            sigmas=_sigmas(found),
            rotation_rad=found.rotation_rad,
            flip=found.flip,
            half_turn_z=z,
            half_turn_by=by,
            k_A=found.groups.alpha / stack.optics.wavelength_A,
            shifts_A=found.shifts_A,
            fitted_A=found.displacements_A(found.groups.alpha),
            quality=found.quality,
            upsampling=upsampling,
            residual=found.residual,
            calibration=value.calibration,
            history=history,
        )

    def _half_turn(
        self,
        calibration: Calibration,
        found: Alignment,
        stack: BrightField,
        phase: Float,
        upsampling: int,
    ) -> tuple[bool, float, str]:
        """Whether to turn, how sure that is, and who says so; `found` is underfocus."""
        if self.defocus is not None:
            return self.defocus == "over", math.inf, "defocus"
        near = self.near_deg
        if near is not None:
            return math.cos(found.rotation_rad - math.radians(near)) < 0, math.inf, "near"
        if calibration.rotation_rad is not None:
            turned = math.cos(found.rotation_rad - calibration.rotation_rad) < 0
            return turned, math.inf, "calibration"
        coarse = phase[::upsampling, ::upsampling]
        dark = stack.dark
        if dark is not None and np.ptp(dark) > 0:
            known = np.nan_to_num(dark, nan=float(np.nanmean(dark)))
            like = as_probed(known, stack.optics, found.aberrations, found.to_detector)
            z = _blocks_z(coarse, like)
            return z < 0, abs(z), "dark field"
        z = _blocks_z(coarse, coarse**2)
        return z < 0, abs(z), "skewness"


def _blocks_z(first: Float, second: Float) -> float:
    """Mean covariance of blocks of two maps over its standard error."""
    values = []
    for rows in np.array_split(np.arange(first.shape[0]), _BLOCKS):
        for columns in np.array_split(np.arange(first.shape[1]), _BLOCKS):
            a, b = (m[rows[:, None], columns] for m in (first, second))
            values.append(float(((a - a.mean()) * (b - b.mean())).mean()))
    spread = float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return float(np.mean(values)) / spread if spread > 0 else 0.0


def _sigmas(found: Alignment) -> dict[str, float]:
    """One-sigma uncertainties of coefficients and angles, from those of their parts."""
    from py4DSTEM.core.aberrations import ORDERS
    from py4DSTEM.kernels.parallax import PARTS

    sigma = np.sqrt(np.diag(found.covariance))
    index = {part: n for n, part in enumerate(PARTS[: len(sigma)])}
    turn = sigma[index["turn", "a"]] / abs(found.parts[0])
    sigmas = {"rotation_rad": float(turn)}
    for (name, part), n in index.items():
        if name == "turn" or part == "b":
            continue
        if (name, "b") not in index:
            sigmas[name] = float(sigma[n])
            continue
        both = [n, index[name, "b"]]
        covariance, value = found.covariance[np.ix_(both, both)], found.parts[both]
        size = max(float(np.hypot(*value)), 1e-12)
        along = value / size
        across = np.array([-along[1], along[0]])
        sigmas[name] = math.sqrt(float(along @ covariance @ along))
        angle = math.sqrt(float(across @ covariance @ across)) / size / ORDERS[name][1]
        sigmas[name.replace("C", "phi")] = angle
    return sigmas


def _finer(calibration: Calibration, upsampling: int) -> Calibration:
    """Scan axes with so many pixels per step; pixel 0 stays where it is."""
    from dataclasses import replace

    x, y = (replace(axis, step=axis.step / upsampling) for axis in calibration.R)
    return replace(calibration, R=(x, y), origin_px=None)


def parallax(
    cube: Cube,
    *,
    order: Literal[1, 2, 3] = 1,
    upsampling: int | None = None,
    flip: bool | None = None,
    near_deg: float | None = None,
    defocus: Literal["under", "over"] | None = None,
    ctf: Literal["wiener", "flip"] = "wiener",
    options: RunOptions | None = None,
) -> ParallaxResult:
    """Aberrations, rotation, aligned bright field and phase of a defocused scan.

    Also known as tilt-corrected bright-field STEM.

    Parameters
    ----------
    cube : DataCube
        With energy, scan step and detector pixel size; origin and convergence angle are those of
        the calibration, else found.  A beam that moves (an origin per position) is followed by
        whole pixels.
    order : 1, 2 or 3
        Aberrations to fit: 1 C10 and C12; 2 also C21 and C23; 3 also C30.
    upsampling : int, optional
        Pixels of the result per scan step; None: what ``2α/λ`` needs, at most 4, where the
        displacements fill the gaps between scan positions.
    flip : bool, optional
        Whether x and y are exchanged; None: as calibrated, else measured, which takes for granted
        that the defocus is larger than the astigmatism.
    near_deg : float, optional
        The rotation, known to better than 90°; chooses the half turn.
    defocus : "under" or "over", optional
        Its sign, which chooses the half turn.
    ctf : "wiener" or "flip"
        Phase in rad by a Wiener filter of the contrast transfer, or only with the negative
        contrast reversed.
    options : RunOptions, optional

    Returns
    -------
    ParallaxResult
        ``.image``, ``.phase``, ``.aberrations``, ``.sigmas``, ``.rotation_rad``, ``.flip``,
        ``.shifts_A``, ``.k_A``; ``cube.with_calibration(result)`` keeps rotation and flip.

    Raises
    ------
    ShapeError
        Fewer than 8 scan positions along x or y.
    ParameterError
        The bright disk spans too few pixels, reaches beyond the detector, or is empty.
    CalibrationMissing
        Energy, scan step or detector pixel size.
    SolveError
        The images are not displaced: the scan is in focus, or too noisy.

    Notes
    -----
    By reciprocity every bright-field pixel k sees a bright-field image under tilted illumination,
    displaced by ``−∂χ/∂α`` at ``α = λk``.  With ``χ = C10 α²/2`` that is ``defocus·α``.  Its
    component q is ``2 φ(q) sin(h) exp(ip)`` wherever ``k ± q`` lie within the aperture, with p the
    odd and h the even part of ``2πχ/λ`` about k.  Coefficients and rotation maximise what such a
    model explains, φ(q) free; neither starting values nor a reference image are needed: all
    rotations and defocus are tried first.  A rotation and an astigmatism are told apart by the
    symmetry of χ (polar decomposition).  Uncertainties come from the scatter of the components.

    (C, rotation) and (−C, rotation + 180°) with the opposite phase explain a scan equally well.
    Unless told, the one is taken whose phase is bright where electrons are scattered beyond the
    disk.  For thick specimens the defocus is that of its middle.

    Images are added on a grid finer than the scan, each at its displacement, whose different
    fractions of a step fill it; the transfer, ``2 sin(h)`` times the overlap of the apertures, is
    undone by a Wiener filter whose noise is what two halves of the pixels have not in common.

    References
    ----------
    Varnavides et al., doi:10.48550/arXiv.2309.05250 (tilt-corrected bright field); Lupini, Chi &
    Jesse, doi:10.1111/jmi.12372 (aberrations from displacements); Golub & Pereyra,
    doi:10.1137/0710036 (variable projection).

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((32, 30), defocus_A=200, dose=None, seed=3)
    >>> found = parallax(scan.cube)
    >>> round(found.defocus_A, -1), round(found.rotation_rad, 2), found.flip
    (200.0, 0.3, False)
    """
    analysis = Parallax(
        order=order, upsampling=upsampling, flip=flip, near_deg=near_deg, defocus=defocus, ctf=ctf
    )
    return analysis.apply(cube, options)


# ---- depth ---------------------------------------------------------------------------------------
class DepthSection(Analysis, kind="depth-section", version=1):
    """Aligned bright-field images for several depths of the specimen."""

    depths_A: tuple[float, ...] = Field(
        min_length=1, description="Below the plane that the aberrations belong to, Å."
    )
    coefficients: dict[str, float] = Field(
        description="Aberrations in Å and rad, such as { C10 = -4500.0 }: what parallax found."
    )
    rotation_rad: float = Field(description="From detector to scan axes.")
    flip: bool = Field(False, description="Whether x and y are exchanged before the rotation.")
    upsampling: int | None = Field(
        None, ge=1, le=16, description="Pixels per scan step; None: what the aperture resolves."
    )

    cites: ClassVar[tuple[str, ...]] = ()
    accepts: ClassVar[tuple[type, ...]] = (Cube,)

    @field_validator("coefficients")
    @classmethod
    def _known(cls, given: dict[str, float]) -> dict[str, float]:
        return dict(Aberrations(given).coefficients)

    @field_validator("depths_A")
    @classmethod
    def _finite(cls, depths: tuple[float, ...]) -> tuple[float, ...]:
        if not np.isfinite(depths).all():
            raise ValueError("depths are finite")
        return depths

    def apply(self, value: Cube, options: RunOptions | None = None) -> RealSlice:
        self.check(value)
        stack = bright_field(value, options=options)
        aberrations = Aberrations(self.coefficients)
        c, s = math.cos(self.rotation_rad), math.sin(self.rotation_rad)
        to_detector = np.array([[c, s], [-s, c]])[:: -1 if self.flip else 1]
        shifts = displacements_A(aberrations, to_detector, stack.alpha)
        upsampling = self.upsampling or upsampling_for(stack, shifts)
        images = []
        for depth in self.depths_A:
            there = aberrations.replace(C10=aberrations.C("C10") + depth)
            moved = displacements_A(there, to_detector, stack.alpha)
            images.append(summed(stack, moved, upsampling).image + 1.0)
        labels = tuple(f"{depth:g} Å" for depth in self.depths_A)
        fine = _finer(value.calibration, upsampling)
        history = self.history(value.history)
        return RealSlice(np.stack(images), fine, history, "depth sections", labels)


def depth_section(
    cube: Cube,
    result: ParallaxResult,
    depths_A: Sequence[float],
    *,
    upsampling: int | None = None,
    options: RunOptions | None = None,
) -> RealSlice:
    """Aligned bright-field images for several depths of the specimen.

    Parameters
    ----------
    cube : DataCube
        The scan.
    result : ParallaxResult
        Of this scan.
    depths_A : sequence of float
        Å along the beam from the plane that `result` belongs to (the middle of the specimen):
        positive lies below.
    upsampling : int, optional
        Pixels per scan step; None: as for `parallax`.
    options : RunOptions, optional

    Returns
    -------
    RealSlice
        Stack ``(len(depths_A), upsampling Rx, upsampling Ry)`` float64, bright field over its mean.

    Raises
    ------
    ParameterError
        Depths are not finite numbers, or two are the same.

    Notes
    -----
    At depth z below, the defocus is ``defocus − z``: the images of the pixels are moved back by
    ``−∂χ/∂α`` with ``C10 + z``, which aligns what lies there and blurs what does not.  The depth of
    focus is about ``λ/α²`` (that of a feature of width d about ``d/α``).

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((32, 30), defocus_A=200, dose=None, seed=3)
    >>> sections = depth_section(scan.cube, parallax(scan.cube), [-50.0, 0.0, 50.0])
    >>> sections.labels
    ('-50 Å', '0 Å', '50 Å')
    """
    if len(set(map(float, depths_A))) != len(tuple(depths_A)):
        raise ParameterError(f"two of the depths are the same: {list(depths_A)}")
    analysis = DepthSection(
        depths_A=tuple(map(float, depths_A)),
        coefficients=dict(result.aberrations.coefficients),
        rotation_rad=result.rotation_rad,
        flip=result.flip,
        upsampling=upsampling,
    )
    return analysis.apply(cube, options)
