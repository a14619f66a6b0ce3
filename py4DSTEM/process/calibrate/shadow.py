"""Where the shadow image in one defocused pattern lies on the image of the scan."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from py4DSTEM.core.calibration import Calibration, rotation_matrix
from py4DSTEM.core.cube import Cube
from py4DSTEM.core.detector import Disk
from py4DSTEM.errors import ParameterError, ShapeError, SolveError
from py4DSTEM.process.beam import find_beam
from py4DSTEM.process.calibrate.curl import scan_steps
from py4DSTEM.process.virtual import virtual_image
from py4DSTEM.stream.options import RunOptions

__all__ = ["Shadow", "match_shadow"]

Float = NDArray[np.float64]
Complex = NDArray[np.complex128]
Bool = NDArray[np.bool_]
_COARSE = 40  # pixels along the longer side of the scan, of the search
_ANGLE_STEP_DEG = 4.0
_SCALE_STEP = 1.1
_SMALLEST_RADIUS = 6.0  # coarse pixels, of the shadow
_LARGEST_RADIUS = 0.8  # of the longer side of the scan
_LEAST_OVERLAP = 0.6
_APART_RAD = math.radians(15)
_BLOCKS = 8  # along the diameter of the shadow: noise is independent between blocks
_PARAMETERS = 6
_LEAST_RADIUS_PX = 8.0
_UNIQUE = 1.3  # evidence for the best angle over that for any other


@dataclass(frozen=True, eq=False)
class _Match:
    """One way to lay the shadow on the scan: ``R = place + scale R(angle) k``."""

    angle: float
    scale: float
    place: Float
    score: float
    misfit: float
    covariance: Float


@dataclass(frozen=True, eq=False)
class Shadow:
    """The best match of a shadow image for either handedness.

    Parameters
    ----------
    matches : (match, match)
        Without and with a flip: ``.angle`` (rad) that turns (flipped) offsets from the beam into
        places in the scan, ``.scale`` in scan steps per pixel, ``.misfit`` (rms, share of the
        whole), ``.score`` of the search, ``.covariance`` of angle and logarithm of the scale.
    angles : (n,) float64
        In rad, modulo π.
    misfits : (2, n) float64
        The least of the search for every angle (and angle + π) and both flips.
    calibration : Calibration
    """

    matches: tuple[_Match, _Match]
    angles: Float
    misfits: Float
    calibration: Calibration

    @property
    def mirrored(self) -> bool:
        """Whether the match with a flip is the better one."""
        return self.matches[1].score > self.matches[0].score

    def rotation(self, flip: bool) -> tuple[float, float]:
        """Rotation from (flipped) detector to scan axes for underfocus, and its sigma, in rad.

        Underfocus: rays cross behind the specimen, and the shadow is upside down.
        """
        match = self.matches[flip]
        return match.angle + math.pi, math.sqrt(match.covariance[0, 0])

    def defocus_A(self, flip: bool) -> tuple[float, float]:
        """Size of the defocus and its sigma in Å; NaN where sizes or energy are not calibrated."""
        calibration, match = self.calibration, self.matches[flip]
        if calibration.energy_eV is None or not all(
            axis.calibrated for axis in (*calibration.R, *calibration.Q)
        ):
            return math.nan, math.nan
        step = math.sqrt(math.prod(axis.step for axis in calibration.R))
        per_px = math.sqrt(math.prod(calibration.Q_steps("A^-1"))) * calibration.wavelength_A
        size = match.scale * step / per_px
        return size, size * math.sqrt(match.covariance[1, 1])

    def misfit(self, flip: bool) -> float:
        """Rms of what differs between shadow and image, as a share of the shadow's contrast."""
        return self.matches[flip].misfit

    def curve(self, angles: Float) -> dict[str, Float]:
        """Misfit against the angle modulo π, for both flips, (2, n), the best match for each."""
        rows = [np.interp(angles, self.angles, row, period=math.pi) for row in self.misfits]
        return {"angles_rad": angles, "misfit_rms": np.stack(rows)}


