"""Curl and divergence of a map of deflections, and the rotation that removes the curl."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError

__all__ = ["DeflectionField", "LeastCurl", "flattened", "scan_steps", "taper", "with_direction"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
_ROUNDS = 4
_TAPER = 0.125  # share of the scan at each edge over which the window rises
_FLOOR = 1e-4  # of the strongest ring: noise below it is not believed
_BLOCK_POSITIONS = 6
_ROUNDING = 1e-12


@dataclass(frozen=True)
class LeastCurl:
    """The angle of least curl for one flip, in (−π/2, π/2], and the curl's share of the power."""

    flip: bool
    angle: float
    residual: float


@dataclass(frozen=True, eq=False)
class DeflectionField:
    """Deflections in the Fourier space of the scan.

    Parameters
    ----------
    waves : (2, nx, ny) complex128
        Transform of the windowed x and y component.
    k : (2, nx, ny) float64
        Unit vector along each frequency; zero where it has no direction.
    radius : (nx, ny) float64
        Length of each frequency; infinite at zero.
    window : (nx, ny) float64
    weights : (nx, ny) float64
        How much each frequency counts.

    Notes
    -----
    With unit vectors k, the curl and the divergence of each wave are ``k_x V_y − k_y V_x`` and
    ``k · V``; a rotation of V turns them into one another.  The vector k instead of the unit
    vector would only weigh high frequencies, which are noise, more.
    """

    waves: Complex
    k: Float
    radius: Float
    window: Float
    weights: Float

    @classmethod
    def of(cls, com: RealSlice) -> DeflectionField:
        """The field of a stack "x", "y" of centres of mass; a plane (descan) is removed first."""
        deflection = np.einsum("ij,jxy->ixy", _undistorted(com.calibration), flattened(com.data))
        shape = deflection.shape[1], deflection.shape[2]
        window = np.outer(taper(shape[0]), taper(shape[1]))
        steps = scan_steps(com.calibration)
        kx, ky = (np.fft.fftfreq(n, s) for n, s in zip(shape, steps, strict=True))
        radius = np.hypot(kx[:, None], ky[None, :])
        radius[0, 0] = np.inf
        k = np.stack(np.broadcast_arrays(kx[:, None], ky[None, :])) / radius
        known = np.outer(with_direction(shape[0]), with_direction(shape[1]))
        known[0, 0] = 0.0
        return cls(np.fft.fft2(deflection * window), k, radius, window, known)

    # ---- the optimum -----------------------------------------------------------------------------
    def decided(self, flip: bool | None) -> tuple[DeflectionField, LeastCurl, LeastCurl]:
        """The field with weights of its own, the better (or the given) flip, and the other.

        Frequencies count by ``1 / curl − 1 / divergence`` of their ring, which is what they tell
        about the angle where the curl is noise.

        Raises
        ------
        ParameterError
            The deflection is the same everywhere.
        """
        found = self
        for _ in range(_ROUNDS):
            pair = found.least_curl(False), found.least_curl(True)
            chosen = pair[1].residual < pair[0].residual if flip is None else flip
            found = found._reweighted(pair[chosen])
        pair = found.least_curl(False), found.least_curl(True)
        return found, pair[chosen], pair[not chosen]

    def parts(self, flip: bool, angle: float = 0.0) -> tuple[Complex, Complex]:
        """Curl and divergence of each wave, the field turned by `angle` after the flip."""
        x, y = self.waves[::-1] if flip else self.waves
        curl, div = self.k[0] * y - self.k[1] * x, self.k[0] * x + self.k[1] * y
        c, s = math.cos(angle), math.sin(angle)
        return c * curl + s * div, c * div - s * curl

    def least_curl(self, flip: bool) -> LeastCurl:
        """``θ = atan2(−2⟨C D⟩, ⟨D²⟩ − ⟨C²⟩) / 2`` for curl C and divergence D at zero angle."""
        curl, div = self.parts(flip)
        products = np.array(
            [
                (self.weights * np.abs(curl) ** 2).sum(),
                (self.weights * np.abs(div) ** 2).sum(),
                (self.weights * (curl * div.conj()).real).sum(),
            ]
        )
        total = float(products[0] + products[1])
        if not (math.isfinite(total) and total > 0):
            raise ParameterError(
                "the centre of mass is the same at all positions: there is no curl to minimise"
            )
        angle = float(_angle(products))
        return LeastCurl(flip, angle, float(_curl_power(products, angle)) / total)

    def _reweighted(self, best: LeastCurl) -> DeflectionField:
        curl, div = self.parts(best.flip, best.angle)
        noise, power = self._rings(curl), self._rings(div)
        floor = _FLOOR * power.max() + np.finfo(float).tiny
        noise = np.maximum(noise, floor)
        gain = 1 / noise - 1 / np.maximum(power, noise)
        if not gain.any():
            return self  # all noise: every frequency tells as little as the others
        return replace(self, weights=gain / gain.max() * (self.weights > 0))

    def _rings(self, wave: Complex) -> Float:
        """Mean power of the frequencies of about the same length, at each frequency."""
        known = self.weights > 0
        ring = np.zeros(known.shape, np.int64)
        step = self.radius[known].min()
        ring[known] = np.rint(self.radius[known] / step)
        count = np.bincount(ring.ravel(), known.ravel())
        power = np.bincount(ring.ravel(), (known * np.abs(wave) ** 2).ravel())
        mean: Float = (power / np.maximum(count, 1))[ring]
        return mean

    # ---- uncertainty and curves ------------------------------------------------------------------
    def sigma(self, best: LeastCurl) -> float:
        """One-sigma uncertainty of the angle: a jackknife over blocks of the scan."""
        parts = self.parts(best.flip, best.angle)
        curl, div = (np.fft.ifft2(1j * np.sqrt(self.weights) * p).real for p in parts)
        sums = np.stack([_block_sums(m) for m in (curl * curl, div * div, curl * div)])
        left = sums.sum(axis=1, keepdims=True) - sums
        count = sums.shape[1]
        angle = _angle(left)
        return math.sqrt((count - 1) * float(angle.var()))

    def curve(self, angles: Float) -> dict[str, Float]:
        """Rms curl and divergence against the angle, for both flips, as shares of the whole."""
        rms: dict[str, list[Float]] = {"curl_rms": [], "div_rms": []}
        for flip in (False, True):
            curl, div = self.parts(flip)
            cc, dd = ((self.weights * np.abs(p) ** 2).sum() for p in (curl, div))
            cd = (self.weights * (curl * div.conj()).real).sum()
            power = _curl_power(np.array([cc, dd, cd]), angles) / (cc + dd)
            rms["curl_rms"].append(np.sqrt(np.clip(power, 0, 1)))
            rms["div_rms"].append(np.sqrt(np.clip(1 - power, 0, 1)))
        return {"angles_rad": angles, **{name: np.stack(v) for name, v in rms.items()}}

    # ---- the half turn ---------------------------------------------------------------------------
    def skewness_z(self, best: LeastCurl) -> float:
        """Sigmas by which the charge-like map ``−div`` has peaks rather than holes.

        Positive where a rotation by `best` makes electrons bend towards compact atoms.
        """
        div = self.parts(best.flip, best.angle)[1] * self._signal(best)
        charge = np.fft.ifft2(-1j * div * np.where(np.isinf(self.radius), 0, self.radius)).real
        return _mean_z((charge - charge.mean()) ** 3)

    def likeness_z(self, best: LeastCurl, image: Float) -> float:
        """Sigmas by which the phase of the field is bright where `image` (Rx, Ry) is."""
        signal = self._signal(best)
        phase = np.fft.ifft2(-1j * self.parts(best.flip, best.angle)[1] * signal).real
        there = np.fft.ifft2(np.fft.fft2((image - image.mean()) * self.window) * signal).real
        return _mean_z(phase * (there - there.mean()))

    def _signal(self, best: LeastCurl) -> Float:
        """Share of the power that is not noise, (nx, ny)."""
        curl, div = self.parts(best.flip, best.angle)
        noise, power = self._rings(curl), self._rings(div)
        share = 1 - np.divide(noise, power, out=np.ones_like(power), where=power > 0)
        clipped: Float = np.clip(share, 0, 1) * (self.weights > 0)
        return clipped


