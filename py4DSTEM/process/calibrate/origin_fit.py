"""The origin of every scan position, and smooth surfaces through it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.core.points import FARTHEST_PX
from py4DSTEM.errors import ParameterError, ShapeError
from py4DSTEM.io.store.schema import register_result

__all__ = [
    "NORMAL_MEDIAN_SQUARE",
    "OriginFit",
    "OriginMeasurement",
    "Surface",
    "fit_origin",
    "surface_terms",
]

Float = NDArray[np.float64]
Bool = NDArray[np.bool_]
Surface = Literal["plane", "constant", "parabola", "bilinear", "none", "auto"]

# Exponents of u and v, which run from -1 to 1 over the rows and the columns of the scan.
_TERMS: Mapping[str, tuple[tuple[int, int], ...]] = {
    "constant": ((0, 0),),
    "plane": ((0, 0), (1, 0), (0, 1)),
    "bilinear": ((0, 0), (1, 0), (0, 1), (1, 1)),
    "parabola": ((0, 0), (1, 0), (0, 1), (1, 1), (2, 0), (0, 2)),
}
_REJECT = 5.0
"""Distance from the surface, in sigma of one component, beyond which a position is an outlier."""
_ROUNDS = 6
_FLOOR_PX = 1e-6
"""Noise below which origins agree."""
NORMAL_MEDIAN_SQUARE = 0.4549364
"""Median of the square of a standard normal variable."""


# ---- values --------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class OriginMeasurement:
    """Where the unscattered beam is at every scan position.

    Parameters
    ----------
    origin_px : (Rx, Ry, 2) float64
        (qx, qy) in raw detector pixels; NaN where it could not be measured.
    sigma_px : (Rx, Ry, 2) float64
        One-sigma uncertainties of both components, of this position alone.
    reasons : mapping of str to int
        Why positions are NaN, and how many.
    method : str
    """

    origin_px: Float
    sigma_px: Float
    reasons: Mapping[str, int]
    method: str
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "origin"

    def __post_init__(self) -> None:
        _check_origins(self.origin_px)
        if self.sigma_px.shape != self.origin_px.shape:
            raise ShapeError(
                f"origins of {self.origin_px.shape} with sigmas of {self.sigma_px.shape}"
            )

    @property
    def mask(self) -> Bool:
        """Where there is an origin, (Rx, Ry)."""
        return np.asarray(np.isfinite(self.origin_px).all(-1))

    def fit(
        self,
        model: Surface = "plane",
        *,
        robust: bool = True,
        mask: ArrayLike | None = None,
        blend: bool = False,
    ) -> OriginFit:
        """A smooth surface through the origins; see `fit_origin`."""
        return fit_origin(self, model, robust=robust, mask=mask, blend=blend)

    def residual_px(self, fit: OriginFit) -> Float:
        """How far the measured origins lie from a surface, (Rx, Ry, 2); NaN where not measured."""
        left: Float = self.origin_px - fit.origin_px
        return left

    def calibration_changes(self) -> dict[str, Any]:
        """What it tells a calibration: the origin of every position, as measured."""
        return {"origin_px": self.origin_px}

    def text(self) -> str:
        """A few lines for a report."""
        known = self.mask
        why = ", ".join(f"{count} {reason}" for reason, count in self.reasons.items() if count)
        lines = [
            f"origin by {self.method} at {int(known.sum())} of {known.size} positions"
            + (f" (not at: {why})" if why else "")
        ]
        for k, name in enumerate(("qx", "qy")):
            if known.any():
                values, sigmas = self.origin_px[known][:, k], self.sigma_px[known][:, k]
                lines.append(
                    f"{name} from {values.min():.2f} to {values.max():.2f} px, "
                    f"each ± {np.median(sigmas):.2g} px"
                )
        return "\n".join(lines)

    def __repr__(self) -> str:
        known = self.mask
        if not known.any():
            return f"<OriginMeasurement by {self.method}: at no position of {known.shape}>"
        qx, qy = np.median(self.origin_px[known], axis=0)
        sx, sy = np.median(self.sigma_px[known], axis=0)
        return (
            f"<OriginMeasurement by {self.method}: ({qx:.2f} ± {sx:.2g}, {qy:.2f} ± {sy:.2g}) px, "
            f"{int(known.sum())} of {known.size} positions>"
        )


@dataclass(frozen=True, eq=False)
class OriginFit:
    """A smooth surface through measured origins.

    Parameters
    ----------
    origin_px : (Rx, Ry, 2) float64
        The surface (with a share of what was measured where `blend` was asked for).
    sigma_px : (Rx, Ry, 2) float64
        One-sigma uncertainty of the surface.
    model : str
    terms : tuple of (int, int)
        Term k is ``u**i * v**j`` with ``(i, j) = terms[k]``, where u and v run from −1 to 1 over
        the rows and the columns of the scan.
    coefficients : (k, 2) float64
        Of the terms, for qx and qy, in pixels.
    covariance : (2, k, k) float64
        Of the coefficients of qx and of qy.
    residual_px : (float, float)
        rms distance of the measured origins from the surface, outliers left out, along x and y.
    jitter_px : (float, float)
        How much of that the uncertainties do not explain.
    outliers : (Rx, Ry) bool
        Measured positions that were left out.
    """

    origin_px: Float
    sigma_px: Float
    model: str
    terms: tuple[tuple[int, int], ...]
    coefficients: Float
    covariance: Float
    residual_px: tuple[float, float]
    jitter_px: tuple[float, float]
    outliers: Bool
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "origin fit"

    def calibration_changes(self) -> dict[str, Any]:
        """What it tells a calibration: the origin of every position on the surface."""
        return {"origin_px": self.origin_px}

    def report(self) -> dict[str, Any]:
        """How good the fit is, in a few plain numbers."""
        return {
            "model": self.model,
            "residual_px": list(self.residual_px),
            "jitter_px": list(self.jitter_px),
            "sigma_px": np.nanmedian(self.sigma_px, axis=(0, 1)).tolist(),
            "outliers": int(self.outliers.sum()),
            "positions": int(self.outliers.size),
        }

    def text(self) -> str:
        """A few lines for a report."""
        means = np.nanmean(self.origin_px, axis=(0, 1))
        sigmas = np.nanmedian(self.sigma_px, axis=(0, 1))
        lines = [
            f"{name} {mean:.3f} ± {sigma:.2g} px ({self.model}); left over {left:.2g} px rms, of "
            f"which {jitter:.2g} px is more than the uncertainties explain"
            for name, mean, sigma, left, jitter in zip(
                ("qx", "qy"), means, sigmas, self.residual_px, self.jitter_px, strict=True
            )
        ]
        return "\n".join([*lines, f"{int(self.outliers.sum())} outliers left out"])

    def __repr__(self) -> str:
        qx, qy = np.nanmean(self.origin_px, axis=(0, 1))
        sx, sy = np.nanmedian(self.sigma_px, axis=(0, 1))
        return (
            f"<OriginFit {self.model}: ({qx:.3f} ± {sx:.2g}, {qy:.3f} ± {sy:.2g}) px, residual "
            f"{math.hypot(*self.residual_px):.3g} px, {int(self.outliers.sum())} outliers>"
        )


def _measurement_parts(m: OriginMeasurement) -> dict[str, Any]:
    parts = {name: getattr(m, name) for name in m.__dataclass_fields__}
    return {**parts, "reasons": dict(m.reasons), "history": m.history.to_dict()}


def _measurement_from(parts: Mapping[str, Any]) -> OriginMeasurement:
    return OriginMeasurement(**{**parts, "history": History.from_dict(parts["history"])})


def _fit_parts(fit: OriginFit) -> dict[str, Any]:
    parts = {name: getattr(fit, name) for name in fit.__dataclass_fields__}
    return {**parts, "terms": [list(t) for t in fit.terms], "history": fit.history.to_dict()}


def _fit_from(parts: Mapping[str, Any]) -> OriginFit:
    plain = {
        "terms": tuple((int(i), int(j)) for i, j in parts["terms"]),
        "residual_px": tuple(parts["residual_px"]),
        "jitter_px": tuple(parts["jitter_px"]),
        "outliers": np.asarray(parts["outliers"], bool),
        "history": History.from_dict(parts["history"]),
    }
    return OriginFit(**{**parts, **plain})


register_result("origin", OriginMeasurement, _measurement_parts, _measurement_from)
register_result("origin-fit", OriginFit, _fit_parts, _fit_from)


# ---- the fit -------------------------------------------------------------------------------------
def fit_origin(
    origin: OriginMeasurement | ArrayLike,
    model: Surface = "plane",
    *,
    robust: bool = True,
    mask: ArrayLike | None = None,
    blend: bool = False,
) -> OriginFit:
    """A smooth surface through the origins of all scan positions.

    Parameters
    ----------
    origin : OriginMeasurement or (Rx, Ry, 2) array
        NaN positions are left out, and filled by the surface.
    model : "plane", "constant", "bilinear", "parabola", "auto" or "none"
        ``"auto"`` takes the one with the lowest Bayesian information criterion; ``"none"`` keeps
        what was measured.
    robust : bool
        Leave out positions further than five sigma from the surface.
    mask : (Rx, Ry) bool, optional
        Positions to use, such as those beside the sample.
    blend : bool
        Add to the surface the share ``j² / (j² + σ²)`` of what is left, j being the jitter that
        the uncertainties do not explain: the best estimate where the beam truly jitters.

    Returns
    -------
    OriginFit

    Raises
    ------
    ParameterError
        There are too few positions for the model, or all on a line.

    Notes
    -----
    Weighted least squares with variances ``σ² + j²``; the start is the surface of least absolute
    distance (soft L1), which many wrong positions do not carry away.

    Examples
    --------
    >>> import numpy as np
    >>> x, y = np.indices((6, 8))
    >>> origin = np.stack([30 + 0.1 * x, 31 - 0.2 * y], axis=-1)
    >>> origin[2, 3] = 50.0
    >>> fit = fit_origin(origin)
    >>> bool(fit.outliers[2, 3]), fit.origin_px[2, 3].round(3).tolist()
    (True, [30.2, 30.4])
    """
    if isinstance(origin, OriginMeasurement):
        measured, values, sigma = origin, origin.origin_px, origin.sigma_px
    else:
        values = _real_origins(origin)
        _check_origins(values)
        sigma = np.zeros_like(values)
        measured = OriginMeasurement(values, sigma, {}, "given")
    use = _usable(values, mask)
    known = np.where(np.isfinite(sigma), sigma, 0.0)
    if model == "none":
        found = _as_it_is(values, sigma)
    elif model == "auto":
        found = _best(values, known, use, robust)
    else:
        found = _fitted(values, known, use, model, robust)
    if blend and model != "none":
        found["origin_px"] = _blended(values, known, found)
    parameters: dict[str, Any] = {"model": model, "robust": robust, "blend": blend}
    if mask is not None:
        parameters["mask"] = {"positions": int(np.count_nonzero(mask)), "of": use.size}
    history = measured.history.then("fit_origin", parameters)
    return OriginFit(**found, calibration=measured.calibration, history=history)


def _check_origins(values: Float) -> None:
    if values.ndim != 3 or values.shape[2] != 2 or not values.size:
        raise ShapeError(f"origins are an array (Rx, Ry, 2), not one of shape {values.shape}")


def _usable(values: Float, mask: ArrayLike | None) -> Bool:
    use: Bool = np.asarray(np.isfinite(values).all(-1))
    if mask is not None:
        chosen = np.asarray(mask)
        if chosen.shape != use.shape:
            raise ShapeError(f"mask has shape {chosen.shape}, the scan {use.shape}")
        use = use & chosen.astype(bool)
    return use


def _as_it_is(values: Float, sigma: Float) -> dict[str, Any]:
    nothing = (math.nan, math.nan)
    return {
        "origin_px": values, "sigma_px": sigma, "model": "none", "terms": (),
        "coefficients": np.empty((0, 2)), "covariance": np.empty((2, 0, 0)),
        "residual_px": nothing, "jitter_px": nothing,
        "outliers": np.zeros(values.shape[:2], bool),
    }  # fmt: skip


def surface_terms(shape: tuple[int, int], terms: tuple[tuple[int, int], ...]) -> Float:
    """Each term ``u**i * v**j`` at every scan position, (Rx * Ry, k); u, v from −1 to 1."""
    u, v = (np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape)
    return np.stack([np.outer(u**i, v**j).ravel() for i, j in terms], axis=-1)


@dataclass(frozen=True, eq=False)
class _Solution:
    coefficients: Float
    covariance: Float
    jitter: Float
    inliers: Bool


def _fitted(values: Float, sigma: Float, use: Bool, model: str, robust: bool) -> dict[str, Any]:
    if model not in _TERMS:
        known = ", ".join([*_TERMS, "auto", "none"])
        raise ParameterError(f"no surface is called {model!r}; known: {known}")
    design = surface_terms(values.shape[:2], _TERMS[model])
    flat, spread, keep = values.reshape(-1, 2), sigma.reshape(-1, 2), use.ravel()
    _check_determined(design, keep, model)
    solution = _solve(design, flat, spread, keep, robust)
    surface = (design @ solution.coefficients).reshape(values.shape)
    variance = np.einsum("pi,kij,pj->pk", design, solution.covariance, design)
    inliers = solution.inliers.reshape(use.shape)
    rms = np.sqrt(np.mean((values - surface)[inliers] ** 2, axis=0))
    return {
        "origin_px": surface, "sigma_px": np.sqrt(variance).reshape(values.shape), "model": model,
        "terms": _TERMS[model], "coefficients": solution.coefficients,
        "covariance": solution.covariance, "residual_px": (float(rms[0]), float(rms[1])),
        "jitter_px": (float(solution.jitter[0]), float(solution.jitter[1])),
        "outliers": use & ~inliers,
    }  # fmt: skip


def _check_determined(design: Float, keep: Bool, model: str) -> None:
    possible = np.linalg.matrix_rank(design)  # fewer than terms in a scan of one row
    if np.linalg.matrix_rank(design[keep]) < possible:
        raise ParameterError(
            f"{int(keep.sum())} usable positions do not determine a {model}: use more of them, "
            'or model="constant"'
        )


def _real_origins(origin: ArrayLike) -> Float:
    values = np.asarray(origin)
    if values.dtype.kind not in "iuf":
        raise ParameterError(f"origins are real numbers (qx, qy), not {values.dtype}")
    values = values.astype(np.float64)
    far = ~(np.abs(values) < FARTHEST_PX)
    return np.where(far, np.nan, values)


def _solve(design: Float, flat: Float, spread: Float, keep: Bool, robust: bool) -> _Solution:
    """Reweighted least squares; outliers may come back when the surface has moved."""
    start = _least_distance if robust else _least_squares
    coefficients: Any = start(design[keep], flat[keep])
    rank = np.linalg.matrix_rank(design)
    inliers = keep
    for _ in range(_ROUNDS):
        left = flat - design @ coefficients
        jitter = np.array([_jitter(left[inliers, k], spread[inliers, k]) for k in range(2)])
        scale = np.hypot(np.hypot(spread, jitter), _FLOOR_PX)
        if robust:
            near = keep & (np.abs(np.nan_to_num(left) / scale).max(axis=1) <= _REJECT)
            inliers = near if np.linalg.matrix_rank(design[near]) == rank else keep
        weight = 1 / scale[inliers]
        inverse = [np.linalg.pinv(design[inliers] * weight[:, k, None]) for k in range(2)]
        columns = [inverse[k] @ (flat[inliers, k] * weight[:, k]) for k in range(2)]
        coefficients = np.stack(columns, axis=-1)
    covariance = np.stack([a @ a.T for a in inverse])
    return _Solution(coefficients, covariance, jitter, inliers)


def _least_squares(design: Float, values: Float) -> Float:
    return np.asarray(np.linalg.lstsq(design, values, rcond=None)[0], np.float64)


def _least_distance(design: Float, values: Float) -> Float:
    """Coefficients (k, 2) of nearly least absolute distance."""
    from scipy.optimize import least_squares  # slow to import

    columns = []
    for y in values.T:
        middle = float(np.median(y))
        scale = 0.1 * float(np.median(np.abs(y - middle))) + _FLOOR_PX
        start = np.linalg.lstsq(design, np.full(len(y), middle), rcond=None)[0]
        found = least_squares(
            lambda c, y=y: design @ c - y, start, lambda c, y=y: design, loss="soft_l1",
            f_scale=scale,
        )  # fmt: skip
        columns.append(found.x)
    return np.stack(columns, axis=-1)


def _jitter(left: Float, sigma: Float) -> float:
    """Scatter beyond `sigma`: ``median(left² / (σ² + j²))`` is then that of a normal distribution.

    The median is that of what is kept, of which the far ones may still be wrong.
    """
    from scipy.optimize import brentq  # slow to import

    square = left**2

    def excess(variance: float) -> float:
        scaled = np.median(square / (sigma**2 + variance + _FLOOR_PX**2))
        return float(scaled) - NORMAL_MEDIAN_SQUARE

    most = float(np.median(square)) / NORMAL_MEDIAN_SQUARE
    if excess(0.0) <= 0 or most <= 0:
        return 0.0
    return math.sqrt(brentq(excess, 0.0, most))


def _best(values: Float, sigma: Float, use: Bool, robust: bool) -> dict[str, Any]:
    """The surface of lowest information criterion, by the positions that the richest one keeps."""
    tried = []
    for model in ("parabola", "bilinear", "plane", "constant"):  # the richest first
        try:
            tried.append(_fitted(values, sigma, use, model, robust))
        except ParameterError:
            if model == "constant":
                raise
    inliers = use & ~tried[0]["outliers"]
    variance = np.hypot(np.hypot(sigma[inliers], tried[0]["jitter_px"]), _FLOOR_PX) ** 2

    def criterion(found: dict[str, Any]) -> float:
        left = (values - found["origin_px"])[inliers]
        return float((left**2 / variance).sum()) + 2 * len(found["terms"]) * math.log(len(left))

    return min(tried, key=criterion)


def _blended(values: Float, sigma: Float, found: dict[str, Any]) -> Float:
    jitter = np.array(found["jitter_px"]) ** 2
    share = jitter / np.maximum(jitter + sigma**2, _FLOOR_PX**2)
    left = np.where(found["outliers"][..., None], 0.0, np.nan_to_num(values - found["origin_px"]))
    blended: Float = found["origin_px"] + share * left
    return blended
