"""The pair distribution function of a glass from its diffraction rings."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, PositiveFloat, field_validator, model_validator

from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import AnyDetector, Detector, Mask
from py4DSTEM.core.scattering import Composition
from py4DSTEM.core.slices import DiffractionSlice
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.process.amorphous.pair_choices import (
    choose_exponent,
    choose_order,
    choose_r_min,
    q_range,
)
from py4DSTEM.process.amorphous.pair_transform import (
    Background,
    Damping,
    PairTransform,
    Setup,
    assumptions,
    resolution_A,
)
from py4DSTEM.process.amorphous.pdf_result import PDFResult, ratio_sigma
from py4DSTEM.process.radial import (
    RadialProfileResult,
    as_cube,
    mean_radial_profile,
    radial_profiles,
)
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.units import is_reciprocal, unit_factor

__all__ = ["PairDistribution", "pair_distribution"]

Float = NDArray[np.float64]
Per = Literal["scan", "position"]
Noise = Literal["counts", "positions"]
_FEWEST_POSITIONS = 8
_MOST_DISTANCES = 20_000


@dataclass(frozen=True, eq=False)
class _Profiles:
    """Profiles to transform, (..., n_bins), and what is known of their noise."""

    q_A: Float
    data: Float
    counts: Float
    covariance: Float | None
    labels: tuple[int, ...]

    @property
    def pooled(self) -> tuple[Float, Float]:
        """One profile (n_bins,) of all, and its pixels."""
        known = np.isfinite(self.data) & np.isfinite(self.counts)
        around = tuple(range(self.data.ndim - 1))
        counts = np.where(known, self.counts, 0.0)
        total = (counts * np.where(known, self.data, 0.0)).sum(axis=around)
        pixels = counts.sum(axis=around)
        return np.divide(total, pixels, out=np.full_like(total, np.nan), where=pixels > 0), pixels


class PairDistribution(Analysis, kind="pair-distribution", version=1):
    """Pair distribution function g(r) from radial profiles: background, transform, errors.

    ``S = 1 + (I − smooth)/(c⟨f⟩²)``, ``F = 2πq (S − 1)``, ``G(r) = 4 ∫ F w sin(2πqr) dq``,
    ``g = 1 + G/(4πρr)`` (names as in doi:10.1107/S0021889800019993).  The smooth part is ``⟨f²⟩``
    times a polynomial in q.  "low-r": its coefficients, and ``cρ``, are those for which
    ``G + 4πρr`` is least below `r_min_A`, where no pairs are (what doi:10.1103/PhysRevB.65.174105
    iterates, as one problem of least squares); "polynomial": for which F is least
    (doi:10.1107/S0021889813005190).  g(r) does not depend on the scale; G, S and coordination do.
    With `density_A3` the scale is that for which G has the slope ``−4πρ``.  Without, it is assumed
    that at `q_max` all smooth intensity is single elastic scattering, which makes the coordination
    too small by the share that is not.

    Everything but the last division is linear in I, so that errors follow in closed form from
    ``J C J`` with the covariance C of the intensities; they hold noise, not the assumptions.
    """

    composition: str = Field(description="Elements and their shares, as Pd80Si20 or SiO2.")
    q_min: float | None = Field(
        None, gt=0, description="First ring in 1/Å (1/d, no 2π); None: where the beam has faded."
    )
    q_max: float | None = Field(
        None, gt=0, description="Last ring in 1/Å (1/d, no 2π); None: the last whole one."
    )
    background: Background = Field(
        "low-r",
        description="What takes the smooth part away: the straight line of G(r) at small r, least "
        "squares of F(q), a power law, nothing but the atoms' own.",
    )
    order: int | None = Field(
        None, ge=0, le=8, description="Of the polynomial; None: what r_min_A allows, at most 2."
    )
    damping: Damping = Field("lorch", description="How F(q) fades towards q_max.")
    density_A3: PositiveFloat | None = Field(
        None, description="Atoms per cubic Å; None: estimated from the slope of G(r)."
    )
    r_max_A: float = Field(12.0, gt=0, description="Largest distance in Å.")
    r_step_A: float = Field(0.02, gt=0, description="Step of the distances in Å.")
    r_min_A: PositiveFloat | None = Field(
        None, description="Below it there are no atoms; None: from the first peak."
    )
    rounds: int = Field(
        0, ge=0, le=50, description="Times that what remains below r_min_A is taken away."
    )
    noise: Noise = Field(
        "counts",
        description="Errors from counting electrons, or from the differences between positions, "
        "which hold speckle and thickness too.",
    )
    gain: PositiveFloat = Field(1.0, description="Counts per electron.")
    per: Per = Field("scan", description="One g(r) of the scan, or one of each position.")
    labels: tuple[tuple[int, ...], ...] | None = Field(
        None, description="Region of each position, for one g(r) per region; negative: none."
    )
    where: tuple[tuple[bool, ...], ...] | None = Field(
        None, description="Scan positions that count; None: all."
    )
    step_px: float = Field(1.0, gt=0, description="Distance between rings in detector pixels.")
    mask: AnyDetector | None = Field(None, description="Pixels that count: weight >= 1/2.")

    accepts: ClassVar[tuple[type, ...]] = (Cube, RadialProfileResult, DiffractionSlice)
    cites: ClassVar[tuple[str, ...]] = (
        "10.1107/S0021889800019993",
        "10.1103/PhysRevB.65.174105",
        "10.1088/0022-3719/2/2/305",
        "10.1107/S0108767395014371",
    )

    @field_validator("composition")
    @classmethod
    def _known(cls, given: str) -> str:
        return str(Composition.parse(given))

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if self.q_min is not None and self.q_max is not None and self.q_min >= self.q_max:
            raise ValueError("q_min must be smaller than q_max")
        if self.r_step_A * 4 > self.r_max_A or self.r_max_A / self.r_step_A > _MOST_DISTANCES:
            raise ValueError(f"r_max_A / r_step_A must lie between 4 and {_MOST_DISTANCES}")
        if self.per == "position" and self.labels is not None:
            raise ValueError('labels and per="position" exclude each other')
        if self.per == "position" and self.noise == "positions":
            raise ValueError('noise="positions" needs several positions for each g(r)')
        return self

    def apply(
        self,
        value: Cube | RadialProfileResult | DiffractionSlice,
        options: RunOptions | None = None,
    ) -> PDFResult:
        """Of a scan, a pattern, or radial profiles."""
        from threadpoolctl import threadpool_limits  # slow to import

        self.check(value)
        profiles = self._profiles(value, options)
        used, setup, choices = self._setup(profiles)
        # Products this small gain nothing from threads, and lose where others use the cores.
        with threadpool_limits(limits=1, user_api="blas"):
            result = self._transformed(profiles, used, setup)
        return replace(
            result,
            choices={**choices, **assumptions(setup)},
            calibration=value.calibration,
            history=self.history(value.history),
        )

    # ---- profiles --------------------------------------------------------------------------------
    def _profiles(
        self, value: Cube | RadialProfileResult | DiffractionSlice, options: RunOptions | None
    ) -> _Profiles:
        given = value if isinstance(value, RadialProfileResult) else self._measured(value, options)
        q_A = _q_A(given)
        if given.data.ndim == 1:
            if self.labels is not None or self.noise == "positions" or self.where is not None:
                raise ParameterError(
                    "labels, where and noise='positions' need the profiles of the positions of a "
                    "scan, not one profile"
                )
            return _Profiles(q_A, given.data, given.counts, None, ())
        chosen = self._chosen(given.data.shape[:-1])
        if self.per == "position":
            data = np.where(chosen[..., None] >= 0, given.data, np.nan)
            return _Profiles(q_A, data, given.counts, None, ())
        return self._groups(q_A, given, chosen)

    def _measured(
        self, value: Cube | DiffractionSlice, options: RunOptions | None
    ) -> RadialProfileResult:
        several = self.per == "position" or self.labels is not None or self.noise == "positions"
        cube = as_cube(value) if isinstance(value, DiffractionSlice) else value
        chosen = self._chosen(cube.R_shape) >= 0
        if several:
            return radial_profiles(
                cube, step_px=self.step_px, mask=self.mask, where=chosen, options=options
            )
        return mean_radial_profile(
            cube, step_px=self.step_px, mask=self.mask, where=chosen, options=options
        )

    def _chosen(self, R_shape: tuple[int, ...]) -> NDArray[np.int64]:
        """Region of each position; negative: none."""
        chosen = np.zeros(R_shape, np.int64)
        for name, given in (("labels", self.labels), ("where", self.where)):
            if given is None:
                continue
            array = np.array(given)
            if array.shape != R_shape:
                raise ShapeError(f"{name} of {array.shape} do not fit a scan of {R_shape}")
            chosen = np.where(array, chosen, -1) if name == "where" else array.astype(np.int64)
        if not (chosen >= 0).any():
            raise ParameterError("no position of the scan is chosen")
        return chosen

    def _groups(
        self, q_A: Float, given: RadialProfileResult, chosen: NDArray[np.int64]
    ) -> _Profiles:
        """One profile for each region, every pixel with the same weight."""
        data = given.data.reshape(-1, given.data.shape[-1])
        counts = np.where(np.isfinite(data), given.counts.reshape(data.shape), 0.0)
        region = chosen.ravel()
        labels = np.unique(region[region >= 0])
        member = (region[None, :] == labels[:, None]).astype(np.float64)
        pixels = member @ counts
        total = member @ (counts * np.where(counts > 0, data, 0.0))
        mean = np.divide(total, pixels, out=np.full_like(total, np.nan), where=pixels > 0)
        covariance = None
        if self.noise == "positions":
            covariance = np.stack([_scatter(data[one > 0]) for one in member])
        if self.labels is None:
            return _Profiles(
                q_A, mean[0], pixels[0], None if covariance is None else covariance[0], ()
            )
        return _Profiles(q_A, mean, pixels, covariance, tuple(labels.tolist()))

    # ---- setup -----------------------------------------------------------------------------------
    def _setup(self, profiles: _Profiles) -> tuple[slice, Setup, dict[str, str]]:
        composition = Composition.parse(self.composition)
        pooled, pixels = profiles.pooled
        limits = (self.q_min, self.q_max)
        used, choices = q_range(profiles.q_A, pooled, pixels, composition, self.gain, limits)
        q, intensity = profiles.q_A[used], pooled[used]
        steps = math.floor(self.r_max_A / self.r_step_A + 1e-9)
        r: Float = self.r_step_A * np.arange(1, steps + 1, dtype=np.float64)
        first = Setup(
            q, r, composition, "polynomial", 2, 0.0, self.damping,
            min(1.0, self.r_max_A), 0, None,
        )  # fmt: skip
        r_min, why = (self.r_min_A, "given")
        if r_min is None:
            r_min, why = choose_r_min(first, intensity)
        if not r_min < self.r_max_A:
            raise ParameterError(f"r_min_A = {r_min:.3g} is not smaller than r_max_A")
        order = choose_order(q, r_min) if self.order is None else self.order
        exponent = 0.0
        if self.background == "power-law":
            exponent = choose_exponent(q, intensity, composition)
        setup = Setup(
            q, r, composition, self.background, order, exponent, self.damping, r_min,
            self.rounds, self.density_A3,
        )  # fmt: skip
        return used, setup, {**choices, "r_min": why}

    # ---- result ----------------------------------------------------------------------------------
    def _transformed(self, profiles: _Profiles, used: slice, setup: Setup) -> PDFResult:
        matrix = PairTransform.of(setup)
        intensity = np.ascontiguousarray(profiles.data[..., used])
        counts = profiles.counts[..., used]
        scale, number = intensity @ matrix.to_scale, intensity @ matrix.to_number
        bad = ~((scale > 0) & (number > 0))
        if profiles.data.ndim == 1 and bad:
            raise ParameterError(
                "the scale or the density of the fit is not positive: the profile is not that of "
                "this composition in this range, or the range or r_min_A is wrong"
            )
        scale, number = np.where(bad, np.nan, scale), np.where(bad, np.nan, number)
        r, q = setup.r_A, setup.q_A
        H = intensity @ matrix.to_H.T
        F = (intensity @ matrix.to_F.T) / scale[..., None]
        result = PDFResult(
            r=r,
            g=_g(H, number, r),
            sigma_g=H,
            G=H / scale[..., None],
            sigma_G=H,
            q=q,
            S=1 + F / (2 * math.pi * q),
            F=F,
            intensity=intensity,
            smooth=intensity @ matrix.to_smooth.T,
            variance=_counting(intensity, counts, self.gain),
            covariance=None if profiles.covariance is None
            else np.ascontiguousarray(profiles.covariance[..., used, used]),
            scale=scale,
            density_A3=number / scale,
            sigma_density_A3=scale,
            to_H=matrix.to_H,
            to_scale=matrix.to_scale,
            to_number=matrix.to_number,
            r_min_A=setup.r_min_A,
            composition=self.composition,
            background=self.background,
            damping=self.damping,
            resolution_A=resolution_A(q, self.damping),
            labels=profiles.labels,
        )  # fmt: skip
        return _with_sigmas(result, number, self.density_A3)


def _g(H: Float, number: Float, r: Float) -> Float:
    """``1 + H / (4πr · number)``, in place from the product on."""
    g: Float = H * (1 / (4 * math.pi * r))
    g /= number[..., None]
    g += 1
    return g


def _with_sigmas(result: PDFResult, number: Float, known: float | None) -> PDFResult:
    rows_g = result.to_H / (4 * math.pi * result.r[:, None])
    density = result.density_A3[..., None]
    sigma = ratio_sigma(result, result.to_number[None], density, result.to_scale, result.scale)
    return replace(
        result,
        sigma_g=ratio_sigma(result, rows_g, result.g - 1, result.to_number, number),
        sigma_G=ratio_sigma(result, result.to_H, result.G, result.to_scale, result.scale),
        # Of a known density the ratio is exact but for rounding.
        sigma_density_A3=sigma[..., 0] if known is None else np.zeros_like(result.density_A3),
    )


def _counting(intensity: Float, counts: Float, gain: float) -> Float:
    """Variance of a mean over `counts` pixels; at least that of one electron in all."""
    return np.asarray(
        gain * np.maximum(intensity, gain / np.maximum(counts, 1.0)) / np.maximum(counts, 1e-9)
    )


def _scatter(data: Float) -> Float:
    """Covariance (n_bins, n_bins) of the mean of profiles, from their differences."""
    seen = np.isfinite(data)
    known = data[seen[:, seen.any(axis=0)].all(axis=1)]
    if len(known) < _FEWEST_POSITIONS:
        raise ParameterError(
            f"noise='positions' needs {_FEWEST_POSITIONS} positions or more in every region, "
            f"there are {len(known)}: use noise='counts'"
        )
    left = known - known.mean(axis=0)
    return np.asarray(left.T @ left / (len(left) * (len(left) - 1)), np.float64)


def _q_A(profiles: RadialProfileResult) -> Float:
    """Radii of the rings in 1/Å."""
    if is_reciprocal(profiles.units):
        return profiles.q * unit_factor(profiles.units, "A^-1")
    x, y = profiles.calibration.Q_steps("A^-1")
    return profiles.q_px * math.sqrt(x * y)


def pair_distribution(
    source: Cube | RadialProfileResult | DiffractionSlice,
    composition: str | dict[str, float] | Composition,
    *,
    q_min: float | None = None,
    q_max: float | None = None,
    background: Background = "low-r",
    order: int | None = None,
    damping: Damping = "lorch",
    density_A3: float | None = None,
    r_max_A: float = 12.0,
    r_step_A: float = 0.02,
    r_min_A: float | None = None,
    rounds: int = 0,
    noise: Noise = "counts",
    gain: float = 1.0,
    per: Per = "scan",
    labels: ArrayLike | None = None,
    where: ArrayLike | None = None,
    step_px: float = 1.0,
    mask: Detector | ArrayLike | None = None,
    options: RunOptions | None = None,
) -> PDFResult:
    """Pair distribution function of a glass, with coordination numbers and errors.

    Parameters
    ----------
    source : DataCube, DiffractionSlice or RadialProfileResult
        With origin and pixel size of the detector.
    composition : str, mapping or Composition
        ``"Pd80Si20"`` or ``{"Pd": 0.8, "Si": 0.2}``.
    q_min, q_max : float, optional
        Range of ``q = 1/d`` in Å⁻¹; None: from where the direct beam has faded to the last ring
        that lies wholly on the detector (or where noise drowns it).  ``choices`` says why.
    background : "low-r", "polynomial", "power-law" or "none"
        How scale and smooth part (inelastic, multiple scattering) are found; see Notes.
    order : int, optional
        Of the polynomial; None: what the distances below `r_min_A` can tell, at most 2.
    damping : "lorch", "gaussian" or "none"
        Window over F(q), against ripples of the end of the range.
    density_A3 : float, optional
        Atoms per Å³.  Given, it sets the scale, and with it coordination numbers; None: estimated.
    r_max_A, r_step_A : float
        Distances.
    r_min_A : float, optional
        Distance below which there are no atoms; None: well below the first peak.
    rounds : int
        Times that what remains below it is taken away (doi:10.1103/PhysRev.138.A1336).
    noise : "counts" or "positions"
        What errors come from: counting statistics, or the differences between positions.
    gain : float
        Counts per electron.
    per : "scan" or "position"
        One result for the scan, or a map ``(Rx, Ry, n_r)``.
    labels : (Rx, Ry) int, optional
        One result for each region; negative: in none.
    where : (Rx, Ry) bool, optional
        Positions that count.
    step_px, mask, options
        As for `radial_profiles`, where a scan or pattern is given.

    Returns
    -------
    PDFResult
        ``.r .g .G .q .S .F``, ``.sigma_g .sigma_G``, ``.density_A3``, ``.coordination(r1, r2)``,
        ``.first_peak()``.

    Raises
    ------
    CalibrationMissing
        No origin, or no pixel size of the detector.
    ParameterError
        No ring is found, rings without pixels in the range, a scale that is not positive.
    ShapeError
        Labels or positions of another shape than the scan.

    Notes
    -----
    Formulas and assumptions are those of `PairDistribution`.

    Examples
    --------
    >>> from py4DSTEM import simulate
    >>> scan = simulate.amorphous((6, 5), (96, 96), seed=2)
    >>> cube = scan.cube.with_calibration(scan.truth.calibration)
    >>> found = pair_distribution(cube, "Cu", density_A3=scan.truth.density_A3)
    >>> bool(abs(found.first_peak().r_A - 2.5) < 0.1)
    True
    """
    analysis = PairDistribution(
        composition=str(Composition.parse(composition)), q_min=q_min, q_max=q_max,
        background=background, order=order, damping=damping, density_A3=density_A3,
        r_max_A=r_max_A, r_step_A=r_step_A, r_min_A=r_min_A, rounds=rounds, noise=noise, gain=gain,
        per=per, labels=_rows("labels", labels, int), where=_rows("where", where, bool),
        step_px=step_px,
        mask=mask if mask is None or isinstance(mask, Detector) else Mask(np.asarray(mask)),
    )  # fmt: skip
    return analysis.apply(source, options)


def _rows(name: str, given: ArrayLike | None, kind: type) -> tuple[tuple[int, ...], ...] | None:
    """A map over the scan as the model takes it."""
    if given is None:
        return None
    array = np.asarray(given)
    if array.ndim != 2 or array.dtype.kind not in "bui":
        raise ShapeError(
            f"{name} are (Rx, Ry) {kind.__name__}, not {array.dtype} of shape {array.shape}"
        )
    return tuple(map(tuple, array.astype(kind).tolist()))