def _angle(products: Float) -> Float:
    cc, dd, cd = products
    angle: Float = 0.5 * np.arctan2(-2 * cd, dd - cc)
    return angle


def _curl_power(products: Float, angle: Float | float) -> Float:
    cc, dd, cd = products
    c, s = np.cos(angle), np.sin(angle)
    power: Float = np.asarray(c * c * cc + s * s * dd + 2 * s * c * cd)
    return power


def _block_sums(image: Float) -> Float:
    """Sums over blocks of a few positions' edge, (n,)."""
    counts = [int(np.clip(n // _BLOCK_POSITIONS, 2, 8)) for n in image.shape]
    edges = [np.linspace(0, n, c, endpoint=False).astype(int)
             for n, c in zip(image.shape, counts, strict=True)]  # fmt: skip
    rows: Float = np.add.reduceat(image, edges[0], 0)
    sums: Float = np.add.reduceat(rows, edges[1], 1).ravel()
    return sums


def _mean_z(image: Float) -> float:
    blocks = _block_sums(image)
    error = float(blocks.std(ddof=1)) * math.sqrt(len(blocks))
    return float(blocks.sum()) / error if error > 0 else 0.0


# ---- preparation ---------------------------------------------------------------------------------
def _undistorted(calibration: Calibration) -> Float:
    """Ellipse and oblong pixels undone, in detector axes (2, 2)."""
    x, y = calibration.Q
    unit = x.unit if x.calibrated and x.unit == y.unit else "px"
    matrix = calibration.replace(rotation_rad=0.0, flip=False).Q_matrix(unit)
    scaled: Float = matrix / math.sqrt(abs(float(np.linalg.det(matrix))))
    return scaled


def scan_steps(calibration: Calibration) -> tuple[float, float]:
    """Steps of the scan along x and y, in whatever unit they share; 1 where not calibrated."""
    x, y = calibration.R
    return (abs(x.step), abs(y.step)) if x.calibrated and x.unit == y.unit else (1.0, 1.0)


def flattened(com: NDArray[np.generic]) -> Float:
    """The stack (k, Rx, Ry) less a plane per image; zero where it is not known."""
    stack = np.array(com, np.float64)
    known = np.isfinite(stack).all(axis=0)
    if known.mean() < 0.5:
        raise ParameterError(
            f"the centre of mass is known at {known.sum()} of {known.size} positions only: "
            "half of them is the least"
        )
    i, j = np.indices(known.shape)
    design = np.stack([np.ones(known.size), i.ravel(), j.ravel()], axis=1)
    flat = stack.reshape(len(stack), -1).T
    plane = np.linalg.lstsq(design[known.ravel()], flat[known.ravel()], rcond=None)[0]
    rest = np.where(known.reshape(-1, 1), flat - design @ plane, 0.0)
    if np.abs(rest).max() < _ROUNDING * np.abs(flat[known.ravel()]).max():
        rest[:] = 0.0
    result: Float = rest.T.reshape(stack.shape)
    return result


def taper(count: int) -> Float:
    """A window (count,) that rises from the edges like a cosine."""
    distance = np.minimum(np.arange(count), np.arange(count)[::-1]) + 0.5
    rise = np.clip(distance / (_TAPER * count), 0, 1)
    window: Float = np.sin(np.pi / 2 * rise) ** 2
    return window


def with_direction(count: int) -> Float:
    """Zero at the Nyquist frequency, whose sign is not known."""
    known = np.ones(count)
    if count % 2 == 0:
        known[count // 2] = 0.0
    return known