def match_shadow(
    cube: Cube, shadow: Float, flip: bool | None = None, *, options: RunOptions | None = None
) -> Shadow:
    """Register the shadow image in a pattern to the bright-field image of a scan.

    Raises
    ------
    ShapeError
        The pattern has another shape than those of the scan.
    ParameterError
        The bright disk is smaller than 8 pixels in radius, or one of the images has no contrast.
    SolveError
        No place in the scan looks clearly more like the shadow than others do.

    Notes
    -----
    All angles in steps of 4°, scales in steps of 10 % and places are compared by the masked
    normalised correlation ρ of coarse images, for both flips; the evidence for each is
    ``−n log(1 − ρ²)`` with n pixels in common.  The best of either flip is refined by least squares
    of ``shadow(k) − a image(R0 + s R(θ) k) − b``.  The covariance comes from the scores of
    blocks of the disk, between which noise and what the model lacks are independent.
    """
    images = _Images.of(cube, shadow, options)
    found = _coarse(images)
    best = [max((c for c in found if c.flip == one), key=_score) for one in (False, True)]
    allowed = [c for c in found if flip is None or c.flip == flip]
    winner = max(allowed, key=_score)
    elsewhere = max(c.score for c in allowed if not c.near(winner))
    if winner.score < _UNIQUE * elsewhere:
        raise SolveError(
            "the shadow image looks no more like one place of the scan than like others (evidence "
            f"{winner.score / max(elsewhere, 1e-12):.2f} times that of the next, at least "
            f"{_UNIQUE}): use a pattern whose shadow shows a large part of the scan, in which "
            "nothing repeats"
        )
    matches = _refined(images, best[0]), _refined(images, best[1])
    return Shadow(matches, *_folded(found), cube.calibration)


# ---- images --------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Images:
    """Image of the scan and shadow, each with its coordinates.

    `steps` are those of the scan in units of their geometric mean; `k_px` (n, 2) the usable pixels
    of the shadow, from the beam's centre with the ellipse undone.
    """

    image: Float
    steps: Float
    shadow: Float
    center: Float
    correction: Float
    radius_px: float

    @classmethod
    def of(cls, cube: Cube, shadow: Float, options: RunOptions | None) -> _Images:
        if shadow.shape != cube.Q_shape:
            raise ShapeError(
                f"a shadow image of {shadow.shape} does not fit patterns of {cube.Q_shape}"
            )
        beam = find_beam(cube)
        if beam.radius_px < _LEAST_RADIUS_PX:
            raise ParameterError(
                f"the bright disk has a radius of {beam.radius_px:.1f} px: a shadow image needs "
                f"{_LEAST_RADIUS_PX:.0f} or more"
            )
        image = virtual_image(cube, Disk(beam.radius_px, beam.center), options=options).data
        ellipse = cube.calibration.ellipse
        correction = np.eye(2) if ellipse is None else ellipse.correction()
        steps = np.array(scan_steps(cube.calibration))
        images = cls(
            np.nan_to_num(image, nan=float(np.nanmean(image))),
            steps / math.sqrt(float(steps.prod())),
            np.asarray(shadow, np.float64),
            np.array(beam.center),
            correction,
            beam.radius_px - 1.5,
        )
        if not (
            np.ptp(images.image) > 0 and np.ptp(images.values(images.k_px, images.smooth(0.0))) > 0
        ):
            raise ParameterError("the image of the scan or the shadow in the disk has no contrast")
        return images

    @property
    def spacing(self) -> float:
        """Of the coarse images, in units of the scan step."""
        return float((np.array(self.image.shape) * self.steps).max()) / _COARSE

    @property
    def k_px(self) -> Float:
        """Offsets (n, 2) of the pixels in the disk."""
        places = np.moveaxis(np.indices(self.shadow.shape, dtype=np.float64), 0, -1) - self.center
        k: Float = places.reshape(-1, 2) @ self.correction.T
        inside = np.hypot(k[:, 0], k[:, 1]) < self.radius_px
        return k[inside]

    def smooth(self, blur_px: float) -> Float:
        """The shadow, blurred within the disk."""
        from scipy import ndimage  # slow to import

        offsets = np.moveaxis(np.indices(self.shadow.shape, dtype=np.float64), 0, -1) - self.center
        disk = (np.linalg.norm(offsets @ self.correction.T, axis=-1) < self.radius_px + 1) * 1.0
        total, weight = (ndimage.gaussian_filter(x, blur_px) for x in (self.shadow * disk, disk))
        smooth: Float = np.divide(total, weight, out=np.zeros_like(total), where=weight > 1e-6)
        return smooth

    def values(self, k: Float, smooth: Float) -> Float:
        """What `smooth` returns, at offsets (..., 2)."""
        from scipy import ndimage  # slow to import

        places = k @ np.linalg.inv(self.correction).T + self.center
        values: Float = ndimage.map_coordinates(
            smooth, np.moveaxis(places, -1, 0), order=1, mode="nearest"
        )
        return values

    def blurred(self, size: float) -> Float:
        """The image of the scan, blurred by `size` units."""
        from scipy import ndimage  # slow to import

        blurred: Float = ndimage.gaussian_filter(self.image, size / self.steps, mode="nearest")
        return blurred


