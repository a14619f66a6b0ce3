"""Aberrations and rotation that align the images of bright-field pixels.

Pixel k sees component q of a thin phase object as ``2 φ(q) sin(h) exp(ip)`` wherever ``k ± q`` lie
within the aperture, with p the odd and h the even part of ``2πχ/λ`` about k.  p is linear in the
aberrations, ``p = −2π q·s`` with s the displacement of the image.  φ(q) is solved for, each
component on its own, and the coefficients follow by Gauss and Newton's method on what is left
(variable projection).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.aberrations import Aberrations
from py4DSTEM.errors import SolveError
from py4DSTEM.process.calibrate.parallax import start_matrix, transformed
from py4DSTEM.process.phase.parallax_search import best_turned_defocus, strongest
from py4DSTEM.process.phase.parallax_stack import BrightField, grouped
from py4DSTEM.stream.parallel import in_threads

__all__ = ["Alignment", "align", "displacements_A"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
_ACROSS_COARSE = 9
_ACROSS_FINE = 18
_REACHES = (0.12, 0.25, 0.5)  # highest frequency, cycles per scan step, from coarse to fine
_ROUNDS = 12
_SETTLED = 0.02  # sigma
_FARTHEST = 0.35  # of the scan: the largest displacement that is tried
_FEWEST_PIXELS = 8
_TELLING = 500  # components that tell most, which each image alone is compared by
_LEAST_SHARE = 0.02  # of the most that tells where an image is: below nothing is known
_RINGS = 12
_ROUGH_TAPER, _TAPER = 0.3, 1.0  # of half a window, at its edges: of the start, and of the fit
_LEAST_QUALITY = 0.2  # of the median: pixels below are left out
_PARTS = {1: 4, 2: 8, 3: 9}  # by order: of kernels.parallax.PARTS
_SWAP = np.eye(2)[::-1]
_LINEAR = range(4)
_TURN = np.array([[0.0, 1.0], [-1.0, 0.0]])
_NOISE = 2.0  # times its variance, which is not believed
_MOST_ASTIGMATIC = 0.7  # of the defocus: beyond, handedness is not told
_LEAST_Z = 4.0
_LEAST_SIGNIFICANCE = 12.0  # the best of all that were tried
_LEAST_SHIFT = 0.25  # scan steps, of the image that moves most


@dataclass(frozen=True, eq=False)
class Alignment:
    """What aligns the images.

    Parameters
    ----------
    parts : (P,) float64
        Coefficients in Å by `kernels.parallax.PARTS`; that of the turn is 0.
    covariance : (P, P) float64
        Å²; that of the turn over C10 is the variance of the rotation.
    rotation_rad : float
    flip : bool
    residual : float
        What is left of the images' power (root), over all frequencies that were fitted.
    significance : float
        How many standard deviations of noise the aligned power lies above that of noise.
    groups : BrightField
        The groups of pixels that were fitted.
    quality : (n,) float64
        Likeness of each group's image to the aligned mean, 1 where it is as expected; NaN at the
        rim, where too little tells.
    shifts_A : (n, 2) float64
        Displacement of each group's image, each on its own, in scan axes; NaN there.
    """

    parts: Float
    covariance: Float
    rotation_rad: float
    flip: bool
    residual: float
    significance: float
    groups: BrightField
    quality: Float
    shifts_A: Float

    @property
    def to_detector(self) -> Float:
        """Matrix from scan to detector axes."""
        return _to_detector(self.rotation_rad, self.flip)

    @property
    def aberrations(self) -> Aberrations:
        return _aberrations(self.parts)

    def turned(self) -> Alignment:
        """The other solution: rotated by half a turn, aberrations of the opposite sign."""
        angle = (self.rotation_rad + 2 * math.pi) % (2 * math.pi) - math.pi
        return replace(self, parts=-self.parts, rotation_rad=angle)

    def displacements_A(self, alpha: Float) -> Float:
        """Displacement of the image at each angle, (n, 2) Å in scan axes."""
        return displacements_A(self.aberrations, self.to_detector, alpha)


def displacements_A(aberrations: Aberrations, to_detector: Float, alpha: Float) -> Float:
    """``−∂χ/∂α`` in scan axes, (n, 2) Å."""
    moved: Float = -aberrations.gradient(alpha[:, 0], alpha[:, 1]).T @ to_detector
    return moved


# ---- components ----------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Waves:
    """Components of windowed images: (m, n) at q (m, 2), cycles per Å in scan axes."""

    values: NDArray[np.complex64]
    q: Float
    steps_A: Float
    neighbours: NDArray[np.intp]
    alike: float

    @classmethod
    def of(cls, groups: BrightField, shifts_A: Float, taper: float = _TAPER) -> _Waves:
        """Each image in a window that moves with it: nothing enters or leaves."""
        from scipy import fft  # slow to import

        steps = np.array(groups.optics.R_steps_A)
        shape = groups.R_shape
        windows = [_windows(n, shifts_A[:, a] / steps[a], taper) for a, n in enumerate(shape)]
        # How many neighbouring components the window makes alike.
        alike = math.prod(
            float(len(w[0]) * (w**4).sum() / (w**2).sum() ** 2 * len(w)) for w in windows
        )
        seen = groups.images * windows[0][:, :, None] * windows[1][:, None, :]
        waves = np.asarray(fft.rfft2(seen, workers=2))
        qx, qy = fft.fftfreq(shape[0], steps[0]), fft.rfftfreq(shape[1], steps[1])
        # The edge of the half plane is seen twice.
        twice = (np.arange(len(qy)) == 0)[None, :] & (np.arange(shape[0]) > shape[0] // 2)[:, None]
        highest = [np.abs(v).max() if len(v) % 2 == 0 else np.inf for v in (qx, qy)]
        edge = (np.abs(qx) >= highest[0])[:, None] | (qy >= 0.5 / steps[1])[None, :]
        rows, columns = np.nonzero(~twice & ~edge)
        rows, columns = rows[1:], columns[1:]
        values = np.ascontiguousarray(waves[:, rows, columns].T)
        blocks = (fft.fftshift(np.arange(shape[0]))[rows] // 6) * 10_000 + columns // 6
        neighbours = np.unique(blocks, return_inverse=True)[1]
        return cls(values, np.stack([qx[rows], qy[columns]], 1), steps, neighbours.ravel(), alike)

    def below(self, reach: float) -> _Waves:
        """Frequencies up to so many cycles per step."""
        return self.chosen(np.nonzero((np.abs(self.q * self.steps_A) <= reach).all(axis=1))[0])

    def chosen(self, kept: NDArray[np.intp]) -> _Waves:
        """Some of the components."""
        return replace(
            self, values=self.values[kept], q=self.q[kept], neighbours=self.neighbours[kept]
        )


def _windows(size: int, shifts: Float, taper: float) -> NDArray[np.float32]:
    """Windows (n, size) with soft edges that follow displacements and stay within the scan."""
    middle, reach = (size - 1) / 2, float(np.abs(shifts).max())
    half = max(size / 2 - reach, size / 4)
    room = max(size / 2 - half, 0.0)
    at = np.arange(size) - middle - np.clip(shifts, -room, room)[:, None]
    inside = np.clip((half - np.abs(at)) / (taper * half), 0.0, 1.0)
    return (np.sin(np.pi / 2 * inside) ** 2).astype(np.float32)


# ---- one step ------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _State:
    """Coefficients and the axes that they are in."""

    parts: Float
    rotation_rad: float
    flip: bool

    def absorbed(self) -> _State:
        """The same with the antisymmetric part turned into a rotation."""
        p = self.parts.copy()
        linear = np.array([[p[0] + p[2], p[3] + p[1]], [p[3] - p[1], p[0] - p[2]]])
        sign = -1.0 if np.trace(linear) < 0 else 1.0
        delta = math.atan2(
            sign * (linear[0, 1] - linear[1, 0]), sign * (linear[0, 0] + linear[1, 1])
        )
        symmetric = linear @ (math.cos(delta) * np.eye(2) + math.sin(delta) * _TURN).T
        p[0], p[1] = np.trace(symmetric) / 2, 0.0
        p[2], p[3] = (symmetric[0, 0] - symmetric[1, 1]) / 2, symmetric[0, 1]
        return _State(p, self.rotation_rad + (-delta if self.flip else delta), self.flip)


@dataclass(frozen=True, eq=False)
class _Sums:
    """Sums of the kernel, with φ(q) solved for, and what is left of each component."""

    cross: Complex
    count: Float
    power: Float
    slopes: Complex
    means: Float
    squares: Float

    @property
    def model(self) -> Complex:
        """2φ(q), as a mean of aligned components."""
        return self.cross / np.maximum(self.count, 1)

    @property
    def left(self) -> Float:
        """Mean |d − model|² of each component, degrees of freedom allowed for."""
        rest = self.power - np.abs(self.cross) ** 2 / np.maximum(self.count, 1)
        return np.maximum(rest, 0.0) / np.maximum(self.count - 1, 1)

    def normal(self, weights: Float) -> tuple[Float, Float]:
        """Normal matrix (P, P), and the score of each component (m, P)."""
        count = np.maximum(self.count, 1)
        common = np.einsum("mp,mr,m->mpr", self.means, self.means, 1 / count)
        spread = self.squares - common
        # |model|² of what is noise would make the fit look surer than it is.
        power = np.maximum(np.abs(self.model) ** 2 - self.left / count, 0.0)
        matrix = np.einsum("m,mpr->pr", weights * power, spread)
        across = self.slopes + 1j * self.means * self.model[:, None]
        score = weights[:, None] * (self.model.conj()[:, None] * across).real
        return matrix, score


def _sums(waves: _Waves, groups: BrightField, state: _State) -> _Sums:
    from py4DSTEM.kernels.parallax import aligned_sums

    wavelength = groups.optics.wavelength_A
    q = wavelength * waves.q @ _to_detector(state.rotation_rad, state.flip).T
    edge = groups.edge - groups.optics.wavelength_A * max(groups.optics.Q_steps_A)
    cuts = np.array_split(np.arange(len(q)), 4)

    def part(index: NDArray[np.intp]) -> tuple[NDArray[Any], ...]:
        return aligned_sums(
            waves.values[index], groups.alpha, q[index], state.parts / wavelength, edge
        )

    found = in_threads(part, cuts)
    cross, count, power, slopes, means, squares = (
        np.concatenate(arrays) for arrays in zip(*found, strict=True)
    )
    per_A = 1 / wavelength
    return _Sums(
        cross,
        count,
        power,
        np.asarray(slopes, np.complex128) * per_A,
        means * per_A,
        squares * per_A**2,
    )


def _weights(sums: _Sums, waves: _Waves) -> Float:
    """1 over what is left, by rings of frequency, less where the aligned mean may be noise."""
    radius = np.hypot(*(waves.q * waves.steps_A).T)
    ring = np.minimum((radius / (radius.max() + 1e-12) * _RINGS).astype(int), _RINGS - 1)
    enough = sums.count >= _FEWEST_PIXELS
    total = np.bincount(ring, enough * sums.left, _RINGS)
    mean = total / np.maximum(np.bincount(ring, enough, _RINGS), 1)
    left = mean[ring]
    signal = np.abs(sums.model) ** 2 * np.maximum(sums.count, 1)
    believed = np.clip(1 - _NOISE * np.divide(left, signal, where=signal > 0, out=left * 0), 0, 1)
    weights: Float = np.divide(believed, left, out=np.zeros_like(left), where=enough & (left > 0))
    return weights


# ---- the whole -----------------------------------------------------------------------------------
def align(field: BrightField, order: int, flip: bool | None) -> Alignment:
    """Aberrations up to an order, and the rotation; the half turn is chosen for underfocus.

    Raises
    ------
    SolveError
        The images are not displaced, or not as aberrations do it.
    """
    coarse, cells = grouped(field, _ACROSS_COARSE)
    still = _Waves.of(coarse, np.zeros_like(coarse.alpha), _ROUGH_TAPER)
    reaches = _reaches(still)
    starts = [_neighbours(coarse, cells, flip), *_searched(coarse, still, flip)]
    tried = [_refined(coarse, start, reaches, _ROUGH_TAPER) for start in starts]
    # What aligns most of the same components is the better of the starts.
    state = max(tried, key=lambda fit: _aligned(still, coarse, fit.state)).state
    groups, _ = grouped(field, _ACROSS_FINE)
    found = _fitted(groups, state, reaches, order)
    _check(found)
    return found if found.parts[0] < 0 else found.turned()


def _fitted(
    groups: BrightField, state: _State, reaches: tuple[float, ...], order: int
) -> Alignment:
    """The fit within the window that leaves the smaller uncertainty.

    A soft one keeps strong frequencies apart, which matters for crystals; a wide one has more
    counts.
    """
    tried = []
    for taper in (_ROUGH_TAPER, _TAPER):
        quality = _quality(groups, _refined(groups, state, reaches, taper))
        good = ~(quality < _LEAST_QUALITY * np.nanmedian(quality))
        kept = groups.chosen(good) if good.sum() > _FEWEST_PIXELS else groups
        free = replace(state, parts=np.pad(state.parts, (0, _PARTS[order] - 4)))
        tried.append(_alignment(kept, _refined(kept, free, reaches[-1:], taper)))
    return min(tried, key=lambda one: float(one.covariance[0, 0]))


def _neighbours(coarse: BrightField, cells: NDArray[np.int64], flip: bool | None) -> _State:
    """From the displacements of neighbouring groups against one another."""
    steps = coarse.optics.R_steps_A
    images = transformed(coarse.images.astype(np.float64) + 1.0, cells, coarse.alpha, steps)
    linear = -(start_matrix(images) * math.sqrt(math.prod(steps))).T
    if flip is None:
        flip = bool(np.linalg.det(linear) < 0)
    a, b, c, d = (linear @ (_SWAP if flip else np.eye(2))).ravel()
    return _State(np.array([a + d, b - c, a - d, b + c]) / 2, 0.0, flip).absorbed()


def _searched(coarse: BrightField, waves: _Waves, flip: bool | None) -> list[_State]:
    """From all defocus and rotations, for each flip that is possible."""
    chosen = strongest(waves.values)
    farthest = _FARTHEST * float(min(np.array(coarse.R_shape) * waves.steps_A))
    found = []
    for one in (False, True) if flip is None else (flip,):
        q = waves.q[chosen] @ (_SWAP if one else np.eye(2))
        a, b, _ = best_turned_defocus(waves.values[chosen], coarse.alpha, q, farthest)
        found.append(_State(np.array([a, b, 0.0, 0.0]), 0.0, one).absorbed())
    return found


def _reaches(waves: _Waves) -> tuple[float, ...]:
    """Frequencies to go up to, step by step, the first of them with most of the signal."""
    q = np.hypot(*(waves.q[strongest(waves.values)] * waves.steps_A).T)
    first = min(max(_REACHES[0], 1.2 * float(np.percentile(q, 70))), _REACHES[-1])
    return (first, *(r for r in _REACHES if r > 1.2 * first))


def _aligned(waves: _Waves, groups: BrightField, state: _State) -> float:
    """Share of the power that is in the aligned mean, every frequency counting alike."""
    sums = _sums(waves, groups, replace(state, parts=state.parts[:4]))
    enough = sums.count >= _FEWEST_PIXELS
    share = np.abs(sums.cross) ** 2 / np.maximum(sums.count, 1)
    astigmatic = math.hypot(*state.parts[2:4]) > _MOST_ASTIGMATIC * abs(state.parts[0])
    return float(share[enough].sum()) * (0.5 if astigmatic else 1.0)


@dataclass(frozen=True, eq=False)
class _Fit:
    """A state, and what it leaves."""

    state: _State
    matrix: Float
    scores: Float
    waves: _Waves
    sums: _Sums


def _refined(groups: BrightField, state: _State, reaches: tuple[float, ...], taper: float) -> _Fit:
    """Steps of least squares, with more and more frequencies."""
    for reach in reaches:
        waves = _Waves.of(groups, _shifts(state, groups.alpha), taper).below(reach)
        for _ in range(_ROUNDS):
            sums = _sums(waves, groups, state)
            matrix, scores = sums.normal(_weights(sums, waves))
            step = np.linalg.lstsq(matrix, scores.sum(axis=0), rcond=1e-12)[0]
            step *= _trust(step, groups, reach)
            state = replace(state, parts=state.parts + step).absorbed()
            if step @ matrix @ step < _SETTLED**2:
                break
    return _Fit(state, matrix, scores, waves, sums)


def _shifts(state: _State, alpha: Float) -> Float:
    return displacements_A(
        _aberrations(state.parts), _to_detector(state.rotation_rad, state.flip), alpha
    )


def _trust(step: Float, groups: BrightField, reach: float) -> float:
    """Factor that keeps a step below a quarter of the shortest period, at the rim of the disk."""
    limit = 0.25 / reach * min(groups.optics.R_steps_A)
    farthest = float(np.linalg.norm(step[:4])) * groups.edge
    return min(1.0, limit / farthest) if farthest > 0 else 1.0


def _aberrations(parts: Float) -> Aberrations:
    from py4DSTEM.kernels.parallax import PARTS

    pairs = zip(PARTS, parts, strict=False)
    return Aberrations.from_cartesian({p: float(v) for p, v in pairs if p[0] != "turn"})


def _covariance(matrix: Float, scores: Float, waves: _Waves) -> Float:
    """From the scatter of the scores of neighbouring components, taken together.

    The window makes neighbours alike, and what is left is not only noise.
    """
    together = np.zeros((int(waves.neighbours.max()) + 1, scores.shape[1]))
    np.add.at(together, waves.neighbours, scores)
    inverse = np.linalg.pinv(matrix, hermitian=True)
    covariance: Float = inverse @ (together.T @ together) @ inverse
    noise = inverse * waves.alike
    ratio = np.diag(noise) / np.maximum(np.diag(covariance), 1e-300)
    return covariance * max(1.0, float(ratio[: len(_LINEAR)].mean()))


@dataclass(frozen=True, eq=False)
class _Each:
    """The aligned mean moved to where each image is (m, n), and how much each component counts."""

    waves: _Waves
    expected: NDArray[np.complex64]
    weights: Float

    @classmethod
    def of(cls, groups: BrightField, fit: _Fit) -> _Each:
        state, optics = fit.state, groups.optics
        weights = _weights(fit.sums, fit.waves)
        told = np.argsort(weights * np.abs(fit.sums.model) ** 2)[-_TELLING:]
        waves, model, weights = fit.waves.chosen(told), fit.sums.model[told], weights[told]
        phase = -2j * np.pi * (waves.q @ _shifts(state, groups.alpha).T)
        expected = (model[:, None] * np.exp(phase)).astype(np.complex64)
        q = optics.wavelength_A * waves.q @ _to_detector(state.rotation_rad, state.flip).T
        edge = groups.edge - optics.wavelength_A * max(optics.Q_steps_A)
        # Elsewhere only one of k ± q is within the aperture, and the phase is another.
        farthest = np.hypot(*q.T)[:, None] ** 2 + np.hypot(*groups.alpha.T) ** 2
        inside = farthest + 2 * np.abs(q @ groups.alpha.T) < edge**2
        return cls(waves, expected, inside * weights[:, None])

    @property
    def power(self) -> Float:
        power: Float = self.weights * np.abs(self.expected) ** 2
        return power


def _quality(groups: BrightField, fit: _Fit) -> Float:
    """Likeness of each image to the aligned mean: 1 where they are the same, NaN: not known."""
    each = _Each.of(groups, fit)
    inner = (each.weights * (each.expected.conj() * each.waves.values).real).sum(axis=0)
    whole = each.power.sum(axis=0)
    known = whole > _LEAST_SHARE * whole.max(initial=0.0)
    likeness: Float = np.divide(inner, whole, out=np.full(len(whole), np.nan), where=known)
    return likeness


def _measured(groups: BrightField, fit: _Fit) -> Float:
    """Displacement of each image by one step of least squares of its own, (n, 2) Å."""
    each = _Each.of(groups, fit)
    q = 2 * np.pi * each.waves.q
    normal = np.einsum("mn,ma,mb->nab", each.power, q, q, optimize=True)
    rest = (each.expected.conj() * (each.waves.values - each.expected)).imag * -each.weights
    step = np.linalg.pinv(normal, hermitian=True) @ (rest.T @ q)[:, :, None]
    shifts: Float = _shifts(fit.state, groups.alpha) + step[:, :, 0]
    return shifts


def _alignment(groups: BrightField, fit: _Fit) -> Alignment:
    state, sums = fit.state, fit.sums
    enough = sums.count >= _FEWEST_PIXELS
    whole = float(sums.power[enough].sum())
    rest = float((sums.left * sums.count)[enough].sum())
    quality, shifts = _quality(groups, fit), _measured(groups, fit)
    shifts[~np.isfinite(quality)] = np.nan
    return Alignment(
        state.parts, _covariance(fit.matrix, fit.scores, fit.waves), state.rotation_rad,
        state.flip, math.sqrt(rest / whole) if whole > 0 else 1.0,
        _significance(sums) / math.sqrt(fit.waves.alike), groups,
        quality, shifts,
    )  # fmt: skip


def _significance(sums: _Sums) -> float:
    """Of noise alone, the aligned power of each component over its expectation is exponential."""
    enough = (sums.count >= _FEWEST_PIXELS) & (sums.left > 0)
    if not enough.any():
        return 0.0
    excess = np.abs(sums.cross[enough]) ** 2 / (sums.count * sums.left)[enough] - 1
    return float(excess.sum()) / math.sqrt(len(excess))


def _check(found: Alignment) -> None:
    size, sigma = abs(found.parts[0]), math.sqrt(found.covariance[0, 0])
    largest = np.abs(found.displacements_A(found.groups.alpha)).max()
    step = max(found.groups.optics.R_steps_A)
    clear = size > _LEAST_Z * sigma and found.significance > _LEAST_SIGNIFICANCE
    if not (clear and largest > _LEAST_SHIFT * step):
        raise SolveError(
            "the images of the bright-field pixels are not displaced against one another "
            f"(defocus {size:.0f} ± {sigma:.0f} Å, at most {largest / step:.2f} scan steps, "
            f"{found.significance:.0f} sigma above noise, {_LEAST_SIGNIFICANCE:.0f} at least): the "
            "scan is in focus or has too few counts; parallax needs a defocus that moves them by "
            "a step or more, for a crystal by less than its period"
        )


def _to_detector(rotation_rad: float, flip: bool) -> Float:
    c, s = math.cos(rotation_rad), math.sin(rotation_rad)
    back = np.array([[c, s], [-s, c]])
    return back[::-1].copy() if flip else back
