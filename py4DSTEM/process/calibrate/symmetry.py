"""Rotation of the scan from the symmetry of its images under mirrors: rings and their harmonics.

In the light of one spatial frequency q of the specimen, the pattern of a round probe is its own
mirror image about q.  The sums of a pattern times ``cos mφ`` and ``sin mφ`` over a ring of the
detector then have, at every q, a part along q and none across it, as the centre of mass (m = 1,
all rings together) has no curl.  Each ring and each m measure the rotation again, with a noise of
their own, and a turn by θ is a turn by mθ there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveFloat

from py4DSTEM.core.calibration import Calibration
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Annulus, AnyDetector, Mask
from py4DSTEM.core.history import History
from py4DSTEM.core.slices import RealSlice
from py4DSTEM.errors import ParameterError
from py4DSTEM.process.beam import Beam, find_beam
from py4DSTEM.process.calibrate.curl import flattened, scan_steps, taper, with_direction
from py4DSTEM.process.com import CenterOfMass
from py4DSTEM.process.virtual import VirtualImages
from py4DSTEM.stream.engine import run
from py4DSTEM.stream.operation import Measures, Operation, Output, Parts, PerScan
from py4DSTEM.stream.options import RunOptions
from py4DSTEM.stream.tile import Tile

if TYPE_CHECKING:
    from py4DSTEM.kernels.api import Kernels

__all__ = ["MirrorAngle", "MirrorSymmetry", "RingHarmonics", "ring_edges_px", "ring_images"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
_HARMONICS = (1, 2, 3)
_EDGES = (0.0, 0.4, 0.6, 0.75, 0.88, 1.02, 1.3)
"""Of the rings, in radii of the bright disk."""
_DARK_FIELD_RADII = 1.3  # clear of the blurred rim of the disk
_LEAST_WIDTH_PX = 1.5
_ROUNDS = 4
_FLOOR = 1e-4  # of the strongest frequency: noise below it is not believed
_GRID = 720  # angles in half a turn that are looked at first


# ---- the pass over the scan ----------------------------------------------------------------------
class RingHarmonics(Operation, kind="ring-harmonics", version=1):
    """Angular harmonics of each pattern on rings about the beam: ``Σ I cos mφ`` and ``Σ I sin mφ``.

    φ runs from x towards y in the axes of the detector.
    """

    center: tuple[float, float] = Field(description="Of the rings (qx, qy), px.")
    edges_px: tuple[float, ...] = Field(min_length=2, description="Radii between the rings, px.")
    harmonics: tuple[int, ...] = Field(_HARMONICS, description="The m of each harmonic.")
    elongation: PositiveFloat = Field(1.0, description="Length of a pixel along y over along x.")

    outputs: ClassVar[Mapping[str, Output]] = {"images": PerScan(np.float64)}

    @classmethod
    def examples(cls) -> list[RingHarmonics]:
        """Instances for the conformance tests."""
        return [cls(center=(9.0, 10.0), edges_px=(0.0, 4.0, 8.0), harmonics=(1, 2))]

    def prepare(self, cube: Cube, kernels: Kernels) -> Float:
        i, j = np.indices(cube.Q_shape, dtype=np.float64)
        angle = np.arctan2(self.elongation * (j - self.center[1]), i - self.center[0])
        rings = [
            Annulus(low, high, center=self.center).weights(cube.Q_shape, cube.calibration)
            for low, high in zip(self.edges_px, self.edges_px[1:], strict=False)
        ]
        waves = [wave(m * angle) for m in self.harmonics for wave in (np.cos, np.sin)]
        return np.stack([ring * wave for ring in rings for wave in waves])

    def measures(self, plan: Float) -> Measures:
        return Measures(detectors=plan)

    def step(self, plan: Float, tile: Tile, kernels: Kernels) -> Parts:
        return {} if tile.measured is None else {"images": tile.measured.get("detectors")[0]}

    def finish(self, cube: Cube, plan: Float, parts: Parts, history: History) -> RealSlice:
        images = np.ascontiguousarray(np.moveaxis(parts["images"], -1, 0))
        names = tuple(
            f"ring {ring} {wave} {m}"
            for ring in range(len(self.edges_px) - 1)
            for m in self.harmonics
            for wave in ("cos", "sin")
        )
        return RealSlice(images, cube.calibration, history, "ring harmonics", names)


@dataclass(frozen=True, eq=False)
class RingImages:
    """What one pass over a scan tells about its rotation.

    Parameters
    ----------
    com : RealSlice
        Stack "x", "y", raw detector pixels.
    harmonics : RealSlice
        As `RingHarmonics` makes them.
    orders : tuple of int
        m of each pair of images.
    dark : (Rx, Ry) float64, optional
        What is scattered beyond the bright disk; None where nothing is.
    """

    com: RealSlice
    harmonics: RealSlice
    orders: tuple[int, ...]
    dark: Float | None


def ring_edges_px(radius_px: float) -> tuple[float, ...]:
    """Edges of rings that cover a bright disk and its rim, none narrower than about a pixel.

    >>> ring_edges_px(20.0)
    (0.0, 8.0, 12.0, 15.0, 17.6, 20.4, 26.0)
    >>> ring_edges_px(2.0)
    (0.0, 2.6)
    """
    edges = [0.0]
    for edge in _EDGES[1:-1]:
        if edge * radius_px - edges[-1] >= _LEAST_WIDTH_PX:
            edges.append(round(edge * radius_px, 6))
    last = round(_EDGES[-1] * radius_px, 6)
    narrow = last - edges[-1] < _LEAST_WIDTH_PX and len(edges) > 1
    return (*(edges[:-1] if narrow else edges), last)


def ring_images(
    cube: Cube, mask: AnyDetector | None = None, options: RunOptions | None = None
) -> RingImages:
    """Centre of mass, harmonics of rings and dark field of every position, in one pass."""
    beam = _beam(cube)
    elongation = _elongation(cube.calibration)
    edges = ring_edges_px(beam.radius_px)
    rings = RingHarmonics(center=beam.center, edges_px=edges, elongation=elongation)
    operations: list[Operation] = [CenterOfMass(mask=mask), rings]
    beyond = _beyond(cube, beam)
    if beyond is not None:
        operations.append(VirtualImages(detectors={"dark field": beyond}))
    com, harmonics, *images = run(operations, cube, options=options)
    dark = _contrast(images[0].data[0]) if images else None
    orders = rings.harmonics * (len(edges) - 1)
    return RingImages(com, harmonics, orders, dark)


def _beam(cube: Cube) -> Beam:
    found, known = find_beam(cube), cube.calibration.origin_px
    if known is None or not np.isfinite(known).any():
        return found
    x, y = cube.calibration.mean_origin_px
    return replace(found, center=(float(x), float(y)))


def _elongation(calibration: Calibration) -> float:
    x, y = calibration.Q
    return abs(y.step / x.step) if x.calibrated and x.unit == y.unit else 1.0


def _beyond(cube: Cube, beam: Beam) -> Mask | None:
    i, j = np.indices(cube.Q_shape, dtype=np.float64)
    radius = np.hypot(i - beam.center[0], j - beam.center[1])
    outside = radius > _DARK_FIELD_RADII * beam.radius_px
    return Mask(outside) if outside.sum() >= 0.05 * outside.size else None


def _contrast(image: Float) -> Float | None:
    if not np.isfinite(image).any():
        return None
    data = np.nan_to_num(image, nan=float(np.nanmean(image)))
    return data if data.std() > 0 else None


# ---- the symmetry --------------------------------------------------------------------------------
@dataclass(frozen=True)
class MirrorAngle:
    """The angle of best symmetry for one flip, in (−π/2, π/2], and the share that contradicts."""

    flip: bool
    angle: float
    residual: float


@dataclass(frozen=True, eq=False)
class MirrorSymmetry:
    """Powers of the harmonics in the Fourier space of the scan, half of which is kept.

    Parameters
    ----------
    total : (g, n) float64
        ``|A|² + |B|²`` of the cosine and the sine image of every ring and order.
    split : (2, g, n) complex128
        ``(|A|² − |B|² + 2i Re AB*) exp(−2imφ)`` without and with the flip, φ the direction of the
        frequency: its real part is what lies along less what lies across.
    orders : (g,) int64
    where : (nx, ny // 2 + 1) bool
        The n frequencies that have a direction, and are faster than the taper.
    ring : (n,) int64
        Rounded length of each.
    weights : (g, n) float64
        How much each counts.

    Notes
    -----
    A turn of the patterns by θ is a factor ``exp(2imθ)`` on `split`; exchanging x and y makes
    ``(−1)^m`` times the conjugate of what is before the factor ``exp(−2imφ)``.
    """

    total: Float
    split: Complex
    orders: NDArray[np.int64]
    where: NDArray[np.bool_]
    ring: NDArray[np.int64]
    weights: Float

    @classmethod
    def of(cls, images: RingImages) -> MirrorSymmetry:
        """Of the images of one pass; a plane is removed from each, and the edges are tapered."""
        from scipy import fft  # slow to import

        stack = flattened(images.harmonics.data)
        shape = stack.shape[1], stack.shape[2]
        waves = fft.rfft2(stack * np.outer(taper(shape[0]), taper(shape[1])))
        kx, ky, where = _frequencies(shape, scan_steps(images.com.calibration))
        if not where.any():
            raise ParameterError(f"a scan of {shape[0]} x {shape[1]} positions is too small")
        a, b = np.moveaxis(waves[:, where].reshape(-1, 2, int(where.sum())), 1, 0)
        orders = np.asarray(images.orders)
        total = np.abs(a) ** 2 + np.abs(b) ** 2
        power = total.sum(axis=1, keepdims=True)
        if not (np.isfinite(power).all() and power.any()):
            raise ParameterError("the patterns are the same at all positions: nothing tells axes")
        square = np.abs(a) ** 2 - np.abs(b) ** 2 + 2j * (a * b.conj()).real
        phases = {m: np.exp(-2j * m * np.arctan2(ky, kx)[where]) for m in set(images.orders)}
        turn = np.stack([phases[m] for m in images.orders])
        sign = np.where(orders % 2 == 0, 1.0, -1.0)[:, None]
        weights = np.divide(1.0, power, out=np.zeros_like(power), where=power > 0)
        # In units of the slowest wave of the longer side.
        slowest = max(n * s for n, s in zip(shape, scan_steps(images.com.calibration), strict=True))
        ring = np.rint(np.hypot(kx, ky)[where] * slowest).astype(np.int64)
        split = np.stack([square * turn, sign * square.conj() * turn])
        return cls(total, split, orders, where, ring, weights * np.ones_like(total))

    def decided(self, flip: bool | None) -> tuple[MirrorSymmetry, MirrorAngle, MirrorAngle]:
        """With weights of its own; the better (or the given) flip; and the other."""
        found = self
        for _ in range(_ROUNDS):
            pair = found.best(False), found.best(True)
            chosen = pair[1].residual < pair[0].residual if flip is None else flip
            found = found._reweighted(pair[chosen])
        pair = found.best(False), found.best(True)
        return found, pair[chosen], pair[not chosen]

    def best(self, flip: bool) -> MirrorAngle:
        """The angle at which least is left across the frequencies."""
        sums, total = self._sums(flip)
        angle = self._angle(sums)
        share = 0.5 * (1 - self._gain(sums, np.array([angle]))[0] / total)
        return MirrorAngle(flip, angle, float(np.clip(share, 0, 1)))

    def sigma(self, best: MirrorAngle) -> float:
        """One-sigma uncertainty of the angle: a jackknife over rings and orders."""
        sums, _ = self._sums(best.flip)
        count = len(sums)
        if count < 2:
            return math.inf
        rest = [self._angle(np.delete(sums, k), np.delete(self.orders, k)) for k in range(count)]
        apart = (np.array(rest) - best.angle + math.pi / 2) % math.pi - math.pi / 2
        return math.sqrt((count - 1) / count * float((apart**2).sum()))

    def curve(self, angles: Float) -> dict[str, Float]:
        """Rms of what is across, against the angle, for both flips, as shares of the whole."""
        rows = []
        for flip in (False, True):
            sums, total = self._sums(flip)
            rows.append(np.sqrt(np.clip(0.5 * (1 - self._gain(sums, angles) / total), 0, 1)))
        return {"angles_rad": angles, "across_rms": np.stack(rows)}

    # ---- parts -----------------------------------------------------------------------------------
    def _sums(self, flip: bool) -> tuple[Complex, float]:
        """Weighted sums of `split` over the frequencies, (g,), and of `total` over everything."""
        sums: Complex = np.einsum("gn,gn->g", self.weights, self.split[int(flip)])
        return sums, float(np.vdot(self.weights, self.total))

    def _gain(self, sums: Complex, angles: Float, orders: NDArray[np.int64] | None = None) -> Float:
        """What lies along less what lies across the frequencies, patterns turned by `angles`."""
        m = self.orders if orders is None else orders
        gain: Float = (sums[:, None] * np.exp(2j * np.outer(m, angles))).real.sum(axis=0)
        return gain

    def _angle(self, sums: Complex, orders: NDArray[np.int64] | None = None) -> float:
        """Where the gain is largest: the best of a grid, then Newton's steps."""
        m = self.orders if orders is None else orders
        grid = np.linspace(-np.pi / 2, np.pi / 2, _GRID, endpoint=False)
        angle = float(grid[self._gain(sums, grid, m).argmax()])
        for _ in range(3):
            turned = sums * np.exp(2j * m * angle)
            bend = float((4 * m**2 * turned.real).sum())
            if bend <= 0:
                break
            angle -= float((2 * m * turned.imag).sum()) / bend
        return math.pi / 2 - (math.pi / 2 - angle) % math.pi

    def _reweighted(self, best: MirrorAngle) -> MirrorSymmetry:
        """Frequencies count by what they tell: signal over (signal + noise) and over noise."""
        turn = np.exp(2j * self.orders * best.angle)[:, None]
        more = (self.split[int(best.flip)] * turn).real
        along, across = 0.5 * (self.total + more), 0.5 * (self.total - more)
        noise = np.stack([self._ring_mean(one) for one in across])
        floor = _FLOOR * along.max(axis=1, keepdims=True) + np.finfo(float).tiny
        noise = np.maximum(noise, floor)
        signal = np.clip(self._smoothed(along) - noise, 0, None)
        weights = signal / (signal + noise) / noise
        if not weights.any():
            return self  # all noise: every frequency tells as little as the others
        return replace(self, weights=weights)

    def _smoothed(self, power: Float) -> Float:
        """With the nearest neighbours, over which the taper spreads the power of one frequency.

        Crystals hold their signal in few frequencies, so that rings would dilute it.
        """
        from scipy import ndimage  # slow to import

        images = np.zeros((len(power), *self.where.shape))
        images[:, self.where] = power
        smooth = ndimage.gaussian_filter(images, (0, 1, 1), mode=("nearest", "wrap", "nearest"),
                                         truncate=2.5)  # fmt: skip
        result: Float = smooth[:, self.where]
        return result

    def _ring_mean(self, power: Float) -> Float:
        count = np.bincount(self.ring)
        mean: Float = (np.bincount(self.ring, power) / np.maximum(count, 1))[self.ring]
        return mean


def _frequencies(
    shape: tuple[int, int], steps: tuple[float, float]
) -> tuple[Float, Float, NDArray[np.bool_]]:
    """kx, ky (nx, ny // 2 + 1), and which of them count: one of each pair ±k, with a direction."""
    from scipy import fft  # slow to import

    kx, ky = fft.fftfreq(shape[0], steps[0])[:, None], fft.rfftfreq(shape[1], steps[1])[None, :]
    where = np.outer(with_direction(shape[0]), with_direction(shape[1])[: ky.size]) > 0
    where[kx[:, 0] < 0, 0] = False
    # The taper smears what is slower than it over frequencies of other directions.
    slowest = 1.5 * max(1 / (n * s) for n, s in zip(shape, steps, strict=True))
    where &= np.hypot(kx, ky) > slowest
    x, y = np.broadcast_arrays(kx, ky)
    return x, y, where
