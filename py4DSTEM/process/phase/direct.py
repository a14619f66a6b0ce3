"""Direct ptychography: the phase from one linear step (SSB, OBF, Wigner deconvolution)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.phase.direct_fit import LensFit, fit_lens
from py4DSTEM.process.phase.direct_stack import BrightStack
from py4DSTEM.process.phase.direct_sums import overlaps
from py4DSTEM.process.phase.direct_wdd import deconvolved
from py4DSTEM.process.phase.optics import Optics
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions

__all__ = ["DirectPtychography", "DirectResult", "direct_ptychography", "ssb"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Method = Literal["ssb", "obf", "wdd"]
EPSILON = {"ssb": 0.01, "obf": None, "wdd": 0.1}
DARKEST = 0.25
"""Pixels with fewer counts than this share of the median do not get a larger weight for it."""
WEAKEST = 0.03
"""Transfer, as a share of the best, from which Wigner deconvolution does not raise it."""
TOO_COARSE = 2.0
"""Scan step over the diameter of the probe from which its places have nothing in common."""


@dataclass(frozen=True, eq=False)
class DirectResult:
    """Phase and amplitude of a thin specimen from direct ptychography.

    Parameters
    ----------
    phase : RealSlice
        (Rx, Ry) rad, in scan axes, of mean zero; a positive potential has a positive phase.
    amplitude : RealSlice
        (Rx, Ry), about one.
    aberrations : Aberrations
        That were removed, in detector axes.
    rotation_rad, flip : float, bool
        From detector to scan axes, as used.
    ctf : (Rx, Ry) float64
        Share of each spatial frequency of the phase that the image has; zero frequency at (0, 0),
        as in ``numpy.fft``.
    method : str
        ``"ssb"``, ``"obf"`` or ``"wdd"``.
    sigmas : mapping
        One-sigma uncertainties of what was fitted: Å of ``"C10"``, ``"C12a"``, ``"C12b"`` … (a is
        C cos mφ, b is C sin mφ), rad of ``"rotation"``.
    report : mapping
        How the fit went; resolution and pixels used.
    """

    phase: RealSlice
    amplitude: RealSlice
    aberrations: Aberrations
    rotation_rad: float
    flip: bool
    ctf: Float
    method: str = "ssb"
    sigmas: Mapping[str, float] = field(default_factory=dict)
    history: History = field(default_factory=History)
    name: str = "direct ptychography"
    report: Mapping[str, Any] = field(default_factory=dict)

    @property
    def calibration(self) -> Calibration:
        """Of the scan."""
        return self.phase.calibration

    @property
    def transmission(self) -> Complex:
        """``amplitude · exp(i phase)``, (Rx, Ry) complex128."""
        return np.asarray(self.amplitude.data * np.exp(1j * self.phase.data), np.complex128)

    def calibration_changes(self) -> dict[str, Any]:
        """What the result tells a calibration: rotation and flip."""
        return {"rotation_rad": self.rotation_rad, "flip": self.flip}

    def text(self) -> str:
        """Aberrations and rotation, one per line, with their uncertainties where fitted."""
        sigmas = self.sigmas
        turn = f" ± {math.degrees(sigmas['rotation']):.2g}" if "rotation" in sigmas else ""
        lines = [
            f"{self.name} ({self.method}) of {self.phase.shape[0]} x {self.phase.shape[1]} "
            f"positions, rotation {math.degrees(self.rotation_rad):.2f}{turn}°"
            f"{', flipped' if self.flip else ''}"
        ]
        for (name, part), value in self.aberrations.cartesian.items():
            full = name if name in sigmas else name + part
            sigma = f" ± {sigmas[full]:.3g}" if full in sigmas else ""
            lines.append(f"{full}: {value:.4g}{sigma} Å")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return (
            f"<DirectResult {self.method} {self.phase.shape}, defocus "
            f"{self.aberrations.defocus_A:.4g} Å, rotation {math.degrees(self.rotation_rad):.2f}°>"
        )


def _to_parts(result: DirectResult) -> dict[str, Any]:
    plain = ["rotation_rad", "flip", "ctf", "method", "name", "calibration"]
    return {name: getattr(result, name) for name in plain} | {
        "phase": result.phase.data,
        "amplitude": result.amplitude.data,
        "aberrations": dict(result.aberrations.coefficients),
        "sigmas": dict(result.sigmas),
        "report": dict(result.report),
        "history": result.history.to_dict(),
    }


def _from_parts(parts: Mapping[str, Any]) -> DirectResult:
    history = History.from_dict(parts["history"])
    calibration = parts["calibration"]
    changed = {
        "phase": RealSlice(parts["phase"], calibration, history, "phase", units="rad"),
        "amplitude": RealSlice(parts["amplitude"], calibration, history, "amplitude", units=""),
        "aberrations": Aberrations(parts["aberrations"]),
        "history": history,
    }
    rest = {name: value for name, value in parts.items() if name != "calibration"}
    return DirectResult(**{**rest, **changed})


register_result("direct-ptychography", DirectResult, _to_parts, _from_parts)


class DirectPtychography(Analysis, kind="direct-ptychography", version=1):
    """Phase and amplitude of a thin specimen in one linear step: SSB, OBF or Wigner deconvolution.

    Aberrations, rotation and flip are fitted where they are not given.
    """

    method: Method = Field(
        "ssb",
        description="ssb: single side band; obf: optimum bright field, of the best signal to "
        "noise; wdd: Wigner distribution deconvolution.",
    )
    aberrations: Literal["auto"] | dict[str, float] | None = Field(
        "auto",
        description='Of the probe, such as {"defocus": 120}, in Å (angles in rad); auto: fitted; '
        "None: a probe in focus.",
    )
    rotation_rad: float | None = Field(
        None,
        description="From detector to scan axes, in rad; None: that of the calibration, refined "
        "with the aberrations, or else found with them.",
    )
    flip: bool | None = Field(
        None,
        description="Exchange x and y of the detector first; None: as in the calibration, or else "
        "found with the rotation.",
    )
    epsilon: float | None = Field(
        None,
        gt=0,
        le=1,
        description="Spatial frequencies that are transferred by this share of the best are damped "
        "by half (wdd: in the space of Wigner distributions); None: 0.01, for wdd 0.1, and for obf "
        "as they are seen, with white noise.",
    )

    cites: ClassVar[tuple[str, ...]] = (
        "10.1016/j.ultramic.2014.09.013",
        "10.1016/j.ultramic.2020.113133",
        "10.1098/rsta.1992.0050",
    )
    accepts: ClassVar[tuple[type, ...]] = (Cube,)

    def apply(self, value: Any, options: RunOptions | None = None) -> DirectResult:
        self.check(value)
        cube: Cube = value
        calibration = cube.calibration
        if self.aberrations != "auto":
            Aberrations(self.aberrations or {})
        optics = Optics.of(
            calibration, cube.Q_shape, rotation_rad=self.rotation_rad, flip=self.flip
        )
        stack = BrightStack.of(cube, optics, options)
        if self.aberrations != "auto":
            aberrations = Aberrations(self.aberrations or {})
            return self._made(stack, optics, aberrations, None)
        known = self.rotation_rad is not None or calibration.rotation_rad is not None
        fit = fit_lens(stack, optics, search=not known, turn=self.rotation_rad is None)
        made = self._made(stack, fit.optics, fit.aberrations, fit)
        return made if known else self._upright(stack, made, fit)

    def _made(
        self, stack: BrightStack, optics: Optics, aberrations: Aberrations, fit: LensFit | None
    ) -> DirectResult:
        _check_step(optics, aberrations)
        epsilon = EPSILON[self.method] if self.epsilon is None else self.epsilon
        phase, amplitude, ctf = _METHODS[self.method](stack, optics, aberrations, epsilon)
        calibration = stack.cube.calibration.replace(
            rotation_rad=optics.rotation_rad, flip=optics.flip
        )
        history = self.history(stack.cube.history)
        report: dict[str, Any] = {
            "pixels": len(stack.index),
            "resolution (A)": _resolution_A(stack, optics),
        }
        if fit is not None:
            report |= {"explained": fit.explained, "explained of noise": fit.noise}
        return DirectResult(
            RealSlice(phase - phase.mean(), calibration, history, "phase", units="rad"),
            RealSlice(amplitude, calibration, history, "amplitude", units=""),
            aberrations,
            optics.rotation_rad,
            optics.flip,
            ctf,
            self.method,
            fit.sigmas if fit is not None else {},
            history,
            report=report,
        )

    def _upright(self, stack: BrightStack, made: DirectResult, fit: LensFit) -> DirectResult:
        """Of the two half turns, that of which the phase has peaks rather than holes."""
        skewness, sigma = _skewness(made.phase.data, made.ctf)
        if skewness < 0:
            turned = _wrapped(made.rotation_rad + math.pi)
            parts = {part: -value for part, value in made.aberrations.cartesian.items()}
            other = replace(fit.optics, rotation_rad=turned)
            made = self._made(stack, other, Aberrations.from_cartesian(parts), fit)
        found = {
            "half turn": "by the sign of the phase",
            "half turn (sigma)": abs(skewness) / sigma,
        }
        return replace(
            made, rotation_rad=_wrapped(made.rotation_rad), report={**made.report, **found}
        )


def direct_ptychography(
    cube: Cube,
    *,
    method: Method = "ssb",
    aberrations: Aberrations | Mapping[str, float] | Literal["auto"] | None = "auto",
    rotation_rad: float | None = None,
    flip: bool | None = None,
    epsilon: float | None = None,
    options: RunOptions | None = None,
) -> DirectResult:
    """Phase and amplitude of a thin specimen from a scan, in one linear step.

    Parameters
    ----------
    cube : DataCube
        With energy, convergence angle, scan step and pixel size of the detector.
    method : "ssb", "obf" or "wdd"
        Single side band; optimum bright field; Wigner distribution deconvolution.
    aberrations : Aberrations, mapping, "auto" or None
        Of the probe, such as ``{"defocus": 120}`` (Å; angles in rad, detector axes); "auto": fitted
        (defocus, and astigmatism, coma and Cs as far as the scan shows them); None: in focus.
    rotation_rad, flip : float, bool, optional
        From detector to scan axes.  None: as calibrated, the rotation refined together with the
        aberrations; where nothing is known both are found (only with ``aberrations="auto"``).
    epsilon : float, optional
        Frequencies that are transferred by this share of the best are damped to a half ("wdd": in
        the space of Wigner distributions).  None: 0.01, for "wdd" 0.1; for "obf" no frequency is
        raised, the noise stays white.
    options : RunOptions, optional
        Scans of which the bright disk does not fit into ``memory`` are read in several passes.

    Returns
    -------
    DirectResult
        ``.phase`` (rad) and ``.amplitude``, (Rx, Ry) in scan axes; ``.aberrations``,
        ``.rotation_rad``, ``.flip``, ``.sigmas``, ``.ctf``.

    Raises
    ------
    CalibrationMissing
        A quantity named above is not known.
    ShapeError
        Fewer than 4 scan positions along x or y.
    ParameterError
        The disk reaches beyond the detector, has no counts, or more than a tenth of its values are
        not finite; the scan step is far larger than the probe.
    SolveError
        Aberrations cannot be fitted: nothing stands out of the noise.
    MemoryBudgetError
        "wdd" only, which needs all of the bright disk in memory.

    Notes
    -----
    The Fourier transform over the scan of what pixel k counts is, for a weak object 1 + o(r),
    ``G(Q, k) = O(Q) Ψ*(k) Ψ(k − Q) + O*(−Q) Ψ(k) Ψ*(k + Q)``, with the probe
    ``Ψ = A exp(−2πi χ/λ)``.  SSB (doi:10.1016/j.ultramic.2014.09.013) averages the first term,
    phases of Ψ removed, where the second is zero.  OBF (doi:10.1016/j.ultramic.2020.113133)
    weighs all pixels by ``(Γ₁ − Γ₂)*`` over the noise, which gives the best ratio of signal to
    noise.  WDD (doi:10.1098/rsta.1992.0050) divides in the space of Wigner distributions by
    ``|F Γ|² + ε``.  The phase is in rad for weak objects; strong ones come out too weak.  The best
    resolution is half of the wavelength over the convergence angle; frequencies beyond half of
    the inverse scan step are aliased.

    "auto" takes the defocus (and, where unknown, rotation and flip) that explain most of the
    strongest Fourier components, and refines by least squares; groups of aberrations are added
    while the Bayesian information criterion falls.  A half turn of the rotation with all
    aberrations reversed explains a scan as well: where the rotation is not known at all, the one
    is taken whose phase has peaks rather than holes.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((16, 20), (48, 48), step_A=0.5, strength=0.1, dose=None)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> found = direct_ptychography(cube, aberrations={"defocus": 100})
    >>> found.phase.shape, found.phase.units
    ((16, 20), 'rad')
    """
    given: Any = aberrations
    if isinstance(aberrations, Aberrations):
        given = dict(aberrations.coefficients)
    elif isinstance(aberrations, Mapping):
        given = dict(aberrations)
    step = DirectPtychography(
        method=method, aberrations=given, rotation_rad=rotation_rad, flip=flip, epsilon=epsilon
    )
    return step.apply(cube, options)


def ssb(
    cube: Cube,
    *,
    aberrations: Aberrations | Mapping[str, float] | Literal["auto"] | None = "auto",
    rotation_rad: float | None = None,
    flip: bool | None = None,
    epsilon: float | None = None,
    options: RunOptions | None = None,
) -> DirectResult:
    """Single-side-band ptychography: `direct_ptychography` with ``method="ssb"``.

    Parameters
    ----------
    cube, aberrations, rotation_rad, flip, epsilon, options
        As for `direct_ptychography`.

    Returns
    -------
    DirectResult
        ``.phase`` (rad) and ``.amplitude``, (Rx, Ry) in scan axes.

    Notes
    -----
    doi:10.1016/j.ultramic.2014.09.013

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.phase_object((12, 16), (48, 48), step_A=0.5, strength=0.1, dose=None)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> ssb(cube, aberrations={"defocus": 100}).method
    'ssb'
    """
    return direct_ptychography(
        cube,
        aberrations=aberrations,
        rotation_rad=rotation_rad,
        flip=flip,
        epsilon=epsilon,
        options=options,
    )


# ---- the methods ---------------------------------------------------------------------------------
Images = tuple[Float, Float, Float]


def _single_side_band(
    stack: BrightStack, optics: Optics, aberrations: Aberrations, epsilon: float
) -> Images:
    sums = overlaps(stack, optics, aberrations, np.ones(len(stack.index)), both=False)
    damped = sums.norms + np.float32(epsilon * sums.norms.max())
    plus, minus = sums.sums / damped
    return _transmitted(stack, plus, minus, (sums.norms / damped).mean(axis=0))


def _wigner(stack: BrightStack, optics: Optics, aberrations: Aberrations, epsilon: float) -> Images:
    sums, transfer = deconvolved(stack, optics, aberrations, epsilon)
    # Both side bands are solved for together: each is seen a little in the sum for the other.
    back = np.conj(np.swapaxes(transfer, -1, -2))
    least = WEAKEST * float(np.abs(transfer).max())
    inverse = np.linalg.inv(back @ transfer + least**2 * np.eye(2, dtype=np.complex64)) @ back
    plus, minus = np.moveaxis((inverse @ sums[..., None])[..., 0], -1, 0)
    whole = inverse @ transfer
    ctf = 0.5 * (whole[..., 0, 0] - whole[..., 0, 1] + whole[..., 1, 1] - whole[..., 1, 0]).real
    return _transmitted(stack, plus, minus, ctf)


def _optimum(
    stack: BrightStack, optics: Optics, aberrations: Aberrations, epsilon: float | None
) -> Images:
    counts = stack.means / stack.means[stack.means > 0].mean()
    weights = np.where(stack.means > 0, 1 / np.maximum(counts, DARKEST), 0.0)
    sums = overlaps(stack, optics, aberrations, weights, both=True)
    (first, second), norms = sums.sums.astype(np.complex128), sums.norms.sum(axis=0)
    images = []
    ctf = np.zeros(0)
    for sign, factor in ((-1, -1j), (1, -1.0)):  # O = iφ − μ
        norm = np.maximum(norms + 2 * sign * sums.cross.real, 0.0).astype(np.float64)
        largest = float(norm.max())
        damped = np.sqrt(np.maximum(norm, 1e-6 * largest) * largest)
        if epsilon is not None:
            damped = norm + epsilon * largest
        wave = factor * (first + sign * second) / damped
        wave[0, 0] = 0.0
        images.append(_real(wave, stack.R_shape) / _transmitted_beam(stack))
        ctf = ctf if len(ctf) else norm / damped
    return images[0], 1 - images[1], _whole(ctf, ctf, stack.R_shape).real


_METHODS: dict[str, Any] = {"ssb": _single_side_band, "obf": _optimum, "wdd": _wigner}


def _transmitted(
    stack: BrightStack, plus: NDArray[Any], minus: NDArray[Any], ctf: NDArray[Any]
) -> Images:
    """Phase and modulus of ``T(r) T*(0)``, both side bands apart; and the ctf."""
    waves = _whole(plus, np.conj(minus), stack.R_shape)
    beam = _transmitted_beam(stack)
    waves[0, 0] = beam
    object_: Complex = np.fft.ifft2(waves, norm="forward")
    seen = _whole(ctf, ctf, stack.R_shape).real
    seen[0, 0] = 0.0
    return np.angle(object_), np.abs(object_) / math.sqrt(beam), seen


def _transmitted_beam(stack: BrightStack) -> float:
    """Share of the beam that is still within the bright disk."""
    share = float(stack.means.sum() / stack.total)
    covered = float((stack.heights**2).sum() * stack.aperture[3])
    return min(share / covered, 1.0)


def _whole(plus: NDArray[Any], minus: NDArray[Any], R_shape: tuple[int, int]) -> Complex:
    """All frequencies (Rx, Ry) from the half with Q_y ≥ 0: values there, and those at −Q."""
    nx, ny = R_shape
    half = ny // 2 + 1
    whole = np.empty(R_shape, np.complex128)
    whole[:, :half] = plus
    rows, columns = (-np.arange(nx)) % nx, ny - np.arange(half, ny)
    whole[:, half:] = minus[np.ix_(rows, columns)]
    return whole


def _real(waves: Complex, R_shape: tuple[int, int]) -> Float:
    image: Float = np.fft.irfft2(waves, R_shape, norm="forward")
    return image


# ---- checks --------------------------------------------------------------------------------------
def _check_step(optics: Optics, aberrations: Aberrations) -> None:
    """The probe must reach from one scan position to the next."""
    alpha = optics.semiangle_mrad * 1e-3
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    x, y = alpha * np.cos(angles), alpha * np.sin(angles)
    rays = float(np.hypot(*aberrations.gradient(x, y)).max())
    diameter = 2 * rays + 1.22 * optics.wavelength_A / alpha
    largest = max(optics.R_steps_A)
    if largest > TOO_COARSE * diameter:
        raise ParameterError(
            f"the scan step of {largest:.3g} Å is too coarse for a probe of {diameter:.3g} Å: "
            "neighbouring positions share no area, and there is nothing to interfere; scan with "
            "smaller steps or a larger defocus"
        )


def _resolution_A(stack: BrightStack, optics: Optics) -> float:
    """The coarsest of what the aperture and the scan step allow, Å."""
    nyquist = [1 / (2 * step) for step in optics.R_steps_A]
    return 1 / min(2 * float(stack.aperture[0]), *nyquist)


def _skewness(phase: Float, ctf: Float) -> tuple[float, float]:
    """Third moment over the 3/2 power of the second, and its sigma for noise."""
    centred = phase - phase.mean()
    variance = float((centred**2).mean())
    points = max(float((ctf > 0.5).sum()), 1.0)
    return float((centred**3).mean()) / max(variance, 1e-300) ** 1.5, math.sqrt(6 / points)


def _wrapped(angle: float) -> float:
    return (angle + math.pi) % (2 * math.pi) - math.pi