# ---- search --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Candidate:
    """A place that the search found, with the logarithm of its likelihood ratio."""

    flip: bool
    angle: float
    scale: float
    place: tuple[float, float]
    score: float
    misfit: float

    def near(self, other: _Candidate) -> bool:
        """Whether it is only another step of the search for the same match."""
        turn = abs(math.remainder(self.angle - other.angle, 2 * math.pi))
        return self.flip == other.flip and turn < _APART_RAD


def _score(candidate: _Candidate) -> float:
    return candidate.score


def _coarse(images: _Images) -> list[_Candidate]:
    """The best place for every angle, scale and flip."""
    from scipy import ndimage  # slow to import

    spacing = images.spacing
    extent = np.array(images.image.shape) * images.steps
    shape = np.maximum((extent / spacing).round().astype(int), 1)
    grid = np.indices(shape) * (spacing / images.steps)[:, None, None]
    scan = ndimage.map_coordinates(images.blurred(0.5 * spacing), grid, order=1, mode="nearest")
    angles = np.arange(0, 360, _ANGLE_STEP_DEG) * (math.pi / 180)
    found = []
    radius = _SMALLEST_RADIUS
    while radius < _LARGEST_RADIUS * shape.max():
        search = _Search.of(scan - scan.mean(), radius)
        scale = radius * spacing / images.radius_px
        smooth = images.smooth(max(0.5 * spacing / scale, 0.3))
        for flip in (False, True):
            for angle in angles:
                k = search.offsets * (spacing / scale) @ rotation_matrix(-angle).T
                values = images.values(k[..., ::-1] if flip else k, smooth)
                score, misfit, place = search.best(values)
                at = place[0] * spacing, place[1] * spacing
                found.append(_Candidate(flip, float(angle), scale, at, score, misfit))
        radius *= _SCALE_STEP
    return found


@dataclass(frozen=True, eq=False)
class _Search:
    """Correlation of templates in a disk with a scan, normalised over what both show."""

    offsets: Float
    inside: Bool
    size: tuple[int, int]
    count: Float
    sums: Float
    squares: Float
    scan: Complex
    known: Complex
    usable: Bool

    @classmethod
    def of(cls, scan: Float, radius: float) -> _Search:
        from scipy import fft  # slow to import

        half = math.ceil(radius)
        offsets = np.moveaxis(np.indices((2 * half + 1,) * 2, dtype=np.float64), 0, -1) - half
        inside = np.hypot(offsets[..., 0], offsets[..., 1]) <= radius
        size = tuple(fft.next_fast_len(n + 2 * half, real=True) for n in scan.shape)
        disk, ones, one, two = (
            fft.rfft2(x, size) for x in (inside * 1.0, np.ones(scan.shape), scan, scan**2)
        )
        count, sums, squares = (fft.irfft2(x * disk.conj(), size) for x in (ones, one, two))
        usable = count > _LEAST_OVERLAP * min(float(inside.sum()), float(scan.size))
        return cls(offsets, inside, size, np.maximum(count, 1), sums, squares, one, ones, usable)

    def best(self, template: Float) -> tuple[float, float, tuple[float, float]]:
        """Score, misfit, and the place of the template's middle in pixels of the scan."""
        from scipy import fft  # slow to import

        inside = np.where(self.inside, template - template[self.inside].mean(), 0.0)
        one, two = fft.rfft2(np.stack([inside, inside**2]), self.size).conj()
        products = np.stack([self.scan * one, self.known * one, self.known * two])
        cross, sums, squares = fft.irfft2(products, self.size, overwrite_x=True)
        covariance = cross - self.sums * sums / self.count
        product = (self.squares - self.sums**2 / self.count) * (squares - sums**2 / self.count)
        good = self.usable & (product > 1e-12 * product.max()) & (covariance > 0)
        share = np.divide(covariance**2, product, out=np.zeros_like(cross), where=good)
        score = -self.count * np.log1p(-np.minimum(share, 1 - 1e-12))
        peak = np.unravel_index(int(score.argmax()), score.shape)
        half = len(self.inside) // 2
        # What lies before the scan wraps around; nothing that is usable lies 2 half behind it.
        x, y = (
            float(p + half - (n if p > n - 2 * half - 1 else 0))
            for p, n in zip(peak, self.size, strict=True)
        )
        return float(score[peak]), math.sqrt(max(1 - float(share[peak]), 0.0)), (x, y)


