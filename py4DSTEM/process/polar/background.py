"""What lies below the rings of radial profiles: power laws, polynomials, atoms, other profiles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Field, field_validator, model_validator

from py4DSTEM.core.axis import Axis
from py4DSTEM.core.history import History
from py4DSTEM.core.scattering import Composition
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result
from py4DSTEM.process.radial import RadialProfileResult
from py4DSTEM.stream.analysis import Analysis
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.units import is_reciprocal, unit_factor

__all__ = ["BackgroundFit", "ProfileBackground", "fit_profile_background"]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Method = Literal["power-law", "polynomial", "atomic", "pca"]
Windows = tuple[tuple[float, float], ...]
_ROUNDS = 30
_STILL = 1e-10
_LARGEST_STEP = 2.0
"""Of amplitude (logarithm) and exponent in one round."""


@dataclass(frozen=True, eq=False)
class BackgroundFit:
    """Radial profiles and what lies below their rings.

    Parameters
    ----------
    profiles : RadialProfileResult
        As given, (..., n_bins).
    background : (..., n_bins) float64
        NaN at the origin of a power law, and of profiles that could not be fitted.
    coefficients : (..., k) float64
        Power law: amplitude at one unit of q, exponent; else of the terms, in their order.
    rms : (...) float64
        Root of the mean square of what is left where it was fitted.
    method : str
    windows : tuple of (float, float)
        Ranges of q where it was fitted.
    """

    profiles: RadialProfileResult
    background: Float
    coefficients: Float
    rms: Float
    method: str
    windows: Windows = ()
    history: History = field(default_factory=History)
    name: str = "background of profiles"

    @property
    def subtracted(self) -> RadialProfileResult:
        """The profiles without it."""
        return replace(
            self.profiles,
            data=self.profiles.data - self.background,
            history=self.history,
            name=f"{self.profiles.name} without background",
        )

    def __repr__(self) -> str:
        return f"<BackgroundFit {self.method} {self.background.shape}>"


def _to_parts(fit: BackgroundFit) -> dict[str, Any]:
    axis = fit.profiles.axis
    return {
        "data": fit.profiles.data,
        "counts": fit.profiles.counts,
        "axis": {"name": axis.name, "step": axis.step, "unit": axis.unit},
        "step_px": fit.profiles.step_px,
        "calibration": fit.profiles.calibration,
        "profiles_history": fit.profiles.history.to_dict(),
        "profiles_name": fit.profiles.name,
        "background": fit.background,
        "coefficients": fit.coefficients,
        "rms": np.asarray(fit.rms),
        "method": fit.method,
        "windows": [list(pair) for pair in fit.windows],
        "history": fit.history.to_dict(),
        "name": fit.name,
    }


def _from_parts(parts: Mapping[str, Any]) -> BackgroundFit:
    profiles = RadialProfileResult(
        parts["data"],
        parts["counts"],
        Axis(**parts["axis"]),
        parts["step_px"],
        parts["calibration"],
        History.from_dict(parts["profiles_history"]),
        parts["profiles_name"],
    )
    own = {name: parts[name] for name in ("background", "coefficients", "rms", "method", "name")}
    windows = tuple((float(low), float(high)) for low, high in parts["windows"])
    history = History.from_dict(parts["history"])
    return BackgroundFit(profiles, **own, windows=windows, history=history)


register_result("background-fit", BackgroundFit, _to_parts, _from_parts)


class ProfileBackground(Analysis, kind="profile-background", version=1):
    """Fit and subtract what lies below the rings of radial profiles."""

    method: Method = Field(
        "power-law",
        description="A q^-p; a polynomial; c⟨f²⟩ and a polynomial; profiles of other positions.",
    )
    windows: Windows = Field(
        min_length=1,
        description="Ranges of q without rings, in the unit of the profiles: [[0.1, 0.2], ...].",
    )
    order: int = Field(2, ge=0, le=8, description="Of the polynomial.")
    components: int = Field(
        2, ge=0, le=32, description="Principal components of the reference besides its mean."
    )
    composition: str | None = Field(None, description="For the atoms' own, as Pd80Si20.")
    reference: tuple[tuple[bool, ...], ...] | None = Field(
        None, description="Scan positions that hold background only, for pca; None: all."
    )

    accepts: ClassVar[tuple[type, ...]] = (RadialProfileResult,)

    @field_validator("composition")
    @classmethod
    def _known(cls, given: str | None) -> str | None:
        return str(Composition.parse(given)) if given else None  # an empty field of a form

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        if any(not 0 <= low < high for low, high in self.windows):
            raise ValueError("windows are [low, high] with 0 <= low < high")
        if self.method == "atomic" and self.composition is None:
            raise ValueError('method="atomic" needs a composition')
        return self

    def apply(self, value: RadialProfileResult, options: RunOptions | None = None) -> BackgroundFit:
        """Of radial profiles."""
        self.check(value)
        inside = self._inside(value)
        data = value.data.reshape(-1, value.data.shape[-1])
        weights = np.where(np.isfinite(value.counts), value.counts, 0.0).reshape(data.shape)
        if self.method == "power-law":
            background, coefficients = _power_laws(value.q, data, weights, inside)
        else:
            mean, columns = self._columns(value, data)
            pixels = weights.mean(axis=0) * inside
            background, coefficients = _linear(data - mean, columns, pixels, inside)
            background = background + mean
        left = (data - background)[:, inside]
        shape = value.data.shape[:-1]
        return BackgroundFit(
            value,
            background.reshape(value.data.shape),
            coefficients.reshape(*shape, -1),
            np.sqrt((left**2).mean(axis=1)).reshape(shape),
            self.method,
            self.windows,
            self.history(value.history),
        )

    def _inside(self, value: RadialProfileResult) -> Bool:
        """Rings to fit."""
        q = value.q
        inside = np.zeros(q.shape, bool)
        for low, high in self.windows:
            inside |= (q >= low - 1e-9) & (q <= high + 1e-9)
        inside &= (q > 0) & (np.isfinite(value.data).reshape(-1, len(q)).any(axis=0))
        wanted = {"power-law": 2, "polynomial": self.order + 1, "atomic": self.order + 2}
        least = wanted.get(self.method, self.components) + 1
        if int(inside.sum()) < least:
            raise ParameterError(
                f"{int(inside.sum())} rings with values lie in the windows {self.windows} "
                f"({value.units}), {least} is the least for {self.method!r}"
            )
        return inside

    def _columns(self, value: RadialProfileResult, data: Float) -> tuple[Float, Float]:
        """What is taken away first (n_bins,), and the terms (n_bins, k)."""
        q = value.q
        x = 2 * q / q[-1] - 1
        nothing = np.zeros(len(q))
        if self.method == "pca":
            return self._principal(value, data)
        terms = np.polynomial.legendre.legvander(x, self.order)
        if self.method == "polynomial":
            return nothing, terms
        if not is_reciprocal(value.units):
            raise ParameterError(f"scattering factors need q in 1/Å, not in {value.units}")
        own = Composition.parse(self.composition or "").mean_f2_A2(
            q * unit_factor(value.units, "A^-1")
        )
        return nothing, np.column_stack([own, terms])

    def _principal(self, value: RadialProfileResult, data: Float) -> tuple[Float, Float]:
        """Mean and leading components of the reference positions."""
        chosen = np.ones(len(data), bool)
        if self.reference is not None:
            given = np.array(self.reference, bool)
            if given.shape != value.data.shape[:-1]:
                raise ShapeError(
                    f"a reference of {given.shape} does not fit profiles of {value.data.shape[:-1]}"
                )
            chosen = given.ravel()
        rings: Bool = np.asarray(np.isfinite(data).any(axis=0))
        known = data[chosen & np.isfinite(data[:, rings]).all(axis=1)][:, rings]
        if len(known) <= self.components:
            raise ParameterError(
                f"{len(known)} reference profiles do not give {self.components} components"
            )
        mean, terms = np.zeros(len(rings)), np.zeros((len(rings), self.components))
        mean[rings] = known.mean(axis=0)
        _, _, axes = np.linalg.svd(known - mean[rings], full_matrices=False)
        terms[rings] = axes[: self.components].T
        return mean, terms


def _linear(data: Float, columns: Float, pixels: Float, inside: Bool) -> tuple[Float, Float]:
    """Weighted least squares of all profiles at once: background (n, n_bins), coefficients."""
    if not columns.shape[1]:
        return np.zeros_like(data), np.zeros((len(data), 0))
    root = np.sqrt(pixels[inside])
    solve = np.linalg.pinv(columns[inside] * root[:, None]) * root
    coefficients = data[:, inside] @ solve.T
    return coefficients @ columns.T, coefficients


def _power_laws(q: Float, data: Float, weights: Float, inside: Bool) -> tuple[Float, Float]:
    """``A q^−p`` of each profile, by counting statistics: background (n, n_bins), (A, p)."""
    x = np.log(q[inside])
    seen, pixels = data[:, inside], weights[:, inside]
    positive = np.where(seen > 0, seen, np.nan)
    usable = (np.isfinite(positive).sum(axis=1) >= 2) & np.isfinite(seen).all(axis=1)
    start = np.where(np.isfinite(positive), np.log(np.where(seen > 0, seen, 1.0)), 0.0)
    heavy = np.where(np.isfinite(positive), pixels * np.maximum(seen, 0), 0.0)
    fit = _straight(x, start, heavy)
    for _ in range(_ROUNDS):
        model = np.exp(np.clip(fit[:, :1] - fit[:, 1:] * x, -600, 600))
        # To first order the logarithm of the data is that of the model and its relative residual.
        change = _straight(x, (seen - model) / model, pixels * model)
        fit = fit + np.clip(np.where(np.isfinite(change), change, 0), -_LARGEST_STEP, _LARGEST_STEP)
        if not (np.abs(change[usable]) > _STILL).any():
            break
    fit[~usable] = np.nan
    everywhere = np.log(np.where(q > 0, q, np.nan))
    background = np.exp(fit[:, :1] - fit[:, 1:] * everywhere)
    return background, np.stack([np.exp(fit[:, 0]), fit[:, 1]], axis=1)


def _straight(x: Float, y: Float, weights: Float) -> Float:
    """Weighted lines ``y = a − p x``: (a, p) of each row; NaN where it has no weight."""
    total = weights.sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean_x, mean_y = (weights @ x) / total, (weights * y).sum(axis=1) / total
        away = x - mean_x[:, None]
        slope = (weights * away * y).sum(axis=1) / (weights * away**2).sum(axis=1)
    return np.stack([mean_y - slope * mean_x, -slope], axis=1)


def fit_profile_background(
    profiles: RadialProfileResult,
    windows: ArrayLike,
    *,
    method: Method = "power-law",
    order: int = 2,
    components: int = 2,
    composition: str | None = None,
    reference: ArrayLike | None = None,
) -> BackgroundFit:
    """Fit what lies below the rings of radial profiles, where there are none.

    Parameters
    ----------
    profiles : RadialProfileResult
        Of a pattern or of all positions of a scan.
    windows : (k, 2) float
        Ranges of q without rings, in the unit of `profiles`.
    method : "power-law", "polynomial", "atomic" or "pca"
        ``A q^−p``; a polynomial; ``c⟨f²⟩`` and a polynomial; mean and principal components of
        profiles that hold background only.
    order : int
        Of the polynomial.
    components : int
        Principal components besides the mean.
    composition : str, optional
        For "atomic", as ``"Pd80Si20"``.
    reference : (Rx, Ry) bool, optional
        Positions that hold background only, for "pca"; None: all.

    Returns
    -------
    BackgroundFit
        ``.background``, ``.subtracted``, ``.coefficients``, ``.rms``.

    Raises
    ------
    ParameterError
        Too few rings in the windows, no composition, too few reference profiles.
    ShapeError
        A reference of another shape than the scan.

    Notes
    -----
    Least squares weighted with the pixels in each ring; of a power law with their counting
    statistics, ``w = n/I``.  Power laws are fitted to each profile, all at once.

    Examples
    --------
    >>> import numpy as np
    >>> from py4DSTEM import Axis, RadialProfileResult
    >>> q = 0.02 * np.arange(60)
    >>> ring = 5 * np.exp(-(((q - 0.6) / 0.05) ** 2) / 2)
    >>> data = np.append([0], 3 * q[1:] ** -1.5) + ring
    >>> profile = RadialProfileResult(data, np.ones(60), Axis("q", 0.02, 0, "A^-1"), 1.0)
    >>> fit = fit_profile_background(profile, [[0.1, 0.35], [0.85, 1.1]])
    >>> fit.coefficients.round(2).tolist()
    [3.0, 1.5]
    """
    given = np.asarray(windows, np.float64)
    if given.ndim != 2 or given.shape[1] != 2 or not np.isfinite(given).all():
        raise ParameterError(f"windows are pairs [[low, high], ...], not {windows!r}")
    chosen = None
    if reference is not None:
        array = np.asarray(reference, bool)
        if array.ndim != 2:
            raise ShapeError(f"a reference is (Rx, Ry) bool, not of shape {array.shape}")
        chosen = tuple(map(tuple, array.tolist()))
    analysis = ProfileBackground(
        method=method,
        windows=tuple((float(low), float(high)) for low, high in given),
        order=order,
        components=components,
        composition=composition,
        reference=chosen,
    )
    return analysis.apply(profiles)
