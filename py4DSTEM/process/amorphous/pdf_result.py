"""Pair distributions as values: curves with their errors, coordination numbers, peaks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.history import History
from py4DSTEM.errors import ParameterError
from py4DSTEM.io.store.schema import register_result

__all__ = ["Coordination", "PDFResult", "PairPeak", "ratio_sigma"]

Float = NDArray[np.float64]
_FLANK = 0.12
"""Of the resolution, to each side of a maximum, for the parabola that finds its place."""
_BATCH = 256
"""Profiles at once, so that what lies between two steps stays in the cache."""
_WORTH = 0.5
"""Of the height of the highest peak above one: the first peak has at least this."""


@dataclass(frozen=True, eq=False)
class Coordination:
    """Neighbours in a shell of distances.

    Parameters
    ----------
    number, sigma : (...) float64
        And the standard deviation by the noise of the intensities.
    r1_A, r2_A : float
        Limits of the shell.
    """

    number: Float
    sigma: Float
    r1_A: float
    r2_A: float

    def __repr__(self) -> str:
        told = f"{_middle(self.number):.4g} ± {_middle(self.sigma):.2g}"
        return f"<Coordination {told} neighbours from {self.r1_A:.3g} to {self.r2_A:.3g} Å>"


@dataclass(frozen=True, eq=False)
class PairPeak:
    """A maximum of g(r).

    Parameters
    ----------
    r_A, sigma_A : (...) float64
        Distance, and its standard deviation by the noise of the intensities.
    height : (...) float64
        g there.
    """

    r_A: Float
    sigma_A: Float
    height: Float

    def __repr__(self) -> str:
        return f"<PairPeak at {_middle(self.r_A):.4g} ± {_middle(self.sigma_A):.2g} Å>"


@dataclass(frozen=True, eq=False)
class PDFResult:
    """Pair distributions of one material, of several regions (g, …) or of positions (Rx, Ry, …).

    Parameters
    ----------
    r : (n_r,) float64
        Distances in Å.
    g, sigma_g : (..., n_r) float64
        Pair distribution function, one where nothing is correlated; its standard deviation.
    G, sigma_G : (..., n_r) float64
        Reduced one, ``4πρr (g − 1)`` in Å⁻².
    q : (n_q,) float64
        Scattering vectors of the rings in use, Å⁻¹ (no 2π).
    S, F : (..., n_q) float64
        Structure factor, and ``F = 2πq (S − 1)`` in Å⁻¹, without damping.
    intensity, smooth : (..., n_q) float64
        Measured profile, and its smooth part: ``scale ⟨f²⟩`` and background.
    variance : (..., n_q) float64
        Of the intensity.
    covariance : (..., n_q, n_q) float64, optional
        Of the intensity, where it was found from the differences between positions.
    scale : (...) float64
        Intensity per ``⟨f⟩² S``.
    density_A3, sigma_density_A3 : (...) float64
        Atoms per Å³: as given (sigma 0), or from the slope of G at small r.
    to_H : (n_r, n_q) float64
        Matrix from intensity to ``scale · G``.
    to_scale, to_number : (n_q,) float64
        From intensity to the scale, and to the scale times the density.
    r_min_A : float
        No atoms below this distance.
    composition, background, damping : str
    resolution_A : float
        Width of a sharp distance in G(r).
    labels : tuple of int
        Of the regions.
    choices : mapping
        Why ranges are as they are, and what is assumed, in words.
    """

    r: Float
    g: Float
    sigma_g: Float
    G: Float
    sigma_G: Float
    q: Float
    S: Float
    F: Float
    intensity: Float
    smooth: Float
    variance: Float
    covariance: Float | None
    scale: Float
    density_A3: Float
    sigma_density_A3: Float
    to_H: Float
    to_scale: Float
    to_number: Float
    r_min_A: float
    composition: str
    background: str
    damping: str
    resolution_A: float
    labels: tuple[int, ...] = ()
    choices: Mapping[str, str] = field(default_factory=dict)
    calibration: Calibration = field(default_factory=Calibration)
    history: History = field(default_factory=History)
    name: str = "pair distribution"

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the regions or positions; (): one pair distribution."""
        return self.g.shape[:-1]

    @property
    def mean_g(self) -> Float:
        """g(r) of all together, (n_r,): the median where there are several."""
        flat = self.g.reshape(-1, len(self.r))
        known = flat[np.isfinite(flat).all(axis=1)]
        return np.median(known, axis=0) if len(known) else np.full(len(self.r), math.nan)

    # ---- peaks -----------------------------------------------------------------------------------
    def shell(self) -> tuple[float, float, float]:
        """Start, maximum and end in Å of the first shell of neighbours, from `mean_g`.

        The first maximum above `r_min_A` at least half as high above one as the highest; the
        minima to both sides of it.
        """
        g = self.mean_g
        from_ = int(np.searchsorted(self.r, self.r_min_A))
        rises = np.diff(g)
        tops = np.flatnonzero(np.asarray((rises[:-1] > 0) & (rises[1:] <= 0))) + 1
        tops = tops[tops > from_]
        if not tops.size or not float(g[tops].max()) > 1:
            raise ParameterError("g(r) has no peak above one: check q range, background and r_max")
        high = np.asarray(g[tops] - 1 >= _WORTH * (float(g[tops].max()) - 1))
        top = int(tops[np.argmax(high)])
        later = np.flatnonzero(rises[top:] > 0)
        end = top + int(later[0]) if later.size else len(g) - 1
        start = from_ + int(np.argmin(g[from_:top]))
        return float(self.r[start]), float(self.r[top]), float(self.r[end])

    def first_peak(self) -> PairPeak:
        """The first peak of each g(r), by a parabola through its top."""
        start, _, end = self.shell()
        return self.peak(start, end)

    def peak(self, r1_A: float, r2_A: float) -> PairPeak:
        """The highest place of each g(r) between two distances.

        Parameters
        ----------
        r1_A, r2_A : float

        Returns
        -------
        PairPeak
        """
        step = self.r[1] - self.r[0]
        half = max(2, round(_FLANK * self.resolution_A / step))
        inside = self._between(r1_A, r2_A)
        inside = inside[(inside >= half) & (inside < len(self.r) - half)]
        if not inside.size:
            raise ParameterError(f"no distance of the result lies from {r1_A} to {r2_A} Å")
        known: NDArray[np.bool_] = np.asarray(np.isfinite(self.g).all(axis=-1))
        g = np.where(known[..., None], self.g, 0.0)
        index = inside[0] + np.argmax(g[..., inside], axis=-1)
        x = step * np.arange(-half, half + 1)
        curve, slope, height = np.linalg.pinv(np.stack([x**2, x, np.ones_like(x)], axis=1))
        near = np.take_along_axis(g, index[..., None] + np.arange(-half, half + 1), axis=-1)
        a, b, c = near @ curve, near @ slope, near @ height
        usable = known & (a < 0)
        a = np.where(usable, a, np.nan)
        weights = -slope / (2 * a[..., None]) + (b / (2 * a**2))[..., None] * curve
        sigma = self._sigma_of_g(index, weights, half)
        return PairPeak(self.r[index] - b / (2 * a), sigma, c - b**2 / (4 * a))

    def _sigma_of_g(self, index: NDArray[np.intp], weights: Float, half: int) -> Float:
        """Standard deviation of ``Σ w g`` around `index` of each g(r), (...)."""
        rows = self._rows_g()
        number = (self.intensity @ self.to_number)[..., None]
        total = np.zeros(self.intensity.shape)
        for k, shift in enumerate(range(-half, half + 1)):
            at = index + shift
            value = np.take_along_axis(self.g, at[..., None], axis=-1) - 1
            total += weights[..., k, None] * (rows[at] - value * self.to_number) / number
        if self.covariance is not None:
            found = np.einsum("...p,...pq,...q->...", total, self.covariance, total)
        else:
            found = (total**2 * self.variance).sum(axis=-1)
        return np.asarray(np.sqrt(np.maximum(found, 0.0)), np.float64)

    def _rows_g(self) -> Float:
        return np.asarray(self.to_H / (4 * math.pi * self.r[:, None]), np.float64)

    def _between(self, r1_A: float, r2_A: float) -> NDArray[np.intp]:
        return np.flatnonzero((self.r >= r1_A - 1e-9) & (self.r <= r2_A + 1e-9))

    # ---- neighbours ------------------------------------------------------------------------------
    def coordination(self, r1_A: float | None = None, r2_A: float | None = None) -> Coordination:
        """Neighbours between two distances, ``∫ 4πρ r² g(r) dr``.

        Parameters
        ----------
        r1_A, r2_A : float, optional
            None: the first shell, from its foot to the minimum after it.

        Returns
        -------
        Coordination
            For several elements pairs count with the weight of their scattering, `f_i f_j/⟨f⟩²`.

        Raises
        ------
        ParameterError
            The shell is not within `r`, or ends before it starts.
        """
        start, _, end = self.shell() if r1_A is None or r2_A is None else (0.0, 0.0, 0.0)
        low, high = start if r1_A is None else float(r1_A), end if r2_A is None else float(r2_A)
        last = float(self.r[-1])
        if not (0 <= low < high <= last + 1e-9):
            raise ParameterError(
                f"a shell from {low} to {high} Å does not lie between 0 and {last:.4g}"
            )
        weights = _integral(self.r, low, high)
        row = (weights * self.r) @ self.to_H
        row = row + 4 * math.pi * (high**3 - low**3) / 3 * self.to_number
        number = (self.intensity @ row) / self.scale
        sigma = ratio_sigma(self, row[None], number[..., None], self.to_scale, self.scale)
        return Coordination(number, sigma[..., 0], low, high)

    def __getitem__(self, index: Any) -> Float:
        """g(r) of a region or position, (n_r,)."""
        found: Float = self.g[index]
        return found

    def text(self) -> str:
        """A few lines for a report."""
        lines = [
            f"{self.composition}, q {self.q[0]:.3f} to {self.q[-1]:.3f} 1/Å, "
            f"damping {self.damping}, resolution {self.resolution_A:.2f} Å"
        ]
        peak, shell = self.first_peak(), self.coordination()
        lines.append(
            f"first peak {_middle(peak.r_A):.3f} ± {_middle(peak.sigma_A):.2g} Å, "
            f"{_middle(shell.number):.2f} ± {_middle(shell.sigma):.2g} neighbours from "
            f"{shell.r1_A:.2f} to {shell.r2_A:.2f} Å"
        )
        density, sigma = _middle(self.density_A3), _middle(self.sigma_density_A3)
        told = f"± {sigma:.2g} by the slope of G" if sigma > 0 else "as given"
        lines.append(f"density {density:.4g} atoms/Å³ {told}")
        return "\n".join([*lines, *(f"{name}: {why}" for name, why in self.choices.items())])

    def __repr__(self) -> str:
        return (
            f"<PDFResult {self.composition} {self.g.shape}: r to {self.r[-1]:.3g} Å, "
            f"q {self.q[0]:.3g} to {self.q[-1]:.3g} 1/Å>"
        )


