"""Aberrations and rotation from the interference of disks, without knowing the specimen."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import Aberrations, all_parts, basis
from py4DSTEM.errors import SolveError
from py4DSTEM.process.phase.direct_stack import BrightStack
from py4DSTEM.process.phase.direct_sums import GROUPS, grouped
from py4DSTEM.process.phase.optics import Optics

__all__ = ["LensFit", "fit_lens"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex64]
Part = tuple[str, str]

MOST_PIXELS, MOST_WAVES = 400, 150
COARSE_PIXELS, COARSE_WAVES = 120, 40
STAGES: tuple[tuple[str, ...], ...] = (("C10",), ("C12",), ("C21", "C23"), ("C30",))
"""Aberrations that are added one group after the other, as long as the fit gains by them."""
CANDIDATES = 4
ROUNDS = 40
SIGNIFICANT = 9.0
"""χ² of one more unknown from which it counts."""
LEAST_EXPLAINED = 10.0
"""Standard errors by which more is explained than of noise; the best of many starts has up to 8."""


@dataclass(frozen=True, eq=False)
class LensFit:
    """Aberrations and rotation that explain the interference of disks best.

    Parameters
    ----------
    aberrations : Aberrations
    optics : Optics
        With the rotation and flip that were found.
    sigmas : mapping
        One-sigma uncertainties: Å of ``"C10"`` and of the parts ``"C12a"``, ``"C12b"`` … (C cos mφ
        and C sin mφ), rad of ``"rotation"``.
    explained : float
        Share of the strong waves' power.
    noise : float
        The share that would be explained of noise.
    """

    aberrations: Aberrations
    optics: Optics
    sigmas: Mapping[str, float]
    explained: float
    noise: float


@dataclass(frozen=True, eq=False)
class _Waves:
    """The strongest Fourier components G, (n, m), of Q in scan axes, at some of the pixels."""

    G: Complex
    Q: Float
    k: Float
    aperture: Float
    wavelength_A: float
    extent_A: float

    def few(self, waves: int, pixels: int) -> _Waves:
        kept = _spread(len(self.k), pixels)
        return replace(self, G=self.G[:waves, kept], Q=self.Q[:waves], k=self.k[kept])

    def heights(self, q: Float) -> tuple[Float, Float]:
        """Moduli of Ψ(k − Q) and Ψ(k + Q), (n, m)."""
        edge, sx, sy = self.aperture[:3]
        found = []
        for sign in (-1, 1):
            x, y = (self.k[:, a] + sign * q[:, a, None] for a in (0, 1))
            radius = np.hypot(x, y)
            width = np.hypot(x * sx, y * sy) / np.maximum(radius, 1e-300)
            inside = (edge - radius) / np.maximum(width, 1e-300)
            found.append(np.sqrt(np.clip(inside + 0.5, 0, 1)))
        return found[0], found[1]

    def slopes(self, q: Float, parts: Sequence[Part]) -> Iterator[tuple[Float, Float]]:
        """Phase of Γ₁ and Γ₂ (rad) per Å of each part of the aberrations, (n, m) each."""
        scale = 2 * np.pi / self.wavelength_A
        k, turned = self.wavelength_A * self.k, self.wavelength_A * q
        for name, part in parts:
            own = basis(name, part, k[:, 0], k[:, 1])
            below, above = (
                basis(name, part, *(k[:, a] + sign * turned[:, a, None] for a in (0, 1)))
                for sign in (-1, 1)
            )
            yield scale * (own - below), -scale * (own - above)


def fit_lens(stack: BrightStack, optics: Optics, *, search: bool, turn: bool) -> LensFit:
    """Fit aberrations, and the rotation if it may turn.

    Parameters
    ----------
    stack : BrightStack
    optics : Optics
        Rotation and flip to begin with.
    search : bool
        Whether rotation and flip are not known at all.  Then a half turn (with all aberrations and
        the phase of the opposite sign) explains the scan as well.
    turn : bool
        Whether the rotation is fitted.

    Raises
    ------
    SolveError
        No interference stands out of the noise.
    """
    waves = _strong(stack, optics)
    starts = _coarse(waves.few(COARSE_WAVES, COARSE_PIXELS), optics, search)
    fits = [_Fit.of(waves, start, ("C10",), turn=turn) for start in starts]
    best = min(fits, key=lambda fit: fit.cost)
    names: tuple[str, ...] = STAGES[0]
    for more in STAGES[1:]:
        start = replace(best.start, values={**best.start.values})
        richer = _Fit.of(waves, start, (*names, *more), turn=turn)
        if richer.shows(more):
            best, names = richer, (*names, *more)
    return best.result(optics)


# ---- the waves -----------------------------------------------------------------------------------
def _spread(count: int, most: int) -> NDArray[np.int64]:
    """At most so many numbers below `count`, evenly."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


@dataclass(frozen=True, eq=False)
class _Spectrum:
    """Fourier transforms of images under a window, finer than the scan itself gives them."""

    window: NDArray[np.float32]
    shape: tuple[int, int]

    @classmethod
    def of(cls, R_shape: tuple[int, int]) -> _Spectrum:
        from scipy import fft  # slow to import

        window = np.outer(*(np.hanning(n + 2)[1:-1] for n in R_shape)).astype(np.float32)
        nx, ny = (fft.next_fast_len(max(2 * n, 1), real=True) for n in R_shape)
        return cls(window, (nx, ny))

    def waves(self, images: NDArray[np.float32]) -> Complex:
        from scipy import fft  # slow to import

        flat = (images - images.mean(axis=(1, 2), keepdims=True)) * self.window
        waves: Complex = fft.rfft2(flat, self.shape, workers=1, norm="forward")
        return waves

    def power(self, images: NDArray[np.float32]) -> Float:
        """Summed over the images."""
        total = np.zeros((self.shape[0], self.shape[1] // 2 + 1))
        for few in np.array_split(images, max(1, len(images) // 8)):
            total += (np.abs(self.waves(few)) ** 2).sum(axis=0)
        return total

    def at(self, images: NDArray[np.float32], places: NDArray[np.int64]) -> Complex:
        """Some components of every image, (n, images)."""
        parts = np.array_split(images, max(1, len(images) // 8))
        found = [self.waves(few).reshape(len(few), -1)[:, places] for few in parts]
        return np.concatenate(found).T


def _strong(stack: BrightStack, optics: Optics) -> _Waves:
    """The strongest maxima of the power spectrum, at places between its samples."""
    from scipy import ndimage  # slow to import

    some = stack.chosen(_spread(len(stack.index), MOST_PIXELS))
    images = np.concatenate([part for _, part in some.blocks()])
    spectrum = _Spectrum.of(stack.R_shape)
    parts, workers = np.array_split(images, GROUPS), stack.options.worker_count()
    power = np.add.reduce(grouped(spectrum.power, parts, workers))
    steps, (nx, ny) = optics.R_steps_A, spectrum.shape
    fx, fy = np.fft.fftfreq(nx, steps[0]), np.fft.rfftfreq(ny, steps[1])
    extent = [n * s for n, s in zip(stack.R_shape, steps, strict=True)]
    # Within the main lobe of the window lies the mean itself.
    slow = np.hypot(fx[:, None] * extent[0], fy * extent[1]) < 2.5
    twice = (fy == 0) & (fx <= 0)[:, None]
    far = np.hypot(fx[:, None], fy) > 1.9 * stack.aperture[0]
    largest = ndimage.maximum_filter(power, 3, mode=("wrap", "reflect")) == power
    counted = np.where(largest & ~(slow | twice | far), power, 0.0)
    order = np.argsort(-counted.ravel())[:MOST_WAVES]
    order = order[counted.ravel()[order] > 0]
    if len(order) < 3:
        raise SolveError(
            "too few spatial frequencies of the scan lie within the reach of the aperture: the "
            "scan is too small or its step too coarse; give aberrations="
        )
    G = np.concatenate(grouped(lambda part: spectrum.at(part, order), parts, workers), axis=1)
    i, j = np.divmod(order, len(fy))
    beside = _between(power, i, j)
    q = np.column_stack([fx[i] + beside[0] / (nx * steps[0]), fy[j] + beside[1] / (ny * steps[1])])
    G /= np.float32(stack.total)
    return _Waves(G, q, some.k, stack.aperture, optics.wavelength_A, min(extent))


def _between(power: Float, i: NDArray[np.int64], j: NDArray[np.int64]) -> tuple[Float, Float]:
    """Where the maxima lie beside their samples, from a parabola through the logarithms."""
    logs = np.log(np.maximum(power, 1e-300))
    nx, ny = power.shape

    def vertex(low: Float, high: Float) -> Float:
        bend = low + high - 2 * logs[i, j]
        shift: Float = np.clip(0.5 * (low - high) / np.minimum(bend, -1e-12), -0.5, 0.5)
        return shift

    along = vertex(logs[i - 1, j], logs[(i + 1) % nx, j])
    across = vertex(logs[i, np.abs(j - 1)], logs[i, np.minimum(j + 1, ny - 1)])
    return along, np.where((j == 0) | (j == ny - 1), 0.0, across)


# ---- the search ----------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Start:
    rotation_rad: float
    flip: bool
    values: Mapping[Part, float]


def _coarse(waves: _Waves, optics: Optics, search: bool) -> list[_Start]:
    """The defocus (and rotation, and flip) that explain most, a few of each."""
    alpha = waves.aperture[0] * optics.wavelength_A
    # Fine enough for the phase over the aperture, up to where the shadow leaves scan or window.
    step = 0.35 * optics.wavelength_A / alpha**2
    count = max(1, math.ceil(min(waves.extent_A, *optics.window_A) / (2 * alpha) / step))
    angles = np.arange(0, np.pi, np.deg2rad(5)) if search else [optics.rotation_rad]
    found: list[tuple[float, _Start]] = []
    for flip in (False, True) if search else (optics.flip,):
        for angle in angles:
            q = waves.Q @ replace(optics, rotation_rad=float(angle), flip=flip).to_detector().T
            shares = _defocused(waves, q, step, count)
            peaks = np.argsort(-shares)[: CANDIDATES if not search else 1]
            found += [
                (float(shares[n]), _Start(float(angle), flip, {("C10", "a"): (n - count) * step}))
                for n in peaks
            ]
    found.sort(key=lambda one: -one[0])
    return [start for _, start in found[:CANDIDATES]]


def _defocused(waves: _Waves, q: Float, step: float, count: int) -> Float:
    """Power explained for ``C10 = step · (−count … count)``."""
    heights = waves.heights(q)
    slopes = next(waves.slopes(q, [("C10", "a")]))
    turns = [np.exp(1j * step * slope).astype(np.complex64) for slope in slopes]
    arms = [
        (height * np.exp(-1j * step * count * slope)).astype(np.complex64)
        for height, slope in zip(heights, slopes, strict=True)
    ]
    shares = np.zeros(2 * count + 1)
    for n in range(2 * count + 1):
        model = arms[0] - arms[1]
        along = np.abs((model.conj() * waves.G).sum(axis=1)) ** 2
        norm = (np.abs(model) ** 2).sum(axis=1)
        shares[n] = (along / np.maximum(norm, 1e-6 * max(1.0, float(norm.max())))).sum()
        arms = [arm * turn for arm, turn in zip(arms, turns, strict=True)]
    return shares


# ---- the fit -------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Fit:
    """Least squares of ``G = φ(Q) (Γ₁ − Γ₂)``; φ is eliminated."""

    start: _Start
    parts: tuple[Part, ...]
    turn: bool
    cost: float
    covariance: Float
    points: int
    power: float
    count: int

    @classmethod
    def of(cls, waves: _Waves, start: _Start, names: tuple[str, ...], *, turn: bool) -> _Fit:
        """Levenberg and Marquardt's way down."""
        parts = tuple(all_parts(names))
        values = np.array([start.values.get(part, 0.0) for part in parts] + [start.rotation_rad])
        linear = _linearised(waves, parts, values, start.flip)
        damping = 1e-3
        free = len(parts) + int(turn)
        for _ in range(ROUNDS):
            cost, gradient, normal = linear[0], linear[1].sum(axis=0), linear[2]
            scale = np.sqrt(np.maximum(np.diag(normal)[:free], 1e-300))
            matrix = normal[:free, :free] / np.outer(scale, scale)
            step = np.linalg.solve(
                matrix + damping * np.eye(free), -gradient[:free] / scale
            ) / scale  # fmt: skip
            tried = values.copy()
            tried[:free] += step
            new = _linearised(waves, parts, tried, start.flip)
            if new[0] < cost:
                small = cost - new[0] < 1e-7 * cost
                values, linear, damping = tried, new, max(damping / 5, 1e-9)
                if small:
                    break
            elif damping > 1e4:
                break
            else:
                damping *= 6
        q = waves.Q @ _matrix(values[-1], start.flip).T
        a, b = waves.heights(q)
        seen = (a > 0) | (b > 0)
        power = float((np.abs(waves.G[seen]) ** 2).sum())
        outside = float((np.abs(waves.G[~seen]) ** 2).sum())
        found = _Start(float(values[-1]), start.flip, dict(zip(parts, values[:-1], strict=True)))
        freedom = max(2 * (int(seen.sum()) - len(waves.G)) - free, 1)
        variance = (linear[0] - outside) / freedom
        covariance = _covariance(linear[1][:, :free], linear[2][:free, :free], variance)
        return cls(
            found, parts, turn, linear[0] - outside, covariance, int(seen.sum()), power,
            len(waves.G),
        )  # fmt: skip

    def shows(self, names: Sequence[str]) -> bool:
        """Whether these aberrations together are more than three sigma from zero."""
        new = [n for n, (name, _) in enumerate(self.parts) if name in names]
        values = np.array([self.start.values[self.parts[n]] for n in new])
        square = values @ np.linalg.pinv(self.covariance[np.ix_(new, new)]) @ values
        return bool(square > SIGNIFICANT + 3 * (len(new) - 1))

    def result(self, optics: Optics) -> LensFit:
        explained = 1 - self.cost / max(self.power, 1e-300)
        noise = self.count / max(self.points, 1)
        if explained < noise * (1 + LEAST_EXPLAINED / math.sqrt(self.count)):
            raise SolveError(
                f"aberrations cannot be found: the best ones explain {explained:.1%} of what the "
                f"bright disk does over the scan, {noise:.1%} would be explained of pure noise; "
                "give aberrations=, or a scan of more counts"
            )
        sigma = np.sqrt(np.maximum(np.diag(self.covariance), 0.0))
        names = [name if name in ("C10", "C30") else name + part for name, part in self.parts]
        names += ["rotation"] * int(self.turn)
        return LensFit(
            Aberrations.from_cartesian(self.start.values),
            replace(optics, rotation_rad=self.start.rotation_rad, flip=self.start.flip),
            dict(zip(names, sigma.tolist(), strict=True)),
            explained,
            noise,
        )


def _matrix(angle: float, flip: bool) -> Float:
    c, s = math.cos(angle), math.sin(angle)
    back = np.array([[c, s], [-s, c]])
    return back[::-1].copy() if flip else back


def _model(
    waves: _Waves, parts: Sequence[Part], values: Float, flip: bool
) -> tuple[Complex, list[Complex]]:
    """Γ₁ − Γ₂ and its derivatives by the aberrations."""
    q = waves.Q @ _matrix(values[-1], flip).T
    slopes = list(waves.slopes(q, parts))
    arms = []
    for side, height in enumerate(waves.heights(q)):
        phase = sum(v * slope[side] for v, slope in zip(values[:-1], slopes, strict=True))
        arms.append((height * np.exp(1j * phase)).astype(np.complex64))
    changes = [
        (1j * (first * arms[0] - second * arms[1])).astype(np.complex64) for first, second in slopes
    ]
    return arms[0] - arms[1], changes


def _linearised(
    waves: _Waves, parts: Sequence[Part], values: Float, flip: bool
) -> tuple[float, Float, Float]:
    """Cost, half its gradient (of each wave) by aberrations and rotation, and normal matrix."""
    model, changes = _model(waves, parts, values, flip)
    small = 1e-3
    sides = []
    for sign in (1, -1):
        turned = values.copy()
        turned[-1] += sign * small
        sides.append(_model(waves, parts, turned, flip)[0])
    changes.append((sides[0] - sides[1]) / np.float32(2 * small))
    norm = np.maximum((np.abs(model) ** 2).sum(axis=1), 1e-6)[:, None]
    waves_of_object = (model.conj() * waves.G).sum(axis=1, keepdims=True) / norm
    residual = (waves.G - waves_of_object * model).astype(np.complex64)
    columns = []
    for change in changes:
        moved = waves_of_object * change
        along = (model.conj() * moved).sum(axis=1, keepdims=True) / norm
        columns.append(-(moved - model * along))
    jacobian = np.stack(columns)
    each = (np.stack([column.conj() * residual for column in jacobian])).real.sum(axis=2)
    flat = jacobian.reshape(len(jacobian), -1)
    normal = (flat.conj() @ flat.T).real.astype(np.float64)
    cost = float((np.abs(residual) ** 2).sum(dtype=np.float64))
    return cost, each.T.astype(np.float64), normal


def _covariance(gradients: Float, normal: Float, variance: float) -> Float:
    """Of the unknowns: from noise, and from errors that the pixels of a wave have in common.

    ``σ² H⁻¹ + H⁻¹ (Σ g gᵀ) H⁻¹`` with the gradient g of every wave.
    """
    scale = np.sqrt(np.maximum(np.diag(normal), 1e-300))
    inverse = np.linalg.pinv(normal / np.outer(scale, scale))
    scaled = gradients / scale
    count = len(gradients) / max(len(gradients) - len(normal), 1)
    both = variance * inverse + count * inverse @ (scaled.T @ scaled) @ inverse
    covariance: Float = both / np.outer(scale, scale)
    return covariance