def _folded(found: list[_Candidate]) -> tuple[Float, Float]:
    """Angles in [−π/2, π/2) and the least misfit (2, n) of each."""
    folded = [(math.remainder(c.angle, math.pi), c) for c in found]
    angles = np.unique(np.round([angle for angle, _ in folded], 9))
    misfits = np.ones((2, len(angles)))
    for angle, c in folded:
        k = int(np.abs(angles - angle).argmin())
        misfits[int(c.flip), k] = min(misfits[int(c.flip), k], c.misfit)
    return angles, misfits


# ---- least squares -------------------------------------------------------------------------------
def _refined(images: _Images, start: _Candidate) -> _Match:
    """The match near a candidate, all pixels of the disk in the scan with the same weight."""
    from scipy import ndimage, optimize  # slow to import

    k = images.k_px
    smooth = images.smooth(0.5 / start.scale if start.scale < 1 else 0.0)
    data = images.values(k, smooth)
    image = images.blurred(0.5 * max(start.scale, 1.0) if start.scale > 1 else 0.0)
    spline = ndimage.spline_filter(image, order=3, mode="nearest")
    bent = k[:, ::-1] if start.flip else k
    begin = np.array([start.angle, math.log(start.scale), *start.place])

    def places(p: Float) -> Float:
        turned = math.exp(p[1]) * bent @ rotation_matrix(p[0]).T + p[2:4]
        return np.asarray((turned / images.steps).T)

    at = places(begin)
    inside = ((at >= 0) & (at <= np.array(image.shape)[:, None] - 1)).all(axis=0)
    spread = float(data[inside].std()) or 1.0

    def shown(p: Float) -> Float:
        values: Float = ndimage.map_coordinates(
            spline, places(p)[:, inside], order=3, mode="nearest", prefilter=False
        )
        return values

    contrast = float(np.polyfit(shown(begin), data[inside], 1)[0])
    first = np.array([*begin, contrast, float(data[inside].mean())])
    level = float(shown(begin).mean())
    fit = optimize.least_squares(
        lambda p: (p[4] * (shown(p) - level) + p[5] - data[inside]) / spread,
        first, x_scale="jac", max_nfev=60,
    )  # fmt: skip
    misfit = math.sqrt(float((fit.fun**2).mean())) if fit.x[4] > 0 else 1.0
    covariance = _covariance(fit.jac, fit.fun, k[inside], images.radius_px)
    return _Match(
        float(fit.x[0]), math.exp(fit.x[1]), fit.x[2:4], start.score, misfit, covariance[:2, :2]
    )


def _covariance(jacobian: Float, rest: Float, k: Float, radius_px: float) -> Float:
    """Sandwich of the scores of square blocks."""
    block = ((k / radius_px + 1) * (_BLOCKS / 2)).astype(int) @ (_BLOCKS + 1, 1)
    _, member = np.unique(block, return_inverse=True)
    scores = np.zeros((int(member.max()) + 1, _PARAMETERS))
    np.add.at(scores, member, jacobian * rest[:, None])
    inverse = np.linalg.pinv(jacobian.T @ jacobian)
    count = len(scores)
    total = scores.T @ scores * (count / max(count - _PARAMETERS, 1))
    covariance: Float = inverse @ total @ inverse
    return covariance