def _to_parts(result: PDFResult) -> dict[str, Any]:
    return {**vars(result), "choices": dict(result.choices), "history": result.history.to_dict()}


def _from_parts(parts: Mapping[str, Any]) -> PDFResult:
    history = History.from_dict(parts["history"])
    labels = tuple(int(label) for label in parts["labels"])
    return PDFResult(**{**parts, "history": history, "labels": labels})


register_result("pair-distribution", PDFResult, _to_parts, _from_parts)


def ratio_sigma(result: PDFResult, rows: Float, values: Float, below: Float, size: Float) -> Float:
    """Standard deviation of ``(rows·I)/(below·I)`` by the noise of the intensities I.

    Parameters
    ----------
    result : PDFResult
        Holds the noise.
    rows, below : (k, n_q), (n_q,) float64
    values, size : (..., k), (...) float64
        The ratios and what is below.

    Returns
    -------
    (..., k) float64
        To first order, ``J = (rows − value·below)/size``, ``σ² = J C J``.
    """
    if result.covariance is not None:
        spread = result.covariance @ rows.T
        own = np.einsum("kq,...qk->...k", rows, spread)
        cross = np.einsum("q,...qk->...k", below, spread)
        base = np.einsum("p,...pq,q->...", below, result.covariance, below)[..., None]
        total = own - 2 * values * cross + values**2 * base
        return np.asarray(np.sqrt(np.maximum(total, 0.0)) / np.abs(size)[..., None], np.float64)
    sigma = np.empty(values.shape)
    flat, ratios = sigma.reshape(-1, len(rows)), values.reshape(-1, len(rows))
    variance, sizes = result.variance.reshape(-1, len(below)), np.abs(size).reshape(-1, 1)
    own, cross, base = (rows**2).T, -2 * (rows * below).T, (below**2)[:, None]
    for start in range(0, len(flat), _BATCH):
        some = slice(start, start + _BATCH)
        # (own + ratio (cross + ratio base)) / size², in place: memory is what takes the time.
        total = variance[some] @ cross
        total += ratios[some] * (variance[some] @ base)
        total *= ratios[some]
        total += variance[some] @ own
        np.maximum(total, 0.0, out=total)
        np.sqrt(total, out=total)
        np.divide(total, sizes[some], out=flat[some])
    return sigma


def _integral(r: Float, low: float, high: float) -> Float:
    """Weights (n_r,) of the integral from `low` to `high` of what is linear between points.

    From zero to the first distance it is a straight line from zero.
    """
    x = np.concatenate([[0.0], r])
    weights = np.zeros(len(x))
    a, b = np.clip(low, x[:-1], x[1:]), np.clip(high, x[:-1], x[1:])
    step = x[1:] - x[:-1]
    middle = ((a + b) / 2 - x[:-1]) / step
    weights[:-1] += (b - a) * (1 - middle)
    weights[1:] += (b - a) * middle
    return weights[1:]


def _middle(values: Float) -> float:
    finite = np.asarray(values)[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan
